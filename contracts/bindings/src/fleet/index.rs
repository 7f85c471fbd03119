//! The index file of a fleet: keys in their order with their places, and the tree.
//!
//! | bytes | are |
//! |---|---|
//! | 8 | `PHINDEX1` |
//! | 4 | curve (1 secp256k1, 2 P-256), three zero bytes |
//! | 4 | n, the number of devices, big-endian like all numbers here |
//! | 32 | SHA-256 of the fleet file |
//! | 32 | root of the tree |
//! | 37 n | keys in ascending order, each with its index |
//! | | the tree: levels from the leaves to the root, without the empty places at their ends |
//! | 32 | SHA-256 of all before |
//!
//! An index counts only if it is exactly as long as n says, its last bytes are the digest of all before
//! and it names the fleet file that lies beside it. Whatever else is found there is made again.

use std::fs::File;
use std::io::{self, ErrorKind, Read as _};
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use posthouse_protocol::id::{Curve, DeviceKey, FleetRoot};

use super::disk::{At, sha256};
use super::tree::tree_len;

const MAGIC: [u8; 8] = *b"PHINDEX1";
const HEADER: usize = 80;
const CHECKSUM: u64 = 32;

/// Bytes of a key with its index.
pub(super) const ENTRY: usize = DeviceKey::LEN + 4;
/// A key with its index: entries are ordered as their bytes are.
pub(super) type Entry = [u8; ENTRY];

pub(super) fn entry(key: &DeviceKey, index: u32) -> Entry {
    let mut entry = [0; ENTRY];
    entry[..DeviceKey::LEN].copy_from_slice(key.as_bytes());
    entry[DeviceKey::LEN..].copy_from_slice(&index.to_be_bytes());
    entry
}

pub(super) fn key_of(entry: &Entry) -> &[u8] {
    &entry[..DeviceKey::LEN]
}

pub(super) fn index_of(entry: &Entry) -> u32 {
    let [.., a, b, c, d] = *entry;
    u32::from_be_bytes([a, b, c, d])
}

/// What an index is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) curve: Curve,
    /// At least one.
    pub(super) size: u32,
    /// SHA-256 of the fleet file.
    pub(super) file: [u8; 32],
    pub(super) root: FleetRoot,
}

impl Header {
    fn encode(&self) -> [u8; HEADER] {
        let mut bytes = [0; HEADER];
        bytes[..8].copy_from_slice(&MAGIC);
        bytes[8] = self.curve as u8;
        bytes[12..16].copy_from_slice(&self.size.to_be_bytes());
        bytes[16..48].copy_from_slice(&self.file);
        bytes[48..].copy_from_slice(self.root.as_bytes());
        bytes
    }

    /// Reads the index at `path`, if that is a whole one of this fleet file.
    pub(super) fn read(
        path: &Path,
        curve: Curve,
        size: u32,
        file: [u8; 32],
    ) -> io::Result<Option<(File, Self)>> {
        match whole(path, size) {
            Ok(Some((index, root))) => {
                let header = Self { curve, size, file, root };
                let mut found = [0; HEADER];
                index.read_exact_at(&mut found, 0)?;
                Ok((found == header.encode()).then_some((index, header)))
            }
            Ok(None) => Ok(None),
            Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::UnexpectedEof) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Writes what closes an index: the header, the length, the digest of all. On disk when it returns.
    pub(super) fn seal(&self, index: &File) -> io::Result<()> {
        index.write_all_at(&self.encode(), 0)?;
        index.set_len(length(self.size))?;
        index.write_all_at(&checksum(index, self.size)?, length(self.size) - CHECKSUM)?;
        index.sync_all()
    }
}

/// The file, if it is as long as it must be and undamaged, and the root that it names.
fn whole(path: &Path, size: u32) -> io::Result<Option<(File, FleetRoot)>> {
    let index = File::open(path)?;
    if index.metadata()?.len() != length(size) {
        return Ok(None);
    }
    let (mut found, mut root) = ([0; 32], [0; 32]);
    index.read_exact_at(&mut found, length(size) - CHECKSUM)?;
    index.read_exact_at(&mut root, 48)?;
    let whole = found == checksum(&index, size)?;
    Ok(whole.then(|| (index, FleetRoot::new(root))))
}

fn checksum(index: &File, size: u32) -> io::Result<[u8; 32]> {
    sha256(At::new(index, 0).take(length(size) - CHECKSUM))
}

/// Where the entry of this rank is.
pub(super) fn entry_at(rank: u32) -> u64 {
    HEADER as u64 + ENTRY as u64 * u64::from(rank)
}

/// Where the leaves begin.
pub(super) fn tree_at(size: u32) -> u64 {
    entry_at(size)
}

/// Bytes of the whole file.
pub(super) fn length(size: u32) -> u64 {
    tree_at(size) + tree_len(size) + CHECKSUM
}
