//! What the site lets each sensor have, and when.

use posthouse_protocol::gateway::{Admission, Intent, StateName};
use posthouse_protocol::id::DeviceKey;
use proptest::prelude::*;

use crate::distributor::Kind;
use crate::world::{Faults, NONE, VERSION, World};

const TURNS: usize = 40_000;

/// Four sensors, one of which is admitted otherwise than the others from the start; once those run the update.
fn others_done(admission: Admission) -> (World, DeviceKey) {
    let mut world = World::new(1, &[Kind::Honest], 4, 0);
    let device = *world.sensors.keys().nth(2).unwrap();
    world.sensors.get_mut(&device).unwrap().admission = admission;
    let done = (0..TURNS).any(|_| {
        world.turn();
        world.sensors.iter().all(|(key, sensor)| *key == device || sensor.installed == VERSION)
    });
    assert!(done, "{:?}", world.machine.status());
    (0..500).for_each(|_| world.turn());
    (world, device)
}

#[test]
fn a_sensor_that_is_held_is_asked_for_nothing_and_gets_all_when_its_time_comes() {
    let (mut world, device) = others_done(Admission::Held);
    assert_eq!(world.sensors[&device].intent, Intent::default());
    assert!(world.sensors[&device].signed.is_empty());
    assert_eq!(world.chain.claimed.len(), 3);
    assert_eq!(world.state(), StateName::Staged, "one is left");

    world.admit(device, Admission::Open);
    assert!(world.run(TURNS), "{:?}", world.machine.status());
    (0..500).for_each(|_| world.turn());
    assert_eq!(world.chain.claimed.len(), 4, "paid for as well");
    assert_eq!(world.state(), StateName::Done);
}

#[test]
fn a_sensor_outside_its_window_signs_and_fetches_nothing() {
    let (mut world, device) = others_done(Admission::Sign);
    assert_eq!(world.sensors[&device].signed.len(), 1);
    assert!(!world.sensors[&device].intent.image);
    assert_eq!(world.chain.claimed.len(), 4, "paid for before it is fetched");

    world.admit(device, Admission::Open);
    assert!(world.sensors[&device].intent.image, "staged already");
    world.admit(device, Admission::Sign);
    assert!(!world.sensors[&device].intent.image, "the window has closed");
    world.admit(device, Admission::Open);
    assert!(world.run(TURNS));
}

#[test]
fn where_all_are_held_nobody_is_approached() {
    let mut world = World::new(1, &[Kind::Honest], 3, 0);
    world.sensors.values_mut().for_each(|sensor| sensor.admission = Admission::Held);
    (0..2000).for_each(|_| world.turn());
    assert_eq!(world.state(), StateName::Announced);
    assert!(world.distributors.values().all(|distributor| distributor.hellos == 0));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn whatever_the_site_decides_meanwhile_it_ends_well_once_all_are_admitted(
        seed: u64,
        sensors in 1..6u8,
        decisions in proptest::collection::vec((0..6usize, 0..3u8), 1..40),
        loss in 0..96u8,
        crash in 0..12u8,
    ) {
        let mut world = World::new(seed, &[Kind::Honest], sensors, 0);
        world.faults = Faults { loss, duplicate: 0, crash };
        let devices: Vec<DeviceKey> = world.sensors.keys().copied().collect();
        for (which, what) in decisions {
            let admission = [Admission::Held, Admission::Sign, Admission::Open][usize::from(what)];
            world.admit(devices[which % devices.len()], admission);
            (0..30).for_each(|_| world.turn());
        }
        world.faults = NONE;
        devices.iter().for_each(|device| world.admit(*device, Admission::Open));
        prop_assert!(world.run(60_000), "stuck in {} with {:?}", world.state(), world.machine.status());
    }
}
