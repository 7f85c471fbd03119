//! `cargo xtask figures <area>`: each line is `name value unit`, from a run just made.
//!
//! The measuring programs are examples of the crates they measure, built with optimisation wherever that changes a
//! figure.

mod agent;
mod sensors;

use anyhow::{Result, ensure};
use clap::ValueEnum;

use crate::{run::cmd, tools};

#[derive(Clone, Copy, ValueEnum)]
pub(crate) enum Area {
    /// Constraint counts, proving and verification times, key sizes.
    Circuits,
    /// Verification times, beside Lodestar's; bytes of an epoch, memory, size of the program.
    LightClient,
    /// What the contracts cost, measured on anvil and equal on the devchain, and the paper's contract beside them;
    /// what a fleet of a million takes to enrol and to look up.
    Gas,
    /// What a sensor's library and firmware take of flash and RAM, on an emulated Cortex-M3; how fast blocks of an image are
    /// served, beside libcoap's server; how a hundred sensors fare on lossy links; what a gateway takes for sites of up to 2,000
    /// sensors, and how soon each of them hears something when it wakes.
    Sensors,
    /// Sizes of both gateways, what each takes when nothing happens, and mosquitto beside it. Both are built for this machine, with its C
    /// library: the .ipk's program is another build of the small one, static with musl for aarch64.
    Agent,
}

pub(crate) fn run(area: Area) -> Result<()> {
    match area {
        Area::Circuits => line("cargo run --quiet --release -p posthouse-circuits --example figures"),
        Area::Gas => {
            tools::anvil()?;
            line("cargo run --quiet -p posthouse-contracts --example gas")?;
            line("cargo run --quiet --release -p posthouse-market --example fleet")
        }
        Area::Sensors => sensors::all(),
        Area::Agent => agent::all(),
        Area::LightClient => {
            tools::peers()?;
            // Also the programs that it measures.
            line("cargo build --quiet --release -p posthouse-light-client --features client --examples")?;
            line("cargo run --quiet --release -p posthouse-light-client --features client --example costs")
        }
    }
}

/// Runs to the end with its output where ours goes.
fn line(line: &str) -> Result<()> {
    let status = cmd(line).status()?;
    ensure!(status.success(), "{line} ended with {status}");
    Ok(())
}
