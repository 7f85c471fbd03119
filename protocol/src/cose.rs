//! COSE_Sign1 with ES256 (RFC 9052, RFC 9053), as manifests and releases use it.
//!
//! Only the two shapes that we write are read, so nothing of COSE needs to be interpreted: the
//! algorithm is always ES256, the unprotected header is empty.

use core::fmt;

use minicbor::encode::Write;
use minicbor::{Encode, Encoder, encode};
#[cfg(feature = "alloc")]
use p256::ecdsa::signature::hazmat::PrehashSigner as _;
use p256::ecdsa::signature::hazmat::PrehashVerifier as _;
use thiserror::Error;

use crate::id::{Digest, ReleaseKey, Signature};
use crate::key;
use crate::wire;

/// CBOR tag of COSE_Sign1.
pub(crate) const SIGN1_TAG: u64 = 18;
/// COSE algorithm number of ECDSA with SHA-256.
pub(crate) const ES256: i8 = -7;

/// Why a release key or a signature by it is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum CoseError {
    /// The key is not a compressed point on P-256.
    #[error("release key is not a point on P-256")]
    Key,
    /// `r` or `s` is zero or not below the order.
    #[error("r or s out of range")]
    Range,
    /// Not a signature of this content by this key.
    #[error("signature is not by the release key")]
    Signature,
    /// Not a private key of P-256.
    #[error("private key out of the range of P-256")]
    PrivateKey,
}

impl ReleaseKey {
    /// Checks that the bytes are a compressed point on P-256.
    ///
    /// # Errors
    /// [`CoseError::Key`].
    pub fn check(&self) -> Result<(), CoseError> {
        self.verifying_key().map(|_| ())
    }

    /// Verifies a signature of a prehashed `Sig_structure`. Either form of `s` is taken: RFC 9053
    /// asks for none, and hardware that holds release keys may give the high one.
    pub(crate) fn verify(&self, digest: &Digest, signature: &Signature) -> Result<(), CoseError> {
        let signature =
            p256::ecdsa::Signature::from_slice(signature.as_bytes()).map_err(|_| CoseError::Range)?;
        self.verifying_key()?.verify_prehash(digest.as_bytes(), &signature).map_err(|_| CoseError::Signature)
    }

    fn verifying_key(&self) -> Result<p256::ecdsa::VerifyingKey, CoseError> {
        // SEC1's tag 5 also has 33 bytes: another name for the same point.
        if !matches!(self.as_bytes()[0], 2 | 3) {
            return Err(CoseError::Key);
        }
        p256::ecdsa::VerifyingKey::from_sec1_bytes(self.as_bytes()).map_err(|_| CoseError::Key)
    }
}

/// The private half of a [`ReleaseKey`]; its scalar is wiped when it is dropped.
#[derive(Clone)]
pub struct ReleaseSigningKey(p256::ecdsa::SigningKey);

impl ReleaseSigningKey {
    /// Takes the 32-byte big-endian scalar.
    ///
    /// # Errors
    /// [`CoseError::PrivateKey`] for zero or a number not below the order.
    pub fn from_bytes(scalar: &[u8; 32]) -> Result<Self, CoseError> {
        p256::ecdsa::SigningKey::from_slice(scalar).map(Self).map_err(|_| CoseError::PrivateKey)
    }

    /// Makes a fresh key from a cryptographic source that fills the bytes it is given.
    ///
    /// # Errors
    /// [`CoseError::PrivateKey`] if the source keeps giving bytes that are no scalar.
    pub fn generate(fill: impl FnMut(&mut [u8; 32])) -> Result<Self, CoseError> {
        key::draw(fill, |scalar| Self::from_bytes(scalar).ok()).ok_or(CoseError::PrivateKey)
    }

    /// The private scalar, 32 bytes big-endian: whoever takes it wipes it.
    pub fn to_bytes(&self) -> [u8; 32] {
        self.0.to_bytes().into()
    }

    /// The public half.
    pub fn release_key(&self) -> ReleaseKey {
        let mut bytes = [0; 33];
        bytes.copy_from_slice(self.0.verifying_key().to_encoded_point(true).as_bytes());
        ReleaseKey::new(bytes)
    }

    /// Signs a prehashed `Sig_structure`: deterministic (RFC 6979), low `s`.
    #[cfg(feature = "alloc")]
    pub(crate) fn sign(&self, digest: &Digest) -> Signature {
        let signed: Result<p256::ecdsa::Signature, _> = self.0.sign_prehash(digest.as_bytes());
        let signed = signed.expect("RFC 6979 signs every 32-byte digest");
        Signature::new(signed.normalize_s().unwrap_or(signed).to_bytes().into())
    }
}

impl fmt::Debug for ReleaseSigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ReleaseSigningKey({}, …)", self.release_key())
    }
}

/// `Sig_structure` of RFC 9052, 4.4, for a COSE_Sign1 without external data.
pub(crate) struct SigStructure<'a, P> {
    /// The protected header, as it is encoded inside its byte string.
    pub(crate) protected: P,
    /// The payload's bytes.
    pub(crate) payload: &'a [u8],
}

impl<P: Encode<()>> SigStructure<'_, P> {
    /// The SHA-256 that ES256 signs.
    pub(crate) fn digest(&self) -> Digest {
        wire::sha256(self)
    }
}

impl<C, P: Encode<()>> Encode<C> for SigStructure<'_, P> {
    fn encode<W: Write>(&self, e: &mut Encoder<W>, _: &mut C) -> Result<(), encode::Error<W::Error>> {
        e.array(4)?
            .str("Signature1")?
            .encode(wire::Wrapped(&self.protected))?
            .bytes(&[])?
            .bytes(self.payload)?
            .ok()
    }
}
