//! Bitswap over all connections: which want waits for which peer, and whose turn it is to be answered.

use std::collections::{HashMap, VecDeque};
use std::convert::Infallible;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use cid::Cid;
use futures::future::BoxFuture;
use futures::stream::FuturesUnordered;
use futures::{FutureExt, StreamExt};
use libp2p::core::Endpoint;
use libp2p::core::transport::PortUse;
use libp2p::swarm::behaviour::{ConnectionClosed, ConnectionEstablished, DialFailure};
use libp2p::swarm::dial_opts::{DialOpts, PeerCondition};
use libp2p::swarm::{
    ConnectionDenied, ConnectionId, DialError, FromSwarm, NetworkBehaviour, NotifyHandler, ToSwarm,
};
use libp2p::{Multiaddr, PeerId};
use tokio::sync::oneshot;

use super::handler::{Handler, Told};
use super::message::Received;
use super::peer::{Peer, Waiting};
use super::serve::{Batch, Queue, Source};
use super::{Kind, Want};
use crate::fetch::WantError;
use crate::withheld::digest;

/// Wants to one peer that are under way.
const MAX_ASKED: usize = 256;
/// Batches in the making for all peers together: blocks in memory that are on no connection yet.
const MAX_BATCHES: usize = 8;

/// A peer broke a rule.
#[derive(Debug)]
pub(crate) struct Broken {
    pub(crate) peer: PeerId,
    pub(crate) rule: String,
}

/// A want's end for another reason than an answer.
struct Expired {
    peer: PeerId,
    digest: [u8; 32],
    id: u64,
}

/// The swarm's part that exchanges blocks.
pub(crate) struct Behaviour {
    source: Source,
    deadline: Duration,
    peers: HashMap<PeerId, Peer>,
    next_id: u64,
    /// Peers with something in their outbox.
    outboxes: Vec<PeerId>,
    /// Peers whose turn it is to be answered, each once.
    turns: VecDeque<PeerId>,
    batches: FuturesUnordered<BoxFuture<'static, (PeerId, Batch)>>,
    expiry: FuturesUnordered<BoxFuture<'static, Expired>>,
    events: VecDeque<ToSwarm<Broken, Vec<u8>>>,
    waker: Option<Waker>,
}

impl Behaviour {
    pub(crate) fn new(source: Source, deadline: Duration) -> Self {
        Self {
            source,
            deadline,
            peers: HashMap::new(),
            next_id: 0,
            outboxes: Vec::new(),
            turns: VecDeque::new(),
            batches: FuturesUnordered::new(),
            expiry: FuturesUnordered::new(),
            events: VecDeque::new(),
            waker: None,
        }
    }

    /// Asks; dials first if there is no connection.
    pub(crate) fn ask(&mut self, want: Want) {
        let Want { peer: id, cid, kind, max_len, answer, alive } = want;
        let peer = self.peers.entry(id).or_default();
        if peer.wanted.load(Ordering::Relaxed) >= MAX_ASKED {
            answer.send(Err(WantError::Busy)).ok();
            return;
        }
        self.next_id += 1;
        let waiting = Waiting { id: self.next_id, cid, kind, max_len, answer };
        self.expiry.push(expire(
            Expired { peer: id, digest: digest(&cid), id: self.next_id },
            alive,
            self.deadline,
        ));
        peer.wait(waiting);
        if peer.connections.is_empty() {
            let opts = DialOpts::peer_id(id).condition(PeerCondition::DisconnectedAndNotDialing).build();
            self.events.push_back(ToSwarm::Dial { opts });
        } else {
            peer.outbox.want(&cid, kind);
            self.outboxes.push(id);
        }
        self.wake();
    }

    fn wake(&mut self) {
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }

    fn on_established(&mut self, id: PeerId, connection: ConnectionId) {
        let peer = self.peers.entry(id).or_default();
        peer.connections.push(connection);
        if peer.connections.len() == 1 {
            let all: Vec<(Cid, Kind)> = peer.waiting.values().flatten().map(|w| (w.cid, w.kind)).collect();
            all.iter().for_each(|(cid, kind)| peer.outbox.want(cid, *kind));
            self.outboxes.push(id);
        }
    }

    fn on_closed(&mut self, id: PeerId, connection: ConnectionId) {
        let Some(peer) = self.peers.get_mut(&id) else { return };
        peer.connections.retain(|known| *known != connection);
        // What was under way on the connection that closed is lost, whichever it was.
        peer.fail_all(&WantError::Disconnected);
        peer.queue = Queue::default();
        self.forget_if_idle(id);
    }

    fn on_dial_failure(&mut self, id: PeerId, error: &DialError) {
        // Another dial to the same peer is under way, or has just succeeded: that one decides.
        if matches!(error, DialError::DialPeerConditionFalse(_)) {
            return;
        }
        let Some(peer) = self.peers.get_mut(&id) else { return };
        if peer.connections.is_empty() {
            peer.fail_all(&WantError::Unreachable(error.to_string()));
            self.forget_if_idle(id);
        }
    }

    fn forget_if_idle(&mut self, id: PeerId) {
        if self.peers.get(&id).is_some_and(|peer| peer.connections.is_empty() && peer.waiting.is_empty()) {
            self.peers.remove(&id);
        }
    }

    fn on_received(&mut self, id: PeerId, received: Received) {
        let Some(peer) = self.peers.get_mut(&id) else { return };
        let mut broken = Vec::new();
        for (digest, have) in received.presences {
            peer.on_presence(digest, have);
        }
        for (digest, block) in received.blocks {
            if !peer.on_block(digest, block) {
                peer.fail_blocks();
                broken.push("sent a block that was not asked for");
            }
        }
        if received.foreign > 0 {
            peer.fail_blocks();
            broken.push("sent a block of another hash than SHA-256");
        }
        if !peer.queue.take_in(received.wants, received.full) {
            broken.push("wants more at once than it may");
        }
        self.turn(id);
        for rule in broken {
            self.broke(id, rule.to_owned());
        }
    }

    fn broke(&mut self, peer: PeerId, rule: String) {
        self.events.push_back(ToSwarm::GenerateEvent(Broken { peer, rule }));
    }

    /// Puts a peer in line to be answered.
    fn turn(&mut self, id: PeerId) {
        if self.peers.get(&id).is_some_and(|peer| peer.queue.is_ready()) && !self.turns.contains(&id) {
            self.turns.push_back(id);
        }
    }

    fn start_batches(&mut self) {
        while self.batches.len() < MAX_BATCHES
            && let Some(id) = self.turns.pop_front()
        {
            let Some(peer) = self.peers.get_mut(&id).filter(|peer| peer.queue.is_ready()) else { continue };
            let wants = peer.queue.next_batch();
            let answer = self.source.clone().answer(id, wants).map(move |batch| (id, batch));
            self.batches.push(answer.boxed());
        }
    }

    fn on_batch(&mut self, id: PeerId, batch: Batch) {
        let Some(peer) = self.peers.get_mut(&id) else { return };
        let message = if batch.message.is_empty() { Vec::new() } else { batch.message.encode() };
        peer.queue.done(batch.rest, message.len());
        if !message.is_empty() {
            self.send(id, message);
        }
        self.turn(id);
    }

    /// Messages of wants count as unsent as well while they are: they come off again by the same `Told::Sent`.
    fn flush(&mut self, id: PeerId) {
        let Some(peer) = self.peers.get_mut(&id) else { return };
        if peer.outbox.is_empty() || peer.connections.is_empty() {
            return;
        }
        let message = std::mem::take(&mut peer.outbox).encode();
        peer.queue.unsent += message.len();
        self.send(id, message);
    }

    fn send(&mut self, id: PeerId, event: Vec<u8>) {
        if let Some(connection) = self.peers.get(&id).and_then(|peer| peer.connections.first()) {
            let handler = NotifyHandler::One(*connection);
            self.events.push_back(ToSwarm::NotifyHandler { peer_id: id, handler, event });
        }
    }

    fn on_expired(&mut self, Expired { peer: id, digest, id: want }: Expired) {
        let Some(peer) = self.peers.get_mut(&id) else { return };
        if let Some(cid) = peer.expire(digest, want) {
            peer.outbox.cancel(&cid);
            self.outboxes.push(id);
        }
        self.forget_if_idle(id);
    }

    fn handler(&mut self, peer: PeerId) -> Handler {
        Handler::new(self.peers.entry(peer).or_default().wanted.clone(), self.deadline)
    }
}

/// Ends when time is up or nobody waits any more, whichever is first.
fn expire(
    expired: Expired,
    alive: oneshot::Receiver<Infallible>,
    deadline: Duration,
) -> BoxFuture<'static, Expired> {
    let end = tokio::time::timeout(deadline, alive);
    end.map(move |_| expired).boxed()
}

impl NetworkBehaviour for Behaviour {
    type ConnectionHandler = Handler;
    type ToSwarm = Broken;

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
            FromSwarm::ConnectionEstablished(ConnectionEstablished { peer_id, connection_id, .. }) => {
                self.on_established(peer_id, connection_id);
            }
            FromSwarm::ConnectionClosed(ConnectionClosed { peer_id, connection_id, .. }) => {
                self.on_closed(peer_id, connection_id);
            }
            FromSwarm::DialFailure(DialFailure { peer_id: Some(peer), error, .. }) => {
                self.on_dial_failure(peer, error);
            }
            _ => {}
        }
    }

    fn on_connection_handler_event(&mut self, id: PeerId, _: ConnectionId, told: Told) {
        match told {
            Told::Received(received) => self.on_received(id, received),
            Told::Sent(bytes) => {
                if let Some(peer) = self.peers.get_mut(&id) {
                    peer.queue.unsent = peer.queue.unsent.saturating_sub(bytes);
                }
                self.turn(id);
            }
            Told::Failed(bytes) => {
                if let Some(peer) = self.peers.get_mut(&id) {
                    peer.queue.unsent = peer.queue.unsent.saturating_sub(bytes);
                    peer.fail_all(&WantError::Disconnected);
                }
                self.turn(id);
            }
            Told::Broke(rule) => {
                if let Some(peer) = self.peers.get_mut(&id) {
                    peer.fail_blocks();
                }
                self.broke(id, rule);
            }
        }
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<ToSwarm<Broken, Vec<u8>>> {
        loop {
            for id in std::mem::take(&mut self.outboxes) {
                self.flush(id);
            }
            if let Some(event) = self.events.pop_front() {
                return Poll::Ready(event);
            }
            self.start_batches();
            if let Poll::Ready(Some((id, batch))) = self.batches.poll_next_unpin(cx) {
                self.on_batch(id, batch);
                continue;
            }
            if let Poll::Ready(Some(expired)) = self.expiry.poll_next_unpin(cx) {
                self.on_expired(expired);
                continue;
            }
            self.waker = Some(cx.waker().clone());
            return Poll::Pending;
        }
    }
}
