//! What sensors have met, in numbers: one for all sensors of a process.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use serde_json::{Value, json};

use super::config::Carrier;

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
    /// From each wake to the first that the gateway had to say in it, µs; over MQTT and over CoAP.
    first: [Mutex<Vec<u32>>; 2],
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
    /// A wake over this carrier brought something, so long after it began.
    pub(super) fn brought(&self, over: Carrier, after: Duration) {
        let after = u32::try_from(after.as_micros()).unwrap_or(u32::MAX);
        self.first[over as usize].lock().unwrap_or_else(PoisonError::into_inner).push(after);
    }

    /// All of it. Times are in ms, of the wakes that brought something.
    pub(super) fn to_json(&self) -> Value {
        let each = self.first.each_ref().map(|first| {
            let mut first = first.lock().unwrap_or_else(PoisonError::into_inner).clone();
            first.sort_unstable();
            first
        });
        let mut first = each.concat();
        first.sort_unstable();
        let [mqtt, coap] = each.map(|first| {
            json!({ "brought": first.len(), "first_p50_ms": quantile(&first, 50), "first_p99_ms": quantile(&first, 99) })
        });
        json!({
            "mqtt": mqtt,
            "coap": coap,
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
        let carrier = |ms| if ms > 100 { Carrier::Coap } else { Carrier::Mqtt };
        (1..=200).rev().for_each(|ms| tally.brought(carrier(ms), Duration::from_millis(ms)));
        let told = tally.to_json();
        assert_eq!((&told["first_p50_ms"], &told["first_p99_ms"]), (&json!(100.0), &json!(198.0)));
        let p99 = |carrier: &str| told[carrier]["first_p99_ms"].as_f64().unwrap();
        assert_eq!((p99("mqtt"), p99("coap")), (99.0, 199.0));
        assert_eq!((&told["first_max_ms"], &told["brought"]), (&json!(200.0), &json!(200)));
    }
}
