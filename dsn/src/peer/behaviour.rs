//! The swarm's parts, and how each is set up.

use std::num::NonZeroUsize;
use std::time::Duration;

use libp2p::allow_block_list::{self, AllowedPeers};
use libp2p::connection_limits::{self, ConnectionLimits};
use libp2p::identity::PublicKey;
use libp2p::kad::store::{MemoryStore, MemoryStoreConfig};
use libp2p::kad::{self, Mode, StoreInserts};
use libp2p::swarm::NetworkBehaviour;
use libp2p::swarm::behaviour::toggle::Toggle;
use libp2p::{PeerId, identify, memory_connection_limits as memory, ping};
use tokio::sync::mpsc;

use super::addresses::Addresses;
use super::half_open::HalfOpen;
use crate::bitswap;
use crate::config::{Config, ConfigError, Limits, Role};
use crate::request::{self, Inbound};

/// A provider record is renewed this often, far within the 48 hours that others keep it.
const RENEW: Duration = Duration::from_secs(6 * 60 * 60);
/// Values are never stored, so none is kept.
const NO_VALUES: usize = 0;

/// Everything that runs on the swarm. The guards come first: what they deny, no other part sees.
#[derive(NetworkBehaviour)]
pub(super) struct Behaviour {
    pub(super) half_open: HalfOpen,
    pub(super) limits: connection_limits::Behaviour,
    pub(super) memory: memory::Behaviour,
    pub(super) allow: Toggle<allow_block_list::Behaviour<AllowedPeers>>,
    pub(super) addresses: Addresses,
    pub(super) identify: identify::Behaviour,
    /// js-libp2p pings a peer before it admits it to its routing table.
    pub(super) ping: ping::Behaviour,
    pub(super) kad: kad::Behaviour<MemoryStore>,
    pub(super) request: request::Behaviour,
    pub(super) bitswap: bitswap::Behaviour,
}

impl Behaviour {
    pub(super) fn new(
        config: &Config,
        source: bitswap::Source,
        inbound: mpsc::Sender<Inbound>,
    ) -> Result<Self, ConfigError> {
        let key = config.keypair.public();
        let limits = &config.limits;
        Ok(Self {
            half_open: HalfOpen::new(limits.half_open_per_ip),
            limits: connection_limits::Behaviour::new(connections(limits)),
            memory: memory::Behaviour::with_max_bytes(limits.memory),
            allow: Toggle::from(config.allow.as_deref().map(allowed)),
            addresses: Addresses::new(config.bootstrap_peers()?),
            identify: identify(key.clone()),
            ping: ping::Behaviour::default(),
            kad: kademlia(config, key.to_peer_id())?,
            request: request::Behaviour::new(config.protocols()?, limits.request, inbound),
            bitswap: bitswap::Behaviour::new(source, limits.want),
        })
    }
}

fn connections(limits: &Limits) -> ConnectionLimits {
    ConnectionLimits::default()
        .with_max_pending_incoming(Some(limits.half_open))
        .with_max_established(Some(limits.connections))
        .with_max_established_incoming(Some(limits.inbound_connections))
        .with_max_established_per_peer(Some(limits.connections_per_peer))
}

fn allowed(peers: &[PeerId]) -> allow_block_list::Behaviour<AllowedPeers> {
    let mut list = allow_block_list::Behaviour::<AllowedPeers>::default();
    for peer in peers {
        list.allow_peer(*peer);
    }
    list
}

fn identify(key: PublicKey) -> identify::Behaviour {
    let agent = concat!("posthouse/", env!("CARGO_PKG_VERSION")).to_owned();
    let config = identify::Config::new("ipfs/0.1.0".to_owned(), key).with_agent_version(agent);
    identify::Behaviour::new(config.with_push_listen_addr_updates(true))
}

fn kademlia(config: &Config, local: PeerId) -> Result<kad::Behaviour<MemoryStore>, ConfigError> {
    let mut kad = kad::Config::new(config.network.kad_protocol()?);
    // Every record passes by `Actor::on_record`, which takes provider records only.
    kad.set_record_filtering(StoreInserts::FilterBoth)
        .set_query_timeout(config.limits.query)
        .disjoint_query_paths(true)
        .set_parallelism(NonZeroUsize::new(3).expect("not zero"))
        .set_provider_publication_interval(Some(RENEW))
        .set_replication_interval(None)
        .set_publication_interval(None)
        .set_caching(kad::Caching::Disabled);
    let records = MemoryStoreConfig {
        max_records: NO_VALUES,
        max_provided_keys: config.limits.provided_keys,
        ..MemoryStoreConfig::default()
    };
    let mut kad = kad::Behaviour::with_config(local, MemoryStore::with_config(local, records), kad);
    kad.set_mode(Some(match config.role {
        Role::Client => Mode::Client,
        Role::Server => Mode::Server,
    }));
    for (peer, addr) in config.bootstrap_peers()? {
        kad.add_address(&peer, addr);
    }
    Ok(kad)
}
