//! One byte picks a parser, the rest is its input. None may panic; what one accepts in SSZ must encode to exactly what it
//! read, and what one accepts in JSON must survive SSZ. A replay is fed with both halves of the input, so that its guess
//! at their form is fuzzed too.
#![no_main]

use std::sync::{Arc, LazyLock};

use libfuzzer_sys::fuzz_target;
use posthouse_light_client::replay::replay;
use posthouse_light_client::spec::{
    Bootstrap, Kind, Network, State, Update, updates_from_json, updates_from_octet_stream,
};

/// Small committees, so that an input of a few kilobytes is one; each fork has its epochs.
const MINIMAL: &str = "
PRESET_BASE: minimal
GENESIS_TIME: 0
GENESIS_VALIDATORS_ROOT: 0x0a08c27fe4ece2483f9e581f78c66379a06f96e9c24cd1390594ff939b26f95b
SLOT_DURATION_MS: 6000
CAPELLA_FORK_VERSION: 0x03000001
CAPELLA_FORK_EPOCH: 1
DENEB_FORK_VERSION: 0x04000001
DENEB_FORK_EPOCH: 2
ELECTRA_FORK_VERSION: 0x05000001
ELECTRA_FORK_EPOCH: 4
FULU_FORK_VERSION: 0x06000001
FULU_FORK_EPOCH: 8
GLOAS_FORK_EPOCH: 1000000
BLOB_SCHEDULE:
  - EPOCH: 16
    MAX_BLOBS_PER_BLOCK: 15
";

static NETWORKS: LazyLock<[Arc<Network>; 2]> =
    LazyLock::new(|| [Network::mainnet().into(), Network::from_yaml(MINIMAL).expect("a network").into()]);

fn bootstrap(network: &Arc<Network>, read: Bootstrap, bytes: Option<&[u8]>) {
    let written = read.to_ssz(network).expect("read under a known fork");
    assert!(bytes.is_none_or(|bytes| bytes == written));
    assert_eq!(Bootstrap::from_ssz(network, &written).as_ref(), Ok(&read));
    if let Ok(state) = State::bootstrap(network.clone(), read.header.beacon.root(), &read) {
        let again = State::from_bytes(network.clone(), &state.to_bytes()).expect("what was written");
        assert_eq!(again.to_bytes(), state.to_bytes());
    }
}

fn update(network: &Network, kind: Kind, read: &Update, bytes: Option<&[u8]>) {
    let written = read.to_ssz(network, kind).expect("read under a known fork");
    assert!(bytes.is_none_or(|bytes| bytes == written));
    assert_eq!(Update::from_ssz(network, kind, &written).as_ref(), Ok(read));
}

fn ssz_update(network: &Network, kind: Kind, bytes: &[u8]) {
    if let Ok(read) = Update::from_ssz(network, kind, bytes) {
        update(network, kind, &read, Some(bytes));
    }
}

fuzz_target!(|data: &[u8]| {
    let Some((pick, bytes)) = data.split_first() else { return };
    let network = &NETWORKS[usize::from(pick >> 7)];
    match pick & 0x0f {
        0 => ssz_update(network, Kind::Update, bytes),
        1 => ssz_update(network, Kind::Finality, bytes),
        2 => ssz_update(network, Kind::Optimistic, bytes),
        3 => Bootstrap::from_ssz(network, bytes).map_or((), |read| bootstrap(network, read, Some(bytes))),
        4 => Bootstrap::from_json(network, bytes).map_or((), |read| bootstrap(network, read, None)),
        5 => Update::from_json(network, bytes).map_or((), |read| update(network, Kind::Update, &read, None)),
        6 => {
            let read = updates_from_json(network, bytes, 3).unwrap_or_default();
            assert!(read.len() <= 3);
            read.iter().for_each(|read| update(network, Kind::Update, read, None));
        }
        7 => {
            let read = updates_from_octet_stream(network, bytes, 3).unwrap_or_default();
            assert!(read.len() <= 3);
            read.iter().for_each(|read| update(network, Kind::Update, read, None));
        }
        8 => {
            if let Ok(text) = std::str::from_utf8(bytes)
                && let Ok(network) = Network::from_yaml(text)
            {
                let _ = (network.slot_at(u64::MAX), network.fork_digest(u64::MAX), network.weak_subjectivity());
            }
        }
        9 => {
            if let Ok(state) = State::from_bytes(network.clone(), bytes) {
                assert_eq!(state.to_bytes(), bytes);
            }
        }
        _ => {
            let (first, second) = bytes.split_at(bytes.len() / 2);
            let _ = replay(network.clone(), None, first, [("second", second)], u64::MAX);
        }
    }
});
