//! The network's constants: forks, versions, domains, and the file that tells clients of them.

use std::fmt::Write as _;

use alloy::primitives::{B256, FixedBytes, b256, keccak256};
use ethereum_hashing::hash_fixed;
use tree_hash::TreeHash;

use super::config::{Config, Fork, StartError};
use super::types::{ForkData, SigningData};

/// Slots of an epoch, and epochs of a sync committee period, in the mainnet preset.
pub(super) const SLOTS_PER_EPOCH: u64 = 32;
pub(super) const SLOTS_PER_PERIOD: u64 = SLOTS_PER_EPOCH * 256;
/// Before Fulu's blob schedule has an entry, fork digests mix in this (Electra's limit).
const MAX_BLOBS_ELECTRA: u64 = 9;
const FAR_FUTURE: u64 = u64::MAX;
const DOMAIN_SYNC_COMMITTEE: [u8; 4] = [7, 0, 0, 0];

/// Names in the consensus configuration, oldest first; the index is the fork's number.
const FORK_NAMES: [&str; 7] = ["GENESIS", "ALTAIR", "BELLATRIX", "CAPELLA", "DENEB", "ELECTRA", "FULU"];

const MAINNET_GENESIS: u64 = 1_606_824_023;
const MAINNET_ROOT: B256 = b256!("4b363db94e286120d76eb905340fdd4e54bfe9f06bf33ff6cf5ad27f511bfe95");
const MAINNET_EPOCHS: [u64; 7] = [0, 74_240, 144_896, 194_048, 269_568, 364_032, 411_392];
const MAINNET_BLOBS: [(u64, u64); 2] = [(412_672, 15), (419_072, 21)];
const MAINNET_SLOT_MS: u64 = 12_000;

/// Everything that signatures and layouts depend on.
#[derive(Clone, Debug)]
pub(super) struct Network {
    pub(super) name: &'static str,
    pub(super) chain_id: u64,
    pub(super) genesis_time: u64,
    pub(super) genesis_validators_root: B256,
    pub(super) slot_ms: u64,
    versions: [FixedBytes<4>; 7],
    epochs: [u64; 7],
    /// Sorted by epoch.
    blobs: Vec<(u64, u64)>,
}

impl Network {
    /// Mainnet's, whatever `chain_id` is.
    pub(super) fn mainnet(chain_id: u64) -> Self {
        Self {
            name: "mainnet",
            chain_id,
            genesis_time: MAINNET_GENESIS,
            genesis_validators_root: MAINNET_ROOT,
            slot_ms: MAINNET_SLOT_MS,
            versions: std::array::from_fn(|fork| FixedBytes([fork as u8, 0, 0, 0])),
            epochs: MAINNET_EPOCHS,
            blobs: MAINNET_BLOBS.to_vec(),
        }
    }

    /// A network of its own for each execution genesis, so that what one signs is nothing in another.
    pub(super) fn dev(
        config: &Config,
        chain_id: u64,
        genesis: B256,
        genesis_time: u64,
    ) -> Result<Self, StartError> {
        let mut blobs = config.blob_schedule.clone();
        blobs.sort_unstable();
        let seed = [b"posthouse devchain".as_slice(), genesis.as_slice(), &genesis_time.to_be_bytes()];
        Ok(Self {
            name: "posthouse-devchain",
            chain_id,
            genesis_time,
            genesis_validators_root: keccak256(seed.concat()),
            slot_ms: slot_ms(config)?,
            versions: std::array::from_fn(|fork| FixedBytes([fork as u8, b'p', b'h', b'd'])),
            epochs: epochs(&config.forks)?,
            blobs,
        })
    }

    /// The newest fork that is active in `slot`.
    pub(super) fn fork_at(&self, slot: u64) -> Fork {
        let epoch = slot / SLOTS_PER_EPOCH;
        let active = |fork: &Fork| self.epochs[*fork as usize] <= epoch;
        Fork::ALL.into_iter().rev().find(active).unwrap_or(Fork::Capella)
    }

    pub(super) fn version(&self, fork: Fork) -> FixedBytes<4> {
        self.versions[fork as usize]
    }

    pub(super) fn previous_version(&self, fork: Fork) -> FixedBytes<4> {
        self.versions[fork as usize - 1]
    }

    pub(super) fn activation(&self, fork: Fork) -> u64 {
        self.epochs[fork as usize]
    }

    pub(super) fn genesis_version(&self) -> FixedBytes<4> {
        self.versions[0]
    }

    /// `compute_fork_digest` (Fulu's, which is the older ones' before Fulu).
    pub(super) fn digest(&self, slot: u64) -> FixedBytes<4> {
        self.digest_in(self.fork_at(slot), slot / SLOTS_PER_EPOCH)
    }

    /// The digest that a fork begins with, or would.
    pub(super) fn digest_of(&self, fork: Fork) -> FixedBytes<4> {
        self.digest_in(fork, self.activation(fork))
    }

    fn digest_in(&self, fork: Fork, epoch: u64) -> FixedBytes<4> {
        let mut digest = self.fork_data_root(self.version(fork));
        if fork >= Fork::Fulu {
            let listed = self.blobs.iter().rev().find(|(from, _)| *from <= epoch).copied();
            let (from, most) = listed.unwrap_or((self.activation(Fork::Electra), MAX_BLOBS_ELECTRA));
            digest ^= B256::from(hash_fixed(&[from.to_le_bytes(), most.to_le_bytes()].concat()));
        }
        FixedBytes::from_slice(&digest[..4])
    }

    /// The same network with another genesis.
    pub(super) fn elsewhere(&self) -> Self {
        let genesis_validators_root = keccak256(self.genesis_validators_root);
        Self { genesis_validators_root, ..self.clone() }
    }

    /// What the sync committee of `signature_slot` signs to attest to `root`: the domain is that of
    /// the slot before.
    pub(super) fn signing_root(&self, root: B256, signature_slot: u64) -> B256 {
        let fork = self.fork_at(signature_slot.max(1) - 1);
        self.signing_root_under(self.version(fork), root)
    }

    pub(super) fn signing_root_under(&self, version: FixedBytes<4>, root: B256) -> B256 {
        let mut domain = B256::ZERO;
        domain[..4].copy_from_slice(&DOMAIN_SYNC_COMMITTEE);
        domain[4..].copy_from_slice(&self.fork_data_root(version)[..28]);
        SigningData { object_root: root, domain }.tree_hash_root()
    }

    fn fork_data_root(&self, current_version: FixedBytes<4>) -> B256 {
        let genesis_validators_root = self.genesis_validators_root;
        ForkData { current_version, genesis_validators_root }.tree_hash_root()
    }

    /// Unix milliseconds at which `slot` begins.
    pub(super) fn time_of(&self, slot: u64) -> u64 {
        self.genesis_time.saturating_mul(1000).saturating_add(slot.saturating_mul(self.slot_ms))
    }

    /// The slot that a Unix time in milliseconds lies in; 0 before genesis.
    pub(super) fn slot_at(&self, now_ms: u64) -> u64 {
        now_ms.saturating_sub(self.genesis_time.saturating_mul(1000)) / self.slot_ms
    }

    /// Key and value as `config.yaml` and `/eth/v1/config/spec` have them.
    pub(super) fn settings(&self) -> Vec<(String, String)> {
        let mut settings: Vec<(String, String)> = Vec::new();
        let mut set = |key: &str, value: String| settings.push((key.to_owned(), value));
        set("PRESET_BASE", "mainnet".to_owned());
        set("CONFIG_NAME", self.name.to_owned());
        set("MIN_GENESIS_TIME", self.genesis_time.to_string());
        set("GENESIS_DELAY", "0".to_owned());
        for ((name, version), epoch) in FORK_NAMES.iter().zip(self.versions).zip(self.epochs) {
            set(&format!("{name}_FORK_VERSION"), version.to_string());
            if *name != FORK_NAMES[0] {
                set(&format!("{name}_FORK_EPOCH"), epoch.to_string());
            }
        }
        if self.slot_ms.is_multiple_of(1000) {
            set("SECONDS_PER_SLOT", (self.slot_ms / 1000).to_string());
        }
        set("SLOT_DURATION_MS", self.slot_ms.to_string());
        set("MAX_BLOBS_PER_BLOCK_ELECTRA", MAX_BLOBS_ELECTRA.to_string());
        set("DEPOSIT_CHAIN_ID", self.chain_id.to_string());
        set("DEPOSIT_NETWORK_ID", self.chain_id.to_string());
        settings
    }

    pub(super) fn blobs(&self) -> &[(u64, u64)] {
        &self.blobs
    }

    /// The consensus `config.yaml`, with what a genesis state would tell besides.
    pub(super) fn yaml(&self) -> String {
        let mut yaml = String::new();
        for (key, value) in self.settings() {
            // A name in quotes stays a name, and a version is no number.
            let quote = if value.parse::<u64>().is_ok() { "" } else { "'" };
            let _ = writeln!(yaml, "{key}: {quote}{value}{quote}");
        }
        yaml.push_str(if self.blobs.is_empty() { "BLOB_SCHEDULE: []\n" } else { "BLOB_SCHEDULE:\n" });
        for (epoch, most) in &self.blobs {
            let _ = writeln!(yaml, "  - EPOCH: {epoch}\n    MAX_BLOBS_PER_BLOCK: {most}");
        }
        // With slots of 50 ms the 256 epochs that a light client takes otherwise are seven minutes.
        let _ = writeln!(yaml, "WEAK_SUBJECTIVITY_PERIOD_EPOCHS: {WEAK_SUBJECTIVITY_EPOCHS}");
        let root = self.genesis_validators_root;
        let _ = writeln!(yaml, "GENESIS_TIME: {}\nGENESIS_VALIDATORS_ROOT: '{root}'", self.genesis_time);
        yaml
    }
}

/// As many as on mainnet.
const WEAK_SUBJECTIVITY_EPOCHS: u64 = 3150;

pub(super) fn slot_ms(config: &Config) -> Result<u64, StartError> {
    let slot = config.slot;
    let whole = slot.subsec_nanos().is_multiple_of(1_000_000);
    let slot_ms = u64::try_from(slot.as_millis()).ok().filter(|slot_ms| whole && *slot_ms > 0);
    slot_ms.ok_or(StartError::Slot(slot))
}

fn epochs(forks: &[(Fork, u64)]) -> Result<[u64; 7], StartError> {
    let mut epochs = [FAR_FUTURE; 7];
    let first = forks.first().map_or(Fork::Capella, |(fork, _)| *fork) as usize;
    epochs[..=first.max(Fork::Capella as usize)].fill(0);
    let mut before = None;
    for &(fork, epoch) in forks {
        if before.is_some_and(|(older, earlier)| fork <= older || epoch < earlier) {
            return Err(StartError::ForkOrder(fork));
        }
        before = Some((fork, epoch));
        epochs[fork as usize] = epoch;
    }
    // A fork that was left out between two others activates together with the younger one.
    for fork in (first..epochs.len() - 1).rev() {
        if epochs[fork] == FAR_FUTURE {
            epochs[fork] = epochs[fork + 1];
        }
    }
    Ok(epochs)
}
