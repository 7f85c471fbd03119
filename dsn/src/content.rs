//! Content identifiers: which exist here, and how they are compared.
//!
//! Only SHA-256 (multihash code 0x12, 32 bytes) and the codecs raw, dag-pb and dag-cbor. An identity CID would
//! carry its own bytes past every digest check, and any other hash is one that nobody here computes, so both
//! are refused wherever a CID enters. A CIDv0 (which is dag-pb by definition) is turned into its CIDv1.

use cid::Cid;
use multihash::Multihash;
use sha2::{Digest, Sha256};
use thiserror::Error;

/// Multihash code of SHA2-256 in the multicodec table.
const SHA2_256: u64 = 0x12;

/// How a block is to be read, by its number in the multicodec table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u64)]
pub enum Codec {
    /// Bytes with no structure: leaves of files.
    Raw = 0x55,
    /// A protobuf node with links: files of more than one block.
    DagPb = 0x70,
    /// CBOR with links by tag 42: the package's root.
    DagCbor = 0x71,
}

/// Why a CID is not accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum CidError {
    /// Not 32 bytes of SHA-256; identity is among these.
    #[error("multihash {code:#x} of {size} bytes, only SHA-256 of 32 bytes is accepted")]
    NotSha256 {
        /// The multihash's code.
        code: u64,
        /// Its digest's length in bytes.
        size: u8,
    },
    /// Not raw, dag-pb or dag-cbor.
    #[error("codec {0:#x}, only raw, dag-pb and dag-cbor are accepted")]
    UnknownCodec(u64),
    /// Not a CID.
    #[error("not a content identifier")]
    Malformed,
}

impl Codec {
    /// The codec of this number, if it is one of the three.
    pub fn from_code(code: u64) -> Option<Self> {
        [Self::Raw, Self::DagPb, Self::DagCbor].into_iter().find(|codec| *codec as u64 == code)
    }

    /// The identifier of `bytes` read with this codec.
    pub fn cid(self, bytes: &[u8]) -> Cid {
        self.cid_of_digest(Sha256::digest(bytes).into())
    }

    /// The identifier of content with this SHA-256 digest.
    pub fn cid_of_digest(self, digest: [u8; 32]) -> Cid {
        let hash = Multihash::wrap(SHA2_256, &digest).expect("32 bytes fit a multihash of 64");
        Cid::new_v1(self as u64, hash)
    }
}

/// The CIDv1 by which `cid` is known here, or why it is refused.
pub fn accept(cid: &Cid) -> Result<Cid, CidError> {
    let (code, size) = (cid.hash().code(), cid.hash().size());
    if code != SHA2_256 || size != 32 {
        return Err(CidError::NotSha256 { code, size });
    }
    let codec = cid.codec();
    if Codec::from_code(codec).is_none() {
        return Err(CidError::UnknownCodec(codec));
    }
    Ok(Cid::new_v1(codec, *cid.hash()))
}

/// Reads a CID that came in a message or a block: exactly `bytes`, and acceptable.
pub(crate) fn parse(bytes: &[u8]) -> Result<Cid, CidError> {
    let mut rest = bytes;
    let cid = Cid::read_bytes(&mut rest).map_err(|_| CidError::Malformed)?;
    if !rest.is_empty() {
        return Err(CidError::Malformed);
    }
    accept(&cid)
}

/// The codec of a CID that has been accepted.
pub(crate) fn codec(cid: &Cid) -> Codec {
    Codec::from_code(cid.codec()).expect("accepted CIDs have a known codec")
}

/// Whether `bytes` are the content of `cid`, an accepted CID.
pub(crate) fn matches(cid: &Cid, bytes: &[u8]) -> bool {
    Sha256::digest(bytes).as_slice() == cid.hash().digest()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_empty_raw_leaf_has_the_known_identifier() {
        // Known from Kubo and Helia for an empty file with raw leaves.
        let expected = "bafkreihdwdcefgh4dqkjv67uzcmw7ojee6xedzdetojuzjevtenxquvyku";
        assert_eq!(Codec::Raw.cid(b"").to_string(), expected);
        assert_eq!(Codec::Raw.cid(b"").to_bytes().len(), 36);
    }

    #[test]
    fn a_version_0_identifier_becomes_version_1() {
        let v0 = Cid::new_v0(*Codec::DagPb.cid(b"node").hash()).unwrap();
        assert_eq!(accept(&v0), Ok(Codec::DagPb.cid(b"node")));
        assert_eq!(parse(&v0.to_bytes()), Ok(Codec::DagPb.cid(b"node")));
    }

    #[test]
    fn identity_and_other_hashes_are_refused() {
        let identity = Cid::new_v1(0x55, Multihash::wrap(0, b"inline").unwrap());
        assert_eq!(accept(&identity), Err(CidError::NotSha256 { code: 0, size: 6 }));
        let blake3 = Cid::new_v1(0x55, Multihash::wrap(0x1e, &[7; 32]).unwrap());
        assert_eq!(parse(&blake3.to_bytes()), Err(CidError::NotSha256 { code: 0x1e, size: 32 }));
        let short = Cid::new_v1(0x55, Multihash::wrap(0x12, &[7; 20]).unwrap());
        assert_eq!(accept(&short), Err(CidError::NotSha256 { code: 0x12, size: 20 }));
    }

    #[test]
    fn other_codecs_and_trailing_bytes_are_refused() {
        let json = Cid::new_v1(0x0129, *Codec::Raw.cid(b"").hash());
        assert_eq!(accept(&json), Err(CidError::UnknownCodec(0x0129)));
        let mut bytes = Codec::Raw.cid(b"").to_bytes();
        bytes.push(0);
        assert_eq!(parse(&bytes), Err(CidError::Malformed));
        assert_eq!(parse(&[]), Err(CidError::Malformed));
        assert_eq!(parse(&[0xff; 16]), Err(CidError::Malformed));
    }
}
