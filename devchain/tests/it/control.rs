//! Time and mining, by anvil's methods and in process.

use std::time::Duration;

use alloy::eips::BlockNumberOrTag;
use alloy::network::TransactionBuilder as _;
use alloy::primitives::{Address, Bytes, U256, bytes, keccak256};
use alloy::providers::Provider;
use alloy::rpc::types::TransactionRequest;
use posthouse_devchain::{Clock, Config, DevChain, Error, TimeError};
use serde_json::{Value, json};

use crate::fixture::{self, GENESIS, provider, start, transfer, words};

#[tokio::test]
async fn time_moves_by_anvils_methods() {
    let chain = start();
    let provider = provider(&chain);
    let ask = async |method: &'static str, params: Value| {
        provider.raw_request::<_, Value>(method.into(), params).await
    };
    ask("evm_increaseTime", json!([3600])).await.unwrap();
    ask("evm_mine", json!([])).await.unwrap();
    assert_eq!(chain.head().timestamp(), GENESIS + 3600);
    ask("evm_increaseTime", json!(["0x10"])).await.unwrap();
    ask("evm_mine", json!([])).await.unwrap();
    assert_eq!(chain.head().timestamp(), GENESIS + 3616);
    ask("evm_setNextBlockTimestamp", json!([GENESIS + 9000])).await.unwrap();
    ask("evm_mine", json!([])).await.unwrap();
    assert_eq!(chain.head().timestamp(), GENESIS + 9000);
    ask("evm_mine", json!([GENESIS + 9500])).await.unwrap();
    assert_eq!(chain.head().timestamp(), GENESIS + 9500);
    ask("anvil_mine", json!(["0x3", "0x3c"])).await.unwrap();
    assert_eq!(chain.head().number(), 7);
    assert_eq!(chain.head().timestamp(), GENESIS + 9501 + 120);
    let past = ask("evm_setNextBlockTimestamp", json!([GENESIS])).await.unwrap_err();
    assert_eq!(past.as_error_resp().unwrap().code, -32602);
    let many = ask("anvil_mine", json!([1_000_000])).await.unwrap_err();
    assert_eq!(many.as_error_resp().unwrap().code, -32005);
    assert_eq!(chain.head().number(), 7);
}

#[test]
fn time_moves_in_process() {
    let chain = start();
    chain.increase_time(Duration::from_secs(100)).unwrap();
    assert_eq!(chain.mine().timestamp(), GENESIS + 100);
    chain.set_next_block_timestamp(GENESIS + 500).unwrap();
    assert_eq!(chain.mine().timestamp(), GENESIS + 500);
    assert!(matches!(
        chain.set_next_block_timestamp(GENESIS + 500),
        Err(Error::Time(TimeError::NotAfter { .. }))
    ));
}

#[test]
fn system_time_is_the_computers() {
    let chain = DevChain::start(Config { clock: Clock::System, ..Config::default() }).unwrap();
    let genesis = chain.head().timestamp();
    assert!(genesis > 1_700_000_000);
    chain.increase_time(Duration::from_secs(86_400)).unwrap();
    assert!(chain.mine().timestamp() >= genesis + 86_400);
}

#[tokio::test]
async fn blocks_come_at_the_interval_and_no_longer() {
    let chain = start();
    let mut heads = chain.heads();
    chain.set_automine(false);
    let a = &chain.accounts()[0];
    let tx = chain.send(transfer(a, 0, Address::repeat_byte(1))).unwrap();
    chain.set_interval_mining(Some(Duration::from_millis(5)));
    heads.wait_for(|head| head.number >= 3).await.unwrap();
    assert!(chain.block_of(tx).is_some());
    chain.set_interval_mining(None);
    let waiting = chain.send(transfer(a, 1, Address::repeat_byte(1))).unwrap();
    assert!(chain.block_of(waiting).is_none());
    chain.set_automine(true);
    assert!(chain.block_of(waiting).is_some());
}

#[tokio::test]
async fn mixed_mining_does_both() {
    let config = Config { block_time: Some(Duration::from_millis(5)), ..fixture::config() };
    let chain = DevChain::start(config).unwrap();
    let tx = chain.send(transfer(&chain.accounts()[0], 0, Address::repeat_byte(1))).unwrap();
    let mined = chain.block_of(tx).unwrap().0.number();
    chain.heads().wait_for(|head| head.number >= mined + 2).await.unwrap();
    assert!(chain.finalized().number() >= mined);
}

#[tokio::test]
async fn anvils_methods_mine_at_the_interval_or_at_once_but_not_both() {
    let chain = start();
    let provider = provider(&chain);
    let ask = async |method: &'static str, params: Value| {
        provider.raw_request::<_, Value>(method.into(), params).await.unwrap()
    };
    ask("evm_setIntervalMining", json!([3600])).await;
    assert_eq!(ask("anvil_getAutomine", json!([])).await, false);
    let tx = chain.send(transfer(&chain.accounts()[0], 0, Address::repeat_byte(1))).unwrap();
    assert!(chain.block_of(tx).is_none());
    ask("evm_setAutomine", json!([true])).await;
    assert!(chain.block_of(tx).is_some());
}

#[tokio::test]
async fn a_balance_is_set_under_a_root_of_its_own() {
    let chain = start();
    let provider = provider(&chain);
    let who = Address::repeat_byte(7);
    let _: Value =
        provider.raw_request("anvil_setBalance".into(), json!([who, "0xde0b6b3a7640000"])).await.unwrap();
    assert_eq!(provider.get_balance(who).await.unwrap(), U256::from(10).pow(U256::from(18)));
    assert_eq!(provider.get_balance(who).number(0).await.unwrap(), U256::ZERO);
    assert_eq!(chain.head().number(), 1);
}

#[tokio::test]
async fn code_can_be_given_and_runs() {
    let chain = start();
    let provider = provider(&chain);
    let who = Address::repeat_byte(7);
    // Answers 42, in a word.
    let code = bytes!("602a5f5260205ff3");
    let _: Value = provider.raw_request("anvil_setCode".into(), json!([who, code])).await.unwrap();
    assert_eq!(provider.get_code_at(who).await.unwrap(), code);
    let answer = provider.call(TransactionRequest::default().with_to(who)).await.unwrap();
    assert_eq!(answer, words(&[42]));
    let proof = provider.get_proof(who, vec![]).await.unwrap();
    assert_eq!(proof.code_hash, keccak256(&code));
    chain.set_code(who, Bytes::new());
    assert!(provider.get_code_at(who).await.unwrap().is_empty());
}

#[tokio::test]
async fn fees_follow_eip_1559() {
    let chain = start();
    let provider = provider(&chain);
    assert_eq!(provider.get_max_priority_fee_per_gas().await.unwrap(), 1_000_000_000);
    assert_eq!(provider.get_gas_price().await.unwrap(), 2_000_000_000);
    chain.mine_many(3).unwrap();
    let a = &chain.accounts()[0];
    chain.send(transfer(a, 0, Address::repeat_byte(1))).unwrap();
    let history = provider.get_fee_history(4, BlockNumberOrTag::Latest, &[0.0, 50.0, 100.0]).await.unwrap();
    assert_eq!(history.oldest_block, 1);
    assert_eq!(history.base_fee_per_gas[..2], [1_000_000_000, 875_000_000]);
    assert_eq!(history.base_fee_per_gas.len(), 5);
    assert_eq!(history.gas_used_ratio[..3], [0.0; 3]);
    assert!((history.gas_used_ratio[3] - 21_000.0 / 30_000_000.0).abs() < 1e-12);
    let reward = history.reward.unwrap();
    assert_eq!(reward[0], [0, 0, 0]);
    assert_eq!(reward[3], [1_000_000_000; 3]);
    let estimate = provider.estimate_eip1559_fees().await.unwrap();
    assert!(estimate.max_fee_per_gas >= history.base_fee_per_gas[4]);
}

#[test]
fn a_port_that_is_taken_is_named() {
    let chain = start();
    let address = chain.url().strip_prefix("http://").unwrap();
    let listen = address.parse().unwrap();
    let error = DevChain::start(Config { listen, ..fixture::config() }).unwrap_err();
    assert!(error.to_string().contains(address), "{error}");
}

#[test]
fn a_stopped_chain_no_longer_answers() {
    let chain = start();
    let address = chain.url().strip_prefix("http://").unwrap().to_owned();
    assert!(std::net::TcpStream::connect(&address).is_ok());
    chain.stop();
    assert!(std::net::TcpStream::connect(&address).is_err());
}
