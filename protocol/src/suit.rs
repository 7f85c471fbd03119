//! The SUIT manifest (draft-ietf-suit-manifest-34): what a sensor verifies before it believes
//! anything about an image.
//!
//! We write one shape of manifest and read exactly that one, so that a sensor needs no interpreter
//! of commands: one component, the shared sequence with vendor, class, digest and size, then install
//! (fetch, check), validate and invoke. Any SUIT processor can read it; ours takes the fields out and
//! compares everything else with what the vendor's tool writes.

use thiserror::Error;

use crate::cose::CoseError;
use crate::id::{ProductId, ReleaseKey, UpdateId, Version};
use crate::wire;

mod read;
#[cfg(test)]
mod tests;
mod write;

/// Most bytes of an envelope.
pub const MAX_ENVELOPE: usize = 512;

/// What a manifest says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Manifest {
    /// Its sequence number.
    pub sequence: Version,
    /// Vendor and class id of the devices that it is for.
    pub product: ProductId,
    /// SHA-256 of the image.
    pub u_id: UpdateId,
    /// Bytes of the image, at least 1.
    pub size: u32,
}

/// Why an envelope is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum SuitError {
    /// More than [`MAX_ENVELOPE`] bytes.
    #[error("envelope of {0} bytes, at most {MAX_ENVELOPE} allowed")]
    TooLong(usize),
    /// Not an envelope of our shape.
    #[error("malformed envelope at byte {0}")]
    Malformed(usize),
    /// The fields can be read, but something else differs from the one form of such a manifest.
    #[error("envelope is not in the expected form")]
    NotCanonical,
    /// The digest in the authentication wrapper is not the manifest's.
    #[error("digest is not of this manifest")]
    Digest,
    /// The image has no bytes.
    #[error("image is empty")]
    EmptyImage,
    /// The signature does not verify.
    #[error(transparent)]
    Signature(#[from] CoseError),
}

/// Verifies an envelope: shape, digest of the manifest, signature by the vendor's release key.
///
/// Whether product, sequence number and size suit the device is the caller's to check. Nothing is
/// allocated.
///
/// # Errors
/// [`SuitError`], which says what is wrong.
// Not in its caller's frame, which is on the stack all the time.
#[inline(never)]
pub fn verify(envelope: &[u8], release_key: &ReleaseKey) -> Result<Manifest, SuitError> {
    if envelope.len() > MAX_ENVELOPE {
        return Err(SuitError::TooLong(envelope.len()));
    }
    let read = read::envelope(envelope)?;
    let manifest = read.manifest;
    // The digest comes before the signature (draft, 8.3), so that what was checked is what is used.
    let digest = write::manifest_digest(&manifest);
    if digest != read.digest {
        return Err(SuitError::Digest);
    }
    if !wire::encodes_to(&write::Envelope::new(manifest, read.signature), envelope) {
        return Err(SuitError::NotCanonical);
    }
    release_key.verify(&write::signed_digest(&digest), &read.signature)?;
    if manifest.size == 0 {
        return Err(SuitError::EmptyImage);
    }
    Ok(manifest)
}

/// Writes and signs the envelope of a manifest.
#[cfg(feature = "alloc")]
pub fn build(manifest: &Manifest, key: &crate::cose::ReleaseSigningKey) -> alloc::vec::Vec<u8> {
    let digest = write::manifest_digest(manifest);
    let signature = key.sign(&write::signed_digest(&digest));
    wire::to_vec(&write::Envelope::new(*manifest, signature))
}
