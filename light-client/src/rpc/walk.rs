//! Back through the chain by parent hashes.

use std::collections::{HashMap, VecDeque};
use std::ops::ControlFlow;
use std::sync::{Arc, Mutex};

use alloy::consensus::Header;
use alloy::primitives::B256;
use serde_json::json;

use super::node::{self, Node};
use super::{AnswerError, Rpc, RpcError};
use crate::execution::Block;

/// Headers asked for in one request: on mainnet about 1.3 MB, for each comes with the hashes of its transactions.
const BATCH: u64 = 64;
/// Proven blocks that are remembered, some 450 bytes each: a day of slots of 12 seconds, 3.5 MB.
const REMEMBERED: usize = 7_200;

/// Proven blocks by their hash; the oldest to be learnt are forgotten first.
#[derive(Debug, Clone, Default)]
pub(super) struct Walked(Arc<Mutex<Memory>>);

#[derive(Debug, Default)]
struct Memory {
    blocks: HashMap<B256, Arc<Block>>,
    order: VecDeque<B256>,
}

impl Walked {
    fn get(&self, hash: B256) -> Option<Arc<Block>> {
        self.memory().blocks.get(&hash).cloned()
    }

    fn put(&self, block: Arc<Block>) {
        let mut memory = self.memory();
        let hash = block.hash;
        if memory.blocks.insert(hash, block).is_none() {
            memory.order.push_back(hash);
        }
        if memory.order.len() > REMEMBERED
            && let Some(oldest) = memory.order.pop_front()
        {
            memory.blocks.remove(&oldest);
        }
    }

    fn memory(&self) -> std::sync::MutexGuard<'_, Memory> {
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
        while visit(&block).is_continue() && block.number > to {
            block = self.parent(&block, to).await?;
        }
        Ok(())
    }

    /// The parent, from memory where it is there; else it and some of its ancestors are fetched.
    async fn parent(&self, child: &Arc<Block>, down_to: u64) -> Result<Arc<Block>, RpcError> {
        if let Some(parent) = self.walked.get(child.parent_hash) {
            return Ok(parent);
        }
        let count = BATCH.min(child.number - down_to);
        let fetched = self.pool.first(|node| fetch(node, child, count)).await?;
        let parent = fetched[0].clone();
        fetched.into_iter().for_each(|block| self.walked.put(block));
        Ok(parent)
    }
}

/// The parent and up to `count - 1` blocks before it, at least one. What is true of an answer is kept, though a later part
/// of it be a lie: that part is asked for again, and then fails by itself.
async fn fetch(node: Arc<Node>, child: &Block, count: u64) -> Result<Vec<Arc<Block>>, AnswerError> {
    let method = "eth_getBlockByNumber";
    let lowest = child.number.saturating_sub(count);
    let numbers = (lowest..child.number).rev();
    let params = numbers.map(|number| json!([format!("{number:#x}"), false])).collect();
    let mut found: Vec<Arc<Block>> = Vec::new();
    for reply in node.batch(method, params).await? {
        let below = found.last().map_or(child, |block| block);
        let header =
            node::read::<Header>(method, reply).and_then(|it| it.ok_or(AnswerError::Missing { method }));
        let parent = header.and_then(|it| below.verify_parent(&it).map_err(AnswerError::refused(method)));
        match parent {
            Ok(parent) => found.push(Arc::new(parent)),
            Err(error) if found.is_empty() => return Err(error),
            Err(_) => break,
        }
    }
    // A batch has one reply for each call, and there is at least one call.
    if found.is_empty() { Err(AnswerError::Missing { method }) } else { Ok(found) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::execution::verify_header;

    #[test]
    fn memory_is_bounded_and_forgets_the_oldest() {
        let walked = Walked::default();
        let blocks: Vec<_> = (0..=REMEMBERED as u64)
            .map(|number| {
                let header = Header { number, ..Header::default() };
                Arc::new(verify_header(header.hash_slow(), &header).unwrap())
            })
            .collect();
        blocks.iter().chain(&blocks[5..9]).for_each(|block| walked.put(block.clone()));
        assert!(walked.get(blocks[0].hash).is_none());
        assert!(blocks[1..].iter().all(|block| walked.get(block.hash).as_ref() == Some(block)));
        assert_eq!(walked.memory().order.len(), REMEMBERED);
    }
}
