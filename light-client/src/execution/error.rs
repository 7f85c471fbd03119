//! Why an answer is not believed.

use alloy::primitives::{Address, B256, U256};
use thiserror::Error;

/// An answer about the execution chain that does not hold, one variant for each kind of lie.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum Refused {
    /// The header is not the one that was asked for.
    #[error("header hashes to {got}, not to {expected}")]
    HeaderHash {
        /// The hash that is proven.
        expected: B256,
        /// What the header that was given hashes to.
        got: B256,
    },
    /// A parent whose number is not one less.
    #[error("block {child} has a parent with number {parent}")]
    ParentNumber {
        /// The proven block.
        child: u64,
        /// The number in the header with its parent hash.
        parent: u64,
    },
    /// The proof names another address.
    #[error("proof is of account {got}, not of {expected}")]
    OtherAddress {
        /// The address that was asked for.
        expected: Address,
        /// The address in the answer.
        got: Address,
    },
    /// The account, or its absence, does not follow from the state root.
    #[error("account {address} is not proven against the state root of block {block}: {why}")]
    Account {
        /// The account.
        address: Address,
        /// The block's number.
        block: u64,
        /// Where the proof breaks.
        why: String,
    },
    /// The proof names another slot.
    #[error("proof is of slot {got}, not of {expected}")]
    OtherSlot {
        /// The slot that was asked for.
        expected: B256,
        /// The slot in the answer.
        got: B256,
    },
    /// Other than one proof for each slot.
    #[error("proofs of {got} slots, not of {expected}")]
    SlotCount {
        /// Slots that were asked for.
        expected: usize,
        /// Proofs in the answer.
        got: usize,
    },
    /// The word, or its being zero, does not follow from the storage root.
    #[error("word {value:#x} in slot {slot} of {address} is not proven: {why}")]
    Storage {
        /// The contract.
        address: Address,
        /// The slot.
        slot: B256,
        /// What the answer says is there.
        value: U256,
        /// Where the proof breaks.
        why: String,
    },
    /// More nodes, or larger ones, than a proof can have.
    #[error("proof of {nodes} nodes, the largest of {largest} bytes, is none that a trie can have")]
    ProofSize {
        /// Nodes.
        nodes: usize,
        /// Bytes of the largest.
        largest: usize,
    },
    /// The code is not the account's.
    #[error("code of {address} hashes to {got}, not to {expected}")]
    Code {
        /// The account.
        address: Address,
        /// The account's code hash.
        expected: B256,
        /// The hash of the code in the answer.
        got: B256,
    },
    /// The receipts are not the block's: one is missing, too many, elsewhere, or altered.
    #[error("{count} receipts of block {block} have root {got}, not {expected}")]
    ReceiptsRoot {
        /// The block's number.
        block: u64,
        /// Receipts in the answer.
        count: usize,
        /// The root in the header.
        expected: B256,
        /// The root of what was given.
        got: B256,
    },
    /// A receipt's type is no transaction type (EIP-2718: at most 0x7f).
    #[error("receipt {index} has type {kind:#x}, which no transaction has")]
    ReceiptType {
        /// Position of the receipt.
        index: usize,
        /// The type.
        kind: u64,
    },
    /// A receipt with a state root in place of a status, as before Byzantium (2017). No block that a sync committee signed
    /// has one.
    #[error("receipt {index} has no status of 0 or 1, as before Byzantium")]
    ReceiptStatus {
        /// Position of the receipt.
        index: usize,
    },
    /// A log with more topics than the EVM can give it.
    #[error("a log of receipt {index} has {topics} topics, four are the most")]
    LogTopics {
        /// Position of the receipt.
        index: usize,
        /// Topics of the log.
        topics: usize,
    },
    /// Gas of the receipts falls, so they are not in order. (The root says the same; this says why.)
    #[error("receipt {index} has less gas used before and in it than the one before")]
    ReceiptOrder {
        /// Position of the receipt.
        index: usize,
    },
    /// The transactions are not the block's.
    #[error("{count} transactions of block {block} have root {got}, not {expected}")]
    TransactionsRoot {
        /// The block's number.
        block: u64,
        /// Transactions in the answer.
        count: usize,
        /// The root in the header.
        expected: B256,
        /// The root of what was given.
        got: B256,
    },
    /// Transactions and receipts of different blocks, or in different numbers.
    #[error("{transactions} transactions and {receipts} receipts do not belong together")]
    Mismatched {
        /// Transactions of the one.
        transactions: usize,
        /// Receipts of the other.
        receipts: usize,
    },
}
