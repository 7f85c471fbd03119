//! The beacon state as far as light clients look into it: every field has its true place in the tree,
//! those that nobody asks for are zero.

use alloy::primitives::B256;
use tree_hash::TreeHash;

use super::committee::{Committee, Kin};
use super::config::Fork;
use super::merkle::{Tree, hash_pair};
use super::network::{Network, SLOTS_PER_EPOCH, SLOTS_PER_PERIOD};
use super::types::{BeaconBlockHeader, StateFork};

const GENESIS_TIME: usize = 0;
const GENESIS_VALIDATORS_ROOT: usize = 1;
const SLOT: usize = 2;
const FORK: usize = 3;
const LATEST_BLOCK_HEADER: usize = 4;
const FINALIZED_CHECKPOINT: usize = 20;
const CURRENT_SYNC_COMMITTEE: usize = 22;
const NEXT_SYNC_COMMITTEE: usize = 23;
const LATEST_EXECUTION_PAYLOAD_HEADER: usize = 24;

/// What a block's post-state says.
#[derive(Clone, Copy, Debug)]
pub(super) struct StateSketch {
    /// The block's header before its state root was known.
    pub(super) header: BeaconBlockHeader,
    pub(super) execution_root: B256,
    /// Slot and root of the finalized block, zeros before there is any.
    pub(super) finalized: (u64, B256),
    /// Whose the next sync committee is; strangers' only in lies.
    pub(super) next_committee: Kin,
}

/// A state's tree.
pub(super) struct State {
    tree: Tree,
    finalized_epoch: B256,
}

impl State {
    pub(super) fn new(network: &Network, sketch: &StateSketch) -> Self {
        let slot = sketch.header.slot;
        let (fork, period) = (network.fork_at(slot), slot / SLOTS_PER_PERIOD);
        let state_fork = StateFork {
            previous_version: network.previous_version(fork),
            current_version: network.version(fork),
            epoch: network.activation(fork),
        };
        let (finalized_slot, finalized_root) = sketch.finalized;
        // A checkpoint is the newest block at or before its epoch's first slot.
        let finalized_epoch = finalized_slot.div_ceil(SLOTS_PER_EPOCH).tree_hash_root();
        let mut leaves = vec![B256::ZERO; fields(fork)];
        leaves[GENESIS_TIME] = network.genesis_time.tree_hash_root();
        leaves[GENESIS_VALIDATORS_ROOT] = network.genesis_validators_root;
        leaves[SLOT] = slot.tree_hash_root();
        leaves[FORK] = state_fork.tree_hash_root();
        leaves[LATEST_BLOCK_HEADER] = sketch.header.tree_hash_root();
        leaves[FINALIZED_CHECKPOINT] = hash_pair(finalized_epoch, finalized_root);
        leaves[CURRENT_SYNC_COMMITTEE] = Committee::of(Kin::Validators, period).root;
        leaves[NEXT_SYNC_COMMITTEE] = Committee::of(sketch.next_committee, period + 1).root;
        leaves[LATEST_EXECUTION_PAYLOAD_HEADER] = sketch.execution_root;
        Self { tree: Tree::new(&leaves), finalized_epoch }
    }

    pub(super) fn root(&self) -> B256 {
        self.tree.root()
    }

    /// From `current_sync_committee` to the root: 5 nodes, 6 from Electra on.
    pub(super) fn current_committee_branch(&self) -> Vec<B256> {
        self.tree.branch(CURRENT_SYNC_COMMITTEE)
    }

    /// From `next_sync_committee` to the root: 5 nodes, 6 from Electra on.
    pub(super) fn next_committee_branch(&self) -> Vec<B256> {
        self.tree.branch(NEXT_SYNC_COMMITTEE)
    }

    /// From `finalized_checkpoint.root` to the root: 6 nodes, 7 from Electra on.
    pub(super) fn finality_branch(&self) -> Vec<B256> {
        let mut branch = vec![self.finalized_epoch];
        branch.extend(self.tree.branch(FINALIZED_CHECKPOINT));
        branch
    }
}

/// Fields of `BeaconState`.
fn fields(fork: Fork) -> usize {
    match fork {
        Fork::Capella | Fork::Deneb => 28,
        Fork::Electra => 37,
        Fork::Fulu => 38,
    }
}
