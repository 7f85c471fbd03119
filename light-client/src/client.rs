//! The whole client behind one handle: opened from disk, kept up to date in the background, asked by anybody.
//!
//! What it hands out as a [`Block`] is proven, and on disk before anybody sees it (the newest, not yet finalized one is not
//! kept: it is asked for again). It never goes back.

mod config;
mod error;
mod keeper;
mod status;

use std::fmt;
use std::sync::Arc;

use tokio::sync::watch;

pub use self::config::{Clock, Config};
pub use self::error::{ClientError, Stale, StartError};
use self::keeper::Keeper;
pub use self::status::{Alarm, Seen, Status};
use crate::execution::Block;
use crate::rpc::Rpc;
use crate::sync::Pace;

/// A light client. Cheap to clone; clones are one client.
#[derive(Clone)]
pub struct LightClient {
    keeper: Arc<Keeper>,
    rpc: Rpc,
}

impl LightClient {
    /// Reads the store, and asks nobody. Blocks for as long as the disk takes.
    ///
    /// # Errors
    /// [`StartError`]: there is nothing to begin with, it is too old or another network's, or the configuration is wrong.
    pub fn open(config: Config) -> Result<Self, StartError> {
        if let Some(expected) = config.network.execution_chain_id
            && expected != config.chain_id
        {
            let (configured, network) = (config.chain_id, config.network.name.clone());
            return Err(StartError::ChainId { configured, network, expected });
        }
        let rpc = Rpc::new(&config.rpc, config.chain_id, config.limits).map_err(StartError::Rpc)?;
        Ok(Self { keeper: Arc::new(Keeper::open(config)?), rpc })
    }

    /// Keeps the client up to date: finality once an epoch when it is due, committees once a period, and nothing else.
    /// Runs until it is dropped; what goes wrong is in the status and tried again, with growing pauses.
    ///
    /// Returns only where no trying again helps, see [`ClientError::is_fatal`]; from then on that is an alarm.
    pub async fn run(&self) -> ClientError {
        let mut pace = Pace::new();
        loop {
            let reached = match self.sync_once().await {
                Ok(_) => self.keeper.finalized_slot(),
                Err(error) if error.is_fatal() => {
                    self.keeper.ended(&error);
                    return error;
                }
                Err(error) => {
                    tracing::warn!(%error, "light client not synchronised");
                    None
                }
            };
            tokio::time::sleep(pace.wait(self.keeper.network(), reached, self.keeper.now_ms())).await;
        }
    }

    /// Asks for what there is to know now, once: the checkpoint's header, committees, finality. Returns the newest finalized
    /// block, which is the one known already where endpoints show no later one.
    ///
    /// # Errors
    /// [`ClientError`]; what was proven before that is kept.
    pub async fn sync_once(&self) -> Result<Block, ClientError> {
        self.keeper.sync().await
    }

    /// The newest block that is proven to be finalized. Asks nobody.
    ///
    /// # Errors
    /// [`ClientError::NotSynced`] at first, [`ClientError::Stale`] where it is too old to be believed.
    pub fn finalized(&self) -> Result<Block, ClientError> {
        self.keeper.finalized()
    }

    /// The newest block that two thirds of the committee signed. It may still be reorganised away. Asks for a newer one where
    /// the one known is older than a slot, at most once a slot.
    ///
    /// # Errors
    /// [`ClientError::NoHead`] where it is older than an epoch, whatever endpoints say; otherwise as [`Self::sync_once`].
    pub async fn latest(&self) -> Result<Block, ClientError> {
        self.keeper.latest().await
    }

    /// Proven reading from the execution endpoints.
    #[must_use]
    pub fn rpc(&self) -> &Rpc {
        &self.rpc
    }

    /// How it stands. Asks nobody.
    #[must_use]
    pub fn status(&self) -> Status {
        self.keeper.status(self.rpc.report())
    }

    /// The newest finalized block as it changes.
    #[must_use]
    pub fn subscribe(&self) -> watch::Receiver<Option<Block>> {
        self.keeper.subscribe()
    }
}

impl fmt::Debug for LightClient {
    /// Not the thousand keys of its committees.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let network = &self.keeper.network().name;
        let finalized = self.keeper.finalized_slot();
        f.debug_struct("LightClient")
            .field("network", network)
            .field("finalized", &finalized)
            .finish_non_exhaustive()
    }
}
