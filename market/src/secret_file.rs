//! Private keys in files: 32 bytes as hex, readable by their owner alone.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use thiserror::Error;
use zeroize::Zeroizing;

/// Permission bits that a key file must not have: anything for group and others.
const OTHERS: u32 = 0o077;
/// The same for a credential that systemd hands over: where it gives the service's user the right to read by an access control list, the
/// list's mask stands in the place of the group.
const OTHERS_OF_CREDENTIAL: u32 = 0o037;
const ROOT: u32 = 0;
/// Longest key file: 64 digits, `0x`, and the end of the line.
const MAX_LEN: u64 = 80;

/// Why a key file is refused.
#[derive(Debug, Error)]
pub enum SecretFileError {
    /// It is not there, or cannot be read or written.
    #[error("{path}: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Others than its owner may read it, so it may be known already.
    #[error("{path}: mode {mode:04o} lets others read the key, it must be 0600")]
    Mode {
        /// The file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// Not 64 hex digits.
    #[error("{path}: not a key of 32 bytes as 64 hex digits")]
    Malformed {
        /// The file.
        path: PathBuf,
    },
}

/// Reads a key.
///
/// # Errors
/// [`SecretFileError`]; the content is never in it.
pub fn read(path: &Path) -> Result<Zeroizing<[u8; 32]>, SecretFileError> {
    let io = |source| SecretFileError::Io { path: path.into(), source };
    let file = File::open(path).map_err(io)?;
    let mode = file.metadata().map_err(io)?.permissions().mode() & 0o7777;
    let credentials = std::env::var_os("CREDENTIALS_DIRECTORY");
    let credential = credentials.is_some_and(|folder| path.parent() == Some(Path::new(&folder)));
    if mode & if credential { OTHERS_OF_CREDENTIAL } else { OTHERS } != 0 {
        return Err(SecretFileError::Mode { path: path.into(), mode });
    }
    let mut text = Zeroizing::new(String::with_capacity(MAX_LEN as usize));
    file.take(MAX_LEN).read_to_string(&mut text).map_err(io)?;
    let digits = text.trim();
    let mut key = Zeroizing::new([0; 32]);
    hex::decode_to_slice(digits.strip_prefix("0x").unwrap_or(digits), key.as_mut_slice())
        .map_err(|_| SecretFileError::Malformed { path: path.into() })?;
    Ok(key)
}

/// Writes a new key; one that is there is never written over.
///
/// # Errors
/// [`SecretFileError::Io`].
pub fn create(path: &Path, key: &[u8; 32]) -> Result<(), SecretFileError> {
    let write = || {
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
        let mut line = Zeroizing::new([0; 65]);
        hex::encode_to_slice(key, &mut line[..64]).expect("64 digits for 32 bytes");
        line[64] = b'\n';
        file.write_all(line.as_slice())?;
        file.sync_all()
    };
    write().map_err(|source| SecretFileError::Io { path: path.into(), source })
}

/// Makes a folder, and those above it that are not there, which only their owner may enter.
///
/// # Errors
/// What the system said; and where root would leave files in a service's folder which that could not read then.
pub fn create_folder(path: &Path) -> io::Result<()> {
    if let Some(owner) = owner_above(path)?
        && owner != ROOT
        && std::fs::metadata("/proc/self")?.uid() == ROOT
    {
        let why = format!("{} belongs to user {owner}: run this as that user, not as root", path.display());
        return Err(io::Error::new(io::ErrorKind::PermissionDenied, why));
    }
    if path.is_dir() {
        return Ok(());
    }
    DirBuilder::new().recursive(true).mode(0o700).create(path)
}

/// Who owns a folder, or where it is not there yet the nearest above it that is.
fn owner_above(path: &Path) -> io::Result<Option<u32>> {
    for folder in path.ancestors().filter(|folder| !folder.as_os_str().is_empty()) {
        match std::fs::metadata(folder) {
            Err(why) if why.kind() == io::ErrorKind::NotFound => {}
            found => return Ok(Some(found?.uid())),
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use std::fs::Permissions;

    use super::*;

    #[test]
    fn folders_that_are_made_are_their_owners_alone() {
        let folder = tempfile::tempdir().unwrap();
        create_folder(&folder.path().join("state/keys")).unwrap();
        for made in ["state", "state/keys"] {
            let mode = std::fs::metadata(folder.path().join(made)).unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o700, "{made}");
        }
    }

    #[test]
    fn root_leaves_nothing_in_the_folder_of_another() {
        let folder = tempfile::tempdir().unwrap();
        let below = folder.path().join("keys/new");
        create_folder(&below).unwrap();
        // Only root can give a folder away, and only root is refused.
        if std::os::unix::fs::chown(folder.path().join("keys"), Some(12_345), None).is_err() {
            return;
        }
        create_folder(&below).unwrap();
        let refused = create_folder(&folder.path().join("keys/other")).unwrap_err().to_string();
        assert!(refused.contains("keys/other belongs to user 12345"), "{refused}");
    }

    #[test]
    fn a_key_is_read_back_and_never_written_over() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.key");
        create(&path, &[7; 32]).unwrap();
        assert_eq!(*read(&path).unwrap(), [7; 32]);
        assert!(matches!(create(&path, &[8; 32]), Err(SecretFileError::Io { .. })));
        assert_eq!(*read(&path).unwrap(), [7; 32]);
    }

    #[test]
    fn a_key_that_others_may_read_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.key");
        create(&path, &[7; 32]).unwrap();
        for mode in [0o640, 0o604, 0o660, 0o601] {
            std::fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
            let refused = read(&path);
            assert!(matches!(refused, Err(SecretFileError::Mode { mode: m, .. }) if m == mode));
        }
    }

    #[test]
    fn what_is_no_key_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.key");
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path).unwrap();
        file.write_all(&b"0".repeat(63)).unwrap();
        assert!(matches!(read(&path), Err(SecretFileError::Malformed { .. })));
    }
}
