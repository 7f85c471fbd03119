//! Sync committees, and what they sign.

use std::sync::Arc;

use alloy::primitives::B256;

use super::Refused;
use super::bls::{self, PublicKeys};
use super::merkle;

/// `SyncCommittee`: keys in compressed form, as many as the preset says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SyncCommittee {
    /// 512 or 32 keys.
    pub pubkeys: Vec<[u8; 48]>,
    /// Their sum. Part of the root, and else of no use: who signed differs from block to block.
    pub aggregate_pubkey: [u8; 48],
}

impl SyncCommittee {
    /// `hash_tree_root`.
    #[must_use]
    pub fn root(&self) -> B256 {
        let keys: Vec<B256> = self.pubkeys.iter().map(|key| merkle::bytes(key)).collect();
        merkle::container(&[merkle::container(&keys), merkle::bytes(&self.aggregate_pubkey)])
    }

    /// Whether it is `SyncCommittee()`, which stands where there is none.
    pub(super) fn is_empty(&self) -> bool {
        self.aggregate_pubkey == [0; 48] && self.pubkeys.iter().all(|key| *key == [0; 48])
    }
}

/// `SyncAggregate`: who signed, and their signature.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SyncAggregate {
    /// One bit a member, least significant bit first.
    pub bits: Vec<u8>,
    /// The sum of the signatures, compressed.
    pub signature: [u8; 96],
}

impl SyncAggregate {
    /// How many signed.
    #[must_use]
    pub fn participants(&self) -> usize {
        self.bits.iter().map(|byte| byte.count_ones() as usize).sum()
    }

    fn signed(&self, member: usize) -> bool {
        self.bits.get(member / 8).is_some_and(|byte| byte >> (member % 8) & 1 == 1)
    }
}

/// A committee that is proven, with its keys decompressed once for all that it signs.
#[derive(Debug, Clone)]
pub(super) struct Members {
    pub(super) committee: Arc<SyncCommittee>,
    pub(super) root: B256,
    keys: Arc<PublicKeys>,
}

impl Members {
    /// Decompresses the keys: 5 ms for 512, so the committee should be proven before.
    pub(super) fn new(committee: SyncCommittee) -> Result<Self, Refused> {
        let keys = Arc::new(PublicKeys::decompress(&committee.pubkeys)?);
        Ok(Self { root: committee.root(), committee: Arc::new(committee), keys })
    }

    /// Whether those whose bits are set signed `message`; at least two thirds of all, or it does not count.
    pub(super) fn verify(&self, aggregate: &SyncAggregate, message: B256) -> Result<(), Refused> {
        let keys = self.keys.iter().enumerate().filter(|(member, _)| aggregate.signed(*member));
        bls::fast_aggregate_verify(keys.map(|(_, key)| key), message, &aggregate.signature)
    }
}
