//! Prints what a site of many sleeping sensors asks of its gateway, one `name value unit` a line. Run it by
//! `cargo xtask figures sensors`; with numbers as arguments it measures sites of so many sensors instead.
//!
//! Each site is whole: chain with a beacon, broker (mosquitto, where it is installed), vendor, distributor, and the gateway as a process
//! of its own, which follows the chain by its light client. Half of the sensors speak MQTT, half CoAP, each sleeps 1 to 30 s between
//! wakes; they live in one process beside the gateway, on the same processors, their flash in memory. All have registered, and sleep, when an update is
//! published; they wake when the gateway has its package, so that in every wake something is pending. For N sensors:
//!
//! - `agent_rss_N`: the most memory that the gateway had resident until all was over (`VmHWM`); `agent_rss_registered_N`: what it had
//!   (`VmRSS`) when all were registered and nothing was wanted.
//! - `agent_cpu_N`: processor time that it took, from its start until every sensor ran the update and was paid for.
//! - `wake_p50_N`, `wake_p99_N`: from a wake to the first manifest, sign request or block that came in it; connecting is part of it.
//! - `updated_N`, `paid_N`: sensors that run the update and said so; those that were paid for by the contract's events.
//! - `update_N`: seconds from the first wake until the last sensor said that it runs the update.
//!
//! And over all: `bytes_per_sensor`, by what the gateway had resident with the largest site registered and the smallest;
//! `bytes_per_updating_sensor`, by the most that it had; `wake_p50` and `wake_p99` are those of the largest.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "its output is what it is for")]

use std::fs;
use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use posthouse_tests::broker::{Broker, program};
use posthouse_tests::chain::Chain;
use posthouse_tests::poll::until;
use posthouse_tests::process::{Process, Programs};
use posthouse_tests::roles::dispatch;
use posthouse_tests::scene::configure;
use posthouse_tests::site::{Plan, Site};
use posthouse_tests::usage::{cpu_seconds, kib};
use serde_json::Value;
use tempfile::TempDir;

/// Sites that are measured, by their sensors.
const SIZES: [usize; 3] = [100, 1000, 2000];
/// How long sensors sleep, ms.
const WAKE_MS: (u64, u64) = (1_000, 30_000);
/// Bytes of the image.
const IMAGE: usize = 64 * 1024;
/// A version that nobody publishes.
const NEVER: u64 = u64::MAX >> 1;
/// Between two blocks of the chain.
const BLOCK_TIME: Duration = Duration::from_millis(250);
/// A step that takes longer has failed.
const LIMIT: Duration = Duration::from_secs(300);
/// How long the distributor gathers receipts: until even who sleeps longest has signed.
const WINDOW: &str = "90s";
fn main() -> ExitCode {
    if let Some(code) = dispatch(std::env::args_os()) {
        return code;
    }
    match measure() {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("scale: {why:#}");
            ExitCode::FAILURE
        }
    }
}

#[tokio::main]
async fn measure() -> Result<()> {
    let asked = std::env::args().skip(1).map(|size| size.parse().context(size));
    let asked: Vec<usize> = asked.collect::<Result<_>>()?;
    let sizes = if asked.is_empty() { SIZES.to_vec() } else { asked };
    let mut measured = Vec::new();
    for sensors in sizes {
        let site = site(sensors).await?;
        site.print(sensors);
        measured.push((sensors, site));
    }
    if let (Some((few, least)), Some((many, most))) = (measured.first(), measured.last()) {
        let each =
            |kib: fn(&Measured) -> u64| (kib(most) as f64 - kib(least) as f64) * 1024.0 / (many - few) as f64;
        if many > few {
            print("bytes_per_sensor", format!("{:.0}", each(|site| site.registered)), "B");
            print("bytes_per_updating_sensor", format!("{:.0}", each(|site| site.peak)), "B");
        }
        print("wake_p50", format!("{:.1}", most.wake_ms.0), "ms");
        print("wake_p99", format!("{:.1}", most.wake_ms.1), "ms");
    }
    Ok(())
}

/// Of one site; memory in KiB.
struct Measured {
    registered: u64,
    peak: u64,
    cpu_s: f64,
    update_s: f64,
    wake_ms: (f64, f64),
    updated: u64,
    paid: usize,
}

impl Measured {
    fn print(&self, n: usize) {
        let mib = |kib: u64| format!("{:.1}", kib as f64 / 1024.0);
        print(&format!("agent_rss_{n}"), mib(self.peak), "MiB");
        print(&format!("agent_rss_registered_{n}"), mib(self.registered), "MiB");
        print(&format!("agent_cpu_{n}"), format!("{:.1}", self.cpu_s), "s");
        print(&format!("wake_p50_{n}"), format!("{:.1}", self.wake_ms.0), "ms");
        print(&format!("wake_p99_{n}"), format!("{:.1}", self.wake_ms.1), "ms");
        print(&format!("updated_{n}"), self.updated, "sensors");
        print(&format!("paid_{n}"), self.paid, "sensors");
        print(&format!("update_{n}"), format!("{:.1}", self.update_s), "s");
    }
}

/// Sensors have flash of their own, and do not wait for the gateway's disk: theirs is in memory, where Linux has a folder for that.
fn flash() -> Result<TempDir> {
    let memory = Path::new("/dev/shm");
    Ok(if memory.is_dir() { tempfile::tempdir_in(memory)? } else { tempfile::tempdir()? })
}

async fn site(sensors: usize) -> Result<Measured> {
    let folder = tempfile::tempdir()?;
    let programs = Programs::new(std::env::current_exe()?);
    let flash = flash()?;
    let plan =
        Plan { sensors, distributors: 1, flash: flash.path().into(), ..Plan::new(programs, folder.path()) };
    let chain = Chain::devchain(BLOCK_TIME)?;
    let broker = match program("mosquitto") {
        Some(mosquitto) => Broker::mosquitto(&mosquitto, folder.path()).await?,
        None => Broker::embedded().await?,
    };
    let mut site = Site::prepare(plan, chain, broker).await?;
    configure(&site.distributors[0].config, |settings| {
        if let Some(sale) = settings.get_mut("sale").and_then(toml::Value::as_table_mut) {
            sale.insert("window".into(), WINDOW.into());
        }
    })?;
    site.start_seeder()?;
    site.start_distributor(0, &[])?;
    site.start_gateway(&[])?;
    until("the gateway", LIMIT, async || Ok(site.get("status").await.map(drop))).await?;
    let mut herd = site.start_herd(WAKE_MS, NEVER, LIMIT)?;
    registered(&mut site, &mut herd, sensors).await?;
    herd.kill().await?;
    let gateway = site.gateway()?.id().context("the gateway runs")?;
    let registered = kib(gateway, "VmRSS")?;

    let image = folder.path().join("image");
    fs::write(&image, (0..IMAGE).map(|at| (at % 251) as u8).collect::<Vec<_>>())?;
    let published = site.publish(&image, "key").await?;
    until("the gateway to have the package", LIMIT, async || {
        site.still_running()?;
        let updates = site.get("updates").await;
        Ok(updates.filter(|updates| updates[0]["u_id"].is_string()).map(drop))
    })
    .await
    .with_context(|| site.tail())?;
    let begun = Instant::now();
    let mut herd = site.start_herd(WAKE_MS, published.version, LIMIT)?;
    let ended = until("the herd to be updated", LIMIT, async || {
        site.still_running()?;
        herd.ended()
    });
    let ended = ended.await.with_context(|| site.tail())?;
    let update_s = begun.elapsed().as_secs_f64();
    let printed = herd.printed();
    let sum: Value = serde_json::from_str(printed.lines().last().context("the herd says what came of it")?)?;
    ensure!(ended.success(), "the herd ended with {ended}: {sum}");
    site.paid(published.version, sensors, LIMIT).await.with_context(|| site.tail())?;
    Ok(Measured {
        registered,
        peak: kib(gateway, "VmHWM")?,
        cpu_s: cpu_seconds(gateway)?,
        update_s,
        wake_ms: (millis(&sum, "first_p50_ms")?, millis(&sum, "first_p99_ms")?),
        updated: sum["done"].as_u64().context("done")?,
        paid: site.devices_paid(published.version).await?,
    })
}

/// Waits until the gateway knows them all. It is not asked often: that would be part of what is measured.
async fn registered(site: &mut Site, herd: &mut Process, sensors: usize) -> Result<()> {
    let begun = Instant::now();
    loop {
        site.still_running()?;
        ensure!(herd.ended()?.is_none(), "the herd ended: {}", herd.printed());
        let status = site.get("status").await;
        let known = status.and_then(|status| status["agent"]["devices"].as_u64()).unwrap_or(0);
        if known >= sensors as u64 {
            return Ok(());
        }
        ensure!(begun.elapsed() < LIMIT, "{known} of {sensors} sensors are registered: {}", site.tail());
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
}

fn millis(sum: &Value, name: &str) -> Result<f64> {
    sum[name].as_f64().with_context(|| format!("{name} in {sum}"))
}

fn print(name: &str, value: impl std::fmt::Display, unit: &str) {
    println!("{name} {value} {unit}");
}
