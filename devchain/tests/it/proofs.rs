//! Proofs hold against the state root of the header, at the head and at blocks of the past.

use alloy::primitives::{Address, B256, U256, keccak256};
use alloy::providers::Provider;
use alloy::rpc::types::EIP1186AccountProofResponse;
use alloy_trie::proof::verify_proof;
use alloy_trie::{Nibbles, TrieAccount};
use posthouse_devchain::{Config, DevChain};

use crate::fixture::{self, deploy_probe, provider, receipt, start, store, words};

fn verify(root: B256, proof: &EIP1186AccountProofResponse, exists: bool) {
    let account = TrieAccount::new(proof.nonce, proof.balance, proof.storage_hash, proof.code_hash);
    let key = Nibbles::unpack(keccak256(proof.address));
    let value = exists.then(|| alloy::rlp::encode(account));
    verify_proof(root, key, value, &proof.account_proof).unwrap();
    for slot in &proof.storage_proof {
        let key = Nibbles::unpack(keccak256(slot.key.as_b256()));
        let value = (!slot.value.is_zero()).then(|| alloy::rlp::encode(slot.value));
        verify_proof(proof.storage_hash, key, value, &slot.proof).unwrap();
    }
}

#[tokio::test]
async fn accounts_and_slots_are_proven_present_and_absent() {
    let chain = start();
    let provider = provider(&chain);
    let probe = deploy_probe(&provider).await;
    for slot in 0..20 {
        receipt(&provider, store(probe, slot, slot + 1)).await;
    }
    receipt(&provider, store(probe, 3, 0)).await;
    let keys = [0u64, 3, 19, 20].map(|slot| B256::from(U256::from(slot))).to_vec();
    let root = chain.head().header().state_root;
    let proof = provider.get_proof(probe, keys).await.unwrap();
    assert_eq!(
        proof.storage_proof.iter().map(|slot| slot.value.to::<u64>()).collect::<Vec<_>>(),
        [1, 0, 20, 0]
    );
    verify(root, &proof, true);
    assert_eq!(proof.code_hash, keccak256(provider.get_code_at(probe).await.unwrap()));
    let nobody = provider.get_proof(Address::repeat_byte(0xee), vec![B256::ZERO]).await.unwrap();
    assert_eq!(nobody.nonce, 0);
    verify(root, &nobody, false);
    for account in chain.accounts() {
        verify(root, &provider.get_proof(account.address(), vec![]).await.unwrap(), true);
    }
}

#[tokio::test]
async fn the_past_answers_as_it_was() {
    let chain = start();
    let provider = provider(&chain);
    let probe = deploy_probe(&provider).await;
    for value in 1..=3 {
        receipt(&provider, store(probe, 5, value)).await;
    }
    for (block, value) in [(1, 0), (2, 1), (3, 2), (4, 3)] {
        let call = store(probe, 0, 0).input(words(&[5]).into());
        assert_eq!(provider.call(call).block(block.into()).await.unwrap(), words(&[value]));
        let stored = provider.get_storage_at(probe, U256::from(5)).number(block).await.unwrap();
        assert_eq!(stored, U256::from(value));
        let hash = chain.block(block).unwrap().hash();
        let proof = provider.get_proof(probe, vec![B256::with_last_byte(5)]).hash(hash).await.unwrap();
        assert_eq!(proof.storage_proof[0].value, U256::from(value));
        verify(chain.block(block).unwrap().header().state_root, &proof, true);
    }
    assert!(provider.get_code_at(probe).number(0).await.unwrap().is_empty());
}

#[tokio::test]
async fn states_older_than_the_history_are_refused_and_blocks_are_not() {
    let chain = DevChain::start(Config { state_history: 4, ..fixture::config() }).unwrap();
    let provider = provider(&chain);
    let account = chain.accounts()[0].address();
    chain.mine_many(10).unwrap();
    assert!(provider.get_balance(account).number(7).await.is_ok());
    let error = provider.get_balance(account).number(6).await.unwrap_err();
    assert!(error.to_string().contains("pruned"), "{error}");
    assert!(provider.get_block(1.into()).await.unwrap().is_some());
}
