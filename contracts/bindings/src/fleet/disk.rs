//! Files as this module uses them: read and written in place, there whole or not at all.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use sha2::{Digest as _, Sha256};

/// Bytes hashed at once.
const CHUNK: usize = 1 << 16;

/// A place in a file that moves on as it is read or written. Several may be in one file.
pub(super) struct At<'f> {
    file: &'f File,
    at: u64,
}

impl<'f> At<'f> {
    pub(super) fn new(file: &'f File, at: u64) -> Self {
        Self { file, at }
    }
}

impl Read for At<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let got = self.file.read_at(buffer, self.at)?;
        self.at += got as u64;
        Ok(got)
    }
}

impl Write for At<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let put = self.file.write_at(bytes, self.at)?;
        self.at += put as u64;
        Ok(put)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Hashes what is read through it.
pub(super) struct Hashed<R> {
    source: R,
    hash: Sha256,
}

impl<R: Read> Hashed<R> {
    pub(super) fn new(source: R) -> Self {
        Self { source, hash: Sha256::new() }
    }

    /// SHA-256 of all that was read.
    pub(super) fn digest(self) -> [u8; 32] {
        self.hash.finalize().into()
    }
}

impl<R: Read> Read for Hashed<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let got = self.source.read(buffer)?;
        self.hash.update(&buffer[..got]);
        Ok(got)
    }
}

/// SHA-256 of `source` to its end.
pub(super) fn sha256(source: impl Read) -> io::Result<[u8; 32]> {
    let mut source = Hashed::new(source);
    let mut buffer = vec![0; CHUNK];
    while source.read(&mut buffer)? > 0 {}
    Ok(source.digest())
}

/// A file that is not yet what it is to be; gone with this, unless it was put in its place. What a
/// killed process leaves is overwritten by the next one.
pub(super) struct Part {
    pub(super) path: PathBuf,
    place: PathBuf,
}

impl Part {
    /// Beside the place where it is to be.
    pub(super) fn of(place: &Path) -> Self {
        Self { path: beside(place, ".part"), place: place.into() }
    }

    pub(super) fn create(&self) -> io::Result<File> {
        File::options().read(true).write(true).create(true).truncate(true).open(&self.path)
    }

    /// Puts it in its place, on disk for good. The file must have been synced.
    pub(super) fn place(self) -> io::Result<()> {
        fs::rename(&self.path, &self.place)?;
        sync_folder(&self.place)
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        // Gone already where it is in its place.
        let _ = fs::remove_file(&self.path);
    }
}

/// Makes the file at `from` be at `to` as well: linked, or copied where links are not to be had.
pub(super) fn share(from: &Path, to: &Path) -> io::Result<()> {
    match fs::remove_file(to) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    match fs::hard_link(from, to) {
        Ok(()) => sync_folder(to),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Err(error),
        Err(_) => {
            let part = Part::of(to);
            let mut copy = part.create()?;
            io::copy(&mut File::open(from)?, &mut copy)?;
            copy.sync_all()?;
            part.place()
        }
    }
}

/// What was made or renamed at `path` is there for good when its folder is.
fn sync_folder(path: &Path) -> io::Result<()> {
    match std::path::absolute(path)?.parent() {
        Some(folder) => File::open(folder)?.sync_all(),
        None => Ok(()),
    }
}

/// The path with `end` added to its name.
pub(super) fn beside(path: &Path, end: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(end);
    name.into()
}
