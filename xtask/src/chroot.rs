//! A Debian chroot with compilers for processors that this machine has not: Cortex-M3 of the board, arm64 of packages. It is outside
//! of the project and of the host's own toolchain, so that nobody has to install one.
//!
//! Debian's `rust-web-src` has the sources of the standard library, from which `-Zbuild-std` makes it for a processor that Debian has
//! no compiled one for; that is a nightly's flag, so `RUSTC_BOOTSTRAP`. Nothing is fetched inside: the host's cargo does that
//! before, and the chroot sees its registry.

use std::{
    fs,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result};

use crate::{
    run::{cmd, run},
    tools,
};

/// What is compiled with, from Debian 12.
const PACKAGES: &str = "rustc-web,cargo-web,libstd-rust-web-dev,libstd-rust-web-dev:arm64,rust-web-src,gcc,libc6-dev,\
    gcc-aarch64-linux-gnu,libc6-dev-arm64-cross,binutils-arm-none-eabi,ca-certificates";
const SUITES: [(&str, &str); 2] = [
    ("http://deb.debian.org/debian", "bookworm"),
    ("http://deb.debian.org/debian-security", "bookworm-security"),
];
/// Outside, in a mount namespace of its own, so that nothing stays mounted: root, project, target, registry, tools, what is run
/// inside, and its arguments.
const ENTER: &str = "
set -eu
root=$1 project=$2 target=$3 registry=$4 tools=$5 inside=$6
shift 6
mkdir -p \"$root/project\" \"$root/target\" \"$root/cargo/registry\" \"$root/tools\"
mount --bind -o ro \"$project\" \"$root/project\"
mount --bind \"$target\" \"$root/target\"
mount --bind \"$registry\" \"$root/cargo/registry\"
mount --bind -o ro \"$tools\" \"$root/tools\"
mount --bind /proc \"$root/proc\"
exec chroot \"$root\" /bin/sh -c \"$inside\" build \"$@\"
";
/// Inside, before anything else.
const SURROUNDINGS: &str = "
set -eu
export PATH=/usr/bin:/bin HOME=/root CARGO_HOME=/cargo CARGO_TARGET_DIR=/target
cd /project
";

/// The chroot.
pub(crate) struct Chroot(PathBuf);

impl Chroot {
    /// Makes it where there is none, or only some of one: a minute, 1.6 GB.
    pub(crate) fn ready() -> Result<Self> {
        tools::debian(&[("mmdebstrap --version", "mmdebstrap")])?;
        let cache = cache()?;
        let root = cache.join("build-root");
        // Written last, and compared: another list of packages asks for another root.
        let done = cache.join("build-root.packages");
        let whole = fs::read_to_string(&done).is_ok_and(|packages| packages == PACKAGES);
        if whole && root.join("usr/bin/cargo").is_file() {
            return Ok(Self(root));
        }
        fs::create_dir_all(&cache)?;
        let fresh = cache.join(format!("build-root.part-{}", std::process::id()));
        let mut make = as_root("mmdebstrap --variant=minbase --architectures=amd64,arm64");
        make.arg(format!("--include={PACKAGES}")).arg(SUITES[0].1).arg(&fresh);
        for (mirror, suite) in SUITES {
            make.arg(format!("deb {mirror} {suite} main"));
        }
        if let Err(why) = run(&mut make) {
            // Only root can take away what is left of it.
            run(as_root("rm -rf --one-file-system").arg(&fresh))?;
            return Err(why);
        }
        run(as_root("rm -rf --one-file-system").arg(&root))?;
        run(as_root("mv").arg(&fresh).arg(&root))?;
        fs::write(done, PACKAGES)?;
        Ok(Self(root))
    }

    /// Where it is.
    pub(crate) fn root(&self) -> &Path {
        &self.0
    }

    /// Has the host's cargo fetch what the standard library's workspace names, for builds with `-Zbuild-std`.
    pub(crate) fn fetch_std(&self) -> Result<()> {
        let sources = fs::canonicalize(self.0.join("usr/src"))?;
        let newest =
            fs::read_dir(sources)?.flatten().map(|entry| entry.path().join("library/Cargo.toml")).max();
        let library = newest.filter(|manifest| manifest.is_file()).context("the chroot has rust-web-src")?;
        run(cmd("cargo fetch --locked --manifest-path").arg(library).env("RUSTC_BOOTSTRAP", "1")).map(drop)
    }

    /// Runs a shell's `script` inside, in the project's folder, which it cannot write to. `target` is cargo's there, and all in it the
    /// caller's afterwards; `tools` is seen as `/tools`.
    pub(crate) fn run(&self, script: &str, target: &Path, tools: Option<&Path>, args: &[&str]) -> Result<()> {
        fs::create_dir_all(target)?;
        let home = std::env::var_os("CARGO_HOME").map(PathBuf::from);
        let home = home.or_else(|| Some(PathBuf::from(std::env::var_os("HOME")?).join(".cargo")));
        let registry = home.context("neither CARGO_HOME nor HOME is set")?.join("registry");
        let project = std::env::current_dir()?;
        let mut command = as_root("unshare --mount sh -c");
        command.arg(ENTER).arg("enter").args([
            &self.0,
            &project,
            target,
            &registry,
            tools.unwrap_or(&project),
        ]);
        command.arg(format!("{SURROUNDINGS}{script}")).args(args);
        let ended = run(&mut command).map(drop);
        if !tools::sudo().is_empty() {
            // Of this process, as the system has it.
            let caller = fs::metadata("/proc/self")?;
            let owner = format!("{}:{}", caller.uid(), caller.gid());
            run(as_root("chown -R --no-dereference").arg(owner).arg(target))?;
        }
        ended
    }
}

/// Where what is made once is kept.
pub(crate) fn cache() -> Result<PathBuf> {
    let base = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
    let base = base.or_else(|| Some(PathBuf::from(std::env::var_os("HOME")?).join(".cache")));
    Ok(base.context("neither XDG_CACHE_HOME nor HOME is set")?.join("posthouse"))
}

/// A command line that needs root: mounts and chroots do.
fn as_root(line: &str) -> Command {
    cmd(&format!("{}{line}", tools::sudo()))
}
