//! Forks, and when they apply.

use std::fmt;

use super::Refused;

/// The forks whose headers this client understands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Fork {
    /// Beacon blocks commit to an execution header that a light client can check.
    Capella,
    /// Two fields more in the execution header.
    Deneb,
    /// Branches in the state are one deeper.
    Electra,
    /// The fork digest mixes in the blob schedule.
    Fulu,
}

impl Fork {
    /// All, oldest first.
    pub const ALL: [Self; 4] = [Self::Capella, Self::Deneb, Self::Electra, Self::Fulu];

    /// The beacon API's name, as in `version` and `Eth-Consensus-Version`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Capella => "capella",
            Self::Deneb => "deneb",
            Self::Electra => "electra",
            Self::Fulu => "fulu",
        }
    }

    /// The fork of that name.
    ///
    /// # Errors
    /// [`Refused::UnknownFork`].
    pub fn named(name: &str) -> Result<Self, Refused> {
        let found = Self::ALL.into_iter().find(|fork| fork.name() == name);
        found.ok_or_else(|| {
            Refused::UnknownFork(name.chars().filter(|c| c.is_ascii_alphanumeric()).take(32).collect())
        })
    }
}

impl fmt::Display for Fork {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// From when a fork applies, and what signatures of its time are bound to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Scheduled {
    /// The fork.
    pub fork: Fork,
    /// First epoch; `u64::MAX` for never.
    pub epoch: u64,
    /// `*_FORK_VERSION`.
    pub version: [u8; 4],
}

/// An entry of `BLOB_SCHEDULE` (EIP-7892).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BlobLimit {
    /// First epoch.
    pub epoch: u64,
    /// `MAX_BLOBS_PER_BLOCK`.
    pub max_blobs: u64,
}

/// The forks of a network.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ForkSchedule {
    known: Vec<Scheduled>,
    beyond: Option<(String, u64)>,
}

impl ForkSchedule {
    /// `known` in any order; `beyond` is the first fork after those, with its epoch. `None` where two forks that are
    /// scheduled come in another order than [`Fork::ALL`], or none is.
    #[must_use]
    pub fn new(known: impl IntoIterator<Item = Scheduled>, beyond: Option<(String, u64)>) -> Option<Self> {
        let mut known: Vec<_> = known.into_iter().filter(|fork| fork.epoch != u64::MAX).collect();
        known.sort_by_key(|scheduled| scheduled.fork);
        let ordered =
            known.windows(2).all(|pair| pair[0].fork < pair[1].fork && pair[0].epoch <= pair[1].epoch);
        let beyond = beyond.filter(|(_, epoch)| *epoch != u64::MAX);
        (ordered && !known.is_empty()).then_some(Self { known, beyond })
    }

    /// What applies in `epoch`.
    ///
    /// # Errors
    /// [`Refused::UnknownFork`] from the first fork on that this client does not know, [`Refused::BeforeCapella`]
    /// with the epoch's number for a slot: callers that have a slot ask [`Network::fork_at`](super::Network::fork_at).
    pub(super) fn at(&self, epoch: u64) -> Result<&Scheduled, Refused> {
        if let Some((name, first)) = &self.beyond
            && epoch >= *first
        {
            return Err(Refused::UnknownFork(name.clone()));
        }
        self.known.iter().rev().find(|fork| fork.epoch <= epoch).ok_or(Refused::BeforeCapella { slot: epoch })
    }

    /// The scheduled forks, oldest first.
    #[must_use]
    pub fn known(&self) -> &[Scheduled] {
        &self.known
    }

    /// The first fork that this client does not know, with its epoch.
    #[must_use]
    pub fn beyond(&self) -> Option<(&str, u64)> {
        self.beyond.as_ref().map(|(name, epoch)| (name.as_str(), *epoch))
    }
}
