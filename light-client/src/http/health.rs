//! How an endpoint has been doing.

use std::time::Duration;

use serde::Serialize;
use tokio::time::Instant;

/// The pause after the first failure; each further one doubles it.
const FIRST_PAUSE: Duration = Duration::from_millis(500);
/// The longest pause for failures that come fast: an endpoint that is back is noticed within a minute.
const LONGEST_PAUSE: Duration = Duration::from_secs(60);
/// A pause is at least so many times as long as whoever asked was kept waiting, so that an endpoint that trickles has a ninth
/// of the time at most.
const FOR_WAITING: u32 = 8;
/// The longest pause for that.
const LONGEST_FOR_WAITING: Duration = Duration::from_secs(600);
/// Failures that a lie counts for. Since a good answer halves what counts, an endpoint that lies every other time is left for
/// some ten seconds each time; by one for each it would be left for one.
const LIE: u32 = 3;

/// What happened at one endpoint, for the status.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Report {
    /// Host, and port where it is not the scheme's own.
    pub endpoint: String,
    /// What counts against it: one for each failure, three for a lie. Each good answer halves it.
    pub failures: u32,
    /// Why it failed last, kept until the program ends: a lie is not forgotten because an answer was good.
    pub last_error: Option<String>,
}

/// One failure.
#[derive(Debug, Clone, Default)]
pub(super) struct Failure {
    pub(super) why: String,
    /// It was no silence, but an answer that a proof refutes.
    pub(super) lie: bool,
    /// How long whoever asked was kept waiting.
    pub(super) took: Duration,
    /// For how long the endpoint asked to be left alone.
    pub(super) retry_after: Option<Duration>,
}

/// What counts against an endpoint, and until when others are asked first. Nothing of it lasts: a pause ends by itself, and
/// good answers undo any number of failures in a few steps.
#[derive(Debug, Default)]
pub(super) struct Health {
    failures: u32,
    paused_until: Option<Instant>,
    /// The endpoint itself asked for this, so it is kept to even where no other endpoint is left.
    silent_until: Option<Instant>,
    last_error: Option<String>,
}

impl Health {
    /// A good answer. `slow` is how long it took, where that was too long.
    pub(super) fn succeeded(&mut self, slow: Option<Duration>, now: Instant) {
        self.failures /= 2;
        self.silent_until = None;
        match slow {
            Some(took) => self.pause(for_waiting(took), now),
            None if self.failures == 0 => self.paused_until = None,
            // An answer to what was asked before the failure does not end the pause.
            None => {}
        }
    }

    pub(super) fn failed(&mut self, failure: Failure, now: Instant) {
        let Failure { why, lie, took, retry_after } = failure;
        self.failures = self.failures.saturating_add(if lie { LIE } else { 1 });
        let pause = FIRST_PAUSE.saturating_mul(2u32.saturating_pow(self.failures - 1)).min(LONGEST_PAUSE);
        self.pause(pause.max(for_waiting(took)), now);
        self.silent_until = retry_after.map(|wait| now + wait);
        self.last_error = Some(why);
    }

    fn pause(&mut self, pause: Duration, now: Instant) {
        self.paused_until = Some(now + pause);
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

fn for_waiting(took: Duration) -> Duration {
    took.saturating_mul(FOR_WAITING).min(LONGEST_FOR_WAITING)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn down() -> Failure {
        Failure { why: "down".into(), ..Failure::default() }
    }

    fn lie() -> Failure {
        Failure { why: "a lie".into(), lie: true, ..Failure::default() }
    }

    /// Of a pause that begins `now`.
    fn pause(health: &Health, now: Instant) -> Duration {
        health.paused_until.map_or(Duration::ZERO, |until| until - now)
    }

    #[test]
    fn pauses_double_up_to_a_minute() {
        let now = Instant::now();
        let mut health = Health::default();
        for pause in [500, 1_000, 2_000, 4_000, 8_000, 16_000, 32_000, 60_000, 60_000] {
            health.failed(down(), now);
            assert!(health.is_paused(now + Duration::from_millis(pause - 1)), "{pause}");
            assert!(!health.is_paused(now + Duration::from_millis(pause)), "{pause}");
        }
        (0..100).for_each(|_| health.failed(down(), now));
        assert!(!health.is_paused(now + LONGEST_PAUSE));
    }

    #[test]
    fn an_endpoint_that_alternates_lies_and_truths_backs_off() {
        let now = Instant::now();
        let mut health = Health::default();
        let mut pauses = Vec::new();
        for _ in 0..8 {
            health.failed(lie(), now);
            pauses.push(pause(&health, now).as_secs());
            health.succeeded(None, now);
            assert!(
                health.is_paused(now + pause(&health, now) / 2),
                "a truth between two lies ends no pause"
            );
        }
        assert_eq!(pauses, [2, 4, 8, 8, 8, 8, 8, 8]);
    }

    #[test]
    fn nobody_is_banned_for_ever() {
        let now = Instant::now();
        let mut health = Health::default();
        // Down for days.
        (0..100_000).for_each(|_| health.failed(down(), now));
        assert!(!health.is_paused(now + LONGEST_PAUSE));
        (0..17).for_each(|_| health.succeeded(None, now));
        assert!(!health.is_paused(now));
        let report = health.report("node.example".into());
        assert_eq!((report.failures, report.last_error.as_deref()), (0, Some("down")));
        // A limit on requests, or a block behind, now and then.
        for _ in 0..100 {
            health.failed(down(), now);
            assert_eq!(pause(&health, now), FIRST_PAUSE);
            health.succeeded(None, now);
            assert!(!health.is_paused(now));
        }
    }

    #[test]
    fn who_makes_us_wait_is_left_alone_for_longer() {
        let (now, took) = (Instant::now(), Duration::from_secs(20));
        let mut health = Health::default();
        health.failed(Failure { took, ..down() }, now);
        assert_eq!(pause(&health, now), Duration::from_secs(160));
        // Answers that are true and slow.
        health.succeeded(Some(took), now);
        assert_eq!((pause(&health, now), health.failures), (Duration::from_secs(160), 0));
        health.succeeded(Some(Duration::MAX), now);
        assert_eq!(pause(&health, now), LONGEST_FOR_WAITING);
        health.succeeded(None, now);
        assert!(!health.is_paused(now));
    }
}
