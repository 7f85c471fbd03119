use std::net::Ipv4Addr;

use coap_lite::{CoapOption, Packet, RequestType};

use super::super::MAX_DATAGRAM;
use super::super::message::{Format, Method};
use super::super::option::MAX_SZX;
use super::*;

mod late;
mod observe;
mod strangers;

const PEER: (Ipv4Addr, u16) = (Ipv4Addr::new(192, 0, 2, 1), 40_000);

fn peer() -> SocketAddr {
    PEER.into()
}

/// What one datagram leads to, where it leads to one thing.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Received {
    Nothing,
    Send(Bytes),
    Request(Box<Incoming>),
}

/// An endpoint, and what comes out of it at once.
struct Tested(Endpoint);

impl Tested {
    fn with(limits: Limits) -> Self {
        Self(Endpoint::new(limits, true, [7; 32]))
    }

    /// One that does not know who is where.
    fn open() -> Self {
        Self(Endpoint::new(Limits::default(), false, [7; 32]))
    }

    fn outputs(&mut self) -> Vec<Output> {
        std::iter::from_fn(|| self.0.poll()).collect()
    }

    fn datagrams(&mut self) -> Vec<Bytes> {
        let sent = |output| if let Output::Send(_, datagram) = output { Some(datagram) } else { None };
        self.outputs().into_iter().filter_map(sent).collect()
    }

    fn receive(&mut self, from: SocketAddr, datagram: &[u8], now: u64) -> Received {
        self.0.receive(from, datagram, now);
        let mut outputs = self.outputs();
        match (outputs.pop(), outputs.is_empty()) {
            (None, _) => Received::Nothing,
            (Some(Output::Send(to, datagram)), true) if to == from => Received::Send(datagram),
            (Some(Output::Request(incoming)), true) => Received::Request(incoming),
            other => panic!("{other:?} and {outputs:?}"),
        }
    }

    fn respond(&mut self, ticket: Ticket, response: Response) -> Bytes {
        self.0.respond(ticket, response, 0);
        let mut datagrams = self.datagrams();
        assert_eq!(datagrams.len(), 1, "{datagrams:?}");
        datagrams.remove(0)
    }

    fn tick(&mut self, now: u64) -> Vec<Bytes> {
        self.0.tick(now);
        self.datagrams()
    }

    fn peers(&self) -> usize {
        self.0.peers()
    }
}

fn endpoint() -> Tested {
    Tested::with(Limits::default())
}

fn packet(method: RequestType, id: u16, path: &[&str]) -> Packet {
    let mut packet = Packet::new();
    packet.header.set_version(1);
    packet.header.set_type(MessageType::Confirmable);
    packet.header.code = MessageClass::Request(method);
    packet.header.message_id = id;
    packet.set_token(vec![7]);
    for segment in path {
        packet.add_option(CoapOption::UriPath, segment.as_bytes().to_vec());
    }
    packet
}

fn post(id: u16, number: u32, more: bool, payload: &[u8]) -> Vec<u8> {
    let mut packet = packet(RequestType::Post, id, &["ph", "hello"]);
    packet.add_option(CoapOption::Block1, BlockOption { number, more, szx: 0 }.to_bytes());
    packet.payload = payload.to_vec();
    packet.to_bytes().unwrap()
}

fn incoming(received: Received) -> Incoming {
    match received {
        Received::Request(incoming) => *incoming,
        other => panic!("no request: {other:?}"),
    }
}

fn sent(received: Received) -> Packet {
    match received {
        Received::Send(datagram) => Packet::from_bytes(&datagram).unwrap(),
        other => panic!("nothing sent: {other:?}"),
    }
}

fn code(packet: &Packet) -> ResponseType {
    match packet.header.code {
        MessageClass::Response(code) => code,
        other => panic!("no response: {other:?}"),
    }
}

fn text(payload: &'static str) -> Response {
    Response { payload: payload.into(), ..Response::code(ResponseType::Content) }
}

/// RFC 7252, appendix A, figure 16: a confirmable request and a piggybacked response.
#[test]
fn figure_16_of_rfc_7252() {
    let mut endpoint = endpoint();
    let datagram = [&[0x40, 0x01, 0x7d, 0x34, 0xbb][..], b"temperature"].concat();
    let Incoming { ticket, request, .. } = incoming(endpoint.receive(peer(), &datagram, 0));
    assert_eq!((request.method, request.path), (Method::Get, vec!["temperature".to_owned()]));
    let answer = endpoint.respond(ticket, text("22.3 C"));
    assert_eq!(answer, [&[0x60, 0x45, 0x7d, 0x34, 0xff][..], b"22.3 C"].concat());
}

/// Figure 17: the same with a token.
#[test]
fn figure_17_of_rfc_7252() {
    let mut endpoint = endpoint();
    let datagram = [&[0x41, 0x01, 0x7d, 0x35, 0x20, 0xbb][..], b"temperature"].concat();
    let Incoming { ticket, .. } = incoming(endpoint.receive(peer(), &datagram, 0));
    let answer = endpoint.respond(ticket, text("22.3 C"));
    assert_eq!(answer, [&[0x61, 0x45, 0x7d, 0x35, 0x20, 0xff][..], b"22.3 C"].concat());
}

/// Figure 22: a non-confirmable request has a non-confirmable response, with an id of our own.
#[test]
fn a_non_confirmable_request_is_answered_in_kind() {
    let mut endpoint = endpoint();
    let datagram = [&[0x51, 0x01, 0x7d, 0x40, 0x75, 0xbb][..], b"temperature"].concat();
    let Incoming { ticket, .. } = incoming(endpoint.receive(peer(), &datagram, 0));
    let answer = endpoint.respond(ticket, text("22.3 C"));
    assert_eq!(answer[..2], [0x51, 0x45]);
    assert_ne!(answer[2..4], [0x7d, 0x40]);
    assert_eq!(answer[4..], [&[0x75, 0xff][..], b"22.3 C"].concat());
}

/// RFC 7252 §4.3: an empty confirmable message is a ping, answered with a reset.
#[test]
fn a_ping_is_reset() {
    let answer = endpoint().receive(peer(), &[0x40, 0, 0x12, 0x34], 0);
    assert_eq!(answer, Received::Send(Bytes::from_static(&[0x70, 0, 0x12, 0x34])));
}

#[test]
fn what_is_malformed_is_reset_if_confirmable_and_ignored_otherwise() {
    let bodies: [&[u8]; 5] = [
        &[0x01, 0, 1, 0xf0],             // option delta 15
        &[0x01, 0, 1, 0x0f],             // option length 15
        &[0x01, 0, 1, 0xb5, b'a'],       // an option longer than the message
        &[0x01, 0, 1, 0xb1, b'a', 0xff], // a payload marker without a payload
        &[0x00, 0, 1, 0xff, b'x'],       // an empty message with a payload
    ];
    for body in bodies {
        let confirmable = [&[0x40], body].concat();
        let other = [&[0x50], body].concat();
        assert_eq!(
            endpoint().receive(peer(), &confirmable, 0),
            Received::Send(Bytes::from_static(&[0x70, 0, 0, 1])),
            "{body:x?}"
        );
        assert_eq!(endpoint().receive(peer(), &other, 0), Received::Nothing, "{body:x?}");
    }
    let token_of_9 = [&[0x49, 0x01, 0, 1][..], &[0; 9]].concat();
    assert!(matches!(endpoint().receive(peer(), &token_of_9, 0), Received::Send(_)));
}

#[test]
fn short_foreign_and_unexpected_datagrams_are_ignored() {
    for datagram in [&[][..], &[0x40], &[0x40, 1, 0], &[0x80, 1, 0, 1], &[0x00, 1, 0, 1]] {
        assert_eq!(endpoint().receive(peer(), datagram, 0), Received::Nothing, "{datagram:x?}");
    }
    for acknowledgement in [[0x60, 0, 0, 1], [0x70, 0, 0, 1]] {
        assert_eq!(endpoint().receive(peer(), &acknowledgement, 0), Received::Nothing);
    }
    let response = [0x40, 0x45, 0, 1];
    assert!(matches!(endpoint().receive(peer(), &response, 0), Received::Send(_)), "a reset");
}

#[test]
fn an_option_value_that_ends_in_a_marker_byte_is_no_marker() {
    let mut packet = packet(RequestType::Get, 1, &["ph"]);
    packet.add_option(CoapOption::ETag, vec![0xff]);
    let mut datagram = packet.to_bytes().unwrap();
    assert!(matches!(endpoint().receive(peer(), &datagram, 0), Received::Request(_)));
    datagram.clear();
}

#[test]
fn a_repeated_post_is_answered_from_memory_and_worked_on_once() {
    let mut endpoint = endpoint();
    let mut packet = packet(RequestType::Post, 9, &["ph", "status"]);
    packet.payload = vec![1];
    let datagram = packet.to_bytes().unwrap();
    let first = incoming(endpoint.receive(peer(), &datagram, 0));
    assert_eq!(endpoint.receive(peer(), &datagram, 1), Received::Nothing, "it is being worked on");
    let answer = endpoint.respond(first.ticket, Response::code(ResponseType::Changed));
    for now in [2, 246_999] {
        assert_eq!(endpoint.receive(peer(), &datagram, now), Received::Send(answer.clone()));
    }
    assert!(
        matches!(endpoint.receive(peer(), &datagram, 247_001), Received::Request(_)),
        "EXCHANGE_LIFETIME"
    );
    let other = SocketAddr::from((PEER.0, 40_001));
    assert!(matches!(endpoint.receive(other, &datagram, 3), Received::Request(_)), "another peer's id");
}

#[test]
fn a_repeated_get_is_worked_on_again_once_answered() {
    let mut endpoint = endpoint();
    let datagram = packet(RequestType::Get, 9, &["ph", "sign"]).to_bytes().unwrap();
    let first = incoming(endpoint.receive(peer(), &datagram, 0));
    assert_eq!(endpoint.receive(peer(), &datagram, 1), Received::Nothing);
    let _ = endpoint.respond(first.ticket, Response::code(ResponseType::NotFound));
    assert!(matches!(endpoint.receive(peer(), &datagram, 2), Received::Request(_)));
}

#[test]
fn what_is_remembered_of_a_peer_is_bounded() {
    let mut endpoint = endpoint();
    for id in 0..1000 {
        let datagram = packet(RequestType::Post, id, &["ph"]).to_bytes().unwrap();
        let incoming = incoming(endpoint.receive(peer(), &datagram, 0));
        let _ = endpoint.respond(incoming.ticket, Response::code(ResponseType::Changed));
    }
    let old = packet(RequestType::Post, 0, &["ph"]).to_bytes().unwrap();
    assert!(matches!(endpoint.receive(peer(), &old, 0), Received::Request(_)), "forgotten");
    let fresh = packet(RequestType::Post, 999, &["ph"]).to_bytes().unwrap();
    assert!(matches!(endpoint.receive(peer(), &fresh, 0), Received::Send(_)), "remembered");
}

#[test]
fn peers_are_bounded() {
    let limits = Limits { max_peers: 100, ..Limits::default() };
    let mut endpoint = Tested::with(limits);
    let datagram = packet(RequestType::Get, 1, &["ph"]).to_bytes().unwrap();
    for port in 1..5000 {
        let from = SocketAddr::from((PEER.0, port));
        let incoming = incoming(endpoint.receive(from, &datagram, port.into()));
        assert!(endpoint.peers() <= 100);
        let _ = endpoint.respond(incoming.ticket, Response::code(ResponseType::NotFound));
    }
}

#[test]
fn too_many_requests_at_once_are_told_to_come_back() {
    let mut endpoint = Tested::with(Limits { max_working: 1, ..Limits::default() });
    let get = |id| packet(RequestType::Get, id, &["ph"]).to_bytes().unwrap();
    let first = incoming(endpoint.receive(peer(), &get(1), 0));
    let refused = sent(endpoint.receive(peer(), &get(2), 0));
    assert_eq!(code(&refused), ResponseType::ServiceUnavailable);
    assert_eq!(refused.get_first_option(CoapOption::MaxAge), Some(&vec![1]));
    let _ = endpoint.respond(first.ticket, text(""));
    assert!(matches!(endpoint.receive(peer(), &get(2), 0), Received::Request(_)));
}

#[test]
fn critical_options_that_are_not_understood_are_refused_and_elective_ones_skipped() {
    let with = |number: u16, values: usize| {
        let mut packet = packet(RequestType::Get, 1, &["ph"]);
        for _ in 0..values {
            packet.add_option(CoapOption::Unknown(number), vec![1]);
        }
        endpoint().receive(peer(), &packet.to_bytes().unwrap(), 0)
    };
    for number in [1, 5, 9, 21, 33, 0xfffd] {
        assert_eq!(code(&sent(with(number, 1))), ResponseType::BadOption, "{number}");
    }
    assert_eq!(code(&sent(with(35, 1))), ResponseType::ProxyingNotSupported);
    assert_eq!(code(&sent(with(23, 2))), ResponseType::BadOption, "two Block2");
    for number in [4, 6, 12, 258, 2048] {
        assert!(matches!(with(number, 1), Received::Request(_)), "{number}");
    }
}

#[test]
fn other_methods_and_bad_values_have_their_codes() {
    let answer = |packet: &Packet| sent(endpoint().receive(peer(), &packet.to_bytes().unwrap(), 0));
    let put = packet(RequestType::Put, 1, &["ph"]);
    assert_eq!(code(&answer(&put)), ResponseType::MethodNotAllowed);
    let mut block = packet(RequestType::Get, 1, &["ph"]);
    block.add_option(CoapOption::Block2, vec![7]);
    assert_eq!(code(&answer(&block)), ResponseType::BadRequest, "SZX 7");
    let mut path = packet(RequestType::Get, 1, &["ph"]);
    path.add_option(CoapOption::UriPath, vec![0xff, 0xfe]);
    assert_eq!(code(&answer(&path)), ResponseType::BadRequest);
    let deep = packet(RequestType::Get, 1, &["a"; 9]);
    assert_eq!(code(&answer(&deep)), ResponseType::NotFound);
    // RFC 7252 §5.8: methods that nobody has defined yet; §4.2: classes that are none.
    for undefined in [8, 31] {
        let answer = sent(endpoint().receive(peer(), &[0x41, undefined, 0, 1, 7], 0));
        assert_eq!((code(&answer), answer.get_token()), (ResponseType::MethodNotAllowed, &[7][..]));
    }
    for reserved in [0x20, 0xc1, 0xff] {
        let answer = endpoint().receive(peer(), &[0x40, reserved, 0, 1], 0);
        assert_eq!(answer, Received::Send(Bytes::from_static(&[0x70, 0, 0, 1])));
    }
}

/// RFC 7252 §5.4.3: a length that an option cannot have makes a critical one not understood, and an elective one absent.
#[test]
fn options_of_lengths_that_they_cannot_have() {
    let with = |option, value: Vec<u8>| {
        let mut packet = packet(RequestType::Get, 1, &["ph"]);
        packet.add_option(option, value);
        endpoint().receive(peer(), &packet.to_bytes().unwrap(), 0)
    };
    for (option, len) in [
        (CoapOption::UriHost, 0),
        (CoapOption::UriHost, 256),
        (CoapOption::UriPort, 3),
        (CoapOption::UriPath, 256),
        (CoapOption::UriQuery, 256),
        (CoapOption::Accept, 3),
        (CoapOption::Block1, 4),
        (CoapOption::Block2, 4),
    ] {
        assert_eq!(code(&sent(with(option, vec![0; len]))), ResponseType::BadOption, "{option:?} of {len}");
    }
    for (option, len) in
        [(CoapOption::ETag, 0), (CoapOption::ETag, 9), (CoapOption::Observe, 4), (CoapOption::Size1, 5)]
    {
        let request = incoming(with(option, vec![0; len])).request;
        assert!(request.etags.is_empty() && request.observe.is_none(), "{option:?} of {len}");
    }
}

/// RFC 7252 §5.4.1: nothing answers a message that is not confirmable and says what is not understood.
#[test]
fn a_bad_option_in_a_message_that_is_not_confirmable_is_ignored() {
    let mut packet = packet(RequestType::Get, 1, &["ph"]);
    packet.header.set_type(MessageType::NonConfirmable);
    packet.add_option(CoapOption::Unknown(2049), vec![1]);
    assert_eq!(endpoint().receive(peer(), &packet.to_bytes().unwrap(), 0), Received::Nothing);
}

/// RFC 7252 §4.5, §4.8.2: one that is repeated is not answered twice, until its id may mean another.
#[test]
fn a_repeated_message_that_is_not_confirmable_is_ignored() {
    let mut endpoint = endpoint();
    let mut packet = packet(RequestType::Post, 1, &["ph"]);
    packet.header.set_type(MessageType::NonConfirmable);
    let datagram = packet.to_bytes().unwrap();
    let ticket = incoming(endpoint.receive(peer(), &datagram, 0)).ticket;
    assert_eq!(endpoint.receive(peer(), &datagram, 1), Received::Nothing);
    let _ = endpoint.respond(ticket, text("x"));
    assert_eq!(endpoint.receive(peer(), &datagram, 144_999), Received::Nothing);
    assert!(matches!(endpoint.receive(peer(), &datagram, 145_000), Received::Request(_)), "NON_LIFETIME");
}

/// RFC 7959 §3.2, figure 6 in small: each block is acknowledged with 2.31, the last with the answer.
#[test]
fn a_body_in_blocks_arrives_whole() {
    let mut endpoint = endpoint();
    for (number, chunk) in [[1; 16], [2; 16]].iter().enumerate() {
        let number = number as u32;
        let answer = sent(endpoint.receive(peer(), &post(number as u16, number, true, chunk), 0));
        assert_eq!(code(&answer), ResponseType::Continue);
        let block1 = answer.get_first_option(CoapOption::Block1).unwrap();
        assert_eq!(*block1, BlockOption { number, more: true, szx: 0 }.to_bytes());
    }
    let last = incoming(endpoint.receive(peer(), &post(2, 2, false, &[3; 5]), 0));
    assert_eq!(last.request.payload, [vec![1; 16], vec![2; 16], vec![3; 5]].concat());
    let answer = endpoint.respond(last.ticket, Response::code(ResponseType::Changed));
    let answer = Packet::from_bytes(&answer).unwrap();
    let block1 = BlockOption { number: 2, more: false, szx: 0 }.to_bytes();
    assert_eq!(answer.get_first_option(CoapOption::Block1), Some(&block1));
}

#[test]
fn a_repeated_block_of_a_body_is_not_added_twice() {
    let mut endpoint = endpoint();
    let first = post(0, 0, true, &[1; 16]);
    let answer = endpoint.receive(peer(), &first, 0);
    assert_eq!(endpoint.receive(peer(), &first, 1), answer);
    let last = incoming(endpoint.receive(peer(), &post(1, 1, false, &[2]), 2));
    assert_eq!(last.request.payload.len(), 17);
}

#[test]
fn a_missing_forgotten_or_short_block_of_a_body_is_refused() {
    let refused =
        |endpoint: &mut Tested, datagram: &[u8], now| code(&sent(endpoint.receive(peer(), datagram, now)));
    let incomplete = ResponseType::RequestEntityIncomplete;
    assert_eq!(refused(&mut endpoint(), &post(1, 1, true, &[0; 16]), 0), incomplete, "no first one");
    let mut gap = endpoint();
    let _ = gap.receive(peer(), &post(1, 0, true, &[0; 16]), 0);
    assert_eq!(refused(&mut gap, &post(2, 2, true, &[0; 16]), 0), incomplete);
    let mut late = endpoint();
    let _ = late.receive(peer(), &post(1, 0, true, &[0; 16]), 0);
    assert_eq!(refused(&mut late, &post(2, 1, true, &[0; 16]), 300_000), incomplete);
    assert_eq!(refused(&mut endpoint(), &post(1, 0, true, &[0; 15]), 0), ResponseType::BadRequest);
}

#[test]
fn a_body_that_is_too_long_is_refused_with_the_bound() {
    let mut endpoint = endpoint();
    for number in 0..64_u16 {
        let answer = sent(endpoint.receive(peer(), &post(number, number.into(), true, &[0; 16]), 0));
        assert_eq!(code(&answer), ResponseType::Continue);
    }
    let answer = sent(endpoint.receive(peer(), &post(64, 64, true, &[0; 16]), 0));
    assert_eq!(code(&answer), ResponseType::RequestEntityTooLarge);
    assert_eq!(answer.get_first_option(CoapOption::Size1), Some(&vec![4, 0]));
}

/// Header and options of a datagram that is longer than may be read are there; how long its body is nobody knows.
#[test]
fn a_request_in_a_datagram_that_may_be_cut_off_is_too_large() {
    let answer = |len: usize, confirmable: bool| {
        let mut packet = packet(RequestType::Post, 1, &["ph", "hello"]);
        if !confirmable {
            packet.header.set_type(MessageType::NonConfirmable);
        }
        // So many bytes of options that the body is short.
        packet.add_option(CoapOption::Unknown(2048), vec![0; MAX_DATAGRAM - 200]);
        let rest = len - packet.to_bytes_unlimited().unwrap().len() - 1;
        packet.payload = vec![1; rest];
        let datagram = packet.to_bytes_unlimited().unwrap();
        assert_eq!(datagram.len(), len);
        endpoint().receive(peer(), &datagram, 0)
    };
    assert!(matches!(answer(MAX_DATAGRAM - 1, true), Received::Request(_)));
    for confirmable in [true, false] {
        let refused = sent(answer(MAX_DATAGRAM, confirmable));
        assert_eq!(code(&refused), ResponseType::RequestEntityTooLarge);
        assert_eq!(refused.get_first_option(CoapOption::Size1), Some(&vec![4, 0]));
    }
}

/// What was asked in one session is no answer in the next one at its address, whoever is there now.
#[test]
fn an_answer_goes_to_the_session_that_asked() {
    let mut endpoint = endpoint();
    let get = packet(RequestType::Get, 1, &["ph", "manifest"]).to_bytes().unwrap();
    let old = incoming(endpoint.receive(peer(), &get, 0)).ticket;
    endpoint.0.forget(peer());
    let new = incoming(endpoint.receive(peer(), &get, 1)).ticket;
    endpoint.0.sleep(&old);
    endpoint.0.respond(old, text("another's"), 2);
    assert!(endpoint.outputs().is_empty());
    assert!(!endpoint.0.peers.find(&peer()).unwrap().asleep);
    assert_eq!(Packet::from_bytes(&endpoint.respond(new, text("its own"))).unwrap().payload, b"its own");
    let gone = incoming(endpoint.receive(peer(), &get, 3)).ticket;
    endpoint.0.forget(peer());
    endpoint.0.respond(gone, text("nobody's"), 4);
    assert!(endpoint.outputs().is_empty());
    assert_eq!(endpoint.0.working, 0, "and its place is free");
}

#[test]
fn a_long_answer_is_cut_into_the_blocks_that_are_asked_for() {
    let body: Vec<u8> = (0..=255).cycle().take(2500).collect();
    let mut got = Vec::new();
    for number in 0..40_u32 {
        let mut endpoint = endpoint();
        let mut ask = packet(RequestType::Get, 1, &["x"]);
        ask.add_option(CoapOption::Block2, BlockOption { number, more: false, szx: 2 }.to_bytes());
        let incoming = incoming(endpoint.receive(peer(), &ask.to_bytes().unwrap(), 0));
        let response = Response::content(Format::Octets, body.clone());
        let answer = Packet::from_bytes(&endpoint.respond(incoming.ticket, response)).unwrap();
        let block = BlockOption::of(&answer, CoapOption::Block2).unwrap().unwrap();
        assert_eq!((block.number, block.more, block.szx), (number, number < 39, 2));
        got.extend_from_slice(&answer.payload);
    }
    assert_eq!(got, body);
}

#[test]
fn without_a_block_option_a_long_answer_begins_with_its_first_kilobyte() {
    let mut endpoint = endpoint();
    let ask = packet(RequestType::Get, 1, &["x"]).to_bytes().unwrap();
    let incoming = incoming(endpoint.receive(peer(), &ask, 0));
    let response = Response::content(Format::Octets, vec![1; 1025]);
    let answer = Packet::from_bytes(&endpoint.respond(incoming.ticket, response)).unwrap();
    assert_eq!(answer.payload.len(), 1024);
    assert_eq!(answer.get_first_option(CoapOption::Size2), Some(&vec![4, 1]));
    let block = BlockOption::of(&answer, CoapOption::Block2).unwrap().unwrap();
    assert_eq!(block, BlockOption { number: 0, more: true, szx: 6 });
}

#[test]
fn a_block_past_the_end_is_refused() {
    let mut endpoint = endpoint();
    let mut ask = packet(RequestType::Get, 1, &["x"]);
    let far = BlockOption { number: BlockOption::MAX_NUMBER, more: false, szx: 6 };
    ask.add_option(CoapOption::Block2, far.to_bytes());
    let incoming = incoming(endpoint.receive(peer(), &ask.to_bytes().unwrap(), 0));
    let response = Response::content(Format::Octets, vec![1; 100]);
    let answer = Packet::from_bytes(&endpoint.respond(incoming.ticket, response)).unwrap();
    assert_eq!(code(&answer), ResponseType::BadRequest);
}

proptest::proptest! {
    /// Every byte from outside is hostile: no datagram is answered with more than a few bytes, and
    /// none brings the endpoint down.
    #[test]
    fn rubbish_does_no_harm(datagrams in proptest::collection::vec(proptest::collection::vec(proptest::num::u8::ANY, 0..64), 1..20)) {
        let mut endpoint = endpoint();
        for (now, datagram) in datagrams.iter().enumerate() {
            endpoint.0.receive(peer(), datagram, now as u64);
            for output in endpoint.outputs() {
                match output {
                    Output::Send(_, answer) => proptest::prop_assert!(answer.len() < 64),
                    Output::Request(incoming) => {
                        endpoint.0.respond(incoming.ticket, Response::code(ResponseType::NotFound), now as u64);
                    }
                }
            }
            endpoint.0.tick(now as u64);
        }
    }
}
