//! The release: everything about an update that gateways and distributors rely on, signed by the
//! vendor. It is the paper's `sign{U_id, vk}`, widened.
//!
//! A COSE_Sign1 (ES256) over a deterministic CBOR map; `protocol/posthouse.cddl` defines it.

use alloc::vec::Vec;

use minicbor::{Decode, Encode};
use thiserror::Error;

use crate::cose::{CoseError, ReleaseSigningKey, SigStructure};
use crate::id::{
    BodyId, CircuitId, Curve, FleetRoot, KeyId, PkId, ProductId, ReleaseKey, UpdateId, Version, VkId,
};
use crate::suit::Manifest;
use crate::wire::{self, WireError};

mod sign1;

/// Content type in the protected header.
pub const CONTENT_TYPE: &str = "application/vnd.posthouse.release+cbor";
/// Most bytes of a sealed release.
pub const MAX_RELEASE: usize = 1024;
/// Most bytes of an image: a sensor counts offsets in 32 bits.
pub const MAX_IMAGE: u64 = u32::MAX as u64;
/// Most bytes of an image in file mode: an offer must hold its cipher.
pub const MAX_FILE_MODE: u64 = crate::exchange::MAX_CIPHER as u64;
/// Most bytes of a proving key that anyone is asked to fetch: 64 GiB.
pub const MAX_PROVING_KEY: u64 = 1 << 36;
/// Most levels of the fleet's tree: an index is a `u32`.
pub const MAX_DEPTH: u8 = 32;

/// What is sold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Encode, Decode)]
#[cbor(index_only)]
#[repr(u8)]
pub enum Mode {
    /// The image itself, as in the paper.
    #[n(0)]
    File = 0,
    /// The key of the image's one encryption.
    #[n(1)]
    Key = 1,
}

/// A release.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Release {
    /// Vendor and class id.
    #[n(0)]
    pub product: ProductId,
    /// The manifest's sequence number.
    #[n(1)]
    pub version: Version,
    /// What is sold.
    #[n(2)]
    pub mode: Mode,
    /// SHA-256 of the image.
    #[n(3)]
    pub u_id: UpdateId,
    /// Bytes of the image, 1 to [`MAX_IMAGE`].
    #[n(4)]
    pub size: u64,
    /// SHA-256 of the encrypted image; in key mode only.
    #[n(5)]
    pub body_id: Option<BodyId>,
    /// Bytes of the encrypted image: `size` in key mode, 0 in file mode.
    #[n(6)]
    pub body_size: u64,
    /// SHA-256 of the payload key; in key mode only.
    #[n(7)]
    pub key_id: Option<KeyId>,
    /// The statement that proofs are over.
    #[n(8)]
    pub circuit_id: CircuitId,
    /// The verifying key.
    #[n(9)]
    pub vk_id: VkId,
    /// The proving key.
    #[n(10)]
    pub pk_id: PkId,
    /// Bytes of the proving key, 1 to [`MAX_PROVING_KEY`].
    #[n(11)]
    pub pk_size: u64,
    /// Root of the tree over the device keys.
    #[n(12)]
    pub fleet_root: FleetRoot,
    /// Levels of the tree, at most [`MAX_DEPTH`].
    #[n(13)]
    pub fleet_depth: u8,
    /// Devices, 1 to `2^fleet_depth`.
    #[n(14)]
    pub fleet_size: u32,
    /// Curve of the device keys.
    #[n(15)]
    pub curve: Curve,
}

/// Why a release is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum ReleaseError {
    /// Not a COSE_Sign1 of our shape over a release in its one form.
    #[error(transparent)]
    Wire(#[from] WireError),
    /// The signature does not verify.
    #[error(transparent)]
    Signature(#[from] CoseError),
    /// `body_id`, `key_id` or `body_size` do not fit the mode.
    #[error("body and key do not fit {0:?} mode")]
    Mode(Mode),
    /// The image is empty or larger than the mode allows.
    #[error("image of {size} bytes, 1 to {max} allowed")]
    Size {
        /// Bytes of the image.
        size: u64,
        /// Bytes that the mode allows.
        max: u64,
    },
    /// The proving key is empty or too large.
    #[error("proving key of {0} bytes, 1 to {MAX_PROVING_KEY} allowed")]
    ProvingKey(u64),
    /// More devices than the tree has leaves, none, or too deep a tree.
    #[error("{size} devices in a tree of depth {depth}")]
    Fleet {
        /// Devices.
        size: u32,
        /// Levels.
        depth: u8,
    },
    /// Manifest and release are of different updates.
    #[error("manifest and release differ in {0}")]
    Manifest(&'static str),
}

impl Release {
    /// Checks that the fields fit each other and are within their bounds.
    ///
    /// # Errors
    /// [`ReleaseError`], but for its wire and signature variants.
    pub fn check(&self) -> Result<(), ReleaseError> {
        self.check_mode()?;
        self.check_sizes()?;
        let leaves = 1u64.checked_shl(self.fleet_depth.into()).unwrap_or(0);
        let fits = self.fleet_size >= 1 && u64::from(self.fleet_size) <= leaves;
        if self.fleet_depth > MAX_DEPTH || !fits {
            return Err(ReleaseError::Fleet { size: self.fleet_size, depth: self.fleet_depth });
        }
        Ok(())
    }

    fn check_mode(&self) -> Result<(), ReleaseError> {
        let fits = match self.mode {
            Mode::File => self.body_id.is_none() && self.key_id.is_none() && self.body_size == 0,
            Mode::Key => self.body_id.is_some() && self.key_id.is_some() && self.body_size == self.size,
        };
        if fits { Ok(()) } else { Err(ReleaseError::Mode(self.mode)) }
    }

    fn check_sizes(&self) -> Result<(), ReleaseError> {
        let max = match self.mode {
            Mode::File => MAX_FILE_MODE,
            Mode::Key => MAX_IMAGE,
        };
        if !(1..=max).contains(&self.size) {
            return Err(ReleaseError::Size { size: self.size, max });
        }
        if !(1..=MAX_PROVING_KEY).contains(&self.pk_size) {
            return Err(ReleaseError::ProvingKey(self.pk_size));
        }
        Ok(())
    }

    /// Checks that a manifest is of the same update.
    ///
    /// # Errors
    /// [`ReleaseError::Manifest`] names what differs.
    pub fn check_manifest(&self, manifest: &Manifest) -> Result<(), ReleaseError> {
        let differs = if self.product != manifest.product {
            "product"
        } else if self.version != manifest.sequence {
            "version"
        } else if self.u_id != manifest.u_id {
            "u_id"
        } else if self.size != u64::from(manifest.size) {
            "size"
        } else {
            return Ok(());
        };
        Err(ReleaseError::Manifest(differs))
    }
}

/// Signs a release.
///
/// # Errors
/// As [`Release::check`]: what [`open`] would refuse is not signed.
pub fn seal(release: &Release, key: &ReleaseSigningKey) -> Result<Vec<u8>, ReleaseError> {
    release.check()?;
    let payload = wire::to_vec(release);
    let signature = key.sign(&SigStructure { protected: sign1::Protected, payload: &payload }.digest());
    Ok(wire::to_vec(&sign1::Sign1 { payload: &payload, signature }))
}

/// Opens a sealed release: form, signature, then the consistency of its fields.
///
/// # Errors
/// [`ReleaseError`], which says what is wrong.
pub fn open(sealed: &[u8], key: &ReleaseKey) -> Result<Release, ReleaseError> {
    let sign1: sign1::Sign1<'_> = wire::decode(sealed, MAX_RELEASE)?;
    let signed = SigStructure { protected: sign1::Protected, payload: sign1.payload }.digest();
    key.verify(&signed, &sign1.signature)?;
    let release: Release = wire::decode(sign1.payload, MAX_RELEASE)?;
    release.check()?;
    Ok(release)
}
