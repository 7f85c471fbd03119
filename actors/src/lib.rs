//! The gateway's actors.
#![cfg_attr(test, allow(clippy::unwrap_used))]

pub mod messages;
pub mod status;
