//! What is not as it should be.

use std::sync::Arc;
use std::time::{Duration, Instant};

use alloy::primitives::B256;

use crate::beacon::Unanswered;
use crate::client::{Alarm, ClientError, Clock, Seen, Stale};
use crate::spec::{Header, Network, Refused, State};
use crate::sync;
use crate::words::words;

/// What happened that the state itself does not show.
#[derive(Debug)]
pub(super) struct Condition {
    /// When the program began. Not by the clock, which may be set right after that.
    since: Instant,
    /// Some endpoint gave an answer that holds since then: before that, a store of last week is no alarm.
    answered: bool,
    /// Why the chain is followed no more.
    ended: Option<String>,
    /// Why the last synchronisation ended early.
    last_error: Option<String>,
    /// What that means beyond this one failure.
    last_alarm: Option<Alarm>,
    /// A checkpoint of the operator's that no endpoint has.
    pub(super) not_taken: Option<B256>,
    /// A checkpoint of the operator's that is older than what is stored.
    pub(super) older: Option<B256>,
    /// Two finalized blocks of one slot.
    contradiction: Option<String>,
}

impl Default for Condition {
    fn default() -> Self {
        Self {
            since: Instant::now(),
            answered: false,
            ended: None,
            last_error: None,
            last_alarm: None,
            not_taken: None,
            older: None,
            contradiction: None,
        }
    }
}

impl Condition {
    /// At the start, where the operator's checkpoint is known to be `older` than what is stored.
    pub(super) fn with(older: Option<B256>) -> Self {
        Self { older, ..Self::default() }
    }

    /// A synchronisation is over.
    pub(super) fn ended(&mut self, outcome: &Result<Arc<State>, ClientError>) {
        self.answered |= outcome.is_ok();
        let error = outcome.as_ref().err();
        self.last_error = error.map(|error| words(&error.to_string()));
        self.last_alarm = error.and_then(alarm);
    }

    /// No further synchronisation will be tried.
    pub(super) fn gave_up(&mut self, why: &ClientError) {
        self.ended = Some(words(&why.to_string()));
    }

    /// What endpoints said that is of no use otherwise.
    pub(super) fn heard(&mut self, why: &Unanswered) {
        self.answered |= sync::somebody_has_nothing_new(why);
        if let Some(contradiction) = sync::contradiction(why) {
            tracing::error!(%contradiction, "two finalized blocks of one slot");
            self.contradiction = Some(contradiction.to_string());
        }
    }

    pub(super) fn last_error(&self) -> Option<String> {
        self.last_error.clone()
    }

    /// All alarms at `now` (unix milliseconds).
    pub(super) fn alarms(
        &self,
        network: &Network,
        state: Option<&State>,
        now: u64,
        patience: Duration,
    ) -> Vec<Alarm> {
        let finality = match self.answered {
            true => state.and_then(|state| withheld(network, state, now, patience)),
            false => unanswered(self.since.elapsed(), patience),
        };
        let ended = self.ended.clone().map(|why| Alarm::Ended { why });
        let stale = state.and_then(|state| stale(state, now)).map(|stale| Alarm::Stale {
            age_secs: stale.age.as_secs(),
            allowed_secs: stale.allowed.as_secs(),
        });
        let not_taken = self.not_taken.map(|checkpoint| Alarm::CheckpointNotTaken { checkpoint });
        let older = self.older.map(|checkpoint| Alarm::CheckpointOlder { checkpoint });
        let contradiction = self.contradiction.clone().map(|what| Alarm::Contradiction { what });
        let all = [ended, self.last_alarm.clone(), finality, stale, not_taken, older, contradiction];
        all.into_iter().flatten().collect()
    }
}

/// What an error means for the operator. An old checkpoint is seen in the state, where there is one.
fn alarm(error: &ClientError) -> Option<Alarm> {
    match error {
        ClientError::ClockBehind { signed, now } => Some(Alarm::ClockBehind { signed: *signed, now: *now }),
        ClientError::BeforeGenesis { .. } => Some(Alarm::BeforeGenesis),
        ClientError::StaleCheckpoint(stale) => {
            Some(Alarm::Stale { age_secs: stale.age.as_secs(), allowed_secs: stale.allowed.as_secs() })
        }
        ClientError::UnknownFork(Refused::UnknownFork(fork)) => {
            Some(Alarm::UnknownFork { fork: fork.clone() })
        }
        // Nobody proves it, so it is no reason to stop.
        ClientError::Beacon(why) => sync::unknown_fork(why).map(|fork| Alarm::UnknownFork { fork }),
        _ => None,
    }
}

fn withheld(network: &Network, state: &State, now: u64, patience: Duration) -> Option<Alarm> {
    let slot = state.finalized().beacon.slot;
    let age = age(network, slot, now);
    (age > patience).then_some(Alarm::FinalityWithheld { slot, age_secs: age.as_secs() })
}

fn unanswered(since: Duration, patience: Duration) -> Option<Alarm> {
    (since > patience).then_some(Alarm::Unanswered { for_secs: since.as_secs() })
}

/// Whether the finalized header of `state` is too old to be believed by the clock.
pub(super) fn too_old(state: &State, clock: &Clock) -> Result<(), Stale> {
    stale(state, clock.now_ms()).map_or(Ok(()), Err)
}

fn stale(state: &State, now: u64) -> Option<Stale> {
    let (network, slot) = (state.network(), state.finalized().beacon.slot);
    let (age, allowed) = (age(network, slot, now), network.weak_subjectivity());
    (age > allowed).then_some(Stale { slot, age, allowed })
}

/// A header as the status shows it.
pub(super) fn seen(header: &Header, network: &Network, now: u64) -> Seen {
    let (beacon, execution) = (&header.beacon, &header.execution);
    Seen {
        slot: beacon.slot,
        root: beacon.root(),
        number: execution.number,
        hash: execution.block_hash,
        age_secs: age(network, beacon.slot, now).as_secs(),
    }
}

/// Since the slot began; none for one that has not.
fn age(network: &Network, slot: u64, now: u64) -> Duration {
    Duration::from_millis(now.saturating_sub(network.starts_at(slot)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_is_shown_in_one_short_line() {
        let mut condition = Condition::default();
        let said = format!("\u{1b}[31mone\r\ntwo{}", "x".repeat(1000));
        let why = ClientError::NoHead { slot: 1, now: 99, why: said };
        condition.ended(&Err(why));
        let shown = condition.last_error().unwrap();
        assert!(
            shown.contains("[31monetwoxxx") && shown.chars().count() == crate::words::MAX_WORDS,
            "{shown}"
        );
    }

    #[test]
    fn endpoints_that_never_answered_are_an_alarm_once_they_had_the_time() {
        let hour = Duration::from_secs(3600);
        assert_eq!(unanswered(hour, hour), None);
        let alarm = Alarm::Unanswered { for_secs: 3601 };
        assert_eq!(unanswered(hour + Duration::from_secs(1), hour), Some(alarm));
    }
}
