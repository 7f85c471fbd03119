//! What the crate reckons is what the contracts reckon: deposits and shares of random terms, asked of both.

use alloy::primitives::U256;
use alloy::sol_types::SolCall as _;
use posthouse_contracts::abi::{UpdateBounty, UpdateFactory};
use posthouse_contracts::calls::{self, Publish};
use posthouse_contracts::chain::Chain as _;
use posthouse_contracts::terms::Group;
use posthouse_protocol::id::{Bounty, Curve, Version};
use proptest::prelude::*;
use proptest::strategy::ValueTree as _;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};

use crate::fixture::{Market, update};

const CASES: u32 = 64;
const MAX_SHARE: u128 = (1 << 96) - 1;
/// How long claims are taken, in seconds.
const CLAIM: u64 = 30 * 86_400;

/// Terms that the factory takes, out to the largest numbers that it takes.
#[derive(Debug, Clone)]
struct Case {
    groups: Vec<Group>,
    bonus_bps: u16,
    /// Seconds from the publication.
    bonus: u64,
    /// Seconds from the publication, three times at which shares are asked for.
    times: [u64; 3],
}

fn cases() -> impl Strategy<Value = Case> {
    let share = prop_oneof![1..=MAX_SHARE, 1..=1_000u128, Just(MAX_SHARE)];
    let end = prop_oneof![1..=u32::MAX, 1..=200u32, Just(u32::MAX)];
    let groups = prop::collection::btree_map(end, share, 1..=8).prop_map(|groups| {
        groups.into_iter().map(|(end_index, share)| Group { end_index, share }).collect::<Vec<_>>()
    });
    let bps = prop_oneof![Just(0), any::<u16>(), Just(u16::MAX), Just(1)];
    let bonus = prop_oneof![10..=CLAIM, Just(CLAIM), Just(10)];
    (groups, bps, bonus, [0..CLAIM, 0..100u64, 0..CLAIM]).prop_map(|(groups, bonus_bps, bonus, mut times)| {
        times.sort_unstable();
        Case { groups, bonus_bps, bonus, times }
    })
}

#[tokio::test]
async fn deposits_and_shares_are_those_of_the_contracts() {
    let market = Market::open(Curve::Secp256k1, 5).await;
    let mut runner = TestRunner::new_with_rng(
        Config { cases: CASES, ..Config::default() },
        TestRng::deterministic_rng(RngAlgorithm::ChaCha),
    );
    for version in 0..CASES {
        let case = cases().new_tree(&mut runner).unwrap().current();
        check(&market, 2 + u64::from(version), &case).await;
    }
}

async fn check(market: &Market, version: u64, case: &Case) {
    let now = market.chain.head().timestamp();
    let publish = Publish {
        version: Version::new(version),
        depth: 32,
        claim_by: now + 60 + CLAIM,
        bonus_bps: case.bonus_bps,
        // Ten seconds for the blocks until it is published.
        bonus_until: if case.bonus_bps == 0 { 0 } else { now + 10 + case.bonus },
        groups: case.groups.clone(),
        ..update(&market.fleet)
    };
    let deposit = publish.deposit();
    let factory = UpdateFactory::new(market.reader.factory(), market.reader.provider().clone());
    let input = calls::publish(market.reader.factory(), &publish).input;
    let asked = UpdateFactory::publishUpdateCall::abi_decode(&input).unwrap();
    assert_eq!(factory.depositFor(asked.update).call().await.unwrap(), deposit, "{case:?}");

    let vendor = market.chain.accounts()[0].address();
    market.chain.set_balance(vendor, deposit + U256::from(10).pow(U256::from(18)));
    for wrong in [deposit + U256::ONE, deposit - U256::ONE] {
        let call = calls::Call { value: wrong, ..calls::publish(market.reader.factory(), &publish) };
        assert!(!market.would_take(0, call).await, "one wei off: {case:?}");
    }
    let receipt = market.send(0, calls::publish(market.reader.factory(), &publish)).await;
    assert!(receipt.status(), "{case:?}");
    let latest = factory.latest(vendor, publish.product.to_bytes().into()).call().await.unwrap();
    let bounty: Bounty = latest.bounty.into_array().into();
    let terms = market.reader.terms(&bounty).await.unwrap();
    assert_eq!((terms.deposit(), terms.groups.as_slice()), (deposit, case.groups.as_slice()));
    assert_eq!(market.chain.balance(latest.bounty), deposit);

    let contract = UpdateBounty::new(latest.bounty, market.reader.provider().clone());
    for time in case.times {
        let at = (terms.start + time).max(market.chain.head().timestamp() + 1);
        market.chain.set_next_block_timestamp(at).unwrap();
        market.chain.mine();
        let mut begin = 0;
        for group in &case.groups {
            for index in [begin, group.end_index - 1] {
                let share = contract.share(index).call().await.unwrap();
                assert_eq!(terms.share_at(index, at), Some(share), "{index} at {time}: {case:?}");
            }
            begin = group.end_index;
        }
    }
}
