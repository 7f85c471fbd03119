//! The Yocto layer in `yocto/meta-posthouse`: `cargo xtask yocto` writes what follows from the workspace, and CI compares.
//!
//! BitBake fetches before it compiles, so the recipe names every crate with its hash. Its own class
//! `cargo-update-recipe-crates` would take the lock files of all folders; only that of the workspace is built.

use std::{collections::BTreeMap, fs, path::Path};

use anyhow::{Context as _, Result, ensure};
use serde::Deserialize;

use crate::{
    run::{cmd, run},
    tools,
};

const RECIPES: &str = "yocto/meta-posthouse/recipes-posthouse/posthouse";
const CRATES_IO: &str = "registry+https://github.com/rust-lang/crates.io-index";
/// The releases of `LAYERSERIES_COMPAT` in `conf/layer.conf`.
const RELEASES: [&str; 2] = ["wrynose", "blacksail"];
/// It asks the network whether the project's page is there, and is not told where that ends.
const NOT_ASKED: &str = "oelint.vars.homepageping";
const REVISION: &str = "SRCREV = \"";

#[derive(Deserialize)]
struct Lock {
    package: Vec<Package>,
}

#[derive(Deserialize)]
struct Manifest {
    #[serde(default)]
    features: BTreeMap<String, Vec<String>>,
}

#[derive(Deserialize)]
struct Package {
    name: String,
    version: String,
    source: Option<String>,
    checksum: Option<String>,
}

/// Writes the list of crates, and the newest commit as the source: it must have the same `Cargo.lock`, or BitBake would
/// fetch other crates than cargo wants.
pub(crate) fn update() -> Result<()> {
    let lock = fs::read_to_string("Cargo.lock")?;
    fs::write(Path::new(RECIPES).join("posthouse-crates.inc"), crates(&lock)?)?;
    let head = run(&mut cmd("git rev-parse HEAD"))?;
    ensure!(
        of_commit(head.trim(), "Cargo.lock")? == lock,
        "Cargo.lock is not committed; the list of crates is written, commit both and say `cargo xtask yocto` again"
    );
    let path = recipe()?;
    let text = fs::read_to_string(&path)?;
    let text = text.replace(revision(&text)?, head.trim());
    fs::write(&path, text).map_err(Into::into)
}

/// What CI holds the layer against.
pub(crate) fn check() -> Result<()> {
    let lock = fs::read_to_string("Cargo.lock")?;
    let written = fs::read_to_string(Path::new(RECIPES).join("posthouse-crates.inc"))?;
    ensure!(
        written == crates(&lock)?,
        "Cargo.lock has changed: `cargo xtask yocto` writes the layer's list anew"
    );
    let path = recipe()?;
    let text = fs::read_to_string(&path)?;
    for file in sources(&text) {
        ensure!(Path::new(file).exists(), "{} names {file}, which is not there", path.display());
    }
    if run(&mut cmd("git rev-parse --is-shallow-repository"))?.trim() == "false" {
        let named = revision(&text)?;
        ensure!(
            of_commit(named, "Cargo.lock")? == lock,
            "the recipe builds {named}, which has another Cargo.lock: `cargo xtask yocto` after the commit that changed it"
        );
        for file in sources(&text) {
            run(&mut cmd(&format!("git cat-file -e {named}:{file}")))?;
        }
        let manifest = of_commit(named, "agent/Cargo.toml")?;
        let built: Manifest = toml::from_str(&manifest)?;
        for feature in features(&text) {
            ensure!(
                built.features.contains_key(feature),
                "{named}, which the recipe builds, has no feature {feature}"
            );
        }
    } else {
        println!("SKIPPED: the recipe's SRCREV; this clone is shallow");
    }
    lint()
}

/// The OpenEmbedded linter, for each release that the layer says it is compatible with.
fn lint() -> Result<()> {
    let linter = tools::oelint(&tools::target()?)?;
    let files = run(&mut cmd("git ls-files yocto"))?;
    let files: Vec<&str> =
        files.lines().filter(|file| [".bb", ".inc", ".conf"].iter().any(|end| file.ends_with(end))).collect();
    let layer = fs::read_to_string("yocto/meta-posthouse/conf/layer.conf")?;
    ensure!(
        layer.contains(&format!("\"{}\"", RELEASES.join(" "))),
        "layer.conf is for other releases than {RELEASES:?}"
    );
    for release in RELEASES {
        let mut lint = std::process::Command::new(&linter);
        lint.args(["--quiet", "--mode", "all", "--relpaths", "--suppress", NOT_ASKED, "--release", release]);
        run(lint.args(&files))?;
    }
    Ok(())
}

/// The one recipe, which has the workspace's version in its name, as BitBake wants.
fn recipe() -> Result<std::path::PathBuf> {
    let path = Path::new(RECIPES).join(concat!("posthouse_", env!("CARGO_PKG_VERSION"), ".bb"));
    ensure!(
        path.is_file(),
        "{} is not there: the recipe has the workspace's version in its name",
        path.display()
    );
    Ok(path)
}

/// The files of the source tree that a recipe names.
fn sources(recipe: &str) -> impl Iterator<Item = &str> {
    let after = |mark: &'static str| recipe.split(mark).skip(1);
    let end = |rest: &'_ str| rest.find([' ', ';', '\n', '"']).unwrap_or(rest.len());
    after("${S}/").chain(after("file://")).map(move |rest| &rest[..end(rest)])
}

fn revision(recipe: &str) -> Result<&str> {
    let (_, rest) = recipe.split_once(REVISION).context("the recipe has SRCREV")?;
    let commit = rest.split('"').next().unwrap_or_default();
    ensure!(
        commit.len() == 40 && commit.bytes().all(|c| c.is_ascii_hexdigit()),
        "SRCREV {commit:?} is no commit"
    );
    Ok(commit)
}

/// The features that a recipe has cargo build.
fn features(recipe: &str) -> impl Iterator<Item = &str> {
    recipe.split("--features ").skip(1).map(|rest| rest.split([',', '"', ' ']).next().unwrap_or_default())
}

/// A file of a commit.
fn of_commit(commit: &str, file: &str) -> Result<String> {
    let shown = cmd(&format!("git show {commit}:{file}")).output()?;
    ensure!(shown.status.success(), "git has no {file} of {commit}");
    Ok(String::from_utf8(shown.stdout)?)
}

/// `posthouse-crates.inc`, in the form of BitBake's own class.
fn crates(lock: &str) -> Result<String> {
    let lock: Lock = toml::from_str(lock)?;
    let (mut list, mut sums) = (String::new(), String::new());
    for Package { name, version, source, checksum } in lock.package {
        let Some(source) = source else { continue }; // of the workspace
        ensure!(source == CRATES_IO, "{name} {version} comes from {source}, which the layer cannot fetch");
        let sum = checksum.with_context(|| format!("Cargo.lock has no checksum of {name} {version}"))?;
        list.push_str(&format!("    crate://crates.io/{name}/{version} \\\n"));
        sums.push_str(&format!("SRC_URI[{name}-{version}.sha256sum] = \"{sum}\"\n"));
    }
    Ok(format!("# Written by `cargo xtask yocto` from Cargo.lock\n\nSRC_URI += \"\\\n{list}\"\n\n{sums}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOCK: &str = r#"
        version = 4
        [[package]]
        name = "aes"
        version = "0.8.4"
        source = "registry+https://github.com/rust-lang/crates.io-index"
        checksum = "b169"
        [[package]]
        name = "posthouse-agent"
        version = "0.1.0"
    "#;

    #[test]
    fn crates_are_named_with_their_hashes_and_our_own_are_not() -> Result<()> {
        let list = crates(LOCK)?;
        assert!(list.contains("    crate://crates.io/aes/0.8.4 \\\n"));
        assert!(list.contains("SRC_URI[aes-0.8.4.sha256sum] = \"b169\"\n"));
        assert!(!list.contains("posthouse-agent"));
        Ok(())
    }

    #[test]
    fn a_crate_from_elsewhere_is_refused() {
        let elsewhere = LOCK.replace(CRATES_IO, "git+https://example.org/aes#1234");
        assert!(crates(&elsewhere).is_err_and(|why| why.to_string().contains("cannot fetch")));
    }

    #[test]
    fn a_recipe_names_its_files() {
        let named = "file://LICENSE-MIT;md5=00 \\\n install ${S}/systemd/posthouse.service ${D}/x\n";
        assert_eq!(sources(named).collect::<Vec<_>>(), ["systemd/posthouse.service", "LICENSE-MIT"]);
    }

    #[test]
    fn a_recipe_names_its_features() {
        let named = "PACKAGECONFIG[full] = \"--features gateway-full,--features gateway-small\"";
        assert_eq!(features(named).collect::<Vec<_>>(), ["gateway-full", "gateway-small"]);
    }

    #[test]
    fn a_branch_is_no_revision() {
        assert!(revision("SRCREV = \"${AUTOREV}\"").is_err());
    }
}
