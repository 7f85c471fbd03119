//! The gateway's actors.
#![cfg_attr(test, allow(clippy::unwrap_used))]

pub mod coap;
pub mod messages;
pub mod mqtt;
pub mod sensors;
pub mod status;
