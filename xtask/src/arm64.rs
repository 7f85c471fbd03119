//! The .deb for arm64: compiled in the chroot of [`crate::chroot`], packed by the host's cargo-deb.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, ensure};

use crate::{
    chroot::Chroot,
    licences, package,
    run::{cmd, run},
    tools,
};

const TRIPLE: &str = "aarch64-unknown-linux-gnu";
/// The C library that `agent/Cargo.toml` has the package depend on: cargo-deb cannot ask another architecture's.
const LIBC: u32 = 34;
/// Inside the chroot.
const BUILD: &str = "
export CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_LINKER=aarch64-linux-gnu-gcc
export CC_aarch64_unknown_linux_gnu=aarch64-linux-gnu-gcc AR_aarch64_unknown_linux_gnu=aarch64-linux-gnu-ar
cargo build --release --locked --offline --target aarch64-unknown-linux-gnu -p posthouse-agent -p posthouse-market
";

/// Makes it: `target/debian/posthouse_<version>_arm64.deb`.
pub(crate) fn deb() -> Result<PathBuf> {
    let target = tools::target()?;
    let packer = tools::cargo_deb(&target)?;
    let chroot = Chroot::ready()?;
    run(&mut cmd("cargo fetch --locked"))?;
    let made = target.join("cross");
    chroot.run(BUILD, &made, None, &[])?;
    let release = made.join(TRIPLE).join("release");
    for program in ["posthouse", "posthouse-vendor", "posthouse-distributor"] {
        let newest = newest_libc(&fs::read(release.join(program))?);
        ensure!(newest <= LIBC, "{program} wants glibc 2.{newest}, the package asks for 2.{LIBC} only");
    }
    // Of this machine, and with the features of the tests: nothing is built twice.
    run(&mut cmd("cargo build --locked --quiet --workspace --all-features --example manual"))?;
    package::manual(Command::new(target.join("debug/examples/manual")), &release.join("manual"))?;
    licences::write(licences::DEB, &release.join("licences"), &[])?;
    let mut pack = Command::new(packer);
    pack.args([
        "--no-build",
        "--no-strip",
        "--manifest-path",
        "agent/Cargo.toml",
        "--target",
        TRIPLE,
        "--output",
    ]);
    package::packed(pack.arg(target.join("debian")).env("CARGO_TARGET_DIR", &made))
}

/// The newest version of glibc, 2.x, that a program names among those it needs.
fn newest_libc(program: &[u8]) -> u32 {
    const NAME: &[u8] = b"GLIBC_2.";
    let named = program.windows(NAME.len()).enumerate().filter(|(_, bytes)| *bytes == NAME);
    let minor = |at: usize| {
        let digits = program[at + NAME.len()..].iter().take_while(|byte| byte.is_ascii_digit()).take(3);
        digits.fold(0, |number, digit| number * 10 + u32::from(digit - b'0'))
    };
    named.map(|(at, _)| minor(at)).max().unwrap_or(0)
}

/// The programs of a package of now, and the command line that they are run by.
pub(crate) fn programs(folder: &Path) -> Result<(PathBuf, String)> {
    tools::emulator()?;
    let package = deb()?;
    let root = folder.join("arm64");
    if root.exists() {
        fs::remove_dir_all(&root)?;
    }
    run(cmd("dpkg-deb -x").arg(package).arg(&root))?;
    let libraries = Chroot::ready()?.root().join("usr/aarch64-linux-gnu");
    let libraries = libraries.to_str().context("a path in UTF-8")?;
    Ok((root.join("usr/bin"), format!("{} -L {libraries}", tools::EMULATOR)))
}

#[cfg(test)]
mod tests {
    use super::newest_libc;

    #[test]
    fn the_newest_glibc_that_a_program_names_is_found() {
        assert_eq!(newest_libc(b"\0GLIBC_2.17\0GLIBC_2.34\0x\0GLIBC_2.4\0GLIBC_2."), 34);
        assert_eq!(newest_libc(b""), 0);
    }
}
