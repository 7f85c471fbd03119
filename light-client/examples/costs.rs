//! Prints what the light client costs, one `name value unit` a line. Run it by `cargo xtask figures light-client`, which
//! builds the two programs that it measures.
//!
//! - `update_cold_ms`: from the JSON of a mainnet update that brings a committee to the moved header, median.
//! - `update_cached_ms`: the same for an update whose committee is known.
//! - `vs_peer`: `update_cold_ms` over what `@lodestar/light-client` needs for the same texts in the same run.
//! - `epoch_bytes`: bodies of all answers in an epoch: its finality, and the proof of one product's latest version.
//!   (The devchain's state is small; mainnet's account and storage proof is about 8 kB of the same JSON.)
//! - `ready_ms`: from a checkpoint and an empty store to the newest finalized block, on loopback.
//! - `rss_added_MiB`, `binary_added_KiB`: `follow` over `trusting`.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "its output is what it is for")]

#[path = "costs/live.rs"]
mod live;
#[path = "costs/updates.rs"]
mod updates;

use std::error::Error;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    updates::print_all()?;
    live::print_all().await
}

pub(crate) fn print(name: &str, value: impl std::fmt::Display, unit: &str) {
    println!("{name} {value} {unit}");
}

pub(crate) fn median(mut all: Vec<f64>) -> f64 {
    all.sort_by(f64::total_cmp);
    all[all.len() / 2]
}
