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

/// What runs when a sensor comes from the factory.
pub(crate) const FACTORY: &[u8] = b"factory image";
/// How long sensors sleep and wait, if it is not said otherwise, and how often they save how far they are.
const PACE: &str = "wake_ms = 50\nawake_ms = 200\nblock_timeout_ms = 500\ncheckpoint = 4096\n";

/// A sensor's files, and how to start it.
pub(crate) struct Sensor {
    dir: PathBuf,
    key: SigningKey,
    pace: &'static str,
}

impl Sensor {
    pub(crate) fn new(dir: &Path, seed: u16, carrier: &str, gateway: SocketAddr, more: &str) -> Self {
        Self::paced(dir, seed, carrier, gateway, PACE, more)
    }

    /// One that has its own [`PACE`].
    pub(crate) fn paced(
        dir: &Path,
        seed: u16,
        carrier: &str,
        gateway: SocketAddr,
        pace: &'static str,
        more: &str,
    ) -> Self {
        let dir = dir.join(format!("sensor-{seed}"));
        std::fs::create_dir(&dir).unwrap();
        let curve = if seed.is_multiple_of(2) { Curve::Secp256k1 } else { Curve::P256 };
        let scalar = seed.to_be_bytes().repeat(16);
        let key = SigningKey::from_bytes(curve, scalar.first_chunk().unwrap()).unwrap();
        let sensor = Self { dir, key, pace };
        sensor.write_key();
        sensor.configure(carrier, gateway, more);
        std::fs::write(sensor.slot(), FACTORY).unwrap();
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
             installed = 1\n{}",
            release_key().release_key(),
            hex(PRODUCT.vendor_id()),
            hex(PRODUCT.class_id()),
            self.pace,
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

    /// Where its files are.
    pub(crate) fn dir(&self) -> &Path {
        &self.dir
    }

    /// What has been fetched so far, in bytes.
    pub(crate) fn fetched(&self) -> u64 {
        std::fs::metadata(self.dir.join("slot.spare")).map_or(0, |spare| spare.len())
    }

    /// Powers up, until the version runs.
    pub(crate) fn power_up(&self) -> Child {
        self.program(&["--until", &VERSION.to_string()]).spawn().unwrap()
    }

    /// The sensor as a program, with these options; nobody hears what it says.
    pub(crate) fn program(&self, options: &[&str]) -> Command {
        let config = self.config();
        let arguments = ["sim", "run", "--config", config.to_str().unwrap()];
        let mut command = child(&[&arguments, options].concat());
        command.stdout(Stdio::null());
        command
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
