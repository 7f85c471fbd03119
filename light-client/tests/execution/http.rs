//! Endpoints that do not get as far as a lie.

use std::time::Duration;

use posthouse_devchain::Proxy;
use posthouse_light_client::http::{Endpoint, HttpError, Limits, Pool, UrlError};
use posthouse_light_client::jsonrpc::Malformed;
use posthouse_light_client::rpc::{AnswerError, Rpc, RpcError};
use serde_json::json;

use crate::canned::{Canned, response};
use crate::stage::{Stage, only, rpc};

const LIMITS: Limits = Limits { timeout: Duration::from_secs(10), max_response: 10_000 };

async fn post(canned: &Canned, limits: Limits) -> Result<Vec<u8>, HttpError> {
    let endpoint = Endpoint::new(&canned.url, limits).unwrap();
    endpoint.post_json(b"{}".to_vec()).await.map(|answer| answer.body)
}

async fn refused(response: impl Into<Vec<u8>>) -> HttpError {
    post(&Canned::answering(response).await, LIMITS).await.unwrap_err()
}

#[tokio::test]
async fn an_answer_comes_with_its_kind() {
    let headers = "content-type: Application/JSON; charset=utf-8\r\neth-consensus-version: fulu\r\n";
    let canned = Canned::answering(response("200 OK", headers, "{}")).await;
    let endpoint = Endpoint::new(&format!("{}/key/?token=1", canned.url), LIMITS).unwrap();
    let answer = endpoint.get("/eth/v1/node/health?a=b", "application/json").await.unwrap();
    assert_eq!((answer.content_type.as_str(), answer.body.as_slice()), ("application/json", &b"{}"[..]));
    assert_eq!(answer.consensus_version.as_deref(), Some("fulu"));
}

#[tokio::test]
async fn statuses_are_told_apart() {
    assert_eq!(refused(response("500 Internal Server Error", "", "{}")).await, HttpError::Status(500));
    assert_eq!(refused(response("401 Unauthorized", "", "{}")).await, HttpError::Status(401));
    let wait = Some(Duration::from_secs(7));
    let busy = refused(response("429 Too Many Requests", "retry-after: 7\r\n", "{}")).await;
    assert_eq!(busy, HttpError::Busy { code: 429, retry_after: wait });
    let busy = refused(response("503 Service Unavailable", "", "{}")).await;
    assert_eq!(busy, HttpError::Busy { code: 503, retry_after: None });
}

#[tokio::test]
async fn a_redirect_is_not_followed() {
    let target = Canned::answering(response("200 OK", "", "{}")).await;
    for status in ["301 Moved Permanently", "302 Found", "307 Temporary Redirect", "308 Permanent Redirect"] {
        let error = refused(response(status, &format!("location: {}\r\n", target.url), "")).await;
        assert_eq!(error, HttpError::Redirect(status[..3].parse().unwrap()));
    }
    assert_eq!(target.asked(), 0);
}

#[tokio::test]
async fn an_oversized_answer_is_cut_off() {
    let at_the_limit = response("200 OK", "", &"x".repeat(10_000));
    assert_eq!(post(&Canned::answering(at_the_limit).await, LIMITS).await.unwrap().len(), 10_000);
    assert_eq!(refused(response("200 OK", "", &"x".repeat(10_001))).await, HttpError::TooLarge(10_000));
    // Announced only: no byte of it is waited for.
    let announced = "HTTP/1.1 200 OK\r\ncontent-length: 18446744073709551615\r\n\r\n";
    assert!(matches!(refused(announced).await, HttpError::TooLarge(10_000) | HttpError::Unreachable(_)));
    // Without a length, in chunks.
    let chunk = format!("1000\r\n{}\r\n", "x".repeat(4096)).repeat(3);
    let chunked = format!("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n{chunk}0\r\n\r\n");
    assert_eq!(refused(chunked).await, HttpError::TooLarge(10_000));
}

#[tokio::test]
async fn a_truncated_answer_is_none() {
    let error = refused("HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n{").await;
    assert!(matches!(error, HttpError::Unreachable(_)), "{error}");
    let error = refused("").await;
    assert!(matches!(error, HttpError::Unreachable(_)), "{error}");
    let error = refused("SSH-2.0-OpenSSH_10.0\r\n").await;
    assert!(matches!(error, HttpError::Unreachable(_)), "{error}");
}

#[tokio::test]
async fn a_slow_endpoint_is_given_up() {
    let limits = Limits { timeout: Duration::from_millis(50), ..LIMITS };
    let error = post(&Canned::silent().await, limits).await.unwrap_err();
    assert_eq!(error, HttpError::Timeout(limits.timeout));
}

#[tokio::test]
async fn nobody_there_is_named_without_the_url() {
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let rpc = rpc(&[&format!("http://user:SECRET@127.0.0.1:{port}/SECRET?key=SECRET")]);
    let error = rpc.header(Default::default()).await.unwrap_err();
    assert!(error.to_string().contains(&format!("127.0.0.1:{port}: not reached")), "{error}");
    assert!(!format!("{error} {error:?} {rpc:?} {:?}", rpc.report()).contains("SECRET"));
}

#[tokio::test]
async fn no_endpoint_and_no_url_are_refused_at_the_start() {
    let error = |urls: &[&str]| {
        let urls: Vec<_> = urls.iter().map(|url| (*url).to_owned()).collect();
        Rpc::new(&urls, 1, LIMITS).unwrap_err()
    };
    assert_eq!(error(&[]), RpcError::Url(UrlError::None));
    assert_eq!(error(&["http://127.0.0.1", "file:///etc/passwd"]), RpcError::Url(UrlError::Scheme));
}

#[tokio::test]
async fn html_is_no_answer() {
    let canned =
        Canned::answering(response("200 OK", "content-type: text/html\r\n", "<html>Welcome</html>")).await;
    let error = only(rpc(&[&canned.url]).header(Default::default()).await.unwrap_err());
    assert!(matches!(error, AnswerError::Malformed { why: Malformed::Syntax(_), .. }), "{error}");
}

#[tokio::test]
async fn an_endpoint_of_another_chain_is_asked_nothing_else() {
    let stage = Stage::new();
    let other = Proxy::start(stage.chain.url(), |method, _, answer| {
        if method == "eth_chainId" {
            answer["result"] = json!("0x1");
        }
    });
    let other = other.unwrap();
    let rpc = rpc(&[other.url(), stage.chain.url()]);
    assert_eq!(rpc.header(stage.head().hash).await.unwrap(), stage.head());
    assert_eq!(other.seen().len(), 1);
    let expected = AnswerError::OtherChain { expected: 31_337, got: "0x1".into() };
    assert_eq!(rpc.report()[0].last_error, Some(expected.to_string()));
}

#[tokio::test]
async fn patience_that_is_asked_for_is_given() {
    let busy = Canned::answering(response("429 Too Many Requests", "retry-after: 100\r\n", "")).await;
    let rpc = rpc(&[&busy.url]);
    for _ in 0..3 {
        let error = only(rpc.header(Default::default()).await.unwrap_err());
        assert!(matches!(error, AnswerError::Http(HttpError::Busy { code: 429, .. })), "{error}");
    }
    assert_eq!(busy.asked(), 1, "it is not asked again before its time");
}

#[tokio::test]
async fn an_endpoint_that_failed_is_asked_after_the_others_and_alone_all_the_same() {
    let down = Canned::answering(response("500 Internal Server Error", "", "")).await;
    let up = Canned::answering(response("200 OK", "", "{}")).await;
    let pool = Pool::of(&[down.url.clone(), up.url.clone()], LIMITS).unwrap();
    let ask = |endpoint: std::sync::Arc<Endpoint>| async move { endpoint.post_json(b"{}".to_vec()).await };
    for _ in 0..3 {
        assert_eq!(pool.first(ask).await.unwrap().body, b"{}");
    }
    assert_eq!((down.asked(), up.asked()), (1, 3));
    let alone = Pool::of(std::slice::from_ref(&down.url), LIMITS).unwrap();
    for _ in 0..3 {
        assert_eq!(alone.first(ask).await.unwrap_err().0[0].error, HttpError::Status(500));
    }
    assert_eq!(down.asked(), 4);
}

#[tokio::test]
async fn an_endpoint_that_refuses_batches_is_asked_one_by_one() {
    let stage = Stage::new();
    let proxy = Proxy::start(stage.chain.url(), |_, _, _| ()).unwrap();
    proxy.refuse_batches();
    let rpc = rpc(&[proxy.url()]);
    assert_eq!(rpc.ancestors(&stage.head(), 0).await.unwrap().len(), 8);
    assert_eq!(rpc.report()[0].failures, 0);
    assert_eq!(proxy.count("eth_getBlockByNumber"), 7);
}
