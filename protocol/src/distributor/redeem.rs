//! From receipts to payment: proofs, batches, and what the chain says of them. How their calls are sent is in [`super::post`].

use alloc::vec::Vec;

use crate::id::{Bounty, LockHash};

use super::campaign::Campaign;
use super::chain::{Call, CallFailure, Item, Observation, Seen, Standing, Wei};
use super::io::{Change, Event, Output};
use super::post::Still;
use super::receipt::Fate;
use super::stage::{CloseReason, Closed, Offer, Offered, Posting, Stage};
use super::{Distributor, Entry, Key, Pause};

impl Distributor {
    /// Asks for what the exchange's state waits for, unless that was asked for already.
    pub(super) fn advance(&mut self, key: Key) {
        let Some(campaign) = self.campaigns.get(&key.0) else { return };
        let Some(entry) = self.entries.get(&key) else { return };
        // Without a head nobody knows how near the deadlines are.
        let timeless = self.head.is_none() && !matches!(entry.exchange.stage, Stage::Proving);
        let pausing = self.now < entry.pause.until && !matches!(entry.exchange.stage, Stage::Proving);
        if entry.asked || timeless || pausing {
            return;
        }
        let (bounty, gateway) = key;
        let call = match &entry.exchange.stage {
            Stage::Proving => {
                let r = entry.exchange.r(&self.me.payee);
                return self.ask(key, Output::Prove { bounty, gateway, s: entry.s, r });
            }
            Stage::Reserving(state) if state.posting == Posting::Simulating => {
                if !self.reservable(campaign) {
                    return self.close(key, CloseReason::ClaimsOver);
                }
                if self.is_locked_up() {
                    return;
                }
                call(entry)
            }
            Stage::Claiming(state) if state.posting == Posting::Simulating => call(entry),
            // Tried as a call it would show `t`. It was put together of shares that are free.
            Stage::Direct(state) if state.posting == Posting::Simulating => {
                let Some(call) = call(entry) else { return };
                return self.post(key, call, self.now);
            }
            Stage::Locked(state) => {
                match self.worth_t(state.until) {
                    Still::Late => return self.close(key, CloseReason::LockLapsed),
                    Still::Doubtful => return self.turn(key, false),
                    Still::Good => {}
                }
                let worth = campaign.sum(state.batch.indices.iter().copied());
                let gas = campaign.gas(&state.batch.indices).reveal;
                if !self.worth_its_gas(key, worth, gas, false) {
                    return self.turn(key, false);
                }
                self.entries.get(&key).and_then(call)
            }
            _ => None,
        };
        let Some(call) = call else { return };
        let Some((_, gas)) = self.funded(key, &call) else { return self.turn(key, false) };
        self.ask(key, Output::Simulate { bounty, gateway, call, gas });
    }

    fn ask(&mut self, key: Key, ask: Output) {
        let Some(entry) = self.entries.get_mut(&key) else { return };
        entry.asked = true;
        self.out.push_back(ask);
    }

    pub(super) fn proved(&mut self, key: Key, s: LockHash, cipher: Vec<u8>, proof: Vec<u8>, now: u64) {
        if !self.is_proving(&key, s) {
            return;
        }
        let expires = (now / 1000).saturating_add(u64::from(self.policy.offer_ttl_secs));
        let offer = Offer { cipher, proof, expires };
        if offer.fits() {
            self.store(key, Stage::Offered(Offered { offer }));
        } else {
            self.forget(key);
        }
    }

    /// The gateway's next Auth begins afresh; rates bound how often.
    pub(super) fn proof_failed(&mut self, key: Key, s: LockHash) {
        if self.is_proving(&key, s) {
            self.forget(key);
        }
    }

    fn is_proving(&self, key: &Key, s: LockHash) -> bool {
        let entry = self.entries.get(key).filter(|entry| entry.s == s);
        entry.is_some_and(|entry| matches!(entry.exchange.stage, Stage::Proving))
    }

    /// Gives up before `t` was shown.
    fn close(&mut self, key: Key, why: CloseReason) {
        let fate = match why {
            CloseReason::LockLapsed => Fate::LockLapsed,
            CloseReason::TooManyTries | CloseReason::ClaimsOver => Fate::Rejected,
        };
        let lost: Vec<u32> = self.entries.get(&key).map_or(Vec::new(), |e| waiting(e).collect());
        lost.into_iter().for_each(|index| self.settle(key, index, fate));
        self.store(key, Stage::Closed(Closed { why }));
        self.event(Event::Closed { bounty: key.0, gateway: key.1, why });
    }

    /// Writes what became of a receipt, once.
    fn settle(&mut self, key: Key, index: u32, fate: Fate) {
        let Some(entry) = self.entries.get_mut(&key) else { return };
        let Some(receipt) = entry.receipts.get_mut(&index) else { return };
        if receipt.fate != Fate::Waiting {
            return;
        }
        receipt.fate = fate;
        let receipt = *receipt;
        self.out.push_back(Output::Persist(Change::Receipt(receipt)));
        if fate != Fate::Paid {
            self.event(Event::Lost { bounty: key.0, index, fate });
        }
    }

    pub(super) fn simulated(&mut self, key: Key, result: Result<(), CallFailure>, now: u64) {
        let Some(entry) = self.entries.get_mut(&key).filter(|entry| entry.asked) else { return };
        entry.asked = false;
        entry.pause = if result.is_ok() { Pause::default() } else { entry.pause.longer(now) };
        // Whoever waits here again says so again.
        entry.turn &= result.is_ok();
        let Some(call) = call(entry) else { return };
        match result {
            Ok(()) => self.post(key, call, now),
            // Asked again with a later head.
            Err(CallFailure::Unavailable) => {}
            Err(why) => {
                self.event(Event::CallFailed { bounty: key.0, call: call.name(), why });
                self.refused(key, why);
            }
        }
    }

    /// The call would not do in the latest state, says one node. Nobody has proven that, so nothing ends by it, and no try
    /// is counted: the batch is put together again from what the contract holds.
    fn refused(&mut self, key: Key, why: CallFailure) {
        let Some(stage) = self.entries.get(&key).map(|entry| entry.exchange.stage.clone()) else {
            return;
        };
        match stage {
            Stage::Reserving(_) if why == CallFailure::ClaimsClosed && self.claims_over(&key.0) => {
                self.close(key, CloseReason::ClaimsOver);
            }
            Stage::Reserving(state) => self.store(key, Stage::Collecting(state.anew())),
            Stage::Claiming(state) => self.store(key, Stage::Paid(state.anew())),
            // The lock is final, so the latest state is on a branch that will not last, or the lock
            // has ended. The end of the lock decides.
            _ => {}
        }
    }

    /// By the chain's own time.
    pub(super) fn claims_over(&self, bounty: &Bounty) -> bool {
        let claim_by = self.campaigns.get(bounty).map(|campaign| campaign.claim_by);
        self.chain_time().zip(claim_by).is_some_and(|(now, claim_by)| claim_by <= now)
    }

    pub(super) fn observed(&mut self, seen: &Observation, now: u64) {
        let key = (seen.bounty, seen.gateway);
        let Some(campaign) = self.campaigns.get(&seen.bounty).cloned() else { return };
        let known = seen.paid.is_some();
        self.settle_paid(key, seen.paid.as_deref().unwrap_or_default());
        let Some(stage) = self.entries.get(&key).map(|entry| entry.exchange.stage.clone()) else {
            return;
        };
        match stage {
            Stage::Collecting(state) => {
                self.drop_lost(key, seen);
                if state.over(self.policy.window_secs, now) || self.is_full(&key) {
                    self.reserve(key, &campaign, seen);
                }
            }
            Stage::Reserving(state) => {
                if let Some(nonce) = state.posting.nonce() {
                    self.reserved(key, &campaign, state, nonce, seen);
                }
            }
            Stage::Revealing(state) if known && self.outbox.is_final(state.nonce) => {
                self.revealed(key, state, seen);
            }
            Stage::Claiming(state) => {
                if let Some(nonce) = state.posting.nonce()
                    && known
                    && self.outbox.is_final(nonce)
                {
                    self.claimed(key, state, nonce, seen);
                }
            }
            Stage::Direct(state) => {
                if let Some(nonce) = state.posting.nonce()
                    && known
                    && self.outbox.is_final(nonce)
                {
                    self.directed(key, state, nonce, seen);
                }
            }
            Stage::Paid(_) => {
                self.drop_lost(key, seen);
                self.claim(key, &campaign, seen);
            }
            _ => {}
        }
        self.advance(key);
    }

    /// Payments are read from finalized events, so each is counted once whatever state it finds.
    fn settle_paid(&mut self, key: Key, paid: &[(u32, Wei)]) {
        for (index, amount) in paid {
            let waiting = self.entries.get(&key).and_then(|entry| entry.receipts.get(index));
            if waiting.is_some_and(|receipt| receipt.fate == Fate::Waiting) {
                self.settle(key, *index, Fate::Paid);
                self.event(Event::Paid { bounty: key.0, index: *index, amount: *amount });
            }
        }
    }

    /// Receipts that final blocks have made worthless.
    fn drop_lost(&mut self, key: Key, seen: &Observation) {
        for Seen { index, standing } in &seen.finalized {
            let receipt = self.entries.get(&key).and_then(|entry| entry.receipts.get(index));
            let Some(attempt) = receipt.map(|r| u16::from(r.attempt.get())) else { continue };
            let open = self.entries.get(&key).is_some_and(|e| e.exchange.stage.shows_key());
            match standing {
                // Perhaps by us, where the payments are not known.
                Standing::Claimed if seen.paid.is_some() => self.settle(key, *index, Fate::Claimed),
                // A reservation wants a higher attempt, a claim in one step only one that is not lower.
                Standing::Free { attempt: reserved } if attempt + u16::from(open) <= u16::from(*reserved) => {
                    self.settle(key, *index, Fate::Stale);
                }
                Standing::Other { .. } if !open => self.settle(key, *index, Fate::LockedByOther),
                _ => {}
            }
        }
    }

    fn is_full(&self, key: &Key) -> bool {
        let waiting = self.entries.get(key).map_or(0, |entry| waiting(entry).count());
        waiting >= usize::from(self.policy.max_batch)
    }

    /// Puts a batch together of what the latest block leaves free, if it is worth its while.
    fn reserve(&mut self, key: Key, campaign: &Campaign, seen: &Observation) {
        let Some(entry) = self.entries.get(&key) else { return };
        let Stage::Collecting(state) = entry.exchange.stage.clone() else { return };
        if state.tries >= self.policy.max_tries {
            return self.close(key, CloseReason::TooManyTries);
        }
        if !self.reservable(campaign) {
            return self.close(key, CloseReason::ClaimsOver);
        }
        let most = usize::from(self.policy.max_batch);
        let indices = takeable(entry, &seen.latest, most);
        // One that came while this was read would be left out, and be claimed alone at more gas.
        let read = |index: u32| seen.latest.iter().any(|seen| seen.index == index);
        if indices.len() < most && !waiting(entry).all(read) {
            return;
        }
        // What is left over is claimed when this is paid.
        let indices = campaign.fitting(indices);
        let worth = campaign.sum(indices.iter().copied());
        let price = self.price(campaign, &indices);
        if indices.len() < self.policy.min_receipts.max(1) as usize || worth < price {
            return;
        }
        let gas = campaign.gas(&indices);
        if self.policy.direct && state.tries == 0 && free(&seen.finalized, &indices) {
            // Always less gas than the two.
            if self.worth_its_gas(key, worth, gas.claim, true) {
                let min_sum = worth.max(self.cost(gas.claim));
                self.settle_on(key, Stage::Direct(state.direct(indices, min_sum)));
            }
            return;
        }
        let gas = gas.reserve.saturating_add(gas.reveal);
        if self.worth_its_gas(key, worth, gas, true) {
            let min_sum = price.max(self.cost(gas));
            self.settle_on(key, Stage::Reserving(state.reserve(indices, min_sum)));
        }
    }

    /// Least sum to show `t` for, whatever it costs: what the policy names, and the least receipts at the least share.
    fn price(&self, campaign: &Campaign, indices: &[u32]) -> Wei {
        let least = indices.iter().map(|index| campaign.share(*index)).min().unwrap_or_default();
        let count = u128::from(self.policy.min_receipts.max(1));
        self.policy.min_sum.max(Wei::new(least.get().saturating_mul(count)))
    }

    /// A reservation with a nonce: goes on only when final, and whole or past its own transaction.
    fn reserved(
        &mut self,
        key: Key,
        campaign: &Campaign,
        state: super::Reserving,
        nonce: u64,
        seen: &Observation,
    ) {
        let spent = self.outbox.is_final(nonce);
        match state.covered(&seen.finalized, spent, |index| campaign.share(index)) {
            Some(lock) => {
                self.store(key, Stage::Locked(state.locked(lock)));
                self.drop_others(key, seen);
            }
            None if spent => {
                self.event(Event::NonceWasted { nonce });
                let off = state.posting.is_called_off();
                self.store(key, Stage::Collecting(if off { state.anew() } else { state.back() }));
                self.drop_lost(key, seen);
            }
            None => {}
        }
    }

    /// Those of the batch that another has locked meanwhile are out of it: reported and dropped.
    fn drop_others(&mut self, key: Key, seen: &Observation) {
        let known = seen.paid.is_some();
        let lost = seen.finalized.iter().filter_map(|seen| match seen.standing {
            Standing::Claimed if known => Some((seen.index, Fate::Claimed)),
            Standing::Other { .. } => Some((seen.index, Fate::LockedByOther)),
            _ => None,
        });
        lost.for_each(|(index, fate)| self.settle(key, index, fate));
    }

    fn revealed(&mut self, key: Key, state: super::Revealing, seen: &Observation) {
        if !self.any_paid(&key, &state.batch.indices) {
            self.event(Event::NonceWasted { nonce: state.nonce });
        }
        self.store(key, Stage::Paid(state.paid()));
        self.drop_lost(key, seen);
    }

    fn claimed(&mut self, key: Key, state: super::Claiming, nonce: u64, seen: &Observation) {
        let progress = self.any_paid(&key, &state.batch.indices);
        if !progress {
            self.event(Event::NonceWasted { nonce });
        }
        let off = !progress && state.posting.is_called_off();
        self.store(key, Stage::Paid(if off { state.anew() } else { state.back(progress) }));
        self.drop_lost(key, seen);
    }

    fn directed(&mut self, key: Key, state: super::Claiming, nonce: u64, seen: &Observation) {
        if self.any_paid(&key, &state.batch.indices) {
            self.store(key, Stage::Paid(state.back(true)));
        } else {
            self.event(Event::NonceWasted { nonce });
            // Not called off, it was mined and reverted: `t` is in a block.
            let secret = state.posting.is_called_off();
            let next =
                if secret { Stage::Collecting(state.instead()) } else { Stage::Paid(state.back(false)) };
            self.store(key, next);
        }
        self.drop_lost(key, seen);
    }

    fn any_paid(&self, key: &Key, indices: &[u32]) -> bool {
        let Some(entry) = self.entries.get(key) else { return false };
        let mut receipts = indices.iter().filter_map(|index| entry.receipts.get(index));
        receipts.any(|receipt| receipt.fate == Fate::Paid)
    }

    /// Late receipts, and what was left of earlier batches: `t` is public, so in one step.
    fn claim(&mut self, key: Key, campaign: &Campaign, seen: &Observation) {
        let Some(entry) = self.entries.get(&key) else { return };
        let Stage::Paid(state) = entry.exchange.stage.clone() else { return };
        let indices = takeable(entry, &seen.latest, usize::from(self.policy.max_batch));
        let indices = campaign.fitting(indices);
        if indices.is_empty() || !self.reservable(campaign) {
            return;
        }
        if state.tries >= self.policy.max_tries {
            return indices.into_iter().for_each(|index| self.settle(key, index, Fate::Rejected));
        }
        let gas = campaign.gas(&indices).claim;
        if !self.worth_its_gas(key, campaign.sum(indices.iter().copied()), gas, true) {
            return;
        }
        // One share at least, and the transaction's gas.
        let least = indices.iter().map(|index| campaign.share(*index)).min().unwrap_or_default();
        self.settle_on(key, Stage::Claiming(state.claim(indices, least.max(self.cost(gas)))));
    }

    /// Batches that a restart brings back and no transaction has the gas for, as batches had no bound once, are put together
    /// again. Those that were sent are called off: see [`super::post`].
    pub(super) fn refit(&mut self, bounty: Bounty) {
        let Some(campaign) = self.campaigns.get(&bounty).cloned() else { return };
        let again = |stage: &Stage| match stage.clone() {
            Stage::Reserving(state) if state.posting == Posting::Simulating => {
                Some(Stage::Collecting(state.anew()))
            }
            Stage::Claiming(state) if state.posting == Posting::Simulating => Some(Stage::Paid(state.anew())),
            Stage::Direct(state) if state.posting == Posting::Simulating => {
                Some(Stage::Collecting(state.unsent()))
            }
            _ => None,
        };
        let unfit = self.entries.iter().filter(|(key, entry)| {
            let batch = entry.exchange.stage.batch();
            key.0 == bounty && batch.is_some_and(|batch| !campaign.fits(&batch.indices))
        });
        let anew = unfit.filter_map(|(key, entry)| Some((*key, again(&entry.exchange.stage)?)));
        for (key, stage) in anew.collect::<Vec<_>>() {
            self.store(key, stage);
        }
    }

    /// Settles on a batch, if the wallet can pay for its call; else it is put together again.
    fn settle_on(&mut self, key: Key, stage: Stage) {
        let call = self.entries.get(&key).and_then(|entry| call_of(entry, &stage));
        if call.is_some_and(|call| self.funded(key, &call).is_some()) {
            self.store(key, stage);
        }
    }
}

fn waiting(entry: &Entry) -> impl Iterator<Item = u32> {
    let waiting = entry.receipts.values().filter(|receipt| receipt.fate == Fate::Waiting);
    waiting.map(|receipt| receipt.index)
}

/// Waiting receipts whose shares nobody else holds in the latest block, ascending.
fn takeable(entry: &Entry, latest: &[Seen], most: usize) -> Vec<u32> {
    let free = |index: &u32| {
        let seen = latest.iter().find(|seen| seen.index == *index);
        seen.is_some_and(|s| matches!(s.standing, Standing::Free { .. } | Standing::Ours { .. }))
    };
    waiting(entry).filter(free).take(most).collect()
}

/// Whether nobody has or holds any of these shares.
fn free(seen: &[Seen], indices: &[u32]) -> bool {
    let stands = |index: &u32| seen.iter().find(|seen| seen.index == *index).map(|seen| seen.standing);
    indices.iter().all(|index| matches!(stands(index), Some(Standing::Free { .. })))
}

/// The call that the state waits to make.
pub(super) fn call(entry: &Entry) -> Option<Call> {
    call_of(entry, &entry.exchange.stage)
}

fn call_of(entry: &Entry, stage: &Stage) -> Option<Call> {
    let t = || entry.exchange.t.clone();
    match stage {
        Stage::Reserving(state) => {
            let items = items(entry, &state.batch.indices);
            Some(Call::Reserve { s: entry.s, items, min_sum: state.batch.min_sum })
        }
        Stage::Locked(state) => Some(Call::Reveal { t: t(), indices: state.batch.indices.clone() }),
        Stage::Claiming(state) | Stage::Direct(state) => {
            let items = items(entry, &state.batch.indices);
            Some(Call::Claim { t: t(), items, min_sum: state.batch.min_sum })
        }
        _ => None,
    }
}

fn items(entry: &Entry, indices: &[u32]) -> Vec<Item> {
    let receipts = indices.iter().filter_map(|index| entry.receipts.get(index));
    receipts
        .map(|receipt| Item {
            index: receipt.index,
            device: receipt.device,
            attempt: receipt.attempt,
            sig: receipt.sig,
        })
        .collect()
}
