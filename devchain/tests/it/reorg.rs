//! Reorganisations and what finality says about them.

use alloy::eips::BlockNumberOrTag;
use alloy::primitives::{Address, U256};
use alloy::providers::Provider;
use posthouse_devchain::{Config, DevChain, Error, Reorg, ReorgError};

use crate::fixture::{self, provider, raw, start, transfer};

#[tokio::test]
async fn the_newest_blocks_are_replaced_and_their_state_is_undone() {
    let chain = start();
    let provider = provider(&chain);
    let (a, b) = (&chain.accounts()[0], Address::repeat_byte(0xb0));
    chain.mine_many(3).unwrap();
    let gone = chain.send(transfer(a, 0, b)).unwrap();
    let old: Vec<_> = (0..=4).map(|number| chain.block(number).unwrap()).collect();
    let before = chain.balance(a.address());

    let head = chain.reorg(Reorg { depth: 2, ..Reorg::default() }).unwrap();
    assert_eq!(head.number(), 4);
    for (number, old) in (0..).zip(&old) {
        let now = chain.block(number).unwrap();
        assert_eq!(now.hash() == old.hash(), number <= 2, "block {number}");
        assert_eq!(now.timestamp(), old.timestamp());
        assert_eq!(chain.block_by_hash(old.hash()).is_some(), number <= 2);
    }
    assert_eq!(chain.block(3).unwrap().header().parent_hash, old[2].hash());
    assert!(chain.balance(a.address()) > before);
    assert!(provider.get_transaction_receipt(gone).await.unwrap().is_none());
    assert!(provider.get_transaction_by_hash(gone).await.unwrap().is_none());
    assert_eq!(provider.get_transaction_count(a.address()).await.unwrap(), 0);
}

#[tokio::test]
async fn replacements_are_executed_in_their_blocks() {
    let chain = start();
    let provider = provider(&chain);
    let (a, b) = (&chain.accounts()[0], &chain.accounts()[1]);
    let first = transfer(a, 0, Address::repeat_byte(1));
    let other = transfer(a, 0, Address::repeat_byte(2));
    let later = transfer(b, 0, Address::repeat_byte(3));
    chain.send(first.clone()).unwrap();
    chain.mine();
    let pairs = [(raw(&other), "0x0"), (raw(&later), "0x1")];
    let _: () = provider.raw_request("anvil_reorg".into(), (2, pairs)).await.unwrap();
    assert_eq!(chain.block_of(*other.tx_hash()).unwrap().0.number(), 1);
    assert_eq!(chain.block_of(*later.tx_hash()).unwrap().0.number(), 2);
    assert!(chain.block_of(*first.tx_hash()).is_none());

    let unchanged = chain.head().hash();
    let bad = Reorg { depth: 1, transactions: vec![(transfer(a, 7, Address::ZERO), 0)], resubmit: false };
    assert!(matches!(chain.reorg(bad), Err(Error::Reorg(ReorgError::Transaction { .. }))));
    let bad = Reorg { depth: 1, transactions: vec![(first, 1)], resubmit: false };
    assert!(matches!(chain.reorg(bad), Err(Error::Reorg(ReorgError::Offset { offset: 1, depth: 1 }))));
    assert_eq!(chain.head().hash(), unchanged);
}

#[test]
fn dropped_transactions_return_to_the_pool_if_asked_for() {
    let chain = start();
    let tx = chain.send(transfer(&chain.accounts()[0], 0, Address::repeat_byte(1))).unwrap();
    chain.reorg(Reorg { depth: 1, resubmit: true, ..Reorg::default() }).unwrap();
    assert!(chain.block_of(tx).is_none());
    chain.mine();
    assert_eq!(chain.block_of(tx).unwrap().0.number(), 2);
}

#[tokio::test]
async fn finality_follows_the_head_and_never_goes_down() {
    let chain = start();
    let provider = provider(&chain);
    let number = async |tag| provider.get_block_by_number(tag).await.unwrap().unwrap().header.number;
    assert_eq!(number(BlockNumberOrTag::Finalized).await, 0);
    chain.mine_many(5).unwrap();
    assert_eq!(number(BlockNumberOrTag::Finalized).await, 3);
    assert_eq!(number(BlockNumberOrTag::Safe).await, 4);
    assert_eq!(number(BlockNumberOrTag::Latest).await, 5);
    assert_eq!(number(BlockNumberOrTag::Earliest).await, 0);
    assert_eq!(number(BlockNumberOrTag::Pending).await, 6);
    let finalized = chain.finalized().hash();
    chain.reorg(Reorg { depth: 2, ..Reorg::default() }).unwrap();
    assert_eq!(chain.finalized().hash(), finalized);
    let deep = chain.reorg(Reorg { depth: 3, ..Reorg::default() });
    assert!(matches!(deep, Err(Error::Reorg(ReorgError::Finalized { depth: 3, finalized: 3 }))));
    for depth in [0, 6] {
        let impossible = chain.reorg(Reorg { depth, ..Reorg::default() });
        assert!(matches!(impossible, Err(Error::Reorg(ReorgError::Depth { height: 5, .. }))));
    }
}

#[test]
fn a_broken_consensus_can_be_asked_for() {
    let chain = DevChain::start(Config { reorg_past_finality: true, ..fixture::config() }).unwrap();
    chain.mine_many(5).unwrap();
    let finalized = chain.finalized();
    chain.reorg(Reorg { depth: 4, ..Reorg::default() }).unwrap();
    assert_eq!(chain.finalized().number(), finalized.number());
    assert_ne!(chain.finalized().hash(), finalized.hash());
}

#[test]
fn whoever_watches_the_head_is_told_of_the_new_one() {
    let chain = start();
    let mut heads = chain.heads();
    assert_eq!(heads.borrow_and_update().number, 0);
    let block = chain.mine();
    assert!(heads.has_changed().unwrap());
    assert_eq!(*heads.borrow_and_update(), block.id());
    let replaced = chain.reorg(Reorg { depth: 1, ..Reorg::default() }).unwrap();
    assert_eq!(*heads.borrow_and_update(), replaced.id());
    assert_ne!(replaced.hash(), block.hash());
}

#[tokio::test]
async fn a_snapshot_brings_everything_back_once() {
    let chain = start();
    let provider = provider(&chain);
    let a = &chain.accounts()[0];
    let start = chain.balance(a.address());
    let id: String = provider.raw_request("evm_snapshot".into(), ()).await.unwrap();
    chain.send(transfer(a, 0, Address::repeat_byte(1))).unwrap();
    chain.mine_many(4).unwrap();
    let old = chain.block(1).unwrap().hash();
    assert!(provider.raw_request::<_, bool>("evm_revert".into(), (&id,)).await.unwrap());
    assert_eq!((chain.head().number(), chain.finalized().number()), (0, 0));
    assert_eq!(chain.balance(a.address()), start);
    assert!(!provider.raw_request::<_, bool>("evm_revert".into(), (&id,)).await.unwrap());
    assert_ne!(chain.mine().hash(), old);
    chain.set_balance(a.address(), U256::from(5));
    assert_eq!(chain.balance(a.address()), U256::from(5));
}
