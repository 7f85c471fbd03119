//! Two slots on plain NOR flash, and the bootloader that exchanges them: what a board without a bootloader of its own
//! takes, so that a port is the three functions of [`Nor`].
//!
//! Slot A runs, slot B is spare. [`Slots`] is the device's [`Flash`] and [`Pages`]; its
//! [`power_up`](Slots::power_up) is the whole of the bootloader. A new image in B is exchanged with A page by page over
//! a scratch page, each step marked in a journal, so that a power cut costs one step. The new image then has one boot to
//! [`confirm`](Slots::confirm) itself in; if it does not, the next power-up exchanges back.
//!
//! ```text
//! control pages:  record | scratch | journal there … | journal back … | state 0 | state 1
//! record:         magic, size, u_id, check (bytes 0 to 48) and the marks swapped, tried, confirmed, reverted
//! ```
//!
//! A mark is a word of flash: all ones until it is set, zero afterwards, anything else torn and not set.

use posthouse_protocol::device::{Boot, Verified};
use posthouse_protocol::id::UpdateId;
use sha2::{Digest as _, Sha256};
use thiserror::Error;

use crate::PAGE_LEN;
use crate::ports::{Flash, Pages};

#[cfg(test)]
mod tests;

/// Flash of which a page is erased to ones and words are programmed to what they are.
pub trait Nor {
    /// What can go wrong.
    type Error;

    /// Bytes that are erased at once: a multiple of 64, and no fewer than [`PAGE_LEN`].
    const PAGE: u32;

    /// Fills `bytes` from address `at`.
    ///
    /// # Errors
    /// The port's own.
    fn read(&self, at: u32, bytes: &mut [u8]) -> Result<(), Self::Error>;

    /// Erases the page at address `at`, a multiple of [`Nor::PAGE`]. A power cut leaves anything in it.
    ///
    /// # Errors
    /// The port's own.
    fn erase(&self, at: u32) -> Result<(), Self::Error>;

    /// Clears the bits at address `at` that are zero in `bytes`; both ends are multiples of 4. Durable when it returns.
    /// A word is programmed a second time only to clear bits that the first time left: at the ends of blocks whose
    /// length is no multiple of 4.
    ///
    /// # Errors
    /// The port's own.
    fn program(&self, at: u32, bytes: &[u8]) -> Result<(), Self::Error>;
}

/// Where things are: addresses, each a multiple of the page.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Layout {
    /// The control pages, as many as [`Slots::control_len`] has bytes.
    pub control: u32,
    /// What runs.
    pub a: u32,
    /// The spare slot.
    pub b: u32,
    /// Bytes of a slot, a multiple of the page.
    pub slot: u32,
}

/// What the flash did not do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum SlotError<E> {
    /// The port failed.
    #[error("{0}")]
    Nor(E),
    /// Beyond the end of a slot or a page.
    #[error("{len} bytes at {offset} are outside of the slot or the page")]
    Outside {
        /// Where they begin.
        offset: u32,
        /// How many.
        len: usize,
    },
    /// Slot A does not hold the image that was asked for.
    #[error("the image that runs is not the one that was verified")]
    Damaged,
}

impl<E> From<E> for SlotError<E> {
    fn from(error: E) -> Self {
        Self::Nor(error)
    }
}

/// What the bootloader does after [`Slots::power_up`].
#[must_use]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Start {
    /// Start what is in slot A.
    Run,
    /// A holds other code than before: drop what is cached of it, and call again, or reset.
    Exchanged,
}

/// Two slots, the pages of the state, and the record of an activation.
#[derive(Debug, Clone, Copy)]
pub struct Slots<N> {
    nor: N,
    layout: Layout,
}

/// Bytes of the record before its marks.
const RECORD: usize = 48;
const MAGIC: [u8; 4] = *b"PHB1";
const ERASED: u8 = 0xff;
const WORD: u32 = 4;
/// Bytes copied at a time, on the stack.
const CHUNK: usize = 64;

/// The record's marks, by their place behind it.
#[derive(Clone, Copy)]
enum Mark {
    /// The slots were exchanged.
    Swapped,
    /// The new image was started once.
    Tried,
    /// It passed its self-test.
    Confirmed,
    /// It did not, and the slots were exchanged back.
    Reverted,
}

/// An activation that was asked for.
struct Record {
    size: u32,
    u_id: UpdateId,
}

type SlotResult<T, N> = Result<T, SlotError<<N as Nor>::Error>>;

impl<N: Nor> Slots<N> {
    /// `nor` with its layout.
    pub fn new(nor: N, layout: Layout) -> Self {
        Self { nor, layout }
    }

    /// Bytes of control pages that slots of `slot` bytes need.
    pub const fn control_len(slot: u32) -> u32 {
        (4 + 2 * Self::journal_pages(slot)) * N::PAGE
    }

    /// Three words for each page of a slot.
    const fn journal_pages(slot: u32) -> u32 {
        (slot / N::PAGE * 3 * WORD).div_ceil(N::PAGE)
    }

    // --- the bootloader

    /// All that happens between power-up and the start of the code in slot A. Cut off anywhere, it goes on when it is
    /// called again.
    ///
    /// # Errors
    /// The port's own.
    pub fn power_up(&self) -> SlotResult<Start, N> {
        let decided = self.record()?.is_none() || self.has(Mark::Reverted)? || self.has(Mark::Confirmed)?;
        if decided {
            return Ok(Start::Run);
        }
        if !self.has(Mark::Swapped)? {
            self.exchange(0)?;
            self.set(Mark::Swapped)?;
            return Ok(Start::Exchanged);
        }
        if !self.has(Mark::Tried)? {
            self.set(Mark::Tried)?;
            return Ok(Start::Run);
        }
        self.exchange(1)?;
        self.set(Mark::Reverted)?;
        Ok(Start::Exchanged)
    }

    /// Exchanges the slots, with the journal of the way there (0) or back (1).
    fn exchange(&self, way: u32) -> SlotResult<(), N> {
        let Layout { control, a, b, slot } = self.layout;
        let journal = control + (2 + way * Self::journal_pages(slot)) * N::PAGE;
        let scratch = control + N::PAGE;
        for page in 0..slot / N::PAGE {
            let (a, b) = (a + page * N::PAGE, b + page * N::PAGE);
            for (step, (from, to)) in (0..).zip([(a, scratch), (b, a), (scratch, b)]) {
                let mark = journal + (page * 3 + step) * WORD;
                if !self.is_set(mark)? {
                    self.copy_page(from, to)?;
                    self.nor.program(mark, &[0; 4])?;
                }
            }
        }
        Ok(())
    }

    fn copy_page(&self, from: u32, to: u32) -> SlotResult<(), N> {
        self.nor.erase(to)?;
        let mut chunk = [0; CHUNK];
        for at in (0..N::PAGE).step_by(CHUNK) {
            self.nor.read(from + at, &mut chunk)?;
            self.nor.program(to + at, &chunk)?;
        }
        Ok(())
    }

    // --- the firmware

    /// What runs, for [`Device::open`](crate::Device::open). An image that is not confirmed yet tests itself then, and is
    /// [confirmed](Slots::confirm), or resets without.
    ///
    /// # Errors
    /// The port's own.
    pub fn boot(&self) -> SlotResult<Boot, N> {
        let Some(record) = self.record()? else { return Ok(Boot::Unknown) };
        if self.has(Mark::Reverted)? {
            return Ok(Boot::Reverted);
        }
        let whole = self.has(Mark::Swapped)? && self.holds(&record)?;
        Ok(if whole { Boot::Image(record.u_id) } else { Boot::Unknown })
    }

    /// The image that runs has passed its self-test, and stays; nothing where none is on trial. To be called after
    /// [`Device::open`](crate::Device::open), which writes nothing, since an image that cannot read the state must not stay;
    /// and before the device is ticked, since what the state says is installed must not be exchanged back.
    ///
    /// # Errors
    /// [`SlotError::Damaged`]: reset, and the image before it comes back. The port's own.
    pub fn confirm(&self) -> SlotResult<(), N> {
        let Some(record) = self.record()? else { return Ok(()) };
        let on_trial =
            self.has(Mark::Swapped)? && !self.has(Mark::Confirmed)? && !self.has(Mark::Reverted)?;
        if !on_trial {
            return Ok(());
        }
        // Its own self-test need not have met the byte that is wrong.
        if !self.holds(&record)? {
            return Err(SlotError::Damaged);
        }
        self.set(Mark::Confirmed)
    }

    /// Forgets that an image was reverted. To be called after the device was opened with [`Boot::Reverted`] and ticked,
    /// so that one failed boot is counted once.
    ///
    /// # Errors
    /// The port's own.
    pub fn settle(&self) -> SlotResult<(), N> {
        let reverted = self.record()?.is_some() && self.has(Mark::Reverted)?;
        if reverted { Ok(self.nor.erase(self.layout.control)?) } else { Ok(()) }
    }

    /// Whether slot A has the image of the record.
    fn holds(&self, record: &Record) -> SlotResult<bool, N> {
        let (mut hash, mut chunk) = (Sha256::new(), [0; CHUNK]);
        for at in (0..record.size).step_by(CHUNK) {
            let len = (CHUNK as u32).min(record.size - at) as usize;
            self.nor.read(self.layout.a + at, &mut chunk[..len])?;
            hash.update(&chunk[..len]);
        }
        Ok(UpdateId::new(hash.finalize().into()) == record.u_id)
    }

    // --- the record

    /// The record, if it is whole.
    fn record(&self) -> SlotResult<Option<Record>, N> {
        let mut bytes = [0; RECORD];
        self.nor.read(self.layout.control, &mut bytes)?;
        let found = Record::read(&bytes).filter(|record| record.size <= self.layout.slot);
        Ok(found.filter(|record| record.to_bytes() == bytes))
    }

    /// The journals are empty before the record is there, and the record counts only when it is whole.
    fn ask(&self, record: &Record) -> SlotResult<(), N> {
        let control = self.layout.control;
        self.nor.erase(control)?;
        let journals = 2 * Self::journal_pages(self.layout.slot);
        (2..2 + journals).try_for_each(|page| self.nor.erase(control + page * N::PAGE))?;
        Ok(self.nor.program(control, &record.to_bytes())?)
    }

    fn has(&self, mark: Mark) -> SlotResult<bool, N> {
        self.is_set(self.mark(mark))
    }

    fn set(&self, mark: Mark) -> SlotResult<(), N> {
        Ok(self.nor.program(self.mark(mark), &[0; 4])?)
    }

    fn mark(&self, mark: Mark) -> u32 {
        self.layout.control + RECORD as u32 + mark as u32 * WORD
    }

    fn is_set(&self, mark: u32) -> SlotResult<bool, N> {
        let mut word = [0; 4];
        self.nor.read(mark, &mut word)?;
        Ok(word == [0; 4])
    }

    /// The last two of the control pages.
    fn state_page(&self, page: usize) -> u32 {
        let end = self.layout.control + Self::control_len(self.layout.slot);
        end - (2 - page as u32 % 2) * N::PAGE
    }

    fn within(&self, offset: u32, len: usize, end: u32) -> SlotResult<(), N> {
        let fits =
            u32::try_from(len).ok().and_then(|len| offset.checked_add(len)).is_some_and(|to| to <= end);
        if fits { Ok(()) } else { Err(SlotError::Outside { offset, len }) }
    }

    /// Programs bytes that may begin and end within a word.
    fn program_bytes(&self, at: u32, bytes: &[u8]) -> SlotResult<(), N> {
        let mut rest = bytes;
        let mut at = at;
        while !rest.is_empty() {
            let before = (at % WORD) as usize;
            let taken = rest.len().min(CHUNK - before);
            let (head, tail) = rest.split_at(taken);
            let mut chunk = [ERASED; CHUNK];
            chunk[before..before + taken].copy_from_slice(head);
            let words = (before + taken).next_multiple_of(WORD as usize);
            self.nor.program(at - before as u32, &chunk[..words])?;
            at += taken as u32;
            rest = tail;
        }
        Ok(())
    }
}

impl Record {
    /// The fields, unchecked.
    fn read(bytes: &[u8; RECORD]) -> Option<Self> {
        let (_, rest) = bytes.split_first_chunk::<4>()?;
        let (size, rest) = rest.split_first_chunk()?;
        let (u_id, _) = rest.split_first_chunk()?;
        Some(Self { size: u32::from_be_bytes(*size), u_id: UpdateId::new(*u_id) })
    }

    /// Magic, fields, and the first 8 bytes of the SHA-256 of both.
    fn to_bytes(&self) -> [u8; RECORD] {
        let mut bytes = [0; RECORD];
        bytes[..4].copy_from_slice(&MAGIC);
        bytes[4..8].copy_from_slice(&self.size.to_be_bytes());
        bytes[8..40].copy_from_slice(self.u_id.as_bytes());
        let check = Sha256::digest(&bytes[..40]);
        bytes[40..].copy_from_slice(&check[..8]);
        bytes
    }
}

impl<N: Nor> Flash for Slots<N> {
    type Error = SlotError<N::Error>;

    fn capacity(&self) -> u32 {
        self.layout.slot
    }

    fn write(&mut self, offset: u32, bytes: &[u8]) -> SlotResult<(), N> {
        self.within(offset, bytes.len(), self.layout.slot)?;
        let end = offset + bytes.len() as u32;
        for page in (offset.next_multiple_of(N::PAGE)..end).step_by(N::PAGE as usize) {
            self.nor.erase(self.layout.b + page)?;
        }
        self.program_bytes(self.layout.b + offset, bytes)
    }

    fn read(&mut self, offset: u32, bytes: &mut [u8]) -> SlotResult<(), N> {
        self.within(offset, bytes.len(), self.layout.slot)?;
        Ok(self.nor.read(self.layout.b + offset, bytes)?)
    }

    fn activate(&mut self, image: &Verified) -> SlotResult<(), N> {
        self.ask(&Record { size: image.size(), u_id: image.u_id() })
    }
}

impl<N: Nor> Pages for Slots<N> {
    type Error = SlotError<N::Error>;

    fn read(&mut self, page: usize, bytes: &mut [u8]) -> SlotResult<(), N> {
        self.within(0, bytes.len(), PAGE_LEN as u32)?;
        Ok(self.nor.read(self.state_page(page), bytes)?)
    }

    fn write(&mut self, page: usize, bytes: &[u8]) -> SlotResult<(), N> {
        self.within(0, bytes.len(), PAGE_LEN as u32)?;
        self.nor.erase(self.state_page(page))?;
        self.program_bytes(self.state_page(page), bytes)
    }
}
