//! What has to be known of a network before anything is believed about it.

use std::time::Duration;

use alloy::primitives::B256;
use ethereum_hashing::{hash_fixed, hash32_concat};

use super::fork::{BlobLimit, Fork, ForkSchedule};
use super::{Refused, known, yaml};

/// The sizes that a preset fixes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Preset {
    /// Committees of 512, epochs of 32 slots, periods of 256 epochs.
    Mainnet,
    /// Committees of 32, epochs and periods of 8.
    Minimal,
}

impl Preset {
    /// `SYNC_COMMITTEE_SIZE`.
    #[must_use]
    pub const fn committee(self) -> usize {
        match self {
            Self::Mainnet => 512,
            Self::Minimal => 32,
        }
    }

    /// `SLOTS_PER_EPOCH`.
    #[must_use]
    pub const fn slots_per_epoch(self) -> u64 {
        match self {
            Self::Mainnet => 32,
            Self::Minimal => 8,
        }
    }

    /// `EPOCHS_PER_SYNC_COMMITTEE_PERIOD`.
    #[must_use]
    pub const fn epochs_per_period(self) -> u64 {
        match self {
            Self::Mainnet => 256,
            Self::Minimal => 8,
        }
    }
}

/// A network: constants that the operator trusts, from this program or from a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Network {
    /// For people; nothing is verified by it.
    pub name: String,
    /// Sizes.
    pub preset: Preset,
    /// Unix seconds of slot 0.
    pub genesis_time: u64,
    /// Bound into every signature, so that another network's are refused.
    pub genesis_validators_root: B256,
    /// Milliseconds a slot, never 0.
    pub slot_ms: u64,
    /// Forks.
    pub forks: ForkSchedule,
    /// `BLOB_SCHEDULE`, by rising epoch; mixed into fork digests from Fulu on.
    pub blob_schedule: Vec<BlobLimit>,
    /// `MAX_BLOBS_PER_BLOCK_ELECTRA`, which stands before the first entry of the schedule.
    pub max_blobs_electra: u64,
    /// `DEPOSIT_CHAIN_ID`: the chain id of the execution layer.
    pub execution_chain_id: Option<u64>,
    /// Epochs after which a checkpoint is too old to be believed: those who signed since may have left with their
    /// stake, and can sign another history for nothing.
    pub weak_subjectivity_epochs: u64,
}

impl Network {
    /// Ethereum mainnet.
    #[must_use]
    pub fn mainnet() -> Self {
        known::mainnet()
    }

    /// The Sepolia test network.
    #[must_use]
    pub fn sepolia() -> Self {
        known::sepolia()
    }

    /// The Hoodi test network.
    #[must_use]
    pub fn hoodi() -> Self {
        known::hoodi()
    }

    /// One of the three above by its name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        match name {
            "mainnet" => Some(Self::mainnet()),
            "sepolia" => Some(Self::sepolia()),
            "hoodi" => Some(Self::hoodi()),
            _ => None,
        }
    }

    /// The consensus layer's `config.yaml` with `GENESIS_VALIDATORS_ROOT` added.
    ///
    /// `SLOT_DURATION_MS` or `SECONDS_PER_SLOT`; `GENESIS_TIME`, where it is there, instead of `MIN_GENESIS_TIME` plus
    /// `GENESIS_DELAY`. A fork that this client does not know may be in it and stops the client only when it applies.
    ///
    /// # Errors
    /// [`NetworkError`](yaml::NetworkError) names the line that is missing or wrong.
    pub fn from_yaml(text: &str) -> Result<Self, yaml::NetworkError> {
        yaml::parse(text)
    }

    /// What makes this network this one: what is stored under another digest is another network's.
    ///
    /// Forks are not in it, so that a release which knows the next one goes on from the state that the last one
    /// stored; [`State::from_bytes`](super::State::from_bytes) holds the forks that were verified under against it.
    #[must_use]
    pub fn digest(&self) -> B256 {
        let mut bytes = b"posthouse light client network 1".to_vec();
        for number in [self.preset.committee() as u64, self.genesis_time, self.slot_ms] {
            bytes.extend(number.to_le_bytes());
        }
        bytes.extend(self.genesis_validators_root);
        hash_fixed(&bytes).into()
    }

    /// [`digest`](Self::digest), and the forks up to `slot` with it.
    pub(super) fn digest_at(&self, slot: u64) -> B256 {
        let mut bytes = self.digest().to_vec();
        for scheduled in self.forks.known().iter().filter(|fork| fork.epoch <= self.epoch_of(slot)) {
            bytes.push(scheduled.fork as u8);
            bytes.extend(scheduled.epoch.to_le_bytes());
            bytes.extend(scheduled.version);
        }
        hash_fixed(&bytes).into()
    }

    /// The slot at `unix_ms` milliseconds since 1970; `None` before genesis.
    #[must_use]
    pub fn slot_at(&self, unix_ms: u64) -> Option<u64> {
        Some(unix_ms.checked_sub(self.genesis_time.checked_mul(1000)?)? / self.slot_ms)
    }

    /// When `slot` begins, in milliseconds since 1970; saturates at the end of time.
    #[must_use]
    pub fn starts_at(&self, slot: u64) -> u64 {
        self.genesis_time.saturating_mul(1000).saturating_add(slot.saturating_mul(self.slot_ms))
    }

    /// The epoch that `slot` is in.
    #[must_use]
    pub const fn epoch_of(&self, slot: u64) -> u64 {
        slot / self.preset.slots_per_epoch()
    }

    /// The sync committee period that `slot` is in.
    #[must_use]
    pub const fn period_of(&self, slot: u64) -> u64 {
        self.epoch_of(slot) / self.preset.epochs_per_period()
    }

    /// The fork at `slot`.
    ///
    /// # Errors
    /// [`Refused::BeforeCapella`], [`Refused::UnknownFork`].
    pub fn fork_at(&self, slot: u64) -> Result<Fork, Refused> {
        Ok(self.scheduled_at(slot)?.fork)
    }

    /// How long a checkpoint may be believed.
    #[must_use]
    pub fn weak_subjectivity(&self) -> Duration {
        let slots = self.weak_subjectivity_epochs.saturating_mul(self.preset.slots_per_epoch());
        Duration::from_millis(slots.saturating_mul(self.slot_ms))
    }

    fn scheduled_at(&self, slot: u64) -> Result<&super::Scheduled, Refused> {
        self.forks.at(self.epoch_of(slot)).map_err(|refused| match refused {
            Refused::BeforeCapella { .. } => Refused::BeforeCapella { slot },
            other => other,
        })
    }

    /// `compute_fork_data_root` with the fork version at `slot`.
    fn fork_data_root(&self, slot: u64) -> Result<[u8; 32], Refused> {
        let mut version = [0; 32];
        version[..4].copy_from_slice(&self.scheduled_at(slot)?.version);
        Ok(hash32_concat(&version, self.genesis_validators_root.as_slice()))
    }

    /// `compute_domain(DOMAIN_SYNC_COMMITTEE, …)` with the fork version at `slot`.
    pub(super) fn sync_committee_domain(&self, slot: u64) -> Result<[u8; 32], Refused> {
        let mut domain = [0; 32];
        domain[0] = 7;
        domain[4..].copy_from_slice(&self.fork_data_root(slot)?[..28]);
        Ok(domain)
    }

    /// `compute_fork_digest` at `slot`, which the beacon API puts before each update that it sends as SSZ.
    ///
    /// # Errors
    /// [`Refused::BeforeCapella`], [`Refused::UnknownFork`].
    pub fn fork_digest(&self, slot: u64) -> Result<[u8; 4], Refused> {
        let mut digest = self.fork_data_root(slot)?;
        if self.fork_at(slot)? >= Fork::Fulu {
            let limit = self.blob_limit(self.epoch_of(slot));
            let mut bytes = [0; 16];
            bytes[..8].copy_from_slice(&limit.epoch.to_le_bytes());
            bytes[8..].copy_from_slice(&limit.max_blobs.to_le_bytes());
            digest.iter_mut().zip(hash_fixed(&bytes)).for_each(|(byte, mask)| *byte ^= mask);
        }
        Ok([digest[0], digest[1], digest[2], digest[3]])
    }

    /// `get_blob_parameters`.
    fn blob_limit(&self, epoch: u64) -> BlobLimit {
        let scheduled = self.blob_schedule.iter().rev().find(|limit| limit.epoch <= epoch);
        let electra = self.forks.known().iter().find(|fork| fork.fork == Fork::Electra);
        scheduled.copied().unwrap_or(BlobLimit {
            epoch: electra.map_or(u64::MAX, |fork| fork.epoch),
            max_blobs: self.max_blobs_electra,
        })
    }
}
