//! `eth_blockNumber`, `eth_getBlockBy*`, `eth_getBlockReceipts`.

use alloy::eips::{BlockId, BlockNumberOrTag};
use alloy::primitives::{B256, U64};

use crate::node::Node;
use crate::rpc::params::Params;
use crate::rpc::{Reply, select, to_json, view};

pub(super) fn number(node: &Node) -> Reply {
    to_json(U64::from(node.chain().canon.head().number()))
}

pub(super) fn by_number(node: &Node, mut params: Params) -> Reply {
    let tag: BlockNumberOrTag = params.required(0, "block")?;
    let full = params.optional(1, "full transactions")?.unwrap_or(false);
    block(node, tag.into(), full)
}

pub(super) fn by_hash(node: &Node, mut params: Params) -> Reply {
    let hash: B256 = params.required(0, "block hash")?;
    let full = params.optional(1, "full transactions")?.unwrap_or(false);
    block(node, hash.into(), full)
}

fn block(node: &Node, id: BlockId, full: bool) -> Reply {
    let block = select::block(node, id);
    to_json(block.map(|block| view::block(&block, full)))
}

pub(super) fn receipts(node: &Node, mut params: Params) -> Reply {
    let id: BlockId = params.required(0, "block")?;
    let block = select::block(node, id);
    to_json(block.map(|block| view::receipts(&block)))
}

pub(super) fn transaction_count(node: &Node, mut params: Params) -> Reply {
    let id: BlockId = params.required(0, "block")?;
    let block = select::block(node, id);
    to_json(block.map(|block| U64::from(block.transactions().len())))
}
