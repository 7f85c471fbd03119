//! A board in memory, and the vendor of its firmware.

use std::{cell::RefCell, convert::Infallible};

use posthouse_device::{Device, Flash, Key, PAGE_LEN, Pages};
use posthouse_protocol::cose::ReleaseSigningKey;
use posthouse_protocol::device::{Boot, Config, Stored, Verified};
use posthouse_protocol::id::{Curve, DeviceKey, Digest, ProductId, Signature, UpdateId, Version};
use posthouse_protocol::key::SigningKey;
use posthouse_protocol::suit::{self, Manifest};
use sha2::{Digest as _, Sha256};

pub(crate) const IMAGE_LEN: u32 = 3000;
pub(crate) const PRODUCT: ProductId = ProductId::new([0x11; 32]);

/// A board in memory; what it activated becomes what runs.
#[derive(Default)]
pub(crate) struct Memory {
    slot: Vec<u8>,
    pub(crate) pages: [Vec<u8>; 2],
    pub(crate) activated: Option<UpdateId>,
}

pub(crate) struct Board<'a>(&'a RefCell<Memory>);

impl Flash for Board<'_> {
    type Error = Infallible;

    fn capacity(&self) -> u32 {
        8192
    }

    fn write(&mut self, offset: u32, bytes: &[u8]) -> Result<(), Infallible> {
        let slot = &mut self.0.borrow_mut().slot;
        slot.resize(8192, 0xff);
        slot[offset as usize..][..bytes.len()].copy_from_slice(bytes);
        Ok(())
    }

    fn read(&mut self, offset: u32, bytes: &mut [u8]) -> Result<(), Infallible> {
        bytes.copy_from_slice(&self.0.borrow().slot[offset as usize..][..bytes.len()]);
        Ok(())
    }

    fn activate(&mut self, image: &Verified) -> Result<(), Infallible> {
        self.0.borrow_mut().activated = Some(image.u_id());
        Ok(())
    }
}

impl Pages for Board<'_> {
    type Error = Infallible;

    fn read(&mut self, page: usize, bytes: &mut [u8]) -> Result<(), Infallible> {
        let page = &self.0.borrow().pages[page];
        if page.is_empty() {
            bytes.fill(0xff)
        } else {
            bytes.copy_from_slice(page)
        }
        Ok(())
    }

    fn write(&mut self, page: usize, bytes: &[u8]) -> Result<(), Infallible> {
        assert_eq!(bytes.len(), PAGE_LEN);
        self.0.borrow_mut().pages[page] = bytes.to_vec();
        Ok(())
    }
}

pub(crate) struct SoftKey(SigningKey);

impl Key for SoftKey {
    type Error = Infallible;

    fn public(&self) -> DeviceKey {
        self.0.device_key()
    }

    fn curve(&self) -> Curve {
        self.0.curve()
    }

    fn sign(&mut self, digest: &Digest) -> Result<Signature, Infallible> {
        Ok(self.0.sign(digest))
    }
}

pub(crate) fn image() -> Vec<u8> {
    (0..IMAGE_LEN).map(|at| (at * 7 % 251) as u8).collect()
}

pub(crate) fn u_id() -> UpdateId {
    UpdateId::new(Sha256::digest(image()).into())
}

pub(crate) fn vendor() -> ReleaseSigningKey {
    ReleaseSigningKey::from_bytes(&[9; 32]).unwrap()
}

pub(crate) fn envelope() -> Vec<u8> {
    let manifest = Manifest { sequence: Version::new(2), product: PRODUCT, u_id: u_id(), size: IMAGE_LEN };
    suit::build(&manifest, &vendor())
}

/// A device that left the factory with version 1.
pub(crate) fn device<'a>(
    memory: &'a RefCell<Memory>,
    curve: Curve,
    boot: Boot,
) -> Device<Board<'a>, SoftKey, Board<'a>> {
    let key = SoftKey(SigningKey::from_bytes(curve, &[7; 32]).unwrap());
    let config = Config {
        key: key.public(),
        curve,
        product: PRODUCT,
        release_key: vendor().release_key(),
        slot: 8192,
        wake_s: 60,
        block: 512,
        window: 1,
        checkpoint: 1024,
        block_timeout_ms: 1000,
        block_tries: 3,
    };
    let factory = Stored::factory(Version::new(1));
    Device::open(config, factory, boot, Board(memory), key, Board(memory)).unwrap()
}
