//! What a sensor calls, in a program without std and without an allocator. That this builds is the
//! check: `rustc` refuses a final artifact into which any crate has brought `alloc` without one.
//!
//! `cargo build --manifest-path protocol/freestanding/Cargo.toml`
#![no_std]
#![forbid(unsafe_code)]

use core::panic::PanicInfo;

use posthouse_device::{Device, Flash, Flow, Key, Pages};
use posthouse_protocol::device::{Boot, Config, Input, Message, Stored};
use posthouse_protocol::id::{DeviceKey, ReleaseKey};
use posthouse_protocol::key::{self, SigningKey};
use posthouse_protocol::sensor::{Block, Hello, SignRequest, SignatureMsg};
use posthouse_protocol::suit::{self, Manifest, SuitError};
use posthouse_protocol::wire::WireError;

/// Says hello.
pub fn hello<'o>(hello: &Hello, out: &'o mut [u8]) -> Result<&'o [u8], WireError> {
    hello.encode_into(out)
}

/// Verifies a manifest.
pub fn manifest(envelope: &[u8], vendor: &ReleaseKey) -> Result<Manifest, SuitError> {
    suit::verify(envelope, vendor)
}

/// Signs what it is asked to.
pub fn sign<'o>(request: &[u8], key: &SigningKey, out: &'o mut [u8]) -> Result<&'o [u8], WireError> {
    let digest = SignRequest::decode(request)?.digest();
    SignatureMsg { digest, sig: key.sign(&digest) }.encode_into(out)
}

/// Takes a block.
pub fn block(message: &[u8]) -> Result<Block<'_>, WireError> {
    Block::decode(message)
}

/// Checks another device's signature.
pub fn verified(device: &DeviceKey, message: &[u8], curve: posthouse_protocol::id::Curve) -> bool {
    SignatureMsg::decode(message).is_ok_and(|m| key::verify(curve, device, &m.digest, &m.sig).is_ok())
}

/// Lives from power-up until there is nothing to do, on the board that a port brings.
pub fn live<B: Flash + Key + Pages + Copy>(
    (config, factory, boot): (Config, Stored, Boot),
    board: B,
    inputs: &[Input<'_>],
    send: &mut impl FnMut(Message),
) -> Option<Flow> {
    let mut device = Device::open(config, factory, boot, board, board, board).ok()?;
    for (now, input) in (0..).zip(inputs) {
        if device.give(*input, now, send).ok()?.flow == Flow::Reboot {
            return Some(Flow::Reboot);
        }
    }
    device.tick(0, send).ok()
}

/// The board that is not there: it makes the compiler make all of [`live`].
#[derive(Clone, Copy)]
pub struct Board;

impl Flash for Board {
    type Error = ();

    fn capacity(&self) -> u32 {
        1 << 18
    }

    fn write(&mut self, _: u32, _: &[u8]) -> Result<(), ()> {
        Ok(())
    }

    fn read(&mut self, _: u32, bytes: &mut [u8]) -> Result<(), ()> {
        bytes.fill(0xff);
        Ok(())
    }

    fn activate(&mut self, _: &posthouse_protocol::device::Verified) -> Result<(), ()> {
        Ok(())
    }
}

impl Key for Board {
    type Error = ();

    fn public(&self) -> DeviceKey {
        DeviceKey::new([2; 33])
    }

    fn curve(&self) -> posthouse_protocol::id::Curve {
        posthouse_protocol::id::Curve::P256
    }

    fn sign(
        &mut self,
        _: &posthouse_protocol::id::Digest,
    ) -> Result<posthouse_protocol::id::Signature, ()> {
        Err(())
    }
}

impl Pages for Board {
    type Error = ();

    fn read(&mut self, _: usize, bytes: &mut [u8]) -> Result<(), ()> {
        bytes.fill(0xff);
        Ok(())
    }

    fn write(&mut self, _: usize, _: &[u8]) -> Result<(), ()> {
        Ok(())
    }
}

/// The whole of a sensor's life, as far as it goes without a board.
pub fn life(parts: (Config, Stored, Boot), inputs: &[Input<'_>]) -> Option<Flow> {
    live(parts, Board, inputs, &mut |_| {})
}

#[panic_handler]
fn panic(_: &PanicInfo<'_>) -> ! {
    loop {}
}
