//! The name of a constraint system.

use sha2::Digest;

use crate::builder::{Builder, Constraints};
use crate::relation;
use crate::statement::KEY_MODE_LEN;

/// The identity of key mode's circuit, pinned; a test computes it.
pub const KEY_MODE_CIRCUIT_ID: [u8; 32] = [
    0xba, 0x3d, 0x45, 0x2c, 0x0f, 0xe0, 0x5b, 0xe9, 0x02, 0x28, 0xd2, 0x36, 0x31, 0x8b, 0x75, 0x8b, 0x36,
    0x12, 0x87, 0x8f, 0x9a, 0x6b, 0xaa, 0x10, 0x54, 0xb0, 0x04, 0xd7, 0xa8, 0x30, 0x06, 0xd5,
];

/// `circuit_id`: SHA-256 over every coefficient of every constraint for payloads of `len` bytes, in order, then
/// the payload length and the numbers of constraints, inputs and witnesses.
///
/// Two programs that agree on it mean the same relation by a key of that length. It costs a pass over the whole
/// circuit, but for key mode, whose identity is a constant.
#[must_use]
pub fn circuit_id(len: usize) -> [u8; 32] {
    match len {
        KEY_MODE_LEN => KEY_MODE_CIRCUIT_ID,
        _ => compute(len),
    }
}

fn compute(len: usize) -> [u8; 32] {
    let mut builder = Builder::without_values(Constraints::hash());
    relation::state(&mut builder, len, None);
    let shape = builder.shape();
    let (Constraints::Hash(mut hash), _) = builder.into_parts() else {
        unreachable!("the builder was made to hash");
    };
    for number in [len, shape.constraints, shape.inputs, shape.witnesses] {
        hash.update((number as u64).to_be_bytes());
    }
    hash.finalize().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A change here is a change of the circuit: all keys made before it are void, and releases name another
    /// `circuit_id`.
    #[test]
    fn identities_are_pinned() {
        assert_eq!(hex::encode(compute(KEY_MODE_LEN)), hex::encode(KEY_MODE_CIRCUIT_ID));
        assert_eq!(
            [0, 65].map(|len| hex::encode(circuit_id(len))),
            [
                "229e480d48f800bf5e0e3e283eda4b13b1d71964a32ccc1ea5fba4a32c01be4b",
                "43d704e00d0b4a08afaad6df895d85fb0b4a8576252e97fc22240e8aef8cdfe5",
            ]
        );
    }

    #[test]
    fn lengths_have_identities_of_their_own() {
        assert_ne!(circuit_id(31), circuit_id(30));
    }
}
