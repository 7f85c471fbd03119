//! One transaction.

use alloy::primitives::B256;
use posthouse_devchain::Proxy;
use posthouse_light_client::rpc::{AnswerError, Rpc};
use serde_json::{Value, json};

use crate::stage::{Stage, answers_to, only, rpc};

const RECEIPT: &str = "eth_getTransactionReceipt";

fn transaction(stage: &Stage, block: u64, index: usize) -> B256 {
    *stage.chain.block(block).unwrap().transactions()[index].tx_hash()
}

#[tokio::test]
async fn a_transaction_is_found_with_its_logs() {
    let stage = Stage::new();
    for number in 1..=5 {
        let block = stage.chain.block(number).unwrap();
        for (index, expected) in block.receipts().iter().enumerate() {
            let hash = transaction(&stage, number, index);
            let receipt = stage.honest().receipt(&stage.head(), hash).await.unwrap().unwrap();
            assert_eq!((receipt.transaction_hash, receipt.transaction_index), (hash, index as u64));
            assert_eq!((receipt.success, &*receipt.block), (expected.status(), &stage.block(number)));
            assert_eq!(
                receipt.logs.iter().map(|log| &log.inner).collect::<Vec<_>>(),
                expected.logs().iter().collect::<Vec<_>>()
            );
        }
    }
}

/// Helios panics on it.
#[tokio::test]
async fn an_unknown_transaction_has_no_receipt() {
    let stage = Stage::new();
    assert_eq!(stage.honest().receipt(&stage.head(), B256::repeat_byte(1)).await.unwrap(), None);
}

#[tokio::test]
async fn a_transaction_after_the_proven_block_has_no_receipt_yet() {
    let stage = Stage::new();
    let hash = transaction(&stage, 5, 0);
    assert_eq!(stage.honest().receipt(&stage.block(4), hash).await.unwrap(), None);
    assert!(stage.honest().receipt(&stage.block(5), hash).await.unwrap().is_some());
}

#[tokio::test]
async fn a_null_receipt_makes_the_next_endpoint_be_asked() {
    let stage = Stage::new();
    let liar = Proxy::start(stage.chain.url(), answers_to(RECEIPT, |result| *result = Value::Null)).unwrap();
    let hash = transaction(&stage, 4, 0);
    assert_eq!(rpc(&[liar.url()]).receipt(&stage.head(), hash).await.unwrap(), None);
    let both = rpc(&[liar.url(), stage.chain.url()]);
    assert_eq!(both.receipt(&stage.head(), hash).await.unwrap().unwrap().block.number, 4);
}

#[tokio::test]
async fn a_transaction_that_is_not_where_it_is_said_to_be_is_a_lie() {
    let stage = Stage::new();
    let lie = answers_to(RECEIPT, |result| {
        if result.is_object() {
            result["blockNumber"] = json!("0x2");
        }
    });
    let liar = Proxy::start(stage.chain.url(), lie).unwrap();
    let hash = transaction(&stage, 4, 0);
    let alone = rpc(&[liar.url()]);
    assert_eq!(alone.receipt(&stage.head(), hash).await.unwrap(), None);
    let misplaced = AnswerError::Misplaced { block: 2 }.to_string();
    assert_eq!(alone.report()[0].last_error, Some(misplaced.clone()));
    let both = rpc(&[liar.url(), stage.chain.url()]);
    assert_eq!(both.receipt(&stage.head(), hash).await.unwrap().unwrap().block.number, 4);
    assert_eq!(both.report()[0].last_error, Some(misplaced));
}

#[tokio::test]
async fn a_receipt_of_another_transaction_is_worth_nothing() {
    let stage = Stage::new();
    let success = |rpc: Rpc, hash| {
        let head = stage.head();
        async move { rpc.receipt(&head, hash).await.unwrap().unwrap().success }
    };
    // Everything but the block's number is written anew, the failure as a success.
    let lie = answers_to(RECEIPT, |result| {
        *result = json!({"blockNumber": result["blockNumber"], "status": "0x1", "logs": [], "transactionHash": B256::ZERO});
    });
    let liar = Proxy::start(stage.chain.url(), lie).unwrap();
    let receipts = stage.chain.block(4).unwrap();
    let failed = receipts.receipts().iter().position(|receipt| !receipt.status()).unwrap();
    assert!(!success(rpc(&[liar.url()]), transaction(&stage, 4, failed)).await);
}

#[tokio::test]
async fn a_block_number_that_does_not_fit_is_refused() {
    let stage = Stage::new();
    let hash = transaction(&stage, 4, 0);
    let lie = answers_to(RECEIPT, |result| result["blockNumber"] = json!("0x10000000000000000"));
    let liar = Proxy::start(stage.chain.url(), lie).unwrap();
    let error = only(rpc(&[liar.url()]).receipt(&stage.head(), hash).await.unwrap_err());
    assert!(matches!(error, AnswerError::Form { method: RECEIPT, .. }), "{error}");
}
