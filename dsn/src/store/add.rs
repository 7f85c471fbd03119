//! Adding a file: read once, its leaves recorded where they are, its nodes stored.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use cid::Cid;
use rusqlite::{Connection, params};
use sha2::{Digest, Sha256};

use super::{Store, StoreError, blocking, insert_block, insert_root, int, path_bytes};
use crate::content::Codec;
use crate::unixfs::chunk::{Builder, CHUNK, Sink};

/// Rows written at once: what 64 MiB of file make.
const BATCH: usize = 256;

/// What a file was added as.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Added {
    pub(crate) cid: Cid,
    pub(crate) size: u64,
    pub(crate) sha256: [u8; 32],
}

/// Rows on their way to the database.
#[derive(Default)]
struct Batch {
    leaves: Vec<(u64, u64, Cid)>,
    nodes: Vec<(Cid, Vec<u8>)>,
}

struct Writer<'a> {
    store: &'a Store,
    file: i64,
    batch: Batch,
}

impl Store {
    /// Adds the file at `path`. It is not copied: it must stay as it is for as long as it is to be served.
    pub(crate) async fn add_file(&self, path: &Path) -> Result<Added, StoreError> {
        let (store, path) = (self.clone(), path.to_owned());
        blocking(move || add(&store, &path)).await
    }

    /// Forgets what was added from, or fetched to, this path.
    pub(crate) async fn forget_file(&self, path: &Path) -> Result<(), StoreError> {
        let failed = |source| StoreError::Io { path: path.to_owned(), source };
        let absolute = std::path::absolute(path).map_err(failed)?;
        // The one by which it was fetched, the other by which it was added; the file may be gone.
        let canonical = path.canonicalize().unwrap_or_else(|_| absolute.clone());
        let paths = [path_bytes(&absolute), path_bytes(&canonical)];
        self.call(move |db| {
            db.execute("DELETE FROM file WHERE path IN (?1, ?2)", paths)?;
            Ok(())
        })
        .await
    }
}

fn add(store: &Store, path: &Path) -> Result<Added, StoreError> {
    let failed = |source| StoreError::Io { path: path.to_owned(), source };
    let path = path.canonicalize().map_err(failed)?;
    let mut file = File::open(&path).map_err(failed)?;
    let key = path_bytes(&path);
    let id = store.call_blocking(move |db| begin(db, &key))?;
    let mut writer = Writer { store, file: id, batch: Batch::default() };
    let (mut builder, mut whole, mut size) = (Builder::default(), Sha256::new(), 0);
    let mut chunk = Vec::with_capacity(CHUNK);
    while read_chunk(&mut file, &mut chunk).map_err(failed)? > 0 {
        whole.update(&chunk);
        let cid = Codec::Raw.cid(&chunk);
        let len = chunk.len() as u64;
        writer.leaf(size, len, cid)?;
        builder.leaf(cid, len, &mut writer)?;
        size += len;
    }
    let cid = builder.finish(&mut writer)?;
    let added = Added { cid, size, sha256: whole.finalize().into() };
    writer.finish(added)?;
    Ok(added)
}

/// Fills `chunk`, short only at the file's end.
fn read_chunk(file: &mut File, chunk: &mut Vec<u8>) -> io::Result<usize> {
    chunk.clear();
    file.take(CHUNK as u64).read_to_end(chunk)
}

/// A row for the file; what an earlier file at the same path left is forgotten.
fn begin(db: &mut Connection, path: &[u8]) -> Result<i64, StoreError> {
    let transaction = db.transaction()?;
    transaction.execute("DELETE FROM file WHERE path = ?1", [path])?;
    let sql = "INSERT INTO file (path, root, size, complete) VALUES (?1, x'', 0, 0)";
    transaction.execute(sql, [path])?;
    let id = transaction.last_insert_rowid();
    transaction.commit()?;
    Ok(id)
}

impl Writer<'_> {
    fn leaf(&mut self, start: u64, len: u64, cid: Cid) -> Result<(), StoreError> {
        self.batch.leaves.push((start, len, cid));
        if self.batch.leaves.len() >= BATCH { self.flush() } else { Ok(()) }
    }

    fn flush(&mut self) -> Result<(), StoreError> {
        let (file, batch) = (self.file, std::mem::take(&mut self.batch));
        self.store.call_blocking(move |db| {
            let transaction = db.transaction()?;
            batch.write(&transaction, file)?;
            Ok(transaction.commit()?)
        })
    }

    fn finish(mut self, added: Added) -> Result<(), StoreError> {
        self.flush()?;
        let (file, Added { cid, size, sha256 }) = (self.file, added);
        self.store.call_blocking(move |db| {
            let transaction = db.transaction()?;
            if size == 0 {
                // The one block without bytes in any file.
                insert_block(&transaction, &cid, &[])?;
            }
            insert_root(&transaction, &cid)?;
            let sql = "UPDATE file SET root = ?2, size = ?3, complete = 1, sha256 = ?4 WHERE id = ?1";
            transaction.execute(sql, params![file, cid.to_bytes(), int(size), sha256])?;
            Ok(transaction.commit()?)
        })
    }
}

impl Sink for Writer<'_> {
    type Error = StoreError;

    fn node(&mut self, cid: Cid, block: Vec<u8>) -> Result<(), StoreError> {
        self.batch.nodes.push((cid, block));
        Ok(())
    }
}

impl Batch {
    fn write(&self, db: &Connection, file: i64) -> Result<(), StoreError> {
        let sql = "INSERT OR REPLACE INTO extent (file, start, len, cid, prefix, suffix)
                   VALUES (?1, ?2, ?3, ?4, x'', x'')";
        let mut insert = db.prepare_cached(sql)?;
        for (start, len, cid) in &self.leaves {
            insert.execute(params![file, int(*start), int(*len), cid.to_bytes()])?;
        }
        for (cid, block) in &self.nodes {
            insert_block(db, cid, block)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn added(store: &Store, folder: &Path, bytes: &[u8]) -> Added {
        let path = folder.join("file");
        std::fs::write(&path, bytes).unwrap();
        store.add_file(&path).await.unwrap()
    }

    #[tokio::test]
    async fn our_layout_has_the_identifiers_of_the_js_importer() {
        // Made with ipfs-unixfs-importer 17.1.1: cidVersion 1, rawLeaves, reduceSingleLeafToSelf, chunks of
        // fixedSize 262144, balanced with 174 children; over `pattern(len)`.
        const VECTORS: [(usize, &str); 9] = [
            (1, "bafkreidogqfzz75tpkmjzjke425xqcrmpcib2p5tg44hnbirumdbpl5adu"),
            (CHUNK - 1, "bafkreibrvirgky2hc6w6hhapr22cpbjo7bg7fzexfsnwlkvgp3mbkvgwmq"),
            (CHUNK, "bafkreigvy7urymioxc2go6yuw3mgcei5iazwjavl5byty2fh3efaq5cpja"),
            (CHUNK + 1, "bafybeifsa2ecvkyr4fbrr4iy2c7vmxawtded4jli3wyqt4czw6oopejn74"),
            (3 * CHUNK + 7, "bafybeiafjppukemz72jc32q2cbrnsl5ley7v3eufgtojfxpo3jcppxnste"),
            (10 << 20, "bafybeiepotpqpnwqybwgatjisytrbzv4gqk5nygtdx3hbirogyvqz7wp2a"),
            (174 * CHUNK, "bafybeigbs2bkxsfpey52uy4ltvxz2qj64fzf7cozpviad5xv7lzi5ps3ca"),
            (174 * CHUNK + 1, "bafybeigt3r76hswvlbfz6gg4lxu2e6cnm7mxnbmwlflsxzcokix6wbpedi"),
            (349 * CHUNK + 3, "bafybeig63bdpcnytaltmvupvvknvykgumz5whkupepcmwf4w4cbstqwhoq"),
        ];
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(&folder.path().join("store")).await.unwrap();
        for (len, cid) in VECTORS {
            let file = added(&store, folder.path(), &pattern(len)).await;
            assert_eq!((file.size, file.cid.to_string().as_str()), (len as u64, cid));
        }
    }

    /// Bytes that are easy to make again elsewhere: byte `i` is `i * i / 251` modulo 256.
    fn pattern(len: usize) -> Vec<u8> {
        (0..len as u64).map(|i| (i * i / 251) as u8).collect()
    }

    #[tokio::test]
    async fn a_files_blocks_are_served_from_the_file() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(&folder.path().join("store")).await.unwrap();
        let bytes = pattern(CHUNK + 5);
        let file = added(&store, folder.path(), &bytes).await;
        assert_eq!((file.size, file.sha256), (bytes.len() as u64, Sha256::digest(&bytes).into()));
        let tail = Codec::Raw.cid(&bytes[CHUNK..]);
        assert_eq!(store.get(&tail).await.unwrap().unwrap(), &bytes[CHUNK..]);
        assert!(store.get(&file.cid).await.unwrap().is_some());
    }

    #[tokio::test]
    async fn a_changed_file_no_longer_serves_what_it_was() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(&folder.path().join("store")).await.unwrap();
        let file = added(&store, folder.path(), b"before").await;
        std::fs::write(folder.path().join("file"), b"after.").unwrap();
        assert_eq!(store.get(&file.cid).await.unwrap(), None);
        let file = added(&store, folder.path(), b"after.").await;
        assert_eq!(store.get(&file.cid).await.unwrap().unwrap(), "after.");
    }

    #[tokio::test]
    async fn a_file_that_is_forgotten_leaves_its_blocks_to_others_that_have_them() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(&folder.path().join("store")).await.unwrap();
        let paths: Vec<_> = (0..12).map(|i| folder.path().join(i.to_string())).collect();
        let mut cid = None;
        for path in &paths {
            std::fs::write(path, b"shared").unwrap();
            cid = Some(store.add_file(path).await.unwrap().cid);
        }
        let cid = cid.unwrap();
        for path in &paths[..11] {
            store.forget_file(path).await.unwrap();
            std::fs::remove_file(path).unwrap();
        }
        // More than the places that are looked at for one block.
        assert_eq!(store.get(&cid).await.unwrap().unwrap(), "shared");
        store.forget_file(&paths[11]).await.unwrap();
        assert_eq!(store.get(&cid).await.unwrap(), None);
        assert!(!store.has(&cid).await.unwrap());
    }

    #[tokio::test]
    async fn the_empty_file_has_the_known_identifier_and_is_served() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(&folder.path().join("store")).await.unwrap();
        let file = added(&store, folder.path(), b"").await;
        let expected = "bafkreihdwdcefgh4dqkjv67uzcmw7ojee6xedzdetojuzjevtenxquvyku";
        assert_eq!(file.cid.to_string(), expected);
        assert_eq!(store.get(&file.cid).await.unwrap().unwrap(), "");
    }
}
