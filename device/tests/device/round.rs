//! One whole round of a P-256 sensor, byte for byte: what the gateway sends and what the sensor answers, kept in
//! `testdata/` for ports, for the C test and for the board's own measurement.
//!
//! `POSTHOUSE_WRITE_VECTORS=1 cargo test -p posthouse-device --test device` writes those that are absent.

use std::{cell::RefCell, path::Path};

use posthouse_device::Flow;
use posthouse_protocol::device::{Boot, Input, Message};
use posthouse_protocol::id::{Attempt, Bounty, ChainId, Curve, LockHash, Payee, PeerHash};
use posthouse_protocol::key;
use posthouse_protocol::sensor::{Block, SignRequest};

use crate::memory::{self, Memory, PRODUCT, envelope, image, u_id, vendor};

fn same(name: &str, bytes: &[u8]) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata").join(name);
    if !path.exists() && std::env::var_os("POSTHOUSE_WRITE_VECTORS").is_some() {
        std::fs::write(&path, bytes).unwrap();
    }
    assert_eq!(std::fs::read(&path).unwrap(), bytes, "{}", path.display());
}

fn encoded(message: &Message) -> Vec<u8> {
    let mut room = [0; 256];
    let bytes = match message {
        Message::Hello(hello) => hello.encode_into(&mut room),
        Message::Signature(signature) => signature.encode_into(&mut room),
        Message::Refused(error) => error.encode_into(&mut room),
        Message::Get(get) => get.encode_into(&mut room),
        Message::Status(status) => status.encode_into(&mut room),
    };
    bytes.unwrap().to_vec()
}

#[test]
fn a_round_is_the_one_that_is_kept() {
    let (u_id, envelope) = (u_id(), envelope());
    same("manifest.suit", &envelope);
    let (chain, bounty) = (ChainId::new(1337), Bounty::new([0x22; 20]));
    let delegate = SignRequest::Delegate { chain, bounty, gateway: PeerHash::new([0x33; 32]) };
    same("sign-delegate.cbor", &delegate.to_vec());
    let (payee, s, attempt) = (Payee::new([0x44; 20]), LockHash::new([0x55; 32]), Attempt::new(1));
    let receipt = SignRequest::Receipt { chain, bounty, payee, u_id, s, attempt };
    same("sign-receipt.cbor", &receipt.to_vec());
    same("image.bin", &image());
    same("u_id.bin", u_id.as_bytes());
    same("release.key", vendor().release_key().as_bytes());

    let memory = RefCell::new(Memory::default());
    let mut sent: Vec<Message> = Vec::new();
    let mut device = memory::device(&memory, Curve::P256, Boot::Unknown);
    let public = device.sensor().hello().key;
    let mut give = |input: Input<'_>, name: &str| {
        let outcome = device.give(input, 0, &mut |message| sent.push(message)).unwrap();
        assert_eq!(outcome.refused, None, "{name}");
        let said: Vec<Vec<u8>> = sent.drain(..).map(|message| encoded(&message)).collect();
        (outcome.flow, said)
    };
    let (_, said) = give(Input::Wake, "wake");
    same("hello.cbor", &said[0]);
    // MQTT's word for a manifest that was taken back.
    assert!(give(Input::Manifest(&[]), "no manifest").1.is_empty());
    let (_, said) = give(Input::Manifest(&envelope), "manifest");
    same("status-begun.cbor", &said[0]);
    same("get-0.cbor", &said[1]);
    let (_, said) = give(Input::Sign(&delegate), "delegate");
    same("delegation.cbor", &said[0]);
    let (_, said) = give(Input::Sign(&receipt), "receipt");
    same("receipt.cbor", &said[0]);
    let image = image();
    let mut flow = Flow::Continue;
    for (at, bytes) in (0..).step_by(512).zip(image.chunks(512)) {
        (flow, _) = give(Input::Block(Block { u_id, offset: at, bytes }), "block");
    }
    assert_eq!(flow, Flow::Reboot);
    assert_eq!(memory.borrow_mut().activated.take(), Some(u_id));

    // The power went before that: it is done at the next start, and whoever does not reboot then is told again.
    let mut device = memory::device(&memory, Curve::P256, Boot::Unknown);
    assert_eq!(device.tick(0, &mut |_| {}).unwrap(), Flow::Reboot);
    assert_eq!(memory.borrow().activated, Some(u_id));
    assert_eq!(device.give(Input::Wake, 0, &mut |_| {}).unwrap().flow, Flow::Reboot);

    // The new image starts; until it is confirmed, opening must not say that it is installed. Then it reports itself.
    let before = memory.borrow().pages.clone();
    let mut device = memory::device(&memory, Curve::P256, Boot::Image(u_id));
    assert_eq!(memory.borrow().pages, before);
    let mut sent = Vec::new();
    assert_eq!(device.tick(0, &mut |message| sent.push(message)).unwrap(), Flow::Continue);
    let Some(Message::Status(status)) = sent.last() else { panic!("{sent:?}") };
    same("status-installed.cbor", &encoded(&Message::Status(*status)));
    let report = status.report.unwrap();
    key::verify(Curve::P256, &public, &report.digest(&PRODUCT), &report.sig).unwrap();
}
