//! A fleet in memory: who is where, and by which path.

use std::io::Read;

use alloy::primitives::B256;
use posthouse_protocol::id::{Curve, DeviceKey, FleetRoot};

use super::{FleetError, FleetReader, Tree};

/// A fleet's keys with their tree: about 101 bytes a device.
#[derive(Debug, Clone)]
pub struct Fleet {
    curve: Curve,
    keys: Vec<DeviceKey>,
    /// Indices, ordered by their keys.
    by_key: Vec<u32>,
    tree: Tree,
}

impl Fleet {
    /// Takes keys in index order.
    ///
    /// # Errors
    /// [`FleetError::Key`], [`FleetError::Duplicate`], [`FleetError::Empty`], [`FleetError::TooMany`].
    pub fn new(curve: Curve, keys: Vec<DeviceKey>) -> Result<Self, FleetError> {
        let tree = Tree::build(curve, keys.iter().copied())?;
        let mut by_key: Vec<u32> = (0..tree.size()).collect();
        by_key.sort_unstable_by_key(|index| (keys[*index as usize], *index));
        for pair in by_key.windows(2) {
            if keys[pair[0] as usize] == keys[pair[1] as usize] {
                return Err(FleetError::Duplicate { first: pair[0], second: pair[1] });
            }
        }
        Ok(Self { curve, keys, by_key, tree })
    }

    /// Reads a fleet file whole.
    ///
    /// # Errors
    /// Those of [`FleetReader`] and [`Fleet::new`].
    pub fn read(source: impl Read) -> Result<Self, FleetError> {
        let reader = FleetReader::new(source)?;
        let curve = reader.curve();
        // No capacity from the header: a short file must not make a large allocation.
        let keys = reader.collect::<Result<Vec<_>, _>>()?;
        Self::new(curve, keys)
    }

    /// Which keys the devices hold.
    pub fn curve(&self) -> Curve {
        self.curve
    }

    /// Keys in index order.
    pub fn keys(&self) -> &[DeviceKey] {
        &self.keys
    }

    /// Number of devices, at least one.
    pub fn size(&self) -> u32 {
        self.tree.size()
    }

    /// Root of the tree.
    pub fn root(&self) -> FleetRoot {
        self.tree.root()
    }

    /// Depth of the tree.
    pub fn depth(&self) -> u8 {
        self.tree.depth()
    }

    /// The tree.
    pub fn tree(&self) -> &Tree {
        &self.tree
    }

    /// The key at an index.
    pub fn key(&self, index: u32) -> Option<&DeviceKey> {
        self.keys.get(index as usize)
    }

    /// Where a key stands.
    pub fn index_of(&self, key: &DeviceKey) -> Option<u32> {
        let place = self.by_key.binary_search_by_key(key, |index| self.keys[*index as usize]);
        place.ok().map(|place| self.by_key[place])
    }

    /// The siblings from the leaf at `index` to the root.
    ///
    /// # Errors
    /// [`FleetError::Index`].
    pub fn path(&self, index: u32) -> Result<Vec<B256>, FleetError> {
        self.tree.path(index)
    }
}
