//! Observers (RFC 7641).

use super::super::observe::MAX_WATCHERS;
use super::*;

const DEVICE: DeviceId = DeviceId::new([0xd0; 16]);

fn get(id: u16, token: u8, observe: Option<u8>) -> Vec<u8> {
    let mut packet = packet(RequestType::Get, id, &["ph", "manifest"]);
    packet.set_token(vec![token]);
    if let Some(observe) = observe {
        packet.add_option(CoapOption::Observe, if observe == 0 { vec![] } else { vec![observe] });
    }
    packet.to_bytes().unwrap()
}

fn watched(payload: &'static str) -> Response {
    Response { watch: Some(DEVICE), ..text(payload) }
}

fn ask(endpoint: &mut Tested, from: SocketAddr, datagram: &[u8]) -> Packet {
    let ticket = incoming(endpoint.receive(from, datagram, 0)).ticket;
    Packet::from_bytes(&endpoint.respond(ticket, watched("old"))).unwrap()
}

fn place(packet: &Packet) -> Option<u32> {
    let value = packet.get_first_option(CoapOption::Observe)?;
    Some(value.iter().fold(0, |place, byte| (place << 8) | u32::from(*byte)))
}

/// What the endpoint asks for itself, to tell the observer.
fn due(endpoint: &mut Tested) -> Option<Incoming> {
    let mut outputs = endpoint.outputs();
    assert!(outputs.len() <= 1, "{outputs:?}");
    outputs.pop().map(|output| match output {
        Output::Request(incoming) => *incoming,
        other => panic!("{other:?}"),
    })
}

fn tell(endpoint: &mut Tested, response: Response, now: u64) -> Packet {
    let incoming = due(endpoint).expect("a notification is due");
    assert!(!incoming.ticket.is_live() && incoming.device == Some(DEVICE));
    endpoint.0.respond(incoming.ticket, response, now);
    let datagrams = endpoint.datagrams();
    assert_eq!(datagrams.len(), 1);
    Packet::from_bytes(&datagrams[0]).unwrap()
}

fn settle(endpoint: &mut Tested, kind: u8, packet: &Packet, now: u64) {
    let [high, low] = packet.header.message_id.to_be_bytes();
    endpoint.0.receive(peer(), &[0x40 | (kind << 4), 0, high, low], now);
}

const ACK: u8 = 2;
const RESET: u8 = 3;

#[test]
fn an_observer_is_told_of_each_change_in_order() {
    let mut endpoint = endpoint();
    let mut last = place(&ask(&mut endpoint, peer(), &get(1, 5, Some(0)))).expect("registered");
    for now in [10, 20, 30] {
        endpoint.0.changed(&DEVICE, now);
        let told = tell(&mut endpoint, watched("new"), now);
        assert_eq!(told.header.get_type(), MessageType::Confirmable);
        assert_eq!((told.get_token(), &told.payload[..]), (&[5][..], &b"new"[..]));
        let next = place(&told).unwrap();
        assert!(next > last);
        last = next;
        settle(&mut endpoint, ACK, &told, now + 1);
    }
    endpoint.0.changed(&DeviceId::new([0; 16]), 40);
    assert!(due(&mut endpoint).is_none(), "another device");
}

/// RFC 7641 §4.5.2: while one is out the next waits, and is the newest then.
#[test]
fn changes_while_one_is_not_acknowledged_are_told_once() {
    let mut endpoint = endpoint();
    ask(&mut endpoint, peer(), &get(1, 5, Some(0)));
    endpoint.0.changed(&DEVICE, 1);
    let first = tell(&mut endpoint, watched("a"), 1);
    endpoint.0.changed(&DEVICE, 2);
    endpoint.0.changed(&DEVICE, 3);
    assert!(due(&mut endpoint).is_none());
    settle(&mut endpoint, ACK, &first, 4);
    let second = tell(&mut endpoint, watched("b"), 4);
    settle(&mut endpoint, ACK, &second, 5);
    assert!(due(&mut endpoint).is_none());
}

#[test]
fn a_change_while_the_answer_is_being_made_is_told_afterwards() {
    let mut endpoint = endpoint();
    ask(&mut endpoint, peer(), &get(1, 5, Some(0)));
    endpoint.0.changed(&DEVICE, 1);
    let incoming = due(&mut endpoint).unwrap();
    endpoint.0.changed(&DEVICE, 1);
    assert!(due(&mut endpoint).is_none());
    endpoint.0.respond(incoming.ticket, watched("a"), 1);
    let first = Packet::from_bytes(&endpoint.datagrams()[0]).unwrap();
    settle(&mut endpoint, ACK, &first, 2);
    assert!(due(&mut endpoint).is_some());
}

#[test]
fn observing_ends_by_reset_by_deregistration_by_an_error_and_by_silence() {
    let ended = |endpoint: &mut Tested, now| {
        endpoint.0.changed(&DEVICE, now);
        assert!(due(endpoint).is_none());
    };
    let observed = || {
        let mut endpoint = endpoint();
        ask(&mut endpoint, peer(), &get(1, 5, Some(0)));
        endpoint
    };

    let mut reset = observed();
    reset.0.changed(&DEVICE, 1);
    let told = tell(&mut reset, watched("a"), 1);
    settle(&mut reset, RESET, &told, 2);
    ended(&mut reset, 3);

    let mut deregistered = observed();
    let answer = ask(&mut deregistered, peer(), &get(2, 5, Some(1)));
    assert_eq!(place(&answer), None);
    ended(&mut deregistered, 1);

    let mut failed = observed();
    failed.0.changed(&DEVICE, 1);
    let told = tell(&mut failed, Response::code(ResponseType::NotFound), 1);
    assert_eq!((code(&told), place(&told)), (ResponseType::NotFound, None));
    settle(&mut failed, ACK, &told, 2);
    ended(&mut failed, 3);

    let mut silent = observed();
    silent.0.changed(&DEVICE, 1);
    tell(&mut silent, watched("a"), 1);
    let mut now = 1;
    for _ in 0..5 {
        now = silent.0.deadline().unwrap();
        silent.tick(now);
    }
    ended(&mut silent, now + 1);
}

#[test]
fn only_a_first_block_and_a_success_register() {
    let mut endpoint = endpoint();
    let mut later = packet(RequestType::Get, 1, &["ph"]);
    later.add_option(CoapOption::Observe, vec![]);
    later.add_option(CoapOption::Block2, BlockOption { number: 1, more: false, szx: 0 }.to_bytes());
    let ticket = incoming(endpoint.receive(peer(), &later.to_bytes().unwrap(), 0)).ticket;
    let long = Response { watch: Some(DEVICE), ..text("more than sixteen bytes") };
    assert_eq!(place(&Packet::from_bytes(&endpoint.respond(ticket, long)).unwrap()), None);
    let ticket = incoming(endpoint.receive(peer(), &get(2, 6, Some(0)), 0)).ticket;
    let failed = Response { watch: Some(DEVICE), ..Response::code(ResponseType::NotFound) };
    assert_eq!(place(&Packet::from_bytes(&endpoint.respond(ticket, failed)).unwrap()), None);
    assert_eq!(place(&ask(&mut endpoint, peer(), &get(3, 7, None))), None);
    assert_eq!(place(&ask(&mut endpoint, peer(), &get(4, 7, Some(2)))), None);
    endpoint.0.changed(&DEVICE, 1);
    assert!(due(&mut endpoint).is_none());
}

#[test]
fn the_same_token_takes_its_own_place_and_the_oldest_goes_at_the_bound() {
    let mut endpoint = endpoint();
    for id in 0..20 {
        assert!(place(&ask(&mut endpoint, peer(), &get(id, 5, Some(0)))).is_some());
    }
    for token in 6..20 {
        assert!(place(&ask(&mut endpoint, peer(), &get(100 + u16::from(token), token, Some(0)))).is_some());
    }
    endpoint.0.changed(&DEVICE, 1);
    let mut told = Vec::new();
    while let Some(incoming) = due(&mut endpoint) {
        endpoint.0.respond(incoming.ticket, watched("x"), 1);
        let packet = Packet::from_bytes(&endpoint.datagrams()[0]).unwrap();
        told.push(packet.get_token()[0]);
        settle(&mut endpoint, ACK, &packet, 1);
    }
    assert_eq!(told, [16, 17, 18, 19]);
}

#[test]
fn observers_are_bounded_in_all_and_for_each_device() {
    let mut endpoint = Tested::with(Limits { max_observers: 3, ..Limits::default() });
    let from = |port| SocketAddr::from((PEER.0, port));
    let registered =
        (1..=5).filter(|port| place(&ask(&mut endpoint, from(*port), &get(1, 5, Some(0)))).is_some());
    assert_eq!(registered.count(), 3, "the others are answered");
    let mut crowd = self::endpoint();
    for port in 1..=9 {
        ask(&mut crowd, from(port), &get(1, 5, Some(0)));
    }
    crowd.0.changed(&DEVICE, 1);
    assert_eq!(crowd.outputs().len(), MAX_WATCHERS, "the newest");
}

/// Queue mode: what is due waits for the sensor's next word, and comes after its answer.
#[test]
fn a_sleeping_observer_is_told_when_it_wakes() {
    let mut endpoint = endpoint();
    ask(&mut endpoint, peer(), &get(1, 5, Some(0)));
    let status = packet(RequestType::Post, 9, &["ph", "status"]).to_bytes().unwrap();
    let ticket = incoming(endpoint.receive(peer(), &status, 0)).ticket;
    endpoint.0.sleep(&ticket);
    let _ = endpoint.respond(ticket, Response::code(ResponseType::Changed));
    endpoint.0.changed(&DEVICE, 1);
    assert!(due(&mut endpoint).is_none());
    let hello = packet(RequestType::Post, 2, &["ph", "hello"]).to_bytes().unwrap();
    endpoint.0.receive(peer(), &hello, 2);
    let outputs = endpoint.outputs();
    let [Output::Request(hello), Output::Request(told)] = &outputs[..] else { panic!("{outputs:?}") };
    assert!(hello.ticket.is_live() && !told.ticket.is_live());
}
