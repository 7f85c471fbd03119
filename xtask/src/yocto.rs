//! The Yocto layer in `yocto/meta-posthouse`: `cargo xtask yocto` writes what follows from the workspace, and CI compares.
//!
//! BitBake fetches before it compiles, so the recipe names every crate with its hash. Its own class
//! `cargo-update-recipe-crates` would take the lock files of all folders; only that of the workspace is built.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, ensure};
use serde::Deserialize;

use crate::{
    licences,
    run::{cmd, run},
    tools,
};

const RECIPES: &str = "yocto/meta-posthouse/recipes-posthouse/posthouse";
const CRATES_IO: &str = "registry+https://github.com/rust-lang/crates.io-index";
/// The releases of `LAYERSERIES_COMPAT` in `conf/layer.conf`.
const RELEASES: [&str; 2] = ["wrynose", "blacksail"];
/// It asks the network whether the project's page is there, and is not told where that ends.
const NOT_ASKED: &str = "oelint.vars.homepageping";
/// The linter knows the folder of the source only.
const FETCHED: &str = "# nooelint: oelint.var.licenseremotefile - crates are fetched, each by its hash";
const REVISION: &str = "SRCREV = \"";
/// What people read, with the guide of the commit that the recipe builds: that of the checkout can be ahead of it.
const README: &str = "yocto/README.md";
const GUIDE: &str = "docs/guides/fleet-admin.md";
const PAGE: &str = "https://github.com/posthouse/posthouse/blob/";

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

/// Writes the lists of crates and of their licences, and the newest commit as the source: it must have the same `Cargo.lock`, or
/// BitBake would fetch other crates than cargo wants.
pub(crate) fn update() -> Result<()> {
    let lock = fs::read_to_string("Cargo.lock")?;
    fs::write(Path::new(RECIPES).join("posthouse-crates.inc"), crates(&lock)?)?;
    fs::write(Path::new(RECIPES).join("posthouse-licenses.inc"), licenses()?)?;
    let head = run(&mut cmd("git rev-parse HEAD"))?;
    ensure!(
        of_commit(head.trim(), "Cargo.lock")? == lock,
        "Cargo.lock is not committed; the list of crates is written, commit both and say `cargo xtask yocto` again"
    );
    let path = recipe()?;
    let text = fs::read_to_string(&path)?;
    let old = revision(&text)?;
    let readme = fs::read_to_string(README)?;
    fs::write(README, readme.replace(&page(old), &page(head.trim())))?;
    fs::write(&path, text.replace(old, head.trim())).map_err(Into::into)
}

/// What CI holds the layer against.
pub(crate) fn check() -> Result<()> {
    let lock = fs::read_to_string("Cargo.lock")?;
    for (list, wanted) in [("posthouse-crates.inc", crates(&lock)?), ("posthouse-licenses.inc", licenses()?)]
    {
        ensure!(
            fs::read_to_string(Path::new(RECIPES).join(list))? == wanted,
            "what the gateway is linked with has changed: `cargo xtask yocto` writes {list} anew"
        );
    }
    let path = recipe()?;
    let text = fs::read_to_string(&path)?;
    for file in sources(&text) {
        ensure!(Path::new(file).exists(), "{} names {file}, which is not there", path.display());
    }
    let named = revision(&text)?;
    ensure!(
        fs::read_to_string(README)?.contains(&page(named)),
        "{README} must name the guide of what the recipe builds, {}",
        page(named)
    );
    let manifest = fs::read_to_string("Cargo.toml")?;
    let least = quoted(&manifest, "rust-version = \"").context("the workspace says which Rust it needs")?;
    ensure!(
        text.contains(&format!("'{least}', '>='")) && text.contains(&format!("'it needs Rust {least},")),
        "SKIP_RECIPE must ask for Rust {least}, as the workspace does"
    );
    if run(&mut cmd("git rev-parse --is-shallow-repository"))?.trim() == "false" {
        ensure!(
            of_commit(named, "Cargo.lock")? == lock,
            "the recipe builds {named}, which has another Cargo.lock: `cargo xtask yocto` after the commit that changed it"
        );
        // A rebase may have left it behind.
        run(&mut cmd(&format!("git merge-base --is-ancestor {named} HEAD")))
            .with_context(|| format!("the recipe builds {named}, which is not of this branch"))?;
        ensure!(
            quoted(&of_commit(named, "Cargo.toml")?, "\nversion = \"") == Some(env!("CARGO_PKG_VERSION")),
            "the recipe builds {named}, which has another version: `cargo xtask yocto`"
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

/// What stands between `mark` and the next quote.
fn quoted<'a>(text: &'a str, mark: &str) -> Option<&'a str> {
    text.split_once(mark)?.1.split('"').next()
}

/// The guide as a commit has it.
fn page(commit: &str) -> String {
    format!("{PAGE}{commit}/{GUIDE}")
}

fn revision(recipe: &str) -> Result<&str> {
    let commit = quoted(recipe, REVISION).context("the recipe has SRCREV")?;
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

/// `posthouse-licenses.inc`: what the crates in the gateway ask for, and their licence files, each text once.
fn licenses() -> Result<String> {
    let licences::Asked { ids, files } = licences::asked_for(licences::YOCTO)?;
    let paths: Vec<&PathBuf> = files.iter().map(|(_, path)| path).collect();
    let sums = cmd("md5sum").args(paths).output()?;
    ensure!(sums.status.success(), "md5sum: {}", String::from_utf8_lossy(&sums.stderr));
    let sums = String::from_utf8(sums.stdout)?;
    let sums: Vec<&str> = sums.lines().filter_map(|line| line.split(' ').next()).collect();
    ensure!(sums.len() == files.len(), "md5sum names other files");
    listed(&ids, files.iter().map(|(name, _)| name.as_str()).zip(sums))
}

/// It, of files and their sums.
fn listed<'a>(ids: &BTreeSet<String>, files: impl Iterator<Item = (&'a str, &'a str)>) -> Result<String> {
    let (mut list, mut seen) = (String::new(), BTreeSet::new());
    for (name, sum) in files {
        let plain = |c: char| c.is_ascii_alphanumeric() || "-_.+/".contains(c);
        ensure!(name.chars().all(plain), "BitBake would take {name} for something else");
        if seen.insert(sum) {
            list.push_str(&format!("    file://${{CARGO_VENDORING_DIRECTORY}}/{name};md5={sum} \\\n"));
        }
    }
    let ids: Vec<&str> = ids.iter().map(String::as_str).collect();
    Ok(format!(
        "# Written by `cargo xtask yocto` from the crates' manifests and files\n\nLICENSE += \"& {}\"\n\n{FETCHED}\nLIC_FILES_CHKSUM += \"\\\n{list}\"\n",
        ids.join(" & ")
    ))
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
    fn each_text_of_a_licence_is_named_once() -> Result<()> {
        let ids = ["Apache-2.0", "MIT"].map(str::to_owned).into();
        let files =
            [("aes-0.8.4/LICENSE-MIT", "b1"), ("ctr-0.9.2/LICENSE-MIT", "b2"), ("x-1.0.0+y/COPYING", "b1")];
        let list = listed(&ids, files.into_iter())?;
        assert!(list.contains("LICENSE += \"& Apache-2.0 & MIT\"\n"));
        assert!(list.contains("    file://${CARGO_VENDORING_DIRECTORY}/ctr-0.9.2/LICENSE-MIT;md5=b2 \\\n"));
        assert_eq!(list.matches("md5=").count(), 2);
        assert!(listed(&ids, [("x-1.0.0/A LICENSE", "b3")].into_iter()).is_err());
        Ok(())
    }

    #[test]
    fn a_branch_is_no_revision() {
        assert!(revision("SRCREV = \"${AUTOREV}\"").is_err());
    }
}
