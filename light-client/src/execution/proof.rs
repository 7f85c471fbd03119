//! Accounts, storage and code (EIP-1186).

use alloy::primitives::{Address, B256, Bytes, KECCAK256_EMPTY, U256, keccak256};
use alloy::rlp;
use alloy::rpc::types::{EIP1186AccountProofResponse, EIP1186StorageProof};
use alloy_trie::proof::verify_proof;
use alloy_trie::{EMPTY_ROOT_HASH, Nibbles, TrieAccount};

use super::{Block, Refused};
use crate::words;

/// Nodes on the way from a root: one for each of the 64 nibbles of a hashed key, and the leaf.
const MAX_NODES: usize = 65;
/// Bytes of a node. The largest is a branch with 16 hashes, 532 bytes.
const MAX_NODE: usize = 1024;

/// An account as it is after a proven block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Account {
    /// Whose it is.
    pub address: Address,
    /// Whether it is in the state trie. An account that is not has no code, no storage, and no ether.
    pub exists: bool,
    /// Transactions sent, or contracts created.
    pub nonce: u64,
    /// Wei.
    pub balance: U256,
    /// Root of its storage trie.
    pub storage_root: B256,
    /// Keccak-256 of its code.
    pub code_hash: B256,
}

/// The account at `address` after `block`, or that there is none.
///
/// # Errors
/// [`Refused::OtherAddress`], [`Refused::ProofSize`], [`Refused::Account`].
pub fn verify_account(
    block: &Block,
    address: Address,
    proof: &EIP1186AccountProofResponse,
) -> Result<Account, Refused> {
    if proof.address != address {
        return Err(Refused::OtherAddress { expected: address, got: proof.address });
    }
    let refused = |why: String| Refused::Account { address, block: block.number, why };
    let absent = Account {
        address,
        exists: false,
        nonce: 0,
        balance: U256::ZERO,
        storage_root: EMPTY_ROOT_HASH,
        code_hash: KECCAK256_EMPTY,
    };
    let nodes = &proof.account_proof;
    if is_empty(proof) && verify(block.state_root, address.as_slice(), None, nodes)?.is_ok() {
        return Ok(absent);
    }
    let leaf = TrieAccount::new(proof.nonce, proof.balance, proof.storage_hash, proof.code_hash);
    verify(block.state_root, address.as_slice(), Some(rlp::encode(leaf)), nodes)?.map_err(refused)?;
    Ok(Account {
        exists: true,
        nonce: proof.nonce,
        balance: proof.balance,
        storage_root: proof.storage_hash,
        code_hash: proof.code_hash,
        ..absent
    })
}

/// The word in a slot of a proven account; zero where the trie has none.
///
/// # Errors
/// [`Refused::OtherSlot`], [`Refused::ProofSize`], [`Refused::Storage`].
pub fn verify_storage(account: &Account, slot: B256, proof: &EIP1186StorageProof) -> Result<U256, Refused> {
    let got = proof.key.as_b256();
    if got != slot {
        return Err(Refused::OtherSlot { expected: slot, got });
    }
    let value = proof.value;
    // A trie has no zeros, so zero is proven by there being no such leaf.
    let leaf = (!value.is_zero()).then(|| rlp::encode(value));
    let refused = |why| Refused::Storage { address: account.address, slot, value, why };
    verify(account.storage_root, slot.as_slice(), leaf, &proof.proof)?.map_err(refused)?;
    Ok(value)
}

/// Whether this is the code of a proven account.
///
/// # Errors
/// [`Refused::Code`].
pub fn verify_code(account: &Account, code: &[u8]) -> Result<(), Refused> {
    let (expected, got) = (account.code_hash, keccak256(code));
    if got == expected { Ok(()) } else { Err(Refused::Code { address: account.address, expected, got }) }
}

/// Whether an answer says that there is no account: geth writes the hashes of nothing, others zeros.
fn is_empty(proof: &EIP1186AccountProofResponse) -> bool {
    proof.nonce == 0
        && proof.balance.is_zero()
        && [B256::ZERO, KECCAK256_EMPTY].contains(&proof.code_hash)
        && [B256::ZERO, EMPTY_ROOT_HASH].contains(&proof.storage_hash)
}

/// The outer error is a proof that nobody has to look at, the inner one a proof that breaks.
fn verify(
    root: B256,
    key: &[u8],
    leaf: Option<Vec<u8>>,
    nodes: &[Bytes],
) -> Result<Result<(), String>, Refused> {
    let largest = nodes.iter().map(|node| node.len()).max().unwrap_or(0);
    if nodes.len() > MAX_NODES || largest > MAX_NODE {
        return Err(Refused::ProofSize { nodes: nodes.len(), largest });
    }
    let outcome = verify_proof(root, Nibbles::unpack(keccak256(key)), leaf, nodes);
    Ok(outcome.map_err(|error| words(&error.to_string())))
}
