//! A chain with a beacon, both with clocks that stand still.

use std::time::Duration;

use posthouse_devchain::beacon::{Beacon, Fork, Slots};
use posthouse_devchain::{Clock, Config, DevChain, beacon};

pub(crate) const GENESIS: u64 = 1_800_000_000;
pub(crate) const UPDATES: &str = "/eth/v1/beacon/light_client/updates?start_period=0&count=1";
pub(crate) const FINALITY: &str = "/eth/v1/beacon/light_client/finality_update";
pub(crate) const OPTIMISTIC: &str = "/eth/v1/beacon/light_client/optimistic_update";

pub(crate) fn devchain() -> DevChain {
    let genesis_timestamp = Some(GENESIS);
    DevChain::start(Config { clock: Clock::Manual, genesis_timestamp, ..Config::default() }).unwrap()
}

pub(crate) fn config(forks: &[(Fork, u64)]) -> beacon::Config {
    let slot = Duration::from_secs(12);
    beacon::Config { forks: forks.to_vec(), slots: Slots::Manual, slot, ..beacon::Config::default() }
}

/// A chain with so many blocks, and a beacon of one fork on it.
pub(crate) fn start(fork: Fork, blocks: u64) -> (DevChain, Beacon) {
    let chain = devchain();
    let beacon = Beacon::start(&chain, config(&[(fork, 0)])).unwrap();
    chain.mine_many(blocks).unwrap();
    (chain, beacon)
}

pub(crate) fn bootstrap(beacon: &Beacon) -> String {
    format!("/eth/v1/beacon/light_client/bootstrap/{}", beacon.checkpoint())
}
