//! The Merkle tree over a fleet.

use alloy::primitives::{B256, keccak256};
use posthouse_protocol::id::{Curve, DeviceKey, FleetRoot};

use super::{FleetError, leaf};
use crate::terms::MAX_DEPTH;

/// All nodes of a fleet's tree that are not those of empty places: about 64 bytes a device.
#[derive(Debug, Clone)]
pub struct Tree {
    /// Leaves first, root last; each level without the empty places at its end.
    levels: Vec<Vec<B256>>,
}

impl Tree {
    /// Hashes keys in index order, taking one at a time.
    ///
    /// # Errors
    /// [`FleetError::Key`] for the first that is no point of the curve, [`FleetError::Empty`],
    /// [`FleetError::TooMany`]. That no key stands twice is for the caller to check.
    pub fn build(curve: Curve, keys: impl IntoIterator<Item = DeviceKey>) -> Result<Self, FleetError> {
        let mut leaves = Vec::new();
        for key in keys {
            let index = u32::try_from(leaves.len()).ok().filter(|i| *i < u32::MAX);
            leaves.push(leaf(curve, &key, index.ok_or(FleetError::TooMany)?)?);
        }
        Self::from_leaves(leaves)
    }

    /// Builds the tree over leaves that were hashed already.
    ///
    /// # Errors
    /// [`FleetError::Empty`], [`FleetError::TooMany`].
    pub fn from_leaves(leaves: Vec<B256>) -> Result<Self, FleetError> {
        if leaves.is_empty() {
            return Err(FleetError::Empty);
        }
        u32::try_from(leaves.len()).map_err(|_| FleetError::TooMany)?;
        let mut levels = vec![leaves];
        let mut empty = B256::ZERO;
        while let Some(level) = levels.last().filter(|level| level.len() > 1) {
            let parents = level.chunks(2).map(|pair| parent(&pair[0], pair.get(1).unwrap_or(&empty)));
            levels.push(parents.collect());
            empty = parent(&empty, &empty);
        }
        Ok(Self { levels })
    }

    /// The root, which the bounty carries.
    pub fn root(&self) -> FleetRoot {
        FleetRoot::new(self.levels.last().map_or([0; 32], |level| level[0].0))
    }

    /// Levels above the leaves.
    pub fn depth(&self) -> u8 {
        // At most 32 for a `u32` of leaves.
        (self.levels.len() - 1) as u8
    }

    /// Number of devices.
    pub fn size(&self) -> u32 {
        self.levels[0].len() as u32
    }

    /// The siblings from the leaf at `index` to the root.
    ///
    /// # Errors
    /// [`FleetError::Index`].
    pub fn path(&self, index: u32) -> Result<Vec<B256>, FleetError> {
        self.multiproof(&[index])
    }

    /// One proof for many leaves, as the bounty reads it: level by level from the leaves, from left to
    /// right, the siblings that the leaves do not give themselves.
    ///
    /// # Errors
    /// [`FleetError::Order`] unless the indices ascend strictly, [`FleetError::Index`].
    pub fn multiproof(&self, indices: &[u32]) -> Result<Vec<B256>, FleetError> {
        let last = *indices.last().ok_or(FleetError::Order)?;
        if !indices.is_sorted_by(|a, b| a < b) {
            return Err(FleetError::Order);
        }
        if last >= self.size() {
            return Err(FleetError::Index { index: last, size: self.size() });
        }
        let mut places = indices.to_vec();
        let mut empty = B256::ZERO;
        let mut path = Vec::new();
        for level in &self.levels[..self.levels.len() - 1] {
            places = siblings(&places, |place| path.push(*level.get(place).unwrap_or(&empty)));
            empty = parent(&empty, &empty);
        }
        Ok(path)
    }
}

/// Calls `missing` for each sibling that is not in `places`, and returns the parents' places.
fn siblings(places: &[u32], mut missing: impl FnMut(usize)) -> Vec<u32> {
    let mut parents = Vec::with_capacity(places.len());
    let mut rest = places.iter().peekable();
    while let Some(place) = rest.next() {
        if rest.next_if(|next| place & 1 == 0 && **next == place + 1).is_none() {
            missing((place ^ 1) as usize);
        }
        parents.push(place >> 1);
    }
    parents
}

/// Checks that `leaf` stands at `index` of the tree with this root, depth and number of leaves.
///
/// # Errors
/// [`FleetError::Index`], [`FleetError::Depth`], [`FleetError::NotAMember`].
pub fn verify(
    root: &FleetRoot,
    depth: u8,
    size: u32,
    index: u32,
    leaf: B256,
    path: &[B256],
) -> Result<(), FleetError> {
    if index >= size {
        return Err(FleetError::Index { index, size });
    }
    if path.len() != usize::from(depth) || depth > MAX_DEPTH {
        return Err(FleetError::Depth { depth, got: path.len() });
    }
    let top = path.iter().enumerate().fold(leaf, |node, (level, sibling)| {
        // `level` is below 32.
        if index >> level & 1 == 0 { parent(&node, sibling) } else { parent(sibling, &node) }
    });
    if top.0 == *root.as_bytes() { Ok(()) } else { Err(FleetError::NotAMember(index)) }
}

fn parent(left: &B256, right: &B256) -> B256 {
    let mut both = [0; 64];
    both[..32].copy_from_slice(left.as_slice());
    both[32..].copy_from_slice(right.as_slice());
    keccak256(both)
}
