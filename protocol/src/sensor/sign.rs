//! What a sensor is asked to sign, and its answer.

use minicbor::encode::Write;
use minicbor::{Decode, Decoder, Encode, Encoder, decode, encode};

use crate::digest;
use crate::id::{Attempt, Bounty, ChainId, Digest, LockHash, Payee, PeerHash, Signature, UpdateId};
use crate::wire::message;

/// Down: what to sign. The sensor builds the digest itself, so it knows what it signs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SignRequest {
    /// Let this gateway speak for the sensor about this bounty.
    Delegate {
        /// Chain of the bounty.
        chain: ChainId,
        /// The bounty contract.
        bounty: Bounty,
        /// SHA-256 of the gateway's peer id.
        gateway: PeerHash,
    },
    /// Say whom to pay for this update.
    Receipt {
        /// Chain of the bounty.
        chain: ChainId,
        /// The bounty contract.
        bounty: Bounty,
        /// Who is to be paid.
        payee: Payee,
        /// Digest of the image; the sensor refuses any but its manifest's.
        u_id: UpdateId,
        /// Lock of the offer.
        s: LockHash,
        /// Which distinct receipt for this version it is, from 1.
        attempt: Attempt,
    },
}

message!(SignRequest, 160);

impl SignRequest {
    /// The digest to sign ([`crate::digest`]).
    pub fn digest(&self) -> Digest {
        match self {
            Self::Delegate { chain, bounty, gateway } => digest::delegation(*chain, bounty, gateway),
            Self::Receipt { chain, bounty, payee, u_id, s, attempt } => {
                digest::receipt(*chain, bounty, payee, u_id, s, *attempt)
            }
        }
    }
}

/// `kind` in the CDDL.
const DELEGATE: u8 = 0;
const RECEIPT: u8 = 1;

impl<C> Encode<C> for SignRequest {
    fn encode<W: Write>(&self, e: &mut Encoder<W>, ctx: &mut C) -> Result<(), encode::Error<W::Error>> {
        match self {
            Self::Delegate { chain, bounty, gateway } => {
                e.map(4)?.u8(0)?.u8(DELEGATE)?;
                e.u8(1)?.encode_with(chain, ctx)?.u8(2)?.encode_with(bounty, ctx)?;
                e.u8(3)?.encode_with(gateway, ctx)?;
            }
            Self::Receipt { chain, bounty, payee, u_id, s, attempt } => {
                e.map(7)?.u8(0)?.u8(RECEIPT)?;
                e.u8(1)?.encode_with(chain, ctx)?.u8(2)?.encode_with(bounty, ctx)?;
                e.u8(4)?.encode_with(payee, ctx)?.u8(5)?.encode_with(u_id, ctx)?;
                e.u8(6)?.encode_with(s, ctx)?.u8(7)?.encode_with(attempt, ctx)?;
            }
        }
        Ok(())
    }
}

/// In the one order that there is: that the map is as long as its fields is seen when it is encoded again
/// ([`crate::wire::decode`]). Nothing is skipped, so that a sensor carries no code that skips.
impl<'b, C> Decode<'b, C> for SignRequest {
    fn decode(d: &mut Decoder<'b>, ctx: &mut C) -> Result<Self, decode::Error> {
        d.map()?;
        key(d, 0)?;
        let kind = d.u8()?;
        key(d, 1)?;
        let chain = d.decode_with(ctx)?;
        key(d, 2)?;
        let bounty = d.decode_with(ctx)?;
        match kind {
            DELEGATE => {
                key(d, 3)?;
                Ok(Self::Delegate { chain, bounty, gateway: d.decode_with(ctx)? })
            }
            RECEIPT => {
                key(d, 4)?;
                let payee = d.decode_with(ctx)?;
                key(d, 5)?;
                let u_id = d.decode_with(ctx)?;
                key(d, 6)?;
                let s = d.decode_with(ctx)?;
                key(d, 7)?;
                Ok(Self::Receipt { chain, bounty, payee, u_id, s, attempt: d.decode_with(ctx)? })
            }
            _ => Err(decode::Error::message("no such kind of sign request")),
        }
    }
}

fn key(d: &mut Decoder<'_>, key: u8) -> Result<(), decode::Error> {
    let at = d.position();
    if d.u8()? == key { Ok(()) } else { Err(decode::Error::message("another field was expected").at(at)) }
}

/// Up: the signature that was asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct SignatureMsg {
    /// The digest that was signed, by which the gateway finds its request.
    #[n(0)]
    pub digest: Digest,
    /// By the device key.
    #[n(1)]
    pub sig: Signature,
}

message!(SignatureMsg, 112);
