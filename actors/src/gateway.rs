//! All the wiring: who is made from what, and who speaks to whom. Read this first.
//!
//! ```text
//!   chain ──announced, keys──▶ exchanges ◀──hello, signature, status── sensors (hub) ◀── mqtt, coap
//!     ◀──watch, claims───────   │ │ │ │ ──intents──────────────────────▶
//!   store ◀──records first──────┘ │ │ └──images──▶ stage
//!   verifier ◀──packages, offers──┘ └──packages, bodies, requests──▶ dsn
//! ```

mod folders;
mod found;

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use actix::{Actor as _, Addr, Arbiter, ArbiterHandle, AsyncContext as _, Context, Recipient, SyncArbiter};
use posthouse_audit::{Audit, Kind, Record};
use posthouse_contracts::chain::{
    Chain as ReadChain, ChainError, LightChain, Limits, RpcChain, RpcConfig, Trust,
};
use posthouse_dsn::{Keypair, Network, PeerId};
use posthouse_protocol::exchange::PROTOCOL;
use posthouse_protocol::id::{PeerHash, ProductId, Version};
use thiserror::Error;

use self::folders::Folders;
use self::found::{find, known, told};
use crate::chain::{Chain, Followed, Settings};
use crate::coap::{self, Coap, Keys, Rekey};
use crate::config::{Config, ConfigError, peers};
use crate::dsn::{Dsn, introduce};
use crate::exchange::{Exchanges, Flush, MAX_FOLLOWS, PAUSE_PER_SENSOR, Peers, SetCampaign, Site};
use crate::mqtt::{self, Mqtt};
use crate::pulse::Pulses;
use crate::sensors::Sensors;
use crate::stage::Stage;
use crate::status;
use crate::store::{Close, Store, StoreError};
use crate::verifier::Verifier;

/// Threads that check proofs and packages: a check takes about a millisecond.
const VERIFIERS: usize = 1;
/// How long what sensors said last may take to be written at the end.
const WRITE: Duration = Duration::from_secs(2);
/// How long the database may take to be closed then.
const CLOSE: Duration = Duration::from_secs(1);
/// How long the last records of the audit log may take.
const AUDIT: Duration = Duration::from_secs(1);

/// Why the gateway does not start.
#[derive(Debug, Error)]
pub enum StartError {
    /// The configuration cannot be used.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// A file or folder of the state cannot be used.
    #[error("{path}: {error}")]
    State {
        /// Which.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// Another gateway uses the same state.
    #[error("{0}: another gateway runs on this folder")]
    Busy(PathBuf),
    /// The peer key's file is open to others.
    #[error("{0}: must not be readable by group or others (mode 0600)")]
    KeyMode(PathBuf),
    /// The peer key's file does not hold a key.
    #[error("{0}: not a libp2p key")]
    Key(PathBuf),
    /// The database cannot be used.
    #[error("{path}: {error}")]
    Store {
        /// Which file.
        path: PathBuf,
        /// Why.
        error: StoreError,
    },
    /// The light client does not start.
    #[error("chain: light client: {0}")]
    LightClient(#[from] posthouse_light_client::client::StartError),
    /// The chain's endpoints cannot be used.
    #[error("chain: {0}")]
    Chain(#[from] ChainError),
    /// The peer does not start.
    #[error("dsn: {0}")]
    Dsn(#[from] posthouse_dsn::StartError),
    /// The MQTT carrier does not start.
    #[error("sensors.mqtt: {0}")]
    Mqtt(#[from] mqtt::ConfigError),
    /// An address cannot be listened on.
    #[error("{key}: {address}: {error}")]
    Listen {
        /// The key in the configuration.
        key: &'static str,
        /// Its value.
        address: SocketAddr,
        /// Why.
        error: io::Error,
    },
    /// The Unix socket cannot be made.
    #[error("status.socket: {path}: {error}")]
    Socket {
        /// Where it should be.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// An actor ended before it had begun.
    #[error("an actor ended at its start")]
    Ended,
}

/// What of a new configuration holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reloaded {
    /// So many keys of sensors on DTLS, which are all there are now; none if there is no endpoint for them, or the new configuration
    /// names none: then the old ones go on.
    pub keys: Option<usize>,
    /// The sections that differ from the old ones and hold from the next start on.
    pub waiting: Vec<&'static str>,
}

/// A running gateway. It ends with its actix system; [`Gateway::stop`] takes leave of the network.
pub struct Gateway {
    /// The exchanges; they answer [`status::GetSnapshot`].
    pub exchanges: Addr<Exchanges>,
    /// The hub.
    pub sensors: Addr<Sensors>,
    /// Where CoAP sensors speak to: without DTLS, then with it, as far as they may.
    pub coap: Vec<SocketAddr>,
    /// Where the status is.
    pub status: Option<SocketAddr>,
    /// What was signed, accepted, refused or paid.
    pub audit: Audit,
    dsn: posthouse_dsn::Dsn,
    store: Addr<Store>,
    pulses: Pulses,
    endpoints: Vec<Addr<Coap>>,
    hub_thread: Arbiter,
    /// Held for as long as the gateway runs.
    _lock: File,
}

impl Gateway {
    /// Starts everything, in an actix system that runs already.
    ///
    /// # Errors
    /// [`StartError`], before anything is sent to anybody.
    pub async fn start(config: &Config) -> Result<Self, StartError> {
        config.check()?;
        let folders = Folders::make(&config.state_dir)?;
        let lock = folders.lock()?;
        let (path, bounds) = config.audit_log();
        let audit = Audit::at(&path, bounds);
        audit.tell(Record { reason: Some(env!("CARGO_PKG_VERSION").into()), ..Record::new(Kind::Started) });
        let keypair = folders.peer_key()?;
        let reader = reader(config, &folders)?;
        let loaded = folders.load()?;

        let store_path = folders.database.clone();
        let store = SyncArbiter::start(1, move || Store::new(store_path.clone()));
        let kept = store.clone();
        let (images, quota) = (folders.images.clone(), config.staging.quota);
        let stage = SyncArbiter::start(1, move || Stage::new(images.clone(), quota));
        let verifier = SyncArbiter::start(VERIFIERS, || Verifier);
        let site = site(config, &folders, keypair.public().to_peer_id(), reader.health().trust);
        let told = told(&loaded, &site);
        let known = known(&loaded, &config.sensors, SystemTime::now());
        let found = find(loaded, &folders, config, &stage).await?;

        let handle = peer(config, &folders, keypair).await?;
        let dsn = Dsn::new(handle.clone(), distributors(config)?).start();
        let mut pulses = Pulses::default();
        pulses.add("dsn", dsn.clone().recipient());
        let hub_thread = Arbiter::new();
        let hub_on = hub_thread.handle();
        let (policy, limits) = config.sensors.policy();
        let mut hub = None;
        let reading = reading(config, reader, told);
        let peer = dsn.clone().recipient();
        let exchanges = Exchanges::create(|ctx: &mut Context<Exchanges>| {
            let me = ctx.address();
            let chain = {
                let (announced, keys, seen) =
                    (me.clone().recipient(), me.clone().recipient(), me.clone().recipient());
                Chain::new(announced, keys, seen, reading).start()
            };
            pulses.add("chain", chain.clone().recipient());
            let refusals = audit.clone();
            let sensors = Sensors::start_in_arbiter(&hub_on, move |_| {
                let (hello, signature) = (me.clone().recipient(), me.clone().recipient());
                Sensors::new(hello, signature, me.clone().recipient(), me.recipient(), policy, limits)
                    .remembering(known)
                    .auditing(refusals)
            });
            hub = Some(sensors.clone());
            let hub = sensors.recipient();
            let peers = Peers { store, chain, dsn, verifier, stage, hub, audit: audit.clone() };
            Exchanges::new(peers, site, found)
        });
        let sensors = hub.ok_or(StartError::Ended)?;
        pulses.add("exchanges", exchanges.clone().recipient());
        pulses.add("sensors", sensors.clone().recipient());

        let (endpoints, coap) = start_coap(config, &sensors, &audit, &hub_thread.handle()).await?;
        endpoints.iter().for_each(|endpoint| pulses.add("coap", endpoint.clone().recipient()));
        if let Some(mqtt) = config.sensors.mqtt()? {
            pulses.add("mqtt", start_mqtt(mqtt, &sensors, &hub_thread.handle()).await?.recipient());
        }
        let status = start_status(config, &exchanges, &sensors, peer, &audit)?;
        Ok(Self {
            exchanges,
            sensors,
            coap,
            status,
            audit,
            dsn: handle,
            store: kept,
            pulses,
            endpoints,
            hub_thread,
            _lock: lock,
        })
    }

    /// The actors that do not answer in time; none, as long as all is well.
    pub async fn silent(&self, within: Duration) -> Vec<&'static str> {
        self.pulses.silent(within).await
    }

    /// This gateway's peer id.
    pub fn peer_id(&self) -> PeerId {
        self.dsn.peer_id()
    }

    /// Takes over what of a new configuration holds at once: `campaign`, and the keys in the files of `sensors.coap.dtls.keys`.
    ///
    /// # Errors
    /// The configuration cannot be used; the old one goes on.
    pub fn reload(&self, old: &Config, new: &Config) -> Result<Reloaded, ConfigError> {
        new.check()?;
        // Where no endpoint was started with keys, none take hold.
        let keys = new.sensors.dtls_keys()?.filter(|_| old.sensors.has_dtls());
        self.exchanges.do_send(SetCampaign(new.campaign.clone()));
        let held = keys.as_ref().map(Keys::len);
        if let Some(keys) = keys {
            self.endpoints.iter().for_each(|endpoint| endpoint.do_send(Rekey(keys.clone())));
        }
        let sections = old.sections().into_iter().zip(new.sections());
        let waiting: Vec<&'static str> = sections.filter(|(a, b)| a != b).map(|(a, _)| a.0).collect();
        let reason = (!waiting.is_empty()).then(|| waiting.join(", "));
        let count = held.map(|keys| keys as u64);
        self.audit.tell(Record { reason, count, ..Record::new(Kind::Reloaded) });
        Ok(Reloaded { keys: held, waiting })
    }

    /// Ends the hub's thread, has what sensors said last written, closes the database, and leaves the network. All that must not be
    /// lost is on disk at any moment, so this is a courtesy to peers and sensors, and to who copies the state: it is whole without
    /// `gateway.db-wal`. What the exchanges still want to write is refused, and by their own rule does not leave.
    pub async fn stop(self) {
        self.hub_thread.stop();
        let lost = match self.exchanges.send(Flush).timeout(WRITE).await {
            Ok(Ok(())) => None,
            Ok(Err(why)) => Some(why.to_string()),
            Err(why) => Some(why.to_string()),
        };
        if let Some(error) = lost {
            tracing::warn!(error, "what sensors said last is not kept; they say it again");
        }
        let closed = match self.store.send(Close).timeout(CLOSE).await {
            Ok(closed) => closed.map_err(|why| why.to_string()),
            Err(why) => Err(why.to_string()),
        };
        if let Err(error) = closed {
            tracing::warn!(error, "the database is not closed: what was written last is in gateway.db-wal");
        }
        self.audit.tell(Record::new(Kind::Stopped));
        if !self.audit.flush(AUDIT) {
            tracing::warn!("the last records of the audit log may be lost");
        }
        self.dsn.stop().await;
    }
}

/// Starts the broker's carrier on the hub's thread: a sensor that wakes does not wait for what the exchanges decide.
async fn start_mqtt(
    settings: mqtt::Config,
    hub: &Addr<Sensors>,
    thread: &ArbiterHandle,
) -> Result<Addr<Mqtt>, StartError> {
    let hub = hub.clone();
    let (sender, started) = tokio::sync::oneshot::channel();
    thread.spawn(async move { drop(sender.send(Mqtt::start(&settings, &hub))) });
    Ok(started.await.map_err(|_| StartError::Ended)??)
}

/// Starts the endpoints on the hub's thread: a block of an image that need not cross threads comes twice as fast.
async fn start_coap(
    config: &Config,
    hub: &Addr<Sensors>,
    audit: &Audit,
    thread: &ArbiterHandle,
) -> Result<(Vec<Addr<Coap>>, Vec<SocketAddr>), StartError> {
    let mut endpoints = Vec::new();
    for (key, settings) in config.sensors.coap()? {
        let (listen, hub) = (settings.listen, hub.clone());
        let settings = coap::Config { audit: audit.clone(), ..settings };
        let (sender, started) = tokio::sync::oneshot::channel();
        thread.spawn(async move {
            let started = Coap::start(settings, &hub).await;
            drop(sender.send(started));
        });
        let started = started.await.map_err(|_| StartError::Ended)?;
        endpoints.push(started.map_err(|error| StartError::Listen { key, address: listen, error })?);
    }
    Ok(endpoints.into_iter().unzip())
}

fn start_status(
    config: &Config,
    source: &Addr<Exchanges>,
    hub: &Addr<Sensors>,
    peer: Recipient<status::GetPeers>,
    audit: &Audit,
) -> Result<Option<SocketAddr>, StartError> {
    let settings = &config.status;
    let no_socket = |error| StartError::Socket { path: settings.socket.clone().unwrap_or_default(), error };
    let socket = settings.socket.as_deref().map(status::socket).transpose().map_err(no_socket)?;
    if settings.listen.is_none() && socket.is_none() {
        return Ok(None);
    }
    let desk = status::Desk {
        source: source.clone().recipient(),
        orders: source.clone().recipient(),
        retries: source.clone().recipient(),
        carried: hub.clone().recipient(),
        peers: peer,
        token: settings.token()?,
        audit: audit.clone(),
    };
    let failed = |error| match settings.listen {
        Some(address) => StartError::Listen { key: "status.listen", address, error },
        None => no_socket(error),
    };
    let (server, address) = status::serve(settings.listen, socket, desk).map_err(failed)?;
    actix::spawn(async move {
        if let Err(error) = server.await {
            tracing::error!(%error, "the status server ended");
        }
    });
    Ok(address)
}

/// Who reads the chain. A light client begins to follow it.
fn reader(config: &Config, folders: &Folders) -> Result<Arc<dyn ReadChain>, StartError> {
    if let Some(client) = config.chain.light_client(folders.light_client.clone())? {
        let chain = LightChain::open(client, config.chain.factory)?;
        let follow = chain.clone();
        // Where it ends it has said why, and the status says so from then on; what is staged is served all the same.
        actix::spawn(async move { drop(follow.run().await) });
        return Ok(Arc::new(chain));
    }
    let rpc = RpcConfig {
        urls: config.chain.rpc.clone(),
        chain: config.chain.chain_id(),
        factory: config.chain.factory,
        limits: Limits::default(),
    };
    Ok(Arc::new(RpcChain::new(&rpc)?))
}

async fn peer(
    config: &Config,
    folders: &Folders,
    keypair: Keypair,
) -> Result<posthouse_dsn::Dsn, StartError> {
    let mut settings = posthouse_dsn::Config::new(keypair, &folders.blocks);
    settings.listen = config.dsn.listen.clone();
    settings.bootstrap = config.dsn.bootstrap.clone();
    settings.request_protocols = vec![PROTOCOL.into()];
    if let Some(fleet) = &config.dsn.fleet {
        settings.network = Network::Fleet(fleet.clone());
    }
    // A gateway answers nobody: who asks it is refused.
    let (handle, _nobody) = posthouse_dsn::Dsn::start(settings).await?;
    introduce(&handle, &peers("distributors", &config.dsn.distributors)?).await;
    Ok(handle)
}

fn distributors(config: &Config) -> Result<Vec<PeerId>, StartError> {
    let named = peers("distributors", &config.dsn.distributors)?;
    Ok(named.into_iter().map(|(peer, _)| peer).collect())
}

fn site(config: &Config, folders: &Folders, peer: PeerId, trust: Trust) -> Site {
    Site {
        peer_id: peer.to_string(),
        gateway: PeerHash::new(posthouse_dsn::peer_hash(&peer)),
        policy: config.exchange.policy(),
        products: config
            .products
            .iter()
            .map(|product| (product.id(), (product.vendor.into_array(), product.release_key)))
            .collect(),
        campaign: config.campaign.clone(),
        bodies: folders.bodies.clone(),
        images: folders.images.clone(),
        quota: config.staging.quota,
        max_follows: MAX_FOLLOWS,
        chain: config.chain.id,
        trust,
        pause_per_sensor: PAUSE_PER_SENSOR,
    }
}

fn reading(config: &Config, reader: Arc<dyn ReadChain>, told: BTreeMap<ProductId, Version>) -> Settings {
    let follow =
        |product: &crate::config::Product| Followed { vendor: product.vendor, product: product.id() };
    let products = config.products.iter().map(follow).collect();
    Settings { reader, id: config.chain.chain_id(), poll: config.chain.poll(), products, told }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt as _;
    use std::path::Path;

    use super::*;

    /// A gateway of which nobody is heard, with a key of a sensor on DTLS.
    fn config(folder: &Path) -> Config {
        let text = r#"{
            "chain": {"trust": "rpc", "rpc": ["http://127.0.0.1:1"], "id": 1,
                      "factory": "0x5fbdb2315678afecb367f032d93f642f64180aa3"},
            "products": [{"vendor": "0x70997970c51812dc3a010c7d01b50e0d17dc79c8",
                          "vendor_id": "00112233-4455-6677-8899-aabbccddeeff",
                          "class_id": "ffeeddccbbaa99887766554433221100",
                          "release_key": "036b17d1f2e12c4247f8bce6e563a440f277037d812deb33a0f4a13945d898c296"}],
            "dsn": {"fleet": "test"}
        }"#;
        let mut config: serde_json::Value = serde_json::from_str(text).unwrap();
        config["state_dir"] = folder.join("state").to_str().into();
        config["sensors"]["coap"]["dtls"] =
            serde_json::json!({"listen": "127.0.0.1:0", "keys": folder.join("keys")});
        keys(folder, 1);
        serde_json::from_value(config).unwrap()
    }

    fn keys(folder: &Path, count: usize) {
        let file = folder.join("keys");
        let line = |number| format!("sensor-{number} {number:032x} {}\n", "ab".repeat(16));
        fs::write(&file, (0..count).map(line).collect::<String>()).unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
    }

    #[actix::test]
    async fn a_clean_stop_leaves_the_database_in_one_file() {
        use crate::store::{Database, ForgetStaged, SaveStaged, StagedRow};

        let folder = tempfile::tempdir().unwrap();
        let gateway = Gateway::start(&config(folder.path())).await.unwrap();
        let store = gateway.store.clone();
        let row = StagedRow { u_id: [5; 32].into(), size: 12, staged_at: 13 };
        store.send(SaveStaged(row)).await.unwrap().unwrap();
        let beside = |end: &str| folder.path().join(format!("state/gateway.db{end}"));
        assert!(beside("-wal").exists(), "as long as it runs");
        gateway.stop().await;
        // Who is late does not open it again; and has an answer when the database is closed, however long that takes.
        let late = store.send(ForgetStaged(vec![row.u_id])).await.unwrap();
        assert!(matches!(late, Err(StoreError::Closed)));
        assert!(!beside("-wal").exists() && !beside("-shm").exists());
        assert_eq!(Database::open(&beside("")).unwrap().load().unwrap().staged, [row]);
    }

    #[actix::test]
    async fn a_reload_says_how_many_keys_hold() {
        let folder = tempfile::tempdir().unwrap();
        let old = config(folder.path());
        let gateway = Gateway::start(&old).await.unwrap();
        keys(folder.path(), 3);
        let reloaded = |new: &Config| gateway.reload(&old, new).unwrap();
        assert_eq!(reloaded(&old), Reloaded { keys: Some(3), waiting: Vec::new() });
        // Without the section the old keys go on until the next start.
        let mut new = old.clone();
        new.sensors.coap = None;
        assert_eq!(reloaded(&new), Reloaded { keys: None, waiting: vec!["sensors"] });
        fs::write(folder.path().join("keys"), "").unwrap();
        let refused = gateway.reload(&old, &old).unwrap_err().to_string();
        assert!(refused.starts_with("sensors.coap.dtls.keys: ") && refused.contains("no key"), "{refused}");
        assert!(gateway.audit.flush(Duration::from_secs(60)));
        let mut counts = Vec::new();
        let file = folder.path().join("state/audit.jsonl");
        let odd = posthouse_audit::read::read(&file, &Default::default(), |record, _| {
            counts.extend((record.kind == Kind::Reloaded).then_some(record.count));
            Ok(())
        });
        assert_eq!((odd.unwrap(), counts), (0, vec![Some(3), None]));
        gateway.stop().await;
    }
}
