//! A network from the consensus layer's `config.yaml`.

use std::collections::BTreeMap;

use serde::Deserialize;

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

#[derive(Deserialize)]
#[serde(untagged)]
enum Line {
    Scalar(String),
    Limits(Vec<BTreeMap<String, String>>),
}

pub(super) fn parse(text: &str) -> Result<Network, NetworkError> {
    let lines: BTreeMap<String, Line> =
        serde_saphyr::from_str(text).map_err(|error| NetworkError::Yaml(error.to_string()))?;
    let _ = lines;
    let _ = (known::MAX_BLOBS_ELECTRA, Preset::Mainnet, Fork::ALL);
    let _: Option<(BlobLimit, ForkSchedule, Scheduled)> = None;
    Err(NetworkError::Forks)
}
