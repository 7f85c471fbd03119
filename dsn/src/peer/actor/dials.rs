//! Dials that callers wait for.

use libp2p::swarm::ConnectionId;
use libp2p::swarm::dial_opts::{DialOpts, PeerCondition};
use libp2p::{Multiaddr, PeerId, swarm};
use tokio::sync::oneshot;

use super::Actor;
use crate::config::peer_of;
use crate::peer::DialError;

pub(super) type DialDone = oneshot::Sender<Result<PeerId, DialError>>;

/// A caller that waits for a connection.
pub(super) struct Dial {
    addr: Multiaddr,
    done: DialDone,
}

impl Actor {
    pub(super) fn dial(&mut self, addr: Multiaddr, done: DialDone) {
        let Some(peer) = peer_of(&addr) else {
            let opts = DialOpts::unknown_peer_id().address(addr.clone()).build();
            return self.start_dial(opts, None, Dial { addr, done });
        };
        self.swarm.behaviour_mut().addresses.name(peer, addr.clone());
        self.dial_peer(peer, Dial { addr, done });
    }

    /// Dials, or waits for the dial to the same peer that is under way: two connections would only be in each
    /// other's way.
    fn dial_peer(&mut self, peer: PeerId, dial: Dial) {
        if self.swarm.is_connected(&peer) {
            dial.done.send(Ok(peer)).ok();
            return;
        }
        let opts = DialOpts::peer_id(peer).condition(PeerCondition::DisconnectedAndNotDialing);
        let opts = opts.addresses(vec![dial.addr.clone()]).extend_addresses_through_behaviour().build();
        self.start_dial(opts, Some(peer), dial);
    }

    fn start_dial(&mut self, opts: DialOpts, peer: Option<PeerId>, dial: Dial) {
        let connection = opts.connection_id();
        match (self.swarm.dial(opts), peer) {
            (Ok(()), _) => drop(self.dials.insert(connection, dial)),
            (Err(swarm::DialError::DialPeerConditionFalse(_)), Some(peer)) => {
                self.awaited.entry(peer).or_default().push(dial);
            }
            (Err(error), _) => dial.fail(&error),
        }
    }

    pub(super) fn on_connected(&mut self, peer: PeerId, connection: ConnectionId) {
        let dials = self.dials.remove(&connection).into_iter();
        for dial in dials.chain(self.awaited.remove(&peer).unwrap_or_default()) {
            dial.done.send(Ok(peer)).ok();
        }
    }

    pub(super) fn on_dial_failed(
        &mut self,
        peer: Option<PeerId>,
        connection: ConnectionId,
        error: &swarm::DialError,
    ) {
        if let Some(dial) = self.dials.remove(&connection) {
            dial.fail(error);
        }
        // The dial that these waited for may not have tried their address.
        for dial in peer.and_then(|peer| self.awaited.remove(&peer)).unwrap_or_default() {
            self.dial_peer(peer.expect("its dials were found"), dial);
        }
    }
}

impl Dial {
    fn fail(self, error: &swarm::DialError) {
        let Self { addr, done } = self;
        done.send(Err(DialError::Unreachable { addr, why: error.to_string() })).ok();
    }
}
