//! Round trips of arbitrary messages, and decoders on arbitrary bytes.

use posthouse_protocol::exchange::{MAX_MEMBERS, Request, Response};
use posthouse_protocol::id::{ContentId, DeviceKey, ProductId, UpdateId, Version};
use posthouse_protocol::sensor::{Block, BlockRequest, Hello, SignRequest};
use posthouse_protocol::suit;
use proptest::prelude::*;

use crate::cases;

const RULES: [&str; 15] = [
    "exchange-request",
    "exchange-response",
    "join-request",
    "join-response",
    "hello",
    "sign-request",
    "signature-msg",
    "block-request",
    "block",
    "status",
    "status-reply",
    "error-msg",
    "package",
    "sealed-release",
    "suit-envelope",
];

fn key() -> impl Strategy<Value = DeviceKey> {
    prop::array::uniform32(any::<u8>()).prop_map(|x| {
        let mut bytes = [2; 33];
        bytes[1..].copy_from_slice(&x);
        DeviceKey::new(bytes)
    })
}

prop_compose! {
    fn sign_receipt()(
        chain: u64, bounty: [u8; 20], payee: [u8; 20], u_id: [u8; 32], s: [u8; 32], attempt: u8,
    ) -> SignRequest {
        SignRequest::Receipt {
            chain: chain.into(),
            bounty: bounty.into(),
            payee: payee.into(),
            u_id: u_id.into(),
            s: s.into(),
            attempt: attempt.into(),
        }
    }
}

proptest! {
    #[test]
    fn no_reader_panics_on_random_bytes(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        for rule in RULES {
            if let Ok(again) = cases::read(rule, &bytes) {
                prop_assert_eq!(&again, &bytes);
            }
        }
    }

    #[test]
    fn no_reader_panics_on_messages_with_random_changes(
        pick: prop::sample::Index,
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
        cut: prop::sample::Index,
    ) {
        let cases = cases::all();
        let case = pick.get(cases);
        let mut bytes = case.bytes.clone();
        for (at, byte) in changes {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        bytes.truncate(cut.index(bytes.len()) + 1);
        if let Ok(again) = cases::read(case.rule, &bytes) {
            prop_assert_eq!(again, bytes);
        }
    }

    #[test]
    fn sign_requests_come_back(request in sign_receipt()) {
        let bytes = request.to_vec();
        prop_assert_eq!(SignRequest::decode(&bytes), Ok(request));
        let mut out = [0; SignRequest::MAX_LEN];
        prop_assert_eq!(request.encode_into(&mut out), Ok(bytes.as_slice()));
    }

    #[test]
    fn blocks_come_back(u_id: [u8; 32], offset: u32, bytes in prop::collection::vec(any::<u8>(), 1..=1024)) {
        let block = Block { u_id: u_id.into(), offset, bytes: &bytes };
        let message = block.to_vec();
        prop_assert_eq!(Block::decode(&message), Ok(block));
    }

    #[test]
    fn block_requests_come_back_within_their_bounds(u_id: [u8; 32], offset: u32, len: u16, count: u16) {
        let request = BlockRequest { u_id: u_id.into(), offset, len, count };
        let decoded = BlockRequest::decode(&request.to_vec());
        if (1..=1024).contains(&len) && count > 0 {
            prop_assert_eq!(decoded, Ok(request));
        } else {
            prop_assert!(decoded.is_err());
        }
    }

    #[test]
    fn hellos_come_back(key in key(), p256: bool, product: [u8; 32], installed: u64, slot: u32, wake: u32) {
        use posthouse_protocol::id::Curve;
        let curve = if p256 { Curve::P256 } else { Curve::Secp256k1 };
        let hello = Hello { v: 1, key, curve, product: product.into(), installed: installed.into(), slot, wake };
        let bytes = hello.to_vec();
        prop_assert!(bytes.len() <= Hello::MAX_LEN);
        prop_assert_eq!(Hello::decode(&bytes), Ok(hello));
    }

    #[test]
    fn questions_for_members_come_back(bounty: [u8; 20], keys in prop::collection::vec(key(), 0..=MAX_MEMBERS)) {
        let request = Request::Members { bounty: bounty.into(), keys };
        prop_assert_eq!(Request::decode(&request.to_vec()), Ok(request));
    }

    #[test]
    fn offers_come_back(
        cipher in prop::collection::vec(any::<u8>(), 0..2_000), s: [u8; 32],
        proof in prop::collection::vec(any::<u8>(), 0..=1024), vk: [u8; 32], expires: u64,
    ) {
        let offer = Response::Offer { cipher, s: s.into(), proof, vk_id: vk.into(), expires };
        prop_assert_eq!(Response::decode(&offer.to_vec()), Ok(offer));
    }

    #[test]
    fn identifiers_print_and_parse(bytes: [u8; 32]) {
        let id = UpdateId::new(bytes);
        prop_assert_eq!(id.to_string().parse(), Ok(id));
        prop_assert_eq!(format!("0x{id}").parse(), Ok(id));
        for cid in [ContentId::raw(bytes), ContentId::dag_pb(bytes), ContentId::dag_cbor(bytes)] {
            prop_assert_eq!(cid.to_string().parse(), Ok(cid));
            prop_assert_eq!(ContentId::from_bytes(&cid.to_bytes()), Ok(cid));
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn manifests_come_back(sequence: u64, product: [u8; 32], u_id: [u8; 32], size in 1u32..) {
        let manifest = suit::Manifest {
            sequence: Version::new(sequence),
            product: ProductId::new(product),
            u_id: u_id.into(),
            size,
        };
        let envelope = suit::build(&manifest, &cases::release_key());
        let key = cases::release_key().release_key();
        prop_assert_eq!(suit::verify(&envelope, &key), Ok(manifest));
    }
}
