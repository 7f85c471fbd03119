//! A network from the consensus layer's `config.yaml`.

use std::collections::BTreeMap;
use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, IgnoredAny, MapAccess, Visitor};

use super::fork::{BlobLimit, Fork, ForkSchedule, Scheduled};
use super::known;
use super::network::{Network, Preset};

/// What of a network's file cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NetworkError {
    /// Not YAML, or not a map of names to values.
    #[error("not a consensus layer configuration: {0}")]
    Yaml(String),
    /// A line is missing.
    #[error("{0} is missing")]
    Missing(&'static str),
    /// A line's value is not what it should be.
    #[error("{name}: {value:?} is not {wanted}")]
    Value {
        /// Name of the line.
        name: String,
        /// Its value.
        value: String,
        /// What it should be.
        wanted: &'static str,
    },
    /// Forks that are scheduled out of order, or none from Capella on.
    #[error("the forks from Capella on are out of order, or there are none")]
    Forks,
}

/// The lines that are read. Everything else is about what a light client does not do.
const READ: [&str; 12] = [
    "CONFIG_NAME",
    "PRESET_BASE",
    "GENESIS_TIME",
    "MIN_GENESIS_TIME",
    "GENESIS_DELAY",
    "GENESIS_VALIDATORS_ROOT",
    "SLOT_DURATION_MS",
    "SECONDS_PER_SLOT",
    "DEPOSIT_CHAIN_ID",
    "MAX_BLOBS_PER_BLOCK_ELECTRA",
    "MIN_VALIDATOR_WITHDRAWABILITY_DELAY",
    "WEAK_SUBJECTIVITY_PERIOD_EPOCHS",
];

/// Forks before the first that this client understands.
const BEFORE: [&str; 2] = ["ALTAIR", "BELLATRIX"];

pub(super) fn parse(text: &str) -> Result<Network, NetworkError> {
    let config: Config =
        serde_saphyr::from_str(text).map_err(|error| NetworkError::Yaml(error.to_string()))?;
    Ok(Network {
        name: config.lines.get("CONFIG_NAME").cloned().unwrap_or_else(|| "unnamed".to_owned()),
        preset: config.preset()?,
        genesis_time: config.genesis_time()?,
        genesis_validators_root: config.bytes("GENESIS_VALIDATORS_ROOT")?.into(),
        slot_ms: config.slot_ms()?,
        forks: config.forks()?,
        blob_schedule: config.blob_schedule()?,
        max_blobs_electra: config.number("MAX_BLOBS_PER_BLOCK_ELECTRA")?.unwrap_or(known::MAX_BLOBS_ELECTRA),
        execution_chain_id: config.number("DEPOSIT_CHAIN_ID")?,
        weak_subjectivity_epochs: config.weak_subjectivity_epochs()?,
    })
}

/// The lines as they are written: YAML would read a fork version as a number and lose its zeros.
struct Config {
    lines: BTreeMap<String, String>,
    limits: Vec<Limit>,
}

#[derive(Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
struct Limit {
    epoch: String,
    max_blobs_per_block: String,
}

impl<'a> Deserialize<'a> for Config {
    fn deserialize<D: Deserializer<'a>>(deserializer: D) -> Result<Self, D::Error> {
        struct Reader;
        impl<'a> Visitor<'a> for Reader {
            type Value = Config;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a map of names to values")
            }
            fn visit_map<A: MapAccess<'a>>(self, mut map: A) -> Result<Config, A::Error> {
                let mut config = Config { lines: BTreeMap::new(), limits: Vec::new() };
                while let Some(name) = map.next_key::<String>()? {
                    if name == "BLOB_SCHEDULE" {
                        config.limits = map.next_value()?;
                    } else if READ.contains(&name.as_str()) || name.contains("_FORK_") {
                        config.lines.insert(name, map.next_value()?);
                    } else {
                        map.next_value::<IgnoredAny>()?;
                    }
                }
                Ok(config)
            }
        }
        deserializer.deserialize_map(Reader)
    }
}

impl Config {
    fn needed(&self, name: &'static str) -> Result<&str, NetworkError> {
        self.lines.get(name).map(String::as_str).ok_or(NetworkError::Missing(name))
    }

    fn number(&self, name: &str) -> Result<Option<u64>, NetworkError> {
        self.lines.get(name).map(|value| number(name, value)).transpose()
    }

    fn bytes<const N: usize>(&self, name: &'static str) -> Result<[u8; N], NetworkError> {
        bytes(name, self.needed(name)?)
    }

    fn preset(&self) -> Result<Preset, NetworkError> {
        match self.needed("PRESET_BASE")? {
            "mainnet" => Ok(Preset::Mainnet),
            "minimal" => Ok(Preset::Minimal),
            other => Err(wrong("PRESET_BASE", other, "mainnet or minimal")),
        }
    }

    fn genesis_time(&self) -> Result<u64, NetworkError> {
        if let Some(time) = self.number("GENESIS_TIME")? {
            return Ok(time);
        }
        let earliest = self.number("MIN_GENESIS_TIME")?.ok_or(NetworkError::Missing("MIN_GENESIS_TIME"))?;
        let delay = self.number("GENESIS_DELAY")?.ok_or(NetworkError::Missing("GENESIS_DELAY"))?;
        earliest
            .checked_add(delay)
            .ok_or_else(|| wrong("GENESIS_DELAY", &delay.to_string(), "within 64 bits"))
    }

    /// `WEAK_SUBJECTIVITY_PERIOD_EPOCHS`, a line of our own, for an operator who knows how much is at stake there. Without
    /// it, the least that `compute_weak_subjectivity_period` gives: how many validators there are is nothing that a file
    /// says, and the fewer, the sooner they may all have left.
    fn weak_subjectivity_epochs(&self) -> Result<u64, NetworkError> {
        let set = self.number("WEAK_SUBJECTIVITY_PERIOD_EPOCHS")?;
        let least = self.number("MIN_VALIDATOR_WITHDRAWABILITY_DELAY")?;
        Ok(set.or(least).unwrap_or(MIN_VALIDATOR_WITHDRAWABILITY_DELAY))
    }

    fn slot_ms(&self) -> Result<u64, NetworkError> {
        let (name, ms) = match self.number("SLOT_DURATION_MS")? {
            Some(ms) => ("SLOT_DURATION_MS", Some(ms)),
            None => ("SECONDS_PER_SLOT", self.number("SECONDS_PER_SLOT")?.map(|s| s.saturating_mul(1000))),
        };
        match ms {
            None => Err(NetworkError::Missing("SLOT_DURATION_MS")),
            Some(1..=MAX_SLOT_MS) => Ok(ms.unwrap_or(MAX_SLOT_MS)),
            Some(ms) => Err(wrong(name, &ms.to_string(), "between a millisecond and an hour")),
        }
    }

    fn forks(&self) -> Result<ForkSchedule, NetworkError> {
        let mut known = Vec::new();
        for fork in Fork::ALL {
            let name = fork.name().to_uppercase();
            let Some(epoch) = self.number(&format!("{name}_FORK_EPOCH"))? else { continue };
            let line = format!("{name}_FORK_VERSION");
            let version = self.lines.get(&line).map_or("nothing", String::as_str);
            known.push(Scheduled { fork, epoch, version: bytes(&line, version)? });
        }
        ForkSchedule::new(known, self.beyond()?).ok_or(NetworkError::Forks)
    }

    /// The earliest fork by a name that says nothing to this client.
    fn beyond(&self) -> Result<Option<(String, u64)>, NetworkError> {
        let mut beyond: Option<(String, u64)> = None;
        for (line, value) in &self.lines {
            let Some(name) = line.strip_suffix("_FORK_EPOCH") else { continue };
            if BEFORE.contains(&name) || Fork::named(&name.to_lowercase()).is_ok() {
                continue;
            }
            let epoch = number(line, value)?;
            if beyond.as_ref().is_none_or(|(_, first)| epoch < *first) {
                beyond = Some((name.to_lowercase(), epoch));
            }
        }
        Ok(beyond)
    }

    fn blob_schedule(&self) -> Result<Vec<BlobLimit>, NetworkError> {
        let limit = |limit: &Limit| {
            let epoch = number("BLOB_SCHEDULE, EPOCH", &limit.epoch)?;
            let max_blobs = number("BLOB_SCHEDULE, MAX_BLOBS_PER_BLOCK", &limit.max_blobs_per_block)?;
            Ok(BlobLimit { epoch, max_blobs })
        };
        let mut limits = self.limits.iter().map(limit).collect::<Result<Vec<_>, _>>()?;
        limits.sort_by_key(|limit| limit.epoch);
        Ok(limits)
    }
}

/// Epochs; the same in every network's file so far.
const MIN_VALIDATOR_WITHDRAWABILITY_DELAY: u64 = 256;

/// An hour: a slot this long is a mistake in the unit.
const MAX_SLOT_MS: u64 = 3_600_000;

fn wrong(name: &str, value: &str, wanted: &'static str) -> NetworkError {
    NetworkError::Value { name: name.to_owned(), value: value.chars().take(80).collect(), wanted }
}

fn number(name: &str, value: &str) -> Result<u64, NetworkError> {
    value.parse().map_err(|_| wrong(name, value, "a number of 64 bits"))
}

fn bytes<const N: usize>(name: &str, value: &str) -> Result<[u8; N], NetworkError> {
    let mut bytes = [0; N];
    let digits = value.strip_prefix("0x").unwrap_or_default();
    hex::decode_to_slice(digits, &mut bytes)
        .map_err(|_| wrong(name, value, "0x and the right number of digits"))?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAINNET: &str = "
PRESET_BASE: 'mainnet'
CONFIG_NAME: mainnet
TERMINAL_TOTAL_DIFFICULTY: 58750000000000000000000
MIN_GENESIS_TIME: 1606824000 # Dec 1, 2020, 12pm UTC
GENESIS_TIME: 1606824023
GENESIS_DELAY: 604800
GENESIS_VALIDATORS_ROOT: 0x4b363db94e286120d76eb905340fdd4e54bfe9f06bf33ff6cf5ad27f511bfe95
SECONDS_PER_SLOT: 12
ALTAIR_FORK_EPOCH: 74240
CAPELLA_FORK_VERSION: 0x03000000
CAPELLA_FORK_EPOCH: 194048
DENEB_FORK_VERSION: 0x04000000
DENEB_FORK_EPOCH: 269568
ELECTRA_FORK_VERSION: 0x05000000
ELECTRA_FORK_EPOCH: 364032
FULU_FORK_VERSION: 0x06000000
FULU_FORK_EPOCH: 411392
GLOAS_FORK_VERSION: 0x07000000
GLOAS_FORK_EPOCH: 18446744073709551615
DEPOSIT_CHAIN_ID: 1
MAX_BLOBS_PER_BLOCK_ELECTRA: 9
BLOB_SCHEDULE:
  - EPOCH: 412672
    MAX_BLOBS_PER_BLOCK: 15
  - EPOCH: 419072
    MAX_BLOBS_PER_BLOCK: 21
";

    fn with(line: &str, instead: &str) -> Result<Network, NetworkError> {
        assert!(MAINNET.contains(line), "{line}");
        parse(&MAINNET.replace(line, instead))
    }

    #[test]
    fn the_file_of_mainnet_is_mainnet() {
        let network =
            with("SECONDS_PER_SLOT", "WEAK_SUBJECTIVITY_PERIOD_EPOCHS: 3150\nSECONDS_PER_SLOT").unwrap();
        assert_eq!(network, Network::mainnet());
    }

    #[test]
    fn genesis_time_is_counted_where_it_is_not_said() {
        let network = with("GENESIS_TIME: 1606824023\n", "").unwrap();
        assert_eq!(network.genesis_time, 1_606_824_000 + 604_800);
    }

    #[test]
    fn a_network_of_unknown_stake_is_believed_for_the_shortest_time() {
        let epochs = |lines: &str| parse(&format!("{MAINNET}{lines}")).unwrap().weak_subjectivity_epochs;
        assert_eq!(epochs(""), 256);
        assert_eq!(epochs("MIN_VALIDATOR_WITHDRAWABILITY_DELAY: 300\n"), 300);
        let both = "MIN_VALIDATOR_WITHDRAWABILITY_DELAY: 300\nWEAK_SUBJECTIVITY_PERIOD_EPOCHS: 4000\n";
        assert_eq!(epochs(both), 4000);
        assert_eq!(parse(MAINNET).unwrap().weak_subjectivity().as_secs(), 256 * 32 * 12);
    }

    #[test]
    fn milliseconds_come_before_seconds() {
        assert_eq!(with("SECONDS_PER_SLOT", "SLOT_DURATION_MS: 100\nSECONDS_PER_SLOT").unwrap().slot_ms, 100);
    }

    #[test]
    fn an_unknown_fork_that_is_scheduled_stops_the_client_there() {
        let network = with("GLOAS_FORK_EPOCH: 18446744073709551615", "GLOAS_FORK_EPOCH: 500000").unwrap();
        assert_eq!(network.fork_at(500_000 * 32 - 1), Ok(Fork::Fulu));
        assert_eq!(network.fork_at(500_000 * 32), Err(crate::spec::Refused::UnknownFork("gloas".to_owned())));
        assert_eq!(network.digest(), Network::mainnet().digest(), "what is stored stays valid until then");
    }

    #[test]
    fn lines_that_are_wrong_are_named() {
        let value = |result: Result<Network, NetworkError>| match result {
            Err(NetworkError::Value { name, .. }) => name,
            other => panic!("{other:?}"),
        };
        assert_eq!(value(with("'mainnet'", "'gnosis'")), "PRESET_BASE");
        assert_eq!(value(with("SECONDS_PER_SLOT: 12", "SECONDS_PER_SLOT: 0")), "SECONDS_PER_SLOT");
        assert_eq!(value(with("0x03000000", "0x030000")), "CAPELLA_FORK_VERSION");
        assert_eq!(value(with("FULU_FORK_EPOCH: 411392", "FULU_FORK_EPOCH: -1")), "FULU_FORK_EPOCH");
        assert_eq!(value(with("95\nSECONDS", "9\nSECONDS")), "GENESIS_VALIDATORS_ROOT");
        assert_eq!(with("PRESET_BASE: 'mainnet'\n", ""), Err(NetworkError::Missing("PRESET_BASE")));
        assert_eq!(with("DENEB_FORK_EPOCH: 269568", "DENEB_FORK_EPOCH: 500000"), Err(NetworkError::Forks));
        assert!(matches!(parse("- not a map"), Err(NetworkError::Yaml(_))));
        assert!(matches!(
            with("SECONDS_PER_SLOT: 12", "SECONDS_PER_SLOT: 12\nSECONDS_PER_SLOT: 6"),
            Err(NetworkError::Yaml(_))
        ));
    }
}
