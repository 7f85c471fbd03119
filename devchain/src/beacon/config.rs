//! What a beacon is started with.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

/// A consensus fork in which light clients read the execution header.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Fork {
    /// The first with execution headers in light client data.
    Capella = 3,
    /// Execution headers with blob gas.
    Deneb,
    /// A state of more than 32 fields: all branches into it are one longer.
    Electra,
    /// Fork digests that mix in the blob schedule.
    Fulu,
}

impl Fork {
    /// All of them, oldest first.
    pub const ALL: [Self; 4] = [Self::Capella, Self::Deneb, Self::Electra, Self::Fulu];

    /// As the beacon API's `version` has it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Capella => "capella",
            Self::Deneb => "deneb",
            Self::Electra => "electra",
            Self::Fulu => "fulu",
        }
    }
}

/// Where slots come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Slots {
    /// From the computer's clock: a block gets the slot that it is mined in, or the one after its
    /// parent's if that is later, and shows once its slot has passed and the committee could sign it.
    /// Execution blocks that come faster than slots show one a slot.
    Clock,
    /// Each block gets the slot after its parent's unless
    /// [`Beacon::set_next_slot`](super::Beacon::set_next_slot) said otherwise, and shows at once.
    Manual,
}

/// The choices a beacon is started with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// Epochs (of 32 slots) in which forks activate, oldest fork first. Forks older than the first
    /// listed are active from genesis on; forks that are not listed never activate.
    pub forks: Vec<(Fork, u64)>,
    /// Fulu's blob schedule: epochs and the most blobs a block may have from there on. Only fork digests
    /// depend on it.
    pub blob_schedule: Vec<(u64, u64)>,
    /// Length of a slot, whole milliseconds.
    pub slot: Duration,
    /// Unix seconds of slot 0. `None` leaves room before now for the blocks that are there already, or,
    /// with manual slots, takes the execution genesis' timestamp.
    pub genesis_time: Option<u64>,
    /// Where slots come from.
    pub slots: Slots,
    /// Mainnet's genesis, fork schedule and 12 s slots, from the computer's clock: whatever has mainnet
    /// built in follows this chain, but for the checkpoint. Overrules all of the above.
    pub lookalike: bool,
    /// Where the beacon API is served, by default on loopback; port 0 lets the system choose one.
    pub listen: SocketAddr,
}

impl Config {
    /// [`Config::lookalike`] on a port that the system chooses.
    pub fn mainnet_lookalike() -> Self {
        Self { lookalike: true, ..Self::default() }
    }
}

impl Default for Config {
    fn default() -> Self {
        Self {
            forks: vec![(Fork::Fulu, 0)],
            blob_schedule: Vec::new(),
            slot: Duration::from_millis(200),
            genesis_time: None,
            slots: Slots::Clock,
            lookalike: false,
            listen: (Ipv4Addr::LOCALHOST, 0).into(),
        }
    }
}

/// Why a beacon did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// Forks are listed out of order, twice, or activate out of order.
    #[error("the fork {0:?} is listed out of order")]
    ForkOrder(Fork),
    /// A slot is no whole number of milliseconds, or none.
    #[error("a slot of {0:?} is not a whole, positive number of milliseconds")]
    Slot(Duration),
    /// Genesis is still to come.
    #[error("genesis at {genesis_time} is after now, {now} (Unix seconds)")]
    BeforeGenesis {
        /// Unix seconds of slot 0.
        genesis_time: u64,
        /// Unix seconds.
        now: u64,
    },
    /// The address cannot be listened on.
    #[error("cannot listen on {address}: {source}")]
    Listen {
        /// The address that was asked for.
        address: SocketAddr,
        /// What the system said.
        source: std::io::Error,
    },
    /// A thread did not come up.
    #[error("the beacon did not start: {0}")]
    Thread(std::io::Error),
}
