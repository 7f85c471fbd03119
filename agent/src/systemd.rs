//! What systemd is told: starting, ready, alive, stopping (`sd_notify(3)`). Where it does not ask, nothing is sent.

use std::time::Duration;

use posthouse_actors::Gateway;
use sd_notify::NotifyState;
use tracing::{error, warn};

fn tell(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        warn!(%error, "systemd is not told");
    }
}

/// How much more time to start is asked for, and how often: a word that comes late does no harm.
const MORE: (Duration, Duration) = (Duration::from_secs(60), Duration::from_secs(15));

/// Asks for more time for as long as the start takes: whole images are hashed in it, on another thread. One that blocks this
/// thread is ended.
pub(crate) async fn starting<T>(start: impl Future<Output = T>) -> T {
    let (time, every) = MORE;
    let more = u32::try_from(time.as_micros()).unwrap_or(u32::MAX);
    let mut start = std::pin::pin!(start);
    let mut beat = tokio::time::interval(every);
    loop {
        tokio::select! {
            started = &mut start => return started,
            _ = beat.tick() => tell(&[NotifyState::ExtendTimeoutUsec(more)]),
        }
    }
}

/// All that listens does.
pub(crate) fn ready(status: &str) {
    tell(&[NotifyState::Ready, NotifyState::Status(status)]);
}

/// The end has begun.
pub(crate) fn stopping() {
    tell(&[NotifyState::Stopping]);
}

/// Feeds the watchdog as long as all actors answer, twice in the time that systemd gives (`sd_watchdog_enabled(3)`). Never ends.
pub(crate) async fn watch(gateway: &Gateway) {
    let Some(period) = sd_notify::watchdog_enabled() else { return std::future::pending().await };
    let half = period / 2;
    let mut beat = tokio::time::interval(half.max(Duration::from_millis(1)));
    beat.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        beat.tick().await;
        let silent = gateway.silent(half).await;
        if silent.is_empty() {
            tell(&[NotifyState::Watchdog]);
        } else {
            error!(actors = silent.join(", "), "do not answer; the watchdog is not fed");
        }
    }
}
