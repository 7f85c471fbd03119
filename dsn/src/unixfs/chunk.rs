//! Writing our layout: leaves in, nodes and at last the root out, in memory for one path through the tree.

use cid::Cid;

use super::pb::{self, Child};
use crate::content::Codec;

/// Bytes of a leaf, the last one excepted.
pub(crate) const CHUNK: usize = 256 * 1024;
/// Links of a full node: what fits 8 KiB by go-ipfs' old reckoning, and everybody's default since.
const WIDTH: usize = 174;

/// Builds the tree bottom-up. Nodes are handed to `Sink` as they fill up.
#[derive(Default)]
pub(crate) struct Builder {
    /// The children not yet under a node, one level above the other, leaves first.
    levels: Vec<Vec<Child>>,
}

/// Takes a node's block.
pub(crate) trait Sink {
    /// Why a node could not be taken.
    type Error;
    /// Takes one block of the tree.
    fn node(&mut self, cid: Cid, block: Vec<u8>) -> Result<(), Self::Error>;
}

impl Builder {
    /// Adds the next leaf, of `size` bytes.
    pub(crate) fn leaf<S: Sink>(&mut self, cid: Cid, size: u64, sink: &mut S) -> Result<(), S::Error> {
        self.add(0, Child { cid, size, tsize: size }, sink)
    }

    /// The root. A file without a leaf is one empty leaf.
    pub(crate) fn finish<S: Sink>(mut self, sink: &mut S) -> Result<Cid, S::Error> {
        let mut level = 0;
        while level < self.levels.len() {
            let top = level + 1 == self.levels.len();
            if top && let [only] = self.levels[level][..] {
                return Ok(only.cid);
            }
            if !self.levels[level].is_empty() {
                self.close(level, sink)?;
            }
            level += 1;
        }
        Ok(Codec::Raw.cid(&[]))
    }

    fn add<S: Sink>(&mut self, level: usize, child: Child, sink: &mut S) -> Result<(), S::Error> {
        if self.levels.len() == level {
            self.levels.push(Vec::with_capacity(WIDTH));
        }
        self.levels[level].push(child);
        if self.levels[level].len() == WIDTH { self.close(level, sink) } else { Ok(()) }
    }

    /// Puts the children of `level` under a node.
    fn close<S: Sink>(&mut self, level: usize, sink: &mut S) -> Result<(), S::Error> {
        let children = std::mem::take(&mut self.levels[level]);
        let block = pb::encode(&children);
        let cid = Codec::DagPb.cid(&block);
        let size = children.iter().map(|child| child.size).sum();
        let tsize = block.len() as u64 + children.iter().map(|child| child.tsize).sum::<u64>();
        sink.node(cid, block)?;
        self.add(level + 1, Child { cid, size, tsize }, sink)
    }
}
