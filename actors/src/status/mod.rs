//! The local REST status: what the gateway knows, and orders to it, under `/v1`, with its description in OpenAPI's form, metrics, and
//! a page for people at `/`.
//!
//! Who sends: people and programs, over HTTP on loopback. Whom it asks: whoever answers [`GetSnapshot`] and takes
//! orders. When that one does not answer in five seconds, the client gets 503 with the reason; an order may hold all the same, as the
//! audit log says then. To read needs no authentication; an address other than loopback is the site's own decision. An order needs the
//! site's token, or comes over the Unix socket, which is for whom its file's rights let in.

mod example;
mod metrics;
mod orders;
mod overview;
mod page;
mod server;
#[cfg(test)]
mod tests;
mod token;
mod usage;
mod view;

pub use self::overview::{Counts, Listed, Overview, Progress, Standing};
pub use self::server::{Desk, serve, socket};
pub use self::token::Token;
pub use self::usage::{CarriedBytes, Peer, Peers, Process, Usage};
pub use self::view::{
    Agent, AuditStatus, ChainStatus, Device, ErrorBody, Event, Exchange, Left, Offer, Sensor, Snapshot,
    Staging, Status, Update,
};

use std::time::Duration;

use actix::Message;
use posthouse_protocol::id::{Bounty, DeviceKey};

/// How long the actors may take to answer: they hold everything that is asked for in memory.
const ANSWER: Duration = Duration::from_secs(5);

/// Asks for what the status shows, at one instant.
#[derive(Debug, Clone, Copy, Message)]
#[rtype(result = "Snapshot")]
pub struct GetSnapshot(pub Part);

/// Asks for the gateway's place in the storage network; `None` where its peer has ended.
#[derive(Debug, Clone, Copy, Message)]
#[rtype(result = "Option<Peers>")]
pub struct GetPeers;

/// What of it. The agent at a glance comes with each.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// All.
    All,
    /// No more.
    Status,
    /// Updates.
    Updates,
    /// Some of the devices.
    Devices(Page<DeviceKey>),
    /// Some of the exchanges.
    Exchanges(Page<Bounty>),
}

/// Some of many, in the order of what names them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Page<K> {
    /// Those behind this one; from the first if absent.
    pub after: Option<K>,
    /// So many at most.
    pub limit: usize,
}

impl<K> Page<K> {
    /// Everything.
    pub const ALL: Self = Self { after: None, limit: usize::MAX };
}
