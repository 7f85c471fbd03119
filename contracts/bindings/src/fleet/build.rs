//! Making an index from a fleet file, once, in memory that does not grow with the fleet.

use std::fs::File;
use std::io::{BufReader, BufWriter, Read, Write as _};
use std::num::NonZero;
use std::path::Path;
use std::thread;

use alloy::primitives::B256;
use posthouse_protocol::id::{Curve, DeviceKey};

use super::disk::{At, Hashed};
use super::index::{self, Entry, Header, entry, entry_at, key_of, length, tree_at};
use super::sort::Sorter;
use super::tree::raise;
use super::{FleetError, FleetReader, leaf};

/// Keys hashed between two reports. To decompress one takes some 15 µs.
const BATCH: usize = 8192;
/// Fewer keys are not worth another thread.
const SHARE: usize = 256;

/// Writes the index of the fleet file `keys` to `index`, sealed; what is sorted lies behind its end meanwhile.
/// `progress` is told how many devices are hashed, of how many.
///
/// # Errors
/// [`FleetError::Key`], [`FleetError::Duplicate`], those of [`FleetReader`], [`FleetError::Io`].
pub(super) fn build(
    keys: &Path,
    index: &File,
    progress: &mut dyn FnMut(u32, u32),
) -> Result<Header, FleetError> {
    let mut source = Hashed::new(BufReader::new(File::open(keys)?));
    let mut reader = FleetReader::new(&mut source)?;
    let (curve, size) = (reader.curve(), reader.size());
    let sorter = leaves(&mut reader, index, progress)?;
    let file = source.digest();
    table(sorter, index)?;
    let root = raise(index, tree_at(size), size)?;
    let header = Header { curve, size, file, root };
    header.seal(index)?;
    Ok(header)
}

/// Writes the leaves, and takes the keys in for sorting.
fn leaves<'f>(
    reader: &mut FleetReader<impl Read>,
    index: &'f File,
    progress: &mut dyn FnMut(u32, u32),
) -> Result<Sorter<'f>, FleetError> {
    let (curve, size) = (reader.curve(), reader.size());
    let mut sorter = Sorter::new(index, length(size));
    let mut sink = BufWriter::new(At::new(index, tree_at(size)));
    let mut done = 0;
    while done < size {
        let batch = reader.by_ref().take(BATCH).collect::<Result<Vec<_>, _>>()?;
        for leaf in hash(curve, done, &batch)? {
            sink.write_all(leaf.as_slice())?;
        }
        for key in &batch {
            sorter.push(entry(key, done))?;
            done += 1;
        }
        progress(done, size);
    }
    sink.flush()?;
    Ok(sorter)
}

/// The leaves of the keys from index `first` on, by all cores.
fn hash(curve: Curve, first: u32, keys: &[DeviceKey]) -> Result<Vec<B256>, FleetError> {
    let cores = thread::available_parallelism().map_or(1, NonZero::get);
    let share = keys.len().div_ceil(cores).max(SHARE);
    let part = |(number, keys): (usize, &[DeviceKey])| {
        let from = first + (number * share) as u32;
        let leaves = (from..).zip(keys).map(|(index, key)| leaf(curve, key, index));
        leaves.collect::<Result<Vec<_>, _>>()
    };
    let parts = thread::scope(|scope| {
        let threads: Vec<_> =
            keys.chunks(share).enumerate().map(|keys| scope.spawn(move || part(keys))).collect();
        let joined = threads.into_iter().map(|thread| thread.join().expect("hashing does not panic"));
        joined.collect::<Result<Vec<_>, _>>()
    });
    Ok(parts?.concat())
}

/// Writes the keys in their order; equal ones are neighbours then.
fn table(sorter: Sorter<'_>, index: &File) -> Result<(), FleetError> {
    let mut sink = BufWriter::new(At::new(index, entry_at(0)));
    let mut before: Option<Entry> = None;
    sorter.merge(|entry| {
        if let Some(twin) = before.replace(*entry).filter(|before| key_of(before) == key_of(entry)) {
            let (first, second) = (index::index_of(&twin), index::index_of(entry));
            return Err(FleetError::Duplicate { first, second });
        }
        Ok(sink.write_all(entry)?)
    })?;
    Ok(sink.flush()?)
}
