//! The chain under a testbed: the in-process one with a beacon that light clients follow, or anvil, which has none and is
//! believed. Both are driven by the same JSON-RPC calls.

use std::{
    net::TcpStream,
    path::{Path, PathBuf},
    time::Duration,
};

use alloy::{
    providers::{DynProvider, Provider, ProviderBuilder},
    signers::local::PrivateKeySigner,
};
use anyhow::{Context as _, Result};
use posthouse_devchain::{
    DevChain,
    beacon::{self, Beacon},
    free_port,
};
use serde_json::{Value, json};
use tokio::process::Command;

use crate::{poll::until, process::Process};

/// The chain id of development chains.
pub const CHAIN_ID: u64 = 31_337;
/// Slots of the in-process chain: 32 of them, an epoch, are how often light clients look for finality.
const SLOT: Duration = Duration::from_millis(50);

/// A running chain on loopback.
#[derive(Debug)]
pub struct Chain {
    url: String,
    provider: DynProvider,
    node: Node,
}

#[derive(Debug)]
enum Node {
    // In the order in which they end.
    Devchain { beacon: Box<Beacon>, _chain: Box<DevChain> },
    Anvil { _process: Box<Process> },
}

impl Chain {
    /// The in-process chain, a block every `block_time`, finality two blocks behind the head.
    pub fn devchain(block_time: Duration) -> Result<Self> {
        Self::paced(block_time, SLOT)
    }

    /// The same with slots of that length, in whole milliseconds: 12 s for both is the main network's pace.
    pub fn paced(block_time: Duration, slot: Duration) -> Result<Self> {
        let chain = DevChain::start(posthouse_devchain::Config {
            chain_id: CHAIN_ID,
            block_time: Some(block_time),
            ..Default::default()
        })?;
        let beacon = Beacon::start(&chain, beacon::Config { slot, ..Default::default() })?;
        let url = chain.url().to_owned();
        Self::over(url, Node::Devchain { beacon: beacon.into(), _chain: chain.into() })
    }

    /// anvil under the same rules: Osaka, the transaction gas cap, finality two blocks behind the head.
    pub async fn anvil(program: &Path, block_time: Duration, folder: &Path) -> Result<Self> {
        let address = free_port()?;
        let mut command = Command::new(program);
        command
            .args(["--host", "127.0.0.1", "--port", &address.port().to_string()])
            .args(["--chain-id", &CHAIN_ID.to_string(), "--hardfork", "osaka", "--enable-tx-gas-limit"])
            .args([
                "--slots-in-an-epoch",
                "1",
                "--mixed-mining",
                "--block-time",
                &block_time.as_secs_f64().to_string(),
            ]);
        let process = Process::start("anvil", command, &folder.join("anvil.log"))?;
        until("anvil", Duration::from_secs(10), async || Ok(TcpStream::connect(address).ok().map(drop)))
            .await?;
        Self::over(format!("http://{address}"), Node::Anvil { _process: process.into() })
    }

    fn over(url: String, node: Node) -> Result<Self> {
        // alloy's HTTP client has no TLS provider of its own; one must be there even for plain loopback.
        let _already = rustls::crypto::ring::default_provider().install_default();
        let provider = ProviderBuilder::new().connect_http(url.parse()?).erased();
        Ok(Self { url, provider, node })
    }

    /// The JSON-RPC endpoint.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Lines of a `[chain]` section that say whom to believe: nobody where there is a beacon, from a block on that is
    /// final now. The network's constants go to a file in `folder`.
    pub fn trust(&self, folder: &Path) -> Result<String> {
        let Node::Devchain { beacon, .. } = &self.node else { return Ok("trust = \"rpc\"\n".into()) };
        let network = folder.join("network.yaml");
        std::fs::write(&network, beacon.network_yaml())?;
        let (url, checkpoint) = (beacon.url(), beacon.checkpoint());
        Ok(format!("network = {network:?}\nbeacon = [{url:?}]\ncheckpoint = \"{checkpoint}\"\n"))
    }

    /// Whether light clients get something final: on anvil they are not asked.
    pub async fn has_final(&self) -> Result<bool> {
        let Node::Devchain { beacon, .. } = &self.node else { return Ok(true) };
        let url = format!("{}/eth/v1/beacon/light_client/finality_update", beacon.url());
        Ok(crate::site::client()?.get(url).send().await?.status().is_success())
    }

    /// A provider for what the testbed itself asks.
    #[must_use]
    pub fn provider(&self) -> &DynProvider {
        &self.provider
    }

    /// Let `seconds` pass on the chain, and mine a block then.
    pub async fn pass(&self, seconds: u64) -> Result<()> {
        self.call("evm_increaseTime", json!([seconds])).await?;
        self.call("evm_mine", json!([])).await.map(drop)
    }

    /// Any method, with the answer as JSON.
    pub async fn call(&self, method: &'static str, params: Value) -> Result<Value> {
        self.provider.raw_request(method.into(), params).await.with_context(|| method)
    }
}

/// The `index`-th account that development chains fund (the mnemonic `test test … junk`, `m/44'/60'/0'/0/index`).
pub fn funded(index: usize) -> Result<PrivateKeySigner> {
    /// Public by design: every development chain has them, and they own nothing anywhere else.
    const KEYS: [&str; 4] = [
        "ac0974bec39a17e36ba4a6b4d238ff944bacb478cbed5efcae784d7bf4f2ff80",
        "59c6995e998f97a5a0044966f0945389dc9e86dae88c7a8412f4603b6b78690d",
        "5de4111afa1a4b94908f83103eb1f1706367c2e68ca870fc3fb9a804cdab365a",
        "7c852118294e51e653712a81e05800f419141751be58f605c371e15141b007a6",
    ];
    KEYS.get(index).context("there are four funded accounts")?.parse().context("the key is a key")
}

/// anvil's own executable: `$POSTHOUSE_ANVIL`, or where `npm ci` in `contracts/` puts it. (The wrapper that npm links
/// starts it as a child, which a kill of the wrapper would leave behind.)
#[must_use]
pub fn anvil_program() -> Option<PathBuf> {
    let modules = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../contracts/node_modules/@foundry-rs/anvil-linux-amd64/bin/anvil");
    let path = std::env::var_os("POSTHOUSE_ANVIL").map_or(modules, PathBuf::from);
    if !path.is_file() {
        tracing::warn!(
            "anvil is not here: looked at {} (set POSTHOUSE_ANVIL, or run npm ci in contracts/)",
            path.display()
        );
        return None;
    }
    Some(path)
}
