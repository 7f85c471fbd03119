//! What is in the state: balances, code, storage, nonces, and the proofs of them (EIP-1186).

use alloy::eips::{BlockId, BlockNumberOrTag};
use alloy::primitives::{Address, B256, U64, U256};
use alloy::rpc::types::{EIP1186AccountProofResponse, EIP1186StorageProof};
use alloy::serde::JsonStorageKey;

use crate::node::Node;
use crate::rpc::error::RpcError;
use crate::rpc::params::Params;
use crate::rpc::{Reply, select, to_json};

/// Storage slots in one `eth_getProof`, as geth has it.
const MAX_PROOF_KEYS: usize = 1024;

pub(super) fn accounts(node: &Node) -> Reply {
    to_json(node.config.accounts.iter().map(|account| account.address()).collect::<Vec<_>>())
}

pub(super) fn balance(node: &Node, mut params: Params) -> Reply {
    let address = params.required(0, "address")?;
    to_json(select::at(node, block(&mut params, 1)?)?.state.balance(address))
}

pub(super) fn code(node: &Node, mut params: Params) -> Reply {
    let address = params.required(0, "address")?;
    to_json(select::at(node, block(&mut params, 1)?)?.state.code(address))
}

pub(super) fn storage(node: &Node, mut params: Params) -> Reply {
    let address = params.required(0, "address")?;
    let slot: JsonStorageKey = params.required(1, "slot")?;
    let at = select::at(node, block(&mut params, 2)?)?;
    to_json(B256::from(at.state.storage(address, number(&slot))))
}

pub(super) fn nonce(node: &Node, mut params: Params) -> Reply {
    let address: Address = params.required(0, "address")?;
    let id = block(&mut params, 1)?;
    let nonce = if id == BlockId::pending() {
        let chain = node.chain();
        chain.pool.next_nonce(address, chain.canon.head_state())
    } else {
        select::at(node, id)?.state.nonce(address)
    };
    to_json(U64::from(nonce))
}

pub(super) fn proof(node: &Node, mut params: Params) -> Reply {
    let address: Address = params.required(0, "address")?;
    let keys: Vec<JsonStorageKey> = params.optional(1, "storage keys")?.unwrap_or_default();
    if keys.len() > MAX_PROOF_KEYS {
        return Err(RpcError::limit(format!("{} storage keys, limit {MAX_PROOF_KEYS}", keys.len())));
    }
    let slots: Vec<U256> = keys.iter().map(number).collect();
    let proof = select::at(node, block(&mut params, 2)?)?.state.prove(address, &slots);
    let storage_proof = keys
        .into_iter()
        .zip(proof.slots)
        .map(|(key, (value, proof))| EIP1186StorageProof { key, value, proof })
        .collect();
    to_json(EIP1186AccountProofResponse {
        address,
        balance: proof.account.balance,
        code_hash: proof.account.code_hash,
        nonce: proof.account.nonce,
        storage_hash: proof.account.storage_root,
        account_proof: proof.nodes,
        storage_proof,
    })
}

fn block(params: &mut Params, index: usize) -> Result<BlockId, RpcError> {
    Ok(params.optional(index, "block")?.unwrap_or(BlockNumberOrTag::Latest.into()))
}

fn number(slot: &JsonStorageKey) -> U256 {
    slot.as_b256().into()
}
