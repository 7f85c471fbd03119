//! The chain that bounties are on.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use alloy::primitives::{Address, B256};
use posthouse_contracts::chain::{Trust, light};
use posthouse_contracts::deployment::FACTORY;
use posthouse_light_client::client::Config as LightClientConfig;
use posthouse_light_client::spec::Network;
use posthouse_protocol::id::ChainId;
use serde::Deserialize;

use super::ConfigError;

/// The chain that bounties are on.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Chain {
    /// Whose word about the chain is taken.
    #[serde(default = "nobodys")]
    pub trust: Trust,
    /// `mainnet`, `sepolia`, `hoodi`, or the path of a file with the consensus constants of another
    /// network; by default the one of the three that has the chain id.
    pub network: Option<String>,
    /// Beacon API endpoints, in order of preference.
    #[serde(default)]
    pub beacon: Vec<String>,
    /// Root of a finalized beacon block from which everything else is proven. Not needed once there is
    /// something proven in the state folder.
    pub checkpoint: Option<B256>,
    /// Whether to go on from a checkpoint that is older than the weak subjectivity period.
    #[serde(default)]
    pub allow_stale_checkpoint: bool,
    /// JSON-RPC endpoints, in order of preference.
    pub rpc: Vec<String>,
    /// EIP-155 chain id.
    pub id: u64,
    /// The factory whose word counts; this release's, unless another is given.
    #[serde(default = "this_releases_factory")]
    pub factory: Address,
    /// Between two readings, milliseconds.
    #[serde(default = "twelve_seconds")]
    pub poll_ms: u64,
}

impl Chain {
    pub(super) fn check(&self) -> Result<(), ConfigError> {
        if self.rpc.is_empty() {
            return Err(ConfigError::NoEndpoint);
        }
        usable("rpc", &self.rpc)?;
        usable("beacon", &self.beacon)?;
        self.check_trust()?;
        if self.poll_ms < 50 { Err(ConfigError::Poll(self.poll_ms)) } else { Ok(()) }
    }

    fn check_trust(&self) -> Result<(), ConfigError> {
        match self.trust {
            Trust::LightClient if self.beacon.is_empty() => Err(ConfigError::NoBeacon),
            Trust::LightClient => Ok(()),
            Trust::Rpc => {
                let given = [
                    ("network", self.network.is_some()),
                    ("beacon", !self.beacon.is_empty()),
                    ("checkpoint", self.checkpoint.is_some()),
                    ("allow_stale_checkpoint", self.allow_stale_checkpoint),
                ];
                // Whoever sets them means to have them checked.
                let ignored = given.iter().find(|(_, given)| *given);
                ignored.map_or(Ok(()), |(key, _)| Err(ConfigError::ForLightClient(key)))
            }
        }
    }

    /// The network that is followed; reads its file where it has one. `None` without a light client.
    ///
    /// # Errors
    /// [`ConfigError::Network`].
    pub fn network(&self) -> Result<Option<Network>, ConfigError> {
        let found = match self.trust {
            Trust::Rpc => return Ok(None),
            Trust::LightClient => light::network(self.network.as_deref(), self.chain_id()),
        };
        found.map(Some).map_err(|why| ConfigError::Network(why.to_string()))
    }

    /// What the light client is opened with, its store in this file. `None` where there is no light client.
    ///
    /// # Errors
    /// [`ConfigError::Network`].
    pub fn light_client(&self, store: PathBuf) -> Result<Option<LightClientConfig>, ConfigError> {
        let config = |network| LightClientConfig {
            network: Arc::new(network),
            checkpoint: self.checkpoint,
            allow_stale_checkpoint: self.allow_stale_checkpoint,
            beacon: self.beacon.clone(),
            rpc: self.rpc.clone(),
            chain_id: self.id,
            store,
            limits: Default::default(),
            finality_alarm: LightClientConfig::FINALITY_ALARM,
            clock: Default::default(),
        };
        Ok(self.network()?.map(config))
    }

    /// The chain id, typed.
    pub fn chain_id(&self) -> ChainId {
        ChainId::new(self.id)
    }

    /// Between two readings.
    pub fn poll(&self) -> Duration {
        Duration::from_millis(self.poll_ms)
    }
}

fn usable(key: &'static str, urls: &[String]) -> Result<(), ConfigError> {
    let good = |text: &str| url::Url::parse(text).is_ok_and(|url| matches!(url.scheme(), "http" | "https"));
    match urls.iter().position(|url| !good(url)) {
        Some(position) => Err(ConfigError::Endpoint { key, position }),
        None => Ok(()),
    }
}

const fn this_releases_factory() -> Address {
    FACTORY.address
}

const fn twelve_seconds() -> u64 {
    12_000
}

const fn nobodys() -> Trust {
    Trust::LightClient
}
