//! What is passed on unproven: questions for a transaction, and the transaction itself.

use alloy::eips::eip2718::Encodable2718;
use alloy::primitives::{Address, TxKind, U256};
use serde_json::{Value, json};

use crate::stage::{Stage, dynamic, rpc};
use posthouse_devchain::Proxy;

const SEND: &str = "eth_sendRawTransaction";

/// The answer to one method is this error.
fn says(method: &'static str, error: Value) -> impl Fn(&str, &Value, &mut Value) + Send + Sync + 'static {
    move |asked, _, answer| {
        if asked == method {
            *answer = json!({"jsonrpc": "2.0", "id": answer["id"], "error": error});
        }
    }
}

fn busy() -> Value {
    json!({"code": -32005, "message": "daily request count exceeded"})
}

/// A transfer that none of the stage's blocks has.
fn transfer(stage: &Stage) -> Vec<u8> {
    let sender = stage.chain.accounts()[0].clone();
    dynamic(&sender, 6, TxKind::Call(Address::repeat_byte(9)), Default::default()).encoded_2718()
}

fn arrived(stage: &Stage) -> bool {
    stage.chain.mine().transactions().len() == 1
}

#[tokio::test]
async fn a_transaction_goes_to_all_endpoints() {
    let stages = [Stage::new(), Stage::new(), Stage::new()];
    let urls: Vec<&str> = stages.iter().map(|stage| stage.chain.url()).collect();
    rpc(&urls).broadcast(&transfer(&stages[0])).await.unwrap();
    assert!(stages.iter().all(arrived));
}

#[tokio::test]
async fn an_endpoint_that_drops_or_refuses_a_transaction_cannot_keep_it_from_the_chain() {
    let (deaf, stage) = (Stage::new(), Stage::new());
    let errors = [busy(), json!({"code": -32000, "message": "nonce too low"}), Value::Null];
    for error in errors {
        let stage_of = transfer(&stage);
        let liar = match error {
            // Says that it took it, and does not pass it on: its own chain is another one.
            Value::Null => Proxy::start(deaf.chain.url(), |_, _, _| ()),
            error => Proxy::start(deaf.chain.url(), says(SEND, error)),
        };
        let liar = liar.unwrap();
        let snapshot = stage.chain.snapshot();
        let both = rpc(&[liar.url(), stage.chain.url()]);
        both.broadcast(&stage_of).await.unwrap();
        assert!(arrived(&stage));
        stage.chain.revert(snapshot).unwrap();
    }
}

#[tokio::test]
async fn a_transaction_that_is_known_already_was_sent() {
    let stage = Stage::new();
    for words in ["already known", "AlreadyKnown", "Known transaction", "transaction already imported"] {
        let error = json!({"code": -32000, "message": words});
        let node = Proxy::start(stage.chain.url(), says(SEND, error)).unwrap();
        rpc(&[node.url()]).broadcast(&transfer(&stage)).await.unwrap();
    }
    let node = Proxy::start(stage.chain.url(), says(SEND, busy())).unwrap();
    let error = rpc(&[node.url()]).broadcast(&transfer(&stage)).await.unwrap_err();
    assert!(error.to_string().contains("daily request count exceeded"), "{error}");
}

/// `eth_call` of the probe, which reverts with what it was given unless that is two words.
fn call(stage: &Stage) -> Vec<u8> {
    let call = json!({"to": stage.probe, "data": "0x0102030405"});
    json!({"jsonrpc": "2.0", "id": 7, "method": "eth_call", "params": [call, "latest"]}).to_string().into()
}

async fn relayed(urls: &[&str], request: &[u8]) -> Value {
    serde_json::from_slice(&rpc(urls).relay(request).await.unwrap()).unwrap()
}

#[tokio::test]
async fn an_error_that_no_contract_gave_goes_on_to_the_next_endpoint() {
    let stage = Stage::new();
    let request =
        json!({"jsonrpc": "2.0", "id": 7, "method": "eth_getBalance", "params": [stage.probe, "latest"]});
    let request = request.to_string().into_bytes();
    let liar = Proxy::start(stage.chain.url(), says("eth_getBalance", busy())).unwrap();
    let answer = relayed(&[liar.url(), stage.chain.url()], &request).await;
    assert_eq!(answer["result"], json!(U256::ZERO), "{answer}");
    // Where nobody does better, its words are the answer.
    let answer = relayed(&[liar.url()], &request).await;
    assert_eq!((&answer["id"], &answer["error"]["code"]), (&json!(7), &json!(-32005)));
}

#[tokio::test]
async fn what_a_contract_reverts_with_is_an_answer() {
    let stage = Stage::new();
    let first = Proxy::start(stage.chain.url(), |_, _, _| ()).unwrap();
    let second = Proxy::start(stage.chain.url(), |_, _, _| ()).unwrap();
    let answer = relayed(&[first.url(), second.url()], &call(&stage)).await;
    assert_eq!(answer["error"]["data"], "0x0102030405", "{answer}");
    assert_eq!((first.count("eth_call"), second.count("eth_call")), (1, 0));
    // A revert without its data is only an endpoint's word.
    let bare = json!({"code": 3, "message": "execution reverted"});
    let first = Proxy::start(stage.chain.url(), says("eth_call", bare)).unwrap();
    let answer = relayed(&[first.url(), second.url()], &call(&stage)).await;
    assert_eq!(answer["error"]["data"], "0x0102030405", "{answer}");
}
