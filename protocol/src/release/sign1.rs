//! The COSE_Sign1 around a release, in its one form.

use minicbor::data::Tag;
use minicbor::encode::Write;
use minicbor::{Decode, Decoder, Encode, Encoder, decode, encode};

use super::CONTENT_TYPE;
use crate::cose::{ES256, SIGN1_TAG};
use crate::id::Signature;
use crate::wire::Wrapped;

/// `{alg: ES256, content type: …}`.
pub(super) struct Protected;

impl<C> Encode<C> for Protected {
    fn encode<W: Write>(&self, e: &mut Encoder<W>, _: &mut C) -> Result<(), encode::Error<W::Error>> {
        e.map(2)?.u8(1)?.i8(ES256)?.u8(3)?.str(CONTENT_TYPE)?.ok()
    }
}

/// Payload and signature; the headers are always the same.
pub(super) struct Sign1<'b> {
    pub(super) payload: &'b [u8],
    pub(super) signature: Signature,
}

impl<C> Encode<C> for Sign1<'_> {
    fn encode<W: Write>(&self, e: &mut Encoder<W>, _: &mut C) -> Result<(), encode::Error<W::Error>> {
        e.tag(Tag::new(SIGN1_TAG))?
            .array(4)?
            .encode(Wrapped(Protected))?
            .map(0)?
            .bytes(self.payload)?
            .encode(self.signature)?
            .ok()
    }
}

impl<'b, C> Decode<'b, C> for Sign1<'b> {
    /// Steps over the headers: the strict decoder compares them with what is written.
    fn decode(d: &mut Decoder<'b>, _: &mut C) -> Result<Self, decode::Error> {
        d.tag()?;
        d.array()?;
        d.bytes()?;
        d.map()?;
        Ok(Self { payload: d.bytes()?, signature: d.decode()? })
    }
}
