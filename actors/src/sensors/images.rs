//! Blocks of staged images.

use std::collections::HashMap;
use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::sync::Arc;

use bytes::Bytes;
use posthouse_protocol::id::UpdateId;
use posthouse_protocol::sensor::{ErrorCode, MAX_BLOCK};
use tracing::warn;

use super::budget::{Budget, Budgets};
use crate::messages::{Carrier, Image};

/// Read at once: sensors ask for one block after the other, and each read less is a block that comes sooner.
const CHUNK: u64 = 4096;
/// Images open at once; a site has few products, and fewer images under way.
const MAX_OPEN: usize = 32;

/// A part of an image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImagePart {
    /// The bytes; fewer than asked for only at the end of the image.
    pub bytes: Bytes,
    /// Bytes of the whole image.
    pub total: u64,
}

/// An image that is open for a carrier: what is read of it is the image whether or not it is still wanted, as it has its
/// digest's name.
#[derive(Debug, Clone)]
pub struct Staged {
    u_id: UpdateId,
    file: Arc<File>,
    total: u64,
    budget: Arc<Budget>,
    /// Whether nothing shows who reads.
    stranger: bool,
    /// What was read last, and where it lies.
    chunk: (u64, Bytes),
}

impl Staged {
    /// At most `len` and [`MAX_BLOCK`] bytes from `offset`.
    ///
    /// # Errors
    /// [`ErrorCode::OutOfRange`], [`ErrorCode::NotStaged`]; [`ErrorCode::Busy`] where the carrier has carried its share
    /// for now: [`Budget::WAIT`] later there is room.
    pub fn read(&mut self, offset: u64, len: u16) -> Result<ImagePart, ErrorCode> {
        if offset >= self.total || len == 0 || usize::from(len) > MAX_BLOCK {
            return Err(ErrorCode::OutOfRange);
        }
        let len = (self.total - offset).min(len.into());
        if !self.budget.take(len, self.stranger) {
            return Err(ErrorCode::Busy);
        }
        let (start, chunk) = &self.chunk;
        if offset < *start || offset + len > *start + chunk.len() as u64 {
            self.chunk = (offset, self.fill(offset)?);
        }
        let (start, chunk) = &self.chunk;
        let at = (offset - *start) as usize;
        Ok(ImagePart { bytes: chunk.slice(at..at + len as usize), total: self.total })
    }

    fn fill(&self, offset: u64) -> Result<Bytes, ErrorCode> {
        let mut chunk = vec![0; (self.total - offset).min(CHUNK) as usize];
        self.file.read_exact_at(&mut chunk, offset).map_err(|error| {
            warn!(u_id = %self.u_id, offset, %error, "a staged image cannot be read");
            ErrorCode::NotStaged
        })?;
        Ok(chunk.into())
    }
}

/// The images that intents name, each with the number of intents that do.
#[derive(Debug)]
pub(super) struct Images {
    budgets: Budgets,
    named: HashMap<UpdateId, (Image, usize)>,
    open: HashMap<UpdateId, Arc<File>>,
}

impl Images {
    pub(super) fn new(budgets: Budgets) -> Self {
        Self { budgets, named: HashMap::new(), open: HashMap::new() }
    }

    /// Bytes that the carrier has carried since the start.
    pub(super) fn carried(&self, carrier: Carrier) -> u64 {
        self.budgets.carried(carrier)
    }

    pub(super) fn retain(&mut self, image: &Image) {
        let entry = self.named.entry(image.u_id).or_insert_with(|| (image.clone(), 0));
        entry.1 += 1;
        if entry.0 != *image {
            entry.0 = image.clone();
            self.open.remove(&image.u_id);
        }
    }

    pub(super) fn release(&mut self, u_id: &UpdateId) {
        let Some((_, count)) = self.named.get_mut(u_id) else { return };
        *count -= 1;
        if *count == 0 {
            self.named.remove(u_id);
            self.open.remove(u_id);
        }
    }

    /// An image that an intent names, for somebody who was shown to be whom he says he is, or a stranger.
    pub(super) fn open(
        &mut self,
        u_id: &UpdateId,
        carrier: Carrier,
        authenticated: bool,
    ) -> Result<Staged, ErrorCode> {
        let total = self.named.get(u_id).ok_or(ErrorCode::UnknownImage)?.0.size;
        let file = Arc::clone(self.file(u_id)?);
        let budget = Arc::clone(self.budgets.of(carrier));
        Ok(Staged { u_id: *u_id, file, total, budget, stranger: !authenticated, chunk: Default::default() })
    }

    fn file(&mut self, u_id: &UpdateId) -> Result<&Arc<File>, ErrorCode> {
        if !self.open.contains_key(u_id) {
            let (image, _) = self.named.get(u_id).ok_or(ErrorCode::UnknownImage)?;
            let file = File::open(&image.path).map_err(|error| {
                warn!(%u_id, path = %image.path.display(), %error, "a staged image cannot be opened");
                ErrorCode::NotStaged
            })?;
            self.make_room();
            self.open.insert(*u_id, Arc::new(file));
        }
        self.open.get(u_id).ok_or(ErrorCode::NotStaged)
    }

    /// Closes one file, whichever: opening it again is cheap.
    fn make_room(&mut self) {
        if self.open.len() >= MAX_OPEN
            && let Some(u_id) = self.open.keys().next().copied()
        {
            self.open.remove(&u_id);
        }
    }
}
