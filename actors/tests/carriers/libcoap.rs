//! libcoap's clients, which share no line with us, fetch what is staged: without TLS, with GnuTLS's and with OpenSSL's DTLS.

use std::ffi::OsStr;
use std::path::Path;
use std::time::Duration;

use tokio::process::Command;
use tokio::time::timeout;

use super::served::{IDENTITY, SECRET, Served, Watching};

const MIB: usize = 1 << 20;

/// Which of the three: where DTLS is, they have the key.
pub(crate) const CLIENTS: [&str; 3] = ["coap-client-notls", "coap-client-gnutls", "coap-client-openssl"];

pub(crate) fn with_key<'a>(client: &str, more: &[&'a str]) -> Vec<&'a OsStr> {
    let key = ["-u", IDENTITY, "-k", SECRET];
    let key = if client.ends_with("notls") { &[][..] } else { &key[..] };
    key.iter().chain(more).map(|argument| OsStr::new(*argument)).collect()
}

/// Fetches an image of so many bytes in blocks of so many.
pub(crate) async fn fetch(client: &str, len: usize, block: u16, max_szx: u8, more: &[&str]) {
    let Some(program) = super::find(client) else { return };
    let served = Served::start(len, max_szx, !client.ends_with("notls")).await;
    let (url, out, block) = (served.image_url(), served.out(), block.to_string());
    let fixed = ["-B", "280", "-b", &block, "-o", out.to_str().unwrap()];
    let arguments: Vec<&str> = fixed.iter().chain(more).copied().chain([url.as_str()]).collect();
    served.fetches(&program, &with_key(client, &arguments)).await;
}

/// Observes the manifest while it changes.
async fn observe(client: &str) {
    let Some(program) = super::find(client) else { return };
    let served = Served::start(100, 6, !client.ends_with("notls")).await;
    served.hello().await;
    served.publish(b"the first".to_vec());
    let url = served.url(&format!("ph/manifest?d={}", served.device));
    let mut watching = Watching::start(&program, &with_key(client, &["-w", "-s", "60", "-B", "60", &url]));
    assert_eq!(watching.line().await, "the first");
    for round in 0..3 {
        let long = format!("{round}").repeat(1500);
        served.publish(long.clone().into_bytes());
        assert_eq!(watching.line().await, long, "in two blocks");
        served.publish(b"short".to_vec());
        assert_eq!(watching.line().await, "short");
    }
}

#[actix::test]
async fn an_image_in_large_blocks() {
    fetch(CLIENTS[0], MIB, 1024, 6, &[]).await;
}

#[actix::test]
async fn an_image_over_dtls_with_gnutls() {
    fetch(CLIENTS[1], MIB, 1024, 6, &[]).await;
}

#[actix::test]
async fn an_image_over_dtls_with_openssl() {
    fetch(CLIENTS[2], MIB, 1024, 6, &[]).await;
}

/// 6,250 blocks: coap-lite's own option ends at 4,095.
#[actix::test]
async fn an_image_of_more_than_4095_blocks() {
    fetch(CLIENTS[0], 400_000, 64, 6, &[]).await;
}

/// 65,626 blocks: more than 16 bits count.
#[actix::test]
async fn an_image_of_more_than_65535_blocks() {
    fetch(CLIENTS[0], 1_050_001, 16, 6, &[]).await;
}

/// The client asks for 1024 bytes at a time and is given 128: RFC 7959 §2.3.
#[actix::test]
async fn an_image_in_smaller_blocks_than_asked_for() {
    fetch(CLIENTS[0], 100_003, 1024, 3, &[]).await;
}

/// An image never changes: who would observe it is given it, and no more.
#[actix::test]
async fn an_image_that_is_observed() {
    fetch(CLIENTS[0], 100_003, 512, 6, &["-s", "1"]).await;
}

/// The third datagram that the client sends is lost, and repeated after its timeout.
#[actix::test]
async fn an_image_with_datagrams_lost() {
    fetch(CLIENTS[0], 20_000, 1024, 6, &["-l", "3"]).await;
}

#[actix::test]
async fn a_manifest_that_changes_is_observed() {
    observe(CLIENTS[0]).await;
}

#[actix::test]
async fn a_manifest_that_changes_is_observed_over_dtls() {
    observe(CLIENTS[1]).await;
    observe(CLIENTS[2]).await;
}

/// Output of the client without TLS.
async fn client(program: &Path, arguments: &[&str]) -> (String, String) {
    let running = Command::new(program).args(arguments).kill_on_drop(true).output();
    let output = timeout(Duration::from_secs(120), running).await.expect("the client ends").unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (text(&output.stdout), text(&output.stderr))
}

#[actix::test]
async fn discovery_and_errors() {
    let Some(program) = super::find(CLIENTS[0]) else { return };
    let served = Served::start(100, 6, false).await;
    let (links, _) = client(&program, &[&served.url(".well-known/core?rt=ph.*")]).await;
    assert!(links.contains("</ph/image>;rt=\"ph.image\""), "{links}");
    let unknown = format!("ph/image/{}", "00".repeat(32));
    for (path, code) in [(unknown.as_str(), "4.04"), ("ph/nothing", "4.04"), ("ph/hello", "4.05")] {
        let (_, errors) = client(&program, &[&served.url(path)]).await;
        assert!(errors.starts_with(code), "{path}: {errors}");
    }
}

/// A wrong key, or one that nobody knows, gets nothing at all.
#[actix::test]
async fn who_has_no_key_gets_nothing() {
    let Some(program) = super::find(CLIENTS[2]) else { return };
    let served = Served::start(100, 6, true).await;
    let url = served.url(".well-known/core");
    for (identity, secret) in [(IDENTITY, "0123456789abcdeX"), ("nobody", SECRET)] {
        let arguments = ["-B", "2", "-u", identity, "-k", secret, &url];
        let (links, _) = client(&program, &arguments).await;
        assert!(!links.contains("ph.image"), "{identity}: {links}");
    }
    let (links, _) = client(&program, &["-B", "60", "-u", IDENTITY, "-k", SECRET, &url]).await;
    assert!(links.contains("ph.image"), "{links}");
}

/// Its own device's resources, and no other's.
#[actix::test]
async fn a_key_is_one_devices() {
    let Some(program) = super::find(CLIENTS[1]) else { return };
    let served = Served::start(100, 6, true).await;
    served.hello().await;
    served.publish(b"mine".to_vec());
    let key = ["-B", "60", "-u", IDENTITY, "-k", SECRET];
    let ask = async |path: String| client(&program, &[&key[..], &[&served.url(&path)]].concat()).await;
    assert_eq!(ask("ph/manifest".into()).await.0.trim(), "mine", "whose it is needs no saying");
    assert_eq!(ask(format!("ph/manifest?d={}", served.device)).await.0.trim(), "mine");
    let (_, errors) = ask(format!("ph/manifest?d={}", "ab".repeat(16))).await;
    assert!(errors.starts_with("4.03"), "{errors}");
}
