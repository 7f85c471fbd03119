//! What an operator wants to know.

use alloy::primitives::B256;
use serde::Serialize;

use crate::http::Report;

/// What an operator wants to know. Ages are by the computer's clock.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Status {
    /// The network's name.
    pub network: String,
    /// The checkpoint that everything follows from.
    pub checkpoint: Option<B256>,
    /// The newest header that is proven to be finalized.
    pub finalized: Option<Seen>,
    /// The newest header that two thirds of a committee signed.
    pub optimistic: Option<Seen>,
    /// Sync committee period of the finalized header.
    pub period: Option<u64>,
    /// Whether the committee of the next period is known.
    pub next_committee: bool,
    /// What is not as it should be.
    pub alarms: Vec<Alarm>,
    /// Why the last synchronisation ended early, in one line of at most 200 characters.
    pub last_error: Option<String>,
    /// Beacon endpoints, in order of preference.
    pub beacon: Vec<Report>,
    /// Execution endpoints, in order of preference.
    pub rpc: Vec<Report>,
    /// Bytes that the beacon endpoints have sent.
    pub received: u64,
}

/// A block that is proven.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Seen {
    /// Slot of the beacon block.
    pub slot: u64,
    /// Root of the beacon block.
    pub root: B256,
    /// Number of the execution block.
    pub number: u64,
    /// Hash of the execution block.
    pub hash: B256,
    /// Seconds since the slot began.
    pub age_secs: u64,
}

/// Something that an operator should look at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "alarm", rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Alarm {
    /// No endpoint shows a finalized header that is young enough: they withhold it, or the network finalizes nothing.
    FinalityWithheld {
        /// Slot of the newest one known.
        slot: u64,
        /// Its age.
        age_secs: u64,
    },
    /// No beacon endpoint has given an answer that holds since the program began, and that is longer ago than finality may
    /// take.
    Unanswered {
        /// Seconds since then.
        for_secs: u64,
    },
    /// The chain is followed no more, for a reason that trying again does not mend: the operator has to. What was proven
    /// stays. Stays until the program ends.
    Ended {
        /// The reason, in one line of at most 200 characters.
        why: String,
    },
    /// All endpoints that answer show signatures of slots that are still to come.
    ClockBehind {
        /// The earliest of these slots.
        signed: u64,
        /// The slot by the clock.
        now: u64,
    },
    /// The clock is before the network's genesis.
    BeforeGenesis,
    /// What is trusted is older than the weak subjectivity period.
    Stale {
        /// The header's age.
        age_secs: u64,
        /// The weak subjectivity period.
        allowed_secs: u64,
    },
    /// No endpoint had the configured checkpoint, so what is stored is still what is trusted.
    CheckpointNotTaken {
        /// The configured one.
        checkpoint: B256,
    },
    /// The configured checkpoint is older than what is stored: it was not used, and nothing was checked against it.
    CheckpointOlder {
        /// The configured one.
        checkpoint: B256,
    },
    /// Two thirds of the committee signed two finalized blocks of one slot. Stays until the program ends.
    Contradiction {
        /// What contradicts what.
        what: String,
    },
    /// The fork that applies now came after this program: by the configuration, or by all endpoints.
    UnknownFork {
        /// Its name.
        fork: String,
    },
}
