//! `cargo xtask testbed`: what packaging/containers/compose.yaml describes, by one command.

use std::{
    fs,
    process::Stdio,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, anyhow, bail, ensure};
use clap::{Args, Subcommand};
use serde_json::Value;

use crate::{
    containers::{self, Engine},
    run::run,
    tools,
};

const FILE: &str = "packaging/containers/compose.yaml";
const PROJECT: &str = "posthouse-testbed";
const GATEWAYS: [&str; 2] = ["gateway-1", "gateway-2"];
const DISTRIBUTORS: [&str; 2] = ["distributor-1", "distributor-2"];
/// Of each gateway.
const SENSORS: usize = 10;
/// Where setup.sh left the image, in the vendor's container.
const FIRMWARE: &str = "/var/lib/posthouse-vendor/firmware.bin";
/// How long gateways may take to be ready, and an update to be everywhere.
const READY: Duration = Duration::from_secs(180);
const DELIVERED: Duration = Duration::from_secs(900);
const EVERY: Duration = Duration::from_secs(2);

/// A chain, a vendor, two distributors, two sites.
#[derive(Subcommand, Clone, Copy)]
pub(crate) enum Testbed {
    /// Build the images, start everything, and say how to go on.
    Up(Images),
    /// Stop everything and forget its state.
    Down,
    /// Start everything, publish an update, wait until each sensor runs it and is paid for, stop everything. Logs are left in
    /// `target/testbed/logs` if it fails.
    Run(Images),
}

#[derive(Args, Clone, Copy, Default)]
pub(crate) struct Images {
    /// Take the images as they are.
    #[arg(long)]
    no_build: bool,
}

pub(crate) fn carry_out(order: Testbed) -> Result<()> {
    let bed = Bed(Engine::find()?);
    match order {
        Testbed::Up(images) => {
            bed.up(images)?;
            println!("{}", bed.hint("vendor", &format!("posthouse-vendor publish {FIRMWARE} --yes"))?);
            println!("{}", bed.hint(GATEWAYS[0], "posthouse status")?);
            Ok(())
        }
        Testbed::Down => bed.down(),
        Testbed::Run(images) => {
            let outcome = bed.up(images).and_then(|()| bed.update());
            let kept = if outcome.is_err() { bed.keep_logs() } else { Ok(()) };
            let down = bed.down();
            outcome.and(kept).and(down)
        }
    }
}

struct Bed(Engine);

impl Bed {
    /// Everything anew, until the gateways have read a final block.
    fn up(&self, images: Images) -> Result<()> {
        if !images.no_build {
            containers::images(&self.0)?.iter().for_each(|line| println!("{line}"));
        }
        self.down()?;
        // In steps: that preparing failed is known at once, and podman-compose makes requirements of dependencies, which hold for
        // nothing that has ended.
        run(self.0.compose(FILE)?.args(["up", "--detach", "chain"]))?;
        run(self.0.compose(FILE)?.args(["run", "--rm", "-T", "setup"]))?;
        let mut all = self.0.compose(FILE)?;
        all.args(["up", "--detach"]).args(matches!(self.0, Engine::Podman(_)).then_some("--no-deps"));
        run(&mut all)?;
        for gateway in GATEWAYS {
            until(&format!("{gateway} to be ready"), READY, || {
                self.says(gateway, &["posthouse", "status", "--ready"]).map(|_| Some(()))
            })?;
            println!("{gateway} is ready");
        }
        Ok(())
    }

    fn down(&self) -> Result<()> {
        run(self.0.compose(FILE)?.args(["down", "--volumes"])).map(drop)
    }

    /// Publishes, and waits until each sensor runs the version by its gateway's word and all are paid for by the chain's.
    fn update(&self) -> Result<()> {
        let published = self.asks("vendor", &["posthouse-vendor", "--json", "publish", FIRMWARE, "--yes"])?;
        let version = published["version"].as_u64().with_context(|| format!("a version in {published}"))?;
        println!("published version {version}, bounty {}", published["bounty"].as_str().unwrap_or_default());
        let all = SENSORS * GATEWAYS.len();
        let mut before = (0, 0);
        until(&format!("{all} sensors to be updated and paid for"), DELIVERED, || {
            let mut updated = 0;
            for gateway in GATEWAYS {
                updated += self.sensors(gateway)?.iter().filter(|one| one["installed"] == version).count();
            }
            let now = (updated, self.paid(version)?);
            if now != before {
                println!("{} of {all} sensors updated, {} paid for", now.0, now.1);
                before = now;
            }
            Ok((now == (all, all)).then_some(()))
        })?;
        self.show()
    }

    /// A line for each gateway, sensor and distributor.
    fn show(&self) -> Result<()> {
        let text = |value: &Value| value.as_str().unwrap_or("-").to_owned();
        for gateway in GATEWAYS {
            let status = self.asks(gateway, &["posthouse", "status", "--json"])?;
            let chain = &status["status"]["chain"];
            let states = status["exchanges"].as_array().map_or(&[][..], Vec::as_slice);
            let states: Vec<String> = states.iter().map(|one| text(&one["state"])).collect();
            println!(
                "{gateway}: {}, block {} final, {}",
                text(&chain["trust"]),
                chain["finalized"],
                states.join(", ")
            );
            for one in self.sensors(gateway)? {
                println!(
                    "  {}  {:<4}  version {}",
                    text(&one["device"]),
                    text(&one["carrier"]),
                    one["installed"]
                );
            }
        }
        for distributor in DISTRIBUTORS {
            let status = self.asks(distributor, &["posthouse-distributor", "--json", "status"])?;
            let bounties = status["bounties"].as_array().into_iter().flatten();
            let paid: u64 = bounties.filter_map(|one| one["devices_paid"].as_u64()).sum();
            println!("{distributor}: paid for {paid} sensors");
        }
        Ok(())
    }

    fn sensors(&self, gateway: &str) -> Result<Vec<Value>> {
        let mut status = self.asks(gateway, &["posthouse", "status", "--json"])?;
        match status["devices"].take() {
            Value::Array(devices) => Ok(devices),
            other => bail!("{gateway} has no devices: {other}"),
        }
    }

    /// How many are paid for, by the vendor's reading of the chain.
    fn paid(&self, version: u64) -> Result<usize> {
        let status = self.asks("vendor", &["posthouse-vendor", "--json", "status"])?;
        let releases = status["releases"].as_array().into_iter().flatten();
        let release = releases.into_iter().find(|one| one["version"] == version).context("the release")?;
        Ok(usize::try_from(release["chain"]["devices_paid"].as_u64().unwrap_or(0))?)
    }

    /// What a program in a service's container prints as JSON, on its last line.
    fn asks(&self, service: &str, program: &[&str]) -> Result<Value> {
        let printed = self.says(service, program)?;
        let line = printed.lines().last().with_context(|| format!("{program:?} printed nothing"))?;
        serde_json::from_str(line).with_context(|| format!("{program:?} printed {line}"))
    }

    fn says(&self, service: &str, program: &[&str]) -> Result<String> {
        let container = self.container(service)?;
        let out = self.0.command().args(["exec", &container]).args(program).stdin(Stdio::null()).output()?;
        let why = String::from_utf8_lossy(&out.stderr);
        ensure!(out.status.success(), "{service}: {program:?} ended with {}: {why}", out.status);
        Ok(String::from_utf8(out.stdout)?)
    }

    fn container(&self, service: &str) -> Result<String> {
        let found = self.containers(&["--filter", &format!("label=com.docker.compose.service={service}")])?;
        found.into_iter().next().with_context(|| format!("no container runs for {service}"))
    }

    /// Names of the testbed's containers.
    fn containers(&self, options: &[&str]) -> Result<Vec<String>> {
        let project = format!("label=com.docker.compose.project={PROJECT}");
        let mut list = self.0.command();
        list.args(["ps", "--format", "{{.Names}}", "--filter", &project]).args(options);
        let printed = String::from_utf8(list.output()?.stdout)?;
        Ok(printed.lines().map(str::to_owned).collect())
    }

    fn hint(&self, service: &str, program: &str) -> Result<String> {
        let engine = match self.0 {
            Engine::Docker => "docker",
            Engine::Podman(_) => "cargo xtask podman --",
        };
        Ok(format!("{engine} exec {} {program}", self.container(service)?))
    }

    /// What each container printed, a file each.
    fn keep_logs(&self) -> Result<()> {
        let folder = tools::target()?.join("testbed/logs");
        if folder.exists() {
            fs::remove_dir_all(&folder)?;
        }
        fs::create_dir_all(&folder)?;
        for name in self.containers(&["--all"])? {
            let file = fs::File::create(folder.join(format!("{name}.log")))?;
            let mut logs = self.0.command();
            logs.args(["logs", &name]).stdin(Stdio::null()).stdout(file.try_clone()?).stderr(file);
            logs.status()?;
        }
        println!("logs are in {}", folder.display());
        Ok(())
    }
}

/// Asks until there is an answer. A question that fails is asked again: a program that restarts or has much to do is no failure
/// before the end. There is no way but to ask again: the programs are children of the container engine and not of this one, what they
/// print goes to its logs, and what is waited for (a status, the chain) has no question that waits until it changes. The limit bounds it.
fn until<T>(what: &str, limit: Duration, mut ask: impl FnMut() -> Result<Option<T>>) -> Result<T> {
    let begun = Instant::now();
    loop {
        let failed = match ask() {
            Ok(Some(answer)) => return Ok(answer),
            Ok(None) => None,
            Err(why) => Some(why),
        };
        if begun.elapsed() >= limit {
            let waited = format!("waited {} s in vain for {what}", limit.as_secs());
            return Err(match failed {
                Some(why) => why.context(waited),
                None => anyhow!(waited),
            });
        }
        thread::sleep(EVERY);
    }
}
