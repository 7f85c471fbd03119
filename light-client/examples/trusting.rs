//! A word of a contract's storage, as one endpoint tells it:
//!
//! `trusting RPC_URL CONTRACT SLOT STORE`
//!
//! What `follow` does without a light client: it asks by the same HTTP, and keeps the answer in the same kind of file,
//! so that the difference between the two programs is what it takes not to believe the endpoint.
#![allow(clippy::print_stdout, reason = "its output is what it is for")]

use std::error::Error;

use rusqlite::Connection;
use serde_json::{Value, json};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [rpc, contract, slot, store] = args.as_slice() else {
        return Err("trusting RPC_URL CONTRACT SLOT STORE".into());
    };
    // reqwest asks for a TLS provider even where there is no TLS; a second installation fails, and is not needed.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let client = reqwest::Client::builder().no_proxy().build()?;
    let params = json!([contract, slot, "finalized"]);
    let call = json!({ "jsonrpc": "2.0", "id": 1, "method": "eth_getStorageAt", "params": params });
    let request = client.post(rpc).header("content-type", "application/json").body(call.to_string());
    let answer: Value = serde_json::from_slice(&request.send().await?.bytes().await?)?;
    let word = answer["result"].as_str().ok_or("no word in the answer")?;

    let store = Connection::open(store)?;
    store.execute("CREATE TABLE IF NOT EXISTS word (word TEXT NOT NULL) STRICT", [])?;
    store.execute("INSERT INTO word VALUES (?1)", [word])?;
    println!("{word}");
    println!(
        "{}",
        std::fs::read_to_string("/proc/self/status")?.lines().find(|l| l.starts_with("VmHWM")).unwrap_or("")
    );
    Ok(())
}
