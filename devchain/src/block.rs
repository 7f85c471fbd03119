//! A block with all that follows from it.

use alloy::consensus::constants::{EMPTY_OMMER_ROOT_HASH, EMPTY_WITHDRAWALS};
use alloy::consensus::proofs::{calculate_receipt_root, calculate_transaction_root};
use alloy::consensus::{
    BlockBody, Header, ReceiptEnvelope, Sealable, Sealed, Transaction, TxEnvelope, TxReceipt,
    transaction::Recovered,
};
use alloy::eips::{BlockNumHash, eip4895::Withdrawals, eip7685::EMPTY_REQUESTS_HASH};
use alloy::primitives::{Address, B256, Bloom, TxHash};

use crate::state::State;

/// A block of the chain: header, transactions with their senders, receipts.
#[derive(Clone, Debug)]
pub struct Block {
    header: Sealed<Header>,
    transactions: Vec<Recovered<TxEnvelope>>,
    receipts: Vec<ReceiptEnvelope>,
}

impl Block {
    /// Completes `header` with the roots of what it stands for, and seals it.
    pub(crate) fn seal(
        header: Header,
        transactions: Vec<Recovered<TxEnvelope>>,
        receipts: Vec<ReceiptEnvelope>,
        state: &State,
    ) -> Self {
        let envelopes: Vec<_> = transactions.iter().map(Recovered::inner).collect();
        let header = Header {
            state_root: state.root(),
            transactions_root: calculate_transaction_root(&envelopes),
            receipts_root: calculate_receipt_root(&receipts),
            logs_bloom: receipts.iter().fold(Bloom::ZERO, |bloom, receipt| bloom | receipt.bloom()),
            gas_used: receipts.last().map_or(0, TxReceipt::cumulative_gas_used),
            ..header
        };
        Self { header: header.seal_slow(), transactions, receipts }
    }

    /// The header with its hash, `keccak256(rlp(header))`.
    pub fn header(&self) -> &Sealed<Header> {
        &self.header
    }

    /// Height above genesis.
    pub fn number(&self) -> u64 {
        self.header.number
    }

    /// Hash of the header.
    pub fn hash(&self) -> B256 {
        self.header.hash()
    }

    /// Unix seconds.
    pub fn timestamp(&self) -> u64 {
        self.header.timestamp
    }

    /// Height and hash.
    pub fn id(&self) -> BlockNumHash {
        BlockNumHash::new(self.number(), self.hash())
    }

    /// Transactions in order of execution, with their senders.
    pub fn transactions(&self) -> &[Recovered<TxEnvelope>] {
        &self.transactions
    }

    /// One receipt for each transaction, in the same order.
    pub fn receipts(&self) -> &[ReceiptEnvelope] {
        &self.receipts
    }

    /// Header, transactions and (no) withdrawals as consensus encodes them.
    pub fn to_consensus(&self) -> alloy::consensus::Block<TxEnvelope> {
        let body = BlockBody {
            transactions: self.transactions.iter().map(Recovered::clone_inner).collect(),
            ommers: Vec::new(),
            withdrawals: Some(Withdrawals::default()),
        };
        alloy::consensus::Block { header: self.header.inner().clone(), body }
    }

    /// Gas of the transaction at `index` alone: receipts carry sums.
    pub(crate) fn gas_used(&self, index: usize) -> u64 {
        let sum = |index: usize| self.receipts.get(index).map_or(0, TxReceipt::cumulative_gas_used);
        sum(index) - index.checked_sub(1).map_or(0, sum)
    }

    /// Logs of the block that come before those of the transaction at `index`.
    pub(crate) fn logs_before(&self, index: usize) -> usize {
        self.receipts.iter().take(index).map(|receipt| receipt.logs().len()).sum()
    }

    /// Address of the contract that the transaction at `index` was to create.
    pub(crate) fn created(&self, index: usize) -> Option<Address> {
        let tx = self.transactions.get(index)?;
        tx.is_create().then(|| tx.signer().create(tx.nonce()))
    }

    pub(crate) fn hashes(&self) -> impl Iterator<Item = TxHash> + '_ {
        self.transactions.iter().map(|tx| *tx.tx_hash())
    }
}

/// A header that commits to nothing yet. Fields of the forks up to Osaka are all there.
pub(crate) fn bare_header() -> Header {
    Header {
        ommers_hash: EMPTY_OMMER_ROOT_HASH,
        withdrawals_root: Some(EMPTY_WITHDRAWALS),
        base_fee_per_gas: Some(0),
        blob_gas_used: Some(0),
        excess_blob_gas: Some(0),
        parent_beacon_block_root: Some(B256::ZERO),
        requests_hash: Some(EMPTY_REQUESTS_HASH),
        ..Header::default()
    }
}
