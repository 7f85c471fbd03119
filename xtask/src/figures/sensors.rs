//! `cargo xtask figures sensors`.

use anyhow::{Context as _, Result, ensure};

use crate::{
    board,
    ci::SUITE,
    run::{cmd, run},
    tools,
};

/// Everything of the area, one part after the other.
pub(super) fn all() -> Result<()> {
    device()?;
    super::line("cargo run --quiet --release -p posthouse-actors --example blocks")?;
    loss()?;
    super::line("cargo run --quiet --release -p posthouse-tests --example scale")
}

/// How a hundred sensors fare on lossy links. The times are mostly those of their patience, so that optimisation changes little.
fn loss() -> Result<()> {
    tools::netfilter()?;
    let said = run(cmd(SUITE).args(["loss", "--no-capture"]).env("POSTHOUSE_LOSS", "whole"))?;
    let figure = |line: &&str| ["loss_", "weather_", "resent_"].iter().any(|name| line.starts_with(name));
    said.lines().filter(figure).for_each(|line| println!("{line}"));
    ensure!(said.contains("resent_ratio_max"), "the kernel lost nothing: what was skipped is said above");
    Ok(())
}

/// What a sensor needs: of the library with P-256 for a whole round on an emulated Cortex-M3; of the firmware with CoAP and
/// smoltcp for an update through a gateway.
fn device() -> Result<()> {
    let folder = board::build()?;
    let said = board::footprint(&folder)?;
    println!("device_flash_KiB {:.1} KiB", kib(board::flash(&folder, "footprint")?));
    println!("device_ram_KiB {:.1} KiB", kib(said_of(&said, "stack")?));
    println!("device_state_B {} B", said_of(&said, "device")?);
    println!("firmware_flash_KiB {:.1} KiB", kib(board::flash(&folder, "sensor-1")?));
    println!("firmware_ram_KiB {:.1} KiB", kib(said_of(&board::live(&folder)?, "deepest_stack")?));
    println!("bootloader_flash_KiB {:.1} KiB", kib(board::flash(&folder, "boot")?));
    Ok(())
}

/// The number that the board gave as `name=…`.
fn said_of(said: &str, name: &str) -> Result<u64> {
    let mark = format!(" {name}=");
    let (_, rest) = said.split_once(&mark).with_context(|| format!("{name} in {said:?}"))?;
    let digits: String = rest.chars().take_while(char::is_ascii_digit).collect();
    digits.parse().with_context(|| format!("{name} in {said:?}"))
}

fn kib(bytes: u64) -> f64 {
    bytes as f64 / 1024.0
}
