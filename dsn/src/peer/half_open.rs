//! A cap on handshakes under way from one address.
//!
//! A connection costs a stranger nothing until its handshake. Without this cap, 16 idle sockets from one host
//! took every place there is and locked an honest peer out for the ten seconds that a handshake may take.

use std::collections::HashMap;
use std::convert::Infallible;
use std::net::IpAddr;
use std::task::{Context, Poll};

use libp2p::core::Endpoint;
use libp2p::core::transport::PortUse;
use libp2p::multiaddr::Protocol;
use libp2p::swarm::behaviour::{ConnectionEstablished, ListenFailure};
use libp2p::swarm::{ConnectionDenied, ConnectionId, FromSwarm, NetworkBehaviour, ToSwarm, dummy};
use libp2p::{Multiaddr, PeerId};
use thiserror::Error;

/// Too many handshakes from one address are under way.
#[derive(Debug, Error)]
#[error("{0} has too many handshakes under way")]
struct TooMany(IpAddr);

/// The swarm's part that counts handshakes.
pub(super) struct HalfOpen {
    per_ip: u32,
    pending: HashMap<ConnectionId, IpAddr>,
    counts: HashMap<IpAddr, u32>,
}

impl HalfOpen {
    pub(super) fn new(per_ip: u32) -> Self {
        Self { per_ip, pending: HashMap::new(), counts: HashMap::new() }
    }

    fn begin(&mut self, connection: ConnectionId, ip: IpAddr) -> Result<(), TooMany> {
        let count = self.counts.entry(ip).or_default();
        if *count >= self.per_ip {
            return Err(TooMany(ip));
        }
        *count += 1;
        self.pending.insert(connection, ip);
        Ok(())
    }

    fn end(&mut self, connection: ConnectionId) {
        let Some(ip) = self.pending.remove(&connection) else { return };
        if let Some(count) = self.counts.get_mut(&ip) {
            *count -= 1;
            if *count == 0 {
                self.counts.remove(&ip);
            }
        }
    }
}

fn ip_of(addr: &Multiaddr) -> Option<IpAddr> {
    addr.iter().find_map(|part| match part {
        Protocol::Ip4(ip) => Some(IpAddr::V4(ip)),
        Protocol::Ip6(ip) => Some(IpAddr::V6(ip)),
        _ => None,
    })
}

impl NetworkBehaviour for HalfOpen {
    type ConnectionHandler = dummy::ConnectionHandler;
    type ToSwarm = Infallible;

    fn handle_pending_inbound_connection(
        &mut self,
        connection: ConnectionId,
        _: &Multiaddr,
        remote: &Multiaddr,
    ) -> Result<(), ConnectionDenied> {
        match ip_of(remote) {
            Some(ip) => self.begin(connection, ip).map_err(ConnectionDenied::new),
            None => Ok(()),
        }
    }

    fn handle_established_inbound_connection(
        &mut self,
        connection: ConnectionId,
        _: PeerId,
        _: &Multiaddr,
        _: &Multiaddr,
    ) -> Result<dummy::ConnectionHandler, ConnectionDenied> {
        self.end(connection);
        Ok(dummy::ConnectionHandler)
    }

    fn handle_established_outbound_connection(
        &mut self,
        _: ConnectionId,
        _: PeerId,
        _: &Multiaddr,
        _: Endpoint,
        _: PortUse,
    ) -> Result<dummy::ConnectionHandler, ConnectionDenied> {
        Ok(dummy::ConnectionHandler)
    }

    fn on_swarm_event(&mut self, event: FromSwarm<'_>) {
        match event {
            FromSwarm::ListenFailure(ListenFailure { connection_id, .. })
            | FromSwarm::ConnectionEstablished(ConnectionEstablished { connection_id, .. }) => {
                self.end(connection_id);
            }
            _ => {}
        }
    }

    fn on_connection_handler_event(&mut self, _: PeerId, _: ConnectionId, never: Infallible) {
        match never {}
    }

    fn poll(&mut self, _: &mut Context<'_>) -> Poll<ToSwarm<Infallible, Infallible>> {
        Poll::Pending
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_address_has_its_own_places_and_gets_them_back() {
        let mut half_open = HalfOpen::new(2);
        let (a, b) = (IpAddr::from([10, 0, 0, 1]), IpAddr::from([10, 0, 0, 2]));
        let id = ConnectionId::new_unchecked;
        assert!(half_open.begin(id(1), a).is_ok() && half_open.begin(id(2), a).is_ok());
        assert!(half_open.begin(id(3), a).is_err());
        assert!(half_open.begin(id(4), b).is_ok());
        half_open.end(id(3));
        assert!(half_open.begin(id(5), a).is_err());
        half_open.end(id(1));
        assert!(half_open.begin(id(6), a).is_ok());
        [2, 4, 6].into_iter().for_each(|n| half_open.end(id(n)));
        assert!(half_open.counts.is_empty() && half_open.pending.is_empty());
    }
}
