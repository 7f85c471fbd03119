//! Answers that are none: whatever an endpoint sends in place of the beacon API's, it costs one question, and its kind is
//! named.

use std::time::Duration;

use posthouse_light_client::beacon::BeaconError;
use posthouse_light_client::checkpoint::agree;
use posthouse_light_client::client::{ClientError, LightClient};
use posthouse_light_client::http::{Answer, HttpError, Limits};
use posthouse_light_client::spec::Refused;

use crate::liar::{Liar, Reply};
use crate::world::{PERIOD, World, only};

/// What a client makes of an endpoint that always answers so, with no other endpoint and with an honest one behind it.
async fn of(reply: impl Fn(&Answer) -> Reply + Send + Sync + 'static, limits: Limits) -> BeaconError {
    let world = World::new();
    let liar = Liar::ssz(world.beacon.url(), move |_, honest| Some(reply(honest))).await;
    liar.lie(true);
    let mut config = world.config(&[liar.url()]);
    config.limits = limits;
    let error = LightClient::open(config.clone()).unwrap().sync_once().await.unwrap_err();
    let error = only(&error).clone();
    config.beacon.push(world.beacon.url().to_owned());
    config.store = config.store.with_file_name("other.sqlite");
    let client = LightClient::open(config).unwrap();
    assert_eq!(client.sync_once().await.unwrap().number, world.finalized());
    assert!(client.status().beacon[0].last_error.is_some());
    error
}

async fn usual(reply: impl Fn(&Answer) -> Reply + Send + Sync + 'static) -> BeaconError {
    of(reply, Limits::default()).await
}

#[tokio::test]
async fn an_error_status() {
    let error = usual(|_| Reply::Head("500 Internal Server Error\r\n")).await;
    assert_eq!(error, HttpError::Status(500).into());
}

#[tokio::test]
async fn too_many_requests_and_when_to_come_back() {
    let error = usual(|_| Reply::Head("429 Too Many Requests\r\nRetry-After: 30\r\n")).await;
    let retry_after = Some(Duration::from_secs(30));
    assert_eq!(error, HttpError::Busy { code: 429, retry_after }.into());
}

#[tokio::test]
async fn an_endpoint_that_asks_for_patience_is_not_asked_again() {
    let world = World::new();
    let busy = |_: &str, _: &Answer| Some(Reply::Head("429 Too Many Requests\r\nRetry-After: 300\r\n"));
    let liar = Liar::ssz(world.beacon.url(), busy).await;
    liar.lie(true);
    let client = world.client(&[liar.url()]);
    client.sync_once().await.unwrap_err();
    client.sync_once().await.unwrap_err();
    assert_eq!(liar.asked(), 1);
}

#[tokio::test]
async fn a_redirect_is_not_followed() {
    let world = World::new();
    let elsewhere = Liar::ssz(world.beacon.url(), |_, _| None).await;
    let head: &'static str = format!("307 Temporary Redirect\r\nLocation: {}\r\n", elsewhere.url()).leak();
    assert_eq!(usual(move |_| Reply::Head(head)).await, HttpError::Redirect(307).into());
    assert_eq!(elsewhere.asked(), 0);
}

#[tokio::test]
async fn a_page_for_people() {
    let page =
        || Reply::Body { content_type: "text/html; charset=utf-8", body: b"<html>Sign in</html>".to_vec() };
    assert_eq!(usual(move |_| page()).await, BeaconError::ContentType("text/html".into()));
    let error = usual(|_| Reply::json(b"<html>Sign in</html>".to_vec())).await;
    assert!(matches!(error, BeaconError::Refused(Refused::Json(_))), "{error:?}");
}

#[tokio::test]
async fn silence_ends_with_the_timeout() {
    let timeout = Duration::from_secs(2);
    let limits = Limits { timeout, ..Limits::default() };
    assert_eq!(of(|_| Reply::Silence, limits).await, HttpError::Timeout(timeout).into());
}

#[tokio::test]
async fn ssz_that_is_cut_off() {
    for keep in [0, 3, 100, 25_000] {
        let error = usual(move |honest| Reply::ssz(honest.body.iter().copied().take(keep).collect())).await;
        assert!(matches!(error, BeaconError::Refused(Refused::Ssz { .. })), "{keep}: {error:?}");
    }
}

#[tokio::test]
async fn json_that_is_cut_off() {
    let world = World::new();
    let cut = |_: &str, honest: &Answer| Some(Reply::json(honest.body[..honest.body.len() / 2].to_vec()));
    let liar = Liar::over(world.beacon.url(), "application/json", cut).await;
    liar.lie(true);
    let error = world.client(&[liar.url()]).sync_once().await.unwrap_err();
    assert!(matches!(only(&error), BeaconError::Refused(Refused::Json(_))), "{error:?}");
}

#[tokio::test]
async fn more_bytes_than_any_answer_has() {
    let error = usual(|_| Reply::ssz(vec![0; (2 << 20) + 1])).await;
    assert_eq!(error, HttpError::TooLarge(2 << 20).into());
    // Within what is read, and still more than a bootstrap.
    let error = usual(|honest| Reply::ssz([&honest.body[..], &[0; 40_000]].concat())).await;
    assert!(matches!(error, BeaconError::Refused(Refused::Ssz { .. } | Refused::Length { .. })), "{error:?}");
    let spaces = usual(|_| Reply::json(vec![b' '; 2 << 20])).await;
    assert!(
        matches!(spaces, BeaconError::Refused(Refused::Json(_) | Refused::TooLarge { .. })),
        "{spaces:?}"
    );
}

#[tokio::test]
async fn an_endpoint_that_knows_json_only_is_enough() {
    let world = World::new();
    let json = Liar::over(world.beacon.url(), "application/json", |_, _| None).await;
    let client = world.client(&[json.url()]);
    client.sync_once().await.unwrap();
    for period in 1..4 {
        world.mine_at(period * PERIOD, 4);
    }
    assert_eq!(client.sync_once().await.unwrap().number, world.finalized());
    assert_eq!(client.latest().await.unwrap().hash, world.chain.head().hash());
    assert_eq!(client.status().beacon[0].last_error, None);
}

/// As Lodestar 1.5.1 does for a range in which one period has no update.
#[tokio::test]
async fn a_range_that_is_answered_by_500_is_asked_for_one_by_one() {
    let world = World::new();
    let no_ranges = |path: &str, _: &Answer| {
        let range = path.contains("/updates?") && !path.ends_with("count=1");
        range.then_some(Reply::Head("500 Internal Server Error\r\n"))
    };
    let liar = Liar::ssz(world.beacon.url(), no_ranges).await;
    liar.lie(true);
    let client = world.client(&[liar.url()]);
    client.sync_once().await.unwrap();
    for period in 1..4 {
        world.mine_at(period * PERIOD, 4);
    }
    assert_eq!(client.sync_once().await.unwrap().number, world.finalized());
}

/// What stands before an endpoint may answer with the URL it was asked by, and our key in that.
#[tokio::test]
async fn what_an_answer_says_is_not_repeated() {
    let page =
        br#"{"version": {"https://node.example/v3/APIKEY": 1}, "data": "https://node.example/v3/APIKEY"}"#;
    let world = World::new();
    for body in [&page[..], br#""https://node.example/v3/APIKEY""#] {
        let liar = Liar::ssz(world.beacon.url(), move |_, _| Some(Reply::json(body.to_vec()))).await;
        liar.lie(true);
        let client = world.client(&[liar.url()]);
        let error = client.sync_once().await.unwrap_err();
        let status = serde_json::to_string(&client.status()).unwrap();
        assert!(status.contains("of another kind at line 1, column"), "{status}");
        let agreement = agree(&[liar.url().to_owned()], Limits::default()).await.unwrap();
        assert!(!format!("{error} {error:?} {status} {agreement:?}").contains("APIKEY"), "{error} {status}");
    }
}

#[test]
fn a_configuration_is_shown_without_keys() {
    let world = World::new();
    let mut config = world.config(&["https://user:hunter2@node.example:8443/v3/APIKEY", "no APIKEY URL"]);
    config.rpc = vec!["https://node.example/?key=APIKEY".to_owned()];
    let shown = format!("{config:?}");
    assert!(shown.contains("node.example:8443") && shown.contains("chain_id: 31337"), "{shown}");
    assert!(!shown.contains("APIKEY") && !shown.contains("hunter2"), "{shown}");
}

#[tokio::test]
async fn nobody_there() {
    let world = World::new();
    let nobody = {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        format!("http://{}", listener.local_addr().unwrap())
    };
    let client = world.client(&[&nobody]);
    let error = client.sync_once().await.unwrap_err();
    assert!(matches!(only(&error), BeaconError::Http(HttpError::Unreachable(_))), "{error:?}");
    assert!(!error.is_fatal() && matches!(client.latest().await, Err(ClientError::Beacon(_))));
}
