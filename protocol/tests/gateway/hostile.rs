//! One test for each way of a distributor to be bad, each state to be killed in, and each odd sensor.

use posthouse_protocol::gateway::{Event, Fault, Input, OfferFault, SensorFault, StateName};
use posthouse_protocol::id::Version;

use crate::distributor::Kind;
use crate::world::{VERSION, World, peer};

const TURNS: usize = 40_000;

/// The bad one is tried first, the honest one delivers.
fn against(kind: Kind) -> World {
    let mut world = World::new(1, &[kind, Kind::Honest], 3, 0);
    assert!(world.run(TURNS), "stuck: {:?}", world.machine.status());
    assert_eq!(world.chain.claimed.len(), 3, "everybody is paid for once");
    world
}

fn is_left_for(kind: Kind, fault: Fault) {
    let world = against(kind);
    assert_eq!(world.faults_of(peer(1)), [fault], "{:?}", world.events);
    assert_eq!(world.distributors[&peer(1)].hellos, 1, "asked again");
    let status = world.machine.status();
    assert!(status.left.iter().any(|left| left.peer == peer(1) && left.banned));
}

/// Whether a receipt for the bad distributor's offer was asked of any sensor.
fn was_paid(world: &World, number: u8) -> bool {
    let s = world.distributors[&peer(number)].s();
    world.events.iter().any(|event| matches!(event, Event::Asked(_, of, _) if *of == s))
}

#[test]
fn a_proof_for_another_update_is_refused() {
    is_left_for(Kind::OtherUpdate, Fault::Offer(OfferFault::Proof));
    assert!(!was_paid(&against(Kind::OtherUpdate), 1));
}

#[test]
fn a_proof_for_another_lock_is_refused() {
    is_left_for(Kind::OtherLock, Fault::Offer(OfferFault::Proof));
    assert!(!was_paid(&against(Kind::OtherLock), 1));
}

#[test]
fn an_altered_cipher_is_refused() {
    is_left_for(Kind::AlteredCipher, Fault::Offer(OfferFault::Proof));
    assert!(!was_paid(&against(Kind::AlteredCipher), 1));
}

#[test]
fn another_verifying_key_is_refused() {
    is_left_for(Kind::WrongVk, Fault::Offer(OfferFault::WrongVk));
    assert!(!was_paid(&against(Kind::WrongVk), 1));
}

#[test]
fn a_path_that_leads_elsewhere_is_refused() {
    is_left_for(Kind::BadPaths, Fault::BadPath);
    assert!(!was_paid(&against(Kind::BadPaths), 1));
}

#[test]
fn the_first_key_that_does_not_fit_the_lock_is_the_last() {
    is_left_for(Kind::WrongKey, Fault::WrongKey);
    assert_eq!(against(Kind::WrongKey).machine.status().keys_ignored, 1);
}

#[test]
fn a_key_that_opens_something_else_marks_the_distributor() {
    is_left_for(Kind::Misfit, Fault::KeyMisfit);
}

#[test]
fn silence_at_hello_costs_a_try() {
    let world = against(Kind::SilentAtHello);
    assert_eq!(world.faults_of(peer(1)).first(), Some(&Fault::Unreachable));
}

#[test]
fn silence_after_the_offer_costs_no_receipt() {
    let world = against(Kind::SilentAfterOffer);
    assert_eq!(world.faults_of(peer(1)).first(), Some(&Fault::SilentAfterOffer));
    assert!(!was_paid(&world, 1));
}

#[test]
fn silence_after_the_receipt_costs_an_attempt() {
    let world = against(Kind::SilentAfterReceipt);
    assert_eq!(world.faults_of(peer(1)).first(), Some(&Fault::SilentAfterReceipt));
    assert!(was_paid(&world, 1));
    assert!(world.machine.status().sensors.iter().all(|sensor| sensor.attempts == 2));
}

#[test]
fn an_offer_that_expires_costs_no_receipt() {
    let world = against(Kind::ShortOffers);
    assert_eq!(world.faults_of(peer(1)).first(), Some(&Fault::OfferExpired));
    assert!(!was_paid(&world, 1));
}

#[test]
fn a_kill_in_each_state_loses_nothing() {
    use StateName::{Announced, Authenticating, Committed, Done, Locating, Offered, Revealed, Staged};
    for state in [Announced, Locating, Authenticating, Offered, Committed, Revealed, Staged, Done] {
        let mut world = World::new(2, &[Kind::Honest], 3, 0);
        world.kill_in = Some(state);
        assert!(world.run(TURNS), "killed in {state}: {:?}", world.machine.status());
        for _ in 0..500 {
            world.turn();
        }
        assert_eq!(world.restarts, 1, "never was {state}");
        assert_eq!(world.chain.claimed.len(), 3);
        let attempts = world.machine.status().sensors.iter().map(|sensor| sensor.attempts).max();
        assert_eq!(attempts, Some(1), "killed in {state}: a second receipt was asked for");
    }
}

#[test]
fn a_sensor_outside_the_fleet_is_refused_by_name() {
    let mut world = World::new(3, &[Kind::Honest], 2, 1);
    assert!(world.run(TURNS));
    for _ in 0..500 {
        world.turn();
    }
    let stranger = world.strangers().next().unwrap().key.device_key();
    let status = world.machine.status();
    let stranger = status.sensors.iter().find(|sensor| sensor.device == stranger).unwrap();
    assert_eq!(stranger.fault, Some(SensorFault::NotInFleet));
    assert!(!stranger.served && stranger.attempts == 0);
}

#[test]
fn a_lost_disk_is_made_good_from_the_payees_copy() {
    let mut world = World::new(4, &[Kind::Honest], 2, 0);
    // The shares were claimed by an exchange of which this gateway knows nothing.
    let mut first = World::new(5, &[Kind::Honest], 2, 0);
    assert!(first.run(TURNS));
    world.distributors = first.distributors;
    world.chain = first.chain;
    assert!(world.run(TURNS), "stuck: {:?}", world.machine.status());
    assert!(!world.events.iter().any(|event| matches!(event, Event::Asked(..))));
}

#[test]
fn a_newer_version_takes_over() {
    let mut world = World::new(6, &[Kind::Honest], 2, 0);
    world.feed(Input::Newer(Version::new(VERSION.get() + 1)));
    assert_eq!(world.state(), StateName::Superseded);
    assert!(!world.run(2_000));
    assert_eq!(world.distributors[&peer(1)].hellos, 0);
    world.restart();
    assert_eq!(world.state(), StateName::Superseded);
}
