//! Reading any layout: what a block says is beneath it, checked against what is known to be there.
//!
//! A walk starts with the root and the file's declared size. Each node's children must make up exactly the range
//! that its parent gave it, and none may be empty; so the ranges of a walk never overlap, never leave the file,
//! and shrink. Hashes rule out a cycle; depth, width and the number of blocks are bounded besides.

use bytes::Bytes;
use cid::Cid;
use thiserror::Error;

use super::pb::{self, NodeError};
use crate::content::Codec;

/// Longest block: what Kubo and Helia exchange at most.
pub(crate) const MAX_BLOCK: usize = 2 << 20;
/// Links of one node. A node of 1 MiB chunks has 1024; 8192 fit the old 256 KiB nodes.
pub(crate) const MAX_WIDTH: usize = 8192;
/// Levels below the root. At our width five levels are 10^16 bytes; trickle trees are deeper.
pub(crate) const MAX_DEPTH: u32 = 16;
/// Smallest mean leaf: the bound on a file's blocks is its size by this, so that no DAG of single bytes is read.
const MIN_LEAF: u64 = 512;

/// Why a DAG is not the file that it should be.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum DagError {
    /// A block is not a node of a file.
    #[error("{cid}: {source}")]
    Node {
        /// Which.
        cid: Cid,
        /// Why.
        source: Box<NodeError>,
    },
    /// What is beneath a block is not as long as declared.
    #[error("{cid} holds {found} bytes, {expected} were declared")]
    Size {
        /// The block.
        cid: Cid,
        /// By its parent, or by the caller for the root.
        expected: u64,
        /// By itself.
        found: u64,
    },
    /// A child without bytes.
    #[error("{0} has an empty child")]
    EmptyChild(Cid),
    /// More levels than a file's DAG may have.
    #[error("more than {MAX_DEPTH} levels")]
    TooDeep,
    /// More blocks than a file of that size may have.
    #[error("more than {0} blocks")]
    TooManyBlocks(u64),
    /// Longer than any file.
    #[error("{size} bytes, {max} are allowed")]
    TooLong {
        /// As declared.
        size: u64,
        /// The bound.
        max: u64,
    },
    /// The codec is not one of files.
    #[error("{0} is neither raw nor dag-pb")]
    Codec(Cid),
}

/// A block to be read, and the range of the file beneath it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Part {
    pub(crate) cid: Cid,
    pub(crate) offset: u64,
    pub(crate) size: u64,
    pub(crate) depth: u32,
}

/// What a block was found to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Opened {
    /// Bytes of the file, a slice of the block.
    Leaf(Bytes),
    /// Further blocks, in the file's order; and bytes of the node itself, which come first.
    Branch { inline: Bytes, parts: Vec<Part> },
}

/// At most how many blocks a file of `size` bytes may have.
pub(crate) fn max_blocks(size: u64) -> u64 {
    64 + size / MIN_LEAF
}

impl Part {
    /// The whole file.
    pub(crate) fn root(cid: Cid, size: u64) -> Self {
        Self { cid, offset: 0, size, depth: 0 }
    }

    /// Reads `block`, whose hash has been checked, as this part.
    pub(crate) fn open(&self, block: &Bytes) -> Result<Opened, DagError> {
        match crate::content::codec(&self.cid) {
            Codec::Raw => self.leaf(block.clone()),
            Codec::DagPb => self.node(block),
            Codec::DagCbor => Err(DagError::Codec(self.cid)),
        }
    }

    fn leaf(&self, bytes: Bytes) -> Result<Opened, DagError> {
        self.sized(bytes.len() as u64)?;
        Ok(Opened::Leaf(bytes))
    }

    fn node(&self, block: &Bytes) -> Result<Opened, DagError> {
        let node = pb::decode(block, MAX_WIDTH)
            .map_err(|source| DagError::Node { cid: self.cid, source: source.into() })?;
        if let Some(declared) = node.declared {
            self.sized(declared)?;
        }
        if node.links.is_empty() {
            return self.leaf(node.inline);
        }
        if self.depth >= MAX_DEPTH {
            return Err(DagError::TooDeep);
        }
        let mut parts = Vec::with_capacity(node.links.len());
        let mut found = node.inline.len() as u64;
        for link in &node.links {
            if link.size == 0 {
                return Err(DagError::EmptyChild(self.cid));
            }
            let offset = self.offset + found;
            parts.push(Part { cid: link.cid, offset, size: link.size, depth: self.depth + 1 });
            // Saturated, it is no file's size and is refused; before that no offset can overflow either.
            found = found.saturating_add(link.size);
            if found > self.size {
                break;
            }
        }
        self.sized(found)?;
        Ok(Opened::Branch { inline: node.inline, parts })
    }

    fn sized(&self, found: u64) -> Result<(), DagError> {
        match found == self.size {
            true => Ok(()),
            false => Err(DagError::Size { cid: self.cid, expected: self.size, found }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::unixfs::pb::{Child, encode, encode_leaf};

    fn child(bytes: &[u8], size: u64) -> Child {
        Child { cid: Codec::Raw.cid(bytes), size, tsize: size }
    }

    fn node(children: &[Child], size: u64, depth: u32) -> Result<Opened, DagError> {
        let block = Bytes::from(encode(children));
        Part { cid: Codec::DagPb.cid(&block), offset: 100, size, depth }.open(&block)
    }

    #[test]
    fn children_follow_one_another() {
        let opened = node(&[child(b"a", 10), child(b"b", 5)], 15, 0).unwrap();
        let Opened::Branch { inline, parts } = opened else { panic!("a branch") };
        let ranges: Vec<_> = parts.iter().map(|part| (part.offset, part.size, part.depth)).collect();
        assert_eq!((ranges, inline.len()), (vec![(100, 10, 1), (110, 5, 1)], 0));
    }

    #[test]
    fn a_leaf_is_as_long_as_declared() {
        let bytes = Bytes::from_static(b"leaf");
        let part = |size| Part::root(Codec::Raw.cid(&bytes), size);
        assert_eq!(part(4).open(&bytes), Ok(Opened::Leaf(bytes.clone())));
        assert!(matches!(part(5).open(&bytes), Err(DagError::Size { expected: 5, found: 4, .. })));
    }

    #[test]
    fn a_protobuf_leaf_is_read_as_kubo_and_as_js_write_it() {
        for kind in [0, 2] {
            let block = Bytes::from(encode_leaf(kind, b"leaf"));
            let part = Part::root(Codec::DagPb.cid(&block), 4);
            assert_eq!(part.open(&block), Ok(Opened::Leaf(Bytes::from_static(b"leaf"))));
        }
    }

    #[test]
    fn lies_about_sizes_are_found() {
        assert!(matches!(
            node(&[child(b"a", 10)], 11, 0),
            Err(DagError::Size { expected: 11, found: 10, .. })
        ));
        assert!(matches!(node(&[child(b"a", 10), child(b"b", 0)], 10, 0), Err(DagError::EmptyChild(_))));
        // Without a declared size of its own, a node is held to its parent's, and sums cannot wrap around.
        let wrap = [child(b"a", u64::MAX), child(b"b", 2)];
        let links: Vec<_> = wrap.iter().map(|c| pb::Link { cid: c.cid, size: c.size }).collect();
        assert_eq!(links.iter().fold(0u64, |sum, link| sum.wrapping_add(link.size)), 1);
        assert!(matches!(node(&[child(b"a", u64::MAX)], 1, 0), Err(DagError::Size { .. })));
    }

    #[test]
    fn a_dag_is_only_so_deep() {
        assert!(node(&[child(b"a", 1)], 1, MAX_DEPTH - 1).is_ok());
        assert_eq!(node(&[child(b"a", 1)], 1, MAX_DEPTH), Err(DagError::TooDeep));
    }

    #[test]
    fn dag_cbor_is_no_file() {
        let block = Bytes::from_static(&[0xa0]);
        let cid = Codec::DagCbor.cid(&block);
        assert_eq!(Part::root(cid, 1).open(&block), Err(DagError::Codec(cid)));
    }
}
