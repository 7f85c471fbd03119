//! `/ipfs/bitswap/1.2.0`: asking one peer for one block, and answering those who ask.
//!
//! Each side sends messages on streams it opens itself and reads those that the other opens. Here a want is a
//! question to a single peer with a single answer: the block, "have", "don't have", or one of the errors of
//! [`WantError`]. Who is asked, and who next, is for [`crate::fetch`] to say.
//!
//! A want of theirs is answered at once, with "don't have" where the block is not here (yet): no list of what peers
//! still hope for is kept. Kubo and Helia ask again by themselves.
//!
//! Blocks are verified before they are matched with a want; what nobody asked for is dropped. Withheld content
//! and content that is not here get the same answer.

mod behaviour;
mod handler;
mod message;
mod peer;
mod serve;

pub(crate) use behaviour::{Behaviour, Broken};
pub(crate) use serve::Source;

use bytes::Bytes;
use cid::Cid;
use libp2p::PeerId;
use std::convert::Infallible;
use tokio::sync::oneshot;

use crate::fetch::WantError;

/// The protocol's name.
pub(crate) const PROTOCOL: libp2p::StreamProtocol = libp2p::StreamProtocol::new("/ipfs/bitswap/1.2.0");

/// What is asked about a block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Whether the peer has it. It may send a small block right away.
    Have,
    /// The block.
    Block,
}

/// What a peer answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Answer {
    Have,
    /// The block, its hash checked.
    Block(Bytes),
}

/// One question to one peer.
#[derive(Debug)]
pub(crate) struct Want {
    pub(crate) peer: PeerId,
    /// An accepted CID.
    pub(crate) cid: Cid,
    pub(crate) kind: Kind,
    /// Bytes of the longest block taken.
    pub(crate) max_len: usize,
    pub(crate) answer: oneshot::Sender<Result<Answer, WantError>>,
    /// Ends when the asker no longer waits; then the want is cancelled.
    pub(crate) alive: oneshot::Receiver<Infallible>,
}
