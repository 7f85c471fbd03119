//! A whole site: the vendor, distributors, one gateway and its sensors, each a process, in one folder.

use std::{
    fs::OpenOptions,
    io::Write as _,
    net::SocketAddr,
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use anyhow::{Context as _, Result, ensure};
use posthouse_actors::status::{self, Device, Exchange};
use posthouse_devchain::free_port;
use posthouse_protocol::{
    id::{Curve, ProductId},
    key::SigningKey,
};
use rand::RngCore as _;
use serde_json::Value;
use sha2::{Digest as _, Sha256};

use crate::{
    broker::Broker,
    chain::{CHAIN_ID, Chain, funded},
    poll::until,
    process::{Process, Programs},
    roles::Role,
};

/// How long any one step of a site may take before it counts as broken. Proofs are made by debug builds on small
/// machines that do other things as well.
pub const PATIENCE: Duration = Duration::from_secs(180);
/// What the vendor pays for each device.
const SHARE: &str = "0.01 ether";
/// UUIDs of the vendor and of its class of devices, as SUIT uses them.
const VENDOR_ID: &str = "9b2e7a54-6d1f-5c3e-8a90-1f4b7c2d6e01";
const CLASS_ID: &str = "41c8d0f2-7e35-5b9a-a6d4-3c0e9f182b76";

/// How a sensor of the site is reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Carrier {
    /// By the broker.
    Mqtt,
    /// By the gateway's CoAP endpoint.
    Coap,
}

/// What a site is made of.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The executable that has every role.
    pub programs: Programs,
    /// Where everything is kept.
    pub folder: PathBuf,
    /// Where the sensors keep what is in their flash.
    pub flash: PathBuf,
    /// Sensors: the first half speaks MQTT, the rest CoAP.
    pub sensors: usize,
    /// Distributors, at most three.
    pub distributors: usize,
    /// Bytes of a sensor's block.
    pub block: u16,
    /// How long a sensor sleeps, ms.
    pub wake_ms: u64,
    /// Curve of the sensors' keys: one for a product.
    pub curve: Curve,
    /// Environment of the gateway and of the distributors: crash points for the scenarios.
    pub gateway_env: Vec<(String, String)>,
    /// More keys of the gateway's configuration, as whole TOML sections.
    pub gateway_toml: String,
}

impl Plan {
    /// Six sensors, two distributors.
    #[must_use]
    pub fn new(programs: Programs, folder: impl Into<PathBuf>) -> Self {
        let folder = folder.into();
        Self {
            programs,
            flash: folder.clone(),
            folder,
            sensors: 6,
            distributors: 2,
            block: 1024,
            wake_ms: 400,
            curve: Curve::Secp256k1,
            gateway_env: Vec::new(),
            gateway_toml: String::new(),
        }
    }
}

/// A sensor of the site.
#[derive(Debug)]
pub struct Sensor {
    /// Its place in the fleet.
    pub index: usize,
    /// Public key, hex.
    pub key: String,
    /// How it is reached.
    pub carrier: Carrier,
    /// Its flash slot.
    pub slot: PathBuf,
    /// Its configuration.
    pub config: PathBuf,
    process: Option<Process>,
    started: Option<SystemTime>,
}

impl Sensor {
    /// From its start to the activation of the image, by its flash's own time.
    #[must_use]
    pub fn took(&self) -> Option<Duration> {
        let activated = std::fs::metadata(&self.slot).ok()?.modified().ok()?;
        activated.duration_since(self.started?).ok()
    }
}

/// A distributor of the site.
#[derive(Debug)]
pub struct Distributor {
    /// Its Ethereum address.
    pub address: String,
    /// Where it listens, with its peer id.
    pub multiaddr: String,
    /// Its configuration.
    pub config: PathBuf,
    folder: PathBuf,
    process: Option<Process>,
}

/// What the vendor published.
#[derive(Debug, Clone)]
pub struct Published {
    /// The contract.
    pub bounty: String,
    /// SUIT sequence number.
    pub version: u64,
    /// Gas of the transaction.
    pub gas: u64,
}

/// The site.
#[derive(Debug)]
pub struct Site {
    plan: Plan,
    /// The chain under it.
    pub chain: Chain,
    /// The broker of its MQTT sensors.
    pub broker: Broker,
    /// Its sensors.
    pub sensors: Vec<Sensor>,
    /// Its distributors.
    pub distributors: Vec<Distributor>,
    /// The factory's address.
    pub factory: String,
    /// The vendor's Ethereum address, release key and peer address.
    pub vendor: Vendor,
    /// Where the gateway serves its status.
    pub status: SocketAddr,
    /// Where the gateway serves CoAP.
    pub coap: SocketAddr,
    gateway: Option<Process>,
    seeder: Option<Process>,
    http: reqwest::Client,
}

/// What others know of the vendor.
#[derive(Debug, Clone)]
pub struct Vendor {
    /// Ethereum address.
    pub address: String,
    /// Release key, hex.
    pub release_key: String,
    /// Where it seeds, with its peer id.
    pub multiaddr: String,
    /// Its configuration.
    pub config: PathBuf,
}

impl Site {
    /// Makes keys and configurations, deploys the factory, enrols the sensors, makes the proving key. Starts nothing but
    /// what it was given.
    pub async fn prepare(plan: Plan, chain: Chain, broker: Broker) -> Result<Self> {
        let http = client()?;
        let sensors = (0..plan.sensors).map(|index| sensor(&plan, index)).collect::<Result<Vec<_>>>()?;
        let (vendor, factory) = vendor(&plan, &chain, &sensors).await?;
        let mut distributors = Vec::new();
        for number in 0..plan.distributors {
            distributors.push(distributor(&plan, &chain, &vendor, &factory, number).await?);
        }
        let (status, coap) = (free_port()?, free_port()?);
        let site = Self {
            chain,
            broker,
            sensors,
            distributors,
            factory,
            vendor,
            status,
            coap,
            gateway: None,
            seeder: None,
            http,
            plan,
        };
        site.write_configurations()?;
        Ok(site)
    }

    /// Vendor and class id of every site.
    #[must_use]
    pub fn product() -> ProductId {
        let uuid = |text: &str| {
            let mut bytes = [0; 16];
            // The constants are UUIDs.
            let _ = hex::decode_to_slice(text.replace('-', ""), &mut bytes);
            bytes
        };
        ProductId::from_parts(uuid(VENDOR_ID), uuid(CLASS_ID))
    }

    /// Publishes an image.
    pub async fn publish(&self, image: &Path, mode: &str) -> Result<Published> {
        let image = image.to_str().context("a path in UTF-8")?;
        let outcome = self.vendor_says(&["publish", image, "--mode", mode, "--yes"]).await?;
        Ok(Published {
            bounty: text(&outcome, "bounty")?,
            version: number(&outcome, "version")?,
            gas: number(&outcome, "gas_used")?,
        })
    }

    /// Runs a command of the vendor's program and reads its JSON.
    pub async fn vendor_says(&self, args: &[&str]) -> Result<Value> {
        says(&self.plan.programs, Role::Vendor, &self.vendor.config, args).await
    }

    /// Runs a command of a distributor's program and reads its JSON.
    pub async fn distributor_says(&self, number: usize, args: &[&str]) -> Result<Value> {
        says(&self.plan.programs, Role::Distributor, &self.distributors[number].config, args).await
    }

    /// The vendor begins to seed.
    pub fn start_seeder(&mut self) -> Result<()> {
        let log = self.plan.folder.join("vendor.log");
        self.seeder = Some(self.start("vendor", Role::Vendor, &self.vendor.config, &["seed"], &[], &log)?);
        Ok(())
    }

    /// A distributor begins to sell, with these variables in its environment.
    pub fn start_distributor(&mut self, number: usize, env: &[(String, String)]) -> Result<()> {
        let one = &self.distributors[number];
        let log = one.folder.join("log");
        let process = self.start(
            &format!("distributor {number}"),
            Role::Distributor,
            &one.config,
            &["run"],
            env,
            &log,
        )?;
        self.distributors[number].process = Some(process);
        Ok(())
    }

    /// The gateway begins, with the plan's environment, or with this one.
    pub fn start_gateway(&mut self, env: &[(String, String)]) -> Result<()> {
        let log = self.plan.folder.join("gateway.log");
        let config = self.gateway_config();
        self.gateway = Some(self.start("gateway", Role::Gateway, &config, &["run"], env, &log)?);
        Ok(())
    }

    /// All sensors begin to live.
    pub fn start_sensors(&mut self) -> Result<()> {
        for index in 0..self.sensors.len() {
            self.start_sensor(index)?;
        }
        Ok(())
    }

    /// One sensor begins to live.
    pub fn start_sensor(&mut self, index: usize) -> Result<()> {
        let config = self.sensors[index].config.clone();
        let log = config.with_extension("log");
        let process = self.start(&format!("sensor {index}"), Role::Sensor, &config, &["run"], &[], &log)?;
        self.sensors[index].process = Some(process);
        self.sensors[index].started = Some(SystemTime::now());
        Ok(())
    }

    /// All sensors begin to live, in one process. Each sleeps so long between its wakes, ms, from the first number to the second; the
    /// process ends when all run the version and have said so, or when the time is up.
    pub fn start_herd(&self, wake_ms: (u64, u64), version: u64, within: Duration) -> Result<Process> {
        let (broker, coap) = (self.broker.address().to_string(), self.coap.to_string());
        let (count, version) = (self.sensors.len().to_string(), version.to_string());
        let (wakes, within) = (format!("{}-{}", wake_ms.0, wake_ms.1), within.as_secs().to_string());
        let folder = self.plan.flash.to_str().context("a path in UTF-8")?;
        let mut args =
            vec!["herd", "--folder", folder, "--count", &count, "--mqtt", &broker, "--coap", &coap];
        args.extend(["--wake-ms", &wakes, "--until", &version, "--within", &within]);
        let template = &self.sensors.first().context("a sensor")?.config;
        self.start("herd", Role::Sensor, template, &args, &[], &self.plan.flash.join("herd.log"))
    }

    /// The gateway's process.
    pub fn gateway(&mut self) -> Result<&mut Process> {
        self.gateway.as_mut().context("the gateway was started")
    }

    /// A distributor's process.
    pub fn distributor(&mut self, number: usize) -> Result<&mut Process> {
        self.distributors[number].process.as_mut().context("the distributor was started")
    }

    /// The seeder's process.
    pub fn seeder(&mut self) -> Result<&mut Process> {
        self.seeder.as_mut().context("the vendor seeds")
    }

    /// A sensor's process.
    pub fn sensor(&mut self, index: usize) -> Result<&mut Process> {
        self.sensors[index].process.as_mut().context("the sensor was started")
    }

    /// A resource of the gateway's status; `None` while it does not answer.
    pub async fn get(&self, resource: &str) -> Option<Value> {
        let answer = self.http.get(self.status_url(resource)).send().await.ok()?.error_for_status().ok()?;
        serde_json::from_slice(&answer.bytes().await.ok()?).ok()
    }

    /// Waits until every sensor's flash holds exactly `image`; says which do not when it takes too long.
    pub async fn updated(&mut self, image: &[u8], limit: Duration) -> Result<()> {
        let wanted = Sha256::digest(image);
        let slots: Vec<PathBuf> = self.sensors.iter().map(|s| s.slot.clone()).collect();
        let outcome = until("every sensor's flash to hold the image", limit, async || {
            self.still_running()?;
            Ok(slots.iter().all(|slot| holds(slot, &wanted)).then_some(()))
        })
        .await;
        outcome.with_context(|| {
            let late: Vec<usize> = (0..slots.len()).filter(|i| !holds(&slots[*i], &wanted)).collect();
            format!(
                "sensors {late:?} are not updated; gateway: {}",
                tail(&self.plan.folder.join("gateway.log"))
            )
        })
    }

    /// Waits until this many devices are paid for, by the vendor's reading of the chain.
    pub async fn paid(&self, version: u64, devices: usize, limit: Duration) -> Result<()> {
        until(format!("{devices} devices to be paid for"), limit, async || {
            Ok((self.devices_paid(version).await? >= devices).then_some(()))
        })
        .await
    }

    /// Devices that are paid for, by the vendor's reading of the chain.
    pub async fn devices_paid(&self, version: u64) -> Result<usize> {
        let status = self.vendor_says(&["status"]).await?;
        let releases = status["releases"].as_array().context("releases")?;
        let release = releases.iter().find(|r| r["version"] == version).context("the release")?;
        Ok(usize::try_from(release["chain"]["devices_paid"].as_u64().unwrap_or(0))?)
    }

    /// Waits until the gateway has every sensor's word that it runs the version.
    pub async fn reported(&self, version: u64, limit: Duration) -> Result<()> {
        let expected = self.sensors.len();
        until("every sensor to report the version", limit, async || {
            let current = self.devices().await.iter().filter(|d| d.installed >= version).count();
            Ok((current >= expected).then_some(()))
        })
        .await
    }

    /// Sensors as the gateway knows them, a page after the other; none while it does not answer.
    pub async fn devices(&self) -> Vec<Device> {
        let mut all: Vec<Device> = Vec::new();
        loop {
            let cursor = all.last().map(|device| format!("?cursor={}", device.key)).unwrap_or_default();
            let answer = self.get(&format!("devices{cursor}")).await;
            let page: Vec<Device> =
                answer.and_then(|value| serde_json::from_value(value).ok()).unwrap_or_default();
            if page.is_empty() {
                return all;
            }
            all.extend(page);
        }
    }

    /// Exchanges as the gateway knows them; none while it does not answer.
    pub async fn exchanges(&self) -> Vec<Exchange> {
        let answer = self.get("exchanges").await;
        answer.and_then(|value| serde_json::from_value(value).ok()).unwrap_or_default()
    }

    /// Sensors as the exchange about this version knows them.
    pub async fn sensors_of(&self, version: u64) -> Vec<status::Sensor> {
        let exchanges = self.exchanges().await;
        exchanges.into_iter().filter(|one| one.version == version).flat_map(|one| one.sensors).collect()
    }

    /// The last lines that the gateway printed.
    #[must_use]
    pub fn tail(&self) -> String {
        tail(&self.plan.folder.join("gateway.log"))
    }

    /// Sensors whose flash holds exactly this image.
    #[must_use]
    pub fn holding(&self, image: &[u8]) -> usize {
        let wanted = Sha256::digest(image);
        self.sensors.iter().filter(|sensor| holds(&sensor.slot, &wanted)).count()
    }

    /// Where a resource of the gateway's status is.
    #[must_use]
    pub fn status_url(&self, resource: &str) -> String {
        format!("http://{}/v1/{resource}", self.status)
    }

    /// A number that a process logged as `name=…`, the first one.
    #[must_use]
    pub fn measured(&self, name: &str) -> Option<u64> {
        let distributors = self.distributors.iter().filter_map(|d| d.process.as_ref());
        let mark = format!("{name}=");
        distributors.chain(&self.gateway).find_map(|process| {
            let printed = process.printed();
            let (_, rest) = printed.split_once(&mark)?;
            rest.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok()
        })
    }

    /// An error if a process that should live has ended.
    pub fn still_running(&mut self) -> Result<()> {
        let distributors = self.distributors.iter_mut().filter_map(|d| d.process.as_mut());
        for process in self.gateway.iter_mut().chain(self.seeder.iter_mut()).chain(distributors) {
            if let Some(status) = process.ended()? {
                let printed = process.printed();
                let last = printed.lines().rev().take(12).collect::<Vec<_>>().join("\n");
                anyhow::bail!("{} ended with {status}: {last}", process.name());
            }
        }
        Ok(())
    }

    /// The gateway's configuration file.
    #[must_use]
    pub fn gateway_config(&self) -> PathBuf {
        self.plan.folder.join("gateway.toml")
    }

    fn start(
        &self,
        name: &str,
        role: Role,
        config: &Path,
        args: &[&str],
        env: &[(String, String)],
        log: &Path,
    ) -> Result<Process> {
        let mut command = self.plan.programs.command(role);
        command.args(args).arg("--config").arg(config).envs(env.iter().cloned());
        Process::start(name, command, log)
    }

    fn write_configurations(&self) -> Result<()> {
        let Vendor { address, release_key, multiaddr, .. } = &self.vendor;
        let sellers: Vec<&str> = self.distributors.iter().map(|d| d.multiaddr.as_str()).collect();
        let toml = format!(
            "state_dir = {state:?}\n\n[chain]\nrpc = [{rpc:?}]\nid = {CHAIN_ID}\nfactory = {factory:?}\npoll_ms = 200\n{trust}\n\
             [[products]]\nvendor = {address:?}\nvendor_id = {VENDOR_ID:?}\nclass_id = {CLASS_ID:?}\n\
             release_key = {release_key:?}\n\n[dsn]\nfleet = \"testbed\"\nbootstrap = [{multiaddr:?}]\n\
             distributors = {sellers:?}\n\n[sensors]\nallow_unauthenticated_signing = true\n\
             retry_after_secs = 1\n\n[sensors.mqtt]\nhost = \"{host}\"\nport = {port}\n\n\
             [sensors.coap]\nlisten = \"{coap}\"\n\n[status]\nlisten = \"{status}\"\n{more}",
            state = self.plan.folder.join("gateway"),
            rpc = self.chain.url(),
            trust = self.chain.trust(&self.plan.folder)?,
            factory = self.factory,
            host = self.broker.address().ip(),
            port = self.broker.address().port(),
            coap = self.coap,
            status = self.status,
            more = self.plan.gateway_toml,
        );
        std::fs::write(self.gateway_config(), toml)?;
        for sensor in &self.sensors {
            std::fs::write(&sensor.config, self.sensor_toml(sensor))?;
        }
        Ok(())
    }

    fn sensor_toml(&self, sensor: &Sensor) -> String {
        let (carrier, gateway) = match sensor.carrier {
            Carrier::Mqtt => ("mqtt", self.broker.address()),
            Carrier::Coap => ("coap", self.coap),
        };
        let folder = sensor.config.with_extension("d");
        format!(
            "carrier = {carrier:?}\ngateway = \"{gateway}\"\nkey_file = {key:?}\nrelease_key = {release:?}\n\
             vendor_id = {VENDOR_ID:?}\nclass_id = {CLASS_ID:?}\nstate_dir = {state:?}\nslot_file = {slot:?}\n\
             curve = {curve:?}\nblock = {block}\nwake_ms = {wake}\nawake_ms = 300\ninstalled = 0\n",
            key = folder.join("device.key"),
            release = self.vendor.release_key,
            state = folder.join("state"),
            slot = sensor.slot,
            curve = curve(&self.plan),
            block = self.plan.block,
            wake = self.plan.wake_ms + 37 * sensor.index as u64 % 200,
        )
    }
}

/// The curve's name in configurations.
fn curve(plan: &Plan) -> &'static str {
    match plan.curve {
        Curve::Secp256k1 => "secp256k1",
        Curve::P256 => "p256",
    }
}

fn sensor(plan: &Plan, index: usize) -> Result<Sensor> {
    let config = plan.flash.join(format!("sensor-{index}.toml"));
    let folder = config.with_extension("d");
    std::fs::create_dir_all(&folder)?;
    let key = SigningKey::generate(plan.curve, |bytes| rand::rng().fill_bytes(bytes))?;
    write_key(&folder.join("device.key"), &key.to_bytes())?;
    let carrier = if index < plan.sensors.div_ceil(2) { Carrier::Mqtt } else { Carrier::Coap };
    let slot = folder.join("flash");
    Ok(Sensor {
        index,
        key: key.device_key().to_string(),
        carrier,
        slot,
        config,
        process: None,
        started: None,
    })
}

async fn vendor(plan: &Plan, chain: &Chain, sensors: &[Sensor]) -> Result<(Vendor, String)> {
    let folder = plan.folder.join("vendor");
    std::fs::create_dir_all(&folder)?;
    write_key(&folder.join("ethereum.key"), &funded(0)?.to_bytes().0)?;
    let config = folder.join("vendor.toml");
    let listen = free_port()?;
    let write = |factory: Option<&str>| {
        let factory = factory.map(|f| format!("factory = {f:?}\n")).unwrap_or_default();
        let toml = format!(
            "state_dir = \"state\"\n[product]\nvendor_id = {VENDOR_ID:?}\nclass_id = {CLASS_ID:?}\ncurve = {curve:?}\n\
             [keys]\nethereum = \"ethereum.key\"\npeer = \"peer.key\"\nrelease = \"release.key\"\n\
             [chain]\nid = {CHAIN_ID}\nrpc = [{rpc:?}]\npoll_ms = 50\n{factory}\
             [dsn]\nlisten = [\"/ip4/127.0.0.1/tcp/{port}\"]\nfleet = \"testbed\"\n\
             [publish]\nshare = {SHARE:?}\n",
            curve = curve(plan),
            rpc = chain.url(),
            port = listen.port(),
        );
        std::fs::write(&config, toml)
    };
    write(None)?;
    let programs = &plan.programs;
    let keys = says(programs, Role::Vendor, &config, &["keygen"]).await?;
    let factory = text(
        &says(programs, Role::Vendor, &config, &["deploy", "--with-deployer", "--yes"]).await?,
        "factory",
    )?;
    write(Some(&factory))?;
    let devices = folder.join("devices.txt");
    std::fs::write(&devices, sensors.iter().map(|s| format!("{}\n", s.key)).collect::<String>())?;
    let devices = devices.to_str().context("a path in UTF-8")?.to_owned();
    says(programs, Role::Vendor, &config, &["enrol", &devices]).await?;
    says(programs, Role::Vendor, &config, &["setup"]).await?;
    let multiaddr = format!("/ip4/127.0.0.1/tcp/{}/p2p/{}", listen.port(), text(&keys, "peer_id")?);
    let (address, release_key) = (text(&keys, "ethereum_address")?, text(&keys, "release_key")?);
    Ok((Vendor { address, release_key, multiaddr, config }, factory))
}

async fn distributor(
    plan: &Plan,
    chain: &Chain,
    vendor: &Vendor,
    factory: &str,
    number: usize,
) -> Result<Distributor> {
    let folder = plan.folder.join(format!("distributor-{number}"));
    std::fs::create_dir_all(&folder)?;
    write_key(&folder.join("ethereum.key"), &funded(number + 1)?.to_bytes().0)?;
    let config = folder.join("distributor.toml");
    let listen = free_port()?;
    let toml = format!(
        "state_dir = \"state\"\n[keys]\nethereum = \"ethereum.key\"\npeer = \"peer.key\"\n\
         [chain]\nid = {CHAIN_ID}\nrpc = [{rpc:?}]\nfactory = {factory:?}\npoll_ms = 200\n{trust}\
         [dsn]\nlisten = [\"/ip4/127.0.0.1/tcp/{port}\"]\nbootstrap = [{peer:?}]\nfleet = \"testbed\"\n\
         [sale]\nwindow = \"20s\"\nretry_after_ms = 100\n\
         [[vendors]]\naddress = {address:?}\nrelease_key = {release:?}\npeers = [{peer:?}]\n\
         products = [{{ vendor_id = {VENDOR_ID:?}, class_id = {CLASS_ID:?} }}]\n",
        rpc = chain.url(),
        trust = chain.trust(&plan.folder)?,
        port = listen.port(),
        peer = vendor.multiaddr,
        address = vendor.address,
        release = vendor.release_key,
    );
    std::fs::write(&config, toml)?;
    let keys = says(&plan.programs, Role::Distributor, &config, &["keygen"]).await?;
    let multiaddr = format!("/ip4/127.0.0.1/tcp/{}/p2p/{}", listen.port(), text(&keys, "peer_id")?);
    let address = text(&keys, "ethereum_address")?;
    Ok(Distributor { address, multiaddr, config, folder, process: None })
}

async fn says(programs: &Programs, role: Role, config: &Path, args: &[&str]) -> Result<Value> {
    let config = config.to_str().context("a path in UTF-8")?;
    let all = ["--json", "--config", config].into_iter().chain(args.iter().copied());
    let printed = programs.output(role, all).await?;
    let line = printed.lines().last().with_context(|| format!("{args:?} printed nothing"))?;
    serde_json::from_str(line).with_context(|| format!("{args:?} printed {line}"))
}

fn text(value: &Value, key: &str) -> Result<String> {
    Ok(value[key].as_str().with_context(|| format!("{key} in {value}"))?.to_owned())
}

fn number(value: &Value, key: &str) -> Result<u64> {
    value[key].as_u64().with_context(|| format!("{key} in {value}"))
}

fn holds(slot: &Path, digest: &[u8]) -> bool {
    std::fs::read(slot).is_ok_and(|bytes| Sha256::digest(bytes)[..] == *digest)
}

fn tail(log: &Path) -> String {
    let printed = std::fs::read_to_string(log).unwrap_or_default();
    let lines: Vec<&str> = printed.lines().collect();
    lines[lines.len().saturating_sub(20)..].join("\n")
}

/// A key file as the programs take it: hex, readable by its owner alone.
fn write_key(path: &Path, key: &[u8; 32]) -> Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    writeln!(file, "{}", hex::encode(key))?;
    Ok(())
}

/// An HTTP client for what serves on loopback.
pub fn client() -> Result<reqwest::Client> {
    // The workspace's HTTP client has no TLS provider of its own; one must be there even for plain loopback.
    let _already = rustls::crypto::ring::default_provider().install_default();
    let client = reqwest::Client::builder().timeout(Duration::from_secs(5)).no_proxy().build()?;
    Ok(client)
}

/// The whole repository's default image for a demo: the first MiB of this executable, real machine code.
pub fn own_code(program: &Path) -> Result<Vec<u8>> {
    let mut code = std::fs::read(program)?;
    ensure!(code.len() >= 1 << 20, "{} is smaller than a mebibyte", program.display());
    code.truncate(1 << 20);
    Ok(code)
}
