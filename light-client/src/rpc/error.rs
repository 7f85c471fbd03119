//! What can be wrong with an answer, and with all of them.

use std::time::Duration;

use thiserror::Error;

use crate::execution::Refused;
use crate::http::{Exhausted, HttpError, Retry, UrlError};
use crate::jsonrpc::{Complaint, Malformed};

/// Why a question has no answer.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum RpcError {
    /// No URL, or one that cannot be used.
    #[error("execution endpoint: {0}")]
    Url(#[from] UrlError),
    /// No endpoint gave an answer that holds.
    #[error("no execution endpoint gave a proven answer: {0}")]
    Exhausted(#[from] Exhausted<AnswerError>),
    /// The walk by parent hashes would be longer than [`RpcError::MAX_WALK`].
    #[error("block {to} is {} blocks before {from}; the limit is {max}", from - to, max = RpcError::MAX_WALK)]
    TooFar {
        /// Number of the proven block.
        from: u64,
        /// Number of the block that is asked for.
        to: u64,
    },
    /// The block is after the one that is proven.
    #[error("block {number} is after the proven block {head}")]
    NotYet {
        /// Number that was asked for.
        number: u64,
        /// Number of the proven block.
        head: u64,
    },
    /// More logs than [`RpcError::MAX_LOGS`].
    #[error("more than {max} logs", max = RpcError::MAX_LOGS)]
    TooManyLogs,
}

impl RpcError {
    /// Headers that one question may walk: 36 days of slots of 12 seconds, and about 4 GB from an endpoint of mainnet, which
    /// sends the hashes of all transactions with each header. What has been walked lately is remembered.
    pub const MAX_WALK: u64 = 1 << 18;
    /// Logs that one question may find: with a few hundred bytes each, some 40 MB.
    pub const MAX_LOGS: usize = 1 << 17;
}

/// What is wrong with one endpoint's answer.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum AnswerError {
    /// It gave none.
    #[error(transparent)]
    Http(#[from] HttpError),
    /// It is not JSON-RPC.
    #[error("{method}: {why}")]
    Malformed {
        /// What was asked.
        method: &'static str,
        /// What is wrong with it.
        why: Malformed,
    },
    /// The endpoint says no.
    #[error("{method}: {complaint}")]
    Complaint {
        /// What was asked.
        method: &'static str,
        /// Its words.
        complaint: Complaint,
    },
    /// It has another form than the method's answer: a field is missing, or a number too large.
    #[error("{method}: not its form of answer: {why}")]
    Form {
        /// What was asked.
        method: &'static str,
        /// What the parser says.
        why: String,
    },
    /// `null`: the endpoint does not have what is known to exist.
    #[error("{method}: does not have it")]
    Missing {
        /// What was asked.
        method: &'static str,
    },
    /// It is not true.
    #[error("{method}: {why}")]
    Refused {
        /// What was asked.
        method: &'static str,
        /// The lie.
        why: Box<Refused>,
    },
    /// A log that the question does not cover: another contract, topic or block, or one that a reorganisation removed.
    #[error("eth_getLogs: a log that was not asked for, of {address} in block {block:?}")]
    Unasked {
        /// Who logged, as the answer says.
        address: alloy::primitives::Address,
        /// Where, as the answer says.
        block: Option<u64>,
    },
    /// More logs than [`RpcError::MAX_LOGS`].
    #[error("eth_getLogs: more than {max} logs", max = RpcError::MAX_LOGS)]
    TooManyLogs,
    /// The transaction is not where the endpoint says it is.
    #[error("eth_getTransactionReceipt: the transaction is not in block {block}")]
    Misplaced {
        /// Number of the block that it named.
        block: u64,
    },
    /// It serves another chain.
    #[error("serves chain {got}, not {expected}")]
    OtherChain {
        /// The configured chain id.
        expected: u64,
        /// Its answer, cut to 40 characters.
        got: String,
    },
}

impl AnswerError {
    pub(super) fn refused(method: &'static str) -> impl Fn(Refused) -> Self {
        move |why| Self::Refused { method, why: Box::new(why) }
    }

    /// The endpoint understood the question and said no, so that it may answer another way of putting it.
    pub(super) fn is_complaint(&self) -> bool {
        matches!(self, Self::Complaint { .. })
    }
}

impl Retry for AnswerError {
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
        matches!(self, Self::Refused { .. } | Self::Unasked { .. } | Self::Misplaced { .. })
    }
}
