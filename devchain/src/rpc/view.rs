//! Blocks, transactions and receipts as alloy's types put them on the wire.

use alloy::consensus::transaction::TransactionInfo;
use alloy::consensus::{Transaction as _, TxEnvelope, transaction::Recovered};
use alloy::eips::eip4895::Withdrawals;
use alloy::primitives::U256;
use alloy::rlp::Encodable;
use alloy::rpc::types::{Block as RpcBlock, BlockTransactions, Header, Log, Transaction, TransactionReceipt};

use crate::block::Block;

/// A block, with whole transactions or only their hashes.
pub(crate) fn block(block: &Block, full: bool) -> RpcBlock {
    let size = U256::from(block.to_consensus().length());
    let header = Header::from_consensus(block.header().clone(), Some(U256::ZERO), Some(size));
    let transactions = if full {
        let all = (0..block.transactions().len()).filter_map(|index| transaction(block, index));
        BlockTransactions::Full(all.collect())
    } else {
        BlockTransactions::Hashes(block.hashes().collect())
    };
    RpcBlock::new(header, transactions).with_withdrawals(Some(Withdrawals::default()))
}

/// The transaction at `index`.
pub(crate) fn transaction(block: &Block, index: usize) -> Option<Transaction> {
    let tx = block.transactions().get(index)?;
    let info = TransactionInfo {
        hash: Some(*tx.tx_hash()),
        index: u64::try_from(index).ok(),
        block_hash: Some(block.hash()),
        block_number: Some(block.number()),
        base_fee: block.header().base_fee_per_gas,
        block_timestamp: Some(block.timestamp()),
    };
    Some(Transaction::from_transaction(tx.clone(), info))
}

/// A transaction that waits.
pub(crate) fn waiting(tx: &Recovered<TxEnvelope>) -> Transaction {
    Transaction::from_transaction(tx.clone(), TransactionInfo::default())
}

/// The receipt of the transaction at `index`.
pub(crate) fn receipt(block: &Block, index: usize) -> Option<TransactionReceipt> {
    let tx = block.transactions().get(index)?;
    let mut logs = logs(block, index);
    let inner = block
        .receipts()
        .get(index)?
        .clone()
        .map_logs(|log| logs.next().unwrap_or_else(|| Log { inner: log, ..Log::default() }));
    Some(TransactionReceipt {
        inner,
        transaction_hash: *tx.tx_hash(),
        transaction_index: u64::try_from(index).ok(),
        block_hash: Some(block.hash()),
        block_number: Some(block.number()),
        gas_used: block.gas_used(index),
        effective_gas_price: tx.effective_gas_price(block.header().base_fee_per_gas),
        blob_gas_used: None,
        blob_gas_price: None,
        from: tx.signer(),
        to: tx.to(),
        contract_address: block.created(index),
    })
}

/// All receipts of a block.
pub(crate) fn receipts(block: &Block) -> Vec<TransactionReceipt> {
    (0..block.transactions().len()).filter_map(|index| receipt(block, index)).collect()
}

/// The logs of the transaction at `index`, with where they stand.
pub(crate) fn logs(block: &Block, index: usize) -> impl Iterator<Item = Log> + '_ {
    let before = u64::try_from(block.logs_before(index)).unwrap_or(u64::MAX);
    let hash = block.transactions().get(index).map(|tx| *tx.tx_hash());
    let logs = block.receipts().get(index).map_or(&[][..], |receipt| receipt.logs());
    logs.iter().zip(before..).map(move |(log, position)| Log {
        inner: log.clone(),
        block_hash: Some(block.hash()),
        block_number: Some(block.number()),
        block_timestamp: Some(block.timestamp()),
        transaction_hash: hash,
        transaction_index: u64::try_from(index).ok(),
        log_index: Some(position),
        removed: false,
    })
}
