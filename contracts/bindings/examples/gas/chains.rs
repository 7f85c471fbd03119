//! The two chains, which have to agree on every transaction.

use alloy::consensus::{SignableTransaction as _, TxEip1559, TxEnvelope};
use alloy::eips::eip2718::Encodable2718 as _;
use alloy::network::TxSignerSync as _;
use alloy::primitives::{Address, Bytes, TxKind};
use alloy::providers::{Provider as _, RootProvider};
use alloy::rpc::types::TransactionReceipt;
use alloy::signers::local::PrivateKeySigner;
use posthouse_contracts::calls::Call;
use posthouse_contracts::chain::{Limits, provider};
use posthouse_devchain::{Anvil, Clock, Config, DevChain, TX_GAS_LIMIT_CAP};
use posthouse_protocol::id::{ChainId, Payee};
use serde_json::Value;

use crate::Result;

/// Time of the first block. Blocks follow by the second, so that bounties have the same addresses, receipts the same
/// bytes and figures the same value in every run.
pub(crate) const GENESIS: u64 = 1_800_000_000;
/// The chain id of both.
pub(crate) const CHAIN_ID: u64 = 31_337;

/// A devchain and an anvil that are given the same transactions, one a block.
pub(crate) struct Chains {
    ours: RootProvider,
    theirs: RootProvider,
    sender: PrivateKeySigner,
    payee: Address,
    nonce: u64,
    _devchain: DevChain,
    _anvil: Anvil,
}

impl Chains {
    pub(crate) fn start() -> Result<Self> {
        let devchain = DevChain::start(Config {
            chain_id: CHAIN_ID,
            automine: false,
            clock: Clock::Manual,
            genesis_timestamp: Some(GENESIS),
            ..Config::default()
        })?;
        let (chain_id, genesis) = (CHAIN_ID.to_string(), GENESIS.to_string());
        let anvil =
            Anvil::start("osaka", &["--no-mining", "--chain-id", &chain_id, "--timestamp", &genesis])?;
        let [sender, payee] = [0, 1].map(|account| devchain.accounts()[account].clone());
        Ok(Self {
            ours: connect(devchain.url())?,
            theirs: connect(anvil.url())?,
            sender,
            payee: payee.address(),
            nonce: 0,
            _devchain: devchain,
            _anvil: anvil,
        })
    }

    /// Who is paid: an account that has ether, and is not the sender of the transactions.
    pub(crate) fn payee(&self) -> Payee {
        self.payee.into_array().into()
    }

    /// The gas of a call that has to succeed.
    pub(crate) async fn gas(&mut self, call: Call) -> Result<u64> {
        Ok(self.run(call).await?.gas_used)
    }

    /// The receipt of a call that has to succeed.
    pub(crate) async fn run(&mut self, call: Call) -> Result<TransactionReceipt> {
        let receipt = self.send(call).await?;
        if !receipt.status() {
            return Err(format!("transaction {} was reverted", self.nonce - 1).into());
        }
        Ok(receipt)
    }

    /// Has both chains mine the call with as much gas as a transaction may have, whether it succeeds or not.
    pub(crate) async fn send(&mut self, call: Call) -> Result<TransactionReceipt> {
        let mut tx = TxEip1559 {
            chain_id: CHAIN_ID,
            nonce: self.nonce,
            gas_limit: TX_GAS_LIMIT_CAP,
            max_fee_per_gas: 100_000_000_000,
            max_priority_fee_per_gas: 1_000_000_000,
            to: call.to.map_or(TxKind::Create, TxKind::Call),
            value: call.value,
            input: call.input,
            ..TxEip1559::default()
        };
        self.nonce += 1;
        let signature = self.sender.sign_transaction_sync(&mut tx)?;
        let raw = TxEnvelope::from(tx.into_signed(signature)).encoded_2718().into();
        let ours = mine(&self.ours, &raw, GENESIS + self.nonce).await?;
        let theirs = mine(&self.theirs, &raw, GENESIS + self.nonce).await?;
        let outcome = |receipt: &TransactionReceipt| (receipt.status(), receipt.gas_used);
        if outcome(&ours) != outcome(&theirs) {
            let (ours, theirs) = (outcome(&ours), outcome(&theirs));
            return Err(format!("transaction {}: devchain {ours:?}, anvil {theirs:?}", self.nonce - 1).into());
        }
        Ok(ours)
    }
}

fn connect(url: &str) -> Result<RootProvider> {
    Ok(provider(&[url.to_owned()], ChainId::new(CHAIN_ID), Limits::default())?)
}

async fn mine(node: &RootProvider, raw: &Bytes, timestamp: u64) -> Result<TransactionReceipt> {
    let hash = *node.send_raw_transaction(raw).await?.tx_hash();
    let _: Value = node.raw_request("evm_setNextBlockTimestamp".into(), [timestamp]).await?;
    let _: Value = node.raw_request("evm_mine".into(), ()).await?;
    node.get_transaction_receipt(hash).await?.ok_or_else(|| "the block is without the transaction".into())
}
