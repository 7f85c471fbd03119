//! What a sensor calls, in a program without std and without an allocator. That this builds is the
//! check: `rustc` refuses a final artifact into which any crate has brought `alloc` without one.
//!
//! `cargo build --manifest-path protocol/freestanding/Cargo.toml`
#![no_std]
#![forbid(unsafe_code)]

use core::panic::PanicInfo;

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

#[panic_handler]
fn panic(_: &PanicInfo<'_>) -> ! {
    loop {}
}
