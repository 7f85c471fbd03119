//! TCP with Noise and Yamux; QUIC where it is built; names by DNS.

use std::io;

use libp2p::swarm::Swarm;
use libp2p::{SwarmBuilder, dns, noise, tcp, yamux};

use super::behaviour::Behaviour;
use crate::config::Config;

/// Streams that Yamux allows on one connection, chosen for what it does to windows: a connection's windows are
/// 1 GiB together, of which each of these streams is assured 256 KiB, so 768 KiB are left to grow by and no window
/// exceeds 1 MiB. A larger one lets js-libp2p send frames as large, which rust-yamux answers by ending the
/// connection (seen with Helia at 1.3 MiB). The streams that really are open are bounded by those in negotiation
/// and by each protocol's own bound, far below this.
const MAX_STREAMS: usize = 4096 - 3;
/// Streams in negotiation on one connection; DHT, bitswap and requests come in bursts.
const MAX_NEGOTIATING: usize = 64;

/// Bytes that a peer may send on one stream of QUIC before they are read: what Yamux allows it.
#[cfg(feature = "quic")]
const QUIC_STREAM: u32 = 1 << 20;
/// The same of all streams of a connection: as many as blocks in flight for one file fill, and some. libp2p's own 15 MB are
/// 4 GB from all connections that a peer takes.
#[cfg(feature = "quic")]
const QUIC_CONNECTION: u32 = 4 << 20;

/// The stages that follow the resolver, whose types cannot be named.
macro_rules! finish {
    ($builder:expr, $limits:expr, $behaviour:expr) => {
        $builder
            .with_behaviour(|_| $behaviour)
            .map_err(io::Error::other)?
            .with_swarm_config(|config| {
                config
                    .with_idle_connection_timeout($limits.idle)
                    .with_max_negotiating_inbound_streams(MAX_NEGOTIATING)
            })
            .with_connection_timeout($limits.dial)
            .build()
    };
}

/// Builds the swarm around `behaviour`.
pub(super) fn swarm(config: &Config, behaviour: Behaviour) -> io::Result<Swarm<Behaviour>> {
    let limits = &config.limits;
    let transports = || -> io::Result<_> {
        let builder = SwarmBuilder::with_existing_identity(config.keypair.clone())
            .with_tokio()
            .with_tcp(tcp::Config::default().nodelay(true), noise::Config::new, muxer)
            .map_err(io::Error::other)?;
        #[cfg(feature = "quic")]
        let builder = builder.with_quic_config(|quic| bounded(quic, limits));
        Ok(builder)
    };
    match transports()?.with_dns() {
        Ok(builder) => Ok(finish!(builder, limits, behaviour)),
        Err(error) => {
            // A machine without a resolver can still dial what is given by number.
            tracing::warn!(%error, "no system resolver, names will not be found");
            let builder =
                transports()?.with_dns_config(dns::ResolverConfig::default(), dns::ResolverOpts::default());
            Ok(finish!(builder, limits, behaviour))
        }
    }
}

#[cfg(feature = "quic")]
fn bounded(mut quic: libp2p::quic::Config, limits: &crate::config::Limits) -> libp2p::quic::Config {
    quic.handshake_timeout = limits.dial;
    quic.max_stream_data = QUIC_STREAM;
    quic.max_connection_data = QUIC_CONNECTION;
    quic
}

fn muxer() -> yamux::Config {
    let mut config = yamux::Config::default();
    config.set_max_num_streams(MAX_STREAMS);
    config
}
