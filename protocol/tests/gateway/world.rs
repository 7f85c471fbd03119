//! Everything around the machine: a disk, a network that loses and repeats, sensors, a chain.

use std::collections::{BTreeMap, BTreeSet};

use posthouse_protocol::cose::ReleaseSigningKey;
use posthouse_protocol::exchange::{Request, Response};
use posthouse_protocol::gateway::{
    Admission, CheckedRelease, ClaimEntry, ClaimState, Decrypted, Event, Exchange, Fault, Input, Intent,
    OfferVerifier, Output, Peer, Policy, Record, RequestId, Slot, StateName, Update,
};
use posthouse_protocol::id::{
    Attempt, BodyId, Bounty, ChainId, CircuitId, ContentId, Curve, DeviceKey, Digest, FleetRoot, KeyId,
    LockHash, PackageId, Payee, PeerHash, PkId, ProductId, UpdateId, Version, VkId,
};
use posthouse_protocol::package::Package;
use posthouse_protocol::release::{self, Mode, Release};
use posthouse_protocol::secret::KeyR;
use posthouse_protocol::sensor::SignRequest;
use posthouse_protocol::suit::{self, Manifest};
use sha2::{Digest as _, Sha256};

use crate::distributor::{Chain, Distributor, Kind, Scene, mask, path, prove};
use crate::sensor::Sensor;

pub(crate) const PRODUCT: ProductId = ProductId::new([1; 32]);
pub(crate) const VERSION: Version = Version::new(7);
pub(crate) const U_ID: UpdateId = UpdateId::new([2; 32]);
pub(crate) const START: u64 = 1_800_000_000_000;
const GATEWAY: PeerHash = PeerHash::new([3; 32]);
const SECRET: [u8; 32] = [4; 32];
/// A decision waits so long at most, ms.
const DECIDE_MS: u64 = 40;
const VK_ID: VkId = VkId::new([5; 32]);

/// How unkind the world is, in parts of 256.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Faults {
    pub(crate) loss: u8,
    pub(crate) duplicate: u8,
    pub(crate) crash: u8,
}

pub(crate) const NONE: Faults = Faults { loss: 0, duplicate: 0, crash: 0 };

/// A deterministic stream of choices (SplitMix64).
pub(crate) struct Choices(pub(crate) u64);

impl Choices {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub(crate) fn below(&mut self, n: usize) -> usize {
        (self.next() % n as u64) as usize
    }

    pub(crate) fn hit(&mut self, of_256: u8) -> bool {
        (self.next() & 0xff) < u64::from(of_256)
    }
}

/// Something on its way to the machine or to a distributor.
#[derive(Clone)]
enum Transit {
    Request(RequestId, Peer, Request),
    Input(Input),
}

struct Verifier;

impl OfferVerifier for Verifier {
    fn holds(&self, s: &[u8; 32], target: &[u8; 32], cipher: &[u8], proof: &[u8]) -> bool {
        proof == prove(s, target, cipher)
    }
}

pub(crate) struct World {
    pub(crate) machine: Exchange,
    pub(crate) now: u64,
    pub(crate) sensors: BTreeMap<DeviceKey, Sensor>,
    pub(crate) distributors: BTreeMap<Peer, Distributor>,
    pub(crate) chain: Chain,
    pub(crate) events: Vec<Event>,
    pub(crate) choices: Choices,
    pub(crate) faults: Faults,
    /// How often somebody makes a key up, in parts of 256 of all turns.
    pub(crate) made_up: u8,
    /// How often a decision waits for more facts, in parts of 256 of all facts.
    pub(crate) late: u8,
    pub(crate) restarts: u32,
    fleet: Vec<DeviceKey>,
    package: CheckedRelease,
    disk: BTreeMap<Slot, Record>,
    body: bool,
    staged: bool,
    transit: Vec<Transit>,
    wake: u64,
    banned: BTreeSet<Peer>,
    verified: BTreeSet<LockHash>,
    asked: BTreeMap<(DeviceKey, Attempt), Digest>,
    /// Restart once, when the machine first is in this state.
    pub(crate) kill_in: Option<StateName>,
}

pub(crate) fn peer(number: u8) -> Peer {
    Peer::new(&[number; 38]).unwrap()
}

fn verify_path(_: &Release, key: &DeviceKey, index: u32, siblings: &[[u8; 32]]) -> bool {
    siblings == path(key, index)
}

pub(crate) fn policy() -> Policy {
    Policy { reveal_ms: 120_000, receipt_ms: 60_000, claim_margin_ms: 60_000, ..Policy::default() }
}

/// A key-mode update of a fleet, with a package that agrees with it.
fn update() -> (Update, CheckedRelease) {
    let key = ReleaseSigningKey::from_bytes(&[6; 32]).unwrap();
    let release = Release {
        product: PRODUCT,
        version: VERSION,
        mode: Mode::Key,
        u_id: U_ID,
        size: 4096,
        body_id: Some(BodyId::new([8; 32])),
        body_size: 4096,
        key_id: Some(KeyId::new(Sha256::digest(SECRET).into())),
        circuit_id: CircuitId::new([9; 32]),
        vk_id: VK_ID,
        pk_id: PkId::new([10; 32]),
        pk_size: 1,
        fleet_root: FleetRoot::new([11; 32]),
        fleet_depth: 20,
        fleet_size: 100,
        curve: Curve::Secp256k1,
    };
    let manifest = Manifest { sequence: VERSION, product: PRODUCT, u_id: U_ID, size: 4096 };
    let link = ContentId::raw([12; 32]);
    let package = Package {
        manifest: suit::build(&manifest, &key),
        release: release::seal(&release, &key).unwrap(),
        body: Some(link),
        fleet: link,
        vk: link,
        pk: link,
    };
    let update = terms(package.id());
    let checked = CheckedRelease::check(&update, &package, &key.release_key()).unwrap();
    (update, checked)
}

fn terms(p_id: PackageId) -> Update {
    Update {
        chain: ChainId::new(31337),
        bounty: Bounty::new([13; 20]),
        product: PRODUCT,
        version: VERSION,
        u_id: U_ID,
        p_id,
        fleet_root: FleetRoot::new([11; 32]),
        fleet_depth: 20,
        claim_by: START / 1000 + 30 * 24 * 3600,
        lock_secs: 7200,
        curve: Curve::Secp256k1,
    }
}

impl World {
    /// `sensors` of the fleet and `strangers` that are not in it.
    pub(crate) fn new(seed: u64, kinds: &[Kind], sensors: u8, strangers: u8) -> Self {
        let (update, package) = update();
        let all: Vec<Sensor> = (0..sensors + strangers).map(Sensor::new).collect();
        let fleet = all.iter().take(usize::from(sensors)).map(|s| s.key.device_key()).collect();
        let number = |at: usize| at as u8 + 1;
        let mut world = Self {
            machine: Exchange::new(update, GATEWAY, policy(), verify_path),
            now: START,
            sensors: all.into_iter().map(|sensor| (sensor.key.device_key(), sensor)).collect(),
            distributors: kinds
                .iter()
                .enumerate()
                .map(|(at, kind)| (peer(number(at)), Distributor::new(*kind, number(at))))
                .collect(),
            chain: Chain::default(),
            events: Vec::new(),
            choices: Choices(seed),
            faults: NONE,
            made_up: 0,
            late: 0,
            restarts: 0,
            fleet,
            package,
            disk: BTreeMap::new(),
            body: false,
            staged: false,
            transit: Vec::new(),
            wake: 0,
            banned: BTreeSet::new(),
            verified: BTreeSet::new(),
            asked: BTreeMap::new(),
            kill_in: None,
        };
        world.feed(Input::Package(world.package.clone()));
        world
    }

    pub(crate) fn state(&self) -> StateName {
        self.machine.state().name()
    }

    /// Gives the machine a fact and does what it says, perhaps being killed in the middle.
    pub(crate) fn feed(&mut self, input: Input) {
        if self.late > 0 && self.choices.hit(self.late) {
            self.machine.note(input, self.now);
            self.wake = self.wake.min(self.now + DECIDE_MS);
            return;
        }
        self.machine.handle(input, self.now);
        while let Some(output) = self.machine.poll() {
            if self.choices.hit(self.faults.crash) {
                return self.restart();
            }
            self.act(output);
        }
        if self.kill_in == Some(self.state()) {
            self.kill_in = None;
            self.restart();
        }
    }

    /// What a kill leaves: the disk, the world outside, and nothing under way.
    pub(crate) fn restart(&mut self) {
        self.restarts += 1;
        self.transit.clear();
        self.wake = self.now;
        let records: Vec<Record> = self.disk.values().cloned().collect();
        // A crash again while restoring would only repeat this.
        let crash = std::mem::take(&mut self.faults.crash);
        let update = self.machine.update().clone();
        self.machine = Exchange::restore(update, GATEWAY, policy(), verify_path, records, self.now);
        self.feed(Input::Package(self.package.clone()));
        if self.body {
            self.feed(Input::BodyHeld);
        }
        self.sensors.values_mut().for_each(|sensor| sensor.intent = Default::default());
        let known: Vec<Input> = self
            .sensors
            .values()
            .filter_map(|sensor| match sensor.hello() {
                Input::Sensor(view) => {
                    Some(Input::Sensor(posthouse_protocol::gateway::SensorView { awake: false, ..view }))
                }
                _ => None,
            })
            .collect();
        known.into_iter().for_each(|input| self.feed(input));
        self.faults.crash = crash;
    }

    fn act(&mut self, output: Output) {
        match output {
            Output::Persist(record) => {
                self.disk.insert(record.slot(), record);
            }
            Output::Locate => {
                let found = self.distributors.keys().copied().collect();
                self.later(Transit::Input(Input::Providers(found)));
            }
            Output::Send { id, peer, request } => {
                self.check_send(&peer, &request);
                self.later(Transit::Request(id, peer, request));
            }
            Output::Authenticate { id, peer, .. } => {
                let request = Request::Auth {
                    chain: ChainId::new(31337),
                    bounty: Bounty::new([13; 20]),
                    sig: vec![0; 64],
                };
                self.later(Transit::Request(id, peer, request));
            }
            Output::Verify(check) => {
                let verdict = check.run(&Verifier);
                if let Ok(offer) = &verdict {
                    self.verified.insert(offer.s());
                }
                self.later(Transit::Input(Input::Verified(verdict)));
            }
            Output::CheckClaims { indices, .. } => {
                let entries = indices.iter().map(|index| self.claim(*index)).collect();
                self.later(Transit::Input(Input::Claims(entries)));
            }
            Output::FetchBody { .. } => {
                self.body = true;
                self.later(Transit::Input(Input::BodyHeld));
            }
            Output::Intend { device, intent } => {
                intent.sign.iter().for_each(|request| self.check_ask(device, request));
                assert!(!intent.image || self.staged, "an image that is not staged");
                let admission = self.sensors[&device].admission;
                assert!(admission == Admission::Open || !intent.image, "an image against the site's will");
                assert!(
                    admission != Admission::Held || intent.sign.is_none(),
                    "a request against the site's will"
                );
                self.sensors.get_mut(&device).unwrap().intent = intent;
            }
            Output::Decrypt { s, r, cipher } => {
                assert_eq!(r.lock(), s);
                let opened = mask(&cipher.try_into().unwrap(), &r);
                self.staged |= opened == SECRET;
                let outcome = if opened == SECRET { Decrypted::Staged } else { Decrypted::WrongSecret };
                self.later(Transit::Input(Input::Decrypted { s, outcome }));
            }
            Output::Wake { at } => self.wake = at,
            Output::Event(event) => {
                if let Event::Left(peer, fault) = &event
                    && fault.is_lie()
                {
                    self.banned.insert(*peer);
                }
                self.events.push(event);
            }
        }
    }

    fn claim(&self, index: u32) -> ClaimEntry {
        let claimed = self.chain.claimed.contains_key(&index);
        ClaimEntry {
            index,
            state: if claimed { ClaimState::Claimed } else { ClaimState::Free },
            attempt: self.chain.attempts.get(&index).copied().unwrap_or(0),
        }
    }

    /// No message without the record that it depends on; none to a liar.
    fn check_send(&self, peer: &Peer, request: &Request) {
        assert!(!self.banned.contains(peer), "a distributor that lied was asked again");
        if let Request::Receipt { s, device_key, attempt, sig, .. } = request {
            let kept = self.disk.values().any(|record| {
                matches!(record, Record::Signed { device, s: of, attempt: at, sig: by }
                    if device == device_key && of == s && at == attempt && by == sig)
            });
            assert!(kept, "a receipt left before it was on disk");
        }
    }

    /// No receipt without a verified offer and a used-up attempt on disk; one digest an attempt.
    fn check_ask(&mut self, device: DeviceKey, request: &SignRequest) {
        let SignRequest::Receipt { s, attempt, .. } = request else { return };
        assert!(self.verified.contains(s), "a receipt for an offer that was not verified");
        assert!(self.fleet.contains(&device), "a receipt of a sensor outside the fleet");
        assert!(self.body, "a receipt before the body is held");
        let kept = self.disk.values().any(|record| {
            matches!(record, Record::Asked { device: of, s: lock, attempt: at }
                if *of == device && lock == s && at == attempt)
        });
        assert!(kept, "a receipt was asked for before that was on disk");
        let before = self.asked.insert((device, *attempt), request.digest());
        assert!(before.is_none_or(|digest| digest == request.digest()), "one attempt, two receipts");
    }

    fn later(&mut self, transit: Transit) {
        let network = matches!(transit, Transit::Request(..));
        if network && self.choices.hit(self.faults.loss) {
            return;
        }
        if self.choices.hit(self.faults.duplicate) {
            self.transit.push(transit.clone());
        }
        self.transit.push(transit);
    }

    /// Delivers something, wakes a sensor, shows the chain's keys, or lets time pass.
    pub(crate) fn turn(&mut self) {
        if self.made_up > 0 && self.choices.hit(self.made_up) {
            self.make_key_up();
        }
        match self.choices.below(8) {
            0 => self.wake_sensor(),
            1 => self.show_keys(),
            _ if !self.transit.is_empty() => self.deliver(),
            _ => self.pass(),
        }
    }

    /// A turn in which all sensors sleep.
    pub(crate) fn turn_asleep(&mut self) {
        if self.transit.is_empty() { self.pass() } else { self.deliver() }
    }

    /// Until when the offer that is on disk is good, Unix seconds.
    pub(crate) fn kept_until(&self) -> Option<u64> {
        self.disk.values().find_map(|record| match record {
            Record::Offer(offer) => Some(offer.offer().expires),
            _ => None,
        })
    }

    fn pass(&mut self) {
        let idle = 1 + self.choices.next() % 5_000;
        let next = if self.wake > self.now { self.wake } else { self.now + idle };
        self.now = next.min(self.now + 60_000);
        self.feed(Input::Tick);
    }

    fn deliver(&mut self) {
        let at = self.choices.below(self.transit.len());
        self.now += self.choices.next() % 50;
        match self.transit.swap_remove(at) {
            Transit::Input(input) => self.feed(input),
            Transit::Request(id, peer, request) => {
                let mut scene = Scene {
                    chain: &mut self.chain,
                    fleet: &self.fleet,
                    secret: SECRET,
                    target: self.package.target(),
                    vk_id: VK_ID,
                    now: self.now,
                };
                let distributor = self.distributors.get_mut(&peer).unwrap();
                if let Some(response) = distributor.answer(&request, &mut scene) {
                    self.answer(id, response);
                }
            }
        }
    }

    fn answer(&mut self, id: RequestId, response: Response) {
        if !self.choices.hit(self.faults.loss) {
            self.later(Transit::Input(Input::Response { id, response }));
        }
    }

    fn wake_sensor(&mut self) {
        let at = self.choices.below(self.sensors.len());
        let key = *self.sensors.keys().nth(at).unwrap();
        self.now += 10;
        for input in self.sensors.get_mut(&key).unwrap().wake() {
            if !self.choices.hit(self.faults.loss) {
                self.feed(input.clone());
                if self.choices.hit(self.faults.duplicate) {
                    self.feed(input);
                }
            }
        }
    }

    /// The site decides anew what a sensor may have; what it should find follows at once.
    pub(crate) fn admit(&mut self, device: DeviceKey, admission: Admission) {
        self.sensors.get_mut(&device).unwrap().admission = admission;
        self.feed(Input::Admissions(vec![(device, admission)]));
        let intent = self.sensors[&device].intent;
        assert!(admission == Admission::Open || !intent.image, "an image for a sensor that may not have it");
        assert!(
            admission != Admission::Held || intent == Intent::default(),
            "something for a sensor that is held"
        );
    }

    pub(crate) fn show_keys(&mut self) {
        for (s, r, payee, index) in self.chain.revealed.clone() {
            self.feed(Input::Revealed { s, r, payee, index });
        }
    }

    /// Tells of a key that was not shown, or of a true one and another device and payee, as an endpoint that lies may.
    pub(crate) fn make_key_up(&mut self) {
        let index = self.choices.below(self.fleet.len() + 2) as u32;
        let payee = Payee::new([self.choices.below(256) as u8; 20]);
        let r = if self.choices.below(4) == 0 && !self.chain.revealed.is_empty() {
            let at = self.choices.below(self.chain.revealed.len());
            self.chain.revealed[at].1.clone()
        } else {
            KeyR::new(std::array::from_fn(|_| self.choices.next() as u8))
        };
        self.feed(Input::Revealed { s: r.lock(), r, payee, index });
    }

    /// A gateway of which nothing is left but its key, before a fleet that the honest distributors were paid for in its former
    /// life.
    pub(crate) fn after_loss(seed: u64, kinds: &[Kind], sensors: u8, turns: usize) -> Self {
        let mut before = Self::new(seed, kinds, sensors, 0);
        before.distributors.retain(|_, distributor| distributor.kind == Kind::Honest);
        let paid = before.run(turns)
            && (0..turns).any(|_| {
                before.turn();
                before.chain.claimed.len() == usize::from(sensors)
            });
        assert!(paid, "stuck: {:?}", before.machine.status());
        let mut after = Self::new(seed.wrapping_add(1), kinds, sensors, 0);
        after.chain = before.chain;
        after.distributors.extend(before.distributors);
        after
    }

    pub(crate) fn asked_for_receipts(&self) -> bool {
        self.events.iter().any(|event| matches!(event, Event::Asked(..)))
    }

    pub(crate) fn everybody_runs_it(&self) -> bool {
        self.fleet.iter().all(|key| self.sensors[key].installed == VERSION)
    }

    /// Turns until every sensor of the fleet runs the update.
    pub(crate) fn run(&mut self, turns: usize) -> bool {
        (0..turns).any(|_| {
            self.turn();
            self.everybody_runs_it()
        })
    }

    pub(crate) fn faults_of(&self, who: Peer) -> Vec<Fault> {
        let left = self.events.iter().filter_map(|event| match event {
            Event::Left(peer, fault) if *peer == who => Some(*fault),
            _ => None,
        });
        left.collect()
    }

    pub(crate) fn strangers(&self) -> impl Iterator<Item = &Sensor> {
        self.sensors.values().filter(|sensor| !self.fleet.contains(&sensor.key.device_key()))
    }
}
