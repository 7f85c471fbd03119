//! Several endpoints, in order of preference.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::Instant;

use super::health::{Failure, Health};
use super::{Endpoint, HttpError, Report, UrlError};

/// Endpoints in the operator's order of preference. Cheap to clone; clones share what they learn.
///
/// A request goes to the first endpoint that is not backing off, then to the others in that order, and last to those that
/// are backing off. The pause grows with each failure from half a second to a minute, faster with lies, and a good answer
/// halves what has gathered. It only decides the order: whoever asks has a pace of its own, so where all endpoints are backing
/// off, all are asked all the same. The one exception is an endpoint that asked for patience by `Retry-After`, which is left
/// alone for that long, five minutes at most.
///
/// A wrong answer is a failure like any other: what does not verify is never worth more than no answer. What is true of an
/// answer is kept where the rest is not, and the rest counts against the endpoint.
///
/// An ask is all that one endpoint is asked for one answer, however many requests that takes. It has a budget of time, so that
/// an endpoint that stays within the time of each request does not keep whoever asks for ever; and an endpoint that answers,
/// but has needed more than a third of it, has the others asked first for a while.
pub struct Pool<E = Endpoint> {
    members: Arc<[Member<E>]>,
}

struct Member<E> {
    endpoint: Arc<E>,
    health: Mutex<Health>,
}

/// An ask may take so many times as long as one request may, with all that it tries.
const TRIES: u32 = 3;
/// And for each further piece this part of the time of one request.
const PIECE: u32 = 4;

/// What an error of one endpoint says about asking it again.
pub trait Retry {
    /// How long it asks to be left alone.
    fn retry_after(&self) -> Option<Duration> {
        None
    }
    /// An error that stands for "leave me alone" of an endpoint that asked for it `wait` before its time is over.
    fn silent(wait: Duration) -> Self;
    /// An error that stands for an ask that was given up after `budget`.
    fn late(budget: Duration) -> Self;
    /// Whether a proof refutes the answer. Silence, refusal and what cannot be read are no lies.
    fn is_lie(&self) -> bool {
        false
    }
}

impl Retry for HttpError {
    fn retry_after(&self) -> Option<Duration> {
        Self::retry_after(self)
    }
    fn silent(wait: Duration) -> Self {
        Self::Busy { code: 429, retry_after: Some(wait) }
    }
    fn late(budget: Duration) -> Self {
        Self::Timeout(budget)
    }
}

/// One endpoint's failure.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failed<E> {
    /// Host, and port where it is not the scheme's own.
    pub endpoint: String,
    /// What was wrong.
    pub error: E,
}

/// No endpoint gave an answer that holds; each with its reason, in the order in which they were asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Exhausted<E>(pub Vec<Failed<E>>);

impl<E: fmt::Display> fmt::Display for Exhausted<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() {
            return f.write_str("no endpoint is left to ask");
        }
        for (i, Failed { endpoint, error }) in self.0.iter().enumerate() {
            write!(f, "{}{endpoint}: {error}", if i == 0 { "" } else { "; " })?;
        }
        Ok(())
    }
}

impl<E: fmt::Debug + fmt::Display> std::error::Error for Exhausted<E> {}

impl Pool<Endpoint> {
    /// A pool of plain endpoints.
    ///
    /// # Errors
    /// [`UrlError`]: no URL, or one that cannot be used.
    pub fn of(urls: &[String], limits: super::Limits) -> Result<Self, UrlError> {
        let endpoints = urls.iter().map(|url| Endpoint::new(url, limits));
        Self::new(endpoints.collect::<Result<_, _>>()?)
    }
}

impl<E: AsRef<Endpoint>> Pool<E> {
    /// A pool of what holds an endpoint.
    ///
    /// # Errors
    /// [`UrlError::None`]: there are none.
    pub fn new(endpoints: Vec<E>) -> Result<Self, UrlError> {
        if endpoints.is_empty() {
            return Err(UrlError::None);
        }
        let member = |endpoint| Member { endpoint: Arc::new(endpoint), health: Mutex::default() };
        Ok(Self { members: endpoints.into_iter().map(member).collect() })
    }

    /// The endpoints, in order of preference.
    pub fn endpoints(&self) -> impl Iterator<Item = &Arc<E>> {
        self.members.iter().map(|member| &member.endpoint)
    }

    /// Whether all of them run on this machine.
    #[must_use]
    pub fn is_local(&self) -> bool {
        self.endpoints().all(|endpoint| (**endpoint).as_ref().is_local())
    }

    /// Asks one endpoint after the other until one gives an answer that `ask` accepts.
    ///
    /// # Errors
    /// [`Exhausted`]: none did, with the reason of each.
    pub async fn first<T, X, F, Fut>(&self, ask: F) -> Result<T, Exhausted<X>>
    where
        X: Retry + fmt::Display,
        F: Fn(Arc<E>) -> Fut,
        Fut: Future<Output = Result<T, X>>,
    {
        self.first_except(&[], 1, ask).await.map(|(_, answer)| answer)
    }

    /// As [`Pool::first`], for answers that may be good in part: with what is good comes what is wrong with the rest, and
    /// counts against the endpoint.
    ///
    /// # Errors
    /// [`Exhausted`]: none had any part, with the reason of each.
    pub async fn first_part<T, X, F, Fut>(&self, ask: F) -> Result<T, Exhausted<X>>
    where
        X: Retry + fmt::Display,
        F: Fn(Arc<E>) -> Fut,
        Fut: Future<Output = Result<(T, Option<X>), X>>,
    {
        self.one_by_one(&[], 1, ask).await.map(|(_, answer)| answer)
    }

    /// As [`Pool::first`], leaving out the endpoints at the positions in `skip`, with time for an answer of so many `pieces`;
    /// says which one answered.
    ///
    /// # Errors
    /// [`Exhausted`]: none did, with the reason of each; empty where all are left out.
    pub async fn first_except<T, X, F, Fut>(
        &self,
        skip: &[usize],
        pieces: u64,
        ask: F,
    ) -> Result<(usize, T), Exhausted<X>>
    where
        X: Retry + fmt::Display,
        F: Fn(Arc<E>) -> Fut,
        Fut: Future<Output = Result<T, X>>,
    {
        let whole = |endpoint| {
            let asked = ask(endpoint);
            async move { asked.await.map(|answer| (answer, None)) }
        };
        self.one_by_one(skip, pieces, whole).await
    }

    async fn one_by_one<T, X, F, Fut>(
        &self,
        skip: &[usize],
        pieces: u64,
        ask: F,
    ) -> Result<(usize, T), Exhausted<X>>
    where
        X: Retry + fmt::Display,
        F: Fn(Arc<E>) -> Fut,
        Fut: Future<Output = Result<(T, Option<X>), X>>,
    {
        let mut failures = Vec::new();
        for position in self.order().filter(|position| !skip.contains(position)) {
            let member = &self.members[position];
            match member.ask(pieces, ask(member.endpoint.clone())).await {
                Ok(answer) => return Ok((position, answer)),
                Err(error) => failures.push(Failed { endpoint: member.name(), error }),
            }
        }
        Err(Exhausted(failures))
    }

    /// Tells all endpoints at once, those that back off among them, and waits for each; content with one that accepts.
    ///
    /// # Errors
    /// [`Exhausted`]: none did, with the reason of each in order of preference.
    pub async fn all<T, X, F, Fut>(&self, tell: F) -> Result<T, Exhausted<X>>
    where
        E: Send + Sync + 'static,
        T: Send + 'static,
        X: Retry + fmt::Display + Send + 'static,
        F: Fn(Arc<E>) -> Fut,
        Fut: Future<Output = Result<T, X>> + Send + 'static,
    {
        let mut telling = JoinSet::new();
        for (position, member) in self.members.iter().enumerate() {
            let (told, pool) = (tell(member.endpoint.clone()), self.clone());
            telling.spawn(async move {
                let told = async move { told.await.map(|answer| (answer, None)) };
                (position, pool.members[position].ask(1, told).await)
            });
        }
        let mut outcomes = telling.join_all().await;
        outcomes.sort_by_key(|(position, _)| *position);
        let mut failures = Vec::new();
        for (position, outcome) in outcomes {
            match outcome {
                Ok(answer) => return Ok(answer),
                Err(error) => failures.push(Failed { endpoint: self.members[position].name(), error }),
            }
        }
        Err(Exhausted(failures))
    }

    /// Counts an answer that was given and found to be wrong only later, such as a list that leaves something out.
    pub fn blame(&self, position: usize, why: &dyn fmt::Display) {
        if let Some(member) = self.members.get(position) {
            tracing::warn!(endpoint = %member.name(), %why, "endpoint gave a wrong answer");
            let failure = Failure { why: why.to_string(), lie: true, ..Failure::default() };
            member.health().failed(failure, Instant::now());
        }
    }

    /// How each endpoint has been doing, in order of preference.
    #[must_use]
    pub fn report(&self) -> Vec<Report> {
        self.members.iter().map(|member| member.health().report(member.name())).collect()
    }

    /// Positions in the order of asking: those that are not backing off first.
    fn order(&self) -> impl Iterator<Item = usize> + use<E> {
        let now = Instant::now();
        let mut order: Vec<_> = (0..self.members.len()).collect();
        order.sort_by_key(|position| self.members[*position].health().is_paused(now));
        order.into_iter()
    }
}

impl<E: AsRef<Endpoint>> Member<E> {
    fn name(&self) -> String {
        (*self.endpoint).as_ref().name()
    }

    /// One ask within its budget, unless the endpoint asked to be left alone. What comes of it is remembered.
    async fn ask<T, X: Retry + fmt::Display>(
        &self,
        pieces: u64,
        asked: impl Future<Output = Result<(T, Option<X>), X>>,
    ) -> Result<T, X> {
        let begun = Instant::now();
        if let Some(wait) = self.health().silence(begun) {
            return Err(X::silent(wait));
        }
        let budget = self.budget(pieces);
        let outcome = tokio::time::timeout(budget, asked).await.unwrap_or_else(|_| Err(X::late(budget)));
        let took = begun.elapsed();
        match &outcome {
            Ok((_, None)) => {
                let slow = (took > budget / TRIES).then_some(took);
                if slow.is_some() {
                    tracing::debug!(endpoint = %self.name(), ?took, "endpoint is slow");
                }
                self.health().succeeded(slow, Instant::now());
            }
            Ok((_, Some(error))) | Err(error) => self.failed(error, took),
        }
        outcome.map(|(answer, _)| answer)
    }

    fn failed<X: Retry + fmt::Display>(&self, error: &X, took: Duration) {
        tracing::debug!(endpoint = %self.name(), %error, "endpoint failed");
        let (why, lie, retry_after) = (error.to_string(), error.is_lie(), error.retry_after());
        self.health().failed(Failure { why, lie, took, retry_after }, Instant::now());
    }

    /// For one ask: three requests, as for the chain id, by hash and by number, and what further pieces take.
    fn budget(&self, pieces: u64) -> Duration {
        let request = (*self.endpoint).as_ref().limits().timeout;
        let further = u32::try_from(pieces.saturating_sub(1)).unwrap_or(u32::MAX);
        request.saturating_mul(TRIES).saturating_add((request / PIECE).saturating_mul(further))
    }
}

impl<E> Member<E> {
    fn health(&self) -> MutexGuard<'_, Health> {
        self.health.lock().expect("no code panics while it holds this lock")
    }
}

impl<E> Clone for Pool<E> {
    fn clone(&self) -> Self {
        Self { members: self.members.clone() }
    }
}

impl<E: AsRef<Endpoint>> fmt::Debug for Pool<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.members.iter().map(Member::name)).finish()
    }
}

#[cfg(test)]
mod tests {
    use std::future::pending;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;
    use crate::http::Limits;

    /// `a.example` and so on, each request of which may take `timeout`. Nobody dials them.
    fn pool(names: &[&str], timeout: Duration) -> Pool {
        let urls: Vec<_> = names.iter().map(|name| format!("http://{name}.example")).collect();
        Pool::of(&urls, Limits { timeout, ..Limits::default() }).unwrap()
    }

    /// Neither honest silence nor a request that takes too long: an ask that never comes to its end, whatever it is made of.
    #[tokio::test]
    async fn an_endpoint_that_trickles_is_left_for_the_next() {
        let pool = pool(&["a", "b"], Duration::from_millis(200));
        let asked = AtomicUsize::new(0);
        let ask = |endpoint: Arc<Endpoint>| {
            let asked = &asked;
            async move {
                if endpoint.name() == "a.example" {
                    asked.fetch_add(1, Ordering::Relaxed);
                    pending::<()>().await;
                }
                Ok::<_, HttpError>(endpoint.name())
            }
        };
        assert_eq!(pool.first(ask).await.unwrap(), "b.example");
        let report = pool.report();
        let late = HttpError::Timeout(Duration::from_millis(600)).to_string();
        assert_eq!((report[0].failures, report[0].last_error.as_ref()), (1, Some(&late)));
        assert_eq!((report[1].failures, report[1].last_error.as_ref()), (0, None));
        // It is not asked first again.
        assert_eq!(pool.first(ask).await.unwrap(), "b.example");
        assert_eq!(asked.load(Ordering::Relaxed), 1);
    }

    #[tokio::test]
    async fn an_endpoint_that_trickles_does_not_keep_a_transaction_for_ever() {
        let pool = pool(&["a", "b"], Duration::from_millis(5));
        let tell = |endpoint: Arc<Endpoint>| async move {
            if endpoint.name() == "a.example" {
                pending::<()>().await;
            }
            Ok::<_, HttpError>(())
        };
        pool.all(tell).await.unwrap();
        assert_eq!(pool.report()[0].failures, 1);
    }

    #[tokio::test]
    async fn an_endpoint_that_is_slow_and_true_has_the_others_asked_first() {
        // All that takes any time at all is slow then, and within the budget where it is there at once.
        let pool = pool(&["a", "b"], Duration::from_nanos(1));
        let ask = |endpoint: Arc<Endpoint>| async move { Ok::<_, HttpError>(endpoint.name()) };
        assert_eq!(pool.first(ask).await.unwrap(), "a.example");
        // A few microseconds are a short pause, which may be over by now; that there was one is remembered.
        assert!(pool.members[0].health().is_paused(Instant::now() - Duration::from_secs(1)));
        assert_eq!(pool.report()[0].failures, 0);
    }

    #[test]
    fn the_budget_grows_with_the_pieces_and_does_not_overflow() {
        let pool = pool(&["a"], Duration::from_secs(20));
        assert_eq!(pool.members[0].budget(0), Duration::from_secs(60));
        assert_eq!(pool.members[0].budget(1), Duration::from_secs(60));
        assert_eq!(pool.members[0].budget(5), Duration::from_secs(80));
        let forever = self::pool(&["a"], Duration::MAX);
        assert_eq!(forever.members[0].budget(u64::MAX), Duration::MAX);
    }

    #[tokio::test]
    async fn what_is_false_of_an_answer_counts_though_a_part_was_true() {
        let pool = pool(&["a", "b"], Duration::from_secs(20));
        let ask = |endpoint: Arc<Endpoint>| async move {
            let wrong = (endpoint.name() == "a.example").then_some(HttpError::Status(500));
            Ok::<_, HttpError>((endpoint.name(), wrong))
        };
        assert_eq!(pool.first_part(ask).await.unwrap(), "a.example");
        assert_eq!(pool.report()[0].failures, 1);
        assert_eq!(pool.first_part(ask).await.unwrap(), "b.example", "for the rest another is asked");
    }

    #[tokio::test]
    async fn an_endpoint_that_stands_alone_is_asked_whatever_it_did() {
        let pool = pool(&["a"], Duration::from_secs(20));
        (0..50).for_each(|_| pool.blame(0, &"a lie"));
        let ask = |endpoint: Arc<Endpoint>| async move { Ok::<_, HttpError>(endpoint.name()) };
        assert_eq!(pool.first(ask).await.unwrap(), "a.example");
    }
}
