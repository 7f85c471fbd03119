//! AES-128 in counter mode (FIPS 197, SP 800-38A) with a known counter and the ciphertext folded in.
//!
//! An output bit of MixColumns with the round key is an XOR of six bits, or of eight where the reduction
//! polynomial hits (bits 1, 3, 4); of those, three are common to two bytes of the column and are added first. The
//! last round's key and the ciphertext go in one XOR. Counter blocks differ in a byte or two, so what the first
//! rounds make of the others is the same bit for bit and is built once.

use std::collections::HashMap;

use crate::builder::{Bit, Builder};
use crate::gadgets::sbox::Byte;

const BLOCK: usize = 16;
const ROUNDS: usize = 10;

/// Bits of an output byte of `xtime` into which the top bit is folded (the polynomial 0x1b, without bit 0 which
/// nothing else feeds).
const REDUCED: [usize; 3] = [1, 3, 4];

type State = [Byte; BLOCK];

/// AES-128-CTR under one key, counter from zero.
pub(crate) struct KeyStream {
    round_keys: [State; ROUNDS + 1],
    sboxes: HashMap<Byte, Byte>,
}

impl KeyStream {
    /// Expands the key (FIPS 197 §5.2), 224 constraints a round.
    pub(crate) fn new(builder: &mut Builder, key: &State) -> Self {
        let mut stream = Self { round_keys: [*key; ROUNDS + 1], sboxes: HashMap::new() };
        let mut constant = 1_u8;
        for round in 1..=ROUNDS {
            let previous = stream.round_keys[round - 1];
            stream.round_keys[round] = stream.next_key(builder, &previous, constant);
            constant = constant << 1 ^ if constant >> 7 == 1 { 0x1b } else { 0 };
        }
        stream
    }

    /// Decrypts (or encrypts) the block with this number: 16 bytes of ciphertext, fewer at the end.
    pub(crate) fn apply(&mut self, builder: &mut Builder, number: u128, text: &[Byte]) -> Vec<Byte> {
        let counter = number.to_be_bytes();
        let mut state: State = std::array::from_fn(|i| flip(&self.round_keys[0][i], counter[i]));
        for round in 1..ROUNDS {
            let substituted = state.map(|byte| self.sbox(builder, &byte));
            let shifted = std::array::from_fn(|i| substituted[shifted_from(i)]);
            state = mix_columns(builder, &shifted, &self.round_keys[round]);
        }
        let key = self.round_keys[ROUNDS];
        let last = text.iter().enumerate().map(|(i, text)| {
            let byte = self.sbox(builder, &state[shifted_from(i)]);
            std::array::from_fn(|bit| builder.xor(&[byte[bit], key[i][bit], text[bit]]))
        });
        last.collect()
    }

    fn next_key(&mut self, builder: &mut Builder, key: &State, constant: u8) -> State {
        let mut next = *key;
        for i in 0..4 {
            let turned = self.sbox(builder, &key[12 + (i + 1) % 4]);
            let turned = flip(&turned, if i == 0 { constant } else { 0 });
            next[i] = xor_bytes(builder, &key[i], &turned);
        }
        for i in 4..BLOCK {
            next[i] = xor_bytes(builder, &key[i], &next[i - 4]);
        }
        next
    }

    fn sbox(&mut self, builder: &mut Builder, x: &Byte) -> Byte {
        *self.sboxes.entry(*x).or_insert_with(|| builder.sbox(x))
    }
}

/// ShiftRows: where byte `i` of the shifted state comes from (columns of four).
fn shifted_from(i: usize) -> usize {
    (i + 4 * (i % 4)) % BLOCK
}

fn flip(byte: &Byte, by: u8) -> Byte {
    std::array::from_fn(|bit| byte[bit].flip(by >> bit & 1 == 1))
}

fn xor_bytes(builder: &mut Builder, a: &Byte, b: &Byte) -> Byte {
    std::array::from_fn(|bit| builder.xor(&[a[bit], b[bit]]))
}

fn mix_columns(builder: &mut Builder, state: &State, key: &State) -> State {
    std::array::from_fn(|i| {
        let column = &state[i / 4 * 4..][..4];
        std::array::from_fn(|bit| mixed_bit(builder, column, i % 4, bit, key[i][bit]))
    })
}

/// Bit `bit` of `2a ⊕ 3b ⊕ c ⊕ d ⊕ key`, where `a`, `b`, `c`, `d` are the column's bytes from `row` on.
fn mixed_bit(builder: &mut Builder, column: &[Byte], row: usize, bit: usize, key: Bit) -> Bit {
    let [a, b, c, d] = std::array::from_fn(|i| column[(row + i) % 4]);
    let below = (bit + 7) % 8;
    let mut terms = vec![a[below], b[below], b[bit], c[bit], d[bit], key];
    if REDUCED.contains(&bit) {
        // Rows 0 and 1 have bits of column bytes 2, 3 and the top bit of 1 in common; rows 2 and 3 likewise.
        let pair = row / 2 * 2;
        let common = [(pair + 2, bit), (pair + 3, bit), (pair + 1, 7)];
        let common = common.map(|(byte, bit)| column[byte % 4][bit]);
        terms.extend([a[7], b[7], builder.xor(&common)]);
        terms.extend(common);
    }
    builder.xor(&terms)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::builder::Constraints;
    use crate::gadgets::sbox::Byte;
    use crate::testing::{assert_sound, satisfied, value_of};
    use proptest::prelude::*;

    fn witness(builder: &mut Builder, bytes: &[u8]) -> Vec<Byte> {
        let byte = |value: u8| std::array::from_fn(|i| builder.boolean(|_| value >> i & 1 == 1));
        bytes.iter().copied().map(byte).collect()
    }

    fn values(builder: &Builder, bytes: &[Byte]) -> Vec<u8> {
        let byte = |bits: &Byte| (0..8).map(|i| u8::from(value_of(builder, bits[i])) << i).sum();
        bytes.iter().map(byte).collect()
    }

    fn block(key: &[u8; 16], number: u128, text: &[u8]) -> (Builder, Vec<u8>) {
        let mut builder = Builder::with_values(Constraints::keep(), 1 << 15);
        let key: State = witness(&mut builder, key).try_into().unwrap();
        let text = witness(&mut builder, text);
        let mut stream = KeyStream::new(&mut builder, &key);
        let out = stream.apply(&mut builder, number, &text);
        let out = values(&builder, &out);
        (builder, out)
    }

    /// FIPS 197 appendix B and SP 800-38A F.5.1: the block cipher on a counter block is the keystream.
    #[test]
    fn nist_vectors() {
        let key = hex::decode("2b7e151628aed2a6abf7158809cf4f3c").unwrap().try_into().unwrap();
        for (counter, plain, cipher) in [
            (
                0x3243f6a8885a308d313198a2e0370734,
                "00000000000000000000000000000000",
                "3925841d02dc09fbdc118597196a0b32",
            ),
            (
                0xf0f1f2f3f4f5f6f7f8f9fafbfcfdfeff,
                "6bc1bee22e409f96e93d7e117393172a",
                "874d6191b620e3261bef6864990db6ce",
            ),
            (
                0xf0f1f2f3f4f5f6f7f8f9fafbfcfdff00,
                "ae2d8a571e03ac9c9eb76fac45af8e51",
                "9806f66b7970fdff8617187bb9fffdff",
            ),
            (
                0xf0f1f2f3f4f5f6f7f8f9fafbfcfdff01,
                "30c81c46a35ce411e5fbc1191a0a52ef",
                "5ae4df3edbd5d35e5b4f09020db03eab",
            ),
            (
                0xf0f1f2f3f4f5f6f7f8f9fafbfcfdff02,
                "f69f2445df4f9b17ad2b417be66c3710",
                "1e031dda2fbe03d1792170a0f3009cee",
            ),
        ] {
            let (builder, out) = block(&key, counter, &hex::decode(plain).unwrap());
            assert_eq!(hex::encode(out), cipher);
            assert!(satisfied(builder));
        }
    }

    #[test]
    fn every_witness_of_a_block_is_constrained() {
        assert_sound(block(&[0xa5; 16], 3, &[0x3c; 16]).0);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(6))]

        #[test]
        fn stream_is_that_of_the_cipher(key: [u8; 16], text in prop::collection::vec(any::<u8>(), 0..80)) {
            let mut builder = Builder::with_values(Constraints::keep(), 1 << 16);
            let bits: State = witness(&mut builder, &key).try_into().unwrap();
            let input = witness(&mut builder, &text);
            let mut stream = KeyStream::new(&mut builder, &bits);
            let mut out = Vec::new();
            for (number, chunk) in input.chunks(16).enumerate() {
                out.extend(stream.apply(&mut builder, number as u128, chunk));
            }
            let mut expected = text.clone();
            let mut r = [0; 32];
            r[..16].copy_from_slice(&key);
            crate::cipher::apply_payload(&r, &mut expected);
            prop_assert_eq!(values(&builder, &out), expected);
            prop_assert!(satisfied(builder));
        }
    }

    #[test]
    fn cost() {
        assert_eq!(crate::figures::aes_sbox(), 24);
        assert_eq!(crate::figures::aes_key_schedule(), 2_240);
        let block = crate::figures::aes128_block();
        assert!(block <= 6_704, "{block}");
    }
}
