//! The proof that an encrypted payload opens to the announced digest: statement, gadgets, Groth16 keys.
//!
//! One statement (paper, section 4.4.3), for any payload length `n`:
//!
//! > public `s`, `U_id`, `Û` (n bytes); secret `r` (32 bytes): **H(r) = s ∧ H(Dec(Û, r)) = U_id**
//!
//! `H` is SHA-256 and `Dec` is AES-128-CTR under `r[0..16]`. The proof is Groth16 over BN254.
//!
//! [`Statement::check`] decides the statement natively; `relation` states the same as constraints, with the
//! gadgets in `gadgets`; tests hold the two together, and show for the whole circuit that no witness can take
//! another value. [`VerifyingKey::verify`] is the only way to verify, and builds the public inputs itself.
//!
//! A Groth16 key is made for one circuit by somebody who could have kept what would let him forge proofs, or make
//! keys under which proofs leak `r`. Reading a key checks its form, not its making: use keys of vendors you trust.
//!
#![cfg_attr(feature = "prove", doc = "```no_run")]
#![cfg_attr(not(feature = "prove"), doc = "```ignore")]
//! use posthouse_circuits::{KEY_MODE_LEN, ProvingKey, Statement, SystemRandomness, cipher};
//! # use sha2::{Digest, Sha256};
//!
//! let randomness = &mut SystemRandomness::new()?;
//! let key = ProvingKey::generate(KEY_MODE_LEN, randomness)?;
//!
//! let (r, payload_key) = ([7; 32], [8; KEY_MODE_LEN]);
//! let mut wrapped = payload_key;
//! cipher::apply_payload(&r, &mut wrapped);
//! let statement = Statement {
//!     s: Sha256::digest(r).into(),
//!     u_id: Sha256::digest(payload_key).into(),
//!     cipher: &wrapped,
//! };
//! let proof = key.prove(&statement, &r, randomness)?.to_bytes();
//! key.verifying_key().verify(&statement, &proof)?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

#![cfg_attr(test, allow(clippy::unwrap_used))]

#[cfg_attr(not(feature = "prove"), allow(dead_code, reason = "a verifier builds no assignment"))]
mod builder;
pub mod cipher;
pub mod figures;
mod gadgets;
mod identity;
#[cfg(feature = "prove")]
mod key_file;
mod points;
#[cfg(feature = "prove")]
mod prove;
#[cfg(feature = "prove")]
mod randomness;
mod relation;
mod statement;
#[cfg(test)]
mod testing;
mod verify;

pub use builder::Shape;
pub use identity::{KEY_MODE_CIRCUIT_ID, circuit_id};
#[cfg(feature = "prove")]
pub use key_file::KeyFileError;
#[cfg(feature = "prove")]
pub use prove::{ProveError, ProvingKey, SetupError};
#[cfg(all(feature = "prove", any(test, feature = "fixed-seed")))]
pub use randomness::FixedSeed;
#[cfg(feature = "prove")]
pub use randomness::{NoRandomness, Randomness, SystemRandomness};
pub use relation::shape;

pub use points::PointError;
pub use statement::{KEY_MODE_LEN, MAX_PAYLOAD_LEN, Statement};
pub use verify::{PROOF_LEN, Proof, VerifyError, VerifyingKey, VerifyingKeyError};

/// The scalar field of BN254, in which the circuit computes.
pub type Fr = ark_bn254::Fr;
