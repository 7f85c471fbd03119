//! Keys in files that nobody but their owner may read: the device's, 64 hex digits, and one that is shared with the gateway.

use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::ops::RangeInclusive;
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
/// Hex digits of a key that is shared, as the gateway takes it.
const PSK_DIGITS: RangeInclusive<usize> = 32..=128;

/// Why there is no key.
#[derive(Debug, Error)]
pub(super) enum KeyFileError {
    #[error("{0}")]
    Io(#[from] io::Error),
    #[error("mode {0:o}, but only the owner may read a key (chmod 600)")]
    Mode(u32),
    #[error("not 64 hex digits")]
    Digits,
    #[error("not 32 to 128 hex digits")]
    PskDigits,
    #[error("{0}")]
    Key(#[from] KeyError),
    #[error("the system gives no randomness")]
    Randomness,
}

/// Reads a key.
pub(super) fn read(path: &Path, curve: Curve) -> Result<SigningKey, KeyFileError> {
    let text = secret(path, MAX_LEN)?;
    let scalar = Zeroizing::new(digits(text.trim()).ok_or(KeyFileError::Digits)?);
    Ok(SigningKey::from_bytes(curve, &scalar)?)
}

/// Reads a key that is shared with the gateway.
pub(super) fn read_psk(path: &Path) -> Result<Zeroizing<Vec<u8>>, KeyFileError> {
    // One byte more than a line of them: a longer file is none.
    let text = secret(path, *PSK_DIGITS.end() as u64 + 2)?;
    let digits = text.trim().as_bytes();
    if !PSK_DIGITS.contains(&digits.len()) || digits.len() % 2 != 0 {
        return Err(KeyFileError::PskDigits);
    }
    let mut key = Zeroizing::new(Vec::with_capacity(digits.len() / 2));
    for pair in digits.chunks_exact(2) {
        key.push(byte(pair).ok_or(KeyFileError::PskDigits)?);
    }
    Ok(key)
}

/// What a file has that only its owner may read, up to a length.
fn secret(path: &Path, len: u64) -> Result<Zeroizing<String>, KeyFileError> {
    let file = File::open(path)?;
    let mode = file.metadata()?.permissions().mode() & 0o777;
    if mode & 0o077 != 0 {
        return Err(KeyFileError::Mode(mode));
    }
    // All of it at once: a text that grows leaves copies behind.
    let mut text = Zeroizing::new(String::with_capacity(len as usize));
    file.take(len).read_to_string(&mut text)?;
    Ok(text)
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
        *byte = self::byte(pair)?;
    }
    Some(scalar)
}

fn byte(pair: &[u8]) -> Option<u8> {
    Some((nibble(*pair.first()?)? << 4) | nibble(*pair.get(1)?)?)
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
    fn a_shared_key_is_as_long_as_the_gateway_takes_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("psk");
        let write = |text: &str, mode| {
            std::fs::write(&path, text).unwrap();
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
        };
        for bytes in [16, 32, 64] {
            write(&format!("{}\n", "a5".repeat(bytes)), 0o600);
            assert_eq!(**read_psk(&path).unwrap(), vec![0xa5; bytes]);
        }
        for text in ["", "a5", &"a5".repeat(15), &"a5".repeat(65), &"a".repeat(33), &"xx".repeat(16)] {
            write(text, 0o600);
            let error = read_psk(&path).unwrap_err().to_string();
            assert_eq!(error, "not 32 to 128 hex digits", "{text}");
        }
        write(&"a5".repeat(16), 0o604);
        assert!(matches!(read_psk(&path), Err(KeyFileError::Mode(0o604))));
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
