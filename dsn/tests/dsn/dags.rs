//! Layouts that others write, and DAGs that nobody should.

use posthouse_dsn::{Cid, Codec, DagError, FetchError};
use prost::Message;

use crate::support::{Node, bytes, node, server, sha256, within};

#[derive(Clone, PartialEq, Message)]
struct Links {
    #[prost(message, repeated, tag = "2")]
    links: Vec<Link>,
}

#[derive(Clone, PartialEq, Message)]
struct Link {
    #[prost(bytes, tag = "1")]
    hash: Vec<u8>,
    #[prost(string, tag = "2")]
    name: String,
    #[prost(uint64, tag = "3")]
    tsize: u64,
}

#[derive(Clone, PartialEq, Message)]
struct Data {
    #[prost(bytes, optional, tag = "1")]
    data: Option<Vec<u8>>,
}

#[derive(Clone, PartialEq, Message)]
struct UnixFs {
    #[prost(int32, required, tag = "1")]
    kind: i32,
    #[prost(bytes, optional, tag = "2")]
    data: Option<Vec<u8>>,
    #[prost(uint64, optional, tag = "3")]
    filesize: Option<u64>,
    #[prost(uint64, repeated, packed = "false", tag = "4")]
    blocksizes: Vec<u64>,
}

/// A node with bytes of its own before those of its children; each child with its size.
fn node_block(inline: Option<&[u8]>, children: &[(Cid, u64)]) -> Vec<u8> {
    let link = |(cid, size): &(Cid, u64)| Link { hash: cid.to_bytes(), tsize: *size, ..Link::default() };
    let sizes: Vec<u64> = children.iter().map(|(_, size)| *size).collect();
    let own = inline.map_or(0, <[u8]>::len) as u64;
    let filesize = Some(sizes.iter().fold(own, |sum, size| sum.saturating_add(*size)));
    let unixfs = UnixFs { kind: 2, data: inline.map(<[u8]>::to_vec), filesize, blocksizes: sizes };
    let mut block = Links { links: children.iter().map(link).collect() }.encode_to_vec();
    block.extend(Data { data: Some(unixfs.encode_to_vec()) }.encode_to_vec());
    block
}

async fn put(seeder: &Node, block: Vec<u8>, codec: Codec) -> Cid {
    seeder.dsn.put_block(block, codec).await.unwrap()
}

async fn put_node(seeder: &Node, inline: Option<&[u8]>, children: &[(Cid, u64)]) -> Cid {
    put(seeder, node_block(inline, children), Codec::DagPb).await
}

/// Fetches by root and size alone, and with the digest of the whole: with the same outcome.
async fn fetch(seeder: &Node, root: Cid, content: &[u8], size: u64) -> Result<Vec<u8>, FetchError> {
    let getter = node(&[], |config| config.limits.lookup_retries = 0).await;
    getter.knows(seeder).await;
    let (dest, blocks, from) = (getter.path("file"), getter.path("blocks"), [seeder.dsn.peer_id()]);
    let by_blocks = within(getter.dsn.fetch_file(root, size, None, &blocks, &from, |_| {})).await;
    let by_digest = within(getter.dsn.fetch_file(root, size, sha256(content), &dest, &from, |_| {})).await;
    let words = |result: &Result<(), FetchError>| result.as_ref().map_err(ToString::to_string).copied();
    assert_eq!(words(&by_blocks), words(&by_digest));
    by_digest?;
    assert_eq!(std::fs::read(blocks).unwrap(), content);
    Ok(std::fs::read(dest).unwrap())
}

#[tokio::test]
async fn leaves_of_a_mebibyte_are_read() {
    let seeder = server(&[]).await;
    let content = bytes((2 << 20) + 5, 30);
    let mut children = Vec::new();
    for chunk in content.chunks(1 << 20) {
        children.push((put(&seeder, chunk.to_vec(), Codec::Raw).await, chunk.len() as u64));
    }
    let root = put_node(&seeder, None, &children).await;
    assert_eq!(fetch(&seeder, root, &content, content.len() as u64).await.unwrap(), content);
}

#[tokio::test]
async fn protobuf_leaves_version_0_links_and_bytes_in_nodes_are_read_and_served_again() {
    let seeder = server(&[]).await;
    let content = bytes(9000, 31);
    // The root holds 1000 bytes itself; then a leaf; then a node of two leaves, one of them raw.
    let mut leaves = Vec::new();
    for range in [1000..4000, 4000..6000] {
        let cid = put_node(&seeder, Some(&content[range.clone()]), &[]).await;
        leaves.push((Cid::new_v0(*cid.hash()).unwrap(), range.len() as u64));
    }
    let raw = (put(&seeder, content[6000..].to_vec(), Codec::Raw).await, 3000);
    let inner = (put_node(&seeder, None, &[leaves[1], raw]).await, 5000);
    let root = put_node(&seeder, Some(&content[..1000]), &[leaves[0], inner]).await;
    let root = Cid::new_v0(*root.hash()).unwrap();

    let middle = server(&[]).await;
    middle.knows(&seeder).await;
    let (dest, from) = (middle.path("file"), [seeder.dsn.peer_id()]);
    within(middle.dsn.fetch_file(root, 9000, sha256(&content), &dest, &from, |_| {})).await.unwrap();
    within(seeder.dsn.stop()).await;
    assert_eq!(fetch(&middle, root, &content, 9000).await.unwrap(), content);
}

#[tokio::test]
async fn one_block_many_times_is_a_file_as_well() {
    let seeder = server(&[]).await;
    let content = vec![5; 8 * 1024];
    let leaf = (put(&seeder, vec![5; 1024], Codec::Raw).await, 1024);
    let root = put_node(&seeder, None, &[leaf; 8]).await;
    assert_eq!(fetch(&seeder, root, &content, 8 * 1024).await.unwrap(), content);
}

#[tokio::test]
async fn a_dag_that_lies_about_its_size_is_refused() {
    let seeder = server(&[]).await;
    let leaf = put(&seeder, vec![1; 1000], Codec::Raw).await;
    let longer = put_node(&seeder, None, &[(leaf, 1001)]).await;
    // The leaf is shorter than its parent says: a leaf of the declared length is what was asked for.
    let result = fetch(&seeder, longer, &[1; 1001], 1001).await;
    assert!(
        matches!(result, Err(FetchError::Dag(DagError::Size { expected: 1001, found: 1000, .. }))),
        "{result:?}"
    );
    let root = put_node(&seeder, None, &[(leaf, 1000)]).await;
    let result = fetch(&seeder, root, &[1; 500], 500).await;
    assert!(matches!(result, Err(FetchError::Dag(DagError::Size { expected: 500, .. }))), "{result:?}");
    let endless = put_node(&seeder, None, &[(leaf, u64::MAX), (leaf, 1001)]).await;
    let result = fetch(&seeder, endless, &[1; 1000], 1000).await;
    assert!(matches!(result, Err(FetchError::Dag(DagError::Size { .. }))), "{result:?}");
    let result = fetch(&seeder, root, &[], u64::MAX).await;
    assert!(matches!(result, Err(FetchError::Dag(DagError::TooLong { .. }))), "{result:?}");
}

#[tokio::test]
async fn a_deep_dag_is_refused() {
    let seeder = server(&[]).await;
    let mut top = put(&seeder, vec![1; 100], Codec::Raw).await;
    for _ in 0..20 {
        // A cycle cannot be made: each level's hash is in the one above.
        top = put_node(&seeder, None, &[(top, 100)]).await;
    }
    let result = fetch(&seeder, top, &[1; 100], 100).await;
    assert!(matches!(result, Err(FetchError::Dag(DagError::TooDeep))), "{result:?}");
}

#[tokio::test]
async fn a_dag_of_crumbs_is_refused() {
    let seeder = server(&[]).await;
    let crumb = (put(&seeder, vec![1], Codec::Raw).await, 1);
    let root = put_node(&seeder, None, &[crumb; 500]).await;
    let result = fetch(&seeder, root, &[1; 500], 500).await;
    assert!(matches!(result, Err(FetchError::Dag(DagError::TooManyBlocks(64)))), "{result:?}");
}

#[tokio::test]
async fn a_directory_is_no_file() {
    let seeder = server(&[]).await;
    let unixfs = UnixFs { kind: 1, data: None, filesize: None, blocksizes: vec![] };
    let block = Data { data: Some(unixfs.encode_to_vec()) }.encode_to_vec();
    let root = put(&seeder, block, Codec::DagPb).await;
    let result = fetch(&seeder, root, &[], 0).await;
    assert!(matches!(result, Err(FetchError::Dag(DagError::Node { .. }))), "{result:?}");
}
