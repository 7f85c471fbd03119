//! Each lie breaks what it says it breaks, and nothing else.

use std::time::{Duration, Instant};

use posthouse_devchain::DevChain;
use posthouse_devchain::beacon::{Beacon, Branch, Damage, Fork, Lie, Topic};
use serde_json::Value;

use crate::fixture::{FINALITY, OPTIMISTIC, UPDATES, bootstrap, config, devchain, start};
use crate::http::{get, get_as, get_ssz};
use crate::schema;
use crate::ssz::number;
use crate::verify::{Committee, Rules, Wrong, check_bootstrap, check_update, root};

/// A chain, its beacon, and what an honest client knows of it.
struct Scene {
    _chain: DevChain,
    beacon: Beacon,
    rules: Rules,
    committee: Committee,
}

impl Scene {
    fn new(fork: Fork) -> Self {
        let (chain, beacon) = start(fork, 6);
        let committee = Committee::of(&beacon);
        Self { _chain: chain, rules: Rules::of(&beacon), beacon, committee }
    }

    /// What is wrong with the updates of each kind that this lie yields.
    fn updates(&self, lie: Lie) -> [Vec<Wrong>; 3] {
        self.beacon.lie(Some(lie));
        let updates = [
            get(&self.beacon, UPDATES)[0]["data"].take(),
            get(&self.beacon, FINALITY)["data"].take(),
            get(&self.beacon, OPTIMISTIC)["data"].take(),
        ];
        self.beacon.lie(None);
        updates.map(|update| check_update(&self.rules, self.beacon.slot(), &self.committee, &update))
    }

    fn bootstrap(&self, lie: Lie) -> Vec<Wrong> {
        self.beacon.lie(Some(lie));
        let bootstrap = get(&self.beacon, &bootstrap(&self.beacon))["data"].take();
        self.beacon.lie(None);
        check_bootstrap(&self.rules, &bootstrap)
    }
}

#[test]
fn signatures() {
    let scene = Scene::new(Fork::Fulu);
    for lie in [Lie::BadSignature, Lie::InfiniteSignature, Lie::UndecodableSignature, Lie::OtherNetwork] {
        for wrong in scene.updates(lie.clone()) {
            assert_eq!(wrong, [Wrong::Signature], "{lie:?}");
        }
    }
    for wrong in scene.updates(Lie::TooFewSigners) {
        assert_eq!(wrong, [Wrong::Participation]);
    }
    for wrong in scene.updates(Lie::NoSigners) {
        assert_eq!(wrong, [Wrong::Participation, Wrong::Signature]);
    }
    for wrong in scene.updates(Lie::ForkOfSignatureSlot) {
        assert_eq!(wrong, [], "no fork, no lie");
    }
}

#[test]
fn the_version_of_the_wrong_side_of_a_fork() {
    let chain = devchain();
    let beacon = Beacon::start(&chain, config(&[(Fork::Electra, 0), (Fork::Fulu, 1)])).unwrap();
    let rules = Rules::of(&beacon);
    let committee = Committee::of(&beacon);
    beacon.set_next_slot(31);
    chain.mine();
    let check = || check_update(&rules, beacon.slot(), &committee, &get(&beacon, OPTIMISTIC)["data"]);
    assert_eq!(check(), []);
    beacon.lie(Some(Lie::ForkOfSignatureSlot));
    assert_eq!(check(), [Wrong::Signature]);
}

#[test]
fn branches() {
    for fork in [Fork::Deneb, Fork::Fulu] {
        let scene = Scene::new(fork);
        let flips = (0..7).map(Damage::Flipped);
        for damage in flips.chain([Damage::Short, Damage::Long]) {
            let updates = |branch| scene.updates(Lie::Branch(branch, damage));
            let next = [Wrong::NextCommittee];
            assert_eq!(updates(Branch::Execution), [[Wrong::Execution]; 3]);
            assert_eq!(updates(Branch::NextCommittee), [next.as_slice(), &[], &[]]);
            let finality = [Wrong::Finality];
            assert_eq!(updates(Branch::Finality), [finality.as_slice(), &finality, &[]]);
            let execution = [Wrong::FinalizedExecution];
            assert_eq!(updates(Branch::FinalizedExecution), [execution.as_slice(), &execution, &[]]);
            assert_eq!(updates(Branch::CurrentCommittee), [[]; 3]);
            let committee = Lie::Branch(Branch::CurrentCommittee, damage);
            assert_eq!(scene.bootstrap(committee), [Wrong::Committee]);
            assert_eq!(scene.bootstrap(Lie::Branch(Branch::Execution, damage)), [Wrong::Execution]);
        }
    }
}

#[test]
fn headers() {
    let scene = Scene::new(Fork::Fulu);
    assert_eq!(scene.updates(Lie::OtherExecution), [[Wrong::Execution]; 3]);
    assert_eq!(scene.bootstrap(Lie::OtherExecution), [Wrong::Execution]);
    let finality = [Wrong::Finality];
    assert_eq!(scene.updates(Lie::OtherFinalized), [finality.as_slice(), &finality, &[]]);
    assert_eq!(scene.bootstrap(Lie::OtherCommittee), [Wrong::Committee]);
    // All is proven, but not what was asked for.
    assert_eq!(scene.bootstrap(Lie::OtherBlock), []);
    let checkpoint = scene.beacon.checkpoint();
    scene.beacon.lie(Some(Lie::OtherBlock));
    let bootstrap = get(&scene.beacon, &bootstrap(&scene.beacon))["data"].take();
    assert_ne!(root(&bootstrap["header"]), checkpoint);
    let finalized = get(&scene.beacon, "/eth/v1/beacon/headers/finalized")["data"].take();
    assert_ne!(finalized["root"], checkpoint.to_string());
}

/// The committee signs these: nothing but the slots, or what the client knows already, gives them away.
#[test]
fn what_the_committee_goes_along_with() {
    let scene = Scene::new(Fork::Electra);
    let slots = [Wrong::Slots];
    assert_eq!(scene.updates(Lie::FutureSignature), [slots; 3]);
    assert_eq!(scene.updates(Lie::SignatureNotAfterAttested), [slots; 3]);
    let [updates, finality, optimistic] = scene.updates(Lie::FinalizedAfterAttested);
    assert_eq!((updates, finality), (vec![Wrong::Slots], vec![Wrong::Slots]));
    assert_eq!(optimistic, []);
    let honest = get(&scene.beacon, UPDATES)[0]["data"]["next_sync_committee"].take();
    assert_eq!(scene.updates(Lie::OtherNextCommittee), [[]; 3]);
    scene.beacon.lie(Some(Lie::OtherNextCommittee));
    assert_ne!(get(&scene.beacon, UPDATES)[0]["data"]["next_sync_committee"], honest);
}

#[test]
fn history() {
    let (chain, beacon) = start(Fork::Fulu, 6);
    beacon.set_next_slot(8192);
    chain.mine_many(3).unwrap();
    let slots = |path| {
        let answer = get(&beacon, path);
        let slot = |update: &Value| number(&update["data"]["attested_header"]["beacon"]["slot"]);
        answer.as_array().map_or_else(|| vec![slot(&answer)], |many| many.iter().map(slot).collect())
    };
    beacon.lie(Some(Lie::Old));
    assert_eq!([slots(FINALITY), slots(OPTIMISTIC), slots(UPDATES)], [[3], [3], [3]]);
    beacon.lie(Some(Lie::SkippedPeriod));
    assert!(slots(UPDATES)[0] >= 8192);
    beacon.lie(Some(Lie::MoreUpdates));
    assert_eq!(slots(UPDATES).len(), 2);
    beacon.lie(None);
    assert_eq!(slots(UPDATES), [3]);
}

#[test]
fn layouts_and_names() {
    let (_chain, beacon) = start(Fork::Electra, 6);
    let honest = get(&beacon, FINALITY);
    for fork in [Fork::Capella, Fork::Deneb] {
        beacon.lie(Some(Lie::Layout(fork)));
        let ssz = get_ssz(&beacon, FINALITY);
        assert_eq!(ssz.header("eth-consensus-version"), Some("electra"));
        let bent = schema::finality_update(fork).decode(&ssz.body);
        assert_eq!(bent["sync_aggregate"], honest["data"]["sync_aggregate"]);
        schema::bootstrap(fork).decode(&get_ssz(&beacon, &bootstrap(&beacon)).body);
    }
    for (lie, name) in [(Lie::Version(Fork::Deneb), "deneb"), (Lie::UnknownFork, "gloas")] {
        beacon.lie(Some(lie));
        let bent = get(&beacon, FINALITY);
        assert_eq!((&bent["version"], &bent["data"]), (&Value::from(name), &honest["data"]));
        let ssz = get_ssz(&beacon, FINALITY);
        assert_eq!(ssz.header("eth-consensus-version"), Some(name));
        assert_eq!(schema::finality_update(Fork::Electra).decode(&ssz.body), honest["data"]);
    }
}

#[test]
fn lengths() {
    let (_chain, beacon) = start(Fork::Fulu, 6);
    let honest = [get_as(&beacon, FINALITY, "*/*").body, get_ssz(&beacon, FINALITY).body];
    beacon.lie(Some(Lie::Oversized(1000)));
    let [json, ssz] = [get_as(&beacon, FINALITY, "*/*").body, get_ssz(&beacon, FINALITY).body];
    assert_eq!([json.len(), ssz.len()], honest.each_ref().map(|body| body.len() + 1000));
    assert!(serde_json::from_slice::<Value>(&json).is_ok(), "blanks are JSON too");
    beacon.lie(Some(Lie::Truncated));
    let [json, ssz] = [get_as(&beacon, FINALITY, "*/*").body, get_ssz(&beacon, FINALITY).body];
    assert_eq!([json, ssz], honest.map(|body| body[..body.len() / 2].to_vec()));
}

#[test]
fn instead_of_an_answer() {
    let (_chain, beacon) = start(Fork::Fulu, 3);
    let ask = || get_as(&beacon, FINALITY, "*/*");
    beacon.lie(Some(Lie::Status(500)));
    assert_eq!((ask().status, ask().header("retry-after")), (500, None));
    beacon.lie(Some(Lie::Status(429)));
    assert_eq!((ask().status, ask().header("retry-after")), (429, Some("1")));
    beacon.lie(Some(Lie::Html));
    assert_eq!(ask().header("content-type"), Some("text/html; charset=utf-8"));
    beacon.lie(Some(Lie::Redirect("http://127.0.0.1:1/".to_owned())));
    assert_eq!((ask().status, ask().header("location")), (302, Some("http://127.0.0.1:1/")));
    let delay = Duration::from_millis(20);
    beacon.lie(Some(Lie::Slow(delay)));
    let asked = Instant::now();
    assert_eq!(ask().status, 200);
    assert!(asked.elapsed() >= delay);
}

#[test]
fn a_lie_about_one_topic_leaves_the_others_true() {
    let (_chain, beacon) = start(Fork::Fulu, 3);
    let paths = [
        (Topic::Bootstrap, bootstrap(&beacon)),
        (Topic::Updates, UPDATES.to_owned()),
        (Topic::Finality, FINALITY.to_owned()),
        (Topic::Optimistic, OPTIMISTIC.to_owned()),
        (Topic::Other, "/eth/v1/beacon/headers/head".to_owned()),
    ];
    for (lied, _) in &paths {
        beacon.lie_about(*lied, Lie::Status(500));
        for (topic, path) in &paths {
            let expected = if topic == lied { 500 } else { 200 };
            assert_eq!(get_as(&beacon, path, "*/*").status, expected, "{topic:?}");
        }
    }
}
