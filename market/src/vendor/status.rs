//! What was published, and what became of it.

use alloy::primitives::U256;
use posthouse_contracts::chain::{At, Chain as _, RpcChain};
use serde::Serialize;

use super::store::{Published, ReleaseRow, State, Store, mode_name};

#[derive(Debug, Serialize)]
pub(super) struct Status {
    releases: Vec<Release>,
}

#[derive(Debug, Serialize)]
struct Release {
    version: u64,
    state: &'static str,
    mode: &'static str,
    u_id: String,
    size: u64,
    p_id: Option<String>,
    bounty: Option<String>,
    claim_by: u64,
    gas_used: Option<u64>,
    chain: Option<OnChain>,
    /// Why `chain` is not known.
    chain_error: Option<String>,
}

#[derive(Debug, Serialize)]
struct OnChain {
    devices: u32,
    devices_paid: usize,
    paid_wei: String,
    balance_wei: String,
    refund_from: u64,
}

pub(super) async fn status(store: Option<Store>, chain: &RpcChain) -> anyhow::Result<Status> {
    let rows = store.map(|store| store.releases()).transpose()?.unwrap_or_default();
    let mut releases = Vec::new();
    for row in &rows {
        releases.push(release(row, chain).await);
    }
    Ok(Status { releases })
}

async fn release(row: &ReleaseRow, chain: &RpcChain) -> Release {
    let (state, root, published) = match &row.state {
        State::Staged => ("staged", None, None),
        State::Prepared(root) => ("prepared", Some(root), None),
        State::Published(root, published) => ("published", Some(root), Some(published)),
    };
    let (on_chain, chain_error) = match published {
        Some(published) => match on_chain(published, chain).await {
            Ok(found) => (Some(found), None),
            Err(error) => (None, Some(format!("{error:#}"))),
        },
        None => (None, None),
    };
    Release {
        version: row.version,
        state,
        mode: mode_name(row.mode),
        u_id: row.u_id.to_string(),
        size: row.size,
        p_id: root.map(|root| root.p_id.to_string()),
        bounty: published.map(|published| format!("0x{}", published.bounty)),
        claim_by: row.claim_by,
        gas_used: published.map(|published| published.gas),
        chain: on_chain,
        chain_error,
    }
}

async fn on_chain(published: &Published, chain: &RpcChain) -> anyhow::Result<OnChain> {
    let terms = chain.terms(&published.bounty).await?;
    let from = chain.block_since(terms.start).await?;
    let payments = chain.payments(&published.bounty, from).await?.list;
    let paid = payments.iter().fold(U256::ZERO, |sum, payment| sum + payment.amount);
    let balance = chain.balance(published.bounty.to_bytes().into(), At::Latest).await?;
    Ok(OnChain {
        devices: terms.fleet_size(),
        devices_paid: payments.len(),
        paid_wei: paid.to_string(),
        balance_wei: balance.to_string(),
        refund_from: terms.refund_from(),
    })
}
