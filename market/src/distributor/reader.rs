//! Readings of the chain in the machine's words.

use std::collections::BTreeMap;
use std::sync::Arc;

use posthouse_contracts::calls::{self, Call as ContractCall};
use posthouse_contracts::chain::{At, Chain, ChainError, Claim, Head as Block, Payment};
use posthouse_contracts::fleet::FleetError;
use posthouse_contracts::receipts::{Batch, Deal, Receipt, ReceiptError, tag};
use posthouse_protocol::distributor::{
    Call, CallFailure, Head, Item, Observation, Seen, Standing, Watch, Wei,
};
use posthouse_protocol::id::{Bounty, ChainId, LockHash, Payee};
use posthouse_protocol::secret::{KeyR, PreimageT};
use thiserror::Error;

use super::market::Goods;
use crate::wallet::{Gas, Wallet, WalletError};

/// Why a reading or a call failed.
#[derive(Debug, Error)]
pub(super) enum ReadError {
    #[error(transparent)]
    Chain(#[from] ChainError),
    #[error(transparent)]
    Wallet(#[from] WalletError),
    #[error("the lock does not hold all that is to be revealed")]
    NoLock,
    #[error("its bounty is not for sale yet, or no longer")]
    NotForSale,
    #[error("receipts make no batch: {0}")]
    Batch(#[from] ReceiptError),
    #[error("a worker died: {0}")]
    Worker(#[from] tokio::task::JoinError),
}

/// Reads for one wallet. Cheap to clone.
#[derive(Clone)]
pub(super) struct Reader {
    pub(super) chain: Arc<dyn Chain>,
    pub(super) wallet: Wallet,
    pub(super) chain_id: ChainId,
    pub(super) payee: Payee,
}

impl Reader {
    /// Head and wallet; the final nonce first, as the machine asks.
    pub(super) async fn head(&self) -> Result<Head, ReadError> {
        // By who reads the locks as well: a nonce that is final elsewhere says nothing of them.
        let final_nonce = self.chain.nonce(self.wallet.address(), At::Finalized).await?;
        let latest_nonce = self.chain.nonce(self.wallet.address(), At::Latest).await?;
        let timestamp = self.chain.head(At::Latest).await?.timestamp;
        let base_fee = Wei::new(self.chain.base_fee().await?.into());
        let balance = Wei::new(self.wallet.balance().await?.saturating_to());
        Ok(Head { timestamp, latest_nonce, final_nonce, base_fee, balance })
    }

    /// The newest final block.
    pub(super) async fn finalized(&self) -> Result<Block, ReadError> {
        Ok(self.chain.head(At::Finalized).await?)
    }

    /// Everything that the machine watches in one bounty, and the final block up to which that tells
    /// its events; `None` where they cannot be read. They are read once for all exchanges.
    pub(super) async fn observe(
        &self,
        bounty: &Bounty,
        watches: Vec<Watch>,
        from: u64,
    ) -> Result<(Vec<Observation>, Option<u64>), ReadError> {
        let finalized = self.chain.head(At::Finalized).await?;
        let latest = self.chain.head(At::Latest).await?;
        let mut standings = Vec::with_capacity(watches.len());
        for watch in &watches {
            let Watch { bounty, s, indices, .. } = watch;
            let last = self.standings(bounty, s, indices, At::Latest, &latest).await?;
            standings.push((last, self.standings(bounty, s, indices, At::Finalized, &finalized).await?));
        }
        // Read last, so that no share is final and gone without the payment that tells to whom.
        let payments = self.chain.payments(bounty, from).await;
        let payments =
            payments.inspect_err(|error| tracing::warn!(%bounty, %error, "payments cannot be read")).ok();
        let observations = watches.iter().zip(standings).map(|(watch, (latest, finalized))| {
            let known = payments.as_ref().map(|payments| paid(&payments.list, watch, &self.payee));
            let paid = known.clone().unwrap_or_default();
            Observation {
                bounty: watch.bounty,
                gateway: watch.gateway,
                latest: settled(latest, &paid),
                finalized: settled(finalized, &paid),
                paid: known.map(|paid| paid.into_iter().collect()),
            }
        });
        Ok((observations.collect(), payments.map(|payments| payments.to)))
    }

    /// How shares stand, by index. Our own lock is asked for first: it costs one call for a page of
    /// devices, and who holds another's lock one search of events for each.
    pub(super) async fn standings(
        &self,
        bounty: &Bounty,
        s: &LockHash,
        indices: &[u32],
        at: At,
        block: &Block,
    ) -> Result<Vec<Seen>, ReadError> {
        if indices.is_empty() {
            return Ok(Vec::new());
        }
        let held = self.chain.reservation(bounty, s, &self.payee, indices, at).await?;
        let (mut seen, mut rest) = (Vec::with_capacity(indices.len()), Vec::new());
        for (index, until) in indices.iter().zip(held) {
            match until.filter(|until| *until >= block.timestamp) {
                Some(until) => seen.push(Seen { index: *index, standing: Standing::Ours { until } }),
                None => rest.push(*index),
            }
        }
        let claims = self.chain.claims(bounty, &rest, at).await?;
        let standings = rest.iter().zip(&claims);
        seen.extend(standings.map(|(index, claim)| Seen {
            index: *index,
            standing: standing(claim, s, &self.payee, block.timestamp),
        }));
        seen.sort_unstable_by_key(|seen| seen.index);
        Ok(seen)
    }

    /// The machine's call as the contract takes it, for this much gas; only one that cancels does without goods. Ended locks
    /// of others, which it clears away, take more gas than the machine knows of.
    pub(super) async fn call(
        &self,
        goods: Option<&Arc<Goods>>,
        call: &Call,
        gas: u64,
    ) -> Result<(ContractCall, Gas), ReadError> {
        if *call == Call::Cancel {
            return Ok((self.wallet.nothing(), Gas::Fixed(gas)));
        }
        let goods = goods.ok_or(ReadError::NotForSale)?;
        let up_to = |more: u64| Gas::UpTo { least: gas, most: gas.saturating_add(more) };
        Ok(match call {
            Call::Cancel => (self.wallet.nothing(), Gas::Fixed(gas)),
            Call::Reserve { s, items, min_sum } => {
                let batch = self.batch(goods, s, items).await?;
                let gas = up_to(batch.past_gas());
                (calls::reserve(batch, amount(*min_sum)), gas)
            }
            Call::Reveal { t, indices } => {
                (calls::reveal(&goods.bounty, &self.payee, t, indices.clone()), Gas::Fixed(gas))
            }
            Call::Claim { t, items, min_sum } => {
                let s = KeyR::derive(&self.payee, t).lock();
                let batch = self.batch(goods, &s, items).await?;
                let gas = up_to(batch.past_gas());
                (calls::publish_proofs(batch, t, amount(*min_sum)), gas)
            }
        })
    }

    /// Names the ended locks of others that stand in the way.
    async fn batch(&self, goods: &Arc<Goods>, s: &LockHash, items: &[Item]) -> Result<Batch, ReadError> {
        let deal = Deal {
            chain: self.chain_id,
            bounty: goods.bounty,
            curve: goods.release.curve,
            u_id: goods.release.u_id,
            payee: self.payee,
            s: *s,
        };
        let receipt = |item: &Item| {
            let Item { index, device: key, attempt, sig: signature } = *item;
            Receipt { index, key, attempt, signature }
        };
        let (goods, receipts) = (goods.clone(), items.iter().map(receipt).collect());
        let bounty = goods.bounty;
        // Checks signatures, and reads the fleet's tree from disk.
        let batch = move || Batch::new(deal, receipts, goods.fleet.tree());
        let batch = tokio::task::spawn_blocking(batch).await??;
        let indices: Vec<u32> = batch.indices().collect();
        let now = self.chain.head(At::Latest).await?.timestamp;
        let claims = self.chain.claims(&bounty, &indices, At::Latest).await?;
        let ended = indices.iter().zip(&claims).filter_map(|(index, claim)| {
            let lock = claim.lock.filter(|lock| lock.until < now)?;
            Some((tag(&lock.s, &lock.payee), *index))
        });
        Ok(batch.past(ended.collect::<Vec<_>>()))
    }

    /// Tries a call in the latest state. The one that shows `t` is shown to no endpoint for that: whether its locks live
    /// is read from the contract.
    pub(super) async fn simulate(
        &self,
        goods: &Arc<Goods>,
        call: &Call,
        gas: u64,
    ) -> Result<(), CallFailure> {
        let tried = match call {
            Call::Reveal { t, indices } => self.holds(&goods.bounty, t, indices).await,
            _ => self.try_call(goods, call, gas).await,
        };
        tried.map_err(|error| {
            tracing::debug!(call = call.name(), %error, "a call would not do");
            failure(&error)
        })
    }

    async fn try_call(&self, goods: &Arc<Goods>, call: &Call, gas: u64) -> Result<(), ReadError> {
        let (call, gas) = self.call(Some(goods), call, gas).await?;
        Ok(self.wallet.simulate(call, Some(gas.most())).await?)
    }

    /// Whether the lock of `t` holds all these shares in the latest block.
    async fn holds(&self, bounty: &Bounty, t: &PreimageT, indices: &[u32]) -> Result<(), ReadError> {
        let s = KeyR::derive(&self.payee, t).lock();
        let now = self.chain.head(At::Latest).await?.timestamp;
        let held = self.chain.reservation(bounty, &s, &self.payee, indices, At::Latest).await?;
        let live = held.iter().all(|until| until.is_some_and(|until| now <= until));
        if live { Ok(()) } else { Err(ReadError::NoLock) }
    }
}

fn failure(error: &ReadError) -> CallFailure {
    match error {
        ReadError::Wallet(WalletError::Reverts { reason }) if reason.contains("ClaimsClosed") => {
            CallFailure::ClaimsClosed
        }
        ReadError::NoLock => CallFailure::NoLock,
        // The disk's fault, not the receipts'.
        ReadError::Batch(ReceiptError::Fleet(FleetError::Io(_))) => CallFailure::Unavailable,
        ReadError::Wallet(WalletError::Reverts { .. }) | ReadError::Batch(_) => CallFailure::Reverts,
        ReadError::Wallet(_) | ReadError::Chain(_) | ReadError::Worker(_) | ReadError::NotForSale => {
            CallFailure::Unavailable
        }
    }
}

fn paid(payments: &[Payment], watch: &Watch, payee: &Payee) -> BTreeMap<u32, Wei> {
    let ours = payments.iter().filter(|payment| {
        payment.payee == *payee && payment.s == watch.s && watch.indices.contains(&payment.index)
    });
    // The contract's shares have 96 bits and a bonus of at most 16.
    ours.map(|payment| (payment.index, Wei::new(payment.amount.saturating_to()))).collect()
}

/// What was paid is gone, also where the block of the reading was the one before.
fn settled(mut seen: Vec<Seen>, paid: &BTreeMap<u32, Wei>) -> Vec<Seen> {
    for one in seen.iter_mut().filter(|one| paid.contains_key(&one.index)) {
        one.standing = Standing::Claimed;
    }
    seen
}

fn standing(claim: &Claim, s: &LockHash, payee: &Payee, now: u64) -> Standing {
    let live = claim.lock.filter(|lock| lock.until >= now);
    match live {
        _ if claim.claimed => Standing::Claimed,
        Some(lock) if lock.s == *s && lock.payee == *payee => Standing::Ours { until: lock.until },
        Some(lock) => Standing::Other { until: lock.until },
        None => Standing::Free { attempt: claim.attempt.get() },
    }
}

fn amount(wei: Wei) -> alloy::primitives::U256 {
    alloy::primitives::U256::from(wei.get())
}
