//! A consensus layer for the devchain: real sync committees sign real execution blocks.
//!
//! Every execution block gets a beacon block whose body carries it, every beacon block a state with
//! light clients' fields in their true places, and every state a committee of 512 keys that signs in
//! the slot after. What is finalized here is what the devchain calls finalized. The rest of consensus,
//! validators, attestations, fork choice, is not there: nothing that a light client sees depends on it.
//!
//! ```no_run
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! use posthouse_devchain::{DevChain, beacon};
//!
//! let chain = DevChain::start(posthouse_devchain::Config::default())?;
//! let beacon = beacon::Beacon::start(&chain, beacon::Config::default())?;
//! std::fs::write("network.yaml", beacon.network_yaml())?;
//! println!("{} {}", beacon.url(), beacon.checkpoint());
//! # Ok(())
//! # }
//! ```
//!
//! A light client must see a block in every period of 8192 slots, so whoever runs the chain for longer
//! has it mine at an interval.

mod api;
mod committee;
mod config;
mod container;
mod ledger;
mod lie;
mod merkle;
mod network;
mod payload;
mod reply;
mod server;
mod shared;
mod state;
mod types;
mod wire;

use std::net::TcpListener;
use std::sync::Arc;
use std::thread::{self, JoinHandle};

use alloy::primitives::B256;
use tokio::sync::oneshot;

use crate::DevChain;
use crate::server::Server;

use shared::Shared;

pub use config::{Config, Fork, Slots, StartError};
pub use lie::{Branch, Damage, Lie, Topic};

/// A running beacon. It stops, with its server, when it is dropped.
///
/// Controls turn what is true on this chain from the next block on; blocks that are mined already are
/// settled before a control takes effect.
pub struct Beacon {
    shared: Arc<Shared>,
    url: String,
    server: Option<Server>,
    follower: Option<(oneshot::Sender<()>, JoinHandle<()>)>,
}

impl Beacon {
    /// Starts a beacon on the blocks that `chain` has and follows it.
    ///
    /// # Errors
    /// [`StartError`] says what the configuration contradicts, or what the system refused.
    pub fn start(chain: &DevChain, config: Config) -> Result<Self, StartError> {
        let address = config.listen;
        let refused = |source| StartError::Listen { address, source };
        let listener = TcpListener::bind(address).map_err(refused)?;
        let url = format!("http://{}", listener.local_addr().map_err(refused)?);
        let shared = Arc::new(Shared::new(chain.node(), &config)?);
        let server = server::start(listener, shared.clone()).map_err(StartError::Thread)?;
        let mut beacon = Self { shared: shared.clone(), url, server: Some(server), follower: None };
        let (stop, stopped) = oneshot::channel();
        let thread = thread::Builder::new().name("devchain-beacon".into());
        let runtime = tokio::runtime::Builder::new_current_thread().build().map_err(StartError::Thread)?;
        let follow = move || runtime.block_on(follow(&shared, stopped));
        beacon.follower = Some((stop, thread.spawn(follow).map_err(StartError::Thread)?));
        Ok(beacon)
    }

    /// The beacon API, `http://ADDRESS:PORT`.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// The network as a consensus `config.yaml`, with `GENESIS_TIME` and `GENESIS_VALIDATORS_ROOT`.
    pub fn network_yaml(&self) -> String {
        self.shared.ledger().network.yaml()
    }

    /// Unix seconds of slot 0.
    pub fn genesis_time(&self) -> u64 {
        self.shared.ledger().network.genesis_time
    }

    /// Root of the finalized beacon block, to start a light client from.
    pub fn checkpoint(&self) -> B256 {
        let ledger = self.shared.caught_up();
        let (entries, head) = (ledger.entries(), self.shared.head(&ledger));
        entries[head.and_then(|head| entries[head].finalized).unwrap_or(0)].root
    }

    /// Root of the beacon block that carries an execution block.
    pub fn checkpoint_at(&self, execution_block: u64) -> Option<B256> {
        let index = usize::try_from(execution_block).ok()?;
        self.shared.caught_up().entries().get(index).map(|entry| entry.root)
    }

    /// Slot of the beacon block that carries an execution block.
    pub fn slot_of(&self, execution_block: u64) -> Option<u64> {
        let index = usize::try_from(execution_block).ok()?;
        self.shared.caught_up().entries().get(index).map(ledger::Entry::slot)
    }

    /// The current slot: the clock's, or with manual slots the one after the newest block's.
    pub fn slot(&self) -> u64 {
        self.shared.now(&self.shared.caught_up())
    }

    /// Unix milliseconds at which a slot begins, for light clients whose clock a test holds.
    pub fn time_of(&self, slot: u64) -> u64 {
        self.shared.ledger().network.time_of(slot)
    }

    /// Keep the finality of the newest block for all blocks to come; or let it catch up.
    pub fn withhold_finality(&self, withhold: bool) {
        self.shared.caught_up().controls.withhold_finality = withhold;
    }

    /// How many of the 512 sign the blocks to come. Honest light clients want 342.
    pub fn participation(&self, members: usize) {
        self.shared.caught_up().controls.participants = members;
    }

    /// Gives the next block this slot, unless an earlier block has it or a later one.
    pub fn set_next_slot(&self, slot: u64) {
        self.shared.caught_up().controls.next_slot = Some(slot);
    }

    /// Lies in every answer from now on, or, with `None`, in none.
    pub fn lie(&self, lie: Option<Lie>) {
        self.shared.set_lie(lie.map(|lie| (None, lie)));
    }

    /// Lies about one topic from now on and is honest about all others.
    pub fn lie_about(&self, topic: Topic, lie: Lie) {
        self.shared.set_lie(Some((Some(topic), lie)));
    }

    /// Paths and queries that were asked for since the last call, in order.
    pub fn take_requests(&self) -> Vec<String> {
        std::mem::take(&mut *self.shared.requests())
    }
}

/// Keeps up with the chain's head, so that blocks get the slot that they are mined in.
async fn follow(shared: &Shared, mut stopped: oneshot::Receiver<()>) {
    let mut heads = shared.heads();
    loop {
        drop(shared.caught_up());
        tokio::select! {
            _ = &mut stopped => return,
            changed = heads.changed() => if changed.is_err() { return },
        }
    }
}

impl Drop for Beacon {
    fn drop(&mut self) {
        if let Some(server) = self.server.take() {
            server.stop();
        }
        if let Some((stop, thread)) = self.follower.take() {
            drop(stop);
            if thread.join().is_err() {
                tracing::error!("the beacon's thread had panicked");
            }
        }
    }
}

impl std::fmt::Debug for Beacon {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Beacon").field("url", &self.url).finish_non_exhaustive()
    }
}
