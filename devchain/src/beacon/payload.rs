//! Execution blocks and beacon block bodies as consensus encodes them.

use alloy::consensus::Header;
use alloy::eips::eip2718::Encodable2718;
use alloy::primitives::{B256, FixedBytes, U256};
use ssz_types::VariableList;
use ssz_types::typenum::{U1, U2, U8, U16, U32, U128, U4096, U8192, U1048576, U1073741824, Unsigned};
use tree_hash::TreeHash;

use crate::block::Block;

use super::config::Fork;
use super::container::{ByteList, Container, Decimal};
use super::types::{Eth1Data, INFINITY, SyncAggregate};

/// Index of `execution_payload` in a block's body, in all forks.
pub(super) const EXECUTION_PAYLOAD: usize = 9;

/// A list that is always empty here. Its root and its encoding depend on nothing but the limit.
type Nothing<Limit> = VariableList<B256, Limit>;
type Transaction = ByteList<U1073741824>;
type Transactions = VariableList<Transaction, U1048576>;

fn nothing<Limit: Unsigned + 'static>() -> Nothing<Limit> {
    VariableList::empty()
}

fn transactions(block: &Block) -> Transactions {
    let encoded = block.transactions().iter().map(|tx| Transaction::new(&tx.encoded_2718()));
    VariableList::new(encoded.collect()).expect("within the list's limit")
}

/// An execution payload's header, independent of the fork.
#[derive(Clone, Debug, Default)]
pub(super) struct ExecutionHeader {
    header: Header,
    block_hash: B256,
    transactions_root: B256,
    withdrawals_root: B256,
}

impl ExecutionHeader {
    pub(super) fn new(block: &Block) -> Self {
        Self {
            header: block.header().inner().clone(),
            block_hash: block.hash(),
            transactions_root: transactions(block).tree_hash_root(),
            withdrawals_root: nothing::<U16>().tree_hash_root(),
        }
    }

    /// `ExecutionPayloadHeader` of a fork.
    pub(super) fn container(&self, fork: Fork) -> Container {
        let body = |fields: Container| {
            let fields = fields.with("transactions_root", self.transactions_root);
            fields.with("withdrawals_root", self.withdrawals_root)
        };
        payload_fields(&self.header, self.block_hash, fork, body)
    }
}

/// `ExecutionPayload` of a fork.
fn payload(block: &Block, fork: Fork) -> Container {
    payload_fields(block.header().inner(), block.hash(), fork, |fields| {
        fields.with("transactions", transactions(block)).with("withdrawals", nothing::<U16>())
    })
}

/// The fields that payload and header share, with those that differ, `body`, in their place.
fn payload_fields(
    header: &Header,
    block_hash: B256,
    fork: Fork,
    body: impl FnOnce(Container) -> Container,
) -> Container {
    let fields = Container::default()
        .with("parent_hash", header.parent_hash)
        .with("fee_recipient", header.beneficiary)
        .with("state_root", header.state_root)
        .with("receipts_root", header.receipts_root)
        .with("logs_bloom", header.logs_bloom.0)
        .with("prev_randao", header.mix_hash)
        .with("block_number", Decimal(header.number))
        .with("gas_limit", Decimal(header.gas_limit))
        .with("gas_used", Decimal(header.gas_used))
        .with("timestamp", Decimal(header.timestamp))
        .with("extra_data", ByteList::<U32>::new(&header.extra_data))
        .with("base_fee_per_gas", Decimal(U256::from(header.base_fee_per_gas.unwrap_or_default())))
        .with("block_hash", block_hash);
    let fields = body(fields);
    if fork < Fork::Deneb {
        return fields;
    }
    fields
        .with("blob_gas_used", Decimal(header.blob_gas_used.unwrap_or_default()))
        .with("excess_blob_gas", Decimal(header.excess_blob_gas.unwrap_or_default()))
}

/// `BeaconBlockBody` of a fork around an execution block. Nobody deposits, attests or exits; the limits
/// of the empty lists still differ.
pub(super) fn body(block: &Block, aggregate: SyncAggregate, fork: Fork) -> Container {
    let fields = Container::default()
        .with("randao_reveal", INFINITY)
        .with("eth1_data", Eth1Data::default())
        .with("graffiti", graffiti())
        .with("proposer_slashings", nothing::<U16>());
    let fields = if fork < Fork::Electra {
        fields.with("attester_slashings", nothing::<U2>()).with("attestations", nothing::<U128>())
    } else {
        fields.with("attester_slashings", nothing::<U1>()).with("attestations", nothing::<U8>())
    };
    let fields = fields
        .with("deposits", nothing::<U16>())
        .with("voluntary_exits", nothing::<U16>())
        .with("sync_aggregate", aggregate)
        .with("execution_payload", payload(block, fork))
        .with("bls_to_execution_changes", nothing::<U16>());
    match fork {
        Fork::Capella => fields,
        Fork::Deneb => fields.with("blob_kzg_commitments", nothing::<U4096>()),
        Fork::Electra | Fork::Fulu => {
            fields.with("blob_kzg_commitments", nothing::<U4096>()).with("execution_requests", requests())
        }
    }
}

/// `ExecutionRequests`: deposits, withdrawals and consolidations, of which there are none.
fn requests() -> Container {
    Container::default()
        .with("deposits", nothing::<U8192>())
        .with("withdrawals", nothing::<U16>())
        .with("consolidations", nothing::<U2>())
}

fn graffiti() -> FixedBytes<32> {
    let mut graffiti = FixedBytes::ZERO;
    let name = b"posthouse devchain";
    graffiti[..name.len()].copy_from_slice(name);
    graffiti
}

#[cfg(test)]
mod tests {
    use super::super::container::Field;
    use super::*;
    use crate::config::Config;

    #[test]
    fn a_payload_and_its_header_have_one_root() {
        let (block, _) = crate::assemble::genesis(&Config::default(), 7);
        for fork in Fork::ALL {
            let header = ExecutionHeader::new(&block).container(fork);
            assert_eq!(Field::root(&payload(&block, fork)), Field::root(&header));
        }
    }
}
