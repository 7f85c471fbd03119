//! Flash, state and key of the simulated board, in files.

use std::convert::Infallible;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use posthouse_protocol::device::{Boot, Verified};
use posthouse_protocol::id::{Curve, DeviceKey, Digest, Signature, UpdateId};
use posthouse_protocol::key::SigningKey;
use sha2::{Digest as _, Sha256};

use crate::ports::{Flash, Key, Pages};

/// Two image slots: the file that runs, and beside it the spare one, which activation renames over
/// it. A rename is whole or not at all.
#[derive(Debug)]
pub(super) struct Slots {
    active: PathBuf,
    spare: PathBuf,
    file: File,
    capacity: u32,
    sync: bool,
}

impl Slots {
    /// `sync`: whether what is written is to outlast a power cut.
    pub(super) fn open(active: &Path, capacity: u32, sync: bool) -> io::Result<Self> {
        let mut spare = active.as_os_str().to_owned();
        spare.push(".spare");
        let spare = PathBuf::from(spare);
        fs::create_dir_all(parent(active))?;
        let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&spare)?;
        if sync {
            sync_folder(parent(active))?;
        }
        Ok(Self { active: active.to_owned(), spare, file, capacity, sync })
    }

    /// What a bootloader knows: the digest of what runs.
    pub(super) fn boot(&self) -> io::Result<Boot> {
        match File::open(&self.active) {
            Ok(file) => digest(file).map(Boot::Image),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Boot::Unknown),
            Err(error) => Err(error),
        }
    }
}

fn digest(mut file: File) -> io::Result<UpdateId> {
    let mut hash = Sha256::new();
    let mut chunk = vec![0; 64 << 10];
    loop {
        match file.read(&mut chunk)? {
            0 => return Ok(UpdateId::new(hash.finalize().into())),
            n => hash.update(&chunk[..n]),
        }
    }
}

impl Flash for Slots {
    type Error = io::Error;

    fn capacity(&self) -> u32 {
        self.capacity
    }

    fn write(&mut self, offset: u32, bytes: &[u8]) -> io::Result<()> {
        self.file.write_all_at(bytes, offset.into())
    }

    fn sync(&mut self) -> io::Result<()> {
        if self.sync { self.file.sync_data() } else { Ok(()) }
    }

    fn read(&mut self, offset: u32, bytes: &mut [u8]) -> io::Result<()> {
        // Flash has no end of file: what was never written reads as ones.
        bytes.fill(0xff);
        let mut done = 0;
        while done < bytes.len() {
            match self.file.read_at(&mut bytes[done..], u64::from(offset) + done as u64)? {
                0 => break,
                n => done += n,
            }
        }
        Ok(())
    }

    fn activate(&mut self, image: &Verified) -> io::Result<()> {
        self.file.set_len(image.size().into())?;
        if self.sync {
            self.file.sync_all()?;
        }
        fs::rename(&self.spare, &self.active)?;
        if self.sync { sync_folder(parent(&self.active)) } else { Ok(()) }
    }
}

/// Makes the names in a folder durable: a file whose bytes are synced may yet lose its name.
fn sync_folder(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}

fn parent(path: &Path) -> &Path {
    path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// The two pages of the state: `state.0` and `state.1`.
#[derive(Debug)]
pub(super) struct PageFiles {
    files: [File; 2],
    sync: bool,
}

impl PageFiles {
    /// `sync`: whether what is written is to outlast a power cut.
    pub(super) fn open(dir: &Path, sync: bool) -> io::Result<Self> {
        fs::create_dir_all(dir)?;
        let open = |name: &str| {
            OpenOptions::new().read(true).write(true).create(true).truncate(false).open(dir.join(name))
        };
        let files = [open("state.0")?, open("state.1")?];
        if sync {
            sync_folder(dir)?;
            sync_folder(parent(dir))?;
        }
        Ok(Self { files, sync })
    }

    fn page(&self, page: usize) -> io::Result<&File> {
        self.files.get(page).ok_or_else(|| io::ErrorKind::NotFound.into())
    }
}

impl Pages for PageFiles {
    type Error = io::Error;

    fn read(&mut self, page: usize, bytes: &mut [u8]) -> io::Result<()> {
        let read = self.page(page)?.read_at(bytes, 0)?;
        bytes[read..].fill(0xff);
        Ok(())
    }

    fn write(&mut self, page: usize, bytes: &[u8]) -> io::Result<()> {
        let file = self.page(page)?;
        file.write_all_at(bytes, 0)?;
        if self.sync { file.sync_data() } else { Ok(()) }
    }
}

/// A key in memory.
#[derive(Debug)]
pub(super) struct SoftKey(pub(super) SigningKey);

impl Key for SoftKey {
    type Error = Infallible;

    fn public(&self) -> DeviceKey {
        self.0.device_key()
    }

    fn curve(&self) -> Curve {
        self.0.curve()
    }

    fn sign(&mut self, digest: &Digest) -> Result<Signature, Infallible> {
        Ok(self.0.sign(digest))
    }
}
