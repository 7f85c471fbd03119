//! One HTTP exchange at a time, over bare TCP.

use std::io::{Read, Write};
use std::net::TcpStream;

use posthouse_devchain::beacon::Beacon;
use serde_json::Value;

pub(crate) struct Response {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: Vec<u8>,
}

impl Response {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let lines = self.head.lines().filter_map(|line| line.split_once(": "));
        lines.into_iter().find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value)
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap()
    }
}

/// GET `path`, with an `Accept` header.
pub(crate) fn get_as(beacon: &Beacon, path: &str, accept: &str) -> Response {
    let host = beacon.url().strip_prefix("http://").unwrap();
    let mut stream = TcpStream::connect(host).unwrap();
    let request =
        format!("GET {path} HTTP/1.1\r\nHost: {host}\r\nAccept: {accept}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).unwrap();
    let mut reply = Vec::new();
    stream.read_to_end(&mut reply).unwrap();
    let end = reply.windows(4).position(|bytes| bytes == b"\r\n\r\n").unwrap();
    let head = String::from_utf8(reply[..end].to_vec()).unwrap();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    Response { status, body: reply.split_off(end + 4), head }
}

pub(crate) fn get(beacon: &Beacon, path: &str) -> Value {
    let response = get_as(beacon, path, "application/json");
    assert_eq!(response.status, 200, "{path}: {}", String::from_utf8_lossy(&response.body));
    response.json()
}

pub(crate) fn get_ssz(beacon: &Beacon, path: &str) -> Response {
    let response = get_as(beacon, path, "application/octet-stream;q=1, application/json;q=0.9");
    assert_eq!(response.status, 200, "{path}: {}", String::from_utf8_lossy(&response.body));
    assert_eq!(response.header("content-type"), Some("application/octet-stream"));
    response
}
