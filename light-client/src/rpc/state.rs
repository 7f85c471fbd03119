//! Accounts, storage, code.

use std::sync::Arc;

use alloy::primitives::{Address, B256, Bytes, U256};
use alloy::rpc::types::EIP1186AccountProofResponse;
use serde_json::{Value, json};

use super::node::Node;
use super::{AnswerError, Rpc, RpcError};
use crate::execution::{Account, Block, Refused, verify_account, verify_code, verify_storage};

/// Slots proven by one request: at 4 kB of nodes each, written in hex, about 2 MB. geth takes 1,024.
const SLOTS: usize = 256;

impl Rpc {
    /// The account at an address after `block`, and the words in its slots.
    ///
    /// # Errors
    /// [`RpcError::Exhausted`]: no endpoint has the state and proves it.
    pub async fn account(
        &self,
        block: &Block,
        address: Address,
        slots: &[B256],
    ) -> Result<(Account, Vec<U256>), RpcError> {
        let (first, rest) = slots.split_at(slots.len().min(SLOTS));
        let (account, mut words) = self.account_with(block, address, first).await?;
        for slots in rest.chunks(SLOTS) {
            words.extend(self.account_with(block, address, slots).await?.1);
        }
        Ok((account, words))
    }

    async fn account_with(
        &self,
        block: &Block,
        address: Address,
        slots: &[B256],
    ) -> Result<(Account, Vec<U256>), RpcError> {
        Ok(self.pool.first(|node| prove(node, block, address, slots)).await?)
    }

    /// The code of the account at an address after `block`; empty where there is none.
    ///
    /// # Errors
    /// [`RpcError::Exhausted`]: no endpoint has the state and proves it.
    pub async fn code(&self, block: &Block, address: Address) -> Result<Bytes, RpcError> {
        let (account, _) = self.account(block, address, &[]).await?;
        self.code_of(block, &account).await
    }

    /// The code of an account that is proven after `block`.
    ///
    /// # Errors
    /// [`RpcError::Exhausted`]: no endpoint gives code with the account's hash.
    pub async fn code_of(&self, block: &Block, account: &Account) -> Result<Bytes, RpcError> {
        if verify_code(account, &[]).is_ok() {
            return Ok(Bytes::new());
        }
        let ask = |node: Arc<Node>| async move {
            let method = "eth_getCode";
            let code: Bytes = node.at_block(method, block, |at| json!([account.address, at])).await?;
            verify_code(account, &code).map_err(AnswerError::refused(method))?;
            Ok(code)
        };
        Ok(self.pool.first(ask).await?)
    }
}

async fn prove(
    node: Arc<Node>,
    block: &Block,
    address: Address,
    slots: &[B256],
) -> Result<(Account, Vec<U256>), AnswerError> {
    let method = "eth_getProof";
    // B256 is written with all of its 64 digits, which all nodes take; anvil refuses 0x0.
    let params = |at: Value| json!([address, slots, at]);
    let proof = node.at_block(method, block, params).await?;
    verify(block, address, slots, &proof).map_err(AnswerError::refused(method))
}

fn verify(
    block: &Block,
    address: Address,
    slots: &[B256],
    proof: &EIP1186AccountProofResponse,
) -> Result<(Account, Vec<U256>), Refused> {
    let account = verify_account(block, address, proof)?;
    let (expected, got) = (slots.len(), proof.storage_proof.len());
    if expected != got {
        return Err(Refused::SlotCount { expected, got });
    }
    let words = slots.iter().zip(&proof.storage_proof);
    let words = words.map(|(slot, proof)| verify_storage(&account, *slot, proof));
    Ok((account, words.collect::<Result<_, _>>()?))
}
