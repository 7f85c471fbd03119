//! Takes the fields out of an envelope. It steps over what it does not need: [`super::verify`]
//! compares the whole with what these fields encode to.

use minicbor::Decoder;
use minicbor::decode::Error;

use super::{Manifest, SuitError};
use crate::id::{Digest, ProductId, Signature, UpdateId, Version, decode_exact};

/// What an envelope says, before any of it is believed.
pub(super) struct Envelope {
    /// The manifest's fields.
    pub(super) manifest: Manifest,
    /// Digest in the authentication wrapper.
    pub(super) digest: Digest,
    /// Signature in the authentication wrapper.
    pub(super) signature: Signature,
}

/// Reads the fields.
pub(super) fn envelope(bytes: &[u8]) -> Result<Envelope, SuitError> {
    let mut d = Decoder::new(bytes);
    fields(&mut d).map_err(|_| SuitError::Malformed(d.position().min(bytes.len())))
}

fn fields(d: &mut Decoder<'_>) -> Result<Envelope, Error> {
    d.tag()?;
    d.map()?;
    d.u8()?;
    let (digest, signature) = authentication(&mut Decoder::new(d.bytes()?))?;
    d.u8()?;
    let manifest = manifest(&mut Decoder::new(d.bytes()?))?;
    Ok(Envelope { manifest, digest, signature })
}

fn authentication(d: &mut Decoder<'_>) -> Result<(Digest, Signature), Error> {
    d.array()?;
    let digest = suit_digest(d)?;
    let mut sign1 = Decoder::new(d.bytes()?);
    sign1.tag()?;
    sign1.array()?;
    sign1.bytes()?;
    sign1.map()?;
    sign1.null()?;
    Ok((Digest::new(digest), sign1.decode::<Signature>()?))
}

fn manifest(d: &mut Decoder<'_>) -> Result<Manifest, Error> {
    d.map()?;
    key(d)?;
    d.u8()?;
    key(d)?;
    let sequence: Version = d.decode()?;
    key(d)?;
    let mut common = Decoder::new(d.bytes()?);
    let (product, u_id, size) = shared_sequence(&mut common)?;
    Ok(Manifest { sequence, product, u_id, size })
}

fn shared_sequence(common: &mut Decoder<'_>) -> Result<(ProductId, UpdateId, u32), Error> {
    common.map()?;
    key(common)?;
    component(common)?;
    key(common)?;
    let mut d = Decoder::new(common.bytes()?);
    d.array()?;
    key(&mut d)?;
    parameters(&mut d)
}

fn component(d: &mut Decoder<'_>) -> Result<(), Error> {
    d.array()?;
    d.array()?;
    d.bytes().map(|_| ())
}

fn parameters(d: &mut Decoder<'_>) -> Result<(ProductId, UpdateId, u32), Error> {
    d.map()?;
    key(d)?;
    let vendor = decode_exact(d)?;
    key(d)?;
    let class = decode_exact(d)?;
    key(d)?;
    let u_id = UpdateId::new(suit_digest(d)?);
    key(d)?;
    Ok((ProductId::from_parts(vendor, class), u_id, d.u32()?))
}

fn key(d: &mut Decoder<'_>) -> Result<(), Error> {
    d.u8().map(|_| ())
}

/// The 32 bytes of a wrapped SUIT_Digest.
fn suit_digest(d: &mut Decoder<'_>) -> Result<[u8; 32], Error> {
    let mut digest = Decoder::new(d.bytes()?);
    digest.array()?;
    digest.i8()?;
    decode_exact(&mut digest)
}
