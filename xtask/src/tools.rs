//! What the checks need and a fresh machine has not: installed by name from the registries, only where absent.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, bail};

use crate::run::{answers, cmd, run};

/// Debian packages: the program that shows that one is there, and its name.
const DEBIAN: [(&str, &str); 6] = [
    ("shellcheck --version", "shellcheck"),
    ("mosquitto -h", "mosquitto"),
    ("mosquitto_sub --help", "mosquitto-clients"),
    ("coap-client-notls", "libcoap3-bin"),
    ("xz --version", "xz-utils"),
    ("openssl version", "openssl"),
];

/// Cargo tools: the program that shows that one is there, and the crate with the version that CI is held against.
const CARGO: [(&str, &str); 3] = [
    ("cargo nextest --version", "cargo-nextest@0.9.143"),
    ("cargo deny --version", "cargo-deny@0.20.2"),
    ("cargo audit --version", "cargo-audit@0.22.2"),
];

/// What runs programs for arm64 on this machine.
pub(crate) const EMULATOR: &str = "qemu-aarch64-static";

/// The C compiler and linker for musl, and what has cargo use it.
const ZIG: &str = "ziglang==0.13.0.post1 cargo-zigbuild==0.20.1";

/// What packs the .deb.
const CARGO_DEB: &str = "cargo-deb@3.8.0";

/// The release whose findings the contracts answer.
const SLITHER: &str = "slither-analyzer==0.11.6";
/// The CoAP client that the gateway is held against.
const AIOCOAP: &str = "aiocoap==0.4.17";
/// The MQTT client that the gateway is held against, and what reads its messages.
const PAHO: &str = "paho-mqtt==2.2.0 cbor2==5.6.5";
/// What SUIT envelopes are held against. pycose takes what later releases of cbor2 decode for no COSE message.
const PYCOSE: &str = "pycose==1.1.0 cbor2==5.6.5";

/// Starts what the testbed's compose file describes where there is no docker.
const PODMAN_COMPOSE: &str = "podman-compose==1.6.0";

/// What the REST interface is held against.
const REST: &str = "schemathesis==4.32.5 openapi-spec-validator==0.9.0 prometheus-client==0.23.1";

/// What the Yocto layer is held against.
const OELINT: &str = "oelint-adv==9.11.0";

pub(crate) fn install() -> Result<()> {
    debian(&DEBIAN)?;
    for (probe, krate) in CARGO {
        if !answers(probe) {
            // A debug build: the tools run for seconds, and optimising them takes minutes.
            run(&mut cmd(&format!("cargo install --locked --debug {krate}")))?;
        }
    }
    node()
}

/// cargo-deb, installed under `folder` where it is absent.
pub(crate) fn cargo_deb(folder: &Path) -> Result<PathBuf> {
    if on_path("cargo-deb --version") {
        return Ok("cargo-deb".into());
    }
    let root = folder.join("tools");
    let program = root.join("bin/cargo-deb");
    if !program.is_file() {
        run(cmd(&format!("cargo install --locked --debug {CARGO_DEB} --root")).arg(&root))?;
    }
    Ok(program)
}

/// Installs by apt what is absent: of each, the program that shows that it is there, and the package.
pub(crate) fn debian(packages: &[(&str, &str)]) -> Result<()> {
    let absent: Vec<&str> =
        packages.iter().filter(|(probe, _)| !on_path(probe)).map(|(_, name)| *name).collect();
    if absent.is_empty() {
        return Ok(());
    }
    if !on_path("apt-get") {
        bail!("these programs are needed and apt-get is not here to install them: {}", absent.join(" "));
    }
    let sudo = sudo();
    run(&mut cmd(&format!("{sudo}apt-get update -qq")))?;
    // The broker is started by the tests on a port of their own; the package must not start one.
    run(cmd(&format!("{sudo}apt-get install -y -qq --no-install-recommends {}", absent.join(" ")))
        .env("DEBIAN_FRONTEND", "noninteractive")
        .env("RUNLEVEL", "1"))
    .map(drop)
}

/// [`EMULATOR`], and the broker for the job that programs do under it.
pub(crate) fn emulator() -> Result<()> {
    debian(&[("qemu-aarch64-static --version", "qemu-user-static"), ("mosquitto -h", "mosquitto")])
}

/// A folder with `bin/cargo-zigbuild` and, deeper, `site-packages/ziglang/zig`, both of which need nothing else.
pub(crate) fn zig(folder: &Path) -> Result<PathBuf> {
    let programs = python(folder, ZIG)?;
    programs.parent().map(Path::to_path_buf).context("programs are in a folder")
}

/// What loses packets in a network namespace.
pub(crate) fn netfilter() -> Result<()> {
    debian(&[("nft --version", "nftables"), ("ip -V", "iproute2"), ("mosquitto -h", "mosquitto")])
}

/// What to put before a command that needs root.
pub(crate) fn sudo() -> &'static str {
    if on_path("sudo") && !is_root() { "sudo " } else { "" }
}

/// anvil, where `cargo ci` has not installed it.
pub(crate) fn anvil() -> Result<()> {
    if installed(Path::new("contracts")) { Ok(()) } else { node() }
}

/// forge, anvil and solc, by the lock file in `contracts/`.
fn node() -> Result<()> {
    if !on_path("npm") {
        run(&mut cmd(&format!("{}apt-get install -y -qq --no-install-recommends nodejs npm", sudo())))?;
    }
    run(cmd("npm ci --no-audit --no-fund --silent").current_dir("contracts")).map(drop)
}

/// slither in a Python environment of its own under `folder`, from PyPI.
pub(crate) fn slither(folder: &Path) -> Result<PathBuf> {
    python(folder, SLITHER).map(|programs| programs.join("slither"))
}

/// oelint-adv, likewise.
pub(crate) fn oelint(folder: &Path) -> Result<PathBuf> {
    python(folder, OELINT).map(|programs| programs.join("oelint-adv"))
}

/// A Python under `folder` that has aiocoap.
pub(crate) fn aiocoap(folder: &Path) -> Result<PathBuf> {
    python(folder, AIOCOAP).map(|programs| programs.join("python"))
}

/// A Python under `folder` that has paho-mqtt.
pub(crate) fn paho(folder: &Path) -> Result<PathBuf> {
    python(folder, PAHO).map(|programs| programs.join("python"))
}

/// A Python under `folder` that has pycose.
pub(crate) fn pycose(folder: &Path) -> Result<PathBuf> {
    python(folder, PYCOSE).map(|programs| programs.join("python"))
}

/// The programs of a Python under `folder` that has schemathesis and OpenAPI's validator.
pub(crate) fn rest(folder: &Path) -> Result<PathBuf> {
    python(folder, REST)
}

/// promtool, out of Debian's package of Prometheus, which would start a server if it were installed.
pub(crate) fn promtool(folder: &Path) -> Result<PathBuf> {
    if on_path("promtool --version") {
        return Ok("promtool".into());
    }
    let unpacked = std::path::absolute(folder.join("prometheus"))?;
    let program = unpacked.join("usr/bin/promtool");
    if !program.is_file() {
        std::fs::create_dir_all(&unpacked)?;
        run(cmd("apt-get download -qq prometheus").current_dir(&unpacked))?;
        let package = std::fs::read_dir(&unpacked)?.filter_map(|file| Some(file.ok()?.path()));
        let package = package.into_iter().find(|file| file.extension().is_some_and(|end| end == "deb"));
        run(cmd("dpkg -x").arg(package.context("apt-get brought no package")?).arg(&unpacked))?;
    }
    Ok(program)
}

/// The programs of an environment under `folder` that holds packages of PyPI.
fn python(folder: &Path, packages: &str) -> Result<PathBuf> {
    let environment = folder.join(packages.replace(' ', "-"));
    let programs = environment.join("bin");
    let done = environment.join("installed");
    if !done.is_file() {
        run(cmd("python3 -m venv").arg(&environment)).context("python3 with venv is needed")?;
        run(Command::new(programs.join("pip")).args(["install", "--quiet"]).args(packages.split(' ')))?;
        std::fs::write(&done, packages)?;
    }
    Ok(programs)
}

/// podman-compose, in a Python environment under `folder`.
pub(crate) fn podman_compose(folder: &Path) -> Result<PathBuf> {
    python(folder, PODMAN_COMPOSE).map(|programs| programs.join("podman-compose"))
}

/// npm's CoAP client, by the lock file beside the suite that uses it.
pub(crate) fn npm_coap() -> Result<()> {
    npm(Path::new("actors/tests/coap-peers"))
}

/// Other people's clients, by the lock file in `tests/peers`: half a gigabyte, so only where they are needed.
///
/// No scripts: they would compile optional native parts, and nothing here needs them.
pub(crate) fn peers() -> Result<()> {
    npm(Path::new("tests/peers"))
}

/// A browser, fonts for it, and what drives it, by the lock file in `tests/page`.
pub(crate) fn browser() -> Result<()> {
    debian(&[("chromium --version", "chromium fonts-dejavu-core")])?;
    npm(Path::new("tests/page"))
}

/// Puts in place what a folder's lock file says.
fn npm(home: &Path) -> Result<()> {
    if installed(home) {
        return Ok(());
    }
    run(cmd("npm ci --ignore-scripts --no-audit --no-fund --silent").current_dir(home)).map(drop)
}

/// Whether npm has put in place what the folder's lock file says, as it says it now.
fn installed(home: &Path) -> bool {
    let written = |file: &str| home.join(file).metadata().and_then(|file| file.modified());
    written("node_modules/.package-lock.json")
        .is_ok_and(|done| written("package-lock.json").is_ok_and(|wanted| done >= wanted))
}

fn on_path(line: &str) -> bool {
    let name = line.split_whitespace().next().unwrap_or_default();
    std::env::var_os("PATH").is_some_and(|path| {
        std::env::split_paths(&path).chain([PathBuf::from("/usr/sbin")]).any(|dir| dir.join(name).is_file())
    })
}

/// Whether this is root.
pub(crate) fn is_root() -> bool {
    std::fs::metadata("/proc/self").is_ok_and(|m| std::os::unix::fs::MetadataExt::uid(&m) == 0)
}

/// Where cargo puts what it makes, as an absolute path.
pub(crate) fn target() -> Result<PathBuf> {
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| PathBuf::from("target"), PathBuf::from);
    Ok(std::path::absolute(target)?)
}

/// Data that lies beside the repository and is never part of it: `$POSTHOUSE_SHARED`, by default `../shared`.
pub(crate) fn shared() -> PathBuf {
    std::env::var_os("POSTHOUSE_SHARED").map_or_else(|| PathBuf::from("../shared"), PathBuf::from)
}

/// The advisory database that lies in the shared folder, unpacked under `into`; `None` where there is none.
pub(crate) fn advisories(into: &Path) -> Result<Option<PathBuf>> {
    let Ok(entries) = std::fs::read_dir(shared().join("advisory-db")) else { return Ok(None) };
    let mut archives: Vec<PathBuf> =
        entries.flatten().map(|e| e.path()).filter(|p| p.to_string_lossy().ends_with(".tar.xz")).collect();
    archives.sort();
    let Some(newest) = archives.pop() else { return Ok(None) };
    let stem = newest
        .file_name()
        .and_then(|n| n.to_str())
        .context("the archive has a name")?
        .trim_end_matches(".tar.xz");
    let folder = into.join(stem);
    if !folder.is_dir() {
        let fresh = into.join(format!("{stem}.part-{}", std::process::id()));
        std::fs::create_dir_all(&fresh)?;
        run(cmd("tar -xJf").arg(&newest).arg("-C").arg(&fresh))?;
        std::fs::rename(&fresh, &folder)?;
    }
    Ok(Some(holder_of_crates(&folder)?))
}

/// The folder that has `crates/` in it: the archive's top, or the one folder below.
fn holder_of_crates(folder: &Path) -> Result<PathBuf> {
    if folder.join("crates").is_dir() {
        return Ok(folder.to_path_buf());
    }
    std::fs::read_dir(folder)?
        .flatten()
        .map(|e| e.path())
        .find(|p| p.join("crates").is_dir())
        .with_context(|| format!("no `crates` folder in {}", folder.display()))
}
