//! Why something that an endpoint sent is not believed.

use alloy::primitives::B256;

use super::Fork;

/// One variant for each way to be wrong, so that a log tells a lie from an accident. `what` names the field as the
/// specification does.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Refused {
    /// Not an SSZ encoding of what it should be.
    #[error("{what} is not SSZ: {why}")]
    Ssz {
        /// The container or field.
        what: &'static str,
        /// What the decoder says.
        why: String,
    },
    /// Not the JSON of the beacon API.
    #[error("not the beacon API's JSON: {0}")]
    Json(String),
    /// More bytes than any answer of this kind has.
    #[error("{found} bytes, where at most {limit} are expected")]
    TooLarge {
        /// Bytes found.
        found: usize,
        /// Bytes that would have been read.
        limit: usize,
    },
    /// More updates in one answer than were asked for.
    #[error("more than the {0} updates asked for")]
    TooManyUpdates(usize),
    /// A list whose length the fork fixes has another one: the layout of another fork or preset.
    #[error("{what} has {found} elements, not {wanted}")]
    Length {
        /// The field.
        what: &'static str,
        /// Elements found.
        found: usize,
        /// Elements that the fork and preset fix.
        wanted: usize,
    },
    /// A fork that this client does not know. It stops here: what comes after has other layouts.
    #[error("the fork {0} is newer than this client, which has to be replaced by one that knows it")]
    UnknownFork(String),
    /// Before Capella, beacon headers commit to no execution header that a light client could check.
    #[error("slot {slot} is before Capella")]
    BeforeCapella {
        /// The header's slot.
        slot: u64,
    },
    /// The fork that the answer names is not the fork at its slot.
    #[error("called {named}, but {at_slot} applies at slot {slot}")]
    OtherFork {
        /// The fork by the `version` field.
        named: Fork,
        /// The fork by the schedule.
        at_slot: Fork,
        /// The attested header's slot, or the bootstrap header's.
        slot: u64,
    },
    /// The fork digest before an update is not that of its slot: another network, or another blob schedule.
    #[error("fork digest 0x{}, where slot {slot} has 0x{}", hex::encode(found), hex::encode(wanted))]
    ForkDigest {
        /// Digest found.
        found: [u8; 4],
        /// Digest by the schedule.
        wanted: [u8; 4],
        /// The attested header's slot.
        slot: u64,
    },
    /// A field that has to be empty, because its branch is or because its slot is before its fork, is not.
    #[error("{0} has to be empty here")]
    NotEmpty(&'static str),
    /// The bootstrap is of another block than the checkpoint.
    #[error("the bootstrap is of block {found}, not of the checkpoint {wanted}")]
    Checkpoint {
        /// Root of the bootstrap's header.
        found: B256,
        /// The checkpoint.
        wanted: B256,
    },
    /// A Merkle branch does not lead from its leaf to the root it should lead to.
    #[error("{0} does not prove its leaf")]
    Branch(&'static str),
    /// `signature_slot` is later than now.
    #[error("signed in slot {signature_slot}, but now is slot {now}")]
    Future {
        /// The update's.
        signature_slot: u64,
        /// The caller's clock.
        now: u64,
    },
    /// Not `signature_slot > attested slot >= finalized slot`.
    #[error("slots out of order: signed {signature}, attested {attested}, finalized {finalized}")]
    Order {
        /// `signature_slot`.
        signature: u64,
        /// Slot of the attested header.
        attested: u64,
        /// Slot of the finalized header, 0 where there is none.
        finalized: u64,
    },
    /// Signed by a committee that is not known here: periods in between are missing.
    #[error("signed in period {signed}, but the committees known are those of period {known} to {last}")]
    Period {
        /// Period of `signature_slot`.
        signed: u64,
        /// Period of the finalized header.
        known: u64,
        /// The last period whose committee is known.
        last: u64,
    },
    /// Says nothing that is not known: a replay.
    #[error("attests slot {attested}, and slot {finalized} is finalized already")]
    Stale {
        /// Slot of the update's attested header.
        attested: u64,
        /// Slot of the finalized header.
        finalized: u64,
    },
    /// Names another next committee than the one that is proven already.
    #[error("another next sync committee than the one proven for this period")]
    OtherCommittee,
    /// Fewer than two thirds of the committee signed.
    #[error("{signed} of {committee} signed")]
    Participation {
        /// Bits set.
        signed: usize,
        /// Size of the committee.
        committee: usize,
    },
    /// A key of the committee is no point other than infinity in canonical form, or their sum is not in the group.
    #[error("public key {0} of the sync committee is not valid")]
    PublicKey(usize),
    /// The signature is not the canonical form of a point of the group, or is the point at infinity.
    #[error("the signature is no point of the group")]
    SignatureEncoding,
    /// The committee did not sign this header, or not for this network and fork.
    #[error("the signature does not verify")]
    Signature,
    /// What was stored is not what this client stores for this network.
    #[error("stored state: {0}")]
    Stored(&'static str),
}
