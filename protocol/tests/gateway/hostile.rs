//! One test for each way of a distributor to be bad, each state to be killed in, and each odd sensor.

use posthouse_protocol::gateway::{Event, Fault, Input, OfferFault, SensorFault, StateName};
use posthouse_protocol::id::{DeviceKey, Payee, Version};

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
    // The shares were claimed by an exchange of which this gateway knows nothing.
    let mut world = World::after_loss(4, &[Kind::Honest], 2, TURNS);
    assert!(world.run(TURNS), "stuck: {:?}", world.machine.status());
    assert!(!world.asked_for_receipts());
}

#[test]
fn keys_that_were_made_up_before_keep_no_true_one_from_being_copied() {
    for others in [&[][..], &[Kind::SilentAfterOffer], &[Kind::OtherUpdate, Kind::Honest]] {
        let kinds = [&[Kind::Honest], others].concat();
        let mut world = World::after_loss(4, &kinds, 2, TURNS);
        (0..1_000).for_each(|_| world.make_key_up());
        assert!(world.run(TURNS), "stuck: {:?}", world.machine.status());
        assert!(!world.asked_for_receipts());
    }
}

#[test]
fn a_true_key_with_another_device_is_not_the_last_that_is_asked_for() {
    let mut world = World::after_loss(4, &[Kind::Honest], 3, TURNS);
    // Only the last device's key is true, and it was told for the others as well.
    let (s, r, payee, _) = world.chain.revealed[0].clone();
    world.chain.revealed.retain(|(.., index)| *index == 2);
    world.distributors.get_mut(&peer(1)).unwrap().paid_for_only(2);
    for index in 0..2 {
        world.feed(Input::Revealed { s, r: r.clone(), payee, index });
    }
    assert!(world.run(TURNS), "stuck: {:?}", world.machine.status());
}

/// Who has something under a made-up key is its accomplice, and its proof tells.
#[test]
fn an_accomplices_copy_is_held_against_its_proof() {
    let mut world = World::after_loss(4, &[Kind::Honest, Kind::OtherUpdate], 2, TURNS);
    let r = world.distributors[&peer(2)].key();
    for index in 0..2 {
        world.feed(Input::Revealed { s: r.lock(), r: r.clone(), payee: Payee::new([1; 20]), index });
    }
    assert!(world.run(TURNS), "stuck: {:?}", world.machine.status());
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

#[test]
fn of_many_sensors_the_one_heard_last_is_asked_to_delegate() {
    let mut world = World::new(1, &[Kind::Honest], 3, 0);
    let devices: Vec<DeviceKey> = world.sensors.keys().copied().collect();
    let asked = |world: &World| devices.iter().position(|device| world.sensors[device].intent.sign.is_some());
    for (device, after_ms) in devices.iter().zip([0, 10_000, 15_000]) {
        world.now += after_ms;
        let hello = world.sensors[device].hello();
        world.feed(hello);
    }
    assert_eq!(asked(&world), Some(0));
    world.now += 5_000;
    world.feed(Input::Tick);
    assert_eq!(asked(&world), Some(2), "the first fell asleep over it, and so may the second have");
    for (at, after_ms) in [(1, 28_000), (0, 1_000)] {
        world.now += after_ms;
        let hello = world.sensors[&devices[at]].hello();
        world.feed(hello);
    }
    world.now += 1_000;
    world.feed(Input::Tick);
    assert_eq!(asked(&world), Some(1), "who was not asked yet goes before who talks more");
}

#[test]
fn an_offer_that_is_made_again_is_kept_with_its_new_end() {
    let mut world = World::new(1, &[Kind::Honest], 1, 0);
    let asked = (0..TURNS).any(|_| {
        world.turn();
        world.asked_for_receipts()
    });
    let (first, expired) = (world.kept_until(), Fault::OfferExpired);
    assert!(asked && first.is_some());
    // The sensor sleeps over it.
    let again = (0..TURNS).any(|_| {
        world.turn_asleep();
        world.faults_of(peer(1)).contains(&expired) && world.state() == StateName::Offered
    });
    assert!(again, "{:?}", world.machine.status());
    assert!(world.kept_until() > first);
    world.restart();
    assert!(world.run(TURNS), "stuck: {:?}", world.machine.status());
    assert_eq!(world.faults_of(peer(1)), [expired], "it has not lapsed by the restart");
}
