//! The HTTP side, asked over loopback; in the exchanges' place somebody with fixed answers.

use std::{
    io,
    net::SocketAddr,
    os::unix::fs::{MetadataExt as _, PermissionsExt as _},
    path::Path,
};

use actix::{Actor, ActorContext as _, Context, Handler};
use actix_web::dev::Server;
use posthouse_audit::{Audit, Kind, Record};
use posthouse_protocol::id::{Bounty, DeviceId, DeviceKey};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    net::TcpStream,
};

use super::*;
use crate::campaign::Order;
use crate::exchange::{GiveOrder, OrderError, Retry};
use crate::messages::Carrier;
use crate::sensors::Carried;

/// Nothing that is waited for takes longer.
const PATIENCE: Duration = Duration::from_secs(60);

/// Takes orders of this one.
struct Fixed(String);

impl Actor for Fixed {
    type Context = Context<Self>;
}

impl Handler<GetSnapshot> for Fixed {
    type Result = Snapshot;

    fn handle(&mut self, GetSnapshot(part): GetSnapshot, _: &mut Self::Context) -> Snapshot {
        let agent = Agent { devices: 7, ..Agent::default() };
        let after = |key: &DeviceKey| matches!(part, Part::Devices(page) if page.after.is_some_and(|after| after >= *key));
        let limit = if let Part::Devices(page) = part { page.limit } else { 0 };
        let keys = (1..=7).map(|number| DeviceKey::new([number; 33])).filter(|key| !after(key)).take(limit);
        let devices = keys.map(|key| Device { key: key.to_string(), ..Device::default() }).collect();
        let (after, limit) = match part {
            Part::Exchanges(page) => (page.after, page.limit),
            _ => (None, 0),
        };
        let bounties = (1..=10).map(|number| Bounty::new([number; 20]));
        let bounties = bounties.filter(|bounty| after.is_none_or(|after| after < *bounty)).take(limit);
        let exchanges =
            bounties.map(|bounty| Exchange { bounty: format!("0x{bounty}"), ..Exchange::default() });
        let status = Status { agent, ..Status::default() };
        Snapshot { status, devices, exchanges: exchanges.collect(), ..Snapshot::default() }
    }
}

impl Handler<Carried> for Fixed {
    type Result = u64;

    fn handle(&mut self, Carried(carrier): Carried, _: &mut Self::Context) -> u64 {
        if carrier == Carrier::Mqtt { 11 } else { 12 }
    }
}

impl Handler<GetPeers> for Fixed {
    type Result = Option<Peers>;

    fn handle(&mut self, GetPeers: GetPeers, _: &mut Self::Context) -> Option<Peers> {
        Some(Peers { routing: 9, ..Peers::default() })
    }
}

impl Handler<GiveOrder> for Fixed {
    type Result = Result<(), OrderError>;

    fn handle(&mut self, order: GiveOrder, _: &mut Context<Self>) -> Self::Result {
        assert_eq!(order.who, self.0);
        let known = order.bounty == Bounty::new([1; 20]) && order.order == Order::Pause;
        match order.group {
            Some(group) if group != "pilot" => Err(OrderError::Group(group)),
            Some(_) if order.order == Order::Approve => Ok(()),
            _ if known => Ok(()),
            _ => Err(OrderError::Update(order.bounty)),
        }
    }
}

impl Handler<Retry> for Fixed {
    type Result = Result<(), OrderError>;

    fn handle(&mut self, Retry { device, who }: Retry, _: &mut Context<Self>) -> Self::Result {
        assert_eq!(who, self.0);
        if device == DeviceId::new([2; 16]) { Ok(()) } else { Err(OrderError::Sensor(device)) }
    }
}

pub(super) fn desk(token: Option<&str>) -> Desk {
    let me = std::fs::metadata("/proc/self").unwrap().uid();
    let fixed = Fixed(token.map_or_else(|| format!("uid {me}"), |_| "token".into())).start();
    Desk {
        source: fixed.clone().recipient(),
        orders: fixed.clone().recipient(),
        retries: fixed.clone().recipient(),
        carried: fixed.clone().recipient(),
        peers: fixed.recipient(),
        token: token.map(|token| Token::new(token.as_bytes()).unwrap()),
        audit: Audit::nowhere(),
    }
}

fn on_loopback(desk: Desk) -> (Server, SocketAddr) {
    let (server, address) = serve("127.0.0.1:0".parse().ok(), None, desk).unwrap();
    (server, address.unwrap())
}

#[actix::test]
async fn an_order_needs_the_token_and_names_what_there_is() {
    const TOKEN: &str = "0123456789abcdef";
    let folder = tempfile::tempdir().unwrap();
    let audit = Audit::at(&folder.path().join("audit"), posthouse_audit::Bounds::default());
    let desk = Desk { audit: audit.clone(), ..desk(Some(TOKEN)) };
    let (server, address) = on_loopback(desk);
    let handle = server.handle();
    let running = actix::spawn(server);
    let bearer = format!("Authorization: Bearer {TOKEN}\r\n");
    let update = format!("/v1/updates/0x{}", "01".repeat(20));
    for (path, headers, expected) in [
        (format!("{update}/pause"), "", "401"),
        (format!("{update}/pause"), "Authorization: Bearer 0123456789abcdeg\r\n", "401"),
        (format!("{update}/pause"), "Authorization: Basic 0123456789abcdef\r\n", "401"),
        (format!("{update}/pause"), bearer.as_str(), "204"),
        (format!("{update}/pause?group=pilot"), bearer.as_str(), "204"),
        (format!("{update}/approve?group=pilot"), bearer.as_str(), "204"),
        (format!("{update}/approve"), bearer.as_str(), "404"),
        (format!("{update}/pause?group=none"), bearer.as_str(), "404"),
        (format!("{update}/pause?groop=pilot"), bearer.as_str(), "400"),
        (format!("{update}/stop"), bearer.as_str(), "404"),
        (format!("/v1/updates/0x{}/pause", "02".repeat(20)), bearer.as_str(), "404"),
        ("/v1/updates/7/pause".into(), bearer.as_str(), "400"),
        (format!("/v1/devices/{}/retry", "02".repeat(16)), "", "401"),
        (format!("/v1/devices/{}/retry", "02".repeat(16)), bearer.as_str(), "204"),
        (format!("/v1/devices/{}/retry", "03".repeat(16)), bearer.as_str(), "404"),
        ("/v1/devices/x/retry".into(), bearer.as_str(), "400"),
    ] {
        let answer = talk(address, &format!("POST {path}"), headers).await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {expected}")), "{path}: {answer}");
    }
    handle.stop(true).await;
    running.await.unwrap().unwrap();

    assert!(audit.flush(PATIENCE));
    let written = std::fs::read_to_string(folder.path().join("audit")).unwrap();
    assert!(!written.contains(TOKEN) && !written.contains("0123456789abcdeg"), "no secret, nor a guess");
    let written: Vec<Record> = written.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert!(
        written.iter().all(|record| record.kind == Kind::OrderRefused),
        "what is given, the exchanges say"
    );
    let by = |who: &str| written.iter().filter(|r| r.who.as_deref() == Some(who)).count();
    assert_eq!((by("127.0.0.1"), by("token")), (4, 4), "without the token, and what is no order: each once");
}

/// One that has ended.
struct Gone;

impl Actor for Gone {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Context<Self>) {
        ctx.stop();
    }
}

impl Handler<Retry> for Gone {
    type Result = Result<(), OrderError>;

    fn handle(&mut self, _: Retry, _: &mut Context<Self>) -> Self::Result {
        Ok(())
    }
}

#[actix::test]
async fn an_order_that_nobody_takes_any_more_is_refused_and_written_down() {
    const TOKEN: &str = "0123456789abcdef";
    let folder = tempfile::tempdir().unwrap();
    let audit = Audit::at(&folder.path().join("audit"), posthouse_audit::Bounds::default());
    let gone = Gone.start().recipient();
    let desk = Desk { audit: audit.clone(), retries: gone, ..desk(Some(TOKEN)) };
    let (server, address) = on_loopback(desk);
    let handle = server.handle();
    let running = actix::spawn(server);
    let retry = format!("POST /v1/devices/{}/retry", "02".repeat(16));
    let answer = talk(address, &retry, &format!("Authorization: Bearer {TOKEN}\r\n")).await;
    assert!(answer.starts_with("HTTP/1.1 503"), "{answer}");
    handle.stop(true).await;
    running.await.unwrap().unwrap();
    assert!(audit.flush(PATIENCE));
    let written = std::fs::read_to_string(folder.path().join("audit")).unwrap();
    let written: Vec<Record> = written.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let told = |record: &Record| (record.kind, record.order.clone(), record.who.clone());
    let expected = (Kind::OrderRefused, Some("retry".into()), Some("token".into()));
    assert_eq!(written.iter().map(told).collect::<Vec<_>>(), [expected]);
}

#[actix::test]
async fn without_a_token_no_orders_are_taken() {
    let (server, address) = on_loopback(desk(None));
    let handle = server.handle();
    let running = actix::spawn(server);
    let answer = talk(address, &format!("POST /v1/updates/{}/pause", "01".repeat(20)), "").await;
    assert!(answer.starts_with("HTTP/1.1 403") && answer.contains("token_file"), "{answer}");
    handle.stop(true).await;
    running.await.unwrap().unwrap();
}

#[actix::test]
async fn whoever_may_open_the_socket_gives_orders_without_a_token() {
    let folder = tempfile::tempdir().unwrap();
    let (path, log) = (folder.path().join("socket"), folder.path().join("audit"));
    let taken = |path: &Path| socket(path).unwrap_err().kind();
    std::fs::write(&path, "").unwrap();
    assert_eq!(taken(&path), io::ErrorKind::AlreadyExists);
    std::fs::remove_file(&path).unwrap();
    drop(socket(&path).unwrap()); // as a gateway that was killed leaves it
    let listener = socket(&path).unwrap();
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o660);
    assert_eq!(taken(&path), io::ErrorKind::AddrInUse);

    let audit = Audit::at(&log, posthouse_audit::Bounds::default());
    let desk = Desk { audit: audit.clone(), ..desk(None) };
    let (server, address) = serve(None, Some(listener), desk).unwrap();
    assert_eq!(address, None);
    let handle = server.handle();
    let running = actix::spawn(server);
    let update = format!("/v1/updates/{}", "01".repeat(20));
    for (asked, expected) in [
        ("GET /v1/status".into(), "200"),
        (format!("POST {update}/pause"), "204"),
        (format!("POST {update}/stop"), "404"),
        (format!("POST /v1/devices/{}/retry", "02".repeat(16)), "204"),
    ] {
        let stream = tokio::net::UnixStream::connect(&path).await.unwrap();
        let answer = said(stream, &asked, "").await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {expected}")), "{asked}: {answer}");
    }
    handle.stop(true).await;
    running.await.unwrap().unwrap();

    assert!(audit.flush(PATIENCE));
    let written = std::fs::read_to_string(log).unwrap();
    let me = std::fs::metadata(&path).unwrap().uid();
    assert_eq!(written.matches(&format!("\"who\":\"uid {me}\"")).count(), 1, "what is no order: {written}");
}

#[actix::test]
async fn devices_and_exchanges_come_in_pages() {
    let (server, address) = on_loopback(desk(None));
    let handle = server.handle();
    let running = actix::spawn(server);
    assert_eq!(
        pages(address, "/v1/devices?limit=3", |one: &Device| &one.key[..2]).await,
        ["010203", "040506", "07"]
    );
    let exchanges = |path| pages(address, path, |one: &Exchange| &one.bounty[2..4]);
    assert_eq!(exchanges("/v1/exchanges").await, ["0102030405060708", "090a"]);
    assert_eq!(exchanges("/v1/exchanges?limit=5").await, ["0102030405", "060708090a"]);
    let whole = get(address, "GET /v1/devices").await;
    assert!(whole.contains("\"key\":\"07") && !whole.contains("\r\nlink:"), "{whole}");
    let behind = get(address, &format!("GET /v1/devices?cursor={}", "07".repeat(33))).await;
    assert!(behind.ends_with("\r\n\r\n[]"), "{behind}");
    for query in ["limit=0", "limit=1001", "limit=x", "cursor=07", "page=1"] {
        let refused = get(address, &format!("GET /v1/devices?{query}")).await;
        assert!(refused.starts_with("HTTP/1.1 400") && refused.contains("\"error\":"), "{refused}");
    }
    handle.stop(true).await;
    running.await.unwrap().unwrap();
}

/// The pages of a list from this path on, each as the names of what it has.
async fn pages<T: serde::de::DeserializeOwned>(
    address: SocketAddr,
    path: &str,
    name: fn(&T) -> &str,
) -> Vec<String> {
    let (mut path, mut pages) = (path.to_owned(), Vec::new());
    loop {
        let answer = get(address, &format!("GET {path}")).await;
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        assert!(head.starts_with("HTTP/1.1 200"), "{answer}");
        let list: Vec<T> = serde_json::from_str(body).unwrap();
        pages.push(list.iter().map(name).collect());
        let Some(link) = head.lines().find_map(|line| line.strip_prefix("link: <")) else { return pages };
        let (next, rel) = link.split_once('>').unwrap();
        assert_eq!(rel, "; rel=\"next\"");
        path = next.to_owned();
    }
}

async fn get(address: SocketAddr, request: &str) -> String {
    talk(address, request, "").await
}

async fn talk(address: SocketAddr, request: &str, headers: &str) -> String {
    said(TcpStream::connect(address).await.unwrap(), request, headers).await
}

async fn said(mut stream: impl AsyncRead + AsyncWrite + Unpin, request: &str, headers: &str) -> String {
    let request = format!("{request} HTTP/1.1\r\nHost: x\r\n{headers}Connection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).await.unwrap();
    text
}

#[actix::test]
async fn each_resource_answers_json_and_nothing_else_is_there() {
    let (server, address) = on_loopback(desk(None));
    let handle = server.handle();
    let running = actix::spawn(server);
    let status = get(address, "GET /v1/status").await;
    assert!(status.starts_with("HTTP/1.1 200") && status.contains("\"devices\":7"), "{status}");
    let text = get(address, "GET /v1/updates").await;
    assert!(text.starts_with("HTTP/1.1 200") && text.ends_with("[]"), "{text}");
    let usage = get(address, "GET /v1/usage").await;
    assert!(usage.contains("\"carried\":{\"mqtt\":11,\"coap\":12}"), "{usage}");
    assert!(usage.contains("\"resident\":") && !usage.contains("\"resident\":null"), "{usage}");
    let peers = get(address, "GET /v1/peers").await;
    assert!(peers.starts_with("HTTP/1.1 200") && peers.contains("\"routing\":9"), "{peers}");
    for query in ["limit=0", "limit=9", "limit=x", "cursor=0x1", "page=2"] {
        let refused = get(address, &format!("GET /v1/exchanges?{query}")).await;
        assert!(refused.starts_with("HTTP/1.1 400") && refused.contains("\"error\":"), "{refused}");
    }
    let overview = get(address, "GET /v1/overview?show=held&limit=100").await;
    assert!(overview.starts_with("HTTP/1.1 200") && overview.contains("\"found\":0"), "{overview}");
    for query in ["limit=0", "limit=101", "limit=x", "show=", "offset=-1", "offset=1000001", "shows=held"] {
        let refused = get(address, &format!("GET /v1/overview?{query}")).await;
        assert!(refused.starts_with("HTTP/1.1 400") && refused.contains("\"error\":"), "{refused}");
    }
    assert!(get(address, "GET /healthz").await.ends_with("{\"ok\":true}"));
    assert!(get(address, "GET /v1/secrets").await.starts_with("HTTP/1.1 404"));
    let refused = get(address, "DELETE /v1/devices").await;
    assert!(refused.starts_with("HTTP/1.1 405") && refused.contains("allow: GET"), "{refused}");
    let described = get(address, "GET /v1/openapi.json").await;
    assert!(described.contains("\"openapi\":\"3.1.0\"") && described.contains("\"/v1/exchanges\""));
    let metrics = get(address, "GET /metrics").await;
    assert!(metrics.ends_with("# EOF\n"));
    assert!(metrics.contains("posthouse_carried_bytes_total{carrier=\"coap\"} 12\n"), "{metrics}");
    assert!(get(address, "GET /readyz").await.starts_with("HTTP/1.1 503"));
    handle.stop(true).await;
    running.await.unwrap().unwrap();
}

#[cfg(feature = "page")]
#[actix::test]
async fn the_page_comes_whole_with_its_policy_and_is_not_sent_twice() {
    let (server, address) = on_loopback(desk(None));
    let handle = server.handle();
    let running = actix::spawn(server);
    for (path, kind, has) in [
        ("/", "text/html", "</html>"),
        ("/page.css", "text/css", "progress"),
        ("/page.js", "text/javascript", "overview"),
    ] {
        let whole = get(address, &format!("GET {path}")).await;
        assert!(whole.starts_with("HTTP/1.1 200") && whole.contains(has), "{whole}");
        let header = |name: &str| {
            let line = whole.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "));
            line.unwrap_or_else(|| panic!("{name} in {whole}")).to_owned()
        };
        assert_eq!(header("content-type"), format!("{kind}; charset=utf-8"));
        assert_eq!(header("x-content-type-options"), "nosniff");
        assert_eq!(header("cache-control"), "no-cache");
        let policy = header("content-security-policy");
        for rule in
            ["default-src 'none'", "script-src 'self'", "connect-src 'self'", "frame-ancestors 'none'"]
        {
            assert!(policy.split("; ").any(|found| found == rule), "{rule} in {policy}");
        }
        let kept = format!("If-None-Match: \"other\", W/{}\r\n", header("etag"));
        let same = talk(address, &format!("GET {path}"), &kept).await;
        assert!(same.starts_with("HTTP/1.1 304") && same.ends_with("\r\n\r\n"), "{same}");
        let refused = get(address, &format!("POST {path}")).await;
        assert!(refused.starts_with("HTTP/1.1 405") && refused.contains("allow: GET"), "{refused}");
    }
    assert!(get(address, "GET /page").await.starts_with("HTTP/1.1 404"));
    handle.stop(true).await;
    running.await.unwrap().unwrap();
}

#[cfg(not(feature = "page"))]
#[actix::test]
async fn a_program_without_the_page_has_none() {
    let (server, address) = on_loopback(desk(None));
    let handle = server.handle();
    let running = actix::spawn(server);
    for path in ["/", "/page.css", "/page.js"] {
        let none = get(address, &format!("GET {path}")).await;
        assert!(none.starts_with("HTTP/1.1 404") && none.contains("\"error\":"), "{none}");
    }
    handle.stop(true).await;
    running.await.unwrap().unwrap();
}
