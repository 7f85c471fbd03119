//! The thread that writes.

use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::file::{Bounds, Log};
use crate::limit::{Limit, WINDOW};
use crate::record::{Kind, Record};

/// Records that wait for the disk: those of a whole site's update at once. Further ones are counted.
const QUEUE: usize = 8192;
/// Records that are written with one write.
const BATCH: usize = 256;
/// From a write to the moment from which it survives a power cut, and between two tries of one that failed.
const SYNC: Duration = Duration::from_secs(1);

enum Message {
    Record(Box<Record>),
    /// All before it is to be on disk.
    Flush(SyncSender<()>),
}

/// How the log fares.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Health {
    /// Why the last write failed, if it did: somebody should look into it.
    pub error: Option<String>,
    /// Records that were left out since the start, as there were too many or the disk took none.
    pub left_out: u64,
}

#[derive(Debug, Default)]
struct Shared {
    limit: Mutex<Limit>,
    error: Mutex<Option<String>>,
    /// For want of room in the queue, and not told yet.
    lost: AtomicU64,
    left_out: AtomicU64,
}

/// Where records go. Cheap to clone; the thread ends with the last clone, when all is written.
#[derive(Debug, Clone, Default)]
pub struct Audit(Option<(SyncSender<Message>, Arc<Shared>)>);

impl std::fmt::Debug for Message {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Message")
    }
}

impl Audit {
    /// Writes to the file at this path and those beside it. It is opened by the first record, and again as long as that fails: a log
    /// that cannot be written stops nothing.
    pub fn at(path: &Path, bounds: Bounds) -> Self {
        let (sender, receiver) = sync_channel(QUEUE);
        let shared = Arc::new(Shared::default());
        let mut writer = Writer {
            log: Log::new(path, bounds),
            path: path.display().to_string(),
            shared: Arc::clone(&shared),
            lines: Vec::new(),
            unsynced: false,
            synced: Instant::now(),
        };
        let begun = std::thread::Builder::new().name("audit".into()).spawn(move || writer.run(&receiver));
        if let Err(error) = begun {
            shared.fail(&path.display().to_string(), &error);
        }
        Self(Some((sender, shared)))
    }

    /// Writes nothing.
    pub fn nowhere() -> Self {
        Self::default()
    }

    /// Has a record written; never waits. What strangers can cause is written some times a minute, and then counted.
    pub fn tell(&self, record: Record) {
        let Some((sender, shared)) = &self.0 else { return };
        let limited = record.kind.is_strangers();
        if limited && !lock(&shared.limit).admit(record.kind, Instant::now()) {
            shared.left_out.fetch_add(1, Ordering::Relaxed);
        } else if sender.try_send(Message::Record(Box::new(record))).is_err() {
            shared.left_out.fetch_add(1, Ordering::Relaxed);
            shared.lost.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// How the log fares.
    pub fn health(&self) -> Health {
        let Some((_, shared)) = &self.0 else { return Health::default() };
        Health { error: lock(&shared.error).clone(), left_out: shared.left_out.load(Ordering::Relaxed) }
    }

    /// Waits until all that was told is on disk, at most so long. Whether it is.
    pub fn flush(&self, most: Duration) -> bool {
        let Some((sender, shared)) = &self.0 else { return true };
        let (done, told) = sync_channel(1);
        let sent = sender.try_send(Message::Flush(done)).is_ok();
        sent && told.recv_timeout(most).is_ok() && lock(&shared.error).is_none()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Shared {
    fn fail(&self, path: &str, error: &std::io::Error) {
        let mut before = lock(&self.error);
        if before.is_none() {
            tracing::error!(path, %error, "the audit log is not written; tried again each second");
        }
        *before = Some(format!("{path}: {error}"));
    }
}

struct Writer {
    log: Log,
    path: String,
    shared: Arc<Shared>,
    /// What the disk has not taken yet: a batch at most.
    lines: Vec<u8>,
    unsynced: bool,
    synced: Instant,
}

impl Writer {
    fn run(&mut self, receiver: &Receiver<Message>) {
        let mut ended = false;
        while !ended {
            let mut flushes = Vec::new();
            if self.lines.is_empty() {
                let wait = if self.unsynced { SYNC } else { WINDOW };
                match receiver.recv_timeout(wait) {
                    Ok(first) => self.take(first, receiver, &mut flushes),
                    Err(RecvTimeoutError::Timeout) => {}
                    Err(RecvTimeoutError::Disconnected) => ended = true,
                }
                self.count(ended || !flushes.is_empty());
            } else {
                // The disk takes nothing: what is told meanwhile waits in the queue, and past its end is counted.
                std::thread::sleep(SYNC);
                ended = Arc::strong_count(&self.shared) == 1;
            }
            self.write();
            if self.unsynced && (ended || !flushes.is_empty() || self.synced.elapsed() >= SYNC) {
                self.sync();
            }
            for done in flushes {
                let _gone = done.try_send(());
            }
        }
    }

    /// Takes what waits.
    fn take(&mut self, first: Message, receiver: &Receiver<Message>, flushes: &mut Vec<SyncSender<()>>) {
        for message in std::iter::once(first).chain(receiver.try_iter().take(BATCH)) {
            match message {
                Message::Record(record) => self.lines.extend(record.line()),
                Message::Flush(done) => flushes.push(done),
            }
        }
    }

    /// Says what was left out.
    fn count(&mut self, all: bool) {
        let lost = self.shared.lost.swap(0, Ordering::Relaxed);
        let lost = (lost > 0).then_some((None, lost));
        let over = lock(&self.shared.limit).over(Instant::now(), all);
        let over = over.into_iter().map(|(kind, count)| (Some(kind), count));
        for (of, count) in over.chain(lost) {
            self.lines.extend(Record { of, count: Some(count), ..Record::new(Kind::LeftOut) }.line());
        }
    }

    fn write(&mut self) {
        if self.lines.is_empty() {
            return;
        }
        match self.log.append(&self.lines) {
            Ok(()) => {
                self.lines.clear();
                self.unsynced = true;
                if lock(&self.shared.error).take().is_some() {
                    tracing::info!(path = self.path, "the audit log is written again");
                }
            }
            Err(error) => self.shared.fail(&self.path, &error),
        }
    }

    fn sync(&mut self) {
        self.synced = Instant::now();
        match self.log.sync() {
            Ok(()) => self.unsynced = false,
            Err(error) => self.shared.fail(&self.path, &error),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use tempfile::TempDir;

    use super::*;
    use crate::limit::MOST;

    const LONG: Duration = Duration::from_secs(60);

    fn written(folder: &TempDir) -> Vec<Record> {
        let text = fs::read_to_string(folder.path().join("log")).unwrap();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    #[test]
    fn what_is_told_is_on_disk_after_a_flush_and_at_the_end() {
        let folder = tempfile::tempdir().unwrap();
        let audit = Audit::at(&folder.path().join("log"), Bounds::default());
        (0..2000).for_each(|time| audit.tell(Record { time, ..Record::default() }));
        assert!(audit.flush(LONG));
        let times: Vec<u64> = written(&folder).iter().map(|record| record.time).collect();
        assert_eq!(times, (0..2000).collect::<Vec<_>>());
        assert_eq!(audit.health(), Health::default());
    }

    #[test]
    fn a_flood_by_strangers_leaves_room_for_others_and_is_counted() {
        let folder = tempfile::tempdir().unwrap();
        let audit = Audit::at(&folder.path().join("log"), Bounds::default());
        (0..100_000).for_each(|_| audit.tell(Record::new(Kind::OrderRefused)));
        audit.tell(Record::new(Kind::OrderGiven));
        assert!(audit.flush(LONG));
        let written = written(&folder);
        let of = |kind| written.iter().filter(|record| record.kind == kind).count();
        assert_eq!((of(Kind::OrderRefused), of(Kind::OrderGiven)), (MOST as usize, 1));
        let left = written.iter().find(|record| record.kind == Kind::LeftOut).unwrap();
        assert_eq!((left.of, left.count), (Some(Kind::OrderRefused), Some(100_000 - u64::from(MOST))));
        assert_eq!(audit.health().left_out, 100_000 - u64::from(MOST));
    }

    #[test]
    fn a_disk_that_takes_nothing_is_an_alarm_until_it_does() {
        let folder = tempfile::tempdir().unwrap();
        // A folder in its place.
        let path = folder.path().join("log");
        fs::create_dir(&path).unwrap();
        let audit = Audit::at(&path, Bounds::default());
        (0..2 * QUEUE as u64).for_each(|time| audit.tell(Record { time, ..Record::default() }));
        assert!(!audit.flush(Duration::from_millis(10)));
        let begun = Instant::now();
        let (error, left_out) = loop {
            let Health { error, left_out } = audit.health();
            if let Some(error) = error {
                break (error, left_out);
            }
            assert!(begun.elapsed() < LONG, "no alarm");
            std::thread::yield_now();
        };
        assert!(error.contains("log: ") && left_out > 0, "{error}");
        fs::remove_dir(&path).unwrap();
        let begun = Instant::now();
        while !audit.flush(LONG) {
            assert!(begun.elapsed() < LONG, "{:?}", audit.health());
            std::thread::yield_now();
        }
        let written = written(&folder);
        let left: u64 = written.iter().filter(|r| r.kind == Kind::LeftOut).filter_map(|r| r.count).sum();
        assert_eq!(left, left_out);
        assert_eq!(
            written.iter().filter(|r| r.kind != Kind::LeftOut).count() as u64 + left,
            2 * QUEUE as u64
        );
    }
}
