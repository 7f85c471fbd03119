//! Checkpoints: agreeing on one, and giving another one to a store that has something.

use posthouse_devchain::beacon::Fork;
use posthouse_light_client::checkpoint::{Verdict, agree};
use posthouse_light_client::client::{Alarm, LightClient, StartError};
use posthouse_light_client::http::{Endpoint, Limits};
use posthouse_light_client::store::StoreError;

use crate::liar::{Liar, Reply};
use crate::world::{PERIOD, World};

#[tokio::test]
async fn endpoints_that_are_a_few_blocks_apart_agree() {
    let world = World::new();
    let beacon = Endpoint::new(world.beacon.url(), Limits::default()).unwrap();
    let old = beacon.get("/eth/v1/beacon/headers/finalized", "application/json").await.unwrap().body;
    let wanted = world.beacon.checkpoint();
    let lags = move |path: &str, _: &_| path.ends_with("finalized").then(|| Reply::json(old.clone()));
    let laggard = Liar::over(world.beacon.url(), "application/json", lags).await;
    laggard.lie(true);
    world.mine(10);
    assert_ne!(world.beacon.checkpoint(), wanted);
    let urls = [world.beacon.url(), laggard.url()].map(str::to_owned);
    let agreement = agree(&urls, Limits::default()).await.unwrap();
    let Verdict::Agreed(block) = agreement.verdict else { panic!("{agreement:?}") };
    assert_eq!(block.root, wanted);
    // And it is one that a client can begin with.
    let mut config = world.config(&[world.beacon.url()]);
    config.checkpoint = Some(block.root);
    LightClient::open(config).unwrap().sync_once().await.unwrap();
}

#[tokio::test]
async fn endpoints_of_two_chains_do_not_agree_and_one_alone_is_not_enough() {
    let (world, other) = (World::new(), World::with(vec![(Fork::Fulu, 0)], 31_338));
    let nobody = "http://127.0.0.1:1".to_owned();
    let [ours, theirs] = [world.beacon.url(), other.beacon.url()].map(str::to_owned);
    let verdict = async |urls: &[&String]| {
        let urls: Vec<_> = urls.iter().map(|url| (*url).clone()).collect();
        agree(&urls, Limits::default()).await.unwrap().verdict
    };
    assert_eq!(verdict(&[&ours, &theirs]).await, Verdict::Disagree);
    assert!(matches!(verdict(&[&ours, &nobody]).await, Verdict::Alone(_)));
    assert_eq!(verdict(&[&nobody]).await, Verdict::Silent);
}

/// Where the honest chain has no block in the slot of which the other endpoint calls one final.
#[tokio::test]
async fn an_endpoint_without_the_block_contradicts() {
    let world = World::new();
    let beacon = Endpoint::new(world.beacon.url(), Limits::default()).unwrap();
    let old = beacon.get("/eth/v1/beacon/headers/finalized", "application/json").await.unwrap().body;
    let slot = format!("headers/{}", world.beacon.slot_of(world.finalized()).unwrap());
    let earlier = move |path: &str, _: &_| path.ends_with("finalized").then(|| Reply::json(old.clone()));
    let lacks = move |path: &str, _: &_| path.ends_with(&slot).then_some(Reply::Head("404 Not Found\r\n"));
    let earlier = Liar::over(world.beacon.url(), "application/json", earlier).await;
    let honest = Liar::over(world.beacon.url(), "application/json", lacks).await;
    world.mine(10);
    for lie in [false, true] {
        earlier.lie(true);
        honest.lie(lie);
        let urls = [earlier.url(), world.honest.url(), honest.url()].map(str::to_owned);
        let agreement = agree(&urls, Limits::default()).await.unwrap();
        assert_eq!(agreement.verdict == Verdict::Disagree, lie, "{agreement:?}");
    }
}

#[tokio::test]
async fn without_a_checkpoint_an_empty_store_is_no_beginning() {
    let world = World::new();
    let mut config = world.config(&[world.beacon.url()]);
    config.checkpoint = None;
    assert!(matches!(LightClient::open(config), Err(StartError::NoCheckpoint)));
}

#[tokio::test]
async fn a_later_checkpoint_takes_over_and_an_earlier_one_does_not() {
    let world = World::new();
    let earlier = world.beacon.checkpoint_at(1).unwrap();
    drop(world.synced().await);
    // Far ahead: by the committees in between it would take three updates.
    world.mine_at(3 * PERIOD, 4);
    let mut config = world.config(&[world.beacon.url()]);
    config.checkpoint = Some(world.beacon.checkpoint());
    world.beacon.take_requests();
    let client = LightClient::open(config.clone()).unwrap();
    let now = client.sync_once().await.unwrap();
    assert_eq!(now.number, world.finalized());
    assert_eq!(client.status().checkpoint, config.checkpoint);
    assert!(world.beacon.take_requests()[0].contains("/bootstrap/"));
    drop(client);
    let later = config.checkpoint.replace(earlier);
    let client = LightClient::open(config.clone()).unwrap();
    assert_eq!(client.sync_once().await.unwrap(), now);
    let older = [Alarm::CheckpointOlder { checkpoint: earlier }];
    assert_eq!((client.status().checkpoint, &client.status().alarms[..]), (later, &older[..]));
    drop(client);
    // Looked at once, and not at every start.
    world.beacon.take_requests();
    let client = LightClient::open(config.clone()).unwrap();
    assert_eq!(client.sync_once().await.unwrap(), now);
    assert!(world.beacon.take_requests().iter().all(|path| !path.contains("/bootstrap/")));
    assert_eq!((client.status().checkpoint, &client.status().alarms[..]), (later, &older[..]));
    drop(client);
    config.checkpoint = later;
    assert_eq!(LightClient::open(config).unwrap().status().alarms, []);
}

/// The head of before went with what it followed from, so that it was asked for in this slot already is no answer.
#[tokio::test]
async fn after_a_checkpoint_took_over_the_head_is_asked_for_again() {
    let world = World::new();
    drop(world.synced().await);
    world.mine(10);
    let withheld = |path: &str, _: &_| {
        path.ends_with("finality_update").then_some(Reply::Head("500 Internal Server Error\r\n"))
    };
    let endpoint = Liar::ssz(world.beacon.url(), withheld).await;
    endpoint.lie(true);
    let mut config = world.config(&[endpoint.url()]);
    config.checkpoint = Some(world.beacon.checkpoint());
    let client = LightClient::open(config.clone()).unwrap();
    let head = world.chain.head().hash();
    assert_eq!(client.latest().await.unwrap().hash, head);
    assert_ne!(client.status().checkpoint, config.checkpoint);
    // Finality would bring a newer head along.
    client.sync_once().await.unwrap_err();
    assert_eq!(client.status().checkpoint, config.checkpoint);
    assert_ne!(client.status().optimistic.unwrap().hash, head);
    assert_eq!(client.latest().await.unwrap().hash, head);
}

#[tokio::test]
async fn a_checkpoint_that_nobody_has_is_an_alarm_beside_a_store_that_works() {
    let world = World::new();
    drop(world.synced().await);
    let mut config = world.config(&[world.beacon.url()]);
    let checkpoint = alloy::primitives::B256::repeat_byte(9);
    config.checkpoint = Some(checkpoint);
    let client = LightClient::open(config).unwrap();
    world.mine(2);
    assert_eq!(client.sync_once().await.unwrap().number, world.finalized());
    assert_eq!(client.status().alarms, [Alarm::CheckpointNotTaken { checkpoint }]);
}

#[tokio::test]
async fn the_store_of_another_network_is_not_believed() {
    let (world, other) = (World::new(), World::with(vec![(Fork::Fulu, 0)], 31_338));
    drop(world.synced().await);
    let mut config = other.config(&[other.beacon.url()]);
    config.store = world.store();
    let error = LightClient::open(config).unwrap_err();
    let StartError::Store(StoreError::OtherNetwork { found, configured }) = error else {
        panic!("{error:?}")
    };
    assert_eq!((found, configured), (world.network.digest(), other.network.digest()));
}

#[tokio::test]
async fn the_chain_id_has_to_be_the_networks() {
    let world = World::new();
    let mut config = world.config(&[world.beacon.url()]);
    config.chain_id = 1;
    let error = LightClient::open(config).unwrap_err();
    assert!(matches!(error, StartError::ChainId { configured: 1, expected: 31_337, .. }), "{error:?}");
}
