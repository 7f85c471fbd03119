//! Logs that are told, not proven: for what proves itself.

use posthouse_devchain::Proxy;
use posthouse_light_client::rpc::AnswerError;
use serde_json::{Value, json};

use crate::stage::{Stage, answers_to, rpc, slot};

const LOGS: &str = "eth_getLogs";

#[tokio::test]
async fn hints_are_what_an_endpoint_tells() {
    let stage = Stage::new();
    let rpc = stage.honest();
    let hints = rpc.hints(&stage.filter().topic(1, slot(7)), 0, 7, &[]).await.unwrap().unwrap();
    assert_eq!((hints.endpoint, hints.logs.len()), (0, 3));
    assert!(rpc.hints(&stage.filter(), 5, 4, &[]).await.unwrap().unwrap().logs.is_empty());
    assert!(rpc.hints(&stage.filter(), u64::MAX, u64::MAX, &[]).await.unwrap().unwrap().logs.is_empty());
    assert_eq!(rpc.hints(&stage.filter(), 0, 7, &[0]).await.unwrap(), None, "nobody is left");
}

#[tokio::test]
async fn a_long_range_is_asked_for_in_parts() {
    let stage = Stage::new();
    let watched = Proxy::start(stage.chain.url(), |_, _, _| ()).unwrap();
    let hints = rpc(&[watched.url()]).hints(&stage.filter(), 1, 12_000, &[]).await.unwrap().unwrap();
    assert_eq!(hints.logs.len(), 6);
    let asked: Vec<_> = watched
        .seen()
        .into_iter()
        .filter(|(method, _)| method == LOGS)
        .map(|(_, params)| (params[0]["fromBlock"].clone(), params[0]["toBlock"].clone()))
        .collect();
    let span = |from: u64, to: u64| (json!(format!("{from:#x}")), json!(format!("{to:#x}")));
    assert_eq!(asked, [span(1, 5_000), span(5_001, 10_000), span(10_001, 12_000)]);
}

#[tokio::test]
async fn a_log_outside_the_filter_is_refused() {
    let stage = Stage::new();
    type Change = fn(&mut Value);
    let changes: [Change; 5] = [
        |log| log["address"] = json!(alloy::primitives::Address::repeat_byte(7)),
        |log| log["topics"][1] = json!(slot(8)),
        |log| log["topics"] = json!([slot(1)]),
        |log| log["blockNumber"] = json!("0x8"),
        |log| log["removed"] = json!(true),
    ];
    for change in changes {
        let lie = answers_to(LOGS, move |result| change(&mut result[0]));
        let ask = async |rpc: &posthouse_light_client::rpc::Rpc| {
            Ok(rpc.hints(&stage.filter().topic(1, slot(7)), 0, 7, &[]).await?.map(|hints| hints.logs))
        };
        let error = stage.lie(lie, ask).await;
        assert!(matches!(error, AnswerError::Unasked { .. }), "{error}");
    }
    let lie = answers_to(LOGS, |result| result[0]["blockNumber"] = Value::Null);
    let ask = async |rpc: &posthouse_light_client::rpc::Rpc| {
        Ok(rpc.hints(&stage.filter(), 0, 7, &[]).await?.map(|hints| hints.logs))
    };
    assert!(matches!(stage.lie(lie, ask).await, AnswerError::Unasked { block: None, .. }));
    let lie = answers_to(LOGS, |result| result[0]["blockNumber"] = json!("0x10000000000000000"));
    assert!(matches!(stage.lie(lie, ask).await, AnswerError::Form { .. }));
}

#[tokio::test]
async fn an_endpoint_that_hides_a_log_is_skipped() {
    let stage = Stage::new();
    let hides = answers_to(LOGS, |result| *result = json!([]));
    let liar = Proxy::start(stage.chain.url(), hides).unwrap();
    let rpc = rpc(&[liar.url(), stage.chain.url()]);
    let wanted = stage.filter().topic(1, slot(8));
    let mut skip = Vec::new();
    let hints = rpc.hints(&wanted, 0, 7, &skip).await.unwrap().unwrap();
    assert_eq!((hints.endpoint, hints.logs.len()), (0, 0));
    // A proof of the storage says that slot 8 was written, so there must be a log.
    let (_, words) = rpc.account(&stage.head(), stage.probe, &[slot(8)]).await.unwrap();
    assert!(!words[0].is_zero());
    rpc.blame(hints.endpoint, &"hides the log of slot 8");
    skip.push(hints.endpoint);
    let hints = rpc.hints(&wanted, 0, 7, &skip).await.unwrap().unwrap();
    assert_eq!((hints.endpoint, hints.logs.len()), (1, 2));
    assert_eq!(rpc.report()[0].last_error.as_deref(), Some("hides the log of slot 8"));
    skip.push(hints.endpoint);
    assert_eq!(rpc.hints(&wanted, 0, 7, &skip).await.unwrap(), None);
}
