//! A word of a contract's storage, as one endpoint tells it:
//!
//! `trusting RPC_URL CONTRACT SLOT STORE`
//!
//! What `follow` does without a light client: it asks through alloy's provider, as programs do that believe their
//! endpoint, for all that `follow` can prove (a word, code, logs), and keeps the answer in the same kind of file. The
//! difference between the two programs is what it takes not to believe the endpoint.
#![allow(clippy::print_stdout, reason = "its output is what it is for")]

use std::error::Error;

use alloy::primitives::{Address, B256};
use alloy::providers::{Provider as _, ProviderBuilder};
use alloy::rpc::types::Filter;
use rusqlite::Connection;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [rpc, contract, slot, store] = args.as_slice() else {
        return Err("trusting RPC_URL CONTRACT SLOT STORE".into());
    };
    // reqwest asks for a TLS provider even where there is no TLS; a second installation fails, and is not needed.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let provider = ProviderBuilder::new().connect_http(rpc.parse()?);
    let (contract, slot): (Address, B256) = (contract.parse()?, slot.parse()?);
    let word = provider.get_storage_at(contract, slot.into()).finalized().await?;
    let code = provider.get_code_at(contract).finalized().await?;
    let logs = provider.get_logs(&Filter::new().address(contract)).await?;

    let store = Connection::open(store)?;
    store.execute("CREATE TABLE IF NOT EXISTS seen (word TEXT, code BLOB, logs TEXT) STRICT", [])?;
    let logs = serde_json::to_string(&logs)?;
    store.execute("INSERT INTO seen VALUES (?1, ?2, ?3)", (format!("{word:#x}"), code.to_vec(), logs))?;
    println!("{word:#x}");
    println!("{}", most_memory()?);
    Ok(())
}

/// `VmHWM: … kB`.
fn most_memory() -> std::io::Result<String> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    Ok(status.lines().find(|line| line.starts_with("VmHWM")).unwrap_or_default().to_owned())
}
