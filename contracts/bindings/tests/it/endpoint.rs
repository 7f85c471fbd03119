//! Endpoints that fail, lie about their chain or flood: the next one is asked, and nothing is believed.

use std::time::Duration;

use alloy::primitives::Address;
use posthouse_contracts::chain::{At, Chain as _, ChainError, Limits, RpcChain, RpcConfig};
use posthouse_devchain::{Config, DevChain, Proxy};
use posthouse_protocol::id::{Bounty, ChainId, ProductId};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

const CHAIN: ChainId = ChainId::new(31_337);

/// What an endpoint does with every request.
#[derive(Clone)]
enum Manner {
    /// Answers with the chain id, then with a block of this number.
    Serve { chain: u64, block: u64 },
    /// Answers with this status and body.
    Say { status: &'static str, body: Vec<u8> },
    /// Reads and never answers.
    Hang,
}

async fn endpoint(manner: Manner) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let manner = manner.clone();
            tokio::spawn(async move {
                let Some(request) = read_request(&mut stream).await else { return };
                let (status, body) = match manner {
                    Manner::Serve { chain, block } => ("200 OK", serve(&request, chain, block)),
                    Manner::Say { status, body } => (status, body),
                    Manner::Hang => return std::future::pending().await,
                };
                let head = format!(
                    "HTTP/1.1 {status}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n",
                    body.len()
                );
                let _ = stream.write_all(&[head.as_bytes(), &body].concat()).await;
            });
        }
    });
    url
}

async fn read_request(stream: &mut tokio::net::TcpStream) -> Option<String> {
    let mut request = Vec::new();
    let mut buffer = [0; 4096];
    loop {
        let read = stream.read(&mut buffer).await.ok().filter(|n| *n > 0)?;
        request.extend_from_slice(&buffer[..read]);
        let text = String::from_utf8_lossy(&request);
        let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
        let length =
            head.lines().find_map(|line| line.to_lowercase().strip_prefix("content-length: ")?.parse().ok());
        if body.len() >= length.unwrap_or(0) {
            return Some(body.to_owned());
        }
    }
}

fn serve(request: &str, chain: u64, block: u64) -> Vec<u8> {
    let request: serde_json::Value = serde_json::from_str(request).unwrap();
    let result = if request["method"] == "eth_chainId" {
        serde_json::json!(format!("{chain:#x}"))
    } else {
        let zero = format!("0x{}", "0".repeat(64));
        serde_json::json!({
            "number": format!("{block:#x}"), "hash": zero, "timestamp": "0x1", "parentHash": zero,
            "sha3Uncles": zero, "stateRoot": zero, "transactionsRoot": zero, "receiptsRoot": zero,
            "logsBloom": format!("0x{}", "0".repeat(512)), "difficulty": "0x0", "gasLimit": "0x0",
            "gasUsed": "0x0", "extraData": "0x", "mixHash": zero, "nonce": "0x0000000000000000",
            "miner": format!("0x{}", "0".repeat(40)), "transactions": [], "uncles": [], "size": "0x0",
        })
    };
    serde_json::json!({"jsonrpc": "2.0", "id": request["id"], "result": result}).to_string().into_bytes()
}

fn reader(urls: Vec<String>, limits: Limits) -> RpcChain {
    RpcChain::new(&RpcConfig { urls, chain: CHAIN, factory: Address::ZERO, limits }).unwrap()
}

async fn honest() -> String {
    endpoint(Manner::Serve { chain: CHAIN.get(), block: 7 }).await
}

/// Asks a bad endpoint alone, then with an honest one behind it; gives the error of the former.
async fn failure(bad: Manner, limits: Limits) -> String {
    let bad = endpoint(bad).await;
    let error = reader(vec![bad.clone()], limits).head(At::Latest).await.unwrap_err();
    assert!(matches!(error, ChainError::Unreachable(_)), "{error}");
    let both = reader(vec![bad, honest().await], limits);
    assert_eq!(both.head(At::Latest).await.unwrap().number, 7);
    assert_eq!(both.head(At::Finalized).await.unwrap().number, 7);
    error.to_string()
}

#[tokio::test]
async fn an_endpoint_of_another_chain_is_passed_over() {
    let error = failure(Manner::Serve { chain: 1, block: 9 }, Limits::default()).await;
    assert!(error.contains("serves chain "), "{error}");
}

#[tokio::test]
async fn an_endpoint_that_fails_is_passed_over() {
    let say = |status, body: &[u8]| Manner::Say { status, body: body.to_vec() };
    let error = failure(say("503 Service Unavailable", b"busy"), Limits::default()).await;
    assert!(error.contains("503"), "{error}");
    failure(say("429 Too Many Requests", b"{}"), Limits::default()).await;
    failure(say("200 OK", b"<html>"), Limits::default()).await;
    failure(say("200 OK", b""), Limits::default()).await;
    failure(say("200 OK", b"{\"result\": null}"), Limits::default()).await;
}

#[tokio::test]
async fn an_endpoint_that_floods_is_cut_off() {
    let limits = Limits { max_response: 4096, ..Limits::default() };
    let error = failure(Manner::Say { status: "200 OK", body: vec![b' '; 4097] }, limits).await;
    assert!(error.contains("4096"), "{error}");
}

#[tokio::test]
async fn an_endpoint_that_hangs_times_out() {
    // The honest one has to answer in that time.
    let limits = Limits { timeout: Duration::from_secs(3), ..Limits::default() };
    failure(Manner::Hang, limits).await;
}

#[tokio::test]
async fn a_redirect_is_not_followed() {
    let elsewhere = honest().await;
    let redirect = Manner::Say { status: "307 Temporary Redirect", body: Vec::new() };
    let error = failure(redirect, Limits::default()).await;
    assert!(error.contains("307"), "{error} {elsewhere}");
}

#[tokio::test]
async fn an_endpoint_that_is_down_is_passed_over() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let down = format!("http://{}", listener.local_addr().unwrap());
    drop(listener);
    let both = reader(vec![down, honest().await], Limits::default());
    assert_eq!(both.head(At::Latest).await.unwrap().number, 7);
}

/// A megabyte that clears the screen and names the URL that was asked for.
fn flood() -> String {
    format!("\u{1b}[2J\r\nhttps://me:APIKEY@node.example/APIKEY {}", "x".repeat(1 << 20))
}

#[tokio::test]
async fn an_endpoints_words_in_errors_are_bounded() {
    let chain = DevChain::start(Config::default()).unwrap();
    let answers: [fn(&mut Value); 6] = [
        |answer| answer["result"] = json!(flood()),
        // alloy takes a result of this form for an error.
        |answer| answer["result"] = json!({"code": 1, "message": flood()}),
        |answer| {
            *answer = json!({"id": answer["id"], "error": {"code": 3, "message": flood(), "data": flood()}})
        },
        |answer| *answer = json!({"id": answer["id"], "error": {"code": 3, "message": "", "data": flood()}}),
        |answer| *answer = json!(flood()),
        |answer| *answer = json!({"code": 1, "message": flood()}),
    ];
    for change in answers {
        let liar = Proxy::start(chain.url(), move |method, _, answer| {
            if method != "eth_chainId" {
                change(answer);
            }
        });
        let reader = reader(vec![liar.as_ref().unwrap().url().into()], Limits::default());
        let bounty = Bounty::new([1; 20]);
        let errors = [
            reader.head(At::Latest).await.unwrap_err(),
            reader.base_fee().await.unwrap_err(),
            reader.balance(Address::ZERO, At::Latest).await.unwrap_err(),
            reader.latest(Address::ZERO, &ProductId::new([1; 32])).await.unwrap_err(),
            reader.terms(&bounty).await.unwrap_err(),
            reader.claims(&bounty, &[0], At::Latest).await.unwrap_err(),
        ];
        for error in errors {
            let shown = error.to_string();
            assert!(shown.len() < 600, "{} bytes", shown.len());
            assert!(!shown.chars().any(char::is_control) && !shown.contains("APIKEY"), "{shown:?}");
        }
    }
}

#[test]
fn endpoints_that_cannot_be_used_are_refused_at_once() {
    for urls in [vec![], vec!["ftp://host"], vec!["nonsense"], vec!["http://"], vec!["http://a", "file:///b"]]
    {
        let urls = urls.into_iter().map(str::to_owned).collect();
        let config = RpcConfig { urls, chain: CHAIN, factory: Address::ZERO, limits: Limits::default() };
        assert!(matches!(RpcChain::new(&config), Err(ChainError::Endpoint(_))));
    }
}
