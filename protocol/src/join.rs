//! `/posthouse/join/1`: how a distributor gets a release's secret from the vendor.

use alloc::vec::Vec;

use minicbor::{Decode, Encode};
use thiserror::Error;
use zeroize::Zeroizing;

use crate::id::{Bounty, ChainId, Payee};
use crate::wire::{bounded, message};

/// Name of the libp2p protocol.
pub const PROTOCOL: &str = "/posthouse/join/1";
/// Most bytes of a request or response.
pub const MAX_BODY: usize = 64 * 1024;
/// Most bytes of the secret: the image in file mode, 32 in key mode.
pub const MAX_PAYLOAD: usize = MAX_BODY - 64;

/// From a distributor that wants to sell the update.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Request {
    /// Chain of the bounty.
    #[n(0)]
    pub chain: ChainId,
    /// The bounty contract.
    #[n(1)]
    pub bounty: Bounty,
    /// The distributor's address.
    #[n(2)]
    pub payee: Payee,
    /// `r ‖ s ‖ v`, `v` 27 or 28, over [`crate::digest::join`] with the asking peer's id, by the
    /// payee's Ethereum key. The digest is signed as it is, without the prefix of EIP-191.
    #[cbor(n(3), with = "minicbor::bytes")]
    pub sig: [u8; 65],
}

message!(Request, 256);

/// From the vendor or a seeder.
#[derive(Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(flat)]
pub enum Response {
    /// The peer has joined.
    #[n(0)]
    Secret {
        /// `U` in file mode, `K` in key mode; at most [`MAX_PAYLOAD`] bytes, wiped when dropped.
        #[cbor(n(0), encode_with = "encode_payload", decode_with = "decode_payload")]
        payload: Zeroizing<Vec<u8>>,
    },
    /// No.
    #[n(1)]
    Refused {
        /// Why.
        #[n(0)]
        reason: JoinRefusal,
    },
}

message!(Response, MAX_BODY);

impl core::fmt::Debug for Response {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::Secret { payload } => write!(f, "Secret({} bytes, …)", payload.len()),
            Self::Refused { reason } => write!(f, "Refused({reason:?})"),
        }
    }
}

/// Why a distributor may not join.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Encode, Decode, Error)]
#[cbor(index_only)]
#[repr(u8)]
pub enum JoinRefusal {
    /// The admission policy does not list the payee.
    #[n(0)]
    #[error("payee is not admitted")]
    NotAdmitted = 0,
    /// The signature is not by the payee for this peer.
    #[n(1)]
    #[error("signature does not verify")]
    BadSignature = 1,
    /// The bounty is on another chain.
    #[n(2)]
    #[error("another chain")]
    WrongChain = 2,
    /// Not a bounty of this vendor.
    #[n(3)]
    #[error("bounty is not known")]
    UnknownBounty = 3,
    /// Too many requests.
    #[n(4)]
    #[error("too many requests")]
    RateLimited = 4,
    /// The request does not decode.
    #[n(5)]
    #[error("malformed request")]
    Malformed = 5,
}

fn encode_payload<C, W: minicbor::encode::Write>(
    payload: &[u8],
    e: &mut minicbor::Encoder<W>,
    _: &mut C,
) -> Result<(), minicbor::encode::Error<W::Error>> {
    e.bytes(payload)?.ok()
}

fn decode_payload<C>(
    d: &mut minicbor::Decoder<'_>,
    _: &mut C,
) -> Result<Zeroizing<Vec<u8>>, minicbor::decode::Error> {
    bounded::bytes(d, MAX_PAYLOAD).map(|bytes| Zeroizing::new(bytes.into()))
}
