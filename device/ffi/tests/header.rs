//! The header that is kept is the one that cbindgen makes now, and firmware in C lives a whole round with it.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::{
    path::{Path, PathBuf},
    process::Command,
};

const HEADER: &str = "include/posthouse_device.h";

fn here() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// `POSTHOUSE_WRITE_HEADER=1 cargo test -p posthouse-device-c --test header` writes it anew.
#[test]
fn the_header_is_the_sources() {
    let made = cbindgen::Builder::new()
        .with_config(cbindgen::Config::from_file(here().join("cbindgen.toml")).unwrap())
        .with_src(here().join("src/lib.rs"))
        .generate()
        .unwrap();
    let mut header = Vec::new();
    made.write(&mut header);
    let path = here().join(HEADER);
    if std::env::var_os("POSTHOUSE_WRITE_HEADER").is_some() {
        std::fs::write(&path, &header).unwrap();
    }
    assert_eq!(String::from_utf8(header).unwrap(), std::fs::read_to_string(path).unwrap());
}

/// The static library that cargo made for this test: beside it, under a name with a hash, of which the newest is of the
/// sources as they are.
fn library() -> PathBuf {
    let test = std::env::current_exe().unwrap();
    let libraries = std::fs::read_dir(test.parent().unwrap()).unwrap().flatten().filter(|entry| {
        let name = entry.file_name().into_string().unwrap_or_default();
        name.starts_with("libposthouse_device_c") && name.ends_with(".a")
    });
    libraries.max_by_key(|entry| entry.metadata().unwrap().modified().unwrap()).unwrap().path()
}

/// Builds a program in C with the library, in `folder`.
fn built(source: &str, folder: &Path) -> PathBuf {
    let program = folder.join("program");
    let compiler = std::env::var_os("CC").unwrap_or_else(|| "cc".into());
    let status = Command::new(compiler)
        .args(["-std=c11", "-Wall", "-Wextra", "-Wpedantic", "-Werror", "-I"])
        .arg(here().join("include"))
        .arg(here().join(source))
        .arg(library())
        .args(["-lpthread", "-ldl", "-lm", "-o"])
        .arg(&program)
        .status()
        .unwrap();
    assert!(status.success(), "{source}: {status}");
    program
}

#[test]
fn firmware_in_c_lives_a_round() {
    let folder = tempfile::tempdir().unwrap();
    let program = built("tests/round.c", folder.path());
    let played = Command::new(&program).arg(here().join("../testdata")).output().unwrap();
    assert!(played.status.success(), "{}", String::from_utf8_lossy(&played.stderr));
}

/// What the guide begins a port from, as far as it goes without a gateway.
#[test]
fn the_example_builds_and_keeps_its_key() {
    let folder = tempfile::tempdir().unwrap();
    let program = built("examples/linux.c", folder.path());
    let key = || Command::new(&program).arg(folder.path()).output().unwrap().stdout;
    let first = String::from_utf8(key()).unwrap();
    assert!(first.starts_with("02") || first.starts_with("03"), "{first}");
    assert_eq!((first.len(), first.as_bytes()), (67, key().as_slice()));
}
