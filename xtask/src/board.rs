//! The firmware of `device/board`, built for Cortex-M3 in a Debian chroot that has the compiler for it, outside of the
//! project and of the host's own toolchain.
//!
//! Debian's `rust-web-src` has the sources of `core`, from which `-Zbuild-std` makes it for a processor that Debian has no
//! compiled one for; that is a nightly's flag, so `RUSTC_BOOTSTRAP`. Nothing is fetched inside: the host's cargo does
//! that before, and the chroot sees its registry.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, ensure};

use crate::{
    ci::SUITE,
    run::{answers, cmd, run},
    tools,
};

/// What a chroot needs to compile for the board, from Debian 12.
const PACKAGES: &str = "rustc-web,cargo-web,libstd-rust-web-dev,rust-web-src,gcc,libc6-dev,binutils-arm-none-eabi,ca-certificates";
const SUITES: [(&str, &str); 2] = [
    ("http://deb.debian.org/debian", "bookworm"),
    ("http://deb.debian.org/debian-security", "bookworm-security"),
];
/// Programs on the host: what shows that one is there, and its package.
const DEBIAN: [(&str, &str); 2] =
    [("mmdebstrap --version", "mmdebstrap"), ("qemu-system-arm --version", "qemu-system-arm")];
const MANIFEST: &str = "device/board/Cargo.toml";
const RELEASE: &str = "thumbv7m-none-eabi/release";
/// Inside: the project, what cargo makes, and the host's registry. `$1` is the number of the build.
const BUILD: &str = "
set -eu
export PATH=/usr/bin:/bin HOME=/root CARGO_HOME=/cargo CARGO_TARGET_DIR=/target
export RUSTC_BOOTSTRAP=1 POSTHOUSE_BOARD_BUILD=\"$1\"
cd /project/device/board
cargo build --release --locked --offline -Zbuild-std=core
cargo build --release --locked --offline -Zbuild-std=core --manifest-path ../ffi/Cargo.toml --no-default-features
cd /target/thumbv7m-none-eabi/release
for program in boot sensor footprint; do arm-none-eabi-objcopy -O binary $program $program.bin; done
";
/// Outside, in a mount namespace of its own, so that nothing stays mounted: root, project, target, registry, build.
const ENTER: &str = "
set -eu
mkdir -p \"$1/project\" \"$1/target\" \"$1/cargo/registry\"
mount --bind -o ro \"$2\" \"$1/project\"
mount --bind \"$3\" \"$1/target\"
mount --bind \"$4\" \"$1/cargo/registry\"
exec chroot \"$1\" /bin/sh -c \"$6\" build \"$5\"
";

/// Builds the firmware twice, as build 1 and as build 2, and the library for firmware in C, which must build without std
/// as well; returns the folder with `boot.bin`, `sensor-1.bin`, `sensor-2.bin`, `footprint.bin` and the ELF files beside
/// them.
pub(crate) fn build() -> Result<PathBuf> {
    run(&mut cmd(&format!("cargo fmt --check --manifest-path {MANIFEST}")))?;
    tools::debian(&DEBIAN)?;
    let cache = cache()?;
    let root = chroot(&cache)?;
    fetch(&root)?;
    let (made, out) = (cache.join("board-target"), tools::target()?.join("board"));
    fs::create_dir_all(&made)?;
    fs::create_dir_all(&out)?;
    for number in ["1", "2"] {
        enter(&root, &made, number)?;
        fs::copy(made.join(RELEASE).join("sensor.bin"), out.join(format!("sensor-{number}.bin")))?;
    }
    for name in ["boot.bin", "footprint.bin", "boot", "sensor", "footprint"] {
        fs::copy(made.join(RELEASE).join(name), out.join(name))?;
    }
    Ok(out)
}

fn cache() -> Result<PathBuf> {
    let base = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
    let base = base.or_else(|| Some(PathBuf::from(std::env::var_os("HOME")?).join(".cache")));
    Ok(base.context("neither XDG_CACHE_HOME nor HOME is set")?.join("posthouse"))
}

/// Makes the chroot where there is none: half a minute, 1.5 GB.
fn chroot(cache: &Path) -> Result<PathBuf> {
    let root = cache.join("board-root");
    if root.join("usr/bin/cargo").is_file() {
        return Ok(root);
    }
    fs::create_dir_all(cache)?;
    let fresh = cache.join(format!("board-root.part-{}", std::process::id()));
    let mut make = as_root("mmdebstrap --variant=minbase --architectures=amd64");
    make.arg(format!("--include={PACKAGES}")).arg(SUITES[0].1).arg(&fresh);
    for (mirror, suite) in SUITES {
        make.arg(format!("deb {mirror} {suite} main"));
    }
    run(&mut make)?;
    run(as_root("mv").arg(&fresh).arg(&root))?;
    Ok(root)
}

/// What the firmware and the library for C depend on, and what `core`'s workspace names, although little of it is built.
fn fetch(root: &Path) -> Result<()> {
    for manifest in [MANIFEST, "device/ffi/Cargo.toml"] {
        run(&mut cmd(&format!("cargo fetch --locked --manifest-path {manifest}")))?;
    }
    let sources = fs::canonicalize(root.join("usr/src"))?;
    let newest = fs::read_dir(sources)?.flatten().map(|entry| entry.path().join("library/Cargo.toml")).max();
    let library = newest.filter(|manifest| manifest.is_file()).context("the chroot has rust-web-src")?;
    run(cmd("cargo fetch --locked --manifest-path").arg(library).env("RUSTC_BOOTSTRAP", "1")).map(drop)
}

fn enter(root: &Path, made: &Path, number: &str) -> Result<()> {
    let home = std::env::var_os("CARGO_HOME").map(PathBuf::from);
    let home = home.or_else(|| Some(PathBuf::from(std::env::var_os("HOME")?).join(".cargo")));
    let registry = home.context("neither CARGO_HOME nor HOME is set")?.join("registry");
    let project = std::env::current_dir()?;
    let mut command = as_root("unshare --mount sh -c");
    command.arg(ENTER).arg("enter").args([root, &project, made, &registry]).arg(number).arg(BUILD);
    // The sizes that count are those of the firmware's own profile, not of one that was set for the host.
    for (name, _) in
        std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("CARGO_PROFILE_"))
    {
        command.env_remove(name);
    }
    run(&mut command).map(drop)
}

/// A command line that needs root: mounts and chroots do.
fn as_root(line: &str) -> Command {
    cmd(&format!("{}{line}", tools::sudo()))
}

/// The suite that lets the board live; what it prints has the depth of its stack.
pub(crate) fn live(folder: &Path) -> Result<String> {
    run(cmd(SUITE).args(["board", "--no-capture"]).env("POSTHOUSE_BOARD", folder))
}

/// Bytes of flash that a program takes: code, constants, and what statics begin with.
pub(crate) fn flash(folder: &Path, program: &str) -> Result<u64> {
    Ok(fs::metadata(folder.join(format!("{program}.bin")))?.len())
}

/// Runs the program that measures the library, and returns what it said.
pub(crate) fn footprint(folder: &Path) -> Result<String> {
    ensure!(answers("qemu-system-arm --version"), "qemu-system-arm is needed");
    run(cmd(
        "qemu-system-arm -machine lm3s6965evb -no-reboot -display none -monitor none -serial stdio -kernel",
    )
    .arg(folder.join("footprint")))
}
