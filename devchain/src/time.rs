//! When the next block is.

use std::time::{SystemTime, UNIX_EPOCH};

use crate::config::Clock;

/// A timestamp that no block may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TimeError {
    /// Timestamps rise strictly.
    #[error("timestamp {asked} is not after that of the latest block, {latest}")]
    NotAfter {
        /// Unix seconds that were asked for.
        asked: u64,
        /// Unix seconds of the latest block.
        latest: u64,
    },
    /// The time asked for does not fit 63 bits.
    #[error("time is out of range")]
    OutOfRange,
}

/// Timestamps beyond this would overflow somebody's arithmetic on them.
const LATEST: u64 = i64::MAX as u64;

/// The chain's clock. Moving it forward never moves it back.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Timekeeper {
    source: Clock,
    /// Added to the computer's time; may be negative after `set_next`.
    offset: i64,
    /// Where a manual clock stands.
    manual: u64,
    /// Timestamp of the next block, once.
    exact: Option<u64>,
}

impl Timekeeper {
    pub(crate) fn new(source: Clock, genesis: u64) -> Self {
        Self { source, offset: 0, manual: genesis, exact: None }
    }

    fn now(&self) -> u64 {
        match self.source {
            Clock::System => unix_now().saturating_add_signed(self.offset),
            Clock::Manual => self.manual,
        }
    }

    /// Timestamp of a block mined now on one of `parent`.
    pub(crate) fn peek(&self, parent: u64) -> u64 {
        let earliest = parent.saturating_add(1);
        self.exact.unwrap_or_else(|| self.now()).max(earliest)
    }

    /// As `peek`, for a block that is really mined: an exact time is used up, and time goes on from
    /// there.
    pub(crate) fn advance(&mut self, parent: u64) -> u64 {
        let timestamp = self.peek(parent);
        if self.exact.take().is_some() {
            self.jump_to(timestamp);
        }
        timestamp
    }

    pub(crate) fn set_next(&mut self, asked: u64, latest: u64) -> Result<(), TimeError> {
        if asked > LATEST {
            return Err(TimeError::OutOfRange);
        }
        if asked <= latest {
            return Err(TimeError::NotAfter { asked, latest });
        }
        self.exact = Some(asked);
        Ok(())
    }

    /// Moves the clock on by `seconds`; returns by how much it is now ahead of its source.
    pub(crate) fn increase(&mut self, seconds: u64, latest: u64) -> Result<i64, TimeError> {
        let from = self.now().max(if self.source == Clock::Manual { latest } else { 0 });
        let to = from.checked_add(seconds).filter(|to| *to <= LATEST).ok_or(TimeError::OutOfRange)?;
        self.jump_to(to);
        Ok(self.offset)
    }

    fn jump_to(&mut self, timestamp: u64) {
        match self.source {
            Clock::System => {
                let ahead = i128::from(timestamp) - i128::from(unix_now());
                self.offset = i64::try_from(ahead).unwrap_or_default();
            }
            Clock::Manual => {
                let ahead = timestamp.saturating_sub(self.manual);
                self.offset = self.offset.saturating_add_unsigned(ahead);
                self.manual = timestamp;
            }
        }
    }
}

pub(crate) fn unix_now() -> u64 {
    // A clock before 1970 is the same as one that was never set.
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn manual_time_moves_with_blocks_and_on_demand_only() {
        let mut clock = Timekeeper::new(Clock::Manual, 100);
        assert_eq!(clock.advance(100), 101);
        assert_eq!(clock.advance(101), 102);
        assert_eq!(clock.increase(60, 102), Ok(62));
        assert_eq!(clock.advance(102), 162);
        assert_eq!(clock.advance(162), 163);
    }

    #[test]
    fn an_exact_time_is_used_once_and_time_goes_on_from_it() {
        let mut clock = Timekeeper::new(Clock::Manual, 100);
        assert_eq!(clock.set_next(100, 100), Err(TimeError::NotAfter { asked: 100, latest: 100 }));
        assert_eq!(clock.set_next(u64::MAX, 100), Err(TimeError::OutOfRange));
        assert_eq!(clock.set_next(500, 100), Ok(()));
        assert_eq!(clock.peek(100), 500);
        assert_eq!(clock.advance(100), 500);
        assert_eq!(clock.advance(500), 501);
    }

    #[test]
    fn system_time_keeps_what_was_added() {
        let mut clock = Timekeeper::new(Clock::System, 0);
        assert!(clock.increase(1_000_000, 0).is_ok());
        assert!(clock.advance(0) >= unix_now() + 999_999);
        assert_eq!(clock.increase(u64::MAX, 0), Err(TimeError::OutOfRange));
    }
}
