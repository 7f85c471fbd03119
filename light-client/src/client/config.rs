//! What a client is opened with.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use alloy::primitives::B256;

use crate::http::{Endpoint, Limits};
use crate::spec::Network;

/// What a client is opened with.
#[derive(Clone)]
pub struct Config {
    /// The constants of the network.
    pub network: Arc<Network>,
    /// Root of a finalized block that the operator trusts. May be left out where the store has something already. A later
    /// one than the store's takes its place; an earlier one does not.
    pub checkpoint: Option<B256>,
    /// Begin, or go on, although what is trusted is older than the weak subjectivity period.
    pub allow_stale_checkpoint: bool,
    /// Beacon endpoints, in order of preference.
    pub beacon: Vec<String>,
    /// Execution endpoints (JSON-RPC), in order of preference.
    pub rpc: Vec<String>,
    /// EIP-155 chain id that the execution endpoints have to have.
    pub chain_id: u64,
    /// The store's file.
    pub store: PathBuf,
    /// What one request may cost.
    pub limits: Limits,
    /// Age of the newest finalized header from which the status warns that finality is withheld, or has stopped.
    pub finality_alarm: Duration,
    /// What time it is.
    pub clock: Clock,
}

impl Config {
    /// A reasonable bound for [`Config::finality_alarm`]: on mainnet the newest finalized header is 13 to 20 minutes old.
    pub const FINALITY_ALARM: Duration = Duration::from_secs(60 * 60);
}

impl fmt::Debug for Config {
    /// Of URLs the host only, see [`Endpoint::name`].
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = |urls: &[String]| -> Vec<String> {
            let name = |url: &String| match Endpoint::new(url, self.limits) {
                Ok(endpoint) => endpoint.name(),
                Err(error) => error.to_string(),
            };
            urls.iter().map(name).collect()
        };
        f.debug_struct("Config")
            .field("network", &self.network.name)
            .field("checkpoint", &self.checkpoint)
            .field("allow_stale_checkpoint", &self.allow_stale_checkpoint)
            .field("beacon", &names(&self.beacon))
            .field("rpc", &names(&self.rpc))
            .field("chain_id", &self.chain_id)
            .field("store", &self.store)
            .field("limits", &self.limits)
            .field("finality_alarm", &self.finality_alarm)
            .field("clock", &self.clock)
            .finish()
    }
}

/// A source of time, in milliseconds since 1970. Cheap to clone.
#[derive(Clone)]
pub struct Clock(Arc<dyn Fn() -> u64 + Send + Sync>);

impl Clock {
    /// The computer's.
    #[must_use]
    pub fn system() -> Self {
        // A clock before 1970 is one that was never set: before any genesis, which is reported.
        Self::new(|| {
            let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
            u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
        })
    }

    /// Any other.
    pub fn new(now_ms: impl Fn() -> u64 + Send + Sync + 'static) -> Self {
        Self(Arc::new(now_ms))
    }

    /// Milliseconds since 1970.
    #[must_use]
    pub fn now_ms(&self) -> u64 {
        (self.0)()
    }
}

impl Default for Clock {
    fn default() -> Self {
        Self::system()
    }
}

impl fmt::Debug for Clock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Clock").field(&self.now_ms()).finish()
    }
}
