//! A vendor's devices: their Merkle tree, as the bounty checks it, the file that lists them, and its index.
//!
//! A million devices fit no small machine's memory, so all of it is on disk: the fleet file travels, and
//! the index beside it ([`Fleet`]) says where a key stands and by which path.
//!
//! A leaf is `keccak256(address ‖ index u32)` for secp256k1 and `keccak256(x ‖ y ‖ index u32)` for P-256.
//! The tree is perfect, of the least depth that holds all leaves; empty places hold zero. The index says
//! on each level which side a node is on, and paths have the exact depth, so that a leaf has one place
//! and an inner node (64 bytes hashed) is never taken for a leaf (24 or 68 bytes).

use alloy::primitives::{Address, B256, keccak256};
use k256::elliptic_curve::sec1::ToEncodedPoint as _;
use posthouse_protocol::id::{Curve, DeviceKey, FleetRoot};
use thiserror::Error;

pub use self::file::{FleetReader, FleetWriter, MAGIC, file_len};
pub use self::roster::Fleet;
pub use self::tree::{Tree, verify};

mod build;
mod disk;
mod file;
mod index;
mod roster;
mod sort;
mod tree;

/// Why a fleet, a place in it or a file of it is not valid.
#[derive(Debug, Error)]
pub enum FleetError {
    /// There is nobody to pay.
    #[error("the fleet is empty")]
    Empty,
    /// Indices are `u32`.
    #[error("a fleet has at most {} devices", u32::MAX)]
    TooMany,
    /// The bytes are no compressed point of the curve.
    #[error("device {index}: {key} is not a compressed {curve} key")]
    Key {
        /// Place in the fleet.
        index: u32,
        /// What stands there.
        key: DeviceKey,
        /// What it should be on.
        curve: Curve,
    },
    /// A device that stands twice could be paid for twice.
    #[error("devices {first} and {second} have the same key")]
    Duplicate {
        /// The lower place.
        first: u32,
        /// The higher place.
        second: u32,
    },
    /// The index is beyond the fleet.
    #[error("index {index} is beyond the {size} devices of the fleet")]
    Index {
        /// What was asked for.
        index: u32,
        /// Devices in the fleet.
        size: u32,
    },
    /// Indices of a multiproof ascend strictly, and there is at least one.
    #[error("the indices of a batch must ascend strictly and be at least one")]
    Order,
    /// The path has another length than the tree is deep.
    #[error("a path of {got} for a tree of depth {depth}")]
    Depth {
        /// Of the tree.
        depth: u8,
        /// Length of the path.
        got: usize,
    },
    /// The path does not lead to the root.
    #[error("device {0} is not in the fleet by this path")]
    NotAMember(u32),
    /// The file is none of ours, or of another version.
    #[error("not a fleet file")]
    Magic,
    /// Another fleet than the one that was meant.
    #[error("the fleet has root {found}, not {expected}")]
    Root {
        /// What was meant.
        expected: FleetRoot,
        /// Of the fleet file.
        found: FleetRoot,
    },
    /// The file names a curve that does not exist.
    #[error("fleet file for curve {0}")]
    Curve(u8),
    /// The file has another number of keys than it says, or it or its index could not be read or written.
    #[error("fleet file: {0}")]
    Io(#[from] std::io::Error),
}

/// The leaf of the device with this key at this index.
///
/// # Errors
/// [`FleetError::Key`]: not a compressed point of the curve.
pub fn leaf(curve: Curve, key: &DeviceKey, index: u32) -> Result<B256, FleetError> {
    let bad = || FleetError::Key { index, key: *key, curve };
    let xy = coordinates(curve, key).ok_or_else(bad)?;
    let mut preimage = Vec::with_capacity(68);
    match curve {
        Curve::Secp256k1 => preimage.extend_from_slice(address_of(&xy).as_slice()),
        Curve::P256 => preimage.extend_from_slice(&xy),
    }
    preimage.extend_from_slice(&index.to_be_bytes());
    Ok(keccak256(preimage))
}

/// The Ethereum address of a secp256k1 device key: what the bounty recovers from its receipts. `None`
/// if the bytes are no compressed point.
pub fn address(key: &DeviceKey) -> Option<Address> {
    coordinates(Curve::Secp256k1, key).map(|xy| address_of(&xy))
}

fn address_of(xy: &[u8; 64]) -> Address {
    Address::from_slice(&keccak256(xy)[12..])
}

/// x ‖ y of a compressed key, each 32 bytes big-endian.
pub(crate) fn coordinates(curve: Curve, key: &DeviceKey) -> Option<[u8; 64]> {
    let bytes = key.as_bytes();
    if !matches!(bytes[0], 2 | 3) {
        return None;
    }
    let uncompressed = match curve {
        Curve::Secp256k1 => {
            k256::PublicKey::from_sec1_bytes(bytes).ok()?.to_encoded_point(false).as_bytes().to_vec()
        }
        Curve::P256 => {
            p256::PublicKey::from_sec1_bytes(bytes).ok()?.to_encoded_point(false).as_bytes().to_vec()
        }
    };
    uncompressed.get(1..)?.try_into().ok()
}
