//! The rest of the API: blocks, headers, and what a node says of itself.

use alloy::consensus::{SignableTransaction, TxEip1559, TxEnvelope};
use alloy::eips::eip2718::Encodable2718;
use alloy::network::TxSignerSync;
use alloy::primitives::{Address, Bytes, TxKind, hex};
use posthouse_devchain::DevChain;
use posthouse_devchain::beacon::{Beacon, Fork};

use crate::fixture::start;
use crate::http::{get, get_as, get_ssz};
use crate::schema;
use crate::verify::{Committee, Rules, signs_parent};

/// Sends a transaction with some data, which is mined at once.
fn send(chain: &DevChain, nonce: u64) -> Bytes {
    let from = &chain.accounts()[0];
    let mut tx = TxEip1559 {
        chain_id: chain.chain_id(),
        nonce,
        gas_limit: 100_000,
        max_fee_per_gas: 10_000_000_000,
        to: TxKind::Call(Address::repeat_byte(7)),
        input: vec![nonce as u8; 1000].into(),
        ..TxEip1559::default()
    };
    let signature = from.sign_transaction_sync(&mut tx).unwrap();
    let tx = TxEnvelope::from(tx.into_signed(signature));
    let raw = tx.encoded_2718().into();
    chain.send(tx).unwrap();
    raw
}

#[test]
fn a_block_is_what_its_root_says_in_both_encodings() {
    for fork in Fork::ALL {
        let (chain, beacon) = start(fork, 2);
        let rules = Rules::of(&beacon);
        let committee = Committee::of(&beacon);
        let raw = send(&chain, 0);
        chain.mine_many(2).unwrap();
        let root = beacon.checkpoint_at(3).unwrap();
        let path = format!("/eth/v2/beacon/blocks/{root}");
        let block = get(&beacon, &path);
        assert_eq!(block["version"], fork.name());
        assert_eq!(block["finalized"], true);
        let message = &block["data"]["message"];
        assert_eq!(schema::block(fork).root(message), root);
        assert!(signs_parent(&rules, &committee, message));
        let payload = &message["body"]["execution_payload"];
        assert_eq!(payload["block_hash"], chain.block(3).unwrap().hash().to_string());
        assert_eq!(payload["transactions"], serde_json::json!([hex::encode_prefixed(raw)]));
        let ssz = get_ssz(&beacon, &path);
        assert_eq!(ssz.header("eth-consensus-version"), Some(fork.name()));
        assert_eq!(schema::signed_block(fork).decode(&ssz.body), block["data"]);
        let header = get(&beacon, &format!("/eth/v1/beacon/headers/{root}"))["data"].take();
        assert_eq!(header["root"], root.to_string());
        assert_eq!(schema::beacon_header().root(&header["header"]["message"]), root);
    }
}

/// Slots lie between: the signature that the parent got in its own next slot is not this one.
#[test]
fn a_block_after_a_gap_includes_a_signature_of_its_own_slot() {
    let (chain, beacon) = start(Fork::Fulu, 2);
    let committee = Committee::of(&beacon);
    beacon.set_next_slot(100);
    chain.mine();
    let block = get(&beacon, "/eth/v2/beacon/blocks/head");
    assert_eq!(block["finalized"], false);
    assert!(signs_parent(&Rules::of(&beacon), &committee, &block["data"]["message"]));
}

#[test]
fn blocks_have_many_names() {
    let (_chain, beacon) = start(Fork::Fulu, 5);
    let root = |id: &str| {
        let answer = get(&beacon, &format!("/eth/v1/beacon/blocks/{id}/root"));
        answer["data"]["root"].as_str().unwrap().to_owned()
    };
    let known = |block| beacon.checkpoint_at(block).unwrap().to_string();
    assert_eq!(root("head"), known(5));
    assert_eq!(root("finalized"), known(3));
    assert_eq!(root("1"), known(0));
    assert_eq!(root(&known(2)), known(2));
    for id in ["0", "7", "0x12", "latest", "-1", &format!("0x{}", "00".repeat(32))] {
        for path in [format!("headers/{id}"), format!("blocks/{id}/root")] {
            assert_eq!(get_as(&beacon, &format!("/eth/v1/beacon/{path}"), "*/*").status, 404, "{path}");
        }
    }
}

#[test]
fn requests_that_make_no_sense_are_refused() {
    let (_chain, beacon) = start(Fork::Fulu, 3);
    let none = format!("/eth/v1/beacon/light_client/bootstrap/0x{}", "11".repeat(32));
    for (path, status) in [
        ("/", 404),
        ("/eth/v1/beacon/light_client/everything", 404),
        ("/eth/v1/beacon/light_client/bootstrap/0x12", 400),
        (none.as_str(), 404),
        ("/eth/v1/beacon/light_client/updates", 400),
        ("/eth/v1/beacon/light_client/updates?start_period=0&count=-1", 400),
        ("/eth/v1/node/health", 200),
    ] {
        let answer = get_as(&beacon, path, "application/json");
        assert_eq!(answer.status, status, "{path}");
        if status != 200 {
            assert_eq!(answer.json()["code"], status, "{path}");
        }
    }
}

#[test]
fn a_node_says_what_it_is() {
    let (_chain, beacon) = start(Fork::Fulu, 3);
    let syncing = get(&beacon, "/eth/v1/node/syncing")["data"].take();
    assert_eq!(syncing["head_slot"], "4");
    assert_eq!(syncing["is_syncing"], false);
    let version = get(&beacon, "/eth/v1/node/version");
    assert!(version["data"]["version"].as_str().unwrap().starts_with("posthouse-devchain/"));
    let paths = ["/eth/v1/node/syncing", "/eth/v1/node/version"];
    assert_eq!(beacon.take_requests(), paths);
    assert_eq!(beacon.take_requests(), [""; 0]);
}

#[test]
fn the_network_file_says_what_the_api_says() {
    let (chain, beacon) = start(Fork::Electra, 1);
    let yaml = beacon.network_yaml();
    let value = |key: &str| {
        let lines = yaml.lines().filter_map(|line| line.split_once(": "));
        lines.into_iter().find(|(name, _)| *name == key).map(|(_, value)| value.trim_matches('\''))
    };
    let spec = get(&beacon, "/eth/v1/config/spec")["data"].take();
    for (key, setting) in spec.as_object().unwrap() {
        let derived = ["BLOB_SCHEDULE", "SLOTS_PER_EPOCH", "EPOCHS_PER_SYNC_COMMITTEE_PERIOD"];
        if !derived.contains(&key.as_str()) {
            assert_eq!(value(key), setting.as_str(), "{key}");
        }
    }
    assert_eq!(value("ELECTRA_FORK_EPOCH"), Some("0"));
    assert_eq!(value("FULU_FORK_EPOCH"), Some("18446744073709551615"));
    assert_eq!(value("SECONDS_PER_SLOT"), Some("12"));
    assert_eq!(value("DEPOSIT_CHAIN_ID"), Some(chain.chain_id().to_string().as_str()));
    let root = Rules::of(&beacon).validators_root.to_string();
    assert_eq!(value("GENESIS_VALIDATORS_ROOT"), Some(root.as_str()));
    assert_eq!(value("GENESIS_TIME"), Some(beacon.genesis_time().to_string().as_str()));
}

#[test]
fn only_get_is_answered() {
    use std::io::{Read, Write};

    let (_chain, beacon): (_, Beacon) = start(Fork::Fulu, 0);
    let host = beacon.url().strip_prefix("http://").unwrap();
    let mut stream = std::net::TcpStream::connect(host).unwrap();
    let request =
        format!("POST / HTTP/1.1\r\nHost: {host}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).unwrap();
    let mut reply = String::new();
    stream.read_to_string(&mut reply).unwrap();
    assert!(reply.starts_with("HTTP/1.1 405 "), "{reply}");
}
