//! Bytes that nobody of ours wrote: every change of a pinned message is refused or is another
//! message, and none of the other forms of CBOR gets through.

use posthouse_protocol::exchange::{self, MAX_MEMBERS, MAX_PATH, Member};
use posthouse_protocol::id::Curve;
use posthouse_protocol::sensor::{
    Block, ErrorCode, ErrorMsg, Hello, Report, SignRequest, State, Status, StatusReply, UpdateResult,
};
use posthouse_protocol::wire::WireError;

use crate::cases;

/// A reader either refuses, or writes back exactly what it read.
fn refused_or_exact(rule: &str, bytes: &[u8]) -> bool {
    match cases::read(rule, bytes) {
        Ok(again) => again == bytes,
        Err(_) => true,
    }
}

#[test]
fn every_flipped_byte_is_refused_or_another_message() {
    for case in cases::all() {
        let signed = matches!(case.rule, "suit-envelope" | "sealed-release");
        for at in 0..case.bytes.len() {
            for flip in [0x01, 0x20, 0x80, 0xff] {
                let mut bytes = case.bytes.clone();
                bytes[at] ^= flip;
                if signed {
                    let result = cases::read(case.rule, &bytes);
                    assert!(result.is_err(), "{}/{} byte {at}", case.rule, case.name);
                } else {
                    assert!(refused_or_exact(case.rule, &bytes), "{}/{} byte {at}", case.rule, case.name);
                }
            }
        }
    }
}

#[test]
fn every_truncation_and_extension_is_refused() {
    for case in cases::all() {
        for len in 0..case.bytes.len() {
            let result = cases::read(case.rule, &case.bytes[..len]);
            assert!(result.is_err(), "{}/{} cut to {len}", case.rule, case.name);
        }
        for extra in [0x00, 0x40, 0xf6, 0xff] {
            let longer = [case.bytes.as_slice(), &[extra]].concat();
            let result = cases::read(case.rule, &longer);
            assert!(result.is_err(), "{}/{} and {extra:02x}", case.rule, case.name);
        }
    }
}

#[test]
fn other_forms_of_the_same_message_are_refused() {
    for (form, hex) in [
        ("one", "a1000a"),
        ("integer in two bytes", "a100180a"),
        ("integer in nine bytes", "a1001b000000000000000a"),
        ("map head in two bytes", "b801000a"),
        ("key in two bytes", "a118000a"),
        ("indefinite map", "bf000aff"),
        ("key twice", "a2000a000a"),
        ("unknown key", "a2000a0100"),
        ("tag in front", "c1a1000a"),
        ("float", "a100fa41200000"),
        ("negative", "a10029"),
        ("empty", "a0"),
        ("array for map", "810a"),
        ("null", "f6"),
    ] {
        let bytes = hex::decode(hex).unwrap();
        let result = StatusReply::decode(&bytes);
        assert_eq!(result.is_ok(), form == "one", "{form}: {result:?}");
    }
}

#[test]
fn errors_say_what_is_wrong() {
    assert_eq!(StatusReply::decode(&[0xa1, 0x00, 0x18, 0x0a]), Err(WireError::NotCanonical));
    assert_eq!(StatusReply::decode(&[0xa1, 0x00, 0x0a, 0x0a]), Err(WireError::Trailing(1)));
    assert_eq!(StatusReply::decode(&[0xa1, 0x00]), Err(WireError::Malformed(2)));
    let max = StatusReply::MAX_LEN;
    assert_eq!(StatusReply::decode(&[0; 65]), Err(WireError::TooLong { got: 65, max }));
    let reply = StatusReply { retry_after: 3_600 };
    assert_eq!(reply.encode_into(&mut [0; 2]), Err(WireError::NoSpace(2)));
}

#[test]
fn map_keys_out_of_order_are_refused() {
    // An error message with its two entries swapped.
    assert!(cases::read("error-msg", &hex::decode("a2000501183c").unwrap()).is_ok());
    assert!(cases::read("error-msg", &hex::decode("a201183c0005").unwrap()).is_err());
}

#[test]
fn an_absent_option_has_one_form() {
    assert!(cases::read("error-msg", &hex::decode("a1000e").unwrap()).is_ok());
    assert!(cases::read("error-msg", &hex::decode("a2000e01f6").unwrap()).is_err());
}

#[test]
fn a_sign_request_has_exactly_its_kinds_fields() {
    let all = cases::all();
    let delegate = all.iter().find(|c| c.rule == "sign-request" && c.name == "delegate").unwrap();
    let mut receipt_kind = delegate.bytes.clone();
    assert_eq!(receipt_kind[1..3], [0, 0]);
    receipt_kind[2] = 1;
    assert!(SignRequest::decode(&delegate.bytes).is_ok());
    assert!(SignRequest::decode(&receipt_kind).is_err());
    // The same with the fields of both kinds: one entry more, attempt 1.
    let mut both = [delegate.bytes.as_slice(), &[0x07, 0x01]].concat();
    both[0] += 1;
    assert!(SignRequest::decode(&both).is_err());
}

#[test]
fn lengths_beyond_the_bounds_are_refused() {
    let keys = vec![posthouse_protocol::id::DeviceKey::new([2; 33]); MAX_MEMBERS + 1];
    let members = |n: usize| exchange::Request::Members { bounty: cases::BOUNTY, keys: keys[..n].into() };
    assert!(exchange::Request::decode(&members(MAX_MEMBERS).to_vec()).is_ok());
    assert!(exchange::Request::decode(&members(MAX_MEMBERS + 1).to_vec()).is_err());
    let auth =
        |n: usize| exchange::Request::Auth { chain: cases::CHAIN, bounty: cases::BOUNTY, sig: vec![0; n] };
    assert!(exchange::Request::decode(&auth(128).to_vec()).is_ok());
    assert!(exchange::Request::decode(&auth(129).to_vec()).is_err());
    let long = [0; 1025];
    let block = |n: usize| Block { u_id: cases::U_ID, offset: u32::MAX, bytes: &long[..n] };
    assert!(Block::decode(&block(1_024).to_vec()).is_ok());
    assert!(Block::decode(&block(1_025).to_vec()).is_err());
    assert!(Block::decode(&block(0).to_vec()).is_err());
}

#[test]
fn a_length_that_promises_more_than_there_is_costs_nothing() {
    // Arrays of 2^63 keys, byte strings of 2^63 bytes, in a message of a few bytes.
    for hex in ["8302409b8000000000000000", "83025bffffffffffffffff", "9bffffffffffffffff"] {
        let bytes = hex::decode(hex).unwrap();
        assert!(exchange::Request::decode(&bytes).is_err(), "{hex}");
    }
    let nested = vec![0x81; exchange::MAX_BODY];
    assert!(exchange::Request::decode(&nested).is_err());
    assert!(exchange::Response::decode(&nested).is_err());
    assert!(Hello::decode(&nested[..Hello::MAX_LEN]).is_err());
}

#[test]
fn the_longest_message_of_each_kind_fits_its_bound() {
    let request = SignRequest::Receipt {
        chain: u64::MAX.into(),
        bounty: cases::BOUNTY,
        payee: cases::PAYEE,
        u_id: cases::U_ID,
        s: [0; 32].into(),
        attempt: u8::MAX.into(),
    };
    assert_eq!(SignRequest::decode(&request.to_vec()), Ok(request));
    let mut out = [0; SignRequest::MAX_LEN];
    assert_eq!(request.encode_into(&mut out).unwrap(), request.to_vec());
    let hello = Hello {
        v: u8::MAX,
        key: [3; 33].into(),
        curve: Curve::P256,
        product: [0; 32].into(),
        installed: u64::MAX.into(),
        slot: u32::MAX,
        wake: u32::MAX,
    };
    assert_eq!(Hello::decode(&hello.to_vec()), Ok(hello));
    let report = Report { version: u64::MAX.into(), u_id: cases::U_ID, sig: [0; 64].into() };
    let status = Status {
        state: State::Updating,
        result: UpdateResult::Deferred,
        installed: u64::MAX.into(),
        next: u32::MAX,
        next_wake: u32::MAX,
        report: Some(report),
    };
    assert_eq!(Status::decode(&status.to_vec()), Ok(status));
    let reply = StatusReply { retry_after: u32::MAX };
    assert_eq!(StatusReply::decode(&reply.to_vec()), Ok(reply));
    let error = ErrorMsg { code: ErrorCode::BadAttempt, retry_after: Some(u32::MAX) };
    assert_eq!(ErrorMsg::decode(&error.to_vec()), Ok(error));
    let offer = exchange::Response::Offer {
        cipher: vec![0; exchange::MAX_CIPHER],
        s: [0; 32].into(),
        proof: vec![0; exchange::MAX_PROOF],
        vk_id: [0; 32].into(),
        expires: u64::MAX,
    };
    assert_eq!(exchange::Response::decode(&offer.to_vec()), Ok(offer));
    let member = Member { index: u32::MAX, path: vec![[0; 32]; MAX_PATH] };
    let members = exchange::Response::Members { entries: vec![Some(member); MAX_MEMBERS] };
    assert_eq!(exchange::Response::decode(&members.to_vec()), Ok(members));
}

#[test]
fn a_path_longer_than_any_tree_is_deep_is_refused() {
    let member = Member { index: 0, path: vec![[0; 32]; MAX_PATH + 1] };
    let members = exchange::Response::Members { entries: vec![Some(member)] };
    assert!(exchange::Response::decode(&members.to_vec()).is_err());
}
