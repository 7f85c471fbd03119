//! Confirmable messages of ours, answers that are late and notifications: one to a peer at a time (RFC 7252 §4.7: NSTART is
//! 1), sent again until they are acknowledged.

use std::net::SocketAddr;

use bytes::Bytes;
use coap_lite::MessageType;

use super::super::option::MAX_SZX;
use super::super::peer::Outgoing;
use super::{Endpoint, Incoming, Kind, Output, Ticket, Timer};

/// First wait for an acknowledgement, ms, and how much longer it may be by lot (RFC 7252 §4.8).
const ACK_TIMEOUT: u64 = 2_000;
const ACK_RANDOM: u64 = ACK_TIMEOUT / 2;
/// Transmissions after the first (RFC 7252 §4.8).
const MAX_RETRANSMIT: u32 = 4;

impl Endpoint {
    pub(super) fn transmit(
        &mut self,
        address: SocketAddr,
        id: u16,
        datagram: Bytes,
        notifies: Option<Vec<u8>>,
        now: u64,
    ) {
        let verified = self.is_verified(&address, now);
        let timeout = ACK_TIMEOUT + self.dice.throw() % (ACK_RANDOM + 1);
        let deadline = now + timeout;
        let Some(peer) = self.peers.find(&address) else { return };
        // Nobody may be there: one more, for one that is lost.
        let retransmitted = if verified { 0 } else { MAX_RETRANSMIT - 1 };
        let out = datagram.clone();
        peer.outgoing = Some(Outgoing { id, datagram: out, notifies, retransmitted, timeout, deadline });
        self.timers.insert((deadline, address, Timer::Resend));
        self.send(address, datagram);
    }

    /// What was not acknowledged goes out again, each time after twice as long; in the end its receiver is taken for gone.
    pub(super) fn resend(&mut self, address: SocketAddr, at: u64, now: u64) {
        let Some(peer) = self.peers.find(&address) else { return };
        let Some(outgoing) = peer.outgoing.as_mut().filter(|outgoing| outgoing.deadline == at) else {
            return;
        };
        if outgoing.retransmitted >= MAX_RETRANSMIT {
            peer.outgoing = None;
            peer.observers.clear();
            return self.go_on(address, now);
        }
        outgoing.retransmitted += 1;
        outgoing.timeout *= 2;
        outgoing.deadline = now + outgoing.timeout;
        let (deadline, datagram) = (outgoing.deadline, outgoing.datagram.clone());
        self.timers.insert((deadline, address, Timer::Resend));
        self.send(address, datagram);
    }

    /// An acknowledgement or a reset.
    pub(super) fn settle(&mut self, address: SocketAddr, kind: MessageType, id: u16, now: u64) {
        let Some(peer) = self.peers.find(&address) else { return };
        let reset = kind == MessageType::Reset;
        if let Some(outgoing) = peer.outgoing.take_if(|outgoing| outgoing.id == id) {
            if let Some(token) = outgoing.notifies.filter(|_| reset) {
                // RFC 7641 §3.6: it does not want it any more.
                peer.observers.retain(|observer| observer.token != token);
            }
            self.timers.remove(&(outgoing.deadline, address, Timer::Resend));
            return self.go_on(address, now);
        }
        if reset {
            self.pinged(address, id, now);
        }
    }

    /// Sends the peer what waits for it, if nothing else is out.
    pub(super) fn go_on(&mut self, address: SocketAddr, now: u64) {
        let verified = self.is_verified(&address, now);
        let Some(peer) = self.peers.find(&address) else { return };
        if peer.outgoing.is_some() {
            return;
        }
        if let Some((id, datagram)) = peer.queued.pop_front() {
            return self.transmit(address, id, datagram, None, now);
        }
        if peer.asleep || peer.observers.iter().any(|observer| observer.running) {
            return;
        }
        let Some(observer) = peer.observers.iter_mut().find(|observer| observer.due) else { return };
        (observer.due, observer.running) = (false, true);
        let request = observer.request.clone();
        let ticket = Ticket {
            peer: address,
            session: peer.session,
            kind: Kind::Notification,
            token: observer.token.clone(),
            block1: None,
            block2: request.block2,
            max_szx: if verified { MAX_SZX } else { observer.max_szx },
            verified,
            len: 0,
            idempotent: true,
            observe: None,
        };
        let device = Some(observer.device);
        self.out.push_back(Output::Request(Box::new(Incoming { ticket, request, device })));
    }
}
