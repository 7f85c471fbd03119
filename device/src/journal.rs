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
const BODY: usize = 8 + Stored::LEN;

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
    /// Reads the state that was saved last; nothing on a new device.
    ///
    /// # Errors
    /// [`JournalError`].
    pub fn open(mut pages: P) -> Result<(Self, Option<Stored>), JournalError<P::Error>> {
        let newest = [load(&mut pages, 0)?, load(&mut pages, 1)?]
            .into_iter()
            .flatten()
            .max_by_key(|(sequence, _)| *sequence);
        let Some((sequence, state)) = newest else {
            return Ok((Self { pages, sequence: 0 }, None));
        };
        let stored = Stored::from_bytes(&state).map_err(JournalError::State)?;
        Ok((Self { pages, sequence }, Some(stored)))
    }

    /// Saves the state; durable when it returns.
    ///
    /// # Errors
    /// [`JournalError::Pages`].
    pub fn save(&mut self, stored: &Stored) -> Result<(), JournalError<P::Error>> {
        let sequence = self.sequence + 1;
        let mut page = [0; PAGE_LEN];
        page[..8].copy_from_slice(&sequence.to_be_bytes());
        page[8..BODY].copy_from_slice(&stored.to_bytes());
        let check = checksum(&page);
        page[BODY..].copy_from_slice(&check);
        self.pages.write((sequence % 2) as usize, &page).map_err(JournalError::Pages)?;
        self.sequence = sequence;
        Ok(())
    }
}

type Page = Option<(u64, [u8; Stored::LEN])>;

fn load<P: Pages>(pages: &mut P, page: usize) -> Result<Page, JournalError<P::Error>> {
    let mut bytes = [0; PAGE_LEN];
    pages.read(page, &mut bytes).map_err(JournalError::Pages)?;
    if bytes[BODY..] != checksum(&bytes) {
        return Ok(None);
    }
    let mut sequence = [0; 8];
    let mut state = [0; Stored::LEN];
    sequence.copy_from_slice(&bytes[..8]);
    state.copy_from_slice(&bytes[8..BODY]);
    Ok(Some((u64::from_be_bytes(sequence), state)))
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
        assert_eq!(Journal::open(&mut memory).unwrap().1, None);
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn a_torn_write_leaves_the_state_before_it(saves in 1..6_u64, cut in 0..=PAGE_LEN) {
            let mut memory = Memory { pages: [[0xff; PAGE_LEN]; 2], cut: PAGE_LEN };
            let (mut journal, _) = Journal::open(&mut memory).unwrap();
            for version in 1..=saves {
                journal.save(&stored(version)).unwrap();
            }
            memory.cut = cut;
            let (mut journal, _) = Journal::open(&mut memory).unwrap();
            journal.save(&stored(99)).unwrap();
            let (_, found) = Journal::open(&mut memory).unwrap();
            let found = found.unwrap().installed.get();
            prop_assert!(found == saves || found == 99);
            prop_assert_eq!(found == 99, cut == PAGE_LEN);
        }
    }
}
