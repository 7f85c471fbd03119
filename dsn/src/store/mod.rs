//! Blocks on disk: small ones in SQLite, the leaves of files inside the files they came from.
//!
//! One thread owns the database connection; calls reach it over a bounded queue, and files are read and hashed
//! on the runtime's blocking threads. A file may change under our feet, so a leaf is hashed again each time it
//! is read: a block that this store hands out is the content of its CID, always.

mod add;
mod peers;
mod progress;
mod schema;

pub(crate) use progress::{Download, Written};

use std::ffi::OsString;
use std::fs::File;
use std::io;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use cid::Cid;
use rusqlite::{Connection, OptionalExtension, params};
use thiserror::Error;
use tokio::sync::{mpsc, oneshot};

use crate::content;
use crate::unixfs::read::MAX_BLOCK;

/// Calls that wait for the database's thread. Full, callers wait.
const CALLS: usize = 64;
/// The database's file in the store's folder.
const FILE_NAME: &str = "blocks.sqlite";
/// Roots loaded at a start, newest last: as many as provider records are ever kept for.
const MAX_ROOTS: i64 = 65_536;

/// Why the store failed. What it holds is not lost by that.
#[derive(Debug, Error)]
pub enum StoreError {
    /// SQLite.
    #[error("database: {0}")]
    Database(#[from] rusqlite::Error),
    /// The database was written by a later version of this program.
    #[error("the block store has version {found}, this program knows {known}")]
    TooNew {
        /// The database's version.
        found: usize,
        /// The last version known here.
        known: usize,
    },
    /// A file or folder.
    #[error("{path}: {source}")]
    Io {
        /// Which.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Longer than any block.
    #[error("a block of {0} bytes, {MAX_BLOCK} are allowed")]
    TooLarge(usize),
    /// The CID is of a kind that is refused everywhere.
    #[error(transparent)]
    Cid(#[from] content::CidError),
    /// The store's thread, or the runtime, has ended.
    #[error("the block store is closed")]
    Closed,
}

/// What is done on the database's thread.
type Call = Box<dyn FnOnce(&mut Connection) + Send>;

/// A handle to the store; cheap to clone. The thread ends with the last one.
#[derive(Debug, Clone)]
pub(crate) struct Store {
    calls: mpsc::Sender<Call>,
}

/// Where a block is.
#[derive(Debug)]
enum Place {
    Inline(Vec<u8>),
    Extent { path: PathBuf, start: u64, len: usize, prefix: Vec<u8>, suffix: Vec<u8> },
}

impl Store {
    /// Opens the store in `folder`, making both if absent.
    pub(crate) async fn open(folder: &Path) -> Result<Self, StoreError> {
        let folder = folder.to_owned();
        let connection = blocking(move || connect(&folder)).await?;
        let (calls, queue) = mpsc::channel(CALLS);
        let thread = std::thread::Builder::new().name("dsn-store".into());
        let failed = |source| StoreError::Io { path: FILE_NAME.into(), source };
        thread.spawn(move || serve(connection, queue)).map_err(failed)?;
        Ok(Self { calls })
    }

    /// Puts a block in and says by which CID it is found.
    pub(crate) async fn put(&self, cid: Cid, data: Bytes) -> Result<(), StoreError> {
        if data.len() > MAX_BLOCK {
            return Err(StoreError::TooLarge(data.len()));
        }
        self.call(move |db| {
            let transaction = db.transaction()?;
            insert_block(&transaction, &cid, &data)?;
            insert_root(&transaction, &cid)?;
            Ok(transaction.commit()?)
        })
        .await
    }

    /// The block of `cid`, if it is here and intact.
    pub(crate) async fn get(&self, cid: &Cid) -> Result<Option<Bytes>, StoreError> {
        let cid = *cid;
        let places = self.call(move |db| places(db, &cid)).await?;
        if places.is_empty() {
            return Ok(None);
        }
        blocking(move || Ok(places.into_iter().find_map(|place| place.read(&cid)))).await
    }

    /// Whether a block is here, as far as the database knows.
    pub(crate) async fn has(&self, cid: &Cid) -> Result<bool, StoreError> {
        let cid = cid.to_bytes();
        let sql = "SELECT EXISTS (SELECT 1 FROM block WHERE cid = ?1) OR EXISTS (SELECT 1 FROM extent WHERE cid = ?1)";
        self.call(move |db| Ok(db.prepare_cached(sql)?.query_row([cid], |row| row.get(0))?)).await
    }

    /// Whether a block is here and shorter than `bound` bytes.
    pub(crate) async fn is_small(&self, cid: &Cid, bound: usize) -> Result<bool, StoreError> {
        let (cid, bound) = (cid.to_bytes(), int(bound as u64));
        let sql = "SELECT EXISTS (SELECT 1 FROM block WHERE cid = ?1 AND length(data) < ?2)";
        self.call(move |db| Ok(db.prepare_cached(sql)?.query_row(params![cid, bound], |row| row.get(0))?))
            .await
    }

    /// From now on, for ever, the content of `cid` is not sent to anybody.
    pub(crate) async fn withhold(&self, cid: &Cid) -> Result<(), StoreError> {
        let digest = cid.hash().digest().to_vec();
        self.call(move |db| {
            db.execute("INSERT OR IGNORE INTO withheld (digest) VALUES (?1)", [digest])?;
            Ok(())
        })
        .await
    }

    /// The digests of everything withheld.
    pub(crate) async fn withheld(&self) -> Result<Vec<[u8; 32]>, StoreError> {
        self.call(|db| {
            let mut statement = db.prepare("SELECT digest FROM withheld")?;
            let rows = statement.query_map([], |row| row.get(0))?;
            Ok(rows.collect::<Result<_, _>>()?)
        })
        .await
    }

    /// The contents that this peer has to do with.
    pub(crate) async fn roots(&self) -> Result<Vec<Cid>, StoreError> {
        self.call(|db| {
            let mut statement = db.prepare("SELECT cid FROM root LIMIT ?1")?;
            let rows = statement.query_map([MAX_ROOTS], |row| row.get::<_, Vec<u8>>(0))?;
            let bytes = rows.collect::<Result<Vec<_>, _>>()?;
            bytes.iter().map(|bytes| content::parse(bytes).map_err(StoreError::from)).collect()
        })
        .await
    }

    /// Runs `work` on the database's thread.
    async fn call<T, F>(&self, work: F) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: FnOnce(&mut Connection) -> Result<T, StoreError> + Send + 'static,
    {
        let (done, result) = oneshot::channel();
        let call: Call = Box::new(move |db| {
            done.send(work(db)).ok();
        });
        self.calls.send(call).await.map_err(|_| StoreError::Closed)?;
        result.await.map_err(|_| StoreError::Closed)?
    }

    /// The same for those who are on a blocking thread already.
    fn call_blocking<T, F>(&self, work: F) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: FnOnce(&mut Connection) -> Result<T, StoreError> + Send + 'static,
    {
        let (done, result) = oneshot::channel();
        let call: Call = Box::new(move |db| {
            done.send(work(db)).ok();
        });
        self.calls.blocking_send(call).map_err(|_| StoreError::Closed)?;
        result.blocking_recv().map_err(|_| StoreError::Closed)?
    }
}

impl Place {
    /// From a row of path, start, length, prefix and suffix.
    fn extent(row: &rusqlite::Row<'_>) -> rusqlite::Result<Self> {
        Ok(Self::Extent {
            path: path_from(row.get(0)?),
            start: row.get::<_, i64>(1)?.cast_unsigned(),
            len: usize::try_from(row.get::<_, i64>(2)?).unwrap_or_default(),
            prefix: row.get(3)?,
            suffix: row.get(4)?,
        })
    }

    /// The block, if what is there is still the content of `cid`.
    fn read(self, cid: &Cid) -> Option<Bytes> {
        let block = match self {
            Self::Inline(data) => data,
            Self::Extent { path, start, len, prefix, suffix } => {
                let mut block = vec![0; prefix.len() + len + suffix.len()];
                block[..prefix.len()].copy_from_slice(&prefix);
                block[prefix.len() + len..].copy_from_slice(&suffix);
                let file = File::open(path).ok()?;
                file.read_exact_at(&mut block[prefix.len()..prefix.len() + len], start).ok()?;
                block
            }
        };
        content::matches(cid, &block).then(|| block.into())
    }
}

/// Runs `work` where it may block.
pub(crate) async fn blocking<T, F>(work: F) -> Result<T, StoreError>
where
    T: Send + 'static,
    F: FnOnce() -> Result<T, StoreError> + Send + 'static,
{
    tokio::task::spawn_blocking(work).await.map_err(|_| StoreError::Closed)?
}

fn connect(folder: &Path) -> Result<Connection, StoreError> {
    let failed = |source| StoreError::Io { path: folder.to_owned(), source };
    std::fs::create_dir_all(folder).map_err(failed)?;
    let mut connection = Connection::open(folder.join(FILE_NAME))?;
    schema::prepare(&mut connection)?;
    Ok(connection)
}

fn serve(mut connection: Connection, mut queue: mpsc::Receiver<Call>) {
    while let Some(call) = queue.blocking_recv() {
        call(&mut connection);
    }
}

fn insert_block(db: &Connection, cid: &Cid, data: &[u8]) -> Result<(), StoreError> {
    let sql = "INSERT OR IGNORE INTO block (cid, data) VALUES (?1, ?2)";
    db.prepare_cached(sql)?.execute(params![cid.to_bytes(), data])?;
    Ok(())
}

fn insert_root(db: &Connection, cid: &Cid) -> Result<(), StoreError> {
    db.prepare_cached("INSERT OR IGNORE INTO root (cid) VALUES (?1)")?.execute([cid.to_bytes()])?;
    Ok(())
}

/// Where a block is; several places if several files share it.
fn places(db: &Connection, cid: &Cid) -> Result<Vec<Place>, StoreError> {
    const MAX_PLACES: i64 = 8;
    let key = cid.to_bytes();
    let inline = db
        .prepare_cached("SELECT data FROM block WHERE cid = ?1")?
        .query_row([&key], |row| Ok(Place::Inline(row.get(0)?)))
        .optional()?;
    if let Some(inline) = inline {
        return Ok(vec![inline]);
    }
    let sql = "SELECT path, start, len, prefix, suffix FROM extent JOIN file ON file.id = extent.file
               WHERE extent.cid = ?1 LIMIT ?2";
    let mut statement = db.prepare_cached(sql)?;
    let rows = statement.query_map(params![key, MAX_PLACES], Place::extent)?;
    Ok(rows.collect::<Result<_, _>>()?)
}

/// A length or offset as SQLite has it.
fn int(bytes: u64) -> i64 {
    i64::try_from(bytes).expect("files are shorter than 2^63 bytes")
}

fn path_from(bytes: Vec<u8>) -> PathBuf {
    OsString::from_vec(bytes).into()
}

fn path_bytes(path: &Path) -> Vec<u8> {
    path.as_os_str().as_bytes().to_vec()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::content::Codec;

    #[tokio::test]
    async fn a_block_is_found_by_its_cid_and_by_no_other() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path()).await.unwrap();
        let cid = Codec::DagCbor.cid(b"root");
        store.put(cid, Bytes::from_static(b"root")).await.unwrap();
        assert_eq!(store.get(&cid).await.unwrap().unwrap(), "root");
        assert!(store.has(&cid).await.unwrap());
        assert_eq!(store.get(&Codec::Raw.cid(b"root")).await.unwrap(), None);
        assert_eq!(store.roots().await.unwrap(), [cid]);
    }

    #[tokio::test]
    async fn what_is_withheld_stays_so_across_a_restart() {
        let folder = tempfile::tempdir().unwrap();
        let cid = Codec::Raw.cid(b"secret");
        let store = Store::open(folder.path()).await.unwrap();
        store.withhold(&cid).await.unwrap();
        drop(store);
        let store = Store::open(folder.path()).await.unwrap();
        assert_eq!(store.withheld().await.unwrap().as_slice(), [cid.hash().digest()]);
    }

    #[tokio::test]
    async fn a_block_over_the_bound_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path()).await.unwrap();
        let data = Bytes::from(vec![0; MAX_BLOCK + 1]);
        let result = store.put(Codec::Raw.cid(&data), data).await;
        assert!(matches!(result, Err(StoreError::TooLarge(_))));
    }

    #[tokio::test]
    async fn a_folder_that_cannot_be_made_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("file");
        std::fs::write(&file, b"").unwrap();
        let error = Store::open(&file.join("store")).await.unwrap_err();
        assert!(error.to_string().contains("file/store"), "{error}");
    }
}
