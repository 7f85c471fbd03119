//! JSON-RPC 2.0: envelopes, batches, and which method is which.

mod account;
mod block;
mod call;
mod control;
mod error;
mod fee;
mod logs;
mod params;
mod select;
pub(crate) mod server;
mod transaction;
mod view;

use serde::Serialize;
use serde_json::{Map, Value, json};

use crate::node::Node;
use error::RpcError;
use params::Params;

/// Calls in one batch.
const MAX_BATCH: usize = 256;

type Reply = Result<Value, RpcError>;

/// Answers a request or a batch; `None` if all of it were notifications.
pub(crate) fn answer(node: &Node, body: &[u8]) -> Option<String> {
    let reply = match serde_json::from_slice(body) {
        Err(error) => Some(response(Value::Null, Err(RpcError::parse(error)))),
        Ok(Value::Array(calls)) => batch(node, calls),
        Ok(call) => single(node, call),
    };
    reply.map(|reply| reply.to_string())
}

/// An answer to a request that could not be read.
pub(crate) fn failure(error: RpcError) -> String {
    response(Value::Null, Err(error)).to_string()
}

fn batch(node: &Node, calls: Vec<Value>) -> Option<Value> {
    if calls.is_empty() {
        return Some(response(Value::Null, Err(RpcError::invalid_request("empty batch"))));
    }
    if calls.len() > MAX_BATCH {
        let refusal = RpcError::limit(format!("batch of {} calls, limit {MAX_BATCH}", calls.len()));
        return Some(response(Value::Null, Err(refusal)));
    }
    let replies: Vec<_> = calls.into_iter().filter_map(|call| single(node, call)).collect();
    (!replies.is_empty()).then_some(Value::Array(replies))
}

fn single(node: &Node, call: Value) -> Option<Value> {
    let Value::Object(mut call) = call else {
        return Some(response(Value::Null, Err(RpcError::invalid_request("not a request object"))));
    };
    let id = call.remove("id");
    let reply = check(&id, &mut call).and_then(|(method, params)| dispatch(node, &method, params));
    match id {
        Some(id @ (Value::Null | Value::String(_) | Value::Number(_))) => Some(response(id, reply)),
        Some(_) => Some(response(Value::Null, reply)),
        // A notification is not answered, unless it was no request at all.
        None => {
            reply.err().filter(RpcError::is_invalid_request).map(|error| response(Value::Null, Err(error)))
        }
    }
}

fn check(id: &Option<Value>, call: &mut Map<String, Value>) -> Result<(String, Params), RpcError> {
    if call.get("jsonrpc").and_then(Value::as_str) != Some("2.0") {
        return Err(RpcError::invalid_request("jsonrpc is not \"2.0\""));
    }
    if matches!(id, Some(Value::Bool(_) | Value::Array(_) | Value::Object(_))) {
        return Err(RpcError::invalid_request("id is not a string or a number"));
    }
    let Some(Value::String(method)) = call.remove("method") else {
        return Err(RpcError::invalid_request("method is not a string"));
    };
    Ok((method, Params::new(call.remove("params"))?))
}

fn response(id: Value, reply: Reply) -> Value {
    match reply {
        Ok(result) => json!({ "jsonrpc": "2.0", "id": id, "result": result }),
        Err(error) => json!({ "jsonrpc": "2.0", "id": id, "error": error }),
    }
}

fn to_json(answer: impl Serialize) -> Reply {
    serde_json::to_value(answer).map_err(|error| RpcError::internal(error.to_string()))
}

fn dispatch(node: &Node, method: &str, params: Params) -> Reply {
    match method {
        "web3_clientVersion" => to_json(concat!("posthouse-devchain/", env!("CARGO_PKG_VERSION"))),
        "net_version" => to_json(node.config.chain_id.to_string()),
        "net_listening" => to_json(true),
        "eth_chainId" => to_json(alloy::primitives::U64::from(node.config.chain_id)),
        "eth_syncing" => to_json(false),
        "eth_accounts" => account::accounts(node),

        "eth_blockNumber" => block::number(node),
        "eth_getBlockByNumber" => block::by_number(node, params),
        "eth_getBlockByHash" => block::by_hash(node, params),
        "eth_getBlockReceipts" => block::receipts(node, params),
        "eth_getBlockTransactionCountByNumber" | "eth_getBlockTransactionCountByHash" => {
            block::transaction_count(node, params)
        }
        "eth_getTransactionByHash" => transaction::by_hash(node, params),
        "eth_getTransactionReceipt" => transaction::receipt(node, params),
        "eth_sendRawTransaction" => transaction::send_raw(node, params),
        "eth_getLogs" => logs::get(node, params),

        "eth_getBalance" => account::balance(node, params),
        "eth_getCode" => account::code(node, params),
        "eth_getStorageAt" => account::storage(node, params),
        "eth_getTransactionCount" => account::nonce(node, params),
        "eth_getProof" => account::proof(node, params),

        "eth_call" => call::call(node, params),
        "eth_estimateGas" => call::estimate(node, params),

        "eth_gasPrice" => fee::gas_price(node),
        "eth_maxPriorityFeePerGas" => fee::priority_fee(),
        "eth_feeHistory" => fee::history(node, params),

        "evm_mine" => control::mine(node, params),
        "anvil_mine" | "hardhat_mine" => control::mine_many(node, params),
        "evm_increaseTime" | "anvil_increaseTime" => control::increase_time(node, params),
        "evm_setNextBlockTimestamp" | "anvil_setNextBlockTimestamp" => {
            control::set_next_block_timestamp(node, params)
        }
        "evm_setAutomine" | "anvil_setAutomine" => control::set_automine(node, params),
        "anvil_getAutomine" => to_json(node.chain().automine),
        "evm_setIntervalMining" | "anvil_setIntervalMining" => control::set_interval(node, params),
        "anvil_setBalance" | "hardhat_setBalance" => control::set_balance(node, params),
        "anvil_setCode" | "hardhat_setCode" => control::set_code(node, params),
        "anvil_reorg" => control::reorg(node, params),
        "evm_snapshot" | "anvil_snapshot" => control::snapshot(node),
        "evm_revert" | "anvil_revert" => control::revert(node, params),

        _ => Err(RpcError::method_not_found(method)),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::config::{Clock, Config};

    /// Every method that is dispatched, read from the text above, so that none is forgotten.
    fn methods() -> Vec<&'static str> {
        let source = include_str!("rpc.rs").split("mod tests").next().unwrap_or_default();
        let quoted = source.split('"').skip(1).step_by(2);
        quoted
            .filter(|text| ["eth_", "evm_", "anvil_", "net_"].iter().any(|area| text.starts_with(area)))
            .collect()
    }

    fn value() -> impl Strategy<Value = Value> {
        let address = "0xf39Fd6e51aad88F6F4ce6aB8827279cffFb92266";
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            (0u64..5).prop_map(Value::from),
            any::<u64>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            any::<f64>().prop_map(Value::from),
            any::<u64>().prop_map(|number| format!("{number:#x}").into()),
            prop::sample::select(vec!["latest", "pending", "finalized", "earliest", "0x", address])
                .prop_map(Value::from),
            prop::collection::vec(any::<u8>(), 0..80)
                .prop_map(|bytes| alloy::hex::encode_prefixed(bytes).into()),
            ".{0,8}".prop_map(Value::from),
        ];
        let key = prop::sample::select(vec![
            "to",
            "from",
            "data",
            "gas",
            "gasPrice",
            "value",
            "nonce",
            "fromBlock",
            "toBlock",
            "topics",
            "address",
            "blockHash",
            "depth",
            "timestamp",
            "blocks",
            "maxFeePerGas",
        ]);
        leaf.prop_recursive(3, 16, 4, move |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                prop::collection::vec((key.clone(), inner), 0..4).prop_map(|entries| entries
                    .into_iter()
                    .map(|(key, value)| (key.to_owned(), value))
                    .collect()),
            ]
        })
    }

    #[test]
    fn the_methods_are_found() {
        assert!(methods().len() > 40, "{:?}", methods());
    }

    proptest! {
        #[test]
        fn any_parameters_get_an_answer(
            calls in prop::collection::vec(
                (prop::sample::select(methods()), prop::collection::vec(value(), 0..4)), 1..20
            )
        ) {
            let config = Config { clock: Clock::Manual, genesis_timestamp: Some(1), ..Config::default() };
            let node = Node::new(config);
            for (method, params) in calls {
                let call = json!({ "jsonrpc": "2.0", "id": 7, "method": method, "params": params });
                let reply: Value = serde_json::from_str(&answer(&node, call.to_string().as_bytes()).unwrap()).unwrap();
                prop_assert_eq!(&reply["id"], 7);
                prop_assert!(reply.get("result").is_some() != reply.get("error").is_some());
                prop_assert_ne!(&reply["error"]["code"], -32603);
                prop_assert_ne!(&reply["error"]["code"], -32601);
            }
        }

        #[test]
        fn any_bytes_get_an_answer_or_are_notifications(body in prop::collection::vec(any::<u8>(), 0..64)) {
            let node = Node::new(Config::default());
            if let Some(reply) = answer(&node, &body) {
                prop_assert!(serde_json::from_str::<Value>(&reply).is_ok());
            }
        }
    }
}
