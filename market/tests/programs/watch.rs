//! `watch`: delivery as anybody sees it on the chain, through claims, a reorganisation, a refund, and endpoints that lie.

use std::collections::BTreeSet;
use std::io::{BufRead as _, BufReader};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::mpsc::{Receiver, channel};

use alloy::network::EthereumWallet;
use alloy::primitives::{Address, U256};
use alloy::providers::{Provider as _, ProviderBuilder, RootProvider};
use alloy::rpc::types::{Log, TransactionReceipt};
use alloy::sol_types::SolEvent as _;
use posthouse_contracts::abi::{UpdateBounty, UpdateFactory};
use posthouse_contracts::calls::{self, Call, Publish};
use posthouse_contracts::chain::{Limits, provider};
use posthouse_contracts::fleet::{Fleet, FleetError};
use posthouse_contracts::receipts::{Batch, Deal, Receipt};
use posthouse_contracts::terms::Group;
use posthouse_devchain::{Clock, Config, DevChain, Proxy, Reorg};
use posthouse_protocol::id::{
    Attempt, Bounty, ChainId, Curve, PackageId, Payee, ProductId, UpdateId, Version,
};
use posthouse_protocol::key::SigningKey;
use posthouse_protocol::secret::{KeyR, PreimageT};
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::world::{CHAIN, PATIENCE};

const GENESIS: u64 = 1_800_000_000;
const U_ID: UpdateId = UpdateId::new([2; 32]);
/// Final is what is so deep.
const FINALITY: u64 = 6;
const GWEI: u64 = 1_000_000_000;
const PAYEE: usize = 1;

/// A bounty of 2 + 3 devices in the newest block, and no vendor's database or key.
struct Scene {
    chain: DevChain,
    factory: Address,
    bounty: Bounty,
    update: Publish,
    signers: Vec<SigningKey>,
    fleet: Fleet,
    folder: TempDir,
}

impl Scene {
    async fn open() -> Self {
        let (clock, genesis_timestamp) = (Clock::Manual, Some(GENESIS));
        let config = Config { clock, genesis_timestamp, finality_depth: FINALITY, ..Config::default() };
        let chain = DevChain::start(config).unwrap();
        let factory = send(&chain, 0, calls::deploy_factory()).await.contract_address.unwrap();
        chain.mine_many(FINALITY).unwrap();
        let key = |i: u8| SigningKey::from_bytes(Curve::Secp256k1, &[i + 1; 32]).unwrap();
        let signers: Vec<_> = (0..5).map(key).collect();
        let (folder, keys) = (tempfile::tempdir().unwrap(), signers.iter().map(|key| Ok(key.device_key())));
        let path = folder.path().join("fleet");
        let fleet: Result<_, FleetError> = Fleet::create(&path, Curve::Secp256k1, keys, &mut |_, _| {});
        let fleet = fleet.unwrap();
        let update = Publish {
            product: ProductId::new([1; 32]),
            version: Version::new(1),
            u_id: U_ID,
            p_id: PackageId::new([3; 32]),
            root: fleet.root(),
            depth: fleet.depth(),
            curve: fleet.curve(),
            claim_by: GENESIS + 86_400,
            lock_secs: 7200,
            bonus_until: GENESIS + 43_200,
            bonus_bps: 5_000,
            groups: vec![
                Group { end_index: 2, share: u128::from(2 * GWEI) },
                Group { end_index: 5, share: u128::from(GWEI) },
            ],
        };
        let published = send(&chain, 0, calls::publish(factory, &update)).await;
        let mut logs = published.logs().iter();
        let event = logs.find_map(|log| UpdateFactory::UpdatePublished::decode_log(&log.inner).ok()).unwrap();
        let bounty = event.bounty.into_array().into();
        Self { chain, factory, bounty, update, signers, fleet, folder }
    }

    /// Settings that read the chain at a URL, and name keys that there are not.
    fn settings(&self, url: &str) -> PathBuf {
        let path = self.folder.path().join("vendor.toml");
        let factory = self.factory;
        let text = format!(
            "state_dir = \"absent\"
             [product]\nvendor_id = \"{0}\"\nclass_id = \"{0}\"
             [keys]\nethereum = \"absent\"\nrelease = \"absent\"\npeer = \"absent\"
             [chain]\nid = {CHAIN}\nrpc = [\"{url}\"]\npoll_ms = 50\nfactory = \"{factory}\"
             [dsn]\nlisten = [\"/ip4/127.0.0.1/tcp/0\"]
             [publish]\nshare = \"1 gwei\"\n",
            "00".repeat(16)
        );
        std::fs::write(&path, text).unwrap();
        path
    }

    fn watch(&self, url: &str, more: &[&str]) -> Watching {
        let mut command = Command::new(env!("CARGO_BIN_EXE_posthouse-vendor"));
        command.arg("--config").arg(self.settings(url)).args(["--json", "watch", "--bounty"]);
        command.arg(format!("0x{}", self.bounty)).args(more);
        Watching::start(command)
    }

    /// One look by somebody who has no settings.
    fn look(&self, more: &[&str]) -> String {
        let mut command = Command::new(env!("CARGO_BIN_EXE_posthouse-vendor"));
        command.args(["watch", "--once", "--rpc", self.chain.url(), "--config", "/nonexistent"]);
        command.args(["--chain-id", &CHAIN.to_string(), "--factory", &self.factory.to_string()]);
        command.args(["--bounty", &format!("0x{}", self.bounty)]).args(more);
        let output = command.output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }

    fn batch(&self, t: u8, indices: &[u32]) -> (Batch, PreimageT, Payee) {
        let payee = Payee::new(self.chain.accounts()[PAYEE].address().into_array());
        let t = PreimageT::new([t; 32]);
        let s = KeyR::derive(&payee, &t).lock();
        let (chain, bounty) = (ChainId::new(CHAIN), self.bounty);
        let deal = Deal { chain, bounty, curve: Curve::Secp256k1, u_id: U_ID, payee, s };
        let receipt = |index: &u32| {
            let (key, attempt) = (&self.signers[*index as usize], Attempt::new(1));
            let signature = key.sign(&deal.digest(attempt));
            Receipt { index: *index, key: key.device_key(), attempt, signature }
        };
        let batch = Batch::new(deal, indices.iter().map(receipt).collect(), self.fleet.tree()).unwrap();
        (batch, t, payee)
    }

    async fn reserve(&self, t: u8, indices: &[u32]) {
        let (batch, ..) = self.batch(t, indices);
        assert!(send(&self.chain, PAYEE, calls::reserve(batch, U256::ONE)).await.status());
    }

    async fn reveal(&self, t: u8, indices: &[u32]) -> TransactionReceipt {
        let (_, t, payee) = self.batch(t, indices);
        let receipt =
            send(&self.chain, PAYEE, calls::reveal(&self.bounty, &payee, &t, indices.to_vec())).await;
        assert!(receipt.status());
        receipt
    }

    /// In one step, if the device is free.
    async fn try_claim(&self, t: u8, indices: &[u32]) -> TransactionReceipt {
        let (batch, t, _) = self.batch(t, indices);
        self.send_anyway(calls::publish_proofs(batch, &t, U256::ONE)).await
    }

    async fn try_reserve(&self, t: u8, indices: &[u32]) -> TransactionReceipt {
        let (batch, ..) = self.batch(t, indices);
        self.send_anyway(calls::reserve(batch, U256::ONE)).await
    }

    fn provider(&self) -> RootProvider {
        provider(&[self.chain.url().to_owned()], ChainId::new(CHAIN), Limits::default()).unwrap()
    }

    /// Whether it reverts or not, without asking before.
    async fn send_anyway(&self, call: Call) -> TransactionReceipt {
        let wallet = EthereumWallet::from(self.chain.accounts()[PAYEE].clone());
        let provider = ProviderBuilder::new().wallet(wallet).connect_provider(self.provider());
        let request = call.into_request().gas_limit(1_000_000);
        let sent = provider.send_transaction(request).await.unwrap();
        provider.get_transaction_receipt(*sent.tx_hash()).await.unwrap().unwrap()
    }

    /// In one step.
    async fn claim(&self, t: u8, indices: &[u32]) -> TransactionReceipt {
        let (batch, t, _) = self.batch(t, indices);
        let receipt = send(&self.chain, PAYEE, calls::publish_proofs(batch, &t, U256::ONE)).await;
        assert!(receipt.status());
        receipt
    }
}

async fn send(chain: &DevChain, account: usize, call: Call) -> TransactionReceipt {
    let urls = [chain.url().to_owned()];
    let inner = provider(&urls, ChainId::new(CHAIN), Limits::default()).unwrap();
    let wallet = EthereumWallet::from(chain.accounts()[account].clone());
    let provider = ProviderBuilder::new().wallet(wallet).connect_provider(inner);
    let sent = provider.send_transaction(call.into_request()).await.unwrap();
    provider.get_transaction_receipt(*sent.tx_hash()).await.unwrap().unwrap()
}

/// A `watch` that runs, and the lines that it prints.
struct Watching {
    child: Child,
    lines: Receiver<Value>,
}

impl Watching {
    fn start(mut command: Command) -> Self {
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().unwrap();
        let (sender, lines) = channel();
        let out = BufReader::new(child.stdout.take().unwrap());
        std::thread::spawn(move || {
            for line in out.lines() {
                if sender.send(serde_json::from_str(&line.unwrap()).unwrap()).is_err() {
                    return;
                }
            }
        });
        Self { child, lines }
    }

    /// The next line, and it is of this kind.
    fn next(&self, kind: &str) -> Value {
        let line = self.lines.recv_timeout(PATIENCE).unwrap();
        assert_eq!(line["event"], kind, "{line}");
        line
    }

    /// The next snapshot for which it is so; nothing but snapshots comes before it.
    fn snapshot(&self, so: impl Fn(&Value) -> bool) -> Value {
        loop {
            let snapshot = self.next("snapshot");
            if so(&snapshot) {
                return snapshot;
            }
        }
    }

    fn ends_well(mut self) {
        assert!(self.child.wait().unwrap().success());
        assert!(self.lines.recv().is_err(), "nothing more is said");
    }
}

impl Drop for Watching {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn wei(value: &Value, field: &str) -> U256 {
    value[field].as_str().unwrap().parse().unwrap()
}

/// The books balance at each step.
fn check_money(snapshot: &Value) {
    for money in [snapshot, &snapshot["final_money"]] {
        let out = wei(money, "paid_wei") + wei(money, "refunded_wei");
        assert_eq!(out + wei(money, "left_wei"), wei(snapshot, "deposit_wei"), "{snapshot}");
        let left = wei(money, "credited_wei") + wei(money, "refundable_wei");
        assert_eq!(left, wei(money, "left_wei"), "{snapshot}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn delivery_is_seen_through_claims_a_reorganisation_and_the_refund() {
    let scene = Scene::open().await;
    let deposit = scene.update.deposit();
    let watching = scene.watch(scene.chain.url(), &["--until-done"]);
    let first = watching.next("snapshot");
    assert_eq!(
        (&first["state"], &first["claimed"], &first["devices"]),
        (&json!("open"), &json!(0), &json!(5))
    );
    assert_eq!((wei(&first, "deposit_wei"), wei(&first, "refundable_wei")), (deposit, deposit));
    assert_eq!(first["refund_from"], GENESIS + 86_400 + 7200 + 1);
    // One second after its start, nearly all of the bonus is there.
    assert!((4_990..=5_000).contains(&first["bonus_bps"].as_u64().unwrap()), "{first}");

    scene.reserve(7, &[0, 2]).await;
    let reserved = watching.snapshot(|snapshot| snapshot["reserved_devices"] == 2);
    let worth = wei(&reserved, "reserved_wei");
    assert!(worth > U256::from(3 * GWEI) && worth <= U256::from(9 * GWEI / 2), "{reserved}");
    let revealed = scene.reveal(7, &[0, 2]).await;
    let mut sum = U256::ZERO;
    for index in [0, 2] {
        let claim = watching.next("claim");
        assert_eq!((&claim["index"], &claim["final"]), (&json!(index), &json!(false)));
        assert_eq!(claim["payee"], format!("{:#x}", scene.chain.accounts()[PAYEE].address()));
        assert_eq!(claim["transaction"], revealed.transaction_hash.to_string());
        assert_eq!(claim["block"], revealed.block_number.unwrap());
        sum += wei(&claim, "amount_wei");
    }
    assert_eq!(sum, worth, "what was reserved is what is paid");
    let claimed = watching.snapshot(|snapshot| snapshot["claimed"] == 2);
    assert_eq!((wei(&claimed, "paid_wei"), &claimed["reserved_devices"]), (sum, &json!(0)));
    assert_eq!(
        (&claimed["claimed_final"], wei(&claimed["final_money"], "paid_wei")),
        (&json!(0), U256::ZERO)
    );
    let groups = |snapshot: &Value, field: &str| {
        [snapshot["groups"][0][field].clone(), snapshot["groups"][1][field].clone()]
    };
    assert_eq!(groups(&claimed, "claimed_bps"), [json!(5000), json!(3333)]);

    // The three newest blocks go, with reservation and reveal.
    scene.chain.mine();
    scene.chain.reorg(Reorg { depth: 3, ..Reorg::default() }).unwrap();
    for index in [0, 2] {
        let taken = watching.next("taken_back");
        assert_eq!((&taken["of"], &taken["index"]), (&json!("claim"), &json!(index)));
    }
    let back = watching.snapshot(|snapshot| snapshot["claimed"] == 0);
    assert_eq!((wei(&back, "paid_wei"), &back["reserved_devices"]), (U256::ZERO, &json!(0)));
    assert_eq!(wei(&back, "left_wei"), deposit);

    scene.claim(8, &[1, 2, 3]).await;
    let claims: Vec<_> = (0..3).map(|_| watching.next("claim")).collect();
    let earned: U256 = claims.iter().map(|claim| wei(claim, "amount_wei")).sum();
    scene.chain.mine_many(FINALITY).unwrap();
    let settled = watching.snapshot(|snapshot| snapshot["claimed_final"] == 3);
    assert_eq!(groups(&settled, "claimed_final"), [json!(1), json!(2)]);
    assert_eq!(wei(&settled["final_money"], "paid_wei"), earned);
    assert_eq!(settled["audited_to"], settled["final"]["block"]);

    let from = settled["refund_from"].as_u64().unwrap();
    scene.chain.set_next_block_timestamp(from).unwrap();
    scene.chain.mine();
    let refundable = watching.snapshot(|snapshot| snapshot["state"] == "refundable");
    assert_eq!((wei(&refundable, "refundable_wei"), &refundable["bonus_bps"]), (deposit - earned, &json!(0)));
    assert!(send(&scene.chain, 2, calls::refund(&scene.bounty)).await.status(), "anybody may");
    assert_eq!(wei(&watching.next("refund"), "amount_wei"), deposit - earned);
    let refunded = watching.snapshot(|snapshot| snapshot["state"] == "refunded");
    assert_eq!((wei(&refunded, "left_wei"), wei(&refunded, "paid_wei")), (U256::ZERO, earned));
    for snapshot in [&first, &reserved, &claimed, &back, &settled, &refundable, &refunded] {
        check_money(snapshot);
    }
    scene.chain.mine_many(FINALITY).unwrap();
    let last =
        watching.snapshot(|snapshot| wei(&snapshot["final_money"], "refunded_wei") == deposit - earned);
    watching.ends_well();

    // From nothing, by somebody who has no settings, it is the same.
    let looked: Value = serde_json::from_str(&scene.look(&["--json"])).unwrap();
    assert_eq!(looked, last);
    let history = scene.look(&["--json", "--history"]);
    let history: Vec<Value> = history.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let kinds: Vec<_> = history.iter().map(|line| line["event"].as_str().unwrap()).collect();
    assert_eq!(kinds, ["claim", "claim", "claim", "refund", "snapshot"]);
    assert!(history[..4].iter().all(|line| line["final"] == true));
    let text = scene.look(&["--until-done"]);
    for line in [
        "refunded",
        "  2..5                0.000000001 ether   2 of 3 66.66%             2",
        "  all                                     3 of 5 60.00%             3",
        "refund      from 2027-01-16T10:00:01Z (",
    ] {
        assert!(text.contains(line), "{line}: {text}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn endpoints_that_fail_or_hide_are_reported_and_asked_again() {
    const HONEST: u8 = 0;
    const SILENT: u8 = 1;
    const HIDING: u8 = 2;
    const NARROW: u8 = 3;
    const LAGGING: u8 = 4;
    let scene = Scene::open().await;
    scene.chain.mine_many(FINALITY).unwrap();
    let mood = Arc::new(AtomicU8::new(LAGGING));
    let felt = mood.clone();
    let proxy = Proxy::start(scene.chain.url(), move |method, params, answer| {
        let number = |field: &str| {
            let text = params[0][field].as_str().unwrap_or("0x0").trim_start_matches("0x");
            u64::from_str_radix(text, 16).unwrap_or(0)
        };
        let refuse = json!({ "code": -32000, "message": "out of\u{1b}[2J order" });
        match (felt.load(Ordering::SeqCst), method) {
            (SILENT, "eth_getBlockByNumber" | "eth_getCode") => {
                *answer = json!({ "jsonrpc": "2.0", "id": answer["id"], "error": refuse });
            }
            (LAGGING, "eth_getCode") => answer["result"] = json!("0x"),
            (HIDING, "eth_getLogs") => answer["result"] = json!([]),
            (NARROW, "eth_getLogs") if number("toBlock") > number("fromBlock") + 1 => {
                *answer = json!({ "jsonrpc": "2.0", "id": answer["id"], "error": refuse });
            }
            _ => {}
        }
    })
    .unwrap();
    let set = |to: u8| mood.store(to, Ordering::SeqCst);

    let watching = scene.watch(proxy.url(), &["--until-done"]);
    // Where the bounty is not yet, it may come.
    let error = watching.next("error");
    assert!(error["why"].as_str().unwrap().contains("no code"), "{error}");
    set(SILENT);
    let error = watching.next("error");
    let why = error["why"].as_str().unwrap();
    assert!(why.contains("out of") && !why.contains('\u{1b}'), "{why:?}");
    set(HONEST);
    watching.next("reachable");
    assert_eq!(watching.next("snapshot")["claimed"], 0);

    // Claims that are kept back are missed by the money, as soon as they are final.
    set(HIDING);
    scene.claim(7, &[0, 1]).await;
    scene.chain.mine_many(FINALITY).unwrap();
    let error = watching.next("error");
    assert!(error["why"].as_str().unwrap().contains("hides events"), "{error}");
    set(HONEST);
    // What it says next is that the endpoint answers, in whichever order with what was hidden.
    let mut said: Vec<_> = (0..4).map(|_| watching.lines.recv_timeout(PATIENCE).unwrap()).collect();
    said.retain(|line| line["event"] != "error");
    while !said.iter().any(|line| line["event"] == "snapshot" && line["claimed_final"] == 2) {
        said.push(watching.lines.recv_timeout(PATIENCE).unwrap());
    }
    let claims: Vec<_> = said.iter().filter(|line| line["event"] == "claim").collect();
    assert_eq!(claims.iter().map(|claim| claim["index"].clone()).collect::<Vec<_>>(), [json!(0), json!(1)]);
    assert!(claims.iter().all(|claim| claim["final"] == true));

    // An endpoint that takes two blocks at a time is asked for two.
    set(NARROW);
    scene.claim(8, &[2, 3, 4]).await;
    scene.chain.mine_many(FINALITY + 3).unwrap();
    for index in [2, 3, 4] {
        assert_eq!(watching.next_claim()["index"], index);
    }
    let last = watching.snapshot(|snapshot| snapshot["claimed_final"] == 5);
    assert_eq!(last["state"], "complete");
    watching.ends_well();

    let foreign = format!("{:#x}", scene.factory);
    let mut command = Command::new(env!("CARGO_BIN_EXE_posthouse-vendor"));
    command.arg("--config").arg(scene.settings(scene.chain.url())).args(["watch", "--bounty", &foreign]);
    let output = command.output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8(output.stderr).unwrap().contains("not that of a clone"));
    let mut command = Command::new(env!("CARGO_BIN_EXE_posthouse-vendor"));
    command.arg("--config").arg(scene.settings(scene.chain.url())).args(["watch", "--once"]);
    let output = command.output().unwrap();
    assert!(String::from_utf8(output.stderr).unwrap().contains("nothing was published from here"));
    assert!(!scene.folder.path().join("absent").exists(), "nothing is made");
}

/// A device's claim as the events tell it of another device.
fn made_up(log: &Log, index: u32) -> Log {
    let mut event = UpdateBounty::KeyRevealed::decode_log(&log.inner).unwrap().data;
    event.index = index;
    event.amount *= U256::from(if index < 2 { 2 } else { 1 });
    let (mut log, place) = (log.clone(), log.log_index.unwrap());
    log.inner.data = event.encode_log_data();
    log.log_index = Some(place + 1 + u64::from(index));
    log
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn made_up_claims_and_money_from_nowhere_are_no_delivery() {
    let scene = Scene::open().await;
    let lies = Arc::new(AtomicU8::new(1));
    let told = lies.clone();
    let proxy = Proxy::start(scene.chain.url(), move |method, _, answer| {
        if method != "eth_getLogs" || told.load(Ordering::SeqCst) == 0 || answer["result"].is_null() {
            return;
        }
        let mut logs: Vec<Log> = serde_json::from_value(answer["result"].take()).unwrap();
        if let Some(log) = logs.first().cloned() {
            logs.extend([0, 1, 3, 4].map(|index| made_up(&log, index)));
        }
        answer["result"] = serde_json::to_value(logs).unwrap();
    });
    let proxy = proxy.unwrap();
    scene.claim(7, &[2]).await;
    scene.chain.mine_many(FINALITY).unwrap();
    let watching = scene.watch(proxy.url(), &["--until-done"]);
    let error = watching.next("error");
    assert!(error["why"].as_str().unwrap().contains("makes up claims"), "{error}");
    lies.store(0, Ordering::SeqCst);
    watching.next("reachable");
    let honest = watching.next("snapshot");
    assert_eq!((&honest["claimed"], &honest["claimed_final"]), (&json!(1), &json!(1)));
    assert_eq!(wei(&honest, "surplus_wei"), U256::ZERO);

    // All is claimed, and there is money that no event accounts for, as anybody can force on it: it is shown, and delivery is done.
    let account = Address::from(scene.bounty.to_bytes());
    scene.chain.set_balance(account, scene.chain.balance(account) + U256::from(5));
    scene.claim(8, &[0, 1, 3, 4]).await;
    scene.chain.mine_many(FINALITY + 1).unwrap();
    for index in [0, 1, 3, 4] {
        assert_eq!(watching.next_claim()["index"], index);
    }
    let all =
        |snapshot: &Value| snapshot["claimed_final"] == 5 && wei(snapshot, "surplus_wei") == U256::from(5);
    assert_eq!(watching.snapshot(all)["state"], "complete");
    watching.ends_well();
    assert!(scene.look(&[]).contains("surplus     0.000000000000000005 ether that no event accounts for"));

    // The refund takes it, too, with what the bonus left: nothing is there any more.
    let rest = scene.chain.balance(account);
    scene.chain.set_next_block_timestamp(GENESIS + 86_400 + 7200 + 1).unwrap();
    scene.chain.mine();
    assert!(send(&scene.chain, 2, calls::refund(&scene.bounty)).await.status());
    scene.chain.mine_many(FINALITY).unwrap();
    let refunded: Value = serde_json::from_str(&scene.look(&["--json"])).unwrap();
    let money = &refunded["final_money"];
    assert_eq!((wei(money, "refunded_wei"), wei(money, "left_wei")), (rest, U256::ZERO));
}

/// Claims, reservations, blocks and reorganisations in any order, while it looks whenever it looks: what it said, less what it
/// took back, is what the chain has in the end, and so says a look from nothing.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_the_chain_does_the_end_is_right() {
    for seed in 0..4 {
        let mut random = StdRng::seed_from_u64(seed);
        let scene = Scene::open().await;
        scene.chain.mine_many(FINALITY).unwrap();
        let watching = scene.watch(scene.chain.url(), &[]);
        watching.next("snapshot");
        for step in 0..30u8 {
            match random.random_range(0..4) {
                0 => drop(scene.try_claim(step + 1, &[random.random_range(0..4)]).await),
                1 => drop(scene.try_reserve(step + 1, &[random.random_range(0..4)]).await),
                2 => drop(scene.chain.mine_many(random.random_range(1..4)).unwrap()),
                _ => {
                    let (depth, resubmit) = (random.random_range(1..FINALITY), random.random());
                    scene.chain.reorg(Reorg { depth, resubmit, ..Reorg::default() }).unwrap();
                    scene.chain.mine();
                }
            }
        }
        // The last device is the mark of the end.
        scene.claim(99, &[4]).await;
        scene.chain.mine_many(FINALITY).unwrap();
        let (mut said, mut last) = (BTreeSet::new(), Value::Null);
        while !said.contains(&4) || last["claimed_final"].as_u64() != Some(said.len() as u64) {
            let line = watching.lines.recv_timeout(PATIENCE).unwrap();
            let index = line["index"].as_u64().unwrap_or_default();
            match line["event"].as_str().unwrap() {
                "claim" => assert!(said.insert(index), "{line}"),
                "taken_back" => assert!(said.remove(&index), "{line}"),
                "snapshot" => last = line,
                other => panic!("{other}: {line}"),
            }
        }
        let contract = UpdateBounty::new(Address::from(scene.bounty.to_bytes()), scene.provider());
        for index in 0..5 {
            let claimed = contract.isClaimed(index).call().await.unwrap();
            assert_eq!(claimed, said.contains(&u64::from(index)), "seed {seed}, device {index}");
        }
        assert_eq!(wei(&last, "left_wei"), scene.chain.balance(Address::from(scene.bounty.to_bytes())));
        check_money(&last);
        let looked: Value = serde_json::from_str(&scene.look(&["--json"])).unwrap();
        let timeless = |snapshot: &Value| {
            let mut snapshot = snapshot.clone();
            for passing in ["head", "final", "audited_to", "bonus_bps"] {
                snapshot[passing].take();
            }
            snapshot
        };
        assert_eq!(timeless(&looked), timeless(&last), "seed {seed}");
    }
}

impl Watching {
    /// The next claim; snapshots may come before it.
    fn next_claim(&self) -> Value {
        loop {
            let line = self.lines.recv_timeout(PATIENCE).unwrap();
            match line["event"].as_str().unwrap() {
                "claim" => return line,
                "snapshot" => {}
                other => panic!("{other}: {line}"),
            }
        }
    }
}
