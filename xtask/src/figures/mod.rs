//! `cargo xtask figures <area>`: each line is `name value unit`, from a run just made.
//!
//! The measuring programs are examples of the crates they measure, built with optimisation.

use anyhow::{Result, ensure};
use clap::ValueEnum;

use crate::run::cmd;

#[derive(Clone, Copy, ValueEnum)]
pub(crate) enum Area {
    /// Constraint counts, proving and verification times, key sizes.
    Circuits,
}

pub(crate) fn run(area: Area) -> Result<()> {
    let line = match area {
        Area::Circuits => "cargo run --quiet --release -p posthouse-circuits --example figures",
    };
    let status = cmd(line).status()?;
    ensure!(status.success(), "{line} ended with {status}");
    Ok(())
}
