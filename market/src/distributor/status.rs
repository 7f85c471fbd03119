//! What is for sale, how exchanges stand, what was earned: from the database alone.

use serde::Serialize;

use super::store::Store;

#[derive(Debug, Default, Serialize)]
pub(super) struct Status {
    audit: Option<AuditStatus>,
    chain: Option<ChainStatus>,
    bounties: Vec<BountyStatus>,
    exchanges: Vec<ExchangeStatus>,
    transactions: Vec<TransactionStatus>,
}

/// How the audit log fares; nothing before the first run.
#[derive(Debug, Serialize)]
struct AuditStatus {
    /// Why what should be written down is not on disk.
    error: Option<String>,
    /// Records that found no room since the program's start.
    left_out: u64,
    /// All of that since then, unix seconds.
    since: u64,
}

/// How reading the chain fares; nothing before it was read.
#[derive(Debug, Serialize)]
struct ChainStatus {
    trust: String,
    finalized_slot: Option<u64>,
    /// What somebody should look into.
    alarm: Option<String>,
    /// Why the light client's last synchronisation ended early, if it did.
    last_error: Option<String>,
    /// All of that since then, unix seconds.
    since: u64,
}

#[derive(Debug, Serialize)]
struct BountyStatus {
    bounty: String,
    product: String,
    version: u64,
    p_id: String,
    devices_paid: u32,
    earned_wei: String,
}

#[derive(Debug, Serialize)]
struct ExchangeStatus {
    bounty: String,
    gateway: String,
    state: String,
    receipts: u32,
    paid: u32,
    /// Its batch is not worth its gas at the present fee.
    waits_for_price: bool,
    /// What the wallet lacks for its transaction, if it waits for that.
    wallet_lacks_wei: Option<String>,
}

#[derive(Debug, Serialize)]
struct TransactionStatus {
    nonce: u64,
    call: String,
    fee_raised: u8,
    hash: Option<String>,
}

pub(super) fn status(store: &Store) -> anyhow::Result<Status> {
    let audit = store.audit_row()?.map(|(since, health)| {
        let posthouse_audit::Health { error, left_out } = health;
        AuditStatus { error, left_out, since }
    });
    let mut status = Status { audit, chain: store.health_row()?.map(chain), ..Status::default() };
    for row in store.campaigns()? {
        let (devices_paid, earned) = store.earned(&row.bounty)?;
        status.bounties.push(BountyStatus {
            bounty: format!("0x{}", row.bounty),
            product: row.product.to_string(),
            version: row.version.get(),
            p_id: row.p_id.to_string(),
            devices_paid,
            earned_wei: earned.to_string(),
        });
    }
    status.exchanges = store.exchange_rows()?.into_iter().map(exchange).collect();
    status.transactions = store.transaction_rows()?.into_iter().map(transaction).collect();
    Ok(status)
}

fn chain(row: super::store::HealthRow) -> ChainStatus {
    let super::store::HealthRow { since, trust, slot, alarm, last_error } = row;
    ChainStatus { trust, finalized_slot: slot, alarm, last_error, since }
}

fn exchange(row: super::store::ExchangeRow) -> ExchangeStatus {
    ExchangeStatus {
        bounty: format!("0x{}", row.bounty),
        gateway: hex::encode(row.gateway),
        state: row.state,
        receipts: row.receipts,
        paid: row.paid,
        waits_for_price: row.waits,
        wallet_lacks_wei: row.short,
    }
}

fn transaction(row: super::store::TransactionRow) -> TransactionStatus {
    TransactionStatus {
        nonce: row.nonce,
        call: row.call,
        fee_raised: row.bumps,
        hash: row.hash.map(|hash| hash.to_string()),
    }
}
