//! The message of bitswap 1.2.0, field by field as its specification numbers them.
//!
//! ```proto
//! message Message {
//!   message Wantlist {
//!     enum WantType { Block = 0; Have = 1; }
//!     message Entry { bytes block = 1; int32 priority = 2; bool cancel = 3; WantType wantType = 4;
//!                     bool sendDontHave = 5; }
//!     repeated Entry entries = 1;
//!     bool full = 2;
//!   }
//!   message Block { bytes prefix = 1; bytes data = 2; }
//!   enum BlockPresenceType { Have = 0; DontHave = 1; }
//!   message BlockPresence { bytes cid = 1; BlockPresenceType type = 2; }
//!   Wantlist wantlist = 1;
//!   repeated bytes blocks = 2;  // bitswap 1.0 only
//!   repeated Block payload = 3;
//!   repeated BlockPresence blockPresences = 4;
//!   int32 pendingBytes = 5;
//! }
//! ```

use bytes::Bytes;
use cid::Cid;
use prost::Message as _;
use thiserror::Error;

use super::Kind;
use crate::content::{self, Codec};
use crate::protobuf::{count, next_field};

/// Longest message, in bytes, as the specification has it.
pub(super) const MAX_MESSAGE: usize = 4 << 20;
/// Entries of one wantlist, and wants of one peer that wait: what Kubo queues for a peer.
pub(super) const MAX_WANTS: usize = 1024;
/// Blocks in one message.
const MAX_BLOCKS: usize = 1024;
/// Presences in one message: an answer to as many wants as one may have.
const MAX_PRESENCES: usize = MAX_WANTS;
/// Longest CID that is looked at, for digests of 64 bytes and room; it is sent back as it came.
const MAX_CID: usize = 96;

/// Why a message was not accepted.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub(crate) enum MessageError {
    #[error("malformed message")]
    Malformed,
    #[error("{found} {what} in a message, {max} are allowed")]
    TooMany { what: &'static str, found: usize, max: usize },
    #[error("a CID of {0} bytes")]
    LongCid(usize),
}

/// A message that came, its blocks hashed.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Received {
    pub(super) wants: Vec<Entry>,
    /// The wantlist replaces what was wanted before.
    pub(super) full: bool,
    /// Blocks by their digest.
    pub(super) blocks: Vec<([u8; 32], Bytes)>,
    /// Blocks that say that they are of another hash than SHA-256.
    pub(super) foreign: usize,
    /// Digests, and whether the peer has the block.
    pub(super) presences: Vec<([u8; 32], bool)>,
}

/// One entry of a peer's wantlist.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Entry {
    /// The CID as it came, to be sent back the same.
    pub(super) raw: Bytes,
    /// The same if it is one that can be here.
    pub(super) cid: Option<Cid>,
    pub(super) kind: Kind,
    pub(super) cancel: bool,
    pub(super) send_dont_have: bool,
}

/// A message of ours.
#[derive(Debug, Default)]
pub(crate) struct Outgoing(PbMessage);

#[derive(Clone, PartialEq, prost::Message)]
struct PbMessage {
    #[prost(message, optional, tag = "1")]
    wantlist: Option<PbWantlist>,
    #[prost(message, repeated, tag = "3")]
    payload: Vec<PbBlock>,
    #[prost(message, repeated, tag = "4")]
    presences: Vec<PbPresence>,
    #[prost(int32, tag = "5")]
    pending_bytes: i32,
}

#[derive(Clone, PartialEq, prost::Message)]
struct PbWantlist {
    #[prost(message, repeated, tag = "1")]
    entries: Vec<PbEntry>,
    #[prost(bool, tag = "2")]
    full: bool,
}

#[derive(Clone, PartialEq, prost::Message)]
struct PbEntry {
    #[prost(bytes = "bytes", tag = "1")]
    block: Bytes,
    #[prost(int32, tag = "2")]
    priority: i32,
    #[prost(bool, tag = "3")]
    cancel: bool,
    #[prost(int32, tag = "4")]
    want_type: i32,
    #[prost(bool, tag = "5")]
    send_dont_have: bool,
}

#[derive(Clone, PartialEq, prost::Message)]
struct PbBlock {
    #[prost(bytes = "bytes", tag = "1")]
    prefix: Bytes,
    #[prost(bytes = "bytes", tag = "2")]
    data: Bytes,
}

#[derive(Clone, PartialEq, prost::Message)]
struct PbPresence {
    #[prost(bytes = "bytes", tag = "1")]
    cid: Bytes,
    #[prost(int32, tag = "2")]
    kind: i32,
}

/// `WantType.Have`.
const WANT_HAVE: i32 = 1;
/// `BlockPresenceType.DontHave`.
const DONT_HAVE: i32 = 1;

impl Received {
    /// Reads a message and hashes its blocks; long ones are for a thread that may block.
    pub(crate) fn decode(message: Bytes) -> Result<Self, MessageError> {
        check_counts(message.clone())?;
        let message = PbMessage::decode(message).map_err(|_| MessageError::Malformed)?;
        let wantlist = message.wantlist.unwrap_or_default();
        let wants = wantlist.entries.into_iter().map(Entry::read).collect::<Result<_, _>>()?;
        let mut received = Self { wants, full: wantlist.full, ..Self::default() };
        for block in message.payload {
            match prefix_codec(&block.prefix) {
                Some(codec) => {
                    let digest = crate::withheld::digest(&codec.cid(&block.data));
                    received.blocks.push((digest, block.data));
                }
                None => received.foreign += 1,
            }
        }
        for presence in message.presences {
            if let Ok(cid) = content::parse(&presence.cid) {
                received.presences.push((crate::withheld::digest(&cid), presence.kind != DONT_HAVE));
            }
        }
        Ok(received)
    }
}

impl Entry {
    fn read(entry: PbEntry) -> Result<Self, MessageError> {
        if entry.block.len() > MAX_CID {
            return Err(MessageError::LongCid(entry.block.len()));
        }
        Ok(Self {
            cid: content::parse(&entry.block).ok(),
            raw: entry.block,
            kind: if entry.want_type == WANT_HAVE { Kind::Have } else { Kind::Block },
            cancel: entry.cancel,
            send_dont_have: entry.send_dont_have,
        })
    }
}

impl Outgoing {
    /// Adds a want of ours. Without "don't have" a peer would answer nothing where it has nothing.
    pub(super) fn want(&mut self, cid: &Cid, kind: Kind) {
        let want_type = if kind == Kind::Have { WANT_HAVE } else { 0 };
        self.entry(PbEntry {
            block: cid.to_bytes().into(),
            priority: 1,
            cancel: false,
            want_type,
            send_dont_have: true,
        });
    }

    /// Takes a want back.
    pub(super) fn cancel(&mut self, cid: &Cid) {
        self.entry(PbEntry { block: cid.to_bytes().into(), cancel: true, ..PbEntry::default() });
    }

    /// Adds a block in answer to `entry`.
    pub(super) fn block(&mut self, entry: &Entry, data: Bytes) {
        let cid = Cid::read_bytes(&entry.raw[..]).ok();
        let version = cid.map_or(1, |cid| u64::from(cid.version()));
        let codec = entry.cid.map_or(0, |cid| cid.codec());
        // Version, codec, hash and its length: the CID without its digest. All are below 0x80.
        let prefix = vec![version as u8, codec as u8, 0x12, 0x20];
        self.0.payload.push(PbBlock { prefix: prefix.into(), data });
    }

    /// Says whether we have what `entry` asks about.
    pub(super) fn presence(&mut self, entry: &Entry, have: bool) {
        let kind = if have { 0 } else { DONT_HAVE };
        self.0.presences.push(PbPresence { cid: entry.raw.clone(), kind });
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0 == PbMessage::default()
    }

    pub(super) fn encode(&self) -> Vec<u8> {
        self.0.encode_to_vec()
    }

    fn entry(&mut self, entry: PbEntry) {
        self.0.wantlist.get_or_insert_default().entries.push(entry);
    }
}

/// Refuses a message with more of anything than it may have, before any of it is decoded.
fn check_counts(mut message: Bytes) -> Result<(), MessageError> {
    let malformed = |_| MessageError::Malformed;
    let (mut entries, mut blocks, mut presences) = (0, 0, 0);
    while let Some((tag, bytes)) = next_field(&mut message).map_err(malformed)? {
        match (tag, bytes) {
            (1, Some(wantlist)) => entries += count(wantlist, 1).map_err(malformed)?,
            (2 | 3, _) => blocks += 1,
            (4, _) => presences += 1,
            _ => {}
        }
    }
    let bounds = [
        ("wants", entries, MAX_WANTS),
        ("blocks", blocks, MAX_BLOCKS),
        ("presences", presences, MAX_PRESENCES),
    ];
    match bounds.into_iter().find(|(_, found, max)| found > max) {
        Some((what, found, max)) => Err(MessageError::TooMany { what, found, max }),
        None => Ok(()),
    }
}

/// The codec that a block's prefix names, if its hash is SHA-256 and the codec one of ours.
fn prefix_codec(prefix: &[u8]) -> Option<Codec> {
    match prefix {
        [0 | 1, codec, 0x12, 0x20] => Codec::from_code(u64::from(*codec)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cid(n: u8) -> Cid {
        Codec::Raw.cid(&[n])
    }

    fn decode(message: PbMessage) -> Result<Received, MessageError> {
        Received::decode(message.encode_to_vec().into())
    }

    #[test]
    fn a_want_has_the_bytes_of_the_specification() {
        let mut message = Outgoing::default();
        message.want(&cid(1), Kind::Have);
        let bytes = message.encode();
        // Wantlist (1): one entry (1): the CID (1, 36 bytes), priority (2) 1, wantType (4) 1, sendDontHave (5).
        let mut expected = vec![0x0a, 46, 0x0a, 44, 0x0a, 36];
        expected.extend(cid(1).to_bytes());
        expected.extend([0x10, 1, 0x20, 1, 0x28, 1]);
        assert_eq!(bytes, expected);
    }

    #[test]
    fn a_cancel_and_an_answer_have_the_bytes_of_the_specification() {
        let mut message = Outgoing::default();
        message.cancel(&cid(1));
        let entry = Received::decode(message.encode().into()).unwrap().wants.remove(0);
        assert!(entry.cancel && entry.cid == Some(cid(1)));
        let mut message = Outgoing::default();
        message.block(&entry, Bytes::from_static(&[1]));
        message.presence(&entry, false);
        let mut expected = vec![0x1a, 9, 0x0a, 4, 1, 0x55, 0x12, 0x20, 0x12, 1, 1, 0x22, 40, 0x0a, 36];
        expected.extend(cid(1).to_bytes());
        expected.extend([0x10, 1]);
        assert_eq!(message.encode(), expected);
    }

    #[test]
    fn what_is_sent_is_received() {
        let mut message = Outgoing::default();
        message.want(&cid(1), Kind::Block);
        let entry = Received::decode(message.encode().into()).unwrap().wants.remove(0);
        assert_eq!((entry.cid, entry.kind, entry.send_dont_have), (Some(cid(1)), Kind::Block, true));
        let mut message = Outgoing::default();
        message.block(&entry, Bytes::from_static(&[1]));
        message.presence(&entry, true);
        let received = Received::decode(message.encode().into()).unwrap();
        let digest = crate::withheld::digest(&cid(1));
        assert_eq!(received.blocks, [(digest, Bytes::from_static(&[1]))]);
        assert_eq!(received.presences, [(digest, true)]);
    }

    #[test]
    fn a_version_0_want_is_answered_as_version_0() {
        let v0 = Cid::new_v0(*Codec::DagPb.cid(b"n").hash()).unwrap();
        let entry = Entry::read(PbEntry { block: v0.to_bytes().into(), ..PbEntry::default() }).unwrap();
        assert_eq!(entry.cid, Some(Codec::DagPb.cid(b"n")));
        let mut message = Outgoing::default();
        message.block(&entry, Bytes::from_static(b"n"));
        message.presence(&entry, true);
        assert_eq!(message.0.payload[0].prefix[..], [0, 0x70, 0x12, 0x20]);
        assert_eq!(message.0.presences[0].cid, v0.to_bytes());
    }

    #[test]
    fn a_block_of_another_hash_is_foreign() {
        let block = |prefix: &'static [u8]| PbBlock { prefix: prefix.into(), data: Bytes::from_static(b"x") };
        let payload = vec![block(&[1, 0x55, 0x00, 1]), block(&[1, 0x55, 0x1e, 0x20]), block(&[])];
        let received = decode(PbMessage { payload, ..PbMessage::default() }).unwrap();
        assert_eq!((received.foreign, received.blocks.len()), (3, 0));
    }

    #[test]
    fn a_want_for_an_identity_cid_is_kept_for_its_answer_only() {
        let identity = Cid::new_v1(0x55, multihash::Multihash::wrap(0, b"x").unwrap());
        let entry = Entry::read(PbEntry { block: identity.to_bytes().into(), ..PbEntry::default() }).unwrap();
        assert_eq!((entry.cid, &entry.raw[..]), (None, &identity.to_bytes()[..]));
    }

    #[test]
    fn an_oversized_wantlist_is_refused() {
        let entries = vec![PbEntry::default(); MAX_WANTS + 1];
        let wantlist = Some(PbWantlist { entries, full: false });
        let result = decode(PbMessage { wantlist, ..PbMessage::default() });
        assert_eq!(result, Err(MessageError::TooMany { what: "wants", found: 1025, max: 1024 }));
    }

    #[test]
    fn a_wantlist_split_into_many_is_counted_together() {
        let half = PbWantlist { entries: vec![PbEntry::default(); 600], full: false };
        let message = PbMessage { wantlist: Some(half), ..PbMessage::default() }.encode_to_vec();
        let result = Received::decode([&message[..], &message[..]].concat().into());
        assert!(matches!(result, Err(MessageError::TooMany { what: "wants", found: 1200, .. })));
    }

    #[test]
    fn too_many_blocks_or_presences_and_long_cids_are_refused() {
        let blocks = Received::decode(Bytes::from([0x1a, 0].repeat(MAX_BLOCKS + 1)));
        assert!(matches!(blocks, Err(MessageError::TooMany { what: "blocks", .. })));
        let presences = Received::decode(Bytes::from([0x22, 0].repeat(MAX_PRESENCES + 1)));
        assert!(matches!(presences, Err(MessageError::TooMany { what: "presences", .. })));
        let long = PbEntry { block: vec![1; MAX_CID + 1].into(), ..PbEntry::default() };
        assert_eq!(Entry::read(long), Err(MessageError::LongCid(MAX_CID + 1)));
    }

    #[test]
    fn garbage_is_malformed() {
        for bytes in [&[0xff; 12][..], &[0x0a, 0x05, 1], &[0x1a, 0x02, 0x0a, 0x7f]] {
            assert_eq!(Received::decode(Bytes::copy_from_slice(bytes)), Err(MessageError::Malformed));
        }
    }

    proptest::proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(bytes: Vec<u8>) {
            if let Ok(received) = Received::decode(bytes.into()) {
                proptest::prop_assert!(received.wants.len() <= MAX_WANTS);
            }
        }

        #[test]
        fn a_damaged_message_is_read_or_refused(at in 0usize..300, with: u8) {
            let mut message = Outgoing::default();
            (0..4).for_each(|n| message.want(&cid(n), Kind::Block));
            let mut bytes = message.encode();
            let place = at % bytes.len();
            bytes[place] = with;
            Received::decode(bytes.into()).ok();
        }
    }
}
