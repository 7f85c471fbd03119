//! Other people's CoAP clients fetch an image of 1 MiB, byte for byte, at every size of block, and observe a manifest that
//! changes: libcoap's three, aiocoap, and npm's `coap`. `cargo ci --full` installs what they need; elsewhere
//! `POSTHOUSE_AIOCOAP` names a Python that has aiocoap, and `npm ci` is run in this folder.
#![allow(clippy::unwrap_used, clippy::print_stderr, reason = "tests")]

use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use self::served::{Served, Watching};

#[path = "../carriers/fleet.rs"]
#[allow(dead_code, reason = "shared with the carriers' tests")]
mod fleet;
#[path = "../carriers/libcoap.rs"]
#[allow(dead_code, reason = "shared with the carriers' tests")]
mod libcoap;
#[path = "../carriers/served.rs"]
#[allow(dead_code, reason = "shared with the carriers' tests")]
mod served;
#[path = "../carriers/site.rs"]
#[allow(dead_code, reason = "shared with the carriers' tests")]
mod site;

const MIB: usize = 1 << 20;
const SIZES: [u16; 7] = [16, 32, 64, 128, 256, 512, 1024];

/// Where a program is; this suite is run where all of them are.
fn find(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&path).map(|place| place.join(program)).find(|file| file.is_file());
    Some(found.unwrap_or_else(|| panic!("{program} is not on the path")))
}

fn here(file: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/coap-peers").join(file)
}

/// A client's program and its script.
fn aiocoap() -> (PathBuf, PathBuf) {
    let python =
        std::env::var_os("POSTHOUSE_AIOCOAP").expect("POSTHOUSE_AIOCOAP names a Python with aiocoap");
    (python.into(), here("fetch.py"))
}

fn npm() -> (PathBuf, PathBuf) {
    (find("node").unwrap(), here("fetch.mjs"))
}

async fn every_size((program, script): (PathBuf, PathBuf)) {
    for size in SIZES {
        let served = Served::start(MIB, 6, false).await;
        let (url, out, size) = (served.image_url(), served.out(), size.to_string());
        let arguments = [script.as_os_str(), OsStr::new(&url), OsStr::new(&size), out.as_os_str()];
        served.fetches(&program, &arguments).await;
    }
}

async fn observes((program, script): (PathBuf, PathBuf)) {
    let served = Served::start(100, 6, false).await;
    served.hello().await;
    served.publish(b"first".to_vec());
    let url = served.url(&format!("ph/manifest?d={}", served.device));
    let arguments =
        [script.as_os_str(), OsStr::new(&url), OsStr::new("64"), OsStr::new("-"), OsStr::new("3")];
    let mut watching = Watching::start(&program, &arguments);
    for next in ["second", "third", ""] {
        let line = watching.line().await;
        let text: Vec<u8> = line
            .as_bytes()
            .chunks(2)
            .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap())
            .collect();
        let told = String::from_utf8(text).unwrap();
        let expected = match next {
            "second" => "first",
            "third" => "second",
            _ => "third",
        };
        assert_eq!(told, expected);
        served.publish(next.as_bytes().to_vec());
    }
}

#[actix::test]
async fn libcoap_without_tls_at_every_size() {
    for size in SIZES {
        libcoap::fetch(libcoap::CLIENTS[0], MIB, size, 6, &[]).await;
    }
}

#[actix::test]
async fn libcoap_with_gnutls_at_every_size() {
    for size in SIZES {
        libcoap::fetch(libcoap::CLIENTS[1], MIB, size, 6, &[]).await;
    }
}

#[actix::test]
async fn libcoap_with_openssl_at_every_size() {
    for size in SIZES {
        libcoap::fetch(libcoap::CLIENTS[2], MIB, size, 6, &[]).await;
    }
}

#[actix::test]
async fn aiocoap_at_every_size() {
    every_size(aiocoap()).await;
}

#[actix::test]
async fn aiocoap_observes_a_manifest() {
    observes(aiocoap()).await;
}

#[actix::test]
async fn npm_coap_at_every_size() {
    every_size(npm()).await;
}

#[actix::test]
async fn npm_coap_observes_a_manifest() {
    observes(npm()).await;
}
