//! Puts the contracts where they stand on every chain ([`deployment`]), or finds that they do.
//!
//! What counts is the code at their addresses, looked at before anything is sent and after: whose transaction put it there
//! does not matter, and of two transactions the second fails and changes nothing. A run that was killed is taken up by the
//! next one, as [`super::transaction`] says.

use std::fmt::{self, Display};
use std::sync::Arc;
use std::time::Instant;

use alloy::network::TransactionBuilder as _;
use alloy::primitives::{Address, B256, Bytes, U256, hex, keccak256};
use alloy::providers::Provider as _;
use alloy::rpc::types::{TransactionReceipt, TransactionRequest};
use posthouse_contracts::calls::Call;
use posthouse_contracts::chain::{ChainError, RpcChain};
use posthouse_contracts::deployment::{
    self, Contract, DEPLOYER, DEPLOYER_COST, DEPLOYER_SENDER, DEPLOYER_TRANSACTION, FACTORY, P256_BOUNTY,
    P256_VALID, P256_VERIFY, SECP256K1_BOUNTY,
};
use serde::Serialize;
use thiserror::Error;

use super::Open;
use super::config::Config;
use super::consent::{Consent, agree};
use super::show::{ether, gwei};
use super::store::Store;
use super::transaction::{TransactionError, settle};
use crate::console;
use crate::crash::crash_point;
use crate::database::DatabaseError;
use crate::settings::SettingsError;
use crate::wallet::{Quote, Wallet, WalletError};

/// Names the transaction that gives the proxy's sender what its own costs.
const FUND: &str = "fund deployer";
/// Stands in for an estimate where there is no proxy to be asked: more than the factory's transaction uses.
const DEPLOY_GAS: u64 = 6_200_000;

/// Why the contracts do not stand, or are not to be used.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum DeployError {
    /// Not our code.
    #[error("at {address} stands something else than {name}: its code hashes to {found}, not to {expected}")]
    Foreign {
        /// The contract that belongs there.
        name: &'static str,
        /// On every chain.
        address: Address,
        /// Keccak-256 of what is there; that of nothing if there is no code.
        found: B256,
        /// Keccak-256 of what should be.
        expected: B256,
    },
    /// There is no code at the factory's address.
    #[error("{0} has no code: the factory is not on this chain; run `posthouse-vendor deploy` first")]
    Absent(Address),
    /// The proxy through which all is deployed is not on this chain.
    #[error(
        "{address} has no code: the deterministic deployment proxy is not on this chain; --with-deployer puts it there, by \
         the transaction that is its own on every chain, for {cost} wei"
    )]
    NoDeployer {
        /// Of the proxy.
        address: Address,
        /// Wei.
        cost: U256,
    },
    /// It was sent and did not do it: gas costs more on this chain than the transaction has.
    #[error(
        "the proxy's own transaction was mined and failed: it cannot be had at its address on this chain"
    )]
    DeployerFailed,
    /// Many endpoints take no transaction that names no chain.
    #[error(
        "no endpoint takes the proxy's own transaction ({why}), which names no chain, as those from before EIP-155; its sender \
         has its ether: have it sent through a node that allows such (geth: --rpc.allow-unprotected-txs) and run this \
         again: 0x{raw}"
    )]
    DeployerRefused {
        /// What they say.
        why: String,
        /// The transaction.
        raw: String,
    },
    /// The proxy did not come into a block.
    #[error(
        "the proxy's own transaction, at 100 gwei for a unit of gas, was not mined within {0} s; run the same command again to go on"
    )]
    DeployerNotMined(u64),
    /// A transaction was mined, and there is no code.
    #[error("the transaction was mined and {0} has no code; run the same command again")]
    Nothing(Address),
}

/// What stands, and how it came there.
#[derive(Debug, Serialize)]
pub(super) struct Deployed {
    factory: String,
    secp256k1_bounty: String,
    p256_bounty: String,
    chain: u64,
    outcome: Outcome,
    transaction: Option<String>,
    gas_used: Option<u64>,
    p256_precompile: bool,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
enum Outcome {
    /// By a transaction of this program.
    Deployed,
    /// Nothing was sent.
    StoodAlready,
}

/// What the chain has.
#[derive(Debug, Clone, Copy)]
struct Site {
    contracts: bool,
    deployer: bool,
    p256: bool,
}

/// What is there, and what the rest would cost.
struct Plan {
    chain: u64,
    site: Site,
    /// `None` where nothing is left to do.
    costs: Option<Costs>,
}

/// Amounts are wei.
struct Costs {
    quote: Quote,
    /// For the proxy, where there is none.
    deployer: U256,
    payer: Address,
    balance: U256,
}

/// A plan as JSON.
#[derive(Debug, Serialize)]
struct Report {
    factory: String,
    chain: u64,
    stands: bool,
    deployer_stands: bool,
    p256_precompile: bool,
    gas: Option<u64>,
    gas_limit: Option<u64>,
    gas_now_wei: Option<String>,
    gas_at_most_wei: Option<String>,
    deployer_wei: Option<String>,
    payer: Option<String>,
    balance_wei: Option<String>,
}

/// Deploys what does not stand and is agreed to; `with_deployer` allows to pay for the proxy, too.
pub(super) async fn run(
    config: &Config,
    with_deployer: bool,
    consent: Consent,
    json: bool,
) -> anyhow::Result<()> {
    let chain = reader(config)?;
    let plan = Plan::new(config, &chain).await?;
    match (consent, &plan.costs) {
        (Consent::Withheld, _) if json => return console::report(json, &plan.report()),
        (Consent::Withheld, _) => return console::say(&plan),
        (_, None) => {}
        (_, Some(costs)) => {
            anyhow::ensure!(plan.site.deployer || with_deployer, no_deployer());
            // What was begun has been agreed to.
            if !begun(config)? {
                costs.check()?;
                agree(&plan, "Deploy?", consent).await?;
            }
        }
    }
    let mut open = Open::new(config, FACTORY.address)?;
    let receipt = deploy(&mut open, plan.site).await?;
    console::report(json, &deployed(plan, receipt))
}

/// Whether a transaction of an earlier run is under way.
fn begun(config: &Config) -> Result<bool, DatabaseError> {
    let Some(store) = Store::look(&config.state_dir)? else { return Ok(false) };
    Ok(store.pending(&purpose())?.is_some() || store.pending(FUND)?.is_some())
}

/// Names the factory's transaction. A release with other contracts has another.
fn purpose() -> String {
    format!("deploy {}", FACTORY.address)
}

async fn deploy(open: &mut Open, site: Site) -> anyhow::Result<Option<TransactionReceipt>> {
    let purpose = purpose();
    if site.contracts && open.store.pending(&purpose)?.is_none() {
        return Ok(None);
    }
    if !site.deployer {
        put_deployer(open).await?;
    }
    put_contracts(open, &purpose).await
}

fn deployed(plan: Plan, receipt: Option<TransactionReceipt>) -> Deployed {
    Deployed {
        factory: FACTORY.address.to_string(),
        secp256k1_bounty: SECP256K1_BOUNTY.address.to_string(),
        p256_bounty: P256_BOUNTY.address.to_string(),
        chain: plan.chain,
        outcome: if receipt.is_some() { Outcome::Deployed } else { Outcome::StoodAlready },
        transaction: receipt.as_ref().map(|receipt| receipt.transaction_hash.to_string()),
        gas_used: receipt.as_ref().map(|receipt| receipt.gas_used),
        p256_precompile: plan.site.p256,
    }
}

impl Plan {
    async fn new(config: &Config, chain: &RpcChain) -> anyhow::Result<Self> {
        let site = Site::of(chain).await?;
        let wallet = || -> Result<Wallet, SettingsError> {
            let signer = config.keys.ethereum(&config.file)?;
            Ok(config.chain.wallet(chain, Arc::new(chain.clone()), signer))
        };
        let costs = if site.contracts { None } else { Some(Costs::new(&wallet()?, site).await?) };
        Ok(Self { chain: config.chain.id, site, costs })
    }

    /// For programs.
    fn report(&self) -> Report {
        let costs = self.costs.as_ref();
        let wei = |amount: fn(&Costs) -> U256| costs.map(|costs| amount(costs).to_string());
        Report {
            factory: FACTORY.address.to_string(),
            chain: self.chain,
            stands: self.site.contracts,
            deployer_stands: self.site.deployer,
            p256_precompile: self.site.p256,
            gas: costs.map(|costs| costs.quote.gas),
            gas_limit: costs.map(|costs| costs.quote.limit),
            gas_now_wei: wei(Costs::now),
            gas_at_most_wei: wei(Costs::at_most),
            deployer_wei: wei(|costs| costs.deployer),
            payer: costs.map(|costs| costs.payer.to_string()),
            balance_wei: wei(|costs| costs.balance),
        }
    }
}

impl Costs {
    async fn new(wallet: &Wallet, site: Site) -> Result<Self, WalletError> {
        let gas = if site.deployer { wallet.estimate(deployment::deploy()).await? } else { DEPLOY_GAS };
        Ok(Self {
            quote: wallet.quote(gas).await?,
            deployer: if site.deployer { U256::ZERO } else { DEPLOYER_COST },
            payer: wallet.address(),
            balance: wallet.balance().await?,
        })
    }

    fn now(&self) -> U256 {
        U256::from(self.quote.gas) * U256::from(self.quote.fee)
    }

    fn at_most(&self) -> U256 {
        U256::from(self.quote.limit) * U256::from(self.quote.cap)
    }

    /// Whether the wallet has it all, before the first part of it is spent.
    fn check(&self) -> Result<(), WalletError> {
        let &Self { balance, payer: address, .. } = self;
        let need = self.deployer + U256::from(self.quote.limit) * U256::from(self.quote.offer);
        if need <= balance { Ok(()) } else { Err(WalletError::Balance { address, balance, need }) }
    }
}

/// For people.
impl Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let there = |stands| if stands { "there, with its code" } else { "not there yet" };
        writeln!(
            f,
            "factory        {} on chain {}: {}",
            FACTORY.address,
            self.chain,
            there(self.site.contracts)
        )?;
        if let Some(costs) = &self.costs {
            write!(f, "proxy          {}: {}", DEPLOYER.address, there(self.site.deployer))?;
            if !self.site.deployer {
                write!(f, "; with --with-deployer, for {}", ether(costs.deployer))?;
            }
            let (now, most, quote) = (ether(costs.now()), ether(costs.at_most()), &costs.quote);
            writeln!(f, "\ndeployment     {now} for {} gas at {}", quote.gas, gwei(quote.fee))?;
            writeln!(f, "               {most} at most, for {} gas at {}", quote.limit, gwei(quote.cap))?;
            writeln!(f, "paid by        {}, which has {}", costs.payer, ether(costs.balance))?;
        }
        let p256 =
            if self.site.p256 { "verified" } else { "not verified: no fleet of that curve can be served" };
        write!(f, "P-256          {p256} on this chain")
    }
}

fn no_deployer() -> DeployError {
    DeployError::NoDeployer { address: DEPLOYER.address, cost: DEPLOYER_COST }
}

/// A configured factory is the one that this release deploys, or there is no telling what is wanted.
pub(super) fn reader(config: &Config) -> Result<RpcChain, SettingsError> {
    if let Some(factory) = config.chain.factory.as_ref().filter(|factory| factory.0 != FACTORY.address) {
        let why = format!("this release's factory is at {}; give that, or nothing", FACTORY.address);
        return Err(SettingsError::value(&config.file, "chain.factory", factory.0, why));
    }
    config.chain.reader(&config.file, FACTORY.address)
}

impl Site {
    async fn of(chain: &RpcChain) -> anyhow::Result<Self> {
        let contracts = contracts_stand(chain).await?;
        let deployer = stands(chain, &DEPLOYER).await?;
        let p256 = verifies_p256(chain).await?;
        if !p256 {
            let precompile = P256_VERIFY;
            tracing::warn!(%precompile, "this chain verifies no P-256 signature: fleets of that curve cannot be served on it");
        }
        Ok(Self { contracts, deployer, p256 })
    }
}

/// Before money is sent to the factory: whoever sends it to an address without code, or with somebody else's, has lost it.
///
/// # Errors
/// [`DeployError::Absent`], [`DeployError::Foreign`]; the chain is not there.
pub(super) async fn check(chain: &RpcChain) -> anyhow::Result<()> {
    anyhow::ensure!(contracts_stand(chain).await?, DeployError::Absent(FACTORY.address));
    Ok(())
}

/// Whether the contract is there. Anything else in its place is an error.
async fn stands(chain: &RpcChain, contract: &Contract) -> anyhow::Result<bool> {
    let code = chain.provider().get_code_at(contract.address).await.map_err(ChainError::from)?;
    if code.is_empty() {
        return Ok(false);
    }
    anyhow::ensure!(contract.is(&code), foreign(contract, &code));
    Ok(true)
}

/// The factory makes the bounties' code with itself: all of them are there, or none.
async fn contracts_stand(chain: &RpcChain) -> anyhow::Result<bool> {
    if !stands(chain, &FACTORY).await? {
        return Ok(false);
    }
    for contract in [SECP256K1_BOUNTY, P256_BOUNTY] {
        anyhow::ensure!(stands(chain, &contract).await?, foreign(&contract, &[]));
    }
    Ok(true)
}

fn foreign(contract: &Contract, code: &[u8]) -> DeployError {
    let &Contract { name, address, code_hash: expected } = contract;
    DeployError::Foreign { name, address, found: keccak256(code), expected }
}

/// Whether the precompile says yes to a signature and not to another.
async fn verifies_p256(chain: &RpcChain) -> anyhow::Result<bool> {
    let yes = U256::from(1).to_be_bytes::<32>();
    let mut forged = P256_VALID;
    forged[0] ^= 1;
    Ok(verify(chain, P256_VALID).await?[..] == yes && verify(chain, forged).await?[..] != yes)
}

async fn verify(chain: &RpcChain, signed: [u8; 160]) -> anyhow::Result<Bytes> {
    let request = TransactionRequest::default().with_to(P256_VERIFY).with_input(signed);
    Ok(chain.provider().call(request).await.map_err(ChainError::from)?)
}

/// The factory's transaction; `None` where somebody else's was there first.
async fn put_contracts(open: &mut Open, purpose: &str) -> anyhow::Result<Option<TransactionReceipt>> {
    let settled = settle(&mut open.store, &open.wallet, purpose, deployment::deploy(), open.patience).await;
    // Whatever became of it: what counts is what stands.
    let stand = contracts_stand(&open.chain).await?;
    let receipt =
        match settled {
            Ok(receipt) => Some(receipt),
            Err(
                TransactionError::Reverted { .. } | TransactionError::Wallet(WalletError::Reverts { .. }),
            ) if stand => None,
            Err(error) => return Err(error.into()),
        };
    open.store.settled(purpose)?;
    // To call a proxy that a reorganisation took away succeeds, and does nothing.
    anyhow::ensure!(stand, DeployError::Nothing(FACTORY.address));
    Ok(receipt)
}

/// Gives the proxy's sender what its transaction costs, and sends that until the proxy stands.
async fn put_deployer(open: &mut Open) -> anyhow::Result<()> {
    let provider = open.chain.provider().clone();
    let used = provider.get_transaction_count(DEPLOYER_SENDER).await.map_err(ChainError::from)? > 0;
    if used {
        // It may have come since it was looked for: by somebody else, or at an endpoint that was behind.
        anyhow::ensure!(stands(&open.chain, &DEPLOYER).await?, DeployError::DeployerFailed);
        return Ok(());
    }
    let balance = provider.get_balance(DEPLOYER_SENDER).await.map_err(ChainError::from)?;
    let lacks = DEPLOYER_COST.saturating_sub(balance);
    if !lacks.is_zero() || open.store.pending(FUND)?.is_some() {
        let call = Call { to: Some(DEPLOYER_SENDER), value: lacks, input: Bytes::new() };
        settle(&mut open.store, &open.wallet, FUND, call, open.patience).await?;
    }
    crash_point("vendor.funded");
    let start = Instant::now();
    while start.elapsed() < open.patience.wait {
        let sent = open.wallet.send(&DEPLOYER_TRANSACTION).await;
        tokio::time::sleep(open.patience.poll).await;
        if stands(&open.chain, &DEPLOYER).await? {
            return Ok(open.store.settled(FUND)?);
        }
        sent.map_err(|why| DeployError::DeployerRefused {
            why: why.to_string(),
            raw: hex::encode(DEPLOYER_TRANSACTION),
        })?;
    }
    Err(DeployError::DeployerNotMined(open.patience.wait.as_secs()).into())
}
