//! The statement as constraints.

use crate::builder::{Bit, Bits, Builder, Constraints, Index, Linear, ONE, Shape};
use crate::gadgets::aes::KeyStream;
use crate::gadgets::sbox::Byte;
use crate::gadgets::sum::{Sum, power_of_two};
use crate::statement::{DIGEST_INPUTS, LIMB_LEN, Statement};

use crate::Fr;

/// Public and secret half of one exchange.
#[derive(Clone, Copy)]
pub(crate) struct Instance<'a> {
    pub(crate) statement: Statement<'a>,
    pub(crate) r: &'a [u8; 32],
}

/// States the relation for payloads of `len` bytes on a builder, with an instance when there is an assignment to
/// compute.
pub(crate) fn state(builder: &mut Builder, len: usize, instance: Option<Instance<'_>>) {
    let inputs = public_inputs(builder, len, instance);
    let (digests, limbs) = inputs.split_at(DIGEST_INPUTS);
    let r = secret_bytes(builder, 32, instance.map(|i| i.r.as_slice()));
    let cipher = secret_bytes(builder, len, instance.map(|i| i.statement.cipher));

    // H(r) = s
    let lock = builder.sha256(&in_digest_order(&r));
    enforce_digest(builder, &digests[..2], &lock);

    // The bytes of Û are those of the public limbs.
    for (limb, bytes) in limbs.iter().zip(cipher.chunks(LIMB_LEN)) {
        enforce_limb(builder, *limb, bytes);
    }

    // H(Dec(Û, r)) = U_id
    let payload = decrypt(builder, &r, &cipher);
    let digest = builder.sha256(&in_digest_order(&payload));
    enforce_digest(builder, &digests[2..], &digest);
}

/// The dimensions of the circuit for payloads of `len` bytes.
#[must_use]
pub fn shape(len: usize) -> Shape {
    let mut builder = Builder::without_values(Constraints::Count);
    state(&mut builder, len, None);
    builder.shape()
}

fn public_inputs(builder: &mut Builder, len: usize, instance: Option<Instance<'_>>) -> Vec<Index> {
    let values = instance.map(|instance| instance.statement.public_inputs());
    (0..crate::statement::input_count(len))
        .map(|i| builder.input(|| values.as_ref().map_or_else(Fr::default, |values| values[i])))
        .collect()
}

fn secret_bytes(builder: &mut Builder, len: usize, bytes: Option<&[u8]>) -> Vec<Byte> {
    let value = |i: usize, bit: usize| bytes.is_some_and(|bytes| bytes[i] >> bit & 1 == 1);
    let mut byte = |i| std::array::from_fn(|bit| builder.boolean(|_: Bits<'_>| value(i, bit)));
    (0..len).map(&mut byte).collect()
}

fn decrypt(builder: &mut Builder, r: &[Byte], cipher: &[Byte]) -> Vec<Byte> {
    if cipher.is_empty() {
        return Vec::new();
    }
    let key = r.first_chunk().expect("r has 32 bytes");
    let mut stream = KeyStream::new(builder, key);
    let blocks = cipher.chunks(16).enumerate();
    blocks.flat_map(|(number, block)| stream.apply(builder, number as u128, block)).collect()
}

fn enforce_digest(builder: &mut Builder, halves: &[Index], digest: &[Sum; 8]) {
    let (words, _) = digest.as_chunks::<4>();
    for (half, words) in halves.iter().zip(words) {
        builder.enforce_half(*half, words);
    }
}

/// The limb is the little-endian number of these bytes. They are boolean, and fewer than the field has bits.
fn enforce_limb(builder: &mut Builder, limb: Index, bytes: &[Byte]) {
    builder.enforce(|| {
        let bits = bytes.iter().flatten().enumerate();
        let number = bits.fold(Linear::default(), |sum, (i, bit)| sum.plus_bit(power(i), *bit));
        [number, Linear::variable(ONE), Linear::variable(limb)]
    });
}

fn power(of_two: usize) -> Fr {
    match of_two {
        0..128 => power_of_two(of_two),
        _ => power_of_two(127) * power_of_two(of_two - 127),
    }
}

/// SHA-256 takes the most significant bit of each byte first.
fn in_digest_order(bytes: &[Byte]) -> Vec<Bit> {
    bytes.iter().flat_map(|byte| byte.iter().rev().copied()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cipher::apply_payload;
    use crate::testing::assert_sound;
    use proptest::prelude::*;
    use sha2::{Digest, Sha256};

    /// Around every boundary: of a byte, an AES block, a limb, SHA-256's padding and block, and the modes' lengths.
    const LENGTHS: [usize; 15] = [0, 1, 15, 16, 17, 31, 32, 33, 55, 56, 63, 64, 65, 119, 120];

    struct Exchange {
        s: [u8; 32],
        u_id: [u8; 32],
        cipher: Vec<u8>,
        r: [u8; 32],
    }

    impl Exchange {
        fn honest(r: [u8; 32], payload: &[u8]) -> Self {
            let mut cipher = payload.to_vec();
            apply_payload(&r, &mut cipher);
            Self { s: Sha256::digest(r).into(), u_id: Sha256::digest(payload).into(), cipher, r }
        }

        fn of_length(len: usize) -> Self {
            let payload: Vec<u8> = (0..len).map(|i| (i * 31 + 7) as u8).collect();
            Self::honest(Sha256::digest(&payload).into(), &payload)
        }

        fn statement(&self) -> Statement<'_> {
            Statement { s: self.s, u_id: self.u_id, cipher: &self.cipher }
        }

        /// Whether the circuit accepts, which has to be what the native check says.
        fn accepted(&self) -> bool {
            let statement = self.statement();
            let mut builder = Builder::with_values(Constraints::Check(0), 1 << 16);
            let instance = Instance { statement, r: &self.r };
            state(&mut builder, self.cipher.len(), Some(instance));
            assert_eq!(builder.values().unwrap().len(), builder.shape().variables());
            let (Constraints::Check(unmet), _) = builder.into_parts() else { unreachable!() };
            assert_eq!(unmet == 0, statement.check(&self.r));
            unmet == 0
        }
    }

    #[test]
    fn every_length_is_satisfied_by_the_truth() {
        LENGTHS.into_iter().for_each(|len| assert!(Exchange::of_length(len).accepted(), "{len}"));
    }

    #[test]
    fn no_length_is_satisfied_by_anything_else() {
        for len in LENGTHS {
            altered(len).for_each(|wrong| assert!(!wrong.accepted(), "{len}"));
        }
    }

    /// An exchange with a wrong bit in `s`, in `U_id`, and where the ciphertext ends.
    fn altered(len: usize) -> impl Iterator<Item = Exchange> {
        let alterations: [fn(&mut Exchange); 3] = [
            |exchange| exchange.s[exchange.cipher.len() % 32] ^= 1,
            |exchange| exchange.u_id[31 - exchange.cipher.len() % 32] ^= 0x80,
            |exchange| match exchange.cipher.last_mut() {
                Some(last) => *last ^= 0x10,
                None => exchange.r[31] ^= 1,
            },
        ];
        alterations.into_iter().map(move |alter| {
            let mut exchange = Exchange::of_length(len);
            alter(&mut exchange);
            exchange
        })
    }

    #[test]
    fn a_kibibyte_is_satisfied_by_the_truth_only() {
        assert!(Exchange::of_length(1024).accepted());
        let mut wrong = Exchange::of_length(1024);
        wrong.cipher[1023] ^= 1;
        assert!(!wrong.accepted());
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(12))]

        #[test]
        fn circuit_and_native_check_agree(
            r: [u8; 32],
            payload in prop::collection::vec(any::<u8>(), 0..100),
            wrong in prop::option::of((0_usize..4, any::<prop::sample::Index>(), 0_u8..8)),
        ) {
            let mut exchange = Exchange::honest(r, &payload);
            if let Some((part, at, bit)) = wrong {
                let Exchange { s, u_id, cipher, r } = &mut exchange;
                let part: &mut [u8] = match part { 0 => s, 1 => u_id, 2 => r, _ => cipher };
                if !part.is_empty() {
                    part[at.index(part.len())] ^= 1 << bit;
                }
            }
            let untouched = wrong.is_none() || matches!(wrong, Some((3, ..)) if payload.is_empty());
            prop_assert_eq!(exchange.accepted(), untouched);
        }
    }

    #[test]
    fn every_witness_of_key_mode_is_constrained() {
        mutate(32);
    }

    /// Two blocks of SHA-256 and an AES block that is not whole.
    #[test]
    fn every_witness_of_a_longer_payload_is_constrained() {
        mutate(65);
    }

    fn mutate(len: usize) {
        let exchange = Exchange::of_length(len);
        let mut builder = Builder::with_values(Constraints::keep(), 1 << 16);
        let instance = Instance { statement: exchange.statement(), r: &exchange.r };
        state(&mut builder, len, Some(instance));
        assert_sound(builder);
    }

    /// What setup is given and what proving computes have to be one system.
    #[test]
    fn shape_does_not_depend_on_values() {
        for len in [0, 32, 65] {
            let exchange = Exchange::of_length(len);
            let mut builder = Builder::with_values(Constraints::Skip, 1 << 16);
            let instance = Instance { statement: exchange.statement(), r: &exchange.r };
            state(&mut builder, len, Some(instance));
            assert_eq!(builder.shape(), shape(len));
        }
    }

    #[test]
    fn budgets() {
        let key_mode = crate::figures::key_mode();
        assert!(key_mode < 50_000, "{key_mode}");
        let step = crate::figures::file_mode_step_64();
        assert!(step <= 44_700, "{step}");
        for len in [512_usize, 1024] {
            let most = key_mode + step * (len - 32).div_ceil(64);
            assert!(shape(len).constraints <= most, "{len}");
        }
    }
}
