//! The message layer: confirmable messages both ways, duplicates, piggybacked and separate answers, blocks both ways,
//! observers. No I/O: datagrams and the time go in, [`Output`]s come out.
//!
//! Who has not shown that it is where it says may not have much sent there (RFC 7252 §11.3): after a few answers
//! ([`allowance`]) it gets none of more than three times its question, long ones in smaller blocks, and what it must
//! acknowledge no more than twice. With the first it gets an Echo option (RFC 9175) to send back, and beside it a ping (RFC 7252
//! §4.3), which other endpoints answer. Both show it ([`path`]), and then it gets what it asks for.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::net::SocketAddr;

use bytes::Bytes;
use coap_lite::{MessageClass, MessageType, ResponseType};
use posthouse_protocol::id::DeviceId;

use self::allowance::Allowance;
use self::dice::Dice;
use self::path::AMPLIFICATION;
use super::message::{self, Envelope, Refusal, Request, Response};
use super::option::{BlockOption, MAX_SZX};
use super::peer::{MAX_BODY, Peers, Seen, too_large};

pub(super) mod allowance;
mod dice;
mod observe;
mod outgoing;
pub(super) mod path;

/// A request that is not answered by then is acknowledged before its answer: before its sender would repeat it, ms.
const ACK_AFTER: u64 = 1_000;
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
    /// Which of the peers that were at this address.
    session: u64,
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
            session: self.peers.get(peer, now).session,
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
        // Of a datagram as long as may be read the end may be missing.
        let cut = ticket.len >= super::MAX_DATAGRAM;
        let announced = request.size1.is_some_and(|size| size as usize > MAX_BODY);
        if cut || announced || request.payload.len() > MAX_BODY {
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
    pub fn sleep(&mut self, ticket: &Ticket) {
        if self.is_current(ticket)
            && let Some(peer) = self.peers.find(&ticket.peer)
        {
            peer.asleep = true;
        }
    }

    /// Forgets a peer, as its session has ended.
    pub fn forget(&mut self, peer: SocketAddr) {
        self.peers.remove(&peer);
    }

    /// Whether the answer still has its place: what was asked in a session is nothing to the one after it.
    fn is_current(&mut self, ticket: &Ticket) -> bool {
        let peer = self.peers.find(&ticket.peer);
        !self.trusted || peer.is_some_and(|peer| peer.session == ticket.session)
    }

    /// Answers.
    pub fn respond(&mut self, ticket: Ticket, response: Response, now: u64) {
        self.working = self.working.saturating_sub(ticket.is_live().into());
        if !self.is_current(&ticket) {
            return;
        }
        let Kind::Response { id, ack_at, .. } = ticket.kind else {
            return self.notify(ticket, response, now);
        };
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
            self.register(&ticket, *request, &mut response, now);
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
