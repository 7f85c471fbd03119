//! The machine against a chain and gateways that lose, repeat, reorder and die.

use std::vec;
use std::vec::Vec;

use proptest::prelude::*;

use crate::exchange::{Refusal, Request, Response};
use crate::id::{Attempt, ChainId, Curve, Signature};

use self::world::{Branch, DEVICES, GATEWAYS, World};
use super::*;

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
    let s = world.offer(0, 0);
    world.receipt(0, 0);
    world.seal(0);
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
    world.offer(0, 0);
    world.receipt(0, 0);
    world.seal(0);
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
    world.offer(0, 0);
    world.receipt(0, 0);
    world.seal(0);
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
    world.offer(0, 0);
    world.receipt(0, 0);
    world.seal(0);
    world.observe();
    world.settle();
    assert_eq!(state(world, 0), "reserving");
    (0..4).for_each(|_| world.mine());
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
        let s = world.offer(0, 0);
        world.receipt(0, 0);
        world.seal(0);
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

#[test]
fn an_offer_runs_out_and_the_next_one_has_another_lock() {
    let mut world = World::new(policy());
    let first = world.offer(0, 0);
    world.now += 3_600_000;
    assert_eq!(refused(world.receipt(0, 0)), Refusal::OfferExpired);
    world.auth(0);
    world.settle();
    assert!(matches!(world.auth(0), Some(Response::Pending { .. })));
    world.settle();
    assert!(matches!(world.auth(0), Some(Response::Offer { s, .. }) if s != first));
}

#[test]
fn copies_are_for_the_claimed_only() {
    let mut world = World::new(policy());
    let s = world.offer(0, 0);
    world.receipt(0, 0);
    world.seal(0);
    assert_eq!(refused(world.copy(1, s, 0)), Refusal::NotAuthenticated);
    world.calm();
    assert!(matches!(world.copy(1, s, 0), Some(Response::Offer { s: of, .. }) if of == s));
    assert_eq!(refused(world.copy(1, s, 1)), Refusal::NotAuthenticated);
}

#[test]
fn requests_that_do_not_fit_are_refused_by_name() {
    let mut world = World::new(policy());
    let Request::Receipt { bounty, s, device_key, .. } = world.receipt_request(0, 0, 1) else {
        unreachable!()
    };
    let (chain, sig) = (ChainId::new(31337), Signature::new([1; 64]));
    let hello = |chain, bounty, device_key| Request::Hello { chain, bounty, device_key, delegation: sig };
    let stranger = crate::id::DeviceKey::new([2; 33]);
    let other = Bounty::new([1; 20]);
    for (request, reason) in [
        (hello(ChainId::new(1), bounty, device_key), Refusal::WrongChain),
        (hello(chain, other, device_key), Refusal::UnknownBounty),
        (hello(chain, bounty, stranger), Refusal::NotAMember),
        (hello(chain, bounty, world::UNREADABLE), Refusal::RateLimited),
        (hello(chain, bounty, device_key), Refusal::BadDelegation),
        (Request::Auth { chain, bounty, sig: Vec::new() }, Refusal::NotAuthenticated),
        (Request::Members { bounty, keys: Vec::new() }, Refusal::NotAuthenticated),
        (Request::Poll { bounty, s }, Refusal::UnknownOffer),
        (Request::Seal { bounty: other, s }, Refusal::UnknownBounty),
    ] {
        assert_eq!(refused(world.ask(0, request)), reason);
    }
    world.greet(0, 0);
    let bad = Request::Auth { chain, bounty, sig: Vec::new() };
    assert_eq!(refused(world.ask(0, bad)), Refusal::BadAuth);
}

#[test]
fn receipts_are_checked_before_they_are_kept() {
    let mut world = World::new(policy());
    let s = world.offer(0, 0);
    let Request::Receipt { bounty, device_key, sig, .. } = world.receipt_request(0, 0, 2) else {
        unreachable!()
    };
    let with = |attempt| Request::Receipt { bounty, s, device_key, attempt, sig };
    assert_eq!(refused(world.ask(0, with(Attempt::new(3)))), Refusal::BadReceipt);
    assert_eq!(refused(world.ask(0, with(Attempt::new(0)))), Refusal::BadReceipt);
    assert_eq!(refused(world.ask(1, with(Attempt::new(2)))), Refusal::UnknownOffer);
    assert_eq!(world.ask(0, with(Attempt::new(2))), Some(Response::Ack { index: 0 }));
    let lower = world.receipt_request(0, 0, 1);
    assert_eq!(refused(world.ask(0, lower)), Refusal::StaleAttempt);
}

#[test]
fn until_a_bounty_is_joined_again_gateways_are_told_to_wait() {
    let mut world = World::new(policy());
    world.offer(0, 0);
    world.crash_before_join();
    assert!(matches!(world.receipt(0, 0), Some(Response::Pending { .. })));
    world.join();
    assert!(matches!(world.receipt(0, 0), Some(Response::Pending { .. })), "before the first head");
    world.observe();
    assert_eq!(world.receipt(0, 0), Some(Response::Ack { index: 0 }));
}

#[test]
fn a_claimed_device_opens_nothing() {
    let mut world = World::new(policy());
    world.rival(0, true);
    assert_eq!(refused(world.greet(0, 0)), Refusal::AlreadyClaimed);
    assert!(matches!(world.greet(0, 1), Some(Response::Challenge { .. })));
}

#[test]
fn a_peer_that_asks_too_often_is_told_so() {
    let mut policy = policy();
    policy.limits.burst = 3;
    let mut world = World::new(policy);
    assert!(matches!(world.greet(0, 0), Some(Response::Challenge { .. })));
    assert!(matches!(world.hello(0, 0), Some(Response::Challenge { .. })));
    assert_eq!(refused(world.hello(0, 0)), Refusal::RateLimited);
    assert!(matches!(world.greet(1, 1), Some(Response::Challenge { .. })));
    world.now += 1000;
    assert!(matches!(world.hello(0, 0), Some(Response::Challenge { .. })));
}

#[test]
fn one_device_opens_so_many_exchanges_and_no_more() {
    let mut policy = policy();
    policy.limits.exchanges_per_device = 1;
    let mut world = World::new(policy);
    world.offer(0, 0);
    world.greet(1, 0);
    assert_eq!(refused(world.auth(1)), Refusal::RateLimited);
}

/// A sale to three sensors and a late one, with a death before one output of the machine, and with each transaction's
/// block dropped once when it is so deep.
fn shaken_sale(policy: Policy, crash_at: Option<usize>, depth: usize, branch: Branch) -> World {
    let mut world = World::new(policy);
    world.finality(6);
    world.crash_at = crash_at;
    for _ in 0..80 {
        world.buy();
        world.settle();
        world.mine();
        world.shake(depth, branch);
        world.observe();
    }
    world
}

/// The whole product: a death before every output, reorganisations of depth 1 to 5 that drop the reservation, the reveal
/// and the late claim, and the three things that can become of a dropped transaction. The world asserts at every step that
/// nothing shows `t` or `r` before a finalized block has the lock.
#[test]
fn every_crash_and_every_reorganisation_pays_each_claim_once() {
    let mined = [("reserve", true), ("reveal", true), ("claim", true)];
    assert!(every_crash_and_reorganisation(policy(), &mined) > 500);
}

/// The same by a private relay, which is shown `t` before anything is locked; the gateway has `r` when the payment is final.
#[test]
fn every_crash_and_every_reorganisation_of_a_direct_claim_pays_it_once() {
    let mined = [("claim", true), ("claim", true)];
    assert!(every_crash_and_reorganisation(Policy { direct: true, ..policy() }, &mined) > 500);
}

fn every_crash_and_reorganisation(policy: Policy, mined: &[(&str, bool)]) -> usize {
    let quiet = shaken_sale(policy, None, 6, Branch::Pending);
    assert_eq!(quiet.mined(), mined);
    let mut cases = 0;
    for depth in 1..=5 {
        for branch in [Branch::Without, Branch::Pending, Branch::Elsewhere] {
            for crash_at in 0..quiet.outputs {
                let world = shaken_sale(policy, Some(crash_at), depth, branch);
                let what = alloc::format!("death before output {crash_at}, depth {depth}, {branch:?}");
                assert_eq!(world.mined(), quiet.mined(), "{what}");
                assert!((0..4).all(|device| world.fate(0, device) == Some(Fate::Paid)), "{what}");
                world.check_settled(1);
                assert_eq!(world.keys_shown.len(), 1, "{what}");
                assert_eq!(state(&world, 0), "paid", "{what}");
                cases += 1;
            }
        }
    }
    cases
}

#[test]
fn a_batch_that_the_relay_keeps_is_reserved_instead() {
    let mut world = World::new(Policy { direct: true, ..policy() });
    world.relay_is_deaf = true;
    let s = world.offer(0, 0);
    world.receipt(0, 0);
    world.seal(0);
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
fn a_nonce_that_nobody_uses_any_more_holds_nothing_up() {
    let mut world = World::new(policy());
    let s = world.offer(0, 0);
    world.receipt(0, 0);
    world.seal(0);
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
    let s = world.offer(0, 0);
    world.receipt(0, 0);
    world.seal(0);
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
    world.offer(0, 0);
    world.receipt(0, 0);
    world.seal(0);
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
    world.offer(1, 1);
    world.receipt(1, 1);
    world.seal(1);
    world.observe();
    world.settle();
    (0..4).for_each(|_| world.mine());
    world.offer(0, 0);
    world.receipt(0, 0);
    world.seal(0);
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
    world.offer(0, 0);
    world.receipt(0, 0);
    world.seal(0);
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
    world.offer(0, 0);
    world.receipt(0, 0);
    world.seal(0);
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

/// The relay brings it into a block where another holds a share of it: it reverts, and shows `t` to everybody.
#[test]
fn a_direct_claim_that_reverted_has_shown_its_secret() {
    let mut world = World::new(Policy { direct: true, ..policy() });
    let s = world.offer(0, 0);
    world.receipt(0, 0);
    world.receipt(0, 1);
    world.seal(0);
    world.observe();
    world.settle();
    assert_eq!(state(&world, 0), "direct");
    world.rival(1, false);
    world.calm();
    assert_eq!(world.mined(), [("claim", false), ("claim", true)]);
    assert_eq!((state(&world, 0), world.claimed(0)), ("paid", Some(s)));
}

#[test]
fn what_comes_after_the_end_of_claims_is_called_off() {
    let mut world = World::new(policy());
    world.offer(0, 0);
    world.receipt(0, 0);
    world.seal(0);
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
        let machine = world::scattered(Policy { max_batch: 200, direct, ..policy() }, stage, &indices);
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

/// One thing that can happen.
#[derive(Debug, Clone)]
enum Step {
    Hello(usize, usize),
    Auth(usize),
    Receipt(usize, usize),
    Seal(usize),
    Poll(usize),
    Deliver(usize),
    Lose,
    Mine,
    Observe,
    ObserveLate,
    Reorg(usize, Branch),
    ForgetPool,
    StealNonce,
    BaseFee(u128),
    RivalLock(usize),
    RivalClaim(usize),
    Crash,
}

fn branch() -> impl Strategy<Value = Branch> {
    prop_oneof![Just(Branch::Without), Just(Branch::Pending), Just(Branch::Elsewhere)]
}

fn step() -> impl Strategy<Value = Step> {
    let (g, d) = (0..GATEWAYS, 0..DEVICES);
    prop_oneof![
        3 => (g.clone(), d.clone()).prop_map(|(g, d)| Step::Hello(g, d)),
        4 => g.clone().prop_map(Step::Auth),
        6 => (g.clone(), d.clone()).prop_map(|(g, d)| Step::Receipt(g, d)),
        2 => g.clone().prop_map(Step::Seal),
        2 => g.prop_map(Step::Poll),
        6 => (0..4usize).prop_map(Step::Deliver),
        1 => Just(Step::Lose),
        5 => Just(Step::Mine),
        5 => Just(Step::Observe),
        2 => Just(Step::ObserveLate),
        2 => (1..6usize, branch()).prop_map(|(depth, branch)| Step::Reorg(depth, branch)),
        1 => Just(Step::ForgetPool),
        1 => Just(Step::StealNonce),
        2 => (0..30_000u128).prop_map(Step::BaseFee),
        1 => d.clone().prop_map(Step::RivalLock),
        1 => d.prop_map(Step::RivalClaim),
        3 => Just(Step::Crash),
    ]
}

fn take(world: &mut World, step: &Step) {
    match *step {
        Step::Hello(g, d) => drop(world.hello(g, d)),
        Step::Auth(g) => drop(world.auth(g)),
        Step::Receipt(g, d) => drop(world.receipt(g, d)),
        Step::Seal(g) => drop(world.seal(g)),
        Step::Poll(g) => drop(world.poll_key(g)),
        Step::Deliver(which) => world.deliver(which),
        Step::Lose => world.lose(),
        Step::Mine => world.mine(),
        Step::Observe => world.observe(),
        Step::ObserveLate => world.observe_late(),
        Step::Reorg(depth, branch) => world.reorg(depth, branch),
        Step::ForgetPool => world.forget_pool(),
        Step::StealNonce => world.steal_nonce(),
        Step::BaseFee(wei) => world.base_fee(wei),
        Step::RivalLock(d) => world.rival(d, false),
        Step::RivalClaim(d) => world.rival(d, true),
        Step::Crash => world.crash(),
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, max_shrink_iters: 2000, ..ProptestConfig::default() })]

    /// Whatever is lost, repeated, reordered or killed: the world's assertions hold at every step,
    /// and once it is calm every acknowledged receipt is paid, unless a rival was there.
    #[test]
    fn promises_hold_whatever_happens(
        steps in proptest::collection::vec((step(), 0..6usize), 0..120),
        min_receipts in 1..3u32,
        direct: bool,
    ) {
        let mut world = World::new(Policy { min_receipts, direct, ..policy() });
        world.finality(6);
        for (step, outputs) in &steps {
            take(&mut world, step);
            world.run(*outputs);
        }
        world.base_fee(100);
        world.calm();
        (0..GATEWAYS).for_each(|g| drop(world.seal(g)));
        world.calm();
        world.check_settled(min_receipts as usize);
    }
}
