//! Observers (RFC 7641). Who has not shown that it is where it says may observe as long as there is room, and makes room for
//! who has: a forged observation pushes out no sensor's own.

use std::net::SocketAddr;

use coap_lite::MessageType;
use posthouse_protocol::id::DeviceId;

use super::super::message::{Envelope, Request, Response};
use super::super::peer::{MAX_OBSERVERS, Observer, Peer};
use super::path::szx_for;
use super::{Endpoint, Ticket, encode, slice};

/// Addresses from which one device is observed.
pub(super) const MAX_WATCHERS: usize = 4;

impl Endpoint {
    /// Tells who observes something of a device that it has changed.
    pub fn changed(&mut self, device: &DeviceId, now: u64) {
        let Some(addresses) = self.watchers.get(device).cloned() else { return };
        let mut left = Vec::with_capacity(addresses.len());
        for address in addresses {
            let Some(peer) = self.peers.find(&address) else { continue };
            let mut theirs = peer.observers.iter_mut().filter(|observer| observer.device == *device);
            if theirs.by_ref().map(|observer| observer.due = true).count() > 0 {
                left.push(address);
                self.go_on(address, now);
            }
        }
        match left.is_empty() {
            true => self.watchers.remove(device),
            false => self.watchers.insert(*device, left),
        };
    }

    /// Puts a request among the observers if it may be there (RFC 7641 §4.1); the same token again takes its own place.
    pub(super) fn register(&mut self, ticket: &Ticket, request: Request, response: &mut Response, now: u64) {
        let Some(device) = response.watch.filter(|_| response.is_success()) else { return };
        let verified = self.is_verified(&ticket.peer, now);
        // The second half is for those that were shown.
        let room = if verified { self.limits.max_observers } else { self.limits.max_observers / 2 };
        let full = self.peers.observers() >= room;
        let Some(peer) = self.peers.find(&ticket.peer) else { return };
        let known = peer.observers.iter().any(|observer| observer.token == ticket.token);
        if (!known && full) || !self.watch(device, ticket.peer, verified, now) {
            return;
        }
        let Some(peer) = self.peers.find(&ticket.peer) else { return };
        peer.observers.retain(|observer| observer.token != ticket.token);
        if peer.observers.len() >= MAX_OBSERVERS {
            // A client that has forgotten its tokens has forgotten the oldest.
            peer.observers.remove(0);
        }
        let token = ticket.token.clone();
        let max_szx = szx_for(ticket.len);
        peer.observers.push(Observer { token, request, device, max_szx, due: false, running: false });
        response.observe = Some(self.own_place());
    }

    /// Whether a device may be observed from an address: else from another one no more.
    fn watch(&mut self, device: DeviceId, address: SocketAddr, verified: bool, now: u64) -> bool {
        if self.watchers.len() > self.limits.max_observers {
            let peers = &mut self.peers;
            self.watchers
                .retain(|_, addresses| addresses.iter().any(|address| peers.find(address).is_some()));
        }
        let mut addresses = self.watchers.remove(&device).unwrap_or_default();
        let observes = |peer: &Peer| peer.observers.iter().any(|o| o.device == device);
        addresses
            .retain(|known| *known != address && self.peers.find(known).is_some_and(|peer| observes(peer)));
        let full = addresses.len() >= MAX_WATCHERS;
        let stranger = addresses.iter().position(|known| !self.is_verified(known, now));
        // The place of whoever said hello as this device goes last.
        let other = addresses
            .iter()
            .position(|known| self.peers.find(known).is_none_or(|p| p.device != Some(device)));
        let goes = if full { stranger.or(verified.then(|| other.unwrap_or(0))) } else { None };
        if let Some(peer) = goes.and_then(|at| self.peers.find(&addresses.remove(at))) {
            peer.observers.retain(|observer| observer.device != device);
        }
        let room = addresses.len() < MAX_WATCHERS;
        if room {
            addresses.push(address);
        }
        self.watchers.insert(device, addresses);
        room
    }

    /// Sends a notification: always confirmable, so that nobody is told for long who is gone (RFC 7641 §4.5).
    pub(super) fn notify(&mut self, ticket: Ticket, response: Response, now: u64) {
        let mut response = slice(response, ticket.block2, ticket.max_szx);
        // Not to be foreseen where nobody may be: somebody else's acknowledgement would have it go on.
        let id = if ticket.verified { self.own_id() } else { self.dice.throw() as u16 };
        let place = self.own_place();
        let Some(peer) = self.peers.find(&ticket.peer) else { return };
        let Some(at) = peer.observers.iter().position(|observer| observer.token == ticket.token) else {
            return self.go_on(ticket.peer, now);
        };
        peer.observers[at].running = false;
        if peer.outgoing.is_some() {
            // A late answer came between.
            peer.observers[at].due = true;
            return;
        }
        if response.is_success() {
            response.observe = Some(place);
        } else {
            // RFC 7641 §4.2: an error is the last that an observer hears.
            peer.observers.remove(at);
        }
        let envelope = Envelope { kind: MessageType::Confirmable, id, token: ticket.token.clone() };
        let datagram = encode(response, &envelope, None);
        if !ticket.verified {
            // It was silent for so long that it is a stranger again.
            self.ping(ticket.peer, now);
        }
        self.transmit(ticket.peer, id, datagram, Some(ticket.token), now);
    }
}
