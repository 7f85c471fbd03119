//! The firmware of `device/board`, built for Cortex-M3 in the chroot of [`crate::chroot`], which has the compiler for it.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Result, ensure};

use crate::{
    chroot::{self, Chroot},
    ci::SUITE,
    run::{answers, cmd, run},
    tools,
};

/// Programs on the host: what shows that one is there, and its package.
const DEBIAN: [(&str, &str); 1] = [("qemu-system-arm --version", "qemu-system-arm")];
const MANIFEST: &str = "device/board/Cargo.toml";
const RELEASE: &str = "thumbv7m-none-eabi/release";
/// Inside the chroot. `$1` is the number of the build. The sizes that count are those of the firmware's own profile, not of one that was
/// set for the host.
const BUILD: &str = "
unset $(env | sed -n 's/^\\(CARGO_PROFILE_[A-Z0-9_]*\\)=.*/\\1/p')
export RUSTC_BOOTSTRAP=1 POSTHOUSE_BOARD_BUILD=\"$1\"
cd device/board
cargo build --release --locked --offline -Zbuild-std=core
cargo build --release --locked --offline -Zbuild-std=core --manifest-path ../ffi/Cargo.toml --no-default-features
cd /target/thumbv7m-none-eabi/release
for program in boot sensor footprint; do arm-none-eabi-objcopy -O binary $program $program.bin; done
";

/// Builds the firmware twice, as build 1 and as build 2, and the library for firmware in C, which must build without std
/// as well; returns the folder with `boot.bin`, `sensor-1.bin`, `sensor-2.bin`, `footprint.bin` and the ELF files beside
/// them.
pub(crate) fn build() -> Result<PathBuf> {
    run(&mut cmd(&format!("cargo fmt --check --manifest-path {MANIFEST}")))?;
    tools::debian(&DEBIAN)?;
    let chroot = Chroot::ready()?;
    // What the firmware and the library for C depend on, and what `core`'s workspace names, although little of it is built.
    for manifest in [MANIFEST, "device/ffi/Cargo.toml"] {
        run(&mut cmd(&format!("cargo fetch --locked --manifest-path {manifest}")))?;
    }
    chroot.fetch_std()?;
    let (made, out) = (chroot::cache()?.join("board-target"), tools::target()?.join("board"));
    fs::create_dir_all(&out)?;
    for number in ["1", "2"] {
        chroot.run(BUILD, &made, None, &[number])?;
        fs::copy(made.join(RELEASE).join("sensor.bin"), out.join(format!("sensor-{number}.bin")))?;
    }
    for name in ["boot.bin", "footprint.bin", "boot", "sensor", "footprint"] {
        fs::copy(made.join(RELEASE).join(name), out.join(name))?;
    }
    Ok(out)
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
