//! SHA-256 (FIPS 180-4) with at most 17,300 constraints a block.
//!
//! Three things keep it small. σ, Σ, Ch and Maj cost one constraint a bit. A round's `a` is decomposed from its
//! parts at once, and `e` from `a` (`e = a + d − Σ₀ − Maj`, four terms where the definition has six). What no
//! rotation looks at is never decomposed: the last two schedule words, the last round's `a` and `e`, and of a
//! chaining value the words `d` and `h`.

use crate::builder::{Bit, Builder};
use crate::gadgets::sum::{Sum, Word, constant_word, rotate, shift};

const ROUNDS: usize = 64;
const BLOCK_BITS: usize = 512;

/// FIPS 180-4 §5.3.3.
const INITIAL: [u32; 8] =
    [0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a, 0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19];

/// FIPS 180-4 §4.2.2.
const K: [u32; ROUNDS] = [
    0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4, 0xab1c5ed5,
    0xd807aa98, 0x12835b01, 0x243185be, 0x550c7dc3, 0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf174,
    0xe49b69c1, 0xefbe4786, 0x0fc19dc6, 0x240ca1cc, 0x2de92c6f, 0x4a7484aa, 0x5cb0a9dc, 0x76f988da,
    0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7, 0xc6e00bf3, 0xd5a79147, 0x06ca6351, 0x14292967,
    0x27b70a85, 0x2e1b2138, 0x4d2c6dfc, 0x53380d13, 0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85,
    0xa2bfe8a1, 0xa81a664b, 0xc24b8b70, 0xc76c51a3, 0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070,
    0x19a4c116, 0x1e376c08, 0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a, 0x5b9cca4f, 0x682e6ff3,
    0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208, 0x90befffa, 0xa4506ceb, 0xbef9a3f7, 0xc67178f2,
];

/// A chaining value: bits where the first rounds rotate or select, sums where they only add.
pub(crate) struct Chain {
    abc: [Word; 3],
    d: Sum,
    efg: [Word; 3],
    h: Sum,
}

impl Chain {
    pub(crate) fn initial() -> Self {
        let [a, b, c, d, e, f, g, h] = INITIAL.map(constant_word);
        Self { abc: [a, b, c], d: Sum::from(&d), efg: [e, f, g], h: Sum::from(&h) }
    }

    fn from_sums(builder: &mut Builder, sums: [Sum; 8]) -> Self {
        let [a, b, c, d, e, f, g, h] = sums;
        let mut bits = |sums: [Sum; 3]| sums.map(|sum| builder.decompose(&sum));
        Self { abc: bits([a, b, c]), d, efg: bits([e, f, g]), h }
    }
}

impl Builder {
    /// SHA-256 of a message of whole bytes, given as bits in the order of FIPS 180-4 (most significant bit of each
    /// byte first). The eight words come as sums, for the caller to compare or to decompose.
    pub(crate) fn sha256(&mut self, message: &[Bit]) -> [Sum; 8] {
        let padded = pad(message);
        let mut blocks = padded.chunks_exact(BLOCK_BITS).map(words);
        let first = blocks.next().expect("padding makes at least one block");
        let mut sums = self.compress(&Chain::initial(), &first);
        for block in blocks {
            let chain = Chain::from_sums(self, sums);
            sums = self.compress(&chain, &block);
        }
        sums
    }

    /// FIPS 180-4 §6.2.2 on one block.
    pub(crate) fn compress(&mut self, chain: &Chain, block: &[Word; 16]) -> [Sum; 8] {
        let schedule = self.schedule(block);
        let Chain { abc: [mut a, mut b, mut c], efg: [mut e, mut f, mut g], .. } = *chain;
        let (mut d, mut h) = (chain.d.clone(), chain.h.clone());
        for (round, w) in schedule.iter().enumerate() {
            let from_a = Sum::from(&self.big_sigma(&a, [2, 13, 22])).plus(&self.majorities(&a, &b, &c));
            let from_e = Sum::from(&self.big_sigma(&e, [6, 11, 25])).plus(&self.choices(&e, &f, &g));
            let t1 = h.plus_sum(&from_e).plus_sum(w).plus_constant(K[round]);
            let new_a = from_a.clone().plus_sum(&t1);
            if round == ROUNDS - 1 {
                let last = [new_a, Sum::from(&a), Sum::from(&b), Sum::from(&c)];
                let other = [d.plus_sum(&t1), Sum::from(&e), Sum::from(&f), Sum::from(&g)];
                return add_chain(chain, last, other);
            }
            let new_a = self.decompose(&new_a);
            let new_e = self.decompose(&d.plus(&new_a).minus_sum(&from_a));
            (d, c, b, a) = (Sum::from(&c), b, a, new_a);
            (h, g, f, e) = (Sum::from(&g), f, e, new_e);
        }
        unreachable!("the last round returns")
    }

    /// The 64 words of the message schedule; the last two stay sums, nothing rotates them.
    fn schedule(&mut self, block: &[Word; 16]) -> Vec<Sum> {
        let mut words = block.to_vec();
        let mut sums: Vec<Sum> = block.iter().map(Sum::from).collect();
        for t in 16..ROUNDS {
            let sum = Sum::from(&self.small_sigma(&words[t - 2], [17, 19], 10))
                .plus(&words[t - 7])
                .plus(&self.small_sigma(&words[t - 15], [7, 18], 3))
                .plus(&words[t - 16]);
            if t < ROUNDS - 2 {
                words.push(self.decompose(&sum));
                sums.push(Sum::from(&words[t]));
            } else {
                sums.push(sum);
            }
        }
        sums
    }

    fn small_sigma(&mut self, word: &Word, [i, j]: [usize; 2], by: usize) -> Word {
        let (x, y, z) = (rotate(word, i), rotate(word, j), shift(word, by));
        std::array::from_fn(|i| self.xor(&[x[i], y[i], z[i]]))
    }

    fn big_sigma(&mut self, word: &Word, rotations: [usize; 3]) -> Word {
        let [x, y, z] = rotations.map(|by| rotate(word, by));
        std::array::from_fn(|i| self.xor(&[x[i], y[i], z[i]]))
    }

    fn majorities(&mut self, a: &Word, b: &Word, c: &Word) -> Word {
        std::array::from_fn(|i| self.majority(a[i], b[i], c[i]))
    }

    fn choices(&mut self, e: &Word, f: &Word, g: &Word) -> Word {
        std::array::from_fn(|i| self.choose(e[i], f[i], g[i]))
    }
}

fn add_chain(chain: &Chain, abcd: [Sum; 4], efgh: [Sum; 4]) -> [Sum; 8] {
    let ([a, b, c, d], [e, f, g, h]) = (abcd, efgh);
    [
        a.plus(&chain.abc[0]),
        b.plus(&chain.abc[1]),
        c.plus(&chain.abc[2]),
        d.plus_sum(&chain.d),
        e.plus(&chain.efg[0]),
        f.plus(&chain.efg[1]),
        g.plus(&chain.efg[2]),
        h.plus_sum(&chain.h),
    ]
}

/// FIPS 180-4 §5.1.1: a one, zeros, and the length in 64 bits.
fn pad(message: &[Bit]) -> Vec<Bit> {
    let mut padded = message.to_vec();
    padded.push(Bit::Const(true));
    padded.resize((padded.len() + 64).next_multiple_of(BLOCK_BITS) - 64, Bit::Const(false));
    let length = message.len() as u64;
    padded.extend((0..64).rev().map(|i| Bit::Const(length >> i & 1 == 1)));
    padded
}

pub(crate) fn words(block: &[Bit]) -> [Word; 16] {
    std::array::from_fn(|word| std::array::from_fn(|bit| block[32 * word + 31 - bit]))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::builder::Constraints;
    use crate::testing::{constraints_of, satisfied, value_of};
    use proptest::prelude::*;
    use sha2::{Digest, Sha256};

    fn in_circuit(message: &[u8]) -> [u8; 32] {
        let mut builder = Builder::with_values(Constraints::keep(), 1 << 17);
        let bits: Vec<Bit> = message
            .iter()
            .flat_map(|byte| (0..8).rev().map(move |i| byte >> i & 1 == 1))
            .map(|bit| builder.boolean(|_| bit))
            .collect();
        let sums = builder.sha256(&bits);
        let words = sums.map(|sum| builder.decompose(&sum));
        let mut digest = [0; 32];
        for (bytes, word) in digest.chunks_mut(4).zip(words) {
            let word: u32 = (0..32).map(|i| u32::from(value_of(&builder, word[i])) << i).sum();
            bytes.copy_from_slice(&word.to_be_bytes());
        }
        assert!(satisfied(builder));
        digest
    }

    /// FIPS 180-4 examples, as NIST publishes them.
    #[test]
    fn nist_examples() {
        for (message, digest) in [
            ("", "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"),
            ("abc", "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"),
            (
                "abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq",
                "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1",
            ),
        ] {
            assert_eq!(hex::encode(in_circuit(message.as_bytes())), digest);
        }
    }

    #[test]
    fn every_padding() {
        for len in [0, 1, 31, 32, 33, 54, 55, 56, 57, 63, 64, 65, 111, 119, 120, 128, 200] {
            let message: Vec<u8> = (0..len).map(|i| (i * 37 + len) as u8).collect();
            assert_eq!(in_circuit(&message), <[u8; 32]>::from(Sha256::digest(&message)), "{len}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(4))]

        #[test]
        fn any_message(message in prop::collection::vec(any::<u8>(), 0..130)) {
            prop_assert_eq!(in_circuit(&message), <[u8; 32]>::from(Sha256::digest(&message)));
        }
    }

    #[test]
    fn cost_of_a_block() {
        let compression = crate::figures::sha256_compression();
        assert!(compression <= 17_300, "{compression}");
        let empty = constraints_of(|b| {
            b.sha256(&[]);
        });
        assert_eq!(empty, 0, "a constant message costs nothing");
    }
}
