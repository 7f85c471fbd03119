//! Finding one another: the DHT, its records, allow-lists, and ending.

use posthouse_dsn::{Codec, DialError, Event, FetchError, Records, StartError};

use crate::support::{bytes, client, config, event, node, server, server_with, start, within};

#[tokio::test]
async fn two_peers_find_content_and_fetch_it() {
    let seeder = server(&[]).await;
    let cid = seeder.dsn.put_block(&b"root"[..], Codec::DagCbor).await.unwrap();
    within(seeder.dsn.provide(cid)).await.unwrap();
    let getter = client(&[&seeder]).await;
    let mut providers = getter.dsn.providers(cid).await.unwrap();
    assert_eq!(within(providers.recv()).await.unwrap().peer, seeder.dsn.peer_id());
    let block = within(getter.dsn.get_block(cid, &[], 64)).await.unwrap();
    assert_eq!(block, "root");
}

#[tokio::test]
async fn a_third_peer_tells_who_provides_and_where() {
    let hub = server(&[]).await;
    let seeder = server(&[&hub]).await;
    let cid = seeder.dsn.put_block(&b"elsewhere"[..], Codec::Raw).await.unwrap();
    let mut events = hub.dsn.events();
    hub.dsn.expect(cid).await.unwrap();
    within(seeder.dsn.provide(cid)).await.unwrap();
    let kept = event(&mut events, |e| match e {
        Event::RecordKept(peer) => Some(*peer),
        _ => None,
    });
    assert_eq!(kept.await, seeder.dsn.peer_id());

    let getter = client(&[&hub]).await;
    let mut providers = getter.dsn.providers(cid).await.unwrap();
    let provider = within(providers.recv()).await.unwrap();
    assert_eq!(provider.peer, seeder.dsn.peer_id());
    assert!(!provider.addresses.is_empty(), "a record without addresses leads nowhere");
    drop(providers);
    assert_eq!(within(getter.dsn.get_block(cid, &[], 64)).await.unwrap(), "elsewhere");
}

#[tokio::test]
async fn a_record_announced_before_anyone_was_there_reaches_who_comes_later() {
    let seeder = server(&[]).await;
    let cid = seeder.dsn.put_block(&b"early"[..], Codec::Raw).await.unwrap();
    within(seeder.dsn.provide(cid)).await.unwrap();
    let late = server_with(&[&seeder], |config| config.records = Records::Any).await;
    let mut events = late.dsn.events();
    event(&mut events, |e| matches!(e, Event::RecordKept(_)).then_some(())).await;
}

#[tokio::test]
async fn a_record_for_unknown_content_is_not_kept() {
    let hub = server(&[]).await;
    let mut events = hub.dsn.events();
    let stranger = server(&[&hub]).await;
    within(stranger.dsn.provide(Codec::Raw.cid(b"whatever"))).await.unwrap();
    event(&mut events, |e| (*e == Event::RecordRefused).then_some(())).await;
}

#[tokio::test]
async fn content_that_nobody_provides_is_not_found() {
    let hub = server(&[]).await;
    let getter = node(&[&hub], |config| config.limits.lookup_retries = 1).await;
    let cid = Codec::Raw.cid(b"nowhere");
    let result = within(getter.dsn.get_block(cid, &[], 64)).await;
    assert!(matches!(result, Err(FetchError::NotFound(found)) if found == cid), "{result:?}");
}

#[tokio::test]
async fn a_lookup_without_peers_is_retried_until_there_is_one() {
    let seeder = server(&[]).await;
    let cid = seeder.dsn.put_block(&b"patience"[..], Codec::Raw).await.unwrap();
    within(seeder.dsn.provide(cid)).await.unwrap();
    let getter = node(&[], |config| config.limits.lookup_retries = 8).await;
    let mut providers = getter.dsn.providers(cid).await.unwrap();
    within(getter.dsn.dial(seeder.dsn.addresses().remove(0))).await.unwrap();
    assert_eq!(within(providers.recv()).await.unwrap().peer, seeder.dsn.peer_id());
}

#[tokio::test]
async fn a_peer_that_has_met_the_network_needs_no_bootstrap_peer_again() {
    let hub = server(&[]).await;
    let cid = hub.dsn.put_block(&b"again"[..], Codec::Raw).await.unwrap();
    within(hub.dsn.provide(cid)).await.unwrap();
    let folder = tempfile::tempdir().unwrap();
    let mut config = config(folder.path());
    config.bootstrap = hub.dsn.addresses();
    let first = start(tempfile::tempdir().unwrap(), config.clone()).await;
    within(first.dsn.get_block(cid, &[], 64)).await.unwrap();
    // The address is kept after the identification, which need not be over when a block has come.
    within(async {
        while first.dsn.status().await.unwrap().remembered == 0 {
            tokio::task::yield_now().await;
        }
    })
    .await;
    within(first.dsn.stop()).await;

    config.bootstrap.clear();
    let second = start(tempfile::tempdir().unwrap(), config).await;
    assert_eq!(within(second.dsn.get_block(cid, &[], 64)).await.unwrap(), "again");
}

#[tokio::test]
async fn sybils_in_the_dht_do_not_hide_a_configured_peer() {
    let hub = server(&[]).await;
    let seeder = server(&[]).await;
    let file = seeder.seeds(&bytes(300_000, 1)).await;
    hub.dsn.expect(file.cid).await.unwrap();
    for _ in 0..20 {
        let sybil = node(&[&hub], |config| {
            config.external = vec!["/ip4/127.0.0.1/tcp/1".parse().unwrap()];
        })
        .await;
        within(sybil.dsn.provide(file.cid)).await.unwrap();
        sybil.dsn.stop().await;
    }
    let getter = client(&[&hub]).await;
    getter.knows(&seeder).await;
    let (dest, from) = (getter.path("file"), [seeder.dsn.peer_id()]);
    within(getter.dsn.fetch_file(file.cid, file.size, file.sha256, &dest, &from, |_| {})).await.unwrap();
    assert_eq!(std::fs::read(dest).unwrap(), bytes(300_000, 1));
}

#[tokio::test]
async fn only_allowed_peers_are_talked_to() {
    let friend = client(&[]).await;
    let stranger = client(&[]).await;
    let closed = server_with(&[], |config| config.allow = Some(vec![friend.dsn.peer_id()])).await;
    let addr = closed.dsn.addresses().remove(0);
    within(friend.dsn.dial(addr.clone())).await.unwrap();
    // A refused connection is closed after its handshake: whether the dial sees that is a race, the use is not.
    within(stranger.dsn.dial(addr)).await.ok();
    let cid = closed.dsn.put_block(&b"members only"[..], Codec::Raw).await.unwrap();
    let closed_id = [closed.dsn.peer_id()];
    assert!(within(friend.dsn.get_block(cid, &closed_id, 64)).await.is_ok());
    assert!(within(stranger.dsn.get_block(cid, &closed_id, 64)).await.is_err());
}

#[tokio::test]
async fn a_stopped_peer_is_gone() {
    let server = server(&[]).await;
    let addr = server.dsn.addresses().remove(0);
    let other = client(&[&server]).await;
    within(other.dsn.dial(addr.clone())).await.unwrap();
    let clone = server.dsn.clone();
    within(server.dsn.stop()).await;
    assert!(clone.status().await.is_err());
    assert!(matches!(clone.dial(addr.clone()).await, Err(DialError::Stopped)));
    let other = client(&[]).await;
    assert!(matches!(within(other.dsn.dial(addr)).await, Err(DialError::Unreachable { .. })));
}

#[tokio::test]
async fn an_address_that_cannot_be_listened_on_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let mut config = crate::support::config(folder.path());
    config.listen = vec!["/ip4/203.0.113.1/tcp/4001".parse().unwrap()];
    let error = within(posthouse_dsn::Dsn::start(config)).await.err().unwrap();
    assert!(
        matches!(&error, StartError::Listen { addr, .. } if addr.to_string().contains("203.0.113.1")),
        "{error}"
    );
}

#[tokio::test]
async fn the_status_counts() {
    let hub = server(&[]).await;
    let getter = client(&[&hub]).await;
    within(getter.dsn.dial(hub.dsn.addresses().remove(0))).await.unwrap();
    let status = within(getter.dsn.status()).await.unwrap();
    assert_eq!((status.connected, status.provided), (vec![hub.dsn.peer_id()], 0));
    assert_eq!(status.routing, 1);
}
