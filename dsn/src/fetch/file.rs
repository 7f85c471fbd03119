//! A file to disk: its DAG walked in order, its leaves written where they belong.

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use bytes::Bytes;
use cid::Cid;
use libp2p::PeerId;
use sha2::{Digest, Sha256};

use super::pull::{Need, Pull, Pulled};
use super::sink::{Piece, Sink};
use super::sources::{Net, Sources};
use super::{FetchError, Progress};
use crate::store::{Download, Store};
use crate::unixfs::read::{DagError, MAX_BLOCK, Opened, Part, max_blocks};

/// Bytes of the longest file: far beyond any firmware, and far below what arithmetic on offsets bears.
const MAX_FILE: u64 = 1 << 40;

/// What is to be fetched, and where to.
pub(crate) struct Job<'a> {
    /// An accepted CID.
    pub(crate) cid: Cid,
    pub(crate) size: u64,
    /// Of the whole, where that is known besides the CID.
    pub(crate) sha256: Option<[u8; 32]>,
    pub(crate) dest: &'a Path,
    pub(crate) from: &'a [PeerId],
    pub(crate) blocks_in_flight: usize,
}

/// A download under way.
struct Walk<F> {
    store: Store,
    download: Download,
    pull: Pull,
    sink: Sink,
    /// Parts to be visited; the next one last.
    stack: Vec<Part>,
    /// Needs for which there is no peer now.
    waiting: Vec<Need>,
    blocks: u64,
    max_blocks: u64,
    report: Progress,
    progress: F,
}

/// Fetches a file; see [`crate::Dsn::fetch_file`].
pub(crate) async fn file<F>(net: Net, store: Store, job: Job<'_>, progress: F) -> Result<(), FetchError>
where
    F: FnMut(Progress) + Send,
{
    if job.size > MAX_FILE {
        return Err(DagError::TooLong { size: job.size, max: MAX_FILE }.into());
    }
    let dest = std::path::absolute(job.dest).map_err(|source| io_error(job.dest, source))?;
    if is_there(&store, &dest, &job).await? {
        return Ok(());
    }
    let part = part_path(&dest);
    let download = store.download(&part, &job.cid, job.size).await?;
    if download.resumed {
        store.verify(&download).await?;
    }
    let sources = Sources::new(net.clone(), job.cid, MAX_BLOCK, job.from);
    let walk = Walk {
        pull: Pull::new(net, sources, job.blocks_in_flight),
        sink: Sink::open(store.clone(), download.clone(), job.size).await?,
        store: store.clone(),
        download: download.clone(),
        stack: vec![Part::root(job.cid, job.size)],
        waiting: Vec::new(),
        blocks: 0,
        max_blocks: max_blocks(job.size),
        report: Progress { total: job.size, ..Progress::default() },
        progress,
    };
    walk.run().await?;
    finish(&store, &download, &job, part, dest).await
}

impl<F: FnMut(Progress) + Send> Walk<F> {
    async fn run(mut self) -> Result<(), FetchError> {
        loop {
            self.assign().await?;
            if self.pull.is_idle() && self.stack.is_empty() && self.waiting.is_empty() {
                break;
            }
            tokio::select! {
                pulled = self.pull.next(&self.waiting) => match pulled? {
                    Pulled::Block(need, block) => {
                        self.report.blocks_fetched += 1;
                        self.open(need.part, block, true).await?;
                    }
                    Pulled::Failed(need) => self.waiting.push(need),
                    Pulled::NewSource => {}
                },
                Ok(()) = self.sink.synced.changed() => self.tell(),
            }
        }
        let (mut report, mut progress) = (self.report, self.progress);
        self.sink.finish().await?;
        report.bytes = report.total;
        progress(report);
        Ok(())
    }

    /// Gives out work until no more can be in flight, or nobody is there to do it.
    async fn assign(&mut self) -> Result<(), FetchError> {
        for need in std::mem::take(&mut self.waiting) {
            if let Err(need) = self.pull.assign(need) {
                self.waiting.push(need);
            }
        }
        while self.waiting.is_empty()
            && self.pull.has_room()
            && let Some(part) = self.stack.pop()
        {
            if self.is_here(&part).await? {
                continue;
            }
            if let Err(need) = self.pull.assign(Need::of_file(part)) {
                self.waiting.push(need);
            }
        }
        Ok(())
    }

    /// Whether the part needs nobody: an earlier run has left it on disk.
    async fn is_here(&mut self, part: &Part) -> Result<bool, FetchError> {
        if !self.download.resumed {
            return Ok(false);
        }
        if self.store.is_written(&self.download, part.offset, &part.cid).await? {
            self.count()?;
            self.report.blocks_resumed += 1;
            self.report.resumed_bytes += part.size;
            return Ok(true);
        }
        match self.store.node(&part.cid).await? {
            Some(block) => self.open(*part, block, false).await.map(|()| true),
            None => Ok(false),
        }
    }

    /// Takes in a block whose hash has been checked.
    async fn open(&mut self, part: Part, block: Bytes, fresh: bool) -> Result<(), FetchError> {
        self.count()?;
        let (start, cid) = (part.offset, part.cid);
        match part.open(&block)? {
            Opened::Leaf(data) => self.sink.write(Piece::Leaf { start, cid, block, data }).await,
            Opened::Branch { inline, parts } => {
                self.stack.extend(parts.into_iter().rev());
                match fresh || !inline.is_empty() {
                    true => self.sink.write(Piece::Node { start, cid, block, inline }).await,
                    false => Ok(()),
                }
            }
        }
    }

    fn count(&mut self) -> Result<(), FetchError> {
        self.blocks += 1;
        match self.blocks <= self.max_blocks {
            true => Ok(()),
            false => Err(DagError::TooManyBlocks(self.max_blocks).into()),
        }
    }

    fn tell(&mut self) {
        self.report.bytes = self.report.resumed_bytes + *self.sink.synced.borrow_and_update();
        (self.progress)(self.report);
    }
}

/// Hashes the whole once more, and only then puts it in its place. Without a digest to hold it against, what is
/// on disk is held against the hashes of its blocks.
async fn finish(
    store: &Store,
    download: &Download,
    job: &Job<'_>,
    part: PathBuf,
    dest: PathBuf,
) -> Result<(), FetchError> {
    if job.sha256.is_none() && !store.verify(download).await? {
        return Err(FetchError::Changed(part));
    }
    let found = hash_file(part.clone()).await?;
    if let Some(expected) = job.sha256.filter(|expected| *expected != found) {
        store.discard(download).await?;
        tokio::fs::remove_file(&part).await.map_err(|source| io_error(&part, source))?;
        return Err(FetchError::WrongFile { expected, found });
    }
    let to = dest.clone();
    let moved = tokio::task::spawn_blocking(move || put_in_place(&part, &to));
    moved.await.map_err(|_| FetchError::Stopped)?.map_err(|source| io_error(&dest, source))?;
    store.complete(download, &dest, &job.cid, found).await?;
    Ok(())
}

fn put_in_place(part: &Path, dest: &Path) -> io::Result<()> {
    File::open(part)?.sync_all()?;
    std::fs::rename(part, dest)?;
    match dest.parent() {
        // The rename itself is on disk when the folder is.
        Some(folder) => File::open(folder)?.sync_all(),
        None => Ok(()),
    }
}

/// Whether an earlier call has done it all. What the whole must hash to is given, or was recorded then; where it was not, by an
/// earlier version or a kill before the record, the file is added as one of ours, and is what is asked for if it then has its
/// identifier. Only importers that lay files out otherwise leave it to be fetched again.
async fn is_there(store: &Store, dest: &Path, job: &Job<'_>) -> Result<bool, FetchError> {
    match tokio::fs::metadata(dest).await {
        Ok(file) if file.is_file() && file.len() == job.size => {}
        Ok(_) => return Ok(false),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        Err(source) => return Err(io_error(dest, source)),
    }
    let expected = match job.sha256 {
        Some(sha256) => Some(sha256),
        None => store.digest(dest, &job.cid, job.size).await?,
    };
    match expected {
        Some(expected) => Ok(hash_file(dest.to_owned()).await? == expected),
        None => Ok(store.add_file(dest).await?.cid == job.cid),
    }
}

async fn hash_file(path: PathBuf) -> Result<[u8; 32], FetchError> {
    let failed = path.clone();
    let hash = tokio::task::spawn_blocking(move || hash(&path));
    hash.await.map_err(|_| FetchError::Stopped)?.map_err(|source| io_error(&failed, source))
}

fn hash(path: &Path) -> io::Result<[u8; 32]> {
    let (mut file, mut hasher) = (File::open(path)?, Sha256::new());
    let mut buffer = vec![0; 1 << 18];
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(hasher.finalize().into()),
            len => hasher.update(&buffer[..len]),
        }
    }
}

fn part_path(dest: &Path) -> PathBuf {
    let mut path = OsString::from(dest);
    path.push(".part");
    path.into()
}

fn io_error(path: &Path, source: io::Error) -> FetchError {
    FetchError::Io { path: path.to_owned(), source }
}
