//! Gates on bits, one constraint or two each, whose output is unique and boolean without a check of its own.
//!
//! For boolean inputs with sum `s` the output `f` satisfies `(s − k)(f + …) = …` where the first factor is never
//! zero, so exactly one `f` fits, and it is the right bit.

use ark_ff::{Field, One};

use crate::Fr;
use crate::builder::{Bit, Builder, Index, Linear, ONE};

/// The most inputs of one XOR gate.
const WIDTH: usize = 6;

impl Builder {
    /// XOR of any number of bits. Constants and equal pairs cost nothing; up to three variables cost one
    /// constraint, up to six two. A gate with the same inputs as an earlier one is that one.
    pub(crate) fn xor(&mut self, bits: &[Bit]) -> Bit {
        let (variables, parity) = odd_variables(bits);
        let bit = match variables[..] {
            [] => Bit::Const(false),
            [index] => Bit::var(index),
            _ if variables.len() <= WIDTH => Bit::var(self.xor_gate(&variables)),
            _ => {
                let (first, rest) = variables.split_at(3);
                let mut fewer = vec![Bit::var(self.xor_gate(first))];
                fewer.extend(rest.iter().copied().map(Bit::var));
                self.xor(&fewer)
            }
        };
        bit.flip(parity)
    }

    fn xor_gate(&mut self, inputs: &[Index]) -> Index {
        let mut key = [ONE; WIDTH];
        key[..inputs.len()].copy_from_slice(inputs);
        if let Some(output) = self.xors.get(&key) {
            return *output;
        }
        let bits: Vec<Bit> = inputs.iter().copied().map(Bit::var).collect();
        let output = match bits.len() {
            ..=3 => self.xor3(&bits),
            _ => self.xor6(&bits),
        };
        self.xors.insert(key, output);
        output
    }

    /// `(s − 3/2)(f − s/2) = −s/4` for s = 0, 1, 2, 3.
    fn xor3(&mut self, bits: &[Bit]) -> Index {
        let f = self.parity_of(bits);
        self.enforce(|| {
            let s = Linear::count(bits);
            [
                s.clone().plus(-fraction(3, 2), ONE),
                Linear::variable(f).plus_linear(-fraction(1, 2), &s),
                s.times(-fraction(1, 4)),
            ]
        });
        f
    }

    /// `w = (s − 3)²`, one of 0, 1, 4, 9 for s = 0 … 6; then `(w − 3/2)(f + w/6) = (17/12) w − 3/2`.
    fn xor6(&mut self, bits: &[Bit]) -> Index {
        let shifted = |bits| Linear::count(bits).plus(-Fr::from(3), ONE);
        let w = self.witness(|values| shifted(bits).evaluate(values).square());
        self.enforce(|| [shifted(bits), shifted(bits), Linear::variable(w)]);
        let f = self.parity_of(bits);
        self.enforce(|| {
            [
                Linear::variable(w).plus(-fraction(3, 2), ONE),
                Linear::variable(f).plus(fraction(1, 6), w),
                Linear::variable(w).times(fraction(17, 12)).plus(-fraction(3, 2), ONE),
            ]
        });
        f
    }

    fn parity_of(&mut self, bits: &[Bit]) -> Index {
        self.witness(|values| {
            let ones = bits.iter().filter(|bit| crate::builder::Bits(values).get(**bit));
            Fr::from(ones.count() % 2 == 1)
        })
    }

    /// Majority (FIPS 180-4 §4.1.2): `(s − 3/2)(f − s/4) = s/8`.
    pub(crate) fn majority(&mut self, a: Bit, b: Bit, c: Bit) -> Bit {
        match (a, b, c) {
            (Bit::Const(x), Bit::Const(y), z)
            | (Bit::Const(x), z, Bit::Const(y))
            | (z, Bit::Const(x), Bit::Const(y)) => return if x == y { Bit::Const(x) } else { z },
            _ => {}
        }
        let bits = [a, b, c];
        let f = self.witness_bit(|of| bits.iter().filter(|bit| of.get(**bit)).count() >= 2);
        self.enforce(|| {
            let s = Linear::count(&bits);
            [
                s.clone().plus(-fraction(3, 2), ONE),
                Linear::default().plus_bit(Fr::one(), f).plus_linear(-fraction(1, 4), &s),
                s.times(fraction(1, 8)),
            ]
        });
        f
    }

    /// Choice (FIPS 180-4 §4.1.2), `f` where `e` is one and `g` where it is not: `e·(f − g) = out − g`.
    pub(crate) fn choose(&mut self, e: Bit, f: Bit, g: Bit) -> Bit {
        match (e, f, g) {
            (Bit::Const(true), ..) => return f,
            (Bit::Const(false), ..) => return g,
            (_, Bit::Const(f), Bit::Const(g)) => {
                return if f == g { Bit::Const(f) } else { e.flip(g) };
            }
            _ if f == g => return f,
            _ => {}
        }
        let out = self.witness_bit(|of| if of.get(e) { of.get(f) } else { of.get(g) });
        self.enforce(|| {
            let term = |bit| Linear::default().plus_bit(Fr::one(), bit);
            [term(e), term(f).plus_bit(-Fr::one(), g), term(out).plus_bit(-Fr::one(), g)]
        });
        out
    }
}

/// The variables that occur an odd number of times, in order, and the parity of constants and negations.
fn odd_variables(bits: &[Bit]) -> (Vec<Index>, bool) {
    let (mut variables, mut parity) = (Vec::with_capacity(bits.len()), false);
    for bit in bits {
        match *bit {
            Bit::Const(value) => parity ^= value,
            Bit::Var { index, negated } => {
                parity ^= negated;
                variables.push(index);
            }
        }
    }
    variables.sort_unstable();
    let runs = variables.chunk_by(|a, b| a == b);
    let odd = runs.filter(|run| run.len() % 2 == 1).map(|run| run[0]).collect();
    (odd, parity)
}

fn fraction(numerator: u64, denominator: u64) -> Fr {
    let inverse = Fr::from(denominator).inverse().expect("a small number is not zero");
    Fr::from(numerator) * inverse
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{assert_sound_from, constraints_of, value_of};

    /// Every gate on every input: the right output, the whole system satisfied, and no other value possible.
    fn exhaust(
        inputs: usize,
        cost: usize,
        gate: impl Fn(&mut Builder, &[Bit]) -> Bit,
        native: impl Fn(&[bool]) -> bool,
    ) {
        for pattern in 0..1_u32 << inputs {
            let wanted: Vec<bool> = (0..inputs).map(|i| pattern >> i & 1 == 1).collect();
            let mut builder = Builder::with_values(crate::builder::Constraints::keep(), 64);
            let bits: Vec<Bit> = wanted.iter().map(|v| builder.boolean(|_| *v)).collect();
            let out = gate(&mut builder, &bits);
            assert_eq!(value_of(&builder, out), native(&wanted), "{wanted:?}");
            assert_eq!(builder.shape().constraints, inputs + cost);
            assert_sound_from(builder, inputs);
        }
    }

    #[test]
    fn xor_of_each_width() {
        for (width, cost) in [(1, 0), (2, 1), (3, 1), (4, 2), (5, 2), (6, 2), (7, 3), (8, 3)] {
            exhaust(width, cost, |b, bits| b.xor(bits), |v| v.iter().filter(|x| **x).count() % 2 == 1);
        }
    }

    #[test]
    fn majority_and_choice() {
        exhaust(3, 1, |b, x| b.majority(x[0], x[1], x[2]), |v| (v[0] & v[1]) | (v[2] & (v[0] | v[1])));
        exhaust(3, 1, |b, x| b.choose(x[0], x[1], x[2]), |v| if v[0] { v[1] } else { v[2] });
    }

    #[test]
    fn negated_inputs() {
        let not = |x: &[Bit]| [x[0].flip(true), x[1], x[2].flip(true)];
        exhaust(3, 1, |b, x| b.xor(&not(x)), |v| !v[0] ^ v[1] ^ !v[2]);
        exhaust(
            3,
            1,
            |b, x| {
                let [p, q, r] = not(x);
                b.choose(p, q, r)
            },
            |v| if v[0] { !v[2] } else { v[1] },
        );
        exhaust(
            3,
            1,
            |b, x| {
                let [p, q, r] = not(x);
                b.majority(p, q, r)
            },
            |v| (!v[0] & v[1]) | (!v[2] & (!v[0] | v[1])),
        );
    }

    #[test]
    fn constants_fold() {
        for (x, y) in [(false, false), (false, true), (true, false), (true, true)] {
            let (p, q) = (Bit::Const(x), Bit::Const(y));
            exhaust(1, 0, |b, v| b.xor(&[p, v[0], q]), |v| x ^ v[0] ^ y);
            exhaust(1, 0, |b, v| b.choose(v[0], p, q), |v| if v[0] { x } else { y });
            exhaust(1, 0, |b, v| b.majority(p, q, v[0]), |v| (x & y) | (v[0] & (x | y)));
            exhaust(1, 0, |b, v| b.choose(p, v[0], q), |v| if x { v[0] } else { y });
            exhaust(2, 1, |b, v| b.majority(v[0], p, v[1]), |v| (v[0] & v[1]) | (x & (v[0] | v[1])));
            exhaust(2, 1, |b, v| b.choose(v[0], p, v[1]), |v| if v[0] { x } else { v[1] });
        }
    }

    #[test]
    fn equal_gates_are_one() {
        let count = constraints_of(|b| {
            let x: [Bit; 6] = std::array::from_fn(|_| b.boolean(|_| true));
            b.xor(&x);
            b.xor(&[x[5], x[1].flip(true), x[2], x[3], x[4], x[0]]);
            b.xor(&[x[0], x[1], x[0]]);
        });
        assert_eq!(count, 6 + 2);
    }
}
