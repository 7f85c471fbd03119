//! HTTP endpoints with bounds: a timeout, a size limit, no redirects, and the next one when one fails.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use alloy::transports::{TransportError, TransportErrorKind, TransportFut};
use alloy_json_rpc::{RequestPacket, ResponsePacket};
use posthouse_protocol::id::ChainId;
use reqwest::redirect::Policy;
use reqwest::{Client, Url};
use thiserror::Error;
use tokio::sync::OnceCell;
use tower_service::Service;

use super::ChainError;

/// What an endpoint may cost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// For one request, from dialling to the last byte.
    pub timeout: Duration,
    /// Bytes of one answer. The bounty's code is a few hundred, a page of logs a few hundred thousand.
    pub max_response: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { timeout: Duration::from_secs(20), max_response: 16 << 20 }
    }
}

/// What is wrong with one endpoint's answer.
#[derive(Debug, Error)]
enum EndpointError {
    #[error("answer is larger than {0} bytes")]
    TooLarge(usize),
    #[error("HTTP status {0}")]
    Status(u16),
    #[error("serves another chain: {0}")]
    OtherChain(String),
}

/// The endpoints of one chain, in order of preference. Cheap to clone.
///
/// A request goes to the endpoint that answered last; where that fails to give a JSON-RPC answer, to
/// the next. An endpoint has to give the configured chain id before it is asked anything else.
#[derive(Clone)]
pub(super) struct Endpoints {
    all: Arc<[Endpoint]>,
    preferred: Arc<AtomicUsize>,
}

struct Endpoint {
    client: Client,
    url: Url,
    chain: ChainId,
    max_response: usize,
    checked: OnceCell<()>,
}

impl Endpoints {
    pub(super) fn new(urls: &[String], chain: ChainId, limits: Limits) -> Result<Self, ChainError> {
        // reqwest is built without a TLS backend of its own choice. A second installation fails, which
        // means that the program has chosen already.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let all: Vec<_> =
            urls.iter().map(|url| Endpoint::new(url, chain, limits)).collect::<Result<_, _>>()?;
        if all.is_empty() {
            return Err(ChainError::Endpoint("list is empty".into()));
        }
        Ok(Self { all: all.into(), preferred: Arc::default() })
    }

    /// Whether all of them run on this machine, which makes polling cheap.
    pub(super) fn is_local(&self) -> bool {
        self.all.iter().all(|endpoint| is_loopback(&endpoint.url))
    }

    /// How many there are.
    pub(super) fn count(&self) -> usize {
        self.all.len()
    }

    /// Asks another one first from now on: the one that answered was found to hide something.
    pub(super) fn prefer_next(&self) {
        let next = (self.preferred.load(Ordering::Relaxed) + 1) % self.all.len();
        self.preferred.store(next, Ordering::Relaxed);
    }

    async fn send(self, request: RequestPacket) -> Result<ResponsePacket, TransportError> {
        let count = self.all.len();
        let first = self.preferred.load(Ordering::Relaxed);
        let mut failure = TransportErrorKind::backend_gone();
        for i in (0..count).map(|step| (first + step) % count) {
            match self.all[i].send(&request).await {
                Ok(response) => {
                    self.preferred.store(i, Ordering::Relaxed);
                    return Ok(response);
                }
                Err(error) => {
                    tracing::debug!(url = %self.all[i].name(), %error, "endpoint failed");
                    failure = error;
                }
            }
        }
        Err(failure)
    }
}

impl Endpoint {
    fn new(url: &str, chain: ChainId, limits: Limits) -> Result<Self, ChainError> {
        let bad = |why: &dyn std::fmt::Display| ChainError::Endpoint(format!("{url}: {why}"));
        let url: Url = url.parse().map_err(|why| bad(&why))?;
        if !matches!(url.scheme(), "http" | "https") || url.host().is_none() {
            return Err(bad(&"neither http nor https"));
        }
        let mut client = Client::builder().timeout(limits.timeout).redirect(Policy::none());
        if is_loopback(&url) {
            // A proxy of the site cannot reach what runs on this machine.
            client = client.no_proxy();
        }
        let client = client.build().map_err(|why| bad(&why))?;
        Ok(Self { client, url, chain, max_response: limits.max_response, checked: OnceCell::new() })
    }

    /// The URL without user, password, path and query, any of which may hold an API key.
    fn name(&self) -> &str {
        self.url.host_str().unwrap_or_default()
    }

    async fn send(&self, request: &RequestPacket) -> Result<ResponsePacket, TransportError> {
        self.checked.get_or_try_init(|| self.check_chain()).await?;
        let body = serde_json::to_vec(request).map_err(TransportError::ser_err)?;
        let answer = self.post(body).await?;
        serde_json::from_slice(&answer)
            .map_err(|error| TransportError::deser_err(error, String::from_utf8_lossy(&answer)))
    }

    async fn check_chain(&self) -> Result<(), TransportError> {
        let body = br#"{"jsonrpc":"2.0","id":0,"method":"eth_chainId","params":[]}"#.to_vec();
        let answer = self.post(body).await?;
        let answer: serde_json::Value = serde_json::from_slice(&answer)
            .map_err(|error| TransportError::deser_err(error, String::from_utf8_lossy(&answer)))?;
        if answer["result"].as_str() == Some(format!("{:#x}", self.chain.get()).as_str()) {
            return Ok(());
        }
        let got = answer["result"].to_string().chars().take(80).collect();
        Err(TransportErrorKind::custom(EndpointError::OtherChain(got)))
    }

    async fn post(&self, body: Vec<u8>) -> Result<Vec<u8>, TransportError> {
        let request = self.client.post(self.url.clone()).header("content-type", "application/json");
        let mut response = request.body(body).send().await.map_err(custom)?;
        let mut answer = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(custom)? {
            if answer.len() + chunk.len() > self.max_response {
                return Err(TransportErrorKind::custom(EndpointError::TooLarge(self.max_response)));
            }
            answer.extend_from_slice(&chunk);
        }
        let status = response.status();
        if !status.is_success() {
            return Err(TransportErrorKind::custom(EndpointError::Status(status.as_u16())));
        }
        Ok(answer)
    }
}

/// Hides the URL: it may hold an API key, and errors are logged.
fn custom(error: reqwest::Error) -> TransportError {
    TransportErrorKind::custom(error.without_url())
}

fn is_loopback(url: &Url) -> bool {
    let host = url.host_str().unwrap_or_default();
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    host == "localhost" || bare.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

impl Service<RequestPacket> for Endpoints {
    type Response = ResponsePacket;
    type Error = TransportError;
    type Future = TransportFut<'static>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), TransportError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: RequestPacket) -> Self::Future {
        Box::pin(self.clone().send(request))
    }
}
