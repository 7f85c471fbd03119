//! The Merkle tree over a fleet.

use std::fs::File;
use std::io::{self, BufWriter, Write as _};
use std::os::unix::fs::FileExt as _;
use std::sync::Arc;

use alloy::primitives::{B256, keccak256};
use posthouse_protocol::id::FleetRoot;

use super::FleetError;
use super::disk::At;
use crate::terms::MAX_DEPTH;

/// Nodes read and hashed at once; even, so that no pair is parted.
const NODES: u64 = 4096;
const NODE: u64 = 32;

/// A fleet's tree in a file: 64 bytes a device, of which a look-up reads one node for each level.
///
/// Level after level, leaves first and the root last; each without the empty places at its end.
#[derive(Debug, Clone)]
pub struct Tree {
    file: Arc<File>,
    /// Where the leaves begin.
    start: u64,
    size: u32,
    root: FleetRoot,
}

impl Tree {
    /// Writes the tree over these leaves to `file`, from its start.
    ///
    /// # Errors
    /// [`FleetError::Empty`], [`FleetError::TooMany`], [`FleetError::Io`].
    pub fn build(file: File, leaves: impl IntoIterator<Item = B256>) -> Result<Self, FleetError> {
        let mut size = 0u32;
        let mut sink = BufWriter::new(At::new(&file, 0));
        for leaf in leaves {
            size = size.checked_add(1).ok_or(FleetError::TooMany)?;
            sink.write_all(leaf.as_slice())?;
        }
        sink.flush()?;
        drop(sink);
        if size == 0 {
            return Err(FleetError::Empty);
        }
        let root = raise(&file, 0, size)?;
        Ok(Self::open(Arc::new(file), 0, size, root))
    }

    /// A tree that is known to be in `file`, with its leaves from `start`.
    pub(super) fn open(file: Arc<File>, start: u64, size: u32, root: FleetRoot) -> Self {
        Self { file, start, size, root }
    }

    /// The root, which the bounty carries.
    pub fn root(&self) -> FleetRoot {
        self.root
    }

    /// Levels above the leaves, at most 32.
    pub fn depth(&self) -> u8 {
        // At least one device.
        (u32::BITS - (self.size - 1).leading_zeros()) as u8
    }

    /// Number of devices.
    pub fn size(&self) -> u32 {
        self.size
    }

    /// The siblings from the leaf at `index` to the root.
    ///
    /// # Errors
    /// [`FleetError::Index`], [`FleetError::Io`].
    pub fn path(&self, index: u32) -> Result<Vec<B256>, FleetError> {
        self.multiproof(&[index])
    }

    /// One proof for many leaves, as the bounty reads it: level by level from the leaves, from left to
    /// right, the siblings that the leaves do not give themselves.
    ///
    /// # Errors
    /// [`FleetError::Order`] unless the indices ascend strictly, [`FleetError::Index`], [`FleetError::Io`].
    pub fn multiproof(&self, indices: &[u32]) -> Result<Vec<B256>, FleetError> {
        let last = *indices.last().ok_or(FleetError::Order)?;
        if !indices.is_sorted_by(|a, b| a < b) {
            return Err(FleetError::Order);
        }
        if last >= self.size {
            return Err(FleetError::Index { index: last, size: self.size });
        }
        let mut places = indices.to_vec();
        let mut path = Vec::new();
        for (level, empty) in levels(self.start, self.size).zip(empties()) {
            if level.count == 1 {
                break;
            }
            places = siblings(&places, |place| {
                let there = place < level.count;
                path.push(if there { self.node(level.start + place * NODE)? } else { empty });
                Ok(())
            })?;
        }
        Ok(path)
    }

    fn node(&self, at: u64) -> io::Result<B256> {
        let mut node = B256::ZERO;
        self.file.read_exact_at(node.as_mut_slice(), at)?;
        Ok(node)
    }
}

/// One level of a tree in its file.
struct Level {
    start: u64,
    /// Nodes in it.
    count: u64,
}

/// The levels of a tree with its leaves from `start`: from the leaves up, past the root without end.
fn levels(start: u64, size: u32) -> impl Iterator<Item = Level> {
    let leaves = Level { start, count: u64::from(size) };
    std::iter::successors(Some(leaves), |below| {
        Some(Level { start: below.start + below.count * NODE, count: below.count.div_ceil(2) })
    })
}

/// What stands for an empty place on each level.
fn empties() -> impl Iterator<Item = B256> {
    std::iter::successors(Some(B256::ZERO), |empty| Some(parent(empty, empty)))
}

/// Bytes of the tree over so many leaves, at least one.
pub(super) fn tree_len(size: u32) -> u64 {
    levels(0, size).find(|level| level.count == 1).map_or(0, |top| top.start + NODE)
}

/// Writes the levels above the leaves, which are in `file` from `start`, and gives the root.
pub(super) fn raise(file: &File, start: u64, size: u32) -> io::Result<FleetRoot> {
    let mut buffer = vec![0; (NODES * NODE) as usize];
    for (level, empty) in levels(start, size).zip(empties()) {
        if level.count == 1 {
            break;
        }
        let above = level.start + level.count * NODE;
        for done in (0..level.count).step_by(NODES as usize) {
            let below = &mut buffer[..(NODES.min(level.count - done) * NODE) as usize];
            file.read_exact_at(below, level.start + done * NODE)?;
            let parents: Vec<u8> = below.chunks(64).flat_map(|pair| pair_hash(pair, &empty).0).collect();
            file.write_all_at(&parents, above + done / 2 * NODE)?;
        }
    }
    let mut root = [0; 32];
    file.read_exact_at(&mut root, start + tree_len(size) - NODE)?;
    Ok(FleetRoot::new(root))
}

/// Hash of two nodes, the second of which may be an empty place.
fn pair_hash(pair: &[u8], empty: &B256) -> B256 {
    match pair.split_at(NODE as usize) {
        (left, []) => keccak256([left, empty.as_slice()].concat()),
        _ => keccak256(pair),
    }
}

/// Calls `missing` for each sibling that is not in `places`, and returns the parents' places.
fn siblings(places: &[u32], mut missing: impl FnMut(u64) -> io::Result<()>) -> io::Result<Vec<u32>> {
    let mut parents = Vec::with_capacity(places.len());
    let mut rest = places.iter().peekable();
    while let Some(place) = rest.next() {
        if rest.next_if(|next| place & 1 == 0 && **next == place + 1).is_none() {
            missing(u64::from(place ^ 1))?;
        }
        parents.push(place >> 1);
    }
    Ok(parents)
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
