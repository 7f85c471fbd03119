//! The states of an exchange as types: each holds what is valid then, and only its own transitions.
//!
//! `t` is shown by [`Revealing`] and after it, never before, but to a private relay in [`Stage::Direct`]: [`Revealing`] is made from [`Locked`]
//! alone, and [`Locked`] from a [`FinalLock`], which only [`Reserving::covered`] hands out. Once `t`
//! is out, receipts that come late are claimed in one step, for there is nothing left to protect.

use alloc::vec::Vec;

use minicbor::{Decode, Encode};

use crate::exchange::MAX_CIPHER;
use crate::id::{Bounty, Digest, LockHash, Payee, PeerHash};
use crate::secret::{KeyR, PreimageT};

use super::Wei;
use super::chain::{Seen, Standing};

/// One gateway's exchange for one bounty: the row that is persisted at each transition.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Exchange {
    /// The contract.
    #[n(0)]
    pub bounty: Bounty,
    /// The peer.
    #[n(1)]
    pub gateway: PeerHash,
    /// Index of the device whose delegation opened it.
    #[n(2)]
    pub device: u32,
    /// The challenge that the peer answered, so that its answer can be checked again.
    #[n(3)]
    pub challenge: Digest,
    /// `t`.
    #[n(4)]
    pub t: PreimageT,
    /// Where it stands.
    #[n(5)]
    pub stage: Stage,
}

impl Exchange {
    /// `r = H(payee ‖ t)`.
    pub fn r(&self, payee: &Payee) -> KeyR {
        KeyR::derive(payee, &self.t)
    }

    /// `s = H(r)`.
    pub fn s(&self, payee: &Payee) -> LockHash {
        self.r(payee).lock()
    }
}

/// Where an exchange stands. Joined is the absence of an exchange.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(flat)]
pub enum Stage {
    /// `t` is chosen; the proof is being made.
    #[n(0)]
    Proving,
    /// The offer is out, without a receipt yet.
    #[n(1)]
    Offered(#[n(0)] Offered),
    /// Receipts come in.
    #[n(2)]
    Collecting(#[n(0)] Collecting),
    /// A batch is on its way to be reserved.
    #[n(3)]
    Reserving(#[n(0)] Reserving),
    /// The reservation is final and covers its price.
    #[n(4)]
    Locked(#[n(0)] Locked),
    /// `t` is on its way to the chain.
    #[n(5)]
    Revealing(#[n(0)] Revealing),
    /// Paid, and open for late receipts.
    #[n(6)]
    Paid(#[n(0)] Paid),
    /// Late receipts are on their way to be claimed.
    #[n(7)]
    Claiming(#[n(0)] Claiming),
    /// Given up before `t` was shown.
    #[n(8)]
    Closed(#[n(0)] Closed),
    /// The first batch is on its way to be claimed in one step, by a private relay.
    #[n(9)]
    Direct(#[n(0)] Claiming),
}

impl Stage {
    /// The state's name, for logs and status.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Proving => "proving",
            Self::Offered(_) => "offered",
            Self::Collecting(_) => "collecting",
            Self::Reserving(_) => "reserving",
            Self::Locked(_) => "locked",
            Self::Revealing(_) => "revealing",
            Self::Paid(_) => "paid",
            Self::Claiming(_) => "claiming",
            Self::Closed(_) => "closed",
            Self::Direct(_) => "direct",
        }
    }

    /// The offer, in the states that have one.
    pub fn offer(&self) -> Option<&Offer> {
        match self {
            Self::Proving | Self::Closed(_) => None,
            Self::Offered(state) => Some(&state.offer),
            Self::Collecting(state) => Some(&state.offer),
            Self::Reserving(state) => Some(&state.offer),
            Self::Locked(state) => Some(&state.offer),
            Self::Revealing(state) => Some(&state.offer),
            Self::Paid(state) => Some(&state.offer),
            Self::Claiming(state) | Self::Direct(state) => Some(&state.offer),
        }
    }

    /// The batch that is being redeemed.
    pub fn batch(&self) -> Option<&Batch> {
        match self {
            Self::Reserving(state) => Some(&state.batch),
            Self::Locked(state) => Some(&state.batch),
            Self::Revealing(state) => Some(&state.batch),
            Self::Claiming(state) | Self::Direct(state) => Some(&state.batch),
            _ => None,
        }
    }

    /// Whether `t` is public or about to be: a reservation that covers its price was final, and the
    /// transaction that shows `t` is persisted.
    pub const fn shows_key(&self) -> bool {
        matches!(self, Self::Revealing(_) | Self::Paid(_) | Self::Claiming(_))
    }
}

/// The cipher and its proof, made once.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Offer {
    /// The secret under `r`, at most [`MAX_CIPHER`] bytes.
    #[cbor(n(0), with = "minicbor::bytes")]
    pub cipher: Vec<u8>,
    /// That it is, 128 bytes.
    #[cbor(n(1), with = "minicbor::bytes")]
    pub proof: Vec<u8>,
    /// Unix seconds after which no first receipt is taken.
    #[n(2)]
    pub expires: u64,
}

impl Offer {
    /// Whether it fits a message.
    pub(super) fn fits(&self) -> bool {
        self.cipher.len() <= MAX_CIPHER && self.proof.len() <= crate::exchange::MAX_PROOF
    }
}

/// See [`Stage::Offered`].
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Offered {
    /// The offer.
    #[n(0)]
    pub offer: Offer,
}

impl Offered {
    /// The first receipt came at `now`, Unix milliseconds.
    pub(super) fn collect(self, now: u64) -> Collecting {
        Collecting { offer: self.offer, since: now, sealed: false, tries: 0 }
    }
}

/// See [`Stage::Collecting`].
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Collecting {
    /// The offer.
    #[n(0)]
    pub offer: Offer,
    /// Unix milliseconds of the first receipt.
    #[n(1)]
    pub since: u64,
    /// Whether the gateway has said that all have come.
    #[n(2)]
    pub sealed: bool,
    /// Reservations that failed.
    #[n(3)]
    pub tries: u8,
}

impl Collecting {
    /// Whether to go on with what is there.
    pub(super) fn over(&self, window_secs: u32, now: u64) -> bool {
        self.sealed || now >= self.since.saturating_add(u64::from(window_secs) * 1000)
    }

    /// In one step, without a reservation.
    pub(super) fn direct(self, indices: Vec<u32>, min_sum: Wei) -> Claiming {
        let batch = Batch { indices, min_sum, tries: self.tries };
        Claiming { offer: self.offer, batch, posting: Posting::Simulating }
    }

    pub(super) fn reserve(self, indices: Vec<u32>, min_sum: Wei) -> Reserving {
        let batch = Batch { indices, min_sum, tries: self.tries };
        Reserving { offer: self.offer, batch, posting: Posting::Simulating, since: self.since }
    }
}

/// Receipts that are redeemed together.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Batch {
    /// Fleet indices, ascending.
    #[n(0)]
    pub indices: Vec<u32>,
    /// The sum that the transaction names: it must bring this much or revert.
    #[n(1)]
    pub min_sum: Wei,
    /// Transactions for it that failed.
    #[n(2)]
    pub tries: u8,
}

/// How far a transaction is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
#[cbor(flat)]
pub enum Posting {
    /// Tried as a call, before it gets a nonce.
    #[n(0)]
    Simulating,
    /// Has a nonce, and is sent until that nonce is used up.
    #[n(1)]
    Posted(#[n(0)] u64),
    /// Its nonce is sent without the call. Nodes may mine either.
    #[n(2)]
    CalledOff(#[n(0)] u64),
}

impl Posting {
    /// The nonce, once it has one.
    pub(super) const fn nonce(self) -> Option<u64> {
        match self {
            Self::Simulating => None,
            Self::Posted(nonce) | Self::CalledOff(nonce) => Some(nonce),
        }
    }

    pub(super) fn call_off(&mut self, nonce: u64) {
        if *self == Self::Posted(nonce) {
            *self = Self::CalledOff(nonce);
        }
    }

    pub(super) const fn is_called_off(self) -> bool {
        matches!(self, Self::CalledOff(_))
    }
}

/// See [`Stage::Reserving`].
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Reserving {
    /// The offer.
    #[n(0)]
    pub offer: Offer,
    /// What is being reserved.
    #[n(1)]
    pub batch: Batch,
    /// The transaction.
    #[n(2)]
    pub posting: Posting,
    /// Unix milliseconds of the first receipt.
    #[n(3)]
    pub since: u64,
}

/// That a reservation is final and covers the sum that it named.
#[must_use]
#[derive(Debug)]
pub(super) struct FinalLock {
    indices: Vec<u32>,
    until: u64,
}

impl Reserving {
    /// Reads the finalized standings: the token, if what is locked for us is worth the price.
    ///
    /// A stranger may copy a part of our reservation and have it mined first, so a lock that is there
    /// is not yet a lock that is enough: it is whole, or our own transaction is done (`spent`).
    pub(super) fn covered(
        &self,
        seen: &[Seen],
        spent: bool,
        share: impl Fn(u32) -> Wei,
    ) -> Option<FinalLock> {
        let mine = seen.iter().filter_map(|seen| match seen.standing {
            Standing::Ours { until } if self.batch.indices.contains(&seen.index) => Some((seen.index, until)),
            _ => None,
        });
        let (indices, ends): (Vec<u32>, Vec<u64>) = mine.unzip();
        let sum = indices.iter().fold(Wei::ZERO, |sum, i| sum.saturating_add(share(*i)));
        let until = ends.into_iter().min()?;
        let whole = indices.len() == self.batch.indices.len();
        (sum >= self.batch.min_sum && (whole || spent)).then_some(FinalLock { indices, until })
    }

    pub(super) fn locked(self, lock: FinalLock) -> Locked {
        let batch = Batch { indices: lock.indices, tries: 0, min_sum: self.batch.min_sum };
        Locked { offer: self.offer, batch, until: lock.until }
    }

    /// Back to where the batch was put together; this was no try.
    pub(super) fn anew(self) -> Collecting {
        Collecting { offer: self.offer, since: self.since, sealed: true, tries: self.batch.tries }
    }

    /// Back to where the batch was put together, one try later. All that will come had come.
    pub(super) fn back(self) -> Collecting {
        let tries = self.batch.tries.saturating_add(1);
        Collecting { offer: self.offer, since: self.since, sealed: true, tries }
    }
}

/// See [`Stage::Locked`].
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Locked {
    /// The offer.
    #[n(0)]
    pub offer: Offer,
    /// What is locked.
    #[n(1)]
    pub batch: Batch,
    /// Unix seconds, chain time, at which the lock ends.
    #[n(2)]
    pub until: u64,
}

impl Locked {
    /// Gives the revealing transaction its nonce.
    pub(super) fn reveal(self, nonce: u64) -> Revealing {
        Revealing { offer: self.offer, batch: self.batch, until: self.until, nonce }
    }
}

/// See [`Stage::Revealing`]. `t` counts as shown from here on, whatever becomes of the transaction: a node may take it and
/// answer an error, or the program die before the answer.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Revealing {
    /// The offer.
    #[n(0)]
    pub offer: Offer,
    /// What is being redeemed.
    #[n(1)]
    pub batch: Batch,
    /// Unix seconds, chain time, at which the lock ends.
    #[n(2)]
    pub until: u64,
    /// Nonce of the transaction.
    #[n(3)]
    pub nonce: u64,
}

impl Revealing {
    /// Its nonce is used up. What was not paid then waits for a further batch.
    pub(super) fn paid(self) -> Paid {
        Paid { offer: self.offer, tries: 0 }
    }
}

/// See [`Stage::Paid`].
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Paid {
    /// The offer, served free to claimed devices.
    #[n(0)]
    pub offer: Offer,
    /// Claims in a row that brought nothing.
    #[n(1)]
    pub tries: u8,
}

impl Paid {
    pub(super) fn claim(self, indices: Vec<u32>, min_sum: Wei) -> Claiming {
        let batch = Batch { indices, min_sum, tries: self.tries };
        Claiming { offer: self.offer, batch, posting: Posting::Simulating }
    }
}

/// See [`Stage::Claiming`].
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Claiming {
    /// The offer.
    #[n(0)]
    pub offer: Offer,
    /// What is being claimed.
    #[n(1)]
    pub batch: Batch,
    /// The transaction.
    #[n(2)]
    pub posting: Posting,
}

impl Claiming {
    /// It would not do; this was no try.
    pub(super) fn anew(self) -> Paid {
        Paid { offer: self.offer, tries: self.batch.tries }
    }

    /// It was given to no relay; this was no try.
    pub(super) fn unsent(self) -> Collecting {
        Collecting { offer: self.offer, since: 0, sealed: true, tries: self.batch.tries }
    }

    /// The relay's nonce was called off and nobody was paid: the batch is put together again, to be reserved.
    pub(super) fn instead(self) -> Collecting {
        Collecting { offer: self.offer, since: 0, sealed: true, tries: self.batch.tries.saturating_add(1) }
    }

    /// Its nonce is used up.
    pub(super) fn back(self, progress: bool) -> Paid {
        let tries = if progress { 0 } else { self.batch.tries.saturating_add(1) };
        Paid { offer: self.offer, tries }
    }
}

/// See [`Stage::Closed`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Closed {
    /// Why.
    #[n(0)]
    pub why: CloseReason,
}

/// Why an exchange was given up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode, thiserror::Error)]
#[cbor(index_only)]
pub enum CloseReason {
    /// Reservations failed as often as the policy allows.
    #[n(0)]
    #[error("reservations failed too often")]
    TooManyTries,
    /// The lock ended before `t` could be shown safely, or before it was worth the gas.
    #[n(1)]
    #[error("the lock is too near its end to show t")]
    LockLapsed,
    /// `claim_by` is too near to reserve.
    #[n(2)]
    #[error("too near the end of claims")]
    ClaimsOver,
}
