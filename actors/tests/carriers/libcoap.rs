//! libcoap's client, which shares no line with us, fetches what is staged.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::time::Duration;

use posthouse_actors::coap::{Coap, Config};
use posthouse_protocol::id::DeviceId;
use tokio::process::Command;
use tokio::time::timeout;

use super::site::Site;

async fn serve(dir: &Path, len: usize, max_szx: u8) -> (Site, SocketAddr) {
    let site = Site::start(dir, len);
    let config = Config { max_szx, ..Config::new((Ipv4Addr::LOCALHOST, 0).into()) };
    let (_, address) = Coap::start(config, &site.hub).await.unwrap();
    site.stage_for(DeviceId::new([1; 16]));
    (site, address)
}

/// Output of the client; nothing if it is not installed.
async fn client(arguments: &[&str]) -> Option<(Vec<u8>, String)> {
    let program = super::find("coap-client-notls")?;
    let running = Command::new(program).args(arguments).kill_on_drop(true).output();
    let output = timeout(Duration::from_secs(120), running).await.expect("the client ends").unwrap();
    Some((output.stdout, String::from_utf8_lossy(&output.stderr).into_owned()))
}

async fn fetch(len: usize, block: &str, max_szx: u8) {
    let dir = tempfile::tempdir().unwrap();
    let (site, address) = serve(dir.path(), len, max_szx).await;
    let url = format!("coap://{address}/ph/image/{}", site.u_id);
    let out = dir.path().join("fetched");
    let arguments = ["-B", "100", "-b", block, "-o", out.to_str().unwrap(), &url];
    let Some((_, errors)) = client(&arguments).await else { return };
    let fetched = std::fs::read(&out).unwrap_or_default();
    assert!(fetched == site.firmware, "{} of {len} bytes: {errors}", fetched.len());
}

#[actix::test]
async fn an_image_in_large_blocks() {
    fetch(1 << 20, "1024", 6).await;
}

/// 6,250 blocks: coap-lite's own option ends at 4,095.
#[actix::test]
async fn an_image_of_more_than_4095_blocks() {
    fetch(400_000, "64", 6).await;
}

/// 65,626 blocks: more than 16 bits count.
#[actix::test]
async fn an_image_of_more_than_65535_blocks() {
    fetch(1_050_001, "16", 6).await;
}

/// The client asks for 1024 bytes at a time and is given 128: RFC 7959 §2.3.
#[actix::test]
async fn an_image_in_smaller_blocks_than_asked_for() {
    fetch(100_003, "1024", 3).await;
}

#[actix::test]
async fn an_image_with_datagrams_lost() {
    let dir = tempfile::tempdir().unwrap();
    let (site, address) = serve(dir.path(), 20_000, 6).await;
    let url = format!("coap://{address}/ph/image/{}", site.u_id);
    let out = dir.path().join("fetched");
    // The third datagram that the client sends is lost, and repeated after its timeout.
    let arguments = ["-l", "3", "-b", "1024", "-o", out.to_str().unwrap(), &url];
    let Some((_, errors)) = client(&arguments).await else { return };
    assert!(std::fs::read(&out).unwrap_or_default() == site.firmware, "{errors}");
}

#[actix::test]
async fn discovery_and_errors() {
    let dir = tempfile::tempdir().unwrap();
    let (_site, address) = serve(dir.path(), 100, 6).await;
    let url = |path: &str| format!("coap://{address}/{path}");
    let Some((links, _)) = client(&[&url(".well-known/core?rt=ph.*")]).await else { return };
    let links = String::from_utf8(links).unwrap();
    assert!(links.contains("</ph/image>;rt=\"ph.image\""), "{links}");
    let unknown = url(&format!("ph/image/{}", "00".repeat(32)));
    for (path, code) in [(unknown, "4.04"), (url("ph/nothing"), "4.04"), (url("ph/hello"), "4.")] {
        let (_, errors) = client(&[&path]).await.unwrap();
        assert!(errors.starts_with(code), "{path}: {errors}");
    }
}
