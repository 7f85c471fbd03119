//! Helios as it comes from npm, and our client, on one chain. Told the truth they agree; where an endpoint lies in ways
//! that Helios 0.11.1 does not notice, ours says which lie it is, or is not moved by it.
//!
//! Helios knows mainnet only, so the devchain looks like it: its genesis, its forks, its slots of 12 s.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::{
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use alloy::{
    network::TransactionBuilder as _,
    primitives::{Address, B256, Bloom},
    providers::{Provider as _, ProviderBuilder},
    sol_types::SolEvent as _,
};
use posthouse_contracts::{
    abi::UpdateFactory::UpdatePublished,
    calls::{self, Publish},
    terms::Group,
};
use posthouse_devchain::{Clock as Time, Config, DevChain, Proxy, beacon, beacon::Beacon};
use posthouse_light_client::{
    client::{self, Clock, LightClient},
    execution::{Filter, Refused},
    http::Limits,
    rpc::{AnswerError, RpcError},
    spec::Network,
};
use posthouse_protocol::id::{Curve, FleetRoot, PackageId, ProductId, UpdateId, Version};
use posthouse_tests::{chain::funded, peers::Peer, poll::until};
use serde_json::{Value, json};
use tempfile::TempDir;

/// It syncs in 0.3 s on two idle cores, and asks the beacon again every 12 s.
const SYNC: Duration = Duration::from_secs(60);
/// A block shows when the committee could have signed it, a slot later; each client then asks within a slot or two.
const FOLLOW: Duration = Duration::from_secs(180);
const MAINNET: u64 = 1;
const VERSIONS: u64 = 3;

struct Scene {
    chain: DevChain,
    beacon: Beacon,
    factory: Address,
    /// The transactions that published, in order.
    published: Vec<B256>,
    folder: TempDir,
}

impl Scene {
    /// A factory that published three versions, all in the block that is the last final one: of earlier ones Helios
    /// proves nothing without the history contract (EIP-2935), which this chain has not got.
    async fn new() -> Self {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
        // The blocks are spread over the time before now by the beacon; their own timestamps only have to rise.
        let (clock, genesis_timestamp) = (Time::Manual, Some(now - 3600));
        let config = Config { chain_id: MAINNET, clock, genesis_timestamp, ..Config::default() };
        let chain = DevChain::start(config).unwrap();
        let (factory, published) = publish(&chain).await;
        chain.mine_many(2).unwrap();
        assert_eq!(chain.finalized().hash(), chain.block_of(published[0]).unwrap().0.hash());
        let beacon = Beacon::start(&chain, beacon::Config::mainnet_lookalike()).unwrap();
        Self { chain, beacon, factory, published, folder: tempfile::tempdir().unwrap() }
    }

    async fn helios(&self, execution: &str) -> Peer {
        let checkpoint = self.beacon.checkpoint().to_string();
        let args = [execution, self.beacon.url(), &checkpoint];
        let mut helios = Peer::start("helios.mjs", args, self.folder.path()).unwrap();
        assert_eq!(helios.hear(SYNC).await.unwrap(), json!({ "synced": true }));
        helios
    }

    fn ours(&self, execution: &[&str]) -> LightClient {
        LightClient::open(client::Config {
            network: Arc::new(Network::mainnet()),
            checkpoint: Some(self.beacon.checkpoint()),
            allow_stale_checkpoint: false,
            beacon: vec![self.beacon.url().to_owned()],
            rpc: execution.iter().map(|url| (*url).to_owned()).collect(),
            chain_id: MAINNET,
            store: self.folder.path().join("light-client.sqlite"),
            limits: Limits::default(),
            finality_alarm: client::Config::FINALITY_ALARM,
            clock: Clock::system(),
        })
        .unwrap()
    }

    fn filter(&self) -> Filter {
        Filter::of(self.factory).topic(0, UpdatePublished::SIGNATURE_HASH)
    }

    /// The publications in the newest finalized block as Helios tells them.
    async fn told_by(&self, helios: &mut Peer) -> Vec<Value> {
        let (number, _) = finalized_by(helios).await;
        let at = format!("{number:#x}");
        let topics = [UpdatePublished::SIGNATURE_HASH];
        let filter = json!({ "address": self.factory, "topics": topics, "fromBlock": at, "toBlock": at });
        let logs = ask(helios, "eth_getLogs", json!([filter])).await.unwrap();
        logs.as_array().unwrap().clone()
    }

    /// The transactions of the publications as our client proves them.
    async fn proven_by(&self, ours: &LightClient) -> Result<Vec<B256>, RpcError> {
        let finalized = ours.sync_once().await.unwrap();
        let logs = ours.rpc().logs(&finalized, &self.filter(), 0).await?;
        Ok(logs.iter().map(|log| log.transaction_hash).collect())
    }
}

async fn publish(chain: &DevChain) -> (Address, Vec<B256>) {
    let _already = rustls::crypto::ring::default_provider().install_default();
    let provider =
        ProviderBuilder::new().wallet(funded(0).unwrap()).connect_http(chain.url().parse().unwrap());
    let deploy = provider.send_transaction(calls::deploy_factory().into_request()).await.unwrap();
    let deployed = provider.get_transaction_receipt(*deploy.tx_hash()).await.unwrap().unwrap();
    let factory = deployed.contract_address.unwrap();
    chain.mine_many(20).unwrap();
    chain.set_automine(false);
    let mut published = Vec::new();
    for version in 1..=VERSIONS {
        let update = update(version, chain.head().timestamp());
        let request = calls::publish(factory, &update).into_request().with_gas_limit(500_000);
        published.push(*provider.send_transaction(request).await.unwrap().tx_hash());
    }
    chain.mine();
    (factory, published)
}

fn update(version: u64, now: u64) -> Publish {
    Publish {
        product: ProductId::new([1; 32]),
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

async fn ask(helios: &mut Peer, method: &str, params: Value) -> Result<Value, String> {
    let answer = helios.ask(&json!({ "method": method, "params": params }), SYNC).await;
    let answer = answer.map_err(|error| error.to_string())?;
    answer.get("result").cloned().ok_or_else(|| answer["error"].to_string())
}

async fn finalized_by(helios: &mut Peer) -> (u64, B256) {
    let block = ask(helios, "eth_getBlockByNumber", json!(["finalized", false])).await.unwrap();
    let number = block["number"].as_str().unwrap().trim_start_matches("0x");
    (u64::from_str_radix(number, 16).unwrap(), block["hash"].as_str().unwrap().parse().unwrap())
}

/// The only failure of the only endpoint that was asked.
fn only(error: RpcError) -> AnswerError {
    let RpcError::Exhausted(mut failed) = error else { panic!("{error}") };
    assert_eq!(failed.0.len(), 1, "{failed}");
    failed.0.remove(0).error
}

/// The receipts or logs among which to lie.
fn list(answer: &mut Value) -> &mut Vec<Value> {
    answer["result"].as_array_mut().expect("the chain answers this with a list")
}

#[tokio::test(flavor = "multi_thread")]
async fn both_follow_one_chain_and_agree_on_what_is_finalized() {
    let scene = Scene::new().await;
    let mut helios = scene.helios(scene.chain.url()).await;
    let ours = scene.ours(&[scene.chain.url()]);
    let begun = ours.sync_once().await.unwrap();
    assert_eq!(finalized_by(&mut helios).await, (begun.number, begun.hash));
    assert_eq!(begun.hash, scene.chain.block(begun.number).unwrap().hash());
    assert_eq!(scene.told_by(&mut helios).await.len(), scene.published.len());
    assert_eq!(scene.proven_by(&ours).await.unwrap(), scene.published);

    scene.chain.mine();
    let goal = scene.chain.finalized();
    assert_eq!(goal.number(), begun.number + 1, "one more block makes one more final");
    let goal = (goal.number(), goal.hash());
    until("our client to see it final", FOLLOW, async || {
        let block = ours.sync_once().await?;
        Ok((goal == (block.number, block.hash)).then_some(()))
    })
    .await
    .unwrap();
    until("Helios to see it final", FOLLOW, async || {
        Ok((goal == finalized_by(&mut helios).await).then_some(()))
    })
    .await
    .unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_that_an_endpoint_leaves_out_is_missed_by_helios_and_found_by_ours() {
    let scene = Scene::new().await;
    let hidden = scene.published[1].to_string();
    let hiding = Proxy::start(scene.chain.url(), move |method, _, answer| {
        if method == "eth_getLogs" {
            list(answer).retain(|log| log["transactionHash"] != hidden);
        }
    })
    .unwrap();
    let mut helios = scene.helios(hiding.url()).await;
    let told = scene.told_by(&mut helios).await;
    assert_eq!(told.len(), scene.published.len() - 1, "Helios takes the list for complete");
    assert!(!told.iter().any(|log| log["transactionHash"] == scene.published[1].to_string()));

    assert_eq!(scene.proven_by(&scene.ours(&[hiding.url()])).await.unwrap(), scene.published);
    assert_eq!(hiding.count("eth_getLogs"), 1, "only Helios asks for the list");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_block_without_its_logs_is_believed_by_helios_and_refused_by_ours() {
    let scene = Scene::new().await;
    let hiding = Proxy::start(scene.chain.url(), |method, _, answer| match method {
        "eth_getLogs" => list(answer).clear(),
        "eth_getBlockReceipts" => {
            for receipt in list(answer) {
                receipt["logs"] = json!([]);
                receipt["logsBloom"] = json!(Bloom::ZERO);
            }
        }
        _ => {}
    })
    .unwrap();
    let mut helios = scene.helios(hiding.url()).await;
    assert_eq!(scene.told_by(&mut helios).await, [] as [Value; 0], "Helios takes the empty list for true");

    let error = only(scene.proven_by(&scene.ours(&[hiding.url()])).await.unwrap_err());
    let AnswerError::Refused { method: "eth_getBlockReceipts", why } = &error else { panic!("{error}") };
    assert!(matches!(**why, Refused::ReceiptsRoot { count: 3, .. }), "{error}");
    // With an honest endpoint behind it, nothing is missing, and the status tells on the other.
    let ours = scene.ours(&[hiding.url(), scene.chain.url()]);
    assert_eq!(scene.proven_by(&ours).await.unwrap(), scene.published);
    assert_eq!(ours.status().rpc[0].last_error, Some(error.to_string()));
}

#[tokio::test(flavor = "multi_thread")]
async fn forged_places_of_a_log_are_believed_by_helios_and_worked_out_by_ours() {
    let scene = Scene::new().await;
    let (true_hash, forged) = (scene.published[0], B256::repeat_byte(0x66));
    let forging = Proxy::start(scene.chain.url(), move |_, _, answer| {
        // Wherever the transaction's hash is written, another stands; the block itself is as it was.
        let text = answer.to_string().replace(&true_hash.to_string(), &forged.to_string());
        *answer = serde_json::from_str(&text).expect("one hash in place of another leaves it JSON");
        if let Some(logs) = answer["result"].as_array_mut() {
            for log in logs.iter_mut().filter(|item| item["transactionHash"] == forged.to_string()) {
                log["transactionIndex"] = json!("0x9");
                log["logIndex"] = json!("0x63");
            }
        }
    })
    .unwrap();

    let mut helios = scene.helios(forging.url()).await;
    let told = scene.told_by(&mut helios).await;
    assert_eq!(told[0]["transactionHash"], forged.to_string(), "Helios passes on what it is told");
    assert_eq!(told[0]["logIndex"], "0x63");

    let ours = scene.ours(&[forging.url()]);
    assert_eq!(scene.proven_by(&ours).await.unwrap(), scene.published);
    let finalized = ours.finalized().unwrap();
    let logs = ours.rpc().logs(&finalized, &scene.filter(), 0).await.unwrap();
    assert_eq!((logs[0].transaction_index, logs[0].log_index), (0, 0));

    // Nor is it moved by transactions that are not the block's.
    let robbing = Proxy::start(scene.chain.url(), |method, params, answer| {
        if method == "eth_getBlockByHash" && params[1] == true {
            answer["result"]["transactions"] = json!([]);
        }
    })
    .unwrap();
    let error = only(scene.proven_by(&scene.ours(&[robbing.url()])).await.unwrap_err());
    let AnswerError::Refused { method: "eth_getBlockByHash", why } = &error else { panic!("{error}") };
    assert!(matches!(**why, Refused::TransactionsRoot { count: 0, .. }), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_transaction_that_nobody_knows_ends_helios_and_is_none_to_ours() {
    let scene = Scene::new().await;
    let unknown = B256::repeat_byte(0x77);
    let mut helios = scene.helios(scene.chain.url()).await;
    let answer = ask(&mut helios, "eth_getTransactionReceipt", json!([unknown])).await;
    assert!(answer.is_err(), "Helios panics: {answer:?}");

    let ours = scene.ours(&[scene.chain.url()]);
    let finalized = ours.sync_once().await.unwrap();
    assert_eq!(ours.rpc().receipt(&finalized, unknown).await.unwrap(), None);
    let known = ours.rpc().receipt(&finalized, scene.published[0]).await.unwrap().unwrap();
    assert_eq!((known.success, !known.logs.is_empty()), (true, true));
}
