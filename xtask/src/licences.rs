//! The licences of what is linked into the programs: one text, `THIRD-PARTY.gz`, in each package.
//!
//! Crates are those of `cargo tree`, without what only builds; their texts are their own files in cargo's registry. What many of them
//! share, the bodies of MIT and Apache-2.0, stands once at the end, so that what differs is left: whose it is. That keeps it small for
//! routers. Made when a package is, and the same for the same `Cargo.lock`.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, bail, ensure};
use serde::Deserialize;

use self::expression::needed;
use crate::run::{cmd, run};

mod expression;

/// Its name in packages.
pub(crate) const NAME: &str = "THIRD-PARTY.gz";
/// The programs of the .deb, for each architecture that there is one for.
pub(crate) const DEB: &str = "-p posthouse-agent -p posthouse-market \
    --target x86_64-unknown-linux-gnu --target aarch64-unknown-linux-gnu";
/// The gateway for routers.
pub(crate) const OPENWRT: &str = "-p posthouse-agent --no-default-features --features gateway-small \
    --target aarch64-unknown-linux-musl";
/// Programs of testbeds, which no package has.
pub(crate) const TESTBED: &str = "-p posthouse-devchain -p posthouse-device --features posthouse-device/sim \
    --target x86_64-unknown-linux-gnu --target aarch64-unknown-linux-gnu";
/// What the Yocto layer builds.
pub(crate) const YOCTO: &str = "-p posthouse-agent --target x86_64-unknown-linux-gnu \
    --target aarch64-unknown-linux-gnu --target armv7-unknown-linux-gnueabihf --target riscv64gc-unknown-linux-gnu";

/// How files begin in which crates have their licences, in lower case. What ends as code does is none.
const BEGINNINGS: [&str; 7] =
    ["license", "licence", "copying", "copyright", "notice", "unlicense", "patents"];
const CODE: [&str; 8] = ["rs", "c", "h", "py", "yml", "yaml", "toml", "json"];
/// Folders of crates that are not compiled.
const NOT_BUILT: [&str; 6] = [".github", "tests", "benches", "examples", "fuzz", "sqlcipher"];
/// Far above any text of a licence, in bytes.
const LONGEST: u64 = 1 << 17;
/// What crates hold and do not say in a file.
const NOTES: [(&str, &str); 2] = [
    (
        "libsqlite3-sys",
        "SQLite itself, which is in this crate, is in the public domain: https://sqlite.org/copyright.html",
    ),
    ("blst", "The library in this crate: Copyright Supranational LLC, Apache-2.0."),
];
/// It gives up all rights, and asks for no text.
const CC0: &str = "CC0-1.0: https://creativecommons.org/publicdomain/zero/1.0/legalcode";
/// What rustc adds to each program.
const RUST: &str = "The standard library of Rust: Copyright (c) The Rust Project Developers, MIT OR Apache-2.0. It has crates in it: addr2line, \
    cfg-if, gimli,\nhashbrown, libc, object, rustc-demangle (MIT OR Apache-2.0), adler2 (0BSD OR MIT OR Apache-2.0), miniz_oxide (MIT OR Zlib OR \
    Apache-2.0),\nmemchr (Unlicense OR MIT, Copyright (c) 2015 Andrew Gallant), foldhash (Zlib, Copyright (c) 2024 Orson Peters) and, in \
    compiler_builtins, a libm\n(MIT, Copyright (c) 2018 Jorge Aparicio, and of musl, Copyright (c) 2005-2020 Rich Felker, et al.); tables are made of \
    Unicode's data\n(Unicode-3.0). What of LLVM's runtime is linked may be passed on without its licence, by that licence's exception.\n";

/// A crate that is linked in.
#[derive(Deserialize)]
struct Crate {
    name: String,
    version: String,
    /// `None` for the project's own.
    source: Option<String>,
    license: Option<String>,
    license_file: Option<PathBuf>,
    authors: Vec<String>,
    manifest_path: PathBuf,
}

impl Crate {
    fn folder(&self) -> &Path {
        self.manifest_path.parent().unwrap_or(Path::new("."))
    }

    fn title(&self) -> String {
        format!("{} {}", self.name, self.version)
    }

    /// What its manifest says of its licence.
    fn expression(&self) -> &str {
        self.license.as_deref().unwrap_or("as its file says")
    }

    /// Its licence files, from its folder, in the order of their names.
    fn files(&self) -> Result<Vec<PathBuf>> {
        let mut files = BTreeSet::new();
        collect(self.folder(), Path::new(""), &mut files)?;
        files.extend(self.license_file.clone());
        Ok(files.into_iter().collect())
    }

    /// In place of a file that it has not: who it is of, and a text that its expression allows.
    fn standard(&self) -> Result<String> {
        let whose = match self.authors.as_slice() {
            [] => format!("the authors of {}", self.name),
            authors => authors.join(", "),
        };
        let mut text = format!("Copyright (c) {whose}\n");
        for id in needed(self.expression())? {
            match id.as_str() {
                "MIT" | "Apache-2.0" => text += &format!("\n{}\n", mark(&id)),
                "CC0-1.0" => text += &format!("\n{CC0}\n"),
                _ => bail!("{} has no licence file, and no text of {id} is known here", self.title()),
            }
        }
        Ok(text)
    }
}

/// A text that many crates have, by its words.
struct Known {
    id: &'static str,
    text: String,
}

/// The two, as this project has them itself.
fn known() -> Result<[Known; 2]> {
    let part = |file: &str, from: &str, to: &str| {
        let text = fs::read_to_string(file).with_context(|| file.to_owned())?;
        let start = text.find(from).with_context(|| format!("{file} begins otherwise"))?;
        let end = if to.is_empty() { Some(text.len()) } else { text.find(to) };
        let end = end.with_context(|| format!("{file} ends otherwise"))?;
        Ok::<_, anyhow::Error>(text[start..end].trim_end().to_owned() + "\n")
    };
    let apache = part("LICENSE-APACHE", "TERMS AND CONDITIONS FOR USE", "END OF TERMS AND CONDITIONS")?;
    let mit = part("LICENSE-MIT", "Permission is hereby granted", "")?;
    Ok([Known { id: "Apache-2.0", text: apache }, Known { id: "MIT", text: mit }])
}

fn mark(id: &str) -> String {
    format!("[the text of {id}, which is at the end]")
}

/// Writes [`NAME`] into `folder` for what `cargo tree` has with these arguments. `further` are names and texts of what is linked in and
/// is no crate.
pub(crate) fn write(arguments: &str, folder: &Path, further: &[(&str, String)]) -> Result<PathBuf> {
    fs::create_dir_all(folder)?;
    let file = folder.join(NAME);
    let plain = file.with_extension("");
    fs::write(&plain, text(&linked(arguments)?, further)?)?;
    run(cmd("gzip --best --no-name --force").arg(&plain))?;
    Ok(file)
}

/// What crates ask for together.
#[derive(Default)]
pub(crate) struct Asked {
    /// By SPDX; of alternatives one.
    pub(crate) ids: BTreeSet<String>,
    /// Licence files, as `name-version/file`, and where they are here.
    pub(crate) files: Vec<(String, PathBuf)>,
}

/// That of the crates that `cargo tree` has with these arguments.
pub(crate) fn asked_for(arguments: &str) -> Result<Asked> {
    let mut all = Asked::default();
    for one in linked(arguments)? {
        all.ids.extend(needed(one.expression())?);
        for file in one.files()? {
            let named = format!("{}-{}/{}", one.name, one.version, file.display());
            all.files.push((named, one.folder().join(file)));
        }
    }
    Ok(all)
}

/// The crates of others that cargo links, by name and version.
fn linked(arguments: &str) -> Result<Vec<Crate>> {
    #[derive(Deserialize)]
    struct Metadata {
        packages: Vec<Crate>,
    }
    // This fetches what is absent, so that all files are there.
    let metadata = asked(&mut cmd("cargo metadata --locked --format-version 1"))?;
    let metadata: Metadata = serde_json::from_str(&metadata)?;
    let tree = format!("cargo tree --locked --edges no-build,no-dev,no-proc-macro --prefix none {arguments}");
    let tree = asked(&mut cmd(&tree))?;
    let names: BTreeSet<(&str, &str)> = tree.lines().filter_map(|line| line.split_once(" v")).collect();
    let names: BTreeSet<(&str, &str)> =
        names.into_iter().map(|(name, rest)| (name, rest.split(' ').next().unwrap_or_default())).collect();
    let mut crates: Vec<Crate> = metadata.packages;
    crates.retain(|one| one.source.is_some() && names.contains(&(one.name.as_str(), one.version.as_str())));
    crates.sort_by(|a, b| (&a.name, &a.version).cmp(&(&b.name, &b.version)));
    ensure!(!crates.is_empty(), "cargo tree {arguments} names nobody's crates");
    Ok(crates)
}

/// What a program prints, and not on the terminal.
fn asked(command: &mut Command) -> Result<String> {
    let done = command.output()?;
    ensure!(done.status.success(), "{command:?}: {}", String::from_utf8_lossy(&done.stderr));
    Ok(String::from_utf8(done.stdout)?)
}

/// Adds the licence files of `folder`, which is `under` the crate's, and of those in it.
fn collect(folder: &Path, under: &Path, files: &mut BTreeSet<PathBuf>) -> Result<()> {
    for entry in fs::read_dir(folder).with_context(|| folder.display().to_string())? {
        let entry = entry?;
        let name = entry.file_name();
        let (path, name) = (under.join(&name), name.to_string_lossy().to_lowercase());
        let kind = entry.file_type()?;
        if kind.is_dir() && !NOT_BUILT.contains(&name.as_str()) {
            collect(&entry.path(), &path, files)?;
        }
        let end = name.rsplit_once('.').map_or("", |(_, end)| end);
        if kind.is_file() && BEGINNINGS.iter().any(|one| name.starts_with(one)) && !CODE.contains(&end) {
            files.insert(path);
        }
    }
    Ok(())
}

/// The whole text.
fn text(crates: &[Crate], further: &[(&str, String)]) -> Result<String> {
    let known = known()?;
    let mut notices: BTreeMap<String, (String, BTreeSet<String>)> = BTreeMap::new();
    for one in crates {
        let files = one.files()?;
        let mut texts = Vec::new();
        for file in &files {
            let path = one.folder().join(file);
            ensure!(fs::metadata(&path)?.len() <= LONGEST, "{} is too long", path.display());
            texts.push(String::from_utf8_lossy(&fs::read(&path)?).into_owned());
        }
        if files.is_empty() {
            texts.push(one.standard()?);
        }
        let noted = NOTES.iter().filter(|(name, _)| *name == one.name).map(|(_, note)| format!("{note}\n"));
        for text in texts.into_iter().chain(noted) {
            let text = known.iter().fold(text, |text, known| shortened(&text, known));
            // Where lines end makes no other text.
            let words = text.split_whitespace().collect::<Vec<_>>().join(" ");
            notices.entry(words).or_insert_with(|| (text, BTreeSet::new())).1.insert(one.title());
        }
    }
    let mut notices: Vec<(BTreeSet<String>, String)> =
        notices.into_values().map(|(text, of)| (of, text)).collect();
    notices.sort();
    let mut whole = String::from(
        "Posthouse: Copyright (c) 2026 The Posthouse developers, MIT OR Apache-2.0, whose texts are at the end.\n\n\
         What others have written that is linked into its programs: each crate with what its manifest says of its licence, and then what\n\
         their own files say, each text once. The sources of NAME VERSION: https://crates.io/crates/NAME/VERSION\n\n",
    );
    crates.iter().for_each(|one| whole += &format!("{:<40} {}\n", one.title(), one.expression()));
    whole += &format!("\n{RUST}");
    let own = further.iter().map(|(name, text)| {
        (
            wrapped(&BTreeSet::from([(*name).to_owned()])),
            known.iter().fold(text.clone(), |t, k| shortened(&t, k)),
        )
    });
    let ends = known.iter().map(|known| (known.id.to_owned(), known.text.clone()));
    for (title, text) in notices.into_iter().map(|(of, text)| (wrapped(&of), text)).chain(own).chain(ends) {
        whole += &format!("\n{}\n{title}\n\n{}", "=".repeat(80), tidy(&text));
    }
    Ok(whole)
}

/// Names on lines of at most 120 characters.
fn wrapped(names: &BTreeSet<String>) -> String {
    let mut lines = vec![String::new()];
    for name in names {
        match lines.last_mut() {
            Some(line) if line.is_empty() => line.push_str(name),
            Some(line) if line.len() + name.len() < 118 => *line += &format!(", {name}"),
            _ => lines.push(name.clone()),
        }
    }
    lines.join(",\n")
}

/// `text` with the known one, however its lines are broken, replaced by where it is.
fn shortened(text: &str, known: &Known) -> String {
    let words: Vec<&str> = text.split_whitespace().collect();
    let body: Vec<&str> = known.text.split_whitespace().collect();
    let Some(first) = words.windows(body.len()).position(|some| some == body) else { return text.to_owned() };
    let at = |word: &str| word.as_ptr() as usize - text.as_ptr() as usize;
    let last = words[first + body.len() - 1];
    format!("{}{}{}", &text[..at(words[first])], mark(known.id), &text[at(last) + last.len()..])
}

/// Without space at the ends of lines, and with no more than one empty line in turn.
fn tidy(text: &str) -> String {
    let mut tidy = String::new();
    for line in text.trim().lines().map(str::trim_end) {
        if !line.is_empty() || !tidy.ends_with("\n\n") {
            tidy += line;
            tidy.push('\n');
        }
    }
    tidy
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at_the_root() {
        std::env::set_current_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("..")).expect("the project");
    }

    #[test]
    fn each_crate_that_is_shipped_is_named_with_a_text() {
        at_the_root();
        for (arguments, quic) in [(DEB, true), (OPENWRT, false), (TESTBED, true)] {
            let crates = linked(arguments).expect("crates");
            let musl = [("musl", "MIT\n".to_owned())];
            let whole = text(&crates, &musl).expect("a text");
            assert!(whole.len() < 400_000, "{arguments}: {} bytes", whole.len());
            let (listed, texts) = whole.split_once("\n====").expect("a list and texts");
            for one in &crates {
                assert!(listed.contains(&format!("\n{:<40} {}\n", one.title(), one.expression())));
                assert!(texts.contains(&one.title()), "{}", one.title());
            }
            let has = |name: &str| crates.iter().any(|one| one.name == name);
            assert!(has("tokio") && !has("proptest") && !has("cc") && !has("serde_derive"));
            if arguments != TESTBED {
                assert!(has("ring") && has("blst") && texts.contains("SQLite itself"));
                assert_eq!(has("aws-lc-sys"), quic);
            }
            for id in ["MIT", "Apache-2.0"] {
                assert_eq!(texts.matches(&format!("\n{}\n{id}\n\n", "=".repeat(80))).count(), 1, "{id}");
            }
            assert!(!texts.contains('\r') && texts.contains("Copyright (c) Tokio Contributors"));
        }
    }

    #[test]
    fn a_text_that_is_known_stands_once_however_its_lines_are_broken() {
        at_the_root();
        let known = known().expect("this project's own");
        let [apache, mit] = &known;
        let flat = mit.text.split_whitespace().collect::<Vec<_>>().join(" ");
        let own = shortened(&format!("MIT License\n\nCopyright X\n\n{flat}\nand more"), mit);
        assert_eq!(own, format!("MIT License\n\nCopyright X\n\n{}\nand more", mark("MIT")));
        let other = flat.replacen("free of charge", "for a fee", 1);
        assert_eq!(shortened(&other, mit), other);
        assert_eq!(shortened("short", apache), "short");
        assert_eq!(shortened("", apache), "");
    }

    #[test]
    fn a_crate_without_a_file_has_a_text_that_its_expression_allows() {
        let mut one = Crate {
            name: "one".into(),
            version: "1.0.0".into(),
            source: None,
            license: Some("MIT OR BSL-1.0".into()),
            license_file: None,
            authors: vec!["A".into(), "B".into()],
            manifest_path: "one/Cargo.toml".into(),
        };
        assert_eq!(one.standard().expect("MIT"), format!("Copyright (c) A, B\n\n{}\n", mark("MIT")));
        one.license = Some("BSL-1.0".into());
        assert!(one.standard().is_err_and(|why| why.to_string().contains("one 1.0.0 has no licence file")));
        one.license = Some("CC0-1.0".into());
        assert!(one.standard().is_ok_and(|text| text.ends_with("legalcode\n")));
        one.license = None;
        assert!(one.standard().is_err());
    }
}
