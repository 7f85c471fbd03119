//! The vendor's and the distributor's programs.
//!
//! - [`vendor`]: makes keys, publishes updates, seeds them, takes back what nobody earned.
//! - [`distributor`]: watches for updates, joins, sells them to gateways, redeems the receipts.
//!
//! Both are libraries with a `main`, so that a test or a demonstration can be either of them. What
//! they share is here: [`settings`] (one TOML file, overridden by the environment), [`secret_file`]
//! (keys with mode 0600), [`database`] (SQLite, migrations, one process a folder), [`wallet`]
//! (transactions), `service` (what systemd is told) and [`crash`] (fault injection).
#![cfg_attr(test, allow(clippy::unwrap_used))]

mod console;
pub mod crash;
pub mod database;
pub mod distributor;
mod network;
mod release;
pub mod secret_file;
mod service;
pub mod settings;
pub mod vendor;
pub mod wallet;
