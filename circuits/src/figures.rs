//! Constraint counts of the gadgets and of the two modes, computed from the circuit itself.

use crate::builder::{Bit, Builder, Constraints};
use crate::gadgets::aes::KeyStream;
use crate::relation::shape;
use crate::statement::KEY_MODE_LEN;

/// SHA-256 of one block of 512 unknown bits from the initial value, without the bits' own checks.
#[must_use]
pub fn sha256_compression() -> usize {
    cost(512, |builder, block| {
        let chain = crate::gadgets::sha256::Chain::initial();
        let block = crate::gadgets::sha256::words(block);
        let sums = builder.compress(&chain, &block);
        for sum in &sums {
            builder.decompose(sum);
        }
    })
}

/// The first block of AES-128-CTR under an expanded key, ciphertext XOR included. Four of its S-boxes are those of
/// the key schedule; later blocks share more with this one.
#[must_use]
pub fn aes128_block() -> usize {
    with_key(16, |builder, stream, text| {
        stream.apply(builder, 0, text);
    }) - aes_key_schedule()
}

/// The AES S-box.
#[must_use]
pub fn aes_sbox() -> usize {
    cost(8, |builder, bits| {
        builder.sbox(bits.first_chunk().expect("eight bits"));
    })
}

/// The key schedule of AES-128.
#[must_use]
pub fn aes_key_schedule() -> usize {
    with_key(0, |_, _, _| {})
}

/// The whole statement for a 32-byte payload.
#[must_use]
pub fn key_mode() -> usize {
    shape(KEY_MODE_LEN).constraints
}

/// What each further 64 bytes of payload add, far from the start.
#[must_use]
pub fn file_mode_step_64() -> usize {
    shape(512).constraints - shape(448).constraints
}

fn cost(bits: usize, gadget: impl FnOnce(&mut Builder, &[Bit])) -> usize {
    let mut builder = Builder::without_values(Constraints::Count);
    let inputs: Vec<Bit> = (0..bits).map(|_| builder.boolean(|_| false)).collect();
    gadget(&mut builder, &inputs);
    builder.shape().constraints - bits
}

fn with_key(
    text: usize,
    gadget: impl FnOnce(&mut Builder, &mut KeyStream, &[crate::gadgets::sbox::Byte]),
) -> usize {
    cost(8 * (16 + text), |builder, bits| {
        let (bytes, _) = bits.as_chunks::<8>();
        let (key, text) = bytes.split_first_chunk().expect("a key of 16 bytes");
        let mut stream = KeyStream::new(builder, key);
        gadget(builder, &mut stream, text);
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Counts do not vary; a smaller one is welcome, a larger one is a regression.
    #[test]
    fn counts_are_pinned() {
        let counts = [
            sha256_compression(),
            aes128_block(),
            aes_sbox(),
            aes_key_schedule(),
            key_mode(),
            file_mode_step_64(),
        ];
        assert_eq!(counts, [17_251, 6_392, 24, 2_240, 48_492, 40_393]);
    }
}
