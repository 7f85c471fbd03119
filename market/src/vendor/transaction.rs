//! One transaction for one purpose, however often the program dies on the way.
//!
//! The signed bytes are kept before they are sent. A later run finds them: it looks for the receipt of
//! any that was signed for the purpose, sends the last one again under its nonce if there is none,
//! and signs anew only when the nonce went to something else, which makes the old ones void for ever.

use std::time::{Duration, Instant};

use alloy::eips::BlockNumberOrTag;
use alloy::rpc::types::TransactionReceipt;
use posthouse_contracts::calls::Call;
use thiserror::Error;

use super::store::{Pending, Store};
use crate::crash::crash_point;
use crate::database::DatabaseError;
use crate::wallet::{Gas, Wallet, WalletError};

/// Why a purpose was not reached.
#[derive(Debug, Error)]
pub(super) enum TransactionError {
    #[error(transparent)]
    Database(#[from] DatabaseError),
    #[error(transparent)]
    Wallet(#[from] WalletError),
    #[error("transaction {hash} was mined and reverted")]
    Reverted { hash: alloy::primitives::B256 },
    #[error("not mined within {0} s; run the same command again to go on")]
    NotMined(u64),
}

/// How long to wait.
#[derive(Debug, Clone, Copy)]
pub(super) struct Patience {
    /// Between two looks at the chain.
    pub(super) poll: Duration,
    /// Until the fee is raised.
    pub(super) resubmit: Duration,
    /// Until the command gives up; what was sent may still be mined.
    pub(super) wait: Duration,
}

/// Sends the call, or goes on with one that an earlier run sent, until it is in a block.
pub(super) async fn settle(
    store: &mut Store,
    wallet: &Wallet,
    purpose: &str,
    call: Call,
    patience: Patience,
) -> Result<TransactionReceipt, TransactionError> {
    let mut pending = match open(store, wallet, purpose).await? {
        Outcome::Mined(receipt) => return checked(store, purpose, *receipt),
        Outcome::Pending(pending) => pending,
        Outcome::None => sign(store, wallet, purpose, &call, None).await?,
    };
    crash_point("vendor.signed");
    send(wallet, &pending).await;
    crash_point("vendor.sent");
    let (start, mut sent) = (Instant::now(), Instant::now());
    while start.elapsed() < patience.wait {
        tokio::time::sleep(patience.poll).await;
        match open(store, wallet, purpose).await {
            Ok(Outcome::Mined(receipt)) => return checked(store, purpose, *receipt),
            Ok(Outcome::None) => pending = sign(store, wallet, purpose, &call, None).await?,
            Ok(Outcome::Pending(_)) if sent.elapsed() < patience.resubmit => continue,
            Ok(Outcome::Pending(old)) => {
                pending = sign(store, wallet, purpose, &call, Some(&old)).await?;
            }
            // The chain is not there for a moment: nothing is lost.
            Err(TransactionError::Wallet(WalletError::Unavailable(_))) => continue,
            Err(error) => return Err(error),
        }
        send(wallet, &pending).await;
        sent = Instant::now();
    }
    Err(TransactionError::NotMined(patience.wait.as_secs()))
}

enum Outcome {
    Mined(Box<TransactionReceipt>),
    Pending(Pending),
    None,
}

/// What became of what was signed before.
async fn open(store: &mut Store, wallet: &Wallet, purpose: &str) -> Result<Outcome, TransactionError> {
    let Some(pending) = store.pending(purpose)? else { return Ok(Outcome::None) };
    // The nonce before the receipts: one that is used by then has its receipt by then.
    let used = wallet.nonce(BlockNumberOrTag::Latest).await? > pending.nonce;
    for hash in &pending.hashes {
        if let Some(receipt) = wallet.receipt(*hash).await? {
            return Ok(Outcome::Mined(Box::new(receipt)));
        }
    }
    if used {
        tracing::warn!(purpose, nonce = pending.nonce, "the nonce went to another transaction");
        store.settled(purpose)?;
        return Ok(Outcome::None);
    }
    Ok(Outcome::Pending(pending))
}

async fn sign(
    store: &mut Store,
    wallet: &Wallet,
    purpose: &str,
    call: &Call,
    replaces: Option<&Pending>,
) -> Result<Pending, TransactionError> {
    let (nonce, bumps) = match replaces {
        Some(old) => (old.nonce, old.bumps.saturating_add(1)),
        None => (wallet.nonce(BlockNumberOrTag::Latest).await?, 0),
    };
    let signed = wallet.sign(call.clone(), nonce, bumps, Gas::Estimated).await?;
    store.signed(purpose, nonce, bumps, &signed)?;
    Ok(Pending { nonce, bumps, raw: signed.raw.to_vec(), hashes: vec![signed.hash] })
}

async fn send(wallet: &Wallet, pending: &Pending) {
    if let Err(error) = wallet.send(&pending.raw).await {
        tracing::debug!(%error, "a node does not take the transaction");
    }
}

fn checked(
    store: &Store,
    purpose: &str,
    receipt: TransactionReceipt,
) -> Result<TransactionReceipt, TransactionError> {
    if receipt.status() {
        return Ok(receipt);
    }
    store.settled(purpose)?;
    Err(TransactionError::Reverted { hash: receipt.transaction_hash })
}
