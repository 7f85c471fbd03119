//! What a beacon can be told to lie about, and how it does.
//!
//! Where it helps the lie, the committee goes along and signs: a client that relies on the signature
//! alone is taken in.

use std::time::Duration;

use alloy::primitives::{B256, keccak256};
use tree_hash::TreeHash;

use super::committee::{self, Committee, Kin};
use super::config::Fork;
use super::ledger::{Entry, Ledger};
use super::network::{SLOTS_PER_EPOCH, SLOTS_PER_PERIOD};
use super::reply::{Encoding, Reply, Versioned};
use super::state::{State, StateSketch};
use super::types::{BeaconBlockHeader, Bits, INFINITY, Signature, SyncAggregate};
use super::wire::{Bootstrap, LightHeader, Update};

/// The most signers that are still less than two thirds of 512.
const TOO_FEW: usize = 341;

/// A Merkle branch in light client data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Branch {
    /// From the execution header into the body of the bootstrap's or the attested header.
    Execution,
    /// From the execution header into the body of the finalized header.
    FinalizedExecution,
    /// From the current sync committee into the bootstrap's state.
    CurrentCommittee,
    /// From the next sync committee into the attested state.
    NextCommittee,
    /// From the finalized root into the attested state.
    Finality,
}

/// What is done to a branch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Damage {
    /// One bit of the node at this distance from the leaf, counted around, is another.
    Flipped(usize),
    /// The last node is missing.
    Short,
    /// A node too many, zero, at the end.
    Long,
}

/// Which answers lie.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Topic {
    /// `light_client/bootstrap`.
    Bootstrap,
    /// `light_client/updates`.
    Updates,
    /// `light_client/finality_update`.
    Finality,
    /// `light_client/optimistic_update`.
    Optimistic,
    /// Everything else.
    Other,
}

/// One way to lie. An answer that a lie does not concern is honest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Lie {
    /// Bootstraps, headers and blocks are of another block than the one that was asked for.
    OtherBlock,
    /// The bootstrap carries the committee of strangers.
    OtherCommittee,
    /// The committee signed something else.
    BadSignature,
    /// The signature is the point at infinity, the bits stay.
    InfiniteSignature,
    /// The signature is no point at all.
    UndecodableSignature,
    /// 341 of 512 signed, truly.
    TooFewSigners,
    /// No bit is set, and the signature is the point at infinity, which is that of nobody.
    NoSigners,
    /// The committee signed for a network with another genesis.
    OtherNetwork,
    /// The committee signed with the fork version of the signature's slot instead of that of the slot
    /// before. Where no fork lies between the two this is the truth.
    ForkOfSignatureSlot,
    /// A branch is damaged.
    Branch(Branch, Damage),
    /// The attested or bootstrap header has the execution header of another block.
    OtherExecution,
    /// The finalized header is of another block.
    OtherFinalized,
    /// The signature, a true one, is of an epoch to come.
    FutureSignature,
    /// The signature, a true one, is of the attested slot itself.
    SignatureNotAfterAttested,
    /// The attested state, which the committee signed, has finalized a block of a later slot.
    FinalizedAfterAttested,
    /// The oldest update that has finality, whatever was asked for.
    Old,
    /// `updates` begins a period late.
    SkippedPeriod,
    /// The attested state, which the committee signed, knows strangers as the next committee.
    OtherNextCommittee,
    /// The layout is of another fork, whose name is not given.
    Layout(Fork),
    /// The name is of another fork, whose layout is not used.
    Version(Fork),
    /// A fork that no client knows yet.
    UnknownFork,
    /// So many bytes too many: blanks in JSON, zeros in SSZ.
    Oversized(usize),
    /// The second half of the answer is missing; the length that HTTP tells fits.
    Truncated,
    /// `updates` has one update more than was asked for.
    MoreUpdates,
    /// An HTTP status without an answer; 429 and 503 with `Retry-After: 1`.
    Status(u16),
    /// A page for people, with status 200.
    Html,
    /// A temporary redirect.
    Redirect(String),
    /// The truth, but only after this time.
    Slow(Duration),
}

impl Lie {
    /// The block that is spoken of instead of the one asked for by root or name.
    pub(super) fn block<'a>(&self, entries: &'a [Entry], honest: usize) -> Option<&'a Entry> {
        let other = if honest > 0 { honest - 1 } else { honest + 1 };
        (*self == Self::OtherBlock).then(|| entries.get(other)).flatten()
    }

    /// The block that is attested instead of the newest or best.
    pub(super) fn attested<'a>(&self, entries: &'a [Entry]) -> Option<&'a Entry> {
        let old = || entries.iter().find(|entry| entry.finalized.is_some());
        (*self == Self::Old).then(old).flatten()
    }

    pub(super) fn bend_bootstrap(&self, ledger: &Ledger, entry: &Entry, bootstrap: &mut Bootstrap) {
        match self {
            Self::OtherCommittee => bootstrap.committee = Committee::of(Kin::Strangers, entry.period()),
            Self::OtherExecution => bootstrap.header.execution = neighbour(ledger, entry).execution.clone(),
            Self::Branch(Branch::Execution, damage) => damage.apply(&mut bootstrap.header.branch),
            Self::Branch(Branch::CurrentCommittee, damage) => damage.apply(&mut bootstrap.branch),
            Self::Layout(fork) => bootstrap.branch.resize(committee_depth(*fork), B256::ZERO),
            _ => {}
        }
    }

    pub(super) fn bend_update(&self, ledger: &Ledger, now: u64, entry: &Entry, update: &mut Update) {
        match self {
            Self::Branch(branch, damage) => bend_branch(*branch, *damage, update),
            Self::OtherExecution => update.attested.execution = neighbour(ledger, entry).execution.clone(),
            Self::OtherFinalized => bend_finalized(ledger, entry, update),
            Self::FutureSignature => sign_in(ledger, now + SLOTS_PER_EPOCH, update),
            Self::SignatureNotAfterAttested => sign_in(ledger, entry.slot(), update),
            Self::FinalizedAfterAttested => finalize_later(ledger, entry, update),
            Self::OtherNextCommittee => {
                let sketch = StateSketch { next_committee: Kin::Strangers, ..entry.state };
                update.next_committee = Committee::of(Kin::Strangers, entry.period() + 1);
                forge(ledger, entry, sketch, update);
            }
            Self::Layout(fork) => {
                update.next_committee_branch.resize(committee_depth(*fork), B256::ZERO);
                update.finality_branch.resize(committee_depth(*fork) + 1, B256::ZERO);
            }
            _ => self.bend_aggregate(ledger, update),
        }
    }

    fn bend_aggregate(&self, ledger: &Ledger, update: &mut Update) {
        let (root, slot) = (update.attested.beacon.tree_hash_root(), update.signature_slot);
        let network = &ledger.network;
        let message = match self {
            Self::BadSignature => keccak256(root),
            Self::OtherNetwork => network.elsewhere().signing_root(root, slot),
            Self::ForkOfSignatureSlot => {
                network.signing_root_under(network.version(network.fork_at(slot)), root)
            }
            Self::TooFewSigners => return update.aggregate = ledger.sign(root, slot, TOO_FEW),
            Self::NoSigners => return update.aggregate = SyncAggregate::EMPTY,
            Self::InfiniteSignature => return update.aggregate.sync_committee_signature = INFINITY,
            Self::UndecodableSignature => {
                return update.aggregate.sync_committee_signature = Signature::repeat_byte(0xff);
            }
            _ => return,
        };
        update.aggregate = sign(message, slot);
    }

    /// The fork in whose layout `honest` is written.
    pub(super) fn layout(&self, honest: Fork) -> Fork {
        if let Self::Layout(fork) = self { *fork } else { honest }
    }

    /// What the answer says of itself.
    pub(super) fn bend_label(&self, ledger: &Ledger, answer: &mut Versioned) {
        match self {
            Self::Version(fork) => {
                answer.version = fork.name();
                answer.digest = ledger.network.digest_of(*fork);
            }
            Self::UnknownFork => {
                answer.version = "gloas";
                answer.digest = [0x91; 4].into();
            }
            _ => {}
        }
    }

    pub(super) fn bend_reply(&self, encoding: Encoding, reply: &mut Reply) {
        match self {
            Self::Oversized(extra) => {
                let filler = if encoding == Encoding::Ssz { 0 } else { b' ' };
                reply.body.resize(reply.body.len() + extra, filler);
            }
            Self::Truncated => reply.body.truncate(reply.body.len() / 2),
            Self::Slow(delay) => reply.delay = *delay,
            _ => {}
        }
    }

    /// What is sent instead of any answer.
    pub(super) fn instead(&self) -> Option<Reply> {
        let header = |name, value: &str| (name, value.to_owned());
        let (status, headers, body) = match self {
            Self::Status(status) => {
                let wait = matches!(status, 429 | 503).then(|| header("Retry-After", "1"));
                (*status, wait.into_iter().collect(), "")
            }
            Self::Html => {
                let page = "<!DOCTYPE html><title>Maintenance</title><p>We will be back shortly.</p>";
                (200, vec![header("Content-Type", "text/html; charset=utf-8")], page)
            }
            Self::Redirect(location) => (302, vec![header("Location", location)], ""),
            _ => return None,
        };
        Some(Reply { status, headers, body: body.into(), delay: Duration::ZERO })
    }
}

impl Damage {
    fn apply(self, branch: &mut Vec<B256>) {
        match self {
            Self::Flipped(node) => {
                let node = node % branch.len();
                branch[node][0] ^= 1;
            }
            Self::Short => branch.truncate(branch.len() - 1),
            Self::Long => branch.push(B256::ZERO),
        }
    }
}

/// Nodes from a sync committee to the root of the state.
fn committee_depth(fork: Fork) -> usize {
    if fork < Fork::Electra { 5 } else { 6 }
}

/// The block before, or after the first.
fn neighbour<'a>(ledger: &'a Ledger, entry: &'a Entry) -> &'a Entry {
    let height = entry.block.number() as usize;
    ledger.entries().get(height.wrapping_sub(1)).or(ledger.entries().get(height + 1)).unwrap_or(entry)
}

fn bend_branch(branch: Branch, damage: Damage, update: &mut Update) {
    damage.apply(match branch {
        Branch::Execution => &mut update.attested.branch,
        Branch::FinalizedExecution => &mut update.finalized.branch,
        Branch::NextCommittee => &mut update.next_committee_branch,
        Branch::Finality => &mut update.finality_branch,
        Branch::CurrentCommittee => return,
    });
}

fn bend_finalized(ledger: &Ledger, entry: &Entry, update: &mut Update) {
    if let Some(height) = entry.finalized {
        update.finalized = LightHeader::of(neighbour(ledger, &ledger.entries()[height]));
    }
}

/// The committee of `slot` truly signs the update in `slot`.
fn sign_in(ledger: &Ledger, slot: u64, update: &mut Update) {
    update.signature_slot = slot;
    update.aggregate = ledger.sign(update.attested.beacon.tree_hash_root(), slot, committee::SIZE);
}

/// The block that is really finalized attests that the newest one is.
fn finalize_later(ledger: &Ledger, entry: &Entry, update: &mut Update) {
    let Some(height) = entry.finalized else { return };
    let early = &ledger.entries()[height];
    let sketch = StateSketch { finalized: (entry.slot(), entry.root), ..early.state };
    update.finalized = LightHeader::of(entry);
    update.signature_slot = early.signature_slot();
    forge(ledger, early, sketch, update);
}

/// Attests to a state that never was, with all branches into it, and has the committee sign it.
fn forge(ledger: &Ledger, entry: &Entry, sketch: StateSketch, update: &mut Update) {
    let state = State::new(&ledger.network, &sketch);
    let beacon = BeaconBlockHeader { state_root: state.root(), ..entry.header };
    update.attested = LightHeader { beacon, ..LightHeader::of(entry) };
    update.next_committee_branch = state.next_committee_branch();
    if entry.finalized.is_some() || sketch.finalized.1 != B256::ZERO {
        update.finality_branch = state.finality_branch();
    }
    sign_in(ledger, update.signature_slot, update);
}

/// All of the slot's committee sign a message.
fn sign(message: B256, slot: u64) -> SyncAggregate {
    let bits = Bits::repeat_byte(0xff);
    let committee = Committee::of(Kin::Validators, slot / SLOTS_PER_PERIOD);
    SyncAggregate { sync_committee_bits: bits, sync_committee_signature: committee.sign(message, &bits) }
}
