//! Transactions: which call gets a nonce when and at what fee, what is sent again, and what is called off.

use core::cmp::Ordering;

use crate::id::{Bounty, Curve};

use super::chain::{Call, Head, Wei, indices};
use super::io::{Change, Event, Output};
use super::outbox::Slot;
use super::price::{Fee, Gas, TRANSFER, at_most};
use super::stage::{Posting, Stage};
use super::{Distributor, Key, Wait};

/// Times that a private relay is given a transaction again before the batch is reserved instead.
const RELAY_TRIES: u8 = 5;
/// Times that a transaction is sent again, though the chain asks for more than it is worth, before it is called off.
const PATIENCE: u8 = 10;
/// Reservations at once. They are revealed one after the other, about one in a block, before their locks end.
const LOCKS: usize = 256;

/// What sending now would be.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Still {
    /// Time is left by the chain and by our own clock.
    Good,
    /// None is left by our own clock, or nobody knows the chain's.
    Doubtful,
    /// The chain itself says that it is too late.
    Late,
}

/// What exchanges hold, counted as they move on: every transaction asks for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Locks {
    /// Reservations that are under way or not revealed yet.
    count: usize,
    /// Gas that the transactions ask for which reveal them, of those that are not sent and whose reservation is not called off.
    gas: u64,
}

impl Locks {
    pub(super) fn of(stage: &Stage) -> Self {
        let gas = |posted: bool| stage.batch().filter(|_| posted).map_or(0, |b| reveal_gas(&b.indices));
        match stage {
            Stage::Reserving(state) if state.posting == Posting::Simulating => Self::default(),
            Stage::Reserving(state) => Self { count: 1, gas: gas(!state.posting.is_called_off()) },
            Stage::Locked(_) => Self { count: 1, gas: gas(true) },
            Stage::Revealing(_) => Self { count: 1, gas: 0 },
            _ => Self::default(),
        }
    }

    pub(super) const fn and(self, more: Self) -> Self {
        Self { count: self.count.saturating_add(more.count), gas: self.gas.saturating_add(more.gas) }
    }

    pub(super) const fn without(self, less: Self) -> Self {
        Self { count: self.count.saturating_sub(less.count), gas: self.gas.saturating_sub(less.gas) }
    }
}

/// What a reveal asks for. It carries no receipts, so that neither path nor curve counts.
fn reveal_gas(indices: &[u32]) -> u64 {
    Gas::of(indices, 0, Curve::Secp256k1).limits().reveal
}

impl Distributor {
    /// Whether `t` sent now would come well before the end of the lock. That is so only if our own clock says so too:
    /// a head that is withheld makes a lock look alive that has ended. But it is the chain alone that ends a lock for
    /// good, as our clock may be wrong.
    pub(super) fn worth_t(&self, until: u64) -> Still {
        let margin = u64::from(self.policy.reveal_margin_secs);
        let early = |now: u64| now.saturating_add(margin) < until;
        match self.chain_time() {
            Some(now) if !early(now) => Still::Late,
            Some(_) if early(self.now / 1000) => Still::Good,
            _ => Still::Doubtful,
        }
    }

    pub(super) fn on_head(&mut self, head: Head, now: u64) {
        self.head = Some(head);
        self.started.get_or_insert(now);
        let done = self.outbox.head(&head);
        self.out.extend(done.into_iter().map(|nonce| Output::Persist(Change::Settled { nonce })));
        for slot in self.outbox.due(&head, now, self.policy.resubmit_after_ms) {
            self.send_again(&slot, now);
        }
        // It comes before all of ours, so that all of the wallet is there for it.
        let most = self.policy.max_fee.min(at_most(head.balance, TRANSFER));
        let fee = self.policy.fee(None, head.base_fee, most);
        if let Some(slot) = self.outbox.fill(&head, fee, now, self.policy.resubmit_after_ms) {
            self.event(Event::Cancelled { nonce: slot.nonce });
            self.submit(slot);
        }
        self.tick();
    }

    /// A transaction that the chain does not have: sent again, kept back, or called off.
    fn send_again(&mut self, slot: &Slot, now: u64) {
        let still = self.still(slot);
        let call = if still == Still::Late { &Call::Cancel } else { &slot.call };
        let most = self.most(&slot.bounty, call).min(self.most_again(slot, call));
        let fee = self.head.and_then(|head| self.policy.fee(slot.fee, head.base_fee, most));
        if *call != Call::Cancel
            && self.is_worth(slot)
            && let Some(lacks) = self.lacks(slot)
        {
            self.short((slot.bounty, slot.gateway), lacks);
        }
        match (still, fee, slot.fee) {
            // The old fee again where the chain asks for more: for nodes that have forgotten it.
            (Still::Good, Some(fee), _) | (Still::Good, None, Some(fee)) => {
                let again = self.outbox.again(slot.nonce, fee, now);
                again.into_iter().for_each(|slot| self.submit(slot));
            }
            (Still::Late, Some(fee), _) => self.call_off(slot, fee, now),
            (Still::Doubtful, ..) | (_, None, _) => {}
        }
    }

    /// Sends the nonce without its call.
    fn call_off(&mut self, slot: &Slot, fee: Fee, now: u64) {
        let key = (slot.bounty, slot.gateway);
        let Some(slot) = self.outbox.cancel(slot.nonce, fee, now) else { return };
        self.event(Event::Cancelled { nonce: slot.nonce });
        self.out.push_back(Output::Persist(Change::Transaction(slot.clone())));
        if let Some(stage) = self.entries.get(&key).map(|entry| entry.exchange.stage.clone()) {
            let after = called_off(stage.clone(), slot.nonce);
            if after != stage {
                self.store(key, after);
            }
        }
        self.out.push_back(Output::Submit(slot));
    }

    /// The highest fee by which a call brings no less than it costs; none for one of a bounty that is not open, which may be
    /// sent again at its old one.
    fn most(&self, bounty: &Bounty, call: &Call) -> Wei {
        let Some(campaign) = self.campaigns.get(bounty) else {
            return if *call == Call::Cancel { self.policy.max_fee } else { Wei::ZERO };
        };
        let bound = |indices: &[u32], gas: fn(Gas) -> u64| {
            let most = at_most(campaign.sum(indices.iter().copied()), gas(campaign.gas(indices)));
            most.min(self.policy.call_fee())
        };
        match call {
            Call::Reserve { items, .. } => bound(&indices(items), |gas| gas.reserve + gas.reveal),
            Call::Reveal { indices, .. } => bound(indices, |gas| gas.reveal),
            Call::Claim { items, .. } => bound(&indices(items), |gas| gas.claim),
            Call::Cancel => self.policy.max_fee,
        }
    }

    /// The highest fee that the wallet can pay for a nonce that is sent again, beside all that is under way: nodes count that
    /// together. What calls it off may at least cost what its call would.
    fn most_again(&self, slot: &Slot, call: &Call) -> Wei {
        let Some(head) = self.head else { return Wei::ZERO };
        let first = head.balance.saturating_sub(self.outbox.owed_before(slot.nonce, &head));
        let left = first.saturating_sub(self.kept(slot, call, &head));
        match call {
            Call::Cancel => at_most(left.max(first.min(slot.cost())), TRANSFER),
            _ => at_most(left, slot.limit()),
        }
    }

    /// What the wallet must have left when it raises a transaction in flight: for what stands behind it and, as for a new one,
    /// for all reveals beside a reservation.
    fn kept(&self, slot: &Slot, call: &Call, head: &Head) -> Wei {
        let behind = self.outbox.behind(slot.nonce);
        let behind = behind.fold(Wei::ZERO, |sum, slot| sum.saturating_add(slot.cost()));
        match call {
            Call::Reserve { .. } => behind.saturating_add(self.reveals(head)),
            _ => behind,
        }
    }

    /// The least fee at which the chain takes a transaction in flight: what it offers, or what takes its place.
    fn asked(slot: &Slot, head: &Head) -> Wei {
        match slot.fee {
            Some(fee) if fee.max < head.base_fee => fee.raised().max.max(head.base_fee),
            Some(fee) => fee.max,
            None => head.base_fee,
        }
    }

    /// What the wallet lacks for a transaction in flight at [`Self::asked`] when those before it are paid for; where that is
    /// more than it offers, beside what must be left, as [`Self::most_again`] has it.
    fn lacks(&self, slot: &Slot) -> Option<Wei> {
        let head = self.head?;
        let asked = Self::asked(slot, &head);
        let offered = slot.fee.is_some_and(|fee| fee.max >= asked);
        let kept = if offered { Wei::ZERO } else { self.kept(slot, &slot.call, &head) };
        let need = Fee { max: asked, priority: Wei::ZERO }.cost(slot.limit());
        let need = need.saturating_add(self.outbox.owed_before(slot.nonce, &head)).saturating_add(kept);
        Some(need.saturating_sub(head.balance)).filter(|lacks| *lacks > Wei::ZERO)
    }

    /// What a new transaction for the call offers and may use. `None` where the chain asks for more than it is worth, or the
    /// wallet cannot pay for it: the latter is told.
    pub(super) fn funded(&mut self, key: Key, call: &Call) -> Option<(Fee, u64)> {
        let head = self.head?;
        let gas = self.limit(&key.0, call)?;
        let owed = self.outbox.owed(&head);
        let mut most = self.most(&key.0, call);
        if let Call::Reveal { .. } = call {
            // What was set aside for it may be less than twice the base fee: while the chain takes it, it goes.
            let left = at_most(head.balance.saturating_sub(owed), gas);
            most = most.min(left.max(head.base_fee));
        }
        let fee = self.policy.fee(None, head.base_fee, most)?;
        let mut need = fee.cost(gas).saturating_add(owed);
        if let Call::Reserve { items, .. } = call {
            let reveal = self.policy.cost(reveal_gas(&indices(items)), head.base_fee);
            need = need.saturating_add(self.reveals(&head)).saturating_add(reveal);
        }
        let lacks = need.saturating_sub(head.balance);
        if lacks > Wei::ZERO {
            self.short(key, lacks);
            return None;
        }
        Some((fee, gas))
    }

    /// Gas that a transaction for the call asks for.
    fn limit(&self, bounty: &Bounty, call: &Call) -> Option<u64> {
        let campaign = self.campaigns.get(bounty)?;
        Some(match call {
            Call::Reserve { items, .. } => campaign.gas(&indices(items)).limits().reserve,
            Call::Reveal { indices, .. } => campaign.gas(indices).limits().reveal,
            Call::Claim { items, .. } => campaign.gas(&indices(items)).limits().claim,
            Call::Cancel => TRANSFER,
        })
    }

    /// What the wallet must have left for the reveals of what is locked or on its way to be.
    fn reveals(&self, head: &Head) -> Wei {
        self.policy.cost(self.locks.gas, head.base_fee)
    }

    /// Tells that the wallet lacks so much, if that is more than was told in this state.
    fn short(&mut self, key: Key, wei: Wei) {
        let waits = self.entries.get(&key).and_then(|entry| entry.waits);
        if !matches!(waits, Some(Wait::Wallet(told)) if told >= wei) {
            let (bounty, gateway) = key;
            self.wait(key, Wait::Wallet(wei), Event::Short { bounty, gateway, wei });
        }
    }

    /// Tells why an exchange waits, where that is news.
    fn wait(&mut self, key: Key, why: Wait, event: Event) {
        let Some(entry) = self.entries.get_mut(&key) else { return };
        if entry.waits.replace(why) != Some(why) {
            self.event(event);
        }
    }

    /// Whether a batch brings its gas and so much more at the present fee; if not, that is told once.
    pub(super) fn worth_its_gas(&mut self, key: Key, worth: Wei, gas: u64, with_gain: bool) -> bool {
        let Some(head) = self.head else { return false };
        let cost = self.policy.cost(gas, head.base_fee);
        let enough = if with_gain { self.policy.gains(worth, cost) } else { worth >= cost };
        let enough = enough && self.policy.gas_price(head.base_fee) <= self.policy.call_fee();
        if !enough {
            self.wait(key, Wait::Price, Event::Waits { bounty: key.0, gateway: key.1, worth, cost });
        }
        enough
    }

    fn submit(&mut self, slot: Slot) {
        self.out.push_back(Output::Persist(Change::Transaction(slot.clone())));
        self.out.push_back(Output::Submit(slot));
    }

    /// Whether a transaction that is not in the chain is still worth being there.
    fn still(&self, slot: &Slot) -> Still {
        if slot.call == Call::Cancel {
            return Still::Good;
        }
        let Some(entry) = self.entries.get(&(slot.bounty, slot.gateway)) else { return Still::Late };
        if !self.campaigns.contains_key(&slot.bounty) {
            // Not sold any more, or not yet again.
            return match &entry.exchange.stage {
                _ if !self.expected.contains(&slot.bounty) => Still::Late,
                Stage::Revealing(state) if state.nonce == slot.nonce => self.worth_t(state.until),
                _ if self.is_given_up(slot) => Still::Late,
                _ => Still::Doubtful,
            };
        }
        let still = match &entry.exchange.stage {
            // With the lock's end near, `t` is shown to nobody else. Whoever has it already has it.
            Stage::Revealing(state) if state.nonce == slot.nonce => self.worth_t(state.until),
            _ if self.claims_over(&slot.bounty) || !self.fits(slot) => Still::Late,
            _ if slot.private && slot.bumps >= RELAY_TRIES => Still::Late,
            _ => Still::Good,
        };
        if still == Still::Good && self.is_in_the_way(slot) { Still::Late } else { still }
    }

    /// Whether others wait for the nonce of a bounty that is not opened again, a good while after a restart.
    fn is_given_up(&self, slot: &Slot) -> bool {
        let patience = u64::from(PATIENCE).saturating_mul(self.policy.resubmit_after_ms);
        let over = self.started.is_some_and(|started| self.now >= started.saturating_add(patience));
        over && (self.is_turn() || self.outbox.behind(slot.nonce).next().is_some())
    }

    /// Whether a transaction has the gas for it: one that was sent when batches had no bound may not.
    fn fits(&self, slot: &Slot) -> bool {
        let (Call::Reserve { items, .. } | Call::Claim { items, .. }) = &slot.call else { return true };
        self.campaigns.get(&slot.bounty).is_none_or(|campaign| campaign.fits(&indices(items)))
    }

    /// Whether the chain asks for more than a call is worth, or for more than the wallet has, and others wait for its nonce; or
    /// it has waited long. A reveal has shown `t`: it waits for money, or for the little that it cannot be raised by, as long as
    /// its lock lives.
    fn is_in_the_way(&self, slot: &Slot) -> bool {
        let reveals = |slot: &Slot| matches!(slot.call, Call::Reveal { .. });
        let brings = |slot: &Slot| self.head.is_some_and(|head| self.brings(slot, head.base_fee));
        let payable = |slot: &Slot| self.is_worth(slot) && self.lacks(slot).is_none();
        let stays = |slot: &Slot| if reveals(slot) { brings(slot) } else { payable(slot) };
        let waits = || self.is_turn() || self.outbox.behind(slot.nonce).any(stays);
        let patience = reveals(slot) || slot.bumps < PATIENCE;
        !stays(slot) && (!patience || waits())
    }

    /// Whether its call brings what it must offer now.
    fn is_worth(&self, slot: &Slot) -> bool {
        self.head.is_some_and(|head| self.brings(slot, Self::asked(slot, &head)))
    }

    /// Whether its call brings so much for a unit of gas, or it offers that already.
    fn brings(&self, slot: &Slot, fee: Wei) -> bool {
        fee <= self.most(&slot.bounty, &slot.call) || slot.fee.is_some_and(|offered| fee <= offered.max)
    }

    /// Whether the nonce is a reveal's still, and the chain takes it now.
    fn is_coming(&self, nonce: u64) -> bool {
        let slot = self.outbox.slots().find(|slot| slot.nonce == nonce);
        slot.is_some_and(|slot| {
            slot.call != Call::Cancel && self.is_worth(slot) && self.lacks(slot).is_none()
        })
    }

    /// Whether an exchange waits to show its secret.
    fn is_turn(&self) -> bool {
        self.entries.values().any(|entry| entry.turn)
    }

    pub(super) fn turn(&mut self, key: Key, waits: bool) {
        if let Some(entry) = self.entries.get_mut(&key) {
            entry.turn = waits;
        }
    }

    /// Whether as many hold locks, or are about to, as may.
    pub(super) fn is_locked_up(&self) -> bool {
        self.locks.count >= LOCKS
    }

    /// Whether `r` may be given to its gateway now.
    pub(super) fn may_show(&self, stage: &Stage) -> bool {
        match stage {
            // Not for a transaction that waits behind another, or for money or a lower fee, or that would come too late, unless
            // the chain has it.
            Stage::Revealing(state) => match self.head.map(|head| head.latest_nonce.cmp(&state.nonce)) {
                None | Some(Ordering::Less) => false,
                Some(Ordering::Equal) => {
                    self.worth_t(state.until) == Still::Good && self.is_coming(state.nonce)
                }
                Some(Ordering::Greater) => true,
            },
            stage => stage.shows_key(),
        }
    }

    /// Gives the call its nonce: persisted with the state that waits for it, then sent.
    pub(super) fn post(&mut self, key: Key, call: Call, now: u64) {
        if !self.outbox.ready(self.policy.limits.transactions) {
            return;
        }
        let Some(stage) = self.entries.get(&key).map(|entry| entry.exchange.stage.clone()) else {
            return;
        };
        // Time has passed since the call was tried.
        if let Stage::Locked(state) = &stage
            && self.worth_t(state.until) != Still::Good
        {
            // The next head tells a lock that has ended from a clock that is ahead.
            return self.turn(key, false);
        }
        // The fee has risen since the batch was put together, or the wallet has less: the next head asks again.
        let Some(offer) = self.funded(key, &call) else { return self.turn(key, false) };
        let shows = matches!(stage, Stage::Locked(_) | Stage::Direct(_));
        if shows && !self.head.is_some_and(|head| self.outbox.is_clear(&head)) {
            // Behind one of ours that nobody mines it would be public, and come too late. Others let it go first.
            return self.turn(key, true);
        }
        let reserves = matches!(stage, Stage::Reserving(_));
        if !shows && (self.is_turn() || reserves && self.is_locked_up()) {
            return;
        }
        let private = matches!(stage, Stage::Direct(_));
        let Some(slot) = self.outbox.post(key, call, offer, private, now) else { return };
        self.out.push_back(Output::Persist(Change::Transaction(slot.clone())));
        self.store(key, posted(stage, slot.nonce));
        self.out.push_back(Output::Submit(slot));
    }

    /// What gas costs now.
    pub(super) fn cost(&self, gas: u64) -> Wei {
        self.head.map_or(Wei::ZERO, |head| self.policy.cost(gas, head.base_fee))
    }
}

/// The state when its nonce is sent without its call.
pub(super) fn called_off(stage: Stage, nonce: u64) -> Stage {
    let mut stage = stage;
    match &mut stage {
        Stage::Reserving(state) => state.posting.call_off(nonce),
        Stage::Claiming(state) | Stage::Direct(state) => state.posting.call_off(nonce),
        _ => {}
    }
    stage
}

/// The state that waits for the nonce.
pub(super) fn posted(stage: Stage, nonce: u64) -> Stage {
    match stage {
        Stage::Reserving(mut state) => {
            state.posting = Posting::Posted(nonce);
            Stage::Reserving(state)
        }
        Stage::Claiming(mut state) => {
            state.posting = Posting::Posted(nonce);
            Stage::Claiming(state)
        }
        Stage::Direct(mut state) => {
            state.posting = Posting::Posted(nonce);
            Stage::Direct(state)
        }
        Stage::Locked(state) => Stage::Revealing(state.reveal(nonce)),
        other => other,
    }
}
