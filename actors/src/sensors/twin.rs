//! A sensor as people and their tools see it: what runs, what is wanted, and how far that is.

use actix::Message;
use posthouse_protocol::id::{DeviceId, ProductId, Version};
use posthouse_protocol::sensor::{State, UpdateResult};

use crate::messages::Wanted;

/// Progress is told in steps of so many percent: each costs a message for each mirror.
const STEP: u8 = 5;

/// A sensor's state, with what the hub knows of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Twin {
    /// Vendor and class id.
    pub product: ProductId,
    /// Sequence number of what runs.
    pub installed: Version,
    /// Sequence number of what should run, where that is something else or was until now.
    pub wanted: Option<Version>,
    /// How that goes.
    pub progress: Progress,
}

/// How an update goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Progress {
    /// Nothing is wanted, or nothing of it has begun.
    Waiting,
    /// So many percent of the image are there.
    Fetching(u8),
    /// The image is whole, and is being activated.
    Activating,
    /// What was wanted runs.
    Done,
    /// The sensor said why not.
    Failed(UpdateResult),
}

impl Twin {
    pub(super) fn new(
        product: ProductId,
        installed: Version,
        wanted: Option<&Wanted>,
        (state, result, next): (State, UpdateResult, u32),
    ) -> Self {
        let percent = |size: u64| u8::try_from(100 * u64::from(next) / size.max(1)).unwrap_or(100).min(100);
        let progress = match (wanted, state) {
            (Some(wanted), _) if installed >= wanted.version => Progress::Done,
            (None, _) => Progress::Waiting,
            (Some(_), State::Downloaded | State::Updating) => Progress::Activating,
            (Some(wanted), State::Downloading) => Progress::Fetching(percent(wanted.size) / STEP * STEP),
            // What is put off or was cancelled is tried again; so is all else, but somebody may want to look.
            (Some(_), State::Idle) => match result {
                UpdateResult::Initial
                | UpdateResult::Success
                | UpdateResult::Cancelled
                | UpdateResult::Deferred => Progress::Waiting,
                failed => Progress::Failed(failed),
            },
        };
        Self { product, installed, wanted: wanted.map(|wanted| wanted.version), progress }
    }
}

/// A sensor is not as it was: hub → mirror.
#[derive(Debug, Clone, Copy, Message)]
#[rtype(result = "()")]
pub struct Changed {
    /// Which.
    pub device: DeviceId,
    /// As it was told last.
    pub old: Option<Twin>,
    /// As it is; nothing when it has made room for another.
    pub new: Option<Twin>,
}
