//! Which block a caller means.

use std::sync::Arc;

use alloy::consensus::{Header, Sealed};
use alloy::eips::{BlockId, BlockNumberOrTag};

use crate::block::Block;
use crate::canon::Canon;
use crate::evm::{Ancestors, View};
use crate::node::Node;
use crate::rpc::error::RpcError;
use crate::state::State;

/// A block with the state after it, taken out of the chain so that nothing waits for the reader.
pub(crate) struct At {
    pub(crate) header: Sealed<Header>,
    pub(crate) state: State,
    pub(crate) ancestors: Ancestors,
}

impl At {
    pub(crate) fn view(&self) -> View<'_> {
        View { state: &self.state, ancestors: &self.ancestors }
    }
}

/// The height that a tag stands for; `None` is the block that is not mined yet.
pub(crate) fn height(canon: &Canon, tag: BlockNumberOrTag) -> Option<u64> {
    match tag {
        BlockNumberOrTag::Latest => Some(canon.head().number()),
        BlockNumberOrTag::Finalized => Some(canon.finalized()),
        BlockNumberOrTag::Safe => Some(canon.safe()),
        BlockNumberOrTag::Earliest => Some(0),
        BlockNumberOrTag::Number(number) => Some(number),
        BlockNumberOrTag::Pending => None,
    }
}

/// The block, if there is one.
pub(crate) fn block(node: &Node, id: BlockId) -> Option<Arc<Block>> {
    let chain = node.chain();
    match id {
        BlockId::Hash(hash) => chain.canon.by_hash(&hash.block_hash).cloned(),
        BlockId::Number(tag) => match height(&chain.canon, tag) {
            Some(number) => chain.canon.block(number).cloned(),
            None => {
                let draft = chain.pending();
                drop(chain);
                Some(Arc::new(draft.execute().block))
            }
        },
    }
}

/// The block and its state, to read from.
pub(crate) fn at(node: &Node, id: BlockId) -> Result<At, RpcError> {
    if id.is_pending() {
        return Ok(pending(node));
    }
    let missing = || RpcError::server("header not found");
    let chain = node.chain();
    let number = match id {
        BlockId::Hash(hash) => chain.canon.by_hash(&hash.block_hash).map(|block| block.number()),
        BlockId::Number(tag) => height(&chain.canon, tag),
    };
    let number = number.ok_or_else(missing)?;
    let header = chain.canon.block(number).ok_or_else(missing)?.header().clone();
    let state = chain.canon.state(number).cloned().ok_or_else(|| {
        let kept = chain.config.state_history;
        RpcError::server(format!("state of block {number} is pruned: the newest {kept} are kept"))
    })?;
    Ok(At { header, state, ancestors: chain.canon.ancestors(number) })
}

fn pending(node: &Node) -> At {
    let chain = node.chain();
    let draft = chain.pending();
    let ancestors = chain.canon.ancestors(chain.canon.head().number() + 1);
    drop(chain);
    let made = draft.execute();
    At { header: made.block.header().clone(), state: made.state, ancestors }
}
