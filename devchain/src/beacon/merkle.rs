//! Merkle trees of a few leaves, with their branches.

use alloy::primitives::B256;
use ethereum_hashing::hash32_concat;

/// All layers of a tree, leaves first, root last. Absent leaves are zero, as in SSZ.
pub(super) struct Tree {
    layers: Vec<Vec<B256>>,
}

impl Tree {
    /// A tree over `leaves`, as wide as the next power of two.
    pub(super) fn new(leaves: &[B256]) -> Self {
        let mut layer = leaves.to_vec();
        layer.resize(leaves.len().next_power_of_two(), B256::ZERO);
        let mut layers = vec![layer];
        while let Some(below) = layers.last()
            && below.len() > 1
        {
            let above = below.chunks(2).map(|pair| hash_pair(pair[0], pair[1])).collect();
            layers.push(above);
        }
        Self { layers }
    }

    pub(super) fn root(&self) -> B256 {
        self.layers.last().expect("a tree has a layer")[0]
    }

    /// Siblings on the way from the leaf at `index` up to the root.
    pub(super) fn branch(&self, index: usize) -> Vec<B256> {
        let below_root = &self.layers[..self.layers.len() - 1];
        below_root.iter().enumerate().map(|(height, layer)| layer[(index >> height) ^ 1]).collect()
    }
}

pub(super) fn hash_pair(left: B256, right: B256) -> B256 {
    hash32_concat(left.as_slice(), right.as_slice()).into()
}
