//! The statement (paper, section 4.4.3), without a circuit: what is public, what is secret, what must hold.

use ark_ff::PrimeField;
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

use crate::{Fr, cipher};

/// Longest payload, in bytes, that keys are made for.
///
/// A kilobyte of payload costs some 700,000 constraints; the limit keeps a length from outside from asking
/// for unbounded memory. The protocol's own limit for file mode (512 bytes) is lower.
pub const MAX_PAYLOAD_LEN: usize = 1024;

/// Payload length of key mode: the 32-byte payload key `K`.
pub const KEY_MODE_LEN: usize = 32;

/// Bytes of ciphertext in one public input: the most that fit below the field's modulus.
pub(crate) const LIMB_LEN: usize = 31;

/// Public inputs before the ciphertext: two halves each of `s` and `U_id`.
pub(crate) const DIGEST_INPUTS: usize = 4;

/// The public half of an exchange: `H(r) = s` and `H(Dec(cipher, r)) = u_id` for a secret `r` of 32 bytes.
///
/// In key mode `u_id` is `key_id = H(K)` and the payload is `K`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Statement<'a> {
    /// `s = H(r)`, 32 bytes.
    pub s: [u8; 32],
    /// Digest of the decrypted payload, 32 bytes.
    pub u_id: [u8; 32],
    /// The encrypted payload `Û`.
    pub cipher: &'a [u8],
}

impl Statement<'_> {
    /// Decides the statement natively, for one `r`. The circuit is held to this function by tests.
    #[must_use]
    pub fn check(&self, r: &[u8; 32]) -> bool {
        let mut payload = Zeroizing::new(self.cipher.to_vec());
        cipher::apply_payload(r, &mut payload);
        let lock: [u8; 32] = Sha256::digest(r).into();
        let digest: [u8; 32] = Sha256::digest(&*payload).into();
        bool::from(lock.ct_eq(&self.s) & digest.ct_eq(&self.u_id))
    }

    /// The public inputs of the circuit, in order: `s` and `u_id` as two 16-byte big-endian halves each (high
    /// first), then the ciphertext as 31-byte little-endian limbs, the last one shorter.
    ///
    /// For one length the packing is injective. The circuit relies on halves being below 2^128.
    #[must_use]
    pub fn public_inputs(&self) -> Vec<Fr> {
        let halves = [&self.s, &self.u_id].into_iter().flat_map(|d| d.chunks(16));
        halves
            .map(Fr::from_be_bytes_mod_order)
            .chain(self.cipher.chunks(LIMB_LEN).map(Fr::from_le_bytes_mod_order))
            .collect()
    }
}

/// How many public inputs a payload of `len` bytes has.
pub(crate) const fn input_count(len: usize) -> usize {
    DIGEST_INPUTS + len.div_ceil(LIMB_LEN)
}

#[cfg(test)]
mod tests {
    use super::*;
    use ark_ff::BigInteger;

    #[test]
    fn packing_is_pinned() {
        let s: [u8; 32] = core::array::from_fn(|i| i as u8);
        let u_id: [u8; 32] = core::array::from_fn(|i| 0xff - i as u8);
        let cipher: Vec<u8> = (0..32).map(|i| 0x80 + i).collect();
        let statement = Statement { s, u_id, cipher: &cipher };
        let inputs: Vec<String> = statement
            .public_inputs()
            .iter()
            .map(|input| hex::encode(input.into_bigint().to_bytes_be()))
            .collect();
        assert_eq!(
            inputs,
            [
                "00000000000000000000000000000000000102030405060708090a0b0c0d0e0f",
                "00000000000000000000000000000000101112131415161718191a1b1c1d1e1f",
                "00000000000000000000000000000000fffefdfcfbfaf9f8f7f6f5f4f3f2f1f0",
                "00000000000000000000000000000000efeeedecebeae9e8e7e6e5e4e3e2e1e0",
                "009e9d9c9b9a999897969594939291908f8e8d8c8b8a89888786858483828180",
                "000000000000000000000000000000000000000000000000000000000000009f",
            ]
        );
        assert_eq!(inputs.len(), input_count(cipher.len()));
    }

    #[test]
    fn check_decides_both_conjuncts() {
        let r = [9; 32];
        let mut cipher = *b"the payload";
        let u_id = Sha256::digest(cipher).into();
        cipher::apply_payload(&r, &mut cipher);
        let good = Statement { s: Sha256::digest(r).into(), u_id, cipher: &cipher };
        assert!(good.check(&r));
        assert!(!good.check(&[8; 32]));
        assert!(!Statement { s: [0; 32], ..good }.check(&r));
        assert!(!Statement { u_id: [0; 32], ..good }.check(&r));
        assert!(!Statement { cipher: b"the Payload", ..good }.check(&r));
    }
}
