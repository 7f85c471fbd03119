//! JSON-RPC as bytes: what is malformed is refused by the code that says so, and nothing dies of it.

use std::io::{Read, Write};
use std::net::TcpStream;

use posthouse_devchain::DevChain;
use serde_json::{Value, json};

use crate::fixture::{PROBE, start};

/// One HTTP exchange; the server's status and body.
fn http(chain: &DevChain, method: &str, path: &str, body: &[u8]) -> (u16, String) {
    let host = chain.url().strip_prefix("http://").unwrap();
    let mut stream = TcpStream::connect(host).unwrap();
    let head = format!(
        "{method} {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    stream.write_all(head.as_bytes()).unwrap();
    // The server may have refused the body before it was all sent.
    let _ = stream.write_all(body);
    let mut reply = Vec::new();
    let _ = stream.read_to_end(&mut reply);
    let reply = String::from_utf8(reply).unwrap();
    let status = reply.split(' ').nth(1).unwrap().parse().unwrap();
    let body = reply.split_once("\r\n\r\n").unwrap().1.to_owned();
    (status, body)
}

fn post(chain: &DevChain, body: &str) -> Value {
    let (status, reply) = http(chain, "POST", "/", body.as_bytes());
    assert_eq!(status, 200, "{reply}");
    serde_json::from_str(&reply).unwrap()
}

fn call(chain: &DevChain, method: &str, params: Value) -> Value {
    post(chain, &json!({ "jsonrpc": "2.0", "id": 1, "method": method, "params": params }).to_string())
}

#[test]
fn envelopes() {
    let chain = start();
    let code = |body: &str| post(&chain, body)["error"]["code"].as_i64();
    assert_eq!(code("{"), Some(-32700));
    assert_eq!(code(""), Some(-32700));
    assert_eq!(code("\u{0}"), Some(-32700));
    assert_eq!(code(&"[".repeat(100_000)), Some(-32700));
    for body in [
        "1",
        "[]",
        "{}",
        r#"{"id":1,"method":"eth_chainId"}"#,
        r#"{"jsonrpc":"1.0","id":1,"method":"eth_chainId"}"#,
        r#"{"jsonrpc":"2.0","id":{},"method":"eth_chainId"}"#,
        r#"{"jsonrpc":"2.0","id":1,"method":7}"#,
        r#"{"jsonrpc":"2.0","id":1}"#,
    ] {
        assert_eq!(code(body), Some(-32600), "{body}");
    }
    let unknown = call(&chain, "eth_mineBitcoin", json!([]));
    assert_eq!(unknown["error"]["code"], -32601);
    assert_eq!(unknown["id"], 1);
    let named = post(&chain, r#"{"jsonrpc":"2.0","id":"x","method":"eth_chainId"}"#);
    assert_eq!(named, json!({ "jsonrpc": "2.0", "id": "x", "result": "0x7a69" }));
}

#[test]
fn batches_are_answered_in_order_and_bounded() {
    let chain = start();
    let batch = json!([
        { "jsonrpc": "2.0", "id": 1, "method": "eth_chainId" },
        7,
        { "jsonrpc": "2.0", "method": "evm_mine" },
        { "jsonrpc": "2.0", "id": 2, "method": "eth_blockNumber", "params": [] },
        { "jsonrpc": "2.0", "id": 3, "method": "nope" },
    ]);
    let replies = post(&chain, &batch.to_string());
    assert_eq!(replies.as_array().unwrap().len(), 4);
    assert_eq!(replies[0]["result"], "0x7a69");
    assert_eq!(replies[1]["error"]["code"], -32600);
    assert_eq!(replies[2]["result"], "0x1");
    assert_eq!(replies[3]["error"]["code"], -32601);
    let too_many = vec![json!({ "jsonrpc": "2.0", "id": 1, "method": "eth_chainId" }); 257];
    assert_eq!(post(&chain, &Value::from(too_many).to_string())["error"]["code"], -32005);
    let silent = json!([{ "jsonrpc": "2.0", "method": "eth_chainId" }]).to_string();
    assert_eq!(http(&chain, "POST", "/", silent.as_bytes()), (204, String::new()));
}

#[test]
fn parameters() {
    let chain = start();
    let address = "0xf39Fd6e51aad88F6F4ce6aB8827279cffFb92266";
    for (method, params) in [
        ("eth_getBalance", json!([])),
        ("eth_getBalance", json!(7)),
        ("eth_getBalance", json!(["0x12"])),
        ("eth_getBalance", json!([address, "newest"])),
        ("eth_getBalance", json!([address, "0x1ffffffffffffffff"])),
        ("eth_getStorageAt", json!([address, "0xzz", "latest"])),
        ("eth_getBlockByHash", json!(["0x00", false])),
        ("eth_getBlockByNumber", json!(["latest", "yes"])),
        ("eth_getTransactionReceipt", json!(["0x"])),
        ("eth_sendRawTransaction", json!(["02f8"])),
        ("eth_getLogs", json!([{ "fromBlock": "0x5", "toBlock": "0x1" }])),
        ("eth_getLogs", json!([{ "topics": "all" }])),
        ("eth_call", json!([{ "to": address, "data": "0x1", }, "latest"])),
        ("eth_call", json!([{ "to": address, "data": "0x01", "input": "0x02" }, "latest"])),
        ("eth_call", json!([{ "to": address }, "latest", { address: { "balance": "0x1" } }])),
        ("eth_feeHistory", json!([4, "latest", [50, 10]])),
        ("eth_feeHistory", json!([4, "latest", [101]])),
        ("evm_increaseTime", json!([-5])),
        ("evm_setAutomine", json!(["on"])),
        ("anvil_reorg", json!([0, []])),
        ("anvil_reorg", json!([1, [["0x1234", 0]]])),
        ("anvil_setBalance", json!([address])),
        ("evm_increaseTime", json!(["0xffffffffffffffff"])),
    ] {
        let reply = call(&chain, method, params.clone());
        assert_eq!(reply["error"]["code"], -32602, "{method} {params}: {reply}");
    }
    assert_eq!(call(&chain, "eth_blockNumber", Value::Null)["result"], "0x0");
}

#[test]
fn what_is_not_there_is_null_and_what_is_too_much_is_said() {
    let chain = start();
    let none = format!("0x{}", "11".repeat(32));
    for (method, params) in [
        ("eth_getBlockByNumber", json!(["0x99", true])),
        ("eth_getBlockByHash", json!([none, true])),
        ("eth_getBlockReceipts", json!(["0x99"])),
        ("eth_getTransactionByHash", json!([none])),
        ("eth_getTransactionReceipt", json!([none])),
    ] {
        let reply = call(&chain, method, params);
        assert_eq!(reply["result"], Value::Null, "{method}");
        assert!(reply.get("error").is_none());
    }
    let address = "0xf39Fd6e51aad88F6F4ce6aB8827279cffFb92266";
    assert_eq!(call(&chain, "eth_getBalance", json!([address, "0x99"]))["error"]["code"], -32000);
    let keys: Vec<_> = (0..1025).map(|key| format!("{key:#x}")).collect();
    assert_eq!(call(&chain, "eth_getProof", json!([address, keys, "latest"]))["error"]["code"], -32005);
    let empty = call(&chain, "eth_getLogs", json!([{ "fromBlock": "0x9", "toBlock": "latest" }]));
    assert_eq!(empty["result"], json!([]));
}

#[test]
fn http_bounds() {
    let chain = start();
    let (status, body) = http(&chain, "POST", "/", &vec![b' '; 3 * 1024 * 1024]);
    assert_eq!(status, 413, "{body}");
    assert_eq!(http(&chain, "GET", "/", b"").0, 405);
    assert_eq!(http(&chain, "POST", "/elsewhere", b"{}").0, 405);
    assert_eq!(call(&chain, "eth_chainId", json!([]))["result"], "0x7a69");
}

#[test]
fn a_call_that_never_ends_runs_out_of_gas() {
    let chain = start();
    // JUMPDEST PUSH0 JUMP, as code that is run on creation.
    let endless =
        call(&chain, "eth_call", json!([{ "data": "0x5b5f56", "gas": "0xffffffffffff" }, "latest"]));
    assert_eq!(endless["error"]["code"], -32003);
    assert!(endless["error"]["message"].as_str().unwrap().contains("EVM error"));
    let endless = call(&chain, "eth_estimateGas", json!([{ "data": "0x5b5f56" }]));
    assert!(endless["error"]["message"].as_str().unwrap().contains("gas required exceeds allowance"));
    let created = call(&chain, "eth_call", json!([{ "data": PROBE }]));
    assert_eq!(created["result"].as_str().unwrap().len(), 2 + 2 * 52);
}

#[test]
fn quantities_and_data_are_encoded_as_clients_expect() {
    let chain = start();
    chain.mine();
    let block = call(&chain, "eth_getBlockByNumber", json!(["latest", false]))["result"].clone();
    for (field, value) in [
        ("number", "0x1"),
        ("gasUsed", "0x0"),
        ("gasLimit", "0x1c9c380"),
        ("baseFeePerGas", "0x3b9aca00"),
        ("difficulty", "0x0"),
        ("extraData", "0x"),
        ("nonce", "0x0000000000000000"),
        ("blobGasUsed", "0x0"),
        ("excessBlobGas", "0x0"),
        ("miner", "0x0000000000000000000000000000000000000000"),
        ("requestsHash", "0xe3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"),
        ("withdrawalsRoot", "0x56e81f171bcc55a6ff8345e692c0f86e5b48e01b996cadc001622fb5e363b421"),
    ] {
        assert_eq!(block[field], value, "{field}");
    }
    assert_eq!(block["withdrawals"], json!([]));
    assert_eq!(block["transactions"], json!([]));
    assert_eq!(call(&chain, "net_version", json!([]))["result"], "31337");
    assert_eq!(call(&chain, "eth_syncing", json!([]))["result"], false);
    assert_eq!(call(&chain, "eth_accounts", json!([]))["result"].as_array().unwrap().len(), 10);
    let slot = call(&chain, "eth_getStorageAt", json!([block["miner"], "0x0"]))["result"].clone();
    assert_eq!(slot, format!("0x{}", "00".repeat(32)));
}
