//! Receipts, and the logs in them.

use alloy::consensus::proofs::ordered_trie_root_with_encoder;
use alloy::consensus::{ReceiptWithBloom, TxReceipt as _};
use alloy::primitives::{Address, B256, Bytes, LogData, U64};
use alloy::rlp::Encodable as _;
use serde::Deserialize;

use super::{Block, Filter, Refused, Transactions};

/// EIP-2718: a type byte above this would be the beginning of an RLP list.
const MAX_TYPE: u64 = 0x7f;

/// A receipt as an endpoint writes it: only what goes into the trie is read, and nothing is believed yet.
///
/// Numbers of more than 64 bits, hashes and addresses of another length do not deserialise.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Receipt {
    /// EIP-2718 type of the transaction; without one it is a legacy transaction.
    #[serde(default, rename = "type")]
    pub kind: Option<U64>,
    /// 1 for success, 0 for failure (EIP-658).
    #[serde(default)]
    pub status: Option<U64>,
    /// Gas used in the block up to and including this transaction.
    pub cumulative_gas_used: U64,
    /// What was logged.
    pub logs: Vec<WrittenLog>,
}

/// A log as an endpoint writes it. Block, transaction and position are left out, as they would have to be believed.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct WrittenLog {
    /// Who logged.
    pub address: Address,
    /// At most four words.
    pub topics: Vec<B256>,
    /// The rest.
    pub data: Bytes,
}

/// All receipts of a proven block.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Receipts {
    block: Block,
    all: Vec<Proven>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Proven {
    success: bool,
    logs: Vec<alloy::primitives::Log>,
}

/// A log of a proven block, with where it stands worked out from its position.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Log {
    /// Address, topics and data.
    pub inner: alloy::primitives::Log,
    /// Number of its block.
    pub block_number: u64,
    /// Hash of its block.
    pub block_hash: B256,
    /// Unix seconds of its block.
    pub block_timestamp: u64,
    /// Hash of its transaction.
    pub transaction_hash: B256,
    /// Position of its transaction in the block.
    pub transaction_index: u64,
    /// Its position among the logs of the block.
    pub log_index: u64,
}

/// The receipts, if they are all of the block's and in order. Their blooms are worked out from their logs.
///
/// Types 0 to 4 have this payload. A later type that keeps it is understood, one that does not fails by its root.
///
/// # Errors
/// [`Refused::ReceiptType`], [`Refused::ReceiptStatus`], [`Refused::LogTopics`], [`Refused::ReceiptOrder`],
/// [`Refused::ReceiptsRoot`].
pub fn verify_receipts(block: &Block, receipts: Vec<Receipt>) -> Result<Receipts, Refused> {
    let count = receipts.len();
    let typed = receipts.into_iter().enumerate().map(|(index, receipt)| consensus(index, receipt));
    let typed: Vec<_> = typed.collect::<Result<_, _>>()?;
    if let Some(index) = typed.windows(2).position(|pair| pair[1].gas() < pair[0].gas()) {
        return Err(Refused::ReceiptOrder { index: index + 1 });
    }
    let got = ordered_trie_root_with_encoder(&typed, Typed::encode);
    let expected = block.receipts_root;
    if got != expected {
        return Err(Refused::ReceiptsRoot { block: block.number, count, expected, got });
    }
    let proven = |typed: Typed| Proven { success: typed.receipt.status(), logs: typed.receipt.receipt.logs };
    Ok(Receipts { block: block.clone(), all: typed.into_iter().map(proven).collect() })
}

impl Receipts {
    /// How many transactions the block has.
    #[must_use]
    pub fn count(&self) -> usize {
        self.all.len()
    }

    /// Whether the transaction at `index` succeeded; `None` if there is none.
    #[must_use]
    pub fn success(&self, index: usize) -> Option<bool> {
        self.all.get(index).map(|receipt| receipt.success)
    }

    /// Whether any log is meant by the filter.
    #[must_use]
    pub fn any(&self, filter: &Filter) -> bool {
        self.all.iter().flat_map(|receipt| &receipt.logs).any(|log| filter.matches(log))
    }

    /// All logs in their order, with the hashes of the block's own transactions.
    ///
    /// # Errors
    /// [`Refused::Mismatched`]: the transactions are another block's.
    pub fn logs(&self, transactions: &Transactions) -> Result<impl Iterator<Item = Log>, Refused> {
        if transactions.block_hash() != self.block.hash || transactions.hashes().len() != self.all.len() {
            let (transactions, receipts) = (transactions.hashes().len(), self.all.len());
            return Err(Refused::Mismatched { transactions, receipts });
        }
        let placed = self.all.iter().zip(transactions.hashes()).zip(0..);
        let flat = placed
            .flat_map(|((receipt, hash), index)| receipt.logs.iter().map(move |log| (log, hash, index)));
        Ok(flat.zip(0..).map(|((log, hash, transaction_index), log_index)| Log {
            inner: log.clone(),
            block_number: self.block.number,
            block_hash: self.block.hash,
            block_timestamp: self.block.timestamp,
            transaction_hash: *hash,
            transaction_index,
            log_index,
        }))
    }
}

/// A receipt as the trie has it.
struct Typed {
    kind: u8,
    receipt: ReceiptWithBloom<alloy::consensus::Receipt>,
}

impl Typed {
    fn gas(&self) -> u64 {
        self.receipt.receipt.cumulative_gas_used
    }

    /// EIP-2718: the type, but for legacy ones, and `rlp([status, gas, bloom, logs])`.
    fn encode(&self, out: &mut Vec<u8>) {
        if self.kind != 0 {
            out.push(self.kind);
        }
        self.receipt.encode(out);
    }
}

fn consensus(index: usize, receipt: Receipt) -> Result<Typed, Refused> {
    let kind = receipt.kind.unwrap_or_default().to::<u64>();
    let kind =
        u8::try_from(kind).ok().filter(|_| kind <= MAX_TYPE).ok_or(Refused::ReceiptType { index, kind })?;
    let status = match receipt.status.map(|status| status.to::<u64>()) {
        Some(0) => false,
        Some(1) => true,
        _ => return Err(Refused::ReceiptStatus { index }),
    };
    let cumulative_gas_used = receipt.cumulative_gas_used.to();
    let logs = receipt.logs.into_iter().map(|log| {
        let topics = log.topics.len();
        let data = LogData::new(log.topics, log.data).ok_or(Refused::LogTopics { index, topics })?;
        Ok(alloy::primitives::Log { address: log.address, data })
    });
    let logs = logs.collect::<Result<_, _>>()?;
    let receipt = alloy::consensus::Receipt { status: status.into(), cumulative_gas_used, logs };
    Ok(Typed { kind, receipt: receipt.into() })
}
