//! TCP, Noise, Yamux, names by DNS.

use std::io;

use libp2p::swarm::Swarm;
use libp2p::{SwarmBuilder, dns, noise, tcp, yamux};

use super::behaviour::Behaviour;
use crate::config::Config;

/// Streams on one connection. Each may hold a window of 256 KiB unread, so a stranger's connection is bounded
/// by 16 MiB.
const MAX_STREAMS: usize = 64;
/// Streams in negotiation on one connection; DHT, bitswap and requests come in bursts.
const MAX_NEGOTIATING: usize = 64;

/// Builds the swarm around `behaviour`.
pub(super) fn swarm(config: &Config, behaviour: Behaviour) -> io::Result<Swarm<Behaviour>> {
    let limits = config.limits.clone();
    let swarm = SwarmBuilder::with_existing_identity(config.keypair.clone())
        .with_tokio()
        .with_tcp(tcp::Config::default().nodelay(true), noise::Config::new, muxer)
        .map_err(io::Error::other)?
        // Names are for the public network's bootstrap addresses; without a resolver, IP addresses still work.
        .with_dns_config(dns::ResolverConfig::default(), dns::ResolverOpts::default())
        .with_behaviour(|_| behaviour)
        .map_err(io::Error::other)?
        .with_swarm_config(|swarm| {
            swarm
                .with_idle_connection_timeout(limits.idle)
                .with_max_negotiating_inbound_streams(MAX_NEGOTIATING)
        })
        .with_connection_timeout(limits.dial)
        .build();
    Ok(swarm)
}

fn muxer() -> yamux::Config {
    let mut config = yamux::Config::default();
    config.set_max_num_streams(MAX_STREAMS);
    config
}
