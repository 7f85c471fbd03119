//! The two stream ciphers of an update: AES-128-CTR for what is sold, AES-256-CTR for the body.
//!
//! Both count blocks from zero. That is sound because neither key is ever used twice: `r` is fresh for every
//! exchange and `K` for every release.

use aes::cipher::{KeyIvInit, StreamCipher, StreamCipherSeek};
use aes::{Aes128, Aes256};
use ctr::Ctr128BE;

const ZERO_COUNTER: [u8; 16] = [0; 16];

/// Encrypts or decrypts a payload in place: AES-128-CTR under `r[0..16]`, counter block from zero.
///
/// This is `Enc` and `Dec` of the statement that the circuit proves (NIST SP 800-38A §6.5 with a 128-bit
/// big-endian counter).
pub fn apply_payload(r: &[u8; 32], payload: &mut [u8]) {
    let (key, _) = r.split_at(16);
    let mut stream = Ctr128BE::<Aes128>::new(key.into(), &ZERO_COUNTER.into());
    stream.apply_keystream(payload);
}

/// The body of a key-mode release: AES-256-CTR under `K`, 128-bit big-endian counter from zero.
///
/// Any part can be processed at any time, so that a body is decrypted while it is read from disk in pieces.
/// The key schedule is erased on drop.
///
/// ```
/// let body = posthouse_circuits::cipher::Body::new(&[7; 32]);
/// let mut firmware = *b"sixteen bytes is one block";
/// let (head, tail) = firmware.split_at_mut(5);
/// body.apply_at(0, head);
/// body.apply_at(5, tail);
/// body.apply_at(0, &mut firmware);
/// assert_eq!(&firmware, b"sixteen bytes is one block");
/// ```
pub struct Body(Ctr128BE<Aes256>);

impl Body {
    /// The cipher under the payload key `K`.
    #[must_use]
    pub fn new(key: &[u8; 32]) -> Self {
        Self(Ctr128BE::<Aes256>::new(key.into(), &ZERO_COUNTER.into()))
    }

    /// Encrypts or decrypts `bytes` in place; the first of them is byte `offset` of the body.
    pub fn apply_at(&self, offset: u64, bytes: &mut [u8]) {
        let mut stream = self.0.clone();
        stream.seek(u128::from(offset));
        stream.apply_keystream(bytes);
    }
}

impl core::fmt::Debug for Body {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("Body(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use aes::cipher::{BlockEncrypt, KeyInit};

    /// NIST SP 800-38A F.5.1: the four blocks of CTR-AES128 start at another counter, so the keystream is
    /// taken block by block; F.5.5 in the same way for AES-256.
    #[test]
    fn nist_ctr_blocks() {
        let key128 = hex_array::<16>("2b7e151628aed2a6abf7158809cf4f3c");
        let key256 = hex_array::<32>("603deb1015ca71be2b73aef0857d77811f352c073b6108d72d9810a30914dff4");
        let counter = hex_array::<16>("f0f1f2f3f4f5f6f7f8f9fafbfcfdfeff");
        let mut plain = hex_array::<16>("6bc1bee22e409f96e93d7e117393172a");
        Ctr128BE::<Aes128>::new(&key128.into(), &counter.into()).apply_keystream(&mut plain);
        assert_eq!(hex::encode(plain), "874d6191b620e3261bef6864990db6ce");
        let mut plain = hex_array::<16>("6bc1bee22e409f96e93d7e117393172a");
        Ctr128BE::<Aes256>::new(&key256.into(), &counter.into()).apply_keystream(&mut plain);
        assert_eq!(hex::encode(plain), "601ec313775789a5b7a7f504bbf3d228");
    }

    #[test]
    fn payload_keystream_is_aes_of_the_block_number() {
        let r: [u8; 32] = core::array::from_fn(|i| i as u8);
        let mut stream = [0; 40];
        apply_payload(&r, &mut stream);
        let aes = Aes128::new_from_slice(&r[..16]).unwrap();
        for (number, block) in stream.chunks(16).enumerate() {
            let mut expected = (number as u128).to_be_bytes().into();
            aes.encrypt_block(&mut expected);
            assert_eq!(block, &expected[..block.len()]);
        }
    }

    #[test]
    fn body_applies_at_any_offset() {
        let body = Body::new(&[3; 32]);
        let mut whole = [0; 100];
        body.apply_at(0, &mut whole);
        for offset in [0_usize, 1, 15, 16, 17, 63, 99, 100] {
            let mut part = vec![0; 100 - offset];
            body.apply_at(offset as u64, &mut part);
            assert_eq!(part, whole[offset..]);
        }
        let mut far = [0; 16];
        body.apply_at(1 << 40, &mut far);
        let mut expected = (1_u128 << 36).to_be_bytes().into();
        Aes256::new(&[3; 32].into()).encrypt_block(&mut expected);
        assert_eq!(far[..], expected[..]);
    }

    fn hex_array<const N: usize>(text: &str) -> [u8; N] {
        hex::decode(text).unwrap().try_into().unwrap()
    }
}
