//! A program as a service: what systemd is told (`sd_notify(3)`), and its watchdog, which is fed only while all in the program goes on.
//! Where systemd does not ask, nothing is sent.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use posthouse_light_client::http::counting;
use sd_notify::NotifyState;
use tokio::time::MissedTickBehavior;

/// How much more time to start is asked for, and how often: a word that comes late does no harm.
const MORE: Duration = Duration::from_secs(60);
pub(crate) const MORE_EVERY: Duration = Duration::from_secs(15);

fn tell(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        tracing::warn!(%error, "systemd is not told");
    }
}

/// The start is still under way, and goes on.
pub(crate) fn starting() {
    tell(&[NotifyState::ExtendTimeoutUsec(u32::try_from(MORE.as_micros()).unwrap_or(u32::MAX))]);
}

/// All that it is there for is served.
pub(crate) fn ready(status: &str) {
    tell(&[NotifyState::Ready, NotifyState::Status(status)]);
}

/// The end has begun.
pub(crate) fn stopping() {
    tell(&[NotifyState::Stopping]);
}

/// Moved by a task in each of its rounds. Cheap to clone; clones are one.
#[derive(Debug, Clone, Default)]
pub(crate) struct Beat(Arc<AtomicU64>);

impl Beat {
    pub(crate) fn moved(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    /// Runs a task whose requests to endpoints move it too, each when it ends: a round may take any number of them, as after weeks in
    /// which the program was off.
    pub(crate) async fn of<T>(self, task: impl Future<Output = T>) -> T {
        counting(self.0, task).await
    }
}

/// A beat, and when it was last seen to move.
struct Seen {
    name: &'static str,
    beat: Beat,
    /// For longer it does not stand still.
    longest: Duration,
    count: u64,
    since: Instant,
}

/// Feeds systemd's watchdog, if there is one.
#[derive(Default)]
pub(crate) struct Watchdog(Vec<Seen>);

impl Watchdog {
    /// A beat for a task of this name, which it moves at least so often.
    pub(crate) fn beat(&mut self, name: &'static str, longest: Duration) -> Beat {
        let beat = Beat::default();
        self.0.push(Seen { name, beat: beat.clone(), longest, count: 0, since: Instant::now() });
        beat
    }

    /// Whose beats have stood still for too long.
    fn still(&mut self, now: Instant) -> Vec<&'static str> {
        let still = self.0.iter_mut().filter_map(|seen| {
            let count = seen.beat.0.load(Ordering::Relaxed);
            if count != seen.count {
                (seen.count, seen.since) = (count, now);
            }
            (now.duration_since(seen.since) > seen.longest).then_some(seen.name)
        });
        still.collect()
    }

    /// Feeds it four times in the time that systemd gives (`sd_watchdog_enabled(3)`), while all beats move and `silent`, which is told within
    /// what time, finds nobody who does not answer. Never ends.
    pub(crate) async fn feed(mut self, silent: impl AsyncFn(Duration) -> Vec<&'static str>) {
        let Some(period) = sd_notify::watchdog_enabled() else { return std::future::pending().await };
        // Who is late once has two more rounds, and what hangs is in the log before the end.
        let quarter = period / 4;
        let mut round = tokio::time::interval(quarter.max(Duration::from_millis(1)));
        round.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            round.tick().await;
            let mut hung = silent(quarter).await;
            hung.extend(self.still(Instant::now()));
            if hung.is_empty() {
                tell(&[NotifyState::Watchdog]);
            } else {
                tracing::error!(hung = hung.join(", "), "do not go on; the watchdog is not fed");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_task_may_stand_still_so_long_and_no_longer() {
        let (mut watchdog, second) = (Watchdog::default(), Duration::from_secs(1));
        let [watch, look] = ["watch", "look"].map(|name| watchdog.beat(name, 5 * second));
        let begun = Instant::now();
        assert!(watchdog.still(begun).is_empty());
        assert!(watchdog.still(begun + 4 * second).is_empty());
        watch.moved();
        assert!(watchdog.still(begun + 4 * second).is_empty());
        assert_eq!(watchdog.still(begun + 7 * second), ["look"]);
        assert_eq!(watchdog.still(begun + 11 * second), ["watch", "look"]);
        look.moved();
        assert_eq!(watchdog.still(begun + 12 * second), ["watch"]);
    }
}
