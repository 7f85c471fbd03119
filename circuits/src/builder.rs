//! Constraints and assignment, made by one pass of the same code.
//!
//! A gadget allocates witnesses and states constraints on a [`Builder`]. The builder keeps, counts or hashes the
//! constraints, or skips them when the assignment is all that is wanted, which is what makes proving with kept
//! matrices quick. Because one code makes both, they cannot drift apart.

use std::collections::HashMap;

use ark_ff::{One, Zero};
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

use crate::Fr;

/// Index of a variable in the full assignment: the constant one, the public inputs, then the witnesses.
pub(crate) type Index = u32;

/// The variable that is always one.
pub(crate) const ONE: Index = 0;

/// A value that is 0 or 1: a constant, or a variable that some constraint holds to it, perhaps negated.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Bit {
    Const(bool),
    Var { index: Index, negated: bool },
}

impl Bit {
    pub(crate) fn var(index: Index) -> Self {
        Self::Var { index, negated: false }
    }

    /// XOR with a constant: linear, so it costs nothing.
    pub(crate) fn flip(self, by: bool) -> Self {
        match self {
            Self::Const(value) => Self::Const(value ^ by),
            Self::Var { index, negated } => Self::Var { index, negated: negated ^ by },
        }
    }
}

/// A linear combination of variables; constants are multiples of [`ONE`].
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Linear(Vec<(Index, Fr)>);

impl Linear {
    pub(crate) fn constant(value: Fr) -> Self {
        Self(vec![(ONE, value)])
    }

    pub(crate) fn variable(index: Index) -> Self {
        Self(vec![(index, Fr::one())])
    }

    /// The number of ones among `bits`.
    pub(crate) fn count(bits: &[Bit]) -> Self {
        bits.iter().fold(Self::default(), |sum, bit| sum.plus_bit(Fr::one(), *bit))
    }

    pub(crate) fn plus(mut self, coefficient: Fr, index: Index) -> Self {
        self.0.push((index, coefficient));
        self
    }

    pub(crate) fn plus_bit(self, coefficient: Fr, bit: Bit) -> Self {
        match bit {
            Bit::Const(false) => self,
            Bit::Const(true) => self.plus(coefficient, ONE),
            Bit::Var { index, negated: false } => self.plus(coefficient, index),
            Bit::Var { index, negated: true } => self.plus(coefficient, ONE).plus(-coefficient, index),
        }
    }

    pub(crate) fn plus_linear(mut self, coefficient: Fr, other: &Self) -> Self {
        self.0.extend(other.0.iter().map(|(index, c)| (*index, coefficient * c)));
        self
    }

    pub(crate) fn times(mut self, factor: Fr) -> Self {
        self.0.iter_mut().for_each(|(_, coefficient)| *coefficient *= factor);
        self
    }

    pub(crate) fn evaluate(&self, values: &[Fr]) -> Fr {
        self.0.iter().map(|(index, c)| values[*index as usize] * c).sum()
    }

    /// The one form of this combination: by variable, each at most once, no zeros.
    fn normalise(mut self) -> Row {
        self.0.sort_by_key(|(index, _)| *index);
        let mut row: Row = Vec::with_capacity(self.0.len());
        for (index, coefficient) in self.0 {
            match row.last_mut() {
                Some((last, at)) if *at == index as usize => *last += coefficient,
                _ => row.push((coefficient, index as usize)),
            }
        }
        row.retain(|(coefficient, _)| !coefficient.is_zero());
        row
    }
}

/// One side of one constraint, as arkworks has it.
pub(crate) type Row = Vec<(Fr, usize)>;

/// The matrices A, B and C of the system `Az ∘ Bz = Cz`.
pub(crate) type Matrices = [Vec<Row>; 3];

/// What becomes of the constraints.
pub(crate) enum Constraints {
    /// Nothing: only the assignment is wanted.
    Skip,
    /// Only [`Shape::constraints`] is wanted.
    Count,
    /// They are hashed, one after the other.
    Hash(Sha256),
    /// They are kept.
    Keep(Matrices),
    /// They are checked against the assignment as they come; this many did not hold.
    #[cfg(test)]
    Check(usize),
}

impl Constraints {
    pub(crate) fn hash() -> Self {
        Self::Hash(Sha256::new_with_prefix(b"posthouse/circuit/1"))
    }

    pub(crate) fn keep() -> Self {
        Self::Keep(Default::default())
    }

    fn push(&mut self, sides: [Linear; 3], _values: Option<&[Fr]>) {
        match self {
            #[cfg(test)]
            Self::Check(unmet) => {
                let values = _values.expect("only an assignment can be checked");
                let [a, b, c] = sides.map(|side| side.evaluate(values));
                *unmet += usize::from(a * b != c);
            }
            Self::Skip | Self::Count => {}
            Self::Hash(hash) => sides.map(Linear::normalise).iter().for_each(|row| absorb(hash, row)),
            Self::Keep(matrices) => {
                for (matrix, side) in matrices.iter_mut().zip(sides) {
                    let mut row = side.normalise();
                    row.shrink_to_fit();
                    matrix.push(row);
                }
            }
        }
    }
}

fn absorb(hash: &mut Sha256, row: &Row) {
    hash.update((row.len() as u32).to_be_bytes());
    for (coefficient, index) in row {
        hash.update((*index as u32).to_be_bytes());
        for limb in ark_ff::PrimeField::into_bigint(*coefficient).0.iter().rev() {
            hash.update(limb.to_be_bytes());
        }
    }
}

/// The dimensions of a constraint system.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shape {
    /// Rank-1 constraints.
    pub constraints: usize,
    /// Public inputs, the constant one not counted.
    pub inputs: usize,
    /// Secret variables.
    pub witnesses: usize,
}

impl Shape {
    /// All variables, the constant one included.
    #[must_use]
    pub fn variables(&self) -> usize {
        1 + self.inputs + self.witnesses
    }
}

/// Makes a constraint system, an assignment, or both.
pub(crate) struct Builder {
    constraints: Constraints,
    /// The assignment so far; `None` when only the shape of the system is wanted. It contains `r`.
    values: Option<Zeroizing<Vec<Fr>>>,
    shape: Shape,
    /// Outputs of XOR gates by their inputs, so that equal parts of two blocks are paid for once.
    pub(crate) xors: HashMap<[Index; 6], Index>,
}

impl Builder {
    /// A builder of constraints alone.
    pub(crate) fn without_values(constraints: Constraints) -> Self {
        Self::new(constraints, None)
    }

    /// A builder that computes the assignment. `variables` should be enough for the whole of it, since a vector
    /// that grows leaves copies of secrets behind.
    pub(crate) fn with_values(constraints: Constraints, variables: usize) -> Self {
        let mut values = Vec::with_capacity(variables);
        values.push(Fr::one());
        Self::new(constraints, Some(Zeroizing::new(values)))
    }

    fn new(constraints: Constraints, values: Option<Zeroizing<Vec<Fr>>>) -> Self {
        let shape = Shape { constraints: 0, inputs: 0, witnesses: 0 };
        Self { constraints, values, shape, xors: HashMap::new() }
    }

    pub(crate) fn shape(&self) -> Shape {
        self.shape
    }

    #[cfg(test)]
    pub(crate) fn values(&self) -> Option<&[Fr]> {
        self.values.as_ref().map(|values| values.as_slice())
    }

    pub(crate) fn into_parts(self) -> (Constraints, Option<Zeroizing<Vec<Fr>>>) {
        (self.constraints, self.values)
    }

    /// Something computed from the assignment so far, when there is one.
    pub(crate) fn peek<T>(&self, compute: impl FnOnce(Bits<'_>) -> T) -> Option<T> {
        self.values.as_ref().map(|values| compute(Bits(values)))
    }

    /// A public input. All of them come before the first witness.
    pub(crate) fn input(&mut self, value: impl FnOnce() -> Fr) -> Index {
        debug_assert_eq!(self.shape.witnesses, 0, "inputs come first");
        if let Some(values) = &mut self.values {
            values.push(value());
        }
        self.shape.inputs += 1;
        self.shape.inputs as Index
    }

    /// A new secret variable; `value` is asked only when there is an assignment.
    pub(crate) fn witness(&mut self, value: impl FnOnce(&[Fr]) -> Fr) -> Index {
        if let Some(values) = &mut self.values {
            let value = value(values);
            values.push(value);
        }
        self.shape.witnesses += 1;
        (self.shape.inputs + self.shape.witnesses) as Index
    }

    /// A new secret variable for a bit. The caller's constraint has to make it 0 or 1.
    pub(crate) fn witness_bit(&mut self, value: impl FnOnce(Bits<'_>) -> bool) -> Bit {
        Bit::var(self.witness(|values| Fr::from(value(Bits(values)))))
    }

    /// A new secret bit with the constraint that makes it one.
    pub(crate) fn boolean(&mut self, value: impl FnOnce(Bits<'_>) -> bool) -> Bit {
        let bit = self.witness_bit(value);
        self.enforce(|| {
            let x = Linear::default().plus_bit(Fr::one(), bit);
            [x.clone(), x.plus(-Fr::one(), ONE), Linear::default()]
        });
        bit
    }

    /// States `a · b = c`.
    pub(crate) fn enforce(&mut self, sides: impl FnOnce() -> [Linear; 3]) {
        self.shape.constraints += 1;
        if !matches!(self.constraints, Constraints::Skip | Constraints::Count) {
            self.constraints.push(sides(), self.values.as_ref().map(|values| values.as_slice()));
        }
    }
}

/// The values of bits in a partial assignment.
#[derive(Clone, Copy)]
pub(crate) struct Bits<'a>(pub(crate) &'a [Fr]);

impl Bits<'_> {
    pub(crate) fn get(self, bit: Bit) -> bool {
        match bit {
            Bit::Const(value) => value,
            Bit::Var { index, negated } => !self.0[index as usize].is_zero() ^ negated,
        }
    }

    /// The number whose bits these are, least significant first.
    pub(crate) fn number(self, bits: &[Bit]) -> u64 {
        bits.iter().rev().fold(0, |number, bit| number << 1 | u64::from(self.get(*bit)))
    }
}
