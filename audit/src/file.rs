//! The file, and those that it was before.
//!
//! Lines are appended with one write, by one process at a time (`flock`): a command and a service may share a log. A line that a
//! power cut or a kill has torn is cut off before the next one is written, and that is said. At its bound the file is synced and becomes
//! `….1`, what was `….1` becomes `….2`, and the last one goes, as do those of a larger bound before. Only the owner may read them.

use std::ffi::OsString;
use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use crate::record::{Kind, Record};

/// A line is shorter, by far.
const MAX_LINE: u64 = 64 << 10;
/// For the owner only.
const MODE: u32 = 0o600;

/// How much there may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bounds {
    /// Bytes of a file.
    pub bytes: u64,
    /// Full files that are kept beside the one that is written.
    pub files: u32,
}

impl Bounds {
    /// Fewer bytes of a file would be all rotation.
    pub const LEAST_BYTES: u64 = 64 << 10;
    /// More files are not kept.
    pub const MOST_FILES: u32 = 99;
}

impl Default for Bounds {
    fn default() -> Self {
        Self { bytes: 8 << 20, files: 7 }
    }
}

/// The log in its files.
#[derive(Debug)]
pub struct Log {
    path: PathBuf,
    bounds: Bounds,
    file: Option<File>,
    /// Bytes that were cut off, and no line says so yet.
    cut: u64,
    /// Whether the folder may not know the file yet, on disk.
    is_new: bool,
}

/// The file that was the current one so many times ago.
pub(crate) fn earlier(path: &Path, times: u32) -> PathBuf {
    let mut name = OsString::from(path);
    name.push(format!(".{times}"));
    name.into()
}

impl Log {
    /// A log at this path; nothing is touched yet.
    pub fn new(path: &Path, bounds: Bounds) -> Self {
        Self { path: path.to_owned(), bounds, file: None, cut: 0, is_new: false }
    }

    /// Appends whole lines. They are in the page cache then: a kill does not lose them, a power cut may before [`Log::sync`].
    ///
    /// # Errors
    /// The disk takes none of them, or it is not known what it took: what is torn is cut off before the next line.
    pub fn append(&mut self, lines: &[u8]) -> io::Result<()> {
        loop {
            self.open()?;
            self.file.as_ref().map_or(Ok(()), File::lock)?;
            let written = self.write(lines);
            // One that stays is given back by the next line, or with the file.
            let _locked = self.file.as_ref().map(File::unlock);
            if written? {
                return Ok(());
            }
        }
    }

    /// Writes to the file that is open and locked; or does not, as there is another one in its place from now on.
    fn write(&mut self, lines: &[u8]) -> io::Result<bool> {
        let Some(mut file) = self.file.as_ref() else { return Ok(false) };
        if !is_at(file, &self.path)? {
            return Ok(false);
        }
        let end = end(file)?;
        if let End::Torn { whole, torn } = end {
            file.set_len(whole)?;
            self.cut = self.cut.saturating_add(torn);
        }
        let text = [end.line(), &self.told_cut(), lines].concat();
        let len = file.metadata()?.len();
        if len > 0 && len + text.len() as u64 > self.bounds.bytes {
            // Nobody syncs it once it has another name.
            file.sync_data()?;
            self.rotate()?;
            return Ok(false);
        }
        if let Err(error) = file.write_all(&text) {
            // If this fails as well, the next one finds it.
            let _torn = file.set_len(len);
            return Err(error);
        }
        self.cut = 0;
        Ok(true)
    }

    /// The record of what was cut off, if anything was.
    fn told_cut(&self) -> Vec<u8> {
        match self.cut {
            0 => Vec::new(),
            cut => Record { count: Some(cut), ..Record::new(Kind::Healed) }.line(),
        }
    }

    /// Has what was appended survive a power cut.
    ///
    /// # Errors
    /// The disk does not say that it has it.
    pub fn sync(&mut self) -> io::Result<()> {
        let Some(file) = &self.file else { return Ok(()) };
        file.sync_data()?;
        if self.is_new {
            File::open(folder(&self.path))?.sync_all()?;
            self.is_new = false;
        }
        Ok(())
    }

    /// Has the file at the path open.
    fn open(&mut self) -> io::Result<()> {
        if let Some(file) = &self.file {
            if is_at(file, &self.path)? {
                return Ok(());
            }
            // Somebody has moved it, with lines of ours that may not be on disk.
            let synced = file.sync_data();
            self.file = None;
            synced?;
        }
        let mut options = OpenOptions::new();
        let file = options.read(true).append(true).create(true).mode(MODE).open(&self.path)?;
        if file.metadata()?.permissions().mode() & 0o777 != MODE {
            file.set_permissions(Permissions::from_mode(MODE))?;
        }
        self.is_new = true;
        self.file = Some(file);
        Ok(())
    }

    fn rotate(&self) -> io::Result<()> {
        for times in self.bounds.files.saturating_add(1)..=Bounds::MOST_FILES {
            // Most are not there, and one that stays is no reason to write nothing.
            let _gone = fs::remove_file(earlier(&self.path, times));
        }
        for times in (1..self.bounds.files).rev() {
            moved(&earlier(&self.path, times), &earlier(&self.path, times + 1))?;
        }
        match self.bounds.files {
            0 => fs::remove_file(&self.path),
            _ => fs::rename(&self.path, earlier(&self.path, 1)),
        }
    }
}

fn moved(from: &Path, to: &Path) -> io::Result<()> {
    match fs::rename(from, to) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

fn is_at(file: &File, path: &Path) -> io::Result<bool> {
    let own = file.metadata()?;
    match fs::metadata(path) {
        Ok(there) => Ok((there.dev(), there.ino()) == (own.dev(), own.ino())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

/// The folder that a file is in.
fn folder(path: &Path) -> &Path {
    path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// How a file ends.
enum End {
    /// With a whole line, or it has none.
    Whole,
    /// So many bytes come after so many of whole lines.
    Torn { whole: u64, torn: u64 },
    /// With what is longer than any line: this is not ours to cut.
    Others,
}

impl End {
    /// What ends its last line.
    fn line(&self) -> &'static [u8] {
        if matches!(self, Self::Others) { b"\n" } else { b"" }
    }
}

fn end(mut file: &File) -> io::Result<End> {
    let len = file.metadata()?.len();
    let start = len.saturating_sub(MAX_LINE);
    let mut last = [b'\n'];
    if len > 0 {
        file.seek(SeekFrom::Start(len - 1))?;
        file.read_exact(&mut last)?;
    }
    if last == *b"\n" {
        return Ok(End::Whole);
    }
    file.seek(SeekFrom::Start(start))?;
    let mut tail = Vec::new();
    file.take(MAX_LINE).read_to_end(&mut tail)?;
    let whole = tail.iter().rposition(|byte| *byte == b'\n').map(|at| start + at as u64 + 1);
    let whole = whole.or((start == 0).then_some(0));
    Ok(whole.map_or(End::Others, |whole| End::Torn { whole, torn: len - whole }))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use tempfile::TempDir;

    use super::*;

    fn log(folder: &TempDir, bytes: u64, files: u32) -> Log {
        Log::new(&folder.path().join("log"), Bounds { bytes, files })
    }

    fn text(folder: &TempDir, name: &str) -> String {
        fs::read_to_string(folder.path().join(name)).unwrap()
    }

    #[test]
    fn it_is_for_its_owner_only() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("log"), "").unwrap();
        fs::set_permissions(folder.path().join("log"), Permissions::from_mode(0o644)).unwrap();
        log(&folder, 100, 1).append(b"{}\n").unwrap();
        let mode = fs::metadata(folder.path().join("log")).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, MODE);
    }

    #[test]
    fn at_its_bound_it_begins_anew_and_keeps_so_many() {
        let folder = tempfile::tempdir().unwrap();
        // Each by a process of its own, as far as the files can tell.
        (0..7).for_each(|number| log(&folder, 4, 2).append(format!("{number}\n").as_bytes()).unwrap());
        assert_eq!(
            [text(&folder, "log"), text(&folder, "log.1"), text(&folder, "log.2")],
            ["6\n", "4\n5\n", "2\n3\n"]
        );
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 3);
    }

    #[test]
    fn files_beyond_a_lowered_bound_go_when_it_begins_anew() {
        for (files, left) in [(0, vec!["log"]), (1, vec!["log", "log.1"]), (2, vec!["log", "log.1", "log.2"])]
        {
            let folder = tempfile::tempdir().unwrap();
            (0..9).for_each(|_| log(&folder, 2, 7).append(b"0\n").unwrap());
            fs::remove_file(folder.path().join("log.4")).unwrap();
            log(&folder, 2, files).append(b"1\n").unwrap();
            let names = fs::read_dir(folder.path()).unwrap();
            let mut names: Vec<_> = names.map(|entry| entry.unwrap().file_name()).collect();
            names.sort_unstable();
            assert_eq!(names, left);
            assert_eq!(text(&folder, "log"), "1\n");
        }
    }

    #[test]
    fn one_that_was_moved_away_is_not_written_any_more() {
        let folder = tempfile::tempdir().unwrap();
        let mut log = log(&folder, 100, 2);
        log.append(b"1\n").unwrap();
        fs::rename(folder.path().join("log"), folder.path().join("moved")).unwrap();
        log.append(b"2\n").unwrap();
        assert_eq!([text(&folder, "moved"), text(&folder, "log")], ["1\n", "2\n"]);
    }

    #[test]
    fn what_was_cut_off_is_told_in_the_file_that_comes_after() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("log"), format!("{}\ntorn", "x".repeat(90))).unwrap();
        let record = Record::new(Kind::Started);
        log(&folder, 100, 1).append(&record.clone().line()).unwrap();
        assert_eq!(text(&folder, "log.1").len(), 91);
        let read: Vec<Record> =
            text(&folder, "log").lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!((read[0].kind, read[0].count, &read[1]), (Kind::Healed, Some(4), &record));
    }

    /// A pipe takes lines and cannot be synced.
    #[test]
    fn one_that_was_moved_away_is_synced_first() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        let made = std::process::Command::new("mkfifo").args(["-m", "600"]).arg(&path).status();
        assert!(made.unwrap().success());
        let mut log = log(&folder, 100, 2);
        log.append(b"1\n").unwrap();
        fs::rename(&path, folder.path().join("moved")).unwrap();
        assert!(log.append(b"2\n").is_err(), "the first line may be lost");
        log.append(b"2\n").unwrap();
        log.sync().unwrap();
        assert_eq!(text(&folder, "log"), "2\n");
    }

    #[test]
    fn what_is_no_log_is_not_cut() {
        let folder = tempfile::tempdir().unwrap();
        let other = "x".repeat(2 * MAX_LINE as usize);
        fs::write(folder.path().join("log"), &other).unwrap();
        log(&folder, 1 << 20, 1).append(b"{}\n").unwrap();
        assert_eq!(text(&folder, "log"), format!("{other}\n{{}}\n"));
    }

    proptest! {
        /// Wherever a power cut ends the file, the lines before it stay, and what was written of the last one goes.
        #[test]
        fn a_torn_line_is_cut_off(cut in 0_usize..200, nul in 0_usize..20) {
            let folder = tempfile::tempdir().unwrap();
            let line = |number: u64| Record { time: number, ..Record::default() }.line();
            log(&folder, 1 << 20, 1).append(&[line(1), line(2), line(3)].concat()).unwrap();
            let path = folder.path().join("log");
            let whole = fs::read(&path).unwrap();
            let kept = cut.min(whole.len());
            fs::write(&path, [&whole[..kept], &vec![0; nul]].concat()).unwrap();
            log(&folder, 1 << 20, 1).append(&line(4)).unwrap();
            let read: Vec<Record> = text(&folder, "log").lines().map(|line| serde_json::from_str(line).unwrap()).collect();
            let before = whole[..kept].iter().filter(|byte| **byte == b'\n').count();
            let torn = kept + nul > 0 && (nul > 0 || whole[kept - 1] != b'\n');
            let times: Vec<u64> = read.iter().filter(|r| r.kind == Kind::Started).map(|r| r.time).collect();
            prop_assert_eq!(times, (1..=before as u64).chain([4]).collect::<Vec<_>>());
            prop_assert_eq!(read.iter().filter(|r| r.kind == Kind::Healed).count(), usize::from(torn));
        }
    }
}
