//! The official vectors: every step of every case, force updates too.
//!
//! Here and not under `tests/`, because a force update has to reach into the state, and nobody else may.
#![allow(clippy::print_stderr)]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use alloy::primitives::B256;
use serde::Deserialize;

use super::merkle::Place;
use super::state::Advance;
use super::*;

/// `$POSTHOUSE_SHARED/testdata/light-client`, `shared` beside the repository where that is not set.
fn folder(inner: &str) -> Option<PathBuf> {
    let beside = || Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared");
    let shared = std::env::var_os("POSTHOUSE_SHARED").map_or_else(beside, PathBuf::from);
    let folder = shared.join("testdata/light-client").join(inner);
    if !folder.is_dir() {
        eprintln!("skipped: {} is not there; POSTHOUSE_SHARED may say where the data is", folder.display());
        return None;
    }
    Some(folder)
}

fn cases(folder: &Path) -> Vec<PathBuf> {
    let mut cases: Vec<_> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    cases.sort();
    cases
}

fn yaml<T: serde::de::DeserializeOwned>(path: &Path) -> T {
    serde_saphyr::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

fn snappy(path: &Path) -> Vec<u8> {
    snap::raw::Decoder::new().decompress_vec(&std::fs::read(path).unwrap()).unwrap()
}

#[derive(Deserialize)]
struct Meta {
    genesis_validators_root: B256,
    trusted_block_root: B256,
    bootstrap_fork_digest: String,
}

#[derive(Deserialize)]
struct Step {
    process_update: Option<Process>,
    force_update: Option<Force>,
}

#[derive(Deserialize)]
struct Process {
    update_fork_digest: String,
    update: String,
    current_slot: u64,
    checks: Checks,
}

#[derive(Deserialize)]
struct Force {
    current_slot: u64,
    checks: Checks,
}

#[derive(Deserialize)]
struct Checks {
    finalized_header: Expected,
    optimistic_header: Expected,
}

#[derive(Deserialize)]
struct Expected {
    slot: u64,
    beacon_root: B256,
    execution_root: B256,
}

impl Expected {
    fn hold(&self, header: &Header) {
        assert_eq!(header.beacon.slot, self.slot);
        assert_eq!(header.beacon.root(), self.beacon_root);
        assert_eq!(header.execution.root(), self.execution_root);
    }
}

/// A state that can be forced, as the specification's store.
struct Store {
    state: State,
    best: Option<Update>,
}

impl Store {
    /// `process_light_client_update`: what finalizes nothing is kept for a force update, the best of it.
    fn process(&mut self, update: &Update, now: u64) {
        let was = (self.state.finalized.beacon.slot, self.state.next.is_some());
        let _ = self.state.apply(update, now).unwrap();
        if self.best.as_ref().is_none_or(|best| self.better(update, best)) {
            self.best = Some(update.clone());
        }
        if was != (self.state.finalized.beacon.slot, self.state.next.is_some()) {
            self.best = None;
        }
    }

    /// `process_light_client_store_force_update`.
    fn force(&mut self, now: u64) {
        let network = &self.state.network;
        let timeout = network.preset.slots_per_epoch() * network.preset.epochs_per_period();
        if now <= self.state.finalized.beacon.slot + timeout {
            return;
        }
        let Some(best) = self.best.take() else { return };
        let own = best.finalized.map(|finality| finality.header);
        let header = own.filter(|header| header.beacon.slot > self.state.finalized.beacon.slot);
        let next = best.next_committee.map(|next| committee::Members::new(next.committee).unwrap());
        let header = header.unwrap_or(best.attested);
        self.state.advance(Advance { header, next }, &mut Applied::default());
    }

    /// `is_better_update`.
    fn better(&self, new: &Update, old: &Update) -> bool {
        let network = &self.state.network;
        let period = |slot| network.period_of(slot);
        let finalized =
            |update: &Update| update.finalized.as_ref().map_or(0, |finality| finality.header.beacon.slot);
        let signers = |update: &Update| update.aggregate.participants();
        let relevant = |update: &Update| {
            update.next_committee.is_some()
                && period(update.attested.beacon.slot) == period(update.signature_slot)
        };
        let final_committee =
            |update: &Update| period(finalized(update)) == period(update.attested.beacon.slot);
        let by_kind = |update: &Update| (relevant(update), update.finalized.is_some());
        if by_kind(new) != by_kind(old) {
            return by_kind(new) > by_kind(old);
        }
        if new.finalized.is_some() && final_committee(new) != final_committee(old) {
            return final_committee(new);
        }
        if signers(new) != signers(old) {
            return signers(new) > signers(old);
        }
        let age = |update: &Update| (update.attested.beacon.slot, update.signature_slot);
        age(new) < age(old)
    }
}

fn digest(network: &Network, slot: u64) -> String {
    format!("0x{}", hex::encode(network.fork_digest(slot).unwrap()))
}

/// Runs a case; returns how many steps it has.
fn sync(case: &Path) -> usize {
    let meta: Meta = yaml(&case.join("meta.yaml"));
    let config = std::fs::read_to_string(case.join("config.yaml")).unwrap();
    let config = format!("{config}\nGENESIS_VALIDATORS_ROOT: {}\n", meta.genesis_validators_root);
    let network = Network::from_yaml(&config).unwrap();
    let bytes = snappy(&case.join("bootstrap.ssz_snappy"));
    let bootstrap = Bootstrap::from_ssz(&network, &bytes).unwrap();
    assert_eq!(bootstrap.to_ssz(&network).unwrap(), bytes);
    assert_eq!(digest(&network, bootstrap.header.beacon.slot), meta.bootstrap_fork_digest);
    let state = State::bootstrap(network.clone().into(), meta.trusted_block_root, &bootstrap).unwrap();
    let mut store = Store { state, best: None };
    let steps: Vec<Step> = yaml(&case.join("steps.yaml"));
    for step in &steps {
        let checks = match (&step.process_update, &step.force_update) {
            (Some(process), None) => {
                let bytes = snappy(&case.join(format!("{}.ssz_snappy", process.update)));
                let update = Update::from_ssz(&network, Kind::Update, &bytes).unwrap();
                assert_eq!(update.to_ssz(&network, Kind::Update).unwrap(), bytes);
                assert_eq!(digest(&network, update.attested.beacon.slot), process.update_fork_digest);
                store.process(&update, process.current_slot);
                &process.checks
            }
            (None, Some(force)) => {
                store.force(force.current_slot);
                &force.checks
            }
            _ => panic!("a step of another kind"),
        };
        checks.finalized_header.hold(&store.state.finalized);
        checks.optimistic_header.hold(&store.state.optimistic);
        let again = State::from_bytes(store.state.network.clone(), &store.state.to_bytes()).unwrap();
        assert_eq!(again.to_bytes(), store.state.to_bytes());
    }
    steps.len()
}

fn sync_of(fork: &str, steps: &[(&str, usize)]) {
    let Some(folder) = folder(&format!("{fork}/light_client/sync/pyspec_tests")) else { return };
    let ran: BTreeMap<_, _> = cases(&folder)
        .iter()
        .map(|case| (case.file_name().unwrap().to_str().unwrap().to_owned(), sync(case)))
        .collect();
    let wanted = steps.iter().map(|(case, steps)| ((*case).to_owned(), *steps)).collect();
    assert_eq!(ran, wanted);
}

#[test]
fn sync_of_deneb() {
    sync_of("deneb", &CASES);
}

#[test]
fn sync_of_electra() {
    sync_of("electra", &CASES);
}

const CASES: [(&str, usize); 4] = [
    ("advance_finality_without_sync_committee", 5),
    ("light_client_sync", 10),
    ("light_client_sync_no_force_update", 3),
    ("supply_sync_committee_from_past_update", 1),
];

#[derive(Deserialize)]
struct Proof {
    leaf: B256,
    leaf_index: u64,
    branch: Vec<B256>,
}

/// That the four places are the specification's, and that their branches lead to one root. The root of a whole state
/// or body is not for a light client to compute; of a state's three branches it has to be the same.
fn proofs_of(fork: Fork) {
    let Some(folder) = folder(&format!("{fork}/light_client/single_merkle_proof")) else { return };
    let proof = |path: &str| yaml::<Proof>(&folder.join(path).join("proof.yaml"));
    let mut roots = Vec::new();
    for (path, place) in [
        ("BeaconBlockBody/execution_merkle_proof", Place::EXECUTION),
        ("BeaconState/current_sync_committee_merkle_proof", Place::current_committee(fork)),
        ("BeaconState/next_sync_committee_merkle_proof", Place::next_committee(fork)),
        ("BeaconState/finality_root_merkle_proof", Place::finalized(fork)),
    ] {
        let proof = proof(path);
        assert_eq!(place, Place::gindex(proof.leaf_index), "{path}");
        let root = place.root(proof.leaf, &proof.branch).unwrap();
        assert!(place.proves(proof.leaf, &proof.branch, root));
        let mut other = proof.branch.clone();
        other[0].0[31] ^= 1;
        assert!(!place.proves(proof.leaf, &other, root), "{path}, flipped");
        assert!(!place.proves(proof.leaf, &proof.branch[1..], root), "{path}, short");
        other = proof.branch.clone();
        other.push(B256::ZERO);
        assert!(!place.proves(proof.leaf, &other, root), "{path}, long");
        roots.push(root);
    }
    assert!(roots[1] == roots[2] && roots[2] == roots[3]);
}

#[test]
fn proofs_of_deneb() {
    proofs_of(Fork::Deneb);
}

#[test]
fn proofs_of_electra() {
    proofs_of(Fork::Electra);
}
