//! What gateways may ask for, and what they are told.

use super::*;

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
    let s = world.batch(0, &[0]);
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

/// So many keys read the disk too often for the machine's thread: it says who may ask, and the look-up is done elsewhere.
#[test]
fn members_are_looked_up_elsewhere_and_for_peers_that_may_ask() {
    let mut world = World::new(policy());
    let Request::Receipt { bounty, device_key, .. } = world.receipt_request(0, 2, 1) else { unreachable!() };
    let members = |keys| Request::Members { bounty, keys };
    world.greet(0, 0);
    assert_eq!(refused(world.ask(0, members(vec![device_key]))), Refusal::NotAuthenticated);
    world.auth(0);
    assert_eq!(refused(world.ask(0, members(vec![device_key; MAX_MEMBERS + 1]))), Refusal::Malformed);
    assert_eq!(refused(world.ask(1, members(vec![device_key]))), Refusal::NotAuthenticated);
    assert_eq!(world.look_ups, 0);
    let stranger = DeviceKey::new([2; 33]);
    let entries = vec![Some(Member { index: 2, path: vec![] }), None];
    assert_eq!(world.ask(0, members(vec![device_key, stranger])), Some(Response::Members { entries }));
    assert_eq!(refused(world.ask(0, members(vec![world::UNREADABLE]))), Refusal::RateLimited);
    assert_eq!(world.look_ups, 2);
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
