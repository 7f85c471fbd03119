//! The machine against a chain and gateways that lose, repeat, reorder and die.

use std::vec;
use std::vec::Vec;

use proptest::prelude::*;

use crate::exchange::{MAX_MEMBERS, Member, Refusal, Request, Response};
use crate::id::{Attempt, ChainId, Curve, DeviceKey, Signature};

use self::chain::Branch;
use self::world::{DEVICES, GATEWAYS, World};
use super::*;

mod chain;
mod crashes;
mod fees;
mod requests;
mod shown;
mod wallet;
mod world;

fn policy() -> Policy {
    let (window_secs, resubmit_after_ms, max_tries) = (3600, 24_000, 50);
    let (max_fee, priority_fee) = (Wei::new(100_000), Wei::new(1));
    Policy { window_secs, resubmit_after_ms, max_tries, max_fee, priority_fee, ..Policy::default() }
}

fn refused(response: Option<Response>) -> Refusal {
    match response {
        Some(Response::Refused { reason }) => reason,
        other => panic!("not refused: {other:?}"),
    }
}

fn state(world: &World, g: usize) -> &'static str {
    world.stage(g).map_or("joined", Stage::name)
}

#[test]
fn a_batch_goes_through_each_state_once() {
    let mut world = World::new(policy());
    assert_eq!(state(&world, 0), "joined");
    let s = world.offer(0, 0);
    assert_eq!(state(&world, 0), "offered");
    for device in 0..4 {
        assert_eq!(world.receipt(0, device), Some(Response::Ack { index: device as u32 }));
    }
    assert_eq!(state(&world, 0), "collecting");
    assert_eq!(world.seal(0), Some(Response::Sealed { receipts: 4 }));
    world.observe();
    world.settle();
    assert_eq!(state(&world, 0), "reserving");
    world.mine();
    world.observe();
    assert!(matches!(world.poll_key(0), Some(Response::Pending { .. })));
    world.mine();
    world.mine();
    world.observe();
    assert_eq!(state(&world, 0), "locked");
    assert!(matches!(world.poll_key(0), Some(Response::Pending { .. })));
    world.settle();
    assert_eq!(state(&world, 0), "revealing");
    assert!(matches!(world.poll_key(0), Some(Response::Key { r }) if r.lock() == s));
    world.calm();
    assert_eq!(state(&world, 0), "paid");
    assert_eq!(world.paid_events, [0, 1, 2, 3]);
    assert!((0..4).all(|device| world.claimed(device) == Some(s)));
}

#[test]
fn a_late_receipt_is_claimed_under_the_same_lock() {
    let mut world = World::new(policy());
    let s = world.batch(0, &[0]);
    world.calm();
    assert_eq!(world.receipt(0, 3), Some(Response::Ack { index: 3 }));
    world.observe();
    world.settle();
    assert_eq!(state(&world, 0), "claiming");
    world.calm();
    assert_eq!(world.claimed(3), Some(s));
    assert_eq!(state(&world, 0), "paid");
}

#[test]
fn a_sealed_batch_below_the_price_waits_for_more() {
    let mut world = World::new(Policy { min_receipts: 2, ..policy() });
    world.batch(0, &[0]);
    world.calm();
    assert_eq!(state(&world, 0), "collecting");
    world.receipt(0, 1);
    world.calm();
    assert_eq!(state(&world, 0), "paid");
}

#[test]
fn a_receipt_that_comes_while_the_chain_is_read_is_in_the_batch() {
    let mut world = World::new(policy());
    world.offer(0, 0);
    world.receipt(0, 0);
    let read = world.read();
    world.receipt(0, 1);
    world.seal(0);
    world.tell(read);
    assert_eq!(state(&world, 0), "collecting");
    world.calm();
    assert_eq!(world.mined(), [("reserve", true), ("reveal", true)]);
}

#[test]
fn a_lock_that_a_rival_holds_is_reported_and_dropped() {
    let mut world = World::new(policy());
    let s = world.offer(0, 0);
    world.receipt(0, 0);
    world.receipt(0, 1);
    world.rival(1, false);
    world.mine();
    world.mine();
    world.seal(0);
    world.calm();
    assert_eq!(world.fate(0, 1), Some(Fate::LockedByOther));
    assert_eq!(world.claimed(0), Some(s));
    assert_eq!(refused(world.receipt(0, 1)), Refusal::AlreadyClaimed);
}

#[test]
fn near_its_end_a_lock_is_not_worth_t() {
    let mut world = World::new(Policy { reveal_margin_secs: 7200, ..policy() });
    world.batch(0, &[0]);
    world.calm();
    assert_eq!(state(&world, 0), "closed");
    assert_eq!(world.fate(0, 0), Some(Fate::LockLapsed));
    assert_eq!(world.claimed(0), None);
    assert_eq!(refused(world.poll_key(0)), Refusal::Closed);
}

/// Until the lock is final and the machine has been told.
fn locked(world: &mut World) {
    reserved(world);
    world.observe();
    assert_eq!(state(world, 0), "locked");
}

/// Until the lock is final.
fn reserved(world: &mut World) {
    world.batch(0, &[0]);
    world.observe();
    world.settle();
    assert_eq!(state(world, 0), "reserving");
    (0..4).for_each(|_| world.mine());
}

/// Both are final, and neither is revealed.
fn two_locks() -> World {
    let mut world = World::new(policy());
    world.base_fee(1_000);
    for g in 0..2 {
        world.batch(g, &[g]);
    }
    world.observe();
    world.settle();
    (0..4).for_each(|_| world.mine());
    world.observe();
    assert_eq!((state(&world, 0), state(&world, 1)), ("locked", "locked"));
    world
}

#[test]
fn a_withheld_head_does_not_make_an_ended_lock_look_alive() {
    let mut world = World::new(policy());
    locked(&mut world);
    // The head stays where it is, and time goes on: the lock of two hours has ended.
    world.now += 7_200_000;
    for _ in 0..10 {
        world.settle();
        world.now += 12_000;
        world.observe();
    }
    world.settle();
    assert_eq!(state(&world, 0), "locked", "t was not shown, and nothing is given up by our clock alone");
    assert!(world.keys_shown.is_empty());
    // Then the chain itself says that it is over.
    (0..600).for_each(|_| world.mine());
    world.observe();
    world.settle();
    assert_eq!(state(&world, 0), "closed");
    assert_eq!(world.fate(0, 0), Some(Fate::LockLapsed));
}

#[test]
fn a_clock_that_is_behind_or_was_ahead_costs_nothing() {
    for skew in [-900_000, 7_200_000] {
        let mut world = World::new(policy());
        locked(&mut world);
        let right = world.now;
        world.now = right.saturating_add_signed(skew);
        world.observe();
        world.settle();
        assert_eq!(state(&world, 0), if skew < 0 { "revealing" } else { "locked" });
        world.now = right + 60_000;
        world.calm();
        assert_eq!(state(&world, 0), "paid");
    }
}

#[test]
fn what_a_node_says_of_a_call_ends_no_exchange() {
    for verdict in [CallFailure::ClaimsClosed, CallFailure::Reverts, CallFailure::Unavailable] {
        let mut world = World::new(Policy { max_tries: 2, ..policy() });
        let s = world.batch(0, &[0]);
        world.verdict = Some(verdict);
        world.calm();
        assert!(matches!(state(&world, 0), "collecting" | "reserving"), "{verdict}: {}", state(&world, 0));
        assert_eq!(world.fate(0, 0), Some(Fate::Waiting), "{verdict}");
        // 60 blocks of 12 seconds: pauses of 1, 2, 4, ... 60 seconds, not a try with each block.
        assert!((10..25).contains(&world.simulations), "{verdict}: {}", world.simulations);
        world.verdict = None;
        world.calm();
        assert_eq!(world.claimed(0), Some(s), "{verdict}");
        // The same for what comes late.
        world.receipt(0, 3);
        world.verdict = Some(verdict);
        world.calm();
        assert_eq!(world.fate(0, 3), Some(Fate::Waiting), "{verdict}");
        world.verdict = None;
        world.calm();
        assert_eq!(world.claimed(3), Some(s), "{verdict}");
    }
}

#[test]
fn payments_that_cannot_be_read_now_are_counted_later() {
    let mut world = World::new(policy());
    locked(&mut world);
    world.receipt(0, 1);
    world.events = false;
    world.calm();
    assert_eq!(state(&world, 0), "revealing", "standings are taken in all the same");
    assert_eq!(world.fate(0, 0), Some(Fate::Waiting), "not lost, though its share is gone");
    world.events = true;
    world.calm();
    assert_eq!(state(&world, 0), "paid");
    assert_eq!(world.paid_events, [0, 1]);
}
