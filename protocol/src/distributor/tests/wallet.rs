//! What the wallet can pay for: what gets no nonce, what is set aside, what is called off for want of money.

use super::*;

/// What a reservation of these devices takes out of the wallet at most, with what is left for its reveal.
fn price_of(indices: &[u32], base: u128) -> u128 {
    let limits = Gas::of(indices, 3, Curve::Secp256k1).limits();
    u128::from(limits.reserve) * (2 * base + 1) + u128::from(limits.reveal) * (base + 1)
}

#[test]
fn what_the_wallet_cannot_pay_for_gets_no_nonce() {
    let mut world = World::new(policy());
    world.base_fee(1_000);
    world.balance(price_of(&[0], 1_000) - 1);
    let s = world.batch(0, &[0]);
    world.calm();
    assert_eq!((state(&world, 0), world.shorts), ("collecting", 1), "told once");
    assert_eq!((world.fees.len(), world.simulations), (0, 0));
    // A restart tells it again, and changes nothing else.
    world.crash();
    world.calm();
    assert_eq!((state(&world, 0), world.shorts, world.fees.len()), ("collecting", 2, 0));
    world.balance(price_of(&[0], 1_000));
    world.calm();
    assert_eq!(world.mined(), [("reserve", true), ("reveal", true)]);
    assert_eq!(world.claimed(0), Some(s));
    // One that comes late is no different.
    world.balance(1_000_000);
    world.receipt(0, 3);
    world.calm();
    assert_eq!((state(&world, 0), world.shorts), ("paid", 3));
    world.balance(world::SHARE);
    world.calm();
    assert_eq!(world.claimed(3), Some(s));
}

#[test]
fn all_that_the_wallet_lacks_is_told_and_told_again_when_it_is_more() {
    let mut world = World::new(policy());
    world.base_fee(1_000);
    world.balance(7);
    world.batch(0, &[0]);
    world.calm();
    assert_eq!((world.shorts, world.lacks), (1, price_of(&[0], 1_000) - 7));
    // It waits for less meanwhile, and that is no news.
    for (base, told) in [(500, 1), (1_000, 1), (1_200, 2), (900, 2)] {
        world.base_fee(base);
        world.calm();
        assert_eq!(world.shorts, told, "at {base}");
    }
    assert_eq!(world.lacks, price_of(&[0], 1_200) - 7);
    world.balance(7 + world.lacks);
    world.calm();
    assert_eq!(world.mined(), [("reserve", true), ("reveal", true)]);
}

#[test]
fn a_batch_that_is_too_dear_for_the_wallet_holds_no_other_up() {
    let mut world = World::new(policy());
    world.base_fee(1_000);
    for (g, devices) in [(0, 0..3), (1, 3..4)] {
        world.offer(g, devices.start);
        devices.for_each(|device| drop(world.receipt(g, device)));
        world.seal(g);
    }
    world.balance(price_of(&[3], 1_000));
    world.observe();
    world.settle();
    assert_eq!((state(&world, 0), state(&world, 1), world.shorts), ("collecting", "reserving", 1));
    // What the one brings pays for the other.
    world.calm();
    assert_eq!((state(&world, 0), state(&world, 1)), ("paid", "paid"));
}

#[test]
fn no_reservation_takes_what_a_reveal_will_cost() {
    let mut world = World::new(policy());
    world.base_fee(1_000);
    reserved(&mut world);
    world.batch(1, &[1]);
    // Enough for either.
    world.balance(price_of(&[1], 1_000));
    world.observe();
    world.settle();
    assert_eq!((state(&world, 0), state(&world, 1), world.shorts), ("revealing", "collecting", 1));
    world.calm();
    let revealed: Vec<_> = world.mined().into_iter().map(|(call, _)| call).take(2).collect();
    assert_eq!(revealed, ["reserve", "reveal"]);
    assert_eq!((state(&world, 0), state(&world, 1)), ("paid", "paid"), "by what the first brought");
}

/// What was set aside for a reveal pays for it at the fee of then, not at twice the fee of now.
#[test]
fn a_reveal_offers_what_the_wallet_has_left() {
    for (base, waits) in [(1_000, 0), (1_140, 0), (1_500, 0), (1_930, 0), (2_100, 1)] {
        let mut world = World::new(policy());
        world.base_fee(1_000);
        world.balance(price_of(&[0], 1_000));
        reserved(&mut world);
        world.base_fee(base);
        world.calm();
        assert_eq!(world.shorts, waits, "at {base}");
        if waits > 0 {
            assert_eq!((state(&world, 0), world.mined()), ("locked", vec![("reserve", true)]));
            world.base_fee(1_500);
            world.calm();
        }
        assert_eq!(world.mined(), [("reserve", true), ("reveal", true)], "at {base}");
        assert_eq!(state(&world, 0), "paid");
    }
}

/// Its reveal is set aside for at the fee of now.
#[test]
fn a_replacement_offers_no_more_than_the_wallet_pays_for() {
    for (wallets, base, raised) in [(2, 2_500, true), (1, 2_900, false)] {
        let mut world = World::new(policy());
        world.base_fee(1_000);
        world.batch(0, &[0]);
        let balance = wallets * price_of(&[0], 1_000);
        world.balance(balance);
        world.observe();
        world.settle();
        let first = world.fees[0].1;
        world.base_fee(base);
        world.calm();
        if raised {
            let limits = Gas::of(&[0], 3, Curve::Secp256k1).limits();
            let second = world.fees.iter().map(|(_, fee)| *fee).find(|fee| *fee != first).unwrap();
            let costs = second.max.get() * u128::from(limits.reserve);
            let reveal = (base + 1) * u128::from(limits.reveal);
            assert!(second.max < Wei::new(2 * base) && costs + reveal <= balance, "{second:?}");
            assert_eq!((world.mined(), world.shorts), (vec![("reserve", true), ("reveal", true)], 0));
        } else {
            assert_eq!((world.mined(), state(&world, 0)), (vec![("cancel", false)], "collecting"));
            world.balance(2 * world::SHARE);
            world.calm();
            assert_eq!(world.mined(), [("cancel", false), ("reserve", true), ("reveal", true)]);
        }
        assert_eq!(state(&world, 0), "paid");
    }
}

#[test]
fn a_replacement_takes_nothing_that_is_set_aside_for_another_lock() {
    let mut world = World::new(policy());
    world.base_fee(1_000);
    world.batch(1, &[1]);
    world.observe();
    world.settle();
    (0..4).for_each(|_| world.mine());
    world.batch(0, &[0]);
    let reveal = 1_001 * u128::from(Gas::of(&[1], 3, Curve::Secp256k1).limits().reveal);
    world.balance(price_of(&[0], 1_000) + reveal);
    world.observe();
    world.settle();
    assert_eq!((state(&world, 0), state(&world, 1)), ("reserving", "locked"));
    world.base_fee(2_400);
    world.calm();
    assert_eq!(world.mined()[..3], [("reserve", true), ("cancel", false), ("reveal", true)]);
    assert_eq!((state(&world, 0), state(&world, 1)), ("paid", "paid"), "by what the first brought");
}

/// The wallet can raise none of them beside the others; at the higher fee not even the last.
#[test]
fn reservations_that_cannot_be_raised_together_are_called_off_until_one_can() {
    for (count, base, one) in [(2, 2_500, true), (4, 2_500, true), (2, 5_000, false)] {
        let mut world = World::new(Policy { max_tries: 1, ..policy() });
        world.base_fee(1_000);
        world.balance(count as u128 * price_of(&[0], 1_000));
        for g in 0..count {
            world.batch(g, &[g]);
        }
        world.observe();
        world.settle();
        assert!((0..count).all(|g| state(&world, g) == "reserving"));
        world.base_fee(base);
        world.calm();
        let mined = world.mined();
        assert_eq!(mined[0], ("cancel", false));
        assert_eq!(mined.contains(&("reserve", true)), one, "{mined:?}");
        world.base_fee(1_000);
        world.calm();
        assert!((0..count).all(|g| state(&world, g) == "paid"), "{:?}", world.mined());
        world.check_settled(1);
    }
}

/// The chain asks for a little more than was offered, and nodes for more than it is worth to replace that.
#[test]
fn what_is_worth_the_fee_and_not_its_replacement_is_called_off() {
    let mut world = World::new(Policy { max_tries: 1, ..policy() });
    world.base_fee(3_300);
    world.batch(0, &[0]);
    world.observe();
    world.settle();
    assert_eq!(world.fees[0].1.max, Wei::new(6_601));
    world.base_fee(6_700);
    world.calm();
    assert_eq!((world.mined(), state(&world, 0)), (vec![("cancel", false)], "collecting"));
    world.base_fee(1_000);
    world.calm();
    assert_eq!(state(&world, 0), "paid");
    world.check_settled(1);
}

/// The chain asks for less than it is worth, and for more than the wallet has.
#[test]
fn what_the_wallet_cannot_raise_any_more_is_called_off() {
    let mut world = World::new(Policy { max_tries: 1, ..policy() });
    world.base_fee(1_000);
    world.batch(0, &[0]);
    world.balance(price_of(&[0], 1_000));
    world.observe();
    world.settle();
    assert_eq!(state(&world, 0), "reserving");
    world.base_fee(5_000);
    world.calm();
    assert_eq!((world.mined(), state(&world, 0)), (vec![("cancel", false)], "collecting"));
    assert_eq!(world.shorts, 2, "of the one in flight, and of the next");
    world.base_fee(500);
    world.calm();
    assert_eq!(state(&world, 0), "paid");
    world.check_settled(1);
}

/// Somebody takes money out of the wallet while a reservation waits for its block.
#[test]
fn what_the_wallet_cannot_pay_for_any_more_is_called_off() {
    let mut world = World::new(Policy { max_tries: 1, ..policy() });
    world.base_fee(1_000);
    world.batch(0, &[0]);
    world.observe();
    world.settle();
    assert_eq!(state(&world, 0), "reserving");
    world.balance(21_000 * 3_000);
    world.calm();
    assert_eq!((world.mined(), state(&world, 0)), (vec![("cancel", false)], "collecting"));
    assert_eq!(world.shorts, 2, "of the one in flight, and of the next");
    // That was no try.
    world.balance(world::SHARE);
    world.calm();
    assert_eq!(state(&world, 0), "paid");
    world.check_settled(1);
}

#[test]
fn a_reveal_that_the_wallet_cannot_pay_for_waits_for_money_until_its_lock_is_near_its_end() {
    for comes in [true, false] {
        let mut world = World::new(policy());
        world.base_fee(1_000);
        locked(&mut world);
        world.settle();
        assert_eq!(state(&world, 0), "revealing");
        world.forget_pool();
        world.balance(21_000 * 3_000);
        for _ in 0..400 {
            world.settle();
            world.mine();
            world.observe();
        }
        assert_eq!((state(&world, 0), world.mined().len(), world.shorts), ("revealing", 1, 1));
        if comes {
            world.balance(world::SHARE);
        }
        for _ in 0..300 {
            world.settle();
            world.mine();
            world.observe();
        }
        world.balance(world::SHARE);
        world.calm();
        let mined = match comes {
            true => vec![("reserve", true), ("reveal", true)],
            false => vec![("reserve", true), ("cancel", false), ("claim", true)],
        };
        assert_eq!((state(&world, 0), world.mined()), ("paid", mined));
    }
}

/// The fee rises while one reveal is in flight and another waits for it: beyond the wallet, or to where it is worth the fee
/// and not what takes its place.
#[test]
fn a_reveal_that_cannot_be_raised_stays_though_another_waits() {
    for (balance, before, after) in [(620_000_000, 1_000, 5_000), (10 * world::SHARE, 9_500, 20_000)] {
        let mut world = two_locks();
        world.balance(balance);
        world.base_fee(before);
        world.observe();
        world.settle();
        assert_eq!((state(&world, 0), state(&world, 1)), ("revealing", "locked"));
        world.forget_pool();
        world.base_fee(after);
        // So that it is sent again while the other still waits for its turn.
        world.mine();
        for _ in 0..20 {
            world.mine();
            world.observe();
            world.settle();
        }
        assert_eq!((state(&world, 0), state(&world, 1)), ("revealing", "locked"));
        world.base_fee(1_000);
        world.calm();
        let (reserve, reveal) = (("reserve", true), ("reveal", true));
        assert_eq!(world.mined(), [reserve, reserve, reveal, reveal]);
        assert_eq!((state(&world, 0), state(&world, 1)), ("paid", "paid"));
    }
}

#[test]
fn what_fills_a_nonce_up_is_paid_for_before_what_waits_behind_it() {
    let mut world = World::new(policy());
    world.base_fee(1_000);
    let s = world.batch(0, &[0]);
    (0..4).for_each(|_| world.mine());
    world.balance(price_of(&[0], 1_000));
    world.skip_nonce();
    world.settle();
    assert_eq!(state(&world, 0), "reserving");
    world.reorg(1, Branch::Without);
    world.forget_pool();
    world.calm();
    assert_eq!(world.mined()[0], ("cancel", false));
    world.balance(world::SHARE);
    world.calm();
    assert_eq!(world.claimed(0), Some(s));
    world.check_settled(1);
}
