//! From what is proven to what is proven next: one endpoint's answer at a time, checked against a copy of the state.
//!
//! Nothing here knows of the disk or of a schedule. A step that an endpoint answers with a lie leaves the state as it was and
//! asks the next endpoint.

mod pace;

use std::sync::Arc;

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

/// One page of updates, all proven, that bring finality or a committee.
///
/// # Errors
/// No endpoint has such a page.
pub(crate) async fn page(
    beacon: &Beacon,
    state: &Arc<State>,
    slot: u64,
    clock: &Clock,
) -> Result<State, Unanswered> {
    let now = state.network().period_of(slot);
    let start = state.wants_update_of(slot).unwrap_or(now);
    let count = now.saturating_sub(start).saturating_add(1).min(PAGE);
    let (state, clock) = (state.clone(), clock.clone());
    let check = move |updates: Vec<Update>| {
        let mut next = State::clone(&state);
        for update in &updates {
            apply(&mut next, update, slot, &clock)?;
        }
        // A later head alone does not count: there are thousands of those in a period, and with one at a time an endpoint
        // could keep us busy for ever.
        if reaches(&next) > reaches(&state) {
            Ok(next)
        } else {
            Err(nothing_new(state.finalized().beacon.slot, slot))
        }
    };
    beacon.updates(start, count, check).await
}

/// The newest finalized header. `None` where it is the one that is known, and no later one is due.
///
/// # Errors
/// No endpoint gave one that is proven, or a later one is due and none has it.
pub(crate) async fn finality(
    beacon: &Beacon,
    state: &Arc<State>,
    slot: u64,
    clock: &Clock,
) -> Result<Option<State>, Unanswered> {
    let (state, clock) = (state.clone(), clock.clone());
    let check = move |update: Update| {
        let known = state.finalized().beacon.slot;
        let mut next = State::clone(&state);
        let news = apply(&mut next, &update, slot, &clock)?;
        if next.finalized().beacon.slot > known {
            Ok(Some(next))
        } else if is_due(state.network(), known, slot) {
            Err(nothing_new(known, slot))
        } else {
            Ok(news.then_some(next))
        }
    };
    beacon.finality(check).await
}

/// The newest header that a committee signed. `None` where it is the one that is known.
///
/// # Errors
/// No endpoint gave one that is proven, or none has one that is of the last few slots.
pub(crate) async fn optimistic(
    beacon: &Beacon,
    state: &Arc<State>,
    slot: u64,
    clock: &Clock,
) -> Result<Option<State>, Unanswered> {
    let (state, clock) = (state.clone(), clock.clone());
    let check = move |update: Update| {
        let known = state.optimistic().beacon.slot;
        let mut next = State::clone(&state);
        if apply(&mut next, &update, slot, &clock)? {
            return Ok(Some(next));
        }
        let lags = update.attested.beacon.slot < known || known.saturating_add(STILL) < slot;
        if lags { Err(nothing_new(known, slot)) } else { Ok(None) }
    };
    beacon.optimistic(check).await
}

/// Applies `update`, and says whether it said something new. What was finalized before is no lie.
///
/// `slot` is the one in which it was asked for. The next may have begun since, and what is signed in that is no lie either.
fn apply(state: &mut State, update: &Update, slot: u64, clock: &Clock) -> Result<bool, BeaconError> {
    let arrived = state.network().slot_at(clock.now_ms()).unwrap_or(slot).max(slot);
    match state.apply(update, arrived) {
        Ok(applied) => {
            contradicts(state, update)?;
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

/// Whether somebody answered with the truth, be it that there is nothing new.
pub(crate) fn nothing_new_anywhere(unanswered: &Unanswered) -> bool {
    unanswered.0.iter().any(|failed| matches!(failed.error, BeaconError::NothingNew { .. }))
}

/// The earliest slot that an endpoint says it has signatures of, where that is later than now: the clock may be wrong.
pub(crate) fn signed_in_future(unanswered: &Unanswered) -> Option<u64> {
    let slots = unanswered.0.iter().filter_map(|failed| match failed.error {
        BeaconError::Refused(Refused::Future { signature_slot, .. }) => Some(signature_slot),
        _ => None,
    });
    slots.min()
}

/// The first contradiction among the reasons.
pub(crate) fn contradiction(unanswered: &Unanswered) -> Option<BeaconError> {
    let mut errors = unanswered.0.iter().map(|failed| &failed.error);
    errors.find(|error| matches!(error, BeaconError::Contradicts { .. })).cloned()
}
