//! Blocks of an image: idempotent and random-access, so a lost one costs that one.

use minicbor::decode::{Decoder, Error};
use minicbor::{Decode, Encode};

use crate::id::UpdateId;
use crate::wire::{bounded, message};

/// Most bytes of one block.
pub const MAX_BLOCK: usize = 1024;

/// Up: asks for `count` blocks of `len` bytes from `offset` on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct BlockRequest {
    /// The image.
    #[n(0)]
    pub u_id: UpdateId,
    /// First byte of the first block.
    #[n(1)]
    pub offset: u32,
    /// Bytes of a block, 1 to [`MAX_BLOCK`]; the image's last may be shorter.
    #[cbor(n(2), decode_with = "decode_len")]
    pub len: u16,
    /// Blocks, from 1.
    #[cbor(n(3), decode_with = "decode_count")]
    pub count: u16,
}

message!(BlockRequest, 64);

/// Down: bytes of an image, borrowed from the message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Block<'b> {
    /// The image.
    #[n(0)]
    pub u_id: UpdateId,
    /// Where in it the bytes belong.
    #[n(1)]
    pub offset: u32,
    /// 1 to [`MAX_BLOCK`] bytes.
    #[cbor(b(2), encode_with = "minicbor::bytes::encode", decode_with = "decode_block")]
    pub bytes: &'b [u8],
}

message!(Block<'b>, MAX_BLOCK + 64);

fn decode_block<'b, C>(d: &mut Decoder<'b>, _: &mut C) -> Result<&'b [u8], Error> {
    let at = d.position();
    match bounded::bytes(d, MAX_BLOCK)? {
        [] => Err(Error::message("empty block").at(at)),
        bytes => Ok(bytes),
    }
}

fn decode_len<C>(d: &mut Decoder<'_>, _: &mut C) -> Result<u16, Error> {
    bounded::number(d, 1..=MAX_BLOCK as u16)
}

fn decode_count<C>(d: &mut Decoder<'_>, _: &mut C) -> Result<u16, Error> {
    bounded::number(d, 1..=u16::MAX)
}
