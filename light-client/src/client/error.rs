//! Why a client does not start, and why it knows nothing newer.

use std::time::Duration;

use alloy::primitives::B256;
use thiserror::Error;

use crate::beacon::Unanswered;
use crate::http::UrlError;
use crate::rpc::RpcError;
use crate::spec::Refused;
use crate::store::StoreError;

/// Why a client does not start. Nothing was asked of any endpoint.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum StartError {
    /// Neither the configuration nor the store has anything to begin with.
    #[error("no checkpoint: give the root of a finalized block that you trust")]
    NoCheckpoint,
    /// What is stored is too old to go on from, and no other checkpoint is given.
    #[error(transparent)]
    Stale(#[from] Stale),
    /// The configured chain id is not that of the network.
    #[error("chain id {configured} is configured, but {network} has {expected}")]
    ChainId {
        /// By the configuration.
        configured: u64,
        /// The network's name.
        network: String,
        /// The network's.
        expected: u64,
    },
    /// A beacon endpoint's URL.
    #[error("beacon endpoint: {0}")]
    Beacon(UrlError),
    /// An execution endpoint's URL.
    #[error(transparent)]
    Rpc(RpcError),
    /// The store; [`StoreError::OtherNetwork`] among others.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// A header older than the weak subjectivity period. Validators that have signed since may have left with their stake, and
/// could sign another history at no cost.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error(
    "slot {slot} is {} days old, and only {} days are safe: give a newer checkpoint, or allow a stale one",
    age.as_secs() / 86_400, allowed.as_secs() / 86_400
)]
pub struct Stale {
    /// The header's slot.
    pub slot: u64,
    /// Its age.
    pub age: Duration,
    /// The weak subjectivity period.
    pub allowed: Duration,
}

/// Why nothing newer is known. What was proven stays proven.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ClientError {
    /// Nothing is proven yet: no endpoint has answered about the checkpoint so far.
    #[error("not synchronised yet")]
    NotSynced,
    /// The computer's clock is before the network's genesis.
    #[error("the clock shows {now} s after 1970, before genesis at {genesis} s")]
    BeforeGenesis {
        /// Unix seconds.
        now: u64,
        /// Unix seconds.
        genesis: u64,
    },
    /// Endpoints show signatures of slots that are still to come. More likely than that they lie is that the clock is slow.
    #[error(
        "signatures of slot {signed}, but by the clock it is slot {now}: the clock is behind, or the endpoints lie"
    )]
    ClockBehind {
        /// The earliest such slot.
        signed: u64,
        /// The clock's.
        now: u64,
    },
    /// The operator's checkpoint is too old to begin with.
    #[error("the checkpoint: {0}")]
    StaleCheckpoint(Stale),
    /// What is known has become too old, or the clock is wrong.
    #[error(transparent)]
    Stale(#[from] Stale),
    /// The fork that applies now came after this program.
    #[error(transparent)]
    UnknownFork(Refused),
    /// The operator's checkpoint and what is stored are two chains.
    #[error(
        "the checkpoint {checkpoint} is another block of slot {slot} than {stored}, which is stored as finalized"
    )]
    OtherChain {
        /// The slot of both.
        slot: u64,
        /// The operator's.
        checkpoint: B256,
        /// The stored one.
        stored: B256,
    },
    /// No endpoint gave an answer that is proven; each with its reason.
    #[error("no beacon endpoint gave a proven answer: {0}")]
    Beacon(#[from] Unanswered),
    /// The newest header known is older than an epoch, and no endpoint gave a newer one.
    #[error("the newest block known is of slot {slot}, and it is slot {now}: {why}")]
    NoHead {
        /// Slot of the newest header known.
        slot: u64,
        /// The clock's.
        now: u64,
        /// What is wrong with the endpoints' answers.
        why: String,
    },
    /// What is proven could not be stored, so it is not used.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The program is ending.
    #[error("interrupted")]
    Interrupted,
}

impl ClientError {
    /// Whether only the operator can help: another checkpoint, or another program.
    #[must_use]
    pub fn is_fatal(&self) -> bool {
        matches!(self, Self::UnknownFork(_) | Self::OtherChain { .. } | Self::StaleCheckpoint(_))
    }
}
