//! Looking into a protobuf message before it is decoded.
//!
//! A repeated field of empty messages takes two bytes an element on the wire and a hundred in memory, so elements
//! are counted first and a message with too many is never decoded.

use bytes::{Buf, Bytes};
use prost::DecodeError;
use prost::encoding::{DecodeContext, WireType, decode_key, decode_varint, skip_field};

/// A top-level field: its tag and, where it is length-delimited, its bytes.
pub(crate) type Field = (u32, Option<Bytes>);

/// The next field of `message`, which is advanced past it.
pub(crate) fn next_field(message: &mut Bytes) -> Result<Option<Field>, DecodeError> {
    if !message.has_remaining() {
        return Ok(None);
    }
    let (tag, wire) = decode_key(message)?;
    if wire != WireType::LengthDelimited {
        skip_field(wire, tag, message, DecodeContext::default())?;
        return Ok(Some((tag, None)));
    }
    let len = decode_varint(message)?;
    match usize::try_from(len).ok().filter(|len| *len <= message.remaining()) {
        Some(len) => Ok(Some((tag, Some(message.split_to(len))))),
        #[allow(deprecated, reason = "prost offers no other way to make one")]
        None => Err(DecodeError::new("a field longer than its message")),
    }
}

/// How often field `wanted` occurs at the top of `message`.
pub(crate) fn count(mut message: Bytes, wanted: u32) -> Result<usize, DecodeError> {
    let mut count = 0;
    while let Some((tag, _)) = next_field(&mut message)? {
        count += usize::from(tag == wanted);
    }
    Ok(count)
}
