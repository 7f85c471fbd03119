//! What counts as having shown `t`, and what a private relay may be shown.

use super::*;

#[test]
fn a_batch_that_the_relay_keeps_is_reserved_instead() {
    let mut world = World::new(Policy { direct: true, ..policy() });
    world.relay_is_deaf = true;
    let s = world.batch(0, &[0]);
    world.calm();
    assert_eq!(world.mined(), [("cancel", false), ("reserve", true), ("reveal", true)]);
    assert_eq!(world.claimed(0), Some(s));
}

#[test]
fn what_another_holds_is_not_claimed_directly() {
    let mut world = World::new(Policy { direct: true, ..policy() });
    world.offer(0, 0);
    world.receipt(0, 0);
    world.receipt(0, 1);
    // It is not final yet, so the latest block has it and the finalized one has not.
    world.rival(1, false);
    world.seal(0);
    world.calm();
    assert_eq!(world.mined(), [("claim", true)]);
    assert_eq!((world.claimed(0).is_some(), world.claimed(1)), (true, None));
    assert_eq!(world.fate(0, 1), Some(Fate::Waiting), "its lock may end");
}

#[test]
fn a_reveal_that_comes_too_late_is_called_off_and_counts_as_shown() {
    for dies in [false, true] {
        let mut world = World::new(policy());
        locked(&mut world);
        world.deaf = true;
        world.settle();
        assert_eq!(state(&world, 0), "revealing");
        // Nothing comes through for as long as the lock lives.
        for _ in 0..650 {
            world.mine();
        }
        if dies {
            world.crash();
        }
        world.deaf = false;
        assert!(matches!(world.poll_key(0), Some(Response::Pending { .. })));
        world.calm();
        // Whether a node took it before it went silent nobody knows.
        assert_eq!(state(&world, 0), "paid");
        assert_eq!(world.mined(), [("reserve", true), ("cancel", false), ("claim", true)]);
    }
}

/// All endpoints but one are down, and that one takes the transaction and answers an error; or the program dies before it
/// has the answer.
#[test]
fn a_reveal_that_a_node_took_without_saying_so_counts_as_shown() {
    let mut world = World::new(policy());
    locked(&mut world);
    world.settle();
    assert_eq!(state(&world, 0), "revealing");
    // It is mined when its lock has ended, and shows `t` for nothing.
    world.base_fee(50_000);
    (0..650).for_each(|_| world.mine());
    world.base_fee(0);
    world.mine();
    world.crash();
    world.calm();
    assert_eq!(world.mined(), [("reserve", true), ("reveal", false), ("claim", true)]);
    assert_eq!((state(&world, 0), world.fate(0, 0)), ("paid", Some(Fate::Paid)));
}

#[test]
fn a_reveal_whose_nonce_another_program_took_counts_as_shown() {
    let mut world = World::new(policy());
    locked(&mut world);
    world.deaf = true;
    world.settle();
    world.steal_nonce();
    world.deaf = false;
    world.calm();
    assert_eq!(state(&world, 0), "paid");
    assert_eq!(world.mined(), [("reserve", true), ("claim", true)]);
}

#[test]
fn a_key_that_the_gateway_has_counts_as_shown() {
    let mut world = World::new(policy());
    locked(&mut world);
    world.deaf = true;
    world.settle();
    assert!(matches!(world.poll_key(0), Some(Response::Key { .. })));
    for _ in 0..650 {
        world.mine();
    }
    world.deaf = false;
    world.crash();
    world.calm();
    assert!(matches!(world.poll_key(0), Some(Response::Key { .. })));
    assert_eq!(world.mined(), [("reserve", true), ("cancel", false), ("claim", true)]);
    assert_eq!(world.paid_events, [0]);
}

#[test]
fn no_key_is_given_while_the_reveal_cannot_be_mined() {
    // The wallet cannot pay for it, or it is not worth what the chain asks for.
    for (balance, base) in [(21_000 * 3_000, 1_000), (world::SHARE, 30_000)] {
        let mut world = World::new(policy());
        world.base_fee(1_000);
        locked(&mut world);
        world.settle();
        assert_eq!(state(&world, 0), "revealing");
        world.forget_pool();
        world.balance(balance);
        world.base_fee(base);
        world.observe();
        assert!(matches!(world.poll_key(0), Some(Response::Pending { .. })), "{balance} {base}");
        world.balance(world::SHARE);
        world.base_fee(1_000);
        world.observe();
        assert!(matches!(world.poll_key(0), Some(Response::Key { .. })), "{balance} {base}");
        world.calm();
        assert_eq!(world.mined(), [("reserve", true), ("reveal", true)]);
    }
}

#[test]
fn no_key_is_given_for_a_reveal_that_was_called_off() {
    let mut world = two_locks();
    world.settle();
    assert_eq!((state(&world, 0), state(&world, 1)), ("revealing", "locked"));
    world.forget_pool();
    // Not worth it, while another waits.
    world.base_fee(30_000);
    world.deaf = true;
    (0..2).for_each(|_| world.mine());
    world.observe();
    world.settle();
    world.base_fee(1_000);
    world.observe();
    assert!(matches!(world.poll_key(0), Some(Response::Pending { .. })));
    world.deaf = false;
    world.calm();
    assert_eq!((state(&world, 0), state(&world, 1)), ("paid", "paid"));
    assert_eq!(world.mined()[2], ("cancel", false));
}

/// The relay brings it into a block where another holds a share of it: it reverts, and shows `t` to everybody.
#[test]
fn a_direct_claim_that_reverted_has_shown_its_secret() {
    let mut world = World::new(Policy { direct: true, ..policy() });
    let s = world.batch(0, &[0, 1]);
    world.observe();
    world.settle();
    assert_eq!(state(&world, 0), "direct");
    world.rival(1, false);
    world.calm();
    assert_eq!(world.mined(), [("claim", false), ("claim", true)]);
    assert_eq!((state(&world, 0), world.claimed(0)), ("paid", Some(s)));
}
