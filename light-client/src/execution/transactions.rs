//! Transactions of a block, for their hashes: receipts do not commit to them.

use alloy::consensus::proofs::calculate_transaction_root;
use alloy::consensus::{Header, TxEnvelope};
use alloy::eips::eip2718::Encodable2718;
use alloy::primitives::{B256, keccak256};

use super::{Block, Refused, verify_header};

/// The hashes of all transactions of a proven block, in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Transactions {
    block_hash: B256,
    hashes: Vec<B256>,
}

/// The transactions, if they are all of the block's and in order. The header is needed because a sync committee does not
/// sign the root of the transactions in the form that the execution chain gives it.
///
/// # Errors
/// [`Refused::HeaderHash`], [`Refused::TransactionsRoot`].
pub fn verify_transactions(
    block: &Block,
    header: &Header,
    transactions: &[TxEnvelope],
) -> Result<Transactions, Refused> {
    verify_header(block.hash, header)?;
    let (expected, got) = (header.transactions_root, calculate_transaction_root(transactions));
    if got != expected {
        let count = transactions.len();
        return Err(Refused::TransactionsRoot { block: block.number, count, expected, got });
    }
    // The hash in an envelope that was deserialised is what the endpoint wrote there.
    let hash = |transaction: &TxEnvelope| keccak256(transaction.encoded_2718());
    Ok(Transactions { block_hash: block.hash, hashes: transactions.iter().map(hash).collect() })
}

impl Transactions {
    /// Of which block they are.
    #[must_use]
    pub fn block_hash(&self) -> B256 {
        self.block_hash
    }

    /// Their hashes, in order.
    #[must_use]
    pub fn hashes(&self) -> &[B256] {
        &self.hashes
    }
}
