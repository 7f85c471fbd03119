//! From one sync committee to the next.

use serde_json::Value;

use posthouse_devchain::beacon::Fork;

use crate::fixture::{OPTIMISTIC, start};
use crate::http::get;
use crate::ssz::number;
use crate::verify::{Committee, Rules, check_update};

const PERIOD: u64 = 8192;

fn updates(start: u64, count: u64) -> String {
    format!("/eth/v1/beacon/light_client/updates?start_period={start}&count={count}")
}

#[test]
fn each_committee_is_proven_by_the_one_before() {
    let (chain, beacon) = start(Fork::Fulu, 4);
    let rules = Rules::of(&beacon);
    let mut committee = Committee::of(&beacon);
    for period in 1..4 {
        beacon.set_next_slot(period * PERIOD + 7);
        chain.mine_many(4).unwrap();
    }
    let all = get(&beacon, &updates(0, 128));
    assert_eq!(all.as_array().unwrap().len(), 4);
    for (period, update) in all.as_array().unwrap().iter().enumerate() {
        let update = &update["data"];
        assert_eq!(number(&update["attested_header"]["beacon"]["slot"]) / PERIOD, period as u64);
        // Finality of the same period is better than none, and than that of the period before.
        assert_eq!(number(&update["finalized_header"]["beacon"]["slot"]) / PERIOD, period as u64);
        assert_eq!(check_update(&rules, beacon.slot(), &committee, update), []);
        committee = Committee::new(&update["next_sync_committee"]);
    }
}

#[test]
fn a_range_is_what_was_asked_for_and_what_there_is() {
    let (chain, beacon) = start(Fork::Electra, 4);
    beacon.set_next_slot(2 * PERIOD);
    chain.mine_many(3).unwrap();
    let periods = |start, count| -> Vec<u64> {
        let period = |update: &Value| number(&update["data"]["attested_header"]["beacon"]["slot"]) / PERIOD;
        get(&beacon, &updates(start, count)).as_array().unwrap().iter().map(period).collect()
    };
    assert_eq!(periods(0, 1), [0]);
    // No block, no update.
    assert_eq!(periods(0, 3), [0, 2]);
    assert_eq!(periods(1, 1), [0; 0]);
    assert_eq!(periods(2, 500), [2]);
    assert_eq!(periods(0, 0), [0; 0]);
    assert_eq!(periods(u64::MAX, 5), [0; 0]);
}

/// The last slot of a period is signed in the first of the next, by the next committee.
#[test]
fn the_last_block_of_a_period_is_signed_by_the_next_committee() {
    let (chain, beacon) = start(Fork::Fulu, 3);
    let rules = Rules::of(&beacon);
    let next = Committee::new(&get(&beacon, &updates(0, 1))[0]["data"]["next_sync_committee"]);
    beacon.set_next_slot(PERIOD - 1);
    chain.mine();
    let last = get(&beacon, OPTIMISTIC)["data"].take();
    assert_eq!(number(&last["signature_slot"]), PERIOD);
    assert_eq!(check_update(&rules, beacon.slot(), &next, &last), []);
    // It is no update of its period: the period's own committee did not sign it.
    let best = get(&beacon, &updates(0, 1))[0]["data"].take();
    assert_ne!(best["attested_header"]["beacon"]["slot"], (PERIOD - 1).to_string());
}

#[test]
fn more_signers_make_a_better_update() {
    let (chain, beacon) = start(Fork::Fulu, 0);
    beacon.participation(400);
    chain.mine_many(5).unwrap();
    beacon.participation(500);
    chain.mine();
    beacon.participation(450);
    chain.mine();
    let best = get(&beacon, &updates(0, 1))[0]["data"].take();
    assert_eq!(best["attested_header"]["execution"]["block_number"], "6");
}
