//! Words of 32 bits and their sums modulo 2^32.
//!
//! A sum stays a linear combination, with bounds on its value as an integer, until somebody needs its bits; then
//! it is decomposed once. Bounds decide how many carry bits there are, and the top one is the linear remainder,
//! so that it costs its boolean check only.

use ark_ff::{Field, One};

use crate::Fr;
use crate::builder::{Bit, Bits, Builder, Index, Linear, ONE};

/// 32 bits, least significant first.
pub(crate) type Word = [Bit; 32];

pub(crate) fn constant_word(value: u32) -> Word {
    std::array::from_fn(|i| Bit::Const(value >> i & 1 == 1))
}

/// Rotation to the right: a renaming of bits.
pub(crate) fn rotate(word: &Word, by: usize) -> Word {
    std::array::from_fn(|i| word[(i + by) % 32])
}

/// Shift to the right.
pub(crate) fn shift(word: &Word, by: usize) -> Word {
    std::array::from_fn(|i| word.get(i + by).copied().unwrap_or(Bit::Const(false)))
}

/// A signed sum of words and constants: a value modulo 2^32.
///
/// Bounds stay far below the field's modulus, so an equation between sums in the field is one between integers.
#[derive(Clone, Debug, Default)]
pub(crate) struct Sum {
    /// Variable bits with their signed weight.
    terms: Vec<(i64, Bit)>,
    constant: i64,
    /// Least and greatest value of the terms.
    bounds: (i64, i64),
}

impl From<&Word> for Sum {
    fn from(word: &Word) -> Self {
        Self::default().plus(word)
    }
}

impl Sum {
    pub(crate) fn plus_constant(mut self, value: u32) -> Self {
        self.constant += i64::from(value);
        self
    }

    pub(crate) fn plus_sum(mut self, other: &Self) -> Self {
        self.terms.extend_from_slice(&other.terms);
        self.constant += other.constant;
        self.bounds.0 += other.bounds.0;
        self.bounds.1 += other.bounds.1;
        self
    }

    pub(crate) fn minus_sum(mut self, other: &Self) -> Self {
        self.terms.extend(other.terms.iter().map(|(weight, bit)| (-weight, *bit)));
        self.constant -= other.constant;
        self.bounds.0 -= other.bounds.1;
        self.bounds.1 -= other.bounds.0;
        self
    }

    pub(crate) fn plus(mut self, word: &Word) -> Self {
        for (i, bit) in word.iter().enumerate() {
            let weight = 1_i64 << i;
            match bit {
                Bit::Const(value) => self.constant += weight * i64::from(*value),
                Bit::Var { .. } => {
                    self.terms.push((weight, *bit));
                    self.bounds.1 += weight;
                }
            }
        }
        self
    }

    /// The same value modulo 2^32 as a non-negative sum, and how many carry bits it then needs.
    fn to_positive(&self) -> (Positive<'_>, usize) {
        let constant = self.constant.rem_euclid(1 << 32);
        let lowest = (self.bounds.0 + constant).div_euclid(1 << 32);
        let highest = (self.bounds.1 + constant).div_euclid(1 << 32);
        let windows = (highest - lowest + 1) as u64;
        let sum = Positive { terms: &self.terms, constant: constant - (lowest << 32) };
        (sum, windows.next_power_of_two().trailing_zeros() as usize)
    }
}

/// A sum whose value is never negative.
#[derive(Clone, Copy)]
struct Positive<'a> {
    terms: &'a [(i64, Bit)],
    constant: i64,
}

impl Positive<'_> {
    fn linear(self) -> Linear {
        let constant = Linear::constant(Fr::from(self.constant));
        self.terms.iter().fold(constant, |sum, (weight, bit)| sum.plus_bit(Fr::from(*weight), *bit))
    }

    fn value(self, bits: Bits<'_>) -> i64 {
        let terms = self.terms.iter();
        self.constant + terms.map(|(weight, bit)| weight * i64::from(bits.get(*bit))).sum::<i64>()
    }
}

impl Builder {
    /// The bits of a sum modulo 2^32: one boolean check for each bit of the result and each carry bit.
    pub(crate) fn decompose(&mut self, sum: &Sum) -> Word {
        let (sum, carries) = sum.to_positive();
        if sum.terms.is_empty() {
            return constant_word(sum.constant as u32);
        }
        let value = self.peek(|of| sum.value(of)).unwrap_or_default();
        let mut bits = Vec::with_capacity(32 + carries);
        // Without a carry bit the top bit of the word would be the remainder; it has to be a variable, so the
        // remainder is then nothing and an equation says so.
        for i in 0..(31 + carries).max(32) {
            bits.push(self.boolean(|_| value >> i & 1 == 1));
        }
        let rest = || less_bits(sum.linear(), &bits, 0);
        match carries {
            0 => self.enforce(|| [rest(), Linear::variable(ONE), Linear::default()]),
            _ => self.enforce_zero_or(rest, 31 + carries),
        }
        std::array::from_fn(|i| bits[i])
    }

    /// Makes a public input below 2^128 equal to four sums modulo 2^32, big-endian.
    ///
    /// The last three are decomposed. The first is what is left of the input: a small integer that differs from
    /// its sum by a multiple of 2^32, of which there is one only that keeps the input in its range.
    pub(crate) fn enforce_half(&mut self, input: Index, sums: &[Sum; 4]) {
        let [first, rest @ ..] = sums;
        let words: Vec<Word> = rest.iter().map(|sum| self.decompose(sum)).collect();
        let (first, carries) = first.to_positive();
        let top = || top_word(input, &words);
        let over = |carry: &[Bit]| {
            let rest = first.linear().plus_linear(-Fr::one(), &top());
            less_bits(rest, carry, 32)
        };
        let value = self.peek(|of| first.value(of)).unwrap_or_default();
        let carry: Vec<Bit> =
            (0..carries.saturating_sub(1)).map(|i| self.boolean(|_| value >> (32 + i) & 1 == 1)).collect();
        match carries {
            0 => self.enforce(|| [over(&carry), Linear::variable(ONE), Linear::default()]),
            _ => self.enforce_zero_or(|| over(&carry), 31 + carries),
        }
    }

    /// States that a linear combination is 0 or 2^`power`.
    fn enforce_zero_or(&mut self, linear: impl Fn() -> Linear, power: usize) {
        self.enforce(|| {
            let other = linear().plus(-power_of_two(power), ONE);
            [linear(), other, Linear::default()]
        });
    }
}

/// `linear` less the number that `bits` make when the lowest of them stands for 2^`lowest`.
fn less_bits(linear: Linear, bits: &[Bit], lowest: usize) -> Linear {
    let weighted = bits.iter().enumerate();
    weighted.fold(linear, |rest, (i, bit)| rest.plus_bit(-power_of_two(lowest + i), *bit))
}

/// `(input − Σ words) / 2^96`: the first of four big-endian words.
fn top_word(input: Index, words: &[Word]) -> Linear {
    let mut rest = Linear::variable(input);
    for (position, word) in words.iter().rev().enumerate() {
        rest = less_bits(rest, word, 32 * position);
    }
    rest.times(power_of_two(96).inverse().expect("a power of two is not zero"))
}

pub(crate) fn power_of_two(power: usize) -> Fr {
    Fr::from(1_u128 << power)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::builder::Constraints;
    use crate::testing::{assert_sound, satisfied, value_of};
    use proptest::prelude::*;

    fn word(builder: &mut Builder, value: u32) -> Word {
        std::array::from_fn(|i| builder.boolean(|_| value >> i & 1 == 1))
    }

    fn number(builder: &Builder, word: &Word) -> u32 {
        (0..32).map(|i| u32::from(value_of(builder, word[i])) << i).sum()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn decomposes_any_signed_sum(
            plus in prop::collection::vec(any::<u32>(), 0..6),
            minus in prop::collection::vec(any::<u32>(), 0..3),
            constant: u32,
        ) {
            let mut builder = Builder::with_values(Constraints::keep(), 512);
            let mut sum = Sum::default().plus_constant(constant);
            let mut expected = constant;
            for value in plus {
                sum = sum.plus(&word(&mut builder, value));
                expected = expected.wrapping_add(value);
            }
            for value in minus {
                sum = sum.minus_sum(&Sum::from(&word(&mut builder, value)));
                expected = expected.wrapping_sub(value);
            }
            let result = builder.decompose(&sum);
            prop_assert_eq!(number(&builder, &result), expected);
            assert_sound(builder);
        }

        #[test]
        fn half_takes_its_own_words_only(words: [u32; 8], constant: u32, at in 0_usize..128) {
            let sums: Vec<u32> = words.chunks(2)
                .map(|w| w[0].wrapping_add(w[1]).wrapping_add(constant)).collect();
            let packed = sums.iter().fold(0_u128, |half, word| half << 32 | u128::from(*word));
            prop_assert!(half_accepts(&words, constant, packed));
            prop_assert!(!half_accepts(&words, constant, packed ^ 1 << at));
        }
    }

    fn half_accepts(words: &[u32; 8], constant: u32, half: u128) -> bool {
        let mut builder = Builder::with_values(Constraints::keep(), 1024);
        let input = builder.input(|| Fr::from(half));
        let words = words.map(|value| word(&mut builder, value));
        let sums =
            std::array::from_fn(|i| Sum::from(&words[2 * i]).plus(&words[2 * i + 1]).plus_constant(constant));
        builder.enforce_half(input, &sums);
        satisfied(builder)
    }

    /// Without its carry fixed, a half could be met by moving a carry between words.
    #[test]
    fn carries_do_not_move_between_words() {
        let words = [u32::MAX, 1, 7, 0, u32::MAX, u32::MAX, 0, 0];
        let honest = 7_u128 << 64 | 0xffff_fffe_u128 << 32;
        assert!(half_accepts(&words, 0, honest));
        assert!(!half_accepts(&words, 0, honest + (1 << 64)));
        assert!(!half_accepts(&words, 0, honest + (1 << 96)));
    }
}
