//! Separate responses and retransmission (RFC 7252 §4.2, §5.2.2).

use super::*;

/// A request whose answer is late, and the acknowledgement that it had.
fn late(endpoint: &mut Tested, id: u16) -> Ticket {
    let datagram = packet(RequestType::Post, id, &["ph"]).to_bytes().unwrap();
    let ticket = incoming(endpoint.receive(peer(), &datagram, 0)).ticket;
    assert_eq!(endpoint.0.deadline(), Some(1_000));
    assert!(endpoint.tick(999).is_empty());
    assert_eq!(endpoint.tick(1_000), [Bytes::copy_from_slice(&[0x60, 0, 0, id as u8])]);
    assert_eq!(endpoint.receive(peer(), &datagram, 1_001), Received::Send(message::acknowledgement(id)));
    ticket
}

fn answer(endpoint: &mut Tested, ticket: Ticket, now: u64) -> Packet {
    endpoint.0.respond(ticket, text("late"), now);
    let datagrams = endpoint.datagrams();
    assert_eq!(datagrams.len(), 1);
    Packet::from_bytes(&datagrams[0]).unwrap()
}

fn settle(endpoint: &mut Tested, kind: u8, id: u16, now: u64) -> Vec<Bytes> {
    let [high, low] = id.to_be_bytes();
    endpoint.0.receive(peer(), &[0x40 | (kind << 4), 0, high, low], now);
    endpoint.datagrams()
}

const ACK: u8 = 2;

#[test]
fn a_late_answer_is_a_confirmable_message_with_the_same_token() {
    let mut endpoint = endpoint();
    let ticket = late(&mut endpoint, 9);
    let answer = answer(&mut endpoint, ticket, 3_000);
    assert_eq!(answer.header.get_type(), MessageType::Confirmable);
    assert_eq!((answer.get_token(), code(&answer)), (&[7][..], ResponseType::Content));
    assert!(settle(&mut endpoint, ACK, answer.header.message_id, 3_001).is_empty());
    assert_eq!(endpoint.0.deadline(), None, "nothing is sent again");
}

/// 2 to 3 s, then twice as long each time, four times in all.
#[test]
fn what_is_not_acknowledged_is_sent_again_and_then_given_up() {
    let mut endpoint = endpoint();
    let ticket = late(&mut endpoint, 9);
    let sent = answer(&mut endpoint, ticket, 0);
    let (mut now, mut wait) = (0, 0);
    for attempt in 0..4 {
        let at = endpoint.0.deadline().unwrap();
        if attempt == 0 {
            wait = at;
            assert!((2_000..=3_000).contains(&wait), "{wait}");
        }
        assert_eq!(at - now, wait << attempt);
        assert!(endpoint.tick(at - 1).is_empty());
        let again = endpoint.tick(at);
        assert_eq!(Packet::from_bytes(&again[0]).unwrap(), sent);
        now = at;
    }
    assert!(endpoint.tick(endpoint.0.deadline().unwrap()).is_empty());
    assert_eq!(endpoint.0.deadline(), None);
}

/// RFC 7252 §4.7: NSTART is 1.
#[test]
fn late_answers_wait_for_each_other_and_are_bounded() {
    let mut endpoint = endpoint();
    let tickets: Vec<Ticket> = (1..=6)
        .map(|id| {
            let datagram = packet(RequestType::Post, id, &["ph"]).to_bytes().unwrap();
            incoming(endpoint.receive(peer(), &datagram, 0)).ticket
        })
        .collect();
    assert_eq!(endpoint.tick(1_000).len(), 6);
    let mut sent = Vec::new();
    for ticket in tickets {
        endpoint.0.respond(ticket, text("late"), 1_000);
        sent.extend(endpoint.datagrams());
    }
    assert_eq!(sent.len(), 1, "one is out");
    let mut count = 0;
    while let Some(last) = sent.pop() {
        count += 1;
        let id = Packet::from_bytes(&last).unwrap().header.message_id;
        sent = settle(&mut endpoint, ACK, id, 1_001);
    }
    assert_eq!(count, 5, "one was out, four waited");
}

#[test]
fn an_answer_in_time_needs_no_acknowledgement_of_its_own() {
    let mut endpoint = endpoint();
    let datagram = packet(RequestType::Get, 9, &["ph"]).to_bytes().unwrap();
    let ticket = incoming(endpoint.receive(peer(), &datagram, 0)).ticket;
    let _ = endpoint.respond(ticket, text("x"));
    assert_eq!(endpoint.0.deadline(), None);
}

#[test]
fn acknowledgements_of_what_was_never_sent_are_ignored() {
    let mut endpoint = endpoint();
    for kind in [2, 3] {
        assert!(settle(&mut endpoint, kind, 77, 0).is_empty());
    }
    assert_eq!(endpoint.peers(), 0, "and cost nothing");
}
