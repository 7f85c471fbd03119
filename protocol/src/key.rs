//! Device keys: ECDSA over secp256k1 or P-256 on SHA-256 digests, one signature a message.
//!
//! Both halves of the malleability are closed: `s` must be in the lower half of the order, and keys
//! come only in the compressed form.

use k256::ecdsa::signature::hazmat::{PrehashSigner, PrehashVerifier};
use thiserror::Error;
use zeroize::Zeroizing;

use crate::id::{Curve, DeviceKey, Digest, Signature};

/// Times that a fresh scalar is drawn before the source of randomness is called broken. One draw in
/// 2^32 or fewer misses the range of either curve.
const DRAWS: usize = 8;

/// Why a signature is not one by the key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum SignatureError {
    /// The key is not a compressed point on the curve.
    #[error("not a point on {0}")]
    Key(Curve),
    /// `r` or `s` is zero or not below the order.
    #[error("r or s out of range")]
    Range,
    /// `s` is in the upper half: the same signature has another form.
    #[error("s is not in the lower half of the order")]
    HighS,
    /// A well-formed signature, but not of this digest by this key.
    #[error("signature does not verify")]
    Mismatch,
}

/// Why bytes are not a private key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum KeyError {
    /// Zero, or not below the order of the curve.
    #[error("private key out of the range of {0}")]
    Range(Curve),
}

/// Checks that `signature` is the one low-`s` signature form of `digest` by `key`.
///
/// # Errors
/// [`SignatureError`], which says what is wrong.
pub fn verify(
    curve: Curve,
    key: &DeviceKey,
    digest: &Digest,
    signature: &Signature,
) -> Result<(), SignatureError> {
    match curve {
        Curve::Secp256k1 => secp256k1(key, digest, signature),
        Curve::P256 => p256(key, digest, signature),
    }
}

/// Checks that `key` is a compressed point on the curve.
///
/// # Errors
/// [`SignatureError::Key`].
pub fn check_key(curve: Curve, key: &DeviceKey) -> Result<(), SignatureError> {
    let valid = compressed(key)
        && match curve {
            Curve::Secp256k1 => k256::ecdsa::VerifyingKey::from_sec1_bytes(key.as_bytes()).is_ok(),
            Curve::P256 => p256::ecdsa::VerifyingKey::from_sec1_bytes(key.as_bytes()).is_ok(),
        };
    if valid { Ok(()) } else { Err(SignatureError::Key(curve)) }
}

/// SEC1's other tag of 33 bytes, 5, is "compact": another name for the same point.
fn compressed(key: &DeviceKey) -> bool {
    matches!(key.as_bytes()[0], 2 | 3)
}

macro_rules! verify_on {
    ($name:ident, $lib:ident, $curve:expr) => {
        fn $name(key: &DeviceKey, digest: &Digest, signature: &Signature) -> Result<(), SignatureError> {
            check_key($curve, key)?;
            let key = $lib::ecdsa::VerifyingKey::from_sec1_bytes(key.as_bytes())
                .map_err(|_| SignatureError::Key($curve))?;
            let signature = $lib::ecdsa::Signature::from_slice(signature.as_bytes())
                .map_err(|_| SignatureError::Range)?;
            if signature.normalize_s().is_some() {
                return Err(SignatureError::HighS);
            }
            key.verify_prehash(digest.as_bytes(), &signature).map_err(|_| SignatureError::Mismatch)
        }
    };
}

verify_on!(secp256k1, k256, Curve::Secp256k1);
verify_on!(p256, p256, Curve::P256);

/// A device's private key; its scalar is wiped when it is dropped.
#[derive(Clone)]
pub enum SigningKey {
    /// On secp256k1.
    Secp256k1(k256::ecdsa::SigningKey),
    /// On P-256.
    P256(p256::ecdsa::SigningKey),
}

impl SigningKey {
    /// Takes the 32-byte big-endian scalar.
    ///
    /// # Errors
    /// [`KeyError::Range`].
    pub fn from_bytes(curve: Curve, scalar: &[u8; 32]) -> Result<Self, KeyError> {
        match curve {
            Curve::Secp256k1 => k256::ecdsa::SigningKey::from_slice(scalar).map(Self::Secp256k1).ok(),
            Curve::P256 => p256::ecdsa::SigningKey::from_slice(scalar).map(Self::P256).ok(),
        }
        .ok_or(KeyError::Range(curve))
    }

    /// Makes a fresh key from a cryptographic source that fills the bytes it is given.
    ///
    /// # Errors
    /// [`KeyError::Range`] if the source keeps giving bytes that are no scalar, as a broken one does.
    pub fn generate(curve: Curve, fill: impl FnMut(&mut [u8; 32])) -> Result<Self, KeyError> {
        draw(fill, |scalar| Self::from_bytes(curve, scalar).ok()).ok_or(KeyError::Range(curve))
    }

    /// The curve that the key is on.
    pub fn curve(&self) -> Curve {
        match self {
            Self::Secp256k1(_) => Curve::Secp256k1,
            Self::P256(_) => Curve::P256,
        }
    }

    /// The public key.
    pub fn device_key(&self) -> DeviceKey {
        let mut bytes = [0; 33];
        match self {
            Self::Secp256k1(key) => {
                bytes.copy_from_slice(key.verifying_key().to_encoded_point(true).as_bytes());
            }
            Self::P256(key) => {
                bytes.copy_from_slice(key.verifying_key().to_encoded_point(true).as_bytes());
            }
        }
        DeviceKey::new(bytes)
    }

    /// The private scalar, 32 bytes big-endian, for keeping it in a file: whoever takes it wipes it.
    pub fn to_bytes(&self) -> [u8; 32] {
        match self {
            Self::Secp256k1(key) => key.to_bytes().into(),
            Self::P256(key) => key.to_bytes().into(),
        }
    }

    /// Signs a digest: deterministic (RFC 6979), low `s`.
    pub fn sign(&self, digest: &Digest) -> Signature {
        let bytes = match self {
            Self::Secp256k1(key) => {
                let signed: Result<k256::ecdsa::Signature, _> = key.sign_prehash(digest.as_bytes());
                signed.map(|s| s.normalize_s().unwrap_or(s).to_bytes())
            }
            Self::P256(key) => {
                let signed: Result<p256::ecdsa::Signature, _> = key.sign_prehash(digest.as_bytes());
                signed.map(|s| s.normalize_s().unwrap_or(s).to_bytes())
            }
        };
        Signature::new(bytes.expect("RFC 6979 signs every 32-byte digest").into())
    }
}

/// Draws scalars until one is taken, wiping what was drawn; `None` if none of [`DRAWS`] is.
pub(crate) fn draw<T>(
    mut fill: impl FnMut(&mut [u8; 32]),
    take: impl Fn(&[u8; 32]) -> Option<T>,
) -> Option<T> {
    let mut scalar = Zeroizing::new([0; 32]);
    (0..DRAWS).find_map(|_| {
        fill(&mut scalar);
        take(&scalar)
    })
}

impl core::fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "SigningKey({}, …)", self.curve())
    }
}
