//! `cargo xtask figures agent`.

use anyhow::{Result, ensure};

use crate::{
    run::{cmd, run},
    tools,
};

/// Builds both gateways with the features and profiles of their packages, and measures each beside mosquitto.
///
/// For this machine, x86-64 with glibc: so is the .deb of amd64. The .ipk's program is static with musl for aarch64, which has another size
/// and another allocator, and is not measured here; `cargo ci --full --only openwrt` bounds its memory, under an emulator.
pub(super) fn all() -> Result<()> {
    const SMALL: &str = "--profile release-small --no-default-features --features gateway-small";
    tools::debian(&[("mosquitto -h", "mosquitto")])?;
    run(&mut cmd(&format!("cargo build --locked --quiet -p posthouse-agent {SMALL}")))?;
    // As the .deb's is built: without the others, what they share would have other features.
    run(&mut cmd("cargo build --locked --quiet --release -p posthouse-agent -p posthouse-market"))?;
    let target = tools::target()?;
    let mut measure = cmd("cargo run --locked --quiet -p posthouse-tests --example idle --");
    measure.args([target.join("release-small/posthouse"), target.join("release/posthouse")]);
    let status = measure.status()?;
    ensure!(status.success(), "the measurement ended with {status}");
    Ok(())
}
