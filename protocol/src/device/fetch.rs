//! Fetching an image block by block, in order, each with its own timeout.
//!
//! Only the block at `next` is ever taken: what comes twice, late or from elsewhere in the image is
//! dropped, so that neither memory nor a map of holes is needed, and a lost block costs itself and
//! at most the rest of its window.

use sha2::{Digest as _, Sha256};

use super::Config;
use super::error::Error;
use crate::id::UpdateId;

/// A request on its way.
#[derive(Debug, Clone, Copy)]
struct Asked {
    /// When it was sent, or when its last block came, ms.
    at: u64,
    /// Where its last block ends.
    until: u32,
    /// Bytes of each block.
    len: u16,
    /// Times that it was sent without an answer.
    tries: u8,
}

/// What to do next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Next {
    /// Ask for `count` blocks of `len` bytes from `offset`.
    Ask { offset: u32, len: u16, count: u16 },
    /// Wait until then, ms.
    Wait(u64),
    /// Nothing came for so long that this wake is over.
    GaveUp,
}

/// A running download.
#[derive(Debug, Clone)]
pub(super) struct Fetch {
    u_id: UpdateId,
    size: u32,
    next: u32,
    hash: Sha256,
    asked: Option<Asked>,
    /// Not before this, ms; `u64::MAX` until the next wake.
    not_before: u64,
    /// Nor if the gateway says that the image is there.
    until_wake: bool,
}

impl Fetch {
    /// Resumes at `next`, whose preceding bytes have been hashed.
    pub(super) fn new(u_id: UpdateId, size: u32, next: u32, hash: Sha256) -> Self {
        Self { u_id, size, next, hash, asked: None, not_before: 0, until_wake: false }
    }

    pub(super) fn u_id(&self) -> UpdateId {
        self.u_id
    }

    pub(super) fn next(&self) -> u32 {
        self.next
    }

    /// Whether blocks are on their way, or are to be asked for at once.
    pub(super) fn is_asking(&self) -> bool {
        self.asked.is_some() || self.not_before == 0
    }

    /// Ask (again) at once: the sensor woke.
    pub(super) fn wake(&mut self) {
        self.until_wake = false;
        self.resume();
    }

    /// Ask (again) at once: the gateway says that the image is there.
    pub(super) fn resume(&mut self) {
        if !self.until_wake {
            self.asked = None;
            self.not_before = 0;
        }
    }

    /// Not before the next wake, whatever the gateway says.
    pub(super) fn rest(&mut self) {
        self.hold(u64::MAX);
        self.until_wake = true;
    }

    /// The gateway cannot serve before then.
    pub(super) fn hold(&mut self, until: u64) {
        if !self.until_wake {
            self.asked = None;
            self.not_before = until;
        }
    }

    /// Takes a block. `Ok(None)` if it is not the one at `next`, else the offset to write it at.
    pub(super) fn take(
        &mut self,
        u_id: &UpdateId,
        offset: u32,
        bytes: &[u8],
        now: u64,
    ) -> Result<Option<u32>, Error> {
        if *u_id != self.u_id {
            return Err(Error::NotThisUpdate(*u_id));
        }
        if offset != self.next {
            return Ok(None);
        }
        let len = u32::try_from(bytes.len()).map_err(|_| Error::Unexpected(offset))?;
        if len == 0 || len > self.size - self.next {
            return Err(Error::Unexpected(offset));
        }
        self.hash.update(bytes);
        self.next += len;
        self.progress(len, now);
        Ok(Some(offset))
    }

    /// A block that is shorter than asked for is the last that this request brings: the gateway cuts them smaller.
    fn progress(&mut self, len: u32, now: u64) {
        let next = self.next;
        self.asked = self.asked.filter(|asked| next < asked.until && len >= asked.len.into());
        if let Some(asked) = &mut self.asked {
            asked.at = now;
            asked.tries = 1;
        }
    }

    /// The digest, once every byte is there.
    pub(super) fn digest(&self) -> Option<UpdateId> {
        let whole = self.next == self.size;
        whole.then(|| UpdateId::new(self.hash.clone().finalize().into()))
    }

    /// What to do now. Asking is recorded: the answer to the next call is to wait.
    pub(super) fn poll(&mut self, config: &Config, now: u64) -> Next {
        let tries = match self.asked {
            None if now < self.not_before => return Next::Wait(self.not_before),
            None => 0,
            Some(asked) => {
                let deadline = asked.at.saturating_add(config.block_timeout_ms.into());
                if now < deadline {
                    return Next::Wait(deadline);
                }
                asked.tries
            }
        };
        if tries >= config.block_tries {
            self.hold(u64::MAX);
            return Next::GaveUp;
        }
        self.ask(config, now, tries + 1)
    }

    fn ask(&mut self, config: &Config, now: u64, tries: u8) -> Next {
        let len = u32::from(config.block.max(1));
        let left = (self.size - self.next).div_ceil(len);
        let count = u32::from(config.window.max(1)).min(left);
        let until = self.next.saturating_add(len.saturating_mul(count)).min(self.size);
        self.asked = Some(Asked { at: now, until, len: config.block.max(1), tries });
        Next::Ask { offset: self.next, len: config.block.max(1), count: count as u16 }
    }
}
