//! Which sensor is asked for what, and which one is served.
//!
//! A receipt is asked for when all of this holds: the offer is verified, the encrypted body is here,
//! the sensor's place in the fleet is proven, its share is free by a fresh reading, there is time
//! before `claimBy`, and the sensor has signed whatever it was asked before.

use alloc::vec::Vec;
use core::cmp::Reverse;

use super::exchange::{Body, Exchange};
use super::io::{Admission, ClaimEntry, ClaimState, Event, Intent, Output, SensorFault};
use super::offer::VerifiedOffer;
use super::record::Record;
use super::reveals::Kept;
use super::roster::{Receipt, Sensor, Step};
use super::state::{Goal, State};
use crate::id::{Attempt, DeviceKey, LockHash};
use crate::sensor::{ErrorCode, SignRequest};

/// Shares read at once.
const MAX_CLAIMS: usize = 256;

impl Exchange {
    /// The receipt's words; the token is what it takes to say them.
    pub(super) fn word(&self, offer: &VerifiedOffer, attempt: Attempt) -> SignRequest {
        let update = &self.update;
        offer.receipt(update.chain, update.bounty, update.u_id, attempt)
    }

    /// Whether receipts may still be asked for.
    fn claims_open(&mut self, now: u64) -> bool {
        let last = self.update.claim_by_ms().saturating_sub(self.policy.claim_margin_ms);
        !self.due(last, now)
    }

    /// Whether some sensor could pay and somebody can speak for it.
    pub(super) fn can_buy(&self) -> bool {
        let room =
            self.held.len() < self.policy.max_offers || self.held.values().any(|held| held.key.is_none());
        room && self.delegate_key(None).is_some()
            && self.sensors.values().any(|sensor| self.could_pay(sensor))
    }

    pub(super) fn could_pay(&self, sensor: &Sensor) -> bool {
        sensor.needs(self.update.version)
            && !sensor.is_claimed()
            && (sensor.pending().is_some() || sensor.next_attempt(self.policy.max_attempts).is_some())
    }

    /// A sensor that delegated and whose word this distributor will take.
    pub(super) fn delegate_key(&self, peer: Option<super::Peer>) -> Option<DeviceKey> {
        let refused = |sensor: &Sensor, peer| {
            sensor.denied_by.contains(&peer) || sensor.claimed_by_word.contains(&peer)
        };
        let usable = |(_, sensor): &(&DeviceKey, &Sensor)| {
            sensor.delegation.is_some()
                && !sensor.is_claimed()
                && !peer.is_some_and(|peer| refused(sensor, peer))
        };
        self.sensors.iter().find(usable).map(|(device, _)| *device)
    }

    /// The keys that were told for shares of ours which another exchange has claimed: the cipher is to be had from those who
    /// were paid.
    pub(super) fn copies(&self) -> impl Iterator<Item = (&Kept, DeviceKey)> {
        let version = self.update.version;
        let claimed = self.sensors.iter().filter(move |(_, sensor)| {
            sensor.needs(version) && (sensor.is_claimed() || !sensor.claimed_by_word.is_empty())
        });
        let keys = claimed.flat_map(|(device, sensor)| {
            let own = sensor.index.into_iter().flat_map(|index| self.reveals.of(index));
            own.map(|kept| (kept, *device))
        });
        keys.filter(|(kept, _)| !self.held.contains_key(&kept.reveal.s))
    }

    /// The first copy to ask for after those up to a number.
    pub(super) fn copy_goal(&self, after: u64) -> Option<Goal> {
        let left = self.copies().filter(|(kept, _)| kept.number > after);
        let (kept, device) = left.min_by_key(|(kept, _)| kept.number)?;
        Some(Goal::Copy { number: kept.number, s: kept.reveal.s, payee: kept.reveal.payee, device })
    }

    /// Reads the shares that a decision waits for.
    pub(super) fn check_claims(&mut self, now: u64) {
        if let Some(until) = self.claims_until {
            if !self.due(until, now) {
                return;
            }
            self.claims_until = None;
        }
        if self.state.is_over() || !self.due(self.claims_again, now) {
            return;
        }
        let indices = self.stale_claims(now);
        if indices.is_empty() {
            return;
        }
        let offers = self.held.values().map(|held| (held.offer.s(), held.offer.payee)).collect();
        self.claims_until = Some(now.saturating_add(self.policy.request_ms.saturating_mul(3)));
        self.out.push_back(Output::CheckClaims { indices, offers });
    }

    /// Members that have not been read lately and still matter.
    fn stale_claims(&mut self, now: u64) -> Vec<u32> {
        let paying = self.state.paying();
        let (version, fresh_ms) = (self.update.version, self.policy.claim_fresh_ms);
        let mut indices = Vec::new();
        let mut next = u64::MAX;
        for sensor in self.sensors.values().filter(|sensor| sensor.needs(version)) {
            let Some(index) = sensor.index else { continue };
            let paid = paying.is_some_and(|s| sensor.has_paid(&s));
            if sensor.is_claimed() || (paid && self.state.is_staged()) {
                continue;
            }
            let stale_at = sensor.claim.map_or(0, |(_, at)| at.saturating_add(fresh_ms));
            if stale_at > now {
                next = next.min(stale_at);
            } else if indices.len() < MAX_CLAIMS {
                indices.push(index);
            }
        }
        self.due(next, now);
        indices
    }

    pub(super) fn on_claims(&mut self, entries: &[ClaimEntry], now: u64) {
        if self.claims_until.take().is_none() {
            return;
        }
        for sensor in self.sensors.values_mut() {
            let entry = entries.iter().find(|entry| sensor.index == Some(entry.index));
            if let Some(entry) = entry {
                sensor.claim = Some((entry.state, now));
                sensor.chain_attempt = sensor.chain_attempt.max(entry.attempt);
            }
        }
    }

    pub(super) fn on_claims_failed(&mut self, now: u64) {
        if self.claims_until.take().is_some() {
            self.claims_again = now.saturating_add(self.policy.relocate_ms);
        }
    }

    /// Until when shares are locked by this offer, Unix milliseconds, with room for the last poll.
    pub(super) fn locked_until_ms(&self, s: &LockHash) -> u64 {
        let ends = self.sensors.values().filter_map(|sensor| match sensor.claim {
            Some((ClaimState::Locked { until, by: Some(by) }, _)) if by == *s => Some(until),
            _ => None,
        });
        ends.max().map_or(0, |until| until.saturating_mul(1000).saturating_add(self.policy.poll_ms.1))
    }

    /// Whether the batch is to be sealed: everybody who could has signed and it has been quiet for
    /// a while, or the distributor's window is over.
    pub(super) fn wants_seal(&mut self, s: &LockHash, now: u64) -> bool {
        let Some(held) = self.held.get(s) else { return false };
        let Some(first) = held.first_receipt else { return false };
        if held.sealed.is_some() || held.key.is_some() {
            return false;
        }
        let window = u64::from(held.offer.window_secs).saturating_mul(1000);
        let (news, least) = (held.news, held.offer.min_receipts);
        let acked = self.count_receipts(s, |step| step == Step::Acked);
        if acked == 0 {
            return false;
        }
        let complete = acked >= least as usize && !self.expects_more(s, now);
        let wait = if acked >= least as usize { window.min(self.policy.gather_ms) } else { window };
        let over = self.due(first.saturating_add(wait), now);
        over || (complete && self.due(news.saturating_add(self.policy.quiet_ms), now))
    }

    pub(super) fn count_receipts(&self, s: &LockHash, which: impl Fn(Step) -> bool) -> usize {
        let receipts = self.sensors.values().filter_map(|sensor| sensor.receipts.get(s));
        receipts.filter(|receipt| which(receipt.step)).count()
    }

    /// Whether a sensor that is known may still bring a receipt into the batch.
    fn expects_more(&self, s: &LockHash, now: u64) -> bool {
        self.sensors.values().any(|sensor| match sensor.receipts.get(s) {
            Some(receipt) => matches!(receipt.step, Step::Asked | Step::Signed(_)),
            None => {
                self.could_pay(sensor) && sensor.denied_by.is_empty() && !sensor.is_locked_elsewhere(s, now)
            }
        })
    }

    /// Works out what each sensor should find, and says so where it has changed.
    pub(super) fn intend_all(&mut self, now: u64) {
        self.choose_delegate(now);
        let devices: Vec<DeviceKey> = self.sensors.keys().copied().collect();
        for device in devices {
            self.ask_receipt(device, now);
            let intent = self.intent(&device, now);
            let Some(sensor) = self.sensors.get_mut(&device) else { continue };
            if sensor.intent != intent {
                sensor.intent = intent;
                self.out.push_back(Output::Intend { device, intent });
            }
        }
    }

    /// Picks the sensor that is asked for a delegation: of those that are awake the one heard last, for the others may be asleep
    /// by now; another if that one fell asleep over it.
    fn choose_delegate(&mut self, now: u64) {
        let starting = matches!(self.state, State::Announced | State::Locating(_) | State::Authenticating(_));
        let wanted = self.package.is_some()
            && !self.state.is_over()
            && self.delegate_key(self.state.peer()).is_none()
            && (starting || self.delegate_wanted);
        if !wanted {
            self.delegate = None;
            return;
        }
        if let Some((_, since)) = self.delegate
            && !self.due(since.saturating_add(self.policy.delegate_ms), now)
        {
            return;
        }
        let last = self.delegate.map(|(device, _)| device);
        let (version, awake_ms) = (self.update.version, self.policy.awake_ms);
        let curve = self.package.as_ref().map(super::CheckedRelease::curve);
        let able = |sensor: &&Sensor| {
            sensor.needs(version)
                && sensor.is_awake(now, awake_ms)
                && sensor.delegation.is_none()
                && sensor.denied_by.is_empty()
                && sensor.seen.map(|seen| seen.curve) == curve
        };
        let others = self.sensors.iter().filter(|(device, sensor)| Some(**device) != last && able(sensor));
        // Whoever was not asked yet goes first: two that talk and never sign must not take turns for ever.
        let next = others
            .min_by_key(|(_, sensor)| (sensor.delegate_asked, Reverse(sensor.seen.map(|seen| seen.heard))))
            .map(|(device, _)| *device);
        if let Some(sensor) = next.and_then(|device| self.sensors.get_mut(&device)) {
            sensor.delegate_asked = now;
        }
        self.delegate = next.or(last).map(|device| (device, now));
        if let Some((_, since)) = self.delegate {
            self.due(since.saturating_add(self.policy.delegate_ms), now);
        }
    }

    /// Uses up an attempt for a receipt of the offer that is paid now, if all conditions hold.
    fn ask_receipt(&mut self, device: DeviceKey, now: u64) {
        let Some(s) = self.state.paying() else { return };
        if self.body != Body::Held || self.package.is_none() || !self.claims_open(now) {
            return;
        }
        if self.held.get(&s).is_none_or(|held| held.misfit) {
            return;
        }
        // Before the first receipt an offer may still lapse, and an attempt with it: only sensors
        // that can answer now are asked.
        let awake_only = matches!(self.state, State::Offered(_));
        let Some(attempt) = self.next_receipt(&device, &s, awake_only, now) else { return };
        let Some(held) = self.held.get_mut(&s) else { return };
        let record = (!held.recorded).then(|| held.offer.clone());
        held.recorded = true;
        if let Some(offer) = record {
            self.persist(Record::Offer(offer));
        }
        self.persist(Record::Asked { device, s, attempt });
        self.event(Event::Asked(device, s, attempt));
        if let Some(sensor) = self.sensors.get_mut(&device) {
            sensor.receipts.insert(s, Receipt { attempt, step: Step::Asked });
        }
    }

    /// The attempt that a receipt of this sensor for this offer would carry, if it may be asked for.
    fn next_receipt(
        &mut self,
        device: &DeviceKey,
        s: &LockHash,
        awake_only: bool,
        now: u64,
    ) -> Option<Attempt> {
        let sensor = self.sensors.get(device)?;
        let awake = !awake_only || sensor.is_awake(now, self.policy.awake_ms);
        let open = sensor.needs(self.update.version)
            && sensor.index.is_some()
            && sensor.pending().is_none()
            && sensor.receipts.get(s).is_none_or(|receipt| receipt.step == Step::Stale)
            && awake;
        if !open {
            return None;
        }
        let (state, read) = sensor.claim?;
        let fresh = now < read.saturating_add(self.policy.claim_fresh_ms);
        let free = match state {
            ClaimState::Free => true,
            ClaimState::Claimed => false,
            ClaimState::Locked { until, by } => by == Some(*s) || until.saturating_mul(1000) <= now,
        };
        if !fresh || !free {
            return None;
        }
        let attempt = sensor.next_attempt(self.policy.max_attempts);
        if attempt.is_none() {
            self.sensor_fault(*device, SensorFault::NoAttempts);
        }
        attempt
    }

    fn intent(&mut self, device: &DeviceKey, now: u64) -> Intent {
        let open = self.claims_open(now);
        let Some(sensor) = self.sensors.get(device) else { return Intent::default() };
        let idle = self.package.is_none() || self.state.is_over() || !sensor.needs(self.update.version);
        if idle {
            return Intent::default();
        }
        let sign = match sensor.pending() {
            Some((s, attempt)) if open => self.held.get(&s).map(|held| self.word(&held.offer, attempt)),
            _ => self.delegation_request(device),
        };
        let image = sensor.admission == Admission::Open && self.is_entitled(device, open, now);
        Intent { manifest: true, sign, image }
    }

    fn delegation_request(&self, device: &DeviceKey) -> Option<SignRequest> {
        let asked = self.delegate.is_some_and(|(asked, _)| asked == *device);
        asked.then_some(SignRequest::Delegate {
            chain: self.update.chain,
            bounty: self.update.bounty,
            gateway: self.gateway,
        })
    }

    /// Who is served from the staged image: who has signed a receipt for the offer that opened it,
    /// whose share is gone to somebody else, and everybody in the fleet once nothing can be paid any more. Where nobody is
    /// left to prove a sensor's membership, it is not made to wait for ever.
    fn is_entitled(&mut self, device: &DeviceKey, open: bool, now: u64) -> bool {
        let (State::Staged(staged) | State::Done(staged)) = self.state else { return false };
        let Some(sensor) = self.sensors.get_mut(device) else { return false };
        if sensor.has_paid(&staged.s) || sensor.is_claimed() {
            return true;
        }
        if sensor.index.is_some() {
            let stuck = sensor.is_locked_elsewhere(&staged.s, now)
                || (sensor.next_attempt(self.policy.max_attempts).is_none() && sensor.pending().is_none());
            return !open || stuck;
        }
        let since = *sensor.waiting_since.get_or_insert(now);
        let denied = !sensor.denied_by.is_empty();
        !denied && self.due(since.saturating_add(self.policy.member_grace_ms), now)
    }

    /// A sensor that will not sign an attempt has signed that one before, for a gateway that lost
    /// its disk: the next attempt is tried.
    pub(super) fn on_sensor_refused(&mut self, device: DeviceKey, code: ErrorCode, now: u64) {
        self.sensor_fault(device, SensorFault::Refused(code));
        let Some(sensor) = self.sensors.get_mut(&device) else { return };
        if code != ErrorCode::BadAttempt || now < sensor.next_bump {
            return;
        }
        sensor.next_bump = now.saturating_add(self.policy.request_ms);
        let Some((s, _)) = sensor.pending() else { return };
        match sensor.next_attempt(self.policy.max_attempts) {
            Some(attempt) => {
                sensor.receipts.insert(s, Receipt { attempt, step: Step::Asked });
                self.persist(Record::Asked { device, s, attempt });
                self.event(Event::Asked(device, s, attempt));
            }
            None => self.sensor_fault(device, SensorFault::NoAttempts),
        }
    }
}
