//! What is remembered of a peer, and for how long.

use std::collections::{HashMap, VecDeque};
use std::net::SocketAddr;

use bytes::{Bytes, BytesMut};
use posthouse_protocol::id::DeviceId;

use super::message::{Request, Response};
use super::option::BlockOption;
use coap_lite::ResponseType;

/// A message id means the same message for so long (RFC 7252 §4.8.2, EXCHANGE_LIFETIME), ms.
const EXCHANGE_LIFETIME: u64 = 247_000;
/// Messages remembered of one peer: it has one or two requests out at a time (NSTART is 1).
const MAX_EXCHANGES: usize = 8;
/// A body that comes in blocks is forgotten after so long without one, ms.
const BLOCK1_LIFETIME: u64 = EXCHANGE_LIFETIME;
/// Longest body of a request. A hello has 112 bytes.
pub(super) const MAX_BODY: usize = 1024;

/// How far the answer to a message is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Seen {
    /// Never seen.
    New,
    /// Being worked on; its answer will come.
    Working,
    /// Answered with these bytes.
    Answered(Bytes),
}

#[derive(Debug)]
struct Exchange {
    id: u16,
    at: u64,
    answer: Option<Bytes>,
}

#[derive(Debug)]
struct Upload {
    path: Vec<String>,
    body: BytesMut,
    at: u64,
}

/// One peer.
#[derive(Debug, Default)]
pub(super) struct Peer {
    exchanges: VecDeque<Exchange>,
    upload: Option<Upload>,
    /// The device that said hello from there last.
    pub(super) device: Option<DeviceId>,
    seen: u64,
}

impl Peer {
    /// Whether the message was seen before; a new one is now being worked on.
    pub(super) fn see(&mut self, id: u16, now: u64) -> Seen {
        let fresh = |exchange: &Exchange| now.saturating_sub(exchange.at) < EXCHANGE_LIFETIME;
        self.exchanges.retain(fresh);
        if let Some(exchange) = self.exchanges.iter().find(|exchange| exchange.id == id) {
            return exchange.answer.clone().map_or(Seen::Working, Seen::Answered);
        }
        if self.exchanges.len() >= MAX_EXCHANGES {
            self.exchanges.pop_front();
        }
        self.exchanges.push_back(Exchange { id, at: now, answer: None });
        Seen::New
    }

    /// Keeps the answer for a repeat of the message; or forgets the message, if it may as well be
    /// worked on again (RFC 7252 §4.5): a block of an image costs more to keep than to read.
    pub(super) fn answered(&mut self, id: u16, answer: Option<Bytes>) {
        match answer {
            Some(answer) => {
                if let Some(exchange) = self.exchanges.iter_mut().find(|exchange| exchange.id == id) {
                    exchange.answer = Some(answer);
                }
            }
            None => self.exchanges.retain(|exchange| exchange.id != id),
        }
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
            let size1 = Some(MAX_BODY as u32);
            return Err(Box::new(Response { size1, ..*answer(ResponseType::RequestEntityTooLarge) }));
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
}

/// The peers, as many as may be: the one that was silent longest makes room.
#[derive(Debug)]
pub(super) struct Peers {
    peers: HashMap<SocketAddr, Peer>,
    max: usize,
}

impl Peers {
    pub(super) fn new(max: usize) -> Self {
        Self { peers: HashMap::new(), max: max.max(1) }
    }

    pub(super) fn get(&mut self, address: SocketAddr, now: u64) -> &mut Peer {
        if !self.peers.contains_key(&address) && self.peers.len() >= self.max {
            self.make_room();
        }
        let peer = self.peers.entry(address).or_default();
        peer.seen = now;
        peer
    }

    pub(super) fn find(&mut self, address: &SocketAddr) -> Option<&mut Peer> {
        self.peers.get_mut(address)
    }

    pub(super) fn len(&self) -> usize {
        self.peers.len()
    }

    /// Drops the older half: a flood of forged addresses pays for the search once in many datagrams.
    fn make_room(&mut self) {
        let mut times: Vec<u64> = self.peers.values().map(|peer| peer.seen).collect();
        let middle = times.len() / 2;
        let (_, median, _) = times.select_nth_unstable(middle);
        let median = *median;
        self.peers.retain(|_, peer| peer.seen > median);
    }
}
