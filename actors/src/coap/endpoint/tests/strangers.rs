//! Peers that may not be where they say (RFC 7252 §11.3, RFC 9175).

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

#[test]
fn whoever_answers_the_ping_gets_what_it_asks_for() {
    let mut endpoint = spent();
    let (_, ping) = fetch(&mut endpoint, &image(1, None), 0);
    reset(&mut endpoint, ping.unwrap(), 1);
    assert_eq!(fetch(&mut endpoint, &image(2, None), 2).0.payload.len(), 1024);
    endpoint.0.receive(peer(), &image(3, None), VERIFIED + 2);
    let Some(Output::Request(incoming)) = endpoint.outputs().pop() else { panic!() };
    assert!(!incoming.ticket.verified, "that was long ago");
}

#[test]
fn who_guesses_has_one_guess_a_ping_and_few_pings() {
    let mut endpoint = spent();
    let (_, ping) = fetch(&mut endpoint, &image(1, None), 0);
    let ping = ping.unwrap();
    reset(&mut endpoint, ping.wrapping_add(1), 1);
    reset(&mut endpoint, ping, 2);
    let (answer, ping) = fetch(&mut endpoint, &image(2, None), 3);
    assert_eq!((answer.payload.len(), ping), (128, None));
    assert!(fetch(&mut endpoint, &image(3, None), PING_PAUSE).1.is_some());
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

/// An observer that may be nowhere is sent little, twice, and then no more; its acknowledgement shows where it is.
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
    assert_eq!(tell(&mut somebody, 3).unwrap().payload.len(), 1024);
}

/// A flood of forged addresses pushes out none that was shown.
#[test]
fn peers_that_were_shown_outlive_those_that_were_not() {
    let mut endpoint = Tested(Endpoint::new(Limits { max_peers: 64, ..Limits::default() }, false, [7; 32]));
    let (_, ping) = fetch(&mut endpoint, &image(1, None), 0);
    reset(&mut endpoint, ping.unwrap(), 1);
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
