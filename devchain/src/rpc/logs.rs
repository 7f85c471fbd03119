//! `eth_getLogs`.

use std::sync::Arc;

use alloy::eips::BlockNumberOrTag;
use alloy::rpc::types::{Filter, FilterBlockOption, Log};

use crate::block::Block;
use crate::node::Node;
use crate::rpc::error::RpcError;
use crate::rpc::params::Params;
use crate::rpc::{Reply, select, to_json, view};

/// Blocks that one call may search.
const MAX_RANGE: u64 = 100_000;
/// Logs in one answer.
const MAX_LOGS: usize = 10_000;

pub(super) fn get(node: &Node, mut params: Params) -> Reply {
    let filter: Filter = params.required(0, "filter")?;
    let mut found = Vec::new();
    for block in blocks(node, &filter)? {
        if filter.matches_bloom(block.header().logs_bloom) {
            collect(&filter, &block, &mut found)?;
        }
    }
    to_json(found)
}

fn collect(filter: &Filter, block: &Block, found: &mut Vec<Log>) -> Result<(), RpcError> {
    for index in 0..block.transactions().len() {
        found.extend(view::logs(block, index).filter(|log| filter.matches(&log.inner)));
        if found.len() > MAX_LOGS {
            return Err(RpcError::limit(format!("query returned more than {MAX_LOGS} results")));
        }
    }
    Ok(())
}

fn blocks(node: &Node, filter: &Filter) -> Result<Vec<Arc<Block>>, RpcError> {
    let chain = node.chain();
    let (from, to) = match filter.block_option {
        FilterBlockOption::AtBlockHash(hash) => {
            let block = chain.canon.by_hash(&hash).ok_or_else(|| RpcError::server("unknown block"))?;
            return Ok(vec![block.clone()]);
        }
        FilterBlockOption::Range { from_block, to_block } => (from_block, to_block),
    };
    let head = chain.canon.head().number();
    // What waits has no logs yet.
    let height =
        |tag: Option<BlockNumberOrTag>| select::height(&chain.canon, tag.unwrap_or_default()).unwrap_or(head);
    if let (Some(BlockNumberOrTag::Number(from)), Some(BlockNumberOrTag::Number(to))) = (from, to)
        && from > to
    {
        return Err(RpcError::invalid_params(format!("block range {from}..={to} is empty")));
    }
    // A range that begins above the head is empty: whoever follows the head asks for it.
    let (from, to) = (height(from), height(to).min(head));
    if to.saturating_sub(from) >= MAX_RANGE {
        return Err(RpcError::limit(format!("block range is longer than {MAX_RANGE}")));
    }
    Ok((from..=to).filter_map(|number| chain.canon.block(number).cloned()).collect())
}
