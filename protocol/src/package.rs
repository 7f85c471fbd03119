//! The package's root: one DAG-CBOR block that links everything public about an update.
//!
//! DAG-CBOR is CBOR in deterministic form with text keys and links as tag 42; our keys are in the
//! order that both it and RFC 8949 ask for.

use alloc::vec::Vec;

use minicbor::data::Tag;
use minicbor::encode::Write;
use minicbor::{Decode, Decoder, Encode, Encoder, decode, encode};
use sha2::{Digest as _, Sha256};

use crate::id::{ContentId, PackageId};
use crate::wire::{bounded, message};

/// Version of the root's layout.
pub const VERSION: u8 = 1;
/// Most bytes of a root block.
pub const MAX_ROOT: usize = 4096;
/// DAG-CBOR's tag of a link.
const LINK_TAG: u64 = 42;

/// `{v, manifest, release, body?, fleet, vk, pk}`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Package {
    /// SUIT envelope, at most [`crate::suit::MAX_ENVELOPE`] bytes.
    pub manifest: Vec<u8>,
    /// Sealed release, at most [`crate::release::MAX_RELEASE`] bytes.
    pub release: Vec<u8>,
    /// The encrypted image; in key mode only.
    pub body: Option<ContentId>,
    /// The device keys in index order.
    pub fleet: ContentId,
    /// The verifying key.
    pub vk: ContentId,
    /// The proving key.
    pub pk: ContentId,
}

message!(Package, MAX_ROOT);

impl Package {
    /// `P_id`: SHA-256 of the root block.
    pub fn id(&self) -> PackageId {
        PackageId::new(Sha256::digest(self.to_vec()).into())
    }

    /// The root block's CID.
    pub fn content_id(&self) -> ContentId {
        ContentId::dag_cbor(self.id().to_bytes())
    }
}

impl<C> Encode<C> for Package {
    fn encode<W: Write>(&self, e: &mut Encoder<W>, _: &mut C) -> Result<(), encode::Error<W::Error>> {
        e.map(6 + u64::from(self.body.is_some()))?.str("v")?.u8(VERSION)?;
        link(e.str("pk")?, &self.pk)?;
        link(e.str("vk")?, &self.vk)?;
        if let Some(body) = &self.body {
            link(e.str("body")?, body)?;
        }
        link(e.str("fleet")?, &self.fleet)?;
        e.str("release")?.bytes(&self.release)?.str("manifest")?.bytes(&self.manifest)?.ok()
    }
}

impl<'b, C> Decode<'b, C> for Package {
    fn decode(d: &mut Decoder<'b>, _: &mut C) -> Result<Self, decode::Error> {
        let with_body = d.map()? == Some(7);
        key(d, "v")?;
        if d.u8()? != VERSION {
            return Err(decode::Error::message("another version of the package"));
        }
        Ok(Self {
            pk: linked(d, "pk")?,
            vk: linked(d, "vk")?,
            body: with_body.then(|| linked(d, "body")).transpose()?,
            fleet: linked(d, "fleet")?,
            release: inline(d, "release", crate::release::MAX_RELEASE)?,
            manifest: inline(d, "manifest", crate::suit::MAX_ENVELOPE)?,
        })
    }
}

fn link<W: Write>(e: &mut Encoder<W>, to: &ContentId) -> Result<(), encode::Error<W::Error>> {
    let mut bytes = [0; 1 + ContentId::LEN];
    // The multibase prefix of a binary CID, which DAG-CBOR asks for.
    bytes[1..].copy_from_slice(&to.to_bytes());
    e.tag(Tag::new(LINK_TAG))?.bytes(&bytes)?.ok()
}

fn key(d: &mut Decoder<'_>, name: &str) -> Result<(), decode::Error> {
    if d.str()? == name { Ok(()) } else { Err(decode::Error::message("another key")) }
}

fn linked(d: &mut Decoder<'_>, name: &str) -> Result<ContentId, decode::Error> {
    key(d, name)?;
    d.tag()?;
    let [0, cid @ ..] = d.bytes()? else {
        return Err(decode::Error::message("not a binary CID"));
    };
    ContentId::from_bytes(cid).map_err(|_| decode::Error::message("not a CID of ours"))
}

fn inline(d: &mut Decoder<'_>, name: &str, max: usize) -> Result<Vec<u8>, decode::Error> {
    key(d, name)?;
    bounded::bytes(d, max).map(Vec::from)
}
