//! How far a sensor is, in the terms of LwM2M's firmware object (OMA LwM2M Core 1.2, object 5).

use minicbor::{Decode, Encode};

use crate::digest;
use crate::id::{Digest, ProductId, Signature, UpdateId, Version};
use crate::wire::message;

/// Up, whenever something in it changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Status {
    /// What it is doing.
    #[n(0)]
    pub state: State,
    /// How the last update went.
    #[n(1)]
    pub result: UpdateResult,
    /// Sequence number of what runs.
    #[n(2)]
    pub installed: Version,
    /// First byte of the image that it does not hold yet.
    #[n(3)]
    pub next: u32,
    /// Seconds until it wakes again.
    #[n(4)]
    pub next_wake: u32,
    /// Once a new version runs: signed proof of that.
    #[n(5)]
    pub report: Option<Report>,
}

message!(Status, 160);

/// A sensor's signed report that a version runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Report {
    /// Sequence number of what runs.
    #[n(0)]
    pub version: Version,
    /// Digest of its image.
    #[n(1)]
    pub u_id: UpdateId,
    /// Over [`digest::installed`].
    #[n(2)]
    pub sig: Signature,
}

impl Report {
    /// The digest that [`Report::sig`] is over, for a sensor of this product.
    pub fn digest(&self, product: &ProductId) -> Digest {
        digest::installed(product, self.version, &self.u_id)
    }
}

/// Down, where the carrier answers: when to come back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct StatusReply {
    /// Seconds; 0 when something is pending now.
    #[n(0)]
    pub retry_after: u32,
}

message!(StatusReply, 8);

/// Resource 5/0/3, "State".
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Encode, Decode)]
#[cbor(index_only)]
#[repr(u8)]
pub enum State {
    /// Nothing under way.
    #[n(0)]
    Idle = 0,
    /// Fetching blocks.
    #[n(1)]
    Downloading = 1,
    /// The image is whole and verified.
    #[n(2)]
    Downloaded = 2,
    /// Activating.
    #[n(3)]
    Updating = 3,
}

/// Resource 5/0/5, "Update Result".
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Encode, Decode)]
#[cbor(index_only)]
#[repr(u8)]
pub enum UpdateResult {
    /// None yet.
    #[n(0)]
    Initial = 0,
    /// The new version runs.
    #[n(1)]
    Success = 1,
    /// The slot is too small.
    #[n(2)]
    NotEnoughFlash = 2,
    /// Not enough memory.
    #[n(3)]
    OutOfMemory = 3,
    /// The connection was lost while downloading.
    #[n(4)]
    ConnectionLost = 4,
    /// The image's digest is not the manifest's.
    #[n(5)]
    IntegrityFailure = 5,
    /// The manifest or image is of a kind that is not supported.
    #[n(6)]
    UnsupportedPackage = 6,
    /// The image cannot be found.
    #[n(7)]
    InvalidUri = 7,
    /// Activation failed, or the new version did not boot.
    #[n(8)]
    UpdateFailed = 8,
    /// The protocol is not supported.
    #[n(9)]
    UnsupportedProtocol = 9,
    /// Cancelled.
    #[n(10)]
    Cancelled = 10,
    /// Put off.
    #[n(11)]
    Deferred = 11,
}
