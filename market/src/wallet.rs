//! The Ethereum key and what is sent with it.
//!
//! What a transaction costs and what the account has is read where the program reads the chain, so that under a light client
//! it is proven: an endpoint that lies can neither make it pay more nor keep it from sending. Estimates of gas prove nothing and
//! are bounded.

use std::sync::Arc;
use std::time::Duration;

use alloy::eips::BlockNumberOrTag;
use alloy::eips::eip2718::Encodable2718 as _;
use alloy::network::{EthereumWallet, NetworkTransactionBuilder as _, TransactionBuilder as _};
use alloy::primitives::{Address, B256, Bytes, U256};
use alloy::providers::{Provider as _, RootProvider};
use alloy::rpc::types::{TransactionReceipt, TransactionRequest};
use alloy::signers::SignerSync as _;
use alloy::signers::local::PrivateKeySigner;
use alloy::transports::TransportError;
use posthouse_audit::{Audit, Kind, Record};
use posthouse_contracts::calls::{Call, revert_reason};
use posthouse_contracts::chain::{At, Chain, ChainError, RpcChain};
use posthouse_light_client::words;
use posthouse_protocol::id::{ChainId, Digest};
use thiserror::Error;

/// EIP-7825: no transaction may ask for more gas.
const GAS_CAP: u64 = 16_777_216;
/// Gas above the estimate, in percent: what a call costs depends on who was before it.
const GAS_HEADROOM: u64 = 125;

/// How long a transaction, and the end of a program, wait for the audit log, which stops nothing.
pub(crate) const AUDIT: Duration = Duration::from_secs(1);

/// Why a transaction was not made or sent.
#[derive(Debug, Error)]
pub enum WalletError {
    /// The call would revert; the contract's error by name, where it is one of ours.
    #[error("the contract refuses: {reason}")]
    Reverts {
        /// What it says.
        reason: String,
    },
    /// The wallet does not hold what the transaction sends and costs.
    #[error("{address} has {balance} wei, the transaction needs up to {need} wei")]
    Balance {
        /// The wallet.
        address: Address,
        /// What it has.
        balance: U256,
        /// What would be needed.
        need: U256,
    },
    /// The fee that the chain asks for is above the configured limit.
    #[error("the chain's base fee of {base} wei is above chain.max_fee of {max} wei")]
    Fee {
        /// Of the next block; of the latest where endpoints are believed.
        base: u128,
        /// The limit.
        max: u128,
    },
    /// The endpoint gave no answer that can be used.
    #[error("chain: {0}")]
    Unavailable(String),
    /// The transaction does not sign or decode.
    #[error("transaction: {0}")]
    Transaction(String),
}

/// A signed transaction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Signed {
    /// As it is sent (EIP-2718).
    pub raw: Bytes,
    /// Its hash.
    pub hash: B256,
}

/// How much gas a transaction gets. An endpoint's estimate is nobody's proof: one that is too low makes a call fail on chain,
/// with all that it shows; one that is too high asks for more than the account can have. So only where a failure costs no more
/// than gas.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Gas {
    /// What an endpoint estimates, with some headroom.
    Estimated,
    /// This; no endpoint is shown the call before it is sent.
    Fixed(u64),
    /// So much, and more up to `most` as far as the account can pay for it.
    UpTo {
        /// What it gets in any case.
        least: u64,
        /// What would be safer.
        most: u64,
    },
}

impl Gas {
    /// The most that it can be, but for an estimate: no transaction may ask for more.
    pub fn most(self) -> u64 {
        let (Self::Fixed(gas) | Self::UpTo { most: gas, .. }) = self else { return GAS_CAP };
        gas.min(GAS_CAP)
    }
}

/// What a transaction would take now. Fees are wei for a unit of gas.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Quote {
    /// What it would use.
    pub gas: u64,
    /// What it would be allowed to use.
    pub limit: u64,
    /// What the newest block would have charged.
    pub fee: u128,
    /// What it would offer first: an account that cannot pay `limit` at it is refused.
    pub offer: u128,
    /// What it would never exceed, however often it is sent again.
    pub cap: u128,
}

/// Signs for one chain with one key. Cheap to clone.
#[derive(Clone)]
pub struct Wallet {
    signer: PrivateKeySigner,
    rpc: RpcChain,
    proven: Arc<dyn Chain>,
    chain: ChainId,
    max_fee: u128,
    priority_fee: u128,
    relay: Option<RpcChain>,
    audit: Audit,
}

impl Wallet {
    /// Sends by `rpc`; fee and balance are as `proven` says, which is `rpc` itself where that is believed. Fees are in wei per
    /// gas; `max_fee` is never exceeded, whatever the chain asks for.
    pub fn new(
        signer: PrivateKeySigner,
        rpc: RpcChain,
        proven: Arc<dyn Chain>,
        chain: ChainId,
        max_fee: u128,
        priority_fee: u128,
    ) -> Self {
        Self { signer, rpc, proven, chain, max_fee, priority_fee, relay: None, audit: Audit::nowhere() }
    }

    /// With a relay that shows transactions to nobody before they are in a block.
    #[must_use]
    pub fn with_relay(self, relay: Option<RpcChain>) -> Self {
        Self { relay, ..self }
    }

    /// Writing down what it signs.
    #[must_use]
    pub fn with_audit(self, audit: Audit) -> Self {
        Self { audit, ..self }
    }

    /// Where it writes that down.
    pub fn audit(&self) -> &Audit {
        &self.audit
    }

    /// The account.
    pub fn address(&self) -> Address {
        self.signer.address()
    }

    /// Signs a digest as it is: 65 bytes `r ‖ s ‖ v`, `v` 27 or 28.
    ///
    /// # Errors
    /// [`WalletError::Transaction`]; a local key signs everything.
    pub fn sign_digest(&self, digest: &Digest) -> Result<[u8; 65], WalletError> {
        let signed = self.signer.sign_hash_sync(&B256::from(digest.to_bytes()));
        signed.map(|signature| signature.as_bytes()).map_err(transaction)
    }

    /// A call of nobody, which only uses a nonce up.
    pub fn nothing(&self) -> Call {
        Call { to: Some(self.address()), value: U256::ZERO, input: Bytes::new() }
    }

    /// Transactions that the account has sent, in the state of a block.
    ///
    /// # Errors
    /// [`WalletError::Unavailable`].
    pub async fn nonce(&self, at: BlockNumberOrTag) -> Result<u64, WalletError> {
        let count = self.provider().get_transaction_count(self.address()).block_id(at.into());
        count.await.map_err(unavailable)
    }

    /// Tries a call in the latest state, with no more gas than this.
    ///
    /// # Errors
    /// [`WalletError::Reverts`], [`WalletError::Unavailable`].
    pub async fn simulate(&self, call: Call, gas: Option<u64>) -> Result<(), WalletError> {
        let mut request = call.into_request().with_from(self.address());
        request.gas = gas;
        let tried = self.provider().call(request).block(BlockNumberOrTag::Latest.into()).await;
        tried.map(drop).map_err(refused)
    }

    /// Signs a call for a nonce. `bumps` raises the fee by an eighth each, up to the limit.
    ///
    /// # Errors
    /// [`WalletError`].
    pub async fn sign(&self, call: Call, nonce: u64, bumps: u8, gas: Gas) -> Result<Signed, WalletError> {
        let fees = self.fees(bumps).await?;
        self.sign_at(call, nonce, fees, gas).await
    }

    /// The same for a fee that is given: in wei per gas, the most in all, and of that the most for the block's producer.
    ///
    /// # Errors
    /// [`WalletError`].
    pub async fn sign_at(
        &self,
        call: Call,
        nonce: u64,
        (max_fee, priority_fee): (u128, u128),
        gas: Gas,
    ) -> Result<Signed, WalletError> {
        let (max_fee, priority_fee) = (max_fee.min(self.max_fee), priority_fee.min(self.max_fee));
        let request = call.into_request().with_from(self.address()).with_nonce(nonce);
        let (to, value) = (request.to.and_then(|to| to.to().copied()), request.value.unwrap_or_default());
        let limit = self.afford(&request, gas, max_fee).await?;
        let request = request
            .with_chain_id(self.chain.get())
            .with_gas_limit(limit)
            .with_max_fee_per_gas(max_fee)
            .with_max_priority_fee_per_gas(priority_fee);
        let wallet = EthereumWallet::from(self.signer.clone());
        let envelope = request.build(&wallet).await.map_err(transaction)?;
        let signed = Signed { raw: envelope.encoded_2718().into(), hash: *envelope.tx_hash() };
        self.write_down(&signed, to, value).await;
        Ok(signed)
    }

    /// On disk before it is sent: a command may end right after.
    async fn write_down(&self, signed: &Signed, to: Option<Address>, value: U256) {
        self.audit.tell(Record {
            transaction: Some(signed.hash.to_string()),
            address: to.map(|to| to.to_string().to_lowercase()),
            amount: Some(value.to_string()),
            who: Some(self.address().to_string().to_lowercase()),
            ..Record::new(Kind::TransactionSigned)
        });
        let audit = self.audit.clone();
        let written = tokio::task::spawn_blocking(move || audit.flush(AUDIT)).await;
        if !written.unwrap_or(false) {
            tracing::warn!(hash = %signed.hash, "the audit log is not written");
        }
    }

    fn provider(&self) -> &RootProvider {
        self.rpc.provider()
    }

    /// What the account has, in wei, after the newest block.
    ///
    /// # Errors
    /// [`WalletError::Unavailable`].
    pub async fn balance(&self) -> Result<U256, WalletError> {
        self.proven.balance(self.address(), At::Latest).await.map_err(unavailable)
    }

    /// The gas that a call would use. The account has to have the call's value.
    ///
    /// # Errors
    /// [`WalletError::Reverts`], [`WalletError::Unavailable`].
    pub async fn estimate(&self, call: Call) -> Result<u64, WalletError> {
        let request = call.into_request().with_from(self.address());
        self.provider().estimate_gas(request).await.map_err(refused)
    }

    /// What a transaction that uses this much gas would cost now, and at most.
    ///
    /// # Errors
    /// [`WalletError::Fee`], [`WalletError::Unavailable`].
    pub async fn quote(&self, gas: u64) -> Result<Quote, WalletError> {
        let (base, (offer, _)) = (self.base_fee().await?, self.fees(0).await?);
        let fee = base.saturating_add(self.priority_fee).min(self.max_fee);
        Ok(Quote { gas, limit: gas_limit(gas), fee, offer, cap: self.max_fee })
    }

    /// Twice the base fee lasts six full blocks; each bump is what nodes ask of a replacement.
    async fn fees(&self, bumps: u8) -> Result<(u128, u128), WalletError> {
        let base = self.base_fee().await?;
        if base > self.max_fee {
            return Err(WalletError::Fee { base, max: self.max_fee });
        }
        let raise = |fee: u128| (0..bumps).fold(fee, |fee, _| fee.saturating_add(fee / 8 + 1));
        let priority = raise(self.priority_fee);
        let max = raise(base.saturating_mul(2).saturating_add(self.priority_fee)).min(self.max_fee);
        Ok((max, priority.min(max)))
    }

    async fn base_fee(&self) -> Result<u128, WalletError> {
        self.proven.base_fee().await.map(u128::from).map_err(unavailable)
    }

    /// The limit of gas, which the account can pay for.
    async fn afford(&self, request: &TransactionRequest, gas: Gas, fee: u128) -> Result<u64, WalletError> {
        let (least, most) = match gas {
            Gas::Estimated => {
                let estimate = self.provider().estimate_gas(request.clone()).await.map_err(refused)?;
                (gas_limit(estimate), gas_limit(estimate))
            }
            Gas::Fixed(gas) => (gas.min(GAS_CAP), gas.min(GAS_CAP)),
            Gas::UpTo { least, most } => (least.min(GAS_CAP), most.min(GAS_CAP)),
        };
        let (address, balance) = (self.address(), self.balance().await?);
        let (fee, value) = (U256::from(fee), request.value.unwrap_or_default());
        let need = U256::from(least) * fee + value;
        if need > balance {
            return Err(WalletError::Balance { address, balance, need });
        }
        let pays_for = (balance - value).checked_div(fee).map_or(u64::MAX, |gas| gas.saturating_to());
        Ok(most.min(pays_for).max(least))
    }

    /// Sends a signed transaction to all endpoints. One that has it already is content.
    ///
    /// # Errors
    /// [`WalletError::Unavailable`], also where all refuse it: whether it takes effect is read from the chain.
    pub async fn send(&self, raw: &[u8]) -> Result<(), WalletError> {
        self.rpc.broadcast(raw).await.map_err(unavailable)
    }

    /// Sends a signed transaction to the private relay, and to nobody else.
    ///
    /// # Errors
    /// [`WalletError::Unavailable`], also where there is no relay.
    pub async fn send_privately(&self, raw: &[u8]) -> Result<(), WalletError> {
        let none = || WalletError::Unavailable("no private relay is configured".into());
        let relay = self.relay.as_ref().ok_or_else(none)?;
        relay.broadcast(raw).await.map_err(|error| WalletError::Unavailable(error.to_string()))
    }

    /// The receipt of a transaction that is in a block.
    ///
    /// # Errors
    /// [`WalletError::Unavailable`].
    pub async fn receipt(&self, hash: B256) -> Result<Option<TransactionReceipt>, WalletError> {
        self.provider().get_transaction_receipt(hash).await.map_err(unavailable)
    }
}

/// The estimate with its headroom, and not above what a transaction may ask for.
fn gas_limit(estimate: u64) -> u64 {
    (estimate.saturating_mul(GAS_HEADROOM) / 100).min(GAS_CAP)
}

fn transaction(error: impl ToString) -> WalletError {
    WalletError::Transaction(error.to_string())
}

fn unavailable(error: impl Into<ChainError>) -> WalletError {
    WalletError::Unavailable(error.into().to_string())
}

/// Tells a contract that says no from an endpoint that says nothing.
fn refused(error: TransportError) -> WalletError {
    let Some(answer) = error.as_error_resp() else {
        return unavailable(error);
    };
    let data = answer.as_revert_data();
    let named = data.as_ref().and_then(|data| revert_reason(data));
    let reverted = data.is_some() || answer.message.to_lowercase().contains("revert");
    match named {
        Some(reason) => WalletError::Reverts { reason: words(&reason) },
        None if reverted => WalletError::Reverts { reason: words(&answer.message) },
        None => WalletError::Unavailable(words(&answer.message)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_estimate_gets_headroom_up_to_what_a_transaction_may_ask_for() {
        assert_eq!(gas_limit(400_000), 500_000);
        for lie in [GAS_CAP, u64::MAX / 125 + 1, u64::MAX] {
            assert_eq!(gas_limit(lie), GAS_CAP, "{lie}");
        }
    }
}
