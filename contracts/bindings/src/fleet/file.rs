//! The fleet file: which devices there are, in index order.
//!
//! 8 bytes `PHFLEET1`, 1 byte curve (1 secp256k1, 2 P-256), 3 zero bytes, the number of keys as a
//! big-endian `u32`, then 33 bytes SEC1 compressed for each. The index of a key is its place.

use std::io::{self, Read, Seek, SeekFrom, Write};

use posthouse_protocol::id::{Curve, DeviceKey};

use super::FleetError;

/// The first bytes of a fleet file of this version.
pub const MAGIC: [u8; 8] = *b"PHFLEET1";
const HEADER: usize = 16;
/// Where the header has the number of keys.
const SIZE_AT: u64 = 12;

/// Reads a fleet file key by key, so that a million of them need no memory.
#[derive(Debug)]
pub struct FleetReader<R> {
    source: R,
    curve: Curve,
    size: u32,
    left: u32,
}

impl<R: Read> FleetReader<R> {
    /// Reads the header. Wrap files in a `BufReader`: keys are read one by one.
    ///
    /// # Errors
    /// [`FleetError::Magic`], [`FleetError::Curve`], [`FleetError::Empty`], [`FleetError::Io`].
    pub fn new(mut source: R) -> Result<Self, FleetError> {
        let mut header = [0; HEADER];
        source.read_exact(&mut header)?;
        if header[..8] != MAGIC || header[9..12] != [0; 3] {
            return Err(FleetError::Magic);
        }
        let curve = match header[8] {
            1 => Curve::Secp256k1,
            2 => Curve::P256,
            other => return Err(FleetError::Curve(other)),
        };
        let size = u32::from_be_bytes([header[12], header[13], header[14], header[15]]);
        if size == 0 {
            return Err(FleetError::Empty);
        }
        Ok(Self { source, curve, size, left: size })
    }

    /// Which keys they are.
    pub fn curve(&self) -> Curve {
        self.curve
    }

    /// How many keys the file says it has.
    pub fn size(&self) -> u32 {
        self.size
    }

    fn key(&mut self) -> Result<DeviceKey, FleetError> {
        let mut key = [0; DeviceKey::LEN];
        self.source.read_exact(&mut key)?;
        if self.left == 1 && self.source.read(&mut [0])? != 0 {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "bytes after the last key").into());
        }
        Ok(key.into())
    }
}

/// Keys in index order; ends after the first error. That they are points is checked where they are
/// hashed.
impl<R: Read> Iterator for FleetReader<R> {
    type Item = Result<DeviceKey, FleetError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.left == 0 {
            return None;
        }
        let key = self.key();
        self.left = if key.is_ok() { self.left - 1 } else { 0 };
        Some(key)
    }
}

/// Writes a fleet file key by key; how many there are need not be known before.
#[derive(Debug)]
pub struct FleetWriter<W> {
    sink: W,
    size: u32,
}

impl<W: Write + Seek> FleetWriter<W> {
    /// Begins at the sink's start. Wrap files in a `BufWriter`.
    ///
    /// # Errors
    /// [`FleetError::Io`].
    pub fn new(mut sink: W, curve: Curve) -> Result<Self, FleetError> {
        sink.write_all(&MAGIC)?;
        sink.write_all(&[curve as u8, 0, 0, 0, 0, 0, 0, 0])?;
        Ok(Self { sink, size: 0 })
    }

    /// Adds the device of the next index.
    ///
    /// # Errors
    /// [`FleetError::TooMany`], [`FleetError::Io`].
    pub fn push(&mut self, key: &DeviceKey) -> Result<(), FleetError> {
        self.size = self.size.checked_add(1).ok_or(FleetError::TooMany)?;
        Ok(self.sink.write_all(key.as_bytes())?)
    }

    /// Says in the header how many there are, and gives the sink back.
    ///
    /// # Errors
    /// [`FleetError::Empty`], [`FleetError::Io`].
    pub fn finish(mut self) -> Result<W, FleetError> {
        if self.size == 0 {
            return Err(FleetError::Empty);
        }
        self.sink.seek(SeekFrom::Start(SIZE_AT))?;
        self.sink.write_all(&self.size.to_be_bytes())?;
        self.sink.flush()?;
        Ok(self.sink)
    }
}

/// Bytes of the fleet file of so many devices.
pub fn file_len(size: u32) -> u64 {
    HEADER as u64 + DeviceKey::LEN as u64 * u64::from(size)
}
