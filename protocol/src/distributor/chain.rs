//! What the machine is told about the chain, and what it asks the chain for.

use alloc::vec::Vec;
use core::fmt;

use minicbor::{Decode, Encode};

use crate::id::{Attempt, Bounty, DeviceKey, LockHash, PeerHash, Signature};
use crate::secret::PreimageT;

/// An amount in wei. In CBOR a byte string of 16 bytes, big-endian.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Wei(u128);

impl Wei {
    /// Nothing.
    pub const ZERO: Self = Self(0);

    /// Wraps the amount.
    pub const fn new(wei: u128) -> Self {
        Self(wei)
    }

    /// The amount.
    pub const fn get(self) -> u128 {
        self.0
    }

    /// The sum, at most `u128::MAX`: more than all ether there is.
    #[must_use]
    pub const fn saturating_add(self, other: Self) -> Self {
        Self(self.0.saturating_add(other.0))
    }

    /// The difference, nothing where the other is more.
    #[must_use]
    pub const fn saturating_sub(self, other: Self) -> Self {
        Self(self.0.saturating_sub(other.0))
    }
}

impl fmt::Display for Wei {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Debug for Wei {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} wei", self.0)
    }
}

impl<C> Encode<C> for Wei {
    fn encode<W: minicbor::encode::Write>(
        &self,
        e: &mut minicbor::Encoder<W>,
        _: &mut C,
    ) -> Result<(), minicbor::encode::Error<W::Error>> {
        e.bytes(&self.0.to_be_bytes())?.ok()
    }
}

impl<'b, C> Decode<'b, C> for Wei {
    fn decode(d: &mut minicbor::Decoder<'b>, _: &mut C) -> Result<Self, minicbor::decode::Error> {
        crate::id::decode_exact(d).map(|bytes| Self(u128::from_be_bytes(bytes)))
    }
}

/// How a device's share stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// Neither claimed nor locked; receipts up to this attempt were reserved before.
    Free {
        /// 0 if none was.
        attempt: u8,
    },
    /// Locked for this exchange's `(s, payee)`.
    Ours {
        /// Unix seconds at which the lock ends.
        until: u64,
    },
    /// Locked for another.
    Other {
        /// Unix seconds at which the lock ends.
        until: u64,
    },
    /// Claimed, by whomever.
    Claimed,
}

/// One device's share as read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Seen {
    /// Fleet index.
    pub index: u32,
    /// How it stands.
    pub standing: Standing,
}

/// The head and the wallet. `final_nonce` must be read before the [`Observation`]s that follow it,
/// so that what a final transaction did is in them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Head {
    /// Unix seconds of the latest block.
    pub timestamp: u64,
    /// Transactions of the wallet in the latest block's state.
    pub latest_nonce: u64,
    /// Transactions of the wallet in the finalized block's state.
    pub final_nonce: u64,
    /// Wei that a unit of gas costs at the least in the next block.
    pub base_fee: Wei,
    /// What the wallet has in the latest block's state. Read after `latest_nonce`: a transaction that comes between is then
    /// counted twice, and not left out.
    pub balance: Wei,
}

/// What one exchange needs read: the answer to [`super::Distributor::watching`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Watch {
    /// The contract.
    pub bounty: Bounty,
    /// The exchange.
    pub gateway: PeerHash,
    /// Its lock.
    pub s: LockHash,
    /// The devices whose receipts are not settled.
    pub indices: Vec<u32>,
}

/// What was read for a [`Watch`], all of it in the state of one block each.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Observation {
    /// The contract.
    pub bounty: Bounty,
    /// The exchange.
    pub gateway: PeerHash,
    /// The shares in the latest block.
    pub latest: Vec<Seen>,
    /// The shares in the finalized block.
    pub finalized: Vec<Seen>,
    /// Devices paid for to us under this exchange's `s`, by `KeyRevealed` up to the finalized block. `None` where the
    /// events could not be read: then nobody knows yet to whom went what is claimed.
    pub paid: Option<Vec<(u32, Wei)>>,
}

/// What a transaction of the wallet does.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(flat)]
pub enum Call {
    /// Locks shares by receipts; shows no secret.
    #[n(0)]
    Reserve {
        /// The lock.
        #[n(0)]
        s: LockHash,
        /// Receipts by ascending index.
        #[n(1)]
        items: Vec<Item>,
        /// Reverts if it would lock less.
        #[n(2)]
        min_sum: Wei,
    },
    /// Takes the locked shares by showing `t`.
    #[n(1)]
    Reveal {
        /// `t`.
        #[n(0)]
        t: PreimageT,
        /// Locked indices.
        #[n(1)]
        indices: Vec<u32>,
    },
    /// Takes shares by receipts in one step, when `t` is public.
    #[n(2)]
    Claim {
        /// `t`.
        #[n(0)]
        t: PreimageT,
        /// Receipts by ascending index.
        #[n(1)]
        items: Vec<Item>,
        /// Reverts if it would bring less.
        #[n(2)]
        min_sum: Wei,
    },
    /// Nothing at all: uses up a nonce whose call would come too late, so that those behind it go on.
    #[n(3)]
    Cancel,
}

impl Call {
    /// The function's name.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Reserve { .. } => "reserve",
            Self::Reveal { .. } => "reveal",
            Self::Claim { .. } => "claim",
            Self::Cancel => "cancel",
        }
    }
}

/// One receipt of a reservation; key and path follow from the fleet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Item {
    /// Fleet index.
    #[n(0)]
    pub index: u32,
    /// The device.
    #[n(1)]
    pub device: DeviceKey,
    /// Attempt that it signed.
    #[n(2)]
    pub attempt: Attempt,
    /// Its signature.
    #[n(3)]
    pub sig: Signature,
}

/// Fleet indices of receipts.
pub(super) fn indices(items: &[Item]) -> Vec<u32> {
    items.iter().map(|item| item.index).collect()
}

/// Why a call, tried in the latest state, would not do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CallFailure {
    /// No answer from a node: says nothing about the call.
    #[error("chain cannot be asked")]
    Unavailable,
    /// Claims are over.
    #[error("claims are over")]
    ClaimsClosed,
    /// The lock is gone.
    #[error("no lock")]
    NoLock,
    /// It would revert for another reason.
    #[error("call would revert")]
    Reverts,
}
