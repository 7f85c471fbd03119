//! What is proven, on disk: one file, one row, one transaction a change.
//!
//! | table | column | is |
//! |---|---|---|
//! | `trusted` | `id` | 1: there is one row |
//! | | `network` | [`Network::digest`] of the network that it was proven for |
//! | | `checkpoint` | root of the block that the operator trusts and all this follows from |
//! | | `slot` | of the finalized header; never gets smaller |
//! | | `state` | [`State::to_bytes`]: headers and committees |
//! | | `passed_over` | root of the operator's last checkpoint that was older than `slot`, and so not used |
//!
//! The journal is SQLite's own rollback journal, not a WAL: a row of 50 KB once an epoch needs no second file that grows.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};

use alloy::primitives::B256;
use rusqlite::{Connection, OptionalExtension, Transaction, TransactionBehavior, params};
use thiserror::Error;

use crate::spec::{Network, Refused, State};

/// Each takes the database from one version, its place here, to the next.
const MIGRATIONS: &[&str] = &[
    "
    CREATE TABLE trusted (
        id INTEGER PRIMARY KEY CHECK (id = 1), network BLOB NOT NULL, checkpoint BLOB NOT NULL,
        slot INTEGER NOT NULL, state BLOB NOT NULL
    ) STRICT;
",
    "
    ALTER TABLE trusted ADD COLUMN passed_over BLOB;
",
];

/// Why the store failed. What it holds is not lost by that.
#[derive(Debug, Error)]
pub enum StoreError {
    /// SQLite.
    #[error("database: {0}")]
    Database(#[from] rusqlite::Error),
    /// The database was written by a later version of this program.
    #[error("the light client's store has version {found}, this program knows {known}")]
    TooNew {
        /// The database's version.
        found: usize,
        /// The last version known here.
        known: usize,
    },
    /// The store's folder.
    #[error("{path}: {source}")]
    Io {
        /// Which.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// What is stored was proven for a network with other constants.
    #[error(
        "the store belongs to another network: its digest is {found}, the configured network's {configured}"
    )]
    OtherNetwork {
        /// The stored digest.
        found: B256,
        /// The configured network's.
        configured: B256,
    },
    /// The row cannot be read.
    #[error("the store is damaged: {0}")]
    Damaged(Refused),
    /// What was to be stored is older than what is stored, or of its slot and without the next committee that is stored.
    /// Another process may have been faster.
    #[error("slot {stored} is stored, slot {new} would go back")]
    GoesBack {
        /// Slot of the stored header.
        stored: u64,
        /// Slot of the header to be stored.
        new: u64,
    },
    /// Another block of the same slot is stored.
    #[error("block {stored} of slot {slot} is stored as finalized, not {new}")]
    OtherBlock {
        /// The slot of both.
        slot: u64,
        /// Root of the stored block.
        stored: B256,
        /// Root of the block to be stored.
        new: B256,
    },
}

/// What was stored.
#[derive(Debug)]
pub struct Stored {
    /// The checkpoint that it follows from.
    pub checkpoint: B256,
    /// What is proven.
    pub state: State,
    /// A checkpoint that the operator gave and that was older, so that nothing follows from it.
    pub passed_over: Option<B256>,
}

/// The file. Cheap to clone. Every call blocks for as long as the disk takes.
#[derive(Debug, Clone)]
pub struct Store {
    connection: Arc<Mutex<Connection>>,
}

impl Store {
    /// Opens the file at `path`, making it and its folder if absent.
    ///
    /// # Errors
    /// [`StoreError::Io`], [`StoreError::Database`], [`StoreError::TooNew`].
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
            let failed = |source| StoreError::Io { path: folder.to_owned(), source };
            std::fs::create_dir_all(folder).map_err(failed)?;
        }
        Self::over(Connection::open(path)?)
    }

    fn over(mut connection: Connection) -> Result<Self, StoreError> {
        prepare(&mut connection)?;
        Ok(Self { connection: Arc::new(Mutex::new(connection)) })
    }

    /// What is stored, if it was proven for `network`. A program that has learnt of a coming fork goes on with what it has.
    ///
    /// # Errors
    /// [`StoreError::OtherNetwork`], [`StoreError::Damaged`], [`StoreError::Database`].
    pub fn load(&self, network: &Arc<Network>) -> Result<Option<Stored>, StoreError> {
        let sql = "SELECT network, checkpoint, slot, state, passed_over FROM trusted";
        let row = self.connection().query_row(sql, [], |row| {
            let (found, checkpoint): ([u8; 32], [u8; 32]) = (row.get(0)?, row.get(1)?);
            let (slot, state): (i64, Vec<u8>) = (row.get(2)?, row.get(3)?);
            let passed_over: Option<[u8; 32]> = row.get(4)?;
            let passed_over = passed_over.map(B256::from);
            Ok((B256::from(found), B256::from(checkpoint), slot.cast_unsigned(), state, passed_over))
        });
        let Some((found, checkpoint, slot, state, passed_over)) = row.optional()? else { return Ok(None) };
        let configured = network.digest();
        if found != configured {
            return Err(StoreError::OtherNetwork { found, configured });
        }
        let state = State::from_bytes(network.clone(), &state).map_err(StoreError::Damaged)?;
        if state.finalized().beacon.slot != slot {
            return Err(StoreError::Damaged(Refused::Stored("its slot is not that of its header")));
        }
        Ok(Some(Stored { checkpoint, state, passed_over }))
    }

    /// Stores what is proven. When this returns it is on disk, and before, nothing of it is.
    ///
    /// # Errors
    /// [`StoreError::GoesBack`], [`StoreError::OtherBlock`], [`StoreError::OtherNetwork`], [`StoreError::Damaged`],
    /// [`StoreError::Database`]; the store is then as it was.
    pub fn save(&self, checkpoint: B256, state: &State) -> Result<(), StoreError> {
        let (network, new) = (state.network(), state.finalized().beacon.slot);
        let mut connection = self.connection();
        // IMMEDIATE: what is read here must still be so when it is replaced.
        let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        if let Some((found, stored)) = header(&transaction)? {
            let configured = network.digest();
            if found != configured {
                return Err(StoreError::OtherNetwork { found, configured });
            }
            if new < stored {
                return Err(StoreError::GoesBack { stored, new });
            }
            if new == stored {
                extends(&transaction, state)?;
            }
        }
        let sql = "INSERT INTO trusted (id, network, checkpoint, slot, state) VALUES (1, ?1, ?2, ?3, ?4)
                   ON CONFLICT (id) DO UPDATE SET network = ?1, checkpoint = ?2, slot = ?3, state = ?4";
        let digest = network.digest();
        let row = params![digest.as_slice(), checkpoint.as_slice(), new.cast_signed(), state.to_bytes()];
        transaction.execute(sql, row)?;
        Ok(transaction.commit()?)
    }

    /// Notes that the operator gave a checkpoint that is older than what is stored.
    ///
    /// # Errors
    /// [`StoreError::Database`].
    pub fn pass_over(&self, checkpoint: B256) -> Result<(), StoreError> {
        let sql = "UPDATE trusted SET passed_over = ?1";
        self.connection().execute(sql, [checkpoint.as_slice()])?;
        Ok(())
    }

    fn connection(&self) -> MutexGuard<'_, Connection> {
        // A panic while a transaction is open rolls it back; the connection is as good as before.
        self.connection.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

/// The stored digest and slot.
fn header(transaction: &Transaction<'_>) -> Result<Option<(B256, u64)>, StoreError> {
    let row = transaction.query_row("SELECT network, slot FROM trusted", [], |row| {
        let (network, slot): ([u8; 32], i64) = (row.get(0)?, row.get(1)?);
        Ok((B256::from(network), slot.cast_unsigned()))
    });
    Ok(row.optional()?)
}

/// Whether `state`, of the slot that is stored, is of the same block and knows as much.
fn extends(transaction: &Transaction<'_>, state: &State) -> Result<(), StoreError> {
    let bytes: Vec<u8> = transaction.query_row("SELECT state FROM trusted", [], |row| row.get(0))?;
    let held = State::from_bytes(state.network().clone(), &bytes).map_err(StoreError::Damaged)?;
    let (ours, new) = (&held.finalized().beacon, &state.finalized().beacon);
    if ours != new {
        return Err(StoreError::OtherBlock { slot: new.slot, stored: ours.root(), new: new.root() });
    }
    if held.has_next_committee() && !state.has_next_committee() {
        return Err(StoreError::GoesBack { stored: ours.slot, new: new.slot });
    }
    Ok(())
}

fn prepare(connection: &mut Connection) -> Result<(), StoreError> {
    // FULL: a header that was acted upon must be there after a power cut.
    connection.execute_batch(
        "PRAGMA busy_timeout = 10000; PRAGMA journal_mode = DELETE; PRAGMA synchronous = FULL;",
    )?;
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let found: u32 = transaction.query_row("PRAGMA user_version", [], |row| row.get(0))?;
    let (found, known) = (found as usize, MIGRATIONS.len());
    if found > known {
        return Err(StoreError::TooNew { found, known });
    }
    for (version, migration) in MIGRATIONS.iter().enumerate().skip(found) {
        transaction.execute_batch(migration)?;
        transaction.pragma_update(None, "user_version", version as u32 + 1)?;
    }
    Ok(transaction.commit()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_schema_is_pinned() {
        let mut connection = Connection::open_in_memory().unwrap();
        prepare(&mut connection).unwrap();
        prepare(&mut connection).unwrap();
        let sql = "SELECT name || ' ' || type FROM pragma_table_info('trusted') ORDER BY cid";
        let mut statement = connection.prepare(sql).unwrap();
        let columns: Vec<String> =
            statement.query_map([], |row| row.get(0)).unwrap().map(Result::unwrap).collect();
        assert_eq!(
            columns,
            [
                "id INTEGER",
                "network BLOB",
                "checkpoint BLOB",
                "slot INTEGER",
                "state BLOB",
                "passed_over BLOB"
            ]
        );
    }

    #[test]
    fn a_row_of_the_first_version_is_kept() {
        let mut connection = Connection::open_in_memory().unwrap();
        connection.execute_batch(MIGRATIONS[0]).unwrap();
        connection.pragma_update(None, "user_version", 1).unwrap();
        connection.execute_batch("INSERT INTO trusted VALUES (1, x'01', x'02', 3, x'04')").unwrap();
        prepare(&mut connection).unwrap();
        let row = connection.query_row("SELECT slot, passed_over FROM trusted", [], |row| {
            Ok((row.get::<_, i64>(0)?, row.get::<_, Option<Vec<u8>>>(1)?))
        });
        assert_eq!(row.unwrap(), (3, None));
    }

    #[test]
    fn a_newer_database_is_left_alone() {
        let connection = Connection::open_in_memory().unwrap();
        connection.pragma_update(None, "user_version", 99).unwrap();
        assert!(matches!(Store::over(connection), Err(StoreError::TooNew { found: 99, known: 2 })));
    }

    #[test]
    fn a_folder_that_cannot_be_made_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("file");
        std::fs::write(&file, b"").unwrap();
        let error = Store::open(&file.join("light-client.sqlite")).unwrap_err();
        assert!(error.to_string().contains("file"), "{error}");
    }

    #[test]
    fn a_file_that_is_no_database_is_refused_and_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("file");
        std::fs::write(&file, b"a letter to the editor").unwrap();
        assert!(matches!(Store::open(&file), Err(StoreError::Database(_))));
        assert_eq!(std::fs::read(&file).unwrap(), b"a letter to the editor");
    }
}
