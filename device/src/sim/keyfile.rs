//! The device key in a file that nobody but its owner may read: 64 hex digits.

use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::Path;

use posthouse_protocol::id::Curve;
use posthouse_protocol::key::{KeyError, SigningKey};
use rand::TryRngCore as _;
use rand::rngs::OsRng;
use thiserror::Error;
use zeroize::Zeroizing;

/// Longest file that can be a key: digits, prefix, line end.
const MAX_LEN: u64 = 70;

/// Why there is no key.
#[derive(Debug, Error)]
pub(super) enum KeyFileError {
    #[error("{0}")]
    Io(#[from] io::Error),
    #[error("mode {0:o}, but only the owner may read a key (chmod 600)")]
    Mode(u32),
    #[error("not 64 hex digits")]
    Digits,
    #[error("{0}")]
    Key(#[from] KeyError),
    #[error("the system gives no randomness")]
    Randomness,
}

/// Reads a key.
pub(super) fn read(path: &Path, curve: Curve) -> Result<SigningKey, KeyFileError> {
    let file = File::open(path)?;
    let mode = file.metadata()?.permissions().mode() & 0o777;
    if mode & 0o077 != 0 {
        return Err(KeyFileError::Mode(mode));
    }
    let mut text = Zeroizing::new(String::new());
    file.take(MAX_LEN).read_to_string(&mut text)?;
    let scalar = Zeroizing::new(digits(text.trim()).ok_or(KeyFileError::Digits)?);
    Ok(SigningKey::from_bytes(curve, &scalar)?)
}

/// Makes a key in a new file.
pub(super) fn create(path: &Path, curve: Curve) -> Result<SigningKey, KeyFileError> {
    let mut working = true;
    let fill = |bytes: &mut [u8; 32]| working &= OsRng.try_fill_bytes(bytes).is_ok();
    let key = SigningKey::generate(curve, fill)?;
    if !working {
        return Err(KeyFileError::Randomness);
    }
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    let scalar = Zeroizing::new(key.to_bytes());
    for byte in scalar.iter() {
        write!(file, "{byte:02x}")?;
    }
    writeln!(file)?;
    file.sync_all()?;
    Ok(key)
}

fn digits(text: &str) -> Option<[u8; 32]> {
    let digits = text.strip_prefix("0x").unwrap_or(text).as_bytes();
    let mut scalar = [0; 32];
    if digits.len() != 64 {
        return None;
    }
    for (byte, pair) in scalar.iter_mut().zip(digits.chunks_exact(2)) {
        *byte = (nibble(pair[0])? << 4) | nibble(pair[1])?;
    }
    Some(scalar)
}

fn nibble(digit: u8) -> Option<u8> {
    char::from(digit).to_digit(16).and_then(|value| u8::try_from(value).ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_comes_back_from_its_file_and_no_file_is_overwritten() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("key");
        let key = create(&path, Curve::P256).unwrap();
        assert_eq!(read(&path, Curve::P256).unwrap().device_key(), key.device_key());
        assert!(matches!(create(&path, Curve::P256), Err(KeyFileError::Io(_))));
    }

    #[test]
    fn a_file_that_others_read_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("key");
        create(&path, Curve::P256).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o640)).unwrap();
        assert!(matches!(read(&path, Curve::P256), Err(KeyFileError::Mode(0o640))));
    }

    #[test]
    fn rubbish_is_no_key() {
        let dir = tempfile::tempdir().unwrap();
        let zero = "0".repeat(64);
        for text in ["", "zz", zero.as_str(), "é"] {
            let path = dir.path().join("key");
            std::fs::write(&path, text).unwrap();
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
            assert!(read(&path, Curve::P256).is_err(), "{text}");
        }
    }
}
