//! From one state to the next: what each waits for, and for how long.

use super::exchange::{Body, Exchange};
use super::io::{Decrypted, Event, Fault, Output};
use super::peer::Peer;
use super::record::Record;
use super::roster::Step;
use super::state::{
    Authenticating, Committed, Decrypting, Failure, Goal, Locating, Offered, Revealed, Staged, State,
};
use crate::id::LockHash;

impl Exchange {
    /// Makes one transition if the facts allow one.
    pub(super) fn step(&mut self, now: u64) -> bool {
        if self.is_hopeless(now) {
            self.fail(Failure::ClaimsClosed);
            return true;
        }
        match self.state {
            State::Announced => self.step_announced(now),
            State::Locating(state) => self.step_locating(state, now),
            State::Authenticating(state) => self.step_authenticating(state, now),
            State::Offered(state) => self.step_offered(state, now),
            State::Committed(state) => self.step_committed(state, now),
            State::Staged(state) => self.step_staged(state),
            State::Done(state) => self.step_done(state),
            State::Revealed(_) | State::Failed(_) | State::Superseded(_) => false,
        }
    }

    /// Nothing can be paid any more and no key has come.
    fn is_hopeless(&mut self, now: u64) -> bool {
        let waits =
            !self.state.is_over() && !self.state.is_staged() && !matches!(self.state, State::Revealed(_));
        waits && self.due(self.update.ends_ms(), now)
    }

    fn step_announced(&mut self, now: u64) -> bool {
        let ready = self.package.is_some() && self.goal(0).is_some();
        if ready {
            self.enter(State::locating(now));
        }
        ready
    }

    fn step_locating(&mut self, mut state: Locating, now: u64) -> bool {
        if let Some(until) = state.until {
            if !self.due(until, now) {
                return false;
            }
            state.until = None;
            self.state = State::Locating(state);
        }
        if let Some(peer) = self.choose(now) {
            return self.approach(peer, now);
        }
        if self.goal(0).is_none() {
            return false;
        }
        if let Some(rested) = self.book.next_rested(now) {
            self.due(rested, now);
        }
        if self.due(state.again, now) {
            self.out.push_back(Output::Locate);
            let until = now.saturating_add(self.policy.locate_ms);
            let again = until.saturating_add(self.policy.relocate_ms);
            self.state = State::Locating(Locating { until: Some(until), again });
            self.due(until, now);
        }
        false
    }

    pub(super) fn on_providers(&mut self, peers: &[Peer], now: u64) {
        let keep = self.state.peer();
        // Who had no copy may have been paid meanwhile.
        self.book.peers.values_mut().for_each(|entry| entry.no_copy_to = 0);
        for peer in peers {
            self.book.meet(*peer, self.policy.max_peers, keep);
        }
        if let State::Locating(state) = &mut self.state {
            state.until = None;
            state.again = now.saturating_add(self.policy.relocate_ms);
        }
    }

    /// What a distributor would be asked for that has no copy under the keys up to a number: a copy of what was paid, or an
    /// offer.
    pub(super) fn goal(&self, no_copy_to: u64) -> Option<Goal> {
        self.copy_goal(no_copy_to).or_else(|| self.can_buy().then_some(Goal::Buy))
    }

    fn choose(&self, now: u64) -> Option<Peer> {
        let (last, buys) = (self.copies().map(|(kept, _)| kept.number).max().unwrap_or(0), self.can_buy());
        self.book.choose(now, |entry| buys || entry.no_copy_to < last)
    }

    /// Starts with a distributor, or goes on with it if receipts were signed for its offer.
    pub(super) fn approach(&mut self, peer: Peer, now: u64) -> bool {
        let Some(goal) = self.book.peers.get(&peer).and_then(|entry| self.goal(entry.no_copy_to)) else {
            return false;
        };
        if goal == Goal::Buy
            && let Some(s) = self.unfinished_with(peer, now)
        {
            self.enter(State::Committed(Committed { peer, s, progress: now }));
            return true;
        }
        self.enter(State::Authenticating(Authenticating { peer, goal, since: now }));
        true
    }

    /// An offer of this distributor for which receipts are signed and no key has come.
    fn unfinished_with(&mut self, peer: Peer, now: u64) -> Option<LockHash> {
        let mut held = self.held.iter().filter(|(s, held)| {
            held.offer.peer == peer && held.first_receipt.is_some() && held.key.is_none() && self.has_hope(s)
        });
        let s = held.next().map(|(s, _)| *s)?;
        if let Some(held) = self.held.get_mut(&s) {
            held.sealed = held.sealed.map(|_| now);
        }
        Some(s)
    }

    /// Whether a receipt for this offer may still be redeemed, or asked for once more.
    pub(super) fn has_hope(&self, s: &LockHash) -> bool {
        self.sensors.values().any(|sensor| match sensor.receipts.get(s).map(|receipt| receipt.step) {
            Some(Step::Signed(_) | Step::Acked) => true,
            Some(Step::Stale) => self.could_pay(sensor),
            _ => false,
        })
    }

    fn step_authenticating(&mut self, state: Authenticating, now: u64) -> bool {
        let fails = self.book.entry(state.peer).fails;
        let late = self.due(state.since.saturating_add(self.policy.proving_ms), now);
        if fails >= self.policy.tries || late {
            self.leave(state.peer, Fault::Unreachable, now);
            return true;
        }
        if state.goal == Goal::Buy && !self.can_buy() {
            self.enter(State::locating(now));
            return true;
        }
        false
    }

    fn step_offered(&mut self, state: Offered, now: u64) -> bool {
        if self.book.entry(state.peer).fails >= self.policy.tries {
            self.leave(state.peer, Fault::SilentAfterOffer, now);
            return true;
        }
        let Some(held) = self.held.get(&state.s) else { return false };
        let ends = held.offer.offer.expires.saturating_mul(1000);
        if self.due(ends.saturating_sub(self.policy.offer_margin_ms), now) {
            self.leave(state.peer, Fault::OfferExpired, now);
            return true;
        }
        if !self.can_buy() {
            self.held.retain(|_, held| held.recorded);
            self.enter(State::locating(now));
            return true;
        }
        false
    }

    fn step_committed(&mut self, state: Committed, now: u64) -> bool {
        let Some(held) = self.held.get(&state.s) else { return false };
        if !self.has_hope(&state.s) {
            self.enter(State::locating(now));
            return true;
        }
        if let Some(sealed) = held.sealed {
            let locked = self.locked_until_ms(&state.s);
            let ends = sealed.saturating_add(self.policy.reveal_ms).max(locked);
            if self.due(ends, now) {
                self.leave(state.peer, Fault::NoKey, now);
                return true;
            }
            return false;
        }
        if !self.is_owed(&state.s, now) {
            self.state = State::Committed(Committed { progress: now, ..state });
            return false;
        }
        if self.due(state.progress.saturating_add(self.policy.receipt_ms), now) {
            self.leave(state.peer, Fault::SilentAfterReceipt, now);
            return true;
        }
        false
    }

    /// Whether the distributor owes an answer: to a receipt, or to the seal.
    fn is_owed(&mut self, s: &LockHash, now: u64) -> bool {
        let unsent = self.sensors.values().any(|sensor| {
            sensor.receipts.get(s).is_some_and(|receipt| matches!(receipt.step, Step::Signed(_)))
        });
        unsent || self.wants_seal(s, now)
    }

    fn step_staged(&mut self, state: Staged) -> bool {
        let version = self.update.version;
        let heard = self.sensors.values().any(|sensor| sensor.seen.is_some());
        let done = heard && !self.sensors.values().any(|sensor| sensor.lacks(version));
        if done {
            self.enter(State::Done(state));
        }
        done
    }

    fn step_done(&mut self, state: Staged) -> bool {
        let version = self.update.version;
        let again = self.sensors.values().any(|sensor| sensor.lacks(version));
        if again {
            self.enter(State::Staged(state));
        }
        again
    }

    /// Fetches the body: first from the distributor that is to be paid, once its offer is verified.
    pub(super) fn fetch_body(&mut self, now: u64) {
        let Body::Missing { at, anybody } = self.body else { return };
        if self.package.is_none() {
            return;
        }
        let Some(s) = self.state.paying() else { return };
        if self.due(at, now) {
            let payee = self.held.get(&s).map(|held| held.offer.peer);
            let from = if anybody { None } else { payee };
            self.body = Body::Fetching { from };
            self.out.push_back(Output::FetchBody { from });
        }
    }

    /// Starts decrypting when key and body are here.
    pub(super) fn decrypt(&mut self, now: u64) {
        let State::Revealed(Revealed { s, step: Decrypting::At(at) }) = self.state else { return };
        if self.body != Body::Held || self.package.is_none() || !self.due(at, now) {
            return;
        }
        let Some(held) = self.held.get(&s) else { return };
        let Some(r) = held.key.clone() else { return };
        let cipher = held.offer.offer.cipher.clone();
        self.state = State::Revealed(Revealed { s, step: Decrypting::Running });
        self.out.push_back(Output::Decrypt { s, r, cipher });
    }

    pub(super) fn on_decrypted(&mut self, s: LockHash, outcome: Decrypted, now: u64) {
        if !matches!(self.state, State::Revealed(state) if state.s == s && state.step == Decrypting::Running)
        {
            return;
        }
        match outcome {
            Decrypted::Staged => {
                self.persist(Record::Staged { s });
                self.event(Event::Staged(s));
                self.enter(State::Staged(Staged { s, since: now }));
            }
            Decrypted::WrongSecret => self.on_misfit(s, now),
            Decrypted::WrongImage => self.fail(Failure::VendorMismatch),
            Decrypted::NoSpace | Decrypted::Io => {
                self.event(Event::StagingFailed(outcome));
                let at = now.saturating_add(self.policy.stage_retry_ms);
                self.state = State::Revealed(Revealed { s, step: Decrypting::At(at) });
            }
        }
    }

    /// The proof held and the key fits the lock, yet the secret is another: nothing of this
    /// distributor is believed again.
    fn on_misfit(&mut self, s: LockHash, now: u64) {
        self.persist(Record::Misfit { s });
        self.enter(State::locating(now));
        let Some(held) = self.held.get_mut(&s) else { return };
        held.misfit = true;
        let peer = held.offer.peer;
        self.leave(peer, Fault::KeyMisfit, now);
        self.open_next_key(now);
    }

    /// Another offer's key may have come meanwhile.
    fn open_next_key(&mut self, now: u64) {
        let mut open = self.held.iter().filter(|(_, held)| held.key.is_some() && !held.misfit);
        if let Some(s) = open.next().map(|(s, _)| *s) {
            self.enter(State::Revealed(Revealed { s, step: Decrypting::At(now) }));
        }
    }
}
