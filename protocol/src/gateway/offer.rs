//! An offer, the check that it has to pass, and the token that says it did.

use alloc::vec::Vec;

use thiserror::Error;

use super::peer::Peer;
use crate::id::{Attempt, Bounty, ChainId, LockHash, Payee, UpdateId, VkId};
use crate::sensor::SignRequest;

/// What a distributor offers: the secret encrypted under `r`, and a proof that it is the secret.
#[derive(Debug, Clone, PartialEq, Eq, minicbor::Encode, minicbor::Decode)]
#[cbor(map)]
pub struct Offer {
    /// `Enc(payload, r)`.
    #[cbor(n(0), with = "minicbor::bytes")]
    pub cipher: Vec<u8>,
    /// `s = H(r)`.
    #[n(1)]
    pub s: LockHash,
    /// Groth16 proof, compressed.
    #[cbor(n(2), with = "minicbor::bytes")]
    pub proof: Vec<u8>,
    /// Verifying key that the proof is for.
    #[n(3)]
    pub vk_id: VkId,
    /// Unix seconds until which the first receipt is taken.
    #[n(4)]
    pub expires: u64,
}

/// Why an offer was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error, minicbor::Encode, minicbor::Decode)]
pub enum OfferFault {
    /// Made for another verifying key than the release names.
    #[error("proof for another verifying key than the release names")]
    #[n(0)]
    WrongVk,
    /// The cipher has not the payload's length.
    #[error("cipher of a wrong length")]
    #[n(1)]
    CipherLength,
    /// The proof does not hold for this update, this `s` and this cipher.
    #[error("the proof does not hold for this update, lock and cipher")]
    #[n(2)]
    Proof,
    /// The lock is that of an offer held from somebody else.
    #[error("the lock belongs to another offer")]
    #[n(3)]
    LockInUse,
}

/// The one thing about an offer that needs pairings, done at the boundary.
pub trait OfferVerifier {
    /// Whether the proof holds for `(s, target, cipher)`, with the release's verifying key.
    /// The public inputs are rebuilt from these three and nothing else.
    fn holds(&self, s: &[u8; 32], target: &[u8; 32], cipher: &[u8], proof: &[u8]) -> bool;
}

/// An offer with all that its check needs.
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use = "an offer that is not checked is never answered"]
pub struct OfferCheck {
    pub(super) offer: VerifiedOffer,
    pub(super) target: [u8; 32],
    pub(super) payload_len: u64,
    pub(super) vk_id: VkId,
}

/// What came of a check.
pub type OfferVerdict = Result<VerifiedOffer, (LockHash, OfferFault)>;

impl OfferCheck {
    /// Runs the check: the cheap parts first, so that junk costs no pairing.
    ///
    /// # Errors
    /// The offer's lock and why it is refused.
    pub fn run(self, verifier: &impl OfferVerifier) -> OfferVerdict {
        let fault = self.fault(verifier);
        match fault {
            Some(fault) => Err((self.offer.s(), fault)),
            None => Ok(self.offer),
        }
    }

    fn fault(&self, verifier: &impl OfferVerifier) -> Option<OfferFault> {
        let offer = &self.offer.offer;
        if offer.vk_id != self.vk_id {
            return Some(OfferFault::WrongVk);
        }
        if offer.cipher.len() as u64 != self.payload_len {
            return Some(OfferFault::CipherLength);
        }
        let holds = verifier.holds(offer.s.as_bytes(), &self.target, &offer.cipher, &offer.proof);
        if holds { None } else { Some(OfferFault::Proof) }
    }

    /// The lock of the offer that is checked.
    pub fn s(&self) -> LockHash {
        self.offer.s()
    }
}

/// An offer whose proof was verified against this gateway's own view of the update.
///
/// Only [`OfferCheck::run`] makes one (and [`super::Exchange::restore`], from the record of one), and
/// a receipt can be worded only with it.
#[derive(Debug, Clone, PartialEq, Eq, minicbor::Encode, minicbor::Decode)]
#[cbor(map)]
#[must_use]
pub struct VerifiedOffer {
    #[n(0)]
    pub(super) peer: Peer,
    #[n(1)]
    pub(super) payee: Payee,
    #[n(2)]
    pub(super) window_secs: u32,
    #[n(3)]
    pub(super) min_receipts: u32,
    #[n(4)]
    pub(super) offer: Offer,
    /// Unix milliseconds at which it came.
    #[n(5)]
    pub(super) since: u64,
}

impl VerifiedOffer {
    /// Who made it.
    pub fn peer(&self) -> Peer {
        self.peer
    }

    /// Who is paid by receipts for it.
    pub fn payee(&self) -> Payee {
        self.payee
    }

    /// Its lock.
    pub fn s(&self) -> LockHash {
        self.offer.s
    }

    /// The offer.
    pub fn offer(&self) -> &Offer {
        &self.offer
    }

    /// Unix milliseconds at which it came.
    pub fn since(&self) -> u64 {
        self.since
    }

    /// Words the receipt that a sensor is to sign.
    pub(super) fn receipt(
        &self,
        chain: ChainId,
        bounty: Bounty,
        u_id: UpdateId,
        attempt: Attempt,
    ) -> SignRequest {
        SignRequest::Receipt { chain, bounty, payee: self.payee, u_id, s: self.offer.s, attempt }
    }
}
