//! The gas that a distributor's transactions ask for is enough, on the contracts themselves, and not far above need.

use std::collections::BTreeSet;
use std::time::Duration;

use alloy::network::TransactionBuilder as _;
use alloy::primitives::{B256, U256};
use alloy::rpc::types::TransactionReceipt;
use alloy::sol_types::SolEvent;
use posthouse_contracts::abi::UpdateFactory;
use posthouse_contracts::calls::{self, Call, Publish};
use posthouse_contracts::fleet::{Tree, leaf};
use posthouse_contracts::receipts::{Batch, Deal, Receipt, tag};
use posthouse_contracts::terms::Group;
use posthouse_devchain::{Clock, Config, DevChain};
use posthouse_protocol::distributor::Gas;
use posthouse_protocol::id::{Attempt, Bounty, ChainId, Curve, PackageId, Payee, Version};
use posthouse_protocol::key::SigningKey;
use posthouse_protocol::secret::{KeyR, PreimageT};

use crate::fixture::{GENESIS, LOCK, PRODUCT, U_ID, secret, send, send_request};

const PAYEE: usize = 1;
/// EIP-7825.
const CAP: u64 = 16_777_216;
const MILLION: u32 = 1_000_000;

fn key(curve: Curve, index: u32) -> SigningKey {
    let mut scalar = [0; 32];
    scalar[28..].copy_from_slice(&(index + 1).to_be_bytes());
    SigningKey::from_bytes(curve, &scalar).unwrap()
}

/// A bounty for a fleet in which these devices have keys.
struct Site {
    chain: DevChain,
    bounty: Bounty,
    curve: Curve,
    tree: Tree,
}

impl Site {
    async fn open(curve: Curve, size: u32, devices: &BTreeSet<u32>) -> Self {
        let leaf = |index: u32| match devices.contains(&index) {
            true => leaf(curve, &key(curve, index).device_key(), index).unwrap(),
            false => B256::from(U256::from(index) + U256::ONE),
        };
        let tree = Tree::build(tempfile::tempfile().unwrap(), (0..size).map(leaf)).unwrap();
        let config = Config { clock: Clock::Manual, genesis_timestamp: Some(GENESIS), ..Config::default() };
        let chain = DevChain::start(config).unwrap();
        let factory = send(&chain, 0, calls::deploy_factory()).await.contract_address.unwrap();
        chain.mine_many(3).unwrap();
        let published = send(&chain, 0, calls::publish(factory, &update(curve, &tree))).await;
        let event = published.logs().iter().rfind(|log| log.address() == factory).unwrap();
        let event = UpdateFactory::UpdatePublished::decode_log(&event.inner).unwrap();
        Self { chain, bounty: event.bounty.into_array().into(), curve, tree }
    }

    fn deal(&self, account: usize, t: &PreimageT) -> Deal {
        let payee: Payee = self.chain.accounts()[account].address().into_array().into();
        let (chain, s) = (ChainId::new(self.chain.chain_id()), KeyR::derive(&payee, t).lock());
        Deal { chain, bounty: self.bounty, curve: self.curve, u_id: U_ID, payee, s }
    }

    fn batch(&self, deal: Deal, indices: &[u32], attempt: u8) -> Batch {
        let attempt = Attempt::new(attempt);
        let receipt = |index: &u32| {
            let signer = key(self.curve, *index);
            let signature = signer.sign(&deal.digest(attempt));
            Receipt { index: *index, key: signer.device_key(), attempt, signature }
        };
        Batch::new(deal, indices.iter().map(receipt).collect(), &self.tree).unwrap()
    }

    fn gas(&self, indices: &[u32]) -> Gas {
        Gas::of(indices, self.tree.depth(), self.curve)
    }

    async fn send(&self, call: Call, gas: u64) -> TransactionReceipt {
        let request = call.into_request().with_gas_limit(gas);
        send_request(&self.chain, PAYEE, request).await
    }

    /// The three calls of a batch with the gas that they ask for.
    async fn check(&self, indices: &[u32]) {
        let limits = self.gas(indices).limits();
        let what = format!("{:?}, depth {}, {} devices", self.curve, self.tree.depth(), indices.len());
        let (t, fresh) = (secret(7), self.chain.snapshot());
        let deal = self.deal(PAYEE, &t);
        let reserve = calls::reserve(self.batch(deal, indices, 1), U256::ONE);
        self.takes(&format!("reserve {what}"), reserve, limits.reserve).await;
        let reveal = calls::reveal(&self.bounty, &deal.payee, &t, indices.to_vec());
        self.takes(&format!("reveal {what}"), reveal, limits.reveal).await;
        self.chain.revert(fresh).unwrap();
        let claim = calls::publish_proofs(self.batch(deal, indices, 1), &t, U256::ONE);
        let fresh = self.chain.snapshot();
        self.takes(&format!("claim {what}"), claim, limits.claim).await;
        self.chain.revert(fresh).unwrap();
    }

    async fn takes(&self, what: &str, call: Call, limit: u64) {
        let receipt = self.send(call, limit).await;
        let took = receipt.gas_used;
        assert!(receipt.status() && limit <= CAP, "{what}: {took} of {limit}");
        assert!(limit <= took * 175 / 100 + 100_000, "{what}: {took} of {limit}");
    }
}

/// Up to eight groups, as many as there can be.
fn update(curve: Curve, tree: &Tree) -> Publish {
    let groups = u64::from(tree.size().min(8));
    let group = |n: u64| Group { end_index: (u64::from(tree.size()) * n / groups) as u32, share: 1_000_000 };
    Publish {
        product: PRODUCT,
        version: Version::new(1),
        u_id: U_ID,
        p_id: PackageId::new([3; 32]),
        root: tree.root(),
        depth: tree.depth(),
        curve,
        claim_by: GENESIS + 30 * 86_400,
        lock_secs: LOCK,
        bonus_until: GENESIS + 2 * 86_400,
        bonus_bps: 5_000,
        groups: (1..=groups).map(group).collect(),
    }
}

#[tokio::test]
async fn what_transactions_ask_for_is_enough_at_every_depth_and_not_far_above_need() {
    let every = |step: u32, count: u32| (0..count).map(|i| 3 + i * step).collect::<Vec<u32>>();
    for curve in [Curve::Secp256k1, Curve::P256] {
        for (size, batches) in [
            (1, vec![vec![0]]),
            (2, vec![vec![1], vec![0, 1]]),
            (30, vec![vec![29], (0..30).collect()]),
            (1_000, vec![vec![7], every(97, 10), (400..500).collect()]),
            (MILLION, vec![vec![7], (400..410).collect(), (400..500).collect(), every(10_000, 100)]),
        ] {
            let devices = batches.iter().flatten().copied().collect();
            let site = Site::open(curve, size, &devices).await;
            for batch in &batches {
                site.check(batch).await;
            }
        }
    }
}

/// The largest that is sent at all: nine tenths of what a transaction may ask for are expected.
#[tokio::test]
async fn the_largest_batch_fits_a_transaction() {
    let mut indices: Vec<u32> = (0..200).map(|i| 3 + i * 4_999).collect();
    while Gas::of(&indices, 20, Curve::P256).reserve > CAP / 10 * 9 {
        indices.pop();
    }
    assert!(indices.len() > 150);
    let site = Site::open(Curve::P256, MILLION, &indices.iter().copied().collect()).await;
    assert_eq!(site.gas(&indices).limits().reserve, CAP);
    site.check(&indices).await;
}

/// Every device of a row is held by another ended lock, each of which has a device in every row of the page.
#[tokio::test]
async fn locks_that_have_ended_take_gas_of_their_own() {
    for curve in [Curve::Secp256k1, Curve::P256] {
        let site = Site::open(curve, 200, &(0..200).collect()).await;
        let rival = 2;
        let mut ended = Vec::new();
        for device in 0..25 {
            let deal = site.deal(rival, &secret(100 + device));
            let indices: Vec<u32> = (0..8).map(|row| row * 25 + u32::from(device)).collect();
            let reserve = calls::reserve(site.batch(deal, &indices, 1), U256::ONE);
            assert!(send(&site.chain, rival, reserve).await.status());
            ended.push((tag(&deal.s, &deal.payee), u32::from(device)));
        }
        site.chain.increase_time(Duration::from_secs(u64::from(LOCK) + 60)).unwrap();
        let (row, t): (Vec<u32>, _) = ((0..25).collect(), secret(7));
        let (deal, limits) = (site.deal(PAYEE, &t), site.gas(&row).limits());
        let batch = site.batch(deal, &row, 2).past(ended.iter().flat_map(|one| [*one, *one]));
        let more = batch.past_gas();
        for (call, limit) in [
            (calls::reserve(batch.clone(), U256::ONE), limits.reserve),
            (calls::publish_proofs(batch, &t, U256::ONE), limits.claim),
        ] {
            let fresh = site.chain.snapshot();
            let receipt = site.send(call.clone(), limit + more).await;
            assert!(receipt.status(), "{curve:?}: {} of {limit} and {more}", receipt.gas_used);
            site.chain.revert(fresh).unwrap();
            let fresh = site.chain.snapshot();
            assert!(!site.send(call, limit).await.status(), "{curve:?}: not needed");
            site.chain.revert(fresh).unwrap();
        }
    }
}

#[tokio::test]
async fn a_payment_wants_more_gas_left_than_it_takes() {
    let site = Site::open(Curve::Secp256k1, 1, &BTreeSet::from([0])).await;
    let (t, indices) = (secret(7), vec![0]);
    let deal = site.deal(PAYEE, &t);
    let gas = site.gas(&indices);
    assert!(
        site.send(calls::reserve(site.batch(deal, &indices, 1), U256::ONE), gas.limits().reserve)
            .await
            .status()
    );
    let reveal = calls::reveal(&site.bounty, &deal.payee, &t, indices);
    let fresh = site.chain.snapshot();
    assert!(!site.send(reveal.clone(), gas.reveal * 13 / 10).await.status());
    site.chain.revert(fresh).unwrap();
    assert!(site.send(reveal, gas.limits().reveal).await.status());
}
