//! Answers in good form that are not true, with the committee's true signature wherever that helps the lie. Each is refused
//! with its own reason, changes nothing, and the next endpoint is believed.

use posthouse_devchain::beacon::{Branch, Damage, Fork, Lie, Topic};
use posthouse_light_client::beacon::BeaconError;
use posthouse_light_client::client::{ClientError, LightClient};
use posthouse_light_client::http::{Answer, Endpoint, Limits};
use posthouse_light_client::spec::{Network, Refused};
use serde_json::Value;

use crate::liar::{self, Liar, Reply};
use crate::world::{EPOCH, PERIOD, World, only};

/// What happens between a synchronisation that is told the truth and one that is not.
type News = fn(&World);

/// Something new that a finality update says.
fn a_few_blocks(world: &World) {
    world.mine(3);
}

/// Committees have to be learnt before anything later can be checked.
fn two_periods(world: &World) {
    world.mine_at(PERIOD, 4);
    world.mine_at(2 * PERIOD, 4);
}

/// Nothing changes by the lie, and a client of the same store that knows an honest endpoint too gets on.
async fn told(world: &World, news: News, topic: Topic, lie: Lie) -> ClientError {
    let client = world.synced().await;
    let before = client.finalized().unwrap();
    news(world);
    world.beacon.lie_about(topic, lie);
    let error = client.sync_once().await.unwrap_err();
    assert_eq!(client.finalized().unwrap(), before, "a lie moved something");
    drop(client);
    the_next_is_believed(world, world.beacon.url()).await;
    error
}

/// The same to a client that knows nothing yet.
async fn told_first(lie: Lie) -> Refused {
    let world = World::new();
    world.beacon.lie_about(Topic::Bootstrap, lie);
    let client = world.client(&[world.beacon.url()]);
    let error = client.sync_once().await.unwrap_err();
    assert!(matches!(client.finalized(), Err(ClientError::NotSynced)));
    drop(client);
    the_next_is_believed(&world, world.beacon.url()).await;
    refused(&error)
}

async fn the_next_is_believed(world: &World, liar: &str) {
    let client = world.client(&[liar, world.honest.url()]);
    assert_eq!(client.sync_once().await.unwrap().hash, world.chain.finalized().hash());
    let [told, honest] = &client.status().beacon[..] else { panic!("two endpoints") };
    assert!(told.last_error.is_some() && honest.last_error.is_none(), "{told:?} {honest:?}");
}

async fn about_finality(lie: Lie) -> Refused {
    refused(&told(&World::new(), a_few_blocks, Topic::Finality, lie).await)
}

async fn about_committees(lie: Lie) -> Refused {
    refused(&told(&World::new(), two_periods, Topic::Updates, lie).await)
}

fn refused(error: &ClientError) -> Refused {
    match only(error) {
        BeaconError::Refused(refused) => refused.clone(),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_bootstrap_of_another_block_than_the_checkpoint() {
    let refused = told_first(Lie::OtherBlock).await;
    assert!(matches!(refused, Refused::Checkpoint { found, wanted } if found != wanted), "{refused:?}");
}

#[tokio::test]
async fn a_committee_of_strangers_in_the_bootstrap() {
    assert_eq!(told_first(Lie::OtherCommittee).await, Refused::Branch("current_sync_committee_branch"));
}

#[tokio::test]
async fn an_execution_header_of_another_block() {
    assert_eq!(told_first(Lie::OtherExecution).await, Refused::Branch("execution_branch"));
    assert_eq!(about_finality(Lie::OtherExecution).await, Refused::Branch("execution_branch"));
}

#[tokio::test]
async fn a_finalized_header_of_another_block() {
    assert_eq!(about_finality(Lie::OtherFinalized).await, Refused::Branch("finality_branch"));
}

#[tokio::test]
async fn a_signature_under_something_else() {
    assert_eq!(about_finality(Lie::BadSignature).await, Refused::Signature);
    assert_eq!(about_committees(Lie::BadSignature).await, Refused::Signature);
}

#[tokio::test]
async fn a_signature_by_others_than_the_bits_say() {
    let world = World::new();
    let lie = liar::finality(&world.network, |update| update.aggregate.bits[3] ^= 1);
    let liar = Liar::ssz(world.beacon.url(), lie).await;
    let client = world.client(&[liar.url()]);
    client.sync_once().await.unwrap();
    world.mine(3);
    liar.lie(true);
    assert_eq!(refused(&client.sync_once().await.unwrap_err()), Refused::Signature);
}

#[tokio::test]
async fn a_signature_that_is_infinite() {
    assert_eq!(about_finality(Lie::InfiniteSignature).await, Refused::SignatureEncoding);
}

#[tokio::test]
async fn a_signature_that_is_no_point() {
    assert_eq!(about_finality(Lie::UndecodableSignature).await, Refused::SignatureEncoding);
}

#[tokio::test]
async fn fewer_than_two_thirds_who_really_signed() {
    let refused = about_finality(Lie::TooFewSigners).await;
    assert_eq!(refused, Refused::Participation { signed: 341, committee: 512 });
}

#[tokio::test]
async fn two_thirds_are_enough() {
    let world = World::new();
    let client = world.synced().await;
    world.beacon.participation(342);
    world.mine(3);
    assert_eq!(client.sync_once().await.unwrap().number, world.finalized());
}

#[tokio::test]
async fn nobody_signed() {
    let refused = about_finality(Lie::NoSigners).await;
    assert_eq!(refused, Refused::Participation { signed: 0, committee: 512 });
}

#[tokio::test]
async fn a_signature_for_another_network() {
    assert_eq!(about_finality(Lie::OtherNetwork).await, Refused::Signature);
}

#[tokio::test]
async fn a_checkpoint_of_another_network() {
    let world = World::new();
    let other = World::with(vec![(Fork::Fulu, 0)], 31_338);
    // Its committee is real, and signs for the other network.
    let mut config = other.config(&[other.beacon.url()]);
    let root = world.network.genesis_validators_root;
    assert_ne!(root, other.network.genesis_validators_root);
    config.network = Network { genesis_validators_root: root, ..(*other.network).clone() }.into();
    let client = LightClient::open(config).unwrap();
    other.mine(3);
    assert_eq!(refused(&client.sync_once().await.unwrap_err()), Refused::Signature);
}

#[tokio::test]
async fn the_fork_version_at_a_boundary_is_that_of_the_slot_before_the_signature() {
    let world = World::with(vec![(Fork::Electra, 0), (Fork::Fulu, 1)], 31_337);
    let last_of_electra: News = |world| world.mine_at(EPOCH - 2, 2);
    let error = told(&world, last_of_electra, Topic::Finality, Lie::ForkOfSignatureSlot).await;
    assert_eq!(world.beacon.slot_of(world.chain.head().number()), Some(EPOCH - 1));
    assert_eq!(refused(&error), Refused::Signature);
}

#[tokio::test]
async fn each_branch_flipped_at_each_end() {
    for node in [0, 3, usize::MAX] {
        let flipped = |branch| Lie::Branch(branch, Damage::Flipped(node));
        for (branch, name) in [
            (Branch::Execution, "execution_branch"),
            (Branch::FinalizedExecution, "execution_branch"),
            (Branch::Finality, "finality_branch"),
        ] {
            assert_eq!(about_finality(flipped(branch)).await, Refused::Branch(name), "{branch:?} {node}");
        }
        let name = Refused::Branch("next_sync_committee_branch");
        assert_eq!(about_committees(flipped(Branch::NextCommittee)).await, name, "{node}");
        let name = Refused::Branch("current_sync_committee_branch");
        assert_eq!(told_first(flipped(Branch::CurrentCommittee)).await, name, "{node}");
        let name = Refused::Branch("execution_branch");
        assert_eq!(told_first(flipped(Branch::Execution)).await, name, "{node}");
    }
}

/// Branches have no length of their own in SSZ: with a short or a long one, what follows is in the wrong place.
#[tokio::test]
async fn each_branch_short_and_long() {
    for damage in [Damage::Short, Damage::Long] {
        let lie = |branch| Lie::Branch(branch, damage);
        let found = [
            about_finality(lie(Branch::Execution)).await,
            about_finality(lie(Branch::FinalizedExecution)).await,
            about_finality(lie(Branch::Finality)).await,
            about_committees(lie(Branch::NextCommittee)).await,
            told_first(lie(Branch::CurrentCommittee)).await,
            told_first(lie(Branch::Execution)).await,
        ];
        for refused in found {
            assert!(matches!(refused, Refused::Ssz { .. }), "{damage:?}: {refused:?}");
        }
    }
}

/// In JSON it has a length, and that is looked at.
#[tokio::test]
async fn each_branch_short_and_long_in_json() {
    for damage in [Damage::Short, Damage::Long] {
        for branch in [Branch::Execution, Branch::FinalizedExecution, Branch::Finality] {
            let world = World::new();
            let json = Liar::over(world.beacon.url(), "application/json", |_, _| None).await;
            let client = world.client(&[json.url()]);
            client.sync_once().await.unwrap();
            world.mine(3);
            world.beacon.lie_about(Topic::Finality, Lie::Branch(branch, damage));
            let refused = refused(&client.sync_once().await.unwrap_err());
            assert!(
                matches!(refused, Refused::Length { .. } | Refused::Json(_)),
                "{branch:?} {damage:?}: {refused:?}"
            );
        }
    }
}

#[tokio::test]
async fn a_signature_of_the_future() {
    let world = World::new();
    let error = told(&world, a_few_blocks, Topic::Finality, Lie::FutureSignature).await;
    let now = world.beacon.slot();
    assert!(
        matches!(error, ClientError::ClockBehind { signed, now: n } if signed > n && n == now),
        "{error}"
    );
}

#[tokio::test]
async fn a_signature_of_the_attested_slot_itself() {
    let refused = about_finality(Lie::SignatureNotAfterAttested).await;
    assert!(
        matches!(refused, Refused::Order { signature, attested, .. } if signature == attested),
        "{refused:?}"
    );
}

#[tokio::test]
async fn finalized_after_attested() {
    let refused = about_finality(Lie::FinalizedAfterAttested).await;
    assert!(
        matches!(refused, Refused::Order { attested, finalized, .. } if finalized > attested),
        "{refused:?}"
    );
}

#[tokio::test]
async fn a_replay_moves_nothing_and_is_no_fault_until_something_is_due() {
    let world = World::new();
    world.mine(10);
    let client = world.synced().await;
    let before = client.finalized().unwrap();
    world.beacon.lie_about(Topic::Finality, Lie::Old);
    assert_eq!(client.sync_once().await.unwrap(), before);
    assert_eq!(client.status().beacon[0].last_error, None);
    world.mine_at(4 * EPOCH, 3);
    assert_eq!(client.sync_once().await.unwrap(), before);
    assert_eq!(client.status().beacon[0].failures, 1);
    drop(client);
    the_next_is_believed(&world, world.beacon.url()).await;
}

#[tokio::test]
async fn a_replayed_page_is_no_progress() {
    let world = World::new();
    let error = told(&world, two_periods, Topic::Updates, Lie::Old).await;
    assert!(matches!(only(&error), BeaconError::NothingNew { .. }), "{error}");
}

#[tokio::test]
async fn a_period_that_is_left_out() {
    let refused = about_committees(Lie::SkippedPeriod).await;
    assert_eq!(refused, Refused::Period { signed: 2, known: 0, last: 1 });
}

/// A finality update may carry the parts of an update by period, and then they are looked at too.
#[tokio::test]
async fn another_next_committee_than_the_proven_one() {
    let world = World::new();
    let honest = Endpoint::new(world.honest.url(), Limits::default()).unwrap();
    let by_period = "/eth/v1/beacon/light_client/updates?start_period=0&count=1";
    let list = honest.get(by_period, "application/json").await.unwrap().body;
    let list: Value = serde_json::from_slice(&list).unwrap();
    let lie = move |path: &str, honest: &Answer| {
        path.ends_with("/finality_update").then(|| {
            let mut update: Value = serde_json::from_slice(&honest.body).unwrap();
            for part in ["next_sync_committee", "next_sync_committee_branch"] {
                update["data"][part] = list[0]["data"][part].clone();
            }
            update["data"]["next_sync_committee"]["pubkeys"].as_array_mut().unwrap().swap(0, 1);
            Reply::json(update.to_string().into_bytes())
        })
    };
    let liar = Liar::over(world.beacon.url(), "application/json", lie).await;
    let client = world.client(&[liar.url()]);
    client.sync_once().await.unwrap();
    assert!(client.status().next_committee);
    world.mine(3);
    liar.lie(true);
    assert_eq!(refused(&client.sync_once().await.unwrap_err()), Refused::OtherCommittee);
    drop(client);
    the_next_is_believed(&world, liar.url()).await;
}

#[tokio::test]
async fn the_layout_of_another_fork() {
    for refused in [
        about_finality(Lie::Layout(Fork::Deneb)).await,
        about_committees(Lie::Layout(Fork::Deneb)).await,
        about_committees(Lie::Layout(Fork::Capella)).await,
        told_first(Lie::Layout(Fork::Deneb)).await,
        told_first(Lie::Layout(Fork::Capella)).await,
    ] {
        assert!(matches!(refused, Refused::Ssz { .. }), "{refused:?}");
    }
}

#[tokio::test]
async fn the_name_of_another_fork() {
    let refused = about_finality(Lie::Version(Fork::Deneb)).await;
    assert!(
        matches!(refused, Refused::OtherFork { named, at_slot, .. } if named.name() == "deneb" && at_slot.name() == "fulu"),
        "{refused:?}"
    );
    // Before Fulu the digest names the fork of a listed update; from then on it is no one's name.
    let world = World::with(vec![(Fork::Electra, 0)], 31_337);
    let refused = self::refused(&told(&world, two_periods, Topic::Updates, Lie::Version(Fork::Deneb)).await);
    assert!(matches!(refused, Refused::ForkDigest { .. }), "{refused:?}");
}

#[tokio::test]
async fn a_fork_that_nobody_knows_is_one_endpoints_word() {
    assert_eq!(about_finality(Lie::UnknownFork).await, Refused::UnknownFork("gloas".into()));
    let world = World::with(vec![(Fork::Electra, 0)], 31_337);
    let refused = refused(&told(&world, two_periods, Topic::Updates, Lie::UnknownFork).await);
    assert!(matches!(refused, Refused::ForkDigest { .. }), "{refused:?}");
}

#[tokio::test]
async fn more_updates_than_asked_for() {
    assert_eq!(about_committees(Lie::MoreUpdates).await, Refused::TooManyUpdates(2));
}

#[tokio::test]
async fn a_head_that_nobody_signed_is_not_the_latest() {
    let world = World::new();
    let client = world.client(&[world.beacon.url(), world.honest.url()]);
    client.sync_once().await.unwrap();
    world.mine(2);
    world.beacon.lie_about(Topic::Optimistic, Lie::BadSignature);
    assert_eq!(client.latest().await.unwrap().hash, world.chain.head().hash());
    assert_eq!(client.status().beacon[0].last_error, Some(Refused::Signature.to_string()));
}
