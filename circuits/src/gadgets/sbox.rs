//! The AES S-box (FIPS 197 §5.1.1) as membership of `(x, y)` in its table, 24 constraints.
//!
//! The 256 entries are cut into 16 groups of 16. For each group there is one linear form over 16 features of the
//! pair (the bits of `x`, seven bits of `y`, and `p²` with `p = 256x + y`) that is 1 on the entries of the group.
//! The product over the groups of `form − 1` is then zero exactly for the pairs of the table: on its entries by
//! construction, on all others by the test of all 65,536 pairs below.

use std::sync::LazyLock;

use ark_ff::{Field, One, Zero};

use crate::Fr;
use crate::builder::{Bit, Builder, Index, Linear, ONE};
use crate::gadgets::sum::power_of_two;

/// Eight bits, least significant first.
pub(crate) type Byte = [Bit; 8];

const GROUP: usize = 16;
const GROUPS: usize = 16;

/// The inputs `x`, group by group. Part of the circuit's definition: the order was drawn once (Fisher-Yates on
/// SHA-256 of "posthouse/sbox/2/" and a counter; the first two seeds let in pairs outside the table) and the
/// circuit's identity depends on it.
const INPUTS: [[u8; GROUP]; GROUPS] = [
    [0x71, 0x33, 0x28, 0x35, 0xd8, 0x5f, 0x6b, 0xff, 0x1d, 0xc5, 0x92, 0xc7, 0xd3, 0x77, 0xe4, 0x7c],
    [0x45, 0x7b, 0xb5, 0x99, 0x03, 0x7d, 0x32, 0xe7, 0x97, 0x01, 0xd6, 0xc2, 0xeb, 0x67, 0xe5, 0x27],
    [0xa8, 0x4a, 0xdd, 0x90, 0xaa, 0x40, 0xb0, 0xdc, 0xbd, 0x9b, 0x46, 0xf2, 0xa2, 0xbb, 0x44, 0xb4],
    [0x95, 0x39, 0x84, 0x2c, 0xab, 0x3d, 0xc8, 0x13, 0xa9, 0xfc, 0x5b, 0xa6, 0xec, 0x59, 0x48, 0x4d],
    [0x75, 0x5e, 0xd5, 0xa4, 0x7e, 0x04, 0x63, 0x43, 0x23, 0x8f, 0xf7, 0x76, 0xb3, 0x7a, 0xc6, 0x80],
    [0xb7, 0x6e, 0x50, 0xe0, 0xf3, 0x22, 0x06, 0xba, 0x9d, 0x0d, 0x4e, 0x68, 0x87, 0x72, 0x57, 0xa7],
    [0x51, 0xf5, 0xb6, 0x29, 0x52, 0x3f, 0xfd, 0x10, 0xa0, 0xd9, 0xcb, 0xa1, 0xea, 0x47, 0x73, 0x1c],
    [0xdf, 0xfa, 0x14, 0x17, 0xc0, 0xf8, 0xbf, 0x34, 0x91, 0x5a, 0x08, 0xd2, 0x9f, 0xac, 0x9a, 0xed],
    [0xe2, 0x55, 0x6c, 0x7f, 0x2b, 0x19, 0xe8, 0x1a, 0x58, 0x18, 0x8a, 0x21, 0x4f, 0xae, 0xd4, 0x79],
    [0xda, 0x70, 0xf1, 0x65, 0x0f, 0xc3, 0x4b, 0x3b, 0xe9, 0xf4, 0x93, 0x11, 0x0e, 0xca, 0xbc, 0x8c],
    [0x78, 0x82, 0xce, 0xa5, 0x8b, 0x25, 0xd7, 0x64, 0xfe, 0xd1, 0x89, 0x2f, 0x86, 0xf0, 0xde, 0x1f],
    [0xf6, 0x3a, 0xfb, 0x60, 0xaf, 0x6f, 0xcc, 0x3c, 0xd0, 0x3e, 0xc1, 0x81, 0xf9, 0x8d, 0x24, 0x69],
    [0x31, 0x8e, 0x0b, 0x5d, 0xb9, 0xe3, 0x30, 0x16, 0x26, 0x62, 0x00, 0x20, 0x85, 0x05, 0xc4, 0x36],
    [0x6a, 0xdb, 0x1b, 0x2d, 0x37, 0x9c, 0x07, 0x1e, 0xc9, 0xcf, 0x42, 0xbe, 0x6d, 0xa3, 0x41, 0x2e],
    [0xb2, 0x56, 0x4c, 0x66, 0xcd, 0xad, 0x0c, 0x15, 0x0a, 0x98, 0xe6, 0xb8, 0xee, 0x61, 0xe1, 0x53],
    [0x83, 0x09, 0x96, 0x38, 0x49, 0x12, 0x2a, 0x88, 0x74, 0x02, 0x5c, 0x54, 0x94, 0x9e, 0xef, 0xb1],
];

/// The S-box, computed from its definition: the inverse in GF(2^8), then the affine map.
static TABLE: LazyLock<[u8; 256]> = LazyLock::new(|| std::array::from_fn(|x| substitute(x as u8)));

/// Coefficients of the forms: eight bits of `x`, seven bits of `y`, `p²`.
static FORMS: LazyLock<[[Fr; GROUP]; GROUPS]> = LazyLock::new(|| INPUTS.map(solve));

/// The running products of the factors, without the last which is zero, for every `x` with its `y`.
static PRODUCTS: LazyLock<Vec<[Fr; GROUPS - 2]>> =
    LazyLock::new(|| (0..=255).map(running_products).collect());

impl Builder {
    /// `y = S(x)`: eight boolean checks, one square, fifteen products.
    pub(crate) fn sbox(&mut self, x: &Byte) -> Byte {
        let input = self.peek(|of| of.number(x) as u8).unwrap_or_default();
        let output = TABLE[usize::from(input)];
        let y: Byte = std::array::from_fn(|i| self.boolean(|_| output >> i & 1 == 1));
        let square = self.witness(|_| pair_value(input, output).square());
        self.enforce(|| [pair(x, &y), pair(x, &y), Linear::variable(square)]);
        let factor = |k: usize| factor(&FORMS[k], x, &y, square);
        let mut product = None;
        for k in 1..GROUPS {
            let left = move || product.map_or_else(|| factor(0), Linear::variable);
            let is_last = k == GROUPS - 1;
            let next = (!is_last).then(|| self.witness(|_| PRODUCTS[usize::from(input)][k - 1]));
            let right = || next.map_or_else(Linear::default, Linear::variable);
            self.enforce(|| [left(), factor(k), right()]);
            product = next;
        }
        y
    }
}

/// `p = 256x + y`.
fn pair(x: &Byte, y: &Byte) -> Linear {
    let bits = y.iter().chain(x).enumerate();
    bits.fold(Linear::default(), |p, (i, bit)| p.plus_bit(power_of_two(i), *bit))
}

fn pair_value(x: u8, y: u8) -> Fr {
    Fr::from(u16::from_be_bytes([x, y]))
}

/// `form − 1` as a linear combination.
fn factor(form: &[Fr; GROUP], x: &Byte, y: &Byte, square: Index) -> Linear {
    let bits = x.iter().chain(&y[..GROUP - 9]).zip(form);
    let form_of_bits =
        bits.fold(Linear::default(), |sum, (bit, coefficient)| sum.plus_bit(*coefficient, *bit));
    form_of_bits.plus(form[GROUP - 1], square).plus(-Fr::one(), ONE)
}

fn factor_value(form: &[Fr; GROUP], x: u8, y: u8) -> Fr {
    let products = features(x, y).into_iter().zip(form).map(|(feature, c)| feature * c);
    products.sum::<Fr>() - Fr::one()
}

fn features(x: u8, y: u8) -> [Fr; GROUP] {
    std::array::from_fn(|i| match i {
        0..8 => Fr::from(x >> i & 1),
        8..15 => Fr::from(y >> (i - 8) & 1),
        _ => pair_value(x, y).square(),
    })
}

fn running_products(x: u8) -> [Fr; GROUPS - 2] {
    let y = TABLE[usize::from(x)];
    let mut product = factor_value(&FORMS[0], x, y);
    std::array::from_fn(|k| {
        product *= factor_value(&FORMS[k + 1], x, y);
        product
    })
}

/// The form that is 1 on the 16 entries of a group: Gauss-Jordan elimination over the field.
fn solve(group: [u8; GROUP]) -> [Fr; GROUP] {
    let mut rows = group.map(|x| (features(x, TABLE[usize::from(x)]), Fr::one()));
    for column in 0..GROUP {
        let pivot = (column..GROUP).find(|row| !rows[*row].0[column].is_zero());
        rows.swap(column, pivot.expect("the pinned groups have independent features"));
        let inverse = rows[column].0[column].inverse().expect("the pivot is not zero");
        rows[column].0.iter_mut().for_each(|c| *c *= inverse);
        rows[column].1 *= inverse;
        let (pivot, right) = rows[column];
        for (_, other) in rows.iter_mut().enumerate().filter(|(row, _)| *row != column) {
            let factor = other.0[column];
            other.0.iter_mut().zip(pivot).for_each(|(c, p)| *c -= factor * p);
            other.1 -= factor * right;
        }
    }
    rows.map(|(_, solution)| solution)
}

fn substitute(x: u8) -> u8 {
    let inverse = (0..=255).find(|y| multiply(x, *y) == 1).unwrap_or(0);
    (0..5).fold(0x63, |sum, turn| sum ^ inverse.rotate_left(turn))
}

/// Product in GF(2^8) modulo x^8 + x^4 + x^3 + x + 1 (FIPS 197 §4.2).
fn multiply(mut a: u8, mut b: u8) -> u8 {
    let mut product = 0;
    while b != 0 {
        product ^= if b & 1 == 1 { a } else { 0 };
        a = a << 1 ^ if a >> 7 == 1 { 0x1b } else { 0 };
        b >>= 1;
    }
    product
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::builder::Constraints;
    use crate::testing::{assert_sound, value_of};

    #[test]
    fn table_is_that_of_fips_197() {
        assert_eq!(TABLE[..8], [0x63, 0x7c, 0x77, 0x7b, 0xf2, 0x6b, 0x6f, 0xc5]);
        assert_eq!((TABLE[0x53], TABLE[0xff]), (0xed, 0x16));
        let mut outputs = TABLE.to_vec();
        outputs.sort_unstable();
        assert!((0..=255).eq(outputs));
    }

    #[test]
    fn groups_hold_every_input_once() {
        let mut inputs = INPUTS.concat();
        inputs.sort_unstable();
        assert!((0..=255).eq(inputs));
    }

    #[test]
    fn of_all_65536_pairs_the_256_of_the_table_pass() {
        for x in 0..=255 {
            for y in 0..=255 {
                let zero = FORMS.iter().any(|form| factor_value(form, x, y).is_zero());
                assert_eq!(zero, y == TABLE[usize::from(x)], "{x:#04x} {y:#04x}");
            }
        }
    }

    #[test]
    fn every_input_in_the_circuit() {
        for x in 0..=255_u8 {
            let mut builder = Builder::with_values(Constraints::keep(), 64);
            let input: Byte = std::array::from_fn(|i| builder.boolean(|_| x >> i & 1 == 1));
            // One bit negated, as the first round's counter does it.
            let input = std::array::from_fn(|i| input[i].flip(i == 3));
            let before = builder.shape().constraints;
            let y = builder.sbox(&input);
            assert_eq!(builder.shape().constraints - before, 24);
            let y: u8 = (0..8).map(|i| u8::from(value_of(&builder, y[i])) << i).sum();
            assert_eq!(y, TABLE[usize::from(x ^ 8)]);
            assert_sound(builder);
        }
    }
}
