//! One opaque body each way over a named protocol: what the exchange and the join run on.
//!
//! A request is a stream of its own: one frame out, the sending half closed, one frame back. Bodies are at most
//! [`MAX_BODY`] bytes. Requests from others go to the receiver that [`crate::Dsn::start`] returned; while that is
//! full, further ones are refused at once, which the other side sees as [`RequestError::NoAnswer`].

mod behaviour;
mod handler;

pub(crate) use behaviour::Behaviour;

use libp2p::PeerId;
use thiserror::Error;
use tokio::sync::oneshot;

/// Longest body of a request or of its answer, in bytes.
pub const MAX_BODY: usize = 64 * 1024;

/// A request from another peer.
#[derive(Debug)]
pub struct Inbound {
    /// Who asks; authenticated by the connection's handshake.
    pub peer: PeerId,
    /// The protocol asked over, one of the configured ones.
    pub protocol: String,
    /// The body, at most [`MAX_BODY`] bytes.
    pub body: Vec<u8>,
    /// The way back.
    pub reply: Reply,
}

/// The way back to who asked. Dropped unused, it fails the request on the other side.
#[derive(Debug)]
pub struct Reply(oneshot::Sender<Vec<u8>>);

/// Why an answer could not be sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum ReplyError {
    /// Over [`MAX_BODY`] bytes.
    #[error("an answer of {0} bytes, {MAX_BODY} are allowed")]
    TooLarge(usize),
    /// Who asked is gone, or has waited too long.
    #[error("the peer that asked is gone")]
    Gone,
}

/// Why a request got no answer.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum RequestError {
    /// Over [`MAX_BODY`] bytes; nothing was sent.
    #[error("a request of {0} bytes, {MAX_BODY} are allowed")]
    TooLarge(usize),
    /// Not among the configured protocols; nothing was sent.
    #[error("the protocol {0:?} is not configured")]
    UnknownProtocol(String),
    /// The peer does not speak the protocol.
    #[error("{peer} does not speak {protocol}")]
    Unsupported {
        /// Who was asked.
        peer: PeerId,
        /// Over which protocol.
        protocol: String,
    },
    /// No connection could be had.
    #[error("{peer} cannot be reached: {why}")]
    Unreachable {
        /// Who was asked.
        peer: PeerId,
        /// What the dial came to.
        why: String,
    },
    /// The peer closed the stream instead of answering: it refused, or is overloaded.
    #[error("{0} closed the stream without an answer")]
    NoAnswer(PeerId),
    /// The answer is not one frame of at most [`MAX_BODY`] bytes.
    #[error("{peer} sent a bad answer: {why}")]
    BadAnswer {
        /// Who was asked.
        peer: PeerId,
        /// What is wrong with it.
        why: String,
    },
    /// [`crate::Limits::request`] has passed. Whether the request was processed is not known.
    #[error("{0} did not answer in time")]
    Timeout(PeerId),
    /// Too many requests to this peer are under way.
    #[error("too many requests to {0} are under way")]
    Busy(PeerId),
    /// This peer has been stopped.
    #[error("the peer has been stopped")]
    Stopped,
}

impl Reply {
    /// Answers with `body`. That it has left is not known, let alone that it has arrived.
    pub fn send(self, body: Vec<u8>) -> Result<(), ReplyError> {
        if body.len() > MAX_BODY {
            return Err(ReplyError::TooLarge(body.len()));
        }
        self.0.send(body).map_err(|_| ReplyError::Gone)
    }

    /// Whether who asked still waits.
    pub fn is_waited_for(&self) -> bool {
        !self.0.is_closed()
    }
}
