//! Transactions, receipts, logs, calls, and the roots and blooms that follow from them.

use alloy::consensus::proofs::{calculate_receipt_root, calculate_transaction_root};
use alloy::network::TransactionBuilder;
use alloy::primitives::{Address, B256, Bloom, BloomInput, U256, bytes};
use alloy::providers::Provider;
use alloy::rpc::types::{Filter, TransactionRequest};

use crate::fixture::{GENESIS, deploy_probe, provider, raw, receipt, start, store, transfer, words};

#[tokio::test]
async fn a_contract_is_deployed_called_and_its_events_are_found() {
    let chain = start();
    let provider = provider(&chain);
    let probe = deploy_probe(&provider).await;
    let stored = receipt(&provider, store(probe, 7, 42)).await;
    assert!(stored.status());
    assert_eq!(stored.block_number, Some(2));
    let log = &stored.logs()[0];
    assert_eq!(log.topics(), [B256::with_last_byte(1), B256::with_last_byte(7)]);
    assert_eq!(log.data().data, words(&[42]));
    assert_eq!(log.block_timestamp, Some(GENESIS + 2));

    let filter = Filter::new().address(probe).event_signature(B256::with_last_byte(1)).from_block(0);
    let logs = provider.get_logs(&filter.clone().topic1(B256::with_last_byte(7))).await.unwrap();
    assert_eq!(logs, stored.logs());
    assert_eq!(provider.get_logs(&filter.topic1(B256::with_last_byte(8))).await.unwrap(), []);
    let by_hash = Filter::new().at_block_hash(stored.block_hash.unwrap());
    assert_eq!(provider.get_logs(&by_hash).await.unwrap(), stored.logs());

    let load = TransactionRequest::default().with_to(probe).with_input(words(&[7]));
    assert_eq!(provider.call(load).await.unwrap(), words(&[42]));
    assert_eq!(provider.get_storage_at(probe, U256::from(7)).await.unwrap(), U256::from(42));
}

#[tokio::test]
async fn header_hash_roots_and_bloom_follow_from_the_contents() {
    let chain = start();
    let provider = provider(&chain);
    let probe = deploy_probe(&provider).await;
    chain.set_automine(false);
    for (nonce, account) in (2..5).zip(chain.accounts()) {
        chain.send(transfer(account, if nonce == 2 { 1 } else { 0 }, Address::repeat_byte(nonce))).unwrap();
    }
    let sent = provider.send_transaction(store(probe, 1, 2).with_nonce(2).with_gas_limit(100_000)).await;
    let hash = *sent.unwrap().tx_hash();
    chain.mine();

    let block = provider.get_block(2.into()).full().await.unwrap().unwrap();
    assert_eq!(block.header.hash, block.header.inner.hash_slow());
    assert_eq!(block.header.parent_hash, chain.block(1).unwrap().hash());
    assert_eq!(block.transactions.len(), 4);
    let envelopes: Vec<_> = block.transactions.txns().map(|tx| tx.inner.inner().clone()).collect();
    assert_eq!(calculate_transaction_root(&envelopes), block.header.transactions_root);

    let receipts = provider.get_block_receipts(2.into()).await.unwrap().unwrap();
    let consensus: Vec<_> =
        receipts.iter().map(|receipt| receipt.inner.clone().into_primitives_receipt()).collect();
    assert_eq!(calculate_receipt_root(&consensus), block.header.receipts_root);
    assert_eq!(receipts.iter().map(|receipt| receipt.gas_used).sum::<u64>(), block.header.gas_used);
    assert_eq!(
        receipts.iter().map(|receipt| receipt.transaction_index.unwrap()).collect::<Vec<_>>(),
        [0, 1, 2, 3]
    );

    let mut bloom = Bloom::ZERO;
    bloom.accrue(BloomInput::Raw(probe.as_slice()));
    bloom.accrue(BloomInput::Raw(B256::with_last_byte(1).as_slice()));
    assert_eq!(block.header.logs_bloom, bloom);
    let stored = receipts.iter().find(|receipt| receipt.transaction_hash == hash).unwrap();
    assert_eq!(stored.logs()[0].log_index, Some(0));
    let price = u128::from(block.header.base_fee_per_gas.unwrap()) + 1_000_000_000;
    assert_eq!(receipts[0].effective_gas_price, price);
}

#[tokio::test]
async fn revert_data_comes_back_from_calls_estimates_and_receipts() {
    let chain = start();
    let provider = provider(&chain);
    let probe = deploy_probe(&provider).await;
    // Error(string) "no".
    let no = bytes!(
        "08c379a0"
        "0000000000000000000000000000000000000000000000000000000000000020"
        "0000000000000000000000000000000000000000000000000000000000000002"
        "6e6f000000000000000000000000000000000000000000000000000000000000"
    );
    let request = TransactionRequest::default().with_to(probe).with_input(no.clone());
    let error = provider.call(request.clone()).await.unwrap_err();
    let payload = error.as_error_resp().unwrap();
    assert_eq!(payload.code, 3);
    assert!(payload.message.starts_with("execution reverted"));
    assert_eq!(payload.as_revert_data(), Some(no.clone()));
    let error = provider.estimate_gas(request.clone()).await.unwrap_err();
    assert_eq!(error.as_error_resp().unwrap().as_revert_data(), Some(no));

    let failed = receipt(&provider, request.with_gas_limit(100_000)).await;
    assert!(!failed.status());
    assert_eq!(failed.logs(), []);
}

#[tokio::test]
async fn an_estimate_is_enough_and_close() {
    let chain = start();
    let provider = provider(&chain);
    let probe = deploy_probe(&provider).await;
    let request = store(probe, 3, 9);
    let estimate = provider.estimate_gas(request.clone()).await.unwrap();
    let receipt = receipt(&provider, request.with_gas_limit(estimate)).await;
    assert!(receipt.status());
    assert!(estimate - receipt.gas_used <= 1 + estimate / 50, "{estimate} for {}", receipt.gas_used);
    let plain = TransactionRequest::default().with_to(Address::repeat_byte(9)).with_value(U256::from(1));
    assert_eq!(provider.estimate_gas(plain).await.unwrap(), 21_000);
}

#[tokio::test]
async fn raw_transactions_are_found_while_they_wait_and_after() {
    let chain = start();
    let provider = provider(&chain);
    chain.set_automine(false);
    let tx = transfer(&chain.accounts()[1], 0, Address::repeat_byte(1));
    let sent = provider.send_raw_transaction(&raw(&tx)).await.unwrap();
    let hash = *sent.tx_hash();
    let waiting = provider.get_transaction_by_hash(hash).await.unwrap().unwrap();
    assert_eq!(waiting.block_hash, None);
    assert_eq!(waiting.inner.signer(), chain.accounts()[1].address());
    assert!(provider.get_transaction_receipt(hash).await.unwrap().is_none());
    let block = chain.mine();
    let mined = provider.get_transaction_by_hash(hash).await.unwrap().unwrap();
    assert_eq!(mined.block_hash, Some(block.hash()));
    assert_eq!(mined.block_number, Some(1));
    assert_eq!(provider.get_transaction_receipt(hash).await.unwrap().unwrap().gas_used, 21_000);
}

#[tokio::test]
async fn p256_and_the_transaction_gas_cap_are_osakas() {
    let chain = start();
    let provider = provider(&chain);
    // Wycheproof's first valid vector of the EIP-7951 test file: the precompile answers 1.
    let input = bytes!(
        "4cee90eb86eaa050036147a12d49004b6b9c72bd725d39d4785011fe190f0b4d"
        "a73bd4903f0ce3b639bbbf6e8e80d16931ff4bcf5993d58468e8fb19086e8cac"
        "36dbcd03009df8c59286b162af3bd7fcc0450c9aa81be5d10d312af6c66b1d60"
        "4aebd3099c618202fcfe16ae7770b0c49ab5eadf74b754204a3bb6060e44eff3"
        "7618b065f9832de4ca6ca971a7a1adc826d0f7c00181a5fb2ddf79ae00b4e10e"
    );
    let request = TransactionRequest::default().with_to(Address::with_last_byte(0)).with_input(input);
    let mut address = Address::ZERO;
    address.0[18] = 1;
    assert_eq!(provider.call(request.with_to(address)).await.unwrap(), words(&[1]));

    let mut tx = store(Address::repeat_byte(2), 0, 0).with_gas_limit(16_777_217);
    tx.max_fee_per_gas = Some(2_000_000_000);
    tx.max_priority_fee_per_gas = Some(1);
    let error = provider.send_transaction(tx).await.unwrap_err();
    assert!(error.to_string().contains("transaction gas limit too high"), "{error}");
}
