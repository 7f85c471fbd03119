//! The message layer: confirmable messages both ways, duplicates, piggybacked and separate answers, blocks both ways,
//! observers. No I/O: datagrams and the time go in, [`Output`]s come out.
//!
//! Who has not shown that it is where it says may not have much sent there (RFC 7252 §11.3): after a few answers
//! ([`allowance`]) it gets none of more than three times its question, long ones in smaller blocks, and a notification no more
//! than twice. With the first it gets an Echo option (RFC 9175) to send back, and beside it a ping (RFC 7252 §4.3), which other
//! endpoints answer. One of them shows it, or the acknowledgement of a notification, and then it gets what it asks for.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::net::SocketAddr;

use bytes::Bytes;
use coap_lite::{MessageClass, MessageType, ResponseType};
use posthouse_protocol::id::DeviceId;

use self::allowance::Allowance;
use self::dice::Dice;
use super::message::{self, Envelope, Refusal, Request, Response};
use super::option::{BlockOption, MAX_SZX};
use super::peer::{MAX_BODY, MAX_OBSERVERS, Observer, Outgoing, Peers, Seen, too_large};

pub(super) mod allowance;
mod dice;

/// First wait for an acknowledgement, ms, and how much longer it may be by lot (RFC 7252 §4.8).
const ACK_TIMEOUT: u64 = 2_000;
const ACK_RANDOM: u64 = ACK_TIMEOUT / 2;
/// Transmissions after the first (RFC 7252 §4.8).
const MAX_RETRANSMIT: u32 = 4;
/// A request that is not answered by then is acknowledged before its answer: before its sender would repeat it, ms.
const ACK_AFTER: u64 = 1_000;
/// The answer to somebody who may be nowhere has at most so many times the bytes of the question (RFC 9175 §2.4).
const AMPLIFICATION: usize = 3;
/// Bytes of an answer round its block: header, token, ETag, format, age, size, block, Echo.
const ROUND_BLOCK: usize = 56;
/// For so long it counts that somebody was at an address, ms.
const VERIFIED: u64 = 3_600_000;
/// A ping that was not answered is not repeated before, ms: who guesses its 16 bits has few guesses.
const PING_PAUSE: u64 = 10_000;
/// Addresses from which one device is observed.
const MAX_WATCHERS: usize = 4;

/// Bounds of an endpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Peers remembered at once. At the bound those are forgotten first that may be nowhere: a repeated message of theirs
    /// is worked on again, which does no harm.
    pub max_peers: usize,
    /// Requests being worked on at once; further ones are answered with 5.03.
    pub max_working: usize,
    /// Observers at once; further ones are answered, and not told of changes.
    pub max_observers: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { max_peers: 4096, max_working: 1024, max_observers: 8192 }
    }
}

/// A request to answer, by its [`Ticket`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Incoming {
    /// What [`Endpoint::respond`] wants back.
    pub ticket: Ticket,
    /// The request.
    pub request: Request,
    /// The device that said hello from the same address last.
    pub device: Option<DeviceId>,
}

/// What an answer is sent as.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Kind {
    /// To a request, confirmable or not.
    Response { confirmable: bool, id: u16, ack_at: u64 },
    /// To an observer, of its own accord.
    Notification,
}

/// The place of an answer. Each is answered once.
#[must_use]
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ticket {
    peer: SocketAddr,
    kind: Kind,
    token: Vec<u8>,
    block1: Option<BlockOption>,
    block2: Option<BlockOption>,
    /// Exponent of the largest block that may be sent there.
    max_szx: u8,
    /// Whether somebody is known to be there.
    verified: bool,
    /// Bytes of the question.
    len: usize,
    /// Whether a repeat may be worked on again instead of being answered from memory.
    idempotent: bool,
    /// The request, if it is to be registered.
    observe: Option<Box<Request>>,
}

impl Ticket {
    /// Who asked.
    pub fn peer(&self) -> SocketAddr {
        self.peer
    }

    /// Exponent of the largest block that may be sent.
    pub fn max_szx(&self) -> u8 {
        self.max_szx
    }

    /// Whether somebody asked just now; otherwise it is a notification.
    pub fn is_live(&self) -> bool {
        self.kind != Kind::Notification
    }
}

/// What comes out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Output {
    /// A datagram to a peer.
    Send(SocketAddr, Bytes),
    /// A request to work on.
    Request(Box<Incoming>),
}

/// When to look at what.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Timer {
    /// The message is acknowledged, whatever its answer.
    Acknowledge(u16),
    /// What was not acknowledged is sent again.
    Resend,
}

/// An endpoint.
#[derive(Debug)]
pub struct Endpoint {
    limits: Limits,
    /// Whether whoever speaks is where it says, as below DTLS.
    trusted: bool,
    peers: Peers,
    working: usize,
    /// Where each device is observed from; may name peers that have gone.
    watchers: HashMap<DeviceId, Vec<SocketAddr>>,
    timers: BTreeSet<(u64, SocketAddr, Timer)>,
    out: VecDeque<Output>,
    dice: Dice,
    allowance: Allowance,
    /// Of the messages that are not acknowledgements.
    next_id: u16,
    /// In the order of notifications.
    next_notification: u32,
}

impl Endpoint {
    /// An endpoint; the seed must be random. Whether what is below it shows who is where: then nobody is taken for forged.
    pub fn new(limits: Limits, trusted: bool, seed: [u8; 32]) -> Self {
        let mut dice = Dice::new(seed);
        let next_id = dice.throw() as u16;
        Self {
            limits,
            trusted,
            peers: Peers::new(limits.max_peers),
            working: 0,
            watchers: HashMap::new(),
            timers: BTreeSet::new(),
            out: VecDeque::new(),
            dice,
            allowance: Allowance::default(),
            next_id,
            next_notification: 1,
        }
    }

    /// Peers remembered.
    pub fn peers(&self) -> usize {
        self.peers.len()
    }

    /// The next output; to be called until there is none, after each of the calls that take the time.
    pub fn poll(&mut self) -> Option<Output> {
        self.out.pop_front()
    }

    /// When to [`tick`](Self::tick), ms.
    pub fn deadline(&self) -> Option<u64> {
        self.timers.first().map(|(at, ..)| *at)
    }

    /// Takes a datagram at `now`, ms.
    pub fn receive(&mut self, peer: SocketAddr, datagram: &[u8], now: u64) {
        let Some((kind, code, id)) = message::header(datagram) else { return };
        let confirmable = kind == MessageType::Confirmable;
        if !confirmable && kind != MessageType::NonConfirmable {
            // None of ours is a request, so that no answer can come with it.
            if code == 0 && datagram.len() == 4 {
                self.settle(peer, kind, id, now);
            }
            return;
        }
        let Err((refusal, token)) = self.request(peer, datagram, confirmable, id, now) else { return };
        let response = match refusal {
            Refusal::Reset => {
                if confirmable {
                    self.send(peer, message::reset(id));
                }
                return;
            }
            Refusal::Option(_) if !confirmable => return,
            Refusal::Option(text) => Response::diagnostic(ResponseType::BadOption, text),
            Refusal::Answer(code, text) => Response::diagnostic(code, text),
        };
        let envelope = self.envelope(confirmable, id, token);
        let bounded = !self.is_verified(&peer, now);
        let datagram = encode(response, &envelope, bounded.then_some(datagram.len()));
        self.send(peer, datagram);
    }

    fn request(
        &mut self,
        peer: SocketAddr,
        datagram: &[u8],
        confirmable: bool,
        id: u16,
        now: u64,
    ) -> Result<(), (Refusal, Vec<u8>)> {
        let packet = match message::parse(datagram) {
            Ok(packet) if packet.header.code == MessageClass::Empty => {
                return Err((Refusal::Reset, Vec::new()));
            }
            Ok(packet) => packet,
            Err(refusal) => return Err((refusal, Vec::new())),
        };
        let token = packet.get_token().to_vec();
        let (request, block1) = message::request(packet).map_err(|refusal| (refusal, token.clone()))?;
        match self.peers.get(peer, now).see(id, confirmable, now) {
            // RFC 7252 §4.5: what was not confirmable is answered once.
            Seen::Answered(answer) if confirmable => {
                self.send(peer, answer);
                return Ok(());
            }
            Seen::Working | Seen::Answered(_) => return Ok(()),
            Seen::New => {}
        }
        self.verify(&request, peer, now);
        let len = datagram.len();
        let ticket = Ticket {
            peer,
            kind: Kind::Response { confirmable, id, ack_at: now + ACK_AFTER },
            token,
            block1,
            block2: request.block2,
            max_szx: self.max_szx(&request, peer, len, now),
            verified: self.is_verified(&peer, now),
            len,
            idempotent: request.method == message::Method::Get,
            observe: request.observes().then(|| Box::new(request.clone())),
        };
        self.admit(ticket, request, now);
        Ok(())
    }

    /// Gathers a body that comes in blocks, and lets the request through if there is room.
    fn admit(&mut self, ticket: Ticket, mut request: Request, now: u64) {
        if self.working >= self.limits.max_working {
            return self.answer(ticket, Response::come_back(1), now);
        }
        let peer = self.peers.get(ticket.peer, now);
        peer.asleep = false;
        if request.size1.is_some_and(|size| size as usize > MAX_BODY) || request.payload.len() > MAX_BODY {
            return self.answer(ticket, too_large(), now);
        }
        if let Some(block) = ticket.block1 {
            match peer.upload(&request, block, now) {
                Ok(body) => request.payload = body,
                Err(response) => return self.answer(ticket, *response, now),
            }
        }
        if request.observe == Some(1) {
            peer.observers.retain(|observer| observer.token != ticket.token);
        }
        peer.working += 1;
        self.working += 1;
        let (address, device) = (ticket.peer, peer.device);
        if let Kind::Response { confirmable: true, id, ack_at } = ticket.kind {
            self.timers.insert((ack_at, address, Timer::Acknowledge(id)));
        }
        self.out.push_back(Output::Request(Box::new(Incoming { ticket, request, device })));
        self.go_on(address, now);
    }

    /// Remembers which device is at an address.
    pub fn identify(&mut self, peer: SocketAddr, device: DeviceId) {
        if let Some(peer) = self.peers.find(&peer) {
            peer.device = Some(device);
        }
    }

    /// Holds back what the peer observes until it speaks again: it sleeps.
    pub fn sleep(&mut self, peer: SocketAddr) {
        if let Some(peer) = self.peers.find(&peer) {
            peer.asleep = true;
        }
    }

    /// Forgets a peer, as its session has ended.
    pub fn forget(&mut self, peer: SocketAddr) {
        self.peers.remove(&peer);
    }

    /// Answers.
    pub fn respond(&mut self, ticket: Ticket, response: Response, now: u64) {
        let Kind::Response { id, ack_at, .. } = ticket.kind else {
            return self.notify(ticket, response, now);
        };
        self.working = self.working.saturating_sub(1);
        self.timers.remove(&(ack_at, ticket.peer, Timer::Acknowledge(id)));
        if let Some(peer) = self.peers.find(&ticket.peer) {
            peer.working = peer.working.saturating_sub(1);
        }
        self.answer(ticket, response, now);
    }

    fn answer(&mut self, mut ticket: Ticket, response: Response, now: u64) {
        let Kind::Response { confirmable, id, .. } = ticket.kind else { return };
        let mut response = slice(response, ticket.block2, ticket.max_szx);
        response.block1 = response.block1.or(ticket.block1);
        if let Some(request) = ticket.observe.take() {
            self.register(&ticket, *request, &mut response);
        }
        if !ticket.verified {
            // More will be wanted: of an image, of a manifest when it is there, or after a hello.
            let more = response.block2.is_some_and(|block| block.more) || response.observe.is_some();
            response.echo = more.then(|| self.dice.proof(ticket.peer, now));
            if more || !ticket.idempotent {
                self.ping(ticket.peer, now);
            }
        }
        let late = self.peers.find(&ticket.peer).is_some_and(|peer| confirmable && peer.is_acknowledged(id));
        let bound = (!ticket.verified).then_some(ticket.len);
        if late {
            let own = self.own_id();
            let envelope = Envelope { kind: MessageType::Confirmable, id: own, token: ticket.token };
            let datagram = encode(response, &envelope, bound);
            if let Some(peer) = self.peers.find(&ticket.peer) {
                peer.queue(own, datagram);
            }
            return self.go_on(ticket.peer, now);
        }
        let envelope = self.envelope(confirmable, id, ticket.token);
        let datagram = encode(response, &envelope, bound);
        if let Some(peer) = self.peers.find(&ticket.peer) {
            peer.answered(id, (!ticket.idempotent).then(|| datagram.clone()));
        }
        self.send(ticket.peer, datagram);
    }

    /// Acts on what the time has brought.
    pub fn tick(&mut self, now: u64) {
        while let Some((at, address, timer)) = self.timers.first().copied().filter(|(at, ..)| *at <= now) {
            self.timers.pop_first();
            match timer {
                Timer::Acknowledge(id) => {
                    let empty = message::acknowledgement(id);
                    if self.peers.find(&address).is_some_and(|peer| peer.acknowledge(id, empty.clone())) {
                        self.send(address, empty);
                    }
                }
                Timer::Resend => self.resend(address, at, now),
            }
        }
    }

    /// What was not acknowledged goes out again, each time after twice as long; in the end its receiver is taken for gone.
    fn resend(&mut self, address: SocketAddr, at: u64, now: u64) {
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
    fn settle(&mut self, address: SocketAddr, kind: MessageType, id: u16, now: u64) {
        let Some(peer) = self.peers.find(&address) else { return };
        let reset = kind == MessageType::Reset;
        if let Some(outgoing) = peer.outgoing.take_if(|outgoing| outgoing.id == id) {
            if let Some(token) = outgoing.notifies.filter(|_| reset) {
                // RFC 7641 §3.6: it does not want it any more.
                peer.observers.retain(|observer| observer.token != token);
            }
            if outgoing.proves && !reset {
                peer.verified_until = now + VERIFIED;
            }
            self.timers.remove(&(outgoing.deadline, address, Timer::Resend));
            return self.go_on(address, now);
        }
        // One guess a ping.
        if reset && peer.ping.id.take() == Some(id) {
            peer.verified_until = now + VERIFIED;
            self.go_on(address, now);
        }
    }

    /// Sends the peer what waits for it, if nothing else is out (RFC 7252 §4.7: NSTART is 1).
    fn go_on(&mut self, address: SocketAddr, now: u64) {
        let verified = self.is_verified(&address, now);
        let Some(peer) = self.peers.find(&address) else { return };
        if peer.outgoing.is_some() {
            return;
        }
        if let Some((id, datagram)) = peer.queued.pop_front() {
            return self.transmit(address, id, datagram, None, false, now);
        }
        if peer.asleep || peer.observers.iter().any(|observer| observer.running) {
            return;
        }
        let Some(observer) = peer.observers.iter_mut().find(|observer| observer.due) else { return };
        (observer.due, observer.running) = (false, true);
        let request = observer.request.clone();
        let ticket = Ticket {
            peer: address,
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

    fn transmit(
        &mut self,
        address: SocketAddr,
        id: u16,
        datagram: Bytes,
        notifies: Option<Vec<u8>>,
        proves: bool,
        now: u64,
    ) {
        let timeout = ACK_TIMEOUT + self.dice.throw() % (ACK_RANDOM + 1);
        let deadline = now + timeout;
        let Some(peer) = self.peers.find(&address) else { return };
        // Nobody may be there: one more, for one that is lost.
        let retransmitted = if proves { MAX_RETRANSMIT - 1 } else { 0 };
        let out = datagram.clone();
        peer.outgoing =
            Some(Outgoing { id, datagram: out, notifies, proves, retransmitted, timeout, deadline });
        self.timers.insert((deadline, address, Timer::Resend));
        self.send(address, datagram);
    }

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
    fn register(&mut self, ticket: &Ticket, request: Request, response: &mut Response) {
        let Some(device) = response.watch.filter(|_| response.is_success()) else { return };
        let full = self.peers.observers() >= self.limits.max_observers;
        let Some(peer) = self.peers.find(&ticket.peer) else { return };
        let known = peer.observers.iter().position(|observer| observer.token == ticket.token);
        if known.is_none() && full {
            return;
        }
        match known {
            Some(at) => drop(peer.observers.remove(at)),
            // A client that has forgotten its tokens has forgotten the oldest.
            None if peer.observers.len() >= MAX_OBSERVERS => drop(peer.observers.remove(0)),
            None => {}
        }
        let token = ticket.token.clone();
        let max_szx = szx_for(ticket.len);
        peer.observers.push(Observer { token, request, device, max_szx, due: false, running: false });
        self.watch(device, ticket.peer);
        response.observe = Some(self.own_place());
    }

    fn watch(&mut self, device: DeviceId, address: SocketAddr) {
        if self.watchers.len() > self.limits.max_observers {
            let peers = &mut self.peers;
            self.watchers
                .retain(|_, addresses| addresses.iter().any(|address| peers.find(address).is_some()));
        }
        let addresses = self.watchers.entry(device).or_default();
        if addresses.contains(&address) {
            return;
        }
        if addresses.len() >= MAX_WATCHERS {
            let oldest = addresses.remove(0);
            if let Some(peer) = self.peers.find(&oldest) {
                peer.observers.retain(|observer| observer.device != device);
            }
        }
        addresses.push(address);
    }

    /// Sends a notification: always confirmable, so that nobody is told for long who is gone (RFC 7641 §4.5).
    fn notify(&mut self, ticket: Ticket, response: Response, now: u64) {
        let mut response = slice(response, ticket.block2, ticket.max_szx);
        // An id that cannot be foreseen, so that its acknowledgement shows that somebody is there.
        let proves = !ticket.verified;
        let id = if proves { self.dice.throw() as u16 } else { self.own_id() };
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
        self.transmit(ticket.peer, id, datagram, Some(ticket.token), proves, now);
    }

    fn verify(&mut self, request: &Request, address: SocketAddr, now: u64) {
        let Some(echo) = &request.echo else { return };
        if self.dice.proves(echo, address, now) {
            self.peers.get(address, now).verified_until = now + VERIFIED;
        }
    }

    fn is_verified(&mut self, address: &SocketAddr, now: u64) -> bool {
        // No datagram comes from outside with an address of this machine's own loopback.
        self.trusted
            || address.ip().to_canonical().is_loopback()
            || self.peers.find(address).is_some_and(|peer| now < peer.verified_until)
    }

    /// Exponent of the largest block that may be sent in answer to a request of `len` bytes.
    fn max_szx(&mut self, request: &Request, address: SocketAddr, len: usize, now: u64) -> u8 {
        let asked = request.block2.map_or(MAX_SZX, |block| block.szx);
        let modest = szx_for(len);
        let free =
            self.is_verified(&address, now) || asked <= modest || request.method != message::Method::Get;
        if free || self.allowance.take(address, now) { MAX_SZX } else { modest }
    }

    fn ping(&mut self, address: SocketAddr, now: u64) {
        let id = self.dice.throw() as u16;
        let Some(peer) = self.peers.find(&address) else { return };
        if now < peer.ping.not_before {
            return;
        }
        (peer.ping.id, peer.ping.not_before) = (Some(id), now + PING_PAUSE);
        self.send(address, message::ping(id));
    }

    fn envelope(&mut self, confirmable: bool, id: u16, token: Vec<u8>) -> Envelope {
        match confirmable {
            true => Envelope { kind: MessageType::Acknowledgement, id, token },
            false => Envelope { kind: MessageType::NonConfirmable, id: self.own_id(), token },
        }
    }

    fn send(&mut self, address: SocketAddr, datagram: Bytes) {
        self.out.push_back(Output::Send(address, datagram));
    }

    fn own_id(&mut self) -> u16 {
        self.next_id = self.next_id.wrapping_add(1);
        self.next_id
    }

    /// 24 bits that grow (RFC 7641 §4.4).
    fn own_place(&mut self) -> u32 {
        self.next_notification = (self.next_notification + 1) & 0xff_ffff;
        self.next_notification
    }
}

/// Exponent of the largest block with which the answer to a question of `len` bytes keeps to the bound; 0 at least.
fn szx_for(len: usize) -> u8 {
    let room = (AMPLIFICATION * len).saturating_sub(ROUND_BLOCK);
    (1..MAX_SZX).rev().find(|szx| 16 << szx <= room).unwrap_or(0)
}

/// The datagram; what is for people only is left out where it would be too much for a question of so many bytes.
fn encode(mut response: Response, envelope: &Envelope, bound: Option<usize>) -> Bytes {
    let datagram = response.datagram(envelope);
    if bound.is_some_and(|len| datagram.len() > AMPLIFICATION * len) && !response.is_success() {
        response.payload = Bytes::new();
        return response.datagram(envelope).into();
    }
    datagram.into()
}

/// Cuts the block that was asked for out of a response that is whole (RFC 7959 §2.4), or as much of it as may be sent.
fn slice(mut response: Response, asked: Option<BlockOption>, max_szx: u8) -> Response {
    let sliced = response.code != ResponseType::Content || response.block2.is_some();
    let largest = BlockOption { number: 0, more: false, szx: MAX_SZX };
    let block = asked.unwrap_or(largest).no_larger(max_szx);
    let size = usize::from(block.size());
    if sliced || (asked.is_none() && response.payload.len() <= size) {
        return response;
    }
    let total = response.payload.len();
    let start = usize::try_from(block.offset()).unwrap_or(usize::MAX);
    if start >= total && start > 0 {
        return Response::diagnostic(ResponseType::BadRequest, "past the end");
    }
    let end = total.min(start + size);
    response.payload = response.payload.slice(start..end);
    response.block2 = Some(BlockOption { more: end < total, ..block });
    response.size2 = u32::try_from(total).ok();
    response
}

#[cfg(test)]
mod tests;
