//! A word of a contract's storage, proven from a checkpoint:
//!
//! `follow NETWORK.yaml CHECKPOINT BEACON_URL RPC_URL CONTRACT SLOT STORE`
//!
//! Prints the word, then how long it took to know the newest finalized block, and the most memory it held.
//! `cargo xtask figures light-client` holds it against `trusting`, which is the same without proof.
#![allow(clippy::print_stdout, reason = "its output is what it is for")]

use std::{error::Error, sync::Arc, time::Instant};

use alloy::primitives::{Address, B256};
use posthouse_light_client::{
    client::{Clock, Config, LightClient},
    execution::Filter,
    http::Limits,
    spec::Network,
};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [network, checkpoint, beacon, rpc, contract, slot, store] = args.as_slice() else {
        return Err("follow NETWORK.yaml CHECKPOINT BEACON_URL RPC_URL CONTRACT SLOT STORE".into());
    };
    let network = Network::from_yaml(&std::fs::read_to_string(network)?)?;
    let begun = Instant::now();
    let client = LightClient::open(Config {
        chain_id: network.execution_chain_id.ok_or("the network file has no DEPOSIT_CHAIN_ID")?,
        network: Arc::new(network),
        checkpoint: Some(checkpoint.parse()?),
        allow_stale_checkpoint: false,
        beacon: vec![beacon.clone()],
        rpc: vec![rpc.clone()],
        store: store.into(),
        limits: Limits::default(),
        finality_alarm: Config::FINALITY_ALARM,
        clock: Clock::system(),
    })?;
    let finalized = client.sync_once().await?;
    let ready = begun.elapsed();
    let (contract, slot): (Address, B256) = (contract.parse()?, slot.parse()?);
    let (account, words) = client.rpc().account(&finalized, contract, &[slot]).await?;
    client.rpc().code_of(&finalized, &account).await?;
    client.rpc().logs(&finalized, &Filter::of(contract), finalized.number).await?;
    println!("{:#x}", words[0]);
    println!("ready_ms {:.1}", ready.as_secs_f64() * 1e3);
    println!("{}", most_memory()?);
    Ok(())
}

/// `VmHWM: … kB`.
fn most_memory() -> std::io::Result<String> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    Ok(status.lines().find(|line| line.starts_with("VmHWM")).unwrap_or_default().to_owned())
}
