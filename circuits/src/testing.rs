//! What the tests of gadgets and of the whole circuit ask of a builder.

use ark_ff::{One, Zero};

use crate::Fr;
use crate::builder::{Bit, Bits, Builder, Constraints, Matrices, Row};

/// The value of a bit in the builder's assignment.
pub(crate) fn value_of(builder: &Builder, bit: Bit) -> bool {
    Bits(builder.values().unwrap()).get(bit)
}

/// How many constraints `gadget` makes.
pub(crate) fn constraints_of(gadget: impl FnOnce(&mut Builder)) -> usize {
    let mut builder = Builder::without_values(Constraints::Count);
    gadget(&mut builder);
    builder.shape().constraints
}

/// Whether the assignment meets every kept constraint.
pub(crate) fn satisfied(builder: Builder) -> bool {
    let (matrices, values) = parts(builder);
    (0..matrices[0].len()).all(|row| holds(&matrices, row, &values))
}

/// The mutation test for a system all of whose witnesses are determined by the constraints.
pub(crate) fn assert_sound(builder: Builder) {
    assert_sound_from(builder, 0);
}

/// The mutation test, but for the first `free` witnesses, which are a gadget's inputs.
///
/// The system has to be satisfied; then each public input and each witness in turn is replaced by each of several
/// other values, and some constraint that contains it has to break.
pub(crate) fn assert_sound_from(builder: Builder, free: usize) {
    let shape = builder.shape();
    let (matrices, mut values) = parts(builder);
    assert_eq!(values.len(), 1 + shape.inputs + shape.witnesses);
    for row in 0..matrices[0].len() {
        assert!(holds(&matrices, row, &values), "constraint {row} does not hold");
    }
    let rows = rows_by_variable(&matrices, values.len());
    assert_isolated(&matrices, &rows, &values, 1 + shape.inputs);
    let inputs = 1..1 + shape.inputs;
    for index in inputs.chain(1 + shape.inputs + free..values.len()) {
        let honest = values[index];
        let others = [Fr::one() - honest, honest + Fr::one(), -honest, honest.double_and_more()];
        for other in others.into_iter().filter(|other| *other != honest) {
            values[index] = other;
            let broken = rows[index].iter().any(|row| !holds(&matrices, *row, &values));
            assert!(broken, "variable {index} can be {other} as well as {honest}");
        }
        values[index] = honest;
    }
}

trait DoubleAndMore {
    fn double_and_more(self) -> Self;
}

impl DoubleAndMore for Fr {
    /// A value far from the small numbers that circuits count with.
    fn double_and_more(self) -> Self {
        self + self + Fr::from(0x9e37_79b9_7f4a_7c15_u64)
    }
}

/// No set of witnesses can move together by a little: each is in turn a simple root of a constraint whose other
/// witnesses are settled already. That leaves finitely many assignments.
fn assert_isolated(matrices: &Matrices, rows: &[Vec<usize>], values: &[Fr], first: usize) {
    let mut settled: Vec<bool> = (0..values.len()).map(|index| index < first).collect();
    let mut open: Vec<usize> = (0..matrices[0].len()).collect();
    while let Some(row) = open.pop() {
        let mut unsettled = variables(matrices, row);
        unsettled.retain(|index| !settled[*index]);
        if let [index] = unsettled[..]
            && !derivative(matrices, row, index, values).is_zero()
        {
            settled[index] = true;
            open.extend(&rows[index]);
        }
    }
    assert_eq!(settled.iter().position(|settled| !settled), None, "a witness is not settled");
}

fn variables(matrices: &Matrices, row: usize) -> Vec<usize> {
    let terms = matrices.iter().flat_map(|matrix| &matrix[row]);
    let mut variables: Vec<usize> = terms.map(|(_, index)| *index).collect();
    variables.sort_unstable();
    variables.dedup();
    variables
}

/// Of `a·b − c` with respect to one variable.
fn derivative([a, b, c]: &Matrices, row: usize, index: usize, values: &[Fr]) -> Fr {
    let of = |row: &Row| {
        let term = row.iter().find(|(_, at)| *at == index);
        term.map_or(Fr::zero(), |(coefficient, _)| *coefficient)
    };
    of(&a[row]) * evaluate(&b[row], values) + of(&b[row]) * evaluate(&a[row], values) - of(&c[row])
}

fn parts(builder: Builder) -> (Matrices, Vec<Fr>) {
    let (Constraints::Keep(matrices), Some(values)) = builder.into_parts() else {
        panic!("the builder keeps neither constraints nor values");
    };
    (matrices, values.to_vec())
}

fn holds([a, b, c]: &Matrices, row: usize, values: &[Fr]) -> bool {
    (evaluate(&a[row], values) * evaluate(&b[row], values) - evaluate(&c[row], values)).is_zero()
}

fn evaluate(row: &Row, values: &[Fr]) -> Fr {
    row.iter().map(|(coefficient, index)| values[*index] * coefficient).sum()
}

fn rows_by_variable(matrices: &Matrices, variables: usize) -> Vec<Vec<usize>> {
    let mut rows = vec![Vec::new(); variables];
    for matrix in matrices {
        for (number, row) in matrix.iter().enumerate() {
            row.iter().for_each(|(_, index)| rows[*index].push(number));
        }
    }
    rows
}

#[test]
#[should_panic(expected = "a witness is not settled")]
fn a_free_witness_is_found() {
    let mut builder = Builder::with_values(Constraints::keep(), 8);
    builder.boolean(|_| true);
    builder.witness_bit(|_| true);
    assert_sound(builder);
}

#[test]
#[should_panic(expected = "can be")]
fn a_bit_that_may_be_either_is_found() {
    let mut builder = Builder::with_values(Constraints::keep(), 8);
    builder.boolean(|_| true);
    assert_sound(builder);
}
