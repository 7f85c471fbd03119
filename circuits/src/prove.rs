//! Setup and proving: the vendor's and the distributor's side.

use ark_bn254::Bn254;
use ark_ff::UniformRand;
use ark_groth16::Groth16;
use ark_relations::gr1cs::{
    ConstraintSynthesizer, ConstraintSystemRef, LinearCombination, SynthesisError, Variable,
};
use ark_relations::utils::Result as SynthesisResult;

use crate::builder::{Builder, Constraints, Matrices, Row, Shape};
use crate::relation::{self, Instance};
use crate::statement::{MAX_PAYLOAD_LEN, Statement};
use crate::{Fr, Proof, Randomness, VerifyingKey};

/// Why no keys were made.
#[derive(Debug, thiserror::Error)]
pub enum SetupError {
    /// The payload is longer than [`MAX_PAYLOAD_LEN`].
    #[error("no keys for a payload of {0} bytes, the most is {MAX_PAYLOAD_LEN}")]
    PayloadLength(usize),
    /// Groth16's setup failed.
    #[error("setup: {0}")]
    Setup(SynthesisError),
}

/// Why no proof was made.
#[derive(Debug, thiserror::Error)]
pub enum ProveError {
    /// The ciphertext is not as long as the key's payload.
    #[error("ciphertext of {found} bytes, the key is for {expected}")]
    PayloadLength {
        /// The key's payload length.
        expected: usize,
        /// The ciphertext's length.
        found: usize,
    },
    /// The statement is not true of this `r`.
    #[error("the statement does not hold for this secret")]
    NotSatisfied,
    /// The proof that came out does not verify: the proving key is damaged, or not what its name says.
    #[error("the proving key makes proofs that do not verify")]
    BadKey,
    /// Groth16's prover failed.
    #[error("proving: {0}")]
    Prove(SynthesisError),
}

/// The key that makes proofs for payloads of one length, with the circuit's matrices beside it, so that a proof
/// costs an assignment and no synthesis.
pub struct ProvingKey {
    pub(crate) payload_len: usize,
    pub(crate) key: ark_groth16::ProvingKey<Bn254>,
    pub(crate) circuit: Circuit,
    pub(crate) verifying: VerifyingKey,
    pub(crate) id: [u8; 32],
}

impl ProvingKey {
    /// `Gen`: fresh keys for payloads of `len` bytes. 32 bytes take seconds, 512 take tens of them and a gigabyte.
    ///
    /// Whoever keeps the randomness of this call can prove anything under the keys; it is gone when the call
    /// returns, as far as the memory of a process allows.
    ///
    /// # Errors
    /// When `len` is above [`MAX_PAYLOAD_LEN`].
    pub fn generate(len: usize, randomness: &mut impl Randomness) -> Result<Self, SetupError> {
        if len > MAX_PAYLOAD_LEN {
            return Err(SetupError::PayloadLength(len));
        }
        let circuit = Circuit::new(len);
        let key =
            Groth16::<Bn254>::generate_random_parameters_with_reduction(&circuit, randomness.generator());
        Ok(Self::assemble(len, key.map_err(SetupError::Setup)?, circuit))
    }

    /// A proof that the statement holds for `r`, checked before it is given out.
    ///
    /// The assignment, which contains `r` and the payload, is erased; copies that arkworks' prover makes of it
    /// are freed without that.
    ///
    /// # Errors
    /// When the ciphertext has another length than the key's payload, or the statement does not hold for `r`.
    pub fn prove(
        &self,
        statement: &Statement<'_>,
        r: &[u8; 32],
        randomness: &mut impl Randomness,
    ) -> Result<Proof, ProveError> {
        let (expected, found) = (self.payload_len, statement.cipher.len());
        if found != expected {
            return Err(ProveError::PayloadLength { expected, found });
        }
        if !statement.check(r) {
            return Err(ProveError::NotSatisfied);
        }
        let proof = self.prove_assignment(Instance { statement: *statement, r }, randomness)?;
        match self.verifying.verify(statement, &proof.to_bytes()) {
            Ok(()) => Ok(proof),
            Err(_) => Err(ProveError::BadKey),
        }
    }

    /// The key that checks what this one proves.
    #[must_use]
    pub fn verifying_key(&self) -> &VerifyingKey {
        &self.verifying
    }

    /// `pk_id`: SHA-256 of the key's file.
    #[must_use]
    pub fn id(&self) -> [u8; 32] {
        self.id
    }

    /// Bytes of payload that this key is for.
    #[must_use]
    pub fn payload_len(&self) -> usize {
        self.payload_len
    }

    fn assemble(len: usize, key: ark_groth16::ProvingKey<Bn254>, circuit: Circuit) -> Self {
        let verifying = VerifyingKey::new(len, &key.vk);
        let mut assembled = Self { payload_len: len, key, circuit, verifying, id: [0; 32] };
        assembled.id = assembled.hash();
        assembled
    }

    fn prove_assignment(
        &self,
        instance: Instance<'_>,
        randomness: &mut impl Randomness,
    ) -> Result<Proof, ProveError> {
        let Circuit { matrices, shape } = &self.circuit;
        let mut builder = Builder::with_values(Constraints::Skip, shape.variables());
        relation::state(&mut builder, self.payload_len, Some(instance));
        let (_, values) = builder.into_parts();
        let values = values.expect("the builder was made to compute values");
        let generator = randomness.generator();
        Groth16::<Bn254>::create_proof_with_reduction_and_matrices(
            &self.key,
            Fr::rand(generator),
            Fr::rand(generator),
            matrices,
            1 + shape.inputs,
            shape.constraints,
            &values,
        )
        .map(Proof)
        .map_err(ProveError::Prove)
    }
}

impl std::fmt::Debug for ProvingKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ProvingKey").field("payload_len", &self.payload_len).finish_non_exhaustive()
    }
}

/// The constraint system as matrices.
pub(crate) struct Circuit {
    matrices: Matrices,
    pub(crate) shape: Shape,
}

impl Circuit {
    pub(crate) fn new(len: usize) -> Self {
        let mut builder = Builder::without_values(Constraints::keep());
        relation::state(&mut builder, len, None);
        let shape = builder.shape();
        let (Constraints::Keep(matrices), _) = builder.into_parts() else {
            unreachable!("the builder was made to keep");
        };
        Self { matrices, shape }
    }

    fn side(&self, row: &Row) -> LinearCombination<Fr> {
        let inputs = 1 + self.shape.inputs;
        let variable = |index| match index {
            0 => Variable::One,
            _ if index < inputs => Variable::instance(index),
            _ => Variable::witness(index - inputs),
        };
        LinearCombination(row.iter().map(|(c, index)| (*c, variable(*index))).collect())
    }
}

/// Hands the matrices to arkworks' setup, which wants to be shown constraints one by one.
impl ConstraintSynthesizer<Fr> for &Circuit {
    fn generate_constraints(self, system: ConstraintSystemRef<Fr>) -> SynthesisResult<()> {
        let missing = || Err(SynthesisError::AssignmentMissing);
        for _ in 0..self.shape.inputs {
            let _ = system.new_input_variable(missing)?;
        }
        for _ in 0..self.shape.witnesses {
            let _ = system.new_witness_variable(missing)?;
        }
        let [a, b, c] = &self.matrices;
        for ((a, b), c) in a.iter().zip(b).zip(c) {
            system.enforce_r1cs_constraint(|| self.side(a), || self.side(b), || self.side(c))?;
        }
        Ok(())
    }
}
