//! SQLite as both programs use it, and the lock that keeps a folder to one process.

use std::fs::{File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::{Connection, OpenFlags, TransactionBehavior};
use thiserror::Error;

/// How long a write waits for another process's.
const BUSY: Duration = Duration::from_secs(10);

/// Why state cannot be kept.
#[derive(Debug, Error)]
pub enum DatabaseError {
    /// The file.
    #[error("{path}: {source}")]
    Io {
        /// Which.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Another process works in this folder.
    #[error("{0}: another process works in this folder")]
    Locked(PathBuf),
    /// SQLite.
    #[error("database: {0}")]
    Sqlite(#[from] rusqlite::Error),
    /// The database is from a later version of the program.
    #[error("{path}: schema {found}, this program knows up to {known}")]
    TooNew {
        /// The file.
        path: PathBuf,
        /// Its schema.
        found: usize,
        /// Ours.
        known: usize,
    },
    /// A row does not hold what was written to it.
    #[error("database: {0} does not decode")]
    Row(&'static str),
}

/// A folder that no other process works in while this lives.
#[derive(Debug)]
pub struct Lock(#[allow(dead_code, reason = "held, not used")] File);

impl Lock {
    /// Takes the lock `name` of a folder.
    ///
    /// # Errors
    /// [`DatabaseError::Locked`], [`DatabaseError::Io`].
    pub fn take(folder: &Path, name: &str) -> Result<Self, DatabaseError> {
        let path = folder.join(name);
        let io = |source| DatabaseError::Io { path: path.clone(), source };
        let file = OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(&path);
        let file = file.map_err(io)?;
        match file.try_lock() {
            Ok(()) => Ok(Self(file)),
            Err(TryLockError::WouldBlock) => Err(DatabaseError::Locked(folder.into())),
            Err(TryLockError::Error(source)) => Err(io(source)),
        }
    }
}

/// Opens a database with mode 0600 and brings its schema up to date, one migration after the other.
///
/// WAL with `synchronous=FULL`: a commit that returned survives the loss of power. What is deleted is
/// overwritten, because rows hold secrets.
///
/// # Errors
/// [`DatabaseError`].
pub fn open(path: &Path, migrations: &[&str]) -> Result<Connection, DatabaseError> {
    let io = |source| DatabaseError::Io { path: path.into(), source };
    // SQLite gives its side files the mode of the database.
    OpenOptions::new().append(true).create(true).mode(0o600).open(path).map_err(io)?;
    let mut connection = Connection::open(path)?;
    connection.busy_timeout(BUSY)?;
    connection.pragma_update(None, "journal_mode", "WAL")?;
    connection.pragma_update(None, "synchronous", "FULL")?;
    connection.pragma_update(None, "foreign_keys", true)?;
    connection.pragma_update(None, "secure_delete", true)?;
    migrate(&mut connection, path, migrations)?;
    Ok(connection)
}

/// Opens a database to look at while its program runs; `None` if there is none yet.
///
/// # Errors
/// [`DatabaseError`].
pub fn look(path: &Path, migrations: &[&str]) -> Result<Option<Connection>, DatabaseError> {
    if !path.exists() {
        return Ok(None);
    }
    let connection = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
    connection.busy_timeout(BUSY)?;
    let (found, known) = (schema(&connection)?, migrations.len());
    if found == 0 {
        // Its program is making it.
        return Ok(None);
    }
    if found < known {
        // After an upgrade, who looks first brings it up to date.
        drop(open(path, migrations)?);
    }
    connection.pragma_update(None, "query_only", true)?;
    if found > known {
        return Err(DatabaseError::TooNew { path: path.into(), found, known });
    }
    Ok(Some(connection))
}

fn schema(connection: &Connection) -> Result<usize, rusqlite::Error> {
    connection.pragma_query_value(None, "user_version", |row| row.get::<_, i64>(0)).map(|v| v as usize)
}

/// All at once, and looked at again under the lock: two processes may open a database that is out of date.
fn migrate(connection: &mut Connection, path: &Path, migrations: &[&str]) -> Result<(), DatabaseError> {
    let known = migrations.len();
    if schema(connection)? == known {
        return Ok(());
    }
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let found = schema(&transaction)?;
    let pending = migrations.get(found..);
    let pending = pending.ok_or(DatabaseError::TooNew { path: path.into(), found, known })?;
    for migration in pending {
        transaction.execute_batch(migration)?;
    }
    transaction.pragma_update(None, "user_version", known as i64)?;
    Ok(transaction.commit()?)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    const ONE: &str = "CREATE TABLE a (x INTEGER) STRICT";
    const TWO: &str = "CREATE TABLE b (y INTEGER) STRICT";

    #[test]
    fn migrations_run_once_and_in_order() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("state.db");
        drop(open(&path, &[ONE]).unwrap());
        let connection = open(&path, &[ONE, TWO]).unwrap();
        connection.execute("INSERT INTO b VALUES (1)", []).unwrap();
        drop(connection);
        let looked = look(&path, &[ONE, TWO, "CREATE TABLE c (z INTEGER) STRICT"]).unwrap().unwrap();
        assert_eq!(looked.query_row("SELECT count(*) FROM c", [], |row| row.get::<_, i64>(0)).unwrap(), 0);
        assert!(looked.execute("INSERT INTO c VALUES (1)", []).is_err(), "only to look");
        drop(looked);
        assert!(matches!(look(&path, &[ONE]), Err(DatabaseError::TooNew { found: 3, known: 1, .. })));
        assert!(matches!(open(&path, &[ONE]), Err(DatabaseError::TooNew { found: 3, known: 1, .. })));
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    }

    #[test]
    fn many_may_open_an_old_database_at_once() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("state.db");
        drop(open(&path, &[ONE]).unwrap());
        std::thread::scope(|scope| {
            let openers: Vec<_> = (0..8)
                .map(|at| {
                    let path = &path;
                    scope.spawn(move || match at % 2 {
                        0 => look(path, &[ONE, TWO]).unwrap().is_some(),
                        _ => open(path, &[ONE, TWO]).is_ok(),
                    })
                })
                .collect();
            assert!(openers.into_iter().all(|opener| opener.join().unwrap()));
        });
    }

    #[test]
    fn a_database_that_is_being_made_is_none_yet() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("state.db");
        std::fs::write(&path, []).unwrap();
        assert!(look(&path, &[ONE]).unwrap().is_none());
        drop(open(&path, &[ONE]).unwrap());
        assert!(look(&path, &[ONE]).unwrap().is_some());
    }

    #[test]
    fn a_folder_is_one_process_s() {
        let folder = tempfile::tempdir().unwrap();
        let lock = Lock::take(folder.path(), "lock").unwrap();
        assert!(matches!(Lock::take(folder.path(), "lock"), Err(DatabaseError::Locked(_))));
        drop(lock);
        Lock::take(folder.path(), "lock").unwrap();
    }
}
