//! A sensor on Linux: it sleeps, wakes, talks MQTT or CoAP, and keeps its flash in files.
//!
//! It dies by `kill -9` as a sensor dies by a power cut, and goes on from its files as a sensor goes
//! on from its flash. What happens is written to standard output, one JSON object a line.

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use clap::{Parser, Subcommand, ValueEnum};
use posthouse_protocol::id::{Curve, Version};

pub use self::config::{Carrier, ConfigError, Settings};
use self::herd::Herd;
use self::node::StopReason;
use self::tally::Tally;

mod board;
mod coap;
mod config;
mod herd;
mod keyfile;
mod life;
mod mqtt;
mod node;
pub mod proxy;
mod tally;

/// Exit code of bad usage or configuration.
const USAGE: u8 = 2;

/// A simulated Posthouse sensor.
#[derive(Debug, Parser)]
#[command(name = "posthouse-sensor-sim", version, about)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Live as the sensor that a configuration file describes.
    Run {
        /// The configuration, TOML.
        #[arg(long)]
        config: PathBuf,
        /// Stop after one wake.
        #[arg(long)]
        once: bool,
        /// Stop once this version runs and has been reported.
        #[arg(long, value_name = "VERSION")]
        until: Option<u64>,
    },
    /// Live as many sensors, in one process.
    Herd(Herd),
    /// Make a device key, in a file that only its owner reads, and print the public key.
    Keygen {
        /// Curve of the key.
        #[arg(long, value_enum, default_value = "secp256k1")]
        curve: CurveArg,
        /// The file; an existing one is left alone.
        #[arg(long)]
        out: PathBuf,
    },
    /// Check a configuration and the key file that it names, and print the device's name.
    Check {
        /// The configuration, TOML.
        #[arg(long)]
        config: PathBuf,
    },
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum CurveArg {
    Secp256k1,
    P256,
}

impl From<CurveArg> for Curve {
    fn from(arg: CurveArg) -> Self {
        match arg {
            CurveArg::Secp256k1 => Self::Secp256k1,
            CurveArg::P256 => Self::P256,
        }
    }
}

/// When the simulation ends by itself.
#[derive(Debug, Clone, Copy)]
struct Ending {
    once: bool,
    until: Option<Version>,
}

/// The program: `args` with the program's name first. 0: it ended as asked; 1: something failed;
/// 2: bad usage or configuration, and nothing was touched.
pub fn main(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    let cli = match Cli::try_parse_from(args) {
        Ok(cli) => cli,
        Err(error) => {
            let _ = error.print();
            return ExitCode::from(if error.use_stderr() { USAGE } else { 0 });
        }
    };
    match cli.command {
        Command::Run { config, once, until } => run(&config, Ending { once, until: until.map(Version::new) }),
        Command::Herd(herd) => run_herd(&herd),
        Command::Keygen { curve, out } => keygen(curve.into(), &out),
        Command::Check { config } => check(&config),
    }
}

fn run(path: &std::path::Path, ending: Ending) -> ExitCode {
    let (settings, key) = match load(path) {
        Ok(loaded) => loaded,
        Err(error) => return complain(&error, USAGE),
    };
    log_to_stderr();
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return complain(&error, 1),
    };
    match runtime.block_on(life::live(settings, key, ending, Arc::new(Tally::default()))) {
        StopReason::Done => ExitCode::SUCCESS,
        StopReason::Failed(error) => complain(&error, 1),
    }
}

fn run_herd(herd: &Herd) -> ExitCode {
    let gathered = match herd.gather() {
        Ok(gathered) => gathered,
        Err(error) => return complain(&error, USAGE),
    };
    if herd.keys_only() {
        gathered.tell_keys();
        return ExitCode::SUCCESS;
    }
    log_to_stderr();
    // Of several threads: a sensor that hashes an image or checks a signature does not keep the others asleep.
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return complain(&error, 1),
    };
    ExitCode::from(u8::from(!runtime.block_on(gathered.live())))
}

fn load(path: &std::path::Path) -> Result<(Settings, posthouse_protocol::key::SigningKey), ConfigError> {
    let settings = Settings::load(path)?;
    let key = keyfile::read(&settings.key_file, settings.curve.into())
        .map_err(|error| ConfigError::value(path, "key_file", &settings.key_file.display(), &error))?;
    // Read again at each wake; what is wrong with it is said now.
    if let Some(file) = &settings.coap_psk_key_file {
        keyfile::read_psk(file)
            .map_err(|error| ConfigError::value(path, "coap_psk_key_file", &file.display(), &error))?;
    }
    Ok((settings, key))
}

fn check(path: &std::path::Path) -> ExitCode {
    match load(path) {
        Ok((_, key)) => {
            node::say(&serde_json::json!({ "device": key.device_key().device_id().to_string() }));
            ExitCode::SUCCESS
        }
        Err(error) => complain(&error, USAGE),
    }
}

fn keygen(curve: Curve, out: &std::path::Path) -> ExitCode {
    match keyfile::create(out, curve) {
        Ok(key) => {
            let public = key.device_key();
            node::say(&serde_json::json!({
                "device": public.device_id().to_string(),
                "key": public.to_string(),
                "curve": curve.to_string(),
            }));
            ExitCode::SUCCESS
        }
        Err(error) => complain(&format!("{}: {error}", out.display()), 1),
    }
}

fn complain(error: &dyn std::fmt::Display, code: u8) -> ExitCode {
    use std::io::Write as _;
    let _ = writeln!(std::io::stderr(), "posthouse-sensor-sim: {error}");
    ExitCode::from(code)
}

/// Logs, if `RUST_LOG` asks for them; a program that runs the simulator may have set up its own.
fn log_to_stderr() {
    let filter = tracing_subscriber::EnvFilter::from_default_env();
    let _ = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).try_init();
}
