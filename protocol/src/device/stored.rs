//! What survives a power cut, and its bytes.

use super::error::Error;
use super::signing::{Delegation, Delegations, Receipts};
use crate::id::{Bounty, ChainId, Digest, Signature, UpdateId, Version};
use crate::sensor::UpdateResult;

/// First byte of the encoding; changes with the layout.
const LAYOUT: u8 = 1;

/// Where the accepted update is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// `next` bytes of the image are in the spare slot for good.
    Fetching {
        /// Offset to resume at: a multiple of the checkpoint, or the size of the image.
        next: u32,
    },
    /// The slot was verified and is, or is about to be, made the one that boots.
    Activating,
    /// It runs, and has passed its self-test.
    Installed,
    /// It failed to boot as often as it may.
    GivenUp,
}

/// The update whose manifest was accepted last.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Update {
    /// Sequence number.
    pub version: Version,
    /// SHA-256 of the image.
    pub u_id: UpdateId,
    /// Bytes of the image.
    pub size: u32,
    /// How far it has come.
    pub phase: Phase,
    /// Times that it was activated and did not boot.
    pub failed_boots: u8,
    /// Receipts signed for this sequence number.
    pub receipts: Receipts,
}

/// The sensor's persistent state, [`Stored::LEN`] bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stored {
    /// Sequence number of the image that runs, raised only after it has booted well.
    pub installed: Version,
    /// Highest sequence number for which a valid manifest was seen.
    pub highest: Version,
    /// How the last update ended.
    pub result: UpdateResult,
    /// The update accepted last, whatever became of it.
    pub update: Option<Update>,
    /// The signed report that [`Phase::Installed`] calls for.
    pub report: Option<Signature>,
    /// Delegations signed.
    pub delegations: Delegations,
}

impl Stored {
    /// Bytes of the encoding.
    pub const LEN: usize = 1 + 8 + 8 + 1 + Update::LEN + 65 + 3 * Delegation::LEN;

    /// The state of a sensor that leaves the factory with `installed`.
    pub fn factory(installed: Version) -> Self {
        Self {
            installed,
            highest: installed,
            result: UpdateResult::Initial,
            update: None,
            report: None,
            delegations: Delegations::default(),
        }
    }

    /// Fixed layout, big-endian; absent parts are zero bytes.
    pub fn to_bytes(&self) -> [u8; Self::LEN] {
        let mut bytes = [0; Self::LEN];
        let mut w = Writer(&mut bytes);
        w.put(&[LAYOUT]);
        w.put(&self.installed.get().to_be_bytes());
        w.put(&self.highest.get().to_be_bytes());
        w.put(&[self.result as u8]);
        w.option(self.update.as_ref(), Update::LEN, Update::write);
        w.option(self.report.as_ref(), 65, |report, w| w.put(report.as_bytes()));
        for delegation in &self.delegations.0 {
            w.option(delegation.as_ref(), Delegation::LEN, Delegation::write);
        }
        bytes
    }

    /// Reads what [`Stored::to_bytes`] wrote.
    ///
    /// # Errors
    /// [`Error::DamagedState`].
    #[inline(never)]
    pub fn from_bytes(bytes: &[u8; Self::LEN]) -> Result<Self, Error> {
        let mut r = Reader(bytes);
        let [LAYOUT] = r.take()? else { return Err(Error::DamagedState) };
        let stored = Self {
            installed: r.version()?,
            highest: r.version()?,
            result: r.result()?,
            update: r.option(Update::LEN, Update::read)?,
            report: r.option(65, |r| r.take().map(Signature::new))?,
            delegations: Delegations([r.delegation()?, r.delegation()?, r.delegation()?]),
        };
        if stored.is_sound() { Ok(stored) } else { Err(Error::DamagedState) }
    }

    fn is_sound(&self) -> bool {
        let fits = |update: &Update| {
            let next = if let Phase::Fetching { next } = update.phase { next } else { 0 };
            next <= update.size && update.version <= self.highest
        };
        self.installed <= self.highest && self.update.as_ref().is_none_or(fits)
    }
}

impl Update {
    const LEN: usize = 1 + 8 + 32 + 4 + 1 + 4 + 1 + 1 + 8 * 32;

    fn write(&self, w: &mut Writer<'_>) {
        let (phase, next) = match self.phase {
            Phase::Fetching { next } => (0, next),
            Phase::Activating => (1, 0),
            Phase::Installed => (2, 0),
            Phase::GivenUp => (3, 0),
        };
        w.put(&self.version.get().to_be_bytes());
        w.put(self.u_id.as_bytes());
        w.put(&self.size.to_be_bytes());
        w.put(&[phase]);
        w.put(&next.to_be_bytes());
        w.put(&[self.failed_boots, self.receipts.count]);
        self.receipts.digests.iter().for_each(|digest| w.put(digest.as_bytes()));
    }

    fn read(r: &mut Reader<'_>) -> Result<Self, Error> {
        let version = r.version()?;
        let u_id = UpdateId::new(r.take()?);
        let size = u32::from_be_bytes(r.take()?);
        let phase = r.phase()?;
        let [failed_boots, count] = r.take()?;
        let mut receipts = Receipts { count, ..Receipts::default() };
        for digest in &mut receipts.digests {
            *digest = Digest::new(r.take()?);
        }
        if usize::from(count) > receipts.digests.len() {
            return Err(Error::DamagedState);
        }
        Ok(Self { version, u_id, size, phase, failed_boots, receipts })
    }
}

impl Delegation {
    const LEN: usize = 1 + 8 + 20 + 32;

    fn write(&self, w: &mut Writer<'_>) {
        w.put(&self.chain.get().to_be_bytes());
        w.put(self.bounty.as_bytes());
        w.put(self.digest.as_bytes());
    }

    fn read(r: &mut Reader<'_>) -> Result<Self, Error> {
        Ok(Self {
            chain: ChainId::new(u64::from_be_bytes(r.take()?)),
            bounty: Bounty::new(r.take()?),
            digest: Digest::new(r.take()?),
        })
    }
}

/// Fills a buffer that is exactly as long as what is written.
struct Writer<'a>(&'a mut [u8]);

impl Writer<'_> {
    fn put(&mut self, bytes: &[u8]) {
        let (head, tail) = core::mem::take(&mut self.0).split_at_mut(bytes.len());
        head.copy_from_slice(bytes);
        self.0 = tail;
    }

    /// A presence byte and the value, or `len` zero bytes.
    fn option<T>(&mut self, value: Option<&T>, len: usize, write: impl Fn(&T, &mut Self)) {
        match value {
            Some(value) => {
                self.put(&[1]);
                write(value, self);
            }
            None => self.0 = core::mem::take(&mut self.0).split_at_mut(len).1,
        }
    }
}

struct Reader<'a>(&'a [u8]);

impl Reader<'_> {
    fn take<const N: usize>(&mut self) -> Result<[u8; N], Error> {
        let (head, tail) = self.0.split_first_chunk().ok_or(Error::DamagedState)?;
        self.0 = tail;
        Ok(*head)
    }

    fn version(&mut self) -> Result<Version, Error> {
        self.take().map(u64::from_be_bytes).map(Version::new)
    }

    fn result(&mut self) -> Result<UpdateResult, Error> {
        let [code] = self.take()?;
        // Below 24 a CBOR integer is its own byte.
        minicbor::decode(&[code]).map_err(|_| Error::DamagedState)
    }

    fn phase(&mut self) -> Result<Phase, Error> {
        let [code] = self.take()?;
        let next = u32::from_be_bytes(self.take()?);
        match code {
            0 => Ok(Phase::Fetching { next }),
            1 => Ok(Phase::Activating),
            2 => Ok(Phase::Installed),
            3 => Ok(Phase::GivenUp),
            _ => Err(Error::DamagedState),
        }
    }

    fn delegation(&mut self) -> Result<Option<Delegation>, Error> {
        self.option(Delegation::LEN, Delegation::read)
    }

    fn option<T>(
        &mut self,
        len: usize,
        read: impl Fn(&mut Self) -> Result<T, Error>,
    ) -> Result<Option<T>, Error> {
        match self.take()? {
            [1] => read(self).map(Some),
            [0] => {
                self.0 = self.0.get(len - 1..).ok_or(Error::DamagedState)?;
                Ok(None)
            }
            _ => Err(Error::DamagedState),
        }
    }
}
