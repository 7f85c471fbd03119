//! `idle SMALL FULL`: prints what each of two gateways takes when nothing happens, one `name value unit` a line. Run it by `cargo xtask figures
//! agent`, which builds both with the features and profiles of their packages, for this machine: x86-64 with glibc. The program of the .ipk is the small
//! one for aarch64, static with musl: its figures are others.
//!
//! Each gateway is a whole one, with its first start: it follows a chain by its light client at the main network's pace (blocks and slots of 12 s,
//! `poll_ms` of 12 s), is connected to vendor and distributor, to a mosquitto of its own, and listens for CoAP and for the status. The testbed is
//! not optimised, the gateways are.
//!
//! - `stripped_*`: bytes of the program, as it is installed.
//! - `ready_*`: from the start of the process until `/readyz` says that it is: a final block is proven. `ready` is the longer one.
//! - `idle_rss_*`: what it has resident (`VmRSS`) after two minutes; `idle_cpu_*` the part of one core that it had in the second of them,
//!   and `open_files_*` what it holds then. `idle_cpu` is the larger one.
//! - `mosquitto_*`: the same of mosquitto, beside the full one.
#![allow(clippy::print_stdout, reason = "its output is what it is for")]

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use posthouse_tests::broker::{Broker, program};
use posthouse_tests::chain::Chain;
use posthouse_tests::poll::until;
use posthouse_tests::process::Programs;
use posthouse_tests::roles::{Role, measures};
use posthouse_tests::scene::configure;
use posthouse_tests::site::{Plan, Site, client};
use posthouse_tests::usage::{cpu_seconds, kib, open_files};

/// The main network's.
const SLOT: Duration = Duration::from_secs(12);
/// From its start until it counts as idle, and for which it is watched then.
const WHILE: Duration = Duration::from_secs(60);
/// A gateway that is not ready by then has failed.
const LIMIT: Duration = Duration::from_secs(60);
/// Between two questions whether it is ready.
const ASK: Duration = Duration::from_millis(5);

fn main() -> ExitCode {
    measures("idle", measure)
}

#[tokio::main]
async fn measure() -> Result<()> {
    let mut programs = std::env::args_os().skip(1).map(PathBuf::from);
    let (small, full) = (programs.next().context("SMALL")?, programs.next().context("FULL")?);
    let [(of_small, _), (of_full, mosquitto)] = [gateway(&small).await?, gateway(&full).await?];
    for (kind, program, taken) in [("small", &small, &of_small), ("full", &full, &of_full)] {
        print(&format!("stripped_{kind}"), mib(std::fs::metadata(program)?.len()), "MiB");
        print(&format!("idle_rss_{kind}"), mib(taken.rss), "MiB");
        print(&format!("ready_{kind}"), taken.ready_s, "s");
        print(&format!("idle_cpu_{kind}"), taken.cpu, "%");
        println!("open_files_{kind} {} files", taken.files);
    }
    print("ready", of_small.ready_s.max(of_full.ready_s), "s");
    print("idle_cpu", of_small.cpu.max(of_full.cpu), "%");
    println!("open_files {} files", of_small.files.max(of_full.files));
    print("mosquitto_rss", mib(mosquitto.rss), "MiB");
    print("mosquitto_cpu", mosquitto.cpu, "%");
    println!("mosquitto_open_files {} files", mosquitto.files);
    Ok(())
}

/// Of one process.
struct Taken {
    /// Bytes.
    rss: u64,
    /// Percent of a core.
    cpu: f64,
    files: usize,
    ready_s: f64,
}

/// What a gateway takes, and the mosquitto beside it.
async fn gateway(gateway: &Path) -> Result<(Taken, Taken)> {
    let folder = tempfile::tempdir()?;
    let programs = Programs::new(std::env::current_exe()?).instead(Role::Gateway, [gateway]);
    let plan = Plan { sensors: 2, distributors: 1, ..Plan::new(programs, folder.path()) };
    let mosquitto = program("mosquitto").context("mosquitto is needed")?;
    let broker = Broker::mosquitto(&mosquitto, folder.path()).await?;
    let mut site = Site::prepare(plan, Chain::paced(SLOT, SLOT)?, broker).await?;
    configure(&site.gateway_config(), |settings| {
        if let Some(chain) = settings.get_mut("chain").and_then(toml::Value::as_table_mut) {
            chain.insert("poll_ms".into(), 12_000.into());
        }
    })?;
    site.start_seeder()?;
    site.start_distributor(0, &[])?;
    // A new chain has nothing final yet, and none that its committee signed for some slots more; the main network always has.
    until("something final", 20 * SLOT, async || site.chain.has_final().await.map(|is| is.then_some(())))
        .await?;
    let begun = Instant::now();
    site.start_gateway(&[])?;
    ready(&mut site).await.with_context(|| site.tail())?;
    let ready_s = begun.elapsed().as_secs_f64();
    tokio::time::sleep(WHILE).await;
    let pids =
        [site.gateway()?.id().context("the gateway runs")?, site.broker.id().context("mosquitto runs")?];
    let before = pids.map(cpu_seconds);
    let watched = Instant::now();
    tokio::time::sleep(WHILE).await;
    let mut taken = Vec::new();
    for (pid, before) in pids.into_iter().zip(before) {
        let cpu = (cpu_seconds(pid)? - before?) / watched.elapsed().as_secs_f64() * 100.0;
        taken.push(Taken { rss: kib(pid, "VmRSS")? * 1024, cpu, files: open_files(pid)?, ready_s });
    }
    site.still_running()?;
    let mosquitto = taken.pop().context("two")?;
    Ok((taken.pop().context("two")?, mosquitto))
}

async fn ready(site: &mut Site) -> Result<()> {
    let (http, url) = (client()?, format!("http://{}/readyz", site.status));
    let begun = Instant::now();
    loop {
        site.still_running()?;
        if http.get(&url).send().await.is_ok_and(|answer| answer.status().is_success()) {
            return Ok(());
        }
        anyhow::ensure!(begun.elapsed() < LIMIT, "the gateway is not ready");
        tokio::time::sleep(ASK).await;
    }
}

fn mib(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}

fn print(name: &str, value: f64, unit: &str) {
    println!("{name} {value:.2} {unit}");
}
