//! `eth_sendRawTransaction` and what became of it.

use alloy::primitives::{Bytes, TxHash};

use crate::admission;
use crate::node::Node;
use crate::rpc::params::Params;
use crate::rpc::{Reply, to_json, view};

pub(super) fn send_raw(node: &Node, mut params: Params) -> Reply {
    let raw: Bytes = params.required(0, "signed transaction")?;
    let tx = admission::decode(&raw)?;
    to_json(node.change(|chain| chain.submit(tx))?)
}

pub(super) fn by_hash(node: &Node, mut params: Params) -> Reply {
    let hash: TxHash = params.required(0, "transaction hash")?;
    let chain = node.chain();
    let found = match chain.canon.transaction(&hash) {
        Some((block, index)) => view::transaction(block, index),
        None => chain.pool.get(&hash).map(|tx| view::waiting(tx)),
    };
    to_json(found)
}

pub(super) fn receipt(node: &Node, mut params: Params) -> Reply {
    let hash: TxHash = params.required(0, "transaction hash")?;
    let chain = node.chain();
    to_json(chain.canon.transaction(&hash).and_then(|(block, index)| view::receipt(block, index)))
}
