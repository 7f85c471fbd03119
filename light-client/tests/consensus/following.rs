//! The truth, told: following it over periods and forks, across restarts, at a bounded cost.

use posthouse_devchain::beacon::Fork;
use posthouse_light_client::beacon::PAGE;
use posthouse_light_client::client::LightClient;
use posthouse_light_client::execution::Block;
use posthouse_light_client::http::{Endpoint, Limits};
use posthouse_light_client::spec::{Bootstrap, State, updates_from_octet_stream};
use posthouse_light_client::store::{Store, StoreError};
use rusqlite::Connection;
use tokio::sync::watch::Receiver;

use crate::liar::{Liar, Reply};
use crate::world::{EPOCH, PERIOD, World};

#[tokio::test]
async fn from_capella_to_fulu_period_by_period() {
    let forks = Fork::ALL.into_iter().zip([0, 256, 512, 768]).collect();
    let world = World::with(forks, 31_337);
    let client = world.synced().await;
    for period in 1..5 {
        world.mine_at(period * PERIOD - 1, 5); // the last slot before the fork too
        assert_eq!(client.sync_once().await.unwrap().hash, world.chain.finalized().hash());
        assert_eq!(client.latest().await.unwrap().hash, world.chain.head().hash());
        assert_eq!(client.status().period, Some(period));
    }
    assert_eq!(client.status().alarms, []);
    assert_eq!(client.status().beacon[0].last_error, None);
}

#[tokio::test]
async fn years_are_caught_up_with_in_pages() {
    let world = World::new();
    let mut config = world.config(&[world.beacon.url()]);
    config.allow_stale_checkpoint = true;
    let client = LightClient::open(config).unwrap();
    client.sync_once().await.unwrap();
    let periods = 2 * PAGE + 3;
    for period in 1..=periods {
        world.mine_at(period * PERIOD, 4);
    }
    world.beacon.take_requests();
    assert_eq!(client.sync_once().await.unwrap().number, world.finalized());
    let pages = world.beacon.take_requests().into_iter().filter(|path| path.contains("/updates?"));
    let starts: Vec<_> = pages.map(|path| path.split("start_period=").nth(1).unwrap().to_owned()).collect();
    let expected = [(1, PAGE), (1 + PAGE, PAGE), (1 + 2 * PAGE, 3)];
    assert_eq!(starts[..3], expected.map(|(start, count)| format!("{start}&count={count}")));
    assert!(starts.len() <= 4, "{starts:?}");
    assert!(client.status().next_committee);
}

#[tokio::test]
async fn a_restart_goes_on_where_it_was_and_asks_for_no_bootstrap() {
    let world = World::new();
    let before = world.synced().await.finalized().unwrap();
    world.beacon.take_requests();
    let mut config = world.config(&[world.beacon.url()]);
    config.checkpoint = None;
    let client = LightClient::open(config).unwrap();
    assert_eq!(client.finalized().unwrap(), before);
    assert_eq!(world.beacon.take_requests(), Vec::<String>::new());
    world.mine(3);
    assert_eq!(client.sync_once().await.unwrap().number, world.finalized());
    let asked = world.beacon.take_requests();
    assert_eq!(asked, ["/eth/v1/beacon/light_client/finality_update"]);
}

/// What was shown is on disk, whenever the power goes: the file as another process finds it is never behind.
#[tokio::test]
async fn what_is_shown_is_stored() {
    let world = World::new();
    let client = world.synced().await;
    for _ in 0..3 {
        world.mine(2);
        let shown = client.sync_once().await.unwrap();
        let copy = world.store().with_file_name("copy.sqlite");
        std::fs::copy(world.store(), &copy).unwrap();
        let mut config = world.config(&[world.beacon.url()]);
        config.store = copy;
        assert_eq!(LightClient::open(config).unwrap().finalized().unwrap(), shown);
    }
}

#[tokio::test]
async fn a_store_that_cannot_be_written_moves_nothing() {
    let world = World::new();
    let client = world.synced().await;
    let before = client.finalized().unwrap();
    world.mine(3);
    let other = Connection::open(world.store()).unwrap();
    other
        .execute_batch("CREATE TRIGGER full BEFORE UPDATE ON trusted BEGIN SELECT RAISE(ABORT, 'full'); END")
        .unwrap();
    let error = client.sync_once().await.unwrap_err();
    assert!(error.to_string().contains("full") && !error.is_fatal(), "{error}");
    assert_eq!(client.finalized().unwrap(), before);
    other.execute_batch("DROP TRIGGER full").unwrap();
    assert_eq!(client.sync_once().await.unwrap().number, world.finalized());
}

/// A status command beside the service: whoever is later takes what the other has stored.
#[tokio::test]
async fn two_clients_of_one_store_never_take_it_back() {
    let world = World::new();
    let fast = world.synced().await;
    world.mine(2);
    let honest = Endpoint::new(world.beacon.url(), Limits::default()).unwrap();
    let path = "/eth/v1/beacon/light_client/finality_update";
    let old = honest.get(path, "application/octet-stream").await.unwrap().body;
    let lags = move |path: &str, _: &_| path.ends_with("finality_update").then(|| Reply::ssz(old.clone()));
    let laggard = Liar::ssz(world.beacon.url(), lags).await;
    laggard.lie(true);
    let slow = world.client(&[laggard.url()]);
    let before = slow.finalized().unwrap();
    world.mine(2);
    let newest = fast.sync_once().await.unwrap();
    // What the laggard shows is later than what this one knows, and earlier than what is stored.
    assert_eq!(slow.sync_once().await.unwrap(), newest);
    assert_eq!((before.number + 4, newest.number), (newest.number, world.finalized()));
}

/// The other process stores what is final and what was the head then; ours knows a later head.
#[tokio::test]
async fn what_another_process_stored_does_not_take_the_head_back() {
    let world = World::new();
    let fast = world.synced().await;
    world.mine(2);
    let old = world.answer("finality_update").await;
    let lags = move |path: &str, _: &_| path.ends_with("finality_update").then(|| Reply::ssz(old.clone()));
    let laggard = Liar::ssz(world.beacon.url(), lags).await;
    laggard.lie(true);
    let slow = world.client(&[laggard.url()]);
    world.mine(2);
    let newest = fast.sync_once().await.unwrap();
    world.mine(2);
    let head = slow.latest().await.unwrap();
    assert_eq!(head.hash, world.chain.head().hash());
    assert_eq!(slow.sync_once().await.unwrap(), newest);
    assert_eq!(slow.status().optimistic.unwrap().hash, head.hash);
}

/// Of one slot, the store keeps the block that it has, and the committee that it knows.
#[tokio::test]
async fn of_one_slot_the_store_keeps_what_says_more() {
    let world = World::new();
    world.mine_at(EPOCH, 3);
    let root = world.beacon.checkpoint();
    let bootstrap = Bootstrap::from_ssz(&world.network, &world.answer(&format!("bootstrap/{root}")).await);
    let without = State::bootstrap(world.network.clone(), root, &bootstrap.unwrap()).unwrap();
    let updates = world.answer("updates?start_period=0&count=1").await;
    let mut with = without.clone();
    let update = &updates_from_octet_stream(&world.network, &updates, 1).unwrap()[0];
    let _ = with.apply(update, world.beacon.slot()).unwrap();
    assert!(with.has_next_committee() && with.finalized() == without.finalized());
    let store = Store::open(&world.store()).unwrap();
    store.save(root, &without).unwrap();
    store.save(root, &with).unwrap();
    let error = store.save(root, &without).unwrap_err();
    assert!(matches!(error, StoreError::GoesBack { .. }), "{error}");
    assert!(store.load(&world.network).unwrap().unwrap().state.has_next_committee());
}

#[tokio::test]
async fn a_damaged_store_is_refused_and_not_begun_anew() {
    let world = World::new();
    drop(world.synced().await);
    let db = Connection::open(world.store()).unwrap();
    db.execute("UPDATE trusted SET state = substr(state, 1, length(state) - 1)", []).unwrap();
    let error = LightClient::open(world.config(&[world.beacon.url()])).unwrap_err();
    assert!(error.to_string().contains("damaged"), "{error}");
    db.execute("UPDATE trusted SET slot = slot + 1", []).unwrap();
    assert!(LightClient::open(world.config(&[world.beacon.url()])).is_err());
}

#[tokio::test]
async fn the_head_is_asked_for_once_a_slot_and_only_if_it_is_old() {
    let world = World::new();
    let client = world.synced().await;
    world.mine(2);
    world.beacon.take_requests();
    for _ in 0..3 {
        assert_eq!(client.latest().await.unwrap().hash, world.chain.head().hash());
    }
    let asked = world.beacon.take_requests();
    assert_eq!(asked, ["/eth/v1/beacon/light_client/optimistic_update"]);
    // Where there is no later one, another slot is another question.
    let newest = world.chain.head().hash();
    for later in 1..4 {
        world.set_slot(world.beacon.slot() + later);
        for _ in 0..3 {
            assert_eq!(client.latest().await.unwrap().hash, newest);
        }
        assert_eq!(world.beacon.take_requests().len(), 1);
    }
}

#[tokio::test]
async fn subscribers_hear_of_each_finalized_block_once() {
    let world = World::new();
    let client = world.client(&[world.beacon.url()]);
    let mut blocks = client.subscribe();
    assert_eq!(*blocks.borrow_and_update(), None);
    let first = client.sync_once().await.unwrap();
    assert!(blocks.has_changed().unwrap());
    assert_eq!(*blocks.borrow_and_update(), Some(first));
    client.sync_once().await.unwrap();
    assert!(!blocks.has_changed().unwrap());
    world.mine(3);
    let next = client.sync_once().await.unwrap();
    assert_eq!(*blocks.borrow_and_update(), Some(next));
}

/// Once the committee of the next period is known, an epoch costs one finality update of SSZ: 2 KB of the 16 that one
/// epoch with one product query may cost.
#[tokio::test]
async fn an_epoch_costs_one_small_answer_and_the_store_does_not_grow() {
    let world = World::new();
    let client = world.synced().await;
    let size = || std::fs::metadata(world.store()).unwrap().len();
    let mut received = client.status().received;
    let mut sizes = Vec::new();
    world.beacon.take_requests();
    for epoch in 1..20 {
        world.mine_at(epoch * EPOCH, 3);
        client.sync_once().await.unwrap();
        let cost = client.status().received - received;
        received += cost;
        assert!((1_000..3_000).contains(&cost), "{cost} bytes");
        assert_eq!(world.beacon.take_requests().len(), 1);
        sizes.push(size());
    }
    // SQLite writes a new row before it frees the old one's pages, and uses those for the next ones.
    assert!(sizes[4..].iter().all(|size| *size == sizes[4] && *size < 256 << 10), "{sizes:?}");
    let files = std::fs::read_dir(world.store().parent().unwrap()).unwrap().count();
    assert_eq!(files, 1);
}

#[tokio::test]
async fn the_loop_begins_and_follows_by_itself_and_gets_over_an_outage() {
    let world = World::fast();
    let outage = |_: &str, _: &_| Some(Reply::Head("500 Internal Server Error\r\n"));
    let endpoint = Liar::ssz(world.beacon.url(), outage).await;
    let client = world.client(&[endpoint.url()]);
    let mut blocks = client.subscribe();
    let follower = client.clone();
    let running = tokio::spawn(async move { follower.run().await });
    let next = async |blocks: &mut Receiver<Option<Block>>| {
        blocks.changed().await.unwrap();
        blocks.borrow_and_update().as_ref().unwrap().number
    };
    assert_eq!(next(&mut blocks).await, world.finalized());
    for _ in 0..2 {
        world.mine(2);
        assert_eq!(next(&mut blocks).await, world.finalized());
    }
    endpoint.lie(true);
    world.mine(2);
    let asked = endpoint.asked();
    while endpoint.asked() < asked + 2 {
        tokio::task::yield_now().await;
    }
    assert!(!blocks.has_changed().unwrap());
    assert!(client.status().last_error.unwrap().contains("HTTP status 500"));
    endpoint.lie(false);
    assert_eq!(next(&mut blocks).await, world.finalized());
    running.abort();
}
