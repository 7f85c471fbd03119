//! Curve points from outside, checked: canonical coordinates, on the curve, in the subgroup, not the identity.
//!
//! The encoding is arkworks' compressed form of BN254: the x coordinate little-endian, and in the two top bits
//! of its last byte the sign of y (bit 7) and the mark of the identity (bit 6). arkworks reports every defect
//! alike, so the checks are made here, one by one.

use ark_bn254::{Fq, Fq2, G1Affine, G2Affine};
use ark_ff::{BigInteger256, PrimeField};
use ark_serialize::CanonicalSerialize;

/// Bytes of a compressed G1 point.
pub(crate) const G1_LEN: usize = 32;
/// Bytes of a compressed G2 point.
pub(crate) const G2_LEN: usize = 64;

const Y_IS_NEGATIVE: u8 = 1 << 7;
const IS_IDENTITY: u8 = 1 << 6;

/// Why bytes are not an acceptable curve point.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PointError {
    /// A coordinate is not below the field's modulus, or both flags are set.
    #[error("a coordinate is not canonical")]
    NonCanonical,
    /// No point of the curve has this x coordinate.
    #[error("not on the curve")]
    OffCurve,
    /// The point is on the curve but not in the subgroup of prime order (G2 only; G1 has no other).
    #[error("not in the prime-order subgroup")]
    OutOfSubgroup,
    /// The point at infinity, which no honest proof or key contains.
    #[error("the point at infinity")]
    Identity,
}

pub(crate) fn read_g1(bytes: &[u8; G1_LEN]) -> Result<G1Affine, PointError> {
    let mut x = *bytes;
    let negative = take_flags(&mut x[G1_LEN - 1])?;
    let x = read_fq(&x)?;
    let (low, high) = G1Affine::get_ys_from_x_unchecked(x).ok_or(PointError::OffCurve)?;
    Ok(G1Affine::new_unchecked(x, if negative { high } else { low }))
}

pub(crate) fn read_g2(bytes: &[u8; G2_LEN]) -> Result<G2Affine, PointError> {
    let mut x = *bytes;
    let negative = take_flags(&mut x[G2_LEN - 1])?;
    let (c0, c1) = x.split_at(G2_LEN / 2);
    let x = Fq2::new(read_fq(c0)?, read_fq(c1)?);
    let (low, high) = G2Affine::get_ys_from_x_unchecked(x).ok_or(PointError::OffCurve)?;
    let point = G2Affine::new_unchecked(x, if negative { high } else { low });
    if !point.is_in_correct_subgroup_assuming_on_curve() {
        return Err(PointError::OutOfSubgroup);
    }
    Ok(point)
}

/// Appends the compressed form.
pub(crate) fn write(point: &impl CanonicalSerialize, out: &mut Vec<u8>) {
    point.serialize_compressed(out).expect("writing to memory does not fail");
}

fn take_flags(last: &mut u8) -> Result<bool, PointError> {
    let (negative, identity) = (*last & Y_IS_NEGATIVE != 0, *last & IS_IDENTITY != 0);
    *last &= !(Y_IS_NEGATIVE | IS_IDENTITY);
    match (negative, identity) {
        (true, true) => Err(PointError::NonCanonical),
        (false, true) => Err(PointError::Identity),
        (negative, false) => Ok(negative),
    }
}

fn read_fq(bytes: &[u8]) -> Result<Fq, PointError> {
    let mut limbs = [0; 4];
    for (limb, bytes) in limbs.iter_mut().zip(bytes.chunks_exact(8)) {
        *limb = u64::from_le_bytes(bytes.try_into().expect("chunks of eight"));
    }
    Fq::from_bigint(BigInteger256::new(limbs)).ok_or(PointError::NonCanonical)
}
