//! The persistent state in two pages, written in turn: a torn write costs only what was being
//! written, and the page before it still stands.
//!
//! A page is `sequence u64 ‖ state ‖ first 8 bytes of SHA-256 of both`, big-endian. The valid page
//! with the higher sequence counts.

use posthouse_protocol::device::{Error, Stored};
use sha2::{Digest as _, Sha256};
use thiserror::Error;

use crate::ports::Pages;

const CHECK: usize = 8;
const SEQUENCE: usize = 8;
const BODY: usize = SEQUENCE + Stored::LEN;

/// Bytes of a page.
pub const PAGE_LEN: usize = BODY + CHECK;

/// Why the state cannot be read or written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum JournalError<E> {
    /// The port failed.
    #[error("pages: {0}")]
    Pages(E),
    /// A page is whole, yet not a state: written by other code.
    #[error(transparent)]
    State(Error),
}

/// The store of the persistent state.
#[derive(Debug)]
pub struct Journal<P> {
    pages: P,
    /// Of the page that counts; 0 if there is none.
    sequence: u64,
}

impl<P: Pages> Journal<P> {
    /// Reads the state that was saved last into `stored`, which stays as it is on a new device: a small stack holds
    /// the state once.
    ///
    /// # Errors
    /// [`JournalError`].
    // What is needed for reading is off the stack when this returns.
    #[inline(never)]
    pub fn open(mut pages: P, stored: &mut Stored) -> Result<Self, JournalError<P::Error>> {
        let mut bytes = [0; PAGE_LEN];
        let mut sequence = None;
        for page in [0, 1] {
            sequence = sequence.max(load(&mut pages, page, &mut bytes)?);
        }
        let Some(sequence) = sequence else { return Ok(Self { pages, sequence: 0 }) };
        let damaged = JournalError::State(Error::DamagedState);
        if load(&mut pages, place(sequence), &mut bytes)? != Some(sequence) {
            return Err(damaged);
        }
        let state = bytes[SEQUENCE..].first_chunk().ok_or(damaged)?;
        *stored = Stored::from_bytes(state).map_err(JournalError::State)?;
        Ok(Self { pages, sequence })
    }

    /// Saves the state; durable when it returns.
    ///
    /// # Errors
    /// [`JournalError::Pages`].
    // As above.
    #[inline(never)]
    pub fn save(&mut self, stored: &Stored) -> Result<(), JournalError<P::Error>> {
        let sequence = self.sequence + 1;
        let mut page = [0; PAGE_LEN];
        page[..SEQUENCE].copy_from_slice(&sequence.to_be_bytes());
        page[SEQUENCE..BODY].copy_from_slice(&stored.to_bytes());
        let check = checksum(&page);
        page[BODY..].copy_from_slice(&check);
        self.pages.write(place(sequence), &page).map_err(JournalError::Pages)?;
        self.sequence = sequence;
        Ok(())
    }
}

/// Which page a sequence is written to.
fn place(sequence: u64) -> usize {
    (sequence % 2) as usize
}

/// Reads a page; its sequence, if it is whole.
fn load<P: Pages>(
    pages: &mut P,
    page: usize,
    bytes: &mut [u8; PAGE_LEN],
) -> Result<Option<u64>, JournalError<P::Error>> {
    pages.read(page, bytes).map_err(JournalError::Pages)?;
    let whole = bytes[BODY..] == checksum(bytes);
    let sequence = bytes.first_chunk().map(|sequence| u64::from_be_bytes(*sequence));
    Ok(sequence.filter(|sequence| whole && place(*sequence) == page))
}

fn checksum(page: &[u8; PAGE_LEN]) -> [u8; CHECK] {
    let digest = Sha256::digest(&page[..BODY]);
    core::array::from_fn(|i| digest[i])
}

#[cfg(test)]
mod tests {
    use super::*;
    use core::convert::Infallible;
    use posthouse_protocol::id::Version;
    use proptest::prelude::*;

    /// Pages in memory, of which a write may be cut off.
    struct Memory {
        pages: [[u8; PAGE_LEN]; 2],
        cut: usize,
    }

    impl Pages for &mut Memory {
        type Error = Infallible;

        fn read(&mut self, page: usize, bytes: &mut [u8]) -> Result<(), Infallible> {
            bytes.copy_from_slice(&self.pages[page]);
            Ok(())
        }

        fn write(&mut self, page: usize, bytes: &[u8]) -> Result<(), Infallible> {
            let whole = self.cut.min(bytes.len());
            self.pages[page][..whole].copy_from_slice(&bytes[..whole]);
            Ok(())
        }
    }

    fn stored(version: u64) -> Stored {
        Stored::factory(Version::new(version))
    }

    #[test]
    fn a_new_device_has_no_state() {
        let mut memory = Memory { pages: [[0xff; PAGE_LEN]; 2], cut: PAGE_LEN };
        let mut found = stored(7);
        Journal::open(&mut memory, &mut found).unwrap();
        assert_eq!(found, stored(7));
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn a_torn_write_leaves_the_state_before_it(saves in 1..6_u64, cut in 0..=PAGE_LEN) {
            let mut memory = Memory { pages: [[0xff; PAGE_LEN]; 2], cut: PAGE_LEN };
            let mut found = stored(0);
            let mut journal = Journal::open(&mut memory, &mut found).unwrap();
            for version in 1..=saves {
                journal.save(&stored(version)).unwrap();
            }
            memory.cut = cut;
            let mut journal = Journal::open(&mut memory, &mut found).unwrap();
            journal.save(&stored(99)).unwrap();
            Journal::open(&mut memory, &mut found).unwrap();
            let found = found.installed.get();
            prop_assert!(found == saves || found == 99);
            prop_assert_eq!(found == 99, cut == PAGE_LEN);
        }
    }
}
