//! What a transaction may cost, whatever an endpoint says that it costs.

use std::sync::Arc;

use alloy::consensus::{Transaction as _, TxEnvelope};
use alloy::eips::eip2718::Decodable2718 as _;
use alloy::primitives::{Address, U256};
use posthouse_contracts::calls::{self, Call};
use posthouse_contracts::chain::{At, Chain, LightChain, Limits, RpcChain, RpcConfig};
use posthouse_devchain::beacon::{self, Beacon, Slots};
use posthouse_devchain::{Config, DevChain, Proxy};
use posthouse_light_client::client::{Clock, Config as ClientConfig};
use posthouse_light_client::spec::Network;
use posthouse_market::wallet::{Gas, Wallet, WalletError};
use posthouse_protocol::id::{Bounty, ChainId, Payee};
use posthouse_protocol::secret::PreimageT;
use serde_json::{Value, json};
use tempfile::TempDir;

const GWEI: u128 = 1_000_000_000;
const MAX_FEE: u128 = 200 * GWEI;
const TIP: u128 = GWEI;
/// What the calls below do not exceed.
const ENOUGH: u64 = 320_000;

/// A chain that a sync committee signs, read by a distributor's wallet through endpoints.
struct Stage {
    chain: DevChain,
    beacon: Arc<Beacon>,
    folder: TempDir,
}

impl Stage {
    fn new() -> Self {
        Self::with(Config::default())
    }

    fn with(config: Config) -> Self {
        let chain = DevChain::start(config).unwrap();
        let slots = beacon::Config { slots: Slots::Manual, ..Default::default() };
        let beacon = Arc::new(Beacon::start(&chain, slots).unwrap());
        chain.mine_many(3).unwrap();
        Self { chain, beacon, folder: tempfile::tempdir().unwrap() }
    }

    fn payer(&self) -> Address {
        self.chain.accounts()[0].address()
    }

    /// An endpoint that changes what it says.
    fn liar(&self, lie: impl Fn(&str, &mut Value) + Send + Sync + 'static) -> Proxy {
        Proxy::start(self.chain.url(), move |asked, _, answer| lie(asked, answer)).unwrap()
    }

    fn rpc(&self, urls: &[&str]) -> RpcChain {
        let urls = urls.iter().map(|url| (*url).to_owned()).collect();
        let chain = ChainId::new(self.chain.chain_id());
        RpcChain::new(&RpcConfig { urls, chain, factory: Address::ZERO, limits: Limits::default() }).unwrap()
    }

    async fn proven(&self, urls: &[&str]) -> LightChain {
        let beacon = self.beacon.clone();
        let config = ClientConfig {
            network: Arc::new(Network::from_yaml(&self.beacon.network_yaml()).unwrap()),
            checkpoint: Some(self.beacon.checkpoint()),
            allow_stale_checkpoint: false,
            beacon: vec![self.beacon.url().into()],
            rpc: urls.iter().map(|url| (*url).to_owned()).collect(),
            chain_id: self.chain.chain_id(),
            store: self.folder.path().join("light-client.db"),
            limits: Limits::default(),
            finality_alarm: ClientConfig::FINALITY_ALARM,
            clock: Clock::new(move || beacon.time_of(beacon.slot())),
        };
        let chain = LightChain::open(config, Address::ZERO).unwrap();
        chain.client().sync_once().await.unwrap();
        chain
    }

    /// As the distributor has it: sends by these endpoints, and believes none of them.
    async fn wallet(&self, urls: &[&str]) -> Wallet {
        let proven = Arc::new(self.proven(urls).await);
        self.wallet_of(urls, proven)
    }

    fn wallet_of(&self, urls: &[&str], proven: Arc<dyn Chain>) -> Wallet {
        let (signer, chain) = (self.chain.accounts()[0].clone(), ChainId::new(self.chain.chain_id()));
        Wallet::new(signer, self.rpc(urls), proven, chain, MAX_FEE, TIP)
    }

    /// What the next block asks for.
    fn base_fee(&self) -> u128 {
        let header = self.chain.head().header().clone();
        u128::from(header.next_block_base_fee(alloy::eips::eip1559::BaseFeeParams::ethereum()).unwrap())
    }
}

fn reveal() -> Call {
    calls::reveal(&Bounty::new([1; 20]), &Payee::new([2; 20]), &PreimageT::new([3; 32]), vec![0])
}

async fn signed(wallet: &Wallet, gas: Gas) -> Result<TxEnvelope, WalletError> {
    let signed = wallet.sign(reveal(), 0, 0, gas).await?;
    Ok(TxEnvelope::decode_2718(&mut signed.raw.as_ref()).unwrap())
}

#[tokio::test]
async fn a_base_fee_that_is_made_up_neither_raises_nor_stops_nor_starves_a_transaction() {
    for lie in [json!("0x0"), json!("0x1"), json!("0x2e90edd000"), json!("0xffffffffffffffff")] {
        let stage = Stage::new();
        let told = lie.clone();
        let liar = stage.liar(move |asked, answer| {
            if asked.starts_with("eth_getBlockBy") {
                answer["result"]["baseFeePerGas"] = told.clone();
            }
        });
        let wallet = stage.wallet(&[liar.url()]).await;
        let base = stage.base_fee();
        assert!(base > 0, "else nothing is shown");
        let transaction = signed(&wallet, Gas::Fixed(ENOUGH)).await.unwrap();
        assert_eq!(transaction.max_fee_per_gas(), 2 * base + TIP, "{lie}");
        assert_eq!(transaction.max_priority_fee_per_gas(), Some(TIP), "{lie}");
    }
}

#[tokio::test]
async fn a_balance_that_is_made_up_keeps_no_transaction_back_and_lets_none_go() {
    let stage = Stage::new();
    let liar = stage.liar(|asked, answer| {
        if asked == "eth_getBalance" {
            answer["result"] = json!("0x0");
        }
    });
    let wallet = stage.wallet(&[liar.url()]).await;
    signed(&wallet, Gas::Fixed(ENOUGH)).await.unwrap();

    stage.chain.set_balance(stage.payer(), U256::from(7));
    let generous = stage.liar(|asked, answer| {
        if asked == "eth_getBalance" {
            answer["result"] = json!("0xffffffffffffffff");
        }
    });
    let wallet = stage.wallet(&[generous.url()]).await;
    let error = signed(&wallet, Gas::Fixed(ENOUGH)).await.unwrap_err();
    assert!(matches!(error, WalletError::Balance { balance, .. } if balance == U256::from(7)), "{error}");
}

#[tokio::test]
async fn a_balance_without_its_proof_is_had_from_the_next_endpoint() {
    let stage = Stage::new();
    let liar = stage.liar(|asked, answer| {
        if asked == "eth_getProof" {
            answer["result"]["balance"] = json!("0x0");
        }
    });
    let alone = stage.wallet(&[liar.url()]).await;
    let error = signed(&alone, Gas::Fixed(ENOUGH)).await.unwrap_err();
    assert!(matches!(error, WalletError::Unavailable(_)), "{error}");
    let both = stage.wallet(&[liar.url(), stage.chain.url()]).await;
    signed(&both, Gas::Fixed(ENOUGH)).await.unwrap();
}

#[tokio::test]
async fn gas_that_would_be_safer_is_asked_for_as_far_as_the_account_pays_for_it() {
    let stage = Stage::new();
    for (balance, gas) in [(ENOUGH, ENOUGH), (ENOUGH + 7, ENOUGH + 7), (3 * ENOUGH, 2 * ENOUGH)] {
        // The balance is in the next block, whose fee is then the newest.
        let fee = 2 * stage.base_fee() + TIP;
        stage.chain.set_balance(stage.payer(), U256::from(u128::from(balance) * fee));
        let wallet = stage.wallet_of(&[stage.chain.url()], Arc::new(stage.rpc(&[stage.chain.url()])));
        let up_to = Gas::UpTo { least: ENOUGH, most: 2 * ENOUGH };
        assert_eq!(signed(&wallet, up_to).await.unwrap().gas_limit(), gas);
    }
}

#[tokio::test]
async fn what_an_endpoint_says_against_a_call_is_bounded() {
    let stage = Stage::new();
    let words = format!("execution reverted\u{1b}[2J\n{}", "x".repeat(1 << 20));
    for error in [json!({"code": 3, "message": words}), json!({"code": -32000, "message": &words[20..]})] {
        let liar = stage.liar(move |asked, answer| {
            if asked == "eth_call" {
                *answer = json!({"jsonrpc": "2.0", "id": answer["id"], "error": error});
            }
        });
        let shown = stage.wallet(&[liar.url()]).await.simulate(reveal(), None).await.unwrap_err().to_string();
        assert!(shown.len() < 600 && !shown.chars().any(char::is_control), "{shown:?}");
    }
}

#[tokio::test]
async fn a_fee_above_the_limit_is_not_paid() {
    let stage = Stage::with(Config { base_fee: 400 * GWEI as u64, ..Config::default() });
    let wallet = stage.wallet(&[stage.chain.url()]).await;
    let error = signed(&wallet, Gas::Fixed(ENOUGH)).await.unwrap_err();
    assert!(matches!(error, WalletError::Fee { max: MAX_FEE, .. }), "{error}");
}

#[tokio::test]
async fn an_endpoint_that_is_believed_is_asked_as_before() {
    let stage = Stage::new();
    let rpc = Arc::new(stage.rpc(&[stage.chain.url()]));
    let base = stage.chain.head().header().base_fee_per_gas.unwrap();
    assert_eq!(rpc.base_fee().await.unwrap(), base);
    assert_eq!(rpc.balance(stage.payer(), At::Latest).await.unwrap(), stage.chain.balance(stage.payer()));
    let wallet = stage.wallet_of(&[stage.chain.url()], rpc);
    let transaction = signed(&wallet, Gas::Fixed(ENOUGH)).await.unwrap();
    assert_eq!(transaction.max_fee_per_gas(), 2 * u128::from(base) + TIP);
}
