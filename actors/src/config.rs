//! What a site says about itself: the gateway's part of the agent's configuration file.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use alloy::primitives::Address;
use posthouse_audit::Bounds;
use posthouse_dsn::{Multiaddr, PeerId};
use posthouse_protocol::gateway::Policy;
use posthouse_protocol::id::{ProductId, ReleaseKey};
use serde::{Deserialize, Deserializer};
use thiserror::Error;

pub use self::chain::Chain;
pub use self::sensors::{Coap, Dtls, Mqtt, Sensors};
use self::tls::FileError;
use crate::campaign::{Campaign, CampaignError};
use crate::status::Token;

mod chain;
mod sensors;
mod tls;

/// Products that one gateway may serve.
const MAX_PRODUCTS: usize = 256;
/// Longest path of a Unix socket, in bytes (unix(7)).
const MAX_SOCKET: usize = 107;

/// The gateway's configuration.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Folder for everything that is kept: database, peer key, bodies, images.
    pub state_dir: PathBuf,
    /// The chain that bounties are on.
    pub chain: Chain,
    /// What is served.
    pub products: Vec<Product>,
    /// The storage network.
    pub dsn: Dsn,
    /// How long to wait for what, and how much of anything there may be.
    #[serde(default)]
    pub exchange: Exchange,
    /// Which sensors get an update, and when.
    #[serde(default)]
    pub campaign: Campaign,
    /// Staged images.
    #[serde(default)]
    pub staging: Staging,
    /// How sensors are reached.
    #[serde(default)]
    pub sensors: Sensors,
    /// The REST status.
    #[serde(default)]
    pub status: Status,
    /// What was signed, accepted, refused or paid.
    #[serde(default)]
    pub audit: Audit,
}

/// The audit log.
#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Audit {
    /// Where it is; `audit.jsonl` in the state directory if absent.
    pub file: Option<PathBuf>,
    /// Bytes at which the file is put aside.
    pub max_bytes: u64,
    /// Files that were put aside and are kept.
    pub files: u32,
}

impl Default for Audit {
    fn default() -> Self {
        let Bounds { bytes, files } = Bounds::default();
        Self { file: None, max_bytes: bytes, files }
    }
}

/// The REST status.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Status {
    /// Where to listen; nowhere if absent.
    pub listen: Option<SocketAddr>,
    /// Unix socket where the same is served: whoever may open it may give orders.
    pub socket: Option<PathBuf>,
    /// File with the token that whoever gives orders at `listen` must bear; without it, none are taken there.
    pub token_file: Option<PathBuf>,
}

impl Status {
    /// The token, if there is one.
    ///
    /// # Errors
    /// The file cannot be used, or the token is too short to be secret.
    pub fn token(&self) -> Result<Option<Token>, ConfigError> {
        let Some(file) = &self.token_file else { return Ok(None) };
        let failed = |error| ConfigError::TokenFile(file.clone(), error);
        let bytes = tls::secret(file).map_err(failed)?;
        Token::new(bytes.trim_ascii()).map(Some).ok_or(failed(FileError::Short(Token::MIN)))
    }
}

/// A product and who releases it.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Product {
    /// The vendor's Ethereum address.
    pub vendor: Address,
    /// UUID of the vendor, as manifests carry it.
    #[serde(deserialize_with = "uuid")]
    pub vendor_id: [u8; 16],
    /// UUID of the class of devices.
    #[serde(deserialize_with = "uuid")]
    pub class_id: [u8; 16],
    /// Key that releases and manifests are signed with, SEC1 compressed, hex.
    #[serde(deserialize_with = "text")]
    pub release_key: ReleaseKey,
}

impl Product {
    /// The two UUIDs in one.
    pub fn id(&self) -> ProductId {
        ProductId::from_parts(self.vendor_id, self.class_id)
    }
}

/// The storage network.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Dsn {
    /// Name of a private fleet's DHT; the public one if absent.
    pub fleet: Option<String>,
    /// Peers to join the DHT through, each ending in `/p2p/<peer id>`.
    #[serde(deserialize_with = "texts")]
    pub bootstrap: Vec<Multiaddr>,
    /// Distributors to ask first, whatever the DHT says, each ending in `/p2p/<peer id>`.
    #[serde(deserialize_with = "texts")]
    pub distributors: Vec<Multiaddr>,
    /// Addresses to listen on, TCP or, with the feature `quic`, QUIC; a gateway needs none.
    #[serde(deserialize_with = "texts")]
    pub listen: Vec<Multiaddr>,
}

/// How long to wait for what; the defaults suit a main network.
#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Exchange {
    /// One request to a distributor, milliseconds.
    pub request_ms: u64,
    /// How long a distributor rests after its first failure, milliseconds; doubles with each.
    pub cooldown_ms: u64,
    /// How long no new receipt may come before a batch is sealed early, milliseconds.
    pub quiet_ms: u64,
    /// How long sensors that are asleep hold up those that have signed, milliseconds.
    pub gather_ms: u64,
    /// Receipts signed but nothing acknowledged for this long: the next distributor, seconds.
    pub receipt_secs: u64,
    /// From the seal to the key, seconds, unless the chain shows that the batch is locked.
    pub reveal_secs: u64,
    /// No receipt is asked for when claims close within this, seconds.
    pub claim_margin_secs: u64,
    /// A sensor counts as awake for this long after it was heard, seconds.
    pub awake_secs: u64,
    /// A reading of claims holds for this long, seconds.
    pub claim_fresh_secs: u64,
    /// Sensors that one exchange follows.
    pub max_sensors: usize,
}

impl Default for Exchange {
    fn default() -> Self {
        let policy = Policy::default();
        Self {
            request_ms: policy.request_ms,
            cooldown_ms: policy.cooldown_ms,
            quiet_ms: policy.quiet_ms,
            gather_ms: policy.gather_ms,
            receipt_secs: policy.receipt_ms / 1000,
            reveal_secs: policy.reveal_ms / 1000,
            claim_margin_secs: policy.claim_margin_ms / 1000,
            awake_secs: policy.awake_ms / 1000,
            claim_fresh_secs: policy.claim_fresh_ms / 1000,
            max_sensors: policy.max_sensors,
        }
    }
}

impl Exchange {
    /// As the machine takes it.
    pub fn policy(&self) -> Policy {
        Policy {
            request_ms: self.request_ms,
            cooldown_ms: self.cooldown_ms,
            quiet_ms: self.quiet_ms,
            gather_ms: self.gather_ms,
            receipt_ms: self.receipt_secs.saturating_mul(1000),
            reveal_ms: self.reveal_secs.saturating_mul(1000),
            claim_margin_ms: self.claim_margin_secs.saturating_mul(1000),
            awake_ms: self.awake_secs.saturating_mul(1000),
            claim_fresh_ms: self.claim_fresh_secs.saturating_mul(1000),
            max_sensors: self.max_sensors,
            ..Policy::default()
        }
    }
}

/// Staged images.
#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Staging {
    /// Bytes that staged images may take in all.
    pub quota: u64,
}

impl Default for Staging {
    fn default() -> Self {
        Self { quota: 4 << 30 }
    }
}

/// What in the configuration cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum ConfigError {
    /// No endpoint.
    #[error("chain.rpc: no endpoint")]
    NoEndpoint,
    /// Not a URL.
    #[error("chain.{key}[{position}]: not an HTTP or HTTPS URL")]
    Endpoint {
        /// Which list.
        key: &'static str,
        /// Which entry, from 0. It is not quoted, as it may hold an API key.
        position: usize,
    },
    /// Nobody who serves what the light client starts from.
    #[error(
        "chain.beacon: no endpoint; without one the chain cannot be proven, only believed (chain.trust = \"rpc\")"
    )]
    NoBeacon,
    /// The light client's keys where there is none.
    #[error("chain.{0}: is for the light client, and chain.trust is \"rpc\"")]
    ForLightClient(&'static str),
    /// The network cannot be followed.
    #[error("chain.network: {0}")]
    Network(String),
    /// Too often.
    #[error("chain.poll_ms: {0} is below 50")]
    Poll(u64),
    /// An audit log that would be all rotation, or of more files than are read.
    #[error("audit: max_bytes from {}, files up to {}", Bounds::LEAST_BYTES, Bounds::MOST_FILES)]
    Audit,
    /// Nothing to serve, or too much.
    #[error("products: {0} products, 1 to {MAX_PRODUCTS} allowed")]
    Products(usize),
    /// One product, two entries.
    #[error("products: {0} is there twice")]
    Twice(ProductId),
    /// Not a key.
    #[error("products.release_key: {0} is not a point on P-256")]
    ReleaseKey(ReleaseKey),
    /// One of two keys that need each other.
    #[error("sensors.mqtt: {0} go together")]
    Together(&'static str),
    /// A file for the broker cannot be used.
    #[error("sensors.mqtt: {0}: {1}")]
    MqttFile(PathBuf, FileError),
    /// The token cannot be used.
    #[error("status.token_file: {0}: {1}")]
    TokenFile(PathBuf, FileError),
    /// No path that a Unix socket can have, from any folder.
    #[error("status.socket: {0:?}: a path that begins with / and has at most {MAX_SOCKET} bytes")]
    Socket(PathBuf),
    /// Rules that contradict themselves.
    #[error(transparent)]
    Campaign(#[from] CampaignError),
    /// An endpoint without an address.
    #[error("sensors.coap: neither listen nor dtls is there")]
    NoCoap,
    /// A carrier's share in which no block has room.
    #[error("sensors.{0}.max_bytes_per_sec: at least {min}", min = crate::sensors::Budget::MIN_RATE)]
    Bandwidth(&'static str),
    /// No session would be kept.
    #[error("sensors.coap.dtls.max_sessions: at least 1")]
    DtlsSessions,
    /// Sessions would end while sensors are awake.
    #[error("sensors.coap.dtls.idle_secs: {0} is below {min}", min = sensors::MIN_IDLE)]
    DtlsIdle(u32),
    /// Two endpoints cannot have one port.
    #[error("sensors.coap.dtls.listen: port {0} is that of sensors.coap.listen")]
    DtlsPort(u16),
    /// The keys of sensors cannot be used.
    #[error("sensors.coap.dtls.keys: {0}")]
    DtlsKeys(String),
    /// An address of a kind that this build has not.
    #[error("dsn.listen: {0}")]
    Listen(String),
    /// Only peers that this build cannot dial.
    #[error("dsn.bootstrap, dsn.distributors: all are reached by QUIC, which is not in this build")]
    NobodyByTcp,
    /// An address that does not say who is behind it.
    #[error("dsn.{key}: {address} does not end in /p2p/<peer id>")]
    NoPeer {
        /// Which list.
        key: &'static str,
        /// The entry.
        address: Multiaddr,
    },
}

impl Config {
    /// Where the audit log is, and how much there may be of it.
    pub fn audit_log(&self) -> (PathBuf, Bounds) {
        let Audit { file, max_bytes, files } = &self.audit;
        let path = file.clone().unwrap_or_else(|| self.state_dir.join("audit.jsonl"));
        (path, Bounds { bytes: *max_bytes, files: *files })
    }

    /// Checks all that can be checked without touching disk or network.
    ///
    /// # Errors
    /// The first key and value that cannot be used.
    pub fn check(&self) -> Result<(), ConfigError> {
        self.chain.check()?;
        let count = self.products.len();
        if count == 0 || count > MAX_PRODUCTS {
            return Err(ConfigError::Products(count));
        }
        for (at, product) in self.products.iter().enumerate() {
            if self.products.iter().take(at).any(|other| other.id() == product.id()) {
                return Err(ConfigError::Twice(product.id()));
            }
            product.release_key.check().map_err(|_| ConfigError::ReleaseKey(product.release_key))?;
        }
        let fits = |path: &Path| path.is_absolute() && path.as_os_str().len() <= MAX_SOCKET;
        if let Some(path) = self.status.socket.as_ref().filter(|path| !fits(path)) {
            return Err(ConfigError::Socket(path.clone()));
        }
        self.campaign.check()?;
        if self.audit.max_bytes < Bounds::LEAST_BYTES || self.audit.files > Bounds::MOST_FILES {
            return Err(ConfigError::Audit);
        }
        self.sensors.check()?;
        let spoken = self.dsn.listen.iter().try_for_each(posthouse_dsn::config::spoken);
        spoken.map_err(|why| ConfigError::Listen(why.to_string()))?;
        let dialled: Vec<_> = self.dsn.bootstrap.iter().chain(&self.dsn.distributors).collect();
        if !dialled.is_empty()
            && dialled.iter().all(|address| posthouse_dsn::config::spoken(address).is_err())
        {
            return Err(ConfigError::NobodyByTcp);
        }
        peers("bootstrap", &self.dsn.bootstrap)?;
        peers("distributors", &self.dsn.distributors).map(drop)
    }

    /// The sections that hold from a start on, by name and as text to compare; without where the keys of sensors are, which are
    /// read again at a reload.
    pub(crate) fn sections(&self) -> [(&'static str, String); 9] {
        let Self { state_dir, chain, products, exchange, dsn, sensors, staging, status, audit, campaign: _ } =
            self;
        [
            ("state_dir", format!("{state_dir:?}")),
            ("chain", format!("{chain:?}")),
            ("products", format!("{products:?}")),
            ("exchange", format!("{exchange:?}")),
            ("dsn", format!("{dsn:?}")),
            ("sensors", format!("{:?}", sensors.without_keys())),
            ("staging", format!("{staging:?}")),
            ("status", format!("{status:?}")),
            ("audit", format!("{audit:?}")),
        ]
    }
}

/// The peers at the ends of addresses.
pub(crate) fn peers(
    key: &'static str,
    addresses: &[Multiaddr],
) -> Result<Vec<(PeerId, Multiaddr)>, ConfigError> {
    let named = addresses.iter().map(|address| {
        let missing = || ConfigError::NoPeer { key, address: address.clone() };
        Ok((peer_of(address).ok_or_else(missing)?, address.clone()))
    });
    named.collect()
}

fn peer_of(address: &Multiaddr) -> Option<PeerId> {
    let text = address.to_string();
    let (_, peer) = text.rsplit_once("/p2p/")?;
    peer.parse().ok()
}

/// Anything that has a text form.
fn text<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: FromStr<Err: std::fmt::Display>,
{
    let text = String::deserialize(deserializer)?;
    text.parse().map_err(|error| serde::de::Error::custom(format_args!("{text:?}: {error}")))
}

fn texts<'de, D, T>(deserializer: D) -> Result<Vec<T>, D::Error>
where
    D: Deserializer<'de>,
    T: FromStr<Err: std::fmt::Display>,
{
    let list = Vec::<String>::deserialize(deserializer)?;
    let parse = |text: &String| {
        text.parse().map_err(|error| serde::de::Error::custom(format_args!("{text:?}: {error}")))
    };
    list.iter().map(parse).collect()
}

/// A UUID, with or without hyphens.
fn uuid<'de, D: Deserializer<'de>>(deserializer: D) -> Result<[u8; 16], D::Error> {
    let text = String::deserialize(deserializer)?;
    let digits: String = text.chars().filter(|c| *c != '-').collect();
    let mut bytes = [0; 16];
    hex::decode_to_slice(&digits, &mut bytes)
        .map_err(|_| serde::de::Error::custom(format_args!("{text:?} is not a UUID")))?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use posthouse_contracts::chain::Trust;

    use super::*;
    use crate::mqtt;

    const GOOD: &str = r#"{
        "state_dir": "/var/lib/posthouse",
        "chain": {"beacon": ["http://127.0.0.1:5052"], "rpc": ["http://127.0.0.1:8545"], "id": 1,
                  "factory": "0x5fbdb2315678afecb367f032d93f642f64180aa3"},
        "products": [{"vendor": "0x70997970c51812dc3a010c7d01b50e0d17dc79c8",
                      "vendor_id": "00112233-4455-6677-8899-aabbccddeeff",
                      "class_id": "ffeeddccbbaa99887766554433221100",
                      "release_key": "036b17d1f2e12c4247f8bce6e563a440f277037d812deb33a0f4a13945d898c296"}],
        "dsn": {"distributors": []},
        "sensors": {"coap": {"listen": "127.0.0.1:0"}}
    }"#;

    fn parse(text: &str) -> Result<Config, serde_json::Error> {
        serde_json::from_str(text)
    }

    #[test]
    fn a_good_one_is_taken() {
        let config = parse(GOOD).unwrap();
        config.check().unwrap();
        assert_eq!(config.products[0].id().vendor_id()[..2], [0x00, 0x11]);
        assert_eq!(config.exchange.policy(), Policy::default());
        assert!(config.sensors.mqtt().unwrap().is_none());
        assert_eq!(config.chain.trust, Trust::LightClient);
        assert_eq!(config.chain.network().unwrap().unwrap().name, "mainnet");
    }

    #[test]
    fn a_network_is_another_chains_or_none() {
        let network = |id, name: Option<&str>| {
            let mut config = parse(GOOD).unwrap();
            (config.chain.id, config.chain.network) = (id, name.map(str::to_owned));
            config.chain.network().map(|network| network.unwrap().name).map_err(|why| why.to_string())
        };
        assert_eq!(network(11_155_111, None).unwrap(), "sepolia");
        assert_eq!(network(1, Some("mainnet")).unwrap(), "mainnet");
        assert!(network(31_337, None).unwrap_err().contains("31337"));
        assert!(network(31_337, Some("mainnet")).unwrap_err().contains("chain id 1, not 31337"));
        assert!(network(1, Some("/nonexistent/network.yaml")).unwrap_err().contains("/nonexistent"));
    }

    #[test]
    fn a_key_that_is_not_known_is_named() {
        let text = GOOD.replace("\"state_dir\"", "\"state_folder\"");
        assert!(parse(&text).unwrap_err().to_string().contains("state_folder"));
    }

    #[test]
    fn a_reload_waits_for_a_start_with_all_but_rules_and_keys() {
        let with = |keys: &str, idle: u32| {
            let dtls =
                format!(r#""dtls": {{"listen": "127.0.0.1:0", "keys": "{keys}", "idle_secs": {idle}}}"#);
            parse(&GOOD.replace(r#""listen": "127.0.0.1:0""#, &dtls)).unwrap().sections()
        };
        assert_eq!(with("/a", 60), with("/b", 60), "keys are read again, wherever they are");
        assert_ne!(with("/a", 60), with("/a", 90));
    }

    #[test]
    fn each_contradiction_names_its_key() {
        let refused = |change: &dyn Fn(&mut Config)| {
            let mut config = parse(GOOD).unwrap();
            change(&mut config);
            config.check().unwrap_err().to_string()
        };
        assert!(refused(&|config| config.products.clear()).starts_with("products"));
        assert!(refused(&|config| config.chain.rpc.clear()).starts_with("chain.rpc"));
        let said = refused(&|config| config.chain.rpc.push("ftp://x/APIKEY".into()));
        assert!(said.starts_with("chain.rpc[1]") && !said.contains("APIKEY"), "{said}");
        assert!(refused(&|config| config.chain.beacon.clear()).starts_with("chain.beacon"));
        assert!(refused(&|config| config.chain.beacon = vec!["x".into()]).starts_with("chain.beacon"));
        assert!(refused(&|config| config.chain.trust = Trust::Rpc).starts_with("chain.beacon"));
        assert!(refused(&|config| config.chain.poll_ms = 1).starts_with("chain.poll_ms"));
        assert!(refused(&|config| config.products.push(config.products[0].clone())).starts_with("products"));
        let coap = |config: &mut Config| config.sensors.coap.as_mut().unwrap().max_bytes_per_sec = Some(1023);
        assert!(refused(&coap).starts_with("sensors.coap.max_bytes_per_sec"));
        let dtls = |listen: &str, dtls: &str, more: &str| {
            let text =
                format!(r#"{{"listen": "{listen}", "dtls": {{"listen": "{dtls}", "keys": "k"{more}}}}}"#);
            let mut config = parse(GOOD).unwrap();
            config.sensors.coap = Some(serde_json::from_str(&text).unwrap());
            config.check().map_err(|why| why.to_string())
        };
        let two = |listen, over| dtls(listen, over, "");
        let more = |more| dtls("127.0.0.1:5683", "127.0.0.1:5684", more);
        assert_eq!(more(r#", "idle_secs": 60, "max_sessions": 1"#), Ok(()));
        assert_eq!(more(r#", "idle_secs": 59"#).unwrap_err(), "sensors.coap.dtls.idle_secs: 59 is below 60");
        assert_eq!(more(r#", "max_sessions": 0"#).unwrap_err(), "sensors.coap.dtls.max_sessions: at least 1");
        for (listen, over) in [
            ("192.0.2.1:5683", "192.0.2.1:5683"),
            ("0.0.0.0:5683", "192.0.2.1:5683"),
            ("[::1]:5683", "[::]:5683"),
            ("[::]:5683", "192.0.2.1:5683"),
            ("192.0.2.1:5683", "[::ffff:192.0.2.1]:5683"),
        ] {
            let said = two(listen, over).unwrap_err();
            assert_eq!(said, "sensors.coap.dtls.listen: port 5683 is that of sensors.coap.listen");
            assert_eq!(two(over, listen).unwrap_err(), said, "{listen}, {over}");
        }
        for (listen, over) in [
            ("192.0.2.1:5683", "192.0.2.2:5683"),
            ("0.0.0.0:5683", "[::1]:5683"),
            ("0.0.0.0:5683", "0.0.0.0:5684"),
            ("127.0.0.1:0", "127.0.0.1:0"),
        ] {
            assert_eq!(two(listen, over), Ok(()), "{listen}, {over}");
        }
        let nobody: Multiaddr = "/ip4/127.0.0.1/tcp/1".parse().unwrap();
        assert!(
            refused(&|config| config.dsn.distributors = vec![nobody.clone()]).starts_with("dsn.distributors")
        );
    }
    #[test]
    fn each_file_for_the_broker_that_cannot_be_used_is_named() {
        use std::os::unix::fs::PermissionsExt as _;
        let dir = tempfile::tempdir().unwrap();
        let file = |name: &str, text: &str, mode| {
            let path = dir.path().join(name);
            std::fs::write(&path, text).unwrap();
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
            path
        };
        let (good, open) = (file("password", "word\n", 0o600), file("open", "word", 0o644));
        let (text, pem) =
            (file("text", "no PEM", 0o600), "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n");
        let (pem, nowhere) = (file("pem", pem, 0o600), dir.path().join("nowhere"));
        let read = |change: &dyn Fn(&mut Mqtt)| {
            let mut mqtt: Mqtt = serde_json::from_str(r#"{"host": "localhost"}"#).unwrap();
            change(&mut mqtt);
            Sensors { mqtt: Some(mqtt), ..Sensors::default() }.mqtt().map(Option::unwrap)
        };
        let credentials = |path: &PathBuf| {
            let path = path.clone();
            read(&move |mqtt| {
                (mqtt.username, mqtt.password_file) = (Some("me".into()), Some(path.clone()));
            })
        };
        assert_eq!(credentials(&good).unwrap().credentials.unwrap().1.as_str(), "word");
        let said = |wrong: Result<mqtt::Config, ConfigError>| wrong.err().unwrap().to_string();
        assert!(said(credentials(&open)).contains("open: mode 0644"));
        assert!(said(credentials(&nowhere)).contains("nowhere: "));
        assert!(said(read(&|mqtt| mqtt.username = Some("me".into()))).contains("go together"));
        assert!(said(read(&|mqtt| mqtt.tls_cert = Some(pem.clone()))).contains("tls_cert and tls_key"));
        let own = |mqtt: &mut Mqtt| (mqtt.tls_cert, mqtt.tls_key) = (Some(pem.clone()), Some(open.clone()));
        assert!(said(read(&own)).contains("tls_cert and tls_ca"));
        assert!(said(read(&|mqtt| mqtt.tls_ca = Some(nowhere.clone()))).contains("nowhere"));
        assert!(said(read(&|mqtt| mqtt.tls_ca = Some(text.clone()))).contains("no certificate in PEM form"));
        assert!(said(read(&|mqtt| mqtt.tls_ca = Some(pem.clone()))).contains("pem: "));
    }
}
