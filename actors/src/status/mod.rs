//! The local REST status: what the gateway knows, and orders to it, under `/v1`, with its description in OpenAPI's form, metrics, and
//! a page for people at `/`.
//!
//! Who sends: people and programs, over HTTP on loopback. Whom it asks: whoever answers [`GetSnapshot`] and takes
//! orders. When that one does not answer in five seconds, the client gets 503 with the reason and nothing is kept. To read
//! needs no authentication; an address other than loopback is the site's own decision. An order needs the site's token.

mod example;
mod metrics;
mod overview;
mod page;
mod server;
mod token;
mod view;

pub use self::overview::{Counts, Listed, Overview, Progress, Standing};
pub use self::server::{Desk, serve};
pub use self::token::Token;
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
