//! P-256 in software, for boards without a secure element.

use posthouse_device::{Key as _, P256Key};
use posthouse_protocol::id::Digest;

use crate::PhResult;

/// # Safety
/// `scalar` is null or points to 32 bytes.
unsafe fn key(scalar: *const u8) -> Option<P256Key> {
    // SAFETY: by the caller.
    P256Key::new(unsafe { scalar.cast::<[u8; 32]>().as_ref() }?)
}

/// The public key of a P-256 scalar, 32 bytes big-endian: 33 bytes, SEC1 compressed.
///
/// # Safety
/// `scalar` is null or points to 32 bytes, `public` is null or points to 33 bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ph_p256_public(scalar: *const u8, public: *mut u8) -> PhResult {
    // SAFETY: by the caller.
    let (Some(key), Some(out)) = (unsafe { key(scalar) }, unsafe { public.cast::<[u8; 33]>().as_mut() })
    else {
        return PhResult::Invalid;
    };
    out.copy_from_slice(key.public().as_bytes());
    PhResult::Ok
}

/// Signs a digest of 32 bytes with a P-256 scalar: deterministic (RFC 6979), low s, 64 bytes. What `sign` of a `ph_board` is
/// to do.
///
/// # Safety
/// `scalar` and `digest` are null or point to 32 bytes, `signature` is null or points to 64 bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ph_p256_sign(scalar: *const u8, digest: *const u8, signature: *mut u8) -> PhResult {
    // SAFETY: by the caller.
    let (Some(mut key), Some(digest), Some(out)) =
        (unsafe { key(scalar) }, unsafe { digest.cast::<[u8; 32]>().as_ref() }, unsafe {
            signature.cast::<[u8; 64]>().as_mut()
        })
    else {
        return PhResult::Invalid;
    };
    let Ok(signed) = key.sign(&Digest::new(*digest)) else { return PhResult::Invalid };
    out.copy_from_slice(signed.as_bytes());
    PhResult::Ok
}
