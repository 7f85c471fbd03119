//! `cargo xtask package …`: what an administrator installs.

use std::path::PathBuf;

use anyhow::{Context as _, Result};
use clap::Subcommand;

use crate::run::{cmd, run};
use crate::tools;

/// The kinds of package.
#[derive(Subcommand, Clone, Copy)]
pub(crate) enum Package {
    /// A .deb for this machine's architecture, in `target/debian`.
    Deb,
}

/// Makes one and prints where it is.
pub(crate) fn make(package: Package) -> Result<()> {
    let file = match package {
        Package::Deb => deb()?,
    };
    println!("{}", file.display());
    Ok(())
}

/// Builds the programs, writes their manual, and packs both.
fn deb() -> Result<PathBuf> {
    let target = tools::target()?;
    let packer = tools::cargo_deb(&target)?;
    run(&mut cmd("cargo build --locked --release -p posthouse-agent -p posthouse-market"))?;
    // A page that is no command's any more must not stay.
    let manual = target.join("release/manual");
    if manual.exists() {
        std::fs::remove_dir_all(&manual)?;
    }
    run(cmd("cargo run --locked --quiet --release -p posthouse-tests --example manual --").arg(&manual))?;
    let pages = std::fs::read_dir(&manual)?.filter_map(|page| Some(page.ok()?.path()));
    let pages = pages.filter(|page| page.extension().is_some_and(|end| end == "1"));
    run(cmd("gzip --best --no-name").args(pages))?;
    let folder = target.join("debian");
    let mut pack = std::process::Command::new(packer);
    pack.args(["--no-build", "--manifest-path", "agent/Cargo.toml", "--output"]).arg(&folder);
    let printed = run(&mut pack)?;
    let last = printed.lines().rev().find(|line| line.ends_with(".deb"));
    Ok(last.context("cargo-deb names no package")?.into())
}
