//! The command line.

use std::{ffi::OsString, path::PathBuf, process::ExitCode};

use clap::{CommandFactory as _, Parser, Subcommand};
use posthouse_actors::Config;

use crate::client::Gateway;
use crate::{audit, chain, check, config, run, status};

const DEFAULT_CONFIG: &str = "/etc/posthouse/posthouse.toml";

/// The gateway agent: buys firmware updates for the sensors behind it.
#[derive(Parser)]
#[command(name = "posthouse", version, about)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run the gateway until SIGTERM or SIGINT; SIGHUP has it read `[campaign]` and the keys of sensors again.
    Run(Source),
    /// Ask a running gateway how it fares.
    Status {
        #[command(flatten)]
        source: Source,
        /// One line of JSON instead of a table.
        #[arg(long)]
        json: bool,
        /// Ask this address instead of the one in the configuration, as HOST:PORT.
        #[arg(long)]
        address: Option<std::net::SocketAddr>,
        /// No table: the exit code alone says whether it has read a final block, so that it can buy.
        #[arg(long, conflicts_with = "json")]
        ready: bool,
    },
    /// Approve an update, hold it back, let it go on, or end it, at a running gateway.
    Update {
        /// What to do with it.
        #[arg(value_enum)]
        order: Order,
        /// The update, by its bounty: an address, as `status` shows it.
        bounty: String,
        /// Only for the sensors of this group of `campaign.groups`.
        #[arg(long)]
        group: Option<String>,
        #[command(flatten)]
        source: Source,
    },
    /// Give a sensor that failed too often another try, at a running gateway.
    Retry {
        /// The sensor, by its device id.
        device: String,
        #[command(flatten)]
        source: Source,
    },
    /// Show what the gateway wrote down: what was signed, accepted, refused or paid.
    Audit {
        #[command(flatten)]
        wanted: audit::Wanted,
        #[command(flatten)]
        source: Source,
    },
    /// What the light client proves of the chain, and means to check it.
    #[command(subcommand)]
    Chain(Chain),
    /// Say whether the configuration is one to run with; touches nothing.
    CheckConfig {
        #[command(flatten)]
        source: Source,
        /// One line of JSON.
        #[arg(long)]
        json: bool,
    },
}

#[derive(Clone, Copy, clap::ValueEnum)]
enum Order {
    /// It goes on, also where `campaign.approval` wants somebody's word.
    Approve,
    /// Sensors that do not have it wait; what is on its way to one stops there.
    Pause,
    /// It goes on where it stopped; what was approved before waits for approval again.
    Resume,
    /// It ends here. Sensors that have it keep it.
    Cancel,
}

impl Order {
    fn as_str(self) -> &'static str {
        match self {
            Self::Approve => "approve",
            Self::Pause => "pause",
            Self::Resume => "resume",
            Self::Cancel => "cancel",
        }
    }
}

#[derive(Subcommand)]
enum Chain {
    /// Bring the light client up to date once and say how it stands.
    Status {
        #[command(flatten)]
        source: Source,
        /// One line of JSON.
        #[arg(long)]
        json: bool,
    },
    /// Verify a bootstrap and updates from files; prints finalized slot, block and hash on the last line.
    Replay(chain::Replay),
    /// Ask beacon endpoints for a finalized block on which they agree, to configure as `chain.checkpoint`.
    Checkpoint {
        #[command(flatten)]
        source: Source,
        /// Ask these instead of those in the configuration.
        #[arg(long, value_name = "URL", num_args = 1..)]
        beacon: Vec<String>,
        /// One line of JSON.
        #[arg(long)]
        json: bool,
    },
}

#[derive(clap::Args)]
struct Source {
    /// The configuration file. `POSTHOUSE_SECTION__KEY` variables override its keys.
    #[arg(long, short, value_name = "FILE", default_value = DEFAULT_CONFIG)]
    config: PathBuf,
}

pub(crate) fn command() -> clap::Command {
    Cli::command()
}

pub(crate) fn main(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    let cli = match Cli::try_parse_from(args) {
        Ok(cli) => cli,
        Err(usage) => {
            // Asking for help or the version is no mistake; clap tells which stream is due.
            let code = if usage.use_stderr() { 2 } else { 0 };
            drop(usage.print());
            return ExitCode::from(code);
        }
    };
    let done = match cli.command {
        Command::Run(source) => {
            load_all(&source).and_then(|c| run::run(&source.config, c).map_err(Failure::Failed))
        }
        Command::Status { source, json, address, ready } => {
            let configured = || load(&source).and_then(|c| Gateway::to_read(&c).map_err(Failure::Failed));
            let gateway = address.map_or_else(configured, |address| Ok(Gateway::Tcp(address)));
            let ask = |g: Gateway| if ready { g.ready() } else { status::print(&g, json) };
            gateway.and_then(|gateway| ask(gateway).map_err(Failure::Failed))
        }
        Command::Update { order, bounty, group, source } => load(&source).and_then(|config| {
            status::order(&config, order.as_str(), &bounty, group.as_deref()).map_err(Failure::Failed)
        }),
        Command::Retry { device, source } => {
            load(&source).and_then(|config| status::retry(&config, &device).map_err(Failure::Failed))
        }
        Command::Audit { mut wanted, source } => {
            let gateways = || load(&source).map(|config| config.audit_log().0);
            let path = wanted.file.take().map_or_else(gateways, Ok);
            path.and_then(|path| audit::print(&path, wanted).map_err(Failure::Failed))
        }
        Command::Chain(command) => chain(command),
        Command::CheckConfig { source, json } => {
            load_all(&source).map(|c| check::explain(&source.config, &c, json))
        }
    };
    done.map_or_else(|failure| failure.report(), |()| ExitCode::SUCCESS)
}

fn chain(command: Chain) -> Result<(), Failure> {
    match command {
        Chain::Status { source, json } => chain::status(&load(&source)?, json),
        Chain::Replay(replay) => replay.run(),
        Chain::Checkpoint { source, beacon, json } => {
            let beacon = if beacon.is_empty() { load(&source)?.chain.beacon } else { beacon };
            chain::checkpoint(&beacon, json)
        }
    }
    .map_err(Failure::Failed)
}

enum Failure {
    Configuration(config::ConfigError),
    Failed(anyhow::Error),
}

impl Failure {
    /// One line on standard error, and the exit code that belongs to it.
    #[allow(clippy::print_stderr, reason = "the one line that the caller of a program reads")]
    fn report(self) -> ExitCode {
        match self {
            Self::Configuration(why) => {
                eprintln!("posthouse: {why}");
                ExitCode::from(2)
            }
            Self::Failed(why) => {
                eprintln!("posthouse: {}", line(&why));
                ExitCode::FAILURE
            }
        }
    }
}

/// What failed and why, in one line: a cause that has been said already is not said again.
fn line(why: &anyhow::Error) -> String {
    let mut line = String::new();
    for cause in why.chain().map(ToString::to_string) {
        if line.is_empty() {
            line = cause;
        } else if !line.ends_with(&cause) {
            line = format!("{line}: {cause}");
        }
    }
    line
}

fn load(source: &Source) -> Result<Config, Failure> {
    config::load(&source.config).map_err(Failure::Configuration)
}

/// With all that only the gateway itself must be able to read.
fn load_all(source: &Source) -> Result<Config, Failure> {
    let config = load(source)?;
    config::check_secrets(&source.config, &config).map_err(Failure::Configuration)?;
    Ok(config)
}

#[cfg(test)]
mod tests {
    use anyhow::Context as _;
    use posthouse_actors::StartError;

    use super::*;

    #[test]
    fn what_failed_is_said_once() {
        let no_checkpoint = StartError::LightClient(posthouse_light_client::client::StartError::NoCheckpoint);
        let said = no_checkpoint.to_string();
        let failed = Err::<(), _>(no_checkpoint).context("the gateway does not start").unwrap_err();
        assert_eq!(line(&failed), format!("the gateway does not start: {said}"));
        assert_eq!(said.matches("no checkpoint").count(), 1);
        let other = std::io::Error::other("b");
        assert_eq!(line(&Err::<(), _>(other).context("a").unwrap_err()), "a: b");
    }
}
