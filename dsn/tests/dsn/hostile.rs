//! Peers that lie, flood, or fall silent.

use std::time::Duration;

use posthouse_dsn::{Cid, Codec, Config, Event, FetchError, WantError};
use tokio::net::{TcpSocket, TcpStream};

use crate::raw::{Bitswap, Block, Entry, Raw, Wantlist};
use crate::support::{Node, bytes, client, event, node, server, server_with, within};

const SHA256_RAW: [u8; 4] = [1, 0x55, 0x12, 0x20];

/// Does not look twice for who has something.
fn once(config: &mut Config) {
    config.limits.lookup_retries = 0;
}

/// Nor waits as long as others do for what it wants. Whoever is to answer has this long.
fn impatient(config: &mut Config) {
    once(config);
    config.limits.want = Duration::from_secs(3);
}

fn identity() -> Cid {
    Cid::new_v1(0x55, multihash::Multihash::wrap(0, b"inline").unwrap())
}

fn payload(prefix: &[u8], data: &[u8]) -> Bitswap {
    Bitswap { payload: vec![Block { prefix: prefix.to_vec(), data: data.to_vec() }], ..Bitswap::default() }
}

fn wants(cids: impl IntoIterator<Item = Cid>) -> Bitswap {
    let entry =
        |cid: Cid| Entry { cid: cid.to_bytes(), priority: 1, send_dont_have: true, ..Entry::default() };
    let entries = cids.into_iter().map(entry).collect();
    Bitswap { wantlist: Some(Wantlist { entries, full: false }), ..Bitswap::default() }
}

async fn violation(victim: &Node, raw: &Raw, offence: impl FnOnce()) -> String {
    let mut events = victim.dsn.events();
    offence();
    event(&mut events, |e| match e {
        Event::Violation { peer, rule } if *peer == raw.peer => Some(rule.clone()),
        _ => None,
    })
    .await
}

async fn still_serves(victim: &Node) {
    let cid = victim.dsn.put_block(&b"still here"[..], Codec::Raw).await.unwrap();
    let honest = client(&[victim]).await;
    let block = within(honest.dsn.get_block(cid, &[victim.dsn.peer_id()], 64)).await;
    assert_eq!(block.unwrap(), "still here");
}

/// What comes of asking `raw` for a block, where it claims to have it and then sends `answer`.
async fn answered_with(answer: Bitswap) -> WantError {
    let victim = node(&[], once).await;
    let mut raw = Raw::start().await;
    raw.meet(&victim).await;
    let from = [raw.peer];
    let asking = victim.dsn.get_block(Codec::Raw.cid(b"wanted"), &from, 64);
    let lying = async {
        let (peer, wants) = raw.hears_wants().await;
        raw.has(peer, &wants);
        let (peer, _) = raw.hears_wants().await;
        raw.says(peer, &answer);
    };
    let (result, ()) = within(futures::future::join(asking, lying)).await;
    match result {
        Err(FetchError::NotDelivered { last, .. }) => last.why,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_block_of_another_hash_ends_the_peers_service() {
    assert_eq!(answered_with(payload(&SHA256_RAW, b"something else")).await, WantError::WrongHash);
}

#[tokio::test]
async fn a_block_that_claims_the_identity_hash_is_no_block() {
    assert_eq!(answered_with(payload(&[1, 0x55, 0x00, 6], b"wanted")).await, WantError::WrongHash);
}

#[tokio::test]
async fn a_block_over_the_bound_is_refused() {
    let victim = node(&[], once).await;
    let mut raw = Raw::start().await;
    raw.meet(&victim).await;
    let from = [raw.peer];
    let content = vec![3; 65];
    let asking = victim.dsn.get_block(Codec::Raw.cid(&content), &from, 64);
    let sending = async {
        let (peer, _) = raw.hears_wants().await;
        raw.says(peer, &payload(&SHA256_RAW, &content));
    };
    let (result, ()) = within(futures::future::join(asking, sending)).await;
    let Err(FetchError::NotDelivered { last, .. }) = result else { panic!("{result:?}") };
    assert_eq!(last.why, WantError::TooLarge { len: 65, max: 64 });
}

#[tokio::test]
async fn identity_and_foreign_cids_are_not_even_asked_for() {
    let victim = client(&[]).await;
    let result = victim.dsn.get_block(identity(), &[], 64).await;
    assert!(matches!(result, Err(FetchError::Cid(_))), "{result:?}");
    let blake3 = Cid::new_v1(0x55, multihash::Multihash::wrap(0x1e, &[1; 32]).unwrap());
    assert!(victim.dsn.providers(blake3).await.is_err());
    assert!(victim.dsn.provide(identity()).await.is_err());
    let dest = victim.path("file");
    let result = victim.dsn.fetch_file(identity(), 6, [0; 32], &dest, &[], |_| {}).await;
    assert!(matches!(result, Err(FetchError::Cid(_))), "{result:?}");
}

#[tokio::test]
async fn a_want_for_an_identity_cid_gets_a_plain_no() {
    let victim = server(&[]).await;
    let mut raw = Raw::start().await;
    raw.meet(&victim).await;
    raw.says(victim.dsn.peer_id(), &wants([identity()]));
    let (_, message) = raw.hears().await;
    let answer: Vec<_> = message.presences.iter().map(|p| (p.cid.clone(), p.dont_have)).collect();
    assert_eq!(answer, [(identity().to_bytes(), 1)]);
}

#[tokio::test]
async fn an_unsolicited_block_is_ignored_and_told() {
    let victim = server(&[]).await;
    let raw = Raw::start().await;
    raw.meet(&victim).await;
    let say = || raw.says(victim.dsn.peer_id(), &payload(&SHA256_RAW, b"unasked"));
    let rule = violation(&victim, &raw, say).await;
    assert!(rule.contains("not asked for"), "{rule}");
    let result = node(&[&victim], once).await;
    let cid = Codec::Raw.cid(b"unasked");
    assert!(within(result.dsn.get_block(cid, &[victim.dsn.peer_id()], 64)).await.is_err(), "not stored");
}

#[tokio::test]
async fn oversized_wantlists_messages_and_lengths_end_the_stream_and_no_more() {
    let victim = server(&[]).await;
    let raw = Raw::start().await;
    raw.meet(&victim).await;
    let id = victim.dsn.peer_id();
    let many = (0..1025u32).map(|n| Codec::Raw.cid(&n.to_be_bytes()));
    let rule = violation(&victim, &raw, || raw.says(id, &wants(many))).await;
    assert!(rule.contains("1025 wants"), "{rule}");
    // 5 MiB declared, of which none needs to be sent.
    let rule = violation(&victim, &raw, || raw.says_bytes(id, vec![0x80, 0x80, 0xc0, 0x02])).await;
    assert!(rule.contains("5242880 bytes"), "{rule}");
    let rule = violation(&victim, &raw, || raw.says_bytes(id, vec![0xff; 10])).await;
    assert!(rule.contains("varint"), "{rule}");
    let unasked = || raw.says(id, &payload(&SHA256_RAW, &vec![0; 300_000]));
    let rule = violation(&victim, &raw, unasked).await;
    assert!(rule.contains("262144 are allowed"), "{rule}");
    let rule = violation(&victim, &raw, || raw.says_bytes(id, vec![3, 0x0a, 0x7f, 0])).await;
    assert!(rule.contains("malformed"), "{rule}");
    still_serves(&victim).await;
}

#[tokio::test]
async fn a_message_that_never_ends_is_given_up() {
    let victim = server_with(&[], impatient).await;
    let raw = Raw::start().await;
    raw.meet(&victim).await;
    let rule = violation(&victim, &raw, || raw.hangs_after(victim.dsn.peer_id(), vec![100, 1, 2, 3])).await;
    assert!(rule.contains("too long"), "{rule}");
    still_serves(&victim).await;
}

#[tokio::test]
async fn a_peer_that_has_everything_and_sends_nothing_is_replaced() {
    let good = server(&[]).await;
    let content = bytes(600_000, 20);
    let file = good.seeds(&content).await;
    let victim = node(&[], impatient).await;
    victim.knows(&good).await;
    let mut raw = Raw::start().await;
    raw.meet(&victim).await;
    let (dest, from) = (victim.path("file"), [raw.peer, good.dsn.peer_id()]);
    let fetching = victim.dsn.fetch_file(file.cid, file.size, file.sha256, &dest, &from, |_| {});
    let lying = async {
        loop {
            let (peer, wants) = raw.hears_wants().await;
            raw.has(peer, &wants);
        }
    };
    tokio::select! {
        result = within(fetching) => result.unwrap(),
        () = lying => unreachable!("it lies for ever"),
    }
    assert_eq!(std::fs::read(dest).unwrap(), content);
}

#[tokio::test]
async fn a_peer_that_has_the_root_and_then_nothing_is_asked_a_bounded_number_of_times() {
    let victim = node(&[], once).await;
    let mut raw = Raw::start().await;
    raw.meet(&victim).await;
    let from = [raw.peer];
    let dest = victim.path("file");
    let root = Codec::DagPb.cid(b"root");
    let fetching = victim.dsn.fetch_file(root, 1 << 20, [0; 32], &dest, &from, |_| {});
    let refusing = async {
        let (peer, wants) = raw.hears_wants().await;
        raw.has(peer, &wants);
        loop {
            let (peer, wants) = raw.hears_wants().await;
            raw.has_not(peer, &wants);
        }
    };
    let result = tokio::select! {
        result = within(fetching) => result,
        () = refusing => unreachable!("it refuses for ever"),
    };
    let Err(FetchError::NotDelivered { last, .. }) = result else { panic!("{result:?}") };
    assert_eq!(last.why, WantError::DontHave);
}

#[tokio::test]
async fn a_burst_of_streams_loses_no_want() {
    let victim = server(&[]).await;
    let mut raw = Raw::start().await;
    raw.meet(&victim).await;
    let mut cids = Vec::new();
    for n in 0..24u8 {
        cids.push(victim.dsn.put_block(vec![n; 100], Codec::Raw).await.unwrap());
    }
    for cid in &cids {
        raw.says(victim.dsn.peer_id(), &wants([*cid]));
    }
    let mut blocks = Vec::new();
    while blocks.len() < cids.len() {
        let (_, message) = raw.hears().await;
        blocks.extend(message.payload.into_iter().map(|block| Codec::Raw.cid(&block.data)));
    }
    blocks.sort();
    cids.sort();
    assert_eq!(blocks, cids);
}

#[tokio::test]
async fn half_open_connections_of_a_stranger_lock_nobody_out() {
    let victim = server_with(&[], |config| config.limits.half_open = 32).await;
    let addr = victim.dsn.addresses().remove(0).to_string();
    let port: u16 = addr.split('/').nth(4).unwrap().parse().unwrap();
    let mut idle: Vec<TcpStream> = Vec::new();
    for _ in 0..64 {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind("127.0.0.2:0".parse().unwrap()).unwrap();
        idle.push(within(socket.connect(([127, 0, 0, 1], port).into())).await.unwrap());
    }
    still_serves(&victim).await;
    drop(idle);
}
