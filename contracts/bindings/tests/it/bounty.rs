//! The whole life of a bounty on the dev chain, sent by the crate's calls and read through its boundary.

use alloy::primitives::{Address, B256, U256};
use alloy::providers::Provider as _;
use posthouse_contracts::chain::{At, Chain as _, ChainError};
use posthouse_contracts::receipts::Batch;
use posthouse_contracts::terms::TermsError;
use posthouse_contracts::{calls, layout};
use posthouse_protocol::id::{Attempt, Bounty, Curve, Version};
use posthouse_protocol::secret::KeyR;

use crate::fixture::{GENESIS, LOCK, Market, PRODUCT, SHARE, balance, secret};

const PAYEE: usize = 1;
const RIVAL: usize = 2;
const RELAYER: usize = 3;

#[tokio::test]
async fn reserve_and_reveal_are_read_as_they_happen() {
    for curve in [Curve::Secp256k1, Curve::P256] {
        let market = Market::open(curve, 5).await;
        market.finalize();
        let (t, bounty, reader) = (secret(7), market.bounty, &market.reader);
        let deal = market.deal(PAYEE, &t);
        let batch = Batch::new(deal, market.receipts(&deal, &[0, 2, 4], 1), market.fleet.tree()).unwrap();
        let before = balance(&market.chain, &deal.payee);

        assert!(market.send(RELAYER, calls::reserve(batch, U256::ONE)).await.status());
        let reserved = reader.head(At::Latest).await.unwrap();
        let until = reserved.timestamp + u64::from(LOCK);
        let claims = reader.claims(&bounty, &[1, 2], At::Latest).await.unwrap();
        assert_eq!((claims[0].claimed, claims[0].lock, claims[0].attempt), (false, None, Attempt::new(0)));
        let lock = claims[1].lock.unwrap();
        assert_eq!((lock.payee, lock.s, lock.until), (deal.payee, deal.s, until));
        assert_eq!(claims[1].attempt, Attempt::new(1));
        assert_eq!(claims[1].locked_until(until), Some(until));
        assert_eq!(claims[1].locked_until(until + 1), None);
        let held = reader.reservation(&bounty, &deal.s, &deal.payee, &[0, 1, 4], At::Latest);
        assert_eq!(held.await.unwrap(), [Some(until), None, Some(until)]);
        let final_ = reader.reservation(&bounty, &deal.s, &deal.payee, &[0], At::Finalized);
        assert_eq!(final_.await.unwrap(), [None], "not final yet");
        market.finalize();
        let final_ = reader.reservation(&bounty, &deal.s, &deal.payee, &[0], At::Finalized);
        assert_eq!(final_.await.unwrap(), [Some(until)]);

        let reveal = calls::reveal(&bounty, &deal.payee, &t, vec![0, 2, 4]);
        assert!(market.send(RELAYER, reveal).await.status());
        let terms = reader.terms(&bounty).await.unwrap();
        let worth = |index| terms.share_at(index, reserved.timestamp).unwrap();
        assert_eq!(balance(&market.chain, &deal.payee) - before, worth(0) + worth(2) + worth(4));
        let keys = reader.keys(&bounty, 0, &[0, 2, 4]).await.unwrap().list;
        assert_eq!(keys.iter().map(|key| key.index).collect::<Vec<_>>(), [0, 2, 4]);
        for key in keys {
            assert_eq!((key.payee, key.s), (deal.payee, deal.s));
            assert_eq!((key.r.lock(), &key.r), (deal.s, &KeyR::derive(&deal.payee, &t)));
        }
        let held = reader.reservation(&bounty, &deal.s, &deal.payee, &[0], At::Latest).await.unwrap();
        assert_eq!(held, [None], "what is paid is held no more");
        assert_eq!(reader.payments(&bounty, 0).await.unwrap().list, [], "not final yet");
        market.finalize();
        let payments = reader.payments(&bounty, 0).await.unwrap();
        assert_eq!(payments.to, reader.head(At::Finalized).await.unwrap().number);
        assert_eq!(payments.list.iter().map(|one| one.index).collect::<Vec<_>>(), [0, 2, 4]);
        for one in &payments.list {
            assert_eq!((one.payee, one.s, one.amount), (deal.payee, deal.s, worth(one.index)));
        }
        let block = payments.list[0].block;
        assert_eq!(reader.payments(&bounty, block + 1).await.unwrap().list, []);
        let claims = reader.claims(&bounty, &[0, 1], At::Latest).await.unwrap();
        assert!(claims[0].claimed && claims[0].lock.is_none() && !claims[1].claimed);
    }
}

#[tokio::test]
async fn one_step_claims_pay_both_ways() {
    for curve in [Curve::Secp256k1, Curve::P256] {
        let market = Market::open(curve, 5).await;
        let t = secret(8);
        let deal = market.deal(PAYEE, &t);
        let claim = deal.claim(&market.receipt(&deal, 3, 1), &t, market.fleet.tree()).unwrap();
        assert!(market.send(PAYEE, calls::publish_proof(&deal, claim)).await.status());
        let batch = Batch::new(deal, market.receipts(&deal, &[1, 4], 1), market.fleet.tree()).unwrap();
        assert!(market.send(PAYEE, calls::publish_proofs(batch, &t, U256::ONE)).await.status());
        let claims = market.reader.claims(&market.bounty, &[0, 1, 2, 3, 4], At::Latest).await.unwrap();
        assert_eq!(claims.map_claimed(), [false, true, false, true, true]);
    }
}

trait Claimed {
    fn map_claimed(&self) -> Vec<bool>;
}

impl Claimed for Vec<posthouse_contracts::chain::Claim> {
    fn map_claimed(&self) -> Vec<bool> {
        self.iter().map(|claim| claim.claimed).collect()
    }
}

#[tokio::test]
async fn an_ended_lock_is_found_and_passed() {
    let market = Market::open(Curve::Secp256k1, 5).await;
    let rival = market.deal(RIVAL, &secret(9));
    let batch = Batch::new(rival, market.receipts(&rival, &[2], 1), market.fleet.tree()).unwrap();
    assert!(market.send(RIVAL, calls::reserve(batch, U256::ONE)).await.status());
    market.chain.increase_time(std::time::Duration::from_secs(u64::from(LOCK) + 1)).unwrap();
    market.chain.mine();

    let deal = market.deal(PAYEE, &secret(7));
    let lock = market.reader.claims(&market.bounty, &[2], At::Latest).await.unwrap()[0].lock.unwrap();
    assert_eq!(posthouse_contracts::receipts::tag(&lock.s, &lock.payee), rival.tag());
    let batch = Batch::new(deal, market.receipts(&deal, &[2], 2), market.fleet.tree()).unwrap();
    let passing = batch.past([(rival.tag(), 2)]);
    assert!(market.send(PAYEE, calls::reserve(passing, U256::ONE)).await.status());
    let lock = market.reader.claims(&market.bounty, &[2], At::Latest).await.unwrap()[0].lock.unwrap();
    assert_eq!((lock.payee, lock.s), (deal.payee, deal.s), "the newest reservation is the one that holds");
}

#[tokio::test]
async fn the_vendor_gets_the_rest_back() {
    let market = Market::open(Curve::Secp256k1, 5).await;
    let terms = market.reader.terms(&market.bounty).await.unwrap();
    assert_eq!(
        terms.deposit(),
        U256::from(SHARE) * U256::from(2 * 3) + U256::from(SHARE / 2) * U256::from(9)
    );
    market.chain.set_next_block_timestamp(terms.refund_from()).unwrap();
    let vendor = terms.vendor.into_array().into();
    let before = balance(&market.chain, &vendor);
    assert!(market.send(RELAYER, calls::refund(&market.bounty)).await.status());
    assert_eq!(balance(&market.chain, &vendor) - before, terms.deposit());
}

#[tokio::test]
async fn the_latest_version_is_read_when_it_is_final() {
    let market = Market::open(Curve::Secp256k1, 5).await;
    let vendor = market.chain.accounts()[0].address();
    assert_eq!(market.reader.latest(vendor, &PRODUCT).await.unwrap(), None);
    market.finalize();
    let latest = market.reader.latest(vendor, &PRODUCT).await.unwrap().unwrap();
    assert_eq!((latest.version, latest.bounty), (Version::new(1), market.bounty));
    assert_eq!(market.reader.latest(Address::ZERO, &PRODUCT).await.unwrap(), None);
}

#[tokio::test]
async fn what_is_no_bounty_is_named() {
    let market = Market::open(Curve::Secp256k1, 5).await;
    for (address, why) in
        [(Address::ZERO, TermsError::NoCode), (market.reader.factory(), TermsError::NotAClone)]
    {
        let bounty = Bounty::new(address.into_array());
        let error = market.reader.terms(&bounty).await.unwrap_err();
        assert!(matches!(error, ChainError::NotABounty { reason, .. } if reason == why), "{error}");
    }
    let nobody = Bounty::new([9; 20]);
    let error = market.reader.claims(&nobody, &[0], At::Latest).await.unwrap_err();
    assert!(matches!(error, ChainError::Refused { .. }), "{error}");
}

#[tokio::test]
async fn blocks_are_found_by_their_time() {
    let market = Market::open(Curve::Secp256k1, 5).await;
    market.chain.mine_many(40).unwrap();
    let head = market.reader.head(At::Latest).await.unwrap();
    for number in [0, 1, 17, head.number] {
        let time = market.chain.block(number).unwrap().timestamp();
        assert_eq!(market.reader.block_since(time).await.unwrap(), number);
    }
    assert_eq!(market.reader.block_since(GENESIS - 1).await.unwrap(), 0);
    assert_eq!(market.reader.block_since(head.timestamp + 1).await.unwrap(), head.number + 1);
}

#[tokio::test]
async fn each_device_has_its_own_lock() {
    let market = Market::open(Curve::Secp256k1, 5).await;
    for (account, indices) in [(PAYEE, [0, 3]), (RIVAL, [1, 4])] {
        let deal = market.deal(account, &secret(7));
        let batch = Batch::new(deal, market.receipts(&deal, &indices, 1), market.fleet.tree()).unwrap();
        assert!(market.send(RELAYER, calls::reserve(batch, U256::ONE)).await.status());
    }
    let claims = market.reader.claims(&market.bounty, &[4, 3, 2, 1, 0], At::Latest).await.unwrap();
    let holders: Vec<_> = claims.iter().map(|claim| claim.lock.map(|lock| lock.payee)).collect();
    let (payee, rival) = (Some(market.payee(PAYEE)), Some(market.payee(RIVAL)));
    assert_eq!(holders, [rival, payee, None, rival, payee]);
}

/// A light client proves slots and asks no function: they must say what the functions say.
#[tokio::test]
async fn storage_says_what_the_calls_say() {
    let market = Market::open(Curve::Secp256k1, 60).await;
    let (t, bounty) = (secret(7), market.bounty);
    let deal = market.deal(PAYEE, &t);
    let indices = [0, 24, 25, 26, 59];
    let batch = Batch::new(deal, market.receipts(&deal, &indices, 9), market.fleet.tree()).unwrap();
    assert!(market.send(PAYEE, calls::reserve(batch, U256::ONE)).await.status());
    assert!(market.send(PAYEE, calls::reveal(&bounty, &deal.payee, &t, vec![24, 59])).await.status());
    market.finalize();

    let word = async |address: Address, slot: B256| {
        market.reader.provider().get_storage_at(address, slot.into()).await.unwrap()
    };
    let vendor = market.chain.accounts()[0].address();
    let latest = layout::latest(word(market.reader.factory(), layout::latest_slot(vendor, &PRODUCT)).await);
    assert_eq!(latest, market.reader.latest(vendor, &PRODUCT).await.unwrap());
    let address = Address::from(bounty.to_bytes());
    let all: Vec<u32> = (0..60).collect();
    let claims = market.reader.claims(&bounty, &all, At::Latest).await.unwrap();
    let held = market.reader.reservation(&bounty, &deal.s, &deal.payee, &all, At::Latest).await.unwrap();
    let lock = word(address, layout::lock_slot(deal.tag(), 0)).await;
    for (index, claim) in all.iter().zip(&claims) {
        let device = layout::device(word(address, layout::row_slot(*index)).await, *index);
        assert_eq!((device.claimed, device.attempt), (claim.claimed, claim.attempt), "device {index}");
        assert_eq!(device.held, indices.contains(index), "device {index}");
        let until = layout::held_until(lock, *index).filter(|_| !claim.claimed);
        assert_eq!(until, held[*index as usize], "device {index}");
    }
    assert_eq!(layout::latest(U256::ZERO), None);
}
