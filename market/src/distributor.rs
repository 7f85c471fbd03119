//! `posthouse-distributor`: sells updates to gateways and redeems what their sensors sign for.

use std::ffi::OsString;
use std::path::PathBuf;
use std::pin::pin;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, bail};
use clap::{CommandFactory as _, Parser, Subcommand};
use posthouse_audit::Audit;
use posthouse_contracts::chain::{Chain, LightChain, Trust};
use posthouse_contracts::deployment::FACTORY;
use posthouse_dsn::{Config as DsnConfig, Dsn, Inbound};
use posthouse_protocol::distributor::{Distributor, Identity};
use posthouse_protocol::id::Payee;
use posthouse_protocol::{exchange, join as join_wire};
use serde::Serialize;
use tokio::runtime::Handle;
use tokio::sync::{mpsc, oneshot};
use tokio::task::{JoinHandle, JoinSet};

use self::config::Config;
use self::engine::{Engine, INBOX, Message, Tasks};
use self::join::Joiner;
use self::market::{Prover, Shelf};
use self::reader::Reader;
use self::store::Store;
use self::watch::Follower;
use crate::console;
use crate::database::{DatabaseError, Lock};
use crate::secret_file;
use crate::service::{self, Watchdog};
use crate::wallet::{AUDIT, Wallet};

mod config;
mod engine;
mod join;
mod market;
mod reader;
mod status;
mod store;
mod watch;

/// The distributor of Posthouse: delivers firmware updates and is paid for each delivery.
#[derive(Debug, Parser)]
#[command(name = "posthouse-distributor", version)]
struct Cli {
    /// Settings; `distributor.toml`, as installed in /etc/posthouse, documents each key.
    #[arg(long, global = true, default_value = "/etc/posthouse/distributor.toml")]
    config: PathBuf,
    /// Prints the result as one line of JSON.
    #[arg(long, global = true)]
    json: bool,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Clone, Copy, Subcommand)]
enum Command {
    /// Makes the keys that are not there yet: Ethereum and peer.
    Keygen,
    /// Watches, joins, sells and redeems until it is told to stop. Prints its payee, peer id and addresses, and each bounty that it joins.
    Run,
    /// Shows what is for sale, how exchanges stand and what was earned.
    Status,
}

/// The command line, for its manual page.
pub fn command() -> clap::Command {
    Cli::command()
}

/// The program. `args` begin with its name. Exit code 0: done; 1: not; 2: called or configured wrongly.
pub fn main(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    console::run(args, |cli: Cli| {
        let config = Config::load(&cli.config)?;
        match cli.command {
            Command::Keygen => console::report(cli.json, &keygen(&config)?),
            Command::Run => console::runtime()?.block_on(run(config, cli.json)),
            Command::Status => {
                let store = Store::look(&config.state_dir)?;
                let status = store.map(|store| status::status(&store)).transpose()?;
                console::report(cli.json, &status.unwrap_or_default())
            }
        }
    })
}

/// What the keys are known by.
#[derive(Debug, Serialize)]
struct Keys {
    ethereum_address: String,
    peer_id: String,
    created: Vec<&'static str>,
}

fn keygen(config: &Config) -> anyhow::Result<Keys> {
    let created = config.keys.create_missing()?;
    Ok(Keys {
        ethereum_address: config.keys.ethereum(&config.file)?.address().to_string(),
        peer_id: config.keys.peer(&config.file)?.public().to_peer_id().to_string(),
        created,
    })
}

/// Told once, when others can connect.
#[derive(Debug, Serialize)]
struct Ready {
    payee: String,
    peer_id: String,
    addresses: Vec<String>,
}

/// All wiring. Reads everything that can be wrong before it makes or dials anything.
async fn run(config: Config, json: bool) -> anyhow::Result<()> {
    let signer = config.keys.ethereum(&config.file)?;
    let keypair = config.keys.peer(&config.file)?;
    let rpc = config.chain.reader(&config.file, config.factory)?;
    if config.factory != FACTORY.address {
        let (given, ours) = (config.factory, FACTORY.address);
        tracing::warn!(%given, %ours, "chain.factory is not this release's: whoever made it decides whether a reveal is paid");
    }
    let relay = config.relay()?;
    let protocols = [exchange::PROTOCOL, join_wire::PROTOCOL];
    let dsn_store = config.state_dir.join("dsn");
    let dsn_config = config.dsn.config(&config.file, keypair, dsn_store, &protocols, false)?;

    secret_file::create_folder(&config.state_dir)?;
    let _lock = Lock::take(&config.state_dir, "distributor.lock")?;
    let store = Store::open(&config.state_dir)?;
    let mut held = Held::new();
    let chain: Arc<dyn Chain> = match config.chain.trust() {
        Trust::LightClient => Arc::new(follow(&config, &mut held)?),
        Trust::Rpc => {
            tracing::warn!("chain.trust = \"rpc\": the RPC endpoints are believed; use nodes that you run");
            Arc::new(rpc.clone())
        }
    };
    let audit = config.audit.log(&config.file, &config.state_dir);
    let wallet = config.chain.wallet(&rpc, chain.clone(), signer).with_relay(relay).with_audit(audit.clone());
    start(Arc::new(config), store, chain, (wallet, audit), dsn_config, held, json).await
}

/// Tasks that the program is nothing without. With the first that fails or dies it ends, for systemd to start it again; one that is done
/// ends well.
type Held = JoinSet<anyhow::Result<()>>;

/// Holds a task that goes on for as long as the program does.
fn hold(held: &mut Held, name: &'static str, task: impl Future<Output = ()> + Send + 'static) {
    held.spawn(async move {
        task.await;
        bail!("{name} has ended")
    });
}

/// A light client that begins to follow the chain. Where it cannot go on, only another checkpoint or another program helps; another start
/// would say the same, so that it is an alarm of `status` and not the end.
fn follow(config: &Config, held: &mut Held) -> anyhow::Result<LightChain> {
    let store = config.state_dir.join("light-client.db");
    let client = config.chain.light_client(&config.file, store)?;
    let chain = LightChain::open(client, config.factory).context("chain: light client")?;
    let follow = chain.clone();
    held.spawn(async move {
        // It says why itself.
        drop(follow.run().await);
        Ok(())
    });
    Ok(chain)
}

async fn start(
    config: Arc<Config>,
    store: Store,
    chain: Arc<dyn Chain>,
    (wallet, audit): (Wallet, Audit),
    dsn_config: DsnConfig,
    mut held: Held,
    json: bool,
) -> anyhow::Result<()> {
    let payee = Payee::new(wallet.address().into_array());
    let identity = Identity { chain: config.chain.id(), payee };
    let mut machine = Distributor::new(identity, config.policy);
    store.changes()?.into_iter().for_each(|change| machine.restore(change));
    let campaigns = store.campaigns()?;
    let sold = |row: &&store::CampaignRow| config.vendor(row.vendor).is_some();
    campaigns.iter().filter(sold).for_each(|row| machine.expect(row.bounty));

    let (dsn, inbound) = Dsn::start(dsn_config).await?;
    let addresses = config.dsn.reached_at(&dsn);
    let (payee_text, peer_id) = (wallet.address().to_string(), dsn.peer_id().to_string());
    console::report(json, &Ready { payee: payee_text, peer_id, addresses })?;
    tracing::warn!("proving keys of the configured vendors are trusted: their randomness is not checked");

    let (engine, inbox) = mpsc::channel(INBOX);
    let reader = Reader { chain: chain.clone(), wallet: wallet.clone(), chain_id: config.chain.id(), payee };
    let shelf = Shelf::default();
    let prover = Prover::default();
    let (runtime, sender) = (Handle::current(), engine.clone());
    let places = (shelf.clone(), config.state_dir.clone());
    let tasks = Tasks::new(runtime, sender, reader.clone(), dsn.clone(), prover.clone(), places);
    store.over_bounties()?.into_iter().for_each(|bounty| tasks.clear(bounty, None));
    let core = Engine { machine, store, payee, shelf: shelf.clone(), tasks, audit: audit.clone(), json };
    let core = tokio::task::spawn_blocking(move || core.run(inbox));

    let joiner = Joiner {
        chain_id: config.chain.id(),
        chain,
        dsn: dsn.clone(),
        wallet,
        payee,
        state_dir: config.state_dir.clone(),
        max: config.max,
        prover,
    };
    let settled = campaigns.iter().map(|row| row.bounty).collect();
    let mut watchdog = Watchdog::default();
    let mut beat = |name| watchdog.beat(name, config.chain.longest_wait());
    let (watch, look) = (beat("watch of the chain"), beat("look for bounties"));
    let polling = watch::poll(reader, shelf, engine.clone(), config.chain.poll(), watch.clone());
    hold(&mut held, "the watch of the chain", watch.of(polling));
    let reopening = reopen(config.clone(), joiner.clone(), campaigns, engine.clone());
    held.spawn(async move {
        reopening.await;
        Ok(())
    });
    hold(&mut held, "the peer of the network", forward(inbound, engine.clone()));
    let following = Follower { config, joiner, engine: engine.clone(), settled, beat: look.clone() };
    hold(&mut held, "the look for bounties", look.of(following.run()));

    let outcome = until_stopped(core, held, watchdog, (&engine, &dsn)).await;
    dsn.stop().await;
    if !audit.flush(AUDIT) {
        tracing::warn!("the last records of the audit log may be lost");
    }
    outcome
}

/// Waits for a signal, or for the engine or a task to end.
async fn until_stopped(
    mut core: JoinHandle<Result<(), DatabaseError>>,
    mut held: Held,
    watchdog: Watchdog,
    (engine, dsn): (&mpsc::Sender<Message>, &Dsn),
) -> anyhow::Result<()> {
    let mut stop = console::stop_signal()?;
    let mut watch = pin!(watchdog.feed(async |within| silent(engine, dsn, within).await));
    // One that has ended says so below.
    if answers(engine).await {
        service::ready(&format!("distributor {}", dsn.peer_id()));
    }
    let failed = loop {
        tokio::select! {
            ended = &mut core => return Ok(ended??),
            Some(ended) = held.join_next() => match ended.context("a task died").flatten() {
                Ok(()) => {}
                failed => break failed,
            },
            () = stop.recv() => {
                service::stopping();
                break Ok(());
            }
            () = &mut watch => {}
        }
    };
    // A full inbox is worked off first. An engine that has ended is why others have.
    let _ = engine.send(Message::Stop).await;
    core.await??;
    failed
}

/// Who does not answer within this time.
async fn silent(engine: &mpsc::Sender<Message>, dsn: &Dsn, within: Duration) -> Vec<&'static str> {
    let engine = tokio::time::timeout(within, answers(engine));
    let (engine, peer) = tokio::join!(engine, tokio::time::timeout(within, dsn.status()));
    let silent = [("engine", !engine.unwrap_or(false)), ("peer", !matches!(peer, Ok(Ok(_))))];
    silent.into_iter().filter(|(_, silent)| *silent).map(|(name, _)| name).collect()
}

async fn answers(engine: &mpsc::Sender<Message>) -> bool {
    let (ask, answer) = oneshot::channel();
    engine.send(Message::Pulse(ask)).await.is_ok() && answer.await.is_ok()
}

/// Gateways' requests, in order; the channel's bound is the network's as well.
async fn forward(mut inbound: mpsc::Receiver<Inbound>, engine: mpsc::Sender<Message>) {
    while let Some(request) = inbound.recv().await {
        if request.protocol == join_wire::PROTOCOL {
            // Asked by who takes a distributor for the vendor: secrets are given out by vendors alone.
            let reason = join_wire::JoinRefusal::UnknownBounty;
            let _ = request.reply.send(join_wire::Response::Refused { reason }.to_vec());
        } else if engine.send(Message::Asked(request)).await.is_err() {
            return;
        }
    }
}

/// Takes up what was for sale before the restart, until all of it is.
async fn reopen(
    config: Arc<Config>,
    joiner: Joiner,
    mut campaigns: Vec<store::CampaignRow>,
    engine: mpsc::Sender<Message>,
) {
    let mut timer = tokio::time::interval(config.chain.poll());
    while !campaigns.is_empty() && !engine.is_closed() {
        timer.tick().await;
        let mut left = Vec::new();
        for row in campaigns {
            let Some(vendor) = config.vendor(row.vendor) else {
                tracing::warn!(bounty = %row.bounty, "its vendor is no longer configured");
                continue;
            };
            match joiner.reopen(vendor, &row).await {
                Ok(goods) => drop(engine.send(Message::Joined(None, goods)).await),
                Err(error) => {
                    tracing::warn!(bounty = %row.bounty, %error, "not for sale yet");
                    left.push(row);
                }
            }
        }
        campaigns = left;
    }
}
