//! What a sensor and its gateway say to each other, the same over MQTT and CoAP.
//!
//! Messages are CBOR maps with small integer keys in deterministic form; `protocol/posthouse.cddl`
//! defines them. Nothing here allocates: decoding borrows, encoding writes to the caller's buffer,
//! and each message has a `MAX_LEN` to size it by.

pub use self::image::{Block, BlockRequest, MAX_BLOCK};
pub use self::sign::{SignRequest, SignatureMsg};
pub use self::status::{Report, State, Status, StatusReply, UpdateResult};

use minicbor::{Decode, Encode};
use thiserror::Error;

use crate::id::{Curve, DeviceKey, ProductId, Version};
use crate::wire::message;

mod image;
pub mod names;
mod sign;
mod status;

/// Version of this protocol, as [`Hello::v`] carries it.
pub const VERSION: u8 = 1;
/// Most bytes of a manifest that a sensor takes ([`crate::suit`]).
pub const MAX_MANIFEST: usize = crate::suit::MAX_ENVELOPE;

/// Up, at every boot and whenever something in it changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Hello {
    /// Version of the protocol, [`VERSION`].
    #[n(0)]
    pub v: u8,
    /// The device's public key.
    #[n(1)]
    pub key: DeviceKey,
    /// The key's curve.
    #[n(2)]
    pub curve: Curve,
    /// Vendor and class id.
    #[n(3)]
    pub product: ProductId,
    /// Sequence number of what runs.
    #[n(4)]
    pub installed: Version,
    /// Bytes of the free slot.
    #[n(5)]
    pub slot: u32,
    /// Seconds from one waking to the next.
    #[n(6)]
    pub wake: u32,
}

message!(Hello, 112);

/// A typed refusal, either way: the answer to what cannot be served or will not be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct ErrorMsg {
    /// What is wrong.
    #[n(0)]
    pub code: ErrorCode,
    /// Seconds after which to ask again, where that may help.
    #[n(1)]
    pub retry_after: Option<u32>,
}

message!(ErrorMsg, 16);

/// What an [`ErrorMsg`] says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Encode, Decode, Error)]
#[cbor(index_only)]
#[repr(u8)]
pub enum ErrorCode {
    /// The message does not decode.
    #[n(0)]
    #[error("malformed message")]
    Malformed = 0,
    /// A version of the protocol that is not spoken.
    #[n(1)]
    #[error("version of the protocol is not spoken")]
    UnknownVersion = 1,
    /// No such device here: say hello first.
    #[n(2)]
    #[error("device is not registered")]
    UnknownDevice = 2,
    /// The product is not served here.
    #[n(3)]
    #[error("product is not served")]
    UnknownProduct = 3,
    /// No such image here, or none any more.
    #[n(4)]
    #[error("image is not known")]
    UnknownImage = 4,
    /// The image is not whole yet.
    #[n(5)]
    #[error("image is not staged yet")]
    NotStaged = 5,
    /// Offset or length outside the image or the limits.
    #[n(6)]
    #[error("block is outside the image")]
    OutOfRange = 6,
    /// Too much at once.
    #[n(7)]
    #[error("busy")]
    Busy = 7,
    /// The carrier is not authenticated and the site does not allow that.
    #[n(8)]
    #[error("carrier is not authenticated")]
    Unauthenticated = 8,
    /// The manifest is not signed by the vendor.
    #[n(9)]
    #[error("manifest does not verify")]
    BadManifest = 9,
    /// The manifest is for another vendor or class.
    #[n(10)]
    #[error("manifest is for another product")]
    WrongProduct = 10,
    /// The sequence number is not above what is installed, or below the highest seen.
    #[n(11)]
    #[error("sequence number is too low")]
    Downgrade = 11,
    /// The image does not fit the slot.
    #[n(12)]
    #[error("image does not fit the slot")]
    TooLarge = 12,
    /// The sign request is for another update than the manifest's.
    #[n(13)]
    #[error("sign request is for another update")]
    WrongUpdate = 13,
    /// The attempt is not the one after the last that was signed.
    #[n(14)]
    #[error("attempt is out of order")]
    BadAttempt = 14,
}
