//! The states as types: each holds what is valid then and nothing else.

use core::fmt;

use thiserror::Error;

use super::peer::Peer;
use crate::id::{DeviceKey, LockHash, Payee, Version};

/// Where an exchange is. Its names are those of `protocol/README`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum State {
    /// The chain says there is an update; the package or the delegation is awaited.
    Announced,
    /// Looking for a distributor.
    Locating(Locating),
    /// One was chosen: hello, challenge, and then the proof is being made.
    Authenticating(Authenticating),
    /// Its offer is here: being checked, or waiting for the first receipt.
    Offered(Offered),
    /// A receipt is signed; the rest is collected, sealed, and the key awaited.
    Committed(Committed),
    /// The key is known; the image is being decrypted.
    Revealed(Revealed),
    /// The image is on disk and served.
    Staged(Staged),
    /// Every sensor that is known runs it.
    Done(Staged),
    /// It ended without delivering.
    Failed(Failure),
    /// A newer version took its place.
    Superseded(Version),
}

/// See [`State::Locating`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Locating {
    /// When the search under way is given up; `None` while none is under way.
    pub(super) until: Option<u64>,
    /// No further search before this.
    pub(super) again: u64,
}

/// What a distributor was chosen for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Goal {
    /// To make an offer.
    Buy,
    /// To hand out what it was paid for already, under the key with this number in the order of asking.
    Copy { number: u64, s: LockHash, payee: Payee, device: DeviceKey },
}

/// See [`State::Authenticating`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Authenticating {
    pub(super) peer: Peer,
    pub(super) goal: Goal,
    pub(super) since: u64,
}

/// See [`State::Offered`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Offered {
    pub(super) peer: Peer,
    pub(super) s: LockHash,
    /// Set by the verifier's token, which is then among the offers held.
    pub(super) verified: bool,
}

/// See [`State::Committed`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Committed {
    pub(super) peer: Peer,
    pub(super) s: LockHash,
    /// Last time that the distributor moved on.
    pub(super) progress: u64,
}

/// See [`State::Revealed`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Revealed {
    pub(super) s: LockHash,
    pub(super) step: Decrypting,
}

/// How far decrypting is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Decrypting {
    /// To be started, not before this moment.
    At(u64),
    /// Under way.
    Running,
}

/// See [`State::Staged`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Staged {
    pub(super) s: LockHash,
    pub(super) since: u64,
}

/// Why an exchange ended without delivering.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error, minicbor::Encode, minicbor::Decode)]
#[cbor(index_only)]
pub enum Failure {
    /// The package is not what the chain announces.
    #[error("the package is not what the chain announces")]
    #[n(0)]
    Package,
    /// Claims closed and no key came.
    #[error("claims closed before a key came")]
    #[n(1)]
    ClaimsClosed,
    /// The vendor's body and key do not make the vendor's image.
    #[error("the vendor's body and key do not make its image")]
    #[n(2)]
    VendorMismatch,
}

/// A state's name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[allow(missing_docs, reason = "the states are documented at State")]
pub enum StateName {
    Announced,
    Locating,
    Authenticating,
    Offered,
    Committed,
    Revealed,
    Staged,
    Done,
    Failed,
    Superseded,
}

impl StateName {
    /// All, in the order in which an exchange comes by them.
    pub const ALL: [Self; 10] = [
        Self::Announced,
        Self::Locating,
        Self::Authenticating,
        Self::Offered,
        Self::Committed,
        Self::Revealed,
        Self::Staged,
        Self::Done,
        Self::Failed,
        Self::Superseded,
    ];

    /// Lower-case, as shown to people and programs.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Announced => "announced",
            Self::Locating => "locating",
            Self::Authenticating => "authenticating",
            Self::Offered => "offered",
            Self::Committed => "committed",
            Self::Revealed => "revealed",
            Self::Staged => "staged",
            Self::Done => "done",
            Self::Failed => "failed",
            Self::Superseded => "superseded",
        }
    }
}

impl fmt::Display for StateName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl State {
    /// Its name.
    pub const fn name(&self) -> StateName {
        match self {
            Self::Announced => StateName::Announced,
            Self::Locating(_) => StateName::Locating,
            Self::Authenticating(_) => StateName::Authenticating,
            Self::Offered(_) => StateName::Offered,
            Self::Committed(_) => StateName::Committed,
            Self::Revealed(_) => StateName::Revealed,
            Self::Staged(_) => StateName::Staged,
            Self::Done(_) => StateName::Done,
            Self::Failed(_) => StateName::Failed,
            Self::Superseded(_) => StateName::Superseded,
        }
    }

    /// A fresh search, not before `again`.
    pub(super) const fn locating(again: u64) -> Self {
        Self::Locating(Locating { until: None, again })
    }

    /// The distributor that the exchange is with now.
    pub fn peer(&self) -> Option<Peer> {
        match self {
            Self::Authenticating(state) => Some(state.peer),
            Self::Offered(state) => Some(state.peer),
            Self::Committed(state) => Some(state.peer),
            _ => None,
        }
    }

    /// The lock of the copy that is asked for or checked now, if it is one.
    pub(super) fn copying(&self) -> Option<LockHash> {
        match self {
            Self::Authenticating(Authenticating { goal: Goal::Copy { s, .. }, .. }) => Some(*s),
            Self::Offered(state) => Some(state.s),
            _ => None,
        }
    }

    /// The verified offer that receipts are asked for now.
    pub fn paying(&self) -> Option<LockHash> {
        match self {
            Self::Offered(state) if state.verified => Some(state.s),
            Self::Committed(state) => Some(state.s),
            Self::Revealed(state) => Some(state.s),
            Self::Staged(state) | Self::Done(state) => Some(state.s),
            _ => None,
        }
    }

    /// Whether the image is served.
    pub const fn is_staged(&self) -> bool {
        matches!(self, Self::Staged(_) | Self::Done(_))
    }

    /// Whether nothing more is asked of anybody.
    pub const fn is_over(&self) -> bool {
        matches!(self, Self::Failed(_) | Self::Superseded(_))
    }
}
