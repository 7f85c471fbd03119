//! Reading a slot back, to hash what flash really holds.

use sha2::{Digest as _, Sha256};

/// Bytes asked from flash at a time.
const CHUNK: u32 = 1024;

/// A hash over the slot's first `end` bytes, `at` of which have been read.
#[derive(Debug, Clone)]
pub(super) struct Hashing {
    at: u32,
    end: u32,
    hash: Sha256,
}

impl Hashing {
    pub(super) fn new(end: u32) -> Self {
        Self { at: 0, end, hash: Sha256::new() }
    }

    /// Offset and length of the next read; nothing at the end.
    pub(super) fn wants(&self) -> Option<(u32, u32)> {
        let left = self.end - self.at;
        (left > 0).then_some((self.at, left.min(CHUNK)))
    }

    /// Takes the bytes that [`Hashing::wants`] named, or as many of the first as were read.
    pub(super) fn read(&mut self, bytes: &[u8]) {
        let (Some((_, want)), Ok(len)) = (self.wants(), u32::try_from(bytes.len())) else { return };
        if len <= want {
            self.hash.update(bytes);
            self.at += len;
        }
    }

    /// The hash, once all has been read.
    pub(super) fn done(&self) -> Option<Sha256> {
        (self.at == self.end).then(|| self.hash.clone())
    }
}
