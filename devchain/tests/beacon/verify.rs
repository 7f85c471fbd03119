//! What a light client checks, check by check, on the API's JSON.

use alloy::primitives::{B256, FixedBytes};
use blst::BLST_ERROR;
use blst::min_pk::{PublicKey, Signature};
use posthouse_devchain::beacon::{Beacon, Fork};
use serde_json::Value;

use crate::http::get;
use crate::schema;
use crate::ssz::{bytes, hash_pair, number, text};

const DST: &[u8] = b"BLS_SIG_BLS12381G2_XMD:SHA-256_SSWU_RO_POP_";
const EXECUTION_GINDEX: u64 = 25;

/// A thing that is wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wrong {
    Slots,
    Participation,
    Execution,
    FinalizedExecution,
    Committee,
    NextCommittee,
    Finality,
    Signature,
}

/// The network as the API describes it.
pub(crate) struct Rules {
    spec: Value,
    pub(crate) validators_root: B256,
}

impl Rules {
    pub(crate) fn of(beacon: &Beacon) -> Self {
        let spec = get(beacon, "/eth/v1/config/spec")["data"].take();
        let genesis = get(beacon, "/eth/v1/beacon/genesis");
        Self { spec, validators_root: text(&genesis["data"]["genesis_validators_root"]).parse().unwrap() }
    }

    fn setting(&self, fork: Fork, what: &str) -> &str {
        text(&self.spec[format!("{}_FORK_{what}", fork.name().to_uppercase())])
    }

    pub(crate) fn epoch(&self, fork: Fork) -> u64 {
        self.setting(fork, "EPOCH").parse().unwrap()
    }

    pub(crate) fn fork_at(&self, slot: u64) -> Fork {
        let active = |fork: &Fork| self.epoch(*fork) <= slot / 32;
        Fork::ALL.into_iter().rev().find(active).unwrap()
    }

    /// `compute_fork_data_root`.
    pub(crate) fn fork_data_root(&self, fork: Fork) -> B256 {
        let version: FixedBytes<4> = self.setting(fork, "VERSION").parse().unwrap();
        hash_pair(B256::right_padding_from(version.as_slice()), self.validators_root)
    }

    /// What is signed in `slot` to attest to `root`.
    fn signing_root(&self, root: B256, slot: u64) -> B256 {
        let fork_data_root = self.fork_data_root(self.fork_at(slot - 1));
        let domain = [&[7, 0, 0, 0], &fork_data_root[..28]].concat();
        hash_pair(root, B256::from_slice(&domain))
    }
}

/// Generalized indices of the current and next sync committee and of the finalized root.
fn gindices(fork: Fork) -> [u64; 3] {
    if fork >= Fork::Electra { [86, 87, 169] } else { [54, 55, 105] }
}

/// `is_valid_merkle_branch` by generalized index; a branch of another length is none.
fn proves(leaf: B256, branch: &Value, gindex: u64, root: &Value) -> bool {
    let branch = branch.as_array().unwrap();
    if branch.len() != gindex.ilog2() as usize {
        return false;
    }
    let up = branch.iter().enumerate().fold(leaf, |node, (height, sibling)| {
        let sibling = B256::from_slice(&bytes(sibling));
        if gindex >> height & 1 == 1 { hash_pair(sibling, node) } else { hash_pair(node, sibling) }
    });
    up == B256::from_slice(&bytes(root))
}

/// Root of a light client header's beacon block.
pub(crate) fn root(header: &Value) -> B256 {
    schema::beacon_header().root(&header["beacon"])
}

fn slot(header: &Value) -> u64 {
    number(&header["beacon"]["slot"])
}

/// The execution header is in the block. Before its own fork a header has no fields of later ones.
fn has_execution(rules: &Rules, header: &Value) -> bool {
    let fork = rules.fork_at(slot(header));
    let mut execution = header["execution"].clone();
    if fork < Fork::Deneb {
        for field in ["blob_gas_used", "excess_blob_gas"] {
            let absent = execution.as_object_mut().unwrap().remove(field);
            assert!(absent.is_none_or(|field| field == "0"));
        }
    }
    let leaf = schema::execution_header(fork).root(&execution);
    proves(leaf, &header["execution_branch"], EXECUTION_GINDEX, &header["beacon"]["body_root"])
}

pub(crate) fn check_bootstrap(rules: &Rules, bootstrap: &Value) -> Vec<Wrong> {
    let header = &bootstrap["header"];
    let [current, ..] = gindices(rules.fork_at(slot(header)));
    let leaf = schema::sync_committee().root(&bootstrap["current_sync_committee"]);
    let state_root = &header["beacon"]["state_root"];
    let branch = &bootstrap["current_sync_committee_branch"];
    listed([
        (Wrong::Execution, has_execution(rules, header)),
        (Wrong::Committee, proves(leaf, branch, current, state_root)),
    ])
}

/// What is wrong with an update of any kind that `committee` should have signed by now.
pub(crate) fn check_update(rules: &Rules, now: u64, committee: &Committee, update: &Value) -> Vec<Wrong> {
    let attested = &update["attested_header"];
    let (slot, signature_slot) = (slot(attested), number(&update["signature_slot"]));
    let [_, next, finality] = gindices(rules.fork_at(slot));
    let state_root = &attested["beacon"]["state_root"];
    let bits = bytes(&update["sync_aggregate"]["sync_committee_bits"]);
    let signers: u32 = bits.iter().map(|byte| byte.count_ones()).sum();
    let mut checks = vec![
        (Wrong::Slots, slot < signature_slot && signature_slot <= now),
        (Wrong::Participation, signers >= 342),
        (Wrong::Execution, has_execution(rules, attested)),
    ];
    if let Some(committee) = update.get("next_sync_committee") {
        let leaf = schema::sync_committee().root(committee);
        let proven = proves(leaf, &update["next_sync_committee_branch"], next, state_root);
        checks.push((Wrong::NextCommittee, proven));
    }
    if let Some(finalized) = update.get("finalized_header") {
        let proven = proves(root(finalized), &update["finality_branch"], finality, state_root);
        checks.push((Wrong::Finality, proven));
        checks.push((Wrong::FinalizedExecution, has_execution(rules, finalized)));
        checks.push((Wrong::Slots, number(&finalized["beacon"]["slot"]) <= slot));
    }
    let message = rules.signing_root(root(attested), signature_slot);
    checks.push((Wrong::Signature, committee.signed(&update["sync_aggregate"], message)));
    listed(checks)
}

fn listed(checks: impl IntoIterator<Item = (Wrong, bool)>) -> Vec<Wrong> {
    checks.into_iter().filter(|(_, good)| !good).map(|(wrong, _)| wrong).collect()
}

/// A committee's keys, decoded.
pub(crate) struct Committee(Vec<PublicKey>);

impl Committee {
    pub(crate) fn new(committee: &Value) -> Self {
        let keys = committee["pubkeys"].as_array().unwrap().iter();
        Self(keys.map(|key| PublicKey::key_validate(&bytes(key)).unwrap()).collect())
    }

    /// The committee of the finalized block, as the bootstrap proves it.
    pub(crate) fn of(beacon: &Beacon) -> Self {
        let bootstrap = get(beacon, &crate::fixture::bootstrap(beacon))["data"].take();
        assert_eq!(check_bootstrap(&Rules::of(beacon), &bootstrap), []);
        Self::new(&bootstrap["current_sync_committee"])
    }

    /// Those whose bits are set signed the message.
    fn signed(&self, aggregate: &Value, message: B256) -> bool {
        let bits = bytes(&aggregate["sync_committee_bits"]);
        let keys = self.0.iter().enumerate();
        let signers = keys.filter(|(member, _)| bits[member / 8] >> (member % 8) & 1 == 1);
        let signers: Vec<_> = signers.map(|(_, key)| key).collect();
        let signature = bytes(&aggregate["sync_committee_signature"]);
        let Ok(signature) = Signature::sig_validate(&signature, true) else { return false };
        let verdict = signature.fast_aggregate_verify(true, message.as_slice(), DST, &signers);
        verdict == BLST_ERROR::BLST_SUCCESS
    }
}

/// The aggregate that a block's body has is a signature on its parent.
pub(crate) fn signs_parent(rules: &Rules, committee: &Committee, block: &Value) -> bool {
    let parent = B256::from_slice(&bytes(&block["parent_root"]));
    let message = rules.signing_root(parent, number(&block["slot"]));
    committee.signed(&block["body"]["sync_aggregate"], message)
}
