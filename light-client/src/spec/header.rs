//! Headers and their roots.

use alloy::primitives::{Address, B256, Bloom, Bytes, U256};

use super::Refused;
use super::fork::Fork;
use super::merkle::{self, Place};
use super::network::Network;

/// `BeaconBlockHeader`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct BeaconBlockHeader {
    /// Slot.
    pub slot: u64,
    /// Index of the validator that proposed it.
    pub proposer_index: u64,
    /// Root of the header before.
    pub parent_root: B256,
    /// Root of the state after.
    pub state_root: B256,
    /// Root of the body.
    pub body_root: B256,
}

impl BeaconBlockHeader {
    /// `hash_tree_root`: what names the block.
    #[must_use]
    pub fn root(&self) -> B256 {
        merkle::container(&[
            merkle::number(self.slot),
            merkle::number(self.proposer_index),
            self.parent_root,
            self.state_root,
            self.body_root,
        ])
    }
}

/// The two fields that Deneb added.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct BlobGas {
    /// `blob_gas_used`.
    pub used: u64,
    /// `excess_blob_gas`.
    pub excess: u64,
}

/// `ExecutionPayloadHeader` of any fork, names shortened as on the execution layer.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ExecutionHeader {
    /// Hash of the block before.
    pub parent_hash: B256,
    /// Who gets the fees.
    pub fee_recipient: Address,
    /// Root of the accounts.
    pub state_root: B256,
    /// Root of the receipts.
    pub receipts_root: B256,
    /// Bloom filter of the logs.
    pub logs_bloom: Bloom,
    /// Randomness of the beacon chain.
    pub prev_randao: B256,
    /// Block number.
    pub number: u64,
    /// Gas limit.
    pub gas_limit: u64,
    /// Gas used.
    pub gas_used: u64,
    /// Unix seconds.
    pub timestamp: u64,
    /// At most 32 bytes.
    pub extra_data: Bytes,
    /// Wei a unit of gas.
    pub base_fee_per_gas: U256,
    /// Hash of the block. The consensus layer checked that it is the hash of these fields.
    pub block_hash: B256,
    /// SSZ root of the transactions; not the execution layer's.
    pub transactions_root: B256,
    /// SSZ root of the withdrawals; not the execution layer's.
    pub withdrawals_root: B256,
    /// From Deneb on.
    pub blob_gas: Option<BlobGas>,
}

impl ExecutionHeader {
    /// `get_lc_execution_root`: 15 fields before Deneb, 17 from then on.
    #[must_use]
    pub fn root(&self) -> B256 {
        let mut fields = vec![
            self.parent_hash,
            B256::right_padding_from(self.fee_recipient.as_slice()), // SSZ pads on the right
            self.state_root,
            self.receipts_root,
            merkle::bytes(self.logs_bloom.as_slice()),
            self.prev_randao,
            merkle::number(self.number),
            merkle::number(self.gas_limit),
            merkle::number(self.gas_used),
            merkle::number(self.timestamp),
            merkle::short_list(&self.extra_data),
            B256::from(self.base_fee_per_gas.to_le_bytes()),
            self.block_hash,
            self.transactions_root,
            self.withdrawals_root,
        ];
        if let Some(gas) = self.blob_gas {
            fields.extend([merkle::number(gas.used), merkle::number(gas.excess)]);
        }
        merkle::container(&fields)
    }
}

/// `LightClientHeader`: a beacon header and the execution header that its body commits to.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Header {
    /// The beacon header.
    pub beacon: BeaconBlockHeader,
    /// The execution header.
    pub execution: ExecutionHeader,
    /// From the execution header's root to the body's.
    pub execution_branch: Vec<B256>,
}

impl Header {
    /// `is_valid_light_client_header`: the execution header is the beacon block's own.
    ///
    /// Of the beacon header itself this says nothing.
    pub(super) fn check(&self, network: &Network) -> Result<(), Refused> {
        let fork = network.fork_at(self.beacon.slot)?;
        if self.execution.blob_gas.is_some() && fork < Fork::Deneb {
            return Err(Refused::NotEmpty("execution.blob_gas_used"));
        }
        let proven =
            Place::EXECUTION.proves(self.execution.root(), &self.execution_branch, self.beacon.body_root);
        if proven { Ok(()) } else { Err(Refused::Branch("execution_branch")) }
    }

    /// A header that the layout of `layout` wrote, in the form of the fork at its own slot: what a newer layout adds
    /// has to be zero, and goes.
    pub(super) fn normalised(mut self, network: &Network) -> Result<Self, Refused> {
        if network.fork_at(self.beacon.slot)? < Fork::Deneb {
            match self.execution.blob_gas.take() {
                None | Some(BlobGas { used: 0, excess: 0 }) => {}
                Some(_) => return Err(Refused::NotEmpty("execution.blob_gas_used")),
            }
        }
        Ok(self)
    }

    /// Whether it is `LightClientHeader()`, which stands where there is no header.
    pub(super) fn is_empty(&self) -> bool {
        let mut bare = self.clone();
        bare.execution.blob_gas = bare.execution.blob_gas.filter(|gas| *gas != BlobGas::default());
        let branch = std::mem::take(&mut bare.execution_branch);
        bare == Self::default() && branch.iter().all(|node| node.is_zero())
    }
}
