//! How many bytes of images a carrier may carry in a second, and how many it has carried.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use posthouse_protocol::sensor::MAX_BLOCK;

use crate::messages::Carrier;

/// What a carrier may carry, of both its endpoints together.
#[derive(Debug)]
pub struct Budget {
    /// Without one it carries what it can.
    bound: Option<Bound>,
    /// Bytes since the start; what went twice counts twice.
    carried: AtomicU64,
}

/// A token bucket that holds a second's bytes, and a block at least.
#[derive(Debug)]
struct Bound {
    /// Bytes a second.
    rate: u64,
    started: Instant,
    bucket: Mutex<Bucket>,
}

/// What is left of it.
#[derive(Debug)]
struct Bucket {
    /// Thousandths of a byte.
    left: u64,
    /// Since when, ms.
    at: u64,
}

impl Budget {
    /// After so long there is room for a block again, s.
    pub const WAIT: u32 = 1;
    /// The least rate, bytes a second: a block has to have room after [`Self::WAIT`].
    pub const MIN_RATE: u64 = MAX_BLOCK as u64;

    /// So many bytes a second, [`Self::MIN_RATE`] at least; or all that come.
    pub(super) fn new(rate: Option<u64>) -> Self {
        let bound = rate.map(|rate| Bound::new(rate.max(Self::MIN_RATE)));
        Self { bound, carried: AtomicU64::new(0) }
    }

    /// Whether so many bytes may be carried now; then they are taken for carried. A stranger, whom nothing shows to be one of
    /// the site's sensors, leaves half a second's bytes to those: he may take all that comes, and not what they wait for.
    pub(super) fn take(&self, bytes: u64, stranger: bool) -> bool {
        let may = self.bound.as_ref().is_none_or(|bound| bound.take(bytes, stranger));
        if may {
            self.carried.fetch_add(bytes, Ordering::Relaxed);
        }
        may
    }
}

impl Bound {
    fn new(rate: u64) -> Self {
        let bucket = Mutex::new(Bucket { left: rate.saturating_mul(1000), at: 0 });
        Self { rate, started: Instant::now(), bucket }
    }

    fn take(&self, bytes: u64, stranger: bool) -> bool {
        let now = u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX);
        let floor = if stranger { floor(self.rate) } else { 0 };
        self.bucket.lock().unwrap_or_else(PoisonError::into_inner).take(self.rate, bytes, floor, now)
    }
}

/// What a stranger leaves: half, where a block has room beside it.
fn floor(rate: u64) -> u64 {
    (rate / 2).min(rate.saturating_sub(Budget::MIN_RATE))
}

impl Bucket {
    /// Takes bytes if `floor` of them are left then.
    fn take(&mut self, rate: u64, bytes: u64, floor: u64, now: u64) -> bool {
        let came = now.saturating_sub(self.at).saturating_mul(rate);
        self.left = self.left.saturating_add(came).min(rate.saturating_mul(1000));
        self.at = now;
        let left = self.left.checked_sub(bytes.saturating_mul(1000));
        let left = left.filter(|left| *left >= floor.saturating_mul(1000));
        self.left = left.unwrap_or(self.left);
        left.is_some()
    }
}

/// The budget of each carrier.
#[derive(Debug)]
pub(super) struct Budgets {
    mqtt: Arc<Budget>,
    coap: Arc<Budget>,
}

impl Budgets {
    /// Bytes a second of each, where there is a bound.
    pub(super) fn new(mqtt: Option<u64>, coap: Option<u64>) -> Self {
        Self { mqtt: Arc::new(Budget::new(mqtt)), coap: Arc::new(Budget::new(coap)) }
    }

    pub(super) fn of(&self, carrier: Carrier) -> &Arc<Budget> {
        match carrier {
            Carrier::Mqtt => &self.mqtt,
            Carrier::Coap => &self.coap,
        }
    }

    /// Bytes of images that the carrier has carried since the start.
    pub(super) fn carried(&self, carrier: Carrier) -> u64 {
        self.of(carrier).carried.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_carries_the_rate_and_a_full_bucket_no_more() {
        let rate = 2048;
        let mut bucket = Bucket { left: rate * 1000, at: 0 };
        assert!(bucket.take(rate, 1024, 0, 0) && bucket.take(rate, 1024, 0, 0));
        assert!(!bucket.take(rate, 1, 0, 0));
        // Half a second brings half the rate, and what was refused was not taken.
        assert!(bucket.take(rate, 1024, 0, 500));
        assert!(!bucket.take(rate, 1, 0, 500));
        // However long it was idle, it holds one second.
        assert!(bucket.take(rate, 2048, 0, 3_600_000));
        assert!(!bucket.take(rate, 1, 0, 3_600_000));
    }

    #[test]
    fn a_stranger_takes_what_comes_and_leaves_half_to_the_sites_own() {
        let (rate, floor) = (4096, floor(4096));
        let mut bucket = Bucket { left: rate * 1000, at: 0 };
        assert!(bucket.take(rate, 1024, floor, 0) && bucket.take(rate, 1024, floor, 0));
        assert!(!bucket.take(rate, 1, floor, 0));
        assert!(bucket.take(rate, 1024, 0, 0));
        // What comes is the others' until the half is there again.
        assert!(!bucket.take(rate, 1024, floor, 250));
        assert!(bucket.take(rate, 1024, floor, 500));
        // At the least rate there is no half that leaves room for a block.
        assert_eq!(super::floor(1024), 0);
    }

    #[test]
    fn a_block_has_room_after_the_wait_at_the_least_rate() {
        let rate = Budget::new(Some(0)).bound.unwrap().rate;
        let mut bucket = Bucket { left: 0, at: 0 };
        assert!(bucket.take(rate, MAX_BLOCK as u64, 0, u64::from(Budget::WAIT) * 1000));
    }

    #[test]
    fn each_carrier_has_its_own() {
        let budgets = Budgets::new(Some(1024), None);
        let (mqtt, coap) = (budgets.of(Carrier::Mqtt), budgets.of(Carrier::Coap));
        assert!(mqtt.take(1024, true) && !budgets.of(Carrier::Mqtt).take(1024, false), "it is one for all");
        assert!(coap.take(1 << 20, true) && coap.take(1 << 20, true));
        // What was refused was not carried.
        assert_eq!((budgets.carried(Carrier::Mqtt), budgets.carried(Carrier::Coap)), (1024, 2 << 20));
    }
}
