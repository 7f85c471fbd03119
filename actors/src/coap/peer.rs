//! What is remembered of a peer, and for how long.

use std::collections::{HashMap, VecDeque};
use std::net::SocketAddr;

use bytes::{Bytes, BytesMut};
use coap_lite::ResponseType;
use posthouse_protocol::id::DeviceId;

use super::endpoint::path::Ping;
use super::message::{Request, Response};
use super::option::BlockOption;

/// The id of a confirmable message means that message for so long (RFC 7252 §4.8.2, EXCHANGE_LIFETIME), ms.
const EXCHANGE_LIFETIME: u64 = 247_000;
/// The same for one that is not confirmable (NON_LIFETIME), ms.
const NON_LIFETIME: u64 = 145_000;
/// Messages remembered of one peer: it has one or two requests out at a time (NSTART is 1).
const MAX_EXCHANGES: usize = 8;
/// A body that comes in blocks is forgotten after so long without one, ms.
const BLOCK1_LIFETIME: u64 = EXCHANGE_LIFETIME;
/// Longest body of a request. A hello has 112 bytes.
pub(super) const MAX_BODY: usize = 1024;
/// What one peer observes: its manifest, its sign request, and as much again under the tokens of before a reboot.
pub(super) const MAX_OBSERVERS: usize = 4;
/// Late answers that wait for the one before to be acknowledged; a peer that has more out loses the oldest.
const MAX_QUEUED: usize = 4;

/// How far the answer to a message is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Seen {
    /// Never seen.
    New,
    /// Being worked on; its answer will come.
    Working,
    /// To be answered with these bytes again.
    Answered(Bytes),
}

#[derive(Debug)]
struct Exchange {
    id: u16,
    until: u64,
    /// Being worked on, and not acknowledged yet.
    open: bool,
    answer: Option<Bytes>,
}

#[derive(Debug)]
struct Upload {
    path: Vec<String>,
    body: BytesMut,
    at: u64,
}

/// A confirmable message of ours that is not acknowledged yet.
#[derive(Debug)]
pub(super) struct Outgoing {
    pub(super) id: u16,
    pub(super) datagram: Bytes,
    /// The observer's token, if it is a notification.
    pub(super) notifies: Option<Vec<u8>>,
    pub(super) retransmitted: u32,
    /// Between this transmission and the next, ms.
    pub(super) timeout: u64,
    pub(super) deadline: u64,
}

/// Who wants to be told when an answer changes (RFC 7641).
#[derive(Debug)]
pub(super) struct Observer {
    pub(super) token: Vec<u8>,
    pub(super) request: Request,
    pub(super) device: DeviceId,
    /// Exponent of the largest block that it may be sent before it has shown where it is.
    pub(super) max_szx: u8,
    /// Whether there is something to tell.
    pub(super) due: bool,
    /// Whether the telling is being worked on.
    pub(super) running: bool,
}

/// One peer.
#[derive(Debug, Default)]
pub(super) struct Peer {
    /// Its number among all that ever were, for its answers.
    pub(super) session: u64,
    exchanges: VecDeque<Exchange>,
    upload: Option<Upload>,
    /// The device that said hello from there last.
    pub(super) device: Option<DeviceId>,
    seen: u64,
    /// Until when it counts as shown that the peer is where it says, ms.
    pub(super) verified_until: u64,
    pub(super) ping: Ping,
    /// It said that it goes to sleep.
    pub(super) asleep: bool,
    pub(super) outgoing: Option<Outgoing>,
    pub(super) queued: VecDeque<(u16, Bytes)>,
    pub(super) observers: Vec<Observer>,
    /// Requests being worked on.
    pub(super) working: usize,
}

impl Peer {
    /// Whether the message was seen before; a new one is now being worked on.
    pub(super) fn see(&mut self, id: u16, confirmable: bool, now: u64) -> Seen {
        self.exchanges.retain(|exchange| now < exchange.until);
        if let Some(exchange) = self.exchanges.iter().find(|exchange| exchange.id == id) {
            return exchange.answer.clone().map_or(Seen::Working, Seen::Answered);
        }
        if self.exchanges.len() >= MAX_EXCHANGES {
            self.exchanges.pop_front();
        }
        let until = now + if confirmable { EXCHANGE_LIFETIME } else { NON_LIFETIME };
        self.exchanges.push_back(Exchange { id, until, open: confirmable, answer: None });
        Seen::New
    }

    /// Whether the message still waits for an acknowledgement, which it gets now: its answer will be a message of its own.
    pub(super) fn acknowledge(&mut self, id: u16, acknowledgement: Bytes) -> bool {
        match self.exchanges.iter_mut().find(|exchange| exchange.id == id && exchange.open) {
            Some(exchange) => {
                exchange.open = false;
                exchange.answer = Some(acknowledgement);
                true
            }
            None => false,
        }
    }

    /// Whether the message was acknowledged before its answer.
    pub(super) fn is_acknowledged(&self, id: u16) -> bool {
        self.exchanges.iter().any(|exchange| exchange.id == id && !exchange.open && exchange.answer.is_some())
    }

    /// Keeps the answer for a repeat of the message; or forgets the message, if it may as well be
    /// worked on again (RFC 7252 §4.5): a block of an image costs more to keep than to read.
    pub(super) fn answered(&mut self, id: u16, answer: Option<Bytes>) {
        match answer {
            Some(answer) => {
                if let Some(exchange) = self.exchanges.iter_mut().find(|exchange| exchange.id == id) {
                    (exchange.open, exchange.answer) = (false, Some(answer));
                }
            }
            None => self.exchanges.retain(|exchange| exchange.id != id),
        }
    }

    /// Puts a late answer behind those that wait already.
    pub(super) fn queue(&mut self, id: u16, datagram: Bytes) {
        if self.queued.len() >= MAX_QUEUED {
            self.queued.pop_front();
        }
        self.queued.push_back((id, datagram));
    }

    /// Takes a block of a body (RFC 7959 §2.5). Whole: the body. Else: what to answer.
    pub(super) fn upload(
        &mut self,
        request: &Request,
        block: BlockOption,
        now: u64,
    ) -> Result<Bytes, Box<Response>> {
        let answer = |code| Box::new(Response { block1: Some(block), ..Response::code(code) });
        if block.more && request.payload.len() != usize::from(block.size()) {
            return Err(answer(ResponseType::BadRequest));
        }
        let mut upload = self.continued(request, block, now).ok_or_else(|| {
            // RFC 7959 §2.9.2: a block is missing, or what came before was forgotten.
            answer(ResponseType::RequestEntityIncomplete)
        })?;
        if upload.body.len() + request.payload.len() > MAX_BODY {
            return Err(Box::new(Response { block1: Some(block), ..too_large() }));
        }
        upload.body.extend_from_slice(&request.payload);
        if !block.more {
            return Ok(upload.body.freeze());
        }
        self.upload = Some(upload);
        Err(answer(ResponseType::Continue))
    }

    /// The upload that this block goes on with, if it does.
    fn continued(&mut self, request: &Request, block: BlockOption, now: u64) -> Option<Upload> {
        if block.number == 0 {
            return Some(Upload { path: request.path.clone(), body: BytesMut::new(), at: now });
        }
        let upload = self.upload.take()?;
        let fits = upload.path == request.path && upload.body.len() as u64 == block.offset();
        let fresh = now.saturating_sub(upload.at) < BLOCK1_LIFETIME;
        (fits && fresh).then_some(Upload { at: now, ..upload })
    }

    fn is_worth_keeping(&self, now: u64) -> bool {
        self.working > 0 || now < self.verified_until
    }
}

/// 4.13 with the bound (RFC 7959 §2.9.3).
pub(super) fn too_large() -> Response {
    Response { size1: Some(MAX_BODY as u32), ..Response::code(ResponseType::RequestEntityTooLarge) }
}

/// The peers, as many as may be.
#[derive(Debug)]
pub(super) struct Peers {
    peers: HashMap<SocketAddr, Peer>,
    max: usize,
    /// That there ever were.
    count: u64,
}

impl Peers {
    pub(super) fn new(max: usize) -> Self {
        Self { peers: HashMap::new(), max: max.max(1), count: 0 }
    }

    pub(super) fn get(&mut self, address: SocketAddr, now: u64) -> &mut Peer {
        if !self.peers.contains_key(&address) && self.peers.len() >= self.max {
            self.make_room(now);
        }
        let peer = self.peers.entry(address).or_insert_with(|| {
            self.count += 1;
            Peer { session: self.count, ..Peer::default() }
        });
        peer.seen = now;
        peer
    }

    pub(super) fn find(&mut self, address: &SocketAddr) -> Option<&mut Peer> {
        self.peers.get_mut(address)
    }

    pub(super) fn remove(&mut self, address: &SocketAddr) {
        self.peers.remove(address);
    }

    pub(super) fn len(&self) -> usize {
        self.peers.len()
    }

    /// What all of them observe.
    pub(super) fn observers(&self) -> usize {
        self.peers.values().map(|peer| peer.observers.len()).sum()
    }

    /// Drops the older half of those who never showed that they are where they say: a flood of forged addresses pays for the
    /// search once in many datagrams, and pushes out nobody else. Where they are few, the older half of all.
    fn make_room(&mut self, now: u64) {
        let strangers = self.peers.values().filter(|peer| !peer.is_worth_keeping(now)).count();
        let all = strangers <= self.max / 4;
        let goes = |peer: &Peer| all || !peer.is_worth_keeping(now);
        let mut times: Vec<u64> =
            self.peers.values().filter(|peer| goes(peer)).map(|peer| peer.seen).collect();
        let middle = times.len() / 2;
        let (_, median, _) = times.select_nth_unstable(middle);
        let median = *median;
        self.peers.retain(|_, peer| peer.working > 0 || !goes(peer) || peer.seen > median);
        if self.peers.len() >= self.max {
            // All of them are being worked on, which is bounded by itself.
            self.peers.retain(|_, peer| peer.seen > median);
        }
    }
}
