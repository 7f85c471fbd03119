//! The power is cut at each thing that a sensor does to its files, from the factory's image to the report of the new one.
//!
//! A library that is loaded into the simulator (`power/cut.c`) counts them and ends it by SIGKILL at one: before it is done,
//! in the midst of it, or before it is done and with all forgotten that was not synced. Then the old image is in the slot or the
//! new one, and the sensor goes on to the new one. The gateway is grasping: the sensor is asked for as many receipts as it
//! ever gives and for one more, and after the cut for each of them with another lock first.

use std::fmt;
use std::fs::OpenOptions;
use std::net::SocketAddr;
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use futures::StreamExt as _;
use posthouse_protocol::device::MAX_ATTEMPTS;
use posthouse_protocol::id::DeviceId;
use posthouse_protocol::sensor::SignRequest;
use tokio::process::Child;
use tokio::time::timeout;

use super::fleet::{FACTORY, PATIENCE, Sensor};
use super::site::{Site, delegation};
use super::update::coap;

/// Twelve blocks and one that is not whole, with progress saved at every other.
const IMAGE: usize = 6_300;
const PACE: &str = "wake_ms = 10\nawake_ms = 40\nblock_timeout_ms = 2000\nblock = 512\ncheckpoint = 1024\n";
/// Sensors that live at a time: they mostly wait.
const AT_ONCE: usize = 8;
const SIGKILL: i32 = 9;

/// What becomes of the last operation, and of those before it.
#[derive(Debug, Clone, Copy)]
enum How {
    Clean,
    Torn,
    Lost,
}

/// Where the power is cut.
#[derive(Debug, Clone)]
struct Cut {
    /// The operation, from 1.
    at: usize,
    how: How,
    /// What it is, and to which file, as the sensor that was not cut off did it.
    what: String,
}

impl fmt::Display for Cut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { at, how, what } = self;
        write!(f, "{what}, {how:?} at {at}")
    }
}

/// The library that cuts, compiled; nothing if there is no compiler.
fn library(dir: &Path) -> Option<PathBuf> {
    let compiler = std::env::var_os("CC").unwrap_or_else(|| "cc".into());
    let library = dir.join("cut.so");
    let compiled = Command::new(&compiler)
        .args(["-std=c11", "-Wall", "-Wextra", "-Wpedantic", "-Werror", "-shared", "-fPIC", "-o"])
        .arg(&library)
        .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/carriers/power/cut.c"))
        .status();
    match compiled {
        Ok(status) => assert!(status.success(), "{compiler:?}: {status}"),
        Err(error) => {
            eprintln!("SKIPPED: no C compiler {compiler:?}: {error}");
            return None;
        }
    }
    Some(library)
}

/// A site, and what its sensors are cut with.
struct Bench {
    dir: tempfile::TempDir,
    library: PathBuf,
    site: Site,
    gateway: SocketAddr,
}

impl Bench {
    async fn new() -> Option<Self> {
        let dir = tempfile::tempdir().unwrap();
        let library = library(dir.path())?;
        let site = Site::start(dir.path(), IMAGE);
        let gateway = coap(&site).await;
        Some(Self { dir, library, site, gateway })
    }

    /// A sensor in whose spare slot is something longer than the image.
    fn sensor(&self, seed: usize) -> Sensor {
        let seed = u16::try_from(seed).unwrap();
        let sensor = Sensor::paced(self.dir.path(), seed, "coap", self.gateway, PACE, "");
        std::fs::write(sensor.dir().join("slot.spare"), [0xee; IMAGE + 1000]).unwrap();
        sensor
    }

    /// A file that belongs to a sensor, yet is none of its own.
    fn file(&self, sensor: &Sensor, kind: &str) -> PathBuf {
        self.dir.path().join(format!("{}.{kind}", sensor.device()))
    }

    /// Powers a sensor up, until it is killed.
    fn power_up(&self, sensor: &Sensor, cut: Option<&Cut>) -> Child {
        let mut program = sensor.program(&[]);
        program.env("LD_PRELOAD", &self.library);
        program.env("CUT_FOLDER", sensor.dir()).env("CUT_LOG", self.file(sensor, "log"));
        if let Some(Cut { at, how, .. }) = cut {
            program.env("CUT_AT", at.to_string()).env("CUT_HOW", format!("{how:?}").to_lowercase());
        }
        let said = OpenOptions::new().create(true).append(true).open(self.file(sensor, "said")).unwrap();
        program.stdout(said).spawn().unwrap()
    }

    /// What is asked of a sensor until it dies: as much as it ever signs, and one receipt more.
    fn asks(&self, lock: u8) -> Vec<SignRequest> {
        let receipts = (1..=MAX_ATTEMPTS + 1).map(|attempt| self.site.receipt(attempt, lock));
        [delegation(lock)].into_iter().chain(receipts).collect()
    }

    /// The same for another gateway and under another lock, and each of them as before if that is refused.
    fn asks_again(&self) -> Vec<SignRequest> {
        self.asks(2).into_iter().zip(self.asks(1)).flat_map(|(other, same)| [other, same]).collect()
    }

    /// Of the two of each number, one was signed; and of the number too many, none.
    fn assert_signed_once(&self, device: DeviceId, cut: &Cut) {
        let heard = self.site.heard.lock().unwrap();
        let signed = &heard.signed[&device];
        let count = |ask: &SignRequest| usize::from(signed.contains(&ask.digest()));
        let pairs = self.asks(1).into_iter().zip(self.asks(2));
        let counts: Vec<usize> = pairs.map(|(same, other)| count(&same) + count(&other)).collect();
        let (too_many, within) = counts.split_last().unwrap();
        assert!(within.iter().all(|count| *count == 1) && *too_many == 0, "{cut}: {counts:?}");
    }

    /// Waits until a sensor has answered all and runs the new image, and then kills it.
    async fn arrives(&self, sensor: &Sensor, mut child: Child, name: &str) {
        let done = self.site.hears(|heard| heard.is_done(sensor.device())).await;
        let said = || std::fs::read_to_string(self.file(sensor, "said")).unwrap();
        assert!(done, "{name}: {} asks left: {}", self.site.asks(sensor.device()), said());
        child.kill().await.unwrap();
        assert!(std::fs::read(sensor.slot()).unwrap() == self.site.firmware, "{name}");
    }

    /// Lives a whole update, and says what it did to its files.
    async fn uncut(&self) -> Vec<String> {
        let sensor = self.sensor(1);
        self.site.ask(sensor.device(), self.asks(1)).await;
        self.arrives(&sensor, self.power_up(&sensor, None), "whole").await;
        let log = std::fs::read_to_string(self.file(&sensor, "log")).unwrap();
        log.lines().map(str::to_owned).collect()
    }

    async fn cut_off(&self, seed: usize, cut: &Cut) {
        let sensor = self.sensor(seed);
        let device = sensor.device();
        self.site.ask(device, self.asks(1)).await;
        let mut child = self.power_up(&sensor, Some(cut));
        let ended = timeout(PATIENCE, child.wait()).await;
        let ended = ended.unwrap_or_else(|_| panic!("{cut}: not cut off")).unwrap();
        assert_eq!(ended.signal(), Some(SIGKILL), "{cut}: {ended}");
        let slot = std::fs::read(sensor.slot()).unwrap();
        assert!(
            slot == FACTORY || slot == self.site.firmware,
            "{cut}: {} bytes of neither image",
            slot.len()
        );

        self.site.ask(device, self.asks_again()).await;
        self.arrives(&sensor, self.power_up(&sensor, None), &cut.to_string()).await;
        self.assert_signed_once(device, cut);
    }
}

#[actix::test]
async fn the_power_is_cut_at_every_write_of_an_update() {
    let Some(bench) = Bench::new().await else { return };
    let operations = bench.uncut().await;
    let mut cuts = Vec::new();
    for (at, what) in (1..).zip(&operations) {
        let cut = |how| Cut { at, how, what: what.clone() };
        cuts.extend([cut(How::Clean), cut(How::Lost)]);
        cuts.extend(what.starts_with("write").then(|| cut(How::Torn)));
    }
    let writes = operations.iter().filter(|what| what.starts_with("write")).count();
    eprintln!("{} operations, {writes} of them writes: {} cuts", operations.len(), cuts.len());
    let lives = futures::stream::iter((2..).zip(&cuts));
    lives.for_each_concurrent(AT_ONCE, |(seed, cut)| bench.cut_off(seed, cut)).await;
}
