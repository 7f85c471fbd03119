//! Simulated sensors in processes of their own, to be killed as the power kills.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use posthouse_protocol::id::{Curve, DeviceId, Version};
use posthouse_protocol::key::SigningKey;
use posthouse_protocol::sensor::Hello;
use tokio::process::{Child, Command};
use tokio::time::timeout;

use super::site::{PRODUCT, VERSION, release_key};

/// The child's arguments, one a line.
pub(crate) const CHILD: &str = "POSTHOUSE_TEST_SENSOR";
/// No test waits longer for a sensor.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// A sensor's files, and how to start it.
pub(crate) struct Sensor {
    dir: PathBuf,
    key: SigningKey,
}

impl Sensor {
    pub(crate) fn new(dir: &Path, seed: u8, carrier: &str, gateway: SocketAddr, more: &str) -> Self {
        let dir = dir.join(format!("sensor-{seed}"));
        std::fs::create_dir(&dir).unwrap();
        let curve = if seed.is_multiple_of(2) { Curve::Secp256k1 } else { Curve::P256 };
        let key = SigningKey::from_bytes(curve, &[seed; 32]).unwrap();
        let sensor = Self { dir, key };
        sensor.write_key();
        sensor.configure(carrier, gateway, more);
        std::fs::write(sensor.slot(), b"factory image").unwrap();
        sensor
    }

    /// Writes its configuration.
    pub(crate) fn configure(&self, carrier: &str, gateway: SocketAddr, more: &str) {
        let text = self.settings(carrier, gateway, self.key.curve()) + more;
        std::fs::write(self.config(), text).unwrap();
    }

    fn write_key(&self) {
        use std::os::unix::fs::PermissionsExt as _;
        let path = self.dir.join("key");
        std::fs::write(&path, self.key.to_bytes().map(|byte| format!("{byte:02x}")).concat()).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
    }

    fn settings(&self, carrier: &str, gateway: SocketAddr, curve: Curve) -> String {
        let hex = |bytes: [u8; 16]| bytes.map(|byte| format!("{byte:02x}")).concat();
        let dir = self.dir.display();
        format!(
            "carrier = \"{carrier}\"\ngateway = \"{gateway}\"\ncurve = \"{curve}\"\n\
             key_file = \"{dir}/key\"\nstate_dir = \"{dir}/state\"\nslot_file = \"{dir}/slot\"\n\
             release_key = \"{}\"\nvendor_id = \"{}\"\nclass_id = \"{}\"\n\
             wake_ms = 50\nawake_ms = 200\nblock_timeout_ms = 500\ncheckpoint = 4096\ninstalled = 1\n",
            release_key().release_key(),
            hex(PRODUCT.vendor_id()),
            hex(PRODUCT.class_id()),
        )
    }

    pub(crate) fn device(&self) -> DeviceId {
        self.key.device_key().device_id()
    }

    pub(crate) fn hello(&self) -> Hello {
        let (key, curve) = (self.key.device_key(), self.key.curve());
        Hello { v: 1, key, curve, product: PRODUCT, installed: Version::new(1), slot: 1 << 20, wake: 1 }
    }

    pub(crate) fn slot(&self) -> PathBuf {
        self.dir.join("slot")
    }

    /// What has been fetched so far, in bytes.
    pub(crate) fn fetched(&self) -> u64 {
        std::fs::metadata(self.dir.join("slot.spare")).map_or(0, |spare| spare.len())
    }

    /// Powers up, until the version runs.
    pub(crate) fn power_up(&self) -> Child {
        let config = self.config();
        let until = VERSION.to_string();
        let arguments = ["sim", "run", "--config", config.to_str().unwrap(), "--until", &until];
        child(&arguments).stdout(Stdio::null()).spawn().unwrap()
    }

    /// Its configuration.
    pub(crate) fn config(&self) -> PathBuf {
        self.dir.join("sim.toml")
    }
}

/// The simulator with these arguments, as a child that ends with its owner.
pub(crate) fn child(arguments: &[&str]) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    let only = ["--exact", "child_sensor", "--nocapture"];
    command.args(only).env(CHILD, arguments.join("\n")).kill_on_drop(true);
    command
}

/// Waits until a sensor ends by itself, well.
pub(crate) async fn finished(mut child: Child) {
    let status = timeout(PATIENCE, child.wait()).await.expect("a sensor finishes in time").unwrap();
    assert!(status.success(), "{status}");
}

/// Kills with SIGKILL once the sensor has fetched so many bytes.
pub(crate) async fn cut_power(sensor: &Sensor, mut child: Child, bytes: u64) {
    let reached = async {
        while sensor.fetched() < bytes {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    timeout(PATIENCE, reached).await.expect("a sensor fetches in time");
    child.kill().await.unwrap();
}
