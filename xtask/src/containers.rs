//! Images of the project's programs, by docker where its engine answers, else by the project's own podman.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result};

use crate::{
    licences, package,
    podman::Podman,
    run::{answers, cmd, run},
    tools,
};

const FILE: &str = "packaging/containers/Containerfile";
/// Targets of [`FILE`], each an image `posthouse/<target>`.
const IMAGES: [&str; 7] = ["gateway", "vendor", "distributor", "sensor", "chain", "broker", "setup"];
/// Programs of testbeds, which no package has.
const PROGRAMS: [&str; 2] = ["posthouse-devchain", "posthouse-sensor-sim"];

/// Together with what the manual is written by, whose crates are built already with the same features.
const PROGRAMS_BUILD: &str = "cargo build --locked --release -p posthouse-tests --example manual -p posthouse-devchain --bin \
    posthouse-devchain -p posthouse-device --features posthouse-device/sim --bin posthouse-sensor-sim";

/// What builds images and runs containers.
pub(crate) enum Engine {
    /// docker with its compose plugin.
    Docker,
    /// podman, with podman-compose.
    Podman(Podman),
}

impl Engine {
    /// docker where its engine answers, else podman, which is installed where it is absent.
    pub(crate) fn find() -> Result<Self> {
        if answers("docker info") && answers("docker compose version") {
            return Ok(Self::Docker);
        }
        Ok(Self::Podman(Podman::ready()?))
    }

    /// The engine itself; the same commands hold for both.
    pub(crate) fn command(&self) -> Command {
        match self {
            Self::Docker => cmd("docker"),
            Self::Podman(podman) => podman.command(),
        }
    }

    /// Compose, for a file.
    pub(crate) fn compose(&self, file: &str) -> Result<Command> {
        let mut compose = match self {
            Self::Docker => cmd("docker compose"),
            Self::Podman(podman) => {
                let mut compose = podman.with(tools::podman_compose(&tools::target()?)?);
                compose.arg("--in-pod=false");
                compose
            }
        };
        compose.args(["--file", file]);
        Ok(compose)
    }

    fn build(&self, context: &Path, target: &str) -> Result<()> {
        let tag = image(target);
        match self {
            Self::Docker => run(cmd("docker build --quiet --file")
                .args([FILE, "--target", target, "--tag", &tag])
                .arg(context))
            .map(drop),
            Self::Podman(podman) => podman.build(Path::new(FILE), context, &tag, &["--target", target]),
        }
    }

    fn bytes(&self, image: &str) -> Result<u64> {
        let printed = self.command().args(["image", "inspect", "--format", "{{.Size}}", image]).output()?;
        let size = String::from_utf8(printed.stdout)?;
        size.trim().parse().with_context(|| format!("the size of {image} is {size}"))
    }
}

fn image(target: &str) -> String {
    format!("posthouse/{target}")
}

/// Builds all images; one line with name and size for each.
pub(crate) fn images(engine: &Engine) -> Result<Vec<String>> {
    let context = context()?;
    let made = |target: &&str| {
        engine.build(&context, target)?;
        let image = image(target);
        Ok(format!("{image:<24}{:>6.1} MB", engine.bytes(&image)? as f64 / 1e6))
    };
    IMAGES.iter().map(made).collect()
}

/// A folder with the .deb and what is built beside it.
fn context() -> Result<PathBuf> {
    let deb = package::deb()?;
    run(&mut cmd(PROGRAMS_BUILD))?;
    let target = tools::target()?;
    let folder = target.join("images");
    if folder.exists() {
        fs::remove_dir_all(&folder)?;
    }
    fs::create_dir_all(&folder)?;
    let programs = PROGRAMS.map(|name| target.join("release").join(name));
    let licences = licences::write(licences::TESTBED, &target.join("release/testbed"), &[])?;
    for file in programs.into_iter().chain([deb, licences, "packaging/containers/setup.sh".into()]) {
        let name = file.file_name().context("files have names")?;
        fs::copy(&file, folder.join(name)).with_context(|| file.display().to_string())?;
    }
    Ok(folder)
}
