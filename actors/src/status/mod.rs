//! The local REST status: what the gateway knows, read-only, under `/v1`.
//!
//! Who sends: people and programs, over HTTP on loopback. Whom it asks: whoever answers [`GetSnapshot`]. When that one
//! does not answer in five seconds, the client gets 503 with the reason and nothing is kept. It changes nothing, so that it
//! needs no authentication; an address other than loopback is the site's own decision.

mod server;
mod view;

pub use self::server::serve;
pub use self::view::{
    Agent, ChainStatus, Device, ErrorBody, Event, Exchange, Left, Offer, Sensor, Snapshot, Staging, Status,
    Update,
};

use std::time::Duration;

use actix::Message;

/// How long the actors may take to answer: they hold everything that is asked for in memory.
const ANSWER: Duration = Duration::from_secs(5);

/// Asks for everything that the status shows, at one instant.
#[derive(Debug, Clone, Copy, Message)]
#[rtype(result = "Snapshot")]
pub struct GetSnapshot;
