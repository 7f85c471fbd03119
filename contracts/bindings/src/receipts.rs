//! Sensors' receipts, checked and put into the form in which the bounty takes them.
//!
//! One bad signature fails a whole batch on chain, so each is checked here, where that costs no gas.

use std::collections::BTreeSet;

use alloy::primitives::{Address, B256, keccak256};
use k256::ecdsa::{RecoveryId, VerifyingKey};
use posthouse_protocol::digest;
use posthouse_protocol::id::{
    Attempt, Bounty, ChainId, Curve, DeviceKey, Digest, LockHash, Payee, Signature, UpdateId,
};
use posthouse_protocol::key::{self, SignatureError};
use posthouse_protocol::secret::PreimageT;
use thiserror::Error;

use crate::abi::UpdateBounty;
use crate::fleet::{FleetError, Tree, coordinates};

/// Receipts that one call takes. To reserve scattered devices costs 78,000 gas each, and a transaction may use 16,777,216
/// (EIP-7825). With P-256 keys so many are too many: a distributor takes as many as the gas allows.
pub const MAX_BATCH: usize = 200;
/// Devices of one page of a bounty's ledger: a lock's unit.
pub const PAGE: u32 = 200;
/// Gas by which an ended lock of another is cleared: two words of calldata, a slot, an event, and its eight rows once more.
const ENDED_LOCK: u64 = 16_000;
/// And by which the rows of a page are touched first.
const ENDED_PAGE: u64 = 45_000;

/// Why receipts make no batch.
#[derive(Debug, Error)]
pub enum ReceiptError {
    /// The device did not sign this.
    #[error("receipt of device {index}: {reason}")]
    Signature {
        /// Place in the fleet.
        index: u32,
        /// What is wrong with the signature.
        #[source]
        reason: SignatureError,
    },
    /// No devices, too many, one beyond the fleet, or one that stands there twice.
    #[error(transparent)]
    Fleet(#[from] FleetError),
    /// The batch would not fit a transaction.
    #[error("{0} receipts, at most {MAX_BATCH} in one batch")]
    TooMany(usize),
}

/// What all receipts of an exchange have in common.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Deal {
    /// Chain of the bounty.
    pub chain: ChainId,
    /// Which bounty pays.
    pub bounty: Bounty,
    /// Which keys its devices hold.
    pub curve: Curve,
    /// Which image.
    pub u_id: UpdateId,
    /// Who is paid.
    pub payee: Payee,
    /// Under which lock.
    pub s: LockHash,
}

impl Deal {
    /// What a device signs: the same bytes that the bounty's `receiptDigest` gives.
    pub fn digest(&self, attempt: Attempt) -> Digest {
        digest::receipt(self.chain, &self.bounty, &self.payee, &self.u_id, &self.s, attempt)
    }

    /// The tag under which the bounty keeps this payee's lock: `keccak256(s ‖ payee)`.
    pub fn tag(&self) -> B256 {
        tag(&self.s, &self.payee)
    }
}

/// The tag under which a bounty keeps a lock: `keccak256(s ‖ payee)`.
pub fn tag(s: &LockHash, payee: &Payee) -> B256 {
    keccak256([s.as_ref(), payee.as_ref()].concat())
}

/// A device's signed receipt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Receipt {
    /// The device's place in the fleet.
    pub index: u32,
    /// Its key.
    pub key: DeviceKey,
    /// The counter that it signed.
    pub attempt: Attempt,
    /// Its signature of [`Deal::digest`].
    pub signature: Signature,
}

/// Receipts that share a deal, with the proof that their signers are in the fleet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Batch {
    deal: Deal,
    abi: UpdateBounty::Batch,
}

impl Batch {
    /// Checks every signature, orders by index and proves membership.
    ///
    /// # Errors
    /// [`ReceiptError`], which names the device that is wrong.
    pub fn new(deal: Deal, mut receipts: Vec<Receipt>, tree: &Tree) -> Result<Self, ReceiptError> {
        if receipts.len() > MAX_BATCH {
            return Err(ReceiptError::TooMany(receipts.len()));
        }
        receipts.sort_unstable_by_key(|receipt| receipt.index);
        let indices: Vec<u32> = receipts.iter().map(|receipt| receipt.index).collect();
        let path = tree.multiproof(&indices)?;
        let signed = receipts.iter().map(|receipt| deal.signed(receipt)).collect::<Result<_, _>>()?;
        let keys = receipts.iter().flat_map(|receipt| deal.key_words(&receipt.key)).collect();
        Ok(Self { deal, abi: UpdateBounty::Batch { receipts: signed, keys, path, ended: Vec::new() } })
    }

    /// Names locks of others that have ended and hold devices of this batch: by tag and index.
    #[must_use]
    pub fn past(mut self, ended: impl IntoIterator<Item = (B256, u32)>) -> Self {
        let named: BTreeSet<_> = ended.into_iter().map(|(tag, index)| (index / PAGE, tag)).collect();
        self.abi.ended = named.into_iter().map(|(page, tag)| UpdateBounty::Ended { tag, page }).collect();
        self
    }

    /// Gas that the call takes at most for the locks named by [`Self::past`]: each clears its own slot, and may touch all
    /// the rows of its page.
    pub fn past_gas(&self) -> u64 {
        let pages: BTreeSet<u32> = self.abi.ended.iter().map(|ended| ended.page).collect();
        ENDED_LOCK * self.abi.ended.len() as u64 + ENDED_PAGE * pages.len() as u64
    }

    /// What the receipts have in common.
    pub fn deal(&self) -> &Deal {
        &self.deal
    }

    /// Indices, ascending.
    pub fn indices(&self) -> impl Iterator<Item = u32> {
        self.abi.receipts.iter().map(|receipt| receipt.index)
    }

    pub(crate) fn into_abi(self) -> UpdateBounty::Batch {
        self.abi
    }
}

impl Deal {
    /// One receipt as the paper's call takes it. `t` is in it: whoever sees it can decrypt.
    ///
    /// # Errors
    /// [`ReceiptError::Signature`], [`ReceiptError::Fleet`].
    pub fn claim(
        &self,
        receipt: &Receipt,
        t: &PreimageT,
        tree: &Tree,
    ) -> Result<UpdateBounty::Claim, ReceiptError> {
        Ok(UpdateBounty::Claim {
            t: (*t.as_bytes()).into(),
            receipt: self.signed(receipt)?,
            key: self.key_words(&receipt.key),
            path: tree.path(receipt.index)?,
        })
    }

    fn signed(&self, receipt: &Receipt) -> Result<UpdateBounty::Receipt, ReceiptError> {
        let digest = self.digest(receipt.attempt);
        let wrong = |reason| ReceiptError::Signature { index: receipt.index, reason };
        key::verify(self.curve, &receipt.key, &digest, &receipt.signature).map_err(wrong)?;
        let (r, s) = receipt.signature.as_bytes().split_at(32);
        let mut vs = B256::from_slice(s);
        if self.curve == Curve::Secp256k1 && is_odd(&receipt.key, &digest, &receipt.signature) {
            vs[0] |= 0x80;
        }
        Ok(UpdateBounty::Receipt {
            index: receipt.index,
            attempt: receipt.attempt.get(),
            r: B256::from_slice(r),
            vs,
        })
    }

    fn key_words(&self, key: &DeviceKey) -> Vec<B256> {
        match self.curve {
            Curve::Secp256k1 => Vec::new(),
            // A key that is no point has failed with its signature.
            Curve::P256 => coordinates(Curve::P256, key)
                .map(|xy| xy.chunks_exact(32).map(B256::from_slice).collect())
                .unwrap_or_default(),
        }
    }
}

/// The recovery bit (ERC-2098) of a signature that is known to verify: with the other one somebody
/// else is recovered, or nobody.
fn is_odd(key: &DeviceKey, digest: &Digest, signature: &Signature) -> bool {
    let odd = RecoveryId::new(true, false);
    k256::ecdsa::Signature::from_slice(signature.as_bytes())
        .and_then(|signature| VerifyingKey::recover_from_prehash(digest.as_bytes(), &signature, odd))
        .is_ok_and(|found| found.to_encoded_point(true).as_bytes() == key.as_bytes())
}

/// Payees and bounties are addresses.
pub(crate) fn address(bytes: &[u8; 20]) -> Address {
    Address::from(*bytes)
}
