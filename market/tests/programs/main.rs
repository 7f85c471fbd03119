//! The two programs as processes, on a chain in this one.
#![allow(clippy::unwrap_used, reason = "tests")]

mod deploy;
mod fees;
mod fleet;
mod gateway;
mod groups;
mod kills;
mod publish;
mod reorgs;
mod sale;
mod service;
mod settings;
mod watch;
mod world;
