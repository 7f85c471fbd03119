//! From receipts to payment: proofs, batches, transactions, and what the chain says of them.

use alloc::vec::Vec;

use crate::id::LockHash;

use super::campaign::Campaign;
use super::chain::{Call, CallFailure, Head, Item, Observation, Seen, Standing, Wei};
use super::io::{Change, Event, Output};
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
        let ask = match &entry.exchange.stage {
            Stage::Proving => {
                let r = entry.exchange.r(&self.me.payee);
                Some(Output::Prove { bounty, gateway, s: entry.s, r })
            }
            Stage::Reserving(state) if state.posting == Posting::Simulating => {
                if !self.reservable(campaign) {
                    return self.close(key, CloseReason::ClaimsOver);
                }
                call(entry).map(|call| Output::Simulate { bounty, gateway, call })
            }
            Stage::Claiming(state) if state.posting == Posting::Simulating => {
                call(entry).map(|call| Output::Simulate { bounty, gateway, call })
            }
            Stage::Locked(state) => {
                match self.worth_t(state.until) {
                    Worth::Lapsed => return self.close(key, CloseReason::LockLapsed),
                    Worth::Doubtful => return,
                    Worth::Good => {}
                }
                call(entry).map(|call| Output::Simulate { bounty, gateway, call })
            }
            _ => None,
        };
        self.ask(key, ask);
    }

    fn ask(&mut self, key: Key, ask: Option<Output>) {
        let (Some(entry), Some(ask)) = (self.entries.get_mut(&key), ask) else { return };
        entry.asked = true;
        self.out.push_back(ask);
    }

    /// Whether `t` sent now would come well before the end of the lock. That is so only if our own clock says so too:
    /// a head that is withheld makes a lock look alive that has ended. But it is the chain alone that ends a lock for
    /// good, as our clock may be wrong.
    fn worth_t(&self, until: u64) -> Worth {
        let margin = u64::from(self.policy.reveal_margin_secs);
        let early = |now: u64| now.saturating_add(margin) < until;
        match self.chain_time() {
            Some(now) if !early(now) => Worth::Lapsed,
            Some(_) if early(self.now / 1000) => Worth::Good,
            _ => Worth::Doubtful,
        }
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

    pub(super) fn on_head(&mut self, head: Head, now: u64) {
        self.head = Some(head);
        let (done, again) = self.outbox.head(&head, now, self.policy.resubmit_after_ms);
        let done = done.into_iter().map(|nonce| Output::Persist(Change::Settled { nonce }));
        self.out.extend(done);
        for slot in again {
            self.out.push_back(Output::Persist(Change::Transaction(slot.clone())));
            self.out.push_back(Output::Submit(slot));
        }
        self.tick();
    }

    pub(super) fn simulated(&mut self, key: Key, result: Result<(), CallFailure>, now: u64) {
        let Some(entry) = self.entries.get_mut(&key).filter(|entry| entry.asked) else { return };
        entry.asked = false;
        entry.pause = if result.is_ok() { Pause::default() } else { entry.pause.longer(now) };
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

    /// Gives the call its nonce: persisted with the state that waits for it, then sent.
    fn post(&mut self, key: Key, call: Call, now: u64) {
        if !self.outbox.ready(self.policy.limits.transactions) {
            return;
        }
        let Some(stage) = self.entries.get(&key).map(|entry| entry.exchange.stage.clone()) else {
            return;
        };
        // Time has passed since the call was tried.
        if let Stage::Locked(state) = &stage
            && self.worth_t(state.until) != Worth::Good
        {
            // The next head tells a lock that has ended from a clock that is ahead.
            return;
        }
        let Some(slot) = self.outbox.post(key.0, key.1, call, now) else { return };
        self.out.push_back(Output::Persist(Change::Transaction(slot.clone())));
        self.store(key, posted(stage, slot.nonce));
        self.out.push_back(Output::Submit(slot));
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
    fn claims_over(&self, bounty: &crate::id::Bounty) -> bool {
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
                if let Posting::Posted(nonce) = state.posting {
                    self.reserved(key, &campaign, state, nonce, seen);
                }
            }
            Stage::Revealing(state) if known && self.outbox.is_final(state.nonce) => {
                self.revealed(key, state, seen);
            }
            Stage::Claiming(state) => {
                if let Posting::Posted(nonce) = state.posting
                    && known
                    && self.outbox.is_final(nonce)
                {
                    self.claimed(key, state, nonce, seen);
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
        let indices = takeable(entry, &seen.latest, usize::from(self.policy.max_batch));
        let min_sum = self.price(campaign, &indices);
        let enough = indices.len() >= self.policy.min_receipts.max(1) as usize
            && campaign.sum(indices.iter().copied()) >= min_sum;
        if enough {
            self.store(key, Stage::Reserving(state.reserve(indices, min_sum)));
        }
    }

    /// Least sum to show `t` for: what the policy names, and the least receipts at the least share.
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
                self.store(key, Stage::Collecting(state.back()));
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
        self.store(key, Stage::Paid(state.back(progress)));
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
        if indices.is_empty() || !self.reservable(campaign) {
            return;
        }
        if state.tries >= self.policy.max_tries {
            return indices.into_iter().for_each(|index| self.settle(key, index, Fate::Rejected));
        }
        // One share at least, or the transaction is not worth its gas.
        let least = indices.iter().map(|index| campaign.share(*index)).min().unwrap_or_default();
        self.store(key, Stage::Claiming(state.claim(indices, least)));
    }
}

/// What showing `t` now would be.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Worth {
    /// Time is left by the chain and by our own clock.
    Good,
    /// None is left by our own clock, or nobody knows the chain's.
    Doubtful,
    /// The chain itself says that the lock is at its end.
    Lapsed,
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

/// The call that the state waits to make.
fn call(entry: &Entry) -> Option<Call> {
    let t = || entry.exchange.t.clone();
    match &entry.exchange.stage {
        Stage::Reserving(state) => {
            let items = items(entry, &state.batch.indices);
            Some(Call::Reserve { s: entry.s, items, min_sum: state.batch.min_sum })
        }
        Stage::Locked(state) => Some(Call::Reveal { t: t(), indices: state.batch.indices.clone() }),
        Stage::Claiming(state) => {
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

/// The state that waits for the nonce.
fn posted(stage: Stage, nonce: u64) -> Stage {
    match stage {
        Stage::Reserving(mut state) => {
            state.posting = Posting::Posted(nonce);
            Stage::Reserving(state)
        }
        Stage::Claiming(mut state) => {
            state.posting = Posting::Posted(nonce);
            Stage::Claiming(state)
        }
        Stage::Locked(state) => Stage::Revealing(state.reveal(nonce)),
        other => other,
    }
}
