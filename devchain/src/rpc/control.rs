//! The methods by which anvil and hardhat let tests move a chain.

use std::time::Duration;

use alloy::consensus::TxEnvelope;
use alloy::eips::eip2718::Decodable2718;
use alloy::primitives::{Address, Bytes, U64, U256};
use serde::Deserialize;
use serde_json::Value;

use crate::node::Node;
use crate::reorg::Reorg;
use crate::rpc::error::RpcError;
use crate::rpc::params::Params;
use crate::rpc::{Reply, to_json};

/// `evm_mine`'s parameter: a timestamp, or this.
#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct MineOptions {
    timestamp: Option<U64>,
    blocks: Option<U64>,
}

/// `anvil_reorg`'s parameters by name.
#[derive(Deserialize)]
struct ReorgOptions {
    depth: U64,
    #[serde(default, alias = "txBlockPairs")]
    tx_block_pairs: Vec<(Bytes, U64)>,
}

pub(super) fn mine(node: &Node, mut params: Params) -> Reply {
    let options = match params.optional(0, "options")? {
        None => MineOptions::default(),
        Some(object @ Value::Object(_)) => {
            serde_json::from_value(object).map_err(RpcError::invalid_params)?
        }
        Some(timestamp) => MineOptions {
            timestamp: Some(serde_json::from_value(timestamp).map_err(RpcError::invalid_params)?),
            blocks: None,
        },
    };
    node.change(|chain| {
        if let Some(timestamp) = options.timestamp {
            let latest = chain.canon.head().timestamp();
            chain.time.set_next(timestamp.to(), latest).map_err(crate::Error::from)?;
        }
        chain.mine_many(options.blocks.map_or(1, |blocks| blocks.to()), None)
    })?;
    to_json("0x0")
}

pub(super) fn mine_many(node: &Node, mut params: Params) -> Reply {
    let blocks: Option<U64> = params.optional(0, "blocks")?;
    let interval: Option<U64> = params.optional(1, "interval in seconds")?;
    let count = blocks.map_or(1, |blocks| blocks.to());
    node.change(|chain| chain.mine_many(count, interval.map(|interval| interval.to())))?;
    to_json(Value::Null)
}

pub(super) fn increase_time(node: &Node, mut params: Params) -> Reply {
    let seconds: U64 = params.required(0, "seconds")?;
    let mut chain = node.chain();
    let latest = chain.canon.head().timestamp();
    to_json(chain.time.increase(seconds.to(), latest).map_err(crate::Error::from)?)
}

pub(super) fn set_next_block_timestamp(node: &Node, mut params: Params) -> Reply {
    let timestamp: U64 = params.required(0, "timestamp")?;
    let mut chain = node.chain();
    let latest = chain.canon.head().timestamp();
    to_json(chain.time.set_next(timestamp.to(), latest).map_err(crate::Error::from)?)
}

pub(super) fn set_automine(node: &Node, mut params: Params) -> Reply {
    let on: bool = params.required(0, "enabled")?;
    if on {
        node.set_interval(None);
    }
    node.change(|chain| chain.set_automine(on));
    to_json(Value::Null)
}

pub(super) fn set_interval(node: &Node, mut params: Params) -> Reply {
    let seconds: U64 = params.required(0, "seconds")?;
    let seconds: u64 = seconds.to();
    // As anvil has it: one or the other.
    if seconds > 0 {
        node.change(|chain| chain.set_automine(false));
    }
    node.set_interval((seconds > 0).then(|| Duration::from_secs(seconds)));
    to_json(Value::Null)
}

pub(super) fn set_balance(node: &Node, mut params: Params) -> Reply {
    let address: Address = params.required(0, "address")?;
    let balance: U256 = params.required(1, "balance")?;
    node.change(|chain| chain.set_balance(address, balance));
    to_json(Value::Null)
}

pub(super) fn set_code(node: &Node, mut params: Params) -> Reply {
    let address: Address = params.required(0, "address")?;
    let code: Bytes = params.required(1, "code")?;
    node.change(|chain| chain.set_code(address, code));
    to_json(Value::Null)
}

pub(super) fn reorg(node: &Node, mut params: Params) -> Reply {
    let options = match params.required(0, "depth")? {
        object @ Value::Object(_) => serde_json::from_value(object).map_err(RpcError::invalid_params)?,
        depth => ReorgOptions {
            depth: serde_json::from_value(depth).map_err(RpcError::invalid_params)?,
            tx_block_pairs: params.optional(1, "transactions and block offsets")?.unwrap_or_default(),
        },
    };
    let transactions = options.tx_block_pairs.iter().map(|(raw, offset)| {
        let tx = TxEnvelope::decode_2718_exact(raw).map_err(RpcError::invalid_params)?;
        Ok((tx, offset.to()))
    });
    let transactions = transactions.collect::<Result<_, RpcError>>()?;
    let reorg = Reorg { depth: options.depth.to(), transactions, resubmit: false };
    node.change(|chain| chain.reorg(reorg)).map_err(crate::Error::from)?;
    to_json(Value::Null)
}

pub(super) fn snapshot(node: &Node) -> Reply {
    to_json(U64::from(node.chain().snapshot()))
}

pub(super) fn revert(node: &Node, mut params: Params) -> Reply {
    let id: U64 = params.required(0, "snapshot")?;
    to_json(node.change(|chain| chain.revert(id.to())).is_ok())
}
