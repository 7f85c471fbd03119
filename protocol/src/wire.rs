//! Deterministic CBOR (RFC 8949 §4.2), strictly: what decodes is what encodes.
//!
//! A message is decoded, must end where the bytes end, and is then encoded again against the input
//! without a buffer. Anything that the encoder would not have written byte for byte is refused:
//! longer forms of integers and lengths, indefinite lengths, keys out of order, twice or unknown,
//! trailing bytes.

use minicbor::encode::{self, Write};
use minicbor::{Decode, Encode, Encoder};
use sha2::{Digest as _, Sha256};
use thiserror::Error;

use crate::id::Digest;

/// Why bytes are not a message, or a message did not fit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum WireError {
    /// More bytes than any message of this kind has.
    #[error("message of {got} bytes, at most {max} allowed")]
    TooLong {
        /// Bytes that came.
        got: usize,
        /// Bytes that the kind may have.
        max: usize,
    },
    /// Not CBOR of the message's shape, or a field out of its bounds.
    #[error("malformed message at byte {0}")]
    Malformed(usize),
    /// Bytes after the message.
    #[error("{0} bytes after the message")]
    Trailing(usize),
    /// CBOR that is not in the one deterministic form.
    #[error("not deterministic CBOR")]
    NotCanonical,
    /// The buffer to encode into is too short.
    #[error("buffer of {0} bytes is too short for the message")]
    NoSpace(usize),
}

/// Decodes one message from all of `bytes`, of which there may be at most `max`.
///
/// # Errors
/// See [`WireError`]; never [`WireError::NoSpace`].
pub fn decode<'b, T>(bytes: &'b [u8], max: usize) -> Result<T, WireError>
where
    T: Decode<'b, ()> + Encode<()>,
{
    if bytes.len() > max {
        return Err(WireError::TooLong { got: bytes.len(), max });
    }
    let mut decoder = minicbor::Decoder::new(bytes);
    let message: T =
        decoder.decode().map_err(|_| WireError::Malformed(decoder.position().min(bytes.len())))?;
    if decoder.position() != bytes.len() {
        return Err(WireError::Trailing(bytes.len() - decoder.position()));
    }
    if encodes_to(&message, bytes) { Ok(message) } else { Err(WireError::NotCanonical) }
}

/// Encodes a message to the front of `out` and returns that part.
///
/// # Errors
/// [`WireError::NoSpace`].
pub fn encode_into<'o, T: Encode<()>>(message: &T, out: &'o mut [u8]) -> Result<&'o [u8], WireError> {
    let room = out.len();
    let mut sink = Sink::Fill { out, at: 0 };
    minicbor::encode(message, &mut sink).map_err(|_| WireError::NoSpace(room))?;
    match sink {
        Sink::Fill { out, at } => Ok(&out[..at]),
        _ => Err(WireError::NoSpace(room)),
    }
}

/// Encodes a message.
#[cfg(feature = "alloc")]
pub fn to_vec<T: Encode<()>>(message: &T) -> alloc::vec::Vec<u8> {
    let mut out = alloc::vec::Vec::new();
    minicbor::encode(message, &mut out).expect("a vector takes every byte");
    out
}

/// Whether `message` encodes to exactly `bytes`.
pub(crate) fn encodes_to<T: Encode<()>>(message: &T, bytes: &[u8]) -> bool {
    let mut sink = Sink::Expect(bytes);
    minicbor::encode(message, &mut sink).is_ok() && matches!(sink, Sink::Expect([]))
}

/// A byte string that holds the encoding of a value (`bstr .cbor T` in CDDL).
pub(crate) struct Wrapped<T>(pub(crate) T);

impl<C, T: Encode<()>> Encode<C> for Wrapped<T> {
    /// Encodes twice, first only to learn the length: nothing here has a buffer to grow.
    fn encode<W: Write>(&self, e: &mut Encoder<W>, _: &mut C) -> Result<(), encode::Error<W::Error>> {
        e.bytes_len(encoded_len(&self.0))?.encode(&self.0)?.ok()
    }
}

/// Bytes that a value encodes to.
fn encoded_len<T: Encode<()>>(value: &T) -> u64 {
    let mut sink = Sink::Count(0);
    // Counting takes every byte, so this cannot fail.
    let _ = minicbor::encode(value, &mut sink);
    if let Sink::Count(len) = sink { len } else { 0 }
}

/// SHA-256 of what a value encodes to.
pub(crate) fn sha256<T: Encode<()>>(value: &T) -> Digest {
    let mut sink = Sink::Hash(Sha256::new());
    // Hashing takes every byte, so this cannot fail.
    let _ = minicbor::encode(value, &mut sink);
    let hash = if let Sink::Hash(hash) = sink { hash } else { Sha256::new() };
    Digest::new(hash.finalize().into())
}

/// Where encoded bytes go. One type for all ends, because each type would be another copy of the encoders in a sensor's
/// flash.
enum Sink<'a> {
    /// They are counted.
    Count(u64),
    /// They are hashed.
    Hash(Sha256),
    /// They must be these, and the rest is still to come.
    Expect(&'a [u8]),
    /// They fill a buffer, so far up to `at`.
    Fill { out: &'a mut [u8], at: usize },
}

/// The bytes are not the expected ones, or do not fit.
struct Refused;

impl Write for Sink<'_> {
    type Error = Refused;

    fn write_all(&mut self, bytes: &[u8]) -> Result<(), Refused> {
        match self {
            Self::Count(len) => *len += bytes.len() as u64,
            Self::Hash(hash) => hash.update(bytes),
            Self::Expect(rest) => *rest = rest.strip_prefix(bytes).ok_or(Refused)?,
            Self::Fill { out, at } => {
                let room = out.get_mut(*at..).and_then(|rest| rest.get_mut(..bytes.len()));
                room.ok_or(Refused)?.copy_from_slice(bytes);
                *at += bytes.len();
            }
        }
        Ok(())
    }
}

/// Fields that are byte strings with a bound on their length.
pub(crate) mod bounded {
    use minicbor::decode::{Decoder, Error};

    /// A byte string of at most `max` bytes.
    pub(crate) fn bytes<'b>(d: &mut Decoder<'b>, max: usize) -> Result<&'b [u8], Error> {
        let at = d.position();
        let bytes = d.bytes()?;
        if bytes.len() > max {
            return Err(Error::message("byte string longer than allowed").at(at));
        }
        Ok(bytes)
    }

    /// A number within a range.
    pub(crate) fn number(d: &mut Decoder<'_>, range: core::ops::RangeInclusive<u16>) -> Result<u16, Error> {
        let at = d.position();
        let number = d.u16()?;
        if !range.contains(&number) {
            return Err(Error::message("number out of range").at(at));
        }
        Ok(number)
    }

    /// An array of definite length with at most `max` items.
    #[cfg(feature = "alloc")]
    pub(crate) fn list<'b, T>(
        d: &mut Decoder<'b>,
        max: usize,
        mut item: impl FnMut(&mut Decoder<'b>) -> Result<T, Error>,
    ) -> Result<alloc::vec::Vec<T>, Error> {
        let at = d.position();
        let count = d.array()?.and_then(|n| usize::try_from(n).ok()).filter(|n| *n <= max);
        let count = count.ok_or_else(|| Error::message("array longer than allowed").at(at))?;
        (0..count).map(|_| item(d)).collect()
    }
}

/// Gives a message type its strict `decode` and its `encode`s.
macro_rules! message {
    ($name:ident $(<$life:lifetime>)?, $max:expr) => {
        impl $(<$life>)? $name $(<$life>)? {
            /// Most bytes that the encoded message has.
            pub const MAX_LEN: usize = $max;

            /// Writes the message to the front of `out` and returns that part.
            ///
            /// # Errors
            /// [`WireError::NoSpace`](crate::wire::WireError::NoSpace); never with
            /// [`Self::MAX_LEN`] bytes of room and fields within their bounds.
            pub fn encode_into<'o>(
                &self,
                out: &'o mut [u8],
            ) -> Result<&'o [u8], crate::wire::WireError> {
                crate::wire::encode_into(self, out)
            }

            /// The encoded message.
            #[cfg(feature = "alloc")]
            pub fn to_vec(&self) -> alloc::vec::Vec<u8> {
                crate::wire::to_vec(self)
            }
        }
        crate::wire::message!(@decode $name $(<$life>)?);
    };
    (@decode $name:ident) => {
        impl $name {
            /// Reads the message, strictly (see [`crate::wire`]).
            ///
            /// # Errors
            /// [`WireError`](crate::wire::WireError): anything but exactly one message in its one form.
            pub fn decode(bytes: &[u8]) -> Result<Self, crate::wire::WireError> {
                crate::wire::decode(bytes, Self::MAX_LEN)
            }
        }
    };
    (@decode $name:ident <$life:lifetime>) => {
        impl<$life> $name<$life> {
            /// Reads the message, strictly (see [`crate::wire`]), borrowing from `bytes`.
            ///
            /// # Errors
            /// [`WireError`](crate::wire::WireError): anything but exactly one message in its one form.
            pub fn decode(bytes: &$life [u8]) -> Result<Self, crate::wire::WireError> {
                crate::wire::decode(bytes, Self::MAX_LEN)
            }
        }
    };
}
pub(crate) use message;
