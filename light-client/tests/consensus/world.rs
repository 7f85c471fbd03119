//! A chain, its beacon, a clock that only the test moves, and clients of them.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use alloy::primitives::B256;
use posthouse_devchain::beacon::{self, Beacon, Fork, Slots};
use posthouse_devchain::{Clock as ChainClock, DevChain};
use posthouse_light_client::beacon::{BeaconError, Unanswered};
use posthouse_light_client::client::{ClientError, Clock, Config, LightClient};
use posthouse_light_client::http::{Endpoint, Limits};
use posthouse_light_client::spec::Network;

/// Slots of an epoch, and of a sync committee period.
pub const EPOCH: u64 = 32;
pub const PERIOD: u64 = 256 * EPOCH;

pub struct World {
    pub chain: DevChain,
    pub beacon: Beacon,
    /// Another beacon of the same chain, which is not told to lie.
    pub honest: Beacon,
    pub network: Arc<Network>,
    /// Finalized when the world began; what clients trust.
    pub checkpoint: B256,
    now_ms: Arc<AtomicU64>,
    folder: tempfile::TempDir,
}

impl World {
    /// Fulu from genesis on, and a few blocks.
    pub fn new() -> Self {
        Self::with(vec![(Fork::Fulu, 0)], 31_337)
    }

    /// An epoch passes in a third of a second, for what waits by the computer's time.
    pub fn fast() -> Self {
        Self::start(vec![(Fork::Fulu, 0)], 31_337, Duration::from_millis(10))
    }

    /// Other forks, or another chain: then everything about it is another's.
    pub fn with(forks: Vec<(Fork, u64)>, chain_id: u64) -> Self {
        Self::start(forks, chain_id, Duration::from_millis(200))
    }

    fn start(forks: Vec<(Fork, u64)>, chain_id: u64, slot: Duration) -> Self {
        let chain = posthouse_devchain::Config {
            chain_id,
            clock: ChainClock::Manual,
            // Other chains differ in their genesis, and by that in what their committees sign.
            genesis_timestamp: Some(1_700_000_000 + chain_id % 31_337),
            ..Default::default()
        };
        let chain = DevChain::start(chain).unwrap();
        let config = beacon::Config { forks, slot, slots: Slots::Manual, ..Default::default() };
        let beacon = Beacon::start(&chain, config.clone()).unwrap();
        let honest = Beacon::start(&chain, config).unwrap();
        let network = Arc::new(Network::from_yaml(&beacon.network_yaml()).unwrap());
        let folder = tempfile::tempdir().unwrap();
        let mut world =
            Self { chain, beacon, honest, network, checkpoint: B256::ZERO, now_ms: Arc::default(), folder };
        world.mine(5);
        world.checkpoint = world.beacon.checkpoint();
        world
    }

    /// Mines `count` blocks, one a slot, and lets their time come.
    pub fn mine(&self, count: u64) {
        self.chain.mine_many(count).unwrap();
        self.set_slot(self.beacon.slot());
    }

    /// As [`Self::mine`], the first of them in `slot`.
    pub fn mine_at(&self, slot: u64, count: u64) {
        self.beacon.set_next_slot(slot);
        self.honest.set_next_slot(slot);
        self.mine(count);
    }

    pub fn set_slot(&self, slot: u64) {
        self.set_ms(self.beacon.time_of(slot));
    }

    pub fn set_ms(&self, now_ms: u64) {
        self.now_ms.store(now_ms, Ordering::SeqCst);
    }

    /// Moves the clock to a slot from elsewhere, such as while an endpoint is answering.
    pub fn clock(&self) -> impl Fn(u64) + Send + Sync + 'static {
        let (now_ms, network) = (self.now_ms.clone(), self.network.clone());
        move |slot| now_ms.store(network.starts_at(slot), Ordering::SeqCst)
    }

    /// What the beacon answers now, in SSZ.
    pub async fn answer(&self, path: &str) -> Vec<u8> {
        let beacon = Endpoint::new(self.beacon.url(), Limits::default()).unwrap();
        let path = format!("/eth/v1/beacon/light_client/{path}");
        beacon.get(&path, "application/octet-stream").await.unwrap().body
    }

    /// Number of the block that is finalized by now.
    pub fn finalized(&self) -> u64 {
        self.chain.finalized().number()
    }

    pub fn store(&self) -> PathBuf {
        self.folder.path().join("state").join("light-client.sqlite")
    }

    /// For a client that asks `urls`.
    pub fn config(&self, urls: &[&str]) -> Config {
        let now_ms = self.now_ms.clone();
        Config {
            network: self.network.clone(),
            checkpoint: Some(self.checkpoint),
            allow_stale_checkpoint: false,
            beacon: urls.iter().map(|url| (*url).to_owned()).collect(),
            rpc: vec![self.chain.url().to_owned()],
            chain_id: self.chain.chain_id(),
            store: self.store(),
            limits: Limits { timeout: Duration::from_secs(20), ..Limits::default() },
            finality_alarm: Config::FINALITY_ALARM,
            clock: Clock::new(move || now_ms.load(Ordering::SeqCst)),
        }
    }

    pub fn client(&self, urls: &[&str]) -> LightClient {
        LightClient::open(self.config(urls)).unwrap()
    }

    /// A client of the beacon itself, synchronised.
    pub async fn synced(&self) -> LightClient {
        let client = self.client(&[self.beacon.url()]);
        assert_eq!(client.sync_once().await.unwrap().number, self.finalized());
        client
    }
}

/// The reason of the one endpoint that was asked.
pub fn only(error: &ClientError) -> &BeaconError {
    let ClientError::Beacon(unanswered) = error else { panic!("{error:?}") };
    only_of(unanswered)
}

fn only_of(Unanswered { 0: failed }: &Unanswered) -> &BeaconError {
    let [failed] = &failed[..] else { panic!("{failed:?}") };
    &failed.error
}
