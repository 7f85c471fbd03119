//! Why a sensor refuses.

use thiserror::Error;

use crate::id::{UpdateId, Version};
use crate::sensor::ErrorCode;
use crate::suit::SuitError;

/// Why the sensor did not do what it was asked. Nothing was changed and nothing was signed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum Error {
    /// Not a SUIT envelope, or its signature is not the vendor's.
    #[error("manifest: {0}")]
    BadManifest(#[from] SuitError),
    /// The manifest names another vendor than this sensor's.
    #[error("manifest of another vendor")]
    WrongVendor,
    /// The manifest names another class of device of this vendor.
    #[error("manifest for another class of device")]
    WrongClass,
    /// The sequence number is not above the installed one, or below one that was seen already.
    #[error("version {offered} offered, with {installed} installed and {highest} seen")]
    Downgrade {
        /// What the manifest says.
        offered: Version,
        /// What runs.
        installed: Version,
        /// The highest for which a valid manifest was seen.
        highest: Version,
    },
    /// Two signed manifests carry one sequence number: the vendor's mistake, or a stolen key.
    #[error("another image under version {0}")]
    Conflict(Version),
    /// The image does not fit the spare slot.
    #[error("image of {size} bytes for a slot of {slot}")]
    TooLarge {
        /// Bytes of the image.
        size: u32,
        /// Bytes of the spare slot.
        slot: u32,
    },
    /// The spare slot is being activated: too late for another update.
    #[error("activation is under way")]
    Activating,
    /// The new image did not boot as often as it may fail; a later version is awaited.
    #[error("version {0} did not boot")]
    GivenUp(Version),
    /// A sign request or a block for an image that is not the accepted manifest's.
    #[error("not this sensor's update: {0}")]
    NotThisUpdate(UpdateId),
    /// A delegation for this bounty was signed before, for another gateway.
    #[error("delegated to another gateway for this bounty already")]
    AlreadyDelegated,
    /// The receipt does not carry the next attempt number.
    #[error("attempt {got}, the next one is {next}")]
    WrongAttempt {
        /// Attempt in the request.
        got: u8,
        /// Attempt that the next distinct receipt must carry.
        next: u8,
    },
    /// As many distinct receipts were signed for this version as one version may have.
    #[error("{0} receipts signed for this version, no more")]
    AttemptExhausted(u8),
    /// A signature is being made; ask again.
    #[error("a signature is being made")]
    Busy,
    /// Bytes that were not asked for, or more than the image has.
    #[error("unexpected bytes at {0}")]
    Unexpected(u32),
    /// The persistent state is not one that this code has written.
    #[error("persistent state is damaged")]
    DamagedState,
}

impl Error {
    /// What to tell the gateway; nothing where it can do nothing about it.
    pub fn code(&self) -> Option<ErrorCode> {
        Some(match self {
            Self::BadManifest(_) | Self::Conflict(_) => ErrorCode::BadManifest,
            Self::WrongVendor | Self::WrongClass => ErrorCode::WrongProduct,
            Self::Downgrade { .. } | Self::GivenUp(_) => ErrorCode::Downgrade,
            Self::TooLarge { .. } => ErrorCode::TooLarge,
            Self::NotThisUpdate(_) | Self::AlreadyDelegated => ErrorCode::WrongUpdate,
            Self::WrongAttempt { .. } | Self::AttemptExhausted(_) => ErrorCode::BadAttempt,
            Self::Busy | Self::Activating => ErrorCode::Busy,
            Self::Unexpected(_) => ErrorCode::OutOfRange,
            Self::DamagedState => return None,
        })
    }
}
