//! Deaths and reorganisations at every step, and whatever else can happen.

use super::*;

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
    /// In tenths of a share.
    Balance(u128),
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
        2 => (0..40u128).prop_map(Step::Balance),
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
        Step::Balance(tenths) => world.balance(tenths * (world::SHARE / 10)),
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
        world.balance(10 * world::SHARE);
        world.calm();
        (0..GATEWAYS).for_each(|g| drop(world.seal(g)));
        world.calm();
        world.check_settled(min_receipts as usize);
    }
}

/// The program starts again, and the bounty is not opened: its vendor is away, say.
#[test]
fn what_a_bounty_sent_that_is_not_opened_again_holds_nothing_up_for_ever() {
    let mut world = World::new(Policy { max_tries: 1, ..policy() });
    world.deaf = true;
    for g in 0..2 {
        world.batch(g, &[g]);
    }
    world.observe();
    world.settle();
    assert_eq!((state(&world, 0), state(&world, 1)), ("reserving", "reserving"));
    world.crash_before_join();
    world.deaf = false;
    let pass = |world: &mut World, blocks: usize| {
        for _ in 0..blocks {
            world.observe();
            world.settle();
            world.mine();
        }
    };
    // Ten times 24 seconds.
    pass(&mut world, 20);
    assert_eq!(world.mined(), []);
    pass(&mut world, 20);
    assert_eq!(world.mined(), [("cancel", false)], "nothing waits for the second");
    world.join();
    world.calm();
    assert_eq!((state(&world, 0), state(&world, 1)), ("paid", "paid"));
    world.check_settled(1);
}

#[test]
fn a_reveal_of_a_bounty_that_is_not_opened_again_goes_out_until_its_lock_is_near_its_end() {
    for in_time in [true, false] {
        let mut world = World::new(policy());
        world.base_fee(1_000);
        locked(&mut world);
        world.deaf = true;
        world.settle();
        assert_eq!(state(&world, 0), "revealing");
        let fee = world.fees[world.fees.len() - 1];
        world.crash_before_join();
        // What it brings is not known: it is never raised.
        world.base_fee(3_000);
        world.deaf = false;
        for _ in 0..50 {
            world.observe();
            world.settle();
            world.mine();
        }
        assert_eq!((world.mined(), world.fees[world.fees.len() - 1]), (vec![("reserve", true)], fee));
        if !in_time {
            (0..600).for_each(|_| world.mine());
        }
        world.base_fee(1_000);
        for _ in 0..5 {
            world.observe();
            world.settle();
            world.mine();
        }
        let second = if in_time { ("reveal", true) } else { ("cancel", false) };
        assert_eq!(world.mined(), [("reserve", true), second]);
        world.join();
        world.calm();
        assert_eq!(state(&world, 0), "paid");
        world.check_settled(1);
    }
}
