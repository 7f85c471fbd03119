//! What can be wrong with a beacon endpoint's answer.

use std::time::Duration;

use alloy::primitives::B256;
use thiserror::Error;

use crate::http::{HttpError, Retry};
use crate::spec::Refused;

/// Why one beacon endpoint's answer is of no use.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum BeaconError {
    /// There is none.
    #[error(transparent)]
    Http(#[from] HttpError),
    /// It does not verify.
    #[error(transparent)]
    Refused(#[from] Refused),
    /// Neither SSZ nor JSON: a captive portal, or an error page.
    #[error("content type {0:?}, neither SSZ nor JSON")]
    ContentType(String),
    /// True, and no news where there should be some: the endpoint lags, or it withholds them.
    #[error("nothing later than slot {known}, though it is slot {now}")]
    NothingNew {
        /// The slot known already.
        known: u64,
        /// The slot that it is now.
        now: u64,
    },
    /// A header that two thirds signed contradicts another one that they signed.
    #[error("slot {slot} is finalized as {theirs} there, and as {ours} here")]
    Contradicts {
        /// The slot.
        slot: u64,
        /// The block known already.
        ours: B256,
        /// The block by this endpoint.
        theirs: B256,
    },
    /// The answer is about another block than the one asked for.
    #[error("answers about block {found}, asked about {wanted}")]
    OtherBlock {
        /// The root asked for.
        wanted: B256,
        /// The root of what came.
        found: B256,
    },
    /// The endpoint says that the block is not on its finalized chain.
    #[error("block {0} is not finalized there")]
    NotFinalized(B256),
    /// The check did not come to an end, because the program is ending.
    #[error("not checked to the end")]
    Aborted,
}

impl Retry for BeaconError {
    fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Http(error) => error.retry_after(),
            _ => None,
        }
    }

    fn silent(wait: Duration) -> Self {
        Self::Http(HttpError::silent(wait))
    }

    fn late(budget: Duration) -> Self {
        Self::Http(HttpError::late(budget))
    }

    fn is_lie(&self) -> bool {
        matches!(self, Self::Refused(_) | Self::Contradicts { .. } | Self::OtherBlock { .. })
    }
}
