//! A site with a CoAP endpoint, and other people's clients that speak to it.

use std::ffi::OsStr;
use std::net::{Ipv4Addr, SocketAddr};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use bytes::Bytes;
use posthouse_actors::coap::{Coap, Config, Keys, SessionLimits};
use posthouse_actors::messages::{Carrier, Intent, SetIntent};
use posthouse_actors::sensors::{Link, Up, Uplink};
use posthouse_protocol::id::{Curve, DeviceId, Version};
use posthouse_protocol::key::SigningKey;
use posthouse_protocol::sensor::{Hello, VERSION};
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::{Child, Command};
use tokio::time::timeout;

use super::site::{PRODUCT, Site};

/// No client takes longer, at 16 bytes a block over DTLS either.
const PATIENCE: Duration = Duration::from_secs(300);
/// Identity and key that the endpoint over DTLS takes.
pub(crate) const IDENTITY: &str = "sensor-1";
pub(crate) const SECRET: &str = "0123456789abcdef";

/// A site whose image is staged for one device.
pub(crate) struct Served {
    pub(crate) site: Site,
    pub(crate) address: SocketAddr,
    pub(crate) device: DeviceId,
    hello: Hello,
    dtls: bool,
    dir: tempfile::TempDir,
}

fn keys(dir: &Path, device: DeviceId) -> Keys {
    let path = dir.join("keys");
    let digits: String = SECRET.bytes().map(|byte| format!("{byte:02x}")).collect();
    std::fs::write(&path, format!("{IDENTITY} {device} {digits}\n")).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
    Keys::load(&path).unwrap()
}

impl Served {
    /// An image of so many bytes, in blocks of at most `16 << max_szx`.
    pub(crate) async fn start(len: usize, max_szx: u8, dtls: bool) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let site = Site::start(dir.path(), len);
        let key = SigningKey::from_bytes(Curve::P256, &[9; 32]).unwrap().device_key();
        let hello = Hello {
            v: VERSION,
            key,
            curve: Curve::P256,
            product: PRODUCT,
            installed: Version::new(2),
            slot: 1 << 24,
            wake: 60,
        };
        let device = key.device_id();
        let sessions = dtls.then(|| (keys(dir.path(), device), SessionLimits::default()));
        let config = Config { max_szx, dtls: sessions, ..Config::new((Ipv4Addr::LOCALHOST, 0).into()) };
        let (_, address) = Coap::start(config, &site.hub).await.unwrap();
        site.stage_for(device);
        Self { site, address, device, hello, dtls, dir }
    }

    pub(crate) fn url(&self, path: &str) -> String {
        let scheme = if self.dtls { "coaps" } else { "coap" };
        format!("{scheme}://{}/{path}", self.address)
    }

    pub(crate) fn image_url(&self) -> String {
        self.url(&format!("ph/image/{}", self.site.u_id))
    }

    /// The device says hello, as it would over this endpoint.
    pub(crate) async fn hello(&self) {
        let link = Link { carrier: Carrier::Coap, authenticated: self.dtls, live: true };
        self.site.hub.send(Uplink { device: self.device, link, up: Up::Hello(self.hello) }).await.unwrap();
    }

    /// What the device's manifest is from now on.
    pub(crate) fn publish(&self, manifest: Vec<u8>) {
        let manifest = Some(Bytes::from(manifest));
        let intent = Intent { manifest, ..Intent::default() };
        self.site.hub.do_send(SetIntent { device: self.device, intent });
    }

    /// Where a client writes to, which is not there yet.
    pub(crate) fn out(&self) -> PathBuf {
        self.dir.path().join("fetched")
    }

    /// Runs a client to its end, and holds what it wrote against the image.
    pub(crate) async fn fetches(&self, program: &Path, arguments: &[&OsStr]) {
        let running = Command::new(program).args(arguments).kill_on_drop(true).output();
        let output = timeout(PATIENCE, running).await.expect("the client ends").unwrap();
        let fetched = std::fs::read(self.out()).unwrap_or_default();
        assert!(
            fetched == self.site.firmware,
            "{program:?} {arguments:?}: {} of {} bytes: {}",
            fetched.len(),
            self.site.firmware.len(),
            String::from_utf8_lossy(&output.stderr)
        );
    }
}

/// A client that goes on, and what it prints, line by line.
pub(crate) struct Watching {
    _child: Child,
    lines: tokio::io::Lines<BufReader<tokio::process::ChildStdout>>,
}

impl Watching {
    pub(crate) fn start(program: &Path, arguments: &[&OsStr]) -> Self {
        let mut child = Command::new(program)
            .args(arguments)
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        Self { _child: child, lines }
    }

    pub(crate) async fn line(&mut self) -> String {
        let line = timeout(Duration::from_secs(60), self.lines.next_line());
        line.await.expect("the client prints").unwrap().expect("the client runs")
    }
}
