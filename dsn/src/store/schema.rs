//! The database's tables, one migration per change.
//!
//! | table | column | is |
//! |---|---|---|
//! | `block` | `cid` | CIDv1, 36 bytes |
//! | | `data` | the block: nodes of files, and whatever was put by itself |
//! | `file` | `path` | where the bytes are, absolute, as the system's bytes |
//! | | `root` | CIDv1 of the file |
//! | | `size` | bytes |
//! | | `complete` | 0 while it is being fetched |
//! | | `sha256` | of the whole, once it is complete; null in rows from before this column |
//! | `extent` | `file`, `start` | which file, and where in it |
//! | | `len` | bytes of the file that are this block's |
//! | | `cid` | CIDv1 of the block |
//! | | `prefix`, `suffix` | what a dag-pb leaf has around those bytes; empty for raw leaves |
//! | `root` | `cid` | CIDv1 of what was put, added or fetched by name: content that this peer has to do with |
//! | `peer` | `addr` | a DHT server that was reached there, ending in `/p2p/<peer id>` |
//! | | `seen` | grows with each time; the least is forgotten first |
//! | `withheld` | `digest` | SHA-256 of content that is never sent, under whatever codec it is asked for |

use rusqlite::Connection;

use super::StoreError;

/// Each takes the database from one version, its place here, to the next.
const MIGRATIONS: &[&str] = &[
    "
    CREATE TABLE block (cid BLOB PRIMARY KEY, data BLOB NOT NULL) STRICT;
    CREATE TABLE file (
        id INTEGER PRIMARY KEY, path BLOB NOT NULL UNIQUE, root BLOB NOT NULL,
        size INTEGER NOT NULL, complete INTEGER NOT NULL
    ) STRICT;
    CREATE TABLE extent (
        file INTEGER NOT NULL REFERENCES file(id) ON DELETE CASCADE,
        start INTEGER NOT NULL, len INTEGER NOT NULL, cid BLOB NOT NULL,
        prefix BLOB NOT NULL, suffix BLOB NOT NULL, PRIMARY KEY (file, start)
    ) STRICT, WITHOUT ROWID;
    CREATE INDEX extent_cid ON extent(cid);
    CREATE TABLE root (cid BLOB PRIMARY KEY) STRICT, WITHOUT ROWID;
    CREATE TABLE withheld (digest BLOB PRIMARY KEY) STRICT, WITHOUT ROWID;
",
    "CREATE TABLE peer (addr TEXT PRIMARY KEY, seen INTEGER NOT NULL) STRICT, WITHOUT ROWID;",
    "ALTER TABLE file ADD COLUMN sha256 BLOB;",
];

/// Sets the connection up and brings the database to this version.
pub(super) fn prepare(connection: &mut Connection) -> Result<(), StoreError> {
    // FULL: what is withheld must be so after a power cut as well.
    connection.execute_batch(
        "PRAGMA busy_timeout = 10000; PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA foreign_keys = ON;",
    )?;
    let found: u32 = connection.query_row("PRAGMA user_version", [], |row| row.get(0))?;
    let found = found as usize;
    if found > MIGRATIONS.len() {
        return Err(StoreError::TooNew { found, known: MIGRATIONS.len() });
    }
    for (version, migration) in MIGRATIONS.iter().enumerate().skip(found) {
        let transaction = connection.transaction()?;
        transaction.execute_batch(migration)?;
        transaction.pragma_update(None, "user_version", (version + 1) as u32)?;
        transaction.commit()?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_database_is_prepared_twice_without_harm() {
        let mut connection = Connection::open_in_memory().unwrap();
        prepare(&mut connection).unwrap();
        prepare(&mut connection).unwrap();
    }

    #[test]
    fn the_schema_is_pinned() {
        let mut connection = Connection::open_in_memory().unwrap();
        prepare(&mut connection).unwrap();
        let sql = "SELECT m.name || '.' || c.name || ' ' || c.type FROM sqlite_master m, pragma_table_info(m.name) c
                   WHERE m.type = 'table' ORDER BY m.name, c.cid";
        let mut statement = connection.prepare(sql).unwrap();
        let columns: Vec<String> =
            statement.query_map([], |row| row.get(0)).unwrap().map(Result::unwrap).collect();
        let expected = [
            "block.cid BLOB",
            "block.data BLOB",
            "extent.file INTEGER",
            "extent.start INTEGER",
            "extent.len INTEGER",
            "extent.cid BLOB",
            "extent.prefix BLOB",
            "extent.suffix BLOB",
            "file.id INTEGER",
            "file.path BLOB",
            "file.root BLOB",
            "file.size INTEGER",
            "file.complete INTEGER",
            "file.sha256 BLOB",
            "peer.addr TEXT",
            "peer.seen INTEGER",
            "root.cid BLOB",
            "withheld.digest BLOB",
        ];
        assert_eq!(columns, expected);
    }

    #[test]
    fn a_newer_database_is_left_alone() {
        let mut connection = Connection::open_in_memory().unwrap();
        connection.pragma_update(None, "user_version", 99).unwrap();
        assert!(matches!(prepare(&mut connection), Err(StoreError::TooNew { found: 99, .. })));
    }
}
