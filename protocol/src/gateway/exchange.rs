//! The machine: what it holds, how facts come in, how outputs go out.

use alloc::collections::{BTreeMap, VecDeque};

use super::ask::Inflight;
use super::book::Book;
use super::io::{Event, Fault, Input, KeySource, Output, Report, RequestId, SensorFault, SensorView};
use super::offer::VerifiedOffer;
use super::peer::Peer;
use super::policy::Policy;
use super::record::Record;
use super::reveals::{Reveal, Reveals};
use super::roster::{Seen, Sensor, Step};
use super::state::{Committed, Decrypting, Failure, Offered, Revealed, State};
use super::update::{CheckedRelease, Update};
use crate::digest;
use crate::id::{Curve, DeviceKey, Digest, LockHash, Payee, PeerHash, Signature, Version};
use crate::key;
use crate::release::Release;
use crate::secret::KeyR;

/// Whether a Merkle path leads from the leaf of `(key, index)` to the release's fleet root, with the
/// release's depth, size and curve.
pub type VerifyPath = fn(release: &Release, key: &DeviceKey, index: u32, path: &[[u8; 32]]) -> bool;

/// Transitions made for one input: more than there are states, so only a loop meets it.
const MAX_STEPS: usize = 16;

/// An offer for which receipts are asked, and how far its redemption is.
#[derive(Debug, Clone)]
pub(super) struct Held {
    pub(super) offer: VerifiedOffer,
    /// Whether it is on disk, which is from the first receipt that is asked for.
    pub(super) recorded: bool,
    /// When the first receipt was signed.
    pub(super) first_receipt: Option<u64>,
    /// Last time that a receipt came or went.
    pub(super) news: u64,
    pub(super) sealed: Option<u64>,
    pub(super) poll_at: u64,
    pub(super) key: Option<KeyR>,
    /// Its key opens something else.
    pub(super) misfit: bool,
}

impl Held {
    pub(super) fn new(offer: VerifiedOffer, now: u64) -> Self {
        Self {
            offer,
            recorded: false,
            first_receipt: None,
            news: now,
            sealed: None,
            poll_at: 0,
            key: None,
            misfit: false,
        }
    }
}

/// Whether the encrypted image is here (key mode).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Body {
    /// To be fetched, not before this moment; from anybody once the payee failed to deliver.
    Missing { at: u64, anybody: bool },
    /// Being fetched.
    Fetching { from: Option<Peer> },
    /// On disk and verified, or not needed.
    Held,
}

/// The deadlines met while deciding, so that the next call is asked for no later than needed.
#[derive(Debug, Clone, Copy)]
pub(super) struct Timer {
    next: u64,
    set: u64,
}

/// The gateway's side of one update; see the [module](super).
#[derive(Debug)]
pub struct Exchange {
    pub(super) gateway: PeerHash,
    pub(super) policy: Policy,
    pub(super) verify_path: VerifyPath,
    pub(super) update: Update,
    pub(super) package: Option<CheckedRelease>,
    pub(super) body: Body,
    pub(super) sensors: BTreeMap<DeviceKey, Sensor>,
    pub(super) book: Book,
    pub(super) held: BTreeMap<LockHash, Held>,
    pub(super) reveals: Reveals,
    pub(super) state: State,
    pub(super) inflight: BTreeMap<RequestId, Inflight>,
    pub(super) next_request: u64,
    /// When the claim check under way is given up.
    pub(super) claims_until: Option<u64>,
    /// No claim check before this, after one that failed.
    pub(super) claims_again: u64,
    /// The sensor that is asked for the delegation, and since when.
    pub(super) delegate: Option<(DeviceKey, u64)>,
    /// A conversation cannot go on for want of a delegation.
    pub(super) delegate_wanted: bool,
    /// Keys that fitted nothing.
    pub(super) keys_ignored: u64,
    pub(super) timer: Timer,
    pub(super) out: VecDeque<Output>,
}

impl Exchange {
    /// Starts following an announced update. `gateway` is SHA-256 of this gateway's peer id.
    pub fn new(update: Update, gateway: PeerHash, policy: Policy, verify_path: VerifyPath) -> Self {
        Self {
            gateway,
            policy,
            verify_path,
            update,
            package: None,
            body: Body::Missing { at: 0, anybody: false },
            sensors: BTreeMap::new(),
            book: Book::default(),
            held: BTreeMap::new(),
            reveals: Reveals::default(),
            state: State::Announced,
            inflight: BTreeMap::new(),
            next_request: 0,
            claims_until: None,
            claims_again: 0,
            delegate: None,
            delegate_wanted: false,
            keys_ignored: 0,
            timer: Timer { next: u64::MAX, set: u64::MAX },
            out: VecDeque::new(),
        }
    }

    /// Takes in a fact. `now` is Unix time in milliseconds and never goes back.
    pub fn handle(&mut self, input: Input, now: u64) {
        self.take(input, now);
        self.advance(now);
    }

    /// Takes in a fact and decides nothing yet: for facts that come in great number, as a decision looks at every sensor. What
    /// is handed to [`handle`](Self::handle) next, be it a tick, has it decided; that must not be long.
    pub fn note(&mut self, input: Input, now: u64) {
        self.take(input, now);
    }

    /// Sensors that a decision looks at.
    pub fn sensors(&self) -> usize {
        self.sensors.len()
    }

    /// The next thing to do, in order; `None` when there is nothing until the next input.
    pub fn poll(&mut self) -> Option<Output> {
        self.out.pop_front()
    }

    /// The update that is followed.
    pub fn update(&self) -> &Update {
        &self.update
    }

    /// Where the exchange is.
    pub fn state(&self) -> &State {
        &self.state
    }

    /// The package, once it is here.
    pub fn package(&self) -> Option<&CheckedRelease> {
        self.package.as_ref()
    }

    fn take(&mut self, input: Input, now: u64) {
        match input {
            // The timer has gone off, be it early: it is set again.
            Input::Tick => self.timer.set = u64::MAX,
            Input::Package(package) => self.on_package(package),
            Input::PackageRejected(_) => self.fail(Failure::Package),
            Input::BodyHeld => self.body = Body::Held,
            Input::BodyFailed => self.on_body_failed(now),
            Input::Sensor(view) => self.on_sensor(&view, now),
            Input::Admissions(admissions) => {
                for (device, admission) in admissions {
                    if let Some(sensor) = self.sensors.get_mut(&device) {
                        sensor.admission = admission;
                    }
                }
            }
            Input::Signature { device, digest, sig } => self.on_signature(device, digest, sig, now),
            Input::Status { device, installed, report } => {
                self.on_status(device, installed, report, now);
            }
            Input::SensorRefused { device, code } => self.on_sensor_refused(device, code, now),
            Input::Providers(peers) => self.on_providers(&peers, now),
            Input::Response { id, response } => self.on_response(id, response, now),
            Input::RequestFailed { id } => self.on_request_failed(id, now),
            Input::Verified(Ok(offer)) => self.on_verified(offer, now),
            Input::Verified(Err((s, fault))) => self.on_rejected(s, Fault::Offer(fault), now),
            Input::Claims(entries) => self.on_claims(&entries, now),
            Input::ClaimsFailed => self.on_claims_failed(now),
            Input::Revealed { s, r, payee, index } => self.on_revealed(s, r, payee, index, now),
            Input::Decrypted { s, outcome } => self.on_decrypted(s, outcome, now),
            Input::ImageLost => self.on_image_lost(now),
            Input::Newer(version) => self.on_newer(version),
        }
    }

    /// Does all that the facts allow now: every decision is made here and from the facts alone, so
    /// it is the same after a restart.
    fn advance(&mut self, now: u64) {
        self.timer.next = u64::MAX;
        self.expire(now);
        for _ in 0..MAX_STEPS {
            if !self.step(now) {
                break;
            }
        }
        self.converse(now);
        self.check_claims(now);
        self.fetch_body(now);
        self.decrypt(now);
        self.intend_all(now);
        if self.timer.next != self.timer.set && self.timer.next != u64::MAX {
            self.timer.set = self.timer.next;
            self.out.push_back(Output::Wake { at: self.timer.next });
        }
    }

    /// Whether a deadline has passed; if not, the machine asks to be called then.
    pub(super) fn due(&mut self, at: u64, now: u64) -> bool {
        if at > now {
            self.timer.next = self.timer.next.min(at);
        }
        at <= now
    }

    pub(super) fn persist(&mut self, record: Record) {
        self.out.push_back(Output::Persist(record));
    }

    pub(super) fn event(&mut self, event: Event) {
        self.out.push_back(Output::Event(event));
    }

    pub(super) fn enter(&mut self, state: State) {
        let changed = state.name() != self.state.name();
        self.state = state;
        if changed {
            self.event(Event::State(self.state.name()));
        }
    }

    pub(super) fn fail(&mut self, why: Failure) {
        if self.state.is_over() || self.state.is_staged() {
            return;
        }
        self.persist(Record::Failed { why });
        self.event(Event::Failed(why));
        self.enter(State::Failed(why));
    }

    /// Leaves a distributor and looks for the next.
    pub(super) fn leave(&mut self, peer: Peer, why: Fault, now: u64) {
        self.persist(Record::Left { peer, why, at: now });
        self.event(Event::Left(peer, why));
        self.book.leave(peer, why, now, self.policy.cooldown_ms);
        self.inflight.retain(|_, flight| flight.peer != peer);
        self.held.retain(|_, held| held.recorded || held.offer.peer != peer);
        if self.state.peer() == Some(peer) {
            self.enter(State::locating(now));
        }
    }

    fn on_package(&mut self, package: CheckedRelease) {
        if self.package.is_none() {
            if !package.needs_body() {
                self.body = Body::Held;
            }
            self.package = Some(package);
        }
    }

    fn on_body_failed(&mut self, now: u64) {
        let Body::Fetching { from } = self.body else { return };
        let at = now.saturating_add(if from.is_some() { 0 } else { self.policy.relocate_ms });
        self.body = Body::Missing { at, anybody: true };
        if let Some(peer) = from {
            self.event(Event::BodyElsewhere(peer));
        }
    }

    fn on_sensor(&mut self, view: &SensorView, now: u64) {
        let full = self.sensors.len() >= self.policy.max_sensors;
        if full && !self.sensors.contains_key(&view.device) {
            self.event(Event::Sensor(view.device, SensorFault::TooMany));
            return;
        }
        let sensor = self.sensors.entry(view.device).or_default();
        let heard = sensor.seen.map_or(0, |seen| seen.heard);
        sensor.admission = view.admission;
        sensor.seen = Some(Seen {
            curve: view.curve,
            installed: view.installed,
            heard: if view.awake { now } else { heard },
        });
        if self.package.as_ref().is_some_and(|package| package.curve() != view.curve) {
            self.sensor_fault(view.device, SensorFault::WrongCurve);
        }
    }

    fn on_status(&mut self, device: DeviceKey, installed: Version, report: Option<Report>, now: u64) {
        let Some(sensor) = self.sensors.get_mut(&device) else { return };
        let Some(seen) = &mut sensor.seen else { return };
        let (curve, before) = (seen.curve, seen.installed);
        (seen.installed, seen.heard) = (installed, now);
        let known = sensor.report.is_some();
        if let Some(report) = report
            && !known
            && report.version == self.update.version
            && report.u_id == self.update.u_id
        {
            self.on_report(device, curve, report.sig);
        } else if before < self.update.version && installed >= self.update.version && !sensor.told_installed {
            sensor.told_installed = true;
            self.event(Event::Installed(device, false));
        }
    }

    fn on_report(&mut self, device: DeviceKey, curve: Curve, sig: Signature) {
        let Update { product, version, u_id, .. } = &self.update;
        let digest = digest::installed(product, *version, u_id);
        if key::verify(curve, &device, &digest, &sig).is_err() {
            self.sensor_fault(device, SensorFault::BadSignature);
            return;
        }
        self.persist(Record::Installed { device, sig });
        self.event(Event::Installed(device, true));
        if let Some(sensor) = self.sensors.get_mut(&device) {
            sensor.report = Some(sig);
        }
    }

    /// Remembers a sensor's fault and tells it once.
    pub(super) fn sensor_fault(&mut self, device: DeviceKey, fault: SensorFault) {
        let Some(sensor) = self.sensors.get_mut(&device) else { return };
        if sensor.fault != Some(fault) {
            sensor.fault = Some(fault);
            self.event(Event::Sensor(device, fault));
        }
    }

    fn on_signature(&mut self, device: DeviceKey, digest: Digest, sig: Signature, now: u64) {
        let Some(sensor) = self.sensors.get_mut(&device) else { return };
        let Some(seen) = &mut sensor.seen else { return };
        seen.heard = now;
        let curve = seen.curve;
        let delegation = digest::delegation(self.update.chain, &self.update.bounty, &self.gateway) == digest;
        let receipt = self.asked_with(&device, &digest);
        if !delegation && receipt.is_none() {
            self.sensor_fault(device, SensorFault::Unasked);
        } else if key::verify(curve, &device, &digest, &sig).is_err() {
            self.sensor_fault(device, SensorFault::BadSignature);
        } else if let Some(s) = receipt {
            self.on_receipt(device, s, sig, now);
        } else {
            self.on_delegation(device, sig);
        }
    }

    fn on_delegation(&mut self, device: DeviceKey, sig: Signature) {
        let Some(sensor) = self.sensors.get_mut(&device) else { return };
        if sensor.delegation.is_some() {
            return;
        }
        sensor.delegation = Some(sig);
        self.delegate = None;
        self.delegate_wanted = false;
        self.persist(Record::Delegation { device, sig });
        self.event(Event::Delegated(device));
    }

    /// The offer whose receipt, as it was asked of this sensor, has this digest.
    fn asked_with(&self, device: &DeviceKey, digest: &Digest) -> Option<LockHash> {
        let sensor = self.sensors.get(device)?;
        let mut receipts = sensor.receipts.iter();
        receipts
            .find(|(s, receipt)| {
                self.held
                    .get(s)
                    .is_some_and(|held| self.word(&held.offer, receipt.attempt).digest() == *digest)
            })
            .map(|(s, _)| *s)
    }

    fn on_receipt(&mut self, device: DeviceKey, s: LockHash, sig: Signature, now: u64) {
        let Some(sensor) = self.sensors.get_mut(&device) else { return };
        let Some(receipt) = sensor.receipts.get_mut(&s) else { return };
        if receipt.is_signed() {
            return;
        }
        let attempt = receipt.attempt;
        receipt.step = Step::Signed(sig);
        sensor.fault = None;
        self.persist(Record::Signed { device, s, attempt, sig });
        self.event(Event::Signed(device, s, attempt));
        if let Some(held) = self.held.get_mut(&s) {
            held.first_receipt.get_or_insert(now);
            held.news = now;
        }
        match self.state {
            State::Offered(Offered { peer, s: offered, verified: true }) if offered == s => {
                self.enter(State::Committed(Committed { peer, s, progress: now }));
            }
            _ => {}
        }
    }

    fn on_verified(&mut self, offer: VerifiedOffer, now: u64) {
        let State::Offered(state) = &mut self.state else { return };
        if state.s != offer.s() || state.peer != offer.peer || state.verified {
            return;
        }
        state.verified = true;
        let (peer, s) = (state.peer, state.s);
        self.held.insert(s, Held::new(offer, now));
        self.event(Event::Verified(peer, s));
        // An offer that was asked for as a copy comes with a key that is public already.
        if let Some(r) = self.reveals.key(&s) {
            self.on_key(s, r, KeySource::Chain, now);
        }
    }

    fn on_rejected(&mut self, s: LockHash, fault: Fault, now: u64) {
        if let State::Offered(Offered { peer, s: offered, verified: false }) = self.state
            && offered == s
        {
            self.leave(peer, fault, now);
        }
    }

    fn on_revealed(&mut self, s: LockHash, r: KeyR, payee: Payee, index: u32, now: u64) {
        if r.lock() != s {
            self.ignore_key(s);
        } else if self.held.contains_key(&s) {
            self.on_key(s, r, KeySource::Chain, now);
        } else {
            let ours = self.sensors.values().any(|sensor| sensor.index == Some(index));
            let busy = self.state.copying();
            self.reveals.put(Reveal { s, r, payee, index }, ours, self.sensors.len(), busy);
        }
    }

    pub(super) fn ignore_key(&mut self, s: LockHash) {
        self.keys_ignored = self.keys_ignored.saturating_add(1);
        self.event(Event::KeyIgnored(s));
    }

    /// A key that fits a held offer, in whatever state: `H(r) = s` was checked by the caller.
    pub(super) fn on_key(&mut self, s: LockHash, r: KeyR, source: KeySource, now: u64) {
        let Some(held) = self.held.get_mut(&s) else { return };
        if held.key.is_some() {
            return;
        }
        held.key = Some(r.clone());
        let record = (!held.recorded).then(|| held.offer.clone());
        held.recorded = true;
        if let Some(offer) = record {
            self.persist(Record::Offer(offer));
        }
        self.persist(Record::Key { s, r, source });
        self.event(Event::Key(s, source));
        let wanted =
            !self.state.is_staged() && !matches!(self.state, State::Revealed(_) | State::Superseded(_));
        if wanted {
            self.enter(State::Revealed(Revealed { s, step: Decrypting::At(now) }));
        }
    }

    fn on_image_lost(&mut self, now: u64) {
        let (State::Staged(staged) | State::Done(staged)) = self.state else { return };
        self.enter(State::Revealed(Revealed { s: staged.s, step: Decrypting::At(now) }));
    }

    fn on_newer(&mut self, by: Version) {
        if by > self.update.version && !matches!(self.state, State::Superseded(_)) {
            self.persist(Record::Superseded { by });
            self.enter(State::Superseded(by));
        }
    }
}
