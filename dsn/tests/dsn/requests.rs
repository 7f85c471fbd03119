//! Requests: answered, refused, too long, unanswered.

use std::time::Duration;

use posthouse_dsn::request::MAX_BODY;
use posthouse_dsn::{PeerId, ReplyError, RequestError};

use crate::support::{ECHO, Node, client, node, server, server_with, within};

async fn pair() -> (Node, Node) {
    let server = server(&[]).await;
    let client = client(&[&server]).await;
    (server, client)
}

#[tokio::test]
async fn a_request_is_answered() {
    let (mut server, client) = pair().await;
    let asking = client.dsn.request(server.dsn.peer_id(), ECHO, b"question".to_vec());
    let answering = async {
        let inbound = server.inbound.recv().await.unwrap();
        assert_eq!((inbound.peer, inbound.protocol.as_str()), (client.dsn.peer_id(), ECHO));
        assert!(inbound.reply.is_waited_for());
        inbound.reply.send([&inbound.body[..], b", answered"].concat()).unwrap();
    };
    let (answer, ()) = within(futures::future::join(asking, answering)).await;
    assert_eq!(answer.unwrap(), b"question, answered");
}

#[tokio::test]
async fn the_longest_bodies_pass_and_longer_ones_do_not() {
    let (mut server, client) = pair().await;
    let peer = server.dsn.peer_id();
    let asking = client.dsn.request(peer, ECHO, vec![1; MAX_BODY]);
    let answering = async {
        let inbound = server.inbound.recv().await.unwrap();
        assert_eq!(inbound.body.len(), MAX_BODY);
        inbound.reply.send(vec![2; MAX_BODY]).unwrap();
    };
    let (answer, ()) = within(futures::future::join(asking, answering)).await;
    assert_eq!(answer.unwrap(), vec![2; MAX_BODY]);

    let result = client.dsn.request(peer, ECHO, vec![1; MAX_BODY + 1]).await;
    assert_eq!(result, Err(RequestError::TooLarge(MAX_BODY + 1)));
    let asking = client.dsn.request(peer, ECHO, vec![]);
    let answering = async {
        let inbound = server.inbound.recv().await.unwrap();
        assert_eq!(inbound.reply.send(vec![0; MAX_BODY + 1]), Err(ReplyError::TooLarge(MAX_BODY + 1)));
    };
    let (answer, ()) = within(futures::future::join(asking, answering)).await;
    assert_eq!(answer, Err(RequestError::NoAnswer(peer)));
}

#[tokio::test]
async fn a_dropped_reply_fails_the_request_at_once() {
    let (mut server, client) = pair().await;
    let asking = client.dsn.request(server.dsn.peer_id(), ECHO, vec![]);
    let refusing = async { drop(server.inbound.recv().await.unwrap().reply) };
    let (answer, ()) = within(futures::future::join(asking, refusing)).await;
    assert_eq!(answer, Err(RequestError::NoAnswer(server.dsn.peer_id())));
}

#[tokio::test]
async fn protocols_must_be_configured_on_both_sides() {
    let server = server_with(&[], |config| config.request_protocols.clear()).await;
    let client = client(&[&server]).await;
    let peer = server.dsn.peer_id();
    let result = within(client.dsn.request(peer, "/test/other/1", vec![])).await;
    assert_eq!(result, Err(RequestError::UnknownProtocol("/test/other/1".into())));
    let result = within(client.dsn.request(peer, ECHO, vec![])).await;
    assert_eq!(result, Err(RequestError::Unsupported { peer, protocol: ECHO.into() }));
}

#[tokio::test]
async fn an_unknown_peer_is_unreachable() {
    let client = client(&[]).await;
    let result = within(client.dsn.request(PeerId::random(), ECHO, vec![])).await;
    assert!(matches!(result, Err(RequestError::Unreachable { .. })), "{result:?}");
}

#[tokio::test]
async fn a_silent_peer_runs_into_the_deadline() {
    let server = server(&[]).await;
    let client = node(&[&server], |config| config.limits.request = Duration::from_millis(300)).await;
    let peer = server.dsn.peer_id();
    let result = within(client.dsn.request(peer, ECHO, vec![])).await;
    assert_eq!(result, Err(RequestError::Timeout(peer)));
}

#[tokio::test]
async fn a_full_queue_refuses_at_once() {
    let server = server_with(&[], |config| config.limits.inbound_requests = 1).await;
    let client = client(&[&server]).await;
    let peer = server.dsn.peer_id();
    let asking = (0..2).map(|_| Box::pin(client.dsn.request(peer, ECHO, vec![])));
    let (first, _, _) = within(futures::future::select_all(asking)).await;
    assert_eq!(first, Err(RequestError::NoAnswer(peer)));
}

#[tokio::test]
async fn an_asker_that_gives_up_is_no_longer_waited_for() {
    let server = server(&[]).await;
    let client = client(&[&server]).await;
    let Node { dsn, mut inbound, folder: _folder } = server;
    let asking = async {
        tokio::select! {
            answer = client.dsn.request(dsn.peer_id(), ECHO, vec![]) => panic!("nobody answers: {answer:?}"),
            held = inbound.recv() => held.unwrap(),
        }
    };
    let held = within(asking).await;
    within(client.dsn.stop()).await;
    // The connection's end is what is waited for: then there is nobody to answer.
    let mut reply = Some(held.reply);
    within(async {
        while reply.as_ref().unwrap().is_waited_for() {
            tokio::task::yield_now().await;
        }
    })
    .await;
    assert_eq!(reply.take().unwrap().send(vec![]), Err(ReplyError::Gone));
}
