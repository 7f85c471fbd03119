//! Peers that may not be where they say (RFC 7252 §11.3, RFC 9175).

use super::super::path::{PING_PAUSE, PINGS, VERIFIED};
use super::*;

fn image(id: u16, echo: Option<Vec<u8>>) -> Vec<u8> {
    let mut packet = packet(RequestType::Get, id, &["ph", "image", &"ab".repeat(32)]);
    packet.add_option(CoapOption::Block2, BlockOption { number: 0, more: false, szx: 6 }.to_bytes());
    if let Some(echo) = echo {
        packet.add_option(CoapOption::Unknown(252), echo);
    }
    packet.to_bytes().unwrap()
}

/// An endpoint that has given this host all that it gives to strangers.
fn spent() -> Tested {
    let mut endpoint = Tested::open();
    for port in 1..=3 {
        let from = SocketAddr::from((PEER.0, port));
        endpoint.0.receive(from, &image(1, None), 0);
        let Some(Output::Request(incoming)) = endpoint.outputs().pop() else { panic!() };
        assert_eq!(incoming.ticket.max_szx(), MAX_SZX, "in full");
        endpoint.0.respond(incoming.ticket, Response::code(ResponseType::NotFound), 0);
        endpoint.outputs();
    }
    endpoint
}

fn long() -> Response {
    Response::content(Format::Octets, vec![1; 5000]).with_etag([1; 8])
}

/// The answer, and the ping beside it.
fn fetch(endpoint: &mut Tested, datagram: &[u8], now: u64) -> (Packet, Option<u16>) {
    endpoint.0.receive(peer(), datagram, now);
    let mut outputs = endpoint.outputs();
    let Some(Output::Request(incoming)) = outputs.pop() else { panic!("{outputs:?}") };
    endpoint.0.respond(incoming.ticket, long(), now);
    let mut datagrams = endpoint.datagrams();
    let answer = datagrams.pop().unwrap();
    let all: usize = datagrams.iter().map(Bytes::len).sum::<usize>() + answer.len();
    let answer = Packet::from_bytes(&answer).unwrap();
    if answer.payload.len() < 1024 {
        assert!(all <= 3 * datagram.len(), "{all} for {}", datagram.len());
    }
    let ping = datagrams.pop().map(|ping| {
        assert_eq!(ping[..2], [0x40, 0]);
        u16::from_be_bytes([ping[2], ping[3]])
    });
    assert!(datagrams.is_empty());
    (answer, ping)
}

fn reset(endpoint: &mut Tested, id: u16, now: u64) {
    let [high, low] = id.to_be_bytes();
    endpoint.0.receive(peer(), &[0x70, 0, high, low], now);
}

#[test]
fn whoever_sends_the_echo_back_gets_what_it_asks_for() {
    let mut endpoint = spent();
    let (first, _) = fetch(&mut endpoint, &image(1, None), 0);
    assert_eq!(first.payload.len(), 128);
    let echo = first.get_first_option(CoapOption::Unknown(252)).unwrap().clone();
    let (second, ping) = fetch(&mut endpoint, &image(2, Some(echo.clone())), 1);
    assert_eq!((second.payload.len(), ping), (1024, None));
    assert!(second.get_first_option(CoapOption::Unknown(252)).is_none());
    let (third, _) = fetch(&mut endpoint, &image(3, None), 2);
    assert_eq!(third.payload.len(), 1024, "it is remembered");
    let elsewhere = SocketAddr::from((PEER.0, 9));
    endpoint.0.receive(elsewhere, &image(4, Some(echo)), 3);
    let Some(Output::Request(incoming)) = endpoint.outputs().pop() else { panic!() };
    assert!(!incoming.ticket.verified, "another's echo shows nothing");
}

/// Answers pings from the first one on, until no further one comes.
fn answer_pings(endpoint: &mut Tested, first: u16, now: u64) -> u8 {
    let (mut count, mut next) = (0, Some(first));
    while let Some(id) = next {
        count += 1;
        reset(endpoint, id, now);
        let datagrams = endpoint.datagrams();
        assert!(datagrams.len() <= 1);
        next = datagrams.first().map(|ping| {
            assert_eq!(ping[..2], [0x40, 0]);
            u16::from_be_bytes([ping[2], ping[3]])
        });
    }
    count
}

fn is_verified(endpoint: &mut Tested, now: u64) -> bool {
    endpoint.0.is_verified(&peer(), now)
}

#[test]
fn whoever_answers_the_pings_gets_what_it_asks_for() {
    let mut endpoint = spent();
    let (_, ping) = fetch(&mut endpoint, &image(1, None), 0);
    assert_eq!(answer_pings(&mut endpoint, ping.unwrap(), 1), PINGS);
    assert_eq!(fetch(&mut endpoint, &image(2, None), 2).0.payload.len(), 1024);
    assert!(!is_verified(&mut endpoint, VERIFIED + 1), "that was long ago");
}

/// The answers to pings come before the question after the last answer in full: such a client keeps to its size of block.
#[test]
fn a_client_that_answers_pings_is_shown_before_its_answers_in_full_are_used_up() {
    let mut endpoint = Tested::open();
    let (answer, mut ping) = fetch(&mut endpoint, &image(1, None), 0);
    assert_eq!(answer.payload.len(), 1024);
    for round in 2..20 {
        // Before its next question it answers what came with the last answer.
        if let Some(id) = ping.take() {
            reset(&mut endpoint, id, u64::from(round));
            ping = endpoint.datagrams().pop().map(|ping| u16::from_be_bytes([ping[2], ping[3]]));
        }
        let (answer, more) = fetch(&mut endpoint, &image(round, None), u64::from(round));
        assert_eq!((answer.payload.len(), more), (1024, None));
    }
}

#[test]
fn who_guesses_has_one_guess_a_ping_and_few_pings() {
    let mut endpoint = spent();
    let (_, ping) = fetch(&mut endpoint, &image(1, None), 0);
    let ping = ping.unwrap();
    reset(&mut endpoint, ping.wrapping_add(1), 1);
    reset(&mut endpoint, ping, 2);
    assert!(endpoint.datagrams().is_empty());
    let (answer, ping) = fetch(&mut endpoint, &image(2, None), 3);
    assert_eq!((answer.payload.len(), ping), (128, None));
    assert!(fetch(&mut endpoint, &image(3, None), PING_PAUSE).1.is_some());
}

#[test]
fn a_right_guess_is_worth_nothing_after_a_wrong_one() {
    let mut endpoint = spent();
    let (_, ping) = fetch(&mut endpoint, &image(1, None), 0);
    reset(&mut endpoint, ping.unwrap(), 1);
    let second = endpoint.datagrams().pop().unwrap();
    reset(&mut endpoint, u16::from_be_bytes([second[2], second[3]]).wrapping_add(1), 2);
    let (_, ping) = fetch(&mut endpoint, &image(2, None), PING_PAUSE + 2);
    assert_eq!(answer_pings(&mut endpoint, ping.unwrap(), PING_PAUSE + 3), PINGS, "all of them again");
    assert!(is_verified(&mut endpoint, PING_PAUSE + 4));
}

/// Sixteen bits are all sent in a moment: whoever is nowhere shows nothing with them, by a ping or by a notification.
#[test]
fn all_ids_there_are_show_nothing() {
    let mut endpoint = spent();
    let flood = |endpoint: &mut Tested, kind: u8, now| {
        for id in 0..=u16::MAX {
            let [high, low] = id.to_be_bytes();
            endpoint.0.receive(peer(), &[0x40 | (kind << 4), 0, high, low], now);
        }
        endpoint.outputs();
    };
    for round in 0..4_u16 {
        let now = u64::from(round) * PING_PAUSE;
        assert!(fetch(&mut endpoint, &image(round, None), now).1.is_some());
        flood(&mut endpoint, 3, now);
        assert!(!is_verified(&mut endpoint, now));
    }
    let device = DeviceId::new([1; 16]);
    let mut ask = packet(RequestType::Get, 100, &["ph", "manifest"]);
    ask.add_option(CoapOption::Observe, vec![]);
    let ticket = incoming(endpoint.receive(peer(), &ask.to_bytes().unwrap(), 0)).ticket;
    endpoint.0.respond(ticket, Response { watch: Some(device), ..text("old") }, 0);
    endpoint.outputs();
    for round in 0..4 {
        endpoint.0.changed(&device, round);
        let Some(Output::Request(incoming)) = endpoint.outputs().pop() else { panic!() };
        endpoint.0.respond(incoming.ticket, Response { watch: Some(device), ..long() }, round);
        let told = endpoint.datagrams().pop().unwrap();
        assert!(told.len() < 64);
        flood(&mut endpoint, 2, round);
        assert!(!is_verified(&mut endpoint, round));
    }
}

/// An answer that is late goes out twice to who may be nowhere, not five times.
#[test]
fn a_late_answer_to_nobody_is_not_repeated_for_long() {
    let mut endpoint = spent();
    endpoint.0.receive(peer(), &image(9, None), 0);
    let Some(Output::Request(incoming)) = endpoint.outputs().pop() else { panic!() };
    assert_eq!(endpoint.tick(1_000).len(), 1, "acknowledged");
    endpoint.0.respond(incoming.ticket, long(), 1_000);
    let mut sent: Vec<Bytes> = endpoint.datagrams();
    sent.retain(|datagram| datagram.len() > 4);
    while let Some(at) = endpoint.0.deadline() {
        sent.extend(endpoint.tick(at));
    }
    assert_eq!(sent.len(), 2);
    assert!(sent.iter().all(|datagram| datagram.len() <= 3 * image(9, None).len()));
}

/// Blocks that are asked for small are served as asked.
#[test]
fn small_blocks_are_for_everybody() {
    let mut endpoint = spent();
    let mut ask = packet(RequestType::Get, 1, &["ph", "image", &"ab".repeat(32)]);
    ask.add_option(CoapOption::Block2, BlockOption { number: 7, more: false, szx: 2 }.to_bytes());
    let (answer, _) = fetch(&mut endpoint, &ask.to_bytes().unwrap(), 0);
    assert_eq!(answer.payload.len(), 64);
}

#[test]
fn a_short_question_gets_no_diagnostic() {
    let mut endpoint = Tested::open();
    let put = [0x40, 3, 0, 1];
    let answer = sent(endpoint.receive(peer(), &put, 0));
    assert_eq!((code(&answer), answer.payload.len()), (ResponseType::MethodNotAllowed, 0));
}

/// An observer that may be nowhere is sent little, twice, and then no more; one that acknowledges it is told further.
#[test]
fn a_notification_to_nobody_is_short_and_not_repeated_for_long() {
    let device = DeviceId::new([1; 16]);
    let observed = || {
        let mut endpoint = Tested::open();
        let mut ask = packet(RequestType::Get, 1, &["ph", "manifest"]);
        ask.add_option(CoapOption::Observe, vec![]);
        let ticket = incoming(endpoint.receive(peer(), &ask.to_bytes().unwrap(), 0)).ticket;
        endpoint.0.respond(ticket, Response { watch: Some(device), ..text("old") }, 0);
        assert_eq!(endpoint.datagrams().len(), 2, "a ping and the answer");
        endpoint
    };
    let tell = |endpoint: &mut Tested, now| {
        endpoint.0.changed(&device, now);
        let Some(Output::Request(incoming)) = endpoint.outputs().pop() else { return None };
        endpoint.0.respond(incoming.ticket, Response { watch: Some(device), ..long() }, now);
        endpoint.datagrams().pop().map(|told| Packet::from_bytes(&told).unwrap())
    };
    let mut nobody = observed();
    assert_eq!(tell(&mut nobody, 1).unwrap().payload.len(), 16);
    let mut again = 0;
    while let Some(at) = nobody.0.deadline() {
        again += nobody.tick(at).len();
    }
    assert_eq!(again, 1);
    assert!(tell(&mut nobody, 100_000).is_none());

    let mut somebody = observed();
    let told = tell(&mut somebody, 1).unwrap();
    let [high, low] = told.header.message_id.to_be_bytes();
    somebody.0.receive(peer(), &[0x60, 0, high, low], 2);
    assert_eq!(tell(&mut somebody, 3).unwrap().payload.len(), 16, "it may have been guessed");
}

/// Observations from forged addresses push out no sensor's own, neither those of its device nor in all.
#[test]
fn a_forged_observation_takes_no_place_of_one_that_was_shown() {
    let device = DeviceId::new([1; 16]);
    let limits = Limits { max_observers: 8, ..Limits::default() };
    let mut endpoint = Tested(Endpoint::new(limits, false, [7; 32]));
    let observe = |endpoint: &mut Tested, from: SocketAddr, device| {
        let mut ask = packet(RequestType::Get, 1, &["ph", "manifest"]);
        ask.add_option(CoapOption::Observe, vec![]);
        if from == peer() {
            let proof = endpoint.0.dice.proof(from, 0);
            ask.add_option(CoapOption::Unknown(252), proof.to_vec());
        }
        let ticket = incoming(endpoint.receive(from, &ask.to_bytes().unwrap(), 0)).ticket;
        endpoint.0.respond(ticket, Response { watch: Some(device), ..text("x") }, 0);
        let answer = Packet::from_bytes(&endpoint.datagrams().pop().unwrap()).unwrap();
        answer.get_first_option(CoapOption::Observe).is_some()
    };
    let forged = |port| SocketAddr::from((Ipv4Addr::new(198, 51, 100, 1), port));
    assert!((1..=4).all(|port| observe(&mut endpoint, forged(port), device)), "there is room");
    assert!(observe(&mut endpoint, peer(), device), "for who was shown there always is");
    for port in 5..100 {
        observe(&mut endpoint, forged(port), device);
        observe(&mut endpoint, forged(1000 + port), DeviceId::new([port as u8; 16]));
    }
    assert!(endpoint.0.peers.observers() <= 5, "half of all, and its own");
    endpoint.0.changed(&device, 1);
    let told = endpoint.outputs();
    let own =
        |output: &Output| matches!(output, Output::Request(incoming) if incoming.ticket.peer() == peer());
    assert!(told.len() <= 4 && told.iter().any(own), "{told:?}");
}

/// A flood of forged addresses pushes out none that was shown.
#[test]
fn peers_that_were_shown_outlive_those_that_were_not() {
    let mut endpoint = Tested(Endpoint::new(Limits { max_peers: 64, ..Limits::default() }, false, [7; 32]));
    let (_, ping) = fetch(&mut endpoint, &image(1, None), 0);
    answer_pings(&mut endpoint, ping.unwrap(), 1);
    for port in 1..10_000 {
        let from = SocketAddr::from((PEER.0, port));
        endpoint.0.receive(from, &image(1, None), 2);
        for output in endpoint.outputs() {
            if let Output::Request(incoming) = output {
                endpoint.0.respond(incoming.ticket, Response::code(ResponseType::NotFound), 2);
            }
        }
        endpoint.outputs();
        assert!(endpoint.peers() <= 64);
    }
    assert_eq!(fetch(&mut endpoint, &image(2, None), 3).0.payload.len(), 1024);
}
