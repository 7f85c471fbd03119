//! Checking the client against data that the reader trusts: files in, what follows from them out.

use std::sync::Arc;

use alloy::primitives::B256;

use crate::spec::{Network, Refused, State, any_bootstrap, any_updates};

/// Updates in one file; a year has 320 periods.
const MAX_UPDATES: usize = 1024;

/// What follows from the files.
#[derive(Debug)]
pub struct Outcome {
    /// The state after the last file.
    pub state: State,
    /// Milliseconds between the finalized header's slot and now.
    pub age_ms: u64,
    /// What the reader should know beside.
    pub warnings: Vec<String>,
}

impl Outcome {
    /// `finalized slot=… block=… hash=0x…`.
    #[must_use]
    pub fn line(&self) -> String {
        let header = self.state.finalized();
        let (slot, number, hash) = (header.beacon.slot, header.execution.number, header.execution.block_hash);
        format!("finalized slot={slot} block={number} hash={hash}")
    }
}

/// Why a file is not believed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReplayError {
    /// The clock stands before the network's genesis.
    #[error("the clock stands before the genesis of {0}")]
    BeforeGenesis(String),
    /// The bootstrap proves nothing.
    #[error("the bootstrap: {0}")]
    Bootstrap(Refused),
    /// An update proves nothing.
    #[error("{file}, update {index}: {why}")]
    Update {
        /// The file's name as the caller gave it.
        file: String,
        /// Which of its updates, from 0; 0 where the file could not be read at all.
        index: usize,
        /// Why not.
        why: Refused,
    },
}

/// Starts from `bootstrap` and applies `updates` in order. Each file is SSZ or the beacon API's JSON; an update file may
/// have any number of updates of any kind.
///
/// Without `checkpoint` the bootstrap's own root is taken, and said. An update that is older than what is proven is
/// said too, and so is a checkpoint that a running client would refuse for its age; neither is an error.
///
/// # Errors
/// [`ReplayError`] names the first file that is not believed.
pub fn replay<Name: Into<String>, Bytes: AsRef<[u8]>>(
    network: Arc<Network>,
    checkpoint: Option<B256>,
    bootstrap: &[u8],
    updates: impl IntoIterator<Item = (Name, Bytes)>,
    now_ms: u64,
) -> Result<Outcome, ReplayError> {
    let now_slot = network.slot_at(now_ms).ok_or_else(|| ReplayError::BeforeGenesis(network.name.clone()))?;
    let mut warnings = Vec::new();
    let mut state = start(&network, checkpoint, bootstrap, now_ms, &mut warnings)?;
    for (file, bytes) in updates {
        let file = file.into();
        apply(&mut state, &file, bytes.as_ref(), now_slot, &mut warnings)?;
    }
    let age_ms = now_ms.saturating_sub(network.starts_at(state.finalized().beacon.slot));
    Ok(Outcome { state, age_ms, warnings })
}

fn start(
    network: &Arc<Network>,
    checkpoint: Option<B256>,
    bytes: &[u8],
    now_ms: u64,
    warnings: &mut Vec<String>,
) -> Result<State, ReplayError> {
    let bootstrap = any_bootstrap(network, bytes).map_err(ReplayError::Bootstrap)?;
    let own = bootstrap.header.beacon.root();
    if checkpoint.is_none() {
        warnings.push(format!("no checkpoint was given: {own} is believed because the bootstrap says so"));
    }
    let age_ms = now_ms.saturating_sub(network.starts_at(bootstrap.header.beacon.slot));
    if u128::from(age_ms) > network.weak_subjectivity().as_millis() {
        let days = |ms: u128| ms / 86_400_000;
        let (age, bound) = (days(age_ms.into()), days(network.weak_subjectivity().as_millis()));
        warnings.push(format!(
            "the checkpoint is {age} days old; a running client refuses one older than {bound}"
        ));
    }
    State::bootstrap(network.clone(), checkpoint.unwrap_or(own), &bootstrap).map_err(ReplayError::Bootstrap)
}

fn apply(
    state: &mut State,
    file: &str,
    bytes: &[u8],
    now_slot: u64,
    warnings: &mut Vec<String>,
) -> Result<(), ReplayError> {
    let refused = |index, why| ReplayError::Update { file: file.to_owned(), index, why };
    let updates = any_updates(state.network(), bytes, MAX_UPDATES).map_err(|why| refused(0, why))?;
    for (index, update) in updates.iter().enumerate() {
        match state.apply(update, now_slot) {
            Ok(_) => {}
            Err(stale @ Refused::Stale { .. }) => warnings.push(format!("{file}, update {index}: {stale}")),
            Err(why) => return Err(refused(index, why)),
        }
    }
    Ok(())
}
