//! The CoAP carrier over a network that loses, doubles and delays, against a gateway that is written with other people's
//! CoAP.

use std::{cell::RefCell, collections::VecDeque, iter::repeat};

use coap_lite::{CoapOption, MessageClass, MessageType, Packet, RequestType, ResponseType};
use posthouse_device::coap::{Coap, MAX_REQUEST, Next, Settings};
use posthouse_protocol::device::Boot;
use posthouse_protocol::id::{Bounty, ChainId, Curve, PeerHash};
use posthouse_protocol::sensor::{
    ErrorCode, ErrorMsg, Hello, SignRequest, SignatureMsg, Status, UpdateResult,
};
use proptest::prelude::*;

use crate::memory::{self, Memory, envelope, image, u_id};

/// Wakes in which an update must have come.
const WAKES: usize = 40;
const ETAG: &[u8] = b"manifest";
const ECHO: &[u8] = b"fresh";
/// RFC 9175, unknown to coap-lite.
const ECHO_OPTION: CoapOption = CoapOption::Unknown(252);

/// What the gateway has heard, and how it behaves.
#[derive(Default)]
struct Gateway {
    envelope: Vec<u8>,
    image: Vec<u8>,
    /// Answers come by themselves, after an empty acknowledgement.
    separate: bool,
    /// It serves blocks only to who shows that it is there.
    wants_echo: bool,
    hellos: Vec<Hello>,
    signatures: Vec<SignatureMsg>,
    statuses: Vec<Status>,
    refused: Vec<ErrorCode>,
    blocks: usize,
    next_id: u16,
}

fn delegate() -> SignRequest {
    let (chain, bounty) = (ChainId::new(1), Bounty::new([2; 20]));
    SignRequest::Delegate { chain, bounty, gateway: PeerHash::new([3; 32]) }
}

impl Gateway {
    fn honest() -> Self {
        Self { envelope: envelope(), image: image(), ..Self::default() }
    }

    fn hears(&mut self, datagram: &[u8]) -> Vec<Vec<u8>> {
        let request = Packet::from_bytes(datagram).unwrap();
        let MessageClass::Request(method) = request.header.code else { return Vec::new() };
        let (code, mut answer) = self.answer(method, &request);
        answer.header.set_version(1);
        answer.header.code = MessageClass::Response(code);
        answer.set_token(request.get_token().to_vec());
        if !self.separate {
            answer.header.set_type(MessageType::Acknowledgement);
            answer.header.message_id = request.header.message_id;
            return vec![answer.to_bytes().unwrap()];
        }
        let mut acknowledgement = Packet::new();
        acknowledgement.header.set_version(1);
        acknowledgement.header.set_type(MessageType::Acknowledgement);
        acknowledgement.header.code = MessageClass::Empty;
        acknowledgement.header.message_id = request.header.message_id;
        self.next_id += 1;
        answer.header.set_type(MessageType::Confirmable);
        answer.header.message_id = self.next_id;
        vec![acknowledgement.to_bytes().unwrap(), answer.to_bytes().unwrap()]
    }

    fn answer(&mut self, method: RequestType, request: &Packet) -> (ResponseType, Packet) {
        let segments = request.get_option(CoapOption::UriPath).unwrap();
        let path: Vec<&str> = segments.iter().map(|segment| std::str::from_utf8(segment).unwrap()).collect();
        let mut answer = Packet::new();
        let code = match (method, &path[..]) {
            (RequestType::Get, ["ph", "manifest"]) => {
                if request.get_first_option(CoapOption::ETag).is_some_and(|etag| etag == ETAG) {
                    return (ResponseType::Valid, answer);
                }
                answer.add_option(CoapOption::ETag, ETAG.to_vec());
                answer.payload = self.envelope.clone();
                ResponseType::Content
            }
            (RequestType::Get, ["ph", "sign"]) if self.signatures.is_empty() => {
                answer.payload = delegate().to_vec();
                ResponseType::Content
            }
            (RequestType::Get, ["ph", "image", id]) if **id == u_id().to_string() => {
                return self.block(request, answer);
            }
            (RequestType::Post, ["ph", name]) => {
                self.told(name, &request.payload);
                ResponseType::Changed
            }
            _ => ResponseType::NotFound,
        };
        (code, answer)
    }

    fn told(&mut self, name: &str, payload: &[u8]) {
        match name {
            "hello" => self.hellos.push(Hello::decode(payload).unwrap()),
            "signature" => self.signatures.push(SignatureMsg::decode(payload).unwrap()),
            "status" => self.statuses.push(Status::decode(payload).unwrap()),
            "refused" => self.refused.push(ErrorMsg::decode(payload).unwrap().code),
            other => panic!("{other}"),
        }
    }

    fn block(&mut self, request: &Packet, mut answer: Packet) -> (ResponseType, Packet) {
        let echoed = request.get_first_option(ECHO_OPTION).is_some_and(|echo| echo == ECHO);
        if self.wants_echo && !echoed {
            answer.add_option(ECHO_OPTION, ECHO.to_vec());
            return (ResponseType::Unauthorized, answer);
        }
        let asked = request.get_first_option(CoapOption::Block2).unwrap().clone();
        let value = asked.iter().fold(0, |value, byte| value << 8 | usize::from(*byte));
        let (size, number) = (16 << (value & 7), value >> 4);
        let end = ((number + 1) * size).min(self.image.len());
        answer.payload = self.image[number * size..end].to_vec();
        answer.add_option(CoapOption::Block2, asked);
        self.blocks += 1;
        (ResponseType::Content, answer)
    }
}

/// What becomes of a datagram.
#[derive(Debug, Clone, Copy)]
enum Fate {
    Arrives,
    Lost,
    Doubled,
    /// Until after the next one.
    Late,
}

fn fates() -> impl Strategy<Value = Vec<Fate>> {
    let fate = prop_oneof![
        6 => Just(Fate::Arrives),
        2 => Just(Fate::Lost),
        1 => Just(Fate::Doubled),
        1 => Just(Fate::Late),
    ];
    // A wake that comes to nothing meets three of them or more: a request, its acknowledgement, and the answer that is lost.
    prop::collection::vec(fate, 1..3 * (WAKES - 5))
}

/// Lives until it reboots into the new image, or has woken as often as it may.
fn live(gateway: &mut Gateway, mut fates: impl Iterator<Item = Fate>, curve: Curve) -> bool {
    let memory = RefCell::new(Memory::default());
    let mut device = memory::device(&memory, curve, Boot::Unknown);
    let settings = Settings { seed: 7, ack_timeout_ms: 100, awake_ms: 400, next_wake_s: 1 };
    let (mut coap, mut out) = (Coap::new(settings), [0; MAX_REQUEST]);
    let (mut now, mut wakes, mut late) = (0, 0, VecDeque::new());
    loop {
        match coap.poll(&mut device, now, &mut out).unwrap() {
            Next::Send(len) => {
                let arrived: Vec<Vec<u8>> = match fates.next().unwrap() {
                    Fate::Lost => Vec::new(),
                    Fate::Doubled => vec![out[..len].to_vec(); 2],
                    Fate::Arrives | Fate::Late => vec![out[..len].to_vec()],
                };
                for answer in arrived.iter().flat_map(|datagram| gateway.hears(datagram)).collect::<Vec<_>>()
                {
                    let again = match fates.next().unwrap() {
                        Fate::Lost => 0,
                        Fate::Arrives => 1,
                        Fate::Doubled => 2,
                        Fate::Late => {
                            late.push_back(answer);
                            continue;
                        }
                    };
                    for _ in 0..again {
                        coap.receive(&mut device, &answer, now).unwrap();
                    }
                    if let Some(before) = late.pop_front() {
                        coap.receive(&mut device, &before, now).unwrap();
                    }
                }
            }
            Next::Wait(until) => {
                assert!(until > now, "waits for what is past");
                now = until;
            }
            Next::Sleep(seconds) => {
                wakes += 1;
                if wakes > WAKES {
                    return false;
                }
                now += u64::from(seconds) * 1000;
                coap.wake(&mut device, now).unwrap();
            }
            Next::Reboot => {
                assert_eq!(memory.borrow().activated, Some(u_id()));
                return true;
            }
        }
    }
}

#[test]
fn an_update_comes_by_one_wake_on_either_curve() {
    for curve in [Curve::P256, Curve::Secp256k1] {
        let mut gateway = Gateway::honest();
        assert!(live(&mut gateway, repeat(Fate::Arrives), curve));
        assert_eq!((gateway.hellos.len(), gateway.hellos[0].curve), (1, curve));
        assert_eq!(gateway.blocks, image().len().div_ceil(512));
        assert!(gateway.refused.is_empty(), "{:?}", gateway.refused);
    }
}

#[test]
fn it_waits_for_separate_answers_and_shows_that_it_is_there() {
    let mut gateway = Gateway { separate: true, wants_echo: true, ..Gateway::honest() };
    assert!(live(&mut gateway, repeat(Fate::Arrives), Curve::P256));
}

#[test]
fn a_gateway_that_is_not_there_costs_a_few_datagrams_a_wake() {
    let mut gateway = Gateway::honest();
    assert!(!live(&mut gateway, repeat(Fate::Lost), Curve::P256));
}

#[test]
fn a_wrong_image_is_fetched_once_a_wake_however_often_the_manifest_comes() {
    let mut gateway = Gateway::honest();
    gateway.image[2999] ^= 1;
    assert!(!live(&mut gateway, repeat(Fate::Arrives), Curve::P256));
    assert!(gateway.blocks <= (WAKES + 1) * image().len().div_ceil(512), "{} blocks", gateway.blocks);
    assert!(gateway.statuses.iter().any(|status| status.result == UpdateResult::IntegrityFailure));
}

#[test]
fn a_forged_manifest_is_refused_aloud() {
    let mut gateway = Gateway::honest();
    *gateway.envelope.last_mut().unwrap() ^= 1;
    assert!(!live(&mut gateway, repeat(Fate::Arrives), Curve::P256));
    assert!(gateway.refused.contains(&ErrorCode::BadManifest));
    assert_eq!(gateway.blocks, 0);
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, cases: 24, ..ProptestConfig::default() })]

    #[test]
    fn an_update_comes_through_loss_doubles_and_delay(fates in fates(), separate: bool) {
        let mut gateway = Gateway { separate, ..Gateway::honest() };
        // Then all is well: a network that goes on in a cycle may lose the same answer in each wake.
        let fates = fates.into_iter().chain(repeat(Fate::Arrives));
        prop_assert!(live(&mut gateway, fates, Curve::P256));
        prop_assert!(gateway.signatures.iter().all(|message| message.digest == delegate().digest()));
    }

    #[test]
    fn no_datagram_breaks_it(datagrams in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..40), 1..20)) {
        let memory = RefCell::new(Memory::default());
        let mut device = memory::device(&memory, Curve::P256, Boot::Unknown);
        let mut coap = Coap::new(Settings { seed: 1, ack_timeout_ms: 100, awake_ms: 10, next_wake_s: 1 });
        let mut out = [0; MAX_REQUEST];
        coap.wake(&mut device, 0).unwrap();
        for (now, rubbish) in (0..).zip(&datagrams) {
            if let Next::Send(_) = coap.poll(&mut device, now, &mut out).unwrap() {
                // The right id and token, and rubbish behind them.
                let mut answer = vec![0x64, 0x45, out[2], out[3], out[4], out[5], out[6], out[7]];
                answer.extend_from_slice(rubbish);
                coap.receive(&mut device, &answer, now).unwrap();
            }
            coap.receive(&mut device, rubbish, now).unwrap();
        }
    }
}
