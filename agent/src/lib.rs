//! The gateway agent: configuration, command line, wiring.
//!
//! The rules live in `posthouse-protocol`, the actors in `posthouse-actors`; what is here reads a file, checks it, starts
//! the actors and stops them again.
#![cfg_attr(test, allow(clippy::unwrap_used))]

mod audit;
mod chain;
mod check;
mod cli;
mod client;
pub mod config;
mod run;
mod status;
mod systemd;

use std::{ffi::OsString, process::ExitCode};

/// Run the program with `args` (the first is its name). Exit codes: 0 as asked, 1 it failed, 2 the command line or the
/// configuration is wrong and nothing was touched.
pub fn main(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    cli::main(args)
}

/// The command line, for its manual page.
pub fn command() -> clap::Command {
    cli::command()
}
