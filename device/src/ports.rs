//! What a port to a new board has to bring.

use posthouse_protocol::device::Verified;
use posthouse_protocol::id::{Curve, DeviceKey, Digest, Signature};

/// The spare slot of the firmware's flash, and the bootloader's switch.
pub trait Flash {
    /// What can go wrong.
    type Error;

    /// Bytes of the slot.
    fn capacity(&self) -> u32;

    /// Writes. Writes come in order and without gaps; where one enters a page that begins at or
    /// after `offset`, the page is erased first. After a power cut they start again at a multiple
    /// of the configured checkpoint, so a checkpoint is a multiple of the page.
    ///
    /// # Errors
    /// The port's own.
    fn write(&mut self, offset: u32, bytes: &[u8]) -> Result<(), Self::Error>;

    /// Makes what was written durable. Called before progress is saved; nothing to do on bare flash.
    ///
    /// # Errors
    /// The port's own.
    fn sync(&mut self) -> Result<(), Self::Error> {
        Ok(())
    }

    /// Fills `bytes` from `offset`.
    ///
    /// # Errors
    /// The port's own.
    fn read(&mut self, offset: u32, bytes: &mut [u8]) -> Result<(), Self::Error>;

    /// Makes the slot the one that boots next, in one step that a power cut leaves undone or done.
    /// Only the machine makes a [`Verified`], after it has read the image back.
    ///
    /// # Errors
    /// The port's own.
    fn activate(&mut self, image: &Verified) -> Result<(), Self::Error>;
}

/// The device key, best kept in a secure element.
pub trait Key {
    /// What can go wrong.
    type Error;

    /// The public key.
    fn public(&self) -> DeviceKey;

    /// Its curve.
    fn curve(&self) -> Curve;

    /// ECDSA over the digest as it is, `r ‖ s` with low `s`.
    ///
    /// # Errors
    /// The port's own.
    fn sign(&mut self, digest: &Digest) -> Result<Signature, Self::Error>;
}

/// Two pages of [`PAGE_LEN`](crate::PAGE_LEN) bytes for the persistent state, apart from the slots.
/// A write may be torn by a power cut, but must be durable when it returns.
pub trait Pages {
    /// What can go wrong.
    type Error;

    /// Fills `bytes` from page 0 or 1. A page that was never written reads as anything.
    ///
    /// # Errors
    /// The port's own.
    fn read(&mut self, page: usize, bytes: &mut [u8]) -> Result<(), Self::Error>;

    /// Overwrites page 0 or 1.
    ///
    /// # Errors
    /// The port's own.
    fn write(&mut self, page: usize, bytes: &[u8]) -> Result<(), Self::Error>;
}
