//! One transaction: where it is and what it did.

use std::sync::Arc;

use alloy::primitives::{B256, U64};
use serde::Deserialize;
use serde_json::json;

use super::node::Node;
use super::{AnswerError, Rpc, RpcError};
use crate::execution::{Block, Log};

/// A transaction that is proven to be in the chain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Receipt {
    /// The block that has it.
    pub block: Arc<Block>,
    /// Its hash.
    pub transaction_hash: B256,
    /// Its position in the block.
    pub transaction_index: u64,
    /// Whether it succeeded.
    pub success: bool,
    /// What it logged.
    pub logs: Vec<Log>,
}

/// Where an endpoint says that the transaction is: a place to look at, no more.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Place {
    block_number: U64,
}

impl Rpc {
    /// The receipt of a transaction at or before `head`. `None` when no endpoint shows one: that it was not executed is
    /// nothing that an endpoint can prove.
    ///
    /// # Errors
    /// [`RpcError::Exhausted`]: no endpoint answers, or none that is right; [`RpcError::TooFar`].
    pub async fn receipt(&self, head: &Block, transaction: B256) -> Result<Option<Receipt>, RpcError> {
        let mut asked = Vec::new();
        let mut too_far = None;
        loop {
            let ask = |node: Arc<Node>| async move {
                node.ask::<Place>("eth_getTransactionReceipt", json!([transaction])).await
            };
            let (endpoint, place) = match self.pool.first_except(&asked, 1, ask).await {
                Ok(answer) => answer,
                Err(_) if !asked.is_empty() => return too_far.map_or(Ok(None), Err),
                Err(failures) => return Err(failures.into()),
            };
            asked.push(endpoint);
            // Executed after the head, which may still be undone, is not executed yet.
            let Some(number) = place.map(|place| place.block_number.to()).filter(|it| *it <= head.number)
            else {
                continue;
            };
            match self.receipt_in(head, transaction, number).await {
                Ok(Some(receipt)) => return Ok(Some(receipt)),
                Ok(None) => self.blame(endpoint, &AnswerError::Misplaced { block: number }),
                // It may be there, or be a lie: another endpoint may know of a nearer place.
                Err(error @ RpcError::TooFar { .. }) => too_far = Some(error),
                Err(error) => return Err(error),
            }
        }
    }

    async fn receipt_in(
        &self,
        head: &Block,
        transaction: B256,
        number: u64,
    ) -> Result<Option<Receipt>, RpcError> {
        let block = self.ancestor(head, number).await?;
        let transactions = self.transactions(&block).await?;
        let Some(index) = transactions.hashes().iter().position(|hash| *hash == transaction) else {
            return Ok(None);
        };
        let receipts = self.receipts(&block).await?;
        let logs = receipts.logs(&transactions).expect("both are proven to be this block's");
        Ok(Some(Receipt {
            transaction_hash: transaction,
            transaction_index: index as u64,
            success: receipts.success(index).expect("each transaction of the block has a receipt"),
            logs: logs.filter(|log| log.transaction_index == index as u64).collect(),
            block,
        }))
    }
}
