//! HTTP with bounds: a timeout, a size limit, no redirects, and the next endpoint where one fails.
//!
//! An [`Endpoint`] is one URL. A [`Pool`] is several of them in the operator's order of preference: it asks the first that
//! is not backing off, and the next one where that fails or lies. What failed, and why, is kept for the status.

mod endpoint;
mod error;
mod health;
mod pool;
mod progress;

use std::time::Duration;

pub use endpoint::{Answer, Endpoint};
pub use error::{HttpError, UrlError};
pub use health::Report;
pub use pool::{Exhausted, Failed, Pool, Retry};
pub use progress::counting;

/// What an endpoint may cost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// For one request, from dialling to the last byte.
    pub timeout: Duration,
    /// Bytes of one answer, after the transfer encoding. The receipts of a full mainnet block are about 2 MB of JSON, 64
    /// headers with the hashes of their transactions 1.3 MB. A block whose receipts are larger cannot be read with this
    /// limit; the error says so, and the operator raises it.
    pub max_response: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { timeout: Duration::from_secs(20), max_response: 16 << 20 }
    }
}
