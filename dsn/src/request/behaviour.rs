//! Requests over all connections: who is dialled for one, and where those of others go.

use std::collections::{HashMap, VecDeque};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use libp2p::core::Endpoint;
use libp2p::core::transport::PortUse;
use libp2p::swarm::behaviour::{ConnectionClosed, ConnectionEstablished, DialFailure};
use libp2p::swarm::dial_opts::{DialOpts, PeerCondition};
use libp2p::swarm::{
    ConnectionDenied, ConnectionId, DialError, FromSwarm, NetworkBehaviour, NotifyHandler, ToSwarm,
};
use libp2p::{Multiaddr, PeerId, StreamProtocol};
use tokio::sync::{mpsc, oneshot};

use super::handler::{Ask, Asked, Handler};
use super::{Inbound, Reply, RequestError};

/// Requests that wait for one dial.
const MAX_WAITING: usize = 64;

/// The swarm's part that carries requests.
pub(crate) struct Behaviour {
    protocols: Vec<StreamProtocol>,
    deadline: Duration,
    inbound: mpsc::Sender<Inbound>,
    connections: HashMap<PeerId, usize>,
    waiting: HashMap<PeerId, Vec<Ask>>,
    events: VecDeque<ToSwarm<(), Ask>>,
    waker: Option<Waker>,
}

impl Behaviour {
    pub(crate) fn new(
        protocols: Vec<StreamProtocol>,
        deadline: Duration,
        inbound: mpsc::Sender<Inbound>,
    ) -> Self {
        Self {
            protocols,
            deadline,
            inbound,
            connections: HashMap::new(),
            waiting: HashMap::new(),
            events: VecDeque::new(),
            waker: None,
        }
    }

    /// Asks `peer`, over a connection to be made if there is none. The answer's sender being dropped means that
    /// the connection broke.
    pub(crate) fn ask(
        &mut self,
        peer: PeerId,
        protocol: &str,
        body: Vec<u8>,
        answer: oneshot::Sender<Result<Vec<u8>, RequestError>>,
    ) {
        let Some(protocol) = self.protocols.iter().find(|known| known.as_ref() == protocol).cloned() else {
            answer.send(Err(RequestError::UnknownProtocol(protocol.to_owned()))).ok();
            return;
        };
        let ask = Ask { protocol, body, answer };
        if self.connections.contains_key(&peer) {
            self.push(ToSwarm::NotifyHandler { peer_id: peer, handler: NotifyHandler::Any, event: ask });
        } else {
            self.dial_for(peer, ask);
        }
    }

    fn dial_for(&mut self, peer: PeerId, ask: Ask) {
        let waiting = self.waiting.entry(peer).or_default();
        if waiting.len() >= MAX_WAITING {
            ask.answer.send(Err(RequestError::Busy(peer))).ok();
            return;
        }
        waiting.push(ask);
        let opts = DialOpts::peer_id(peer).condition(PeerCondition::DisconnectedAndNotDialing).build();
        self.push(ToSwarm::Dial { opts });
    }

    fn push(&mut self, event: ToSwarm<(), Ask>) {
        self.events.push_back(event);
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }

    fn on_established(&mut self, peer: PeerId) {
        *self.connections.entry(peer).or_default() += 1;
        for event in self.waiting.remove(&peer).unwrap_or_default() {
            self.push(ToSwarm::NotifyHandler { peer_id: peer, handler: NotifyHandler::Any, event });
        }
    }

    fn on_closed(&mut self, peer: PeerId) {
        if let Some(count) = self.connections.get_mut(&peer) {
            *count -= 1;
            if *count == 0 {
                self.connections.remove(&peer);
            }
        }
    }

    fn on_dial_failure(&mut self, peer: PeerId, error: &DialError) {
        // Another dial to the same peer is under way, or has just succeeded: that one decides.
        if matches!(error, DialError::DialPeerConditionFalse(_)) {
            return;
        }
        for ask in self.waiting.remove(&peer).unwrap_or_default() {
            ask.answer.send(Err(RequestError::Unreachable { peer, why: error.to_string() })).ok();
        }
    }

    fn handler(&self, peer: PeerId) -> Handler {
        Handler::new(peer, self.protocols.clone(), self.deadline)
    }
}

impl NetworkBehaviour for Behaviour {
    type ConnectionHandler = Handler;
    type ToSwarm = ();

    fn handle_established_inbound_connection(
        &mut self,
        _: ConnectionId,
        peer: PeerId,
        _: &Multiaddr,
        _: &Multiaddr,
    ) -> Result<Handler, ConnectionDenied> {
        Ok(self.handler(peer))
    }

    fn handle_established_outbound_connection(
        &mut self,
        _: ConnectionId,
        peer: PeerId,
        _: &Multiaddr,
        _: Endpoint,
        _: PortUse,
    ) -> Result<Handler, ConnectionDenied> {
        Ok(self.handler(peer))
    }

    fn on_swarm_event(&mut self, event: FromSwarm<'_>) {
        match event {
            FromSwarm::ConnectionEstablished(ConnectionEstablished { peer_id, .. }) => {
                self.on_established(peer_id);
            }
            FromSwarm::ConnectionClosed(ConnectionClosed { peer_id, .. }) => self.on_closed(peer_id),
            FromSwarm::DialFailure(DialFailure { peer_id: Some(peer), error, .. }) => {
                self.on_dial_failure(peer, error);
            }
            _ => {}
        }
    }

    fn on_connection_handler_event(&mut self, peer: PeerId, _: ConnectionId, asked: Asked) {
        let Asked { protocol, body, reply } = asked;
        let request = Inbound { peer, protocol: protocol.to_string(), body, reply: Reply(reply) };
        // A full queue drops the request, and with it the way back: refused at once, nothing piles up.
        if self.inbound.try_send(request).is_err() {
            tracing::warn!(%peer, "request refused, the queue is full");
        }
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<ToSwarm<(), Ask>> {
        match self.events.pop_front() {
            Some(event) => Poll::Ready(event),
            None => {
                self.waker = Some(cx.waker().clone());
                Poll::Pending
            }
        }
    }
}
