//! Prints what a fleet of a million devices costs, one `name value unit` a line. Run it by `cargo xtask figures gas`.
//!
//! - `enrol_1e6_s`: `posthouse-vendor enrol` of a list of a million secp256k1 keys, from its start to its end.
//! - `enrol_peak_MiB`: the most memory that it had resident (`VmHWM`). A distributor makes the same index by the same code.
//! - `package_1e6_MiB`: the fleet file, which is what the package grows by; and `index_1e6_MiB`, which does not travel.
//! - `path_us`: a device's index by its key and its path, average over many devices at random, the files open.
//!
//! The keys are real, of secrets that are hashes of their numbers; to make them takes longer than to enrol them.
#![allow(clippy::print_stdout, reason = "its output is what it is for")]

use std::ffi::OsString;
use std::fs::{self, File};
use std::hint::black_box;
use std::io::{BufReader, BufWriter, Write as _};
use std::os::unix::process::ExitStatusExt as _;
use std::path::Path;
use std::process::{Command, ExitCode};
use std::thread;
use std::time::Instant;

use anyhow::{Context as _, Result, ensure};
use posthouse_contracts::fleet::{Fleet, FleetReader, leaf, verify};
use posthouse_protocol::id::{Curve, DeviceKey};
use posthouse_protocol::key::SigningKey;
use sha2::{Digest as _, Sha256};

const MILLION: u32 = 1_000_000;
/// Devices that are looked up, at random.
const LOOK_UPS: usize = 100_000;
/// The first argument of a run that is the vendor's program.
const VENDOR: &str = "vendor";

fn main() -> Result<ExitCode> {
    let mut args = std::env::args_os().skip(1);
    match args.next() {
        Some(first) if first == VENDOR => vendor(args),
        _ => measure().map(|()| ExitCode::SUCCESS),
    }
}

/// Is the vendor's program, and then says how much memory it had.
fn vendor(args: impl Iterator<Item = OsString>) -> Result<ExitCode> {
    let code = posthouse_market::vendor::main([OsString::from("posthouse-vendor")].into_iter().chain(args));
    let status = fs::read_to_string("/proc/self/status")?;
    println!("{}", status.lines().find(|line| line.starts_with("VmHWM")).unwrap_or_default());
    Ok(code)
}

fn measure() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let (list, config) = (folder.path().join("devices"), folder.path().join("vendor.toml"));
    write_list(&list)?;
    fs::write(&config, SETTINGS)?;
    let begun = Instant::now();
    let peak = enrol(&config, &list)?;
    print("enrol_1e6_s", format!("{:.1}", begun.elapsed().as_secs_f64()), "s");
    print("enrol_peak_MiB", peak.div_ceil(1024), "MiB");
    let fleet = folder.path().join("vendor/fleet");
    for (name, file) in [("package_1e6_MiB", fleet.clone()), ("index_1e6_MiB", fleet.with_extension("index"))]
    {
        print(name, format!("{:.1}", fs::metadata(file)?.len() as f64 / f64::from(1 << 20)), "MiB");
    }
    print("path_us", format!("{:.1}", look_up(&fleet)?), "us");
    Ok(())
}

/// What `enrol` reads of a vendor's settings, and what it wants to see besides.
const SETTINGS: &str = r#"
state_dir = "vendor"
[product]
vendor_id = "fa6b4a53-d5ad-5fdf-be9d-e663e4d41ffe"
class_id = "1492af14-2569-5e48-bf42-9b2d51f2ab45"
[keys]
ethereum = "vendor.key"
release = "release.key"
peer = "peer.key"
[chain]
id = 1
rpc = ["http://127.0.0.1:8545"]
[dsn]
listen = ["/ip4/127.0.0.1/tcp/0"]
[publish]
share = "1 gwei"
"#;

/// KiB that the program had resident at most.
fn enrol(config: &Path, list: &Path) -> Result<u64> {
    let mut command = Command::new(std::env::current_exe()?);
    command.args([VENDOR, "--json", "--config"]).arg(config).arg("enrol").arg(list);
    let output = command.output()?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{:?}: {said}", output.status.signal());
    let told = String::from_utf8(output.stdout)?;
    ensure!(told.contains(&format!("\"devices\":{MILLION}")), "{told}");
    let peak = told.lines().find_map(|line| line.strip_prefix("VmHWM:")?.trim().strip_suffix(" kB"));
    Ok(peak.context("no VmHWM")?.trim().parse()?)
}

/// The keys, in two halves, as many as there usually are cores to make them.
fn write_list(path: &Path) -> Result<()> {
    let mut list = BufWriter::new(File::create(path)?);
    let half = MILLION / 2;
    thread::scope(|scope| {
        let halves = [0..half, half..MILLION].map(|numbers| scope.spawn(|| numbers.map(key).collect()));
        for keys in halves {
            let keys: Vec<DeviceKey> = keys.join().expect("no key is out of range");
            keys.iter().try_for_each(|key| writeln!(list, "{key}"))?;
        }
        Ok(list.flush()?)
    })
}

fn key(number: u32) -> DeviceKey {
    let secret = Sha256::digest(number.to_be_bytes()).into();
    SigningKey::from_bytes(Curve::Secp256k1, &secret).expect("a hash is in range").device_key()
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
