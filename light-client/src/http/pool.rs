//! Several endpoints, in order of preference.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::Instant;

use super::health::Health;
use super::{Endpoint, HttpError, Report, UrlError};

/// Endpoints in the operator's order of preference. Cheap to clone; clones share what they learn.
///
/// A request goes to the first endpoint that is not backing off, then to the others in that order, and last to those that
/// are backing off. The pause grows with each failure from half a second to a minute. It only decides the order: whoever asks
/// has a pace of its own, so where all endpoints are backing off, all are asked all the same. The one exception is an
/// endpoint that asked for patience by `Retry-After`, which is left alone for that long, five minutes at most.
///
/// A wrong answer is a failure like any other: what does not verify is never worth more than no answer.
pub struct Pool<E = Endpoint> {
    members: Arc<[Member<E>]>,
}

struct Member<E> {
    endpoint: Arc<E>,
    health: Mutex<Health>,
}

/// What an error of one endpoint says about asking it again.
pub trait Retry {
    /// How long it asks to be left alone.
    fn retry_after(&self) -> Option<Duration> {
        None
    }
    /// An error that stands for "leave me alone" of an endpoint that asked for it `wait` before its time is over.
    fn silent(wait: Duration) -> Self;
}

impl Retry for HttpError {
    fn retry_after(&self) -> Option<Duration> {
        Self::retry_after(self)
    }
    fn silent(wait: Duration) -> Self {
        Self::Busy { code: 429, retry_after: Some(wait) }
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
        self.first_except(&[], ask).await.map(|(_, answer)| answer)
    }

    /// As [`Pool::first`], leaving out the endpoints at the positions in `skip`; says which one answered.
    ///
    /// # Errors
    /// [`Exhausted`]: none did, with the reason of each; empty where all are left out.
    pub async fn first_except<T, X, F, Fut>(&self, skip: &[usize], ask: F) -> Result<(usize, T), Exhausted<X>>
    where
        X: Retry + fmt::Display,
        F: Fn(Arc<E>) -> Fut,
        Fut: Future<Output = Result<T, X>>,
    {
        let mut failures = Vec::new();
        for position in self.order().filter(|position| !skip.contains(position)) {
            let member = &self.members[position];
            let silence = member.health().silence(Instant::now());
            let outcome = match silence {
                Some(wait) => Err(X::silent(wait)),
                None => {
                    let outcome = ask(member.endpoint.clone()).await;
                    member.learn(&outcome);
                    outcome
                }
            };
            match outcome {
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
                let member = &pool.members[position];
                let silence = member.health().silence(Instant::now());
                let outcome = match silence {
                    Some(wait) => Err(X::silent(wait)),
                    None => told.await,
                };
                if silence.is_none() {
                    member.learn(&outcome);
                }
                (position, outcome)
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
            member.health().failed(why.to_string(), None, Instant::now());
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

    fn learn<T, X: Retry + fmt::Display>(&self, outcome: &Result<T, X>) {
        match outcome {
            Ok(_) => self.health().succeeded(),
            Err(error) => {
                tracing::debug!(endpoint = %self.name(), %error, "endpoint failed");
                self.health().failed(error.to_string(), error.retry_after(), Instant::now());
            }
        }
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
