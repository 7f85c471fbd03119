//! What following a chain costs: bytes, time, memory, and size of the program.

use std::error::Error;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use alloy::network::TransactionBuilder as _;
use alloy::primitives::{Address, B256};
use alloy::providers::{Provider as _, ProviderBuilder};
use alloy::rpc::types::TransactionRequest;
use posthouse_devchain::{DevChain, Proxy, beacon, beacon::Beacon};
use posthouse_light_client::client::{Clock, Config, LightClient};
use posthouse_light_client::http::Limits;
use posthouse_light_client::spec::Network;

use crate::{median, print};

/// Each program runs this often.
const RUNS: usize = 5;
/// `PUSH1 42, PUSH0, SSTORE` when it is deployed, and no code after that.
const CONTRACT: &[u8] = &[0x60, 0x2a, 0x5f, 0x55];
const SLOTS_OF_AN_EPOCH: u64 = 32;

/// A devchain under a beacon, with a contract that keeps 42 in slot 0.
struct Scene {
    chain: DevChain,
    /// A slot for each block, so that an epoch needs no waiting.
    beacon: Beacon,
    /// Slots by the computer's clock, which is the one that programs have.
    timely: Beacon,
    contract: Address,
    folder: tempfile::TempDir,
}

pub(crate) async fn print_all() -> Result<(), Box<dyn Error>> {
    let scene = Scene::new().await?;
    let (beacon, execution) = scene.epoch().await?;
    print("epoch_beacon_bytes", beacon, "bytes");
    print("epoch_bytes", beacon + execution, "bytes");
    let (follow, trusting) = (program("follow")?, program("trusting")?);
    let (mut ready, mut with, mut without) = (Vec::new(), Vec::new(), Vec::new());
    for run in 0..RUNS {
        let store = scene.folder.path().join(run.to_string());
        let proven = scene.follow(&follow, &store.with_extension("follow"))?;
        let told = scene.trust(&trusting, &store.with_extension("trusting"))?;
        ready.push(number(&proven, "ready_ms")?);
        with.push(number(&proven, "VmHWM:")?);
        without.push(number(&told, "VmHWM:")?);
    }
    print("ready_ms", format!("{:.1}", median(ready)), "ms");
    print("rss_added_MiB", format!("{:.1}", (median(with) - median(without)) / 1024.0), "MiB");
    let size = |path: &Path| path.metadata().map(|file| file.len());
    let added = size(&follow)?.saturating_sub(size(&trusting)?);
    print("binary_added_KiB", added / 1024, "KiB");
    Ok(())
}

impl Scene {
    async fn new() -> Result<Self, Box<dyn Error>> {
        // reqwest asks for a TLS provider even where there is no TLS; a second installation fails, and is not needed.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let chain = DevChain::start(posthouse_devchain::Config::default())?;
        let provider = ProviderBuilder::new().wallet(chain.accounts()[0].clone());
        let provider = provider.connect_http(chain.url().parse()?);
        let deploy = TransactionRequest::default().with_deploy_code(CONTRACT.to_vec());
        let sent = provider.send_transaction(deploy).await?;
        let receipt = provider.get_transaction_receipt(*sent.tx_hash()).await?.ok_or("not mined")?;
        let contract = receipt.contract_address.ok_or("nothing deployed")?;
        chain.mine_many(2 * SLOTS_OF_AN_EPOCH)?;
        let timely = Beacon::start(&chain, beacon::Config::default())?;
        let slots = beacon::Slots::Manual;
        let beacon = Beacon::start(&chain, beacon::Config { slots, ..Default::default() })?;
        Ok(Self { chain, beacon, timely, contract, folder: tempfile::tempdir()? })
    }

    /// Bytes of the beacon's and of the execution endpoint's answers while an epoch is finalized and asked about once.
    async fn epoch(&self) -> Result<(u64, u64), Box<dyn Error>> {
        let seen = Arc::new(AtomicU64::new(0));
        let counter = seen.clone();
        let proxy = Proxy::start(self.chain.url(), move |_, _, answer| {
            counter.fetch_add(answer.to_string().len() as u64, Ordering::Relaxed);
        })?;
        let network = Network::from_yaml(&self.beacon.network_yaml())?;
        let client = LightClient::open(Config {
            chain_id: self.chain.chain_id(),
            network: Arc::new(network),
            checkpoint: Some(self.beacon.checkpoint()),
            allow_stale_checkpoint: false,
            beacon: vec![self.beacon.url().to_owned()],
            rpc: vec![proxy.url().to_owned()],
            store: self.folder.path().join("epoch"),
            limits: Limits::default(),
            finality_alarm: Config::FINALITY_ALARM,
            clock: self.clock(),
        })?;
        // The committee, and the chain id that each endpoint is asked for once, are no epoch's.
        let before = client.sync_once().await?;
        client.rpc().account(&before, self.contract, &[B256::ZERO]).await?;
        let (beacon, execution) = (client.status().received, seen.load(Ordering::Relaxed));
        self.chain.mine_many(SLOTS_OF_AN_EPOCH)?;
        let after = client.sync_once().await?;
        if after.number != before.number + SLOTS_OF_AN_EPOCH {
            return Err(format!("finalized {} after {}", after.number, before.number).into());
        }
        client.rpc().account(&after, self.contract, &[B256::ZERO]).await?;
        Ok((client.status().received - beacon, seen.load(Ordering::Relaxed) - execution))
    }

    /// The chain's slots are its blocks; its time is far ahead of them, so that none is yet to come.
    fn clock(&self) -> Clock {
        let time = self.beacon.time_of(self.beacon.slot() + 2 * SLOTS_OF_AN_EPOCH);
        Clock::new(move || time)
    }

    fn follow(&self, program: &Path, store: &Path) -> Result<String, Box<dyn Error>> {
        let network = self.folder.path().join("network.yaml");
        std::fs::write(&network, self.timely.network_yaml())?;
        let mut command = Command::new(program);
        command.arg(network).arg(self.timely.checkpoint().to_string()).arg(self.timely.url());
        self.ask(&mut command, store)
    }

    fn trust(&self, program: &Path, store: &Path) -> Result<String, Box<dyn Error>> {
        self.ask(&mut Command::new(program), store)
    }

    fn ask(&self, command: &mut Command, store: &Path) -> Result<String, Box<dyn Error>> {
        let slot = B256::ZERO.to_string();
        let out =
            command.arg(self.chain.url()).arg(self.contract.to_string()).arg(slot).arg(store).output()?;
        let printed = String::from_utf8(out.stdout)?;
        let word =
            printed.lines().next().unwrap_or_default().trim_start_matches("0x").trim_start_matches('0');
        if word == "2a" {
            return Ok(printed);
        }
        Err(format!("{command:?}: {printed}{}", String::from_utf8_lossy(&out.stderr)).into())
    }
}

/// The number after `name` in what a program printed.
fn number(printed: &str, name: &str) -> Result<f64, Box<dyn Error>> {
    let line = printed.lines().find_map(|line| line.strip_prefix(name));
    let word = line.and_then(|rest| rest.split_whitespace().next());
    Ok(word.ok_or_else(|| format!("no {name} in {printed}"))?.parse()?)
}

/// Another example, which cargo put beside this one.
fn program(name: &str) -> Result<PathBuf, Box<dyn Error>> {
    let path = std::env::current_exe()?.with_file_name(name);
    if path.is_file() {
        return Ok(path);
    }
    Err(format!("{} is not there: run cargo xtask figures light-client", path.display()).into())
}
