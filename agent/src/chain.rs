//! `posthouse chain`: what the light client proves, and means to check it by oneself.

use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use alloy::primitives::B256;
use anyhow::{Context as _, Result, bail};
use posthouse_actors::{Config, light};
use posthouse_light_client::checkpoint::{self, Agreement, Verdict};
use posthouse_light_client::client::{LightClient, Status};
use posthouse_light_client::http::Limits;
use posthouse_light_client::replay::replay;

/// SQLite's name for a database that is nowhere.
const NOWHERE: &str = ":memory:";
/// The file beside the gateway's other state.
const STORE: &str = "light-client.db";

/// What is replayed.
#[derive(clap::Args)]
pub(crate) struct Replay {
    /// mainnet, sepolia, hoodi, or a file: the consensus config.yaml with GENESIS_VALIDATORS_ROOT added.
    #[arg(long, value_name = "NAME|FILE")]
    network: String,
    /// The bootstrap, SSZ or the beacon API's JSON.
    #[arg(long, value_name = "FILE")]
    bootstrap: PathBuf,
    /// Root of the beacon block that is trusted; by default whichever the bootstrap is of.
    #[arg(long, value_name = "0xROOT")]
    checkpoint: Option<B256>,
    /// Updates in order, of any kind, any number in one file; SSZ or the beacon API's JSON.
    #[arg(long, value_name = "FILE", num_args = 1.., required = true)]
    updates: Vec<PathBuf>,
    /// One line of JSON.
    #[arg(long)]
    json: bool,
}

impl Replay {
    /// Prints what follows from the files, on the last line; what the reader should know beside goes to standard error.
    #[allow(clippy::print_stdout, clippy::print_stderr, reason = "what the command is for")]
    pub(crate) fn run(&self) -> Result<()> {
        let network = light::named(&self.network).context("--network")?;
        let bootstrap = read(&self.bootstrap)?;
        let updates = self.updates.iter().map(|file| Ok((file.display().to_string(), read(file)?)));
        let updates: Vec<_> = updates.collect::<Result<_>>()?;
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let now_ms = u64::try_from(now.as_millis()).unwrap_or(u64::MAX);
        let outcome = replay(network.into(), self.checkpoint, &bootstrap, updates, now_ms)?;
        for warning in &outcome.warnings {
            eprintln!("warning: {warning}");
        }
        if self.json {
            let header = outcome.state.finalized();
            let (slot, block) = (header.beacon.slot, &header.execution);
            let finalized =
                serde_json::json!({ "slot": slot, "block": block.number, "hash": block.block_hash });
            println!("{}", serde_json::json!({ "finalized": finalized, "age_ms": outcome.age_ms }));
            return Ok(());
        }
        println!("age {} s", outcome.age_ms / 1000);
        println!("{}", outcome.line());
        Ok(())
    }
}

fn read(file: &Path) -> Result<Vec<u8>> {
    std::fs::read(file).with_context(|| file.display().to_string())
}

/// Brings the light client up to date once and prints how it stands; an error if it could not be.
#[allow(clippy::print_stdout, reason = "what the command is for")]
pub(crate) fn status(config: &Config, json: bool) -> Result<()> {
    let kept = config.state_dir.join(STORE);
    // What a running gateway keeps is gone on from; where there is none, nothing is left behind.
    let store = if kept.exists() { kept } else { NOWHERE.into() };
    let Some(opened) = config.chain.light_client(store)? else {
        bail!("chain.trust is \"rpc\": the endpoints are believed, there is no light client");
    };
    let client = LightClient::open(opened).context("light client")?;
    let outcome = block_on(async {
        client.sync_once().await?;
        client.latest().await
    })?;
    let status = client.status();
    if json {
        println!("{}", serde_json::to_string(&status)?);
    } else {
        show(&status);
    }
    outcome.map(drop).context("not up to date")
}

#[allow(clippy::print_stdout, reason = "what the command is for")]
fn show(status: &Status) {
    println!("network    {}", status.network);
    let root = status.checkpoint.map_or_else(|| "none".into(), |root| root.to_string());
    println!("checkpoint {root}");
    for (name, seen) in [("finalized ", &status.finalized), ("optimistic", &status.optimistic)] {
        match seen {
            Some(seen) => println!(
                "{name} slot={} block={} hash={} · {} s ago",
                seen.slot, seen.number, seen.hash, seen.age_secs
            ),
            None => println!("{name} none yet"),
        }
    }
    for alarm in &status.alarms {
        println!("alarm      {}", light::words(alarm));
    }
    if let Some(why) = &status.last_error {
        println!("error      {why}");
    }
    for (name, endpoints) in [("beacon    ", &status.beacon), ("execution ", &status.rpc)] {
        for one in endpoints {
            let error = one.last_error.as_deref().map(|error| format!(": {error}")).unwrap_or_default();
            println!("{name} {}{error}", one.endpoint);
        }
    }
}

/// Asks beacon endpoints for a finalized block on which they agree, and prints the line for the configuration.
#[allow(clippy::print_stdout, clippy::print_stderr, reason = "what the command is for")]
pub(crate) fn checkpoint(beacon: &[String], json: bool) -> Result<()> {
    let Agreement { said, verdict } = block_on(checkpoint::agree(beacon, Limits::default()))??;
    for one in &said {
        match (&one.finalized, &one.confirms) {
            (Ok(root), None | Some(Ok(()))) => {
                eprintln!("{}: slot {} {}", one.endpoint, root.slot, root.root)
            }
            (Ok(root), Some(Err(why))) => {
                eprintln!(
                    "{}: slot {} {}; contradicts the others: {why}",
                    one.endpoint, root.slot, root.root
                );
            }
            (Err(why), _) => eprintln!("{}: {why}", one.endpoint),
        }
    }
    let (found, agreed) = match verdict {
        Verdict::Agreed(found) => (found, true),
        Verdict::Alone(found) => (found, false),
        Verdict::Disagree => bail!("the endpoints contradict each other: believe none of them"),
        Verdict::Silent => bail!("no endpoint answered"),
    };
    if !agreed {
        eprintln!("warning: only one endpoint answered; ask more that do not know each other");
    }
    if json {
        println!("{}", serde_json::json!({ "slot": found.slot, "checkpoint": found.root, "agreed": agreed }));
    } else {
        println!("checkpoint = \"{}\"", found.root);
    }
    Ok(())
}

fn block_on<T>(future: impl Future<Output = T>) -> Result<T> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().context("runtime")?;
    Ok(runtime.block_on(future))
}
