//! A file being fetched: which of its blocks are on disk for good, across restarts.
//!
//! The part file and its rows belong together. A row is written after the bytes have been synced, so a row never
//! promises what a power cut could take back; and each leaf is hashed again when a download is taken up, so that
//! neither does a damaged disk.

use std::path::{Path, PathBuf};

use bytes::Bytes;
use cid::Cid;
use rusqlite::{Connection, OptionalExtension, params};

use super::{Place, Store, StoreError, blocking, insert_block, insert_root, int, path_bytes};
use crate::content::{self, Codec};

/// A download's row.
#[derive(Debug, Clone)]
pub(crate) struct Download {
    id: i64,
    part: PathBuf,
    /// Whether rows of an earlier run were found.
    pub(crate) resumed: bool,
}

/// A block that is on disk for good.
#[derive(Debug)]
pub(crate) enum Written {
    /// In the part file, with what a dag-pb leaf has around its bytes.
    Leaf { start: u64, len: u64, cid: Cid, prefix: Vec<u8>, suffix: Vec<u8> },
    /// To be put into the database.
    Node { cid: Cid, block: Bytes },
}

impl Store {
    /// Begins or takes up the download of `root` into the file `part`.
    pub(crate) async fn download(&self, part: &Path, root: &Cid, size: u64) -> Result<Download, StoreError> {
        let (path, root, part) = (path_bytes(part), root.to_bytes(), part.to_owned());
        let size = int(size);
        self.call(move |db| {
            let sql = "SELECT id FROM file WHERE path = ?1 AND root = ?2 AND size = ?3 AND complete = 0";
            let found = db.query_row(sql, params![path, root, size], |row| row.get(0)).optional()?;
            if let Some(id) = found {
                return Ok(Download { id, part, resumed: true });
            }
            let transaction = db.transaction()?;
            transaction.execute("DELETE FROM file WHERE path = ?1", [&path])?;
            let sql = "INSERT INTO file (path, root, size, complete) VALUES (?1, ?2, ?3, 0)";
            transaction.execute(sql, params![path, root, size])?;
            let id = transaction.last_insert_rowid();
            transaction.commit()?;
            Ok(Download { id, part, resumed: false })
        })
        .await
    }

    /// Hashes what has been recorded, and forgets what is no longer so. Says whether all of it was.
    pub(crate) async fn verify(&self, download: &Download) -> Result<bool, StoreError> {
        let (store, id) = (self.clone(), download.id);
        blocking(move || {
            let (mut after, mut intact) = (-1, true);
            loop {
                let page = store.call_blocking(move |db| recorded(db, id, after))?;
                let Some((last, _, _)) = page.last() else { return Ok(intact) };
                after = *last;
                for (start, cid, place) in page {
                    if place.read(&cid).is_none() {
                        intact = false;
                        store.call_blocking(move |db| forget(db, id, start))?;
                    }
                }
            }
        })
        .await
    }

    /// A node of a file that an earlier run has stored.
    pub(crate) async fn node(&self, cid: &Cid) -> Result<Option<Bytes>, StoreError> {
        match content::codec(cid) {
            Codec::DagPb => self.get(cid).await,
            Codec::Raw | Codec::DagCbor => Ok(None),
        }
    }

    /// Whether the leaf `cid` is on disk at `start`.
    pub(crate) async fn is_written(
        &self,
        download: &Download,
        start: u64,
        cid: &Cid,
    ) -> Result<bool, StoreError> {
        let (id, cid) = (download.id, cid.to_bytes());
        let sql = "SELECT EXISTS (SELECT 1 FROM extent WHERE file = ?1 AND start = ?2 AND cid = ?3)";
        self.call(move |db| {
            Ok(db.prepare_cached(sql)?.query_row(params![id, int(start), cid], |row| row.get(0))?)
        })
        .await
    }

    /// Records blocks; for the writing thread, once it has synced them.
    pub(crate) fn record(&self, download: &Download, written: Vec<Written>) -> Result<(), StoreError> {
        let id = download.id;
        self.call_blocking(move |db| {
            let transaction = db.transaction()?;
            for block in &written {
                block.insert(&transaction, id)?;
            }
            Ok(transaction.commit()?)
        })
    }

    /// The download is whole and now at `path`, where it hashes to `sha256`: from here its blocks are served like
    /// those of an added file.
    pub(crate) async fn complete(
        &self,
        download: &Download,
        path: &Path,
        root: &Cid,
        sha256: [u8; 32],
    ) -> Result<(), StoreError> {
        let (id, path, root) = (download.id, path_bytes(path), *root);
        self.call(move |db| {
            let transaction = db.transaction()?;
            transaction.execute("DELETE FROM file WHERE path = ?1 AND id <> ?2", params![path, id])?;
            let sql = "UPDATE file SET path = ?2, complete = 1, sha256 = ?3 WHERE id = ?1";
            transaction.execute(sql, params![id, path, sha256])?;
            insert_root(&transaction, &root)?;
            Ok(transaction.commit()?)
        })
        .await
    }

    /// What the file at `path` hashed to when it was found to be all of `root`.
    pub(crate) async fn digest(
        &self,
        path: &Path,
        root: &Cid,
        size: u64,
    ) -> Result<Option<[u8; 32]>, StoreError> {
        let (path, root) = (path_bytes(path), root.to_bytes());
        self.call(move |db| {
            let sql = "SELECT sha256 FROM file WHERE path = ?1 AND root = ?2 AND size = ?3 AND complete = 1";
            let found = db.query_row(sql, params![path, root, int(size)], |row| row.get(0)).optional()?;
            Ok(found.flatten())
        })
        .await
    }

    /// Forgets the download.
    pub(crate) async fn discard(&self, download: &Download) -> Result<(), StoreError> {
        let id = download.id;
        self.call(move |db| Ok(db.execute("DELETE FROM file WHERE id = ?1", [id]).map(drop)?)).await
    }
}

/// The next leaves recorded behind the offset `after`, in order.
fn recorded(db: &mut Connection, file: i64, after: i64) -> Result<Vec<(i64, Cid, Place)>, StoreError> {
    let sql = "SELECT path, start, len, prefix, suffix, cid FROM extent JOIN file ON file.id = extent.file
               WHERE file.id = ?1 AND start > ?2 ORDER BY start LIMIT 64";
    let mut statement = db.prepare_cached(sql)?;
    let mut rows = statement.query(params![file, after])?;
    let mut page = Vec::new();
    while let Some(row) = rows.next()? {
        let cid = content::parse(&row.get::<_, Vec<u8>>(5)?)?;
        page.push((row.get(1)?, cid, Place::extent(row)?));
    }
    Ok(page)
}

fn forget(db: &mut Connection, file: i64, start: i64) -> Result<(), StoreError> {
    db.execute("DELETE FROM extent WHERE file = ?1 AND start = ?2", [file, start])?;
    Ok(())
}

impl Download {
    /// The file that is written to.
    pub(crate) fn part(&self) -> &Path {
        &self.part
    }
}

impl Written {
    fn insert(&self, db: &Connection, file: i64) -> Result<(), StoreError> {
        match self {
            Self::Node { cid, block } => insert_block(db, cid, block),
            Self::Leaf { start, len, cid, prefix, suffix } => {
                let sql = "INSERT OR REPLACE INTO extent (file, start, len, cid, prefix, suffix)
                           VALUES (?1, ?2, ?3, ?4, ?5, ?6)";
                let values = params![file, int(*start), int(*len), cid.to_bytes(), prefix, suffix];
                db.prepare_cached(sql)?.execute(values)?;
                Ok(())
            }
        }
    }
}
