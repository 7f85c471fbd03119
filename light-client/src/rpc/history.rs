//! Logs, complete: no endpoint can leave one out.

use std::ops::ControlFlow;
use std::sync::Arc;

use alloy::consensus::{Header, TxEnvelope};
use alloy::primitives::B256;
use serde::Deserialize;
use serde_json::json;
use serde_json::value::RawValue;

use super::node::Node;
use super::{AnswerError, Rpc, RpcError};
use crate::execution::{
    self, Block, Filter, Log, Receipts, Transactions, verify_receipts, verify_transactions,
};
use crate::spec::complaint;

/// What is read of a block that comes with its transactions; the header is read from the same text.
#[derive(Deserialize)]
struct Body {
    transactions: Vec<TxEnvelope>,
}

impl Rpc {
    /// All logs that the filter means in the blocks from number `from` to `head`, in their order. `from` after `head` gives
    /// none.
    ///
    /// Each block's parent hash is followed; where a bloom says that there may be such a log, all receipts of that block
    /// are fetched and their root is worked out. Whoever polls should go on from the block after the last head: what lies
    /// before was complete.
    ///
    /// # Errors
    /// [`RpcError::TooFar`], [`RpcError::TooManyLogs`], [`RpcError::Exhausted`].
    pub async fn logs(&self, head: &Block, filter: &Filter, from: u64) -> Result<Vec<Log>, RpcError> {
        if from > head.number {
            return Ok(Vec::new());
        }
        let mut candidates = Vec::new();
        self.walk(head, from, |block| {
            if filter.may_be_in(&block.logs_bloom) {
                candidates.push(block.clone());
            }
            ControlFlow::Continue(())
        })
        .await?;
        let mut found = Vec::new();
        for block in candidates.into_iter().rev() {
            found.extend(self.logs_in(&block, filter).await?);
            if found.len() > RpcError::MAX_LOGS {
                return Err(RpcError::TooManyLogs);
            }
        }
        Ok(found)
    }

    /// All logs of one proven block that the filter means.
    ///
    /// # Errors
    /// [`RpcError::Exhausted`].
    pub async fn logs_in(&self, block: &Block, filter: &Filter) -> Result<Vec<Log>, RpcError> {
        if !filter.may_be_in(&block.logs_bloom) {
            return Ok(Vec::new());
        }
        let receipts = self.receipts(block).await?;
        if !receipts.any(filter) {
            return Ok(Vec::new());
        }
        let transactions = self.transactions(block).await?;
        let logs = receipts.logs(&transactions).expect("both are proven to be this block's");
        Ok(logs.filter(|log| filter.matches(&log.inner)).collect())
    }

    /// All receipts of a proven block.
    ///
    /// # Errors
    /// [`RpcError::Exhausted`].
    pub async fn receipts(&self, block: &Block) -> Result<Receipts, RpcError> {
        let ask = |node: Arc<Node>| async move {
            let method = "eth_getBlockReceipts";
            let receipts: Vec<execution::Receipt> = node.at_block(method, block, |at| json!([at])).await?;
            verify_receipts(block, receipts).map_err(AnswerError::refused(method))
        };
        Ok(self.pool.first(ask).await?)
    }

    /// The hashes of all transactions of a proven block.
    ///
    /// # Errors
    /// [`RpcError::Exhausted`].
    pub async fn transactions(&self, block: &Block) -> Result<Transactions, RpcError> {
        Ok(self.pool.first(|node| transactions(node, block)).await?)
    }
}

async fn transactions(node: Arc<Node>, block: &Block) -> Result<Transactions, AnswerError> {
    let method = "eth_getBlockByHash";
    let hash: B256 = block.hash;
    let text: Box<RawValue> = node.required(method, json!([hash, true])).await?;
    let form = |error: serde_json::Error| AnswerError::Form { method, why: complaint(&error) };
    let header: Header = serde_json::from_str(text.get()).map_err(form)?;
    let body: Body = serde_json::from_str(text.get()).map_err(form)?;
    verify_transactions(block, &header, &body.transactions).map_err(AnswerError::refused(method))
}
