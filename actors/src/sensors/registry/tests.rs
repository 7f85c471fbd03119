use std::io::Write as _;

use posthouse_protocol::id::{
    Attempt, Bounty, ChainId, Curve, LockHash, Payee, ProductId, Signature, Version,
};
use posthouse_protocol::key::SigningKey;
use posthouse_protocol::sensor::SignatureMsg;

use super::*;
use crate::messages::Image;

const MQTT: Link = Link { carrier: Carrier::Mqtt, authenticated: true, live: true };
const COAP: Link = Link { carrier: Carrier::Coap, authenticated: false, live: true };

fn hello(seed: u8) -> Hello {
    let key = SigningKey::from_bytes(Curve::Secp256k1, &[seed; 32]).unwrap().device_key();
    let product = ProductId::new([1; 32]);
    Hello { v: 1, key, curve: Curve::Secp256k1, product, installed: Version::new(1), slot: 9, wake: 60 }
}

fn id(seed: u8) -> DeviceId {
    hello(seed).key.device_id()
}

fn status(next_wake: u32) -> Up {
    Up::Status(Status {
        state: State::Idle,
        result: UpdateResult::Initial,
        installed: Version::new(1),
        next: 0,
        next_wake,
        report: None,
    })
}

fn receipt(s: u8) -> SignRequest {
    SignRequest::Receipt {
        chain: ChainId::new(1),
        bounty: Bounty::new([1; 20]),
        payee: Payee::new([1; 20]),
        u_id: UpdateId::new([1; 32]),
        s: LockHash::new([s; 32]),
        attempt: Attempt::new(1),
    }
}

fn signing(s: u8) -> Intent {
    Intent { sign: Some(receipt(s)), ..Intent::default() }
}

fn staged(bytes: &[u8]) -> (tempfile::NamedTempFile, Intent, UpdateId) {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(bytes).unwrap();
    let u_id = UpdateId::new([5; 32]);
    let image = Image { u_id, size: bytes.len() as u64, path: file.path().to_owned() };
    let manifest = Some(Bytes::from_static(b"manifest"));
    (file, Intent { manifest, image: Some(image), ..Intent::default() }, u_id)
}

fn registry() -> Registry {
    Registry::new(Policy::default(), Limits::default())
}

fn register(registry: &mut Registry, seed: u8, link: Link) -> Vec<Down> {
    registry.take(&id(seed), link, &Up::Hello(hello(seed)), 0).unwrap()
}

fn code(result: Result<Vec<Down>, ErrorMsg>) -> ErrorCode {
    result.unwrap_err().code
}

#[test]
fn a_hello_must_be_the_devices_own_of_a_known_version_with_a_real_key() {
    let mut registry = registry();
    let take =
        |registry: &mut Registry, device: DeviceId, hello| registry.take(&device, MQTT, &Up::Hello(hello), 0);
    assert_eq!(code(take(&mut registry, id(2), hello(1))), ErrorCode::Malformed);
    assert_eq!(code(take(&mut registry, id(1), Hello { v: 2, ..hello(1) })), ErrorCode::UnknownVersion);
    let key = posthouse_protocol::id::DeviceKey::new([4; 33]);
    let bad = Hello { key, ..hello(1) };
    assert_eq!(code(take(&mut registry, key.device_id(), bad)), ErrorCode::Malformed);
    assert!(registry.list(0).is_empty());
}

#[test]
fn who_never_said_hello_is_told_to() {
    let message = SignatureMsg { digest: Digest::new([0; 32]), sig: Signature::new([0; 64]) };
    for up in [status(0), Up::Manifest, Up::Sign, Up::Signature(message)] {
        assert_eq!(code(registry().take(&id(1), MQTT, &up, 0)), ErrorCode::UnknownDevice);
    }
}

#[test]
fn what_is_pending_comes_with_the_first_word_of_a_wake_and_once() {
    let mut registry = registry();
    registry.set_intent(id(1), signing(1), 0);
    let downs = register(&mut registry, 1, MQTT);
    assert_eq!(downs.last(), Some(&Down::Sign(receipt(1))));
    let again = registry.take(&id(1), MQTT, &status(0), 1).unwrap();
    assert!(!again.contains(&Down::Sign(receipt(1))));
    let next_wake = register(&mut registry, 1, MQTT);
    assert_eq!(next_wake, [Down::Sign(receipt(1))]);
}

#[test]
fn only_the_newest_intent_is_kept() {
    let mut registry = registry();
    for s in 1..=3 {
        registry.set_intent(id(1), signing(s), 0);
    }
    assert_eq!(register(&mut registry, 1, MQTT).last(), Some(&Down::Sign(receipt(3))));
}

#[test]
fn a_sensor_that_is_awake_is_told_at_once_and_a_sleeping_one_at_its_next_word() {
    let mut registry = registry();
    register(&mut registry, 1, MQTT);
    assert_eq!(registry.set_intent(id(1), signing(1), 1).1, [Down::Sign(receipt(1))]);
    registry.take(&id(1), MQTT, &status(60), 2).unwrap();
    assert_eq!(registry.set_intent(id(1), signing(2), 3).1, []);
    assert_eq!(register(&mut registry, 1, MQTT), [Down::Sign(receipt(2))]);
    assert_eq!(registry.set_intent(id(1), signing(3), AWAKE_MS).1, [], "silent for long");
}

#[test]
fn what_the_broker_kept_wakes_nobody() {
    let mut registry = registry();
    registry.set_intent(id(1), signing(1), 0);
    let kept = Link { live: false, ..MQTT };
    let downs = register(&mut registry, 1, kept);
    assert_eq!(downs, [Down::Manifest(Bytes::new())], "only what the broker should hold");
    assert_eq!(registry.set_intent(id(1), signing(2), 1).1, []);
}

#[test]
fn sign_requests_stay_off_carriers_that_do_not_authenticate_unless_the_site_says_so() {
    for allow in [false, true] {
        let policy = Policy { allow_unauthenticated_signing: allow, ..Policy::default() };
        let mut registry = Registry::new(policy, Limits::default());
        registry.set_intent(id(1), signing(1), 0);
        register(&mut registry, 1, COAP);
        let asked = registry.take(&id(1), COAP, &Up::Sign, 0);
        match allow {
            true => assert_eq!(asked.unwrap(), [Down::Sign(receipt(1))]),
            false => assert_eq!(code(asked), ErrorCode::Unauthenticated),
        }
        let open = Link { authenticated: false, ..MQTT };
        let mut registry = Registry::new(policy, Limits::default());
        registry.set_intent(id(1), signing(1), 0);
        let told = register(&mut registry, 1, open).contains(&Down::Sign(receipt(1)));
        assert_eq!(told, allow);
    }
}

#[test]
fn a_stranger_does_not_take_an_authenticated_sensors_place() {
    let mut registry = registry();
    register(&mut registry, 1, MQTT);
    let stranger = registry.take(&id(1), COAP, &Up::Hello(hello(1)), 0);
    assert_eq!(code(stranger), ErrorCode::Unauthenticated);
    assert_eq!(code(registry.take(&id(1), COAP, &status(0), 0)), ErrorCode::Unauthenticated);
}

#[test]
fn blocks_come_in_order_up_to_the_end_and_the_bound() {
    let bytes: Vec<u8> = (0..=255).cycle().take(1000).collect();
    let (_file, intent, u_id) = staged(&bytes);
    let mut registry = Registry::new(Policy::default(), Limits { max_blocks: 3, ..Limits::default() });
    register(&mut registry, 1, MQTT);
    registry.set_intent(id(1), intent, 0);
    let mut get = |offset, len, count| {
        let request = BlockRequest { u_id, offset, len, count };
        registry.take(&id(1), MQTT, &Up::Get(request), 0).unwrap()
    };
    let block = |offset: u32, len: usize| Down::Block {
        u_id,
        offset,
        bytes: Bytes::copy_from_slice(&bytes[offset as usize..][..len]),
    };
    assert_eq!(get(100, 64, 60_000), [block(100, 64), block(164, 64), block(228, 64)]);
    assert_eq!(get(960, 64, 4), [block(960, 40)]);
    for (offset, len) in [(1000, 64), (u32::MAX, 64), (0, 0), (0, 1025), (0, u16::MAX)] {
        let error = ErrorMsg { code: ErrorCode::OutOfRange, retry_after: None };
        assert_eq!(get(offset, len, u16::MAX), [Down::Error(error)], "{offset} {len}");
    }
}

#[test]
fn an_image_that_is_not_there_is_answered_with_when_to_come_back() {
    let (_file, intent, u_id) = staged(b"image");
    let mut registry = registry();
    register(&mut registry, 1, MQTT);
    let get = |registry: &mut Registry, u_id| {
        let request = BlockRequest { u_id, offset: 0, len: 64, count: 1 };
        registry.take(&id(1), MQTT, &Up::Get(request), 0).unwrap()
    };
    let later = |code| [Down::Error(ErrorMsg { code, retry_after: Some(5) })];
    assert_eq!(get(&mut registry, u_id), later(ErrorCode::UnknownImage));
    registry.set_intent(id(1), Intent { image: None, ..intent.clone() }, 0);
    assert_eq!(get(&mut registry, u_id), later(ErrorCode::NotStaged));
    let (carrier, downs) = registry.set_intent(id(1), intent.clone(), 1);
    let manifest = Down::Manifest(Bytes::from_static(b"manifest"));
    assert_eq!((carrier, downs), (Some(Carrier::Mqtt), vec![manifest]), "the image is there now");
    registry.take(&id(1), MQTT, &status(60), 1).unwrap();
    registry.set_intent(id(1), Intent { image: None, ..intent.clone() }, 1);
    assert_eq!(registry.set_intent(id(1), intent, 1).1, [], "it sleeps, and asks when it wakes");
    assert_eq!(get(&mut registry, UpdateId::new([6; 32])), later(ErrorCode::UnknownImage));
    assert!(matches!(get(&mut registry, u_id)[..], [Down::Block { .. }]));
}

#[test]
fn an_image_is_served_as_long_as_an_intent_names_it() {
    let (_file, intent, u_id) = staged(b"image");
    let mut registry = registry();
    registry.set_intent(id(1), intent.clone(), 0);
    registry.set_intent(id(2), intent, 0);
    registry.set_intent(id(1), Intent::default(), 0);
    assert_eq!(
        registry.open(&u_id, 1, None, false).unwrap().read(1, 9).unwrap(),
        crate::sensors::ImagePart { bytes: "mage".into(), total: 5 }
    );
    registry.set_intent(id(2), Intent::default(), 0);
    assert_eq!(registry.open(&u_id, 0, None, false).unwrap_err(), ErrorCode::UnknownImage);
}

#[test]
fn a_carrier_carries_its_share_and_the_other_is_not_held_up() {
    let (_file, intent, u_id) = staged(&[7; 64 * 1024]);
    let limits = Limits { mqtt_bytes_per_sec: Some(2048), ..Limits::default() };
    let mut registry = Registry::new(Policy::default(), limits);
    register(&mut registry, 1, MQTT);
    registry.set_intent(id(1), intent, 0);
    let request = BlockRequest { u_id, offset: 0, len: 1024, count: 64 };
    let downs = registry.take(&id(1), MQTT, &Up::Get(request), 0).unwrap();
    // Two blocks, and two more for each second that this takes.
    let later = ErrorMsg { code: ErrorCode::Busy, retry_after: Some(1) };
    assert_eq!(downs.last(), Some(&Down::Error(later)));
    let blocks = downs.iter().filter(|down| matches!(down, Down::Block { .. })).count();
    assert!((2..64).contains(&blocks), "{blocks}");
    let mut coap = registry.open(&u_id, 0, None, false).unwrap();
    for _ in 0..4 {
        assert_eq!(coap.read(0, 1024).unwrap().bytes.len(), 1024);
    }
}

#[test]
fn a_truncated_file_is_not_served() {
    let (file, intent, u_id) = staged(b"image");
    let mut registry = registry();
    registry.set_intent(id(1), intent, 0);
    file.as_file().set_len(2).unwrap();
    let mut image = registry.open(&u_id, 0, None, false).unwrap();
    assert_eq!(image.read(0, 5), Err(ErrorCode::NotStaged));
}

#[test]
fn strangers_make_room_and_wanted_sensors_do_not() {
    let mut registry = Registry::new(Policy::default(), Limits { max_sensors: 2, ..Limits::default() });
    registry.set_intent(id(1), signing(1), 0);
    for seed in 1..=5 {
        register(&mut registry, seed, COAP);
        assert!(registry.hello_of(&id(1)).is_some());
        assert_eq!(registry.list(0).len(), usize::from(seed.min(2)));
    }
    registry.set_intent(id(5), signing(1), 0);
    assert_eq!(code(registry.take(&id(6), COAP, &Up::Hello(hello(6)), 0)), ErrorCode::Busy);
}

/// A flood of made-up sensors fills the registry, each wanted for something: whom a carrier knows finds its place.
#[test]
fn made_up_sensors_displace_nobody_that_a_carrier_knows() {
    let mut registry = Registry::new(Policy::default(), Limits { max_sensors: 3, ..Limits::default() });
    register(&mut registry, 1, MQTT);
    for seed in 2..=9 {
        registry.set_intent(id(seed), signing(1), 0);
        let _ = registry.take(&id(seed), COAP, &Up::Hello(hello(seed)), seed.into());
    }
    assert!(registry.hello_of(&id(1)).is_some(), "though it is wanted for nothing");
    for seed in 10..=11 {
        register(&mut registry, seed, MQTT);
        registry.set_intent(id(seed), signing(1), 20);
    }
    let left: Vec<_> =
        [1, 10, 11].into_iter().filter(|seed| registry.hello_of(&id(*seed)).is_some()).collect();
    assert_eq!((left, registry.list(0).len()), (vec![1, 10, 11], 3));
    assert_eq!(code(registry.take(&id(12), COAP, &Up::Hello(hello(12)), 0)), ErrorCode::Busy);
    register(&mut registry, 12, MQTT);
    assert!(
        registry.hello_of(&id(1)).is_none(),
        "among those that are known, one that is wanted for nothing"
    );
    // Gone or not, it is known.
    assert_eq!(code(registry.take(&id(1), COAP, &Up::Hello(hello(1)), 0)), ErrorCode::Unauthenticated);
}

/// After a restart a stranger may come first.
#[test]
fn a_device_that_was_known_before_a_restart_is_not_taken_for_a_stranger() {
    let mut registry = registry();
    registry.remember([id(1)]);
    assert_eq!(code(registry.take(&id(1), COAP, &Up::Hello(hello(1)), 0)), ErrorCode::Unauthenticated);
    assert_eq!(code(registry.take(&id(1), COAP, &status(0), 0)), ErrorCode::UnknownDevice);
    assert!(registry.list(0).is_empty());
    register(&mut registry, 1, MQTT);
    register(&mut registry, 2, COAP);
    assert_eq!(registry.list(0).len(), 2);
}

#[test]
fn a_done_sensor_has_its_retained_manifest_cleared() {
    let mut registry = registry();
    register(&mut registry, 1, MQTT);
    let manifest = Some(Bytes::from_static(b"m"));
    registry.set_intent(id(1), Intent { manifest, ..Intent::default() }, 0);
    assert_eq!(registry.set_intent(id(1), Intent::default(), 0).1, [Down::Manifest(Bytes::new())]);
    assert_eq!(registry.manifests(Carrier::Mqtt).collect::<Vec<_>>(), [(id(1), Bytes::new())]);
}

#[test]
fn a_sensor_that_missed_its_manifest_gets_it_again() {
    let mut registry = registry();
    register(&mut registry, 1, MQTT);
    let refused = |registry: &mut Registry, code| {
        registry.take(&id(1), MQTT, &Up::Refused(ErrorMsg { code, retry_after: None }), 1).unwrap()
    };
    assert_eq!(refused(&mut registry, ErrorCode::WrongUpdate), [], "none is wanted");
    let manifest = Some(Bytes::from_static(b"m"));
    registry.set_intent(id(1), Intent { manifest, ..signing(1) }, 0);
    assert_eq!(refused(&mut registry, ErrorCode::WrongUpdate), [Down::Manifest("m".into())]);
    assert_eq!(refused(&mut registry, ErrorCode::TooLarge), [], "it has it, and will not have it");
    assert_eq!(register(&mut registry, 1, MQTT), [Down::Sign(receipt(1))], "asked again at the next wake");
}

#[test]
fn a_sensor_that_names_itself_gets_its_own_image_when_its_time_has_come() {
    let mut registry = registry();
    let (_file, intent, u_id) = staged(b"image");
    register(&mut registry, 1, COAP);
    register(&mut registry, 2, COAP);
    registry.set_intent(id(1), intent.clone(), 0);
    registry.set_intent(id(2), Intent { image: None, ..intent.clone() }, 0);
    let mut read = |seed| registry.open(&u_id, 0, Some(&id(seed)), false)?.read(0, 9).map(|part| part.bytes);
    assert_eq!(read(1).unwrap(), "image");
    assert_eq!(read(2), Err(ErrorCode::NotStaged), "another's image is open, not its own");
    registry.set_intent(id(2), intent, 0);
    registry.set_intent(id(1), Intent::default(), 0);
    let mut read = |seed| registry.open(&u_id, 0, Some(&id(seed)), false)?.read(0, 9).map(|part| part.bytes);
    assert_eq!(read(2).unwrap(), "image");
    assert_eq!(read(1), Err(ErrorCode::UnknownImage), "taken back");
    assert_eq!(read(3).unwrap(), "image", "a stranger who knows the digest");
}

#[test]
fn a_stranger_replaces_no_authenticated_sensor_by_another_curve_nor_moves_its_progress() {
    let mut registry = registry();
    let (_file, intent, u_id) = staged(b"image");
    // A key that is a point of both curves.
    let both = |seed: &u8| key::check_key(Curve::P256, &hello(*seed).key).is_ok();
    let seed = (1..=64).find(both).unwrap();
    let link = Link { authenticated: true, ..COAP };
    register(&mut registry, seed, link);
    registry.set_intent(id(seed), intent, 0);
    let other = Hello { curve: Curve::P256, installed: Version::new(9), ..hello(seed) };
    assert_eq!(code(registry.take(&id(seed), COAP, &Up::Hello(other), 1)), ErrorCode::Unauthenticated);
    assert_eq!(registry.hello_of(&id(seed)).unwrap().curve, Curve::Secp256k1);
    registry.open(&u_id, 3, Some(&id(seed)), false).unwrap();
    assert_eq!(registry.list(0)[0].next, 0);
    registry.open(&u_id, 3, Some(&id(seed)), true).unwrap();
    assert_eq!(registry.list(0)[0].next, 3);
}
