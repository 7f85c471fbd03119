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
//!   `wake_p50_mqtt_N` and so on: of one carrier. `unreachable_N`: wakes that the link cut short.
//! - `update_N`: seconds from the first wake until the last sensor said that it runs the update; of these `delegated_N`: until the first
//!   sensor had signed that the gateway speaks for it, `offered_N`: until a distributor's offer was verified, `signed_N`: until the last
//!   receipt was signed, `staged_N`: until the image was there.
//! - `rest_p50_N`, `rest_p99_N`: how long a client waits for the status meanwhile: each resource in turn (of devices a page of a hundred),
//!   ten times a second; `rest_answers_N`: so many answers. `rest_p99_R_N`: those of one resource.
//!   `rest_fetching_N`: sensors that fetched the image while it asked, by the metrics: the most.
//!
//! And over all: `bytes_per_sensor`, by what the gateway had resident with the largest site registered and the smallest;
//! `bytes_per_updating_sensor`, by the most that it had; `wake_p50` and `wake_p99` are those of the largest.
#![allow(clippy::print_stdout, reason = "its output is what it is for")]

use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::process::ExitCode;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use posthouse_audit::Kind;
use posthouse_audit::read::Filter;
use posthouse_tests::broker::{Broker, program};
use posthouse_tests::chain::Chain;
use posthouse_tests::poll::until;
use posthouse_tests::process::{Process, Programs};
use posthouse_tests::roles::measures;
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
    measures("scale", measure)
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
    /// By carrier.
    wakes: Vec<(&'static str, (f64, f64))>,
    unreachable: u64,
    /// What was first or last done so long after the first wake, s.
    milestones: Vec<(&'static str, f64)>,
    rest: Rest,
    updated: u64,
    paid: usize,
}

/// What the status is asked for, in turn, and what the figure is called.
const RESOURCES: [(&str, &str); 8] = [
    ("v1/status", "status"),
    ("v1/devices?limit=100", "devices"),
    ("v1/updates", "updates"),
    ("v1/exchanges", "exchanges"),
    ("v1/overview", "overview"),
    ("v1/peers", "peers"),
    ("v1/usage", "usage"),
    ("metrics", "metrics"),
];
/// From one question to the next.
const ASKS: Duration = Duration::from_millis(100);

/// What a client of the status saw.
#[derive(Default)]
struct Rest {
    /// How long each answer took, ms, of each resource.
    took: [Vec<f64>; RESOURCES.len()],
    fetching: u64,
}

impl Rest {
    /// Asks on and on.
    async fn ask(address: SocketAddr, seen: Arc<Mutex<Self>>) -> Result<()> {
        let client = reqwest::Client::builder().timeout(LIMIT).no_proxy().build()?;
        let mut beat = tokio::time::interval(ASKS);
        beat.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        for at in (0..RESOURCES.len()).cycle() {
            beat.tick().await;
            let begun = Instant::now();
            let answer = client.get(format!("http://{address}/{}", RESOURCES[at].0)).send().await?;
            let text = answer.error_for_status()?.text().await?;
            let took = begun.elapsed().as_secs_f64() * 1000.0;
            let fetching = text.lines().find_map(|line| line.strip_prefix("posthouse_sensors_downloading "));
            let mut seen = seen.lock().unwrap_or_else(PoisonError::into_inner);
            seen.took[at].push(took);
            seen.fetching = seen.fetching.max(fetching.and_then(|count| count.parse().ok()).unwrap_or(0));
        }
        Ok(())
    }

    fn print(&self, n: usize) {
        let mut all = self.took.concat();
        print(&format!("rest_answers_{n}"), all.len(), "answers");
        print(&format!("rest_fetching_{n}"), self.fetching, "sensors");
        print(&format!("rest_p50_{n}"), format!("{:.1}", quantile(&mut all, 50)), "ms");
        print(&format!("rest_p99_{n}"), format!("{:.1}", quantile(&mut all, 99)), "ms");
        for ((_, name), took) in RESOURCES.iter().zip(&self.took) {
            let p99 = quantile(&mut took.clone(), 99);
            print(&format!("rest_p99_{name}_{n}"), format!("{p99:.1}"), "ms");
        }
    }
}

/// The smallest of these that so many in a hundred do not exceed.
fn quantile(of: &mut [f64], percent: usize) -> f64 {
    of.sort_by(f64::total_cmp);
    of.get((of.len() * percent).div_ceil(100).saturating_sub(1)).copied().unwrap_or(f64::NAN)
}

/// When what happened, by the gateway's audit log, s after a moment in Unix ms.
fn milestones(log: &Path, begun: u64) -> Result<Vec<(&'static str, f64)>> {
    let (mut delegated, mut offered, mut signed, mut staged) = (None, None, None, None);
    posthouse_audit::read::read(log, &Filter::default(), |record, _| {
        let at = Some(record.time.saturating_sub(begun) as f64 / 1000.0);
        match record.kind {
            Kind::DelegationSigned => delegated = delegated.or(at),
            Kind::OfferAccepted => offered = offered.or(at),
            Kind::ReceiptSigned => signed = at,
            Kind::ImageStaged => staged = staged.or(at),
            _ => {}
        }
        Ok(())
    })?;
    let all = [("delegated", delegated), ("offered", offered), ("signed", signed), ("staged", staged)];
    Ok(all.into_iter().filter_map(|(name, at)| Some((name, at?))).collect())
}

impl Measured {
    fn print(&self, n: usize) {
        let mib = |kib: u64| format!("{:.1}", kib as f64 / 1024.0);
        print(&format!("agent_rss_{n}"), mib(self.peak), "MiB");
        print(&format!("agent_rss_registered_{n}"), mib(self.registered), "MiB");
        print(&format!("agent_cpu_{n}"), format!("{:.1}", self.cpu_s), "s");
        print(&format!("wake_p50_{n}"), format!("{:.1}", self.wake_ms.0), "ms");
        print(&format!("wake_p99_{n}"), format!("{:.1}", self.wake_ms.1), "ms");
        for (carrier, (p50, p99)) in &self.wakes {
            print(&format!("wake_p50_{carrier}_{n}"), format!("{p50:.1}"), "ms");
            print(&format!("wake_p99_{carrier}_{n}"), format!("{p99:.1}"), "ms");
        }
        print(&format!("unreachable_{n}"), self.unreachable, "wakes");
        for (name, at) in &self.milestones {
            print(&format!("{name}_{n}"), format!("{at:.1}"), "s");
        }
        self.rest.print(n);
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
    let (begun, moment) = (Instant::now(), posthouse_audit::now());
    let mut herd = site.start_herd(WAKE_MS, published.version, LIMIT)?;
    let seen = Arc::<Mutex<Rest>>::default();
    let client = tokio::spawn(Rest::ask(site.status, Arc::clone(&seen)));
    let ended = until("the herd to be updated", LIMIT, async || {
        site.still_running()?;
        ensure!(!client.is_finished(), "the status does not answer");
        herd.ended()
    });
    let ended = ended.await.with_context(|| site.tail())?;
    let update_s = begun.elapsed().as_secs_f64();
    client.abort();
    let _aborted = client.await;
    let rest = std::mem::take(&mut *seen.lock().unwrap_or_else(PoisonError::into_inner));
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
        // A small site may have no sensor on one of them.
        wakes: ["mqtt", "coap"]
            .into_iter()
            .filter_map(|carrier| {
                let of = &sum[carrier];
                Some((carrier, (of["first_p50_ms"].as_f64()?, of["first_p99_ms"].as_f64()?)))
            })
            .collect(),
        unreachable: sum["unreachable"].as_u64().context("unreachable")?,
        milestones: milestones(&folder.path().join("gateway/audit.jsonl"), moment)?,
        rest,
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
