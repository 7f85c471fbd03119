//! Files from peer to disk: whole, resumed, from several, and from those who do not deliver.

use std::sync::{Arc, Mutex};

use posthouse_dsn::{Codec, Event, FetchError, Progress, WantError};

#[cfg(feature = "quic")]
use crate::support::server_with;
use crate::support::{bytes, client, config, event, node, server, sha256, start, within};

const MIB: usize = 1 << 20;
const CHUNK: usize = 256 * 1024;

#[tokio::test]
async fn ten_mebibytes_found_by_the_dht_arrive_whole_and_have_the_same_identifier() {
    let hub = server(&[]).await;
    let seeder = server(&[&hub]).await;
    let content = bytes(10 * MIB, 7);
    let file = seeder.seeds(&content).await;
    assert_eq!((file.size, file.sha256), (10 << 20, sha256(&content)));
    hub.dsn.expect(file.cid).await.unwrap();
    within(seeder.dsn.provide(file.cid)).await.unwrap();

    let getter = client(&[&hub]).await;
    let dest = getter.path("file");
    let last = Mutex::new(Progress::default());
    let report = |progress| *last.lock().unwrap() = progress;
    within(getter.dsn.fetch_file(file.cid, file.size, file.sha256, &dest, &[], report)).await.unwrap();
    assert_eq!(std::fs::read(&dest).unwrap(), content);
    assert!(!getter.path("file.part").exists());
    let last = *last.lock().unwrap();
    assert_eq!((last.bytes, last.total, last.blocks_fetched), (10 << 20, 10 << 20, 41));
    assert_eq!(within(getter.dsn.add_file(&dest)).await.unwrap().cid, file.cid);
}

/// Over QUIC alone, found by the DHT; a peer that has TCP beside it dials both.
#[cfg(feature = "quic")]
#[tokio::test]
async fn a_file_travels_over_quic() {
    let quic = |config: &mut posthouse_dsn::Config| {
        config.listen = vec!["/ip4/127.0.0.1/udp/0/quic-v1".parse().unwrap()];
    };
    let hub = server_with(&[], |config| {
        quic(config);
        config.listen.push("/ip4/127.0.0.1/tcp/0".parse().unwrap());
    })
    .await;
    assert_eq!(hub.dsn.addresses().len(), 2);
    let seeder = server_with(&[&hub], quic).await;
    let content = bytes(5 * MIB, 11);
    let file = seeder.seeds(&content).await;
    hub.dsn.expect(file.cid).await.unwrap();
    within(seeder.dsn.provide(file.cid)).await.unwrap();

    let getter = client(&[&hub]).await;
    let dest = getter.path("file");
    within(getter.dsn.fetch_file(file.cid, file.size, file.sha256, &dest, &[], |_| {})).await.unwrap();
    assert_eq!(std::fs::read(&dest).unwrap(), content);
}

#[tokio::test]
async fn what_was_fetched_is_served_to_others() {
    let seeder = server(&[]).await;
    let file = seeder.seeds(&bytes(MIB, 8)).await;
    let middle = server(&[]).await;
    middle.knows(&seeder).await;
    let from = [seeder.dsn.peer_id()];
    let dest = middle.path("copy");
    within(middle.dsn.fetch_file(file.cid, file.size, file.sha256, &dest, &from, |_| {})).await.unwrap();
    within(seeder.dsn.stop()).await;

    let last = client(&[]).await;
    last.knows(&middle).await;
    let from = [middle.dsn.peer_id()];
    let dest = last.path("copy");
    within(last.dsn.fetch_file(file.cid, file.size, file.sha256, &dest, &from, |_| {})).await.unwrap();
    assert_eq!(std::fs::read(dest).unwrap(), bytes(MIB, 8));
}

#[tokio::test]
async fn an_interrupted_download_is_taken_up_where_it_was() {
    let seeder = server(&[]).await;
    let content = bytes(20 * MIB, 9);
    let file = seeder.seeds(&content).await;
    let from = [seeder.dsn.peer_id()];

    let folder = tempfile::tempdir().unwrap();
    let dest = folder.path().join("file");
    let first = start(tempfile::tempdir().unwrap(), config(folder.path())).await;
    first.knows(&seeder).await;
    let (seen, mut some) = tokio::sync::mpsc::unbounded_channel();
    let report = move |progress: Progress| seen.send(progress).unwrap();
    let download = first.dsn.fetch_file(file.cid, file.size, file.sha256, &dest, &from, report);
    let before = tokio::select! {
        biased;
        progress = some.recv() => progress.unwrap(),
        result = download => panic!("it is too quick to be interrupted: {result:?}"),
    };
    assert!(before.bytes > 0 && before.bytes < file.size, "{before:?}");
    assert!(!dest.exists());
    within(first.dsn.stop()).await;

    let second = start(tempfile::tempdir().unwrap(), config(folder.path())).await;
    second.knows(&seeder).await;
    let last = Arc::new(Mutex::new(Progress::default()));
    let report = |progress| *last.lock().unwrap() = progress;
    within(second.dsn.fetch_file(file.cid, file.size, file.sha256, &dest, &from, report)).await.unwrap();
    assert_eq!(std::fs::read(&dest).unwrap(), content);
    let last = *last.lock().unwrap();
    let leaves = (20 * MIB / CHUNK) as u64;
    assert!(last.resumed_bytes >= before.bytes, "{before:?}, then {last:?}");
    assert_eq!(last.blocks_resumed + last.blocks_fetched, leaves, "{last:?}: the root was on disk as well");
    assert!(last.blocks_fetched < leaves);
}

#[tokio::test]
async fn a_part_that_has_rotted_is_fetched_again() {
    let seeder = server(&[]).await;
    let content = bytes(20 * MIB, 10);
    let file = seeder.seeds(&content).await;
    let from = [seeder.dsn.peer_id()];
    let getter = client(&[]).await;
    getter.knows(&seeder).await;
    let dest = getter.path("file");
    let (seen, mut some) = tokio::sync::mpsc::unbounded_channel();
    let report = move |progress: Progress| seen.send(progress).unwrap();
    let download = getter.dsn.fetch_file(file.cid, file.size, file.sha256, &dest, &from, report);
    tokio::select! {
        biased;
        _ = some.recv() => {}
        result = download => panic!("it is too quick to be interrupted: {result:?}"),
    }
    let part = std::fs::File::options().write(true).open(getter.path("file.part")).unwrap();
    std::os::unix::fs::FileExt::write_all_at(&part, b"rot", 5).unwrap();
    within(getter.dsn.fetch_file(file.cid, file.size, file.sha256, &dest, &from, |_| {})).await.unwrap();
    assert_eq!(std::fs::read(&dest).unwrap(), content);
}

#[tokio::test]
async fn a_second_call_finds_the_file_there() {
    let seeder = server(&[]).await;
    let file = seeder.seeds(b"small").await;
    let getter = client(&[]).await;
    getter.knows(&seeder).await;
    let (dest, from) = (getter.path("file"), [seeder.dsn.peer_id()]);
    within(getter.dsn.fetch_file(file.cid, file.size, file.sha256, &dest, &from, |_| {})).await.unwrap();
    within(seeder.dsn.stop()).await;
    within(getter.dsn.fetch_file(file.cid, file.size, file.sha256, &dest, &from, |_| {})).await.unwrap();
    assert_eq!(std::fs::read(dest).unwrap(), b"small");
}

#[tokio::test]
async fn a_file_is_fetched_by_its_identifier_and_size_alone() {
    let seeder = server(&[]).await;
    let content = bytes(3 * MIB + 7, 15);
    let file = seeder.seeds(&content).await;
    let getter = node(&[], |config| config.limits.lookup_retries = 0).await;
    getter.knows(&seeder).await;
    let (dest, from) = (getter.path("file"), [seeder.dsn.peer_id()]);
    let result = within(getter.dsn.fetch_file(file.cid, file.size - 1, None, &dest, &from, |_| {})).await;
    assert!(matches!(result, Err(FetchError::Dag(_))) && !dest.exists(), "another size: {result:?}");
    within(getter.dsn.fetch_file(file.cid, file.size, None, &dest, &from, |_| {})).await.unwrap();
    assert_eq!(std::fs::read(&dest).unwrap(), content);
    within(seeder.dsn.stop()).await;
    // Whole it is taken as it is, also where nobody is left to ask; changed it is not.
    within(getter.dsn.fetch_file(file.cid, file.size, None, &dest, &from, |_| {})).await.unwrap();
    let wrong = std::fs::File::options().write(true).open(&dest).unwrap();
    std::os::unix::fs::FileExt::write_all_at(&wrong, b"rot", 5).unwrap();
    within(getter.dsn.fetch_file(file.cid, file.size, None, &dest, &from, |_| {})).await.unwrap_err();
}

/// As after an upgrade, or a kill between the file's last rename and its record.
#[tokio::test]
async fn a_file_that_is_there_and_not_recorded_is_told_by_its_identifier() {
    let seeder = server(&[]).await;
    let content = bytes(3 * MIB + 7, 18);
    let file = seeder.seeds(&content).await;
    within(seeder.dsn.stop()).await;
    let getter = node(&[], |config| config.limits.lookup_retries = 0).await;
    let (dest, leaf) = (getter.path("file"), Codec::Raw.cid(&content[..256 << 10]));
    std::fs::write(&dest, bytes(3 * MIB + 7, 19)).unwrap();
    within(getter.dsn.fetch_file(file.cid, file.size, None, &dest, &[], |_| {})).await.unwrap_err();
    std::fs::write(&dest, &content).unwrap();
    for _ in 0..2 {
        within(getter.dsn.fetch_file(file.cid, file.size, None, &dest, &[], |_| {})).await.unwrap();
    }
    let block = within(getter.dsn.get_block(leaf, &[], 1 << 20)).await.unwrap();
    assert_eq!(&block[..], &content[..256 << 10], "its blocks are served");
}

#[tokio::test]
async fn a_file_of_another_identifier_at_the_same_place_is_not_taken_for_it() {
    let seeder = server(&[]).await;
    let first = seeder.seeds(&bytes(MIB, 16)).await;
    let getter = client(&[]).await;
    getter.knows(&seeder).await;
    let (dest, from) = (getter.path("file"), [seeder.dsn.peer_id()]);
    within(getter.dsn.fetch_file(first.cid, first.size, None, &dest, &from, |_| {})).await.unwrap();
    let second = seeder.seeds(&bytes(MIB, 17)).await;
    within(getter.dsn.fetch_file(second.cid, second.size, None, &dest, &from, |_| {})).await.unwrap();
    assert_eq!(std::fs::read(&dest).unwrap(), bytes(MIB, 17));
}

#[tokio::test]
async fn a_part_file_that_is_written_to_is_found_out_without_a_digest_of_the_whole() {
    let seeder = server(&[]).await;
    let content = bytes(20 * MIB, 18);
    let file = seeder.seeds(&content).await;
    let getter = client(&[]).await;
    getter.knows(&seeder).await;
    let (dest, from, part) = (getter.path("file"), [seeder.dsn.peer_id()], getter.path("file.part"));
    let mut spoiled = false;
    // The first report comes after the first sync: what is at the start is on disk, and recorded.
    let spoil = |progress: Progress| {
        if !std::mem::replace(&mut spoiled, true) && progress.bytes < progress.total {
            let part = std::fs::File::options().write(true).open(&part).unwrap();
            std::os::unix::fs::FileExt::write_all_at(&part, b"rot", 5).unwrap();
        }
    };
    let result = within(getter.dsn.fetch_file(file.cid, file.size, None, &dest, &from, spoil)).await;
    assert!(matches!(result, Err(FetchError::Changed(_))) && !dest.exists(), "{result:?}");
    let mut last = Progress::default();
    let report = |progress| last = progress;
    within(getter.dsn.fetch_file(file.cid, file.size, None, &dest, &from, report)).await.unwrap();
    assert_eq!(std::fs::read(&dest).unwrap(), content);
    assert_eq!(last.blocks_fetched, 1, "the leaf that was spoiled");
}

#[tokio::test]
async fn the_empty_file_is_a_file() {
    let seeder = server(&[]).await;
    let file = seeder.seeds(b"").await;
    let getter = client(&[]).await;
    getter.knows(&seeder).await;
    let (dest, from) = (getter.path("file"), [seeder.dsn.peer_id()]);
    within(getter.dsn.fetch_file(file.cid, 0, file.sha256, &dest, &from, |_| {})).await.unwrap();
    assert_eq!(std::fs::read(dest).unwrap(), b"");
}

#[tokio::test]
async fn a_seeder_that_vanishes_is_replaced_by_another() {
    let (one, two) = (server(&[]).await, server(&[]).await);
    let content = bytes(20 * MIB, 11);
    let file = one.seeds(&content).await;
    assert_eq!(two.seeds(&content).await.cid, file.cid);
    let getter = client(&[]).await;
    getter.knows(&one).await;
    getter.knows(&two).await;
    let (dest, from) = (getter.path("file"), [one.dsn.peer_id(), two.dsn.peer_id()]);
    let mut doomed = Some(one.dsn.clone());
    let (seen, mut some) = tokio::sync::mpsc::unbounded_channel();
    let report = move |progress: Progress| {
        seen.send(progress).ok();
    };
    let download = getter.dsn.fetch_file(file.cid, file.size, file.sha256, &dest, &from, report);
    let killer = async {
        some.recv().await;
        doomed.take().unwrap().stop().await;
    };
    let (result, ()) = within(futures::future::join(download, killer)).await;
    result.unwrap();
    assert_eq!(std::fs::read(dest).unwrap(), content);
}

#[tokio::test]
async fn a_provider_without_the_content_is_passed_over() {
    let (empty, good) = (server(&[]).await, server(&[]).await);
    let content = bytes(MIB, 12);
    let file = good.seeds(&content).await;
    let getter = client(&[]).await;
    getter.knows(&empty).await;
    getter.knows(&good).await;
    let (dest, from) = (getter.path("file"), [empty.dsn.peer_id(), good.dsn.peer_id()]);
    within(getter.dsn.fetch_file(file.cid, file.size, file.sha256, &dest, &from, |_| {})).await.unwrap();
    assert_eq!(std::fs::read(dest).unwrap(), content);
}

#[tokio::test]
async fn a_provider_that_the_dht_names_in_vain_is_passed_over() {
    let hub = server(&[]).await;
    let (empty, good) = (server(&[&hub]).await, server(&[&hub]).await);
    let file = good.seeds(&bytes(MIB, 13)).await;
    hub.dsn.expect(file.cid).await.unwrap();
    let mut events = hub.dsn.events();
    for provider in [&empty, &good] {
        within(provider.dsn.provide(file.cid)).await.unwrap();
        let id = provider.dsn.peer_id();
        event(&mut events, |e| matches!(e, Event::RecordKept(peer) if *peer == id).then_some(())).await;
    }
    let getter = client(&[&hub]).await;
    let dest = getter.path("file");
    within(getter.dsn.fetch_file(file.cid, file.size, file.sha256, &dest, &[], |_| {})).await.unwrap();
}

#[tokio::test]
async fn everybody_failing_says_who_and_why() {
    let empty = server(&[]).await;
    let getter = node(&[&empty], |config| config.limits.lookup_retries = 0).await;
    let cid = Codec::Raw.cid(b"absent");
    let result = within(getter.dsn.get_block(cid, &[empty.dsn.peer_id()], 64)).await;
    let Err(FetchError::NotDelivered { asked, last, .. }) = result else { panic!("{result:?}") };
    assert_eq!((last.peer, &last.why, asked), (empty.dsn.peer_id(), &WantError::DontHave, 1));
}

#[tokio::test]
async fn a_block_over_the_callers_bound_is_refused() {
    let seeder = server(&[]).await;
    let cid = seeder.dsn.put_block(vec![1; 2000], Codec::Raw).await.unwrap();
    let getter = node(&[&seeder], |config| config.limits.lookup_retries = 0).await;
    let result = within(getter.dsn.get_block(cid, &[seeder.dsn.peer_id()], 1999)).await;
    let Err(FetchError::NotDelivered { last, .. }) = result else { panic!("{result:?}") };
    assert_eq!(last.why, WantError::TooLarge { len: 2000, max: 1999 });
    let result = within(seeder.dsn.get_block(cid, &[], 1999)).await;
    assert!(matches!(result, Err(FetchError::TooLarge { len: 2000, max: 1999, .. })), "{result:?}");
}

#[tokio::test]
async fn a_whole_of_another_digest_is_thrown_away() {
    let seeder = server(&[]).await;
    let file = seeder.seeds(&bytes(MIB, 14)).await;
    let getter = client(&[]).await;
    getter.knows(&seeder).await;
    let (dest, from) = (getter.path("file"), [seeder.dsn.peer_id()]);
    let result = within(getter.dsn.fetch_file(file.cid, file.size, [0; 32], &dest, &from, |_| {})).await;
    assert!(matches!(result, Err(FetchError::WrongFile { found, .. }) if found == file.sha256), "{result:?}");
    assert!(!dest.exists() && !getter.path("file.part").exists());
    within(getter.dsn.fetch_file(file.cid, file.size, file.sha256, &dest, &from, |_| {})).await.unwrap();
}
