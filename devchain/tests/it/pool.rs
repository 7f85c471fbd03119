//! What is let into the pool, what is not, and in which order it is mined.

use alloy::consensus::TxEip1559;
use alloy::primitives::{Address, Bytes, TxKind, U256};
use alloy::providers::Provider;
use posthouse_devchain::{DevChain, Error, Rejection};

use crate::fixture::{provider, raw, sign, signed, start, transfer};

const SOMEONE: Address = Address::repeat_byte(0x50);

fn refusal(chain: &DevChain, tx: alloy::consensus::TxEnvelope) -> String {
    match chain.send(tx) {
        Err(Error::Rejected(rejection)) => rejection.to_string(),
        other => panic!("not refused: {other:?}"),
    }
}

fn with_tip(chain: &DevChain, account: usize, nonce: u64, tip: u128) -> alloy::consensus::TxEnvelope {
    let tx = TxEip1559 {
        chain_id: 31_337,
        nonce,
        gas_limit: 21_000,
        max_fee_per_gas: 10_000_000_000 + tip,
        max_priority_fee_per_gas: tip,
        to: TxKind::Call(SOMEONE),
        ..TxEip1559::default()
    };
    sign(&chain.accounts()[account], tx)
}

#[test]
fn nonces_wait_for_the_gap_before_them() {
    let chain = start();
    let a = &chain.accounts()[0];
    let late = chain.send(transfer(a, 1, SOMEONE)).unwrap();
    assert_eq!(chain.head().number(), 0);
    let first = chain.send(transfer(a, 0, SOMEONE)).unwrap();
    assert_eq!(chain.block_of(first).map(|(block, index)| (block.number(), index)), Some((1, 0)));
    assert_eq!(chain.block_of(late).map(|(block, index)| (block.number(), index)), Some((1, 1)));
}

#[tokio::test]
async fn the_pending_nonce_counts_what_waits() {
    let chain = start();
    let provider = provider(&chain);
    chain.set_automine(false);
    let a = &chain.accounts()[0];
    for nonce in [0, 1, 3] {
        chain.send(transfer(a, nonce, SOMEONE)).unwrap();
    }
    assert_eq!(provider.get_transaction_count(a.address()).pending().await.unwrap(), 2);
    assert_eq!(provider.get_transaction_count(a.address()).await.unwrap(), 0);
    assert_eq!(provider.get_balance(SOMEONE).pending().await.unwrap(), U256::ZERO);
    let pending = provider.get_block(alloy::eips::BlockId::pending()).await.unwrap().unwrap();
    assert_eq!(pending.transactions.len(), 2);
    assert_eq!(chain.head().number(), 0);
}

#[test]
fn the_best_tip_is_mined_first_and_the_older_among_equals() {
    let chain = start();
    chain.set_automine(false);
    let order: Vec<_> = [(0, 0, 5), (1, 0, 9), (2, 0, 5), (1, 1, 1), (0, 1, 7)]
        .into_iter()
        .map(|(account, nonce, tip)| chain.send(with_tip(&chain, account, nonce, tip)).unwrap())
        .collect();
    let mined: Vec<_> = chain.mine().transactions().iter().map(|tx| *tx.tx_hash()).collect();
    assert_eq!(mined, [order[1], order[0], order[4], order[2], order[3]]);
}

#[test]
fn a_replacement_has_to_pay_a_tenth_more() {
    let chain = start();
    chain.set_automine(false);
    let old = chain.send(with_tip(&chain, 0, 0, 1_000_000_000)).unwrap();
    assert_eq!(refusal(&chain, with_tip(&chain, 0, 0, 1_000_000_000)), "already known");
    let slightly = with_tip(&chain, 0, 0, 1_099_999_999);
    assert_eq!(refusal(&chain, slightly), "replacement transaction underpriced");
    let new = chain.send(with_tip(&chain, 0, 0, 3_000_000_000)).unwrap();
    chain.mine();
    assert!(chain.block_of(old).is_none());
    assert!(chain.block_of(new).is_some());
}

#[test]
fn each_rule_has_its_words() {
    let chain = start();
    let a = &chain.accounts()[0];
    chain.send(transfer(a, 0, SOMEONE)).unwrap();
    let call = TxKind::Call(SOMEONE);
    let base = TxEip1559 {
        chain_id: 31_337,
        nonce: 1,
        gas_limit: 21_000,
        max_fee_per_gas: 10_000_000_000,
        to: call,
        ..TxEip1559::default()
    };
    let cases = [
        (transfer(a, 0, SOMEONE), "nonce too low: next nonce 1, tx nonce 0"),
        (
            sign(a, TxEip1559 { value: U256::MAX / U256::from(2), ..base.clone() }),
            "insufficient funds for gas * price + value",
        ),
        (
            sign(a, TxEip1559 { value: U256::MAX, ..base.clone() }),
            "insufficient funds for gas * price + value",
        ),
        (sign(a, TxEip1559 { gas_limit: 20_999, ..base.clone() }), "intrinsic gas too low"),
        (sign(a, TxEip1559 { gas_limit: 16_777_217, ..base.clone() }), "transaction gas limit too high"),
        (
            sign(a, TxEip1559 { max_fee_per_gas: 1, ..base.clone() }),
            "max fee per gas less than block base fee",
        ),
        (
            sign(a, TxEip1559 { max_priority_fee_per_gas: 20_000_000_000, ..base.clone() }),
            "max priority fee per gas higher than max fee per gas",
        ),
        (sign(a, TxEip1559 { chain_id: 1, ..base.clone() }), "invalid chain id for signer"),
        (sign(a, TxEip1559 { nonce: u64::MAX, ..base }), "nonce has max value"),
        (signed(a, 1, TxKind::Create, Bytes::from(vec![0; 49_153]), 5_000_000), "max initcode size exceeded"),
        // EIP-7623: 1000 bytes of ones cost at least 40 gas each.
        (signed(a, 1, call, Bytes::from(vec![1; 1000]), 60_000), "insufficient gas for floor data gas cost"),
        (signed(a, 1, call, Bytes::from(vec![0; 131_072]), 5_000_000), "oversized data"),
    ];
    for (tx, words) in cases {
        let said = refusal(&chain, tx);
        assert!(said.starts_with(words), "{said:?} instead of {words:?}");
    }
    assert_eq!(chain.head().number(), 1);
}

#[tokio::test]
async fn rejections_reach_the_provider_with_code_and_words() {
    let chain = start();
    let provider = provider(&chain);
    let tx = raw(&transfer(&chain.accounts()[0], 0, SOMEONE));
    let _ = provider.send_raw_transaction(&tx).await.unwrap();
    let error = provider.send_raw_transaction(&tx).await.unwrap_err();
    let error = error.as_error_resp().unwrap();
    assert_eq!((error.code, error.message.as_ref()), (-32003, "nonce too low: next nonce 1, tx nonce 0"));
    for junk in [&[][..], &[0x02], &[0xff; 40], &tx[..tx.len() - 1]] {
        let error = provider.send_raw_transaction(junk).await.unwrap_err();
        let error = error.as_error_resp().unwrap();
        assert_eq!((error.code, error.message.contains("failed to decode")), (-32602, true));
    }
}

#[test]
fn one_sender_cannot_fill_the_pool() {
    let chain = start();
    let a = &chain.accounts()[0];
    for nonce in 1..=1024 {
        chain.send(transfer(a, nonce, SOMEONE)).unwrap();
    }
    assert!(matches!(chain.send(transfer(a, 1025, SOMEONE)), Err(Error::Rejected(Rejection::Full))));
    chain.send(transfer(&chain.accounts()[1], 0, SOMEONE)).unwrap();
}

#[test]
fn what_does_not_fit_one_block_waits_for_the_next() {
    let chain = start();
    chain.set_automine(false);
    // The invalid opcode uses up all gas: two of 16 million do not fit into 30 million.
    let burn = |account: usize| {
        signed(&chain.accounts()[account], 0, TxKind::Create, Bytes::from_static(&[0xfe]), 16_000_000)
    };
    let hashes = [chain.send(burn(0)).unwrap(), chain.send(burn(1)).unwrap()];
    chain.mine();
    assert_eq!(chain.head().header().gas_used, 16_000_000);
    chain.mine();
    let numbers = hashes.map(|hash| chain.block_of(hash).unwrap().0.number());
    assert_eq!(numbers, [1, 2]);
}
