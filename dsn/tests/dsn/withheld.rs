//! Secrets: known, announced, and sent to nobody.

use posthouse_dsn::{Cid, Codec, Event, FetchError, WantError};

use crate::support::{Node, client, config, event, node, server, start, within};

async fn refused(getter: &Node, seeder: &Node, cid: Cid) -> WantError {
    match within(getter.dsn.get_block(cid, &[seeder.dsn.peer_id()], 1 << 20)).await {
        Err(FetchError::NotDelivered { last, .. }) => last.why,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_withheld_secret_is_refused_and_counted() {
    let seeder = server(&[]).await;
    let secret = seeder.dsn.put_block(&b"the key"[..], Codec::Raw).await.unwrap();
    within(seeder.dsn.withhold(secret)).await.unwrap();
    within(seeder.dsn.provide(secret)).await.unwrap();
    let mut events = seeder.dsn.events();

    let getter = node(&[&seeder], |config| config.limits.lookup_retries = 0).await;
    let mut providers = getter.dsn.providers(secret).await.unwrap();
    assert_eq!(within(providers.recv()).await.unwrap().peer, seeder.dsn.peer_id(), "announced all the same");
    assert_eq!(refused(&getter, &seeder, secret).await, WantError::DontHave);
    let (peer, cid) = event(&mut events, |e| match e {
        Event::Refused { peer, cid } => Some((*peer, *cid)),
        _ => None,
    })
    .await;
    assert_eq!((peer, cid), (getter.dsn.peer_id(), secret));
    assert!(seeder.dsn.refused(secret) >= 1);
    assert_eq!(seeder.dsn.get_block(secret, &[], 64).await.unwrap(), "the key", "its owner still has it");
}

#[tokio::test]
async fn no_other_codec_or_version_is_a_way_round() {
    let seeder = server(&[]).await;
    let secret = seeder.dsn.put_block(&b"the key"[..], Codec::DagPb).await.unwrap();
    within(seeder.dsn.withhold(Codec::Raw.cid(b"the key"))).await.unwrap();
    let getter = node(&[&seeder], |config| config.limits.lookup_retries = 0).await;
    assert_eq!(refused(&getter, &seeder, secret).await, WantError::DontHave);
    let v0 = Cid::new_v0(*secret.hash()).unwrap();
    assert_eq!(refused(&getter, &seeder, v0).await, WantError::DontHave);
}

#[tokio::test]
async fn a_file_that_is_withheld_is_not_fetched() {
    let seeder = server(&[]).await;
    let file = seeder.seeds(&[7; 100_000]).await;
    within(seeder.dsn.withhold(file.cid)).await.unwrap();
    let getter = node(&[&seeder], |config| config.limits.lookup_retries = 0).await;
    let (dest, from) = (getter.path("file"), [seeder.dsn.peer_id()]);
    let result = within(getter.dsn.fetch_file(file.cid, file.size, file.sha256, &dest, &from, |_| {})).await;
    assert!(
        matches!(result, Err(FetchError::NotDelivered { ref last, .. }) if last.why == WantError::DontHave),
        "{result:?}"
    );
}

#[tokio::test]
async fn a_restart_does_not_let_it_out() {
    let folder = tempfile::tempdir().unwrap();
    let first = start(tempfile::tempdir().unwrap(), config(folder.path())).await;
    let secret = first.dsn.put_block(&b"the key"[..], Codec::Raw).await.unwrap();
    within(first.dsn.withhold(secret)).await.unwrap();
    within(first.dsn.stop()).await;

    let mut config = config(folder.path());
    config.listen = vec!["/ip4/127.0.0.1/tcp/0".parse().unwrap()];
    let second = start(tempfile::tempdir().unwrap(), config).await;
    let getter = client(&[]).await;
    getter.knows(&second).await;
    let result = within(getter.dsn.get_block(secret, &[second.dsn.peer_id()], 64)).await;
    assert!(
        matches!(result, Err(FetchError::NotDelivered { ref last, .. }) if last.why == WantError::DontHave),
        "{result:?}"
    );
    assert!(second.dsn.refused(secret) >= 1);
}
