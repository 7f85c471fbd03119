//! What depends on the clock: checkpoints that are too old, finality that does not come, and clocks that are wrong.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use posthouse_light_client::client::{Alarm, ClientError, Clock, Config, LightClient, StartError};
use posthouse_light_client::http::{Endpoint, Limits};
use posthouse_light_client::spec::Network;

use crate::liar::{self, Liar};
use crate::world::{EPOCH, PERIOD, World};

/// Past the weak subjectivity period from where the world began.
fn too_late(world: &World) -> u64 {
    world.beacon.time_of(10) + u64::try_from(world.network.weak_subjectivity().as_millis()).unwrap()
}

#[tokio::test]
async fn a_stale_checkpoint_is_refused_unless_allowed() {
    let world = World::new();
    for period in 1..=13 {
        world.mine_at(period * PERIOD, 4); // 12.3 periods are 3 150 epochs
    }
    let mut config = world.config(&[world.beacon.url()]);
    let client = LightClient::open(config.clone()).unwrap();
    let error = client.sync_once().await.unwrap_err();
    let ClientError::StaleCheckpoint(stale) = &error else { panic!("{error:?}") };
    assert!(stale.age > stale.allowed && error.is_fatal());
    assert!(matches!(client.finalized(), Err(ClientError::NotSynced)));
    assert!(matches!(client.status().alarms[..], [Alarm::Stale { .. }]));
    // Nothing of it was stored, and `run` does not go on trying.
    let error = client.run().await;
    assert!(matches!(error, ClientError::StaleCheckpoint(_)));
    let [Alarm::Ended { why }, Alarm::Stale { .. }] = &client.status().alarms[..] else {
        panic!("{:?}", client.status().alarms)
    };
    assert_eq!(*why, error.to_string());
    drop(client);
    config.allow_stale_checkpoint = true;
    let client = LightClient::open(config).unwrap();
    assert_eq!(client.sync_once().await.unwrap().number, world.finalized());
    assert_eq!(client.status().alarms, []);
}

#[tokio::test]
async fn a_store_that_has_become_stale_does_not_start_unless_allowed() {
    let world = World::new();
    let client = world.synced().await;
    world.set_ms(too_late(&world));
    // The running client says so too, and keeps trying, for it may be the clock that is wrong.
    assert!(matches!(client.finalized(), Err(ClientError::Stale(_))));
    assert!(matches!(client.sync_once().await, Err(ClientError::Stale(_))));
    drop(client);
    let mut config = world.config(&[world.beacon.url()]);
    assert!(matches!(LightClient::open(config.clone()), Err(StartError::Stale(_))));
    config.checkpoint = None;
    assert!(matches!(LightClient::open(config.clone()), Err(StartError::Stale(_))));
    config.allow_stale_checkpoint = true;
    assert_eq!(LightClient::open(config).unwrap().finalized().unwrap().number, world.finalized());
}

#[tokio::test]
async fn finality_that_is_withheld_raises_an_alarm_after_the_bound() {
    let world = World::new();
    let mut config = world.config(&[world.beacon.url()]);
    config.finality_alarm = Duration::from_millis(6 * EPOCH * world.network.slot_ms);
    let client = LightClient::open(config).unwrap();
    let before = client.sync_once().await.unwrap();
    world.beacon.withhold_finality(true);
    world.mine_at(5 * EPOCH, 3);
    // Overdue: the endpoint is passed over, and that is no error yet.
    assert_eq!(client.sync_once().await.unwrap(), before);
    assert_eq!(client.status().alarms, []);
    assert!(client.status().beacon[0].last_error.as_ref().unwrap().starts_with("nothing later than slot"));
    world.mine_at(7 * EPOCH, 3);
    assert_eq!(client.sync_once().await.unwrap(), before);
    let [Alarm::FinalityWithheld { slot, age_secs }] = client.status().alarms[..] else {
        panic!("{:?}", client.status().alarms)
    };
    assert_eq!(Some(slot), world.beacon.slot_of(before.number));
    assert!(age_secs * 1000 > 6 * EPOCH * world.network.slot_ms);
    // The head goes on meanwhile, and the alarm ends with finality.
    assert_eq!(client.latest().await.unwrap().hash, world.chain.head().hash());
    world.beacon.withhold_finality(false);
    world.mine(3);
    assert_eq!(client.sync_once().await.unwrap().number, world.finalized());
    assert_eq!(client.status().alarms, []);
}

#[tokio::test]
async fn finality_that_one_endpoint_withholds_comes_from_the_next() {
    let world = World::new();
    let old = world.beacon.slot();
    let lie = {
        let honest = Endpoint::new(world.beacon.url(), Limits::default()).unwrap();
        let path = "/eth/v1/beacon/light_client/finality_update";
        let body = honest.get(path, "application/octet-stream").await.unwrap().body;
        move |path: &str, _: &_| path.ends_with("finality_update").then(|| liar::Reply::ssz(body.clone()))
    };
    let liar = Liar::ssz(world.beacon.url(), lie).await;
    let client = world.client(&[liar.url(), world.beacon.url()]);
    client.sync_once().await.unwrap();
    liar.lie(true);
    world.mine_at(old + 4 * EPOCH, 3);
    assert_eq!(client.sync_once().await.unwrap().number, world.finalized());
    let status = client.status();
    assert_eq!((status.beacon[0].failures, status.beacon[1].failures), (1, 0));
}

#[tokio::test]
async fn a_signature_of_the_future_is_reported_as_a_slow_clock() {
    let world = World::new();
    let client = world.synced().await;
    let before = client.finalized().unwrap();
    let now = world.beacon.slot();
    world.mine(3);
    let signed = world.beacon.slot();
    world.set_slot(now);
    let error = client.sync_once().await.unwrap_err();
    assert!(
        matches!(error, ClientError::ClockBehind { signed: s, now: n } if s == signed && n == now),
        "{error}"
    );
    assert_eq!(client.status().alarms, [Alarm::ClockBehind { signed, now }]);
    assert_eq!(client.finalized().unwrap(), before);
    world.set_slot(signed);
    assert_eq!(client.sync_once().await.unwrap().number, world.finalized());
    assert_eq!(client.status().alarms, []);
}

#[tokio::test]
async fn one_endpoint_with_signatures_of_the_future_is_passed_over() {
    let world = World::new();
    let lie = liar::finality(&world.network, |update| update.signature_slot += 1000);
    let liar = Liar::ssz(world.beacon.url(), lie).await;
    liar.lie(true);
    let client = world.client(&[liar.url(), world.beacon.url()]);
    assert_eq!(client.sync_once().await.unwrap().number, world.finalized());
    assert_eq!(client.status().alarms, []);
    assert!(client.status().beacon[0].last_error.as_ref().unwrap().starts_with("signed in slot"));
}

#[tokio::test]
async fn a_clock_that_went_back_is_noticed_without_asking() {
    let world = World::new();
    let client = world.synced().await;
    world.set_slot(1);
    world.beacon.take_requests();
    assert!(matches!(client.sync_once().await, Err(ClientError::ClockBehind { now: 1, .. })));
    assert!(matches!(client.latest().await, Err(ClientError::ClockBehind { now: 1, .. })));
    assert_eq!(world.beacon.take_requests(), Vec::<String>::new());
}

#[tokio::test]
async fn a_clock_before_genesis_asks_nobody_and_does_not_panic() {
    let world = World::new();
    let client = world.client(&[world.beacon.url()]);
    world.beacon.take_requests();
    for now_ms in [0, 1, world.network.genesis_time * 1000 - 1] {
        world.set_ms(now_ms);
        let error = client.sync_once().await.unwrap_err();
        let (at, genesis) = (now_ms / 1000, world.network.genesis_time);
        assert!(matches!(error, ClientError::BeforeGenesis { now, genesis: g } if now == at && g == genesis));
        assert!(!error.is_fatal());
        assert_eq!(client.status().alarms, [Alarm::BeforeGenesis]);
    }
    assert_eq!(world.beacon.take_requests(), Vec::<String>::new());
    world.set_slot(world.beacon.slot());
    assert_eq!(client.sync_once().await.unwrap().number, world.finalized());
}

#[tokio::test]
async fn a_clock_at_the_end_of_time_does_not_panic() {
    let world = World::new();
    let client = world.synced().await;
    world.set_ms(u64::MAX);
    assert!(client.sync_once().await.is_err() && client.latest().await.is_err());
    let _shown = serde_json::to_string(&client.status()).unwrap();
}

#[tokio::test]
async fn a_fork_that_came_after_this_program_stops_it() {
    let world = World::new();
    let yaml = world.beacon.network_yaml() + "\nGLOAS_FORK_VERSION: 0x07000000\nGLOAS_FORK_EPOCH: 256\n";
    let mut config = world.config(&[world.beacon.url()]);
    config.network = Network::from_yaml(&yaml).unwrap().into();
    let client = LightClient::open(config).unwrap();
    client.sync_once().await.unwrap();
    world.mine_at(PERIOD, 3);
    let error = client.run().await;
    assert!(matches!(error, ClientError::UnknownFork(_)), "{error:?}");
    let alarms = client.status().alarms;
    let [ended @ Alarm::Ended { .. }, Alarm::UnknownFork { fork }, ..] = &alarms[..] else {
        panic!("{alarms:?}")
    };
    assert_eq!(fork.to_lowercase(), "gloas");
    // Whatever becomes of the reason: nobody follows the chain any more.
    world.set_ms(0);
    client.sync_once().await.unwrap_err();
    assert_eq!(client.status().alarms, [ended.clone(), Alarm::BeforeGenesis]);
}

#[tokio::test]
async fn endpoints_that_never_answer_are_an_alarm_with_and_without_a_store() {
    let world = World::new();
    let outage = |_: &str, _: &_| Some(liar::Reply::Head("500 Internal Server Error\r\n"));
    let endpoint = Liar::ssz(world.beacon.url(), outage).await;
    let mut config = world.config(&[endpoint.url()]);
    let unanswered = |client: &LightClient| {
        client.status().alarms.iter().any(|alarm| matches!(alarm, Alarm::Unanswered { .. }))
    };
    for has_store in [false, true] {
        endpoint.lie(true);
        config.finality_alarm = Config::FINALITY_ALARM;
        let client = LightClient::open(config.clone()).unwrap();
        client.sync_once().await.unwrap_err();
        let status = client.status();
        assert_eq!(status.alarms, [], "they have time to come up");
        assert!(status.last_error.unwrap().contains("HTTP status 500"));
        assert_eq!(status.finalized.is_some(), has_store);
        drop(client);
        config.finality_alarm = Duration::ZERO;
        let client = LightClient::open(config.clone()).unwrap();
        client.sync_once().await.unwrap_err();
        assert!(unanswered(&client), "{:?}", client.status().alarms);
        endpoint.lie(false);
        client.sync_once().await.unwrap();
        assert!(!unanswered(&client) && client.status().last_error.is_none());
    }
}

/// What is shown is signed in the slot that begins while the answer is on its way: on mainnet a matter of luck, with short
/// slots of every day.
#[tokio::test]
async fn a_slot_that_begins_before_the_answer_is_there() {
    let world = World::new();
    let signed = world.beacon.slot();
    let (before, then) = (world.beacon.time_of(signed - 1), world.beacon.time_of(signed));
    let asked = AtomicBool::new(false);
    let clock = Clock::new(move || if asked.swap(true, Ordering::SeqCst) { then } else { before });
    let client = LightClient::open(Config { clock, ..world.config(&[world.beacon.url()]) }).unwrap();
    assert_eq!(client.sync_once().await.unwrap().number, world.finalized());
    assert_eq!(client.status().alarms, []);
}
