//! Deterministic CBOR (RFC 8949 §4.2), strictly: what decodes is what encodes.
//!
//! A message is decoded, must end where the bytes end, and is then encoded again against the input
//! without a buffer. Anything that the encoder would not have written byte for byte is refused:
//! longer forms of integers and lengths, indefinite lengths, keys out of order, twice or unknown,
//! trailing bytes.

use core::convert::Infallible;

use minicbor::encode::write::Cursor;
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
    let mut cursor = Cursor::new(&mut *out);
    minicbor::encode(message, &mut cursor).map_err(|_| WireError::NoSpace(room))?;
    let written = cursor.position();
    Ok(&out[..written])
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
    let mut rest = Expect(bytes);
    minicbor::encode(message, &mut rest).is_ok() && rest.0.is_empty()
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
    let mut len = Length(0);
    // `Length` takes every byte, so this cannot fail.
    let _ = minicbor::encode(value, &mut len);
    len.0
}

/// Counts bytes.
struct Length(u64);

impl Write for Length {
    type Error = Infallible;

    fn write_all(&mut self, bytes: &[u8]) -> Result<(), Infallible> {
        self.0 += bytes.len() as u64;
        Ok(())
    }
}

/// SHA-256 of what a value encodes to.
pub(crate) fn sha256<T: Encode<()>>(value: &T) -> Digest {
    let mut hasher = Hasher(Sha256::new());
    // `Hasher` takes every byte, so this cannot fail.
    let _ = minicbor::encode(value, &mut hasher);
    Digest::new(hasher.0.finalize().into())
}

/// Hashes what is written.
struct Hasher(Sha256);

impl Write for Hasher {
    type Error = Infallible;

    fn write_all(&mut self, bytes: &[u8]) -> Result<(), Infallible> {
        self.0.update(bytes);
        Ok(())
    }
}

/// Takes only the bytes that are expected.
struct Expect<'b>(&'b [u8]);

/// The encoder wrote something else than was expected.
struct Differs;

impl Write for Expect<'_> {
    type Error = Differs;

    fn write_all(&mut self, bytes: &[u8]) -> Result<(), Differs> {
        self.0 = self.0.strip_prefix(bytes).ok_or(Differs)?;
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
