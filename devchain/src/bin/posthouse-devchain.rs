//! The chain and its beacon as a program, for testbeds whose parts do not share a process.
//!
//! It is for those alone: whoever reaches it may move its clock, undo its blocks and spend what its accounts have, whose keys
//! everybody knows. It is kept in memory; started again, it is another chain.

use std::{
    net::{SocketAddr, TcpStream},
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context as _, Result};
use clap::{Args, Parser, Subcommand};
use posthouse_devchain::{
    Config, DevChain,
    beacon::{self, Beacon},
};
use tokio::signal::unix::{SignalKind, signal};

/// How long a check waits for the chain.
const PATIENCE: Duration = Duration::from_secs(3);

/// An Ethereum for tests, with a beacon that light clients follow.
#[derive(Parser)]
#[command(name = "posthouse-devchain", version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run a chain from genesis until SIGTERM or SIGINT.
    Run {
        #[command(flatten)]
        at: Endpoints,
        /// EIP-155 chain id.
        #[arg(long, default_value_t = 31_337)]
        chain_id: u64,
        /// A block every so often, ms.
        #[arg(long, default_value_t = 1_000)]
        block_ms: u64,
        /// Length of a slot, ms; 32 of them are an epoch, how often light clients look for finality.
        #[arg(long, default_value_t = 100)]
        slot_ms: u64,
        /// Write the network's constants to this file, for `chain.network` of gateways and distributors.
        #[arg(long, value_name = "FILE")]
        network: Option<PathBuf>,
    },
    /// Whether a chain listens there: exit code 0 or 1.
    Check(Endpoints),
}

#[derive(Args)]
struct Endpoints {
    /// Where JSON-RPC is.
    #[arg(long, default_value = "127.0.0.1:8545")]
    rpc: SocketAddr,
    /// Where the beacon API is.
    #[arg(long, default_value = "127.0.0.1:5052")]
    beacon: SocketAddr,
}

fn main() -> Result<()> {
    match Cli::parse().command {
        Command::Run { at, chain_id, block_ms, slot_ms, network } => {
            let block_time = Some(Duration::from_millis(block_ms));
            let chain =
                DevChain::start(Config { chain_id, block_time, listen: at.rpc, ..Config::default() })?;
            let slot = Duration::from_millis(slot_ms);
            let config = beacon::Config { slot, listen: at.beacon, ..beacon::Config::default() };
            run(&chain, &Beacon::start(&chain, config)?, network.as_deref())
        }
        Command::Check(at) => [at.rpc, at.beacon].iter().try_for_each(|address| {
            TcpStream::connect_timeout(address, PATIENCE).map(drop).with_context(|| address.to_string())
        }),
    }
}

#[allow(clippy::print_stdout, reason = "what whoever starts it reads")]
fn run(chain: &DevChain, beacon: &Beacon, network: Option<&Path>) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        // As the first process of a container it would not be ended by a signal that it did not ask for.
        let (mut term, mut int) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
        if let Some(file) = network {
            // Whoever waits for the file must not read half of it.
            let fresh = file.with_extension("part");
            std::fs::write(&fresh, beacon.network_yaml()).with_context(|| fresh.display().to_string())?;
            std::fs::rename(&fresh, file)?;
        }
        println!("chain {} at {}, beacon at {}", chain.chain_id(), chain.url(), beacon.url());
        tokio::select! {
            _ = term.recv() => {}
            _ = int.recv() => {}
        }
        Ok(())
    })
}
