//! Rows to types and back.

use std::collections::BTreeMap;

use posthouse_protocol::gateway::{Record, Update};
use posthouse_protocol::id::{
    Attempt, Bounty, Curve, DeviceKey, LockHash, ProductId, Signature, UpdateId, Version,
};
use rusqlite::{Connection, Row, params};

use super::{SaveAnnouncement, SaveFailures, SaveOrder, SavePackage, SaveRecords, SaveSensors, StoreError};
use crate::campaign::Order;
use crate::messages::Carrier;

/// Everything that is kept, to start from.
#[derive(Debug, Default)]
pub struct Loaded {
    /// Announced updates with their exchanges.
    pub announcements: Vec<Announcement>,
    /// Sensors.
    pub sensors: Vec<SensorRow>,
    /// Staged images.
    pub staged: Vec<StagedRow>,
    /// What somebody ordered.
    pub orders: Vec<SaveOrder>,
    /// How often updates failed on sensors.
    pub failures: Vec<SaveFailures>,
}

/// An announced update and how far its exchange is.
#[derive(Debug)]
pub struct Announcement {
    /// What the chain says.
    pub update: Update,
    /// Whose product.
    pub vendor: [u8; 20],
    /// The package's root block and the verifying key, once checked.
    pub package: Option<(Vec<u8>, Vec<u8>)>,
    /// Facts of the exchange.
    pub records: Vec<Record>,
}

/// A sensor as it was last heard.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SensorRow {
    /// Its key.
    pub device: DeviceKey,
    /// Vendor and class id.
    pub product: ProductId,
    /// The key's curve.
    pub curve: Curve,
    /// What runs.
    pub installed: Version,
    /// Bytes of the free slot.
    pub slot: u32,
    /// Seconds from one waking to the next.
    pub wake: u32,
    /// How it is reached.
    pub carrier: Carrier,
    /// Whether the carrier knew that it was this device.
    pub authenticated: bool,
    /// LwM2M 5/0/3.
    pub state: Option<u8>,
    /// LwM2M 5/0/5.
    pub result: Option<u8>,
    /// Next byte that it wants.
    pub next: Option<u32>,
    /// Unix milliseconds.
    pub last_seen: u64,
}

/// A staged image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StagedRow {
    /// Its digest; its file is named by it.
    pub u_id: UpdateId,
    /// Bytes.
    pub size: u64,
    /// Unix milliseconds.
    pub staged_at: u64,
}

type Result<T> = std::result::Result<T, StoreError>;

/// SQLite's integers are signed; the bits are kept.
fn signed(value: u64) -> i64 {
    value as i64
}

fn unsigned(value: i64) -> u64 {
    value as u64
}

fn cbor<T: minicbor::Encode<()>>(value: &T) -> Vec<u8> {
    minicbor::to_vec(value).expect("writing to memory does not fail")
}

fn from_cbor<T: for<'b> minicbor::Decode<'b, ()>>(bytes: &[u8], table: &'static str) -> Result<T> {
    minicbor::decode(bytes).map_err(|_| StoreError::Damaged(table))
}

/// A blob of an identifier's width.
fn id<T: for<'b> TryFrom<&'b [u8]>>(row: &Row<'_>, column: &str, table: &'static str) -> Result<T> {
    let bytes: Vec<u8> = row.get(column)?;
    T::try_from(bytes.as_slice()).map_err(|_| StoreError::Damaged(table))
}

pub(super) fn save_announcement(db: &Connection, save: &SaveAnnouncement) -> Result<()> {
    let update = &save.update;
    db.execute(
        "INSERT OR IGNORE INTO announcements (bounty, product, version, vendor, terms, seen_at) \
         VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
        params![
            update.bounty.as_ref(),
            update.product.as_ref(),
            signed(update.version.get()),
            &save.vendor[..],
            cbor(update),
            signed(save.seen_at),
        ],
    )?;
    Ok(())
}

pub(super) fn save_package(db: &Connection, save: &SavePackage) -> Result<()> {
    db.execute(
        "UPDATE announcements SET root = ?2, vk = ?3 WHERE bounty = ?1",
        params![save.bounty.as_ref(), save.root, save.vk],
    )?;
    Ok(())
}

pub(super) fn forget(db: &mut Connection, bounty: &Bounty) -> Result<()> {
    let transaction = db.transaction()?;
    // The announcement last: the others name it.
    for table in ["offers", "receipts", "records", "orders", "failures", "announcements"] {
        transaction.execute(&format!("DELETE FROM {table} WHERE bounty = ?1"), params![bounty.as_ref()])?;
    }
    transaction.commit()?;
    Ok(())
}

pub(super) fn save_records(db: &mut Connection, save: &SaveRecords) -> Result<()> {
    let transaction = db.transaction()?;
    save.records.iter().try_for_each(|record| save_record(&transaction, &save.bounty, record))?;
    transaction.commit()?;
    Ok(())
}

fn save_record(db: &Connection, bounty: &Bounty, record: &Record) -> Result<()> {
    let bounty = bounty.as_ref();
    match record {
        Record::Offer(offer) => db.execute(
            "INSERT OR REPLACE INTO offers (bounty, s, peer, payee, body) VALUES (?1, ?2, ?3, ?4, ?5)",
            params![
                bounty,
                offer.s().as_ref(),
                offer.peer().as_bytes(),
                offer.payee().as_ref(),
                cbor(record)
            ],
        ),
        Record::Asked { device, s, attempt } => db.execute(
            "INSERT OR IGNORE INTO receipts (bounty, device, s, attempt, acked) VALUES (?1, ?2, ?3, ?4, 0)",
            params![bounty, device.as_ref(), s.as_ref(), attempt.get()],
        ),
        Record::Signed { device, s, attempt, sig } => db.execute(
            "UPDATE receipts SET sig = ?5 WHERE bounty = ?1 AND device = ?2 AND s = ?3 AND attempt = ?4",
            params![bounty, device.as_ref(), s.as_ref(), attempt.get(), sig.as_ref()],
        ),
        Record::Acked { device, s, attempt } => db.execute(
            "UPDATE receipts SET acked = 1 WHERE bounty = ?1 AND device = ?2 AND s = ?3 AND attempt = ?4",
            params![bounty, device.as_ref(), s.as_ref(), attempt.get()],
        ),
        _ => {
            let slot = record.slot();
            db.execute(
                "INSERT OR REPLACE INTO records (bounty, kind, slot, body) VALUES (?1, ?2, ?3, ?4)",
                params![bounty, slot.kind, slot.key, cbor(record)],
            )
        }
    }?;
    Ok(())
}

pub(super) fn save_sensors(db: &mut Connection, save: &SaveSensors) -> Result<()> {
    let transaction = db.transaction()?;
    save.sensors.iter().try_for_each(|row| save_sensor(&transaction, row))?;
    save.failures.iter().try_for_each(|failure| save_failures(&transaction, failure))?;
    transaction.commit()?;
    Ok(())
}

fn save_sensor(db: &Connection, row: &SensorRow) -> Result<()> {
    db.execute(
        "INSERT OR REPLACE INTO sensors (device, product, curve, installed, slot, wake, carrier, \
         authenticated, state, result, next, last_seen) \
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12)",
        params![
            row.device.as_ref(),
            row.product.as_ref(),
            row.curve as u8,
            signed(row.installed.get()),
            row.slot,
            row.wake,
            row.carrier.as_str(),
            row.authenticated,
            row.state,
            row.result,
            row.next,
            signed(row.last_seen),
        ],
    )?;
    Ok(())
}

pub(super) fn forget_sensor(db: &Connection, device: &DeviceKey) -> Result<()> {
    db.execute("DELETE FROM sensors WHERE device = ?1", params![device.as_ref()])?;
    Ok(())
}

pub(super) fn save_staged(db: &Connection, row: &StagedRow) -> Result<()> {
    db.execute(
        "INSERT OR REPLACE INTO staged (u_id, size, staged_at) VALUES (?1, ?2, ?3)",
        params![row.u_id.as_ref(), signed(row.size), signed(row.staged_at)],
    )?;
    Ok(())
}

pub(super) fn forget_staged(db: &mut Connection, images: &[UpdateId]) -> Result<()> {
    let transaction = db.transaction()?;
    for image in images {
        transaction.execute("DELETE FROM staged WHERE u_id = ?1", params![image.as_ref()])?;
    }
    transaction.commit()?;
    Ok(())
}

pub(super) fn load(db: &Connection) -> Result<Loaded> {
    let mut records = load_records(db)?;
    let mut announcements = load_announcements(db)?;
    for announcement in &mut announcements {
        announcement.records = records.remove(&announcement.update.bounty).unwrap_or_default();
    }
    Ok(Loaded {
        announcements,
        sensors: load_sensors(db)?,
        staged: load_staged(db)?,
        orders: load_orders(db)?,
        failures: load_failures(db)?,
    })
}

fn load_announcements(db: &Connection) -> Result<Vec<Announcement>> {
    let mut statement = db.prepare("SELECT terms, vendor, root, vk FROM announcements ORDER BY version")?;
    let mut rows = statement.query([])?;
    let mut announcements = Vec::new();
    while let Some(row) = rows.next()? {
        let terms: Vec<u8> = row.get("terms")?;
        let (root, vk): (Option<Vec<u8>>, Option<Vec<u8>>) = (row.get("root")?, row.get("vk")?);
        announcements.push(Announcement {
            update: from_cbor(&terms, "announcements")?,
            vendor: id(row, "vendor", "announcements")?,
            package: root.zip(vk),
            records: Vec::new(),
        });
    }
    Ok(announcements)
}

fn load_records(db: &Connection) -> Result<BTreeMap<Bounty, Vec<Record>>> {
    let mut all: BTreeMap<Bounty, Vec<Record>> = BTreeMap::new();
    for (table, query) in
        [("offers", "SELECT bounty, body FROM offers"), ("records", "SELECT bounty, body FROM records")]
    {
        let mut statement = db.prepare(query)?;
        let mut rows = statement.query([])?;
        while let Some(row) = rows.next()? {
            let body: Vec<u8> = row.get("body")?;
            all.entry(id(row, "bounty", table)?).or_default().push(from_cbor(&body, table)?);
        }
    }
    load_receipts(db, &mut all)?;
    Ok(all)
}

/// In ascending attempts, so that the last one asked for counts.
fn load_receipts(db: &Connection, all: &mut BTreeMap<Bounty, Vec<Record>>) -> Result<()> {
    let mut statement = db.prepare("SELECT * FROM receipts ORDER BY attempt")?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        let device: DeviceKey = id(row, "device", "receipts")?;
        let s: LockHash = id(row, "s", "receipts")?;
        let attempt = Attempt::new(row.get("attempt")?);
        let records = all.entry(id(row, "bounty", "receipts")?).or_default();
        records.push(Record::Asked { device, s, attempt });
        if row.get::<_, Option<Vec<u8>>>("sig")?.is_some() {
            let sig: Signature = id(row, "sig", "receipts")?;
            records.push(Record::Signed { device, s, attempt, sig });
        }
        if row.get("acked")? {
            records.push(Record::Acked { device, s, attempt });
        }
    }
    Ok(())
}

fn load_sensors(db: &Connection) -> Result<Vec<SensorRow>> {
    let mut statement = db.prepare("SELECT * FROM sensors")?;
    let mut rows = statement.query([])?;
    let mut sensors = Vec::new();
    while let Some(row) = rows.next()? {
        let carrier: String = row.get("carrier")?;
        sensors.push(SensorRow {
            device: id(row, "device", "sensors")?,
            product: id(row, "product", "sensors")?,
            curve: if row.get::<_, u8>("curve")? == 2 { Curve::P256 } else { Curve::Secp256k1 },
            installed: Version::new(unsigned(row.get("installed")?)),
            slot: row.get("slot")?,
            wake: row.get("wake")?,
            carrier: if carrier == "coap" { Carrier::Coap } else { Carrier::Mqtt },
            authenticated: row.get("authenticated")?,
            state: row.get("state")?,
            result: row.get("result")?,
            next: row.get("next")?,
            last_seen: unsigned(row.get("last_seen")?),
        });
    }
    Ok(sensors)
}

pub(super) fn save_order(db: &Connection, save: &SaveOrder) -> Result<()> {
    let verb = match save.order {
        Order::Resume => None,
        Order::Approve => Some("approve"),
        Order::Pause => Some("pause"),
        Order::Cancel => Some("cancel"),
    };
    let (bounty, scope) = (save.bounty.as_ref(), save.group.as_deref().unwrap_or_default());
    match verb {
        Some(verb) => db.execute(
            "INSERT OR REPLACE INTO orders (bounty, scope, verb) VALUES (?1, ?2, ?3)",
            params![bounty, scope, verb],
        )?,
        None => db.execute("DELETE FROM orders WHERE bounty = ?1 AND scope = ?2", params![bounty, scope])?,
    };
    Ok(())
}

pub(super) fn save_failures(db: &Connection, save: &SaveFailures) -> Result<()> {
    let (bounty, device) = (save.bounty.as_ref(), save.device.as_ref());
    match save.count {
        0 => db.execute("DELETE FROM failures WHERE bounty = ?1 AND device = ?2", params![bounty, device])?,
        count => db.execute(
            "INSERT OR REPLACE INTO failures (bounty, device, count) VALUES (?1, ?2, ?3)",
            params![bounty, device, count],
        )?,
    };
    Ok(())
}

fn load_orders(db: &Connection) -> Result<Vec<SaveOrder>> {
    let mut statement = db.prepare("SELECT * FROM orders")?;
    let mut rows = statement.query([])?;
    let mut orders = Vec::new();
    while let Some(row) = rows.next()? {
        let (scope, verb): (String, String) = (row.get("scope")?, row.get("verb")?);
        let order = match verb.as_str() {
            "approve" => Order::Approve,
            "pause" => Order::Pause,
            "cancel" => Order::Cancel,
            _ => return Err(StoreError::Damaged("orders")),
        };
        let group = (!scope.is_empty()).then_some(scope);
        orders.push(SaveOrder { bounty: id(row, "bounty", "orders")?, group, order });
    }
    Ok(orders)
}

fn load_failures(db: &Connection) -> Result<Vec<SaveFailures>> {
    let mut statement = db.prepare("SELECT * FROM failures")?;
    let mut rows = statement.query([])?;
    let mut failures = Vec::new();
    while let Some(row) = rows.next()? {
        failures.push(SaveFailures {
            bounty: id(row, "bounty", "failures")?,
            device: id(row, "device", "failures")?,
            count: row.get("count")?,
        });
    }
    Ok(failures)
}

fn load_staged(db: &Connection) -> Result<Vec<StagedRow>> {
    let mut statement = db.prepare("SELECT * FROM staged")?;
    let mut rows = statement.query([])?;
    let mut staged = Vec::new();
    while let Some(row) = rows.next()? {
        staged.push(StagedRow {
            u_id: id(row, "u_id", "staged")?,
            size: unsigned(row.get("size")?),
            staged_at: unsigned(row.get("staged_at")?),
        });
    }
    Ok(staged)
}
