//! Asks a running gateway, over its socket or TCP.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use posthouse_actors::Config;
use posthouse_actors::status::ErrorBody;
use serde::de::DeserializeOwned;
use zeroize::Zeroizing;

/// The gateway answers from memory.
const TIMEOUT: Duration = Duration::from_secs(10);
/// Longest answer that is read, bytes: a page of anything is shorter.
const MAX_ANSWER: u64 = 16 << 20;

/// Where it listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Gateway {
    /// `status.listen`.
    Tcp(SocketAddr),
    /// `status.socket`.
    Socket(PathBuf),
}

impl Gateway {
    /// Where everybody may read: TCP, or the socket where nothing else listens.
    pub(crate) fn to_read(config: &Config) -> Result<Self> {
        let status = &config.status;
        let socket = || status.socket.clone().map(Self::Socket);
        let none = "neither status.listen nor status.socket is set: the gateway does not serve its status";
        status.listen.map(Self::Tcp).or_else(socket).context(none)
    }

    /// Where orders are taken: the socket, which asks for no token, or TCP.
    pub(crate) fn to_order(config: &Config) -> Result<Self> {
        config.status.socket.clone().map_or_else(|| Self::to_read(config), |socket| Ok(Self::Socket(socket)))
    }

    /// What is at this path of `/v1`.
    pub(crate) fn get<T: DeserializeOwned>(&self, resource: &str) -> Result<T> {
        let body = self.request("GET", &format!("/v1/{resource}"), "")?;
        serde_json::from_slice(&body).with_context(|| self.name(&format!("/v1/{resource}")))
    }

    /// Whether it says that it can buy what is announced.
    pub(crate) fn ready(&self) -> Result<()> {
        self.request("GET", "/readyz", "").map(drop)
    }

    /// Orders what is at this path of `/v1`.
    pub(crate) fn post(&self, config: &Config, resource: &str) -> Result<()> {
        let mut headers = Zeroizing::new("Content-Length: 0\r\n".to_owned());
        if let Self::Tcp(_) = self {
            let file = config.status.token_file.as_ref();
            let none = "neither status.socket nor status.token_file is set: the gateway takes no orders";
            let file = file.context(none)?;
            let token = std::fs::read_to_string(file).map(Zeroizing::new);
            let token = token.with_context(|| file.display().to_string())?;
            *headers = format!("Authorization: Bearer {}\r\nContent-Length: 0\r\n", token.trim());
        }
        self.request("POST", &format!("/v1/{resource}"), &headers).map(drop)
    }

    fn name(&self, path: &str) -> String {
        match self {
            Self::Tcp(address) => format!("http://{address}{path}"),
            Self::Socket(socket) => format!("{}:{path}", socket.display()),
        }
    }

    /// One request on a connection of its own, and the body of its answer: a local status needs no HTTP library.
    fn request(&self, method: &str, path: &str, headers: &str) -> Result<Vec<u8>> {
        let what = || self.name(path);
        let host = if let Self::Tcp(address) = self { address.to_string() } else { "localhost".into() };
        let mut stream = self.connect().with_context(what)?;
        let head = format!("{method} {path} HTTP/1.0\r\nHost: {host}\r\nConnection: close\r\n");
        for part in [head.as_str(), headers, "\r\n"] {
            stream.write_all(part.as_bytes()).with_context(what)?;
        }
        let mut answer = Vec::new();
        stream.take(MAX_ANSWER + 1).read_to_end(&mut answer).with_context(what)?;
        ensure!(answer.len() as u64 <= MAX_ANSWER, "{}: an answer of more than 16 MiB", what());
        let split = answer.windows(4).position(|window| window == b"\r\n\r\n");
        let split = split.with_context(|| format!("{}: no HTTP answer", what()))?;
        let head = String::from_utf8_lossy(&answer[..split]);
        let first = head.lines().next().unwrap_or_default();
        let body = answer[split + 4..].to_vec();
        if !first.split(' ').nth(1).is_some_and(|code| code.starts_with('2')) {
            let said =
                serde_json::from_slice(&body).map_or_else(|_| first.to_owned(), |said: ErrorBody| said.error);
            bail!("{}: {said}", what());
        }
        Ok(body)
    }

    fn connect(&self) -> io::Result<Box<dyn Stream>> {
        match self {
            Self::Tcp(address) => {
                let stream = TcpStream::connect_timeout(address, TIMEOUT)?;
                stream.set_read_timeout(Some(TIMEOUT))?;
                stream.set_write_timeout(Some(TIMEOUT))?;
                Ok(Box::new(stream))
            }
            Self::Socket(socket) => {
                let stream = UnixStream::connect(socket)?;
                stream.set_read_timeout(Some(TIMEOUT))?;
                stream.set_write_timeout(Some(TIMEOUT))?;
                Ok(Box::new(stream))
            }
        }
    }
}

/// Either connection.
trait Stream: Read + Write {}

impl<T: Read + Write> Stream for T {}
