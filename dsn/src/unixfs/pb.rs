//! The two protobuf messages of a file's node: dag-pb `PBNode` and UnixFS `Data` (IPLD dag-pb and UnixFS
//! specifications).
//!
//! dag-pb writes `Links` (field 2) before `Data` (field 1): a block encoded in the order of tags, as any protobuf
//! library does it, has another hash. So the two halves are encoded one after the other.

use bytes::Bytes;
use cid::Cid;
use prost::Message;
use thiserror::Error;

use crate::protobuf::{count, next_field};

/// UnixFS type of a dag-pb leaf.
const RAW: i32 = 0;
/// UnixFS type of a file's node, and of a leaf as js writes it.
const FILE: i32 = 2;

/// Why bytes are not a node of a file.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum NodeError {
    /// Not the protobuf that it should be.
    #[error("malformed protobuf: {0}")]
    Protobuf(&'static str),
    /// More links than a node may have.
    #[error("more than {0} links")]
    TooManyLinks(usize),
    /// A directory, a symlink, a shard or metadata.
    #[error("UnixFS type {0} is not a file")]
    NotAFile(i32),
    /// A link is without a target that is acceptable.
    #[error("a link's target is refused: {0}")]
    Link(#[from] crate::content::CidError),
    /// There is not one size for each link.
    #[error("{links} links and {sizes} sizes")]
    Sizes {
        /// Links in the node.
        links: usize,
        /// Sizes in its UnixFS data.
        sizes: usize,
    },
}

/// A node of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Node {
    /// Bytes of the file held by the node itself; they come before those of its links.
    pub(crate) inline: Bytes,
    /// The children in the file's order.
    pub(crate) links: Vec<Link>,
    /// Bytes of the file beneath, as the node declares.
    pub(crate) declared: Option<u64>,
}

/// One child of a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Link {
    pub(crate) cid: Cid,
    /// Bytes of the file beneath.
    pub(crate) size: u64,
}

#[derive(Clone, PartialEq, Message)]
struct PbLink {
    #[prost(bytes = "bytes", optional, tag = "1")]
    hash: Option<Bytes>,
    #[prost(string, optional, tag = "2")]
    name: Option<String>,
    #[prost(uint64, optional, tag = "3")]
    tsize: Option<u64>,
}

#[derive(Clone, PartialEq, Message)]
struct PbLinks {
    #[prost(message, repeated, tag = "2")]
    links: Vec<PbLink>,
}

#[derive(Clone, PartialEq, Message)]
struct PbData {
    #[prost(bytes = "bytes", optional, tag = "1")]
    data: Option<Bytes>,
}

#[derive(Clone, PartialEq, Message)]
struct UnixFs {
    #[prost(int32, required, tag = "1")]
    kind: i32,
    #[prost(bytes = "bytes", optional, tag = "2")]
    data: Option<Bytes>,
    #[prost(uint64, optional, tag = "3")]
    filesize: Option<u64>,
    #[prost(uint64, repeated, packed = "false", tag = "4")]
    blocksizes: Vec<u64>,
}

/// A child as it is written: its identifier, the file's bytes beneath, and all blocks' bytes beneath.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Child {
    pub(crate) cid: Cid,
    pub(crate) size: u64,
    pub(crate) tsize: u64,
}

/// The block of a node above `children`.
pub(crate) fn encode(children: &[Child]) -> Vec<u8> {
    let link = |child: &Child| PbLink {
        hash: Some(child.cid.to_bytes().into()),
        name: Some(String::new()),
        tsize: Some(child.tsize),
    };
    let unixfs = UnixFs {
        kind: FILE,
        data: None,
        filesize: Some(children.iter().map(|child| child.size).sum()),
        blocksizes: children.iter().map(|child| child.size).collect(),
    };
    let mut block = PbLinks { links: children.iter().map(link).collect() }.encode_to_vec();
    PbData { data: Some(unixfs.encode_to_vec().into()) }.encode(&mut block).expect("a Vec grows");
    block
}

/// Reads a node with at most `max_links` links.
pub(crate) fn decode(block: &Bytes, max_links: usize) -> Result<Node, NodeError> {
    // Counted first: an empty link takes two bytes in the block and many more in memory.
    if count(block.clone(), 2).map_err(|_| NodeError::Protobuf("field"))? > max_links {
        return Err(NodeError::TooManyLinks(max_links));
    }
    let links = PbLinks::decode(block.clone()).map_err(|_| NodeError::Protobuf("links"))?.links;
    let data = PbData::decode(block.clone()).map_err(|_| NodeError::Protobuf("data"))?.data;
    let data = data.ok_or(NodeError::Protobuf("no UnixFS data"))?;
    let unixfs = decode_unixfs(data, max_links)?;
    let sizes = unixfs.blocksizes;
    if links.len() != sizes.len() {
        return Err(NodeError::Sizes { links: links.len(), sizes: sizes.len() });
    }
    let links = links.iter().zip(sizes).map(|(link, size)| {
        let cid = crate::content::parse(link.hash.as_deref().unwrap_or_default())?;
        Ok(Link { cid, size })
    });
    let links = links.collect::<Result<_, NodeError>>()?;
    Ok(Node { inline: unixfs.data.unwrap_or_default(), links, declared: unixfs.filesize })
}

fn decode_unixfs(data: Bytes, max_links: usize) -> Result<UnixFs, NodeError> {
    // A packed list takes a byte or more for each size, so its bytes bound it as well.
    if sizes_bound(data.clone())? > max_links {
        return Err(NodeError::TooManyLinks(max_links));
    }
    let unixfs = UnixFs::decode(data).map_err(|_| NodeError::Protobuf("UnixFS data"))?;
    match unixfs.kind {
        RAW | FILE => Ok(unixfs),
        other => Err(NodeError::NotAFile(other)),
    }
}

/// At most how many sizes `message` holds, packed or not: a varint ends in each byte below 0x80.
fn sizes_bound(mut message: Bytes) -> Result<usize, NodeError> {
    const SIZES: u32 = 4;
    let mut bound = 0;
    while let Some((tag, bytes)) =
        next_field(&mut message).map_err(|_| NodeError::Protobuf("UnixFS field"))?
    {
        bound += match bytes {
            Some(packed) if tag == SIZES => packed.iter().filter(|byte| **byte < 0x80).count(),
            _ => usize::from(tag == SIZES),
        };
    }
    Ok(bound)
}

/// A dag-pb leaf, as Kubo writes it without raw leaves; for tests of what we read.
#[cfg(test)]
pub(crate) fn encode_leaf(kind: i32, data: &[u8]) -> Vec<u8> {
    let filesize = Some(data.len() as u64);
    let data = Some(Bytes::copy_from_slice(data));
    let unixfs = UnixFs { kind, data, filesize, blocksizes: vec![] };
    PbData { data: Some(unixfs.encode_to_vec().into()) }.encode_to_vec()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::content::Codec;

    fn child(n: u8, size: u64) -> Child {
        Child { cid: Codec::Raw.cid(&[n]), size, tsize: size + 8 }
    }

    #[test]
    fn what_is_encoded_is_decoded() {
        let block = Bytes::from(encode(&[child(1, 10), child(2, 20)]));
        let node = decode(&block, 2).unwrap();
        assert_eq!(node.declared, Some(30));
        assert_eq!(node.links, [child(1, 10), child(2, 20)].map(|c| Link { cid: c.cid, size: c.size }));
        assert!(node.inline.is_empty());
    }

    #[test]
    fn links_come_before_data() {
        let block = encode(&[child(1, 10)]);
        assert_eq!(block[0], 0x12, "field 2 first");
        let data = [0x0a, 0x06, 0x08, 0x02, 0x18, 10, 0x20, 10];
        assert_eq!(block[block.len() - 8..], data);
    }

    #[test]
    fn a_leaf_holds_its_bytes_inline() {
        let block = Bytes::from(encode_leaf(RAW, b"hello"));
        let node = decode(&block, 0).unwrap();
        assert_eq!((&node.inline[..], node.declared), (&b"hello"[..], Some(5)));
    }

    #[test]
    fn more_links_than_allowed_are_refused_unread() {
        let block = Bytes::from(encode(&[child(1, 1), child(2, 1)]));
        assert_eq!(decode(&block, 1), Err(NodeError::TooManyLinks(1)));
        let empty_links = Bytes::from([0x12, 0x00].repeat(1 << 20));
        assert_eq!(decode(&empty_links, 8192), Err(NodeError::TooManyLinks(8192)));
    }

    #[test]
    fn more_sizes_than_allowed_are_refused_unread_also_when_packed() {
        let mut data = vec![0x08, 0x02, 0x22, 0x88, 0x27];
        data.extend([1; 5000]);
        let block = PbData { data: Some(data.into()) }.encode_to_vec();
        assert_eq!(decode(&block.into(), 100), Err(NodeError::TooManyLinks(100)));
    }

    #[test]
    fn sizes_and_links_must_pair_up() {
        let unixfs = UnixFs { kind: FILE, data: None, filesize: Some(1), blocksizes: vec![1] };
        let block = PbData { data: Some(unixfs.encode_to_vec().into()) }.encode_to_vec();
        assert_eq!(decode(&block.into(), 8), Err(NodeError::Sizes { links: 0, sizes: 1 }));
    }

    #[test]
    fn directories_and_garbage_are_refused() {
        let directory = Bytes::from(encode_leaf(1, b""));
        assert_eq!(decode(&directory, 8), Err(NodeError::NotAFile(1)));
        assert!(matches!(decode(&Bytes::from_static(&[0xff; 9]), 8), Err(NodeError::Protobuf(_))));
        assert!(matches!(decode(&Bytes::new(), 8), Err(NodeError::Protobuf(_))));
    }

    #[test]
    fn a_link_to_an_identity_cid_is_refused() {
        let hash = multihash::Multihash::wrap(0, b"x").unwrap();
        let mut bad = child(1, 1);
        bad.cid = Cid::new_v1(0x55, hash);
        let block = Bytes::from(encode(&[bad]));
        assert!(matches!(decode(&block, 8), Err(NodeError::Link(_))));
    }

    proptest::proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(bytes: Vec<u8>) {
            if let Ok(node) = decode(&bytes.into(), 8) {
                proptest::prop_assert!(node.links.len() <= 8);
            }
        }

        #[test]
        fn a_damaged_node_is_read_or_refused(at in 0usize..200, with: u8) {
            let mut bytes = encode(&[child(1, 10), child(2, 20), child(3, 5)]);
            let place = at % bytes.len();
            bytes[place] = with;
            if let Ok(node) = decode(&bytes.into(), 8) {
                proptest::prop_assert!(node.links.len() <= 8);
            }
        }
    }
}
