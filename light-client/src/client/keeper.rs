//! Holds what is proven: takes the steps of [`sync`](crate::sync) one at a time, stores their outcome, then shows it.

mod condition;

use std::sync::{Arc, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::Duration;

use alloy::primitives::B256;
use tokio::sync::{Mutex, MutexGuard, watch};

use self::condition::{Condition, too_old};
use super::{ClientError, Clock, Config, Stale, StartError, Status};
use crate::beacon::{Beacon, Unanswered};
use crate::execution::Block;
use crate::http::Report;
use crate::spec::{Network, State};
use crate::store::{Store, StoreError, Stored};
use crate::sync;

/// See the module.
pub(super) struct Keeper {
    network: Arc<Network>,
    clock: Clock,
    beacon: Beacon,
    store: Store,
    allow_stale: bool,
    finality_alarm: Duration,
    /// Held by whoever asks endpoints: one step at a time.
    turn: Mutex<Turn>,
    known: RwLock<Known>,
    finalized: watch::Sender<Option<Block>>,
}

/// What only the one whose turn it is needs.
struct Turn {
    /// The operator's checkpoint, while what is stored follows from another one.
    pending: Option<B256>,
    /// In which slot the newest header was last asked for, and what that failed with.
    asked: Option<(u64, Option<String>)>,
}

/// What everybody may see.
#[derive(Default)]
struct Known {
    checkpoint: Option<B256>,
    state: Option<Arc<State>>,
    condition: Condition,
}

impl Keeper {
    pub(super) fn open(config: Config) -> Result<Self, StartError> {
        let Config { network, checkpoint, allow_stale_checkpoint: allow_stale, clock, .. } = config;
        let beacon =
            Beacon::new(network.clone(), &config.beacon, config.limits).map_err(StartError::Beacon)?;
        let store = Store::open(&config.store)?;
        let stored = store.load(&network)?;
        let passed_over = stored.as_ref().and_then(|stored| stored.passed_over);
        let older = checkpoint.filter(|given| passed_over == Some(*given));
        let is_new = |given: &B256| stored.as_ref().is_none_or(|stored| stored.checkpoint != *given);
        let pending = checkpoint.filter(is_new).filter(|_| older.is_none());
        match &stored {
            None if pending.is_none() => return Err(StartError::NoCheckpoint),
            // A newer checkpoint may be on its way.
            Some(stored) if pending.is_none() && !allow_stale => too_old(&stored.state, &clock)?,
            _ => {}
        }
        let (checkpoint, state) = match stored {
            Some(Stored { checkpoint, state, .. }) => (Some(checkpoint), Some(Arc::new(state))),
            None => (None, None),
        };
        let finalized = watch::Sender::new(state.as_ref().map(|state| block(state)));
        let known = RwLock::new(Known { checkpoint, state, condition: Condition::with(older) });
        let turn = Mutex::new(Turn { pending, asked: None });
        let finality_alarm = config.finality_alarm;
        Ok(Self { network, clock, beacon, store, allow_stale, finality_alarm, turn, known, finalized })
    }

    pub(super) fn network(&self) -> &Network {
        &self.network
    }

    pub(super) fn now_ms(&self) -> u64 {
        self.clock.now_ms()
    }

    pub(super) fn finalized_slot(&self) -> Option<u64> {
        self.state().map(|state| state.finalized().beacon.slot)
    }

    pub(super) fn subscribe(&self) -> watch::Receiver<Option<Block>> {
        self.finalized.subscribe()
    }

    pub(super) fn finalized(&self) -> Result<Block, ClientError> {
        let state = self.state().ok_or(ClientError::NotSynced)?;
        self.is_young(&state)?;
        Ok(block(&state))
    }

    pub(super) async fn sync(&self) -> Result<Block, ClientError> {
        let mut turn = self.turn.lock().await;
        let outcome = self.sync_in(&mut turn).await;
        Ok(block(&*outcome?))
    }

    pub(super) async fn latest(&self) -> Result<Block, ClientError> {
        let mut turn = self.turn.lock().await;
        let slot = self.slot()?;
        let state = match self.state() {
            Some(state) if !sync::is_behind(&state, slot) => state,
            _ => self.sync_in(&mut turn).await?,
        };
        self.is_young(&state)?;
        self.head(&mut turn, state, slot).await
    }

    pub(super) fn status(&self, rpc: Vec<Report>) -> Status {
        let known = self.known();
        let now = self.clock.now_ms();
        let state = known.state.as_deref();
        Status {
            network: self.network.name.clone(),
            checkpoint: known.checkpoint,
            finalized: state.map(|state| condition::seen(state.finalized(), &self.network, now)),
            optimistic: state.map(|state| condition::seen(state.optimistic(), &self.network, now)),
            period: state.map(State::period),
            next_committee: state.is_some_and(State::has_next_committee),
            alarms: known.condition.alarms(&self.network, state, now, self.finality_alarm),
            last_error: known.condition.last_error(),
            beacon: self.beacon.report(),
            rpc,
            received: self.beacon.received(),
        }
    }

    /// Nobody follows the chain any more.
    pub(super) fn ended(&self, why: &ClientError) {
        self.known_mut().condition.gave_up(why);
    }

    async fn sync_in(&self, turn: &mut MutexGuard<'_, Turn>) -> Result<Arc<State>, ClientError> {
        let outcome = self.steps(turn).await;
        self.known_mut().condition.ended(&outcome);
        outcome
    }

    /// The checkpoint's header, committees up to now, finality, and the next committee once it can be had.
    async fn steps(&self, turn: &mut Turn) -> Result<Arc<State>, ClientError> {
        self.slot()?;
        let mut state = self.begin(turn).await?;
        self.is_young(&state)?;
        while sync::is_behind(&state, self.slot()?) {
            let next = sync::page(&self.beacon, &state, &self.clock).await;
            state = self.keep(next.map_err(|why| self.unanswered(why))?).await?;
        }
        let sync::Step { next, unanswered } = sync::finality(&self.beacon, &state, &self.clock).await;
        if let Some(next) = next {
            state = self.keep(next).await?;
        }
        match unanswered {
            // No later header anywhere: the alarm says so when that has lasted.
            Some(why) if sync::nothing_new_anywhere(&why) => {}
            Some(why) => return Err(self.unanswered(why)),
            None => {}
        }
        let slot = self.slot()?;
        if state.wants_update_of(slot).is_some() && !sync::is_behind(&state, slot) {
            match sync::page(&self.beacon, &state, &self.clock).await {
                Ok(next) => state = self.keep(next).await?,
                // It is needed in the next period only.
                Err(why) => tracing::debug!(%why, "the next committee is not to be had yet"),
            }
        }
        Ok(state)
    }

    /// What is known, or what follows from the operator's checkpoint where that is new.
    async fn begin(&self, turn: &mut Turn) -> Result<Arc<State>, ClientError> {
        let held = self.state();
        let root = match turn.pending {
            Some(root) => root,
            None => return held.ok_or(ClientError::NotSynced),
        };
        let fresh = match (sync::bootstrap(&self.beacon, &self.network, root).await, held) {
            (Ok(fresh), _) => fresh,
            (Err(why), None) => return Err(self.unanswered(why)),
            (Err(why), Some(held)) => {
                tracing::warn!(checkpoint = %root, %why, "no endpoint has the new checkpoint; going on from the store");
                self.known_mut().condition.not_taken = Some(root);
                return Ok(held);
            }
        };
        let state = self.adopt(root, fresh).await?;
        (turn.pending, turn.asked) = (None, None);
        self.known_mut().condition.not_taken = None;
        Ok(state)
    }

    /// Takes the checkpoint's state over, unless what is known is as late.
    async fn adopt(&self, root: B256, fresh: State) -> Result<Arc<State>, ClientError> {
        let (new, slot) = (fresh.finalized().beacon, self.slot()?);
        if new.slot > slot {
            return Err(ClientError::ClockBehind { signed: new.slot, now: slot });
        }
        let Some(held) = self.state() else {
            self.is_young(&fresh).map_err(ClientError::StaleCheckpoint)?;
            return self.keep_as(root, fresh).await;
        };
        let ours = held.finalized().beacon;
        if ours.slot == new.slot && ours != new {
            return Err(ClientError::OtherChain { slot: new.slot, checkpoint: root, stored: ours.root() });
        }
        if new.slot > ours.slot {
            self.is_young(&fresh).map_err(ClientError::StaleCheckpoint)?;
            return self.keep_as(root, fresh).await;
        }
        if new.slot == ours.slot {
            return self.keep_as(root, State::clone(&held)).await;
        }
        // Never back. It is noted, so that it is not asked for at every start, but nobody has checked that what is stored
        // follows from it.
        let store = self.store.clone();
        let noted = tokio::task::spawn_blocking(move || store.pass_over(root)).await;
        noted.map_err(|_| ClientError::Interrupted)??;
        tracing::warn!(checkpoint = %root, slot = new.slot, "the checkpoint is older than what is stored, and not used");
        self.known_mut().condition.older = Some(root);
        Ok(held)
    }

    /// Asks for a newer head where that is worth it.
    async fn head(&self, turn: &mut Turn, state: Arc<State>, slot: u64) -> Result<Block, ClientError> {
        let known = state.optimistic().beacon.slot;
        if known.saturating_add(1) >= slot {
            return Ok(Block::from(&state.optimistic().execution));
        }
        if turn.asked.as_ref().is_none_or(|(asked, _)| *asked != slot) {
            let sync::Step { next, unanswered } = sync::optimistic(&self.beacon, &state, &self.clock).await;
            if let Some(next) = next {
                self.keep(next).await?;
            }
            let why = unanswered.map(|why| self.unanswered(why).to_string());
            // When that has ended: those who waited for their turn meanwhile have the same answer.
            turn.asked = Some((self.slot()?, why));
        }
        let (head, now) = (self.state().unwrap_or(state), self.slot()?);
        let (newest, epoch) = (head.optimistic().beacon.slot, self.network.preset.slots_per_epoch());
        if newest.saturating_add(epoch) < now {
            let why = turn.asked.as_ref().and_then(|(_, why)| why.clone());
            let why = why.unwrap_or_else(|| "it was of the last slots when it was asked for".to_owned());
            return Err(ClientError::NoHead { slot: newest, now, why });
        }
        Ok(Block::from(&head.optimistic().execution))
    }

    /// The slot by the clock, if that can be right.
    fn slot(&self) -> Result<u64, ClientError> {
        let now = self.clock.now_ms();
        let genesis = self.network.genesis_time;
        let slot =
            self.network.slot_at(now).ok_or(ClientError::BeforeGenesis { now: now / 1000, genesis })?;
        self.network.fork_at(slot).map_err(ClientError::UnknownFork)?;
        match self.state().map(|state| state.optimistic().beacon.slot) {
            // It was signed, so its slot has begun.
            Some(signed) if signed > slot => Err(ClientError::ClockBehind { signed, now: slot }),
            _ => Ok(slot),
        }
    }

    fn is_young(&self, state: &State) -> Result<(), Stale> {
        if self.allow_stale { Ok(()) } else { too_old(state, &self.clock) }
    }

    /// Stores `next` where there is anything to store, then shows it.
    async fn keep(&self, next: State) -> Result<Arc<State>, ClientError> {
        let (checkpoint, held) = {
            let known = self.known();
            (known.checkpoint, known.state.clone())
        };
        match (checkpoint, held) {
            (Some(checkpoint), Some(held)) if sync::reaches(&held) != sync::reaches(&next) => {
                self.keep_as(checkpoint, next).await
            }
            (Some(checkpoint), Some(_)) => Ok(self.show(checkpoint, next)),
            _ => Err(ClientError::NotSynced),
        }
    }

    async fn keep_as(&self, checkpoint: B256, next: State) -> Result<Arc<State>, ClientError> {
        let (store, network) = (self.store.clone(), self.network.clone());
        let save = move || match store.save(checkpoint, &next) {
            Ok(()) => Ok((checkpoint, next)),
            // Another process, such as a status command, was faster: what it stored is proven as well.
            Err(StoreError::GoesBack { stored, new }) => {
                let held = store.load(&network)?.ok_or(StoreError::GoesBack { stored, new })?;
                Ok((held.checkpoint, held.state))
            }
            Err(error) => Err(error),
        };
        let saved = tokio::task::spawn_blocking(save).await.map_err(|_| ClientError::Interrupted)?;
        let (checkpoint, state) = saved?;
        Ok(self.show(checkpoint, state))
    }

    fn show(&self, checkpoint: B256, mut state: State) -> Arc<State> {
        let state = {
            let mut known = self.known_mut();
            // What another process has stored may be of before the head that is known here.
            if known.checkpoint == Some(checkpoint)
                && let Some(held) = &known.state
            {
                state.keep_head(held);
            }
            let state = Arc::new(state);
            (known.checkpoint, known.state) = (Some(checkpoint), Some(state.clone()));
            state
        };
        let newest = block(&state);
        self.finalized.send_if_modified(|shown| {
            let is_news = shown.as_ref().is_none_or(|shown| shown.hash != newest.hash);
            if is_news {
                *shown = Some(newest);
            }
            is_news
        });
        state
    }

    /// What of the endpoints' failures is more than a failure.
    fn unanswered(&self, why: Unanswered) -> ClientError {
        let mut known = self.known_mut();
        known.condition.heard(&why);
        drop(known);
        match sync::signed_in_future(&why) {
            Some(signed) => {
                tracing::warn!(%why, "signatures of the future");
                let now = self.network.slot_at(self.clock.now_ms()).unwrap_or_default();
                ClientError::ClockBehind { signed, now }
            }
            None => why.into(),
        }
    }

    fn state(&self) -> Option<Arc<State>> {
        self.known().state.clone()
    }

    fn known(&self) -> RwLockReadGuard<'_, Known> {
        self.known.read().expect("no code panics while it holds this lock")
    }

    fn known_mut(&self) -> RwLockWriteGuard<'_, Known> {
        self.known.write().expect("no code panics while it holds this lock")
    }
}

fn block(state: &State) -> Block {
    Block::from(&state.finalized().execution)
}
