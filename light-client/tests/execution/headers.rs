//! Headers, by hash and by parent hash.

use std::ops::ControlFlow;

use posthouse_devchain::{Proxy, Reorg};
use posthouse_light_client::execution::{Refused, verify_header};
use posthouse_light_client::rpc::{AnswerError, Rpc, RpcError};
use serde_json::{Value, json};

use crate::stage::{Stage, answers_to, only, rpc};

const BY_NUMBER: &str = "eth_getBlockByNumber";

#[tokio::test]
async fn a_header_is_found_by_its_hash() {
    let stage = Stage::new();
    for number in 0..=7 {
        let block = stage.block(number);
        assert_eq!(stage.honest().header(block.hash).await.unwrap(), block);
    }
}

#[tokio::test]
async fn a_header_with_another_hash_is_refused() {
    let stage = Stage::new();
    let (asked, other) = (stage.block(4), stage.block(3));
    let header = serde_json::to_value(stage.chain.block(3).unwrap().header()).unwrap();
    let lie = answers_to("eth_getBlockByHash", move |result| {
        // With the hash that was asked for written beside the other header.
        let hash = result["hash"].take();
        *result = header.clone();
        result["hash"] = hash;
    });
    let why = stage.refused(lie, async |rpc| rpc.header(asked.hash).await).await;
    assert_eq!(why, Refused::HeaderHash { expected: asked.hash, got: other.hash });
}

#[tokio::test]
async fn a_header_with_one_altered_field_is_refused() {
    let stage = Stage::new();
    let asked = stage.block(4);
    let changes: [(&str, Value); 5] = [
        ("stateRoot", json!(stage.block(2).state_root)),
        ("receiptsRoot", json!(stage.block(2).receipts_root)),
        ("logsBloom", json!(stage.block(3).logs_bloom)),
        ("timestamp", json!("0x1")),
        ("number", json!("0x5")),
    ];
    for (field, value) in changes {
        let lie = answers_to("eth_getBlockByHash", move |result| result[field] = value.clone());
        let why = stage.refused(lie, async |rpc| rpc.header(asked.hash).await).await;
        assert!(
            matches!(why, Refused::HeaderHash { expected, .. } if expected == asked.hash),
            "{field}: {why}"
        );
    }
}

#[tokio::test]
async fn a_gap_in_the_parents_is_refused() {
    let stage = Stage::new();
    let head = stage.head();
    let grandparent = json!(stage.chain.block(5).unwrap().header());
    let lie = move |method: &str, params: &Value, answer: &mut Value| {
        if method == BY_NUMBER && params[0] == "0x6" {
            answer["result"] = grandparent.clone();
        }
    };
    let why = stage.refused(lie, async |rpc| rpc.ancestors(&head, 0).await).await;
    assert_eq!(why, Refused::HeaderHash { expected: head.parent_hash, got: stage.block(5).hash });
}

#[tokio::test]
async fn what_is_true_of_an_answer_is_kept_where_a_later_part_lies() {
    let stage = Stage::new();
    let head = stage.head();
    let lie = move |method: &str, params: &Value, answer: &mut Value| {
        if method == BY_NUMBER && params[0] == "0x3" {
            answer["result"]["timestamp"] = json!("0x1");
        }
    };
    let seen = async |rpc: &Rpc| {
        let mut seen = 0;
        let outcome = rpc
            .walk(&head, 0, |_| {
                seen += 1;
                ControlFlow::Continue(())
            })
            .await;
        (seen, outcome)
    };
    let liar = Proxy::start(stage.chain.url(), lie).unwrap();
    let (count, outcome) = seen(&rpc(&[liar.url()])).await;
    assert_eq!(count, 4, "blocks 7 to 4");
    let error = only(outcome.unwrap_err());
    let AnswerError::Refused { why, .. } = error else { panic!("{error}") };
    assert!(matches!(*why, Refused::HeaderHash { expected, .. } if expected == stage.block(3).hash), "{why}");
}

/// An endpoint that tells the truth of the first block of each batch, and of no other, would keep a walk for ever.
#[tokio::test]
async fn for_what_is_false_or_missing_of_a_batch_the_next_endpoint_is_asked() {
    type Change = fn(&mut Value);
    let changes: [(Change, u32); 2] =
        [(|result| result["timestamp"] = json!("0x1"), 3), (|result| *result = Value::Null, 1)];
    for (change, counts) in changes {
        let stage = Stage::new();
        let lie = move |method: &str, params: &Value, answer: &mut Value| {
            if method == BY_NUMBER && params[0] != "0x6" {
                change(&mut answer["result"]);
            }
        };
        let liar = Proxy::start(stage.chain.url(), lie).unwrap();
        let both = rpc(&[liar.url(), stage.chain.url()]);
        assert_eq!(both.ancestors(&stage.head(), 0).await.unwrap().len(), 8);
        assert_eq!(liar.count(BY_NUMBER), 7, "the first batch");
        let report = both.report();
        assert_eq!((report[0].failures, report[1].failures), (counts, 0), "{report:?}");
        assert!(report[0].last_error.is_some());
        // Alone it is asked again for the rest, and what it says of that is its failure.
        let alone = rpc(&[liar.url()]);
        only(alone.ancestors(&stage.head(), 0).await.unwrap_err());
        assert_eq!(alone.ancestor(&stage.head(), 6).await.unwrap().number, 6);
    }
}

#[tokio::test]
async fn a_missing_parent_is_no_answer() {
    let stage = Stage::new();
    let head = stage.head();
    let error = stage.lie(answers_to(BY_NUMBER, |result| *result = Value::Null), async |rpc| {
        rpc.ancestors(&head, 2).await
    });
    assert_eq!(error.await, AnswerError::Missing { method: BY_NUMBER });
}

#[tokio::test]
async fn numbers_that_do_not_fit_are_refused() {
    let stage = Stage::new();
    let asked = stage.block(4);
    for field in ["number", "gasLimit", "gasUsed", "timestamp", "baseFeePerGas", "blobGasUsed"] {
        let lie =
            answers_to("eth_getBlockByHash", move |result| result[field] = json!("0x10000000000000000"));
        let error = stage.lie(lie, async |rpc| rpc.header(asked.hash).await).await;
        assert!(matches!(error, AnswerError::Form { .. }), "{field}: {error}");
    }
}

#[tokio::test]
async fn a_walk_is_batched_and_remembered() {
    let stage = Stage::new();
    stage.chain.mine_many(200).unwrap();
    let head = stage.head();
    let watched = Proxy::start(stage.chain.url(), |_, _, _| ()).unwrap();
    let rpc = rpc(&[watched.url()]);
    let all = rpc.ancestors(&head, 0).await.unwrap();
    assert_eq!(
        all.iter().map(|block| block.number).collect::<Vec<_>>(),
        (0..=head.number).rev().collect::<Vec<_>>()
    );
    assert!(all.iter().all(|block| **block == stage.block(block.number)));
    assert_eq!(watched.count(BY_NUMBER), usize::try_from(head.number).unwrap());
    // No more is asked, but for what has been mined since.
    stage.chain.mine();
    assert_eq!(*rpc.ancestor(&stage.head(), 0).await.unwrap(), stage.block(0));
    assert_eq!(watched.count(BY_NUMBER), usize::try_from(head.number).unwrap());
    stage.chain.mine_many(3).unwrap();
    assert_eq!(*rpc.ancestor(&stage.head(), 0).await.unwrap(), stage.block(0));
    assert_eq!(watched.count(BY_NUMBER), usize::try_from(head.number).unwrap() + 2);
}

#[tokio::test]
async fn a_walk_has_its_bounds() {
    let stage = Stage::new();
    let head = stage.head();
    let rpc = stage.honest();
    let error = rpc.ancestors(&head, u64::MAX).await.unwrap_err();
    assert_eq!(error, RpcError::NotYet { number: u64::MAX, head: 7 });
    assert_eq!(rpc.ancestors(&head, 7).await.unwrap().len(), 1);
    let header = alloy::consensus::Header { number: u64::MAX, ..Default::default() };
    let far = verify_header(header.hash_slow(), &header).unwrap();
    let error = rpc.ancestors(&far, 0).await.unwrap_err();
    assert_eq!(error, RpcError::TooFar { from: u64::MAX, to: 0 });
    assert!(error.to_string().contains("18446744073709551615 blocks"), "{error}");
}

#[tokio::test]
async fn a_chain_that_was_reorganised_is_not_taken_for_the_proven_one() {
    let stage = Stage::new();
    let head = stage.head();
    let _ = stage.chain.reorg(Reorg { depth: 2, ..Reorg::default() }).unwrap();
    let error = only(stage.honest().ancestors(&head, 4).await.unwrap_err());
    assert!(matches!(error, AnswerError::Refused { .. }), "{error}");
}
