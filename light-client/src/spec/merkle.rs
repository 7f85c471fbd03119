//! Merkle trees of SSZ, and where things are in them.

use alloy::primitives::B256;
use ethereum_hashing::hash32_concat;

use super::Fork;

/// A place in a tree: `depth` hashes above, the `index`-th of its level. A generalized index is `2^depth + index`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) depth: usize,
    index: u64,
}

impl Place {
    pub(super) const fn gindex(gindex: u64) -> Self {
        let depth = gindex.ilog2();
        Self { depth: depth as usize, index: gindex - (1 << depth) }
    }

    /// `EXECUTION_PAYLOAD_GINDEX`, in the block's body.
    pub(super) const EXECUTION: Self = Self::gindex(25);

    /// `finalized_root_gindex_at_slot`, in the state.
    pub(super) const fn finalized(fork: Fork) -> Self {
        match fork {
            Fork::Capella | Fork::Deneb => Self::gindex(105),
            Fork::Electra | Fork::Fulu => Self::gindex(169),
        }
    }

    /// `current_sync_committee_gindex_at_slot`, in the state.
    pub(super) const fn current_committee(fork: Fork) -> Self {
        match fork {
            Fork::Capella | Fork::Deneb => Self::gindex(54),
            Fork::Electra | Fork::Fulu => Self::gindex(86),
        }
    }

    /// `next_sync_committee_gindex_at_slot`, in the state.
    pub(super) const fn next_committee(fork: Fork) -> Self {
        match fork {
            Fork::Capella | Fork::Deneb => Self::gindex(55),
            Fork::Electra | Fork::Fulu => Self::gindex(87),
        }
    }

    /// `is_valid_merkle_branch`, where a branch that is too short or too long proves nothing.
    pub(super) fn proves(self, leaf: B256, branch: &[B256], root: B256) -> bool {
        self.root(leaf, branch) == Some(root)
    }

    /// The root that `branch` leads to; `None` where it has another length than this place is deep.
    pub(super) fn root(self, leaf: B256, branch: &[B256]) -> Option<B256> {
        let hash = |node: B256, (level, sibling): (usize, &B256)| {
            let (left, right) =
                if (self.index >> level) & 1 == 0 { (&node, sibling) } else { (sibling, &node) };
            hash32_concat(left.as_slice(), right.as_slice()).into()
        };
        (branch.len() == self.depth).then(|| branch.iter().enumerate().fold(leaf, hash))
    }
}

/// Root of a container whose fields have these roots.
pub(super) fn container(fields: &[B256]) -> B256 {
    let leaves: Vec<u8> = fields.iter().flatten().copied().collect();
    tree_hash::merkle_root(&leaves, 0)
}

/// Root of a fixed number of bytes.
pub(super) fn bytes(bytes: &[u8]) -> B256 {
    tree_hash::merkle_root(bytes, 0)
}

/// Root of a list of at most 32 bytes.
pub(super) fn short_list(bytes: &[u8]) -> B256 {
    tree_hash::mix_in_length(&tree_hash::merkle_root(bytes, 1), bytes.len())
}

/// A `u64` as a leaf.
pub(super) fn number(number: u64) -> B256 {
    let mut leaf = B256::ZERO;
    leaf[..8].copy_from_slice(&number.to_le_bytes());
    leaf
}
