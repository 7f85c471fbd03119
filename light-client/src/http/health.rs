//! How an endpoint has been doing.

use std::time::Duration;

use serde::Serialize;
use tokio::time::Instant;

/// The pause after the first failure; each further one doubles it.
const FIRST_PAUSE: Duration = Duration::from_millis(500);
/// The longest pause: an endpoint that is back is noticed within a minute.
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

/// What happened at one endpoint, for the status.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Report {
    /// Host, and port where it is not the scheme's own.
    pub endpoint: String,
    /// Failures since the last answer that was good.
    pub failures: u32,
    /// Why it failed last, kept until the program ends: a lie is not forgotten because an answer was good.
    pub last_error: Option<String>,
}

/// Failures in a row, and until when others are asked first.
#[derive(Debug, Default)]
pub(super) struct Health {
    failures: u32,
    paused_until: Option<Instant>,
    /// The endpoint itself asked for this, so it is kept to even where no other endpoint is left.
    silent_until: Option<Instant>,
    last_error: Option<String>,
}

impl Health {
    pub(super) fn succeeded(&mut self) {
        (self.failures, self.paused_until, self.silent_until) = (0, None, None);
    }

    pub(super) fn failed(&mut self, error: String, retry_after: Option<Duration>, now: Instant) {
        let pause = FIRST_PAUSE.saturating_mul(2u32.saturating_pow(self.failures)).min(LONGEST_PAUSE);
        self.failures = self.failures.saturating_add(1);
        self.paused_until = Some(now + pause);
        self.silent_until = retry_after.map(|wait| now + wait);
        self.last_error = Some(error);
    }

    pub(super) fn is_paused(&self, now: Instant) -> bool {
        self.paused_until.is_some_and(|until| until > now)
    }

    pub(super) fn silence(&self, now: Instant) -> Option<Duration> {
        self.silent_until.filter(|until| *until > now).map(|until| until - now)
    }

    pub(super) fn report(&self, endpoint: String) -> Report {
        Report { endpoint, failures: self.failures, last_error: self.last_error.clone() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_a_minute_and_end_with_an_answer() {
        let now = Instant::now();
        let mut health = Health::default();
        for pause in [500, 1_000, 2_000, 4_000, 8_000, 16_000, 32_000, 60_000, 60_000] {
            health.failed("down".into(), None, now);
            assert!(health.is_paused(now + Duration::from_millis(pause - 1)), "{pause}");
            assert!(!health.is_paused(now + Duration::from_millis(pause)), "{pause}");
        }
        (0..100).for_each(|_| health.failed("down".into(), None, now));
        assert!(!health.is_paused(now + LONGEST_PAUSE));
        health.succeeded();
        assert!(!health.is_paused(now));
        let report = health.report("node.example".into());
        assert_eq!((report.failures, report.last_error.as_deref()), (0, Some("down")));
    }
}
