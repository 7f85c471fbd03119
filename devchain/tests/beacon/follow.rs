//! How beacon blocks follow execution blocks.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use posthouse_devchain::Reorg;
use posthouse_devchain::beacon::{Beacon, Config, Fork, Slots, StartError};

use crate::fixture::{FINALITY, GENESIS, OPTIMISTIC, config, devchain, start};
use crate::http::{get, get_as};
use crate::ssz::number;
use crate::verify::root;

fn status(beacon: &Beacon, path: &str) -> u16 {
    get_as(beacon, path, "*/*").status
}

fn attested_block(beacon: &Beacon) -> u64 {
    number(&get(beacon, OPTIMISTIC)["data"]["attested_header"]["execution"]["block_number"])
}

#[test]
fn finality_is_the_execution_chains() {
    let (chain, beacon) = start(Fork::Fulu, 1);
    assert_eq!(status(&beacon, FINALITY), 404, "block 1 has finalized nothing yet");
    assert_eq!(beacon.checkpoint(), beacon.checkpoint_at(0).unwrap());
    for _ in 0..4 {
        chain.mine();
        let update = get(&beacon, FINALITY)["data"].take();
        let finalized = &update["finalized_header"];
        assert_eq!(number(&finalized["execution"]["block_number"]), chain.finalized().number());
        assert_eq!(root(finalized), beacon.checkpoint());
    }
    beacon.withhold_finality(true);
    let withheld = beacon.checkpoint();
    chain.mine_many(5).unwrap();
    assert_eq!(beacon.checkpoint(), withheld);
    assert_eq!(root(&get(&beacon, FINALITY)["data"]["finalized_header"]), withheld);
    assert_eq!(attested_block(&beacon), 10, "the head goes on");
    beacon.withhold_finality(false);
    chain.mine();
    assert_eq!(beacon.checkpoint(), beacon.checkpoint_at(9).unwrap());
}

#[test]
fn slots_rise_and_can_be_given() {
    let (chain, beacon) = start(Fork::Fulu, 2);
    assert_eq!([0, 1, 2, 3].map(|block| beacon.slot_of(block)), [Some(1), Some(2), Some(3), None]);
    beacon.set_next_slot(40);
    chain.mine_many(2).unwrap();
    beacon.set_next_slot(7);
    chain.mine();
    assert_eq!([3, 4, 5].map(|block| beacon.slot_of(block)), [Some(40), Some(41), Some(42)]);
    assert_eq!(beacon.slot(), 43);
    assert_eq!(beacon.time_of(43), GENESIS * 1000 + 43 * 12_000);
}

#[test]
fn a_reorganisation_takes_later_slots() {
    let (chain, beacon) = start(Fork::Fulu, 6);
    let dropped = beacon.checkpoint_at(6).unwrap();
    let kept = beacon.checkpoint_at(4).unwrap();
    chain.reorg(Reorg { depth: 2, ..Reorg::default() }).unwrap();
    assert_eq!(beacon.checkpoint_at(4), Some(kept));
    assert_ne!(beacon.checkpoint_at(6), Some(dropped));
    assert_eq!([4, 5, 6].map(|block| beacon.slot_of(block).unwrap()), [5, 8, 9]);
    assert_eq!(status(&beacon, &format!("/eth/v1/beacon/headers/{dropped}")), 404);
    let snapshot = chain.snapshot();
    let head = beacon.checkpoint_at(6);
    chain.mine();
    chain.revert(snapshot).unwrap();
    assert_eq!(attested_block(&beacon), 6);
    assert_eq!(beacon.checkpoint_at(6), head);
}

#[test]
fn two_beacons_on_one_chain_agree_until_one_is_told_otherwise() {
    let (chain, one) = start(Fork::Fulu, 3);
    let other = Beacon::start(&chain, config(&[(Fork::Fulu, 0)])).unwrap();
    assert_eq!(one.network_yaml(), other.network_yaml());
    assert_eq!(one.checkpoint_at(3), other.checkpoint_at(3));
    other.set_next_slot(9);
    chain.mine();
    assert_ne!(one.checkpoint_at(4), other.checkpoint_at(4));
}

/// Slots of an hour: what the test does takes place in one of them.
fn hourly() -> Config {
    let slot = Duration::from_secs(3600);
    Config { slot, slots: Slots::Clock, ..config(&[(Fork::Fulu, 0)]) }
}

#[test]
fn by_the_clock_blocks_show_once_their_slot_is_over() {
    let chain = devchain();
    chain.mine_many(4).unwrap();
    let beacon = Beacon::start(&chain, hourly()).unwrap();
    assert_eq!(attested_block(&beacon), 4, "what was there has its slots behind it");
    assert_eq!(beacon.slot_of(4), Some(beacon.slot() - 1));
    chain.mine_many(3).unwrap();
    assert_eq!([5, 6].map(|block| beacon.slot_of(block).unwrap()), [beacon.slot(), beacon.slot() + 1]);
    assert_eq!(attested_block(&beacon), 4, "one a slot, and not before its signature");
    assert_eq!(status(&beacon, &format!("/eth/v2/beacon/blocks/{}", beacon.slot())), 404);
    let checkpoint = beacon.checkpoint_at(2).unwrap();
    assert_eq!(beacon.checkpoint(), checkpoint);
}

#[test]
fn short_slots_pass() {
    let chain = devchain();
    let slot = Duration::from_millis(1);
    let beacon = Beacon::start(&chain, Config { slot, ..hourly() }).unwrap();
    chain.mine_many(3).unwrap();
    let shown = beacon.slot_of(3).unwrap() + 1;
    while beacon.slot() < shown {
        std::thread::yield_now();
    }
    assert_eq!(attested_block(&beacon), 3);
}

#[test]
fn a_lookalike_has_mainnets_genesis_forks_and_slots() {
    let chain = devchain();
    chain.mine_many(10).unwrap();
    let beacon = Beacon::start(&chain, Config::mainnet_lookalike()).unwrap();
    let genesis = get(&beacon, "/eth/v1/beacon/genesis")["data"].take();
    assert_eq!(genesis["genesis_time"], "1606824023");
    let root = "0x4b363db94e286120d76eb905340fdd4e54bfe9f06bf33ff6cf5ad27f511bfe95";
    assert_eq!(genesis["genesis_validators_root"], root);
    assert_eq!(genesis["genesis_fork_version"], "0x00000000");
    let update = get(&beacon, OPTIMISTIC);
    assert_eq!(update["version"], "fulu");
    assert_eq!(update["data"]["attested_header"]["execution"]["block_number"], "10");
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    let behind = (now - 1_606_824_023) / 12 - number(&update["data"]["attested_header"]["beacon"]["slot"]);
    assert!((1..=2).contains(&behind), "{behind} slots behind the clock");
}

#[test]
fn a_contradiction_is_refused() {
    let chain = devchain();
    let refusal = |config| Beacon::start(&chain, config).map(drop).unwrap_err();
    let forks = |forks: &[(Fork, u64)]| refusal(config(forks));
    assert!(matches!(forks(&[(Fork::Fulu, 0), (Fork::Deneb, 3)]), StartError::ForkOrder(Fork::Deneb)));
    assert!(matches!(forks(&[(Fork::Deneb, 3), (Fork::Fulu, 2)]), StartError::ForkOrder(Fork::Fulu)));
    for slot in [Duration::ZERO, Duration::from_micros(1500)] {
        assert!(matches!(refusal(Config { slot, ..hourly() }), StartError::Slot(wrong) if wrong == slot));
    }
    let genesis_time = Some(u64::from(u32::MAX));
    assert!(matches!(refusal(Config { genesis_time, ..hourly() }), StartError::BeforeGenesis { .. }));
    let beacon = Beacon::start(&chain, hourly()).unwrap();
    let listen = beacon.url().strip_prefix("http://").unwrap().parse().unwrap();
    assert!(matches!(refusal(Config { listen, ..hourly() }), StartError::Listen { .. }));
}
