//! The demo: the main job once, on embedded defaults, shown as it happens.
//!
//! Progress goes to standard error, the result to standard output: a table, or with `--json` one line, the last. The exit
//! code is 0 only if every sensor's flash is byte-identical to the firmware and every sensor was paid for exactly once.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a program for a terminal")]

mod show;

use std::{
    path::{Path, PathBuf},
    process::ExitCode,
    time::{Duration, Instant},
};

use alloy::{
    primitives::{Address, U256},
    providers::Provider as _,
    rpc::types::Filter,
    sol_types::SolEvent as _,
};
use anyhow::{Context as _, Result};
use clap::{Parser, ValueEnum};
use posthouse_contracts::abi::UpdateBounty;
use serde::Serialize;

use self::show::{Narrator, table};
use crate::{
    broker::Broker,
    chain::{Chain, funded},
    process::Programs,
    site::{Plan, Published, Site, own_code},
};

/// A block every so often: quick against the steps of the protocol, slow against a debug build.
const BLOCK_TIME: Duration = Duration::from_millis(250);
/// From the start of the sensors to their last receipt.
const LIMIT: Duration = Duration::from_secs(600);

/// A vendor, two distributors, a gateway and sleeping sensors, on this machine.
#[derive(Parser)]
#[command(name = "posthouse-demo", version)]
struct Cli {
    /// The firmware image; by default the first MiB of this program, which is real machine code.
    #[arg(long, value_name = "FILE")]
    firmware: Option<PathBuf>,
    /// Sensors; half of them speak MQTT, the others CoAP.
    #[arg(long, default_value_t = 6, value_parser = clap::value_parser!(u16).range(1..=500))]
    sensors: u16,
    /// What distributors sell: the image's key, or the image itself (up to 512 bytes).
    #[arg(long, value_enum, default_value = "key")]
    mode: Mode,
    /// The result as one line of JSON, the last on standard output.
    #[arg(long)]
    json: bool,
    /// Leave everything running, and print where the status is, until the program is interrupted.
    #[arg(long)]
    keep: bool,
    /// Varies the sensors' wake periods, so that they come in another order.
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

#[derive(Clone, Copy, ValueEnum)]
enum Mode {
    Key,
    File,
}

/// What came of it.
#[derive(Debug, Serialize)]
struct Outcome {
    sensors_total: usize,
    sensors_updated: usize,
    receipts_paid: usize,
    firmware_bytes: usize,
    prove_ms: u64,
    verify_ms: f64,
    gas_publish: u64,
    gas_redeem_total: u64,
    elapsed_ms: u64,
}

/// What each distributor got.
pub(crate) struct Earned {
    pub(crate) address: String,
    pub(crate) claims: usize,
    pub(crate) paid: U256,
    pub(crate) gas: u64,
}

/// Run the demo with the process's arguments.
pub fn main() -> ExitCode {
    // `cargo demo -- --json` and `cargo demo --json` mean the same: cargo's alias has put one `--` there already.
    let args =
        std::env::args_os().enumerate().filter(|(at, arg)| !(*at == 1 && arg == "--")).map(|(_, arg)| arg);
    let cli = Cli::parse_from(args);
    let runtime = match tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build() {
        Ok(runtime) => runtime,
        Err(why) => {
            eprintln!("posthouse-demo: {why}");
            return ExitCode::FAILURE;
        }
    };
    match runtime.block_on(run(&cli)) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(why) => {
            eprintln!("posthouse-demo: {why:#}");
            ExitCode::FAILURE
        }
    }
}

async fn run(cli: &Cli) -> Result<bool> {
    let begun = Instant::now();
    let say = Narrator::new(begun);
    let program = std::env::current_exe().context("this program's own file")?;
    let image = match &cli.firmware {
        Some(file) => std::fs::read(file).with_context(|| format!("{}", file.display()))?,
        None if matches!(cli.mode, Mode::File) => own_code(&program)?[..512].to_vec(),
        None => own_code(&program)?,
    };
    let folder = tempfile::Builder::new().prefix("posthouse-demo-").tempdir()?;
    say.step(format!("state in {}", folder.path().display()));
    let mut site = site(cli, &program, folder.path(), &say).await?;
    let published = publish(cli, &site, &image, folder.path(), &say).await?;
    start(&mut site, &say)?;

    let expected = site.sensors.len();
    {
        let url = site.status_url("exchanges");
        let follow = show::follow(&url, &say);
        let done = finish(&mut site, &image, &published, expected);
        tokio::select! {
            done = done => done?,
            never = follow => never?,
        }
    }
    let earned = earnings(&site, &published).await?;
    let updated = site.holding(&image);
    let receipts: usize = earned.iter().map(|one| one.claims).sum();
    let (prove_ms, verify_us) =
        (site.measured("prove_ms").unwrap_or(0), site.measured("verify_us").unwrap_or(0));
    let outcome = Outcome {
        sensors_total: expected,
        sensors_updated: updated,
        receipts_paid: receipts,
        firmware_bytes: image.len(),
        prove_ms,
        verify_ms: verify_us as f64 / 1000.0,
        gas_publish: published.gas,
        gas_redeem_total: earned.iter().map(|one| one.gas).sum(),
        elapsed_ms: u64::try_from(begun.elapsed().as_millis())?,
    };
    let paid_once = receipts == expected && site.devices_paid(published.version).await? == expected;
    let text = table(&site, &published, &image, &earned, &outcome_line(&outcome)).await;
    if cli.json {
        eprint!("{text}");
        println!("{}", serde_json::to_string(&outcome)?);
    } else {
        print!("{text}");
    }
    if cli.keep {
        eprintln!("status: {}  (Ctrl-C ends everything)", site.status_url("status"));
        tokio::signal::ctrl_c().await?;
    }
    Ok(updated == expected && paid_once)
}

fn outcome_line(outcome: &Outcome) -> String {
    format!(
        "{} of {total} sensors updated · {} of {total} receipts paid",
        outcome.sensors_updated,
        outcome.receipts_paid,
        total = outcome.sensors_total
    )
}

async fn site(cli: &Cli, program: &Path, folder: &Path, say: &Narrator) -> Result<Site> {
    let mut plan = Plan::new(Programs::new(program), folder);
    plan.sensors = cli.sensors.into();
    // Everybody awake at once would be no demo of sleeping sensors, nor would it be kind to two cores.
    plan.wake_ms = 400 + 10 * u64::from(cli.sensors) + cli.seed % 100;
    let chain = Chain::devchain(BLOCK_TIME)?;
    say.step(format!("chain {} at {}", crate::chain::CHAIN_ID, chain.url()));
    let broker = Broker::embedded().await?;
    say.step(format!("MQTT broker at {}", broker.address()));
    let site = Site::prepare(plan, chain, broker).await?;
    say.step(format!(
        "vendor: factory {} · fleet of {} enrolled · proving key made",
        site.factory,
        site.sensors.len()
    ));
    Ok(site)
}

async fn publish(cli: &Cli, site: &Site, image: &[u8], folder: &Path, say: &Narrator) -> Result<Published> {
    let file = folder.join("firmware.bin");
    std::fs::write(&file, image)?;
    let mode = match cli.mode {
        Mode::Key => "key",
        Mode::File => "file",
    };
    let published = site.publish(&file, mode).await?;
    let Published { bounty, version, gas } = &published;
    say.step(format!(
        "vendor: published version {version}, {} bytes, bounty {bounty}, {gas} gas",
        image.len()
    ));
    Ok(published)
}

fn start(site: &mut Site, say: &Narrator) -> Result<()> {
    site.start_seeder()?;
    for number in 0..site.distributors.len() {
        site.start_distributor(number, &[])?;
        say.step(format!("distributor {number}: {}", site.distributors[number].address));
    }
    site.start_gateway(&[])?;
    site.start_sensors()?;
    say.step(format!("gateway and {} sensors started", site.sensors.len()));
    Ok(())
}

async fn finish(site: &mut Site, image: &[u8], published: &Published, expected: usize) -> Result<()> {
    site.updated(image, LIMIT).await?;
    site.paid(published.version, expected, LIMIT).await?;
    site.reported(published.version, LIMIT).await
}

/// Claims and pay by the contract's events, gas by the receipts of all that the distributor sent.
async fn earnings(site: &Site, published: &Published) -> Result<Vec<Earned>> {
    let provider = site.chain.provider();
    let bounty: Address = published.bounty.parse()?;
    let filter = Filter::new()
        .address(bounty)
        .from_block(0)
        .event_signature(UpdateBounty::KeyRevealed::SIGNATURE_HASH);
    let revealed = provider.get_logs(&filter).await?;
    let head = provider.get_block_number().await?;
    let mut earned = Vec::new();
    for number in 0..site.distributors.len() {
        let address = funded(number + 1)?.address();
        let mut one = Earned { address: address.to_string(), claims: 0, paid: U256::ZERO, gas: 0 };
        for log in &revealed {
            let event = UpdateBounty::KeyRevealed::decode_log(&log.inner)?;
            if event.payee == address {
                one.claims += 1;
                one.paid += U256::from(event.amount);
            }
        }
        earned.push(one);
    }
    for block in 0..=head {
        for receipt in provider.get_block_receipts(block.into()).await?.unwrap_or_default() {
            let sender = receipt.from.to_string();
            for one in earned.iter_mut().filter(|one| one.address == sender) {
                one.gas += receipt.gas_used;
            }
        }
    }
    Ok(earned)
}
