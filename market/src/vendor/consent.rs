//! Money is spent when it was shown what on, and somebody agreed.

use std::fmt::Display;

use thiserror::Error;

use crate::console;

/// Why nothing is spent.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum ConsentError {
    /// Nobody is there to agree.
    #[error("not agreed to: without a terminal to ask on, give --yes")]
    NoTerminal,
    /// Somebody was, and did not.
    #[error("not agreed to: nothing was written or sent")]
    Declined,
}

/// Whether a command may cost what it costs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Consent {
    /// `--yes`.
    Given,
    /// Somebody is to be asked.
    Asked,
    /// `--dry-run`.
    Withheld,
}

impl Consent {
    pub(super) fn of(yes: bool, dry_run: bool) -> Self {
        match (dry_run, yes) {
            (true, _) => Self::Withheld,
            (false, true) => Self::Given,
            (false, false) => Self::Asked,
        }
    }
}

/// Shows a plan on stderr, as stdout is for results, and asks where it has to be asked.
pub(super) async fn agree(
    plan: &impl Display,
    question: &'static str,
    consent: Consent,
) -> anyhow::Result<()> {
    console::note(plan)?;
    if consent == Consent::Given {
        return Ok(());
    }
    match tokio::task::spawn_blocking(move || console::ask(question)).await?? {
        Some(true) => Ok(()),
        Some(false) => Err(ConsentError::Declined.into()),
        None => Err(ConsentError::NoTerminal.into()),
    }
}
