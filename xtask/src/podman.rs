//! podman for this project alone: its images, containers and networks lie under the target folder, and a user's own podman
//! is neither read nor changed.
//!
//! It is Debian's, run as root, with settings that hold in a container or a virtual machine without systemd as well: runc
//! by plain cgroup files, logs in files. Base images come from Debian's archive by mmdebstrap, so that no image registry
//! is needed.

use std::{
    ffi::{OsStr, OsString},
    fs,
    hash::{DefaultHasher, Hash as _, Hasher as _},
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Result, ensure};

use crate::{
    run::{cmd, run},
    tools,
};

/// The base of the project's images, by the name under which registries have it; here it is made by [`Podman::base`].
pub(crate) const BASE: &str = "docker.io/library/debian:bookworm-slim";
/// Programs on the host: what shows that one is there, and its package.
const DEBIAN: [(&str, &str); 7] = [
    ("podman", "podman"),
    ("runc", "runc"),
    ("conmon", "conmon"),
    ("iptables", "iptables"),
    ("/usr/lib/podman/netavark", "netavark"),
    ("/usr/lib/podman/aardvark-dns", "aardvark-dns"),
    ("mmdebstrap", "mmdebstrap"),
];
const SUITES: [(&str, &str); 2] = [
    ("http://deb.debian.org/debian", "bookworm"),
    ("http://deb.debian.org/debian-security", "bookworm-security"),
];
/// What Debian's own slim images leave out.
const SLIM: [&str; 6] = [
    "path-exclude=/usr/share/doc/*",
    "path-include=/usr/share/doc/*/copyright",
    "path-exclude=/usr/share/man/*",
    "path-exclude=/usr/share/info/*",
    "path-exclude=/usr/share/locale/*",
    "path-exclude=/usr/share/lintian/*",
];
/// As Debian's images have it: lists of packages that apt compiles for itself would make each layer 80 MB larger.
const APT: [&str; 2] = ["Dir::Cache::pkgcache \"\"", "Dir::Cache::srcpkgcache \"\""];

/// podman with the project's own settings and storage.
pub(crate) struct Podman {
    settings: PathBuf,
    storage: PathBuf,
}

impl Podman {
    /// Installs what is absent and writes the settings.
    pub(crate) fn ready() -> Result<Self> {
        tools::debian(&DEBIAN)?;
        let home = tools::target()?.join("podman");
        fs::create_dir_all(&home)?;
        let podman = Self { settings: home.join("containers.conf"), storage: home.join("storage.conf") };
        // podman refuses longer paths than 50 bytes here; and what runs is over after a reboot, as this folder is.
        let mut name = DefaultHasher::new();
        home.hash(&mut name);
        let running = format!("/run/posthouse-{:08x}", name.finish() as u32);
        let at = |folder: &str| home.join(folder);
        let settings = format!(
            "[engine]\nruntime = \"runc\"\ncgroup_manager = \"cgroupfs\"\nevents_logger = \"file\"\n\
             tmp_dir = \"{running}/libpod\"\nvolume_path = {volumes:?}\n\n\
             [containers]\nlog_driver = \"k8s-file\"\n\
             default_ulimits = [\"nofile=20000:20000\", \"nproc=8000:8000\"]\n\n\
             [network]\nnetwork_backend = \"netavark\"\nnetwork_config_dir = {networks:?}\n",
            volumes = at("volumes"),
            networks = at("networks"),
        );
        let storage = format!(
            "[storage]\ndriver = \"overlay\"\ngraphroot = {graph:?}\nrunroot = \"{running}/run\"\n",
            graph = at("storage"),
        );
        fs::write(&podman.settings, settings)?;
        fs::write(&podman.storage, storage)?;
        Ok(podman)
    }

    /// podman itself; add a command of it.
    pub(crate) fn command(&self) -> Command {
        self.with("podman")
    }

    /// Any program that starts podman.
    pub(crate) fn with(&self, program: impl AsRef<OsStr>) -> Command {
        let setting = |name: &str, file: &Path| format!("{name}={}", file.display());
        // By `env`, as sudo would forget them.
        let mut command = cmd(&format!("{}env", tools::sudo()));
        command.arg(setting("CONTAINERS_CONF", &self.settings));
        command.arg(setting("CONTAINERS_STORAGE_CONF", &self.storage));
        // env would take a path with an equals sign for one more setting.
        command.args(["sh", "-c", "exec \"$@\"", "sh"]).arg(program);
        command
    }

    /// Runs podman with a user's own arguments, on the user's terminal.
    pub(crate) fn pass(&self, arguments: &[OsString]) -> Result<()> {
        let status = self.command().args(arguments).status()?;
        ensure!(status.success(), "podman ended with {status}");
        Ok(())
    }

    /// Whether there is an image of this name.
    pub(crate) fn has(&self, image: &str) -> Result<bool> {
        Ok(self.command().args(["image", "exists", image]).status()?.success())
    }

    /// Makes [`BASE`] from Debian's archive where it is absent: a minute, 100 MB.
    pub(crate) fn base(&self) -> Result<()> {
        if self.has(BASE)? {
            return Ok(());
        }
        let archive = self.settings.with_file_name(format!("base-{}.tar", std::process::id()));
        let mut make = cmd(&format!("{}mmdebstrap --variant=minbase", tools::sudo()));
        make.args(SLIM.map(|option| format!("--dpkgopt={option}")));
        make.args(APT.map(|option| format!("--aptopt={option}")));
        make.arg(SUITES[0].1).arg(&archive);
        make.args(SUITES.map(|(mirror, suite)| format!("deb {mirror} {suite} main")));
        run(&mut make)?;
        let imported =
            run(self.command().args(["import", "--change", "CMD=/bin/bash"]).arg(&archive).arg(BASE));
        fs::remove_file(&archive)?;
        imported.map(drop)
    }

    /// Builds an image of a Containerfile that begins with [`BASE`]: as `tag`, with the files of `context`, and further
    /// `options` of `podman build`.
    pub(crate) fn build(&self, file: &Path, context: &Path, tag: &str, options: &[&str]) -> Result<()> {
        self.base()?;
        let mut build = self.command();
        // Docker's format has healthchecks. The host's network: a build fetches packages and serves nothing.
        build.args(["build", "--quiet", "--format=docker", "--network=host", "--pull=never", "--tag", tag]);
        run(build.args(options).arg("--file").arg(file).arg(context)).map(drop)
    }
}
