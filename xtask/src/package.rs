//! `cargo xtask package …`: what an administrator installs.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result};
use clap::Subcommand;

use crate::containers::{Engine, images};
use crate::run::{cmd, run};
use crate::{arm64, licences, openwrt, tools};

/// The kinds of package.
#[derive(Subcommand)]
pub(crate) enum Package {
    /// A .deb for this machine's architecture, in `target/debian`.
    Deb,
    /// A .deb for arm64, in `target/debian`.
    DebArm64,
    /// An .ipk for OpenWrt on 64-bit ARM, in `target/openwrt`.
    Openwrt {
        /// What `opkg print-architecture` names on the router; what is inside is the same for all.
        #[arg(long, default_value = "aarch64_generic")]
        arch: String,
    },
    /// Container images of all programs, by docker or podman.
    Images,
    /// What the .ipk has of others' licences, alone: `target/licences/THIRD-PARTY.gz`, for packages that OpenWrt's own build makes.
    Licences,
}

/// Makes one and prints where it is.
pub(crate) fn make(package: Package) -> Result<()> {
    let file = match package {
        Package::Deb => deb()?,
        Package::DebArm64 => arm64::deb()?,
        Package::Openwrt { arch } => openwrt::ipk(&arch)?,
        Package::Licences => {
            licences::write(licences::OPENWRT, &tools::target()?.join("licences"), &[openwrt::musl()?])?
        }
        Package::Images => {
            images(&Engine::find()?)?.iter().for_each(|line| println!("{line}"));
            return Ok(());
        }
    };
    println!("{}", file.display());
    Ok(())
}

/// Builds the programs, writes their manual and the licences of what is in them, and packs all.
pub(crate) fn deb() -> Result<PathBuf> {
    let target = tools::target()?;
    let packer = tools::cargo_deb(&target)?;
    run(&mut cmd("cargo build --locked --release -p posthouse-agent -p posthouse-market"))?;
    let writer = cmd("cargo run --locked --quiet --release -p posthouse-tests --example manual --");
    manual(writer, &target.join("release/manual"))?;
    licences::write(licences::DEB, &target.join("release/licences"), &[])?;
    let folder = target.join("debian");
    let mut pack = Command::new(packer);
    pack.args(["--no-build", "--manifest-path", "agent/Cargo.toml", "--output"]).arg(&folder);
    packed(&mut pack)
}

/// Has `writer`, the example `manual` of the tests, write manual pages and completions into `folder`.
pub(crate) fn manual(mut writer: Command, folder: &Path) -> Result<()> {
    // A page that is no command's any more must not stay.
    if folder.exists() {
        std::fs::remove_dir_all(folder)?;
    }
    run(writer.arg(folder))?;
    let pages = std::fs::read_dir(folder)?.filter_map(|page| Some(page.ok()?.path()));
    let pages = pages.filter(|page| page.extension().is_some_and(|end| end == "1"));
    run(cmd("gzip --best --no-name").args(pages)).map(drop)
}

/// Runs cargo-deb, and returns the package that it names.
pub(crate) fn packed(pack: &mut Command) -> Result<PathBuf> {
    let printed = run(pack)?;
    let last = printed.lines().rev().find(|line| line.ends_with(".deb"));
    Ok(last.context("cargo-deb names no package")?.into())
}
