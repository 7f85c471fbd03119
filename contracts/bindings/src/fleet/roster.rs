//! A fleet on disk: who is where, and by which path.

use std::fs::File;
use std::io::{BufReader, BufWriter, ErrorKind};
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::sync::Arc;

use alloy::primitives::B256;
use posthouse_protocol::id::{Curve, DeviceKey, FleetRoot};

use super::disk::{self, Part, beside, sha256};
use super::index::{self, ENTRY, Entry, Header, entry_at, key_of, tree_at};
use super::{FleetError, FleetReader, FleetWriter, Tree, build::build};

/// What an index is called: as the fleet file, and this.
const INDEX: &str = ".index";
/// Entries read at once where a search ends.
const ROW: u32 = 64;

/// A fleet by its index, a file beside the fleet file with `.index` added to its name: 101 bytes a device,
/// of which a look-up reads some twenty short pieces. Nothing of it is held in memory.
///
/// The index counts if it is whole and of the very fleet file that is there, by its digest; else it is
/// made again. Fleet file and index must not change while they are open; one process at a time makes them.
#[derive(Debug)]
pub struct Fleet {
    curve: Curve,
    index: Arc<File>,
    tree: Tree,
}

impl Fleet {
    /// Makes the fleet file at `path` and its index of these keys, in index order. Both are there whole, or
    /// what was there stays. `progress` is told how many devices are hashed, of how many.
    ///
    /// # Errors
    /// [`FleetError::Key`], [`FleetError::Duplicate`], [`FleetError::Empty`], [`FleetError::TooMany`],
    /// [`FleetError::Io`]; and what `keys` gives.
    pub fn create<E: From<FleetError>>(
        path: &Path,
        curve: Curve,
        keys: impl IntoIterator<Item = Result<DeviceKey, E>>,
        progress: &mut dyn FnMut(u32, u32),
    ) -> Result<Self, E> {
        let file = Part::of(path);
        let io = |source| FleetError::Io(source);
        let mut writer = FleetWriter::new(BufWriter::new(file.create().map_err(io)?), curve)?;
        for key in keys {
            writer.push(&key?)?;
        }
        writer.finish()?.get_ref().sync_all().map_err(io)?;
        let fleet = Self::make(&file.path, &beside(path, INDEX), None, progress)?;
        // The fleet is another one when its file is; an index that does not fit it is made again.
        file.place().map_err(io)?;
        Ok(fleet)
    }

    /// Opens the fleet file at `path` by its index, made first if need be. `root` is what it must have.
    ///
    /// # Errors
    /// [`FleetError::Root`]; those of [`FleetReader`]; where the index has to be made also
    /// [`FleetError::Key`] and [`FleetError::Duplicate`]; [`FleetError::Io`].
    pub fn open(
        path: &Path,
        root: Option<&FleetRoot>,
        progress: &mut dyn FnMut(u32, u32),
    ) -> Result<Self, FleetError> {
        let header = FleetReader::new(BufReader::new(File::open(path)?))?;
        let file = sha256(File::open(path)?)?;
        let index = beside(path, INDEX);
        match Header::read(&index, header.curve(), header.size(), file)? {
            Some((found, header)) => Self::of(found, header, root),
            None => Self::make(path, &index, root, progress),
        }
    }

    /// Gives the fleet file at `from` a second place at `to`, with its index if it has one: by links, so that a
    /// million devices take no more disk, or copied where the file system has none. A later [`Fleet::create`] at
    /// `from` leaves `to` as it is.
    ///
    /// # Errors
    /// [`FleetError::Io`].
    pub fn share(from: &Path, to: &Path) -> Result<(), FleetError> {
        // The fleet is there when its file is, so that comes last.
        match disk::share(&beside(from, INDEX), &beside(to, INDEX)) {
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            shared => shared?,
        }
        Ok(disk::share(from, to)?)
    }

    fn make(
        path: &Path,
        index: &Path,
        root: Option<&FleetRoot>,
        progress: &mut dyn FnMut(u32, u32),
    ) -> Result<Self, FleetError> {
        let part = Part::of(index);
        let file = part.create()?;
        let header = build(path, &file, progress)?;
        let fleet = Self::of(file, header, root)?;
        part.place()?;
        Ok(fleet)
    }

    fn of(index: File, header: Header, expected: Option<&FleetRoot>) -> Result<Self, FleetError> {
        let Header { curve, size, root: found, .. } = header;
        if let Some(expected) = expected.filter(|expected| **expected != found) {
            return Err(FleetError::Root { expected: *expected, found });
        }
        let index = Arc::new(index);
        Ok(Self { curve, tree: Tree::open(index.clone(), tree_at(size), size, found), index })
    }

    /// Which keys the devices hold.
    pub fn curve(&self) -> Curve {
        self.curve
    }

    /// Number of devices, at least one.
    pub fn size(&self) -> u32 {
        self.tree.size()
    }

    /// Root of the tree.
    pub fn root(&self) -> FleetRoot {
        self.tree.root()
    }

    /// Depth of the tree.
    pub fn depth(&self) -> u8 {
        self.tree.depth()
    }

    /// The tree.
    pub fn tree(&self) -> &Tree {
        &self.tree
    }

    /// Where a key stands; `None` if it is not in the fleet.
    ///
    /// # Errors
    /// [`FleetError::Io`].
    pub fn index_of(&self, key: &DeviceKey) -> Result<Option<u32>, FleetError> {
        let (mut from, mut to) = (0, self.size());
        while to - from > ROW {
            let middle = from + (to - from) / 2;
            let mut found = [0; ENTRY];
            self.index.read_exact_at(&mut found, entry_at(middle))?;
            if key_of(&found) <= key.as_bytes().as_slice() { from = middle } else { to = middle }
        }
        let mut row = vec![0; (to - from) as usize * ENTRY];
        self.index.read_exact_at(&mut row, entry_at(from))?;
        let mut entries = row.as_chunks::<ENTRY>().0.iter();
        Ok(entries.find(|entry: &&Entry| key_of(entry) == key.as_bytes()).map(index::index_of))
    }

    /// The siblings from the leaf at `index` to the root.
    ///
    /// # Errors
    /// [`FleetError::Index`], [`FleetError::Io`].
    pub fn path(&self, index: u32) -> Result<Vec<B256>, FleetError> {
        self.tree.path(index)
    }
}
