//! The beacon chain: one block for each execution block, with the committee's signature on it.

use std::sync::Arc;

use alloy::primitives::{B256, keccak256};
use tree_hash::TreeHash;

use crate::block::Block;

use super::committee::{self, Committee, Kin};
use super::config::Fork;
use super::container::Container;
use super::merkle::Tree;
use super::network::{Network, SLOTS_PER_PERIOD};
use super::payload::{self, ExecutionHeader};
use super::state::{State, StateSketch};
use super::types::{BeaconBlockHeader, SyncAggregate};

/// A beacon block and what it stands for.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    pub(super) block: Arc<Block>,
    pub(super) fork: Fork,
    pub(super) header: BeaconBlockHeader,
    pub(super) root: B256,
    pub(super) execution: ExecutionHeader,
    pub(super) state: StateSketch,
    /// Height of the finalized block according to this block's state; `None` before there is any.
    pub(super) finalized: Option<usize>,
    body_leaves: Vec<B256>,
    /// The committee's signature on the parent, as the body carries it.
    included: SyncAggregate,
    /// The committee's signature on this block, made in the slot after it.
    pub(super) aggregate: SyncAggregate,
}

impl Entry {
    pub(super) fn slot(&self) -> u64 {
        self.header.slot
    }

    /// When the committee signed this block: the next slot, whether or not there is a block in it.
    pub(super) fn signature_slot(&self) -> u64 {
        self.slot() + 1
    }

    pub(super) fn period(&self) -> u64 {
        self.slot() / SLOTS_PER_PERIOD
    }

    pub(super) fn execution_branch(&self) -> Vec<B256> {
        Tree::new(&self.body_leaves).branch(payload::EXECUTION_PAYLOAD)
    }

    pub(super) fn body(&self) -> Container {
        payload::body(&self.block, self.included, self.fork)
    }
}

/// What tests can turn for the blocks to come.
#[derive(Clone, Copy, Debug)]
pub(super) struct Controls {
    pub(super) participants: usize,
    pub(super) withhold_finality: bool,
    pub(super) next_slot: Option<u64>,
}

/// All beacon blocks; the index is the height of the execution block.
pub(super) struct Ledger {
    pub(super) network: Network,
    pub(super) controls: Controls,
    entries: Vec<Entry>,
    finality_depth: u64,
    /// The lowest slot that no block ever had, those that a reorganisation dropped included: another
    /// fork wins only later.
    next_slot: u64,
}

impl Ledger {
    pub(super) fn new(network: Network, finality_depth: u64, first_slot: u64) -> Self {
        let controls = Controls { participants: committee::SIZE, withhold_finality: false, next_slot: None };
        Self { network, controls, entries: Vec::new(), finality_depth, next_slot: first_slot }
    }

    pub(super) fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// Drops the blocks from a height on, which the execution chain no longer has.
    pub(super) fn truncate(&mut self, len: usize) {
        self.entries.truncate(len);
    }

    /// The lowest slot that the next block can have.
    pub(super) fn next_slot(&self) -> u64 {
        self.next_slot
    }

    /// Root of slot 0, which has no execution block.
    pub(super) fn genesis_root(&self) -> B256 {
        keccak256(self.network.genesis_validators_root)
    }

    /// Appends the beacon block of an execution block in the earliest slot from `now` on.
    pub(super) fn push(&mut self, block: Arc<Block>, now: u64) {
        let slot = self.controls.next_slot.take().unwrap_or(now).max(self.next_slot);
        let fork = self.network.fork_at(slot);
        let parent = self.entries.last();
        let included = parent.map_or(SyncAggregate::EMPTY, |parent| self.sign_again(parent, slot));
        let body = payload::body(&block, included, fork);
        let body_leaves = body.leaves();
        let mut header = BeaconBlockHeader {
            slot,
            proposer_index: slot % committee::SIZE as u64,
            parent_root: parent.map_or_else(|| self.genesis_root(), |parent| parent.root),
            state_root: B256::ZERO,
            body_root: Tree::new(&body_leaves).root(),
        };
        let finalized = self.finalized_at(block.number());
        let state = StateSketch {
            header,
            execution_root: body_leaves[payload::EXECUTION_PAYLOAD],
            finalized: finalized.map_or((0, B256::ZERO), |height| {
                let entry = &self.entries[height];
                (entry.slot(), entry.root)
            }),
            next_committee: Kin::Validators,
        };
        header.state_root = State::new(&self.network, &state).root();
        let root = header.tree_hash_root();
        let execution = ExecutionHeader::new(&block);
        let aggregate = self.sign(root, slot + 1, self.controls.participants);
        self.next_slot = slot + 1;
        let entry = Entry {
            block,
            fork,
            header,
            root,
            execution,
            state,
            finalized,
            body_leaves,
            included,
            aggregate,
        };
        self.entries.push(entry);
    }

    /// The committee of `signature_slot` signs a block.
    pub(super) fn sign(&self, root: B256, signature_slot: u64, participants: usize) -> SyncAggregate {
        let bits = committee::bits(participants, signature_slot);
        let committee = Committee::of(Kin::Validators, signature_slot / SLOTS_PER_PERIOD);
        let message = self.network.signing_root(root, signature_slot);
        SyncAggregate { sync_committee_bits: bits, sync_committee_signature: committee.sign(message, &bits) }
    }

    /// The signature on `parent` that a block in `slot` includes: the one that is there already unless
    /// slots, and with them a fork or a committee, lie between.
    fn sign_again(&self, parent: &Entry, slot: u64) -> SyncAggregate {
        if parent.signature_slot() == slot {
            return parent.aggregate;
        }
        self.sign(parent.root, slot, self.controls.participants)
    }

    /// The newest block that is finalized once the block at `height` is there. As on the execution side
    /// it never goes back on one chain.
    fn finalized_at(&self, height: u64) -> Option<usize> {
        let before = self.entries.last().and_then(|parent| parent.finalized);
        if self.controls.withhold_finality || height == 0 {
            return before;
        }
        let distance = self.finality_depth.max(1);
        let height = usize::try_from(height.checked_sub(distance)?).ok()?;
        before.max(Some(height))
    }
}
