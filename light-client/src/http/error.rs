//! What can be wrong with a URL, and with one answer, before anybody looks at what it says.

use std::time::Duration;

use thiserror::Error;

use crate::spec::complaint;

/// Why a URL cannot be an endpoint. The URL itself is not shown: it may hold a key.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum UrlError {
    /// Not a URL.
    #[error("not a URL: {0}")]
    Syntax(String),
    /// Neither `http` nor `https`, or no host.
    #[error("neither an http nor an https URL")]
    Scheme,
    /// No URL was given.
    #[error("no endpoint is given")]
    None,
    /// The HTTP client did not come up.
    #[error("no HTTP client: {0}")]
    Client(String),
}

/// Why an endpoint gave no answer that could be read.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum HttpError {
    /// Nothing complete came within this time.
    #[error("no answer within {0:?}")]
    Timeout(Duration),
    /// It could not be reached, or hung up.
    #[error("not reached: {0}")]
    Unreachable(String),
    /// It asks for patience, by 429 or 503.
    #[error("HTTP status {code}: busy{}", retry_after.map(|wait| format!(", wait {} s", wait.as_secs())).unwrap_or_default())]
    Busy {
        /// 429 or 503.
        code: u16,
        /// The `Retry-After` header (RFC 9110 §10.2.3, in seconds only), cut to [`HttpError::LONGEST_WAIT`].
        retry_after: Option<Duration>,
    },
    /// Another status than success.
    #[error("HTTP status {0}")]
    Status(u16),
    /// It points elsewhere. Nobody configured what is there, so it is not followed.
    #[error("redirects (HTTP status {0}), which is not followed")]
    Redirect(u16),
    /// More bytes than allowed.
    #[error("answer is larger than {0} bytes")]
    TooLarge(usize),
    /// The body is no JSON, or not the JSON that belongs here.
    #[error("not the JSON that was asked for: {0}")]
    NotJson(String),
}

impl HttpError {
    /// The longest `Retry-After` that is kept to: an endpoint cannot silence itself for longer than this.
    pub const LONGEST_WAIT: Duration = Duration::from_secs(300);

    /// How long the endpoint asks to be left alone.
    #[must_use]
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Busy { retry_after, .. } => *retry_after,
            _ => None,
        }
    }

    /// Wraps a parser's complaint: where and of what kind, never the answer's own words.
    #[must_use]
    pub fn not_json(error: &serde_json::Error) -> Self {
        Self::NotJson(complaint(error))
    }
}
