//! The thread that writes.

use std::convert::Infallible;
use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, SyncSender, channel, sync_channel};
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
/// A lock, a write or a sync that takes longer is an alarm: it may never end.
const HUNG: Duration = Duration::from_secs(5);

enum Message {
    Record(Box<Record>),
    /// All before it is to be on disk.
    Flush(SyncSender<()>),
}

/// How the log fares.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Health {
    /// Why what was told is not on disk, if it should be: somebody should look into it.
    pub error: Option<String>,
    /// Records that were left out since the start, as there were too many or the disk took none.
    pub left_out: u64,
}

/// How the disk fares.
#[derive(Debug, Default)]
struct Disk {
    /// Since when the thread waits for it.
    asked: Option<Instant>,
    /// Why it took nothing, until it has all.
    error: Option<String>,
}

#[derive(Debug)]
struct Shared {
    /// The file, as people write it.
    path: String,
    hung: Duration,
    limit: Mutex<Limit<Kind>>,
    disk: Mutex<Disk>,
    /// For want of room in the queue, and not told yet.
    lost: AtomicU64,
    left_out: AtomicU64,
}

/// Where records go. Cheap to clone; the thread ends with the last clone, when all is written.
#[derive(Debug, Clone, Default)]
pub struct Audit(Option<Told>);

#[derive(Debug, Clone)]
struct Told {
    sender: SyncSender<Message>,
    shared: Arc<Shared>,
    /// Nothing comes by it but its end, which the thread sees even where it takes no more messages.
    _running: Sender<Infallible>,
}

impl std::fmt::Debug for Message {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Message")
    }
}

impl Audit {
    /// Writes to the file at this path and those beside it. It is opened by the first record, and again as long as that fails: a log
    /// that cannot be written stops nothing.
    pub fn at(path: &Path, bounds: Bounds) -> Self {
        Self::with(path, bounds, HUNG)
    }

    fn with(path: &Path, bounds: Bounds, hung: Duration) -> Self {
        let (sender, receiver) = sync_channel(QUEUE);
        let (running, ended) = channel();
        let shared = Arc::new(Shared::new(path, hung));
        let mut writer = Writer::new(Log::new(path, bounds), Arc::clone(&shared));
        let begun =
            std::thread::Builder::new().name("audit".into()).spawn(move || writer.run(&receiver, &ended));
        if let Err(error) = begun {
            shared.fail(&error);
        }
        Self(Some(Told { sender, shared, _running: running }))
    }

    /// Writes nothing.
    pub fn nowhere() -> Self {
        Self::default()
    }

    /// Has a record written; never waits. What strangers can cause is written some times a minute, and then counted.
    pub fn tell(&self, record: Record) {
        let Some(Told { sender, shared, .. }) = &self.0 else { return };
        shared.look();
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
        let Some(Told { shared, .. }) = &self.0 else { return Health::default() };
        Health { error: shared.look(), left_out: shared.left_out.load(Ordering::Relaxed) }
    }

    /// Waits until all that was told is on disk, at most so long. Whether it is.
    pub fn flush(&self, most: Duration) -> bool {
        let Some(Told { sender, shared, .. }) = &self.0 else { return true };
        let (done, told) = sync_channel(1);
        let sent = sender.try_send(Message::Flush(done)).is_ok();
        sent && told.recv_timeout(most).is_ok() && lock(&shared.disk).error.is_none()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Shared {
    fn new(path: &Path, hung: Duration) -> Self {
        Self {
            path: path.display().to_string(),
            hung,
            limit: Mutex::default(),
            disk: Mutex::default(),
            lost: AtomicU64::new(0),
            left_out: AtomicU64::new(0),
        }
    }

    /// Does something that may take the disk as long as it likes.
    fn ask(&self, ask: impl FnOnce() -> io::Result<()>) -> bool {
        lock(&self.disk).asked = Some(Instant::now());
        let asked = ask();
        lock(&self.disk).asked = None;
        asked.inspect_err(|error| self.fail(error)).is_ok()
    }

    fn fail(&self, error: &io::Error) {
        let is_first = lock(&self.disk).fail(&self.path, error);
        self.tell_of(is_first, error);
    }

    /// Says it once, and holds no lock meanwhile: the log of the program may have to wait as well.
    fn tell_of(&self, is_first: bool, error: &impl std::fmt::Display) {
        if is_first {
            tracing::error!(path = self.path, %error, "the audit log is not written; it is tried on and on");
        }
    }

    /// Why what was told is not on disk. Whoever asks finds out that the thread hangs, as it cannot say so itself.
    fn look(&self) -> Option<String> {
        let mut disk = lock(&self.disk);
        if disk.error.is_some() || disk.asked.is_none_or(|asked| asked.elapsed() < self.hung) {
            return disk.error.clone();
        }
        let why = format!("waiting for the disk, or for who has it locked, for {} s", self.hung.as_secs());
        let is_first = disk.fail(&self.path, &why);
        let error = disk.error.clone();
        drop(disk);
        self.tell_of(is_first, &why);
        error
    }

    /// All is on disk.
    fn mend(&self) {
        let error = lock(&self.disk).error.take();
        if error.is_some() {
            tracing::info!(path = self.path, "the audit log is written again");
        }
    }
}

impl Disk {
    /// Whether it is the first since all was well.
    fn fail(&mut self, path: &str, error: &impl std::fmt::Display) -> bool {
        self.error.replace(format!("{path}: {error}")).is_none()
    }
}

struct Writer {
    log: Log,
    shared: Arc<Shared>,
    /// What the disk has not taken yet: a batch at most.
    lines: Vec<u8>,
    unsynced: bool,
    synced: Instant,
}

impl Writer {
    fn new(log: Log, shared: Arc<Shared>) -> Self {
        Self { log, shared, lines: Vec::new(), unsynced: false, synced: Instant::now() }
    }

    fn run(&mut self, receiver: &Receiver<Message>, running: &Receiver<Infallible>) {
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
                self.write();
            } else {
                // The disk takes nothing: what is told meanwhile waits in the queue, and past its end is counted. At the end it is
                // tried once more; what waits then is written too if it takes this.
                let last = running.recv_timeout(SYNC) == Err(RecvTimeoutError::Disconnected);
                self.write();
                ended = last && !self.lines.is_empty();
            }
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
        if !self.lines.is_empty() && self.shared.ask(|| self.log.append(&self.lines)) {
            self.lines.clear();
            self.unsynced = true;
        }
    }

    /// A log that is written and does not come to the disk is as bad as one that is not: the alarm ends here only.
    fn sync(&mut self) {
        self.synced = Instant::now();
        if self.shared.ask(|| self.log.sync()) {
            self.unsynced = false;
            if self.lines.is_empty() {
                self.shared.mend();
            }
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
        until("no alarm", || audit.health().error.is_some());
        let Health { error, left_out } = audit.health();
        let error = error.unwrap();
        assert!(error.contains("log: ") && left_out > 0, "{error}");
        fs::remove_dir(&path).unwrap();
        until("still an alarm", || audit.flush(LONG));
        let written = written(&folder);
        let left: u64 = written.iter().filter(|r| r.kind == Kind::LeftOut).filter_map(|r| r.count).sum();
        assert_eq!(left, left_out);
        assert_eq!(
            written.iter().filter(|r| r.kind != Kind::LeftOut).count() as u64 + left,
            2 * QUEUE as u64
        );
    }

    fn until(what: &str, mut holds: impl FnMut() -> bool) {
        let begun = Instant::now();
        while !holds() {
            assert!(begun.elapsed() < LONG, "{what}");
            std::thread::yield_now();
        }
    }

    #[test]
    fn a_lock_that_somebody_keeps_is_an_alarm_until_it_is_given_back() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        let held = fs::File::create(&path).unwrap();
        held.lock().unwrap();
        let audit = Audit::with(&path, Bounds::default(), Duration::from_millis(10));
        assert_eq!(audit.health(), Health::default());
        audit.tell(Record::default());
        until("no alarm", || audit.health().error.is_some_and(|error| error.contains("log: waiting")));
        held.unlock().unwrap();
        until("no end of the alarm", || audit.health().error.is_none());
        assert_eq!(written(&folder).len(), 1);
    }

    /// A pipe takes lines and cannot be synced.
    #[test]
    fn a_sync_that_failed_is_an_alarm_until_one_succeeds() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        let made = std::process::Command::new("mkfifo").args(["-m", "600"]).arg(&path).status();
        assert!(made.unwrap().success());
        let shared = Arc::new(Shared::new(&path, LONG));
        let mut writer = Writer::new(Log::new(&path, Bounds::default()), Arc::clone(&shared));
        let mut write = |also: &str| {
            writer.lines.extend(Record::default().line());
            writer.write();
            let alarm = shared.look().is_some();
            writer.sync();
            assert_eq!(
                (writer.lines.is_empty(), alarm, shared.look().is_some()),
                match also {
                    "first" => (true, false, true),
                    "second" => (true, true, true),
                    // Of the pipe's lines it is said once more that they may be lost.
                    "moved" => (false, true, true),
                    _ => (true, true, false),
                },
                "{also}"
            );
        };
        ["first", "second"].into_iter().for_each(&mut write);
        fs::rename(&path, folder.path().join("moved")).unwrap();
        ["moved", "file"].into_iter().for_each(&mut write);
        assert_eq!(written(&folder).len(), 2);
    }

    #[test]
    fn what_waits_for_a_disk_is_written_at_the_end_if_it_takes_it_again() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        fs::create_dir(&path).unwrap();
        let audit = Audit::at(&path, Bounds::default());
        let many = 3 * BATCH as u64;
        (0..many).for_each(|time| audit.tell(Record { time, ..Record::default() }));
        until("no alarm", || audit.health().error.is_some());
        fs::remove_dir(&path).unwrap();
        drop(audit);
        until("not all is written", || {
            fs::read_to_string(&path).is_ok_and(|text| text.lines().count() as u64 == many)
        });
        assert!(written(&folder).iter().map(|record| record.time).eq(0..many));
    }
}
