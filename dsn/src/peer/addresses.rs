//! Where peers were seen, for dials that name only a peer.
//!
//! Two shelves: peers that the configuration or the caller named stay for good; learned ones, which anybody can
//! make up in any number, push each other out and never the former.

use std::collections::HashMap;
use std::convert::Infallible;
use std::num::NonZeroUsize;
use std::task::{Context, Poll};

use libp2p::core::Endpoint;
use libp2p::core::transport::PortUse;
use libp2p::swarm::{
    ConnectionDenied, ConnectionId, FromSwarm, NetworkBehaviour, PeerAddresses, ToSwarm, dummy,
};
use libp2p::{Multiaddr, PeerId};

/// Learned peers kept, each with at most ten addresses.
const LEARNED: NonZeroUsize = NonZeroUsize::new(512).expect("not zero");
/// Addresses kept of one named peer.
const MAX_NAMED: usize = 16;

/// The swarm's part that knows addresses.
pub(super) struct Addresses {
    named: HashMap<PeerId, Vec<Multiaddr>>,
    learned: PeerAddresses,
}

impl Addresses {
    pub(super) fn new(named: impl IntoIterator<Item = (PeerId, Multiaddr)>) -> Self {
        let mut addresses = Self { named: HashMap::new(), learned: PeerAddresses::new(LEARNED) };
        for (peer, addr) in named {
            addresses.name(peer, addr);
        }
        addresses
    }

    /// Keeps an address that the configuration or the caller gave.
    pub(super) fn name(&mut self, peer: PeerId, addr: Multiaddr) {
        let kept = self.named.entry(peer).or_default();
        if !kept.contains(&addr) {
            kept.truncate(MAX_NAMED - 1);
            kept.insert(0, addr);
        }
    }

    /// Keeps an address that somebody claims; whether the peer is there shows when it is dialled.
    pub(super) fn learn(&mut self, peer: PeerId, addr: Multiaddr) {
        self.learned.add(peer, addr);
    }

    fn of(&mut self, peer: &PeerId) -> Vec<Multiaddr> {
        let named = self.named.get(peer).into_iter().flatten().cloned();
        named.chain(self.learned.get(peer)).collect()
    }
}

impl NetworkBehaviour for Addresses {
    type ConnectionHandler = dummy::ConnectionHandler;
    type ToSwarm = Infallible;

    fn handle_established_inbound_connection(
        &mut self,
        _: ConnectionId,
        _: PeerId,
        _: &Multiaddr,
        _: &Multiaddr,
    ) -> Result<dummy::ConnectionHandler, ConnectionDenied> {
        Ok(dummy::ConnectionHandler)
    }

    fn handle_pending_outbound_connection(
        &mut self,
        _: ConnectionId,
        peer: Option<PeerId>,
        _: &[Multiaddr],
        _: Endpoint,
    ) -> Result<Vec<Multiaddr>, ConnectionDenied> {
        Ok(peer.map(|peer| self.of(&peer)).unwrap_or_default())
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
        self.learned.on_swarm_event(&event);
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
    fn learned_peers_never_push_out_a_named_one() {
        let (named, addr): (_, Multiaddr) = (PeerId::random(), "/ip4/127.0.0.1/tcp/1".parse().unwrap());
        let mut addresses = Addresses::new([(named, addr.clone())]);
        for _ in 0..2 * LEARNED.get() {
            addresses.learn(PeerId::random(), "/ip4/127.0.0.1/tcp/2".parse().unwrap());
        }
        assert_eq!(addresses.of(&named), [addr]);
    }

    #[test]
    fn the_newest_named_address_comes_first_and_the_oldest_goes() {
        let peer = PeerId::random();
        let addr = |port: usize| -> Multiaddr { format!("/ip4/127.0.0.1/tcp/{port}").parse().unwrap() };
        let addresses = Addresses::new((1..=20).map(|port| (peer, addr(port))));
        let kept = &addresses.named[&peer];
        assert_eq!((kept.len(), &kept[0], &kept[15]), (MAX_NAMED, &addr(20), &addr(5)));
    }
}
