//! Prints what a fleet of a million devices costs, one `name value unit` a line. Run it by `cargo xtask figures gas`.
//!
//! - `enrol_1e6_s`: `posthouse-vendor enrol` of a list of a million secp256k1 keys, from its start to its end.
//! - `enrol_peak_MiB`: the most memory that it had resident (`VmHWM`).
//! - `enrol_p256_1e6_s`, `enrol_p256_peak_MiB`: the same with P-256 keys.
//! - `package_1e6_MiB`: the fleet file, which is what the package grows by; and `index_1e6_MiB`, which does not travel.
//! - `path_us`: a device's index by its key and its path, average over many devices at random, the files open.
//! - `distributor_1e6_peak_MiB`, `distributor_1e6_MiB`: what a whole `posthouse-distributor run` had resident at most until it had
//!   joined the bounty of that fleet, and what it has resident then (`VmRSS`); `distributor_1e6_join_s`: how long that took. Chain,
//!   vendor and distributor are on this machine; the distributor believes its endpoint, as the chain has no beacon here.
//!
//! The keys are real, of secrets that are hashes of their numbers; to make them takes longer than to enrol them.
#![allow(clippy::print_stdout, reason = "its output is what it is for")]

use std::ffi::OsString;
use std::fs::{self, File};
use std::hint::black_box;
use std::io::{BufRead as _, BufReader, BufWriter, Write as _};
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use posthouse_contracts::fleet::{Fleet, FleetReader, leaf, verify};
use posthouse_devchain::DevChain;
use posthouse_market::secret_file;
use posthouse_protocol::id::{Curve, DeviceKey};
use posthouse_protocol::key::SigningKey;
use serde_json::Value;
use sha2::{Digest as _, Sha256};
use tempfile::TempDir;

const MILLION: u32 = 1_000_000;
/// Devices that are looked up, at random.
const LOOK_UPS: usize = 100_000;
/// The first argument of a run that is the vendor's program, or the distributor's.
const VENDOR: &str = "vendor";
const DISTRIBUTOR: &str = "distributor";
/// What is waited for comes before this, or something is wrong.
const PATIENCE: Duration = Duration::from_secs(900);

fn main() -> Result<ExitCode> {
    let mut args = std::env::args_os().skip(1);
    match args.next() {
        Some(first) if first == VENDOR => vendor(args),
        Some(first) if first == DISTRIBUTOR => {
            Ok(posthouse_market::distributor::main(named(DISTRIBUTOR, args)))
        }
        _ => measure().map(|()| ExitCode::SUCCESS),
    }
}

fn named(role: &str, args: impl Iterator<Item = OsString>) -> impl Iterator<Item = OsString> {
    [OsString::from(format!("posthouse-{role}"))].into_iter().chain(args)
}

/// Is the vendor's program, and then says how much memory it had.
fn vendor(args: impl Iterator<Item = OsString>) -> Result<ExitCode> {
    let code = posthouse_market::vendor::main(named(VENDOR, args));
    let status = fs::read_to_string("/proc/self/status")?;
    println!("{}", status.lines().find(|line| line.starts_with("VmHWM")).unwrap_or_default());
    Ok(code)
}

fn measure() -> Result<()> {
    let p256 = Site::new(Curve::P256, "http://127.0.0.1:8545")?;
    let (seconds, peak) = p256.enrol()?;
    print("enrol_p256_1e6_s", format!("{seconds:.1}"), "s");
    print("enrol_p256_peak_MiB", peak.div_ceil(1024), "MiB");
    drop(p256);

    let chain = DevChain::start(posthouse_devchain::Config {
        block_time: Some(Duration::from_millis(200)),
        ..Default::default()
    })?;
    let site = Site::new(Curve::Secp256k1, chain.url())?;
    let (seconds, peak) = site.enrol()?;
    print("enrol_1e6_s", format!("{seconds:.1}"), "s");
    print("enrol_peak_MiB", peak.div_ceil(1024), "MiB");
    let fleet = site.path("vendor/fleet");
    for (name, file) in [("package_1e6_MiB", fleet.clone()), ("index_1e6_MiB", fleet.with_extension("index"))]
    {
        print(name, format!("{:.1}", fs::metadata(file)?.len() as f64 / f64::from(1 << 20)), "MiB");
    }
    print("path_us", format!("{:.1}", look_up(&fleet)?), "us");
    site.serve(&chain)
}

/// A folder with the settings of a vendor and of a distributor.
struct Site {
    folder: TempDir,
    curve: Curve,
    rpc: String,
}

impl Site {
    fn new(curve: Curve, rpc: &str) -> Result<Self> {
        let site = Self { folder: tempfile::tempdir()?, curve, rpc: rpc.into() };
        fs::write(site.path("vendor.toml"), settings(curve, rpc))?;
        Ok(site)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn command(&self, role: &str, args: &[&str]) -> Result<Command> {
        let mut command = Command::new(std::env::current_exe()?);
        command
            .env("RUST_LOG", "error")
            .args([role, "--json", "--config"])
            .arg(self.path(&format!("{role}.toml")))
            .args(args);
        Ok(command)
    }

    /// Runs to the end, which must be a good one; gives what it said.
    fn runs(&self, role: &str, args: &[&str]) -> Result<String> {
        let output = self.command(role, args)?.output()?;
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "{role} {args:?}: {:?}: {said}", output.status.signal());
        Ok(String::from_utf8(output.stdout)?)
    }

    /// The first line that it said, as JSON.
    fn tells(&self, role: &str, args: &[&str]) -> Result<Value> {
        let told = self.runs(role, args)?;
        Ok(serde_json::from_str(told.lines().next().unwrap_or_default())?)
    }

    /// A program that runs until it is dropped, and the first line that it says.
    fn starts(&self, role: &str, args: &[&str]) -> Result<(Running, Value)> {
        let running = Running::start(self.command(role, args)?)?;
        let ready = running.says()?;
        Ok((running, ready))
    }

    /// Seconds, and KiB that the program had resident at most.
    fn enrol(&self) -> Result<(f64, u64)> {
        let list = self.path("devices");
        write_list(&list, self.curve)?;
        let begun = Instant::now();
        let told = self.runs(VENDOR, &["enrol", list.to_str().context("a path in UTF-8")?])?;
        let seconds = begun.elapsed().as_secs_f64();
        ensure!(told.contains(&format!("\"devices\":{MILLION}")), "{told}");
        Ok((seconds, kib(&told, "VmHWM")?))
    }

    /// Publishes to the fleet, and has a distributor join.
    fn serve(&self, chain: &DevChain) -> Result<()> {
        for (name, account) in [("vendor.key", 0), ("distributor.key", 1)] {
            secret_file::create(&self.path(name), &chain.accounts()[account].to_bytes().0)?;
        }
        let vendor = self.tells(VENDOR, &["keygen"])?;
        self.runs(VENDOR, &["deploy", "--with-deployer", "--yes"])?;
        self.runs(VENDOR, &["setup"])?;
        let image = self.path("image");
        fs::write(&image, vec![7; 1 << 20])?;
        self.runs(VENDOR, &["publish", "--yes", image.to_str().context("a path in UTF-8")?])?;
        let (_seeder, ready) = self.starts(VENDOR, &["seed"])?;
        let text = |value: &Value| value.as_str().map(str::to_owned).context("a text");
        let peer = text(&ready["addresses"][0])?;
        let (address, release_key) = (text(&vendor["ethereum_address"])?, text(&vendor["release_key"])?);
        let settings = sells(&self.rpc, &peer, &address, &release_key);
        fs::write(self.path("distributor.toml"), settings)?;
        self.runs(DISTRIBUTOR, &["keygen"])?;

        let begun = Instant::now();
        let (distributor, _) = self.starts(DISTRIBUTOR, &["run"])?;
        let joined = distributor.says().context("the distributor has not joined")?;
        ensure!(joined["joined"].is_string(), "{joined}");
        let seconds = begun.elapsed().as_secs_f64();
        let status = fs::read_to_string(format!("/proc/{}/status", distributor.child.id()))?;
        print("distributor_1e6_join_s", format!("{seconds:.1}"), "s");
        print("distributor_1e6_peak_MiB", kib(&status, "VmHWM")?.div_ceil(1024), "MiB");
        print("distributor_1e6_MiB", kib(&status, "VmRSS")?.div_ceil(1024), "MiB");
        Ok(())
    }
}

/// A program that ends with this.
struct Running {
    child: Child,
    /// The lines that it says.
    said: Receiver<String>,
}

impl Running {
    fn start(mut command: Command) -> Result<Self> {
        let mut child = command.stdout(Stdio::piped()).spawn()?;
        let (sender, said) = channel();
        let out = BufReader::new(child.stdout.take().context("its output")?);
        // Until the program ends, or nobody listens any more.
        thread::spawn(move || out.lines().map_while(Result::ok).try_for_each(|line| sender.send(line)));
        Ok(Self { child, said })
    }

    /// The next line that it says, as JSON.
    fn says(&self) -> Result<Value> {
        let line = self.said.recv_timeout(PATIENCE).context("it says nothing, or has ended")?;
        serde_json::from_str(&line).context(line)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // One that has ended needs no more.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The product of both settings.
const PRODUCT: [&str; 2] = ["fa6b4a53-d5ad-5fdf-be9d-e663e4d41ffe", "1492af14-2569-5e48-bf42-9b2d51f2ab45"];

fn settings(curve: Curve, rpc: &str) -> String {
    let [vendor_id, class_id] = PRODUCT;
    format!(
        "state_dir = \"vendor\"
         [product]\nvendor_id = \"{vendor_id}\"\nclass_id = \"{class_id}\"\ncurve = \"{curve}\"
         [keys]\nethereum = \"vendor.key\"\nrelease = \"release.key\"\npeer = \"peer.key\"
         [chain]\nid = 31337\nrpc = [\"{rpc}\"]\npoll_ms = 50
         [dsn]\nlisten = [\"/ip4/127.0.0.1/tcp/0\"]\nfleet = \"figures\"
         [publish]\nshare = \"1 gwei\"\n"
    )
}

fn sells(rpc: &str, peer: &str, address: &str, release_key: &str) -> String {
    let [vendor_id, class_id] = PRODUCT;
    format!(
        "state_dir = \"distributor\"
         [keys]\nethereum = \"distributor.key\"\npeer = \"distributor-peer.key\"
         [chain]\nid = 31337\ntrust = \"rpc\"\nrpc = [\"{rpc}\"]\npoll_ms = 200
         [dsn]\nlisten = [\"/ip4/127.0.0.1/tcp/0\"]\nfleet = \"figures\"\nbootstrap = [\"{peer}\"]
         [[vendors]]\naddress = \"{address}\"\nrelease_key = \"{release_key}\"\npeers = [\"{peer}\"]
         products = [{{ vendor_id = \"{vendor_id}\", class_id = \"{class_id}\" }}]\n"
    )
}

/// A line of a process's status.
fn kib(status: &str, name: &str) -> Result<u64> {
    let line = |line: &str| {
        Some(line.strip_prefix(name)?.strip_prefix(':')?.trim().strip_suffix(" kB")?.trim().parse())
    };
    Ok(status.lines().find_map(line).with_context(|| format!("no {name}"))??)
}

/// The keys, in two halves, as many as there usually are cores to make them.
fn write_list(path: &Path, curve: Curve) -> Result<()> {
    let mut list = BufWriter::new(File::create(path)?);
    let half = MILLION / 2;
    thread::scope(|scope| {
        let halves = [0..half, half..MILLION]
            .map(|numbers| scope.spawn(move || numbers.map(|number| key(curve, number)).collect()));
        for keys in halves {
            let keys: Vec<DeviceKey> = keys.join().expect("no key is out of range");
            keys.iter().try_for_each(|key| writeln!(list, "{key}"))?;
        }
        Ok(list.flush()?)
    })
}

fn key(curve: Curve, number: u32) -> DeviceKey {
    let secret = Sha256::digest(number.to_be_bytes()).into();
    SigningKey::from_bytes(curve, &secret).expect("a hash is in range").device_key()
}

/// Microseconds for a device's index and path. What is found is verified, outside of the time.
fn look_up(path: &Path) -> Result<f64> {
    let keys: Vec<_> = FleetReader::new(BufReader::new(File::open(path)?))?.collect::<Result<_, _>>()?;
    let fleet = Fleet::open(path, None, &mut |_, _| {})?;
    // Visits any number of places in no order: the step and the size have no divisor in common.
    let places = (0..LOOK_UPS).map(|n| n * 618_033 % keys.len());
    let wanted: Vec<DeviceKey> = places.map(|place| keys[place]).collect();
    for key in &wanted[..100] {
        let index = fleet.index_of(key)?.context("a device is not found")?;
        let (leaf, path) = (leaf(Curve::Secp256k1, key, index)?, fleet.path(index)?);
        verify(&fleet.root(), fleet.depth(), fleet.size(), index, leaf, &path)?;
    }
    let begun = Instant::now();
    for key in &wanted {
        let index = fleet.index_of(key)?.context("a device is not found")?;
        black_box(fleet.path(index)?);
    }
    Ok(begun.elapsed().as_secs_f64() * 1e6 / LOOK_UPS as f64)
}

fn print(name: &str, value: impl std::fmt::Display, unit: &str) {
    println!("{name} {value} {unit}");
}
