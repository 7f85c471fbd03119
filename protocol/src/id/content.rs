//! Content identifiers: CIDv1 with a SHA-256 multihash, the only kind that a package links with.

use core::fmt::{self, Write as _};
use core::str::FromStr;

use thiserror::Error;

/// RFC 4648 base32, lower case, as multibase `b` has it.
const BASE32: &[u8; 32] = b"abcdefghijklmnopqrstuvwxyz234567";

/// What the bytes behind a content identifier are (multicodec table).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Codec {
    /// Plain bytes.
    Raw = 0x55,
    /// A UnixFS node.
    DagPb = 0x70,
    /// A DAG-CBOR block.
    DagCbor = 0x71,
}

/// Why something is not a content identifier of ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum ContentIdError {
    /// Not 36 bytes (or 59 characters).
    #[error("content identifier has length {0}, not that of a CIDv1 with SHA-256")]
    Length(usize),
    /// The prefix is not CIDv1, or the hash is not SHA-256 of 32 bytes.
    #[error("not a CIDv1 with a SHA-256 multihash")]
    Prefix,
    /// The codec is none of raw, dag-pb and dag-cbor.
    #[error("codec 0x{0:02x} is not one that packages use")]
    Codec(u8),
    /// The text is not lower-case base32 with the multibase prefix `b`.
    #[error("not multibase base32")]
    Base32,
}

/// A CIDv1 with a SHA-256 multihash: 36 bytes `01 codec 12 20 digest`.
///
/// Prints and parses as multibase base32 (`b…`), the form that IPFS tools show.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ContentId {
    codec: Codec,
    digest: [u8; 32],
}

impl ContentId {
    /// Width in bytes.
    pub const LEN: usize = 36;
    /// Length of the text form.
    const TEXT: usize = 59;

    /// Identifies plain bytes by their SHA-256.
    pub const fn raw(digest: [u8; 32]) -> Self {
        Self { codec: Codec::Raw, digest }
    }

    /// Identifies a UnixFS node by the SHA-256 of its block.
    pub const fn dag_pb(digest: [u8; 32]) -> Self {
        Self { codec: Codec::DagPb, digest }
    }

    /// Identifies a DAG-CBOR block by its SHA-256.
    pub const fn dag_cbor(digest: [u8; 32]) -> Self {
        Self { codec: Codec::DagCbor, digest }
    }

    /// What the bytes behind it are.
    pub const fn codec(&self) -> Codec {
        self.codec
    }

    /// SHA-256 of the block.
    pub const fn digest(&self) -> [u8; 32] {
        self.digest
    }

    /// The binary CID.
    pub fn to_bytes(&self) -> [u8; Self::LEN] {
        let mut bytes = [0; Self::LEN];
        bytes[..4].copy_from_slice(&[0x01, self.codec as u8, 0x12, 0x20]);
        bytes[4..].copy_from_slice(&self.digest);
        bytes
    }

    /// Reads a binary CID.
    ///
    /// # Errors
    /// Any other version, hash or codec than ours.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, ContentIdError> {
        let bytes: &[u8; Self::LEN] = bytes.try_into().map_err(|_| ContentIdError::Length(bytes.len()))?;
        let [0x01, codec, 0x12, 0x20, digest @ ..] = bytes else {
            return Err(ContentIdError::Prefix);
        };
        let codec = match codec {
            0x55 => Codec::Raw,
            0x70 => Codec::DagPb,
            0x71 => Codec::DagCbor,
            other => return Err(ContentIdError::Codec(*other)),
        };
        Ok(Self { codec, digest: *digest })
    }
}

impl TryFrom<&[u8]> for ContentId {
    type Error = ContentIdError;

    fn try_from(bytes: &[u8]) -> Result<Self, ContentIdError> {
        Self::from_bytes(bytes)
    }
}

impl fmt::Display for ContentId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_char('b')?;
        let bytes = self.to_bytes();
        let mut chunks = bytes.chunks(5);
        chunks.try_for_each(|chunk| {
            let mut group = [0; 8];
            group[3..3 + chunk.len()].copy_from_slice(chunk);
            let bits = u64::from_be_bytes(group);
            let digits = (chunk.len() * 8).div_ceil(5);
            (0..digits).try_for_each(|i| {
                let digit = (bits >> (35 - 5 * i)) & 31;
                f.write_char(char::from(BASE32[digit as usize]))
            })
        })
    }
}

impl fmt::Debug for ContentId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for ContentId {
    type Err = ContentIdError;

    fn from_str(text: &str) -> Result<Self, ContentIdError> {
        if text.len() != Self::TEXT {
            return Err(ContentIdError::Length(text.len()));
        }
        let digits = text.strip_prefix('b').ok_or(ContentIdError::Base32)?;
        let mut bytes = [0; Self::LEN];
        let (mut bits, mut held, mut at) = (0u32, 0u32, 0);
        for digit in digits.bytes() {
            let value = BASE32.iter().position(|b| *b == digit).ok_or(ContentIdError::Base32)?;
            bits = (bits << 5) | value as u32;
            held += 5;
            if held >= 8 {
                held -= 8;
                *bytes.get_mut(at).ok_or(ContentIdError::Base32)? = (bits >> held) as u8;
                bits &= (1 << held) - 1;
                at += 1;
            }
        }
        // 58 digits hold 290 bits; the two left over are zero in the only accepted form.
        if bits != 0 {
            return Err(ContentIdError::Base32);
        }
        Self::from_bytes(&bytes)
    }
}
