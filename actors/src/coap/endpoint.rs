//! The message layer: confirmable messages, duplicates, piggybacked answers, blocks both ways.
//! No I/O: datagrams go in with the time, and what to send comes out.

use std::net::SocketAddr;

use bytes::Bytes;
use coap_lite::{MessageClass, MessageType, ResponseType};
use posthouse_protocol::id::DeviceId;

use super::message::{self, Envelope, Refusal, Request, Response};
use super::option::{BlockOption, MAX_SZX};
use super::peer::{Peers, Seen};

/// Bounds of an endpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Peers remembered at once. At the bound the older half is forgotten: a repeated message of
    /// theirs is worked on again, which does no harm.
    pub max_peers: usize,
    /// Requests being worked on at once; further ones are answered with 5.03.
    pub max_working: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { max_peers: 4096, max_working: 1024 }
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

/// The place of an answer. Each is answered once.
#[must_use]
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ticket {
    peer: SocketAddr,
    envelope: Envelope,
    block1: Option<BlockOption>,
    block2: Option<BlockOption>,
    /// Whether a repeat may be worked on again instead of being answered from memory.
    idempotent: bool,
}

impl Ticket {
    /// Who asked.
    pub fn peer(&self) -> SocketAddr {
        self.peer
    }
}

/// What a datagram leads to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Received {
    /// Nothing.
    Nothing,
    /// A datagram back to the peer.
    Send(Bytes),
    /// A request to work on.
    Request(Box<Incoming>),
}

/// An endpoint.
#[derive(Debug)]
pub struct Endpoint {
    limits: Limits,
    peers: Peers,
    working: usize,
    /// Of the messages that are not acknowledgements.
    next_id: u16,
}

impl Endpoint {
    /// An endpoint whose own messages count from `first_id`, which is best random.
    pub fn new(limits: Limits, first_id: u16) -> Self {
        Self { limits, peers: Peers::new(limits.max_peers), working: 0, next_id: first_id }
    }

    /// Peers remembered.
    pub fn peers(&self) -> usize {
        self.peers.len()
    }

    /// Takes a datagram at `now`, ms.
    pub fn receive(&mut self, peer: SocketAddr, datagram: &[u8], now: u64) -> Received {
        let Some((kind, _, id)) = message::header(datagram) else { return Received::Nothing };
        let confirmable = kind == MessageType::Confirmable;
        if !confirmable && kind != MessageType::NonConfirmable {
            // Nothing of ours waits for an acknowledgement.
            return Received::Nothing;
        }
        match self.request(peer, datagram, confirmable, id, now) {
            Ok(received) => received,
            Err((Refusal::Reset, _)) if confirmable => Received::Send(message::reset(id).into()),
            Err((Refusal::Reset, _)) => Received::Nothing,
            Err((Refusal::Answer(code, text), envelope)) => {
                let response = Response::diagnostic(code, text);
                Received::Send(response.datagram(&envelope, self.own_id()).into())
            }
        }
    }

    fn request(
        &mut self,
        peer: SocketAddr,
        datagram: &[u8],
        confirmable: bool,
        id: u16,
        now: u64,
    ) -> Result<Received, (Refusal, Envelope)> {
        let mut envelope = Envelope { confirmable, id, token: Vec::new() };
        let packet = match message::parse(datagram) {
            Ok(packet) if packet.header.code == MessageClass::Empty => {
                return Err((Refusal::Reset, envelope));
            }
            Ok(packet) => packet,
            Err(refusal) => return Err((refusal, envelope)),
        };
        envelope.token = packet.get_token().to_vec();
        let (request, block1) = message::request(packet).map_err(|refusal| (refusal, envelope.clone()))?;
        match self.peers.get(peer, now).see(id, now) {
            Seen::Working => return Ok(Received::Nothing),
            Seen::Answered(answer) => return Ok(Received::Send(answer)),
            Seen::New => {}
        }
        let idempotent = request.method == message::Method::Get;
        let block2 = request.block2;
        let ticket = Ticket { peer, envelope, block1, block2, idempotent };
        Ok(self.admit(ticket, request, now))
    }

    /// Gathers a body that comes in blocks, and lets the request through if there is room.
    fn admit(&mut self, ticket: Ticket, mut request: Request, now: u64) -> Received {
        if self.working >= self.limits.max_working {
            return Received::Send(self.answer(&ticket, Response::come_back(1)));
        }
        let known = self.peers.get(ticket.peer, now);
        if let Some(block) = ticket.block1 {
            match known.upload(&request, block, now) {
                Ok(body) => request.payload = body,
                Err(response) => return Received::Send(self.answer(&ticket, *response)),
            }
        }
        self.working += 1;
        let device = self.peers.get(ticket.peer, now).device;
        Received::Request(Box::new(Incoming { ticket, request, device }))
    }

    /// Remembers which device is at an address.
    pub fn identify(&mut self, ticket: &Ticket, device: DeviceId) {
        if let Some(peer) = self.peers.find(&ticket.peer) {
            peer.device = Some(device);
        }
    }

    /// The datagram of an answer; to be sent to [`Ticket::peer`].
    pub fn respond(&mut self, ticket: Ticket, response: Response) -> Bytes {
        self.working = self.working.saturating_sub(1);
        self.answer(&ticket, response)
    }

    fn answer(&mut self, ticket: &Ticket, response: Response) -> Bytes {
        let mut response = slice(response, ticket.block2);
        response.block1 = response.block1.or(ticket.block1);
        let own_id = self.own_id();
        let datagram = Bytes::from(response.datagram(&ticket.envelope, own_id));
        if let Some(peer) = self.peers.find(&ticket.peer) {
            peer.answered(ticket.envelope.id, (!ticket.idempotent).then(|| datagram.clone()));
        }
        datagram
    }

    fn own_id(&mut self) -> u16 {
        self.next_id = self.next_id.wrapping_add(1);
        self.next_id
    }
}

/// Cuts the block that was asked for out of a response that is whole (RFC 7959 §2.4).
fn slice(mut response: Response, asked: Option<BlockOption>) -> Response {
    let sliced = response.code != ResponseType::Content || response.block2.is_some();
    let largest = BlockOption { number: 0, more: false, szx: MAX_SZX };
    let block = asked.unwrap_or(largest);
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
