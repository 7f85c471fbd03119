//! One byte picks a parser, the rest is its input. None may panic, and what is accepted must be what was asked for. Roots
//! are taken from the input itself where a proof begins with its root, so that more is reached than an endpoint can
//! reach, which has to hit a root that is proven.
#![no_main]

use alloy::consensus::Header;
use alloy::primitives::{Address, B256, Bytes, U256, keccak256};
use alloy::rlp::Decodable;
use alloy::rpc::types::{EIP1186AccountProofResponse, EIP1186StorageProof};
use libfuzzer_sys::fuzz_target;
use posthouse_light_client::execution::{
    Block, Receipt, verify_account, verify_code, verify_header, verify_receipts, verify_storage,
};
use posthouse_light_client::jsonrpc;

fn block(header: &Header) -> Block {
    verify_header(header.hash_slow(), header).expect("it is its own hash")
}

fn header(bytes: &[u8]) {
    let Ok(header) = Header::decode(&mut &*bytes) else { return };
    assert!(verify_header(keccak256([]), &header).is_err());
    let block = block(&header);
    assert_eq!((block.number, block.state_root), (header.number, header.state_root));
    assert!(block.verify_parent(&header).is_err(), "no block is its own parent");
}

/// Nodes, each behind its length in two bytes.
fn nodes(mut bytes: &[u8]) -> Vec<Bytes> {
    let mut nodes = Vec::new();
    while let Some((length, rest)) = bytes.split_at_checked(2) {
        let length = usize::from(u16::from_be_bytes([length[0], length[1]])).min(rest.len());
        nodes.push(Bytes::copy_from_slice(&rest[..length]));
        bytes = &rest[length..];
    }
    nodes
}

fn root(nodes: &[Bytes]) -> B256 {
    nodes.first().map_or(alloy_trie::EMPTY_ROOT_HASH, keccak256)
}

/// An account whose fields come first, and its proof.
fn account(bytes: &[u8]) {
    let Some((fields, proof)) = bytes.split_at_checked(20 + 8 + 32 + 32 + 32) else { return };
    let word = |at: usize| B256::from_slice(&fields[at..at + 32]);
    let account_proof = nodes(proof);
    let answer = EIP1186AccountProofResponse {
        address: Address::from_slice(&fields[..20]),
        nonce: u64::from_be_bytes(fields[20..28].try_into().expect("eight bytes")),
        balance: word(28).into(),
        code_hash: word(60),
        storage_hash: word(92),
        account_proof,
        storage_proof: Vec::new(),
    };
    let header = Header { state_root: root(&answer.account_proof), ..Header::default() };
    if let Ok(account) = verify_account(&block(&header), answer.address, &answer) {
        assert_eq!((account.nonce, account.balance), (answer.nonce, answer.balance));
        let _ = verify_code(&account, proof);
    }
}

/// A slot, its word, and the proof, in an account with this storage.
fn storage(bytes: &[u8]) {
    let Some((fields, proof)) = bytes.split_at_checked(64) else { return };
    let (slot, value) = (B256::from_slice(&fields[..32]), U256::from_be_slice(&fields[32..]));
    let proof = nodes(proof);
    // A trie of one leaf, the account: its key ends in all 64 nibbles.
    let address = Address::ZERO;
    let leaf = alloy_trie::TrieAccount { nonce: 1, storage_root: root(&proof), ..Default::default() };
    let path = alloy_trie::Nibbles::unpack(keccak256(address));
    let node = alloy::rlp::encode(alloy_trie::nodes::LeafNode::new(path, alloy::rlp::encode(leaf)));
    let answer = EIP1186AccountProofResponse {
        address,
        nonce: leaf.nonce,
        balance: leaf.balance,
        code_hash: leaf.code_hash,
        storage_hash: leaf.storage_root,
        account_proof: vec![node.into()],
        storage_proof: Vec::new(),
    };
    let header = Header { state_root: root(&answer.account_proof), ..Header::default() };
    let account = verify_account(&block(&header), address, &answer).expect("a true proof");
    let proof = EIP1186StorageProof { key: slot.into(), value, proof };
    if let Ok(word) = verify_storage(&account, slot, &proof) {
        assert_eq!(word, value);
    }
}

fn receipts(bytes: &[u8]) {
    let Ok(receipts) = serde_json::from_slice::<Vec<Receipt>>(bytes) else { return };
    let empty = receipts.is_empty();
    let verified = verify_receipts(&block(&Header::default()), receipts);
    assert_eq!(verified.is_ok(), empty, "the default header has no receipts");
}

fn answers(bytes: &[u8]) {
    let _ = jsonrpc::read_single(bytes);
    for calls in 0..4 {
        if let Ok(replies) = jsonrpc::read_batch(bytes, calls) {
            assert_eq!(replies.len(), calls);
        }
    }
    let _ = serde_json::from_slice::<Header>(bytes);
    let _ = serde_json::from_slice::<EIP1186AccountProofResponse>(bytes);
    let _ = serde_json::from_slice::<alloy::consensus::TxEnvelope>(bytes);
}

fuzz_target!(|data: &[u8]| {
    let Some((pick, bytes)) = data.split_first() else { return };
    match pick % 5 {
        0 => header(bytes),
        1 => account(bytes),
        2 => storage(bytes),
        3 => receipts(bytes),
        _ => answers(bytes),
    }
});
