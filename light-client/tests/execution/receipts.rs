//! Receipts and transactions of a block.

use alloy::primitives::B256;
use posthouse_light_client::execution::Refused;
use posthouse_light_client::rpc::AnswerError;
use serde_json::{Value, json};

use crate::stage::{Stage, answers_to};

const RECEIPTS: &str = "eth_getBlockReceipts";

/// The lie about the receipts of block 4, and by which root it is found.
async fn refused(stage: &Stage, change: impl Fn(&mut Vec<Value>) + Send + Sync + 'static) -> Refused {
    let block = stage.block(4);
    let lie = answers_to(RECEIPTS, move |result| change(result.as_array_mut().unwrap()));
    stage.refused(lie, async |rpc| rpc.receipts(&block).await).await
}

async fn wrong_root(change: impl Fn(&mut Vec<Value>) + Send + Sync + 'static) -> usize {
    let stage = Stage::new();
    match refused(&stage, change).await {
        Refused::ReceiptsRoot { block: 4, count, expected, got } => {
            assert_eq!(expected, stage.block(4).receipts_root);
            assert_ne!(got, expected);
            count
        }
        other => panic!("another reason: {other}"),
    }
}

async fn malformed(change: impl Fn(&mut Vec<Value>) + Send + Sync + 'static) -> AnswerError {
    let stage = Stage::new();
    let block = stage.block(4);
    let lie = answers_to(RECEIPTS, move |result| change(result.as_array_mut().unwrap()));
    stage.lie(lie, async |rpc| rpc.receipts(&block).await).await
}

#[tokio::test]
async fn receipts_of_all_types_are_rebuilt() {
    let stage = Stage::new();
    let rpc = stage.honest();
    for number in 0..=7 {
        let receipts = rpc.receipts(&stage.block(number)).await.unwrap();
        let expected = stage.chain.block(number).unwrap();
        let success: Vec<_> = expected.receipts().iter().map(|receipt| Some(receipt.status())).collect();
        assert_eq!((0..receipts.count()).map(|index| receipts.success(index)).collect::<Vec<_>>(), success);
        assert_eq!(receipts.success(receipts.count()), None);
        let transactions = rpc.transactions(&stage.block(number)).await.unwrap();
        assert_eq!(
            transactions.hashes(),
            expected.transactions().iter().map(|transaction| *transaction.tx_hash()).collect::<Vec<_>>()
        );
    }
    let failed = rpc.receipts(&stage.block(4)).await.unwrap();
    assert_eq!((0..4).filter(|index| failed.success(*index) == Some(false)).count(), 1);
}

#[tokio::test]
async fn a_missing_receipt_is_refused() {
    assert_eq!(wrong_root(|receipts| drop(receipts.pop())).await, 3);
    assert_eq!(wrong_root(|receipts| drop(receipts.remove(0))).await, 3);
    assert_eq!(wrong_root(Vec::clear).await, 0);
}

#[tokio::test]
async fn an_extra_receipt_is_refused() {
    assert_eq!(wrong_root(|receipts| receipts.push(receipts[3].clone())).await, 5);
}

#[tokio::test]
async fn reordered_receipts_are_refused() {
    let stage = Stage::new();
    let why = refused(&stage, |receipts| receipts.swap(1, 2)).await;
    assert_eq!(why, Refused::ReceiptOrder { index: 2 });
    // In an order that their gas does not give away.
    let gas_stays = |receipts: &mut Vec<Value>| {
        let gas: Vec<_> = receipts.iter().map(|receipt| receipt["cumulativeGasUsed"].clone()).collect();
        receipts.swap(0, 3);
        receipts.iter_mut().zip(gas).for_each(|(receipt, gas)| receipt["cumulativeGasUsed"] = gas);
    };
    assert_eq!(wrong_root(gas_stays).await, 4);
}

#[tokio::test]
async fn an_altered_receipt_is_refused() {
    // The transactions of a block are ordered by their tip: find the one that failed, and one that logged.
    let position =
        |receipts: &[Value], status: &str| receipts.iter().position(|it| it["status"] == status).unwrap();
    wrong_root(move |receipts| {
        let failed = position(receipts, "0x0");
        receipts[failed]["status"] = json!("0x1");
    })
    .await;
    wrong_root(move |receipts| {
        let succeeded = position(receipts, "0x1");
        receipts[succeeded]["status"] = json!("0x0");
    })
    .await;
    wrong_root(|receipts| receipts[3]["cumulativeGasUsed"] = json!("0xffffff")).await;
}

#[tokio::test]
async fn a_wrong_type_byte_is_refused() {
    for kind in ["0x0", "0x1", "0x2", "0x3", "0x4", "0x7", "0x7f"] {
        let stage = Stage::new();
        let block = stage.block(1);
        let honest = stage.honest().receipts(&block).await.unwrap();
        let lie = answers_to(RECEIPTS, move |result| result[0]["type"] = json!(kind));
        if kind == "0x2" {
            // That is the truth.
            let proxy = posthouse_devchain::Proxy::start(stage.chain.url(), lie).unwrap();
            assert_eq!(crate::stage::rpc(&[proxy.url()]).receipts(&block).await.unwrap(), honest);
            continue;
        }
        let why = stage.refused(lie, async |rpc| rpc.receipts(&block).await).await;
        assert!(matches!(why, Refused::ReceiptsRoot { block: 1, .. }), "{kind}: {why}");
    }
    let stage = Stage::new();
    for kind in [0x80, 0xc0, 0x100, u64::MAX] {
        let why = refused(&stage, move |receipts| receipts[1]["type"] = json!(format!("{kind:#x}"))).await;
        assert_eq!(why, Refused::ReceiptType { index: 1, kind });
    }
    let error = malformed(|receipts| receipts[1]["type"] = json!("0x10000000000000000")).await;
    assert!(matches!(error, AnswerError::Form { .. }), "{error}");
}

#[tokio::test]
async fn receipts_from_before_byzantium_are_refused() {
    let stage = Stage::new();
    let why = refused(&stage, |receipts| {
        receipts[2].as_object_mut().unwrap().remove("status");
        receipts[2]["root"] = json!(B256::repeat_byte(1));
    });
    assert_eq!(why.await, Refused::ReceiptStatus { index: 2 });
    let why = refused(&stage, |receipts| receipts[0]["status"] = json!("0x2")).await;
    assert_eq!(why, Refused::ReceiptStatus { index: 0 });
}

#[tokio::test]
async fn numbers_that_do_not_fit_are_refused() {
    for field in ["cumulativeGasUsed", "status"] {
        let error = malformed(move |receipts| receipts[0][field] = json!("0x10000000000000000")).await;
        assert!(matches!(error, AnswerError::Form { .. }), "{field}: {error}");
    }
}

#[tokio::test]
async fn null_receipts_are_refused() {
    let stage = Stage::new();
    let block = stage.block(4);
    let lie = answers_to(RECEIPTS, |result| *result = Value::Null);
    let error = stage.lie(lie, async |rpc| rpc.receipts(&block).await).await;
    assert_eq!(error, AnswerError::Missing { method: RECEIPTS });
    let error = malformed(|receipts| receipts[1] = Value::Null).await;
    assert!(matches!(error, AnswerError::Form { .. }), "{error}");
}

#[tokio::test]
async fn receipts_of_another_block_are_refused() {
    let stage = Stage::new();
    let (block, other) = (stage.block(4), stage.block(2).hash);
    let call = json!({"jsonrpc": "2.0", "id": 0, "method": RECEIPTS, "params": [other]}).to_string();
    let answer = stage.honest().relay(call.as_bytes()).await.unwrap();
    let other: Value = serde_json::from_slice(&answer).unwrap();
    let lie = answers_to(RECEIPTS, move |result| *result = other["result"].clone());
    let why = stage.refused(lie, async |rpc| rpc.receipts(&block).await).await;
    assert!(matches!(why, Refused::ReceiptsRoot { block: 4, .. }), "{why}");
}

#[tokio::test]
async fn altered_transactions_are_refused() {
    let stage = Stage::new();
    let block = stage.block(4);
    type Change = fn(&mut Vec<Value>);
    let changes: [Change; 4] = [
        |all| drop(all.pop()),
        |all| all.push(all[0].clone()),
        |all| all.swap(0, 1),
        |all| all[0]["nonce"] = json!("0x63"),
    ];
    for change in changes {
        let lie = answers_to("eth_getBlockByHash", move |result| {
            change(result["transactions"].as_array_mut().unwrap())
        });
        let why = stage.refused(lie, async |rpc| rpc.transactions(&block).await).await;
        assert!(matches!(why, Refused::TransactionsRoot { block: 4, .. }), "{why}");
    }
    let lie = answers_to("eth_getBlockByHash", |result| result["transactionsRoot"] = json!(B256::ZERO));
    let why = stage.refused(lie, async |rpc| rpc.transactions(&block).await).await;
    assert!(matches!(why, Refused::HeaderHash { .. }), "{why}");
}
