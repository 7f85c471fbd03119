//! The contracts at their address: how they come there, what is refused there.

use std::process::Output;
use std::sync::atomic::{AtomicU8, Ordering};

use alloy::consensus::{Transaction as _, TxEnvelope};
use alloy::eips::eip2718::Decodable2718 as _;
use alloy::primitives::{Address, U256, bytes, hex};
use alloy::providers::{Provider as _, RootProvider};
use posthouse_contracts::chain::{Limits, provider};
use posthouse_contracts::deployment::{
    Contract, DEPLOYER, DEPLOYER_COST, DEPLOYER_SENDER, DEPLOYER_TRANSACTION, FACTORY, P256_BOUNTY,
    SECP256K1_BOUNTY,
};
use posthouse_devchain::{Anvil, Config, DevChain, Proxy, dev_accounts};
use posthouse_protocol::id::ChainId;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::world::{CLASS_ID, VENDOR_ID, json, program};

/// Settings with a funded key, for a chain by its id and endpoint.
struct Vendor {
    folder: TempDir,
    node: RootProvider,
}

impl Vendor {
    fn new(id: u64, url: &str) -> Self {
        Self::with(id, url, "")
    }

    fn with(id: u64, url: &str, more: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let key = dev_accounts()[0].to_bytes();
        posthouse_market::secret_file::create(&folder.path().join("vendor.key"), &key.0).unwrap();
        let text = format!(
            "state_dir = \"vendor\"
             [product]\nvendor_id = \"{VENDOR_ID}\"\nclass_id = \"{CLASS_ID}\"
             [keys]\nethereum = \"vendor.key\"\nrelease = \"release.key\"\npeer = \"peer.key\"
             [chain]\nid = {id}\nrpc = [\"{url}\"]\npoll_ms = 50\n{more}
             [dsn]\nlisten = [\"/ip4/127.0.0.1/tcp/0\"]\nfleet = \"test\"
             [publish]\nshare = \"1 gwei\"\n"
        );
        std::fs::write(folder.path().join("vendor.toml"), text).unwrap();
        Self { folder, node: provider(&[url.into()], ChainId::new(id), Limits::default()).unwrap() }
    }

    fn run(&self, args: &[&str]) -> Output {
        let path = env!("CARGO_BIN_EXE_posthouse-vendor");
        program(path, &self.folder.path().join("vendor.toml"), args).output().unwrap()
    }

    /// Must succeed.
    fn does(&self, args: &[&str]) -> Value {
        json(&self.run(args))
    }

    /// Must fail with the exit code; gives what it says.
    fn fails(&self, code: i32, args: &[&str]) -> String {
        let output = self.run(args);
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(code), "{said}");
        said
    }

    /// Transactions that it has sent.
    async fn sent(&self) -> u64 {
        self.node.get_transaction_count(dev_accounts()[0].address()).await.unwrap()
    }

    async fn stands(&self, contract: &Contract) -> bool {
        contract.is(&self.node.get_code_at(contract.address).await.unwrap())
    }

    async fn put(&self, address: Address, code: &str) {
        let _: Value = self.node.raw_request("anvil_setCode".into(), json!([address, code])).await.unwrap();
    }
}

fn devchain(chain_id: u64) -> DevChain {
    DevChain::start(Config { chain_id, ..Config::default() }).unwrap()
}

#[allow(clippy::print_stderr, reason = "a test that is left out says so")]
fn anvil(hardfork: &str, chain_id: u64) -> Option<Anvil> {
    if Anvil::program().is_none() {
        eprintln!("SKIPPED: no anvil (npm ci in contracts/, or POSTHOUSE_ANVIL)");
        return None;
    }
    Some(Anvil::start(hardfork, &["--chain-id", &chain_id.to_string()]).unwrap())
}

/// Deploys on a fresh chain, and again.
async fn deploys(vendor: &Vendor, args: &[&str], transactions: u64) {
    let deployed = vendor.does(args);
    assert_eq!(deployed["factory"], FACTORY.address.to_string());
    assert_eq!(deployed["outcome"], "deployed");
    assert_eq!(deployed["p256_precompile"], true);
    assert!(deployed["gas_used"].as_u64().unwrap() > 1_000_000);
    let hash = deployed["transaction"].as_str().unwrap().parse().unwrap();
    assert!(vendor.node.get_transaction_receipt(hash).await.unwrap().unwrap().status());
    for contract in [FACTORY, SECP256K1_BOUNTY, P256_BOUNTY] {
        assert!(vendor.stands(&contract).await, "{}", contract.name);
    }
    assert_eq!(vendor.sent().await, transactions);
    let again = vendor.does(&["deploy"]);
    assert_eq!(again["factory"], deployed["factory"]);
    assert_eq!(again["outcome"], "stood-already");
    assert_eq!(again["transaction"], Value::Null);
    assert_eq!(vendor.sent().await, transactions, "nothing more is sent");
}

#[tokio::test]
async fn the_factory_has_one_address_on_chains_of_different_id() {
    for id in [31_337, 5_555_555] {
        let chain = devchain(id);
        // The first transaction pays for the proxy.
        deploys(&Vendor::new(id, chain.url()), &["deploy", "--with-deployer", "--yes"], 2).await;
    }
    // Where the proxy is from the beginning.
    let Some(anvil) = anvil("osaka", 777) else { return };
    deploys(&Vendor::new(777, anvil.url()), &["deploy", "--yes"], 1).await;
}

#[tokio::test]
async fn without_the_proxy_nothing_is_sent_unasked() {
    let chain = devchain(1);
    let vendor = Vendor::new(1, chain.url());
    let said = vendor.fails(1, &["deploy"]);
    assert!(said.contains("the deterministic deployment proxy is not on this chain"), "{said}");
    assert!(said.contains("--with-deployer") && said.contains("10000000000000000 wei"), "{said}");
    let plan = vendor.does(&["deploy", "--dry-run"]);
    assert_eq!((&plan["stands"], &plan["deployer_stands"]), (&json!(false), &json!(false)));
    assert_eq!(plan["deployer_wei"], "10000000000000000");
    assert_eq!((vendor.sent().await, chain.head().number()), (0, 0));
}

#[tokio::test]
async fn a_dry_run_shows_and_does_nothing() {
    let chain = devchain(1);
    let vendor = Vendor::new(1, chain.url());
    vendor.put(DEPLOYER.address, &deployer_code()).await;
    let plan = vendor.does(&["deploy", "--dry-run"]);
    assert_eq!((&plan["stands"], &plan["deployer_stands"]), (&json!(false), &json!(true)));
    let said = vendor.fails(1, &["deploy"]);
    assert!(said.contains("without a terminal to ask on, give --yes"), "{said}");
    assert!(said.contains("not there yet") && said.contains("paid by"), "it was shown: {said}");
    assert_eq!(vendor.sent().await, 0);
    assert!(!vendor.folder.path().join("vendor").exists(), "nothing is written");
    let used = vendor.does(&["deploy", "--yes"])["gas_used"].as_u64().unwrap();
    let gas = plan["gas"].as_u64().unwrap();
    assert!((used..=used + used / 50).contains(&gas), "{gas} for {used}");
    let plan = vendor.does(&["deploy", "--dry-run"]);
    assert_eq!((&plan["stands"], &plan["gas"]), (&json!(true), &Value::Null));
}

#[tokio::test]
async fn who_cannot_pay_for_all_of_it_pays_nothing() {
    let chain = devchain(1);
    let vendor = Vendor::new(1, chain.url());
    chain.set_balance(dev_accounts()[0].address(), DEPLOYER_COST + DEPLOYER_COST / U256::from(10));
    let said = vendor.fails(1, &["deploy", "--with-deployer", "--yes"]);
    assert!(said.contains("the transaction needs up to"), "{said}");
    assert_eq!(vendor.sent().await, 0);
}

/// As anvil has it from the beginning: what the first 14 bytes of its transaction's code return.
fn deployer_code() -> String {
    let tx = TxEnvelope::decode_2718_exact(&DEPLOYER_TRANSACTION).unwrap();
    hex::encode_prefixed(&tx.input()[14..])
}

#[tokio::test]
async fn code_that_is_not_ours_is_refused() {
    let chain = devchain(1);
    let vendor = Vendor::new(1, chain.url());
    vendor.put(DEPLOYER.address, &deployer_code()).await;
    vendor.does(&["deploy", "--yes"]);
    let code = vendor.node.get_code_at(FACTORY.address).await.unwrap();
    let mut other = code.to_vec();
    *other.last_mut().unwrap() ^= 1;
    for contract in [FACTORY, SECP256K1_BOUNTY, P256_BOUNTY] {
        let ours = vendor.node.get_code_at(contract.address).await.unwrap();
        for foreign in [other.clone().into(), bytes!("00"), ours[..ours.len() - 1].to_vec().into()] {
            chain.set_code(contract.address, foreign);
            for args in [&["deploy"][..], &["deploy", "--dry-run"]] {
                let said = vendor.fails(1, args);
                let expected =
                    format!("at {} stands something else than {}", contract.address, contract.name);
                assert!(said.contains(&expected), "{said}");
            }
        }
        chain.set_code(contract.address, ours);
    }
    chain.set_code(P256_BOUNTY.address, bytes!(""));
    let said = vendor.fails(1, &["deploy"]);
    assert!(said.contains("stands something else than P256Bounty"), "{said}");
    chain.set_code(FACTORY.address, bytes!(""));
    chain.set_code(DEPLOYER.address, bytes!("00"));
    let said = vendor.fails(1, &["deploy", "--with-deployer"]);
    assert!(said.contains("stands something else than the deterministic deployment proxy"), "{said}");
    assert_eq!(vendor.sent().await, 1, "the first one");
}

#[tokio::test]
async fn a_chain_without_p256_is_named() {
    let Some(anvil) = anvil("prague", 778) else { return };
    let vendor = Vendor::new(778, anvil.url());
    let output = vendor.run(&["deploy", "--yes"]);
    assert_eq!(json(&output)["p256_precompile"], false);
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.contains("verifies no P-256 signature"), "{said}");
}

#[tokio::test]
async fn an_endpoint_that_refuses_the_proxys_transaction_is_told_of() {
    let chain = devchain(1);
    chain.set_balance(DEPLOYER_SENDER, DEPLOYER_COST);
    chain.set_automine(false);
    let refusal = "only replay-protected (EIP-155) transactions allowed over RPC";
    let proxy = Proxy::start(chain.url(), move |method, _, answer| {
        if method == "eth_sendRawTransaction" {
            *answer =
                json!({"jsonrpc": "2.0", "id": answer["id"], "error": {"code": -32000, "message": refusal}});
        }
    });
    let proxy = proxy.unwrap();
    let vendor = Vendor::new(1, proxy.url());
    let said = vendor.fails(1, &["deploy", "--with-deployer", "--yes"]);
    assert!(said.contains(refusal) && said.contains("0xf8a58085174876e800"), "{said}");
    // By another way it is in the pool, and in a block now; the proxy was paid for.
    chain.set_automine(true);
    assert!(vendor.stands(&DEPLOYER).await);
    assert_eq!(vendor.sent().await, 0);
}

/// Its code is not there at first, though its sender has sent: somebody puts the proxy there at the same time.
#[tokio::test]
async fn a_proxy_that_comes_meanwhile_is_used() {
    let chain = devchain(1);
    deploys(&Vendor::new(1, chain.url()), &["deploy", "--with-deployer", "--yes"], 2).await;
    let asked = AtomicU8::new(0);
    let proxy = Proxy::start(chain.url(), move |method, params, answer| {
        let of = |contract: &Contract| params[0].as_str().unwrap().parse() == Ok(contract.address);
        // The factory and the proxy, before anything is sent.
        if method == "eth_getCode"
            && (of(&FACTORY) || of(&DEPLOYER))
            && asked.fetch_add(1, Ordering::SeqCst) < 2
        {
            answer["result"] = json!("0x");
        }
    });
    let proxy = proxy.unwrap();
    let late = Vendor::new(1, proxy.url());
    let deployed = late.does(&["deploy", "--with-deployer", "--yes"]);
    assert_eq!(deployed["outcome"], "stood-already");
    assert_eq!(late.sent().await, 2, "nothing is sent");
}

#[test]
fn another_factory_in_the_settings_is_a_contradiction() {
    let chain = devchain(1);
    let factory = format!("factory = \"{}\"\n", Address::repeat_byte(7));
    let said = Vendor::with(1, chain.url(), &factory).fails(2, &["deploy"]);
    assert!(said.contains("chain.factory") && said.contains(&FACTORY.address.to_string()), "{said}");
}

/// SIGKILL at each point of both transactions, a restart after each: two transactions in all.
#[cfg(feature = "fault-injection")]
#[tokio::test]
async fn a_deployment_goes_on_where_it_was_killed() {
    let chain = devchain(1);
    let vendor = Vendor::new(1, chain.url());
    let points = ["vendor.signed", "vendor.sent", "vendor.funded", "vendor.signed", "vendor.sent"];
    for point in points {
        vendor.killed(point, &["deploy", "--with-deployer", "--yes"]);
    }
    assert!(vendor.stands(&FACTORY).await, "the last one was sent");
    let deployed = vendor.does(&["deploy"]);
    assert_eq!(deployed["outcome"], "deployed");
    assert!(deployed["gas_used"].as_u64().unwrap() > 1_000_000);
    assert_eq!(vendor.does(&["deploy"])["outcome"], "stood-already");
    assert_eq!(vendor.sent().await, 2);
}

/// Somebody else's transaction is mined between ours being signed and being sent.
#[cfg(feature = "fault-injection")]
#[tokio::test]
async fn whoever_deploys_first_deploys_the_same() {
    let chain = devchain(1);
    let vendor = Vendor::new(1, chain.url());
    vendor.put(DEPLOYER.address, &deployer_code()).await;
    vendor.killed("vendor.signed", &["deploy", "--yes"]);
    let signer = alloy::providers::ProviderBuilder::new().wallet(dev_accounts()[1].clone());
    let other = signer.connect_provider(vendor.node.clone());
    let call = posthouse_contracts::deployment::deploy().into_request();
    assert!(other.send_transaction(call).await.unwrap().get_receipt().await.unwrap().status());
    let deployed = vendor.does(&["deploy"]);
    assert_eq!((&deployed["outcome"], &deployed["transaction"]), (&json!("stood-already"), &Value::Null));
    assert_eq!(vendor.sent().await, 1, "the one that was signed");
    assert_eq!(vendor.does(&["deploy"])["outcome"], "stood-already");
}

#[cfg(feature = "fault-injection")]
impl Vendor {
    fn killed(&self, point: &str, args: &[&str]) {
        use std::os::unix::process::ExitStatusExt as _;
        let path = env!("CARGO_BIN_EXE_posthouse-vendor");
        let mut command = program(path, &self.folder.path().join("vendor.toml"), args);
        let killed = command.env("POSTHOUSE_CRASH_AT", point).output().unwrap();
        assert_eq!(killed.status.signal(), Some(9), "{point}: {}", String::from_utf8_lossy(&killed.stderr));
    }
}
