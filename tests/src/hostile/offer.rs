//! The offer, honest or not, and the key that belongs to it.

use anyhow::Result;
use posthouse_circuits::{Statement, SystemRandomness, cipher::apply_payload};
use posthouse_protocol::{
    id::{LockHash, Payee, VkId},
    secret::{KeyR, PreimageT},
};
use sha2::{Digest as _, Sha256};

use super::{Lie, goods::Goods};

/// What is offered.
pub(super) struct Secret {
    pub(super) s: LockHash,
    pub(super) cipher: Vec<u8>,
    pub(super) proof: Vec<u8>,
    pub(super) vk_id: VkId,
}

impl Secret {
    /// Takes a proof's time.
    pub(super) fn offer(lie: Lie, goods: &Goods, payee: &Payee) -> Result<Self> {
        let sold = match lie {
            Lie::ProofForAnotherUpdate => rand::random(),
            _ => *goods.key.as_bytes(),
        };
        let r = fresh(payee);
        let mut cipher = sold.to_vec();
        apply_payload(r.as_bytes(), &mut cipher);
        let s = r.lock();
        let statement = Statement { s: s.to_bytes(), u_id: Sha256::digest(sold).into(), cipher: &cipher };
        let proof = goods.proving_key.prove(&statement, r.as_bytes(), &mut SystemRandomness::new()?)?;
        let offer = Self { s, proof: proof.to_bytes().to_vec(), vk_id: goods.release.vk_id, cipher };
        Ok(offer.spoilt(lie, payee))
    }

    fn spoilt(mut self, lie: Lie, payee: &Payee) -> Self {
        match lie {
            Lie::ProofForAnotherLock => self.s = fresh(payee).lock(),
            Lie::AlteredCipher => self.cipher[0] ^= 1,
            Lie::WrongVkId => self.vk_id = VkId::new(rand::random()),
            _ => {}
        }
        self
    }
}

/// `r = H(payee ‖ t)` for a fresh `t`.
pub(super) fn fresh(payee: &Payee) -> KeyR {
    KeyR::derive(payee, &PreimageT::new(rand::random()))
}
