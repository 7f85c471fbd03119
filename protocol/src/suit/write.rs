//! The one form of an envelope, as nested encoders: byte strings within byte strings, no buffer.

use minicbor::data::Tag;
use minicbor::encode::{Error, Write};
use minicbor::{Encode, Encoder};

use super::Manifest;
use crate::cose::{ES256, SIGN1_TAG, SigStructure};
use crate::id::{Digest, Signature, UpdateId};
use crate::wire::{self, Wrapped};

/// CBOR tag of SUIT_Envelope.
pub(super) const ENVELOPE_TAG: u64 = 107;
/// COSE algorithm number of SHA-256 (RFC 9054).
pub(super) const SHA256: i8 = -16;
/// What an image is fetched as: a reference relative to the manifest's, which over CoAP is
/// `/ph/manifest` and `/ph/image/<u_id>`.
pub(super) const IMAGE: &[u8; 6] = b"image/";

/// Keys of the envelope, the manifest and its common part (draft, 8.2 to 8.4; IANA in section 11).
mod key {
    pub(super) const AUTHENTICATION: u8 = 2;
    pub(super) const MANIFEST: u8 = 3;

    pub(super) const VERSION: u8 = 1;
    pub(super) const SEQUENCE: u8 = 2;
    pub(super) const COMMON: u8 = 3;
    pub(super) const VALIDATE: u8 = 7;
    pub(super) const INVOKE: u8 = 9;
    pub(super) const INSTALL: u8 = 20;

    pub(super) const COMPONENTS: u8 = 2;
    pub(super) const SHARED_SEQUENCE: u8 = 4;
}

/// Parameters of `override-parameters`.
mod parameter {
    pub(super) const VENDOR_ID: u8 = 1;
    pub(super) const CLASS_ID: u8 = 2;
    pub(super) const IMAGE_DIGEST: u8 = 3;
    pub(super) const IMAGE_SIZE: u8 = 14;
    pub(super) const URI: u8 = 21;
}

/// Conditions and directives.
mod command {
    pub(super) const VENDOR_ID: u8 = 1;
    pub(super) const CLASS_ID: u8 = 2;
    pub(super) const IMAGE_MATCH: u8 = 3;
    pub(super) const OVERRIDE_PARAMETERS: u8 = 20;
    pub(super) const FETCH: u8 = 21;
    pub(super) const INVOKE: u8 = 23;
}

/// Reporting policies (draft, 8.4.7): conditions report everything, directives failures' system
/// information; these are the values of the draft's own examples.
mod report {
    pub(super) const CONDITION: u8 = 15;
    pub(super) const DIRECTIVE: u8 = 2;
}

/// SHA-256 of the manifest with its byte string's head, as the draft has it (8.3).
pub(super) fn manifest_digest(manifest: &Manifest) -> Digest {
    wire::sha256(&Wrapped(Body(manifest)))
}

/// What the release key signs: the detached payload is the encoded SUIT_Digest.
pub(super) fn signed_digest(manifest: &Digest) -> Digest {
    let mut payload = [0; 48];
    let payload = wire::encode_into(&SuitDigest(manifest.as_bytes()), &mut payload)
        .expect("a SUIT_Digest of SHA-256 has 36 bytes");
    SigStructure { protected: Protected, payload }.digest()
}

/// The whole envelope.
pub(super) struct Envelope {
    manifest: Manifest,
    digest: Digest,
    signature: Signature,
}

impl Envelope {
    /// Puts manifest and signature together.
    pub(super) fn new(manifest: Manifest, signature: Signature) -> Self {
        Self { manifest, digest: manifest_digest(&manifest), signature }
    }
}

macro_rules! encode {
    ($type:ty, |$this:ident, $e:ident| $body:expr) => {
        impl<C> Encode<C> for $type {
            fn encode<W: Write>(&self, $e: &mut Encoder<W>, _: &mut C) -> Result<(), Error<W::Error>> {
                let $this = self;
                $body.ok()
            }
        }
    };
}

encode!(Envelope, |this, e| e
    .tag(Tag::new(ENVELOPE_TAG))?
    .map(2)?
    .u8(key::AUTHENTICATION)?
    .encode(Wrapped(Authentication(this)))?
    .u8(key::MANIFEST)?
    .encode(Wrapped(Body(&this.manifest)))?);

/// SUIT_Authentication: the digest, and the signature over it.
struct Authentication<'a>(&'a Envelope);

encode!(Authentication<'_>, |this, e| e
    .array(2)?
    .encode(Wrapped(SuitDigest(this.0.digest.as_bytes())))?
    .encode(Wrapped(Sign1(&this.0.signature)))?);

/// SUIT_Digest.
struct SuitDigest<'a>(&'a [u8; 32]);

encode!(SuitDigest<'_>, |this, e| e.array(2)?.i8(SHA256)?.bytes(this.0)?);

/// COSE_Sign1 with a detached payload.
struct Sign1<'a>(&'a Signature);

encode!(Sign1<'_>, |this, e| e
    .tag(Tag::new(SIGN1_TAG))?
    .array(4)?
    .encode(Wrapped(Protected))?
    .map(0)?
    .null()?
    .encode(this.0)?);

/// `{alg: ES256}`.
struct Protected;

encode!(Protected, |_this, e| e.map(1)?.u8(1)?.i8(ES256)?);

/// SUIT_Manifest.
struct Body<'a>(&'a Manifest);

encode!(Body<'_>, |this, e| e
    .map(6)?
    .u8(key::VERSION)?
    .u8(1)?
    .u8(key::SEQUENCE)?
    .encode(this.0.sequence)?
    .u8(key::COMMON)?
    .encode(Wrapped(Common(this.0)))?
    .u8(key::VALIDATE)?
    .encode(Wrapped(Validate))?
    .u8(key::INVOKE)?
    .encode(Wrapped(Invoke))?
    .u8(key::INSTALL)?
    .encode(Wrapped(Install(&this.0.u_id)))?);

/// SUIT_Common: one component, and the commands that run before every sequence.
struct Common<'a>(&'a Manifest);

encode!(Common<'_>, |this, e| e
    .map(2)?
    .u8(key::COMPONENTS)?
    .array(1)?
    .array(1)?
    .bytes(&[0])?
    .u8(key::SHARED_SEQUENCE)?
    .encode(Wrapped(Shared(this.0)))?);

/// What is expected of device and image, and the check that the device is one of these.
struct Shared<'a>(&'a Manifest);

encode!(Shared<'_>, |this, e| e
    .array(6)?
    .u8(command::OVERRIDE_PARAMETERS)?
    .map(4)?
    .u8(parameter::VENDOR_ID)?
    .bytes(&this.0.product.vendor_id())?
    .u8(parameter::CLASS_ID)?
    .bytes(&this.0.product.class_id())?
    .u8(parameter::IMAGE_DIGEST)?
    .encode(Wrapped(SuitDigest(this.0.u_id.as_bytes())))?
    .u8(parameter::IMAGE_SIZE)?
    .u32(this.0.size)?
    .u8(command::VENDOR_ID)?
    .u8(report::CONDITION)?
    .u8(command::CLASS_ID)?
    .u8(report::CONDITION)?);

/// Before booting: the image is the one.
struct Validate;

encode!(Validate, |_this, e| e.array(2)?.u8(command::IMAGE_MATCH)?.u8(report::CONDITION)?);

/// Booting.
struct Invoke;

encode!(Invoke, |_this, e| e.array(2)?.u8(command::INVOKE)?.u8(report::DIRECTIVE)?);

/// Fetching, then checking.
struct Install<'a>(&'a UpdateId);

encode!(Install<'_>, |this, e| e
    .array(6)?
    .u8(command::OVERRIDE_PARAMETERS)?
    .map(1)?
    .u8(parameter::URI)?
    .encode(Image(this.0))?
    .u8(command::FETCH)?
    .u8(report::DIRECTIVE)?
    .u8(command::IMAGE_MATCH)?
    .u8(report::CONDITION)?);

/// `image/<u_id in hex>` as text.
struct Image<'a>(&'a UpdateId);

encode!(Image<'_>, |this, e| {
    let mut text = [0; IMAGE.len() + 64];
    text[..IMAGE.len()].copy_from_slice(IMAGE);
    hex::encode_to_slice(this.0, &mut text[IMAGE.len()..]).expect("32 bytes are 64 digits");
    e.str(core::str::from_utf8(&text).expect("hex is ASCII"))?
});
