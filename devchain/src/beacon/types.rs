//! Containers that are the same in every fork.

use alloy::primitives::{B256, FixedBytes};
use serde::Serialize;
use ssz_derive::Encode;
use ssz_types::FixedVector;
use ssz_types::typenum::U512;
use tree_hash_derive::TreeHash;

use super::container::decimal;

/// A compressed BLS12-381 point of G1.
pub(super) type PublicKey = FixedBytes<48>;
/// A compressed BLS12-381 point of G2.
pub(super) type Signature = FixedBytes<96>;
/// One bit for each member of a sync committee, least significant bit of the first byte first.
pub(super) type Bits = FixedBytes<64>;

/// The compressed point at infinity: the signature of nobody.
pub(super) const INFINITY: Signature = {
    let mut bytes = [0; 96];
    bytes[0] = 0xc0;
    FixedBytes(bytes)
};

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Encode, TreeHash, Serialize)]
pub(super) struct BeaconBlockHeader {
    #[serde(serialize_with = "decimal")]
    pub(super) slot: u64,
    #[serde(serialize_with = "decimal")]
    pub(super) proposer_index: u64,
    pub(super) parent_root: B256,
    pub(super) state_root: B256,
    pub(super) body_root: B256,
}

#[derive(Clone, Debug, Encode, TreeHash, Serialize)]
pub(super) struct SyncCommittee {
    pub(super) pubkeys: FixedVector<PublicKey, U512>,
    pub(super) aggregate_pubkey: PublicKey,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, TreeHash, Serialize)]
pub(super) struct SyncAggregate {
    pub(super) sync_committee_bits: Bits,
    pub(super) sync_committee_signature: Signature,
}

impl SyncAggregate {
    /// What a block carries whose parent nobody signed.
    pub(super) const EMPTY: Self =
        Self { sync_committee_bits: Bits::ZERO, sync_committee_signature: INFINITY };
}

#[derive(Clone, Copy, Debug, Default, Encode, TreeHash, Serialize)]
pub(super) struct Eth1Data {
    pub(super) deposit_root: B256,
    #[serde(serialize_with = "decimal")]
    pub(super) deposit_count: u64,
    pub(super) block_hash: B256,
}

#[derive(Clone, Copy, Debug, TreeHash)]
pub(super) struct StateFork {
    pub(super) previous_version: FixedBytes<4>,
    pub(super) current_version: FixedBytes<4>,
    pub(super) epoch: u64,
}

#[derive(Clone, Copy, Debug, TreeHash)]
pub(super) struct ForkData {
    pub(super) current_version: FixedBytes<4>,
    pub(super) genesis_validators_root: B256,
}

#[derive(Clone, Copy, Debug, TreeHash)]
pub(super) struct SigningData {
    pub(super) object_root: B256,
    pub(super) domain: B256,
}
