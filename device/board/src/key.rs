//! A P-256 key in the processor's own flash, where a product has a secure element. `posthouse_protocol::key` would do the
//! same for both curves, and link both.

use core::convert::Infallible;

use p256::ecdsa::signature::hazmat::PrehashSigner as _;
use p256::ecdsa::{self, SigningKey};
use posthouse_device::Key;
use posthouse_protocol::id::{Curve, DeviceKey, Digest, Signature};

/// A key that is software.
pub struct SoftKey(SigningKey);

impl SoftKey {
    /// Takes the scalar, 32 bytes big-endian; nothing if it is out of range.
    pub fn new(scalar: &[u8; 32]) -> Option<Self> {
        SigningKey::from_slice(scalar).ok().map(Self)
    }
}

impl Key for SoftKey {
    type Error = Infallible;

    fn public(&self) -> DeviceKey {
        let point = self.0.verifying_key().to_encoded_point(true);
        let mut key = [0; 33];
        key.copy_from_slice(point.as_bytes());
        DeviceKey::new(key)
    }

    fn curve(&self) -> Curve {
        Curve::P256
    }

    fn sign(&mut self, digest: &Digest) -> Result<Signature, Infallible> {
        // RFC 6979 signs every 32-byte digest; a signature of zeros would only be refused.
        let signed: Result<ecdsa::Signature, _> = self.0.sign_prehash(digest.as_bytes());
        let low = signed.map(|signature| signature.normalize_s().unwrap_or(signature));
        Ok(Signature::new(low.map_or([0; 64], |signature| signature.to_bytes().into())))
    }
}
