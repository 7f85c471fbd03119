//! Fixed-width identifiers: one type for each thing that is named, so that none is taken for another.
//!
//! Every byte identifier prints as lower-case hex, parses hex with or without `0x`, and travels in
//! CBOR as a byte string of exactly its width.

use core::fmt;
use core::str::FromStr;

use sha2::{Digest as _, Sha256};
use thiserror::Error;

pub use self::content::{Codec, ContentId, ContentIdError};

mod content;

/// Why a text is not an identifier.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum ParseIdError {
    /// The text has another number of hex digits than the identifier.
    #[error("expected {expected} hex digits, got {got}")]
    Length {
        /// Digits that the identifier has.
        expected: usize,
        /// Digits (bytes of text, without `0x`) that were given.
        got: usize,
    },
    /// A character is not a hex digit.
    #[error("not a hex digit")]
    Digit,
}

/// The bytes do not have the identifier's width.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("expected {expected} bytes, got {got}")]
pub struct WidthError {
    /// Width of the identifier in bytes.
    pub expected: usize,
    /// Width that was given.
    pub got: usize,
}

/// Writes bytes as lower-case hex, without allocation.
pub(crate) fn write_hex(bytes: &[u8], f: &mut fmt::Formatter<'_>) -> fmt::Result {
    // In pieces: a call for each digit takes ten times as long, and a status has thousands of these.
    const PIECE: usize = 32;
    let mut digits = [0; 2 * PIECE];
    bytes.chunks(PIECE).try_for_each(|piece| {
        let digits = digits.get_mut(..2 * piece.len()).ok_or(fmt::Error)?;
        hex::encode_to_slice(piece, digits).map_err(|_| fmt::Error)?;
        f.write_str(core::str::from_utf8(digits).map_err(|_| fmt::Error)?)
    })
}

/// Reads exactly `N` bytes of hex, with or without `0x`.
pub(crate) fn parse_hex<const N: usize>(text: &str) -> Result<[u8; N], ParseIdError> {
    let digits = text.strip_prefix("0x").unwrap_or(text);
    if digits.len() != 2 * N {
        return Err(ParseIdError::Length { expected: 2 * N, got: digits.len() });
    }
    let mut bytes = [0; N];
    hex::decode_to_slice(digits, &mut bytes).map_err(|_| ParseIdError::Digit)?;
    Ok(bytes)
}

/// Reads a CBOR byte string of exactly `N` bytes.
pub(crate) fn decode_exact<const N: usize>(
    d: &mut minicbor::Decoder<'_>,
) -> Result<[u8; N], minicbor::decode::Error> {
    let at = d.position();
    let bytes = d.bytes()?;
    bytes.try_into().map_err(|_| minicbor::decode::Error::message("byte string of another width").at(at))
}

macro_rules! byte_id {
    ($(#[$doc:meta])* $name:ident, $width:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name([u8; $width]);

        impl $name {
            /// Width in bytes.
            pub const LEN: usize = $width;

            /// Wraps the bytes; nothing is checked.
            pub const fn new(bytes: [u8; $width]) -> Self {
                Self(bytes)
            }

            /// The bytes.
            pub const fn as_bytes(&self) -> &[u8; $width] {
                &self.0
            }

            /// The bytes, by value.
            pub const fn to_bytes(self) -> [u8; $width] {
                self.0
            }
        }

        impl From<[u8; $width]> for $name {
            fn from(bytes: [u8; $width]) -> Self {
                Self(bytes)
            }
        }

        impl From<$name> for [u8; $width] {
            fn from(id: $name) -> Self {
                id.0
            }
        }

        impl TryFrom<&[u8]> for $name {
            type Error = WidthError;

            fn try_from(bytes: &[u8]) -> Result<Self, WidthError> {
                let got = bytes.len();
                bytes.try_into().map(Self).map_err(|_| WidthError { expected: $width, got })
            }
        }

        impl AsRef<[u8]> for $name {
            fn as_ref(&self) -> &[u8] {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write_hex(&self.0, f)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write_hex(&self.0, f)
            }
        }

        impl FromStr for $name {
            type Err = ParseIdError;

            fn from_str(text: &str) -> Result<Self, ParseIdError> {
                parse_hex(text).map(Self)
            }
        }

        impl<C> minicbor::Encode<C> for $name {
            fn encode<W: minicbor::encode::Write>(
                &self,
                e: &mut minicbor::Encoder<W>,
                _: &mut C,
            ) -> Result<(), minicbor::encode::Error<W::Error>> {
                e.bytes(&self.0)?.ok()
            }
        }

        impl<'b, C> minicbor::Decode<'b, C> for $name {
            fn decode(
                d: &mut minicbor::Decoder<'b>,
                _: &mut C,
            ) -> Result<Self, minicbor::decode::Error> {
                decode_exact(d).map(Self)
            }
        }
    };
}

byte_id!(
    /// A product: `vendor_id ‖ class_id`, the two UUIDs that a SUIT manifest names (RFC 9124).
    ProductId, 32
);
byte_id!(
    /// `U_id = H(U)`: SHA-256 of the firmware image, also the image digest in the manifest.
    UpdateId, 32
);
byte_id!(
    /// `P_id`: SHA-256 of the package's dag-cbor root block.
    PackageId, 32
);
byte_id!(
    /// SHA-256 of the encrypted image of key mode.
    BodyId, 32
);
byte_id!(
    /// `H(K)`: SHA-256 of the payload key of key mode.
    KeyId, 32
);
byte_id!(
    /// The statement that a proof is over, for one payload length.
    CircuitId, 32
);
byte_id!(
    /// SHA-256 of a verifying key.
    VkId, 32
);
byte_id!(
    /// SHA-256 of a proving key.
    PkId, 32
);
byte_id!(
    /// Root of the Merkle tree over a vendor's device keys.
    FleetRoot, 32
);
byte_id!(
    /// `s = H(r)`: what an exchange is locked with.
    LockHash, 32
);
byte_id!(
    /// Address of a bounty contract.
    Bounty, 20
);
byte_id!(
    /// Address that a distributor is paid at, `pk_d` of the paper.
    Payee, 20
);
byte_id!(
    /// SHA-256 of the bytes of a libp2p peer id.
    PeerHash, 32
);
byte_id!(
    /// A sensor's public key: SEC1, compressed. That it is a point on its curve is checked where it
    /// is used ([`crate::key::verify`]).
    DeviceKey, 33
);
byte_id!(
    /// The key that a vendor signs manifests and releases with: P-256, SEC1, compressed.
    ReleaseKey, 33
);
byte_id!(
    /// A sensor's short name in topics and paths: the first 16 bytes of SHA-256 of its key.
    DeviceId, 16
);
byte_id!(
    /// An ECDSA signature `r ‖ s`, each 32 bytes big-endian, `s` in the lower half.
    Signature, 64
);
byte_id!(
    /// A SHA-256 digest that a signature is made over.
    Digest, 32
);

impl ProductId {
    /// Joins the two UUIDs.
    pub fn from_parts(vendor: [u8; 16], class: [u8; 16]) -> Self {
        let mut bytes = [0; 32];
        bytes[..16].copy_from_slice(&vendor);
        bytes[16..].copy_from_slice(&class);
        Self(bytes)
    }

    /// The vendor's UUID, 16 bytes as in RFC 9562.
    pub fn vendor_id(&self) -> [u8; 16] {
        half(&self.0, 0)
    }

    /// The class's UUID, 16 bytes as in RFC 9562.
    pub fn class_id(&self) -> [u8; 16] {
        half(&self.0, 16)
    }
}

/// 16 bytes of `whole` from `at`, which is 0 or 16.
fn half(whole: &[u8; 32], at: usize) -> [u8; 16] {
    core::array::from_fn(|i| whole[at + i])
}

impl DeviceKey {
    /// The short name: the first 16 bytes of SHA-256 of the 33 bytes.
    pub fn device_id(&self) -> DeviceId {
        DeviceId(half(&Sha256::digest(self.0).into(), 0))
    }
}

macro_rules! number_id {
    ($(#[$doc:meta])* $name:ident, $int:ty) => {
        $(#[$doc])*
        #[derive(
            Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, minicbor::Encode, minicbor::Decode,
        )]
        #[cbor(transparent)]
        pub struct $name(#[n(0)] $int);

        impl $name {
            /// Wraps the number.
            pub const fn new(value: $int) -> Self {
                Self(value)
            }

            /// The number.
            pub const fn get(self) -> $int {
                self.0
            }
        }

        impl From<$int> for $name {
            fn from(value: $int) -> Self {
                Self(value)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }

        impl FromStr for $name {
            type Err = core::num::ParseIntError;

            fn from_str(text: &str) -> Result<Self, Self::Err> {
                text.parse().map(Self)
            }
        }
    };
}

number_id!(
    /// An Ethereum chain id (EIP-155).
    ChainId, u64
);
number_id!(
    /// A SUIT manifest sequence number: strictly increasing for a product.
    Version, u64
);
number_id!(
    /// Counts the distinct receipts that a sensor has signed for one version, from 1.
    Attempt, u8
);

/// The curve of a product's device keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, minicbor::Encode, minicbor::Decode)]
#[cbor(index_only)]
#[repr(u8)]
pub enum Curve {
    /// secp256k1 (SEC 2), which the EVM recovers natively.
    #[n(1)]
    Secp256k1 = 1,
    /// NIST P-256, which secure elements have.
    #[n(2)]
    P256 = 2,
}

impl fmt::Display for Curve {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Secp256k1 => "secp256k1",
            Self::P256 => "p256",
        })
    }
}
