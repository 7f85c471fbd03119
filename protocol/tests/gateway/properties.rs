//! Safety under loss, duplication, reordering and kills; liveness when they stop.

use proptest::prelude::*;

use crate::distributor::{ALL, Kind};
use crate::world::{Faults, NONE, VERSION, World};

fn kinds() -> impl Strategy<Value = Vec<Kind>> {
    prop::collection::vec(prop::sample::select(ALL.to_vec()), 0..4)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    /// The world asserts safety at each step; once it is kind, and with one honest distributor among
    /// whatever others, every sensor of the fleet is updated and no stranger is.
    #[test]
    fn safe_always_and_live_in_the_end(
        seed: u64,
        others in kinds(),
        honest_at in 0..4usize,
        sensors in 1..6u8,
        strangers in 0..2u8,
        loss in 0..96u8,
        duplicate in 0..96u8,
        crash in 0..12u8,
        late in 0..=224u8,
    ) {
        let mut kinds = others;
        kinds.insert(honest_at.min(kinds.len()), Kind::Honest);
        let mut world = World::new(seed, &kinds, sensors, strangers);
        world.late = late;
        world.faults = Faults { loss, duplicate, crash };
        for _ in 0..400 {
            world.turn();
        }
        world.faults = NONE;
        let done = world.run(60_000);
        prop_assert!(done, "stuck in {} with {:?}", world.state(), world.machine.status());
        for _ in 0..200 {
            world.turn();
        }
        prop_assert!(world.strangers().all(|sensor| sensor.installed < VERSION));
        prop_assert_eq!(world.chain.claimed.len(), usize::from(sensors));
    }

    /// Keys are made up all the time, and the true ones are copied in the end.
    #[test]
    fn made_up_keys_crowd_out_no_true_one(
        seed: u64,
        others in kinds(),
        honest_at in 0..4usize,
        sensors in 1..6u8,
        before in 0..400usize,
        made_up in 1..=128u8,
        loss in 0..96u8,
        duplicate in 0..96u8,
        crash in 0..12u8,
        late in 0..=224u8,
    ) {
        let mut kinds = others;
        kinds.insert(honest_at.min(kinds.len()), Kind::Honest);
        let mut world = World::after_loss(seed, &kinds, sensors, 60_000);
        (0..before).for_each(|_| world.make_key_up());
        world.made_up = made_up;
        world.late = late;
        world.faults = Faults { loss, duplicate, crash };
        for _ in 0..400 {
            world.turn();
        }
        world.faults = NONE;
        let done = world.run(60_000);
        prop_assert!(done, "stuck in {} with {:?}", world.state(), world.machine.status());
        prop_assert!(!world.asked_for_receipts());
    }

    /// Nor does a gateway that has to buy stop buying.
    #[test]
    fn made_up_keys_keep_nobody_from_buying(
        seed: u64,
        others in kinds(),
        sensors in 1..6u8,
        before in 0..400usize,
        made_up in 1..=128u8,
    ) {
        let kinds = [others, vec![Kind::Honest]].concat();
        let mut world = World::new(seed, &kinds, sensors, 0);
        (0..before).for_each(|_| world.make_key_up());
        world.made_up = made_up;
        let done = world.run(60_000);
        prop_assert!(done, "stuck in {} with {:?}", world.state(), world.machine.status());
    }
}
