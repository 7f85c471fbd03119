//! What survives a kill: one SQLite database, written by one thread.
//!
//! Who sends: the exchanges ([`SaveRecords`] before any message that depends on them, and the rest).
//! Whom it asks: nobody. On failure the sender is told and does not go on; what was acknowledged
//! stays. WAL with `synchronous=FULL`: an acknowledged write survives a power cut.

mod migrations;
mod rows;

use std::path::{Path, PathBuf};

use actix::{Actor, Handler, Message, SyncContext};
use posthouse_protocol::gateway::{Record, Update};
use posthouse_protocol::id::{Bounty, DeviceKey, UpdateId};
use rusqlite::Connection;
use thiserror::Error;

use crate::campaign::Order;

pub use self::rows::{Announcement, Loaded, SensorRow, StagedRow};

/// Why the store could not do it.
#[derive(Debug, Error)]
pub enum StoreError {
    /// SQLite says no.
    #[error("database: {0}")]
    Sqlite(#[from] rusqlite::Error),
    /// The file was written by a later version of this program.
    #[error("database has schema {found}, this program knows {known}")]
    Newer {
        /// In the file.
        found: u32,
        /// In the program.
        known: u32,
    },
    /// A row does not read as what it was written as.
    #[error("table {0} has a damaged row")]
    Damaged(&'static str),
    /// The program ends, and the file is closed.
    #[error("database is closed: the program ends")]
    Closed,
}

/// The database, open.
pub struct Database {
    connection: Connection,
}

impl Database {
    /// Opens or makes the file and brings its schema up to date.
    ///
    /// # Errors
    /// [`StoreError`]; nothing is changed in a file from a later version.
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        let mut connection = Connection::open(path)?;
        connection.pragma_update(None, "journal_mode", "WAL")?;
        connection.pragma_update(None, "synchronous", "FULL")?;
        connection.pragma_update(None, "foreign_keys", true)?;
        migrations::apply(&mut connection)?;
        Ok(Self { connection })
    }

    /// Everything, to start from.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn load(&self) -> Result<Loaded, StoreError> {
        rows::load(&self.connection)
    }

    /// Closes it. The last to do so brings what is in the file beside it, `-wal`, into the file and removes the former.
    ///
    /// # Errors
    /// [`StoreError`]; nothing that was acknowledged is lost.
    pub fn close(self) -> Result<(), StoreError> {
        self.connection.close().map_err(|(_, why)| why.into())
    }
}

/// The actor: a thread around the database.
pub struct Store {
    path: PathBuf,
    database: Option<Database>,
    /// It is not opened again.
    closed: bool,
}

impl Store {
    /// Opens the file when it starts. The caller has opened it before, so that a bad file stops the
    /// program at its start and not here.
    pub fn new(path: PathBuf) -> Self {
        Self { path, database: None, closed: false }
    }

    fn connection(&mut self) -> Result<&mut Connection, StoreError> {
        if self.closed {
            return Err(StoreError::Closed);
        }
        if self.database.is_none() {
            self.database = Some(Database::open(&self.path)?);
        }
        Ok(&mut self.database.as_mut().expect("opened above").connection)
    }
}

impl Actor for Store {
    type Context = SyncContext<Self>;
}

/// Keeps an announced update.
#[derive(Debug, Message)]
#[rtype(result = "Result<(), StoreError>")]
pub struct SaveAnnouncement {
    /// What the chain says.
    pub update: Update,
    /// Whose product.
    pub vendor: [u8; 20],
    /// Unix milliseconds.
    pub seen_at: u64,
}

impl Handler<SaveAnnouncement> for Store {
    type Result = Result<(), StoreError>;

    fn handle(&mut self, save: SaveAnnouncement, _: &mut Self::Context) -> Self::Result {
        rows::save_announcement(self.connection()?, &save)
    }
}

/// Drops an announced update with all that is kept of it.
#[derive(Debug, Clone, Copy, Message)]
#[rtype(result = "Result<(), StoreError>")]
pub struct Forget(pub Bounty);

impl Handler<Forget> for Store {
    type Result = Result<(), StoreError>;

    fn handle(&mut self, Forget(bounty): Forget, _: &mut Self::Context) -> Self::Result {
        rows::forget(self.connection()?, &bounty)
    }
}

/// Keeps what was fetched and checked of a package.
#[derive(Debug, Message)]
#[rtype(result = "Result<(), StoreError>")]
pub struct SavePackage {
    /// The announcement that it belongs to.
    pub bounty: Bounty,
    /// Root block.
    pub root: Vec<u8>,
    /// Verifying key.
    pub vk: Vec<u8>,
}

impl Handler<SavePackage> for Store {
    type Result = Result<(), StoreError>;

    fn handle(&mut self, save: SavePackage, _: &mut Self::Context) -> Self::Result {
        rows::save_package(self.connection()?, &save)
    }
}

/// Keeps facts of an exchange, all or none.
#[derive(Debug, Clone, Message)]
#[rtype(result = "Result<(), StoreError>")]
pub struct SaveRecords {
    /// The exchange.
    pub bounty: Bounty,
    /// In order.
    pub records: Vec<Record>,
}

impl Handler<SaveRecords> for Store {
    type Result = Result<(), StoreError>;

    fn handle(&mut self, save: SaveRecords, _: &mut Self::Context) -> Self::Result {
        rows::save_records(self.connection()?, &save)
    }
}

/// Keeps sensors as they were last heard, and what they failed at, all or none.
#[derive(Debug, Clone, Default, Message)]
#[rtype(result = "Result<(), StoreError>")]
pub struct SaveSensors {
    /// Their rows.
    pub sensors: Vec<SensorRow>,
    /// How often updates failed on some of them.
    pub failures: Vec<SaveFailures>,
}

impl Handler<SaveSensors> for Store {
    type Result = Result<(), StoreError>;

    fn handle(&mut self, save: SaveSensors, _: &mut Self::Context) -> Self::Result {
        rows::save_sensors(self.connection()?, &save)
    }
}

/// Forgets a sensor.
#[derive(Debug, Clone, Copy, Message)]
#[rtype(result = "Result<(), StoreError>")]
pub struct ForgetSensor(pub DeviceKey);

impl Handler<ForgetSensor> for Store {
    type Result = Result<(), StoreError>;

    fn handle(&mut self, ForgetSensor(device): ForgetSensor, _: &mut Self::Context) -> Self::Result {
        rows::forget_sensor(self.connection()?, &device)
    }
}

/// Keeps what somebody ordered for an update.
#[derive(Debug, Clone, PartialEq, Eq, Message)]
#[rtype(result = "Result<(), StoreError>")]
pub struct SaveOrder {
    /// Which update.
    pub bounty: Bounty,
    /// For which group of sensors; for all if absent.
    pub group: Option<String>,
    /// What.
    pub order: Order,
}

impl Handler<SaveOrder> for Store {
    type Result = Result<(), StoreError>;

    fn handle(&mut self, save: SaveOrder, _: &mut Self::Context) -> Self::Result {
        rows::save_order(self.connection()?, &save)
    }
}

/// Keeps how often an update failed on a sensor.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Message)]
#[rtype(result = "Result<(), StoreError>")]
pub struct SaveFailures {
    /// Which update.
    pub bounty: Bounty,
    /// Which sensor.
    pub device: DeviceKey,
    /// How often; 0 to forget it.
    pub count: u8,
}

impl Handler<SaveFailures> for Store {
    type Result = Result<(), StoreError>;

    fn handle(&mut self, save: SaveFailures, _: &mut Self::Context) -> Self::Result {
        rows::save_failures(self.connection()?, &save)
    }
}

/// Keeps that an image is on disk: after its file and its folder are synced.
#[derive(Debug, Clone, Message)]
#[rtype(result = "Result<(), StoreError>")]
pub struct SaveStaged(pub StagedRow);

impl Handler<SaveStaged> for Store {
    type Result = Result<(), StoreError>;

    fn handle(&mut self, SaveStaged(row): SaveStaged, _: &mut Self::Context) -> Self::Result {
        rows::save_staged(self.connection()?, &row)
    }
}

/// Forgets staged images: after their files are gone.
#[derive(Debug, Clone, Message)]
#[rtype(result = "Result<(), StoreError>")]
pub struct ForgetStaged(pub Vec<UpdateId>);

impl Handler<ForgetStaged> for Store {
    type Result = Result<(), StoreError>;

    fn handle(&mut self, ForgetStaged(images): ForgetStaged, _: &mut Self::Context) -> Self::Result {
        rows::forget_staged(self.connection()?, &images)
    }
}

/// Closes the database, and takes nothing any more: gateway → store, at the end.
#[derive(Debug, Clone, Copy, Message)]
#[rtype(result = "Result<(), StoreError>")]
pub struct Close;

impl Handler<Close> for Store {
    type Result = Result<(), StoreError>;

    fn handle(&mut self, _: Close, _: &mut Self::Context) -> Self::Result {
        self.closed = true;
        self.database.take().map_or(Ok(()), Database::close)
    }
}

#[cfg(test)]
mod tests {
    use posthouse_protocol::gateway::KeySource;
    use posthouse_protocol::id::{
        Attempt, ChainId, Curve, FleetRoot, LockHash, PackageId, ProductId, Signature, Version,
    };
    use posthouse_protocol::secret::KeyR;

    use super::*;
    use crate::messages::Carrier;

    const BOUNTY: Bounty = Bounty::new([1; 20]);
    const DEVICE: DeviceKey = DeviceKey::new([2; 33]);
    const S: LockHash = LockHash::new([3; 32]);

    fn update() -> Update {
        Update {
            chain: ChainId::new(1),
            bounty: BOUNTY,
            product: ProductId::new([4; 32]),
            version: Version::new(u64::MAX),
            u_id: UpdateId::new([5; 32]),
            p_id: PackageId::new([6; 32]),
            fleet_root: FleetRoot::new([7; 32]),
            fleet_depth: 3,
            claim_by: 8,
            lock_secs: 9,
            curve: Curve::P256,
        }
    }

    fn announce(database: &mut Database) {
        let save = SaveAnnouncement { update: update(), vendor: [9; 20], seen_at: 10 };
        rows::save_announcement(&database.connection, &save).unwrap();
    }

    fn keep(database: &mut Database, records: Vec<Record>) {
        rows::save_records(&mut database.connection, &SaveRecords { bounty: BOUNTY, records }).unwrap();
    }

    /// What a restart finds in the file.
    fn reopened(folder: &tempfile::TempDir) -> Loaded {
        Database::open(&folder.path().join("db")).unwrap().load().unwrap()
    }

    #[test]
    fn an_exchange_is_found_as_it_was_kept() {
        let folder = tempfile::tempdir().unwrap();
        let mut database = Database::open(&folder.path().join("db")).unwrap();
        announce(&mut database);
        announce(&mut database);
        let (attempt, sig) = (Attempt::new(1), Signature::new([8; 64]));
        let kept = vec![
            Record::Delegation { device: DEVICE, sig },
            Record::Key { s: S, r: KeyR::new([1; 32]), source: KeySource::Chain },
            Record::Asked { device: DEVICE, s: S, attempt },
            Record::Signed { device: DEVICE, s: S, attempt, sig },
            Record::Acked { device: DEVICE, s: S, attempt },
            Record::Asked { device: DEVICE, s: S, attempt: Attempt::new(2) },
        ];
        keep(&mut database, kept.clone());
        keep(&mut database, kept.clone());
        let package = SavePackage { bounty: BOUNTY, root: vec![1], vk: vec![2] };
        rows::save_package(&database.connection, &package).unwrap();
        let loaded = reopened(&folder);
        let [announcement] = loaded.announcements.as_slice() else { panic!("one") };
        assert_eq!(announcement.update, update());
        assert_eq!((announcement.vendor, &announcement.package), ([9; 20], &Some((vec![1], vec![2]))));
        assert_eq!(announcement.records, kept);
    }

    #[test]
    fn records_are_kept_all_or_none() {
        let folder = tempfile::tempdir().unwrap();
        let mut database = Database::open(&folder.path().join("db")).unwrap();
        announce(&mut database);
        let good = Record::Index { device: DEVICE, index: 1 };
        let save = SaveRecords { bounty: BOUNTY, records: vec![good.clone(), good] };
        database.connection.execute_batch("DROP TABLE receipts").unwrap();
        let asked = Record::Asked { device: DEVICE, s: S, attempt: Attempt::new(1) };
        let broken = SaveRecords { records: [save.records, vec![asked]].concat(), ..save };
        assert!(rows::save_records(&mut database.connection, &broken).is_err());
        let kept: u32 =
            database.connection.query_row("SELECT count(*) FROM records", [], |row| row.get(0)).unwrap();
        assert_eq!(kept, 0);
    }

    #[test]
    fn orders_and_failures_are_found_as_they_were_given() {
        let folder = tempfile::tempdir().unwrap();
        let mut database = Database::open(&folder.path().join("db")).unwrap();
        announce(&mut database);
        let order =
            |group: Option<&str>, order| SaveOrder { bounty: BOUNTY, group: group.map(str::to_owned), order };
        let failures = |count| SaveFailures { bounty: BOUNTY, device: DEVICE, count };
        for save in
            [order(None, Order::Approve), order(Some("a"), Order::Pause), order(Some("a"), Order::Cancel)]
        {
            rows::save_order(&database.connection, &save).unwrap();
        }
        (1..=2).for_each(|count| rows::save_failures(&database.connection, &failures(count)).unwrap());
        let loaded = reopened(&folder);
        assert_eq!(loaded.orders, [order(None, Order::Approve), order(Some("a"), Order::Cancel)]);
        assert_eq!(loaded.failures, [failures(2)]);
        rows::save_order(&database.connection, &order(None, Order::Resume)).unwrap();
        rows::save_failures(&database.connection, &failures(0)).unwrap();
        let loaded = reopened(&folder);
        assert_eq!((loaded.orders.len(), loaded.failures.len()), (1, 0));
        rows::save_failures(&database.connection, &failures(1)).unwrap();
        rows::forget(&mut database.connection, &BOUNTY).unwrap();
        let loaded = reopened(&folder);
        assert_eq!((loaded.announcements.len(), loaded.orders.len(), loaded.failures.len()), (0, 0, 0));
    }

    #[test]
    fn sensors_and_images_are_found_as_they_were_kept() {
        let folder = tempfile::tempdir().unwrap();
        let mut database = Database::open(&folder.path().join("db")).unwrap();
        let sensor = SensorRow {
            device: DEVICE,
            product: ProductId::new([4; 32]),
            curve: Curve::P256,
            installed: Version::new(3),
            slot: u32::MAX,
            wake: 60,
            carrier: Carrier::Coap,
            authenticated: true,
            state: Some(1),
            result: None,
            next: Some(512),
            last_seen: 11,
        };
        let image = StagedRow { u_id: UpdateId::new([5; 32]), size: 12, staged_at: 13 };
        let save = SaveSensors { sensors: vec![sensor.clone()], failures: Vec::new() };
        rows::save_sensors(&mut database.connection, &save).unwrap();
        rows::save_staged(&database.connection, &image).unwrap();
        let loaded = reopened(&folder);
        assert_eq!((loaded.sensors, loaded.staged), (vec![sensor], vec![image]));
        rows::forget_sensor(&database.connection, &DEVICE).unwrap();
        rows::forget_staged(&mut database.connection, &[image.u_id]).unwrap();
        let loaded = reopened(&folder);
        assert!(loaded.sensors.is_empty() && loaded.staged.is_empty());
    }
}
