//! Each fork's layout, indices and signatures, and the boundaries between them.

use posthouse_devchain::beacon::{Beacon, Fork};
use serde_json::Value;

use crate::fixture::{FINALITY, OPTIMISTIC, UPDATES, bootstrap, config, devchain, start};
use crate::http::{Response, get, get_ssz};
use crate::schema;
use crate::ssz::{Type, number, sha256};
use crate::verify::{Committee, Rules, check_bootstrap, check_update};

fn assert_same(beacon: &Beacon, path: &str, fork: Fork, schema: &Type) -> Value {
    let json = get(beacon, path);
    assert_eq!(json["version"], fork.name(), "{path}");
    let ssz = get_ssz(beacon, path);
    assert_eq!(ssz.header("eth-consensus-version"), Some(fork.name()), "{path}");
    assert_eq!(schema.decode(&ssz.body), json["data"], "{path}");
    json["data"].clone()
}

/// Items of an octet stream of updates: fork digest and container.
fn chunks(response: &Response) -> Vec<(&[u8], &[u8])> {
    let mut rest = response.body.as_slice();
    let mut chunks = Vec::new();
    while !rest.is_empty() {
        let (length, after) = rest.split_at(8);
        let length = u64::from_le_bytes(length.try_into().unwrap()) as usize;
        chunks.push(after[..length].split_at(4));
        rest = &after[length..];
    }
    chunks
}

#[test]
fn all_that_a_fork_serves_verifies_in_both_encodings() {
    for fork in Fork::ALL {
        let (chain, beacon) = start(fork, 5);
        let rules = Rules::of(&beacon);
        let first = assert_same(&beacon, &bootstrap(&beacon), fork, &schema::bootstrap(fork));
        assert_eq!(check_bootstrap(&rules, &first), []);
        let committee = &Committee::new(&first["current_sync_committee"]);
        let check = |update: &Value| assert_eq!(check_update(&rules, beacon.slot(), committee, update), []);
        let finality = assert_same(&beacon, FINALITY, fork, &schema::finality_update(fork));
        check(&finality);
        assert_eq!(finality["attested_header"]["execution"]["block_hash"], chain.head().hash().to_string());
        let finalized = &finality["finalized_header"]["execution"];
        assert_eq!(finalized["block_hash"], chain.finalized().hash().to_string());
        check(&assert_same(&beacon, OPTIMISTIC, fork, &schema::optimistic_update(fork)));
        let updates = get(&beacon, UPDATES);
        assert_eq!(updates.as_array().unwrap().len(), 1);
        assert_eq!(updates[0]["version"], fork.name());
        check(&updates[0]["data"]);
        let octets = get_ssz(&beacon, UPDATES);
        let chunks = chunks(&octets);
        assert_eq!(chunks.len(), 1);
        assert_eq!(schema::update(fork).decode(chunks[0].1), updates[0]["data"]);
    }
}

/// A block in the last slot of an old fork is signed in the first of the new, under the old version.
#[test]
fn signatures_cross_each_boundary() {
    let chain = devchain();
    let forks = [(Fork::Capella, 0), (Fork::Deneb, 1), (Fork::Electra, 2), (Fork::Fulu, 3)];
    let beacon = Beacon::start(&chain, config(&forks)).unwrap();
    let rules = Rules::of(&beacon);
    let committee = Committee::of(&beacon);
    // The chain has finalized something from its second block on.
    chain.mine_many(2).unwrap();
    for (fork, epoch) in forks {
        assert_eq!(rules.epoch(fork), epoch);
        let first = (epoch * 32).max(beacon.slot());
        for slot in [first, first + 1, first + 2, epoch * 32 + 31] {
            beacon.set_next_slot(slot);
            chain.mine();
            let update = get(&beacon, OPTIMISTIC);
            assert_eq!(update["version"], fork.name());
            assert_eq!(number(&update["data"]["signature_slot"]), slot + 1);
            assert_eq!(check_update(&rules, beacon.slot(), &committee, &update["data"]), []);
            let finality = assert_same(&beacon, FINALITY, fork, &schema::finality_update(fork));
            assert_eq!(check_update(&rules, beacon.slot(), &committee, &finality), []);
        }
    }
}

/// A header of Capella that Deneb finalizes is written in Deneb's layout, and proven in its own.
#[test]
fn a_finalized_header_may_be_a_fork_older_than_the_attested_one() {
    let chain = devchain();
    let beacon = Beacon::start(&chain, config(&[(Fork::Capella, 0), (Fork::Deneb, 1)])).unwrap();
    let rules = Rules::of(&beacon);
    let committee = Committee::of(&beacon);
    chain.mine_many(2).unwrap();
    beacon.set_next_slot(32);
    chain.mine();
    let update = assert_same(&beacon, FINALITY, Fork::Deneb, &schema::finality_update(Fork::Deneb));
    assert!(number(&update["finalized_header"]["beacon"]["slot"]) < 32);
    assert_eq!(update["finalized_header"]["execution"]["blob_gas_used"], "0");
    assert_eq!(check_update(&rules, beacon.slot(), &committee, &update), []);
}

#[test]
fn digests_are_the_forks_and_fulus_mix_in_the_blobs() {
    for (fork, blob_schedule, mixed) in [
        (Fork::Electra, vec![(0, 6)], None),
        (Fork::Fulu, vec![], Some((0_u64, 9_u64))),
        (Fork::Fulu, vec![(900, 21), (0, 12)], Some((0, 12))),
    ] {
        let chain = devchain();
        let config = posthouse_devchain::beacon::Config { blob_schedule, ..config(&[(fork, 0)]) };
        let beacon = Beacon::start(&chain, config).unwrap();
        chain.mine_many(3).unwrap();
        let mut digest = Rules::of(&beacon).fork_data_root(fork);
        if let Some((epoch, most)) = mixed {
            digest ^= sha256(&[epoch.to_le_bytes(), most.to_le_bytes()].concat());
        }
        assert_eq!(chunks(&get_ssz(&beacon, UPDATES))[0].0, &digest[..4]);
    }
}
