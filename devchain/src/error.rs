//! What can go wrong with a chain that is driven in process.

use std::io;
use std::net::SocketAddr;

use crate::admission::Rejection;
use crate::reorg::ReorgError;
use crate::time::TimeError;

/// Why a [`DevChain`](crate::DevChain) could not do what it was asked for. It is then as it was before.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The address cannot be listened on.
    #[error("cannot listen on {address}: {source}")]
    Listen {
        /// The address that was asked for.
        address: SocketAddr,
        /// What the system said.
        source: io::Error,
    },
    /// The server's thread did not come up.
    #[error("the JSON-RPC server did not start: {0}")]
    Server(io::Error),
    /// The transaction was refused.
    #[error("transaction refused: {0}")]
    Rejected(#[from] Rejection),
    /// The reorganisation is impossible.
    #[error(transparent)]
    Reorg(#[from] ReorgError),
    /// The time is impossible.
    #[error(transparent)]
    Time(#[from] TimeError),
    /// No such snapshot: never taken, used up, or forgotten.
    #[error("unknown snapshot {0}")]
    UnknownSnapshot(u64),
    /// One call may mine only so many blocks.
    #[error("{asked} blocks are more than the {limit} that one call may mine")]
    TooManyBlocks {
        /// Blocks that were asked for.
        asked: u64,
        /// Blocks that are allowed.
        limit: u64,
    },
}
