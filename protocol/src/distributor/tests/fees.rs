//! Nonces, fees and gas: what waits, what is sent again, what is called off.

use super::*;

#[test]
fn a_nonce_that_nobody_uses_any_more_holds_nothing_up() {
    let mut world = World::new(policy());
    let s = world.batch(0, &[0]);
    (0..4).for_each(|_| world.mine());
    // Another program's transaction is in the latest block, and ours comes after it.
    world.skip_nonce();
    world.settle();
    world.reorg(1, Branch::Without);
    world.calm();
    assert_eq!(world.mined(), [("cancel", false), ("reserve", true), ("reveal", true)]);
    assert_eq!(world.claimed(0), Some(s));
}

/// One share of 10^9 wei, and about 170,000 gas for reservation and reveal, 50,000 for the reveal.
#[test]
fn a_batch_waits_for_a_fee_that_it_is_worth() {
    let mut world = World::new(policy());
    world.base_fee(10_000);
    let s = world.batch(0, &[0]);
    world.calm();
    assert_eq!((state(&world, 0), world.waits), ("collecting", 1), "told once");
    assert_eq!((world.mined(), world.simulations), (vec![], 0));
    // Two more receipts make it worth the same fee.
    world.receipt(0, 1);
    world.receipt(0, 2);
    world.calm();
    assert_eq!(world.mined(), [("reserve", true), ("reveal", true)]);
    // A late one alone is not, until the fee falls.
    world.base_fee(20_000);
    world.receipt(0, 3);
    world.calm();
    assert_eq!((world.claimed(3), world.waits), (None, 2));
    world.base_fee(1_000);
    world.calm();
    assert_eq!(world.claimed(3), Some(s));
}

#[test]
fn a_reveal_waits_for_a_fee_until_its_lock_is_near_its_end() {
    for falls in [true, false] {
        let mut world = World::new(policy());
        world.base_fee(1_000);
        reserved(&mut world);
        world.base_fee(50_000);
        world.observe();
        for _ in 0..500 {
            world.settle();
            world.mine();
            world.observe();
        }
        assert_eq!((state(&world, 0), world.waits), ("locked", 1));
        assert!(matches!(world.poll_key(0), Some(Response::Pending { .. })));
        if falls {
            // Now the reservation's gas is spent, so that what the reveal takes is all that counts.
            world.base_fee(18_000);
        }
        for _ in 0..200 {
            world.settle();
            world.mine();
            world.observe();
        }
        let (end, mined) = match falls {
            true => ("paid", vec![("reserve", true), ("reveal", true)]),
            false => ("closed", vec![("reserve", true)]),
        };
        assert_eq!((state(&world, 0), world.mined()), (end, mined));
        assert!(world.keys_shown.is_empty());
    }
}

#[test]
fn what_is_stuck_is_replaced_until_the_fee_is_what_it_is_worth() {
    let mut world = World::new(policy());
    world.base_fee(1_000);
    world.batch(0, &[0]);
    world.observe();
    world.settle();
    assert_eq!(state(&world, 0), "reserving");
    let first = world.fees[0].1;
    // The chain asks for more than a share is worth: the transaction stays where it is.
    world.base_fee(30_000);
    for _ in 0..6 {
        world.settle();
        world.mine();
        world.observe();
    }
    assert_eq!(world.mined(), []);
    assert!(world.fees.iter().all(|(_, fee)| *fee == first), "the same for nodes that have forgotten it");
    // It asks for more than was offered.
    world.base_fee(4_000);
    world.calm();
    assert_eq!(world.mined(), [("reserve", true), ("reveal", true)]);
    // 10^9 wei for 144,000 gas, though twice the base fee would be more.
    let second = world.fees.iter().map(|(_, fee)| *fee).find(|fee| *fee != first).unwrap();
    assert!(
        first.max < Wei::new(4_000) && (6_000..7_500).contains(&second.max.get()),
        "{first:?} {second:?}"
    );
    assert!(world.fees.iter().all(|(nonce, _)| *nonce < 5), "no other nonce was used for it");
}

/// The second gateway's lock is final, and the first one's reservation is sent at a fee that is all it is worth.
fn a_reserve_before_a_reveal(policy: Policy) -> (World, u128) {
    let mut world = World::new(policy);
    world.base_fee(100);
    world.batch(1, &[1]);
    world.observe();
    world.settle();
    (0..4).for_each(|_| world.mine());
    world.batch(0, &[0]);
    let gas = Gas::of(&[0], 3, Curve::Secp256k1);
    let base = world::SHARE * 100 / 110 / u128::from(gas.reserve + gas.reveal) - 2;
    world.base_fee(base);
    world.observe();
    world.settle();
    assert_eq!((state(&world, 0), state(&world, 1)), ("reserving", "locked"));
    (world, base)
}

#[test]
fn a_reservation_that_became_too_dear_holds_no_reveal_up() {
    // One full block.
    let (mut world, base) = a_reserve_before_a_reveal(Policy { max_tries: 1, ..policy() });
    world.base_fee(base + base / 8);
    world.mine();
    assert!(matches!(world.poll_key(1), Some(Response::Pending { .. })), "no secret waits behind a reserve");
    world.calm();
    assert_eq!(world.mined(), [("reserve", true), ("cancel", false), ("reveal", true)]);
    assert_eq!((state(&world, 0), state(&world, 1)), ("collecting", "paid"));
    // That was no try.
    world.base_fee(100);
    world.calm();
    assert_eq!(state(&world, 0), "paid");
    world.check_settled(1);
}

#[test]
fn nothing_is_shown_behind_a_reservation_that_is_not_in_the_chain_any_more() {
    let (mut world, _) = a_reserve_before_a_reveal(policy());
    world.mine();
    world.observe();
    world.settle();
    assert_eq!(state(&world, 1), "revealing");
    world.reorg(1, Branch::Without);
    world.observe();
    assert!(matches!(world.poll_key(1), Some(Response::Pending { .. })));
    world.calm();
    assert!(matches!(world.poll_key(1), Some(Response::Key { .. })));
    assert_eq!((state(&world, 0), state(&world, 1)), ("paid", "paid"));
}

#[test]
fn a_reservation_that_stays_too_dear_is_called_off_though_nothing_waits() {
    let (mut world, calm) = (World::new(Policy { max_tries: 1, ..policy() }), 100);
    world.base_fee(calm);
    world.batch(0, &[0]);
    world.observe();
    world.settle();
    world.base_fee(30_000);
    world.calm();
    assert_eq!((world.mined(), state(&world, 0)), (vec![("cancel", false)], "collecting"));
    world.base_fee(calm);
    world.calm();
    assert_eq!(state(&world, 0), "paid");
}

#[test]
fn what_offers_all_that_is_allowed_can_still_be_called_off() {
    let mut world = World::new(Policy { max_fee: Wei::new(4_000), ..policy() });
    world.base_fee(2_500);
    world.batch(0, &[0]);
    world.observe();
    world.settle();
    assert_eq!(state(&world, 0), "reserving");
    // Fees rise until no more is offered, and claims end.
    world.base_fee(4_100);
    for _ in 0..5 {
        world.mine();
        world.observe();
        world.settle();
    }
    world.base_fee(3_000);
    world.pass_claim_by();
    world.calm();
    assert_eq!((world.mined(), state(&world, 0)), (vec![("cancel", false)], "closed"));
}

#[test]
fn what_comes_after_the_end_of_claims_is_called_off() {
    let mut world = World::new(policy());
    world.batch(0, &[0]);
    world.deaf = true;
    world.observe();
    world.settle();
    assert_eq!(state(&world, 0), "reserving");
    world.pass_claim_by();
    world.deaf = false;
    world.calm();
    assert_eq!(world.mined(), [("cancel", false)]);
    assert_eq!(state(&world, 0), "closed");
}

#[test]
fn no_reservation_is_tried_while_as_many_hold_locks_as_may() {
    for (locks, tried) in [(255, true), (256, false)] {
        let offer = Offer { cipher: vec![1; 32], proof: vec![2; 128], expires: 0 };
        let collecting = Collecting { offer: offer.clone(), since: 0, sealed: true, tries: 0 };
        let mut machine = world::scattered(policy(), Stage::Collecting(collecting), &[0], None);
        let first = machine.exchanges().next().unwrap().clone();
        assert_eq!(first.stage.name(), "reserving");
        let batch = Batch { indices: vec![1], min_sum: Wei::new(1), tries: 0 };
        for i in 0..locks {
            let mut gateway = [9; 32];
            gateway[0] = i as u8;
            let stage = Stage::Locked(Locked { offer: offer.clone(), batch: batch.clone(), until: 8_000 });
            let (gateway, first) = (PeerHash::new(gateway), first.clone());
            machine.restore(Change::Exchange(Exchange { gateway, stage, ..first }));
        }
        let reserves = |output: Output| matches!(output, Output::Simulate { call: Call::Reserve { .. }, .. });
        assert!(core::iter::from_fn(|| machine.poll()).any(reserves));
        let Exchange { bounty, gateway, .. } = first;
        let result = Err(CallFailure::Unavailable);
        machine.handle(Input::Simulated { bounty, gateway, result }, 1_000_000);
        machine.handle(Input::Tick, 1_002_000);
        assert_eq!(core::iter::from_fn(|| machine.poll()).any(reserves), tried, "{locks}");
    }
}

/// Receipts of 200 devices far from each other, with P-256 keys: more than one transaction may ask gas for.
#[test]
fn a_batch_has_no_more_gas_than_a_transaction_may_ask_for() {
    let indices: Vec<u32> = (0..200).map(|i| i * 5_000).collect();
    let gas = |indices: &[u32]| Gas::of(indices, 20, Curve::P256);
    assert!(gas(&indices).reserve > 16_777_216);
    let offer = Offer { cipher: vec![1; 32], proof: vec![2; 128], expires: 0 };
    let collecting = Stage::Collecting(Collecting { offer: offer.clone(), since: 0, sealed: true, tries: 0 });
    let paid = Stage::Paid(Paid { offer, tries: 0 });
    for (stage, direct, then) in
        [(collecting.clone(), false, "reserving"), (collecting, true, "direct"), (paid, false, "claiming")]
    {
        let machine = world::scattered(Policy { max_batch: 200, direct, ..policy() }, stage, &indices, None);
        let exchange = machine.exchanges().next().unwrap();
        assert_eq!(exchange.stage.name(), then);
        let batch = &exchange.stage.batch().unwrap().indices;
        assert!((150..200).contains(&batch.len()) && indices.starts_with(batch), "{}", batch.len());
        let gas = gas(batch);
        assert!(gas.reserve.max(gas.claim) <= 16_777_216 / 10 * 9, "{then}: {gas:?}");
        let left = machine.watching().remove(0).indices;
        assert_eq!(left, indices, "the rest waits for the next");
    }
}

/// What a program left behind that knew no bound: a batch that is not sent yet, and one that is.
#[test]
fn a_batch_that_no_transaction_has_gas_for_is_put_together_again_after_a_restart() {
    let indices: Vec<u32> = (0..200).map(|i| i * 5_000).collect();
    let offer = Offer { cipher: vec![1; 32], proof: vec![2; 128], expires: 0 };
    let batch = Batch { indices: indices.clone(), min_sum: Wei::new(1), tries: 0 };
    let policy = || Policy { max_batch: 200, ..policy() };
    for posting in [Posting::Simulating, Posting::Posted(3)] {
        let claiming = Claiming { offer: offer.clone(), batch: batch.clone(), posting };
        let reserving = Reserving { offer: offer.clone(), batch: batch.clone(), posting, since: 0 };
        for (stage, then) in [
            (Stage::Reserving(reserving), "reserving"),
            (Stage::Claiming(claiming.clone()), "claiming"),
            // By a relay it is not sent again.
            (Stage::Direct(claiming), "reserving"),
        ] {
            let sent = posting.nonce().map(|_| world::unbounded(&stage, &indices));
            let sends = sent.is_some();
            let mut machine = world::scattered(policy(), stage, &indices, sent);
            if sends {
                let last = machine.transactions().last().unwrap();
                assert_eq!((last.nonce, &last.call), (3, &Call::Cancel), "{then}");
                // The nonce is final, and no share is taken: once to see that, and once to go on.
                world::scattered_reads(&mut machine, 4, &indices);
                world::scattered_reads(&mut machine, 4, &indices);
            }
            let exchange = machine.exchanges().next().unwrap();
            assert_eq!(exchange.stage.name(), then);
            let batch = &exchange.stage.batch().unwrap().indices;
            assert!((150..200).contains(&batch.len()) && indices.starts_with(batch), "{}", batch.len());
            let shows = |output: &Output| match output {
                Output::Submit(slot) => matches!(slot.call, Call::Reveal { .. } | Call::Claim { .. }),
                _ => false,
            };
            assert!(!core::iter::from_fn(|| machine.poll()).any(|output| shows(&output)), "{then}");
        }
    }
}
