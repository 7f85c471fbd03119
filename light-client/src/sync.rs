//! From what is proven to what is proven next: one endpoint's answer at a time, checked against a copy of the state.
//!
//! Nothing here knows of the disk or of a schedule. A step that an endpoint answers with a lie leaves the state as it was and
//! asks the next endpoint.

mod pace;

use std::sync::{Arc, Mutex, MutexGuard};

use alloy::primitives::B256;

pub(crate) use self::pace::Pace;
use crate::beacon::{Beacon, BeaconError, PAGE, Unanswered};
use crate::client::Clock;
use crate::spec::{Bootstrap, Network, Refused, State, Update};

/// Epochs from a header's own to the one in which its successor is due: a checkpoint is final two epochs after its own at
/// the earliest, so in the third the next one is.
const DUE_AFTER: u64 = 3;
/// Slots after which a head that does not move makes us ask another endpoint. Blocks are missing now and then, four in a
/// row hardly ever are.
const STILL: u64 = 4;

/// Whether a later finalized header than the one in `finalized` is to be expected in `slot`.
pub(crate) fn is_due(network: &Network, finalized: u64, slot: u64) -> bool {
    network.epoch_of(slot) >= network.epoch_of(finalized).saturating_add(DUE_AFTER)
}

/// The state that follows from the block `root` alone.
pub(crate) async fn bootstrap(
    beacon: &Beacon,
    network: &Arc<Network>,
    root: B256,
) -> Result<State, Unanswered> {
    let network = network.clone();
    let check = move |bootstrap: Bootstrap| Ok(State::bootstrap(network.clone(), root, &bootstrap)?);
    beacon.bootstrap(root, check).await
}

/// Whether `slot` is further ahead than the committees known reach: then finality and optimistic updates cannot be checked.
pub(crate) fn is_behind(state: &State, slot: u64) -> bool {
    let now = state.network().period_of(slot);
    now > state.period().saturating_add(u64::from(state.has_next_committee()))
}

/// How far finality and the committees known reach: what is worth storing, in its order.
pub(crate) fn reaches(state: &State) -> (u64, bool) {
    (state.finalized().beacon.slot, state.has_next_committee())
}

/// What asking the endpoints for something brought.
pub(crate) struct Step {
    /// The best that is proven; `None` where that is what was known already.
    pub(crate) next: Option<State>,
    /// Why each endpoint that was asked falls short, where all do.
    pub(crate) unanswered: Option<Unanswered>,
}

/// One page of updates that bring a committee, up to the first that is not proven.
///
/// # Errors
/// No endpoint has such a page.
pub(crate) async fn page(beacon: &Beacon, state: &Arc<State>, clock: &Clock) -> Result<State, Unanswered> {
    let now = state.network().period_of(slot(state, clock));
    let start = state.wants_update_of(slot(state, clock)).unwrap_or(now);
    let count = now.saturating_sub(start).saturating_add(1).min(PAGE);
    let (state, clock) = (state.clone(), clock.clone());
    let check = move |updates: Vec<Update>| {
        let (mut next, now) = (State::clone(&state), slot(&state, &clock));
        let failed = updates.iter().find_map(|update| apply(&mut next, update, now).err());
        // A later head or finalized header alone does not count: there are thousands of those in a period, and with one at
        // a time an endpoint could keep us busy for ever.
        let committees = |state: &State| (state.period(), state.has_next_committee());
        if committees(&next) > committees(&state) {
            return Ok((next, failed));
        }
        Err(failed.unwrap_or_else(|| nothing_new(state.finalized().beacon.slot, now)))
    };
    beacon.updates(start, count, check).await
}

/// The newest finalized header, from the first endpoint after whose answer no later one is due.
pub(crate) async fn finality(beacon: &Beacon, state: &Arc<State>, clock: &Clock) -> Step {
    let best = Best::from(state);
    let (kept, clock) = (best.clone(), clock.clone());
    let check = move |update: Update| {
        kept.with(&update, &clock, |next, now| {
            let known = next.finalized().beacon.slot;
            if is_due(next.network(), known, now) { Err(nothing_new(known, now)) } else { Ok(()) }
        })
    };
    let outcome = beacon.finality(check).await;
    best.step(outcome)
}

/// The newest header that a committee signed, from the first endpoint that has one of the last few slots.
pub(crate) async fn optimistic(beacon: &Beacon, state: &Arc<State>, clock: &Clock) -> Step {
    let best = Best::from(state);
    let (kept, clock) = (best.clone(), clock.clone());
    let check = move |update: Update| {
        kept.with(&update, &clock, |next, now| {
            let known = next.optimistic().beacon.slot;
            let lags = update.attested.beacon.slot < known || known.saturating_add(STILL) < now;
            if lags { Err(nothing_new(known, now)) } else { Ok(()) }
        })
    };
    let outcome = beacon.optimistic(check).await;
    best.step(outcome)
}

/// The best that is proven, while one endpoint after the other is asked.
#[derive(Clone)]
struct Best {
    known: Arc<State>,
    /// What is better than `known`.
    next: Arc<Mutex<Option<State>>>,
}

impl Best {
    fn from(state: &Arc<State>) -> Self {
        Self { known: state.clone(), next: Arc::default() }
    }

    /// Keeps what `update` proves, then asks `is_enough` of the outcome and the slot by the clock.
    fn with(
        &self,
        update: &Update,
        clock: &Clock,
        is_enough: impl FnOnce(&State, u64) -> Result<(), BeaconError>,
    ) -> Result<(), BeaconError> {
        let mut next = self.next().clone().unwrap_or_else(|| State::clone(&self.known));
        let now = slot(&next, clock);
        let moved = apply(&mut next, update, now)?;
        let enough = is_enough(&next, now);
        if moved {
            *self.next() = Some(next);
        }
        enough
    }

    fn step(&self, outcome: Result<(), Unanswered>) -> Step {
        Step { next: self.next().take(), unanswered: outcome.err() }
    }

    fn next(&self) -> MutexGuard<'_, Option<State>> {
        self.next.lock().expect("no code panics while it holds this lock")
    }
}

/// The slot by the clock. Asked for when an answer is there: answers take their time, and are of the slot they come in.
fn slot(state: &State, clock: &Clock) -> u64 {
    state.network().slot_at(clock.now_ms()).unwrap_or_default()
}

/// Applies `update`, and says whether it said something new. What was finalized before is no lie. An error leaves `state` as
/// it was.
fn apply(state: &mut State, update: &Update, slot: u64) -> Result<bool, BeaconError> {
    let mut next = state.clone();
    match next.apply(update, slot) {
        Ok(applied) => {
            contradicts(&next, update)?;
            *state = next;
            Ok(applied.anything())
        }
        Err(Refused::Stale { .. }) => Ok(false),
        Err(refused) => Err(refused.into()),
    }
}

/// Two thirds signed two blocks of one slot as finalized: a third of the stake can be slashed for it, and nobody can say
/// which of the two chains is ours.
fn contradicts(state: &State, update: &Update) -> Result<(), BeaconError> {
    let Some(finality) = &update.finalized else { return Ok(()) };
    let (ours, theirs) = (&state.finalized().beacon, &finality.header.beacon);
    // Genesis is finalized under a root of zeros and comes as an empty header.
    if ours.slot != theirs.slot || ours == theirs || theirs.slot == 0 {
        return Ok(());
    }
    Err(BeaconError::Contradicts { slot: ours.slot, ours: ours.root(), theirs: theirs.root() })
}

fn nothing_new(known: u64, now: u64) -> BeaconError {
    BeaconError::NothingNew { known, now }
}

/// Whether everybody answered, and with the truth, which is that there is nothing new.
pub(crate) fn nothing_new_anywhere(unanswered: &Unanswered) -> bool {
    unanswered.0.iter().all(|failed| matches!(failed.error, BeaconError::NothingNew { .. }))
}

/// Whether somebody showed something that is proven, be it nothing new.
pub(crate) fn somebody_has_nothing_new(unanswered: &Unanswered) -> bool {
    unanswered.0.iter().any(|failed| matches!(failed.error, BeaconError::NothingNew { .. }))
}

/// The earliest slot of which all endpoints that answered say they have signatures, where that is later than now: the clock
/// may be wrong.
pub(crate) fn signed_in_future(unanswered: &Unanswered) -> Option<u64> {
    let answered = unanswered.0.iter().filter(|failed| {
        !matches!(failed.error, BeaconError::Http(_) | BeaconError::ContentType(_) | BeaconError::Aborted)
    });
    let slots: Option<Vec<_>> = answered
        .map(|failed| match failed.error {
            BeaconError::Refused(Refused::Future { signature_slot, .. }) => Some(signature_slot),
            _ => None,
        })
        .collect();
    slots?.into_iter().min()
}

/// The fork that this program does not know and every endpoint names.
pub(crate) fn unknown_fork(unanswered: &Unanswered) -> Option<String> {
    let forks: Option<Vec<_>> = unanswered
        .0
        .iter()
        .map(|failed| match &failed.error {
            BeaconError::Refused(Refused::UnknownFork(fork)) => Some(fork.clone()),
            _ => None,
        })
        .collect();
    forks?.into_iter().next()
}

/// The first contradiction among the reasons.
pub(crate) fn contradiction(unanswered: &Unanswered) -> Option<BeaconError> {
    let mut errors = unanswered.0.iter().map(|failed| &failed.error);
    errors.find(|error| matches!(error, BeaconError::Contradicts { .. })).cloned()
}
