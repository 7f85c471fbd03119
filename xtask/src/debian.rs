//! What Debian says of the .deb: lintian reads it, piuparts installs and purges it, and machines of Debian's packages with systemd
//! run it (`tests/tests/package.rs`).

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Result, ensure};

use crate::podman::Podman;
use crate::run::{cmd, run};
use crate::{package, tools};

/// The .deb to look at; one is built where this is not set.
const DEB: &str = "POSTHOUSE_DEB";
/// The machines' image, and what it is made from.
const IMAGE: &str = "localhost/posthouse-machine";
const CONTAINERFILE: &str = "tests/machine.Containerfile";
/// What machines are started with, `tests/src/machine.rs`.
const MACHINES: &str = "label=posthouse=machine";
const SUITE: &str = "bookworm";

/// The .deb to look at.
pub(crate) fn deb() -> Result<PathBuf> {
    let deb = std::env::var_os(DEB).map_or_else(package::deb, |deb| Ok(deb.into()))?;
    Ok(std::path::absolute(deb)?)
}

/// Debian's policy, as far as a program can tell.
pub(crate) fn lintian(deb: &Path) -> Result<()> {
    tools::debian(&[("lintian", "lintian")])?;
    run(cmd("lintian --allow-root --fail-on error,warning").arg(deb)).map(drop)
}

/// Installed, removed and purged in a root of its own: nothing is left, and nobody else's file is touched.
pub(crate) fn piuparts(deb: &Path) -> Result<()> {
    tools::debian(&[("piuparts", "piuparts"), ("mmdebstrap", "mmdebstrap")])?;
    let base = tools::target()?.join("piuparts.tar.gz");
    let sudo = tools::sudo();
    if !base.is_file() {
        // Under its name only when it is whole.
        let part = base.with_file_name(format!("piuparts-{}.tar.gz", std::process::id()));
        run(cmd(&format!("{sudo}mmdebstrap --variant=minbase --include=systemd {SUITE}")).arg(&part))?;
        run(cmd(&format!("{sudo}mv")).arg(&part).arg(&base))?;
    }
    // Nothing is in the archive that it could be an upgrade of.
    let mut check = cmd(&format!("{sudo}piuparts --distribution={SUITE} --no-upgrade-test --basetgz"));
    run(check.arg(base).arg(deb)).map(drop)
}

/// Machines of Debian's packages: an image, and a network of their own.
pub(crate) struct Machines(Podman);

impl Machines {
    /// Installs podman and makes the image, where they are absent.
    pub(crate) fn ready() -> Result<Self> {
        ensure!(tools::is_root(), "machines and their network are root's");
        tools::debian(&[("ip -V", "iproute2")])?;
        let podman = Podman::ready()?;
        podman.build(Path::new(CONTAINERFILE), Path::new("tests"), IMAGE, &[])?;
        Ok(Self(podman))
    }

    /// A suite in a network that has loopback alone, one test at a time: each machine has the broker on the same port.
    pub(crate) fn suite(&self, suite: &str, deb: &Path) -> Result<Command> {
        // Crates are fetched before, as there is no registry in there.
        let build = suite.replace("--no-fail-fast", "--no-run");
        ensure!(build != suite, "nextest knows no --no-run beside what {suite} says");
        run(&mut cmd(&build))?;
        let mut alone = self.0.with("unshare");
        alone.args(["--net", "sh", "-c", "PATH=$PATH:/usr/sbin; ip link set lo up && exec \"$@\"", "sh"]);
        alone.args(suite.split_whitespace()).args(["--offline", "--test-threads=1"]);
        alone.env("POSTHOUSE_DEB", deb).env("POSTHOUSE_MACHINE", IMAGE);
        Ok(alone)
    }

    /// Ends those that a test has left which was killed.
    pub(crate) fn end(&self) -> Result<()> {
        let left = self.0.command().args(["ps", "--all", "--quiet", "--filter", MACHINES]).output()?;
        let left = String::from_utf8(left.stdout)?;
        if left.trim().is_empty() {
            return Ok(());
        }
        run(self.0.command().args(["rm", "--force", "--time", "0"]).args(left.split_whitespace())).map(drop)
    }
}
