//! Every byte of a bootstrap and of an update, changed: refused, or nothing that is proven changes.
//!
//! Most bytes are hashed into a root, so most changes end at a branch. Of those that do not, this test has a list with the
//! reason. Every bit under Electra in the minimal preset; on real data of mainnet, where one committee costs a
//! millisecond to hash, a bit of each byte, but of each public key only one.
#![allow(clippy::unwrap_used, clippy::print_stderr)]

mod data;

use std::sync::Arc;

use alloy::primitives::B256;
use posthouse_light_client::spec::{Bootstrap, Kind, Network, Refused, State, Update, updates_from_json};

/// What of `bytes` can be changed such that `accepts` still does, by position.
fn accepted(bytes: &[u8], all: bool, accepts: impl Fn(&[u8]) -> bool) -> Vec<usize> {
    let mut changed = bytes.to_vec();
    let mut accepted = Vec::new();
    for at in 0..bytes.len() {
        for mask in (0..8).map(|bit| 1 << bit).filter(|mask| all || *mask == 1) {
            changed[at] ^= mask;
            if accepts(&changed) {
                accepted.push(at);
            }
            changed[at] ^= mask;
        }
    }
    accepted.dedup();
    accepted
}

/// Where an update has its signature slot: at the end of the fixed part, which is where the first offset points.
///
/// It is signed only as far as it names a committee and a fork: another slot of the same period and fork says the same.
/// It has to be later than the attested slot and not later than now, and nothing else is derived from it.
fn signature_slot(update: &[u8]) -> usize {
    u32::from_le_bytes(update[..4].try_into().unwrap()) as usize - 8
}

fn applied(state: &State, update: &Update, now: u64) -> Result<Vec<u8>, Refused> {
    let mut state = state.clone();
    let _ = state.apply(update, now)?;
    Ok(state.to_bytes())
}

struct Case {
    network: Arc<Network>,
    root: B256,
    bootstrap: Vec<u8>,
    state: State,
    update: Vec<u8>,
    now: u64,
}

impl Case {
    fn bootstraps(&self, bytes: &[u8]) -> bool {
        Bootstrap::from_ssz(&self.network, bytes)
            .and_then(|bootstrap| State::bootstrap(self.network.clone(), self.root, &bootstrap))
            .is_ok()
    }

    fn updates(&self, bytes: &[u8]) -> Result<Vec<u8>, Refused> {
        applied(&self.state, &Update::from_ssz(&self.network, Kind::Update, bytes)?, self.now)
    }

    /// Whether an update that was changed is accepted; what it proves is then what it proved before.
    fn still(&self, proven: &[u8], bytes: &[u8]) -> bool {
        let again = self.updates(bytes);
        if let Ok(again) = &again {
            assert!(again == proven, "a change that is accepted changes what is proven");
        }
        again.is_ok()
    }
}

fn electra() -> Option<Case> {
    const FOLDER: &str = "light-client/electra/light_client/sync/pyspec_tests/light_client_sync";
    const FIRST: &str =
        "update_0xcf09cb06462ee7439d7d4316a8d617497286efb2c1c43668f4c58355cb65a520_sf.ssz_snappy";
    let read = |name| data::read(FOLDER, name);
    let snappy = |bytes: Vec<u8>| snap::raw::Decoder::new().decompress_vec(&bytes).unwrap();
    let field = |text: &str, name: &str| {
        let line = text.lines().find(|line| line.starts_with(name)).unwrap().to_owned();
        line.split('\'').nth(1).unwrap().to_owned()
    };
    let meta = String::from_utf8(read("meta.yaml")?).unwrap();
    let config = String::from_utf8(read("config.yaml")?).unwrap();
    let validators = field(&meta, "genesis_validators_root");
    let config = format!("{config}\nGENESIS_VALIDATORS_ROOT: {validators}\n");
    let network = Arc::new(Network::from_yaml(&config).unwrap());
    let root: B256 = field(&meta, "trusted_block_root").parse().unwrap();
    let (bootstrap, update) = (snappy(read("bootstrap.ssz_snappy")?), snappy(read(FIRST)?));
    let state =
        State::bootstrap(network.clone(), root, &Bootstrap::from_ssz(&network, &bootstrap).unwrap()).unwrap();
    Some(Case { network, root, bootstrap, state, update, now: 1000 })
}

#[test]
fn every_bit_of_a_bootstrap() {
    let Some(case) = electra() else { return };
    assert!(case.bootstraps(&case.bootstrap));
    assert_eq!(accepted(&case.bootstrap, true, |bytes| case.bootstraps(bytes)), [0; 0]);
}

#[test]
fn every_bit_of_an_update() {
    let Some(case) = electra() else { return };
    let proven = case.updates(&case.update).unwrap();
    assert_ne!(proven, case.state.to_bytes());
    let accepted = accepted(&case.update, true, |bytes| case.still(&proven, bytes));
    assert_eq!(accepted, [signature_slot(&case.update)]);
}

fn mainnet() -> Option<Case> {
    let read = |name| data::read("light-client/mainnet-capella", name);
    let network = Arc::new(Network::mainnet());
    let bootstrap = Bootstrap::from_json(&network, &read("bootstrap.json")?).unwrap();
    let updates = updates_from_json(&network, &read("updates.json")?, 6).unwrap();
    let root = bootstrap.header.beacon.root();
    let now = 7_110_000;
    let mut state = State::bootstrap(network.clone(), root, &bootstrap).unwrap();
    assert!(state.apply(&updates[0], now).unwrap().next_committee);
    let update = updates[1].to_ssz(&network, Kind::Update).unwrap();
    Some(Case { root, bootstrap: bootstrap.to_ssz(&network).unwrap(), state, update, now, network })
}

/// The bytes outside of `committee`, and every 48th of it.
fn thin(at: usize, committee: usize) -> bool {
    !(committee..committee + 48 * 513).contains(&at) || (at - committee) % 48 == 1
}

#[test]
fn mainnet_by_bytes() {
    let Some(case) = mainnet() else { return };
    let flip = |bytes: &[u8], at: usize, mask: u8| {
        let mut flipped = bytes.to_vec();
        flipped[at] ^= mask;
        flipped
    };
    assert!(case.bootstraps(&case.bootstrap));
    for at in (0..case.bootstrap.len()).filter(|at| thin(*at, 4)) {
        assert!(!case.bootstraps(&flip(&case.bootstrap, at, 1)), "byte {at} of the bootstrap");
    }
    let proven = case.updates(&case.update).unwrap();
    let slot = signature_slot(&case.update);
    for at in (0..case.update.len()).filter(|at| thin(*at, 4)) {
        // The lowest bit of this signature slot makes it the attested slot; the next but one does not.
        assert!(!case.still(&proven, &flip(&case.update, at, 1)), "byte {at} of the update");
    }
    assert!(case.still(&proven, &flip(&case.update, slot, 64)));
}

/// Every length but the right one is refused, before and after.
#[test]
fn every_length_of_an_update() {
    let Some(case) = electra() else { return };
    let update = Update::from_ssz(&case.network, Kind::Update, &case.update).unwrap();
    // What comes last is `extra_data` of the finalized header, whose length nothing else says: cut off or longer it is
    // still a list, and the branch says that it is another one.
    let last = update.finalized.as_ref().unwrap().header.execution.extra_data.len();
    let bytes = &case.update;
    assert!(case.updates(bytes).is_ok());
    for length in 0..bytes.len() {
        assert!(case.updates(&bytes[..length]).is_err(), "{length} bytes");
        let read = Update::from_ssz(&case.network, Kind::Update, &bytes[..length]);
        assert!(read.is_err() || length + last >= bytes.len(), "{length} bytes are read");
    }
    for more in 1..100 {
        let longer = [&bytes[..], &vec![0; more]].concat();
        assert!(case.updates(&longer).is_err(), "{more} more bytes");
        let read = Update::from_ssz(&case.network, Kind::Update, &longer);
        assert!(read.is_err() || more + last <= 32, "{more} more bytes are read");
    }
    for kind in [Kind::Finality, Kind::Optimistic] {
        assert!(Update::from_ssz(&case.network, kind, bytes).is_err(), "{kind:?}");
    }
}
