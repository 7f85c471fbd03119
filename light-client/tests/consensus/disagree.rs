//! Endpoints that contradict each other.

use posthouse_devchain::DevChain;
use posthouse_devchain::beacon::Beacon;
use posthouse_light_client::client::{Alarm, ClientError, LightClient};
use posthouse_light_client::http::{Endpoint, Limits};
use posthouse_light_client::spec::{Bootstrap, State};
use posthouse_light_client::store::{Store, StoreError};

use crate::liar::{self, Liar};
use crate::world::World;

/// Which of two is asked first does not matter: what is believed is what is proven.
#[tokio::test]
async fn of_two_that_disagree_the_one_with_the_proof_is_believed() {
    for liar_first in [true, false] {
        let world = World::new();
        let lie = liar::finality(&world.network, |update| {
            let header = &mut update.finalized.as_mut().unwrap().header;
            header.beacon.slot += 1;
            header.execution.block_hash.0[0] ^= 1;
        });
        let liar = Liar::ssz(world.beacon.url(), lie).await;
        liar.lie(true);
        let urls = [liar.url(), world.beacon.url()];
        let urls = if liar_first { urls } else { [urls[1], urls[0]] };
        let client = world.client(&urls);
        world.mine(3);
        assert_eq!(client.sync_once().await.unwrap().hash, world.chain.finalized().hash());
        let told = &client.status().beacon[usize::from(!liar_first)];
        assert_eq!(told.last_error.is_some(), liar_first, "{told:?}");
    }
}

/// The nightmare: the same committee signs two histories. Nobody can say which is ours; the one that was believed first stays,
/// and the operator hears of it.
#[tokio::test]
async fn a_committee_that_signs_two_histories_is_reported() {
    let world = World::new();
    let genesis_time = Some(world.beacon.genesis_time());
    let twin = DevChain::start(posthouse_devchain::Config {
        chain_id: 31_337,
        clock: posthouse_devchain::Clock::Manual,
        genesis_timestamp: Some(1_700_000_000),
        ..Default::default()
    })
    .unwrap();
    let slots = posthouse_devchain::beacon::Slots::Manual;
    let config = posthouse_devchain::beacon::Config { genesis_time, slots, ..Default::default() };
    let twin_beacon = Beacon::start(&twin, config).unwrap();
    twin.mine_many(4).unwrap();
    let account = twin.accounts()[0].address();
    twin.set_balance(account, alloy::primitives::U256::from(7)); // here the histories part
    let ours = world.synced().await;
    // Ours is finalized up to block 3, which both have; then each finalizes its own block 5.
    world.mine(2);
    twin.mine_many(2).unwrap();
    let before = ours.sync_once().await.unwrap();
    drop(ours);
    assert_eq!(twin.finalized().number(), before.number);
    assert_ne!(twin.finalized().hash(), before.hash);
    // Nor does the store take the other block of that slot.
    let root = twin_beacon.checkpoint();
    let bootstrap = Endpoint::new(twin_beacon.url(), Limits::default()).unwrap();
    let path = format!("/eth/v1/beacon/light_client/bootstrap/{root}");
    let bootstrap = bootstrap.get(&path, "application/octet-stream").await.unwrap().body;
    let bootstrap = Bootstrap::from_ssz(&world.network, &bootstrap).unwrap();
    let other = State::bootstrap(world.network.clone(), root, &bootstrap).unwrap();
    let error = Store::open(&world.store()).unwrap().save(root, &other).unwrap_err();
    assert!(matches!(error, StoreError::OtherBlock { new, .. } if new == root), "{error}");
    let client = world.client(&[twin_beacon.url()]);
    let error = client.sync_once().await.unwrap_err();
    assert!(matches!(error, ClientError::Beacon(_)), "{error:?}");
    assert_eq!(client.finalized().unwrap(), before);
    assert!(
        matches!(client.status().alarms[..], [Alarm::Contradiction { .. }]),
        "{:?}",
        client.status().alarms
    );
}

/// An operator who gives another checkpoint of a slot that is stored as final.
#[tokio::test]
async fn a_checkpoint_that_contradicts_the_store_stops_the_client() {
    let world = World::new();
    world.mine(1);
    let client = world.synced().await;
    drop(client);
    let final_slot = world.beacon.slot_of(world.finalized());
    let twin = World::with(vec![(posthouse_devchain::beacon::Fork::Fulu, 0)], 31_338);
    twin.mine(1);
    assert_eq!(twin.beacon.slot_of(twin.finalized()), final_slot);
    let mut config = world.config(&[twin.beacon.url()]);
    config.checkpoint = Some(twin.beacon.checkpoint());
    let client = LightClient::open(config).unwrap();
    let error = client.sync_once().await.unwrap_err();
    assert!(matches!(error, ClientError::OtherChain { slot, .. } if Some(slot) == final_slot), "{error:?}");
    assert!(error.is_fatal());
    assert_eq!(client.finalized().unwrap().hash, world.chain.finalized().hash());
}
