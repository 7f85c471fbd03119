//! What is to be delivered: the terms on chain, and a package that agrees with them.

use alloc::vec::Vec;

use thiserror::Error;

use crate::id::{Bounty, ChainId, Curve, FleetRoot, PackageId, ProductId, ReleaseKey, UpdateId, Version};
use crate::package::Package;
use crate::release::{self, Mode, Release, ReleaseError};
use crate::suit::{self, SuitError};

/// An announced update: what the chain says about it, and all that is believed before the package.
#[derive(Debug, Clone, PartialEq, Eq, minicbor::Encode, minicbor::Decode)]
#[cbor(map)]
pub struct Update {
    /// Chain that the bounty is on.
    #[n(0)]
    pub chain: ChainId,
    /// The bounty contract.
    #[n(1)]
    pub bounty: Bounty,
    /// Product that the version is of.
    #[n(2)]
    pub product: ProductId,
    /// Sequence number.
    #[n(3)]
    pub version: Version,
    /// Digest of the image.
    #[n(4)]
    pub u_id: UpdateId,
    /// Digest of the package's root block.
    #[n(5)]
    pub p_id: PackageId,
    /// Root of the tree of device keys.
    #[n(6)]
    pub fleet_root: FleetRoot,
    /// Depth of that tree.
    #[n(7)]
    pub fleet_depth: u8,
    /// Last moment for a claim, Unix seconds.
    #[n(8)]
    pub claim_by: u64,
    /// How long a reservation locks, seconds.
    #[n(9)]
    pub lock_secs: u64,
    /// Curve of the device keys.
    #[n(10)]
    pub curve: Curve,
}

impl Update {
    /// Unix milliseconds after which nothing about this bounty can be paid or locked.
    pub fn ends_ms(&self) -> u64 {
        self.claim_by.saturating_add(self.lock_secs).saturating_mul(1000)
    }

    /// `claimBy` in Unix milliseconds.
    pub fn claim_by_ms(&self) -> u64 {
        self.claim_by.saturating_mul(1000)
    }
}

/// Why a package is not the one that the chain announces.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum PackageFault {
    /// The root block has another digest than the chain's `pId`.
    #[error("the package is {0}, not the one announced")]
    Id(PackageId),
    /// The release envelope is not the vendor's.
    #[error("release: {0}")]
    Release(#[from] ReleaseError),
    /// The manifest is not the vendor's.
    #[error("manifest: {0}")]
    Manifest(#[from] SuitError),
    /// Release, manifest and chain do not say the same.
    #[error("release, manifest and chain disagree about the {0}")]
    Disagree(&'static str),
    /// A key-mode release without a body, or a file-mode release with one.
    #[error("the release's mode and its body do not go together")]
    Mode,
    /// The verifying key is not the release's, or is for another length.
    #[error("the verifying key is not the release's")]
    VerifyingKey,
    /// The payload key of another release: who bought that one has this one.
    #[error("the payload key was used for another release")]
    KeyReused,
    /// Not a package.
    #[error("not a package: {0}")]
    Wire(#[from] crate::wire::WireError),
}

/// A package whose release, manifest and chain agree, signed by the configured release key.
///
/// Made only by [`CheckedRelease::check`]; the machine does nothing with an update before it has one.
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use]
pub struct CheckedRelease {
    release: Release,
    manifest: Vec<u8>,
}

impl CheckedRelease {
    /// Checks everything that a gateway relies on, in the order of trust: the chain names the
    /// package, the configured key signed the release and the manifest, all three say the same.
    ///
    /// # Errors
    /// The first disagreement as [`PackageFault`].
    pub fn check(update: &Update, package: &Package, key: &ReleaseKey) -> Result<Self, PackageFault> {
        let id = package.id();
        if id != update.p_id {
            return Err(PackageFault::Id(id));
        }
        let release = release::open(&package.release, key)?;
        let manifest = suit::verify(&package.manifest, key)?;
        agree("product", [release.product, manifest.product, update.product])?;
        agree("version", [release.version, manifest.sequence, update.version])?;
        agree("image digest", [release.u_id, manifest.u_id, update.u_id])?;
        agree("fleet root", [release.fleet_root, update.fleet_root])?;
        agree("fleet depth", [release.fleet_depth, update.fleet_depth])?;
        agree("curve", [release.curve, update.curve])?;
        agree("size", [release.size, u64::from(manifest.size)])?;
        if package.body.is_some() != (release.mode == Mode::Key) {
            return Err(PackageFault::Mode);
        }
        Ok(Self { release, manifest: package.manifest.clone() })
    }

    /// The release.
    pub fn release(&self) -> &Release {
        &self.release
    }

    /// The SUIT envelope that sensors verify.
    pub fn manifest(&self) -> &[u8] {
        &self.manifest
    }

    /// Curve of the product's device keys.
    pub fn curve(&self) -> Curve {
        self.release.curve
    }

    /// What the proof is about: `U_id` in file mode, `key_id` in key mode.
    pub fn target(&self) -> [u8; 32] {
        match (self.release.mode, self.release.key_id) {
            (Mode::Key, Some(key_id)) => key_id.to_bytes(),
            _ => self.release.u_id.to_bytes(),
        }
    }

    /// Length of the sold secret in bytes: the file's, or the payload key's.
    pub fn payload_len(&self) -> u64 {
        match self.release.mode {
            Mode::File => self.release.size,
            Mode::Key => 32,
        }
    }

    /// Whether the gateway needs the encrypted body as well.
    pub fn needs_body(&self) -> bool {
        self.release.mode == Mode::Key
    }
}

/// All the same, or the name of what differs.
fn agree<T: PartialEq, const N: usize>(what: &'static str, values: [T; N]) -> Result<(), PackageFault> {
    if values.windows(2).all(|pair| pair[0] == pair[1]) { Ok(()) } else { Err(PackageFault::Disagree(what)) }
}
