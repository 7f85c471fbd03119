//! What sensors have met, in numbers: one for all sensors of a process.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use serde_json::{Value, json};

/// Counts of all sensors that share it. Each wake that brought something costs it four bytes.
#[derive(Debug, Default)]
pub(super) struct Tally {
    pub(super) wakes: Count,
    /// Wakes that the link cut short.
    pub(super) unreachable: Count,
    /// Blocks that came, and their bytes; those that came twice, twice.
    pub(super) blocks: Count,
    pub(super) block_bytes: Count,
    /// Bytes of payload that answered no question, or one that had its answer: CoAP only.
    pub(super) stale_bytes: Count,
    /// Blocks that were asked for again.
    pub(super) blocks_again: Count,
    /// Requests that were sent again: CoAP only.
    pub(super) retransmitted: Count,
    /// From each wake to the first that the gateway had to say in it, µs.
    first: Mutex<Vec<u32>>,
}

/// A number that only grows.
#[derive(Debug, Default)]
pub(super) struct Count(AtomicU64);

impl Count {
    pub(super) fn add(&self, more: u64) {
        self.0.fetch_add(more, Ordering::Relaxed);
    }

    fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

impl Tally {
    /// A wake brought something, so long after it began.
    pub(super) fn brought(&self, after: Duration) {
        let after = u32::try_from(after.as_micros()).unwrap_or(u32::MAX);
        self.first.lock().unwrap_or_else(PoisonError::into_inner).push(after);
    }

    /// All of it. Times are in ms, of the wakes that brought something.
    pub(super) fn to_json(&self) -> Value {
        let mut first = self.first.lock().unwrap_or_else(PoisonError::into_inner).clone();
        first.sort_unstable();
        json!({
            "wakes": self.wakes.get(),
            "unreachable": self.unreachable.get(),
            "brought": first.len(),
            "first_p50_ms": quantile(&first, 50),
            "first_p99_ms": quantile(&first, 99),
            "first_max_ms": quantile(&first, 100),
            "blocks": self.blocks.get(),
            "block_bytes": self.block_bytes.get(),
            "stale_bytes": self.stale_bytes.get(),
            "blocks_again": self.blocks_again.get(),
            "retransmitted": self.retransmitted.get(),
        })
    }
}

/// The smallest of these that so many in a hundred do not exceed, ms; `sorted` are µs.
fn quantile(sorted: &[u32], percent: usize) -> Option<f64> {
    let place = (sorted.len() * percent).div_ceil(100);
    sorted.get(place.saturating_sub(1)).map(|micros| f64::from(*micros) / 1000.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_of_what_was_measured() {
        let tally = Tally::default();
        assert_eq!(tally.to_json()["first_p99_ms"], Value::Null);
        (1..=200).rev().for_each(|ms| tally.brought(Duration::from_millis(ms)));
        let told = tally.to_json();
        assert_eq!((&told["first_p50_ms"], &told["first_p99_ms"]), (&json!(100.0), &json!(198.0)));
        assert_eq!((&told["first_max_ms"], &told["brought"]), (&json!(200.0), &json!(200)));
    }
}
