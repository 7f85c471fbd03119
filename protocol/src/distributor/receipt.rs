//! Receipts of an exchange and what became of them.

use minicbor::{Decode, Encode};

use crate::id::{Attempt, Bounty, DeviceKey, PeerHash, Signature};

/// A receipt that was acknowledged: the row that is persisted before that.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Receipt {
    /// The contract.
    #[n(0)]
    pub bounty: Bounty,
    /// The gateway that brought it.
    #[n(1)]
    pub gateway: PeerHash,
    /// Fleet index.
    #[n(2)]
    pub index: u32,
    /// The device.
    #[n(3)]
    pub device: DeviceKey,
    /// Attempt that it signed.
    #[n(4)]
    pub attempt: Attempt,
    /// Its signature of [`crate::digest::receipt`].
    #[n(5)]
    pub sig: Signature,
    /// What became of it.
    #[n(6)]
    pub fate: Fate,
}

/// What became of a receipt.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
#[cbor(index_only)]
pub enum Fate {
    /// Waits for a batch, or is in the one under way.
    #[n(0)]
    Waiting,
    /// Paid for to us.
    #[n(1)]
    Paid,
    /// Another was paid.
    #[n(2)]
    Claimed,
    /// Locked for another: reported and dropped.
    #[n(3)]
    LockedByOther,
    /// Its attempt is not above the last that was reserved.
    #[n(4)]
    Stale,
    /// Our lock on it ended unused.
    #[n(5)]
    LockLapsed,
    /// No reservation with it succeeds.
    #[n(6)]
    Rejected,
}

impl Fate {
    /// All of them.
    const ALL: [Self; 7] = [
        Self::Waiting,
        Self::Paid,
        Self::Claimed,
        Self::LockedByOther,
        Self::Stale,
        Self::LockLapsed,
        Self::Rejected,
    ];

    /// The inverse of [`Self::name`].
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|fate| fate.name() == name)
    }

    /// The word for it in logs and in the database.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Waiting => "waiting",
            Self::Paid => "paid",
            Self::Claimed => "claimed-by-other",
            Self::LockedByOther => "locked-by-other",
            Self::Stale => "stale-attempt",
            Self::LockLapsed => "lock-lapsed",
            Self::Rejected => "rejected",
        }
    }
}
