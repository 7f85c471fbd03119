//! What the sensor has put its name to, and what it therefore never signs again otherwise.

use super::error::Error;
use crate::id::{Bounty, ChainId, Digest};
use crate::sensor::SignRequest;

/// Distinct receipts for one version. A distributor that takes a receipt and stays silent costs one;
/// a site with so many bad distributors in a row waits for the next version.
pub const MAX_ATTEMPTS: u8 = 8;

/// Delegations remembered, the oldest forgotten first: the bounty at work and those just before it.
pub const MAX_DELEGATIONS: usize = 3;

/// The receipts signed for one version, in order: receipt `i` carries attempt `i + 1`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Receipts {
    pub(super) count: u8,
    pub(super) digests: [Digest; MAX_ATTEMPTS as usize],
}

impl Default for Receipts {
    fn default() -> Self {
        Self { count: 0, digests: [Digest::new([0; 32]); MAX_ATTEMPTS as usize] }
    }
}

impl Receipts {
    /// Digests signed so far, oldest first.
    pub fn signed(&self) -> &[Digest] {
        self.digests.get(..usize::from(self.count)).unwrap_or(&self.digests)
    }

    /// Whether `digest` may be signed. `Ok(true)`: it is new and is now remembered, so it must be
    /// persisted before it is signed. `Ok(false)`: it was signed before, the answer is the same.
    ///
    /// # Errors
    /// [`Error::AttemptExhausted`], [`Error::WrongAttempt`].
    pub(super) fn admit(&mut self, digest: Digest, attempt: u8) -> Result<bool, Error> {
        if self.signed().contains(&digest) {
            return Ok(false);
        }
        let free = self.digests.get_mut(usize::from(self.count));
        let free = free.ok_or(Error::AttemptExhausted(MAX_ATTEMPTS))?;
        let next = self.count + 1;
        if attempt != next {
            return Err(Error::WrongAttempt { got: attempt, next });
        }
        *free = digest;
        self.count = next;
        Ok(true)
    }
}

/// One delegation: which digest was signed for which bounty.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Delegation {
    pub(super) chain: ChainId,
    pub(super) bounty: Bounty,
    pub(super) digest: Digest,
}

/// The delegations signed last, oldest first.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Delegations(pub(super) [Option<Delegation>; MAX_DELEGATIONS]);

impl Delegations {
    /// Whether the delegation may be signed; the value means what [`Receipts::admit`]'s does.
    ///
    /// # Errors
    /// [`Error::AlreadyDelegated`]: this bounty has a delegation to another gateway.
    pub(super) fn admit(&mut self, new: Delegation) -> Result<bool, Error> {
        let same = |old: &&Delegation| old.chain == new.chain && old.bounty == new.bounty;
        match self.0.iter().flatten().find(same) {
            Some(old) if old.digest == new.digest => Ok(false),
            Some(_) => Err(Error::AlreadyDelegated),
            None => {
                self.push(new);
                Ok(true)
            }
        }
    }

    fn push(&mut self, new: Delegation) {
        match self.0.iter_mut().find(|slot| slot.is_none()) {
            Some(slot) => *slot = Some(new),
            None => {
                self.0.rotate_left(1);
                self.0[MAX_DELEGATIONS - 1] = Some(new);
            }
        }
    }
}

/// The delegation that a request asks for, if it asks for one.
pub(super) fn delegation(request: &SignRequest) -> Option<Delegation> {
    match *request {
        SignRequest::Delegate { chain, bounty, .. } => {
            Some(Delegation { chain, bounty, digest: request.digest() })
        }
        SignRequest::Receipt { .. } => None,
    }
}
