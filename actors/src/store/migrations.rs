//! The schema, one step a change; `PRAGMA user_version` counts the steps done.

use rusqlite::Connection;

use super::StoreError;

/// Every step, oldest first. A step that was released is never edited.
const STEPS: [&str; 2] = [include_str!("schema-1.sql"), include_str!("schema-2.sql")];

/// Brings the schema up to date, each step in a transaction of its own.
pub(super) fn apply(connection: &mut Connection) -> Result<(), StoreError> {
    let found: u32 = connection.pragma_query_value(None, "user_version", |row| row.get(0))?;
    let known = STEPS.len() as u32;
    if found > known {
        return Err(StoreError::Newer { found, known });
    }
    for (at, step) in STEPS.iter().enumerate().skip(found as usize) {
        let transaction = connection.transaction()?;
        transaction.execute_batch(step)?;
        transaction.pragma_update(None, "user_version", at as u32 + 1)?;
        transaction.commit()?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::Database;

    /// Table and columns with type, `NOT NULL` and place in the primary key.
    fn describe(connection: &Connection) -> String {
        let tables = "SELECT m.name, c.name, c.type, c.\"notnull\", c.pk FROM sqlite_master m \
                      JOIN pragma_table_info(m.name) c WHERE m.type = 'table' ORDER BY m.name, c.cid";
        let mut statement = connection.prepare(tables).unwrap();
        let rows = statement.query_map([], |row| {
            let (table, column): (String, String) = (row.get(0)?, row.get(1)?);
            let (kind, not_null, key): (String, i64, i64) = (row.get(2)?, row.get(3)?, row.get(4)?);
            Ok(format!("{table}.{column} {kind} {not_null} {key}\n"))
        });
        rows.unwrap().map(Result::unwrap).collect()
    }

    #[test]
    fn the_schema_is_the_pinned_one() {
        let folder = tempfile::tempdir().unwrap();
        let database = Database::open(&folder.path().join("gateway.db")).unwrap();
        assert_eq!(describe(&database.connection), include_str!("schema.pinned"));
    }

    #[test]
    fn a_file_from_a_later_version_is_refused_and_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("gateway.db");
        Connection::open(&path).unwrap().pragma_update(None, "user_version", 99).unwrap();
        assert!(matches!(Database::open(&path), Err(StoreError::Newer { found: 99, known: 2 })));
        let after: u32 =
            Connection::open(&path).unwrap().pragma_query_value(None, "user_version", |r| r.get(0)).unwrap();
        assert_eq!(after, 99);
    }
}
