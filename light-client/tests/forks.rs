//! From Capella to Fulu on the devchain's beacon, which encodes and signs with code of its own.
#![allow(clippy::unwrap_used)]

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::time::Duration;

use posthouse_devchain::beacon::{Beacon, Config, Fork as Devchain, Slots};
use posthouse_devchain::{Clock, DevChain};
use posthouse_light_client::spec::{
    Bootstrap, Fork, Kind, Network, Refused, State, Update, updates_from_json, updates_from_octet_stream,
};

const FORKS: [(Devchain, u64); 4] =
    [(Devchain::Capella, 0), (Devchain::Deneb, 1), (Devchain::Electra, 2), (Devchain::Fulu, 3)];
/// In Fulu's second epoch its digest changes.
const BLOBS: (u64, u64) = (4, 15);
const JSON: &str = "application/json";
const SSZ: &str = "application/octet-stream";

fn get(beacon: &Beacon, path: &str, accept: &str) -> Vec<u8> {
    let host = beacon.url().strip_prefix("http://").unwrap();
    let mut stream = TcpStream::connect(host).unwrap();
    let path = format!("/eth/v1/beacon/light_client/{path}");
    let request =
        format!("GET {path} HTTP/1.1\r\nHost: {host}\r\nAccept: {accept}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).unwrap();
    let mut reply = Vec::new();
    stream.read_to_end(&mut reply).unwrap();
    assert!(reply.starts_with(b"HTTP/1.1 200"), "{path}: {}", String::from_utf8_lossy(&reply));
    let end = reply.windows(4).position(|bytes| bytes == b"\r\n\r\n").unwrap();
    reply.split_off(end + 4)
}

struct World {
    chain: DevChain,
    beacon: Beacon,
    network: Arc<Network>,
}

impl World {
    fn start() -> Self {
        let clock = (Clock::Manual, Some(1_800_000_000));
        let chain =
            posthouse_devchain::Config { clock: clock.0, genesis_timestamp: clock.1, ..Default::default() };
        let chain = DevChain::start(chain).unwrap();
        let beacon = Beacon::start(
            &chain,
            Config {
                forks: FORKS.to_vec(),
                blob_schedule: vec![BLOBS],
                slots: Slots::Manual,
                slot: Duration::from_secs(12),
                ..Config::default()
            },
        );
        let beacon = beacon.unwrap();
        let network = Arc::new(Network::from_yaml(&beacon.network_yaml()).unwrap());
        // The devchain finalizes the block two before its head.
        chain.mine_many(3).unwrap();
        Self { chain, beacon, network }
    }

    fn mine(&self, slot: u64) {
        self.beacon.set_next_slot(slot);
        self.chain.mine();
    }

    fn bootstrap(&self) -> State {
        let root = self.beacon.checkpoint();
        let path = format!("bootstrap/{root}");
        let bootstrap = Bootstrap::from_ssz(&self.network, &get(&self.beacon, &path, SSZ)).unwrap();
        assert_eq!(
            Bootstrap::from_json(&self.network, &get(&self.beacon, &path, JSON)).as_ref(),
            Ok(&bootstrap)
        );
        State::bootstrap(self.network.clone(), root, &bootstrap).unwrap()
    }

    /// The latest of a kind, the same from both encodings, and written again as it came.
    fn latest(&self, kind: Kind) -> Update {
        let path = if kind == Kind::Finality { "finality_update" } else { "optimistic_update" };
        let bytes = get(&self.beacon, path, SSZ);
        let update = Update::from_ssz(&self.network, kind, &bytes).unwrap();
        assert_eq!(update.to_ssz(&self.network, kind).unwrap(), bytes);
        assert_eq!(Update::from_json(&self.network, &get(&self.beacon, path, JSON)).as_ref(), Ok(&update));
        update
    }
}

/// In each fork, at both sides of each boundary, and with a finalized header of the fork before the attested one's.
#[test]
fn every_fork_and_every_boundary() {
    let world = World::start();
    let mut state = world.bootstrap();
    let mut forks = Vec::new();
    let mut older = 0;
    for (index, (_, epoch)) in FORKS.into_iter().enumerate() {
        for slot in [epoch * 32 + 5, epoch * 32 + 6, epoch * 32 + 30, epoch * 32 + 31, epoch * 32 + 32] {
            world.mine(slot);
            let (optimistic, finality) = (world.latest(Kind::Optimistic), world.latest(Kind::Finality));
            assert_eq!((optimistic.attested.beacon.slot, optimistic.signature_slot), (slot, slot + 1));
            assert!(state.apply(&optimistic, slot + 1).unwrap().optimistic, "slot {slot}");
            let finalized = &finality.finalized.as_ref().unwrap().header;
            older += usize::from(
                finality.fork(&world.network).unwrap()
                    > world.network.fork_at(finalized.beacon.slot).unwrap(),
            );
            let _ = state.apply(&finality, slot + 1).unwrap();
            assert_eq!(state.finalized().execution.block_hash, world.chain.finalized().hash());
            assert_eq!(state.optimistic().execution.block_hash, world.chain.head().hash());
            assert_eq!(state.optimistic().execution.state_root, world.chain.head().header().state_root);
            state = State::from_bytes(world.network.clone(), &state.to_bytes()).unwrap();
        }
        forks.push(world.network.fork_at(epoch * 32 + 31).unwrap());
        assert_eq!(forks[index], Fork::ALL[index]);
    }
    assert!(older >= 3, "a finalized header older than the fork at each of three boundaries: {older}");
}

/// Whole updates, as the API sends several; from both encodings, and with digests before and after a blob schedule's entry.
#[test]
fn updates_of_every_fork() {
    let world = World::start();
    let mut state = world.bootstrap();
    let path = "updates?start_period=0&count=1";
    for epoch in 0..=BLOBS.0 {
        world.mine(epoch * 32 + 5);
        world.mine(epoch * 32 + 6);
        world.mine(epoch * 32 + 7);
        let stream = get(&world.beacon, path, SSZ);
        let updates = updates_from_octet_stream(&world.network, &stream, 1).unwrap();
        assert_eq!(
            updates_from_json(&world.network, &get(&world.beacon, path, JSON), 1).as_ref(),
            Ok(&updates)
        );
        let supplied = state.has_next_committee();
        match state.apply(&updates[0], world.beacon.slot()) {
            Ok(applied) => assert_eq!(applied.next_committee, !supplied),
            // The best update of a period may be one of its first.
            Err(refused) => assert!(matches!(refused, Refused::Stale { .. }), "{refused}"),
        }
        let mut lie = stream.clone();
        lie[8] ^= 1;
        let outcome = updates_from_octet_stream(&world.network, &lie, 1);
        if world.network.fork_at(updates[0].attested.beacon.slot).unwrap() < Fork::Fulu {
            let refused = outcome.unwrap_err();
            assert!(matches!(refused, Refused::ForkDigest { .. }), "{refused}");
        } else {
            assert_eq!(outcome, Ok(updates));
        }
        let refused = updates_from_octet_stream(&world.network, &[&stream[..], &stream].concat(), 1);
        assert_eq!(refused, Err(Refused::TooManyUpdates(1)));
    }
    assert!(state.has_next_committee());
    let digest = |epoch: u64| world.network.fork_digest(epoch * 32).unwrap();
    assert!((0..=BLOBS.0).all(|epoch| epoch == 0 || digest(epoch) != digest(epoch - 1)));
}

/// Blob limits are raised without a new program: a file from before says nothing of the entry under whose digest this comes.
#[test]
fn a_blob_schedule_that_came_after_this_program_stops_nobody() {
    let world = World::start();
    let slot = 256 * 32 + 5;
    for slot in slot..slot + 4 {
        world.mine(slot);
    }
    let stream = get(&world.beacon, "updates?start_period=1&count=1", SSZ);
    let yaml = world.beacon.network_yaml().replace(&format!("EPOCH: {}\n", BLOBS.0), "EPOCH: 9999\n");
    let before = Network::from_yaml(&yaml).unwrap();
    assert_ne!(before.fork_digest(slot), world.network.fork_digest(slot));
    assert_eq!(stream[8..12], world.network.fork_digest(slot).unwrap(), "the update is of after the change");
    assert_eq!(
        updates_from_octet_stream(&before, &stream, 1),
        updates_from_octet_stream(&world.network, &stream, 1)
    );
    // A length, or a layout, of its own is refused as ever.
    let mut long = stream.clone();
    long[0] += 1;
    assert!(updates_from_octet_stream(&before, &long, 1).is_err());
}

/// A fork that the file names and this client does not know.
#[test]
fn a_fork_too_new_stops_the_client() {
    let world = World::start();
    let state = world.bootstrap();
    let yaml = world.beacon.network_yaml();
    let yaml: String =
        yaml.lines().filter(|line| !line.starts_with("GLOAS_")).map(|line| format!("{line}\n")).collect();
    let network = Arc::new(Network::from_yaml(&format!("{yaml}GLOAS_FORK_EPOCH: 2\n")).unwrap());
    let mut state = State::from_bytes(network.clone(), &state.to_bytes()).unwrap();
    world.mine(63);
    let update = world.latest(Kind::Optimistic);
    assert!(state.apply(&update, 64).unwrap().optimistic, "signed under the version of the slot before");
    world.mine(64);
    let unknown = Refused::UnknownFork("gloas".to_owned());
    assert_eq!(state.apply(&world.latest(Kind::Optimistic), 65), Err(unknown.clone()));
    let bytes = get(&world.beacon, "optimistic_update", SSZ);
    assert_eq!(Update::from_ssz(&network, Kind::Optimistic, &bytes), Err(unknown));
}
