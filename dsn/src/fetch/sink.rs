//! Writing what has been verified: bytes to their place, rows once they are synced.
//!
//! A thread of its own, behind a short queue: a slow disk slows the download, and memory holds no more than the
//! queue. When the download is given up, what is in the queue is still written, synced and recorded.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use bytes::Bytes;
use cid::Cid;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;

use super::FetchError;
use crate::store::{Download, Store, StoreError, Written};

/// Blocks that wait to be written.
const QUEUE: usize = 8;
/// Bytes written between two syncs: what a power cut costs at most, with the queue.
const BATCH_BYTES: u64 = 4 << 20;
/// Blocks between two syncs.
const BATCH_BLOCKS: usize = 64;

/// A verified block.
pub(super) enum Piece {
    /// `data` is a slice of `block`, and goes to `start` of the file.
    Leaf { start: u64, cid: Cid, block: Bytes, data: Bytes },
    /// A node, with the bytes that it holds itself, if any.
    Node { start: u64, cid: Cid, block: Bytes, inline: Bytes },
}

/// The way to the writing thread.
pub(super) struct Sink {
    pieces: mpsc::Sender<Piece>,
    /// Bytes of leaves that are on disk for good, in this run.
    pub(super) synced: watch::Receiver<u64>,
    thread: JoinHandle<Result<(), FetchError>>,
}

struct Writer {
    store: Store,
    download: Download,
    file: File,
    batch: Vec<Written>,
    /// Bytes since the last sync, and until it.
    fresh: u64,
    total: u64,
    synced: watch::Sender<u64>,
}

impl Sink {
    /// Opens the part file and makes it as long as the file will be.
    pub(super) async fn open(store: Store, download: Download, size: u64) -> Result<Self, FetchError> {
        let (file, download) = crate::store::blocking(move || {
            let file = open(&download, size).map_err(|source| store_io(&download, source))?;
            Ok((file, download))
        })
        .await?;
        let (pieces, queue) = mpsc::channel(QUEUE);
        let (synced, watch) = watch::channel(0);
        let writer = Writer { store, download, file, batch: Vec::new(), fresh: 0, total: 0, synced };
        let thread = tokio::task::spawn_blocking(move || writer.run(queue));
        Ok(Self { pieces, synced: watch, thread })
    }

    /// Hands a piece over; waits while the disk is behind.
    pub(super) async fn write(&mut self, piece: Piece) -> Result<(), FetchError> {
        match self.pieces.send(piece).await {
            Ok(()) => Ok(()),
            // The thread has ended, which it does only on an error.
            Err(_) => match (&mut self.thread).await {
                Ok(Err(error)) => Err(error),
                Ok(Ok(())) | Err(_) => Err(StoreError::Closed.into()),
            },
        }
    }

    /// Waits until all is on disk and recorded.
    pub(super) async fn finish(self) -> Result<(), FetchError> {
        drop(self.pieces);
        self.thread.await.map_err(|_| StoreError::Closed)?
    }
}

impl Writer {
    fn run(mut self, mut queue: mpsc::Receiver<Piece>) -> Result<(), FetchError> {
        while let Some(piece) = queue.blocking_recv() {
            self.write(piece).map_err(|source| self.io(source))?;
            if self.fresh >= BATCH_BYTES || self.batch.len() >= BATCH_BLOCKS {
                self.sync()?;
            }
        }
        self.sync()
    }

    fn write(&mut self, piece: Piece) -> io::Result<()> {
        match piece {
            Piece::Leaf { start, cid, block, data } => {
                self.file.write_all_at(&data, start)?;
                let (prefix, suffix) = around(&block, &data);
                let len = data.len() as u64;
                self.fresh += len;
                self.batch.push(Written::Leaf { start, len, cid, prefix, suffix });
            }
            Piece::Node { start, cid, block, inline } => {
                self.file.write_all_at(&inline, start)?;
                self.batch.push(Written::Node { cid, block });
            }
        }
        Ok(())
    }

    fn sync(&mut self) -> Result<(), FetchError> {
        self.file.sync_data().map_err(|source| self.io(source))?;
        self.store.record(&self.download, std::mem::take(&mut self.batch))?;
        self.total += std::mem::take(&mut self.fresh);
        self.synced.send_replace(self.total);
        Ok(())
    }

    fn io(&self, source: io::Error) -> FetchError {
        FetchError::Io { path: self.download.part().to_owned(), source }
    }
}

fn open(download: &Download, size: u64) -> io::Result<File> {
    let file = File::options().read(true).write(true).create(true).truncate(false).open(download.part())?;
    file.set_len(size)?;
    Ok(file)
}

fn store_io(download: &Download, source: io::Error) -> StoreError {
    StoreError::Io { path: download.part().to_owned(), source }
}

/// What a block has before and after `data`, a slice of it.
fn around(block: &Bytes, data: &Bytes) -> (Vec<u8>, Vec<u8>) {
    if data.is_empty() {
        return (block.to_vec(), Vec::new());
    }
    let before = data.as_ptr() as usize - block.as_ptr() as usize;
    (block[..before].to_vec(), block[before + data.len()..].to_vec())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_block_is_its_data_and_what_is_around_it() {
        let block = Bytes::from_static(b"<data>");
        let (prefix, suffix) = around(&block, &block.slice(1..5));
        assert_eq!((&prefix[..], &suffix[..]), (&b"<"[..], &b">"[..]));
        assert_eq!(around(&block, &block), (vec![], vec![]));
        assert_eq!(around(&block, &Bytes::new()), (block.to_vec(), vec![]));
    }
}
