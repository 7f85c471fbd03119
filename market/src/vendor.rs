//! `posthouse-vendor`: makes keys, publishes updates, seeds them, takes back what nobody earned.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use alloy::primitives::Address;
use anyhow::bail;
use clap::{Args, CommandFactory as _, Parser, Subcommand, ValueEnum};
use posthouse_circuits::{KEY_MODE_LEN, ProvingKey, circuit_id};
use posthouse_contracts::chain::{Limits, RpcChain, RpcConfig};
use posthouse_contracts::deployment::FACTORY;
use posthouse_protocol::id::{Bounty, ChainId};
use posthouse_protocol::release::Mode;
use serde::Serialize;

use self::config::Config;
use self::consent::{Consent, agree};
use self::publish::{Asked, Publisher, Request, Surveyor};
use self::store::{State, Store};
use self::terms::{Bonus, GroupRange};
use self::transaction::Patience;
use self::watch::Wish;
use crate::console;
use crate::database::Lock;
use crate::secret_file;
use crate::settings::{Amount, SettingsError, Span};
use crate::wallet::Wallet;

pub use self::consent::ConsentError;
pub use self::deploy::DeployError;
pub use self::publish::PublishError;
pub use self::refund::RefundError;
pub use self::terms::GroupError;
pub use self::watch::{LedgerError, WatchError};

mod admission;
mod config;
mod consent;
mod deploy;
mod enrol;
mod package;
mod plan;
mod publish;
mod refund;
mod seed;
mod show;
mod status;
mod store;
mod terms;
mod transaction;
mod watch;

/// Between two looks at a bounty that is watched without settings: the default of `chain.poll_ms`.
const WATCH_POLL: Duration = Duration::from_secs(4);

/// The vendor of Posthouse: publishes firmware updates and pays for their delivery.
#[derive(Debug, Parser)]
#[command(name = "posthouse-vendor", version)]
struct Cli {
    /// Settings; `vendor.toml`, as installed in /etc/posthouse, documents each key.
    #[arg(long, global = true, default_value = "/etc/posthouse/vendor.toml")]
    config: PathBuf,
    /// Prints the result as one line of JSON.
    #[arg(long, global = true)]
    json: bool,
    #[command(subcommand)]
    command: Anybody,
}

/// What needs no settings, and what does.
#[derive(Debug, Subcommand)]
enum Anybody {
    #[command(flatten)]
    Vendor(Command),
    /// Shows delivery as it happens, by the chain alone; needs no key, so that anybody can.
    Watch(Watch),
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Makes the keys that are not there yet: Ethereum, release, peer.
    Keygen,
    /// Takes the fleet from a list of device keys.
    Enrol {
        /// One compressed key of 33 bytes as hex a line, in index order; `#` begins a comment.
        devices_file: PathBuf,
    },
    /// Makes proving and verifying keys of key mode.
    Setup,
    /// Deploys the update factory at the address that it has on every chain, or checks that it is there.
    Deploy {
        /// Where the chain has no deterministic deployment proxy, pays 0.01 ether for one.
        #[arg(long)]
        with_deployer: bool,
        /// Agrees to what it will cost without being asked.
        #[arg(long)]
        yes: bool,
        /// Shows what is there and what it would cost, and ends; writes and sends nothing.
        #[arg(long, conflicts_with = "yes")]
        dry_run: bool,
    },
    /// Publishes an image and funds its bounty; run again, it goes on where it was killed.
    Publish {
        /// The firmware image.
        image: PathBuf,
        /// What distributors sell: the image's key, or the image itself (up to 512 bytes).
        #[arg(long, value_enum, default_value = "key")]
        mode: ModeName,
        /// SUIT sequence number; by default one above the latest.
        #[arg(long)]
        version: Option<u64>,
        /// How long receipts are taken, from now, such as 30d.
        #[arg(long)]
        claim_by: Option<Span>,
        /// Money for each device, such as "0.01 ether".
        #[arg(long, conflicts_with = "group")]
        share: Option<Amount>,
        /// Money for each device of a range of indices, such as 0..1000=0.002ether; up to 8 times. The ranges cover the fleet.
        #[arg(long, value_name = "BEGIN..END=AMOUNT")]
        group: Vec<GroupRange>,
        /// What shares are raised by at first, and within what time that falls to nothing, such as 50%/48h.
        #[arg(long, value_name = "PERCENT/TIME")]
        bonus: Option<Bonus>,
        /// How long a reservation lives, 30m to 24h.
        #[arg(long)]
        lock: Option<Span>,
        /// Agrees to what it will cost without being asked.
        #[arg(long)]
        yes: bool,
        /// Shows what it would cost, and ends; writes and sends nothing.
        #[arg(long, conflicts_with = "yes")]
        dry_run: bool,
    },
    /// Serves what was published until it is told to stop.
    Seed,
    /// Shows what was published and what became of it.
    Status,
    /// Takes back what nobody earned.
    Refund {
        /// Of which version; by default the latest.
        #[arg(long)]
        version: Option<u64>,
    },
}

/// Which bounty is watched, by whom, how long.
#[derive(Debug, Args)]
struct Watch {
    /// Its address; by default that of the latest version published from here.
    #[arg(long)]
    bounty: Option<Bounty>,
    /// Of which version published from here.
    #[arg(long, conflicts_with = "bounty")]
    version: Option<u64>,
    /// JSON-RPC endpoint that is believed, in place of the settings; may be given again, for when one fails.
    #[arg(long, value_name = "URL", requires_all = ["chain_id", "bounty"])]
    rpc: Vec<String>,
    /// EIP-155 id of the chain, with --rpc.
    #[arg(long, requires = "rpc")]
    chain_id: Option<u64>,
    /// The factory whose bounty it is, with --rpc; by default this release's.
    #[arg(long, requires = "rpc")]
    factory: Option<Address>,
    /// Shows how it stands, and ends.
    #[arg(long)]
    once: bool,
    /// Ends when all is claimed or refunded and final.
    #[arg(long)]
    until_done: bool,
    /// Shows the claims of before as well.
    #[arg(long)]
    history: bool,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum ModeName {
    Key,
    File,
}

/// The command line, for its manual page.
pub fn command() -> clap::Command {
    Cli::command()
}

/// The program. `args` begin with its name. Exit code 0: done; 1: not; 2: called or configured wrongly.
pub fn main(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    console::run(args, |cli: Cli| {
        let runtime = console::runtime()?;
        match cli.command {
            Anybody::Watch(watch) => runtime.block_on(watch_bounty(&watch, &cli.config, cli.json)),
            Anybody::Vendor(command) => runtime.block_on(run(&Config::load(&cli.config)?, command, cli.json)),
        }
    })
}

async fn run(config: &Config, command: Command, json: bool) -> anyhow::Result<()> {
    match command {
        Command::Keygen => console::report(json, &keygen(config)?),
        Command::Enrol { devices_file } => console::report(json, &enrol::enrol(config, &devices_file, json)?),
        Command::Setup => console::report(json, &setup(config)?),
        Command::Deploy { with_deployer, yes, dry_run } => {
            deploy::run(config, with_deployer, Consent::of(yes, dry_run), json).await
        }
        Command::Publish { image, mode, version, claim_by, share, group, bonus, lock, yes, dry_run } => {
            publish::check_image(&image)?;
            let defaults = config.publish;
            let request = Request {
                image,
                mode: match mode {
                    ModeName::Key => Mode::Key,
                    ModeName::File => Mode::File,
                },
                version,
                shares: match share {
                    Some(share) => Asked::Share(share),
                    None if group.is_empty() => Asked::Default(defaults.share.0),
                    None => Asked::Groups(group),
                },
                bonus,
                claim_by: claim_by.unwrap_or(defaults.claim_by.0),
                lock: lock.unwrap_or(defaults.lock.0),
            };
            let consent = Consent::of(yes, dry_run);
            publish_image(config, &request, consent, json).await
        }
        Command::Seed => seed::run(config, json).await,
        Command::Status => {
            let chain = config.chain.reader(&config.file, config.chain.factory())?;
            let store = Store::look(&config.state_dir)?;
            console::report(json, &status::status(store, &chain).await?)
        }
        Command::Refund { version } => refund_version(config, version, json).await,
    }
}

/// What the keys are known by.
#[derive(Debug, Serialize)]
struct Keys {
    ethereum_address: String,
    release_key: String,
    peer_id: String,
    created: Vec<&'static str>,
}

fn keygen(config: &Config) -> anyhow::Result<Keys> {
    let created = config.keys.create_missing()?;
    Ok(Keys {
        ethereum_address: config.keys.ethereum(&config.file)?.address().to_string(),
        release_key: config.release_key()?.release_key().to_string(),
        peer_id: config.keys.peer(&config.file)?.public().to_peer_id().to_string(),
        created,
    })
}

/// The keys of key mode.
#[derive(Debug, Serialize)]
struct SetUp {
    pk_id: String,
    vk_id: String,
    circuit_id: String,
    pk_size: u64,
    created: bool,
}

fn setup(config: &Config) -> anyhow::Result<SetUp> {
    secret_file::create_folder(&config.state_dir)?;
    let _lock = Lock::take(&config.state_dir, "vendor.lock")?;
    let path = config.proving_key_path();
    let created = !path.exists();
    let key = if created {
        package::generate(KEY_MODE_LEN, &path)?
    } else {
        // Whole and well-formed, which is not looked at again later.
        ProvingKey::read(&path)?
    };
    let id = hex::encode(key.id());
    package::write_whole(&config.proving_key_id_path(), |file| {
        std::io::Write::write_all(file, id.as_bytes())
    })?;
    Ok(SetUp {
        pk_id: hex::encode(key.id()),
        vk_id: hex::encode(key.verifying_key().id()),
        circuit_id: hex::encode(circuit_id(KEY_MODE_LEN)),
        pk_size: key.size(),
        created,
    })
}

async fn publish_image(
    config: &Config,
    request: &Request,
    consent: Consent,
    json: bool,
) -> anyhow::Result<()> {
    let release_key = config.release_key()?;
    let chain = deploy::reader(config)?;
    deploy::check(&chain).await?;
    let signer = config.keys.ethereum(&config.file)?;
    let wallet = config.chain.wallet(&chain, Arc::new(chain.clone()), signer);
    let store = Store::look(&config.state_dir)?;
    let survey = Surveyor { config, store, chain: &chain, wallet: &wallet }.survey(request).await?;
    match (&survey.plan, consent) {
        (None, Consent::Withheld) => return Err(survey.decided().into()),
        (None, _) => {}
        (Some(plan), Consent::Withheld) if json => return console::report(json, &plan.report()),
        (Some(plan), Consent::Withheld) => return console::say(plan),
        (Some(plan), consent) => agree(plan, "Publish?", consent).await?,
    }
    let Open { store, chain, wallet, patience, _lock } = Open::new(config, chain.factory())?;
    let mut publisher = Publisher { config, store, chain, wallet, release_key, patience };
    console::report(json, &publisher.publish(request, survey).await?)
}

async fn refund_version(config: &Config, version: Option<u64>, json: bool) -> anyhow::Result<()> {
    let mut open = Open::new(config, config.chain.factory())?;
    let bounty = bounty_of(&open.store, version)?;
    let Open { store, chain, wallet, patience, .. } = &mut open;
    console::report(json, &refund::refund(store, chain, wallet, bounty, *patience).await?)
}

/// By the settings, or without any.
async fn watch_bounty(watch: &Watch, settings: &Path, json: bool) -> anyhow::Result<()> {
    let wish = |poll| {
        let Watch { once, until_done, history, .. } = *watch;
        Wish { json, once, until_done, history, poll }
    };
    if let (Some(bounty), Some(chain)) = (watch.bounty, watch.chain_id) {
        let (urls, chain) = (watch.rpc.clone(), ChainId::new(chain));
        let factory = watch.factory.unwrap_or(FACTORY.address);
        let config = RpcConfig { urls, chain, factory, limits: Limits::default() };
        let unfit = |why| SettingsError {
            source: "command line".into(),
            key: Some("--rpc".into()),
            why: format!("{why}"),
        };
        return watch::run(RpcChain::new(&config).map_err(unfit)?, bounty, wish(WATCH_POLL)).await;
    }
    let config = Config::load(settings)?;
    let chain = config.chain.reader(&config.file, config.chain.factory())?;
    let bounty = match (watch.bounty, Store::look(&config.state_dir)?) {
        (Some(bounty), _) => bounty,
        (None, Some(store)) => bounty_of(&store, watch.version)?,
        (None, None) => bail!(RefundError::NoRelease),
    };
    watch::run(chain, bounty, wish(config.chain.poll())).await
}

fn bounty_of(store: &Store, version: Option<u64>) -> anyhow::Result<Bounty> {
    let published = |state: &State| match state {
        State::Published(_, published) => Some(published.bounty),
        _ => None,
    };
    let rows = store.releases()?;
    let mut bounties = rows.iter().filter_map(|row| Some((row.version, published(&row.state)?)));
    let found = match version {
        Some(wanted) => bounties.find(|(version, _)| *version == wanted),
        None => bounties.next_back(),
    };
    match (found, version) {
        (Some((_, bounty)), _) => Ok(bounty),
        (None, Some(version)) => bail!(RefundError::Unknown(version)),
        (None, None) => bail!(RefundError::NoRelease),
    }
}

/// What a command that sends transactions works with.
struct Open {
    store: Store,
    chain: RpcChain,
    wallet: Wallet,
    patience: Patience,
    _lock: Lock,
}

impl Open {
    /// Reads the key and checks the settings before it makes anything.
    fn new(config: &Config, factory: Address) -> anyhow::Result<Self> {
        let signer = config.keys.ethereum(&config.file)?;
        let chain = config.chain.reader(&config.file, factory)?;
        let wallet = config.chain.wallet(&chain, Arc::new(chain.clone()), signer);
        let wallet = wallet.with_audit(config.audit.log(&config.file, &config.state_dir));
        secret_file::create_folder(&config.state_dir)?;
        let lock = Lock::take(&config.state_dir, "vendor.lock")?;
        let store = Store::open(&config.state_dir)?;
        let patience = Patience {
            poll: config.chain.poll(),
            resubmit: Duration::from_secs(60),
            wait: Duration::from_secs(900),
        };
        Ok(Self { store, chain, wallet, patience, _lock: lock })
    }
}
