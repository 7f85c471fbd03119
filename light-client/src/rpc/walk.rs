//! Back through the chain by parent hashes.

use std::collections::{BTreeMap, VecDeque};
use std::ops::ControlFlow;
use std::sync::{Arc, Mutex, MutexGuard};

use alloy::consensus::Header;
use serde_json::json;

use super::node::{self, Node};
use super::{AnswerError, Rpc, RpcError};
use crate::execution::Block;

/// Headers asked for in one request: on mainnet about 1.3 MB, for each comes with the hashes of its transactions.
const BATCH: u64 = 64;
/// Proven blocks that are remembered, some 450 bytes each: a day of slots of 12 seconds, 3.5 MB.
const REMEMBERED: usize = 7_200;

/// Proven blocks by their number, one for each; the lowest are forgotten first, since whoever polls asks for the newest.
#[derive(Debug, Clone, Default)]
pub(super) struct Walked(Arc<Mutex<BTreeMap<u64, Arc<Block>>>>);

impl Walked {
    /// The parent of `child`, if it is remembered.
    fn parent(&self, child: &Block) -> Option<Arc<Block>> {
        let number = child.number.checked_sub(1)?;
        self.blocks().get(&number).filter(|block| block.hash == child.parent_hash).cloned()
    }

    /// The number of the highest block that is remembered below `child`: likely, if not surely, its ancestor.
    fn known_below(&self, child: &Block) -> Option<u64> {
        self.blocks().range(..child.number).next_back().map(|(number, _)| *number)
    }

    fn put(&self, block: Arc<Block>) {
        let mut blocks = self.blocks();
        blocks.insert(block.number, block);
        if blocks.len() > REMEMBERED {
            blocks.pop_first();
        }
    }

    fn blocks(&self) -> MutexGuard<'_, BTreeMap<u64, Arc<Block>>> {
        self.0.lock().expect("no code panics while it holds this lock")
    }
}

impl Rpc {
    /// All blocks from `head`, which is the first, back to number `down_to`, each proven by its child.
    ///
    /// # Errors
    /// [`RpcError::TooFar`], [`RpcError::NotYet`], [`RpcError::Exhausted`].
    pub async fn ancestors(&self, head: &Block, down_to: u64) -> Result<Vec<Arc<Block>>, RpcError> {
        let mut all = Vec::new();
        self.walk(head, down_to, |block| {
            all.push(block.clone());
            ControlFlow::Continue(())
        })
        .await?;
        Ok(all)
    }

    /// The block with this number among the ancestors of `head`, or `head` itself.
    ///
    /// # Errors
    /// [`RpcError::TooFar`], [`RpcError::NotYet`], [`RpcError::Exhausted`].
    pub async fn ancestor(&self, head: &Block, number: u64) -> Result<Arc<Block>, RpcError> {
        let mut last = Arc::new(head.clone());
        self.walk(head, number, |block| {
            last = block.clone();
            ControlFlow::Continue(())
        })
        .await?;
        Ok(last)
    }

    /// Shows `visit` each block from `head` back to number `down_to`, until it has seen enough. The blocks are not held, so
    /// a long walk needs no more memory than a short one.
    ///
    /// # Errors
    /// [`RpcError::TooFar`] and [`RpcError::NotYet`] before anything is asked, [`RpcError::Exhausted`] on the way.
    pub async fn walk(
        &self,
        head: &Block,
        down_to: u64,
        mut visit: impl FnMut(&Arc<Block>) -> ControlFlow<()> + Send,
    ) -> Result<(), RpcError> {
        let (from, to) = (head.number, down_to);
        let steps = from.checked_sub(to).ok_or(RpcError::NotYet { number: to, head: from })?;
        if steps > RpcError::MAX_WALK {
            return Err(RpcError::TooFar { from, to });
        }
        let mut block = Arc::new(head.clone());
        self.walked.put(block.clone());
        let mut fetched = VecDeque::new();
        while visit(&block).is_continue() && block.number > to {
            if fetched.is_empty() {
                fetched = self.parents(&block, to).await?;
            }
            block = fetched.pop_front().expect("at least the parent was fetched");
        }
        Ok(())
    }

    /// The parent, and some of its ancestors where it has to be fetched: no more than lie above what is remembered.
    async fn parents(&self, child: &Arc<Block>, down_to: u64) -> Result<VecDeque<Arc<Block>>, RpcError> {
        if let Some(parent) = self.walked.parent(child) {
            return Ok([parent].into());
        }
        // Where the remembered parent is another, there was a reorganisation of unknown depth.
        let known = self.walked.known_below(child).map(|known| known + 1).filter(|next| *next < child.number);
        let count = BATCH.min(child.number - known.unwrap_or(0).max(down_to));
        let fetched = self.pool.first_part(|node| fetch(node, child, count)).await?;
        fetched.iter().for_each(|block| self.walked.put(block.clone()));
        Ok(fetched)
    }
}

/// The parent and up to `count - 1` blocks before it, at least one. What is true of an answer is kept, though a later part
/// of it be a lie: that lie comes with it, and its part is asked for again, of another endpoint where there is one.
async fn fetch(
    node: Arc<Node>,
    child: &Block,
    count: u64,
) -> Result<(VecDeque<Arc<Block>>, Option<AnswerError>), AnswerError> {
    let method = "eth_getBlockByNumber";
    let lowest = child.number.saturating_sub(count);
    let numbers = (lowest..child.number).rev();
    let params = numbers.map(|number| json!([format!("{number:#x}"), false])).collect();
    let mut found = VecDeque::<Arc<Block>>::new();
    for reply in node.batch(method, params).await? {
        let below = found.back().map_or(child, |block| block);
        let header =
            node::read::<Header>(method, reply).and_then(|it| it.ok_or(AnswerError::Missing { method }));
        let parent = header.and_then(|it| below.verify_parent(&it).map_err(AnswerError::refused(method)));
        match parent {
            Ok(parent) => found.push_back(Arc::new(parent)),
            Err(error) if found.is_empty() => return Err(error),
            Err(error) => return Ok((found, Some(error))),
        }
    }
    // A batch has a reply for the first call at least, and there is at least one call.
    if found.is_empty() { Err(AnswerError::Missing { method }) } else { Ok((found, None)) }
}

#[cfg(test)]
mod tests {
    use alloy::primitives::B256;

    use super::*;
    use crate::execution::verify_header;

    #[test]
    fn memory_is_bounded_and_forgets_the_lowest() {
        let walked = Walked::default();
        let mut parent_hash = B256::ZERO;
        let chain = (0..REMEMBERED as u64 + 5).map(|number| {
            let header = Header { number, parent_hash, ..Header::default() };
            parent_hash = header.hash_slow();
            Arc::new(verify_header(parent_hash, &header).unwrap())
        });
        let blocks: Vec<_> = chain.collect();
        blocks.iter().rev().for_each(|block| walked.put(block.clone()));
        let known: Vec<_> = blocks.iter().map(|block| walked.parent(block).is_some()).collect();
        assert_eq!(known.iter().rposition(|known| !known), Some(5), "the parents of 0 to 5 are forgotten");
        assert_eq!(known.iter().filter(|known| **known).count(), REMEMBERED - 1);
    }

    #[test]
    fn a_block_of_another_branch_is_no_parent() {
        let walked = Walked::default();
        let block = |number, timestamp, parent_hash| {
            let header = Header { number, timestamp, parent_hash, ..Header::default() };
            Arc::new(verify_header(header.hash_slow(), &header).unwrap())
        };
        let (ours, theirs) = (block(5, 1, B256::ZERO), block(5, 2, B256::ZERO));
        walked.put(theirs.clone());
        assert_eq!(walked.parent(&block(6, 1, ours.hash)), None);
        assert_eq!(walked.parent(&block(6, 1, theirs.hash)), Some(theirs));
        assert_eq!(walked.parent(&block(0, 1, B256::ZERO)), None);
    }
}
