//! What others must not foresee, from one random seed, so that an endpoint is the same again from the same inputs.

use std::net::SocketAddr;

use sha2::{Digest as _, Sha256};

use crate::coap::message::Tag;

/// A proof is good for at least this and at most twice as long, ms.
const PROOF_MS: u64 = 600_000;

/// The seed, and how often it was used.
#[derive(Debug)]
pub(super) struct Dice {
    seed: [u8; 32],
    count: u64,
}

impl Dice {
    pub(super) fn new(seed: [u8; 32]) -> Self {
        Self { seed, count: 0 }
    }

    fn hash(&self, purpose: &str, about: &[u8]) -> Tag {
        let digest = Sha256::new_with_prefix(self.seed).chain_update(purpose).chain_update(about).finalize();
        let mut short = Tag::default();
        short.copy_from_slice(&digest[..size_of::<Tag>()]);
        short
    }

    /// A number that nobody can foresee.
    pub(super) fn throw(&mut self) -> u64 {
        self.count += 1;
        u64::from_be_bytes(self.hash("throw", &self.count.to_be_bytes()))
    }

    /// What only who reads at this address can say; others guess it once in 2^64.
    pub(super) fn proof(&self, address: SocketAddr, now: u64) -> Tag {
        self.proof_of(address, now / PROOF_MS)
    }

    fn proof_of(&self, address: SocketAddr, period: u64) -> Tag {
        let about = format!("{period} {address}");
        self.hash("proof", about.as_bytes())
    }

    /// Whether somebody at this address was given this a short time ago.
    pub(super) fn proves(&self, proof: &[u8], address: SocketAddr, now: u64) -> bool {
        let period = now / PROOF_MS;
        [Some(period), period.checked_sub(1)]
            .into_iter()
            .flatten()
            .any(|period| self.proof_of(address, period) == proof)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_proof_is_of_one_address_and_grows_old() {
        let dice = Dice::new([7; 32]);
        let [here, there]: [SocketAddr; 2] = ["127.0.0.1:1", "127.0.0.1:2"].map(|text| text.parse().unwrap());
        let proof = dice.proof(here, PROOF_MS - 1);
        assert!(dice.proves(&proof, here, PROOF_MS - 1));
        assert!(dice.proves(&proof, here, 2 * PROOF_MS - 1));
        assert!(!dice.proves(&proof, here, 2 * PROOF_MS));
        assert!(!dice.proves(&proof, there, 0));
        assert!(!Dice::new([8; 32]).proves(&proof, here, 0));
        assert!(!dice.proves(&[], here, 0));
    }

    #[test]
    fn throws_differ() {
        let mut dice = Dice::new([7; 32]);
        assert_ne!(dice.throw(), dice.throw());
    }
}
