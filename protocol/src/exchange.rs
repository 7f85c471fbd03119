//! `/posthouse/exchange/1`: what a gateway and a distributor say to each other.
//!
//! A body is an array `[kind, field…]` in deterministic CBOR; `protocol/posthouse.cddl` defines it.
//! All requests are idempotent: the gateway repeats one until it is answered with anything but
//! [`Response::Pending`].

use alloc::vec::Vec;

use minicbor::{Decode, Encode};
use thiserror::Error;

use crate::id::{Attempt, Bounty, ChainId, DeviceKey, LockHash, Payee, Signature, VkId};
use crate::secret::KeyR;
use crate::wire::{bounded, message};

/// Name of the libp2p protocol.
pub const PROTOCOL: &str = "/posthouse/exchange/1";
/// Most bytes of a request or response.
pub const MAX_BODY: usize = 64 * 1024;
/// Most bytes of a peer key's signature; Ed25519 has 64.
pub const MAX_PEER_SIGNATURE: usize = 128;
/// Most keys in one question for their membership: as many of the longest paths fit a body.
pub const MAX_MEMBERS: usize = 56;
/// Most nodes of a Merkle path: a fleet index is a `u32`.
pub const MAX_PATH: usize = 32;
/// Most bytes of a proof; a compressed Groth16 proof over BN254 has 128.
pub const MAX_PROOF: usize = 1024;
/// Most bytes of an offer's cipher: a body less room for the other fields.
pub const MAX_CIPHER: usize = MAX_BODY - 2 * MAX_PROOF;

/// From the gateway.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(flat)]
pub enum Request {
    /// Opens the exchange for a bounty, on behalf of a device that delegated to this peer.
    #[n(0)]
    Hello {
        /// Chain of the bounty.
        #[n(0)]
        chain: ChainId,
        /// The bounty contract.
        #[n(1)]
        bounty: Bounty,
        /// A sensor behind this gateway that the bounty lists.
        #[n(2)]
        device_key: DeviceKey,
        /// The sensor's signature of [`crate::digest::delegation`].
        #[n(3)]
        delegation: Signature,
    },
    /// Answers the challenge.
    #[n(1)]
    Auth {
        /// Chain of the bounty.
        #[n(0)]
        chain: ChainId,
        /// The bounty contract.
        #[n(1)]
        bounty: Bounty,
        /// The peer key's signature of [`crate::digest::challenge`], at most
        /// [`MAX_PEER_SIGNATURE`] bytes.
        #[cbor(n(2), encode_with = "encode_bytes", decode_with = "decode_signature")]
        sig: Vec<u8>,
    },
    /// Asks for index and Merkle path of devices.
    #[n(2)]
    Members {
        /// The bounty contract.
        #[n(0)]
        bounty: Bounty,
        /// At most [`MAX_MEMBERS`] keys.
        #[cbor(n(1), decode_with = "decode_keys")]
        keys: Vec<DeviceKey>,
    },
    /// Hands over a sensor's receipt.
    #[n(3)]
    Receipt {
        /// The bounty contract.
        #[n(0)]
        bounty: Bounty,
        /// Lock of the offer that the receipt is for.
        #[n(1)]
        s: LockHash,
        /// The sensor.
        #[n(2)]
        device_key: DeviceKey,
        /// Attempt that the receipt counts.
        #[n(3)]
        attempt: Attempt,
        /// The sensor's signature of [`crate::digest::receipt`].
        #[n(4)]
        sig: Signature,
    },
    /// Ends the collection: all receipts that will come have come.
    #[n(4)]
    Seal {
        /// The bounty contract.
        #[n(0)]
        bounty: Bounty,
        /// Lock of the offer.
        #[n(1)]
        s: LockHash,
    },
    /// Asks for the key.
    #[n(5)]
    Poll {
        /// The bounty contract.
        #[n(0)]
        bounty: Bounty,
        /// Lock of the offer.
        #[n(1)]
        s: LockHash,
    },
    /// Asks for the offer again, on behalf of a device whose share was claimed under `s`.
    #[n(6)]
    Copy {
        /// The bounty contract.
        #[n(0)]
        bounty: Bounty,
        /// Lock that the share was claimed under.
        #[n(1)]
        s: LockHash,
        /// The claimed device.
        #[n(2)]
        device_key: DeviceKey,
    },
}

message!(Request, MAX_BODY);

/// From the distributor.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(flat)]
pub enum Response {
    /// To [`Request::Hello`]: prove the peer key; these are the terms.
    #[n(0)]
    Challenge {
        /// 32 fresh random bytes.
        #[cbor(n(0), with = "minicbor::bytes")]
        c: [u8; 32],
        /// Who is to be paid.
        #[n(1)]
        payee: Payee,
        /// What the distributor asks for.
        #[n(2)]
        terms: Terms,
    },
    /// To [`Request::Auth`] and [`Request::Copy`].
    #[n(1)]
    Offer {
        /// The secret under `r`: the image in file mode, the payload key in key mode. At most
        /// [`MAX_CIPHER`] bytes.
        #[cbor(n(0), encode_with = "encode_bytes", decode_with = "decode_cipher")]
        cipher: Vec<u8>,
        /// `s = H(r)`.
        #[n(1)]
        s: LockHash,
        /// That `cipher` holds the secret under the key that `s` locks. At most [`MAX_PROOF`] bytes.
        #[cbor(n(2), encode_with = "encode_bytes", decode_with = "decode_proof")]
        proof: Vec<u8>,
        /// The verifying key that the proof is for.
        #[n(3)]
        vk_id: VkId,
        /// Unix seconds after which receipts for it are refused.
        #[n(4)]
        expires: u64,
    },
    /// To [`Request::Members`], in the order of the keys asked for; `None` for one that is not in
    /// the fleet.
    #[n(2)]
    Members {
        /// One entry a key.
        #[cbor(n(0), decode_with = "decode_entries")]
        entries: Vec<Option<Member>>,
    },
    /// To [`Request::Receipt`]: it is kept.
    #[n(3)]
    Ack {
        /// The device's index in the fleet.
        #[n(0)]
        index: u32,
    },
    /// To [`Request::Seal`].
    #[n(4)]
    Sealed {
        /// Receipts in the batch.
        #[n(0)]
        receipts: u32,
    },
    /// To [`Request::Poll`], once `r` may be shown.
    #[n(5)]
    Key {
        /// `r`; proves itself by `H(r) = s`.
        #[n(0)]
        r: KeyR,
    },
    /// Not yet: ask the same again.
    #[n(6)]
    Pending {
        /// Milliseconds to wait before that.
        #[n(0)]
        retry_after_ms: u32,
    },
    /// No.
    #[n(7)]
    Refused {
        /// Why.
        #[n(0)]
        reason: Refusal,
    },
}

message!(Response, MAX_BODY);

/// What a distributor asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Terms {
    /// Seconds that it collects receipts for, from the first.
    #[n(0)]
    pub window_secs: u32,
    /// Least receipts that it redeems.
    #[n(1)]
    pub min_receipts: u32,
    /// How it redeems them.
    #[n(2)]
    pub redeem: Redeem,
}

/// How receipts are redeemed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
#[cbor(index_only)]
#[repr(u8)]
pub enum Redeem {
    /// In one transaction that shows `t` at once, by a private relay.
    #[n(0)]
    Direct = 0,
    /// The reservation first, `t` when it is final.
    #[n(1)]
    ReserveReveal = 1,
}

/// A device's place in the fleet.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Member {
    /// Index of its leaf.
    #[n(0)]
    pub index: u32,
    /// Siblings from the leaf up, at most [`MAX_PATH`].
    #[cbor(n(1), encode_with = "encode_path", decode_with = "decode_path")]
    pub path: Vec<[u8; 32]>,
}

/// Why a distributor refuses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Encode, Decode, Error)]
#[cbor(index_only)]
#[repr(u8)]
pub enum Refusal {
    /// It does not serve this bounty.
    #[n(0)]
    #[error("bounty is not served")]
    UnknownBounty = 0,
    /// The bounty is on another chain.
    #[n(1)]
    #[error("another chain")]
    WrongChain = 1,
    /// The device is not in the fleet.
    #[n(2)]
    #[error("device is not in the fleet")]
    NotAMember = 2,
    /// The device's share has been claimed.
    #[n(3)]
    #[error("device's share is claimed")]
    AlreadyClaimed = 3,
    /// The delegation is not by that device to this peer.
    #[n(4)]
    #[error("delegation does not verify")]
    BadDelegation = 4,
    /// The challenge is not answered by this peer's key.
    #[n(5)]
    #[error("challenge is not answered by the peer's key")]
    BadAuth = 5,
    /// Said before `Hello` and `Auth`.
    #[n(6)]
    #[error("not authenticated")]
    NotAuthenticated = 6,
    /// No offer under this lock.
    #[n(7)]
    #[error("no offer under this lock")]
    UnknownOffer = 7,
    /// The offer's time is over.
    #[n(8)]
    #[error("offer has expired")]
    OfferExpired = 8,
    /// The receipt's signature does not verify.
    #[n(9)]
    #[error("receipt does not verify")]
    BadReceipt = 9,
    /// The attempt is not above the last that was reserved.
    #[n(10)]
    #[error("attempt is not above the last reserved")]
    StaleAttempt = 10,
    /// The bounty's claims are over, or near it.
    #[n(11)]
    #[error("bounty is closed")]
    Closed = 11,
    /// Too many requests.
    #[n(12)]
    #[error("too many requests")]
    RateLimited = 12,
    /// The request does not decode.
    #[n(13)]
    #[error("malformed request")]
    Malformed = 13,
}

type Decoded<T> = Result<T, minicbor::decode::Error>;

fn encode_bytes<C, W: minicbor::encode::Write>(
    bytes: &[u8],
    e: &mut minicbor::Encoder<W>,
    _: &mut C,
) -> Result<(), minicbor::encode::Error<W::Error>> {
    e.bytes(bytes)?.ok()
}

fn decode_signature<C>(d: &mut minicbor::Decoder<'_>, _: &mut C) -> Decoded<Vec<u8>> {
    bounded::bytes(d, MAX_PEER_SIGNATURE).map(Vec::from)
}

fn decode_cipher<C>(d: &mut minicbor::Decoder<'_>, _: &mut C) -> Decoded<Vec<u8>> {
    bounded::bytes(d, MAX_CIPHER).map(Vec::from)
}

fn decode_proof<C>(d: &mut minicbor::Decoder<'_>, _: &mut C) -> Decoded<Vec<u8>> {
    bounded::bytes(d, MAX_PROOF).map(Vec::from)
}

fn decode_keys<C>(d: &mut minicbor::Decoder<'_>, c: &mut C) -> Decoded<Vec<DeviceKey>> {
    bounded::list(d, MAX_MEMBERS, |d| d.decode_with(c))
}

fn decode_entries<C>(d: &mut minicbor::Decoder<'_>, c: &mut C) -> Decoded<Vec<Option<Member>>> {
    bounded::list(d, MAX_MEMBERS, |d| d.decode_with(c))
}

fn encode_path<C, W: minicbor::encode::Write>(
    path: &[[u8; 32]],
    e: &mut minicbor::Encoder<W>,
    _: &mut C,
) -> Result<(), minicbor::encode::Error<W::Error>> {
    e.array(path.len() as u64)?;
    path.iter().try_for_each(|node| e.bytes(node)?.ok())
}

fn decode_path<C>(d: &mut minicbor::Decoder<'_>, _: &mut C) -> Decoded<Vec<[u8; 32]>> {
    bounded::list(d, MAX_PATH, |d| crate::id::decode_exact(d))
}
