//! Other people's MQTT clients play a sensor at mosquitto as `packaging/mosquitto` configures it, and fetch an image of 1 MiB,
//! byte for byte: mosquitto_pub and mosquitto_sub in a shell script, and paho-mqtt over both versions of MQTT. `cargo ci
//! --full` installs what they need; elsewhere `POSTHOUSE_PAHO` names a Python that has paho-mqtt and cbor2.
#![allow(clippy::unwrap_used, clippy::print_stderr, reason = "tests")]

use std::path::{Path, PathBuf};
use std::time::Duration;

use posthouse_protocol::id::{Curve, DeviceId, Version};
use posthouse_protocol::key::SigningKey;
use posthouse_protocol::sensor::{Hello, VERSION};
use tokio::process::{Child, Command};
use tokio::time::timeout;

use self::broker::GATEWAY;
use self::site::{PRODUCT, Site};

#[path = "../carriers/broker.rs"]
#[allow(dead_code, reason = "shared with the carriers' tests")]
mod broker;
#[path = "../carriers/fleet.rs"]
#[allow(dead_code, reason = "shared with the carriers' tests")]
mod fleet;
#[path = "../carriers/site.rs"]
#[allow(dead_code, reason = "shared with the carriers' tests")]
mod site;

const MIB: usize = 1 << 20;
/// No client takes longer.
const PATIENCE: Duration = Duration::from_secs(300);
/// A line of the packaged configuration, which gives all connections under one certificate one session.
const ONE_SESSION: &str = "use_username_as_clientid true\n";

/// Where a program is; this suite is run where all of them are.
fn find(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut places: Vec<_> = std::env::split_paths(&path).collect();
    places.push("/usr/sbin".into());
    let found = places.iter().map(|place| place.join(program)).find(|file| file.is_file());
    Some(found.unwrap_or_else(|| panic!("{program} is in none of {places:?}")))
}

/// A site whose image is for one sensor, whose part somebody else plays.
struct Stage {
    dir: tempfile::TempDir,
    site: Site,
    _broker: Child,
    port: u16,
    device: DeviceId,
    hello: Hello,
}

impl Stage {
    /// `but_for`: a line that the broker's configuration does without.
    async fn new(but_for: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let tls = dir.path().join("tls");
        std::fs::create_dir(&tls).unwrap();
        let key = SigningKey::from_bytes(Curve::P256, &[9; 32]).unwrap().device_key();
        let installed = Version::new(1);
        let hello = Hello {
            v: VERSION,
            key,
            curve: Curve::P256,
            product: PRODUCT,
            installed,
            slot: 1 << 21,
            wake: 60,
        };
        let device = key.device_id();
        let users = [GATEWAY.into(), device.to_string()];
        let (broker, address) = broker::mosquitto_but_for(&tls, &users, but_for).await.unwrap();
        let site = Site::start(dir.path(), MIB);
        site.ask(device, []).await;
        broker::gateway_with_tls(&site, &tls, address, Vec::new());
        Self { dir, site, _broker: broker, port: address.port(), device, hello }
    }

    /// Runs a program of this folder to its end, and holds what it fetched against the image.
    async fn plays(&self, interpreter: &Path, script: &str, more: &[&str]) {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/mqtt-peers").join(script);
        let out = self.dir.path().join("fetched");
        let hello = self.hello.to_vec().iter().map(|byte| format!("{byte:02x}")).collect::<String>();
        let running = Command::new(interpreter)
            .arg(&script)
            .arg(self.port.to_string())
            .arg(self.dir.path().join("tls"))
            .args([self.device.to_string(), hello, MIB.to_string()])
            .arg(&out)
            .args(more)
            .kill_on_drop(true)
            .output();
        let output = timeout(PATIENCE, running).await.expect("the sensor ends").unwrap();
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{script:?}: {errors}");
        let fetched = std::fs::read(out).unwrap();
        assert!(fetched == self.site.firmware, "{} of {MIB} bytes: {errors}", fetched.len());
        assert_eq!(self.site.heard.lock().unwrap().hellos[&self.device].slot, self.hello.slot);
    }
}

fn python() -> PathBuf {
    std::env::var_os("POSTHOUSE_PAHO").expect("POSTHOUSE_PAHO names a Python with paho-mqtt").into()
}

/// Two clients, which cannot have one session.
#[actix::test]
async fn mosquitto_pub_and_sub_fetch_an_image() {
    let stage = Stage::new(ONE_SESSION).await;
    stage.plays(Path::new("/bin/sh"), "fetch.sh", &[]).await;
}

#[actix::test]
async fn paho_fetches_an_image() {
    for version in ["311", "5"] {
        let stage = Stage::new("").await;
        stage.plays(&python(), "fetch.py", &[version]).await;
    }
}
