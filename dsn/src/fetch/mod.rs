//! Content from other peers: one block into memory, or a file to disk.
//!
//! Who is asked: first the peers that the caller names, then, where none of those delivers, whom the DHT names.
//! Before anything large is asked of a peer it is asked whether it has the root, several at once, so that dead
//! addresses, Sybils and peers without the content cost time only side by side. A peer that sends a wrong block,
//! or fails twice in a row, is not asked again for this content.

mod block;
mod file;
mod pull;
mod sink;
mod sources;

pub(crate) use block::block;
pub(crate) use file::{Job, file};
pub(crate) use sources::Net;

use std::io;
use std::path::PathBuf;

use cid::Cid;
use libp2p::PeerId;
use thiserror::Error;

use crate::content::CidError;
use crate::store::StoreError;
use crate::unixfs::read::DagError;

/// How far a file has come.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Progress {
    /// Bytes of the file on disk and verified.
    pub bytes: u64,
    /// Bytes of the whole file.
    pub total: u64,
    /// Blocks that came from other peers in this run.
    pub blocks_fetched: u64,
    /// Leaves that an earlier run had left on disk.
    pub blocks_resumed: u64,
    /// Bytes of those.
    pub resumed_bytes: u64,
}

/// Why one peer did not deliver one block.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum WantError {
    /// It says that it does not have it: true, or a refusal.
    #[error("does not have it")]
    DontHave,
    /// No connection could be had.
    #[error("cannot be reached: {0}")]
    Unreachable(String),
    /// The connection broke, or the peer does not speak bitswap.
    #[error("disconnected")]
    Disconnected,
    /// Nothing within [`crate::Limits::want`].
    #[error("no answer in time")]
    Timeout,
    /// It sent a block that nobody had asked it for.
    #[error("sent a block of another hash")]
    WrongHash,
    /// The block is longer than it may be.
    #[error("sent {len} bytes where {max} are allowed")]
    TooLarge {
        /// Bytes sent.
        len: usize,
        /// Bytes allowed.
        max: usize,
    },
    /// Too many wants to this peer are under way.
    #[error("too many wants are under way")]
    Busy,
}

/// One peer's failure to deliver.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{peer} {why}")]
pub struct Failure {
    /// Who was asked.
    pub peer: PeerId,
    /// What came of it.
    pub why: WantError,
}

/// Why content could not be had. What has been verified stays on disk, and the same call takes it up.
#[derive(Debug, Error)]
pub enum FetchError {
    /// The CID is of a kind that is refused everywhere.
    #[error(transparent)]
    Cid(#[from] CidError),
    /// Nobody was named, and the DHT names nobody.
    #[error("{0}: no provider found")]
    NotFound(Cid),
    /// Everybody who was asked failed; this is the last.
    #[error("{cid}: none of {asked} peers delivered, the last: {last}")]
    NotDelivered {
        /// What was wanted.
        cid: Cid,
        /// How many were asked.
        asked: usize,
        /// The last of them.
        last: Box<Failure>,
    },
    /// The block is here, and longer than it may be.
    #[error("{cid} has {len} bytes, {max} are allowed")]
    TooLarge {
        /// Which.
        cid: Cid,
        /// Its length.
        len: usize,
        /// The bound.
        max: usize,
    },
    /// The DAG is not a file of the declared size.
    #[error("not the declared file: {0}")]
    Dag(#[from] DagError),
    /// Every block was right and the whole is not what was declared: the root and the digest do not belong
    /// together. Nothing is kept.
    #[error("the whole has SHA-256 {}, {} was declared", hex(.found), hex(.expected))]
    WrongFile {
        /// As declared.
        expected: [u8; 32],
        /// As found.
        found: [u8; 32],
    },
    /// Somebody wrote to the part file while it was fetched, or the disk did. What is still right is kept.
    #[error("{0} was changed while it was fetched")]
    Changed(PathBuf),
    /// The destination.
    #[error("{path}: {source}")]
    Io {
        /// Which file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The block store.
    #[error("block store: {0}")]
    Store(#[from] StoreError),
    /// This peer has been stopped.
    #[error("the peer has been stopped")]
    Stopped,
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
