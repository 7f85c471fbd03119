//! The sections of the settings that both programs have: keys, chain and peer-to-peer network.

use std::fmt::Display;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use alloy::primitives::{Address, B256};
use alloy::signers::local::PrivateKeySigner;
use posthouse_audit::{Audit, Bounds};
use posthouse_contracts::chain::{Chain, Limits, RpcChain, RpcConfig, Trust, light};
use posthouse_contracts::deployment::FACTORY;
use posthouse_dsn::{Config as DsnConfig, Dsn, Keypair, Multiaddr, Network, PeerId, Records, Role};
use posthouse_light_client::beacon::Beacon;
use posthouse_light_client::client::Config as LightClientConfig;
use posthouse_light_client::http::Endpoint;
use posthouse_protocol::cose::ReleaseSigningKey;
use posthouse_protocol::id::ChainId;
use serde::Deserialize;
use zeroize::Zeroizing;

use crate::secret_file::{self, SecretFileError};
use crate::settings::{Amount, SettingsError, Text, beside};
use crate::wallet::Wallet;

/// Fastest polling: below this a local chain is asked more than it is used.
const MIN_POLL_MS: u64 = 50;

/// `[keys]`: where the private keys are.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Keys {
    pub(crate) ethereum: PathBuf,
    pub(crate) peer: PathBuf,
    pub(crate) release: Option<PathBuf>,
}

/// `[chain]`: which chain, by whom it is read, what a transaction may cost.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ChainSection {
    pub(crate) id: u64,
    pub(crate) trust: Option<Trust>,
    pub(crate) network: Option<String>,
    #[serde(default)]
    pub(crate) beacon: Vec<String>,
    pub(crate) checkpoint: Option<Text<B256>>,
    #[serde(default)]
    pub(crate) allow_stale_checkpoint: bool,
    pub(crate) rpc: Vec<String>,
    /// This release's, unless another is given.
    pub(crate) factory: Option<Text<Address>>,
    #[serde(default = "default_poll")]
    pub(crate) poll_ms: u64,
    #[serde(default = "default_timeout")]
    pub(crate) timeout_secs: u64,
    #[serde(default = "default_max_fee")]
    pub(crate) max_fee: Text<Amount>,
    #[serde(default = "default_priority_fee")]
    pub(crate) priority_fee: Text<Amount>,
}

fn default_poll() -> u64 {
    4000
}

fn default_timeout() -> u64 {
    20
}

fn default_max_fee() -> Text<Amount> {
    Text(Amount(200_000_000_000))
}

fn default_priority_fee() -> Text<Amount> {
    Text(Amount(1_000_000_000))
}

impl ChainSection {
    /// Checks what the types do not say.
    pub(crate) fn check(&self, file: &Path) -> Result<(), SettingsError> {
        let bad = |key: &str, value: String, why: &str| Err(SettingsError::value(file, key, value, why));
        if self.id == 0 {
            return bad("chain.id", self.id.to_string(), "no chain has this id");
        }
        if self.poll_ms < MIN_POLL_MS {
            return bad("chain.poll_ms", self.poll_ms.to_string(), "must be at least 50");
        }
        if self.timeout_secs == 0 {
            return bad("chain.timeout_secs", self.timeout_secs.to_string(), "must be at least 1");
        }
        if self.priority_fee.0.0 > self.max_fee.0.0 {
            let value = format!("{} wei", self.priority_fee.0.0);
            return bad("chain.priority_fee", value, "is above chain.max_fee");
        }
        self.reader(file, Address::ZERO).map(drop)
    }

    pub(crate) fn id(&self) -> ChainId {
        ChainId::new(self.id)
    }

    pub(crate) fn poll(&self) -> Duration {
        Duration::from_millis(self.poll_ms)
    }

    /// How long a task that reads the chain may have nothing of an endpoint, nor begin anew, and still not hang. It may wait for its turn
    /// while another asks: three answers, each of all endpoints, of which each takes three times [`Limits::timeout`].
    pub(crate) fn longest_wait(&self) -> Duration {
        let endpoints = u32::try_from(self.beacon.len().max(self.rpc.len()).max(3)).unwrap_or(u32::MAX);
        Duration::from_secs(self.timeout_secs)
            .saturating_mul(endpoints.saturating_mul(10))
            .saturating_add(self.poll().saturating_mul(2))
    }

    /// The factory whose word counts. What stands there is not looked at.
    pub(crate) fn factory(&self) -> Address {
        self.factory.map_or(FACTORY.address, |factory| factory.0)
    }

    /// Checks that nothing is set which only a light client would heed.
    pub(crate) fn check_believes(&self, file: &Path) -> Result<(), SettingsError> {
        let given = [
            ("chain.trust", self.trust == Some(Trust::LightClient)),
            ("chain.network", self.network.is_some()),
            ("chain.beacon", !self.beacon.is_empty()),
            ("chain.checkpoint", self.checkpoint.is_some()),
            ("chain.allow_stale_checkpoint", self.allow_stale_checkpoint),
        ];
        let why = "is for a light client, and there is none here: the endpoints are believed";
        let ignored = given.iter().find(|(_, given)| *given);
        ignored.map_or(Ok(()), |(key, _)| Err(SettingsError::value(file, key, "given", why)))
    }

    /// Whose word is taken where a light client can be had: nobody's, unless the settings say otherwise.
    pub(crate) fn trust(&self) -> Trust {
        self.trust.unwrap_or(Trust::LightClient)
    }

    /// Checks what a light client needs, where there is to be one.
    pub(crate) fn check_trust(&self, file: &Path) -> Result<(), SettingsError> {
        if self.trust() == Trust::Rpc {
            return self.check_believes(file);
        }
        if self.beacon.is_empty() {
            let why = "needs an endpoint; without one the chain can only be believed (chain.trust = \"rpc\")";
            return Err(SettingsError::value(file, "chain.beacon", "[]", why));
        }
        self.light_client(file, PathBuf::new()).map(drop)
    }

    /// What the light client is opened with; reads the network's file where it has one.
    pub(crate) fn light_client(
        &self,
        file: &Path,
        store: PathBuf,
    ) -> Result<LightClientConfig, SettingsError> {
        let named = |name: &String| match posthouse_light_client::spec::Network::named(name) {
            Some(_) => name.clone(),
            None => beside(file, Path::new(name)).to_string_lossy().into_owned(),
        };
        let network = self.network.as_ref().map(named);
        let network = light::network(network.as_deref(), self.id()).map_err(|why| {
            SettingsError::value(file, "chain.network", self.network.as_deref().unwrap_or("not given"), why)
        })?;
        endpoints(file, "chain.beacon", &self.beacon, self.limits())?;
        Beacon::new(network.clone().into(), &self.beacon, self.limits())
            .map_err(|why| unfit(file, "chain.beacon", why))?;
        Ok(LightClientConfig {
            network: network.into(),
            checkpoint: self.checkpoint.map(|root| root.0),
            allow_stale_checkpoint: self.allow_stale_checkpoint,
            beacon: self.beacon.clone(),
            rpc: self.rpc.clone(),
            chain_id: self.id,
            store,
            limits: self.limits(),
            finality_alarm: LightClientConfig::FINALITY_ALARM,
            clock: Default::default(),
        })
    }

    fn limits(&self) -> Limits {
        Limits { timeout: Duration::from_secs(self.timeout_secs), ..Limits::default() }
    }

    /// Reads the chain by JSON-RPC; nothing is dialled yet.
    pub(crate) fn reader(&self, file: &Path, factory: Address) -> Result<RpcChain, SettingsError> {
        let config = RpcConfig { urls: self.rpc.clone(), chain: self.id(), factory, limits: self.limits() };
        endpoints(file, "chain.rpc", &self.rpc, self.limits())?;
        RpcChain::new(&config).map_err(|why| unfit(file, "chain.rpc", why))
    }

    /// An endpoint that only takes transactions.
    pub(crate) fn relay(&self, file: &Path, url: &str) -> Result<RpcChain, SettingsError> {
        let (urls, factory, limits) = (vec![url.to_owned()], Address::ZERO, self.limits());
        let config = RpcConfig { urls, chain: self.id(), factory, limits };
        RpcChain::new(&config).map_err(|why| unfit(file, "redeem.private_relay", why))
    }

    /// Sends by `rpc`, and takes the word of `proven` for fee and balance.
    pub(crate) fn wallet(&self, rpc: &RpcChain, proven: Arc<dyn Chain>, signer: PrivateKeySigner) -> Wallet {
        let (max_fee, priority_fee) = (self.max_fee.0.0, self.priority_fee.0.0);
        Wallet::new(signer, rpc.clone(), proven, self.id(), max_fee, priority_fee)
    }
}

/// `[dsn]`: the peer-to-peer network.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct DsnSection {
    pub(crate) listen: Vec<Text<Multiaddr>>,
    #[serde(default)]
    pub(crate) external: Vec<Text<Multiaddr>>,
    #[serde(default)]
    pub(crate) bootstrap: Vec<Text<Multiaddr>>,
    pub(crate) fleet: Option<String>,
    #[serde(default)]
    pub(crate) allow: Vec<Text<PeerId>>,
}

impl DsnSection {
    /// A DHT server's configuration. `any_records` makes it keep records of content it does not know.
    pub(crate) fn config(
        &self,
        file: &Path,
        keypair: Keypair,
        store: PathBuf,
        protocols: &[&str],
        any_records: bool,
    ) -> Result<DsnConfig, SettingsError> {
        let mut config = DsnConfig::new(keypair, store);
        config.listen = plain(&self.listen);
        config.external = plain(&self.external);
        config.bootstrap = plain(&self.bootstrap);
        config.network = self.fleet.clone().map_or(Network::Public, Network::Fleet);
        config.role = Role::Server;
        config.records = if any_records { Records::Any } else { Records::Known };
        config.allow = (!self.allow.is_empty()).then(|| plain(&self.allow));
        config.request_protocols = protocols.iter().map(|name| (*name).to_string()).collect();
        if config.listen.is_empty() {
            return Err(SettingsError::value(file, "dsn.listen", "[]", "needs an address"));
        }
        config.check().map_err(|why| SettingsError::value(file, "dsn", "section", why))?;
        Ok(config)
    }

    /// What to tell others to reach the peer at, each ending in its id: the external addresses, or what it listens on where none is given.
    pub(crate) fn reached_at(&self, dsn: &Dsn) -> Vec<String> {
        let external = plain(&self.external).into_iter();
        let named = external.map(|address| address.with_p2p(dsn.peer_id()).unwrap_or_else(|named| named));
        let addresses = if self.external.is_empty() { dsn.addresses() } else { named.collect() };
        addresses.iter().map(ToString::to_string).collect()
    }
}

/// `[audit]`: where it is written down what is signed, offered and paid, and how much there may be of it.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct AuditSection {
    file: Option<PathBuf>,
    max_bytes: u64,
    files: u32,
}

impl Default for AuditSection {
    fn default() -> Self {
        let Bounds { bytes, files } = Bounds::default();
        Self { file: None, max_bytes: bytes, files }
    }
}

impl AuditSection {
    pub(crate) fn check(&self, file: &Path) -> Result<(), SettingsError> {
        if self.max_bytes < Bounds::LEAST_BYTES {
            let why = format!("must be at least {}", Bounds::LEAST_BYTES);
            return Err(SettingsError::value(file, "audit.max_bytes", self.max_bytes, why));
        }
        if self.files > Bounds::MOST_FILES {
            let why = format!("must be at most {}", Bounds::MOST_FILES);
            return Err(SettingsError::value(file, "audit.files", self.files, why));
        }
        Ok(())
    }

    /// The log; `audit.jsonl` in the state's folder unless the settings, which `file` is, say otherwise. The first record makes it.
    pub(crate) fn log(&self, file: &Path, state_dir: &Path) -> Audit {
        let own = self.file.as_ref().map(|path| beside(file, path));
        let path = own.unwrap_or_else(|| state_dir.join("audit.jsonl"));
        Audit::at(&path, Bounds { bytes: self.max_bytes, files: self.files })
    }
}

/// Checks each URL, and names the first one that cannot be used by its position from 0: it may hold an API key.
fn endpoints(file: &Path, key: &str, urls: &[String], limits: Limits) -> Result<(), SettingsError> {
    for (position, url) in urls.iter().enumerate() {
        Endpoint::new(url, limits).map_err(|why| unfit(file, &format!("{key}[{position}]"), why))?;
    }
    Ok(())
}

/// About a value that is not for everybody's eyes.
fn unfit(file: &Path, key: &str, why: impl Display) -> SettingsError {
    SettingsError { source: file.display().to_string(), key: Some(key.into()), why: why.to_string() }
}

fn plain<T: Clone>(texts: &[Text<T>]) -> Vec<T> {
    texts.iter().map(|text| text.0.clone()).collect()
}

impl Keys {
    /// Makes the key files that are missing; one that is there is never touched. Names those it made.
    pub(crate) fn create_missing(&self) -> Result<Vec<&'static str>, SecretFileError> {
        let mut made = Vec::new();
        let mut make = |name, path: &Path, key: Zeroizing<[u8; 32]>| {
            if path.exists() {
                return Ok(());
            }
            let io = |source| SecretFileError::Io { path: path.into(), source };
            path.parent().map_or(Ok(()), secret_file::create_folder).map_err(io)?;
            secret_file::create(path, &key)?;
            made.push(name);
            Ok(())
        };
        make("ethereum", &self.ethereum, Zeroizing::new(PrivateKeySigner::random().to_bytes().0))?;
        let mut peer = Zeroizing::new([0; 32]);
        rand::Rng::fill(&mut rand::rng(), peer.as_mut_slice());
        make("peer", &self.peer, peer)?;
        if let Some(release) = &self.release {
            let key = ReleaseSigningKey::generate(|bytes| rand::Rng::fill(&mut rand::rng(), bytes))
                .expect("one of eight draws is a scalar");
            make("release", release, Zeroizing::new(key.to_bytes()))?;
        }
        Ok(made)
    }

    pub(crate) fn ethereum(&self, file: &Path) -> Result<PrivateKeySigner, SettingsError> {
        let key = read(file, "keys.ethereum", &self.ethereum)?;
        PrivateKeySigner::from_slice(key.as_slice())
            .map_err(|why| SettingsError::value(file, "keys.ethereum", self.ethereum.display(), why))
    }

    pub(crate) fn peer(&self, file: &Path) -> Result<Keypair, SettingsError> {
        let mut key = read(file, "keys.peer", &self.peer)?;
        Keypair::ed25519_from_bytes(key.as_mut_slice())
            .map_err(|why| SettingsError::value(file, "keys.peer", self.peer.display(), why))
    }
}

/// A key file that the settings name, by its place as they were loaded.
pub(crate) fn read(file: &Path, key: &str, path: &Path) -> Result<Zeroizing<[u8; 32]>, SettingsError> {
    secret_file::read(path).map_err(|why| SettingsError::value(file, key, path.display(), why))
}

/// The peer that a multiaddress ends in.
pub(crate) fn peer_of(address: &Multiaddr) -> Option<PeerId> {
    let text = address.to_string();
    text.rsplit_once("/p2p/").and_then(|(_, peer)| PeerId::from_str(peer).ok())
}
