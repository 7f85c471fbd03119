//! Who has shown that it is where it says, and what the others may be sent (RFC 7252 §11.3, RFC 9175).
//!
//! An address is shown by what only who reads there can say: an Echo option that was sent to it, 64 bits; or [`PINGS`] pings,
//! one after the other, each answered with its own id. The acknowledgement of a notification shows nothing: it has 16 bits,
//! and whoever guesses may send all of them.

use std::net::SocketAddr;

use super::super::message::{self, Method, Request};
use super::super::option::MAX_SZX;
use super::Endpoint;

/// The answer to somebody who may be nowhere has at most so many times the bytes of the question (RFC 9175 §2.4).
pub(super) const AMPLIFICATION: usize = 3;
/// Bytes of an answer round its block: header, token, ETag, format, age, size, block, Echo.
const ROUND_BLOCK: usize = 56;
/// For so long it counts that somebody was at an address, ms.
pub(super) const VERIFIED: u64 = 3_600_000;
/// Pings in a row of 16 bits each: guessed together once in 2^48. Their answers come before the question after the last
/// answer in full ([`super::allowance`]), so that a client that answers them keeps to the size that it asked for.
pub(super) const PINGS: u8 = 3;
/// A ping that was not answered, or not well, is not repeated before, ms: who guesses has few guesses.
pub(super) const PING_PAUSE: u64 = 10_000;

/// The pings of an address.
#[derive(Debug, Default)]
pub(in crate::coap) struct Ping {
    /// Of the one that is out.
    id: Option<u16>,
    /// Answered since the last wrong guess.
    answered: u8,
    /// No further one before, ms.
    not_before: u64,
}

impl Endpoint {
    /// A request may bring the Echo option with it.
    pub(super) fn verify(&mut self, request: &Request, address: SocketAddr, now: u64) {
        let Some(echo) = &request.echo else { return };
        if self.dice.proves(echo, address, now) {
            self.peers.get(address, now).verified_until = now + VERIFIED;
        }
    }

    pub(super) fn is_verified(&mut self, address: &SocketAddr, now: u64) -> bool {
        // No datagram comes from outside with an address of this machine's own loopback.
        self.trusted
            || address.ip().to_canonical().is_loopback()
            || self.peers.find(address).is_some_and(|peer| now < peer.verified_until)
    }

    /// Exponent of the largest block that may be sent in answer to a request of `len` bytes.
    pub(super) fn max_szx(&mut self, request: &Request, address: SocketAddr, len: usize, now: u64) -> u8 {
        let asked = request.block2.map_or(MAX_SZX, |block| block.szx);
        let modest = szx_for(len);
        let free = self.is_verified(&address, now) || asked <= modest || request.method != Method::Get;
        if free || self.allowance.take(address, now) { MAX_SZX } else { modest }
    }

    /// Asks whether anybody is there, unless that was asked a short time ago.
    pub(super) fn ping(&mut self, address: SocketAddr, now: u64) {
        let id = self.dice.throw() as u16;
        let Some(peer) = self.peers.find(&address) else { return };
        if now < peer.ping.not_before {
            return;
        }
        (peer.ping.id, peer.ping.not_before) = (Some(id), now + PING_PAUSE);
        self.send(address, message::ping(id));
    }

    /// A reset of none of our messages may be a ping's answer: one guess each, and the next ping goes out after a right one.
    pub(super) fn pinged(&mut self, address: SocketAddr, id: u16, now: u64) {
        let Some(peer) = self.peers.find(&address) else { return };
        let Some(asked) = peer.ping.id.take() else { return };
        if asked != id {
            peer.ping.answered = 0;
            return;
        }
        peer.ping.answered += 1;
        if peer.ping.answered < PINGS {
            peer.ping.not_before = now;
            return self.ping(address, now);
        }
        peer.ping = Ping { not_before: peer.ping.not_before, ..Ping::default() };
        peer.verified_until = now + VERIFIED;
        self.go_on(address, now);
    }
}

/// Exponent of the largest block with which the answer to a question of `len` bytes keeps to the bound; 0 at least.
pub(super) fn szx_for(len: usize) -> u8 {
    let room = (AMPLIFICATION * len).saturating_sub(ROUND_BLOCK);
    (1..MAX_SZX).rev().find(|szx| 16 << szx <= room).unwrap_or(0)
}
