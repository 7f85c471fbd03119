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

    /// The fields under the integer keys of the CDDL.
    fn fields(&self) -> Fields {
        match *self {
            Self::Delegate { chain, bounty, gateway } => Fields {
                kind: Kind::Delegate,
                chain,
                bounty,
                gateway: Some(gateway),
                payee: None,
                u_id: None,
                s: None,
                attempt: None,
            },
            Self::Receipt { chain, bounty, payee, u_id, s, attempt } => Fields {
                kind: Kind::Receipt,
                chain,
                bounty,
                gateway: None,
                payee: Some(payee),
                u_id: Some(u_id),
                s: Some(s),
                attempt: Some(attempt),
            },
        }
    }
}

/// Both kinds in one flat map, as a decoder in C would read it.
#[derive(Encode, Decode)]
#[cbor(map)]
struct Fields {
    #[n(0)]
    kind: Kind,
    #[n(1)]
    chain: ChainId,
    #[n(2)]
    bounty: Bounty,
    #[n(3)]
    gateway: Option<PeerHash>,
    #[n(4)]
    payee: Option<Payee>,
    #[n(5)]
    u_id: Option<UpdateId>,
    #[n(6)]
    s: Option<LockHash>,
    #[n(7)]
    attempt: Option<Attempt>,
}

#[derive(Encode, Decode)]
#[cbor(index_only)]
enum Kind {
    #[n(0)]
    Delegate,
    #[n(1)]
    Receipt,
}

impl Fields {
    /// The request, if exactly its kind's fields are there.
    fn request(self) -> Option<SignRequest> {
        let Self { chain, bounty, .. } = self;
        match (self.kind, self.gateway, self.payee, self.u_id, self.s, self.attempt) {
            (Kind::Delegate, Some(gateway), None, None, None, None) => {
                Some(SignRequest::Delegate { chain, bounty, gateway })
            }
            (Kind::Receipt, None, Some(payee), Some(u_id), Some(s), Some(attempt)) => {
                Some(SignRequest::Receipt { chain, bounty, payee, u_id, s, attempt })
            }
            _ => None,
        }
    }
}

impl<C> Encode<C> for SignRequest {
    fn encode<W: Write>(&self, e: &mut Encoder<W>, ctx: &mut C) -> Result<(), encode::Error<W::Error>> {
        self.fields().encode(e, ctx)
    }
}

impl<'b, C> Decode<'b, C> for SignRequest {
    fn decode(d: &mut Decoder<'b>, ctx: &mut C) -> Result<Self, decode::Error> {
        Fields::decode(d, ctx)?
            .request()
            .ok_or_else(|| decode::Error::message("fields of another kind of sign request"))
    }
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
