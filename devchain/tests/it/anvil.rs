//! The same transactions on anvil give the same gas, logs, status, fees and receipts root.

use alloy::consensus::{Header, SignableTransaction, TxEip1559, TxEip2930, TxEnvelope, TxLegacy};
use alloy::eips::eip2930::{AccessList, AccessListItem};
use alloy::network::TxSignerSync;
use alloy::primitives::{Address, B256, Bytes, TxKind};
use alloy::providers::{Provider, RootProvider};
use alloy::rpc::types::{Block, Log, TransactionReceipt};
use alloy::signers::local::PrivateKeySigner;
use posthouse_contracts::calls::{self, Call};
use posthouse_devchain::{Anvil, DevChain};
use serde_json::Value;

use crate::factory::update;
use crate::fixture::{GENESIS, PROBE, raw, root_provider, sign, signed, start, transfer, words};

fn legacy(from: &PrivateKeySigner, nonce: u64, to: Address, input: Bytes) -> TxEnvelope {
    let mut tx = TxLegacy {
        chain_id: Some(31_337),
        nonce,
        gas_price: 12_000_000_000,
        gas_limit: 100_000,
        to: TxKind::Call(to),
        input,
        ..TxLegacy::default()
    };
    let signature = from.sign_transaction_sync(&mut tx).unwrap();
    tx.into_signed(signature).into()
}

/// With an access list of slots 8 and 9 of `to`.
fn listed(from: &PrivateKeySigner, nonce: u64, to: Address, input: Bytes) -> TxEnvelope {
    let storage_keys = vec![B256::with_last_byte(8), B256::with_last_byte(9)];
    let mut tx = TxEip2930 {
        chain_id: 31_337,
        nonce,
        gas_price: 12_000_000_000,
        gas_limit: 100_000,
        to: TxKind::Call(to),
        input,
        access_list: AccessList(vec![AccessListItem { address: to, storage_keys }]),
        ..TxEip2930::default()
    };
    let signature = from.sign_transaction_sync(&mut tx).unwrap();
    tx.into_signed(signature).into()
}

fn contract_call(from: &PrivateKeySigner, nonce: u64, call: Call) -> TxEnvelope {
    let tx = TxEip1559 {
        chain_id: 31_337,
        nonce,
        gas_limit: 10_000_000,
        max_fee_per_gas: 10_000_000_000,
        max_priority_fee_per_gas: 1_000_000_000,
        to: call.to.map_or(TxKind::Create, TxKind::Call),
        value: call.value,
        input: call.input,
        ..TxEip1559::default()
    };
    sign(from, tx)
}

/// Blocks of transactions of every kind that the chain takes, and of every way to end. anvil orders by
/// the fee cap and we by the tip: the dearest here are so by both.
fn blocks(chain: &DevChain) -> Vec<Vec<TxEnvelope>> {
    let [a, b, c] = [0, 1, 2].map(|account| &chain.accounts()[account]);
    let probe = a.address().create(0);
    let create = |nonce, code: Bytes| signed(a, nonce, TxKind::Create, code, 5_000_000);
    let at_probe = |nonce, input| signed(a, nonce, TxKind::Call(probe), input, 200_000);
    let factory = c.address().create(1);
    let send = |nonce, call| contract_call(c, nonce, call);
    let mut p256 = Address::ZERO;
    p256.0[18] = 1;

    vec![
        vec![create(0, PROBE), transfer(c, 0, Address::repeat_byte(1))],
        vec![
            at_probe(1, words(&[7, 1])),
            legacy(b, 0, probe, words(&[8, 8])),
            send(1, calls::deploy_factory()),
        ],
        vec![
            at_probe(2, words(&[7, 2])),
            at_probe(3, words(&[7, 0])),
            at_probe(4, Bytes::from_static(b"revert with this")),
            at_probe(5, words(&[9, 9])),
            listed(b, 1, probe, words(&[8, 0])),
            send(2, calls::publish(factory, &update(1))),
        ],
        vec![],
        vec![
            // All of the gas, none of the effects.
            create(6, Bytes::from_static(&[0xfe])),
            // The calldata floor (EIP-7623).
            signed(a, 7, TxKind::Call(Address::repeat_byte(3)), Bytes::from(vec![1; 5000]), 400_000),
            // P-256 (EIP-7951), signature invalid.
            signed(a, 8, TxKind::Call(p256), Bytes::from(vec![1; 160]), 100_000),
            // A downgrade, and a version that is not.
            send(3, calls::publish(factory, &update(1))),
            send(4, calls::publish(factory, &update(2))),
        ],
    ]
}

/// What has to be the same: all but what hangs on the genesis block, which anvil gives no state root,
/// and on the contracts that anvil deploys there.
fn comparable(block: Block, mut receipts: Vec<TransactionReceipt>) -> (Header, Vec<TransactionReceipt>) {
    let mut header = block.header.inner;
    (header.parent_hash, header.state_root, header.mix_hash) = Default::default();
    for receipt in &mut receipts {
        receipt.block_hash = None;
        // anvil gives one to transactions without blobs, too.
        receipt.blob_gas_price = None;
        receipt.inner = receipt.inner.clone().map_logs(|log| Log { block_hash: None, ..log });
    }
    (header, receipts)
}

async fn mine(
    provider: &RootProvider,
    number: u64,
    transactions: &[TxEnvelope],
) -> (Header, Vec<TransactionReceipt>) {
    for tx in transactions {
        let _ = provider.send_raw_transaction(&raw(tx)).await.unwrap();
    }
    let _: Value =
        provider.raw_request("evm_setNextBlockTimestamp".into(), [GENESIS + number]).await.unwrap();
    let _: Value = provider.raw_request("evm_mine".into(), ()).await.unwrap();
    let block = provider.get_block(number.into()).await.unwrap().unwrap();
    assert_eq!(block.transactions.len(), transactions.len(), "block {number}");
    comparable(block, provider.get_block_receipts(number.into()).await.unwrap().unwrap())
}

#[tokio::test]
async fn the_same_transactions_give_the_same_blocks() {
    if Anvil::program().is_none() {
        eprintln!("SKIPPED: no anvil (npm ci in contracts/, or POSTHOUSE_ANVIL)");
        return;
    }
    let genesis = GENESIS.to_string();
    let anvil =
        Anvil::start("osaka", &["--no-mining", "--slots-in-an-epoch", "1", "--timestamp", &genesis]).unwrap();
    let chain = start();
    chain.set_automine(false);
    let ours = root_provider(chain.url());
    let theirs = root_provider(anvil.url());
    let mut ends = String::new();
    for (number, transactions) in (1..).zip(blocks(&chain)) {
        let here = mine(&ours, number, &transactions).await;
        let there = mine(&theirs, number, &transactions).await;
        assert_eq!(here, there, "block {number}");
        ends.extend(here.1.iter().map(|receipt| if receipt.status() { '+' } else { '-' }));
        ends.push(' ');
    }
    assert_eq!(ends, "++ +++ +++-++  -++-+ ", "which transactions succeed");
}
