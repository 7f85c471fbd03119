//! The chain as it is proven: the same words as an honest endpoint's, and nothing of a lying one's.

use std::sync::Arc;

use alloy::eips::eip1559::BaseFeeParams;
use alloy::primitives::{Address, B256, U256};
use posthouse_contracts::calls;
use posthouse_contracts::chain::{At, Chain as _, ChainError, LightChain, Limits, Trust};
use posthouse_contracts::receipts::{Batch, Deal};
use posthouse_devchain::Proxy;
use posthouse_devchain::beacon::{self, Beacon, Slots};
use posthouse_light_client::client::{Clock, Config};
use posthouse_light_client::spec::Network;
use posthouse_protocol::id::{Bounty, Curve};
use posthouse_protocol::secret::{KeyR, PreimageT};
use serde_json::{Value, json};

use crate::fixture::{GENESIS, LOCK, Market, PRODUCT, secret};

const PAYEE: usize = 1;
const RIVAL: usize = 2;

/// A market whose blocks a sync committee signs.
struct Proven {
    market: Market,
    beacon: Arc<Beacon>,
    folder: tempfile::TempDir,
}

impl Proven {
    async fn open(devices: u8) -> Self {
        let market = Market::open(Curve::Secp256k1, devices).await;
        let slots = beacon::Config { slots: Slots::Manual, ..Default::default() };
        let beacon = Beacon::start(&market.chain, slots).unwrap();
        Self { market, beacon: Arc::new(beacon), folder: tempfile::tempdir().unwrap() }
    }

    /// For a light client that asks these execution endpoints.
    fn config(&self, name: &str, rpc: &[&str]) -> Config {
        let beacon = self.beacon.clone();
        Config {
            network: Arc::new(Network::from_yaml(&self.beacon.network_yaml()).unwrap()),
            checkpoint: Some(self.beacon.checkpoint()),
            allow_stale_checkpoint: false,
            beacon: vec![self.beacon.url().into()],
            rpc: rpc.iter().map(|url| (*url).to_owned()).collect(),
            chain_id: self.market.chain.chain_id(),
            store: self.folder.path().join(name),
            limits: Limits::default(),
            finality_alarm: Config::FINALITY_ALARM,
            clock: Clock::new(move || beacon.time_of(beacon.slot())),
        }
    }

    /// A light client that asks these execution endpoints, synchronised.
    async fn reader(&self, name: &str, rpc: &[&str]) -> LightChain {
        let chain = LightChain::open(self.config(name, rpc), self.market.reader.factory()).unwrap();
        chain.client().sync_once().await.unwrap();
        chain
    }

    async fn honest(&self) -> LightChain {
        self.reader("honest", &[self.market.chain.url()]).await
    }

    /// A proxy before the chain that changes the result of one method.
    fn liar(&self, method: &'static str, lie: impl Fn(&mut Value) + Send + Sync + 'static) -> Proxy {
        let change = move |asked: &str, _: &Value, answer: &mut Value| {
            if asked == method {
                lie(&mut answer["result"]);
            }
        };
        Proxy::start(self.market.chain.url(), change).unwrap()
    }

    /// An account reserves devices with its own secret.
    async fn reserve(&self, account: usize, t: &PreimageT, indices: &[u32]) -> Deal {
        let deal = self.market.deal(account, t);
        let receipts = self.market.receipts(&deal, indices, 1);
        let batch = Batch::new(deal, receipts, self.market.fleet.tree()).unwrap();
        assert!(self.market.send(account, calls::reserve(batch, U256::ONE)).await.status());
        deal
    }

    async fn reveal(&self, deal: &Deal, t: &PreimageT, indices: &[u32]) {
        let reveal = calls::reveal(&self.market.bounty, &deal.payee, t, indices.to_vec());
        assert!(self.market.send(PAYEE, reveal).await.status());
    }

    async fn finalize(&self, reader: &LightChain) {
        self.market.finalize();
        reader.client().sync_once().await.unwrap();
    }
}

/// Both readers say the same of everything.
async fn agree(proven: &Proven, light: &LightChain, deal: &Deal) {
    let Market { bounty, reader: rpc, chain, .. } = &proven.market;
    let vendor = chain.accounts()[0].address();
    let all: Vec<u32> = (0..proven.market.fleet.size()).rev().collect();
    assert_eq!(light.latest(vendor, &PRODUCT).await.unwrap(), rpc.latest(vendor, &PRODUCT).await.unwrap());
    assert_eq!(light.latest(Address::ZERO, &PRODUCT).await.unwrap(), None);
    assert_eq!(light.terms(bounty).await.unwrap(), rpc.terms(bounty).await.unwrap());
    for at in [At::Latest, At::Finalized] {
        assert_eq!(light.nonce(vendor, at).await.unwrap(), rpc.nonce(vendor, at).await.unwrap());
        assert_eq!(light.balance(vendor, at).await.unwrap(), rpc.balance(vendor, at).await.unwrap());
        let (ours, theirs) = (light.claims(bounty, &all, at).await, rpc.claims(bounty, &all, at).await);
        assert_eq!(ours.unwrap(), theirs.unwrap(), "{at:?}");
        let claimed = light.claimed(bounty, &all, at).await.unwrap();
        assert_eq!(claimed, rpc.claimed(bounty, &all, at).await.unwrap());
        let held = light.reservation(bounty, &deal.s, &deal.payee, &all, at).await.unwrap();
        assert_eq!(held, rpc.reservation(bounty, &deal.s, &deal.payee, &all, at).await.unwrap());
    }
    let next = chain.head().header().next_block_base_fee(BaseFeeParams::ethereum());
    assert_eq!(Some(light.base_fee().await.unwrap()), next);
    assert_eq!(light.keys(bounty, 0, &[]).await.unwrap(), rpc.keys(bounty, 0, &[]).await.unwrap());
    let (ours, theirs) = (light.payments(bounty, 0).await.unwrap(), rpc.payments(bounty, 0).await.unwrap());
    assert_eq!(ours.list, theirs.list);
    assert_eq!(light.head(At::Latest).await.unwrap(), rpc.head(At::Latest).await.unwrap());
    // What is final is proven by a later block's state, so that it is known a little later.
    let finalized = light.head(At::Finalized).await.unwrap();
    assert_eq!(ours.to, finalized.number);
    assert!(finalized.number <= theirs.to);
    assert_eq!(finalized.hash, chain.block(finalized.number).unwrap().hash());
}

#[tokio::test]
async fn what_is_proven_is_what_an_honest_endpoint_says() {
    let proven = Proven::open(60).await;
    let light = proven.honest().await;
    proven.finalize(&light).await;
    let (t, rivals) = (secret(7), secret(9));
    let deal = proven.market.deal(PAYEE, &t);
    agree(&proven, &light, &deal).await;
    proven.reserve(PAYEE, &t, &[0, 24, 25, 59]).await;
    proven.reserve(RIVAL, &rivals, &[1, 26]).await;
    agree(&proven, &light, &deal).await;
    proven.finalize(&light).await;
    agree(&proven, &light, &deal).await;
    proven.reveal(&deal, &t, &[0, 25]).await;
    agree(&proven, &light, &deal).await;
    assert_eq!(light.payments(&proven.market.bounty, 0).await.unwrap().list, [], "not final yet");
    proven.finalize(&light).await;
    agree(&proven, &light, &deal).await;
    let payments = light.payments(&proven.market.bounty, 0).await.unwrap();
    assert_eq!(payments.list.iter().map(|one| one.index).collect::<Vec<_>>(), [0, 25]);
    let health = light.health();
    assert_eq!((health.trust, health.alarm, health.last_error), (Trust::LightClient, None, None));
    let head = light.head(At::Finalized).await.unwrap();
    assert_eq!(health.slot, proven.beacon.slot_of(head.number));
}

#[tokio::test]
async fn a_client_that_cannot_go_on_is_an_alarm_and_says_why() {
    let proven = Proven::open(5).await;
    let yaml = proven.beacon.network_yaml() + "\nGLOAS_FORK_VERSION: 0x07000000\nGLOAS_FORK_EPOCH: 256\n";
    let after = proven.beacon.time_of(256 * 32);
    let config = Config {
        network: Arc::new(Network::from_yaml(&yaml).unwrap()),
        clock: Clock::new(move || after),
        ..proven.config("ended", &[proven.market.chain.url()])
    };
    let light = LightChain::open(config, proven.market.reader.factory()).unwrap();
    assert_eq!(light.health().alarm, None);
    let why = light.run().await.to_string();
    let health = light.health();
    assert!(health.alarm.unwrap().contains(&format!("followed no more, until somebody mends this: {why}")));
    assert_eq!(health.last_error, Some(why));
}

#[tokio::test]
async fn an_ended_lock_of_another_is_found_and_a_new_one_after_it() {
    let proven = Proven::open(5).await;
    let light = proven.honest().await;
    let (bounty, rival) = (proven.market.bounty, proven.reserve(RIVAL, &secret(9), &[2]).await);
    proven.market.chain.increase_time(std::time::Duration::from_secs(u64::from(LOCK) + 1)).unwrap();
    proven.market.chain.mine();
    let lock = light.claims(&bounty, &[2], At::Latest).await.unwrap()[0].lock.unwrap();
    assert_eq!((lock.payee, lock.s), (rival.payee, rival.s));
    let deal = proven.market.deal(PAYEE, &secret(7));
    let receipts = proven.market.receipts(&deal, &[2], 2);
    let batch = Batch::new(deal, receipts, proven.market.fleet.tree()).unwrap().past([(rival.tag(), 2)]);
    assert!(proven.market.send(PAYEE, calls::reserve(batch, U256::ONE)).await.status());
    let lock = light.claims(&bounty, &[2], At::Latest).await.unwrap()[0].lock.unwrap();
    assert_eq!((lock.payee, lock.s), (deal.payee, deal.s));
}

/// Both final and revealed: devices 0 and 2, by the payee's secret.
async fn sold() -> (Proven, Deal) {
    let proven = Proven::open(5).await;
    let t = secret(7);
    let deal = proven.reserve(PAYEE, &t, &[0, 2]).await;
    proven.reveal(&deal, &t, &[0, 2]).await;
    proven.market.finalize();
    (proven, deal)
}

fn of_device(log: &Value, index: u32) -> bool {
    log["topics"][2] == json!(B256::left_padding_from(&index.to_be_bytes()))
}

#[tokio::test]
async fn a_hidden_key_is_missed_and_had_from_the_next_endpoint() {
    let (proven, deal) = sold().await;
    let bounty = proven.market.bounty;
    let hide = |logs: &mut Value| logs.as_array_mut().unwrap().retain(|log| !of_device(log, 2));
    let liar = proven.liar("eth_getLogs", hide);
    let alone = proven.reader("alone", &[liar.url()]).await;
    assert_eq!(alone.keys(&bounty, 0, &[]).await.unwrap().list.len(), 1, "nothing tells that there is more");
    assert_eq!(alone.claimed(&bounty, &[0, 1, 2], At::Finalized).await.unwrap(), [true, false, true]);
    let error = alone.keys(&bounty, 0, &[0, 2]).await.unwrap_err();
    assert!(matches!(error, ChainError::Hidden { index: 2, .. }), "{error}");

    let both = proven.reader("both", &[liar.url(), proven.market.chain.url()]).await;
    let keys = both.keys(&bounty, 0, &[0, 2]).await.unwrap();
    assert!(keys.all && keys.list.iter().any(|key| key.index == 2 && key.s == deal.s), "{keys:?}");
    let report = both.client().rpc().report();
    assert!(report[0].last_error.as_ref().unwrap().contains("hides"), "{report:?}");
    assert_eq!(report[1].last_error, None);
}

#[tokio::test]
async fn a_key_that_is_made_up_takes_the_place_of_none() {
    let (proven, deal) = sold().await;
    let bounty = proven.market.bounty;
    let made_up = KeyR::new([9; 32]);
    let (r, s) = (B256::from([9; 32]), B256::from(made_up.lock().to_bytes()));
    let replace = move |logs: &mut Value| {
        for log in logs.as_array_mut().unwrap().iter_mut().filter(|log| of_device(log, 2)) {
            log["topics"][3] = json!(s);
            let data = log["data"].as_str().unwrap();
            log["data"] = json!(format!("{r}{}", &data[66..]));
        }
    };
    let liar = proven.liar("eth_getLogs", replace);
    let both = proven.reader("both", &[liar.url(), proven.market.chain.url()]).await;
    let told = both.keys(&bounty, 0, &[]).await.unwrap().list;
    assert!(told.iter().all(|key| key.index != 2 || key.s != deal.s), "the liar is asked first: {told:?}");
    let keys = both.keys(&bounty, 0, &[0, 2]).await.unwrap();
    assert!(keys.all && keys.list.iter().any(|key| key.index == 2 && key.s == deal.s), "{keys:?}");

    // While the honest one fails the other's key is all there is, and known to be no last word.
    let silent = proven.liar("eth_getLogs", |logs| *logs = json!("busy"));
    let urls = [liar.url(), silent.url(), proven.market.chain.url()];
    let keys = proven.reader("without", &urls[..2]).await.keys(&bounty, 0, &[0, 2]).await.unwrap();
    assert!(!keys.all && keys.list.iter().all(|key| key.index != 2 || key.s != deal.s), "{keys:?}");
    let keys = proven.reader("with", &urls).await.keys(&bounty, 0, &[0, 2]).await.unwrap();
    assert!(!keys.all && keys.list.iter().any(|key| key.index == 2 && key.s == deal.s), "{keys:?}");
}

#[tokio::test]
async fn a_share_has_one_key_by_each_endpoint() {
    let (proven, _) = sold().await;
    let (r, s) = (B256::from([9; 32]), B256::from(KeyR::new([9; 32]).lock().to_bytes()));
    let crowd = move |logs: &mut Value| {
        let logs = logs.as_array_mut().unwrap();
        let mut made_up = logs.iter().find(|log| of_device(log, 2)).unwrap().clone();
        made_up["topics"][3] = json!(s);
        made_up["data"] = json!(format!("{r}{}", &made_up["data"].as_str().unwrap()[66..]));
        logs.push(made_up);
    };
    let liar = proven.liar("eth_getLogs", crowd);
    let alone = proven.reader("alone", &[liar.url()]).await;
    let error = alone.keys(&proven.market.bounty, 0, &[2]).await.unwrap_err();
    assert!(matches!(error, ChainError::WrongAnswer { reason: "two keys for one share", .. }), "{error}");
}

#[tokio::test]
async fn a_key_that_opens_nothing_is_a_lie() {
    let (proven, _) = sold().await;
    let spoil = |logs: &mut Value| {
        for log in logs.as_array_mut().unwrap() {
            log["data"] = json!(format!("0x11{}", &log["data"].as_str().unwrap()[4..]));
        }
    };
    let liar = proven.liar("eth_getLogs", spoil);
    let alone = proven.reader("alone", &[liar.url()]).await;
    let error = alone.keys(&proven.market.bounty, 0, &[]).await.unwrap_err();
    assert!(matches!(error, ChainError::WrongAnswer { .. }), "{error}");
    let both = proven.reader("both", &[liar.url(), proven.market.chain.url()]).await;
    assert_eq!(both.keys(&proven.market.bounty, 0, &[]).await.unwrap().list.len(), 2);
}

#[tokio::test]
async fn who_holds_a_device_is_not_believed() {
    let proven = Proven::open(5).await;
    let bounty = proven.market.bounty;
    let deal = proven.reserve(PAYEE, &secret(7), &[1]).await;
    let another = |logs: &mut Value| {
        for log in logs.as_array_mut().unwrap() {
            log["topics"][1] = json!(B256::left_padding_from(&[9; 20]));
        }
    };
    for (name, lie) in [("forged", Box::new(another) as Box<dyn Fn(&mut Value) + Send + Sync>), {
        ("hidden", Box::new(|logs: &mut Value| *logs = json!([])))
    }] {
        let liar = proven.liar("eth_getLogs", lie);
        let alone = proven.reader(&format!("{name} alone"), &[liar.url()]).await;
        let error = alone.claims(&bounty, &[1], At::Latest).await.unwrap_err();
        assert!(matches!(error, ChainError::Hidden { index: 1, .. }), "{name}: {error}");
        let both = proven.reader(&format!("{name} both"), &[liar.url(), proven.market.chain.url()]).await;
        let lock = both.claims(&bounty, &[1], At::Latest).await.unwrap()[0].lock.unwrap();
        assert_eq!((lock.payee, lock.s), (deal.payee, deal.s), "{name}");
    }
}

#[tokio::test]
async fn a_payment_is_neither_left_out_nor_raised() {
    let (proven, deal) = sold().await;
    let bounty = proven.market.bounty;
    let drop_logs = |receipts: &mut Value| {
        for receipt in receipts.as_array_mut().unwrap() {
            receipt["logs"] = json!([]);
        }
    };
    let raise = |receipts: &mut Value| {
        let text = receipts.to_string();
        let amount = |log: &Value| log["data"].as_str().unwrap()[66..].to_owned();
        let logs = receipts[0]["logs"].as_array().unwrap().clone();
        let more = format!("{:064x}", u128::MAX);
        let raised = logs.iter().filter(|log| log["data"].as_str().unwrap().len() == 130);
        *receipts = raised.fold(text, |text, log| text.replace(&amount(log), &more)).parse().unwrap();
    };
    for (name, lie) in [("dropped", Box::new(drop_logs) as Box<dyn Fn(&mut Value) + Send + Sync>), {
        ("raised", Box::new(raise))
    }] {
        let liar = proven.liar("eth_getBlockReceipts", lie);
        let alone = proven.reader(&format!("{name} alone"), &[liar.url()]).await;
        let error = alone.payments(&bounty, 0).await.unwrap_err();
        assert!(
            matches!(error, ChainError::Rpc(_)) && error.to_string().contains("receipts"),
            "{name}: {error}"
        );
        let both = proven.reader(&format!("{name} both"), &[liar.url(), proven.market.chain.url()]).await;
        let payments = both.payments(&bounty, 0).await.unwrap().list;
        assert_eq!(payments.len(), 2, "{name}");
        assert!(
            payments.iter().all(|one| one.payee == deal.payee && one.s == deal.s),
            "{name}: {payments:?}"
        );
        assert_eq!(payments, proven.market.reader.payments(&bounty, 0).await.unwrap().list, "{name}");
    }
}

#[tokio::test]
async fn storage_and_code_are_not_believed() {
    let (proven, deal) = sold().await;
    let bounty = proven.market.bounty;
    let vendor = proven.market.chain.accounts()[0].address();
    let storage = |proof: &mut Value| {
        for slot in proof["storageProof"].as_array_mut().unwrap() {
            slot["value"] = json!("0x0");
        }
    };
    let liar = proven.liar("eth_getProof", storage);
    let alone = proven.reader("storage", &[liar.url()]).await;
    let is_refused = |error: ChainError| assert!(matches!(error, ChainError::Rpc(_)), "{error}");
    is_refused(alone.latest(vendor, &PRODUCT).await.unwrap_err());
    is_refused(alone.claimed(&bounty, &[0], At::Latest).await.unwrap_err());
    is_refused(alone.reservation(&bounty, &deal.s, &deal.payee, &[0], At::Latest).await.unwrap_err());
    let nonce = proven.liar("eth_getProof", |proof: &mut Value| proof["nonce"] = json!("0xff"));
    let alone = proven.reader("nonce", &[nonce.url()]).await;
    is_refused(alone.nonce(vendor, At::Finalized).await.unwrap_err());

    // The terms of another bounty, whose claims last for ever.
    let code = |code: &mut Value| *code = json!(code.as_str().unwrap().replace("6b", "6c"));
    let liar = proven.liar("eth_getCode", code);
    let alone = proven.reader("code", &[liar.url()]).await;
    is_refused(alone.terms(&bounty).await.unwrap_err());
    let both = proven.reader("both", &[liar.url(), proven.market.chain.url()]).await;
    assert_eq!(both.terms(&bounty).await.unwrap(), proven.market.reader.terms(&bounty).await.unwrap());
}

#[tokio::test]
async fn what_is_no_bounty_is_named() {
    let proven = Proven::open(5).await;
    let light = proven.honest().await;
    for address in [Address::ZERO, proven.market.reader.factory()] {
        let error = light.terms(&Bounty::new(address.into_array())).await.unwrap_err();
        assert!(matches!(error, ChainError::NotABounty { .. }), "{error}");
    }
    let error = light.claims(&Bounty::new([9; 20]), &[0], At::Latest).await.unwrap_err();
    assert!(matches!(error, ChainError::Refused { .. }), "{error}");
}

#[tokio::test]
async fn no_event_is_before_the_block_to_look_from() {
    let proven = Proven::open(5).await;
    let light = proven.honest().await;
    proven.market.chain.mine_many(40).unwrap();
    let head = light.head(At::Latest).await.unwrap();
    for number in [0, 1, 17, head.number] {
        let time = proven.market.chain.block(number).unwrap().timestamp();
        assert!(light.block_since(time).await.unwrap() <= number);
    }
    assert_eq!(light.block_since(GENESIS - 1).await.unwrap(), 0);
    assert_eq!(light.block_since(head.timestamp + 1).await.unwrap(), head.number + 1);
}

#[tokio::test]
async fn the_same_final_block_is_asked_for_the_latest_version_once() {
    let proven = Proven::open(5).await;
    let honest = proven.liar("nothing", |_| {});
    let light = proven.reader("counted", &[honest.url()]).await;
    proven.finalize(&light).await;
    let vendor = proven.market.chain.accounts()[0].address();
    for _ in 0..5 {
        let latest = light.latest(vendor, &PRODUCT).await.unwrap().unwrap();
        assert_eq!(light.terms(&latest.bounty).await.unwrap().vendor, vendor);
    }
    // The factory's slot, and the bounty's account before its code.
    assert_eq!((honest.count("eth_getProof"), honest.count("eth_getCode")), (2, 1));
    proven.finalize(&light).await;
    light.latest(vendor, &PRODUCT).await.unwrap();
    assert_eq!(honest.count("eth_getProof"), 3);
}
