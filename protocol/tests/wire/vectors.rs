//! The pinned bytes in `testdata/`, one file a message: comments, CBOR in diagnostic notation, hex.
//!
//! `POSTHOUSE_WRITE_VECTORS=1 cargo test -p posthouse-protocol --test wire vectors` writes the files
//! that are not there. It never changes one: a vector whose bytes must change is deleted by hand
//! first, so that a drifting encoder cannot pin itself.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use coset::cbor::Value;

use crate::cases::{self, Case};
use crate::signatures;

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata")
}

fn file(case: &Case) -> PathBuf {
    folder().join(case.rule).join(format!("{}.hex", case.name))
}

/// The hex lines of a file, joined.
fn pinned(text: &str) -> Vec<u8> {
    let digits: String = text.lines().filter(|l| !l.starts_with('#')).collect();
    hex::decode(digits).unwrap()
}

fn render(case: &Case) -> String {
    let mut text = format!("# {} of posthouse.cddl, {} bytes\n", case.rule, case.bytes.len());
    writeln!(text, "# {}", diagnostic(&ciborium(&case.bytes))).unwrap();
    for line in case.bytes.chunks(32) {
        writeln!(text, "{}", hex::encode(line)).unwrap();
    }
    text
}

/// The bytes as another CBOR implementation reads them.
fn ciborium(bytes: &[u8]) -> Value {
    coset::cbor::from_reader(bytes).unwrap()
}

/// Diagnostic notation (RFC 8949, 8) of the kinds of items that our messages have.
fn diagnostic(value: &Value) -> String {
    let list = |items: Vec<String>| items.join(", ");
    match value {
        Value::Integer(n) => i128::from(*n).to_string(),
        Value::Bytes(bytes) => format!("h'{}'", hex::encode(bytes)),
        Value::Text(text) => format!("{text:?}"),
        Value::Null => "null".into(),
        Value::Tag(tag, inner) => format!("{tag}({})", diagnostic(inner)),
        Value::Array(items) => format!("[{}]", list(items.iter().map(diagnostic).collect())),
        Value::Map(entries) => {
            let entry = |(k, v): &(Value, Value)| format!("{}: {}", diagnostic(k), diagnostic(v));
            format!("{{{}}}", list(entries.iter().map(entry).collect()))
        }
        other => panic!("no message has {other:?}"),
    }
}

/// What is pinned under `path`; written first if it is not there and that was asked for.
fn at(path: &Path, text: impl FnOnce() -> String) -> String {
    if !path.exists() && std::env::var_os("POSTHOUSE_WRITE_VECTORS").is_some() {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text()).unwrap();
    }
    fs::read_to_string(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

#[test]
fn messages_encode_to_the_pinned_bytes() {
    for case in cases::all() {
        let path = file(case);
        let text = at(&path, || render(case));
        assert_eq!(hex::encode(pinned(&text)), hex::encode(&case.bytes), "{}", path.display());
        assert_eq!(text, render(case), "{}: comments have drifted", path.display());
    }
}

#[test]
fn pinned_bytes_decode_and_encode_to_themselves() {
    for case in cases::all() {
        let bytes = pinned(&fs::read_to_string(file(case)).unwrap());
        assert_eq!(cases::read(case.rule, &bytes).as_ref(), Ok(&bytes), "{}", file(case).display());
    }
}

#[test]
fn every_pinned_file_belongs_to_a_case() {
    let known: Vec<PathBuf> = cases::all().iter().map(file).collect();
    for rule in fs::read_dir(folder()).unwrap().map(|e| e.unwrap().path()).filter(|p| p.is_dir()) {
        for entry in fs::read_dir(rule).unwrap() {
            let path = entry.unwrap().path();
            assert!(known.contains(&path), "{} is of no case", path.display());
        }
    }
}

#[test]
fn digests_and_signatures_are_the_pinned_ones() {
    let path = folder().join("signatures.txt");
    assert_eq!(at(&path, signatures::render), signatures::render());
}
