//! The loop around the machine: it carries out each output before it asks for the next.

use posthouse_protocol::device::{Boot, Config, Error, Input, Message, Output, Sensor, Stored};
use posthouse_protocol::sensor::Status;
use thiserror::Error;

use crate::journal::{Journal, JournalError};
use crate::ports::{Flash, Key, Pages};

/// How long a sensor puts blocks off when its gateway cannot serve them and does not say until when, s: without `retry_after` of
/// an [`ErrorMsg`](posthouse_protocol::sensor::ErrorMsg), without Max-Age over CoAP.
pub const DEFAULT_RETRY: u32 = 5;

/// Bytes read from flash at a time, on the stack.
const CHUNK: usize = 256;

/// A part of the board failed. The sensor stops and starts again: what was persisted is sound.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum Failure<F, K, P> {
    /// The spare slot.
    #[error("flash: {0}")]
    Flash(F),
    /// The device key.
    #[error("key: {0}")]
    Key(K),
    /// The persistent state.
    #[error("state: {0}")]
    Journal(JournalError<P>),
}

/// What follows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flow {
    /// Go on.
    Continue,
    /// The spare slot was made the one that boots: reboot now. Said again by each call until then.
    Reboot,
}

/// How an input was taken.
#[must_use]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Outcome {
    /// What follows.
    pub flow: Flow,
    /// Why the input was refused, if it was.
    pub refused: Option<Error>,
}

/// A machine with its board.
#[derive(Debug)]
pub struct Device<F, K, P> {
    sensor: Sensor,
    flash: F,
    key: K,
    journal: Journal<P>,
}

/// What the methods of a device with these parts give.
type Result<T, F, K, P> =
    core::result::Result<T, Failure<<F as Flash>::Error, <K as Key>::Error, <P as Pages>::Error>>;

impl<F: Flash, K: Key, P: Pages> Device<F, K, P> {
    /// Starts after power-up; reads the state and writes nothing. `stored` is the state of a device that has none saved yet.
    /// Key, curve and slot in the configuration are the board's own, whatever it says.
    ///
    /// # Errors
    /// [`Failure::Journal`].
    pub fn open(
        mut config: Config,
        mut stored: Stored,
        boot: Boot,
        flash: F,
        key: K,
        pages: P,
    ) -> Result<Self, F, K, P> {
        (config.key, config.curve, config.slot) = (key.public(), key.curve(), flash.capacity());
        let journal = Journal::open(pages, &mut stored).map_err(Failure::Journal)?;
        Ok(Self { sensor: Sensor::new(config, stored, boot), flash, key, journal })
    }

    /// The machine, to look at.
    pub fn sensor(&self) -> &Sensor {
        &self.sensor
    }

    /// How far it is.
    pub fn status(&self) -> Status {
        self.sensor.status()
    }

    /// Hands an input in at `now`, ms, and carries out what follows; messages go to `send`. A manifest of no bytes, which is how
    /// MQTT takes back one that was retained, is nothing.
    ///
    /// # Errors
    /// [`Failure`].
    pub fn give(
        &mut self,
        input: Input<'_>,
        now: u64,
        send: &mut impl FnMut(Message),
    ) -> Result<Outcome, F, K, P> {
        let block = if let Input::Block(block) = input { block.bytes } else { &[] };
        let refused = match input {
            Input::Manifest([]) => None,
            input => self.sensor.handle(input, now).err(),
        };
        let flow = self.run(now, block, send)?;
        Ok(Outcome { flow, refused })
    }

    /// Carries out what time brings; to be called at start, when an activation may be due that a power cut has put off, and at
    /// [`Sensor::deadline`].
    ///
    /// # Errors
    /// [`Failure`].
    pub fn tick(&mut self, now: u64, send: &mut impl FnMut(Message)) -> Result<Flow, F, K, P> {
        self.run(now, &[], send)
    }

    // Not on the stack while the machine verifies.
    #[inline(never)]
    fn run(&mut self, now: u64, block: &[u8], send: &mut impl FnMut(Message)) -> Result<Flow, F, K, P> {
        while let Some(output) = self.sensor.poll(now) {
            match output {
                Output::Write { offset } => self.flash.write(offset, block).map_err(Failure::Flash)?,
                Output::Persist => self.persist()?,
                Output::Sign(digest) => {
                    let sig = self.key.sign(&digest).map_err(Failure::Key)?;
                    self.feed(Input::Signed(sig), now);
                }
                Output::Send(message) => send(message),
                Output::Read { offset, len } => self.read(offset, len, now)?,
                Output::Activate(image) => {
                    self.flash.activate(&image).map_err(Failure::Flash)?;
                    break;
                }
            }
        }
        Ok(if self.sensor.is_rebooting() { Flow::Reboot } else { Flow::Continue })
    }

    /// The state counts on the bytes, so they are durable first.
    fn persist(&mut self) -> Result<(), F, K, P> {
        self.flash.sync().map_err(Failure::Flash)?;
        self.journal.save(self.sensor.stored()).map_err(Failure::Journal)
    }

    // Its buffer is not on the stack while anything else is done.
    #[inline(never)]
    fn read(&mut self, offset: u32, len: u32, now: u64) -> Result<(), F, K, P> {
        let mut chunk = [0; CHUNK];
        let len = (len as usize).min(CHUNK);
        self.flash.read(offset, &mut chunk[..len]).map_err(Failure::Flash)?;
        self.feed(Input::Slot(&chunk[..len]), now);
        Ok(())
    }

    /// Hands back what the machine has asked for, which it never refuses.
    fn feed(&mut self, input: Input<'_>, now: u64) {
        let taken = self.sensor.handle(input, now);
        debug_assert_eq!(taken, Ok(()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn state_and_machine_have_a_few_hundred_bytes() {
        const { assert!(Stored::LEN < 600) };
        // On a 64-bit host; 1.2 KiB on a Cortex-M, two hashes and their buffers among them.
        assert!(size_of::<Sensor>() <= 1400, "{} bytes", size_of::<Sensor>());
    }
}
