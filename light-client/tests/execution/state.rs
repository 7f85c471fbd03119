//! Accounts, storage and code.

use alloy::primitives::{Address, B256, Bytes, KECCAK256_EMPTY, TxKind, U256, keccak256};
use alloy::rpc::types::EIP1186AccountProofResponse;
use posthouse_devchain::Proxy;
use posthouse_light_client::execution::{Account, Refused, verify_account, verify_storage};
use posthouse_light_client::rpc::{AnswerError, Rpc, RpcError};
use serde_json::{Value, json};

use crate::stage::{Stage, answers_to, dynamic, only, rpc, slot, words};

const PROOF: &str = "eth_getProof";

/// Slots 7 and 8 of the probe have words, 9 was set to zero.
fn slots() -> [B256; 3] {
    [slot(7), slot(8), slot(9)]
}

async fn probe(stage: &Stage, rpc: &Rpc) -> Result<(Account, Vec<U256>), RpcError> {
    rpc.account(&stage.head(), stage.probe, &slots()).await
}

async fn refused(stage: &Stage, change: impl Fn(&mut Value) + Send + Sync + 'static) -> Refused {
    stage.refused(answers_to(PROOF, change), async |rpc| probe(stage, rpc).await).await
}

/// What the endpoint says at another block, of another account, or of other slots.
async fn elsewhere(stage: &Stage, params: Value) -> Value {
    let call = json!({"jsonrpc": "2.0", "id": 0, "method": PROOF, "params": params}).to_string();
    let answer = stage.honest().relay(call.as_bytes()).await.unwrap();
    serde_json::from_slice::<Value>(&answer).unwrap()["result"].take()
}

#[tokio::test]
async fn accounts_words_and_code_are_proven_in_the_present_and_the_past() {
    let stage = Stage::new();
    let rpc = stage.honest();
    let (account, found) = probe(&stage, &rpc).await.unwrap();
    assert!(account.exists);
    assert_eq!(found, [4u64, 5, 0].map(U256::from));
    let code = rpc.code(&stage.head(), stage.probe).await.unwrap();
    assert_eq!((keccak256(&code), code.len()), (account.code_hash, 0x34));
    let (_, found) = rpc.account(&stage.block(2), stage.probe, &slots()).await.unwrap();
    assert_eq!(found, [1u64, 2, 0].map(U256::from));
    let sender = stage.chain.accounts()[0].address();
    let (account, _) = rpc.account(&stage.head(), sender, &[]).await.unwrap();
    assert_eq!((account.nonce, account.balance), (6, stage.chain.balance(sender)));
}

#[tokio::test]
async fn absence_is_proven() {
    let stage = Stage::new();
    let rpc = stage.honest();
    let nobody = Address::repeat_byte(0xee);
    let (account, found) = rpc.account(&stage.head(), nobody, &[slot(0)]).await.unwrap();
    assert_eq!((account.exists, account.code_hash, found), (false, KECCAK256_EMPTY, vec![U256::ZERO]));
    assert_eq!(rpc.code(&stage.head(), nobody).await.unwrap(), Bytes::new());
    assert!(!rpc.account(&stage.block(0), stage.probe, &[]).await.unwrap().0.exists);
}

#[tokio::test]
async fn more_slots_than_one_request_takes_are_asked_for_in_parts() {
    let stage = Stage::new();
    let watched = Proxy::start(stage.chain.url(), |_, _, _| ()).unwrap();
    let slots: Vec<_> = (0..600).map(slot).collect();
    let rpc = rpc(&[watched.url()]);
    let (_, found) = rpc.account(&stage.head(), stage.probe, &slots).await.unwrap();
    let expected: Vec<_> = (0..600u64)
        .map(|it| {
            U256::from(if it == 7 {
                4
            } else if it == 8 {
                5
            } else {
                0
            })
        })
        .collect();
    assert_eq!((found, watched.count(PROOF)), (expected, 3));
}

#[tokio::test]
async fn a_proof_of_another_account_is_refused() {
    let stage = Stage::new();
    let other = stage.chain.accounts()[1].address();
    let answer = elsewhere(&stage, json!([other, slots(), "latest"])).await;
    let with_name = answer.clone();
    let why = refused(&stage, move |result| *result = with_name.clone()).await;
    assert_eq!(why, Refused::OtherAddress { expected: stage.probe, got: other });
    let (address, block) = (stage.probe, stage.head().number);
    let why = refused(&stage, move |result| {
        *result = answer.clone();
        result["address"] = json!(address);
    });
    let why = why.await;
    assert!(
        matches!(why, Refused::Account { address: of, block: at, .. } if (of, at) == (address, block)),
        "{why}"
    );
}

#[tokio::test]
async fn a_proof_of_another_slot_is_refused() {
    let stage = Stage::new();
    let why = refused(&stage, |result| result["storageProof"].as_array_mut().unwrap().swap(0, 1)).await;
    assert_eq!(why, Refused::OtherSlot { expected: slot(7), got: slot(8) });
    let why = refused(&stage, |result| {
        let proofs = result["storageProof"].as_array_mut().unwrap();
        proofs[0] = proofs[1].clone();
        proofs[0]["key"] = json!(slot(7));
    });
    let why = why.await;
    assert!(matches!(why, Refused::Storage { slot: of, .. } if of == slot(7)), "{why}");
}

#[tokio::test]
async fn a_proof_of_another_block_is_refused() {
    let stage = Stage::new();
    let answer = elsewhere(&stage, json!([stage.probe, slots(), "0x2"])).await;
    let why = refused(&stage, move |result| *result = answer.clone()).await;
    assert!(matches!(why, Refused::Account { block: 7, .. }), "{why}");
}

#[tokio::test]
async fn a_false_absence_of_an_account_is_refused() {
    let stage = Stage::new();
    let nobody = Address::repeat_byte(0xee);
    let answer = elsewhere(&stage, json!([nobody, slots(), "latest"])).await;
    let address = stage.probe;
    let why = refused(&stage, move |result| {
        *result = answer.clone();
        result["address"] = json!(address);
    });
    assert!(matches!(why.await, Refused::Account { .. }));
    // The true proof with an account of nothing written beside it.
    for hash in [KECCAK256_EMPTY, B256::ZERO] {
        let why = refused(&stage, move |result| {
            (result["nonce"], result["balance"]) = (json!("0x0"), json!("0x0"));
            (result["codeHash"], result["storageHash"]) = (json!(hash), json!(alloy_trie::EMPTY_ROOT_HASH));
        });
        assert!(matches!(why.await, Refused::Account { .. }));
    }
    let why = refused(&stage, |result| result["accountProof"] = json!([])).await;
    assert!(matches!(why, Refused::Account { .. }), "{why}");
}

#[tokio::test]
async fn a_false_zero_is_refused() {
    let stage = Stage::new();
    let zero = |result: &mut Value| result["storageProof"][0]["value"] = json!("0x0");
    assert!(matches!(refused(&stage, zero).await, Refused::Storage { .. }));
    // With the proof that slot 9 is zero, which is true.
    let why = refused(&stage, |result| {
        let absent = result["storageProof"][2]["proof"].clone();
        result["storageProof"][0] = json!({"key": slot(7), "value": "0x0", "proof": absent});
    });
    assert!(matches!(why.await, Refused::Storage { .. }));
    let why = refused(&stage, |result| {
        result["storageProof"][0] = json!({"key": slot(7), "value": "0x0", "proof": []})
    });
    assert!(matches!(why.await, Refused::Storage { .. }));
}

#[tokio::test]
async fn altered_words_and_accounts_are_refused() {
    let stage = Stage::new();
    let why = refused(&stage, |result| result["storageProof"][0]["value"] = json!("0x5")).await;
    assert!(matches!(why, Refused::Storage { value, .. } if value == U256::from(5)), "{why}");
    let why = refused(&stage, |result| result["storageProof"][2]["value"] = json!("0x1")).await;
    assert!(matches!(why, Refused::Storage { .. }), "{why}");
    for (field, value) in [
        ("nonce", json!("0x7")),
        ("balance", json!("0x7")),
        ("codeHash", json!(slot(7))),
        ("storageHash", json!(alloy_trie::EMPTY_ROOT_HASH)),
    ] {
        let why = refused(&stage, move |result| result[field] = value.clone()).await;
        assert!(matches!(why, Refused::Account { .. }), "{field}: {why}");
    }
}

#[tokio::test]
async fn short_long_and_broken_proofs_are_refused() {
    let stage = Stage::new();
    type Change = fn(&mut Vec<Value>);
    let changes: [Change; 5] = [
        |nodes| drop(nodes.pop()),
        |nodes| drop(nodes.remove(0)),
        |nodes| nodes.push(nodes[0].clone()),
        |nodes| nodes.reverse(),
        |nodes| nodes[0] = json!(format!("0x00{}", &nodes[0].as_str().unwrap()[4..])),
    ];
    for change in changes {
        let why = refused(&stage, move |result| change(result["accountProof"].as_array_mut().unwrap())).await;
        assert!(matches!(why, Refused::Account { .. }), "{why}");
        let of_slot =
            move |result: &mut Value| change(result["storageProof"][1]["proof"].as_array_mut().unwrap());
        let why = refused(&stage, of_slot).await;
        assert!(matches!(why, Refused::Storage { .. }), "{why}");
    }
}

#[tokio::test]
async fn proofs_that_no_trie_can_have_are_not_even_looked_at() {
    let stage = Stage::new();
    let many = |result: &mut Value| result["accountProof"] = json!(vec!["0x80"; 66]);
    assert_eq!(refused(&stage, many).await, Refused::ProofSize { nodes: 66, largest: 1 });
    let large = |result: &mut Value| result["storageProof"][0]["proof"] = json!([Bytes::from(vec![0; 1025])]);
    assert_eq!(refused(&stage, large).await, Refused::ProofSize { nodes: 1, largest: 1025 });
}

#[tokio::test]
async fn one_proof_for_each_slot() {
    let stage = Stage::new();
    let fewer = |result: &mut Value| drop(result["storageProof"].as_array_mut().unwrap().pop());
    assert_eq!(refused(&stage, fewer).await, Refused::SlotCount { expected: 3, got: 2 });
    let more = |result: &mut Value| {
        let proofs = result["storageProof"].as_array_mut().unwrap();
        proofs.push(proofs[0].clone());
    };
    assert_eq!(refused(&stage, more).await, Refused::SlotCount { expected: 3, got: 4 });
}

#[tokio::test]
async fn numbers_that_do_not_fit_are_refused() {
    let stage = Stage::new();
    let wide = format!("0x1{}", "0".repeat(64));
    let changes: [(&str, String); 4] = [
        ("/nonce", "0x10000000000000000".into()),
        ("/balance", wide.clone()),
        ("/storageProof/0/value", wide.clone()),
        ("/storageProof/0/key", wide),
    ];
    for (field, value) in changes {
        let lie = answers_to(PROOF, move |result| *result.pointer_mut(field).unwrap() = json!(value));
        let error = stage.lie(lie, async |rpc| probe(&stage, rpc).await).await;
        assert!(matches!(error, AnswerError::Form { .. }), "{field}: {error}");
    }
}

#[tokio::test]
async fn wrong_code_is_refused() {
    let stage = Stage::new();
    let expected = probe(&stage, &stage.honest()).await.unwrap().0.code_hash;
    for code in ["0x", "0x00", "0x6001"] {
        let lie = answers_to("eth_getCode", move |result| *result = json!(code));
        let why = stage.refused(lie, async |rpc| rpc.code(&stage.head(), stage.probe).await).await;
        let got = keccak256(alloy::hex::decode(code).unwrap());
        assert_eq!(why, Refused::Code { address: stage.probe, expected, got });
    }
}

#[tokio::test]
async fn an_endpoint_that_takes_no_block_hashes_is_asked_by_number() {
    let stage = Stage::new();
    let number = |_: &str, params: &Value, answer: &mut Value| {
        if params.as_array().is_some_and(|params| params.iter().any(|it| it["blockHash"].is_string())) {
            *answer = json!({"id": answer["id"], "error": {"code": -32602, "message": "invalid argument"}});
        }
    };
    let old = Proxy::start(stage.chain.url(), number).unwrap();
    let rpc = rpc(&[old.url()]);
    assert_eq!(probe(&stage, &rpc).await, probe(&stage, &stage.honest()).await);
    assert_eq!(rpc.receipts(&stage.block(2)).await.unwrap().count(), 4);
    assert_eq!(rpc.code(&stage.head(), stage.probe).await.unwrap().len(), 0x34);
}

#[tokio::test]
async fn state_that_is_pruned_is_asked_of_the_next_endpoint_and_then_named() {
    let stage = Stage::new();
    let old = stage.block(2);
    stage.chain.mine_many(600).unwrap();
    let error = only(stage.honest().account(&old, stage.probe, &[]).await.unwrap_err());
    assert!(matches!(error, AnswerError::Complaint { method: PROOF, .. }), "{error}");
    assert!(error.to_string().contains("pruned"), "{error}");
}

#[tokio::test]
async fn an_account_that_changes_in_the_head_is_proven_there_only() {
    let stage = Stage::new();
    let before = stage.head();
    let sender = &stage.chain.accounts()[0];
    stage.chain.send(dynamic(sender, 6, TxKind::Call(stage.probe), words(&[7, 99]))).unwrap();
    stage.chain.mine();
    let rpc = stage.honest();
    assert_eq!(rpc.account(&before, stage.probe, &[slot(7)]).await.unwrap().1, [U256::from(4)]);
    assert_eq!(rpc.account(&stage.head(), stage.probe, &[slot(7)]).await.unwrap().1, [U256::from(99)]);
}

#[tokio::test]
async fn no_byte_of_a_proof_can_be_changed() {
    let stage = Stage::new();
    let head = stage.head();
    let truth = elsewhere(&stage, json!([stage.probe, slots(), "latest"])).await;
    let truth: EIP1186AccountProofResponse = serde_json::from_value(truth).unwrap();
    let account = verify_account(&head, stage.probe, &truth).unwrap();
    let mut count = 0;
    for (node, bytes) in truth.account_proof.iter().enumerate() {
        for at in 0..bytes.len() {
            let mut lie = truth.clone();
            lie.account_proof[node] = flipped(bytes, at);
            assert!(verify_account(&head, stage.probe, &lie).is_err(), "node {node}, byte {at}");
            count += 1;
        }
    }
    for (slot, proof) in slots().iter().zip(&truth.storage_proof) {
        assert!(verify_storage(&account, *slot, proof).is_ok());
        for (node, bytes) in proof.proof.iter().enumerate() {
            for at in 0..bytes.len() {
                let mut lie = proof.clone();
                lie.proof[node] = flipped(bytes, at);
                assert!(
                    verify_storage(&account, *slot, &lie).is_err(),
                    "slot {slot}, node {node}, byte {at}"
                );
                count += 1;
            }
        }
    }
    assert!(count > 500, "{count} bytes");
}

fn flipped(bytes: &Bytes, at: usize) -> Bytes {
    let mut bytes = bytes.to_vec();
    bytes[at] ^= 1;
    bytes.into()
}
