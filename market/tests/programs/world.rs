//! A chain, folders and programs for one test.

use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use posthouse_devchain::beacon::{self, Beacon};
use posthouse_devchain::{Config, DevChain, free_port};
use posthouse_protocol::id::{Curve, DeviceKey};
use posthouse_protocol::key::SigningKey;
use serde_json::Value;
use tempfile::TempDir;

/// A state that a program reaches by itself is waited for so long.
pub(crate) const PATIENCE: Duration = Duration::from_secs(120);
pub(crate) const CHAIN: u64 = 31_337;
/// Wei for each device: worth the gas of one redemption at the fees of the test's chain.
pub(crate) const SHARE: u64 = 1_000_000_000_000_000;
pub(crate) const VENDOR_ID: &str = "fa6b4a53-d5ad-5fdf-be9d-e663e4d41ffe";
pub(crate) const CLASS_ID: &str = "1492af14-2569-5e48-bf42-9b2d51f2ab45";

pub(crate) struct World {
    /// Before the chain that it follows, so that it ends first.
    pub(crate) beacon: Beacon,
    pub(crate) chain: Arc<DevChain>,
    pub(crate) folder: TempDir,
    pub(crate) devices: Vec<SigningKey>,
    /// Where distributors reach the chain.
    pub(crate) rpc: Vec<String>,
    /// Where they claim in one step.
    pub(crate) relay: Option<String>,
    /// After how long they send a transaction again that is in no block.
    pub(crate) resubmit: Duration,
    /// Devices that are enrolled before those, and of which nothing is heard.
    pub(crate) silent: Vec<DeviceKey>,
    factory: Option<String>,
}

impl World {
    /// A chain with a block every 100 ms, and a fleet of five.
    pub(crate) fn new() -> Self {
        Self::with(Config::default(), 5)
    }

    /// A chain with a block every 100 ms, and a fleet of up to 255.
    pub(crate) fn with(config: Config, devices: u8) -> Self {
        let block_time = Some(Duration::from_millis(100));
        let chain = Arc::new(DevChain::start(Config { block_time, ..config }).unwrap());
        let slots = beacon::Config { slot: Duration::from_millis(25), ..Default::default() };
        let beacon = Beacon::start(&chain, slots).unwrap();
        let key = |i: u8| SigningKey::from_bytes(Curve::Secp256k1, &[i + 1; 32]).unwrap();
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("network.yaml"), beacon.network_yaml()).unwrap();
        let (devices, rpc) = ((0..devices).map(key).collect(), vec![chain.url().to_owned()]);
        let resubmit = Duration::from_secs(2);
        Self { beacon, chain, folder, devices, rpc, relay: None, resubmit, silent: Vec::new(), factory: None }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// The key of a funded account, in a file with mode 0600.
    fn key_file(&self, name: &str, account: usize) {
        let key = self.chain.accounts()[account].to_bytes();
        posthouse_market::secret_file::create(&self.path(name), &key.0).unwrap();
    }

    fn chain_section(&self, rpc: &[String]) -> String {
        let factory = self.factory.as_ref();
        let factory = factory.map(|at| format!("factory = \"{at}\"\n")).unwrap_or_default();
        format!("[chain]\nid = {CHAIN}\nrpc = {rpc:?}\npoll_ms = 50\n{factory}")
    }

    /// What a distributor's settings say more of the chain than a vendor's: that it is proven.
    fn proven_chain_section(&self) -> String {
        let (url, checkpoint) = (self.beacon.url(), self.beacon.checkpoint());
        let chain = self.chain_section(&self.rpc);
        format!("{chain}network = \"network.yaml\"\nbeacon = [\"{url}\"]\ncheckpoint = \"{checkpoint}\"\n")
    }

    pub(crate) fn factory(&self) -> &str {
        self.factory.as_ref().unwrap()
    }

    pub(crate) fn write_vendor(&self) {
        let chain = self.chain_section(&[self.chain.url().to_owned()]);
        let text = format!(
            "state_dir = \"vendor\"
             [product]\nvendor_id = \"{VENDOR_ID}\"\nclass_id = \"{CLASS_ID}\"
             [keys]\nethereum = \"vendor.key\"\nrelease = \"release.key\"\npeer = \"vendor-peer.key\"
             {chain}
             [dsn]\nlisten = [\"/ip4/127.0.0.1/tcp/0\"]\nfleet = \"test\"
             [join]\nper_minute = 100
             [publish]\nshare = \"0.001 ether\"\n"
        );
        std::fs::write(self.path("vendor.toml"), text).unwrap();
    }

    /// Keys, fleet, factory and proving keys: everything but a publication.
    pub(crate) fn set_up_vendor(&mut self) {
        self.enrol_and_deploy();
        self.vendor(&["setup"]);
    }

    /// The same without proving keys, which take long to make.
    pub(crate) fn enrol_and_deploy(&mut self) {
        self.key_file("vendor.key", 0);
        self.write_vendor();
        self.vendor(&["keygen"]);
        let devices = self.devices.iter().map(SigningKey::device_key);
        let keys: Vec<DeviceKey> = self.silent.iter().copied().chain(devices).collect();
        let list = self.list("devices", &keys);
        assert_eq!(self.vendor(&["enrol", &list])["devices"], keys.len());
        let deployed = self.vendor(&["deploy", "--with-deployer", "--yes"]);
        assert_eq!(self.vendor(&["deploy"])["factory"], deployed["factory"], "once for a chain");
        self.factory = deployed["factory"].as_str().map(str::to_string);
        self.write_vendor();
    }

    /// Writes a list of devices for `enrol`.
    pub(crate) fn list(&self, name: &str, keys: &[DeviceKey]) -> String {
        let lines: String = keys.iter().map(|key| format!("{key}\n")).collect();
        std::fs::write(self.path(name), format!("# a fleet\n{lines}")).unwrap();
        self.path(name).to_str().unwrap().to_string()
    }

    pub(crate) fn image(&self, name: &str, length: usize) -> String {
        let bytes: Vec<u8> = (0..length).map(|i| (i * 7 + i / 256) as u8).collect();
        std::fs::write(self.path(name), bytes).unwrap();
        self.path(name).to_str().unwrap().to_string()
    }

    pub(crate) fn vendor_command(&self, args: &[&str]) -> Command {
        let mut command = self.asking_vendor_command(args);
        // Nobody is there to ask.
        if args[0] == "publish" && !args.contains(&"--dry-run") {
            command.arg("--yes");
        }
        command
    }

    /// One that asks before it spends.
    pub(crate) fn asking_vendor_command(&self, args: &[&str]) -> Command {
        program(env!("CARGO_BIN_EXE_posthouse-vendor"), &self.path("vendor.toml"), args)
    }

    /// Runs a command that must succeed.
    pub(crate) fn vendor(&self, args: &[&str]) -> Value {
        json(&self.vendor_command(args).output().unwrap())
    }

    /// Runs a command that must fail with exit code 1, and gives what it says.
    pub(crate) fn vendor_fails(&self, args: &[&str]) -> String {
        let output = self.vendor_command(args).output().unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(1), "{said}");
        said
    }

    pub(crate) fn seed(&self) -> Running {
        Running::start(self.vendor_command(&["seed"]))
    }

    /// Settings of a distributor whose first source is the vendor's seeder.
    pub(crate) fn write_distributor(&self, name: &str, account: usize, seeder: &Running) {
        if !self.path(&format!("{name}.key")).exists() {
            self.key_file(&format!("{name}.key"), account);
        }
        let (address, release_key) = (self.chain.accounts()[0].address(), self.release_key());
        let (chain, peer) = (self.proven_chain_section(), seeder.address());
        let relay = self.relay.as_ref().map(|url| format!("[redeem]\nprivate_relay = \"{url}\"\n"));
        let (relay, resubmit_ms) = (relay.unwrap_or_default(), self.resubmit.as_millis());
        // One port for all its lives, so that who knows it finds it again.
        let port = free_port().unwrap().port();
        let text = format!(
            "state_dir = \"{name}\"
             [keys]\nethereum = \"{name}.key\"\npeer = \"{name}-peer.key\"
             {chain}
             [dsn]\nlisten = [\"/ip4/127.0.0.1/tcp/{port}\"]\nfleet = \"test\"\nbootstrap = [\"{peer}\"]
             [sale]\nwindow = \"1h\"\nresubmit_ms = {resubmit_ms}\nretry_after_ms = 50
             {relay}
             [[vendors]]\naddress = \"{address}\"\nrelease_key = \"{release_key}\"\npeers = [\"{peer}\"]
             products = [{{ vendor_id = \"{VENDOR_ID}\", class_id = \"{CLASS_ID}\" }}]\n"
        );
        std::fs::write(self.path(&format!("{name}.toml")), text).unwrap();
        self.distributor(name, &["keygen"]);
    }

    pub(crate) fn release_key(&self) -> String {
        self.vendor(&["keygen"])["release_key"].as_str().unwrap().to_string()
    }

    pub(crate) fn distributor_command(&self, name: &str, args: &[&str]) -> Command {
        let config = self.path(&format!("{name}.toml"));
        program(env!("CARGO_BIN_EXE_posthouse-distributor"), &config, args)
    }

    pub(crate) fn distributor(&self, name: &str, args: &[&str]) -> Value {
        json(&self.distributor_command(name, args).output().unwrap())
    }
}

pub(crate) fn program(path: &str, config: &Path, args: &[&str]) -> Command {
    let mut command = Command::new(path);
    command.arg("--json").arg("--config").arg(config).args(args);
    command.env("RUST_LOG", "info").stdin(Stdio::null());
    command
}

pub(crate) fn json(output: &Output) -> Value {
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    serde_json::from_slice(&output.stdout).unwrap()
}

/// A program that runs until it is dropped, and what it said first.
pub(crate) struct Running {
    child: Child,
    /// The lines that it says.
    said: Receiver<String>,
    pub(crate) ready: Value,
}

impl Running {
    /// Waits for the line that says it is ready.
    pub(crate) fn start(mut command: Command) -> Self {
        let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
        let out = BufReader::new(child.stdout.take().unwrap());
        let (sender, said) = channel();
        // Until the program ends, or nobody listens any more.
        std::thread::spawn(move || out.lines().map_while(Result::ok).try_for_each(|line| sender.send(line)));
        let mut running = Self { child, said, ready: Value::Null };
        running.ready = running.says();
        running
    }

    /// Waits for the next line that it says.
    pub(crate) fn says(&self) -> Value {
        serde_json::from_str(&self.said.recv_timeout(PATIENCE).unwrap()).unwrap()
    }

    /// Where others connect to it.
    pub(crate) fn address(&self) -> String {
        self.ready["addresses"][0].as_str().unwrap().to_string()
    }

    #[cfg(feature = "fault-injection")]
    pub(crate) fn has_died(&mut self) -> bool {
        self.child.try_wait().unwrap().is_some()
    }

    /// Waits until it dies by itself.
    #[cfg(feature = "fault-injection")]
    pub(crate) fn wait(&mut self) -> std::process::ExitStatus {
        until("the program dies", || self.has_died());
        self.child.wait().unwrap()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Looks until it is so. A test that waits in vain fails; none goes on by time alone.
pub(crate) fn until(what: &str, mut so: impl FnMut() -> bool) {
    let start = Instant::now();
    while !so() {
        assert!(start.elapsed() < PATIENCE, "waited in vain: {what}");
        std::thread::park_timeout(Duration::from_millis(20));
    }
}
