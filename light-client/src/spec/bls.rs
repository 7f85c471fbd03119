//! BLS signatures as the consensus layer uses them: keys in G1, signatures in G2, proof of possession.

use alloy::primitives::B256;
use blst::BLST_ERROR;
use blst::min_pk::{AggregatePublicKey, PublicKey, Signature};

use super::Refused;

const DST: &[u8] = b"BLS_SIG_BLS12381G2_XMD:SHA-256_SSWU_RO_POP_";

/// Keys as points.
#[derive(Debug)]
pub(super) struct PublicKeys(Vec<PublicKey>);

impl PublicKeys {
    /// Canonical points of the curve, none of them infinity.
    ///
    /// That each is in the group is not checked here: a deposit did that once, it costs 25 ms for 512, and their sum
    /// is checked at each signature.
    pub(super) fn decompress(keys: &[[u8; 48]]) -> Result<Self, Refused> {
        let point = |(index, bytes): (usize, &[u8; 48])| {
            let infinity = bytes[0] & 0x40 != 0;
            let key = if infinity { None } else { PublicKey::uncompress(bytes).ok() };
            key.ok_or(Refused::PublicKey(index))
        };
        keys.iter().enumerate().map(point).collect::<Result<_, _>>().map(Self)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &PublicKey> {
        self.0.iter()
    }
}

/// `FastAggregateVerify`, with neither the sum of the keys nor the signature at infinity or outside the group.
pub(super) fn fast_aggregate_verify<'a>(
    mut keys: impl Iterator<Item = &'a PublicKey>,
    message: B256,
    signature: &[u8; 96],
) -> Result<(), Refused> {
    let signature = Signature::uncompress(signature).map_err(|_| Refused::SignatureEncoding)?;
    signature.validate(true).map_err(|_| Refused::SignatureEncoding)?;
    let mut sum = AggregatePublicKey::from_public_key(keys.next().ok_or(Refused::Signature)?);
    for key in keys {
        sum.add_public_key(key, false).map_err(|_| Refused::Signature)?;
    }
    let sum = sum.to_public_key();
    sum.validate().map_err(|_| Refused::Signature)?;
    match signature.fast_aggregate_verify_pre_aggregated(false, message.as_slice(), DST, &sum) {
        BLST_ERROR::BLST_SUCCESS => Ok(()),
        _ => Err(Refused::Signature),
    }
}
