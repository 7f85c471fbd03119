//! Complete logs.

use alloy::primitives::{B256, Bytes};
use posthouse_devchain::Proxy;
use posthouse_light_client::execution::{Filter, Log, Refused};
use posthouse_light_client::rpc::{AnswerError, RpcError};
use serde_json::{Value, json};

use crate::stage::{Stage, answers_to, rpc, slot};

const RECEIPTS: &str = "eth_getBlockReceipts";

/// The lie about the logs of a receipt that has some.
async fn refused(change: impl Fn(&mut Vec<Value>) + Send + Sync + 'static) -> Refused {
    let stage = Stage::new();
    let head = stage.head();
    let lie = answers_to(RECEIPTS, move |result| {
        let receipts = result.as_array_mut().unwrap().iter_mut();
        let logs = receipts.filter_map(|receipt| receipt["logs"].as_array_mut());
        logs.filter(|logs| !logs.is_empty()).for_each(&change);
    });
    stage.refused(lie, async |rpc| rpc.logs(&head, &stage.filter(), 0).await).await
}

fn is_wrong_root(why: &Refused) -> bool {
    matches!(why, Refused::ReceiptsRoot { block: 2, .. })
}

/// Where the logs of the chain really are, from its own receipts.
fn truth(stage: &Stage) -> Vec<(u64, B256, B256, u64, u64)> {
    let mut all = Vec::new();
    for number in 0..=stage.chain.head().number() {
        let block = stage.chain.block(number).unwrap();
        let mut position = 0;
        for (index, receipt) in block.receipts().iter().enumerate() {
            let transaction = *block.transactions()[index].tx_hash();
            for _ in receipt.logs() {
                all.push((number, block.hash(), transaction, index as u64, position));
                position += 1;
            }
        }
    }
    all
}

fn places(logs: &[Log]) -> Vec<(u64, B256, B256, u64, u64)> {
    logs.iter()
        .map(|it| (it.block_number, it.block_hash, it.transaction_hash, it.transaction_index, it.log_index))
        .collect()
}

#[tokio::test]
async fn logs_are_complete_and_in_order() {
    let stage = Stage::new();
    stage.chain.mine_many(150).unwrap();
    let logs = stage.honest().logs(&stage.head(), &stage.filter(), 0).await.unwrap();
    assert_eq!(places(&logs), truth(&stage));
    assert_eq!(logs.len(), 6);
    assert!(logs.iter().all(|log| log.block_timestamp == stage.block(log.block_number).timestamp));
    assert!(logs.iter().all(|log| log.inner.address == stage.probe));
}

#[tokio::test]
async fn filters_choose_by_address_topics_and_block() {
    let stage = Stage::new();
    let rpc = stage.honest();
    let head = stage.head();
    let count = async |filter: Filter, from| rpc.logs(&head, &filter, from).await.unwrap().len();
    assert_eq!(count(stage.filter(), 0).await, 6);
    assert_eq!(count(stage.filter(), 2).await, 6);
    assert_eq!(count(stage.filter(), 3).await, 3);
    assert_eq!(count(stage.filter(), 5).await, 0);
    assert_eq!(count(stage.filter(), 8).await, 0);
    assert_eq!(count(stage.filter(), u64::MAX).await, 0);
    assert_eq!(count(stage.filter().topic(0, slot(1)), 0).await, 6);
    assert_eq!(count(stage.filter().topic(0, slot(2)), 0).await, 0);
    assert_eq!(count(stage.filter().topic(1, slot(7)), 0).await, 3);
    assert_eq!(count(stage.filter().topic(1, slot(7)).topic(0, slot(1)), 4).await, 1);
    assert_eq!(count(stage.filter().topic(2, slot(7)), 0).await, 0);
    assert_eq!(count(Filter::of(stage.chain.accounts()[0].address()), 0).await, 0);
}

#[tokio::test]
async fn only_blocks_whose_bloom_says_so_are_fetched() {
    let stage = Stage::new();
    let watched = Proxy::start(stage.chain.url(), |_, _, _| ()).unwrap();
    let rpc = rpc(&[watched.url()]);
    let _ = rpc.logs(&stage.head(), &stage.filter(), 0).await.unwrap();
    assert_eq!((watched.count(RECEIPTS), watched.count("eth_getLogs")), (2, 0));
}

#[tokio::test]
async fn an_omitted_log_is_refused() {
    let why = refused(Vec::clear).await;
    assert!(is_wrong_root(&why), "{why}");
}

#[tokio::test]
async fn a_forged_log_is_refused() {
    type Change = fn(&mut Vec<Value>);
    let changes: [Change; 5] = [
        |logs| logs[0]["data"] = json!(Bytes::from(vec![9; 32])),
        |logs| logs[0]["topics"][1] = json!(slot(70)),
        |logs| logs[0]["topics"] = json!([slot(1)]),
        |logs| logs[0]["address"] = json!(alloy::primitives::Address::repeat_byte(7)),
        |logs| {
            let mut forged = logs[0].clone();
            forged["data"] = json!("0x");
            logs.push(forged);
        },
    ];
    for change in changes {
        let why = refused(change).await;
        assert!(is_wrong_root(&why), "{why}");
    }
}

#[tokio::test]
async fn a_duplicated_log_is_refused() {
    let why = refused(|logs| logs.push(logs[0].clone())).await;
    assert!(is_wrong_root(&why), "{why}");
}

#[tokio::test]
async fn a_log_with_five_topics_is_refused() {
    let why = refused(|logs| logs[0]["topics"] = json!(vec![slot(1); 5])).await;
    assert_eq!(why, Refused::LogTopics { index: 0, topics: 5 });
}

/// Helios 0.11 hands out what the endpoint writes there.
#[tokio::test]
async fn forged_metadata_is_never_looked_at() {
    let stage = Stage::new();
    let forge = |method: &str, _: &Value, answer: &mut Value| match method {
        RECEIPTS => {
            for receipt in answer["result"].as_array_mut().unwrap() {
                let forged = json!({
                    "transactionHash": B256::repeat_byte(1), "blockHash": B256::repeat_byte(2), "blockNumber": "0x63",
                    "transactionIndex": "0x63", "logsBloom": "0x", "from": null, "gasUsed": "nonsense",
                });
                receipt.as_object_mut().unwrap().extend(forged.as_object().unwrap().clone());
                for log in receipt["logs"].as_array_mut().unwrap() {
                    let log = log.as_object_mut().unwrap();
                    log.extend(forged.as_object().unwrap().clone());
                    log.extend(json!({"logIndex": "0x63", "removed": true}).as_object().unwrap().clone());
                }
            }
        }
        "eth_getBlockByHash" => {
            answer["result"]["hash"] = json!(B256::repeat_byte(3));
            for transaction in answer["result"]["transactions"].as_array_mut().unwrap() {
                transaction["hash"] = json!(B256::repeat_byte(4));
                transaction["from"] = json!(stage_address());
            }
        }
        _ => {}
    };
    let liar = Proxy::start(stage.chain.url(), forge).unwrap();
    let rpc = rpc(&[liar.url()]);
    let logs = rpc.logs(&stage.head(), &stage.filter(), 0).await.unwrap();
    assert_eq!(places(&logs), truth(&stage));
    assert_eq!(liar.count(RECEIPTS), 2);
}

fn stage_address() -> alloy::primitives::Address {
    alloy::primitives::Address::repeat_byte(9)
}

#[tokio::test]
async fn a_bloom_that_hides_the_logs_is_refused() {
    let stage = Stage::new();
    let head = stage.head();
    let lie = answers_to("eth_getBlockByNumber", |result| {
        result["logsBloom"] = json!(alloy::primitives::Bloom::ZERO)
    });
    let why = stage.refused(lie, async |rpc| rpc.logs(&head, &stage.filter(), 0).await).await;
    assert!(matches!(why, Refused::HeaderHash { .. }), "{why}");
}

#[tokio::test]
async fn a_search_that_is_too_long_is_named_before_anything_is_asked() {
    let stage = Stage::new();
    let watched = Proxy::start(stage.chain.url(), |_, _, _| ()).unwrap();
    let header = alloy::consensus::Header { number: RpcError::MAX_WALK + 1, ..Default::default() };
    let far = posthouse_light_client::execution::verify_header(header.hash_slow(), &header).unwrap();
    let error = rpc(&[watched.url()]).logs(&far, &stage.filter(), 0).await.unwrap_err();
    assert_eq!(error, RpcError::TooFar { from: RpcError::MAX_WALK + 1, to: 0 });
    assert!(watched.seen().is_empty());
}

#[tokio::test]
async fn an_endpoint_without_the_method_is_passed_over() {
    let stage = Stage::new();
    let head = stage.head();
    let lacks = |method: &str, _: &Value, answer: &mut Value| {
        if method == RECEIPTS {
            *answer = json!({"id": answer["id"], "error": {"code": -32601, "message": "method not found"}});
        }
    };
    let error = stage.lie(lacks, async |rpc| rpc.logs(&head, &stage.filter(), 0).await).await;
    assert!(matches!(error, AnswerError::Complaint { method: RECEIPTS, .. }), "{error}");
}
