//! What is on disk: facts, each at its place, from which the machine is rebuilt.

use alloc::vec::Vec;

use super::io::{Fault, KeySource};
use super::offer::VerifiedOffer;
use super::peer::Peer;
use super::state::Failure;
use crate::id::{Attempt, DeviceKey, LockHash, Signature, Version};
use crate::secret::KeyR;

/// One fact. A record replaces the one at the same [`Slot`]; order does not matter otherwise.
#[derive(Debug, Clone, PartialEq, Eq, minicbor::Encode, minicbor::Decode)]
#[cbor(flat)]
pub enum Record {
    /// A sensor's delegation to this gateway.
    #[n(0)]
    Delegation {
        /// The sensor.
        #[n(0)]
        device: DeviceKey,
        /// Over [`crate::digest::delegation`], verified.
        #[n(1)]
        sig: Signature,
    },
    /// A sensor's place in the fleet, proven by a Merkle path.
    #[n(1)]
    Index {
        /// The sensor.
        #[n(0)]
        device: DeviceKey,
        /// Its index.
        #[n(1)]
        index: u32,
    },
    /// A verified offer for which receipts are asked.
    #[n(2)]
    Offer(#[n(0)] VerifiedOffer),
    /// A receipt is asked for: the attempt is used, whether the answer comes or not.
    #[n(3)]
    Asked {
        /// The sensor.
        #[n(0)]
        device: DeviceKey,
        /// The offer.
        #[n(1)]
        s: LockHash,
        /// The attempt.
        #[n(2)]
        attempt: Attempt,
    },
    /// The receipt is signed.
    #[n(4)]
    Signed {
        /// The sensor.
        #[n(0)]
        device: DeviceKey,
        /// The offer.
        #[n(1)]
        s: LockHash,
        /// The attempt.
        #[n(2)]
        attempt: Attempt,
        /// Over [`crate::digest::receipt`], verified.
        #[n(3)]
        sig: Signature,
    },
    /// The distributor has the receipt with this attempt.
    #[n(5)]
    Acked {
        /// The sensor.
        #[n(0)]
        device: DeviceKey,
        /// The offer.
        #[n(1)]
        s: LockHash,
        /// The attempt.
        #[n(2)]
        attempt: Attempt,
    },
    /// The batch is sealed.
    #[n(6)]
    Sealed {
        /// The offer.
        #[n(0)]
        s: LockHash,
        /// Unix milliseconds.
        #[n(1)]
        at: u64,
    },
    /// The offer's key.
    #[n(7)]
    Key {
        /// The offer.
        #[n(0)]
        s: LockHash,
        /// The key.
        #[n(1)]
        r: KeyR,
        /// Where it came from.
        #[n(2)]
        source: KeySource,
    },
    /// The offer's key opens something else.
    #[n(8)]
    Misfit {
        /// The offer.
        #[n(0)]
        s: LockHash,
    },
    /// The image is staged, opened by this offer's key.
    #[n(9)]
    Staged {
        /// The offer.
        #[n(0)]
        s: LockHash,
    },
    /// A distributor was left, for the last time at this Unix millisecond.
    #[n(10)]
    Left {
        /// The distributor.
        #[n(0)]
        peer: Peer,
        /// Why.
        #[n(1)]
        why: Fault,
        /// When.
        #[n(2)]
        at: u64,
    },
    /// A sensor's signed report that it runs the update.
    #[n(11)]
    Installed {
        /// The sensor.
        #[n(0)]
        device: DeviceKey,
        /// Over [`crate::digest::installed`], verified.
        #[n(1)]
        sig: Signature,
    },
    /// A newer version took over.
    #[n(12)]
    Superseded {
        /// Which.
        #[n(0)]
        by: Version,
    },
    /// The exchange ended without delivering.
    #[n(13)]
    Failed {
        /// Why.
        #[n(0)]
        why: Failure,
    },
}

/// Where a record is kept: its kind, and what it is about.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Slot {
    /// Number of the kind, as on the wire. Restoring goes by ascending kind.
    pub kind: u8,
    /// Device, offer or peer, or both; at most 69 bytes.
    pub key: Vec<u8>,
}

impl Record {
    /// Where it is kept.
    pub fn slot(&self) -> Slot {
        let (kind, parts): (u8, [&[u8]; 2]) = match self {
            Self::Delegation { device, .. } => (0, [device.as_ref(), &[]]),
            Self::Index { device, .. } => (1, [device.as_ref(), &[]]),
            Self::Offer(offer) => (2, [offer.offer.s.as_ref(), &[]]),
            Self::Asked { device, s, .. } => (3, [device.as_ref(), s.as_ref()]),
            Self::Signed { device, s, .. } => (4, [device.as_ref(), s.as_ref()]),
            Self::Acked { device, s, .. } => (5, [device.as_ref(), s.as_ref()]),
            Self::Sealed { s, .. } => (6, [s.as_ref(), &[]]),
            Self::Key { s, .. } => (7, [s.as_ref(), &[]]),
            Self::Misfit { s } => (8, [s.as_ref(), &[]]),
            Self::Staged { .. } => (9, [&[], &[]]),
            Self::Left { peer, .. } => (10, [peer.as_bytes(), &[]]),
            Self::Installed { device, .. } => (11, [device.as_ref(), &[]]),
            Self::Superseded { .. } => (12, [&[], &[]]),
            Self::Failed { .. } => (13, [&[], &[]]),
        };
        Slot { kind, key: parts.concat() }
    }
}
