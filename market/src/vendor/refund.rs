//! Takes back what nobody earned.

use alloy::primitives::U256;
use alloy::sol_types::SolEvent as _;
use posthouse_contracts::abi::UpdateBounty;
use posthouse_contracts::calls;
use posthouse_contracts::chain::{At, Chain as _, RpcChain};
use posthouse_protocol::id::Bounty;
use serde::Serialize;
use thiserror::Error;

use super::store::Store;
use super::transaction::{Patience, settle};
use crate::wallet::{Wallet, WalletError};

/// Why there is nothing to take back, yet or any more.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum RefundError {
    /// Claims or reservations may still live.
    #[error("claims are open: a refund is possible from {from} (unix seconds), the chain is at {now}")]
    TooEarly {
        /// First second of refunds.
        from: u64,
        /// Time of the newest block.
        now: u64,
    },
    /// It was taken back before, or all of it was earned.
    #[error("nothing to refund: bounty 0x{0} holds no money of the vendor's")]
    Nothing(Bounty),
    /// No such release.
    #[error("version {0} was not published from here")]
    Unknown(u64),
    /// Nothing at all was published.
    #[error("nothing was published from here")]
    NoRelease,
}

/// What came back.
#[derive(Debug, Serialize)]
pub(super) struct Refunded {
    bounty: String,
    amount_wei: String,
    transaction: String,
}

pub(super) async fn refund(
    store: &mut Store,
    chain: &RpcChain,
    wallet: &Wallet,
    bounty: Bounty,
    patience: Patience,
) -> anyhow::Result<Refunded> {
    let purpose = format!("refund {bounty}");
    if store.pending(&purpose)?.is_none() {
        check(chain, wallet, &bounty).await?;
    }
    let call = calls::refund(&bounty);
    let receipt = settle(store, wallet, &purpose, call, patience).await?;
    let events = receipt.logs().iter().filter(|log| log.address().0 == *bounty.as_bytes());
    let amount = events
        .filter_map(|log| UpdateBounty::Refunded::decode_log(&log.inner).ok())
        .fold(U256::ZERO, |sum, event| sum + event.amount);
    store.settled(&purpose)?;
    Ok(Refunded {
        bounty: format!("0x{bounty}"),
        amount_wei: amount.to_string(),
        transaction: receipt.transaction_hash.to_string(),
    })
}

/// What the contract would say, before gas is spent on hearing it.
async fn check(chain: &RpcChain, wallet: &Wallet, bounty: &Bounty) -> anyhow::Result<()> {
    let from = chain.terms(bounty).await?.refund_from();
    let now = chain.head(At::Latest).await?.timestamp;
    if now < from {
        return Err(RefundError::TooEarly { from, now }.into());
    }
    let balance = chain.balance(bounty.to_bytes().into(), At::Latest).await?;
    if balance.is_zero() {
        return Err(RefundError::Nothing(*bounty).into());
    }
    match wallet.simulate(calls::refund(bounty), None).await {
        Err(WalletError::Reverts { reason }) if reason.contains("Nothing") => {
            Err(RefundError::Nothing(*bounty).into())
        }
        tried => Ok(tried?),
    }
}
