//! Endpoints that tell the truth of long ago, and those that take their time.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use posthouse_devchain::beacon::{Lie, Topic};
use posthouse_light_client::beacon::BeaconError;
use posthouse_light_client::client::{Alarm, ClientError, LightClient};
use posthouse_light_client::http::Answer;
use posthouse_light_client::spec::Refused;

use crate::liar::{Liar, Reply};
use crate::world::{EPOCH, PERIOD, World};

const FINALITY: &str = "finality_update";
const OPTIMISTIC: &str = "optimistic_update";

/// Always gives what is the beacon's answer now.
async fn replayer(world: &World, path: &'static str) -> Liar {
    let old = world.answer(path).await;
    let replay = move |asked: &str, _: &Answer| asked.ends_with(path).then(|| Reply::ssz(old.clone()));
    let liar = Liar::ssz(world.beacon.url(), replay).await;
    liar.lie(true);
    liar
}

/// Fails when asked for `path`, and until then it has become `slot`.
async fn slow(world: &World, path: &'static str, slot: u64) -> Liar {
    let clock = world.clock();
    let answer = move |asked: &str, _: &Answer| {
        asked.ends_with(path).then(|| {
            clock(slot);
            Reply::Head("500 Internal Server Error\r\n")
        })
    };
    let liar = Liar::ssz(world.beacon.url(), answer).await;
    liar.lie(true);
    liar
}

#[tokio::test]
async fn an_answer_is_of_the_slot_in_which_it_comes() {
    for path in [FINALITY, OPTIMISTIC] {
        let world = World::new();
        world.synced().await;
        let now = world.beacon.slot() + 2;
        world.mine(5);
        let slow = slow(&world, path, world.beacon.slot()).await;
        let client = world.client(&[slow.url(), world.honest.url()]);
        world.set_slot(now);
        if path == FINALITY {
            assert_eq!(client.sync_once().await.unwrap().number, world.finalized());
        } else {
            assert_eq!(client.latest().await.unwrap().hash, world.chain.head().hash());
        }
        assert_eq!(client.status().alarms, []);
    }
}

#[tokio::test]
async fn a_checkpoint_that_is_final_only_once_it_comes_is_no_slow_clock() {
    let world = World::new();
    let now = world.beacon.slot_of(world.finalized()).unwrap() - 1;
    let path: &str = format!("bootstrap/{}", world.checkpoint).leak();
    let slow = slow(&world, path, world.beacon.slot()).await;
    let client = world.client(&[slow.url(), world.honest.url()]);
    world.set_slot(now);
    assert_eq!(client.sync_once().await.unwrap().number, world.finalized());
}

#[tokio::test]
async fn who_waited_for_an_answer_has_it_and_does_not_ask_again() {
    let world = World::new();
    world.synced().await;
    world.mine(2);
    let slow = slow(&world, OPTIMISTIC, world.beacon.slot() + 10).await;
    let client = world.client(&[slow.url()]);
    let old = client.status().optimistic.unwrap().hash;
    for _ in 0..3 {
        assert_eq!(client.latest().await.unwrap().hash, old);
    }
    assert_eq!(slow.asked(), 1);
}

#[tokio::test]
async fn a_true_header_of_long_ago_is_no_head() {
    let world = World::new();
    let client = world.synced().await;
    let known = client.status().optimistic.unwrap().slot;
    drop(client);
    let replayer = replayer(&world, OPTIMISTIC).await;
    let client = world.client(&[replayer.url()]);
    world.set_slot(known + EPOCH);
    assert_eq!(client.latest().await.unwrap().hash, world.chain.head().hash());
    let now = known + EPOCH + 1;
    world.set_slot(now);
    let error = client.latest().await.unwrap_err();
    assert!(
        matches!(error, ClientError::NoHead { slot, now: n, .. } if slot == known && n == now),
        "{error}"
    );
    assert!(error.to_string().contains("nothing later than slot"), "{error}");
}

#[tokio::test]
async fn a_head_that_lags_is_taken_only_if_nobody_has_a_later_one() {
    let world = World::new();
    world.synced().await;
    world.mine(2);
    let behind = world.chain.head().hash();
    let copy = world.store().with_file_name("copy.sqlite");
    std::fs::copy(world.store(), &copy).unwrap();
    let replayer = replayer(&world, OPTIMISTIC).await;
    world.mine(10);
    let mut config = world.config(&[replayer.url(), world.honest.url()]);
    let client = LightClient::open(config.clone()).unwrap();
    config.store = copy;
    assert_eq!(client.latest().await.unwrap().hash, world.chain.head().hash());
    assert!(client.status().beacon[0].last_error.is_some());
    // Alone, it is still worth what it proves.
    config.beacon.truncate(1);
    let client = LightClient::open(config).unwrap();
    assert_eq!(client.latest().await.unwrap().hash, behind);
}

#[tokio::test]
async fn finality_that_lags_is_taken_only_if_nobody_has_a_later_one() {
    let world = World::new();
    world.synced().await;
    world.mine(2);
    let (behind, replayer) = (world.finalized(), replayer(&world, FINALITY).await);
    world.mine_at(4 * EPOCH, 3);
    let client = world.client(&[replayer.url(), world.honest.url()]);
    assert_eq!(client.sync_once().await.unwrap().number, world.finalized());
    assert!(client.status().beacon[0].last_error.is_some());
    drop(client);
    let mut config = world.config(&[replayer.url()]);
    config.store = world.store().with_file_name("other.sqlite");
    let alone = LightClient::open(config).unwrap();
    assert_eq!(alone.sync_once().await.unwrap().number, behind);
}

/// Each of these updates is true, and brings a later header of a period whose committee is known.
#[tokio::test]
async fn headers_within_a_period_are_no_progress_of_committees() {
    let world = World::new();
    world.synced().await;
    world.mine_at(EPOCH, 3);
    let old = world.answer("updates?start_period=0&count=1").await;
    let replay = move |asked: &str, _: &Answer| asked.contains("/updates?").then(|| Reply::ssz(old.clone()));
    let replayer = Liar::ssz(world.beacon.url(), replay).await;
    replayer.lie(true);
    for period in 1..3 {
        world.mine_at(period * PERIOD, 4);
    }
    let client = world.client(&[replayer.url(), world.honest.url()]);
    assert_eq!(client.sync_once().await.unwrap().number, world.finalized());
    let status = client.status();
    assert!(status.beacon[0].last_error.as_ref().unwrap().starts_with("nothing later than"), "{status:?}");
}

#[tokio::test]
async fn what_is_proven_of_a_page_is_kept_and_the_rest_asked_of_the_next() {
    let world = World::new();
    world.synced().await;
    for period in 1..4 {
        world.mine_at(period * PERIOD, 4);
    }
    let break_last = |asked: &str, honest: &Answer| {
        asked.contains("/updates?").then(|| {
            let mut body = honest.body.clone();
            *of_last_parent_root(&mut body) ^= 1;
            Reply::ssz(body)
        })
    };
    let liar = Liar::ssz(world.beacon.url(), break_last).await;
    liar.lie(true);
    let client = world.client(&[liar.url()]);
    // The last one's committee is that of the next period, which is not needed for finality.
    assert_eq!(client.sync_once().await.unwrap().number, world.finalized());
    assert!(!client.status().next_committee);
    drop(client);
    let client = world.client(&[liar.url(), world.honest.url()]);
    client.sync_once().await.unwrap();
    assert!(client.status().next_committee);
    assert_eq!(client.status().beacon[0].last_error, Some(Refused::Signature.to_string()));
}

#[tokio::test]
async fn an_endpoint_with_a_lie_in_its_page_is_left_for_the_rest_of_it() {
    let world = World::new();
    for period in 1..4 {
        world.mine_at(period * PERIOD, 4);
    }
    let pages = Arc::<AtomicUsize>::default();
    let asked_for = pages.clone();
    let break_last = move |asked: &str, honest: &Answer| {
        asked.contains("/updates?").then(|| {
            asked_for.fetch_add(1, Ordering::SeqCst);
            let mut body = honest.body.clone();
            *of_last_parent_root(&mut body) ^= 1;
            Reply::ssz(body)
        })
    };
    let liar = Liar::ssz(world.beacon.url(), break_last).await;
    liar.lie(true);
    let client = world.client(&[liar.url(), world.honest.url()]);
    assert_eq!(client.sync_once().await.unwrap().number, world.finalized());
    assert!(client.status().next_committee);
    assert_eq!(client.status().beacon[0].last_error, Some(Refused::Signature.to_string()));
    assert_eq!(pages.load(Ordering::SeqCst), 1);
}

/// A byte of the parent root in the last attested header of a list: that header is what was signed.
fn of_last_parent_root(list: &mut [u8]) -> &mut u8 {
    let number = |at: usize| u32::from_le_bytes(list[at..at + 4].try_into().unwrap()) as usize;
    let mut at = 0;
    while at + 8 + number(at) < list.len() {
        at += 8 + number(at);
    }
    let update = at + 8 + 4;
    let attested = update + number(update);
    // A header begins with slot and proposer.
    &mut list[attested + 8 + 8]
}

/// One endpoint has nothing new, which is true, and the other one's answer is refused for the clock: both are told.
#[tokio::test]
async fn nothing_new_at_one_endpoint_does_not_hide_what_is_wrong_at_another() {
    let world = World::new();
    let client = world.synced().await;
    let before = client.finalized().unwrap();
    drop(client);
    let replayer = replayer(&world, FINALITY).await;
    world.mine_at(6 * EPOCH, 3);
    let client = world.client(&[replayer.url(), world.honest.url()]);
    world.set_slot(5 * EPOCH);
    let error = client.sync_once().await.unwrap_err();
    let ClientError::Beacon(why) = &error else { panic!("{error:?}") };
    assert!(matches!(why.0[0].error, BeaconError::NothingNew { .. }), "{error}");
    assert!(matches!(why.0[1].error, BeaconError::Refused(Refused::Future { .. })), "{error}");
    assert_eq!(client.finalized().unwrap(), before);
    let status = client.status();
    assert!(status.last_error.unwrap().contains("signed in slot"));
    assert!(
        !status.alarms.iter().any(|alarm| matches!(alarm, Alarm::ClockBehind { .. })),
        "{:?}",
        status.alarms
    );
}

#[tokio::test]
async fn an_endpoint_that_does_not_answer_says_nothing_about_the_clock() {
    let world = World::new();
    drop(world.synced().await);
    let now = world.beacon.slot();
    world.mine(3);
    let silent = slow(&world, FINALITY, now).await;
    let client = world.client(&[silent.url(), world.honest.url()]);
    world.set_slot(now);
    let error = client.sync_once().await.unwrap_err();
    assert!(matches!(error, ClientError::ClockBehind { .. }), "{error}");
    assert_eq!(client.status().alarms, [Alarm::ClockBehind { signed: world.beacon.slot(), now }]);
}

#[tokio::test]
async fn a_fork_that_all_endpoints_name_is_an_alarm_and_that_of_one_is_not() {
    let world = World::new();
    drop(world.synced().await);
    world.mine(3);
    world.beacon.lie_about(Topic::Finality, Lie::UnknownFork);
    let client = world.client(&[world.beacon.url()]);
    let error = client.sync_once().await.unwrap_err();
    assert!(matches!(error, ClientError::Beacon(_)) && !error.is_fatal(), "{error}");
    assert_eq!(client.status().alarms, [Alarm::UnknownFork { fork: "gloas".into() }]);
    drop(client);
    let client = world.client(&[world.beacon.url(), world.honest.url()]);
    assert_eq!(client.sync_once().await.unwrap().number, world.finalized());
    assert_eq!(client.status().alarms, []);
}
