//! Pre-shared keys, each bound to the one device that may speak under it.
//!
//! A file has a line `<identity> <device> <key>` for each: the identity as the sensor sends it, without white space; the
//! device's id and the key in hex, 16 to 64 bytes. Lines that are empty or begin with `#` are skipped. A directory stands for
//! all files in it. Nothing of it may be open to group or others.

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::fs::{self, File};
use std::io::{self, Read as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use dimpl::PskResolver;
use posthouse_protocol::id::DeviceId;
use thiserror::Error;
use zeroize::Zeroizing;

/// Keys of one gateway.
const MAX_KEYS: usize = 65_536;
/// Bytes of one file: as many keys of the longest kind.
const MAX_FILE: u64 = 24 << 20;
/// Bytes of an identity (RFC 4279 §5.3 wants 128 at least).
const MAX_IDENTITY: usize = 128;

/// What of the keys cannot be used. It never quotes a key.
#[derive(Debug, Error)]
pub enum KeyFileError {
    /// It cannot be read.
    #[error("{0}: {1}")]
    Io(PathBuf, io::Error),
    /// It is open to others.
    #[error("{0}: mode {1:o}, but only the owner may read keys (chmod 600; a directory 700)")]
    Mode(PathBuf, u32),
    /// It is longer than any that has as many keys as may be.
    #[error("{0}: longer than {MAX_FILE} bytes, or more than {MAX_KEYS} keys")]
    TooLong(PathBuf),
    /// A line is none.
    #[error("{0}:{1}: not `<identity> <device, 32 hex digits> <key, 32 to 128 hex digits>`")]
    Line(PathBuf, usize),
    /// One identity, two keys.
    #[error("{0}:{1}: this identity is there already")]
    Twice(PathBuf, usize),
    /// Nobody could speak. A file that was cut off, or is being written, must not lock out a whole site at a reload; and where no
    /// sensor has a key yet the endpoint is of no use.
    #[error("{0}: no key in it; leave sensors.coap.dtls out as long as no sensor has one")]
    Empty(PathBuf),
}

struct Key {
    device: DeviceId,
    secret: Zeroizing<Vec<u8>>,
}

/// The keys of a gateway.
#[derive(Default)]
pub struct Keys(HashMap<Vec<u8>, Key>);

/// How many there are, and nothing of them.
impl fmt::Debug for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} keys", self.0.len())
    }
}

impl Clone for Keys {
    fn clone(&self) -> Self {
        let key = |key: &Key| Key { device: key.device, secret: key.secret.clone() };
        Self(self.0.iter().map(|(identity, theirs)| (identity.clone(), key(theirs))).collect())
    }
}

impl Keys {
    /// Reads a file, or all files of a directory; at least one key.
    ///
    /// # Errors
    /// [`KeyFileError`].
    pub fn load(path: &Path) -> Result<Self, KeyFileError> {
        let failed = |error| KeyFileError::Io(path.to_owned(), error);
        let mut keys = Self::default();
        let metadata = fs::metadata(path).map_err(failed)?;
        if metadata.is_dir() {
            private(path, &metadata)?;
            for entry in fs::read_dir(path).map_err(failed)? {
                let file = entry.map_err(failed)?.path();
                if file.is_file() {
                    keys.read(&file)?;
                }
            }
        } else {
            keys.read(path)?;
        }
        if keys.0.is_empty() { Err(KeyFileError::Empty(path.to_owned())) } else { Ok(keys) }
    }

    fn read(&mut self, path: &Path) -> Result<(), KeyFileError> {
        let failed = |error| KeyFileError::Io(path.to_owned(), error);
        let file = File::open(path).map_err(failed)?;
        let metadata = file.metadata().map_err(failed)?;
        private(path, &metadata)?;
        if metadata.len() > MAX_FILE {
            return Err(KeyFileError::TooLong(path.to_owned()));
        }
        let mut text = Zeroizing::new(String::new());
        file.take(MAX_FILE).read_to_string(&mut text).map_err(failed)?;
        for (at, line) in text.lines().enumerate() {
            let line = line.trim();
            if !line.is_empty() && !line.starts_with('#') {
                let (identity, key) =
                    parse(line).ok_or_else(|| KeyFileError::Line(path.to_owned(), at + 1))?;
                if self.0.insert(identity, key).is_some() {
                    return Err(KeyFileError::Twice(path.to_owned(), at + 1));
                }
            }
            if self.0.len() > MAX_KEYS {
                return Err(KeyFileError::TooLong(path.to_owned()));
            }
        }
        Ok(())
    }

    /// Takes one out.
    #[cfg(test)]
    pub(super) fn remove(&mut self, identity: &str) {
        self.0.remove(identity.as_bytes());
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Devices that have a key here which is gone from, or another in, the newer ones.
    fn withdrawn(&self, newer: &Self) -> HashSet<DeviceId> {
        let same = |identity: &Vec<u8>, key: &Key| {
            newer.0.get(identity).is_some_and(|new| new.device == key.device && new.secret == key.secret)
        };
        self.0.iter().filter(|(identity, key)| !same(identity, key)).map(|(_, key)| key.device).collect()
    }

    /// Whether there is none, so that nobody can speak.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

fn private(path: &Path, metadata: &fs::Metadata) -> Result<(), KeyFileError> {
    let mode = metadata.permissions().mode() & 0o777;
    if mode & 0o077 == 0 { Ok(()) } else { Err(KeyFileError::Mode(path.to_owned(), mode)) }
}

fn parse(line: &str) -> Option<(Vec<u8>, Key)> {
    let mut words = line.split_whitespace();
    let (identity, device, digits) = (words.next()?, words.next()?.parse().ok()?, words.next()?);
    let fits = words.next().is_none() && identity.len() <= MAX_IDENTITY && (32..=128).contains(&digits.len());
    let secret = Zeroizing::new(hex::decode(digits).ok().filter(|_| fits)?);
    Some((identity.as_bytes().to_vec(), Key { device, secret }))
}

/// What a peer says it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Asked {
    /// As it came, of which no more is kept than a line can have.
    pub(super) identity: Vec<u8>,
    /// The device of that identity's key, if it has one.
    pub(super) device: Option<DeviceId>,
}

/// The keys as dimpl asks for them, and what it asked for last.
pub(super) struct Ring {
    keys: Mutex<Keys>,
    asked: Mutex<Option<Asked>>,
}

impl Ring {
    pub(super) fn new(keys: Keys) -> Arc<Self> {
        Arc::new(Self { keys: Mutex::new(keys), asked: Mutex::new(None) })
    }

    /// Has other keys from now on. The devices of which one was withdrawn.
    pub(super) fn replace(&self, keys: Keys) -> HashSet<DeviceId> {
        let mut held = self.keys.lock().unwrap_or_else(PoisonError::into_inner);
        let withdrawn = held.withdrawn(&keys);
        *held = keys;
        withdrawn
    }

    /// What was asked for since the last call.
    pub(super) fn asked(&self) -> Option<Asked> {
        self.asked.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

impl PskResolver for Ring {
    fn resolve(&self, identity: &[u8]) -> Option<Vec<u8>> {
        let keys = self.keys.lock().unwrap_or_else(PoisonError::into_inner);
        let key = keys.0.get(identity);
        let kept = identity[..identity.len().min(MAX_IDENTITY)].to_vec();
        let asked = Asked { identity: kept, device: key.map(|key| key.device) };
        *self.asked.lock().unwrap_or_else(PoisonError::into_inner) = Some(asked);
        key.map(|key| key.secret.to_vec())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DEVICE: &str = "000102030405060708090a0b0c0d0e0f";

    fn file(dir: &Path, name: &str, mode: u32, text: &str) -> PathBuf {
        let path = dir.join(name);
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        path
    }

    #[test]
    fn a_file_and_a_directory_of_keys_are_read() {
        let dir = tempfile::tempdir().unwrap();
        let secret = "ab".repeat(16);
        let path = file(dir.path(), "a", 0o600, &format!("# comment\n\nsensor-1 {DEVICE} {secret}\n"));
        file(dir.path(), "b", 0o400, &format!("sensor-2\t{DEVICE}\t{secret}"));
        let keys = Keys::load(&path).unwrap();
        assert_eq!(keys.len(), 1);
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o700)).unwrap();
        let ring = Ring::new(Keys::load(dir.path()).unwrap());
        assert_eq!(ring.resolve(b"sensor-2").unwrap(), [0xab; 16]);
        assert_eq!(ring.asked().unwrap().device.unwrap().to_string(), DEVICE);
        assert_eq!(ring.asked(), None);
        assert!(ring.resolve(&[b'x'; 1000]).is_none());
        assert_eq!(ring.asked(), Some(Asked { identity: vec![b'x'; MAX_IDENTITY], device: None }));
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
        assert!(matches!(Keys::load(dir.path()), Err(KeyFileError::Mode(_, 0o755))));
    }

    #[test]
    fn what_is_wrong_is_named_by_its_line_and_no_key_is_ever_shown() {
        let dir = tempfile::tempdir().unwrap();
        let secret = "5ec2e7".repeat(8);
        let good = format!("a {DEVICE} {secret}");
        for (text, place) in [
            (format!("{good}\n{good}"), ":2: this identity"),
            (format!("a {DEVICE}"), ":1: not"),
            (format!("a {DEVICE} {}", &secret[..30]), ":1: not"),
            (format!("\na {DEVICE} {secret} more"), ":2: not"),
            (format!("a 00 {secret}"), ":1: not"),
            (format!("{} {DEVICE} {secret}", "i".repeat(129)), ":1: not"),
            (format!("a {DEVICE} {}", "5ec2e7".repeat(30)), ":1: not"),
        ] {
            let error = Keys::load(&file(dir.path(), "k", 0o600, &text)).unwrap_err().to_string();
            assert!(error.contains(place) && !error.contains("5ec2e7"), "{error}");
        }
        let keys = Keys::load(&file(dir.path(), "k", 0o600, &good)).unwrap();
        assert!(!format!("{keys:?}").contains("5ec2"));
        for mode in [0o640, 0o604] {
            let path = file(dir.path(), "k", mode, &good);
            assert!(matches!(Keys::load(&path), Err(KeyFileError::Mode(..))));
        }
        assert!(matches!(Keys::load(&dir.path().join("none")), Err(KeyFileError::Io(..))));
    }

    #[test]
    fn keys_that_are_none_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o700)).unwrap();
        assert!(matches!(Keys::load(dir.path()), Err(KeyFileError::Empty(path)) if path == dir.path()));
        for text in ["", "\n", "# nobody yet\n"] {
            let path = file(dir.path(), "empty", 0o600, text);
            assert!(
                matches!(Keys::load(&path), Err(KeyFileError::Empty(named)) if named == path),
                "{text:?}"
            );
        }
        // One file of a directory may have none.
        file(dir.path(), "one", 0o600, &format!("a {DEVICE} {}", "ab".repeat(16)));
        assert_eq!(Keys::load(dir.path()).unwrap().len(), 1);
    }
}
