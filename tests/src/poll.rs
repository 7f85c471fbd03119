//! Waiting for what another process does: asked again and again until it holds, bounded by a deadline.

use std::{fmt::Display, time::Duration};

use anyhow::{Result, bail};
use tokio::time::{Instant, MissedTickBehavior, interval};

/// How often the question is asked: short against every step of the protocol, long against a loopback request.
const EVERY: Duration = Duration::from_millis(50);

/// Ask until the answer is `Some`; after `limit` an error that says what was waited for.
pub async fn until<T>(
    what: impl Display,
    limit: Duration,
    mut ask: impl AsyncFnMut() -> Result<Option<T>>,
) -> Result<T> {
    let deadline = Instant::now() + limit;
    let mut ticks = interval(EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    while Instant::now() < deadline {
        ticks.tick().await;
        if let Some(answer) = ask().await? {
            return Ok(answer);
        }
    }
    bail!("waited {limit:?} in vain for {what}")
}
