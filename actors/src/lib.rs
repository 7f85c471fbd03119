//! The gateway's actors.
#![cfg_attr(test, allow(clippy::unwrap_used))]

pub mod campaign;
pub mod chain;
pub mod coap;
pub mod config;
mod crash;
pub mod dsn;
pub mod exchange;
pub mod gateway;
pub mod messages;
pub mod mqtt;
mod pulse;
pub mod sensors;
pub mod stage;
pub mod status;
pub mod store;
pub mod verifier;

pub use self::config::Config;
pub use self::gateway::{Gateway, Reloaded, StartError};
pub use posthouse_contracts::chain::{Trust, light};
