//! What the answers of distributors mean.

use alloc::vec::Vec;

use super::ask::{Ask, Inflight};
use super::exchange::Exchange;
use super::io::{Event, Fault, KeySource, Output, RequestId};
use super::offer::{Offer, OfferCheck, VerifiedOffer};
use super::peer::Peer;
use super::record::Record;
use super::roster::Step;
use super::state::{Authenticating, Committed, Goal, Offered, State};
use crate::exchange::{Member, Redeem, Refusal, Response, Terms};
use crate::id::{Attempt, DeviceKey, LockHash, Payee};
use crate::secret::KeyR;

/// The terms of an offer that was asked for as a copy: nothing is collected under it yet.
const COPY_TERMS: Terms = Terms { window_secs: 0, min_receipts: 0, redeem: Redeem::ReserveReveal };

impl Exchange {
    pub(super) fn on_response(&mut self, id: RequestId, response: Response, now: u64) {
        let Some(Inflight { peer, ask, .. }) = self.inflight.remove(&id) else { return };
        self.book.entry(peer).answered();
        match (ask, response) {
            (ask, Response::Refused { reason }) => self.on_refused(peer, &ask, reason, now),
            (Ask::Poll(s), Response::Pending { retry_after_ms }) => {
                self.poll_later(&s, u64::from(retry_after_ms), now);
            }
            (ask, Response::Pending { retry_after_ms }) => {
                self.on_pending(peer, &ask, retry_after_ms, now);
            }
            (Ask::Hello(_), Response::Challenge { c, payee, terms }) => {
                self.on_challenge(peer, super::book::Challenge { c, payee, terms }, now);
            }
            (Ask::Auth, Response::Offer { cipher, s, proof, vk_id, expires }) => {
                self.on_offer(peer, Offer { cipher, s, proof, vk_id, expires }, now);
            }
            (Ask::Copy(wanted, _), Response::Offer { cipher, s, proof, vk_id, expires }) if wanted == s => {
                self.on_copy(peer, Offer { cipher, s, proof, vk_id, expires }, now);
            }
            (Ask::Members(keys), Response::Members { entries }) if keys.len() == entries.len() => {
                self.on_members(peer, &keys, entries, now);
            }
            (Ask::Receipt(device, s, attempt), Response::Ack { .. }) => {
                self.on_ack(device, s, attempt, now);
            }
            (Ask::Seal(s), Response::Sealed { receipts }) => self.on_sealed(s, receipts, now),
            (Ask::Poll(s), Response::Key { r }) => self.on_polled_key(peer, s, r, now),
            _ => self.on_unexpected(peer, now),
        }
    }

    fn on_unexpected(&mut self, peer: Peer, now: u64) {
        self.book.entry(peer).failed(now);
        if matches!(self.state, State::Authenticating(_) | State::Offered(_))
            && self.state.peer() == Some(peer)
        {
            self.leave(peer, Fault::Unexpected, now);
        }
    }

    fn on_pending(&mut self, peer: Peer, ask: &Ask, retry_after_ms: u32, now: u64) {
        let (least, most) = self.policy.poll_ms;
        let entry = self.book.entry(peer);
        if *ask == Ask::Auth {
            entry.locked_out = false;
        }
        entry.retry_at = now.saturating_add(u64::from(retry_after_ms).clamp(least, most));
    }

    fn poll_later(&mut self, s: &LockHash, after_ms: u64, now: u64) {
        let (least, most) = self.policy.poll_ms;
        if let Some(held) = self.held.get_mut(s) {
            held.poll_at = now.saturating_add(after_ms.clamp(least, most));
        }
    }

    fn on_challenge(&mut self, peer: Peer, challenge: super::book::Challenge, now: u64) {
        self.book.entry(peer).challenge = Some(challenge);
        let version = self.update.version;
        let payers = self.sensors.values().filter(|sensor| sensor.needs(version)).count();
        let buying = matches!(self.state, State::Authenticating(state) if state.peer == peer);
        if buying && payers < challenge.terms.min_receipts as usize {
            self.leave(peer, Fault::BatchTooSmall, now);
        }
    }

    fn on_offer(&mut self, peer: Peer, offer: Offer, now: u64) {
        let entry = self.book.entry(peer);
        entry.locked_out = false;
        let Some(challenge) = entry.challenge else { return };
        let State::Authenticating(Authenticating { peer: current, goal: Goal::Buy, .. }) = self.state else {
            return;
        };
        if current != peer {
            return;
        }
        let s = offer.s;
        let margin = now.saturating_add(self.policy.offer_margin_ms);
        let expired = offer.expires.saturating_mul(1000) <= margin;
        if let Some(held) = self.held.get_mut(&s) {
            let own = held.offer.peer == peer;
            if own && held.first_receipt.is_none() {
                // What was verified opens as before; until when receipts are taken is the distributor's word alone, and new.
                held.offer.offer.expires = offer.expires;
                let record = held.recorded.then(|| held.offer.clone());
                record.into_iter().for_each(|offer| self.persist(Record::Offer(offer)));
            }
            self.on_known_offer(peer, s, own, now);
            return;
        }
        if expired {
            self.leave(peer, Fault::OfferExpired, now);
            return;
        }
        self.verify(peer, challenge.payee, challenge.terms, offer, now);
    }

    /// The same offer again, after a restart or a pause; or somebody repeats another's.
    fn on_known_offer(&mut self, peer: Peer, s: LockHash, own: bool, now: u64) {
        if !own {
            self.leave(peer, Fault::Offer(super::OfferFault::LockInUse), now);
        } else if self.held.get(&s).is_some_and(|held| held.first_receipt.is_some()) {
            if !self.has_hope(&s) {
                self.leave(peer, Fault::Refused(Refusal::Closed), now);
                return;
            }
            self.enter(State::Committed(Committed { peer, s, progress: now }));
        } else {
            self.enter(State::Offered(Offered { peer, s, verified: true }));
        }
    }

    fn on_copy(&mut self, peer: Peer, offer: Offer, now: u64) {
        let State::Authenticating(Authenticating { peer: current, goal, .. }) = self.state else {
            return;
        };
        let Goal::Copy { s, payee, .. } = goal else { return };
        if current == peer && s == offer.s {
            self.verify(peer, payee, COPY_TERMS, offer, now);
        }
    }

    fn verify(&mut self, peer: Peer, payee: Payee, terms: Terms, offer: Offer, now: u64) {
        let Some(package) = &self.package else { return };
        let s = offer.s;
        let check = OfferCheck {
            target: package.target(),
            payload_len: package.payload_len(),
            vk_id: package.release().vk_id,
            offer: VerifiedOffer {
                peer,
                payee,
                window_secs: terms.window_secs,
                min_receipts: terms.min_receipts,
                offer,
                since: now,
            },
        };
        self.event(Event::Offered(peer, s));
        self.enter(State::Offered(Offered { peer, s, verified: false }));
        self.out.push_back(Output::Verify(check));
    }

    fn on_members(&mut self, peer: Peer, keys: &[DeviceKey], entries: Vec<Option<Member>>, now: u64) {
        let Some(release) = self.package.as_ref().map(|package| package.release().clone()) else {
            return;
        };
        for (device, entry) in keys.iter().zip(entries) {
            let Some(Member { index, path }) = entry else {
                self.on_denied(*device, peer);
                continue;
            };
            if !(self.verify_path)(&release, device, index, &path) {
                self.leave(peer, Fault::BadPath, now);
                return;
            }
            self.on_member(*device, index);
        }
    }

    fn on_denied(&mut self, device: DeviceKey, peer: Peer) {
        if let Some(sensor) = self.sensors.get_mut(&device) {
            sensor.denied_by.insert(peer);
            self.sensor_fault(device, super::SensorFault::NotInFleet);
        }
    }

    fn on_member(&mut self, device: DeviceKey, index: u32) {
        let Some(sensor) = self.sensors.get_mut(&device) else { return };
        if sensor.index.is_none() {
            sensor.index = Some(index);
            sensor.fault = None;
            sensor.denied_by.clear();
            self.persist(Record::Index { device, index });
            self.reveals.adopt(index);
            self.event(Event::Member(device, index));
        }
    }

    fn on_ack(&mut self, device: DeviceKey, s: LockHash, attempt: Attempt, now: u64) {
        let Some(sensor) = self.sensors.get_mut(&device) else { return };
        let Some(receipt) = sensor.receipts.get_mut(&s) else { return };
        if receipt.attempt != attempt || !matches!(receipt.step, Step::Signed(_)) {
            return;
        }
        receipt.step = Step::Acked;
        self.persist(Record::Acked { device, s, attempt });
        self.event(Event::Acked(device, s));
        self.progress(&s, now);
    }

    fn progress(&mut self, s: &LockHash, now: u64) {
        if let Some(held) = self.held.get_mut(s) {
            held.news = now;
        }
        if let State::Committed(state) = &mut self.state
            && state.s == *s
        {
            state.progress = now;
        }
    }

    fn on_sealed(&mut self, s: LockHash, receipts: u32, now: u64) {
        let Some(held) = self.held.get_mut(&s) else { return };
        if held.sealed.is_none() {
            held.sealed = Some(now);
            self.persist(Record::Sealed { s, at: now });
            self.event(Event::Sealed(s, receipts));
            self.progress(&s, now);
        }
    }

    fn on_polled_key(&mut self, peer: Peer, s: LockHash, r: KeyR, now: u64) {
        if r.lock() == s {
            self.on_key(s, r, KeySource::Distributor, now);
            return;
        }
        // No honest distributor has another preimage of its own lock. It may still redeem the receipts
        // that it has: the chain's key is taken whoever was left.
        self.ignore_key(s);
        self.leave(peer, Fault::WrongKey, now);
    }

    fn on_refused(&mut self, peer: Peer, ask: &Ask, reason: Refusal, now: u64) {
        // To a copy it is a plain no: that device was not paid for here.
        let locked_out = reason == Refusal::NotAuthenticated && !matches!(ask, Ask::Copy(..));
        if locked_out || reason == Refusal::RateLimited {
            let entry = self.book.entry(peer);
            entry.failed(now);
            if locked_out {
                (entry.locked_out, entry.challenge) = (true, None);
            }
            return;
        }
        match ask {
            Ask::Hello(device) => self.on_hello_refused(peer, *device, reason, now),
            Ask::Auth => self.leave_over(peer, reason, now),
            Ask::Receipt(device, s, attempt) => {
                self.on_receipt_refused(peer, (*device, *s, *attempt), reason, now);
            }
            // A batch that is closed to receipts is a sealed one.
            Ask::Seal(s) if reason == Refusal::Closed => self.on_sealed(*s, 0, now),
            Ask::Seal(s) | Ask::Poll(s) => self.on_offer_refused(peer, s, reason, now),
            Ask::Copy(s, _) => self.on_copy_refused(peer, *s, reason, now),
            Ask::Members(_) => self.book.entry(peer).failed(now),
        }
    }

    /// The next key's copy is asked for in the same conversation, and after the last one an offer: keys that were made up
    /// cost a question each, and a distributor that draws these out is left like one that draws out its proof.
    fn on_copy_refused(&mut self, peer: Peer, s: LockHash, reason: Refusal, now: u64) {
        let State::Authenticating(state) = self.state else { return };
        let Goal::Copy { number, s: asked, .. } = state.goal else { return };
        if (state.peer, asked) != (peer, s) {
            return;
        }
        self.book.entry(peer).no_copy_to = number;
        match self.goal(number) {
            Some(goal @ Goal::Copy { .. }) => {
                self.enter(State::Authenticating(Authenticating { goal, ..state }));
            }
            Some(Goal::Buy) => {
                self.approach(peer, now);
            }
            None => self.leave_over(peer, reason, now),
        }
    }

    /// Leaves if the conversation has not come to receipts yet.
    fn leave_over(&mut self, peer: Peer, reason: Refusal, now: u64) {
        self.book.entry(peer).failed(now);
        self.book.entry(peer).challenge = None;
        if matches!(self.state, State::Authenticating(state) if state.peer == peer) {
            self.leave(peer, Fault::Refused(reason), now);
        }
    }

    fn on_hello_refused(&mut self, peer: Peer, device: DeviceKey, reason: Refusal, now: u64) {
        match reason {
            Refusal::NotAMember => self.on_denied(device, peer),
            Refusal::AlreadyClaimed => {
                if let Some(sensor) = self.sensors.get_mut(&device) {
                    sensor.claimed_by_word.insert(peer);
                }
            }
            _ => return self.leave_over(peer, reason, now),
        }
        // Another sensor may speak for the rest.
        if self.delegate_key(Some(peer)).is_none() {
            self.leave_over(peer, reason, now);
        }
    }

    fn on_offer_refused(&mut self, peer: Peer, s: &LockHash, reason: Refusal, now: u64) {
        let (_, most) = self.policy.poll_ms;
        self.poll_later(s, most, now);
        self.book.entry(peer).failed(now);
        let current = matches!(self.state, State::Committed(state) if state.s == *s);
        let lost = matches!(
            reason,
            Refusal::UnknownOffer | Refusal::UnknownBounty | Refusal::OfferExpired | Refusal::Closed
        );
        if current && lost {
            self.leave(peer, Fault::Refused(reason), now);
        }
    }

    fn on_receipt_refused(
        &mut self,
        peer: Peer,
        (device, s, attempt): (DeviceKey, LockHash, Attempt),
        reason: Refusal,
        now: u64,
    ) {
        if reason == Refusal::UnknownBounty || reason == Refusal::Malformed {
            self.book.entry(peer).failed(now);
            return;
        }
        let Some(sensor) = self.sensors.get_mut(&device) else { return };
        let Some(receipt) = sensor.receipts.get_mut(&s) else { return };
        if receipt.attempt != attempt || !matches!(receipt.step, Step::Signed(_)) {
            return;
        }
        // A stale attempt may be followed by a higher one; anything else is final for this offer.
        receipt.step = if reason == Refusal::StaleAttempt { Step::Stale } else { Step::Refused };
        sensor.claim = None;
        self.event(Event::ReceiptRefused(device, s, reason));
        let current = matches!(self.state, State::Committed(state) if state.s == s);
        if current && !self.has_hope(&s) {
            self.leave(peer, Fault::Refused(reason), now);
        }
    }
}
