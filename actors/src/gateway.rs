//! All the wiring: who is made from what, and who speaks to whom. Read this first.
//!
//! ```text
//!   chain ──announced, keys──▶ exchanges ◀──hello, signature, status── sensors (hub) ◀── mqtt, coap
//!     ◀──watch, claims───────   │ │ │ │ ──intents──────────────────────▶
//!   store ◀──records first──────┘ │ │ └──images──▶ stage
//!   verifier ◀──packages, offers──┘ └──packages, bodies, requests──▶ dsn
//! ```

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::net::SocketAddr;
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use actix::{Actor as _, Addr, Arbiter, ArbiterHandle, AsyncContext as _, Context, SyncArbiter};
use posthouse_audit::{Audit, Kind, Record};
use posthouse_contracts::chain::{
    Chain as ReadChain, ChainError, LightChain, Limits, RpcChain, RpcConfig, Trust,
};
use posthouse_dsn::{Keypair, Network, PeerId};
use posthouse_protocol::exchange::PROTOCOL;
use posthouse_protocol::id::{DeviceId, PeerHash, ProductId, Version};
use posthouse_protocol::package::Package;
use posthouse_protocol::release;
use thiserror::Error;

use crate::chain::{Chain, Followed, Settings};
use crate::coap::{Coap, Rekey};
use crate::config::{self, Config, ConfigError, peers};
use crate::dsn::{Dsn, introduce};
use crate::exchange::{Exchanges, Flush, Found, PAUSE_PER_SENSOR, Peers, SetCampaign, Site};
use crate::messages::Carrier;
use crate::mqtt::{self, Mqtt};
use crate::pulse::Pulses;
use crate::sensors::Sensors;
use crate::stage::{Rehash, Stage, image_path};
use crate::status;
use crate::store::{Announcement, Database, Loaded, Store, StoreError};
use crate::verifier::Verifier;

/// Threads that check proofs and packages: a check takes about a millisecond.
const VERIFIERS: usize = 1;
/// How long what sensors said last may take to be written at the end.
const WRITE: Duration = Duration::from_secs(2);
/// How long the last records of the audit log may take.
const AUDIT: Duration = Duration::from_secs(1);
/// A device that a carrier has known is taken for a stranger on an open one for so long after it was heard: sensors move.
const KNOWN_FOR: Duration = Duration::from_secs(30 * 24 * 3600);

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

        let (endpoints, coap) = start_coap(config, &sensors, &hub_thread.handle()).await?;
        endpoints.iter().for_each(|endpoint| pulses.add("coap", endpoint.clone().recipient()));
        if let Some(mqtt) = config.sensors.mqtt()? {
            pulses.add("mqtt", start_mqtt(mqtt, &sensors, &hub_thread.handle()).await?.recipient());
        }
        let status = start_status(config, &exchanges, &sensors, &audit)?;
        Ok(Self {
            exchanges,
            sensors,
            coap,
            status,
            audit,
            dsn: handle,
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
    /// The other sections that differ from the old one are named: they hold from the next start on.
    ///
    /// # Errors
    /// The configuration cannot be used; the old one goes on.
    pub fn reload(&self, old: &Config, new: &Config) -> Result<Vec<&'static str>, ConfigError> {
        new.check()?;
        let keys = new.sensors.dtls_keys()?;
        self.exchanges.do_send(SetCampaign(new.campaign.clone()));
        if let Some(keys) = keys {
            self.endpoints.iter().for_each(|endpoint| endpoint.do_send(Rekey(keys.clone())));
        }
        let sections = old.sections().into_iter().zip(new.sections());
        let waiting: Vec<&'static str> = sections.filter(|(a, b)| a != b).map(|(a, _)| a.0).collect();
        let reason = (!waiting.is_empty()).then(|| waiting.join(", "));
        self.audit.tell(Record { reason, ..Record::new(Kind::Reloaded) });
        Ok(waiting)
    }

    /// Ends the hub's thread, has what sensors said last written, and leaves the network. All that must not be lost is on disk at
    /// any moment, so this is a courtesy to peers and sensors.
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
    thread: &ArbiterHandle,
) -> Result<(Vec<Addr<Coap>>, Vec<SocketAddr>), StartError> {
    let mut endpoints = Vec::new();
    for (key, settings) in config.sensors.coap()? {
        let (listen, hub) = (settings.listen, hub.clone());
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

/// The newest version of each product that is known, by which downgrades are told.
fn told(loaded: &Loaded, site: &Site) -> BTreeMap<ProductId, Version> {
    let mut told = BTreeMap::new();
    for Announcement { update, .. } in loaded.announcements.iter().filter(|a| site.serves(a)) {
        let newest = told.entry(update.product).or_insert(update.version);
        *newest = update.version.max(*newest);
    }
    told
}

/// Devices that a carrier has known lately, and may know again. A site that has moved all its sensors to open carriers has none.
fn known(loaded: &Loaded, config: &config::Sensors, now: SystemTime) -> Vec<DeviceId> {
    let mqtt = config.mqtt.as_ref().is_some_and(|mqtt| mqtt.authenticated);
    let coap = config.coap.as_ref().is_some_and(|coap| coap.dtls.is_some());
    // A carrier that shows nobody any more would have its sensors refused.
    let shows = |carrier| if carrier == Carrier::Mqtt { mqtt } else { coap };
    let since = now.checked_sub(KNOWN_FOR).and_then(|since| since.duration_since(UNIX_EPOCH).ok());
    let since = since.map_or(0, |since| u64::try_from(since.as_millis()).unwrap_or(u64::MAX));
    let rows =
        loaded.sensors.iter().filter(|row| row.authenticated && shows(row.carrier) && row.last_seen >= since);
    rows.map(|row| row.device.device_id()).collect()
}

/// Hashes again whatever files the rows speak of: the first byte is served after that.
async fn find(
    loaded: Loaded,
    folders: &Folders,
    config: &Config,
    stage: &Addr<Stage>,
) -> Result<Found, StartError> {
    let mut found = Found::default();
    for row in &loaded.staged {
        let path = image_path(&folders.images, &row.u_id);
        let job = Rehash { path, digest: row.u_id.to_bytes(), size: row.size };
        if stage.send(job).await.map_err(|_| StartError::Ended)? {
            found.images.push(row.u_id);
        }
    }
    for announcement in &loaded.announcements {
        let Some(job) = body_of(announcement, folders, config) else { continue };
        if stage.send(job).await.map_err(|_| StartError::Ended)? {
            found.bodies.push(announcement.update.bounty);
        }
    }
    found.loaded = loaded;
    Ok(found)
}

/// The body that a kept package speaks of.
fn body_of(announcement: &Announcement, folders: &Folders, config: &Config) -> Option<Rehash> {
    let (root, _) = announcement.package.as_ref()?;
    let product = config.products.iter().find(|product| product.id() == announcement.update.product)?;
    let package = Package::decode(root).ok()?;
    let release = release::open(&package.release, &product.release_key).ok()?;
    let body_id = release.body_id?;
    let path = folders.bodies.join(body_id.to_string());
    Some(Rehash { path, digest: body_id.to_bytes(), size: release.body_size })
}

/// Where everything is kept.
struct Folders {
    root: PathBuf,
    database: PathBuf,
    light_client: PathBuf,
    blocks: PathBuf,
    bodies: PathBuf,
    images: PathBuf,
    key: PathBuf,
}

impl Folders {
    fn make(root: &Path) -> Result<Self, StartError> {
        let folders = Self {
            root: root.to_owned(),
            database: root.join("gateway.db"),
            light_client: root.join("light-client.db"),
            blocks: root.join("blocks"),
            bodies: root.join("bodies"),
            images: root.join("images"),
            key: root.join("peer.key"),
        };
        for folder in [&folders.root, &folders.blocks, &folders.bodies, &folders.images] {
            fs::create_dir_all(folder).map_err(state(folder))?;
        }
        Ok(folders)
    }

    /// One gateway a folder: two would sign for one peer id and overwrite each other's rows.
    fn lock(&self) -> Result<File, StartError> {
        let path = self.root.join("lock");
        let file = File::create(&path).map_err(state(&path))?;
        match file.try_lock() {
            Ok(()) => Ok(file),
            Err(fs::TryLockError::WouldBlock) => Err(StartError::Busy(self.root.clone())),
            Err(fs::TryLockError::Error(error)) => Err(state(&path)(error)),
        }
    }

    /// Opens the database once here, so that a bad one stops the start, and reads all of it.
    fn load(&self) -> Result<Loaded, StartError> {
        let failed = |error| StartError::Store { path: self.database.clone(), error };
        Database::open(&self.database).and_then(|database| database.load()).map_err(failed)
    }

    /// The peer key: made at the first start, and refused if others can read it.
    fn peer_key(&self) -> Result<Keypair, StartError> {
        let path = &self.key;
        match fs::read(path) {
            Ok(bytes) => {
                let mode = fs::metadata(path).map_err(state(path))?.permissions().mode();
                if mode & 0o077 != 0 {
                    return Err(StartError::KeyMode(path.clone()));
                }
                Keypair::from_protobuf_encoding(&bytes).map_err(|_| StartError::Key(path.clone()))
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => self.new_peer_key(),
            Err(error) => Err(state(path)(error)),
        }
    }

    fn new_peer_key(&self) -> Result<Keypair, StartError> {
        let key = Keypair::generate_ed25519();
        let bytes = key.to_protobuf_encoding().map_err(|_| StartError::Key(self.key.clone()))?;
        let partial = self.root.join("peer.key.partial");
        let write = || -> io::Result<()> {
            let mut file =
                OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&partial)?;
            file.write_all(&bytes)?;
            file.sync_all()?;
            fs::rename(&partial, &self.key)?;
            File::open(&self.root)?.sync_all()
        };
        write().map_err(state(&self.key))?;
        Ok(key)
    }
}

fn state(path: &Path) -> impl FnOnce(io::Error) -> StartError {
    let path = path.to_owned();
    move |error| StartError::State { path, error }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_peer_key_stays_and_is_for_its_owner_only() {
        let folder = tempfile::tempdir().unwrap();
        let folders = Folders::make(folder.path()).unwrap();
        let key = folders.peer_key().unwrap().public();
        assert_eq!(folders.peer_key().unwrap().public(), key);
        fs::set_permissions(&folders.key, fs::Permissions::from_mode(0o644)).unwrap();
        assert!(matches!(folders.peer_key(), Err(StartError::KeyMode(_))));
        fs::set_permissions(&folders.key, fs::Permissions::from_mode(0o600)).unwrap();
        fs::write(&folders.key, b"no key").unwrap();
        assert!(matches!(folders.peer_key(), Err(StartError::Key(_))));
    }

    #[test]
    fn what_a_carrier_knew_lately_is_remembered_where_one_may_know_it_again() {
        use posthouse_protocol::id::{Curve, DeviceKey};

        use crate::store::SensorRow;

        let now = UNIX_EPOCH + 2 * KNOWN_FOR;
        let (lately, long_ago) = (KNOWN_FOR.as_millis() as u64, KNOWN_FOR.as_millis() as u64 - 1);
        let row = |number: u8, authenticated, last_seen| SensorRow {
            device: DeviceKey::new([number; 33]),
            product: ProductId::new([1; 32]),
            curve: Curve::P256,
            installed: Version::new(1),
            slot: 1,
            wake: 1,
            carrier: Carrier::Coap,
            authenticated,
            state: None,
            result: None,
            next: None,
            last_seen,
        };
        let sensors = vec![row(1, true, lately), row(2, false, lately), row(3, true, long_ago)];
        let loaded = Loaded { sensors, ..Loaded::default() };
        let knows = |text: &str| known(&loaded, &serde_json::from_str(text).unwrap(), now);
        let first = vec![DeviceKey::new([1; 33]).device_id()];
        assert!(knows(r#"{"mqtt": {"host": "b", "authenticated": true}}"#).is_empty(), "it was on another");
        assert_eq!(knows(r#"{"coap": {"dtls": {"listen": "127.0.0.1:0", "keys": "k"}}}"#), first);
        assert!(knows(r#"{"mqtt": {"host": "b"}, "coap": {"listen": "127.0.0.1:0"}}"#).is_empty());
    }

    #[test]
    fn a_folder_has_one_gateway() {
        let folder = tempfile::tempdir().unwrap();
        let folders = Folders::make(folder.path()).unwrap();
        let _lock = folders.lock().unwrap();
        assert!(matches!(folders.lock(), Err(StartError::Busy(_))));
    }
}
