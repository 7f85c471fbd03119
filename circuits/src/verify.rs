//! Verification: the gateway's side, and all that a program without the feature `prove` contains.

use ark_bn254::{Bn254, G1Affine};
use ark_groth16::{Groth16, PreparedVerifyingKey, prepare_verifying_key};
use sha2::{Digest, Sha256};

use crate::points::{self, G1_LEN, G2_LEN, PointError};
use crate::statement::{MAX_PAYLOAD_LEN, Statement, input_count};

/// Bytes of a proof: `A` and `C` in G1, `B` in G2, compressed.
pub const PROOF_LEN: usize = 2 * G1_LEN + G2_LEN;

const HEADER_LEN: usize = 8;
pub(crate) const FIXED_LEN: usize = HEADER_LEN + G1_LEN + 3 * G2_LEN;

/// Why bytes are not a verifying key.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum VerifyingKeyError {
    /// Shorter than a key for an empty payload, or cut inside a point.
    #[error("verifying key of {0} bytes is cut short")]
    Truncated(usize),
    /// The payload length is above [`MAX_PAYLOAD_LEN`].
    #[error("verifying key for a payload of {0} bytes, the most is {MAX_PAYLOAD_LEN}")]
    PayloadLength(u64),
    /// The number of input elements does not fit the payload length.
    #[error("verifying key has {found} input elements, its payload length needs {expected}")]
    InputCount {
        /// What the payload length in the key's header asks for.
        expected: usize,
        /// How many whole points follow the fixed part.
        found: usize,
    },
    /// Bytes follow the last element.
    #[error("verifying key has {0} trailing bytes")]
    TrailingBytes(usize),
    /// An element is not an acceptable point.
    #[error("verifying key element {element}: {error}")]
    Element {
        /// Name of the element, as in the Groth16 paper.
        element: &'static str,
        /// What is wrong with it.
        error: PointError,
    },
}

/// Why a proof was not accepted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum VerifyError {
    /// The ciphertext is not as long as the key's payload.
    #[error("ciphertext of {found} bytes, the key is for {expected}")]
    PayloadLength {
        /// The key's payload length.
        expected: usize,
        /// The ciphertext's length.
        found: usize,
    },
    /// The proof is shorter than [`PROOF_LEN`].
    #[error("proof of {0} bytes, expected {PROOF_LEN}")]
    Truncated(usize),
    /// The proof is longer than [`PROOF_LEN`].
    #[error("proof has {0} trailing bytes")]
    TrailingBytes(usize),
    /// An element is not an acceptable point.
    #[error("proof element {element}: {error}")]
    Element {
        /// `A`, `B` or `C`.
        element: &'static str,
        /// What is wrong with it.
        error: PointError,
    },
    /// The pairing equation does not hold: it proves another statement, or none.
    #[error("the proof does not prove this statement")]
    Unproven,
}

/// A Groth16 proof (eprint 2016/260) over BN254, every point checked.
#[derive(Clone, Debug, PartialEq)]
pub struct Proof(pub(crate) ark_groth16::Proof<Bn254>);

impl Proof {
    /// Reads `A ‖ B ‖ C`, compressed.
    ///
    /// # Errors
    /// When the length is not [`PROOF_LEN`], or a point is not canonical, off the curve, outside the subgroup
    /// or the identity.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, VerifyError> {
        let Some((fixed, rest)) = bytes.split_first_chunk::<PROOF_LEN>() else {
            return Err(VerifyError::Truncated(bytes.len()));
        };
        if !rest.is_empty() {
            return Err(VerifyError::TrailingBytes(rest.len()));
        }
        let mut reader = Reader(fixed);
        let of = |element| move |error| VerifyError::Element { element, error };
        Ok(Self(ark_groth16::Proof {
            a: points::read_g1(reader.take()).map_err(of("A"))?,
            b: points::read_g2(reader.take()).map_err(of("B"))?,
            c: points::read_g1(reader.take()).map_err(of("C"))?,
        }))
    }

    /// `A ‖ B ‖ C`, compressed, [`PROOF_LEN`] bytes.
    #[must_use]
    pub fn to_bytes(&self) -> [u8; PROOF_LEN] {
        let mut out = Vec::with_capacity(PROOF_LEN);
        points::write(&self.0.a, &mut out);
        points::write(&self.0.b, &mut out);
        points::write(&self.0.c, &mut out);
        out.try_into().expect("two points of G1 and one of G2")
    }
}

/// The key that checks proofs for payloads of one length.
#[derive(Clone, Debug)]
pub struct VerifyingKey {
    payload_len: usize,
    prepared: PreparedVerifyingKey<Bn254>,
}

impl VerifyingKey {
    /// Reads `n` (u64, big-endian) ‖ α ‖ β ‖ γ ‖ δ ‖ one element of G1 for the constant and for each public
    /// input, all compressed. How many there are follows from `n`.
    ///
    /// # Errors
    /// One for each way in which the bytes can be wrong; see [`VerifyingKeyError`].
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, VerifyingKeyError> {
        let Some((fixed, inputs)) = bytes.split_first_chunk::<FIXED_LEN>() else {
            return Err(VerifyingKeyError::Truncated(bytes.len()));
        };
        let mut reader = Reader(fixed);
        let payload_len = checked_len(u64::from_be_bytes(*reader.take()))?;
        check_inputs(payload_len, inputs.len())?;
        let of = |element| move |error| VerifyingKeyError::Element { element, error };
        let key = ark_groth16::VerifyingKey {
            alpha_g1: points::read_g1(reader.take()).map_err(of("alpha"))?,
            beta_g2: points::read_g2(reader.take()).map_err(of("beta"))?,
            gamma_g2: points::read_g2(reader.take()).map_err(of("gamma"))?,
            delta_g2: points::read_g2(reader.take()).map_err(of("delta"))?,
            gamma_abc_g1: read_inputs(inputs).map_err(of("input"))?,
        };
        Ok(Self::new(payload_len, &key))
    }

    /// The inverse of [`from_bytes`](Self::from_bytes).
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let key = &self.prepared.vk;
        let mut out = (self.payload_len as u64).to_be_bytes().to_vec();
        points::write(&key.alpha_g1, &mut out);
        points::write(&key.beta_g2, &mut out);
        points::write(&key.gamma_g2, &mut out);
        points::write(&key.delta_g2, &mut out);
        key.gamma_abc_g1.iter().for_each(|point| points::write(point, &mut out));
        out
    }

    /// `vk_id`: SHA-256 of [`to_bytes`](Self::to_bytes).
    #[must_use]
    pub fn id(&self) -> [u8; 32] {
        Sha256::digest(self.to_bytes()).into()
    }

    /// Bytes of payload that this key is for.
    #[must_use]
    pub fn payload_len(&self) -> usize {
        self.payload_len
    }

    /// Checks `proof` (bytes from outside) against a statement that the caller has built himself.
    ///
    /// # Errors
    /// When the ciphertext has another length than the key's payload, the proof is not well-formed, or it does
    /// not prove the statement.
    pub fn verify(&self, statement: &Statement<'_>, proof: &[u8]) -> Result<(), VerifyError> {
        if statement.cipher.len() != self.payload_len {
            let (expected, found) = (self.payload_len, statement.cipher.len());
            return Err(VerifyError::PayloadLength { expected, found });
        }
        let proof = Proof::from_bytes(proof)?;
        let inputs = statement.public_inputs();
        match Groth16::<Bn254>::verify_proof(&self.prepared, &proof.0, &inputs) {
            Ok(true) => Ok(()),
            _ => Err(VerifyError::Unproven),
        }
    }

    #[cfg(feature = "prove")]
    pub(crate) fn groth16(&self) -> &ark_groth16::VerifyingKey<Bn254> {
        &self.prepared.vk
    }

    pub(crate) fn new(payload_len: usize, key: &ark_groth16::VerifyingKey<Bn254>) -> Self {
        Self { payload_len, prepared: prepare_verifying_key(key) }
    }
}

fn checked_len(len: u64) -> Result<usize, VerifyingKeyError> {
    match usize::try_from(len) {
        Ok(len) if len <= MAX_PAYLOAD_LEN => Ok(len),
        _ => Err(VerifyingKeyError::PayloadLength(len)),
    }
}

fn check_inputs(payload_len: usize, bytes: usize) -> Result<(), VerifyingKeyError> {
    let expected = 1 + input_count(payload_len);
    let (found, trailing) = (bytes / G1_LEN, bytes % G1_LEN);
    if found != expected {
        return Err(VerifyingKeyError::InputCount { expected, found });
    }
    if trailing != 0 {
        return Err(VerifyingKeyError::TrailingBytes(trailing));
    }
    Ok(())
}

fn read_inputs(bytes: &[u8]) -> Result<Vec<G1Affine>, PointError> {
    let (points, _) = bytes.as_chunks::<G1_LEN>();
    points.iter().map(points::read_g1).collect()
}

/// Takes fixed-size fields off the front of bytes whose whole length has been checked.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take<const N: usize>(&mut self) -> &'a [u8; N] {
        let (field, rest) = self.0.split_first_chunk().expect("the length was checked");
        self.0 = rest;
        field
    }
}
