//! What a peer is told at its start, and every bound it keeps.

use std::path::PathBuf;
use std::time::Duration;

use libp2p::identity::{KeyType, Keypair};
use libp2p::multiaddr::Protocol;
use libp2p::{Multiaddr, PeerId, StreamProtocol};
use thiserror::Error;

/// Longest fleet name, in bytes.
const MAX_FLEET_NAME: usize = 64;

/// What a peer is told at its start. [`Config::new`] fills in what has a sensible default.
#[derive(Clone)]
pub struct Config {
    /// The peer's identity; Ed25519, so that others can check its signatures with the peer id alone.
    pub keypair: Keypair,
    /// Addresses to listen on, `/ip4/…/tcp/…` or, with the feature `quic`, `/ip4/…/udp/…/quic-v1`; port 0 takes a free one.
    /// A gateway leaves this empty.
    pub listen: Vec<Multiaddr>,
    /// Addresses that others reach this peer at and that it announces. Empty: those it listens on.
    pub external: Vec<Multiaddr>,
    /// Peers to join the DHT through, each address ending in `/p2p/<peer id>`.
    pub bootstrap: Vec<Multiaddr>,
    /// Which DHT to take part in.
    pub network: Network,
    /// The part taken in it.
    pub role: Role,
    /// Which provider records a DHT server keeps for others.
    pub records: Records,
    /// Only these peers are connected to, where given: the allow-list of a private fleet.
    pub allow: Option<Vec<PeerId>>,
    /// Protocols to answer and to ask with [`crate::Dsn::request`], such as `/posthouse/exchange/1`.
    pub request_protocols: Vec<String>,
    /// Folder for the block store; made if absent.
    pub store_path: PathBuf,
    /// Every bound.
    pub limits: Limits,
}

/// Which DHT a peer takes part in.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Network {
    /// The public IPFS network: `/ipfs/kad/1.0.0`.
    #[default]
    Public,
    /// A private one: `/posthouse/<fleet>/kad/1.0.0`. Letters, digits, `-`, `_` and `.`.
    Fleet(String),
}

/// The part taken in the DHT.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Role {
    /// Asks, never answers: gateways, which need not be reachable.
    #[default]
    Client,
    /// Answers and keeps records: vendors and distributors.
    Server,
}

/// Which provider records a DHT server keeps for others.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Records {
    /// Those for content it knows: stored, provided, withheld, asked for, or named by [`crate::Dsn::expect`].
    #[default]
    Known,
    /// Any, up to [`Limits::provided_keys`]: a server that others rely on to find what it has no part in.
    Any,
}

/// Every bound that a peer keeps against others and against itself.
#[derive(Debug, Clone)]
pub struct Limits {
    /// Established connections, in all.
    pub connections: u32,
    /// Established inbound connections: fewer than all, so that inbound ones cannot crowd out our own dials.
    pub inbound_connections: u32,
    /// Established connections with one peer.
    pub connections_per_peer: u32,
    /// Inbound connections still in their handshake, in all.
    pub half_open: u32,
    /// The same from one IP address. 16 half-open sockets of one stranger locked an honest peer out for 10 s.
    pub half_open_per_ip: u32,
    /// Resident memory in bytes above which no connection is accepted.
    pub memory: usize,
    /// How long a connection in nobody's use is kept.
    pub idle: Duration,
    /// How long a dial may take.
    pub dial: Duration,
    /// How long one DHT query may take.
    pub query: Duration,
    /// How often a lookup that found nothing is tried again, each time after twice the wait.
    pub lookup_retries: u32,
    /// The first such wait.
    pub lookup_backoff: Duration,
    /// Providers handed out by one lookup.
    pub providers: usize,
    /// Keys for which provider records are kept.
    pub provided_keys: usize,
    /// How long a peer may take to answer a want for one block.
    pub want: Duration,
    /// Blocks in flight for one file.
    pub blocks_in_flight: usize,
    /// How long one request may take, from the dial to the last byte of the answer.
    pub request: Duration,
    /// Requests from others that wait to be taken from the receiver.
    pub inbound_requests: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 256,
            inbound_connections: 192,
            connections_per_peer: 4,
            half_open: 64,
            half_open_per_ip: 8,
            memory: 1 << 30,
            idle: Duration::from_secs(60),
            dial: Duration::from_secs(5),
            query: Duration::from_secs(30),
            lookup_retries: 4,
            lookup_backoff: Duration::from_millis(250),
            providers: 32,
            provided_keys: 4096,
            want: Duration::from_secs(15),
            blocks_in_flight: 8,
            request: Duration::from_secs(30),
            inbound_requests: 64,
        }
    }
}

/// What in a configuration cannot be used.
#[derive(Debug, Error)]
pub enum ConfigError {
    /// The keypair is of another kind.
    #[error("keypair: {0} keys are not supported, only Ed25519")]
    KeyType(KeyType),
    /// A bootstrap address does not say which peer is behind it.
    #[error("bootstrap: {0} does not end in /p2p/<peer id>")]
    NoPeerId(Multiaddr),
    /// The fleet's name would not make a protocol name.
    #[error("network: {0:?} is not a fleet name of 1 to 64 letters, digits, '-', '_' or '.'")]
    FleetName(String),
    /// Not a protocol name.
    #[error("request_protocols: {0:?} does not start with '/', or is named twice")]
    Protocol(String),
    /// A way to be reached that this build has not.
    #[error("{0}: this build speaks TCP only, QUIC is not in it")]
    NoQuic(Multiaddr),
}

impl Config {
    /// A client of the public network that listens nowhere, with default limits.
    pub fn new(keypair: Keypair, store_path: impl Into<PathBuf>) -> Self {
        Self {
            keypair,
            listen: Vec::new(),
            external: Vec::new(),
            bootstrap: Vec::new(),
            network: Network::Public,
            role: Role::Client,
            records: Records::Known,
            allow: None,
            request_protocols: Vec::new(),
            store_path: store_path.into(),
            limits: Limits::default(),
        }
    }

    /// Checks everything that can be checked without touching disk or network.
    pub fn check(&self) -> Result<(), ConfigError> {
        match self.keypair.key_type() {
            KeyType::Ed25519 => {}
            other => return Err(ConfigError::KeyType(other)),
        }
        self.listen.iter().chain(&self.external).try_for_each(spoken)?;
        self.bootstrap_peers()?;
        self.network.kad_protocol()?;
        self.protocols().map(drop)
    }

    /// The bootstrap peers, each with its address.
    pub(crate) fn bootstrap_peers(&self) -> Result<Vec<(PeerId, Multiaddr)>, ConfigError> {
        let peer = |addr: &Multiaddr| {
            peer_of(addr).map(|peer| (peer, addr.clone())).ok_or(ConfigError::NoPeerId(addr.clone()))
        };
        self.bootstrap.iter().map(peer).collect()
    }

    /// The request protocols' names, each once.
    pub(crate) fn protocols(&self) -> Result<Vec<StreamProtocol>, ConfigError> {
        let mut names: Vec<StreamProtocol> = Vec::new();
        for name in &self.request_protocols {
            let parsed = StreamProtocol::try_from_owned(name.clone()).ok().filter(|p| !names.contains(p));
            names.push(parsed.ok_or_else(|| ConfigError::Protocol(name.clone()))?);
        }
        Ok(names)
    }
}

impl Network {
    /// The DHT's protocol name.
    pub(crate) fn kad_protocol(&self) -> Result<StreamProtocol, ConfigError> {
        let name = match self {
            Self::Public => return Ok(StreamProtocol::new("/ipfs/kad/1.0.0")),
            Self::Fleet(name) => name,
        };
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
        if name.is_empty() || name.len() > MAX_FLEET_NAME || !name.chars().all(plain) {
            return Err(ConfigError::FleetName(name.clone()));
        }
        let protocol = format!("/posthouse/{name}/kad/1.0.0");
        StreamProtocol::try_from_owned(protocol).map_err(|_| ConfigError::FleetName(name.clone()))
    }
}

/// Whether this build can be reached at an address of that kind. One that is only dialled may be of any: a peer has others.
///
/// # Errors
/// [`ConfigError::NoQuic`] for QUIC where the feature `quic` is not built.
pub fn spoken(addr: &Multiaddr) -> Result<(), ConfigError> {
    let quic = addr.iter().any(|part| matches!(part, Protocol::Quic | Protocol::QuicV1));
    if quic && !cfg!(feature = "quic") { Err(ConfigError::NoQuic(addr.clone())) } else { Ok(()) }
}

/// The peer that an address ends in.
pub(crate) fn peer_of(addr: &Multiaddr) -> Option<PeerId> {
    match addr.iter().last() {
        Some(Protocol::P2p(peer)) => Some(peer),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config() -> Config {
        Config::new(Keypair::generate_ed25519(), "store")
    }

    #[test]
    fn the_dht_is_named_by_the_network() {
        assert_eq!(Network::Public.kad_protocol().unwrap(), "/ipfs/kad/1.0.0");
        let fleet = Network::Fleet("mill-7".into());
        assert_eq!(fleet.kad_protocol().unwrap(), "/posthouse/mill-7/kad/1.0.0");
        for name in ["", "a/b", "ü", &"x".repeat(65)] {
            assert!(Network::Fleet(name.into()).kad_protocol().is_err(), "{name:?}");
        }
    }

    #[test]
    fn a_bootstrap_address_names_its_peer() {
        let mut config = config();
        config.bootstrap = vec!["/ip4/127.0.0.1/tcp/4001".parse().unwrap()];
        assert!(matches!(config.check(), Err(ConfigError::NoPeerId(_))));
        let peer = config.keypair.public().to_peer_id();
        config.bootstrap = vec![format!("/ip4/127.0.0.1/tcp/4001/p2p/{peer}").parse().unwrap()];
        config.check().unwrap();
    }

    #[test]
    fn quic_is_refused_where_it_is_not_built() {
        let mut config = config();
        config.listen = vec!["/ip4/127.0.0.1/tcp/0".parse().unwrap()];
        config.check().unwrap();
        config.external = vec!["/ip4/127.0.0.1/udp/0/quic-v1".parse().unwrap()];
        assert_eq!(config.check().is_ok(), cfg!(feature = "quic"));
        config.listen = std::mem::take(&mut config.external);
        assert_eq!(config.check().is_ok(), cfg!(feature = "quic"));
    }

    #[test]
    fn a_protocol_is_named_once_and_starts_with_a_slash() {
        let mut config = config();
        config.request_protocols = vec!["exchange".into()];
        assert!(matches!(config.check(), Err(ConfigError::Protocol(_))));
        config.request_protocols = vec!["/a/1".into(), "/a/1".into()];
        assert!(matches!(config.check(), Err(ConfigError::Protocol(_))));
    }
}
