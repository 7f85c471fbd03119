//! When to ask again.

use std::hash::{BuildHasher as _, RandomState};
use std::time::Duration;

use super::is_due;
use crate::spec::Network;

/// Slots into an epoch at which the header that it finalized can be had: the first block has it in its state, the second
/// carries the signatures.
const SETTLED: u64 = 2;
/// Gateways ask within so many slots after that, each at its own time.
const SPREAD: u64 = 4;
/// Slots to the second asking where the first brought nothing; each further pause is twice as long.
const FIRST_RETRY: u64 = 2;
/// Slots of development chains are short.
const SHORTEST: Duration = Duration::from_millis(200);

/// Once an epoch, when the next header is due; more often, with pauses that grow up to an epoch, while it is overdue or
/// nobody answers. An epoch that brings nothing costs at most five askings.
#[derive(Debug)]
pub(crate) struct Pace {
    /// Slots by which this client is later than the first.
    jitter: u64,
    /// Askings since the last one that left nothing to be desired.
    in_vain: u32,
}

impl Pace {
    pub(crate) fn new() -> Self {
        Self { jitter: RandomState::new().hash_one(0) % SPREAD, in_vain: 0 }
    }

    /// How long to wait after an asking at `now_ms` (unix) that left `finalized` as the newest slot; `None` where nothing is
    /// known or nobody answered.
    pub(crate) fn wait(&mut self, network: &Network, finalized: Option<u64>, now_ms: u64) -> Duration {
        let slot = network.slot_at(now_ms).unwrap_or_default();
        let epoch = network.epoch_of(slot);
        let per_epoch = network.preset.slots_per_epoch();
        let until = |epoch: u64| {
            let slot = epoch.saturating_mul(per_epoch).saturating_add(SETTLED + self.jitter);
            Duration::from_millis(network.starts_at(slot).saturating_sub(now_ms))
        };
        let satisfied = finalized.is_some_and(|finalized| !is_due(network, finalized, slot));
        let wait = if satisfied {
            self.in_vain = 0;
            until(epoch + 1)
        } else {
            let next = Some(until(epoch)).filter(|wait| !wait.is_zero()).unwrap_or_else(|| until(epoch + 1));
            let slots = FIRST_RETRY.saturating_mul(1u64 << self.in_vain.min(16)).min(per_epoch);
            self.in_vain = self.in_vain.saturating_add(1);
            next.min(Duration::from_millis(slots.saturating_mul(network.slot_ms)))
        };
        // Before genesis, or with a clock that is wrong, two epochs are the longest that is waited blindly.
        let longest = Duration::from_millis((2 * per_epoch).saturating_mul(network.slot_ms));
        wait.clamp(SHORTEST, longest.max(SHORTEST))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const EPOCH: u64 = 32 * 12_000;

    fn at(epoch: u64, slot: u64) -> u64 {
        Network::mainnet().starts_at(epoch * 32 + slot)
    }

    #[test]
    fn what_is_not_due_is_asked_for_in_the_next_epoch_once_it_can_be_had() {
        let network = Network::mainnet();
        for jitter in 0..SPREAD {
            let mut pace = Pace { jitter, in_vain: 7 };
            let wait = pace.wait(&network, Some(100 * 32), at(102, 3)).as_millis() as u64;
            assert_eq!(at(102, 3) + wait, at(103, SETTLED + jitter));
        }
    }

    #[test]
    fn what_is_overdue_is_asked_for_less_and_less_often() {
        let network = Network::mainnet();
        let mut pace = Pace { jitter: 0, in_vain: 0 };
        let (mut now, mut askings) = (at(103, 2), Vec::new());
        while now < at(105, 2) {
            now += pace.wait(&network, Some(100 * 32), now).as_millis() as u64;
            askings.push((now - at(103, 0)) / 12_000);
        }
        assert_eq!(askings, [4, 8, 16, 32, 34, 66]);
    }

    #[test]
    fn nobody_who_answers_is_no_reason_to_hurry() {
        let network = Network::mainnet();
        let mut pace = Pace { jitter: 0, in_vain: 0 };
        let mut now = at(100, 2);
        for _ in 0..100 {
            now += pace.wait(&network, None, now).as_millis() as u64;
        }
        assert!(now - at(100, 2) > 90 * EPOCH / 2, "{} epochs", (now - at(100, 2)) / EPOCH);
    }

    #[test]
    fn before_genesis_and_at_the_end_of_time_the_wait_is_bounded() {
        let network = Network::mainnet();
        for now in [0, 1, u64::MAX, u64::MAX / 2, network.starts_at(0)] {
            let mut pace = Pace::new();
            for finalized in [None, Some(0), Some(u64::MAX)] {
                let wait = pace.wait(&network, finalized, now);
                assert!(wait >= SHORTEST && wait <= Duration::from_millis(2 * EPOCH), "{now} {wait:?}");
            }
        }
    }
}
