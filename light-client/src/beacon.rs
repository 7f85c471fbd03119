//! The light client's part of the beacon API, asked of several endpoints.
//!
//! Every call takes the check that its answer has to pass. An endpoint whose answer does not pass is put aside with the
//! reason, and the next one is asked: a lie is worth no more than silence. Parsing and checking run where they may block.
//!
//! Source: ethereum/beacon-APIs, `apis/beacon/light_client`. SSZ is asked for first, being half as long; JSON is understood.

mod answer;
mod error;
mod finalized;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use alloy::primitives::B256;

pub use self::error::BeaconError;
pub use self::finalized::FinalizedRoot;
pub(crate) use self::finalized::{endpoint, has, newest};
use crate::http::{Answer, Endpoint, Exhausted, HttpError, Limits, Pool, Report, UrlError};
use crate::spec::{Bootstrap, Kind, Network, Update};

/// Updates asked for at once: 430 KB of SSZ, 900 KB of JSON, so that what a slow link brings is kept page by page. The
/// specification allows 128.
pub const PAGE: u64 = 16;
/// Bytes of one answer: twice what a page takes in the longer form.
const MAX_ANSWER: usize = 2 << 20;
/// SSZ first.
const ACCEPT: &str = "application/octet-stream;q=1,application/json;q=0.9";
const BASE: &str = "/eth/v1/beacon/light_client";

/// What no endpoint gave: why each did not.
pub type Unanswered = Exhausted<BeaconError>;

/// The beacon endpoints in order of preference. Cheap to clone; clones share what they learn.
#[derive(Debug, Clone)]
pub struct Beacon {
    network: Arc<Network>,
    pool: Pool,
    received: Arc<AtomicU64>,
}

impl Beacon {
    /// Nothing is dialled yet.
    ///
    /// # Errors
    /// [`UrlError`]: no URL, or one that cannot be used.
    pub fn new(network: Arc<Network>, urls: &[String], limits: Limits) -> Result<Self, UrlError> {
        let limits = Limits { max_response: limits.max_response.min(MAX_ANSWER), ..limits };
        Ok(Self { network, pool: Pool::of(urls, limits)?, received: Arc::default() })
    }

    /// `getLightClientBootstrap` of the block `root`.
    ///
    /// # Errors
    /// No endpoint gave one that passes.
    pub async fn bootstrap<T, F>(&self, root: B256, check: F) -> Result<T, Unanswered>
    where
        T: Send + 'static,
        F: Fn(Bootstrap) -> Result<T, BeaconError> + Clone + Send + 'static,
    {
        let read = move |network: &Network, answer: &Answer| check(answer::bootstrap(network, answer)?);
        self.ask(format!("{BASE}/bootstrap/{root}"), read).await
    }

    /// `getLightClientUpdatesByRange`: at most `count` (bounded by [`PAGE`]) updates, that of period `start` first. Fewer,
    /// even none, is an answer too. The check gives what the list proves, and what is wrong with the rest of it, which counts
    /// against the endpoint.
    ///
    /// # Errors
    /// No endpoint gave a list that passes.
    pub async fn updates<T, F>(&self, start: u64, count: u64, check: F) -> Result<T, Unanswered>
    where
        T: Send + 'static,
        F: Fn(Vec<Update>) -> Result<(T, Option<BeaconError>), BeaconError> + Clone + Send + 'static,
    {
        let first = self.clone();
        let ask = move |endpoint: Arc<Endpoint>| {
            let (beacon, check) = (first.clone(), check.clone());
            async move {
                let (answer, count) = beacon.update_range(&endpoint, start, count.clamp(1, PAGE)).await?;
                let max = usize::try_from(count).expect("at most a page");
                beacon
                    .read(answer, move |network, answer| check(answer::updates(network, answer, max)?))
                    .await
            }
        };
        self.pool.first_part(ask).await
    }

    /// `getLightClientFinalityUpdate`.
    ///
    /// # Errors
    /// No endpoint gave one that passes.
    pub async fn finality<T, F>(&self, check: F) -> Result<T, Unanswered>
    where
        T: Send + 'static,
        F: Fn(Update) -> Result<T, BeaconError> + Clone + Send + 'static,
    {
        self.newest(Kind::Finality, "finality_update", check).await
    }

    /// `getLightClientOptimisticUpdate`.
    ///
    /// # Errors
    /// No endpoint gave one that passes.
    pub async fn optimistic<T, F>(&self, check: F) -> Result<T, Unanswered>
    where
        T: Send + 'static,
        F: Fn(Update) -> Result<T, BeaconError> + Clone + Send + 'static,
    {
        self.newest(Kind::Optimistic, "optimistic_update", check).await
    }

    /// How each endpoint has been doing, in order of preference.
    #[must_use]
    pub fn report(&self) -> Vec<Report> {
        self.pool.report()
    }

    /// Bytes of all answers so far, without headers.
    #[must_use]
    pub fn received(&self) -> u64 {
        self.received.load(Ordering::Relaxed)
    }

    async fn newest<T, F>(&self, kind: Kind, name: &str, check: F) -> Result<T, Unanswered>
    where
        T: Send + 'static,
        F: Fn(Update) -> Result<T, BeaconError> + Clone + Send + 'static,
    {
        let read = move |network: &Network, answer: &Answer| check(answer::update(network, kind, answer)?);
        self.ask(format!("{BASE}/{name}"), read).await
    }

    async fn ask<T, F>(&self, path: String, read: F) -> Result<T, Unanswered>
    where
        T: Send + 'static,
        F: Fn(&Network, &Answer) -> Result<T, BeaconError> + Clone + Send + 'static,
    {
        let ask = |endpoint: Arc<Endpoint>| {
            let (beacon, path, read) = (self.clone(), path.clone(), read.clone());
            async move {
                let answer = beacon.get(&endpoint, &path).await?;
                beacon.read(answer, read).await
            }
        };
        self.pool.first(ask).await
    }

    /// Lodestar 1.5.1 answers 500 for a whole range if one period in it is missing, so the first period is then asked for
    /// alone. Says how many were asked for in the end.
    async fn update_range(
        &self,
        endpoint: &Endpoint,
        start: u64,
        count: u64,
    ) -> Result<(Answer, u64), BeaconError> {
        let path = |count: u64| format!("{BASE}/updates?start_period={start}&count={count}");
        match self.get(endpoint, &path(count)).await {
            Err(BeaconError::Http(HttpError::Status(404 | 500))) if count > 1 => {
                Ok((self.get(endpoint, &path(1)).await?, 1))
            }
            other => other.map(|answer| (answer, count)),
        }
    }

    async fn get(&self, endpoint: &Endpoint, path: &str) -> Result<Answer, BeaconError> {
        let answer = endpoint.get(path, ACCEPT).await?;
        self.received.fetch_add(answer.body.len() as u64, Ordering::Relaxed);
        Ok(answer)
    }

    /// Runs `read` where it may block: one update is milliseconds of pairings.
    async fn read<T, F>(&self, answer: Answer, read: F) -> Result<T, BeaconError>
    where
        T: Send + 'static,
        F: FnOnce(&Network, &Answer) -> Result<T, BeaconError> + Send + 'static,
    {
        let network = self.network.clone();
        let done = tokio::task::spawn_blocking(move || read(&network, &answer)).await;
        done.unwrap_or(Err(BeaconError::Aborted))
    }
}
