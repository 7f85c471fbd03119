//! A P-256 key in software, where a product has a secure element. `posthouse_protocol::key` does the same for both curves,
//! and links both.

use p256::ecdsa::signature::hazmat::PrehashSigner as _;
use p256::ecdsa::{self, SigningKey};
use posthouse_protocol::id::{Curve, DeviceKey, Digest, Signature};
use thiserror::Error;

use crate::ports::Key;

/// A P-256 key that is software.
#[derive(Clone)]
pub struct P256Key(SigningKey);

/// A digest could not be signed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("the digest was not signed")]
pub struct NotSigned;

impl P256Key {
    /// Takes the scalar, 32 bytes big-endian; nothing if it is out of range.
    pub fn new(scalar: &[u8; 32]) -> Option<Self> {
        SigningKey::from_slice(scalar).ok().map(Self)
    }
}

impl Key for P256Key {
    type Error = NotSigned;

    fn public(&self) -> DeviceKey {
        let mut key = [0; 33];
        key.copy_from_slice(self.0.verifying_key().to_encoded_point(true).as_bytes());
        DeviceKey::new(key)
    }

    fn curve(&self) -> Curve {
        Curve::P256
    }

    /// Deterministic (RFC 6979).
    fn sign(&mut self, digest: &Digest) -> Result<Signature, NotSigned> {
        let signed: Result<ecdsa::Signature, _> = self.0.sign_prehash(digest.as_bytes());
        let low = signed.map(|signature| signature.normalize_s().unwrap_or(signature));
        low.map(|signature| Signature::new(signature.to_bytes().into())).map_err(|_| NotSigned)
    }
}

impl core::fmt::Debug for P256Key {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("P256Key(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use posthouse_protocol::key;

    #[test]
    fn it_signs_as_the_key_of_the_protocol_does() {
        let other = key::SigningKey::from_bytes(Curve::P256, &[7; 32]).unwrap();
        let mut own = P256Key::new(&[7; 32]).unwrap();
        assert_eq!((own.public(), own.curve()), (other.device_key(), other.curve()));
        for byte in 0..32 {
            let digest = Digest::new([byte; 32]);
            let signature = own.sign(&digest).unwrap();
            assert_eq!(signature, other.sign(&digest));
            key::verify(Curve::P256, &own.public(), &digest, &signature).unwrap();
        }
        assert!(P256Key::new(&[0; 32]).is_none() && P256Key::new(&[0xff; 32]).is_none());
    }
}
