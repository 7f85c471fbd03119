//! What the distributor must not forget: the machine's rows and the secrets of what it sells.

use std::path::Path;

use alloy::primitives::B256;
use posthouse_contracts::chain::Health;
use posthouse_protocol::distributor::{Change, Exchange, Fate, Receipt, Slot, Wei};
use posthouse_protocol::id::{
    Attempt, Bounty, DeviceKey, PackageId, Payee, PeerHash, ProductId, Signature, Version,
};
use posthouse_protocol::wire;
use rusqlite::{Connection, OptionalExtension as _, Row, Transaction, params};
use zeroize::Zeroizing;

use crate::database::{self, DatabaseError};

/// Most bytes of an exchange's or a transaction's row: the cipher of an offer, a batch of receipts.
const MAX_RECORD: usize = 1 << 20;

/// Each makes a database of the version before it one of its own; never edited once released.
pub(super) const MIGRATIONS: &[&str] = &[
    "
-- One row for each bounty that was joined.
CREATE TABLE campaigns (
    bounty      BLOB PRIMARY KEY,       -- its contract
    vendor      BLOB NOT NULL,          -- the vendor's address
    product     BLOB NOT NULL,
    version     INTEGER NOT NULL,       -- SUIT sequence number
    p_id        BLOB NOT NULL,          -- digest of the package's root block
    root        BLOB NOT NULL,          -- the root block itself
    secret      BLOB NOT NULL,          -- what is sold: K, or the image in file mode
    start_block INTEGER NOT NULL,       -- first block that can hold the bounty's events
    over        INTEGER NOT NULL        -- 1 once refunds are open and nothing more is redeemed
) STRICT, WITHOUT ROWID;
-- One row for each gateway and bounty.
CREATE TABLE exchanges (
    bounty      BLOB NOT NULL,
    gateway     BLOB NOT NULL,          -- SHA-256 of the peer id
    state       TEXT NOT NULL,          -- name of the stage
    s           BLOB NOT NULL,          -- the lock
    record      BLOB NOT NULL,          -- posthouse_protocol::distributor::Exchange in CBOR, with t
    PRIMARY KEY (bounty, gateway)
) STRICT, WITHOUT ROWID;
-- One row for each receipt that was acknowledged.
CREATE TABLE receipts (
    bounty      BLOB NOT NULL,
    gateway     BLOB NOT NULL,
    device      INTEGER NOT NULL,       -- index in the fleet
    key         BLOB NOT NULL,          -- the device's key
    attempt     INTEGER NOT NULL,
    sig         BLOB NOT NULL,
    fate        TEXT NOT NULL,          -- what became of it
    PRIMARY KEY (bounty, gateway, device)
) STRICT, WITHOUT ROWID;
-- Transactions whose nonce no final block has used yet.
CREATE TABLE transactions (
    nonce       INTEGER PRIMARY KEY,
    bounty      BLOB NOT NULL,
    gateway     BLOB NOT NULL,
    call        TEXT NOT NULL,          -- reserve, reveal or claim
    bumps       INTEGER NOT NULL,       -- times that the fee was raised
    hash        BLOB,                   -- of the last one sent
    record      BLOB NOT NULL           -- posthouse_protocol::distributor::Slot in CBOR
) STRICT;
-- What was earned.
CREATE TABLE payments (
    bounty      BLOB NOT NULL,
    device      INTEGER NOT NULL,
    amount      TEXT NOT NULL,          -- wei, decimal
    PRIMARY KEY (bounty, device)
) STRICT, WITHOUT ROWID;
",
    "
-- Final block up to which the bounty's payments were taken in; 0 before any.
ALTER TABLE campaigns ADD COLUMN read_to INTEGER NOT NULL DEFAULT 0;
",
    "
-- How reading the chain fared when that changed last.
CREATE TABLE health (
    one         INTEGER PRIMARY KEY CHECK (one = 1),
    since       INTEGER NOT NULL,       -- unix seconds
    trust       TEXT NOT NULL,          -- light-client or rpc
    slot        INTEGER,                -- of the newest final beacon block that was proven
    alarm       TEXT,                   -- what somebody should look into
    last_error  TEXT                    -- why the last synchronisation ended early
) STRICT;
",
    "
-- 1 while the exchange's batch waits, as it is not worth its gas; 0 again with the next state.
ALTER TABLE exchanges ADD COLUMN waits INTEGER NOT NULL DEFAULT 0;
",
    "
-- Wei that the wallet lacks for the exchange's transaction, decimal; NULL again with the next state.
ALTER TABLE exchanges ADD COLUMN short TEXT;
",
    "
-- How the audit log fared when that changed last.
CREATE TABLE audit (
    one         INTEGER PRIMARY KEY CHECK (one = 1),
    since       INTEGER NOT NULL,       -- unix seconds
    error       TEXT,                   -- why what was told is not on disk
    left_out    INTEGER NOT NULL        -- records since the program's start
) STRICT;
",
];

type Result<T> = std::result::Result<T, DatabaseError>;

/// A bounty that was joined.
#[derive(Clone)]
pub(super) struct CampaignRow {
    pub(super) bounty: Bounty,
    pub(super) vendor: [u8; 20],
    pub(super) product: ProductId,
    pub(super) version: Version,
    pub(super) p_id: PackageId,
    pub(super) root: Vec<u8>,
    pub(super) secret: Zeroizing<Vec<u8>>,
    /// The newest final block when it was joined: nothing was paid to us before.
    pub(super) start_block: u64,
    /// Final block up to which payments were taken in; 0 before any.
    pub(super) read_to: u64,
}

/// An exchange as `status` shows it.
pub(super) struct ExchangeRow {
    pub(super) bounty: Bounty,
    pub(super) gateway: [u8; 32],
    pub(super) state: String,
    pub(super) receipts: u32,
    pub(super) paid: u32,
    /// Whether its batch waits for a better price.
    pub(super) waits: bool,
    /// Wei that the wallet lacks for its transaction.
    pub(super) short: Option<String>,
}

/// A transaction as `status` shows it.
pub(super) struct TransactionRow {
    pub(super) nonce: u64,
    pub(super) call: String,
    pub(super) bumps: u8,
    pub(super) hash: Option<B256>,
}

/// How reading the chain fared, as `status` shows it.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct HealthRow {
    pub(super) since: u64,
    pub(super) trust: String,
    pub(super) slot: Option<u64>,
    pub(super) alarm: Option<String>,
    pub(super) last_error: Option<String>,
}

pub(super) struct Store(Connection);

impl Store {
    pub(super) fn open(folder: &Path) -> Result<Self> {
        database::open(&folder.join("distributor.db"), MIGRATIONS).map(Self)
    }

    /// To look only; `None` before the first run.
    pub(super) fn look(folder: &Path) -> Result<Option<Self>> {
        Ok(database::look(&folder.join("distributor.db"), MIGRATIONS)?.map(Self))
    }

    /// Writes all of them or none: the machine's rows, and what they say was earned.
    pub(super) fn write(
        &mut self,
        changes: &[Change],
        payments: &[(Bounty, u32, Wei)],
        payee: &Payee,
    ) -> Result<()> {
        if changes.is_empty() && payments.is_empty() {
            return Ok(());
        }
        let transaction = self.0.transaction()?;
        changes.iter().try_for_each(|change| write(&transaction, change, payee))?;
        for (bounty, device, amount) in payments {
            let sql = "INSERT OR IGNORE INTO payments VALUES (?1, ?2, ?3)";
            transaction.execute(sql, params![bounty.as_bytes(), device, amount.to_string()])?;
        }
        Ok(transaction.commit()?)
    }

    /// These exchanges wait: for so much more in the wallet, or as they are not worth their gas now.
    pub(super) fn waits(&self, exchanges: &[(Bounty, PeerHash, Option<Wei>)]) -> Result<()> {
        let sql = "UPDATE exchanges SET waits = ?3, short = ?4 WHERE bounty = ?1 AND gateway = ?2";
        exchanges.iter().try_for_each(|(bounty, gateway, short)| {
            let short = short.map(|wei| wei.to_string());
            self.0.execute(sql, params![bounty.as_bytes(), gateway.as_bytes(), short.is_none(), short])?;
            Ok(())
        })
    }

    /// The machine's rows, exchanges before their receipts and those before transactions.
    pub(super) fn changes(&self) -> Result<Vec<Change>> {
        let mut changes = Vec::new();
        self.records("SELECT record FROM exchanges", |record| {
            changes.push(Change::Exchange(decode(record, "exchanges.record")?));
            Ok(())
        })?;
        let mut receipts =
            self.0.prepare("SELECT bounty, gateway, device, key, attempt, sig, fate FROM receipts")?;
        for receipt in receipts.query_map([], |row| Ok(receipt(row)))? {
            changes.push(Change::Receipt(receipt??));
        }
        self.records("SELECT record FROM transactions ORDER BY nonce", |record| {
            changes.push(Change::Transaction(decode(record, "transactions.record")?));
            Ok(())
        })?;
        Ok(changes)
    }

    fn records(&self, sql: &str, mut each: impl FnMut(&[u8]) -> Result<()>) -> Result<()> {
        let mut rows = self.0.prepare(sql)?;
        let mut rows = rows.query([])?;
        while let Some(row) = rows.next()? {
            each(&Zeroizing::new(row.get::<_, Vec<u8>>(0)?))?;
        }
        Ok(())
    }

    pub(super) fn join(&self, row: &CampaignRow) -> Result<()> {
        self.0.execute(
            "INSERT OR REPLACE INTO campaigns VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, 0, ?9)",
            params![
                row.bounty.as_bytes(),
                row.vendor,
                row.product.as_bytes(),
                row.version.get() as i64,
                row.p_id.as_bytes(),
                row.root,
                row.secret.as_slice(),
                row.start_block as i64,
                row.read_to as i64,
            ],
        )?;
        Ok(())
    }

    /// Payments were taken in up to this final block.
    pub(super) fn read_to(&self, bounty: &Bounty, block: u64) -> Result<()> {
        let sql = "UPDATE campaigns SET read_to = max(read_to, ?2) WHERE bounty = ?1";
        self.0.execute(sql, params![bounty.as_bytes(), block as i64])?;
        Ok(())
    }

    /// How reading the chain fares since that moment, unix seconds.
    pub(super) fn health(&self, health: &Health, since: u64) -> Result<()> {
        let Health { trust, slot, alarm, last_error } = health;
        let slot = slot.map(|slot| slot as i64);
        self.0.execute(
            "INSERT OR REPLACE INTO health VALUES (1, ?1, ?2, ?3, ?4, ?5)",
            params![since as i64, trust.as_str(), slot, alarm, last_error],
        )?;
        Ok(())
    }

    /// `None` before the chain was read.
    pub(super) fn health_row(&self) -> Result<Option<HealthRow>> {
        let row = |row: &Row<'_>| {
            Ok(HealthRow {
                since: row.get::<_, i64>(0)? as u64,
                trust: row.get(1)?,
                slot: row.get::<_, Option<i64>>(2)?.map(|slot| slot as u64),
                alarm: row.get(3)?,
                last_error: row.get(4)?,
            })
        };
        let sql = "SELECT since, trust, slot, alarm, last_error FROM health";
        Ok(self.0.query_row(sql, [], row).optional()?)
    }

    /// How the audit log fares since that moment, unix seconds.
    pub(super) fn audit(&self, health: &posthouse_audit::Health, since: u64) -> Result<()> {
        let posthouse_audit::Health { error, left_out } = health;
        let sql = "INSERT OR REPLACE INTO audit VALUES (1, ?1, ?2, ?3)";
        self.0.execute(sql, params![since as i64, error, *left_out as i64])?;
        Ok(())
    }

    /// With the moment since when, unix seconds; `None` before the first run.
    pub(super) fn audit_row(&self) -> Result<Option<(u64, posthouse_audit::Health)>> {
        let row = |row: &Row<'_>| {
            let (since, left_out) = (row.get::<_, i64>(0)? as u64, row.get::<_, i64>(2)? as u64);
            Ok((since, posthouse_audit::Health { error: row.get(1)?, left_out }))
        };
        Ok(self.0.query_row("SELECT since, error, left_out FROM audit", [], row).optional()?)
    }

    /// A bounty after which nothing more is redeemed: its secret is wiped.
    pub(super) fn over(&self, bounty: &Bounty) -> Result<()> {
        let sql = "UPDATE campaigns SET over = 1, secret = x'' WHERE bounty = ?1";
        self.0.execute(sql, [bounty.as_bytes()])?;
        Ok(())
    }

    /// Those after which nothing more is redeemed.
    pub(super) fn over_bounties(&self) -> Result<Vec<Bounty>> {
        let mut rows = self.0.prepare("SELECT bounty FROM campaigns WHERE over = 1")?;
        let rows = rows.query_map([], |row| Ok(Bounty::from(row.get::<_, [u8; 20]>(0)?)))?;
        Ok(rows.collect::<rusqlite::Result<_>>()?)
    }

    /// Those that are not over.
    pub(super) fn campaigns(&self) -> Result<Vec<CampaignRow>> {
        let mut rows = self.0.prepare(
            "SELECT bounty, vendor, product, version, p_id, root, secret, start_block, read_to FROM campaigns
             WHERE over = 0 ORDER BY version",
        )?;
        let rows = rows.query_map([], campaign)?;
        Ok(rows.collect::<rusqlite::Result<_>>()?)
    }

    pub(super) fn sent(&self, nonce: u64, hash: &B256) -> Result<()> {
        let sql = "UPDATE transactions SET hash = ?2 WHERE nonce = ?1";
        self.0.execute(sql, params![nonce as i64, hash.as_slice()])?;
        Ok(())
    }

    pub(super) fn exchange_rows(&self) -> Result<Vec<ExchangeRow>> {
        let mut rows = self.0.prepare(
            "SELECT bounty, gateway, state,
                (SELECT count(*) FROM receipts r WHERE r.bounty = e.bounty AND r.gateway = e.gateway),
                (SELECT count(*) FROM receipts r WHERE r.bounty = e.bounty AND r.gateway = e.gateway
                    AND fate = 'paid'),
                waits, short
             FROM exchanges e ORDER BY bounty, gateway",
        )?;
        let rows = rows.query_map([], |row| {
            Ok(ExchangeRow {
                bounty: row.get::<_, [u8; 20]>(0)?.into(),
                gateway: row.get(1)?,
                state: row.get(2)?,
                receipts: row.get(3)?,
                paid: row.get(4)?,
                waits: row.get(5)?,
                short: row.get(6)?,
            })
        })?;
        Ok(rows.collect::<rusqlite::Result<_>>()?)
    }

    pub(super) fn transaction_rows(&self) -> Result<Vec<TransactionRow>> {
        let mut rows = self.0.prepare("SELECT nonce, call, bumps, hash FROM transactions ORDER BY nonce")?;
        let rows = rows.query_map([], |row| {
            Ok(TransactionRow {
                nonce: row.get::<_, i64>(0)? as u64,
                call: row.get(1)?,
                bumps: row.get(2)?,
                hash: row.get::<_, Option<[u8; 32]>>(3)?.map(B256::from),
            })
        })?;
        Ok(rows.collect::<rusqlite::Result<_>>()?)
    }

    /// Devices paid for a bounty, and how much for all of them.
    pub(super) fn earned(&self, bounty: &Bounty) -> Result<(u32, u128)> {
        let mut rows = self.0.prepare("SELECT amount FROM payments WHERE bounty = ?1")?;
        let amounts = rows.query_map([bounty.as_bytes()], |row| row.get::<_, String>(0))?;
        amounts.into_iter().try_fold((0, 0), |(count, sum), amount| {
            let amount: u128 = amount?.parse().map_err(|_| DatabaseError::Row("payments.amount"))?;
            Ok((count + 1, sum + amount))
        })
    }
}

fn write(transaction: &Transaction<'_>, change: &Change, payee: &Payee) -> Result<()> {
    match change {
        Change::Exchange(exchange) => write_exchange(transaction, exchange, payee),
        Change::Receipt(receipt) => write_receipt(transaction, receipt),
        Change::Transaction(slot) => write_slot(transaction, slot),
        Change::Settled { nonce } => {
            transaction.execute("DELETE FROM transactions WHERE nonce = ?1", [*nonce as i64])?;
            Ok(())
        }
        Change::Forget { bounty, gateway } => {
            for table in ["receipts", "exchanges"] {
                let sql = format!("DELETE FROM {table} WHERE bounty = ?1 AND gateway = ?2");
                transaction.execute(&sql, [bounty.as_bytes().as_slice(), gateway.as_bytes()])?;
            }
            Ok(())
        }
    }
}

fn write_exchange(transaction: &Transaction<'_>, exchange: &Exchange, payee: &Payee) -> Result<()> {
    let record = Zeroizing::new(wire::to_vec(exchange));
    transaction.execute(
        "INSERT OR REPLACE INTO exchanges (bounty, gateway, state, s, record) VALUES (?1, ?2, ?3, ?4, ?5)",
        params![
            exchange.bounty.as_bytes(),
            exchange.gateway.as_bytes(),
            exchange.stage.name(),
            exchange.s(payee).as_bytes(),
            record.as_slice(),
        ],
    )?;
    Ok(())
}

fn write_receipt(transaction: &Transaction<'_>, receipt: &Receipt) -> Result<()> {
    transaction.execute(
        "INSERT OR REPLACE INTO receipts VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
        params![
            receipt.bounty.as_bytes(),
            receipt.gateway.as_bytes(),
            receipt.index,
            receipt.device.as_bytes(),
            receipt.attempt.get(),
            receipt.sig.as_bytes(),
            receipt.fate.name(),
        ],
    )?;
    Ok(())
}

fn write_slot(transaction: &Transaction<'_>, slot: &Slot) -> Result<()> {
    let record = Zeroizing::new(wire::to_vec(slot));
    transaction.execute(
        "INSERT INTO transactions VALUES (?1, ?2, ?3, ?4, ?5, NULL, ?6)
         ON CONFLICT (nonce) DO UPDATE SET bumps = ?5, record = ?6",
        params![
            slot.nonce as i64,
            slot.bounty.as_bytes(),
            slot.gateway.as_bytes(),
            slot.call.name(),
            slot.bumps,
            record.as_slice(),
        ],
    )?;
    Ok(())
}

fn decode<T>(record: &[u8], what: &'static str) -> Result<T>
where
    T: for<'b> minicbor::Decode<'b, ()> + minicbor::Encode<()>,
{
    wire::decode(record, MAX_RECORD).map_err(|_| DatabaseError::Row(what))
}

fn receipt(row: &Row<'_>) -> Result<Receipt> {
    let fate: String = row.get(6)?;
    Ok(Receipt {
        bounty: row.get::<_, [u8; 20]>(0)?.into(),
        gateway: row.get::<_, [u8; 32]>(1)?.into(),
        index: row.get(2)?,
        device: DeviceKey::new(row.get(3)?),
        attempt: Attempt::new(row.get(4)?),
        sig: Signature::new(row.get(5)?),
        fate: Fate::from_name(&fate).ok_or(DatabaseError::Row("receipts.fate"))?,
    })
}

fn campaign(row: &Row<'_>) -> rusqlite::Result<CampaignRow> {
    Ok(CampaignRow {
        bounty: row.get::<_, [u8; 20]>(0)?.into(),
        vendor: row.get(1)?,
        product: row.get::<_, [u8; 32]>(2)?.into(),
        version: Version::new(row.get::<_, i64>(3)? as u64),
        p_id: row.get::<_, [u8; 32]>(4)?.into(),
        root: row.get(5)?,
        secret: Zeroizing::new(row.get(6)?),
        start_block: row.get::<_, i64>(7)? as u64,
        read_to: row.get::<_, i64>(8)? as u64,
    })
}

#[cfg(test)]
mod tests {
    use posthouse_protocol::distributor::Fee;
    use posthouse_protocol::distributor::Stage;
    use posthouse_protocol::id::Digest;
    use posthouse_protocol::secret::PreimageT;

    use super::*;

    const BOUNTY: Bounty = Bounty::new([1; 20]);
    const GATEWAY: PeerHash = PeerHash::new([2; 32]);
    const PAYEE: Payee = Payee::new([3; 20]);

    fn rows() -> Vec<Change> {
        let exchange = Exchange {
            bounty: BOUNTY,
            gateway: GATEWAY,
            device: 7,
            challenge: Digest::new([4; 32]),
            t: PreimageT::new([5; 32]),
            stage: Stage::Proving,
        };
        let receipt = Receipt {
            bounty: BOUNTY,
            gateway: GATEWAY,
            index: 7,
            device: DeviceKey::new([2; 33]),
            attempt: Attempt::new(1),
            sig: Signature::new([6; 64]),
            fate: Fate::LockedByOther,
        };
        let call =
            posthouse_protocol::distributor::Call::Reveal { t: PreimageT::new([5; 32]), indices: vec![7] };
        let fee = Some(Fee { max: Wei::new(30), priority: Wei::new(2) });
        let (nonce, bumps, private) = (9, 1, true);
        let gas = Some(160_000);
        let slot = Slot { nonce, bounty: BOUNTY, gateway: GATEWAY, call, bumps, fee, private, gas };
        vec![Change::Exchange(exchange), Change::Receipt(receipt), Change::Transaction(slot)]
    }

    #[test]
    fn rows_come_back_as_they_went() {
        let folder = tempfile::tempdir().unwrap();
        let mut store = Store::open(folder.path()).unwrap();
        store.write(&rows(), &[], &PAYEE).unwrap();
        store.sent(9, &B256::repeat_byte(1)).unwrap();
        drop(store);
        let mut store = Store::open(folder.path()).unwrap();
        assert_eq!(store.changes().unwrap(), rows());
        assert_eq!(store.transaction_rows().unwrap()[0].hash, Some(B256::repeat_byte(1)));
        let gone = [Change::Settled { nonce: 9 }, Change::Forget { bounty: BOUNTY, gateway: GATEWAY }];
        store.write(&gone, &[], &PAYEE).unwrap();
        assert_eq!(store.changes().unwrap(), []);
    }

    #[test]
    fn an_exchange_waits_until_its_next_state() {
        let folder = tempfile::tempdir().unwrap();
        let mut store = Store::open(folder.path()).unwrap();
        store.write(&rows(), &[], &PAYEE).unwrap();
        assert!(!store.exchange_rows().unwrap()[0].waits);
        let why = |store: &Store| {
            let row = store.exchange_rows().unwrap().remove(0);
            (row.waits, row.short)
        };
        store.waits(&[(BOUNTY, GATEWAY, None)]).unwrap();
        assert_eq!(why(&store), (true, None));
        store.waits(&[(BOUNTY, GATEWAY, Some(Wei::new(7)))]).unwrap();
        assert_eq!(why(&store), (false, Some("7".into())));
        store.write(&rows(), &[], &PAYEE).unwrap();
        assert_eq!(why(&store), (false, None));
    }

    #[test]
    fn a_payment_is_counted_once() {
        let folder = tempfile::tempdir().unwrap();
        let mut store = Store::open(folder.path()).unwrap();
        let payments = [(BOUNTY, 7, Wei::new(5)), (BOUNTY, 8, Wei::new(6))];
        store.write(&[], &payments[..1], &PAYEE).unwrap();
        store.write(&[], &payments, &PAYEE).unwrap();
        assert_eq!(store.earned(&BOUNTY).unwrap(), (2, 11));
    }

    fn joined() -> CampaignRow {
        CampaignRow {
            bounty: BOUNTY,
            vendor: [1; 20],
            product: ProductId::new([2; 32]),
            version: Version::new(3),
            p_id: PackageId::new([4; 32]),
            root: vec![5],
            secret: Zeroizing::new(vec![6]),
            start_block: 100,
            read_to: 0,
        }
    }

    #[test]
    fn how_far_payments_were_read_outlives_a_restart() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path()).unwrap();
        store.join(&joined()).unwrap();
        store.read_to(&BOUNTY, 300).unwrap();
        store.read_to(&BOUNTY, 200).unwrap();
        drop(store);
        let rows = Store::open(folder.path()).unwrap().campaigns().unwrap();
        assert_eq!((rows[0].start_block, rows[0].read_to), (100, 300));
    }

    #[test]
    fn how_the_chain_fares_is_what_was_told_last() {
        use posthouse_contracts::chain::Trust;
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path()).unwrap();
        assert_eq!(store.health_row().unwrap(), None);
        let well = Health { trust: Trust::LightClient, slot: Some(64), alarm: None, last_error: None };
        let alarm = Some("the chain is followed no more".to_owned());
        let ill = Health { slot: None, alarm: alarm.clone(), last_error: Some("why".into()), ..well.clone() };
        store.health(&ill, 5).unwrap();
        let row = store.health_row().unwrap().unwrap();
        assert_eq!((row.since, row.trust.as_str(), row.slot), (5, "light-client", None));
        assert_eq!((row.alarm, row.last_error.as_deref()), (alarm, Some("why")));
        store.health(&well, 6).unwrap();
        let row = store.health_row().unwrap().unwrap();
        assert_eq!((row.since, row.slot, row.alarm, row.last_error), (6, Some(64), None, None));
    }

    #[test]
    fn how_the_audit_log_fares_is_what_was_told_last() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path()).unwrap();
        assert_eq!(store.audit_row().unwrap(), None);
        let ill = posthouse_audit::Health { error: Some("no space".into()), left_out: 3 };
        store.audit(&ill, 5).unwrap();
        assert_eq!(store.audit_row().unwrap(), Some((5, ill)));
        store.audit(&Default::default(), 6).unwrap();
        assert_eq!(store.audit_row().unwrap(), Some((6, Default::default())));
    }

    #[test]
    fn a_database_of_the_first_version_reads_payments_from_the_start() {
        let folder = tempfile::tempdir().unwrap();
        let old = database::open(&folder.path().join("distributor.db"), &MIGRATIONS[..1]).unwrap();
        let sql = "INSERT INTO campaigns VALUES (?1, ?2, ?3, 3, ?3, x'05', x'06', 100, 0)";
        old.execute(sql, params![BOUNTY.as_bytes(), [1u8; 20], [2u8; 32]]).unwrap();
        drop(old);
        let rows = Store::open(folder.path()).unwrap().campaigns().unwrap();
        assert_eq!((rows[0].start_block, rows[0].read_to), (100, 0));
    }

    /// A change of the schema is a migration of its own: this digest changes only with one more of them.
    #[test]
    fn the_schema_is_pinned() {
        use sha2::Digest as _;
        let digest = hex::encode(sha2::Sha256::digest(MIGRATIONS.concat()));
        assert_eq!(digest, "d2879bba76371a922cc541a931521ef21046c545d05bc5f53fb07d02e5187220");
    }
}
