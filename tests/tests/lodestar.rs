//! A chain that other people's programs make: Lodestar's validators finalize what ethereumjs executes, and our client
//! follows it, with the product's own contracts on it.
#![allow(clippy::unwrap_used, clippy::print_stderr, reason = "tests")]

use std::{
    path::Path,
    process::Stdio,
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use alloy::{
    network::{EthereumWallet, TransactionBuilder as _},
    primitives::{Address, B256, Bytes},
    providers::{Provider, ProviderBuilder},
    rpc::types::{TransactionReceipt, TransactionRequest},
    sol_types::SolEvent as _,
};
use posthouse_contracts::{
    abi::UpdateFactory::UpdatePublished,
    calls::{self, Publish},
    layout,
    terms::{Group, Implementations, Terms},
};
use posthouse_devchain::free_port;
use posthouse_light_client::{
    client::{self, Clock, LightClient},
    execution::{Block, Filter},
    http::Limits,
    spec::Network,
};
use posthouse_protocol::id::{Curve, FleetRoot, PackageId, ProductId, UpdateId, Version};
use posthouse_tests::{chain::funded, peers::Peer, poll::until};
use serde::Deserialize;
use serde_json::Value;
use tokio::process::Command;

/// Both programs come up in 20 s on two idle cores.
const START: Duration = Duration::from_secs(120);
/// Finality comes 64 s after genesis, and the next period's 160 s after; blocks are late on a busy machine.
const FINALITY: Duration = Duration::from_secs(420);
const PRODUCT: ProductId = ProductId::new([1; 32]);
const VERSIONS: u64 = 3;
/// Slots of a sync committee period in the minimal preset.
const PERIOD: u64 = 64;

#[derive(Deserialize)]
struct Ready {
    rpc: String,
    beacon: String,
    network: std::path::PathBuf,
    chain_id: u64,
}

#[tokio::test(flavor = "multi_thread")]
async fn the_client_follows_real_proof_of_stake_into_the_next_period_and_proves_what_was_published() {
    let folder = tempfile::tempdir().unwrap();
    let ports = [(); 5].map(|()| free_port().unwrap().port().to_string());
    let home = folder.path().join("chain").display().to_string();
    let factory = shanghai(folder.path()).await;
    let mut peer = Peer::start("lodestar.mjs", [home].iter().chain(&ports), folder.path()).unwrap();
    let ready: Ready = serde_json::from_value(peer.hear(START).await.unwrap()).unwrap();

    let (factory, hashes) = publish(&ready, &factory).await;
    let client = open(&ready, folder.path()).await;
    let first = advanced(&client, 0).await;
    let seen = client.status();
    let (slot, period) = (seen.finalized.unwrap().slot, seen.period.unwrap());
    eprintln!("first finalized update: slot {slot}, block {}", first.number);
    proves_what_was_published(&client, factory, &hashes).await;

    // The committee of the next period is one that an update of this one named.
    let later = advanced(&client, (period + 1) * PERIOD).await;
    assert_eq!(client.status().period, Some(period + 1));
    assert!(later.number > first.number);
    let walked = client.rpc().ancestor(&later, first.number).await.unwrap();
    assert_eq!(*walked, first, "one chain, by the hashes of its parents");
}

/// The factory compiled for the fork that this chain has, which is older than the one in `contracts/artifacts`.
async fn shanghai(folder: &Path) -> Bytes {
    let contracts = Path::new(env!("CARGO_MANIFEST_DIR")).join("../contracts");
    let out = folder.join("out");
    let mut command = Command::new("node");
    command.args(["tools/foundry.mjs", "forge", "build", "--skip", "test", "--evm-version", "shanghai"]);
    command.arg("--out").arg(&out).arg("--cache-path").arg(folder.join("cache")).current_dir(contracts);
    let built = command.stdin(Stdio::null()).kill_on_drop(true).output().await.unwrap();
    assert!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));
    let artifact = std::fs::read(out.join("UpdateFactory.sol/UpdateFactory.json")).unwrap();
    let artifact: Value = serde_json::from_slice(&artifact).unwrap();
    artifact["bytecode"]["object"].as_str().unwrap().parse().unwrap()
}

/// Deploys the factory and publishes some versions; returns where it is and the hashes of the publications.
async fn publish(ready: &Ready, code: &Bytes) -> (Address, Vec<B256>) {
    let wallet = EthereumWallet::from(funded(0).unwrap());
    let _already = rustls::crypto::ring::default_provider().install_default();
    let provider = ProviderBuilder::new().wallet(wallet).connect_http(ready.rpc.parse().unwrap());
    let deploy = TransactionRequest::default().with_deploy_code(code.clone());
    let factory = mined(&provider, deploy).await.contract_address.unwrap();
    let mut hashes = Vec::new();
    for version in 1..=VERSIONS {
        let receipt = mined(&provider, calls::publish(factory, &update(version)).into_request()).await;
        hashes.push(receipt.transaction_hash);
    }
    (factory, hashes)
}

async fn mined(provider: &impl Provider, request: TransactionRequest) -> TransactionReceipt {
    let request = request
        .with_gas_limit(12_000_000)
        .with_max_fee_per_gas(20_000_000_000)
        .with_max_priority_fee_per_gas(2_000_000_000);
    let sent = *provider.send_transaction(request).await.unwrap().tx_hash();
    let receipt = until("a block with the transaction", START, async || {
        Ok(provider.get_transaction_receipt(sent).await.unwrap_or_default())
    });
    let receipt = receipt.await.unwrap();
    assert!(receipt.status());
    receipt
}

fn update(version: u64) -> Publish {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    Publish {
        product: PRODUCT,
        version: Version::from(version),
        u_id: UpdateId::new([2; 32]),
        p_id: PackageId::new([3; 32]),
        root: FleetRoot::new([4; 32]),
        depth: 20,
        curve: Curve::Secp256k1,
        claim_by: now + 30 * 86_400,
        lock_secs: 7200,
        bonus_until: 0,
        bonus_bps: 0,
        groups: vec![Group { end_index: 1000, share: 1_000_000_000_000 }],
    }
}

/// A client that begins at the first block that the chain finalized after genesis, which has no bootstrap.
async fn open(ready: &Ready, folder: &Path) -> LightClient {
    let url = format!("{}/eth/v1/beacon/headers/finalized", ready.beacon);
    let checkpoint: B256 = until("the first finalized block", FINALITY, async || {
        let Ok(answer) = reqwest::get(&url).await else { return Ok(None) };
        let answer: Value = serde_json::from_slice(&answer.bytes().await?).unwrap_or_default();
        let genesis = answer["data"]["header"]["message"]["slot"] == "0";
        Ok(answer["data"]["root"].as_str().filter(|_| !genesis).and_then(|root| root.parse().ok()))
    })
    .await
    .unwrap();
    LightClient::open(client::Config {
        network: Arc::new(Network::from_yaml(&std::fs::read_to_string(&ready.network).unwrap()).unwrap()),
        checkpoint: Some(checkpoint),
        allow_stale_checkpoint: false,
        beacon: vec![ready.beacon.clone()],
        rpc: vec![ready.rpc.clone()],
        chain_id: ready.chain_id,
        store: folder.join("light-client.sqlite"),
        limits: Limits::default(),
        finality_alarm: client::Config::FINALITY_ALARM,
        clock: Clock::system(),
    })
    .unwrap()
}

/// Waits until the client has verified that a block after its checkpoint, of slot `at_least` or later, is finalized.
async fn advanced(client: &LightClient, at_least: u64) -> Block {
    let mut begun = None;
    let mut last_error = String::new();
    let waited = until(format!("finality of slot {at_least}"), FINALITY, async || {
        let block = match client.sync_once().await {
            Ok(block) => block,
            Err(error) => {
                last_error = error.to_string();
                return Ok(None);
            }
        };
        let begun = begun.get_or_insert(block.number);
        let slot = client.status().finalized.map_or(0, |seen| seen.slot);
        Ok((block.number > *begun && slot >= at_least).then_some(block))
    })
    .await;
    waited.unwrap_or_else(|error| panic!("{error}; the last error was {last_error:?}"))
}

async fn proves_what_was_published(client: &LightClient, factory: Address, hashes: &[B256]) {
    let finalized = client.finalized().unwrap();
    let vendor = funded(0).unwrap().address();
    let filter = Filter::of(factory).topic(0, UpdatePublished::SIGNATURE_HASH);
    let logs = client.rpc().logs(&finalized, &filter, 0).await.unwrap();
    let proven: Vec<B256> = logs.iter().map(|log| log.transaction_hash).collect();
    assert_eq!(proven, hashes, "each publication, in order, and nothing else");
    let last = UpdatePublished::decode_log(&logs.last().unwrap().inner).unwrap();
    assert_eq!((last.vendor, last.version), (vendor, VERSIONS));

    let slot = layout::latest_slot(vendor, &PRODUCT);
    let (_, words) = client.rpc().account(&finalized, factory, &[slot]).await.unwrap();
    let latest = layout::latest(words[0]).unwrap();
    assert_eq!(latest.version, Version::from(VERSIONS));
    assert_eq!(latest.bounty, last.bounty.into_array().into());
    let code = client.rpc().code(&finalized, last.bounty).await.unwrap();
    let terms = Terms::from_code(&code, &Implementations::of(factory)).unwrap();
    assert_eq!((terms.vendor, terms.fleet_size()), (vendor, 1000));
}
