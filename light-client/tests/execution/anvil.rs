//! The same against anvil, which is nobody's own: another implementation of state, receipts and JSON-RPC.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use alloy::eips::eip2718::Encodable2718;
use alloy::primitives::{Address, B256, TxKind, U256};
use alloy::providers::{Provider, RootProvider};
use posthouse_devchain::dev_accounts;
use posthouse_light_client::execution::{Block, Filter, verify_header};
use serde_json::Value;

use crate::product::Vendor;
use crate::stage::{PROBE, dynamic, rpc, slot, words};

const NOW: u64 = 1_800_000_000;

/// An anvil of our own; it ends with this.
struct Anvil {
    process: Child,
    url: String,
}

impl Anvil {
    fn start() -> Option<Self> {
        let mut process = Command::new(find()?)
            .args(["--port", "0", "--hardfork", "osaka", "--enable-tx-gas-limit", "--no-mining"])
            .args(["--timestamp", &NOW.to_string()])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(process.stdout.take().unwrap()).lines();
        let address =
            lines.map(Result::unwrap).find_map(|line| line.strip_prefix("Listening on ").map(str::to_owned));
        Some(Self { process, url: format!("http://{}", address.unwrap()) })
    }

    fn provider(&self) -> RootProvider {
        // A second installation fails, and is not needed.
        let _ = rustls::crypto::ring::default_provider().install_default();
        RootProvider::new_http(self.url.parse().unwrap())
    }

    /// The head, by the hash that anvil gives it: this is what a sync committee would have proven.
    async fn head(&self) -> Block {
        let header = self.provider().get_block(Default::default()).await.unwrap().unwrap().header;
        verify_header(header.hash, &header.inner).unwrap()
    }
}

impl Drop for Anvil {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Where anvil is, as `npm ci` in `contracts/` puts it; npm's own `anvil` is a script that starts this.
fn find() -> Option<PathBuf> {
    let arch = match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    };
    let modules = Path::new(env!("CARGO_MANIFEST_DIR")).join("../contracts/node_modules");
    let installed = modules.join(format!("@foundry-rs/anvil-{}-{arch}/bin/anvil", std::env::consts::OS));
    let candidates = [std::env::var_os("POSTHOUSE_ANVIL").map(PathBuf::from), Some(installed)];
    let looked: Vec<_> = candidates.into_iter().flatten().collect();
    let found = looked.iter().find(|path| path.is_file()).cloned();
    if found.is_none() {
        eprintln!("SKIPPED: no anvil (npm ci in contracts/, or POSTHOUSE_ANVIL); looked at {looked:?}");
    }
    found
}

#[tokio::test]
async fn the_latest_version_is_proven_on_anvil() {
    let Some(anvil) = Anvil::start() else { return };
    let vendor = Vendor::start(&anvil.url, NOW).await;
    vendor.check(&rpc(&[&anvil.url]), &anvil.head().await).await;
}

#[tokio::test]
async fn receipts_logs_words_and_absence_are_proven_on_anvil() {
    let Some(anvil) = Anvil::start() else { return };
    let provider = anvil.provider();
    let sender = &dev_accounts()[1];
    let probe = sender.address().create(0);
    let send = async |nonce, to, input| {
        let raw = dynamic(sender, nonce, to, input).encoded_2718();
        let hash = *provider.send_raw_transaction(&raw).await.unwrap().tx_hash();
        let _: Value = provider.raw_request("evm_mine".into(), ()).await.unwrap();
        hash
    };
    let _: B256 = send(0, TxKind::Create, PROBE).await;
    let mut sent = Vec::new();
    for nonce in 1..=5 {
        sent.push(send(nonce, TxKind::Call(probe), words(&[nonce, nonce * 10])).await);
    }
    let _: Value = provider.raw_request("anvil_mine".into(), ["0x50"]).await.unwrap();
    let (rpc, head) = (rpc(&[&anvil.url]), anvil.head().await);

    let slots: Vec<_> = (0..=6).map(slot).collect();
    let (_, found) = rpc.account(&head, probe, &slots).await.unwrap();
    assert_eq!(found, [0u64, 10, 20, 30, 40, 50, 0].map(U256::from));
    assert!(!rpc.account(&head, Address::repeat_byte(0xee), &[slot(0)]).await.unwrap().0.exists);

    let logs = rpc.logs(&head, &Filter::of(probe), 0).await.unwrap();
    assert_eq!(logs.iter().map(|log| log.transaction_hash).collect::<Vec<_>>(), sent);
    let one = rpc.logs(&head, &Filter::of(probe).topic(1, slot(3)), 0).await.unwrap();
    assert_eq!(one, logs[2..3]);
    let hints = rpc.hints(&Filter::of(probe), 0, head.number, &[]).await.unwrap().unwrap();
    assert_eq!(hints.logs.len(), 5);
    for (hash, log) in sent.iter().zip(&logs) {
        let receipt = rpc.receipt(&head, *hash).await.unwrap().unwrap();
        assert_eq!((receipt.success, &receipt.logs[..]), (true, std::slice::from_ref(log)));
    }
    assert_eq!(rpc.receipt(&head, B256::repeat_byte(1)).await.unwrap(), None);
    assert_eq!(rpc.header(head.hash).await.unwrap(), head);
}
