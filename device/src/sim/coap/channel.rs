//! Datagrams to and from the gateway: as they are, or in a session of DTLS 1.2 with a pre-shared key (RFC 6347, RFC 4279),
//! with the suite that RFC 7925 has sensors speak.

use std::collections::VecDeque;
use std::future;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use dimpl::crypto::Dtls12CipherSuite;
use dimpl::{Dtls, Output, PskResolver};
use tokio::net::UdpSocket;
use zeroize::Zeroizing;

use super::client::CoapError;

/// Longest datagram read; a longer one is none of ours.
const MAX_DATAGRAM: usize = 1500;
/// Longest datagram sent: what IPv6 carries without fragments (1280 less the headers of IP and UDP).
const MTU: usize = 1232;
/// A handshake is given up after so many times the patience with which its flights are repeated: as many as four
/// retransmissions take, each after twice the time of the one before.
const HANDSHAKE: u32 = 31;

/// Who the sensor is to the gateway, and the key that shows it.
pub(super) struct Psk {
    pub(super) identity: String,
    pub(super) key: Zeroizing<Vec<u8>>,
}

impl PskResolver for Psk {
    // dimpl keeps its copies in memory that it does not wipe.
    fn resolve(&self, identity: &[u8]) -> Option<Vec<u8>> {
        (identity == self.identity.as_bytes()).then(|| self.key.to_vec())
    }
}

/// A socket to one gateway, with a session over it if there is a key.
pub(super) struct Channel {
    socket: UdpSocket,
    session: Option<Session>,
}

/// A session, or the handshake for it.
struct Session {
    dtls: Dtls,
    connected: bool,
    /// The gateway has ended it.
    closed: bool,
    /// What came and was not read yet.
    received: VecDeque<Vec<u8>>,
    /// When dimpl wants to look at the time.
    wake: Instant,
    buffer: Vec<u8>,
}

impl Channel {
    /// Opens a socket; with a key, returns when the session stands.
    pub(super) async fn open(
        gateway: SocketAddr,
        psk: Option<Psk>,
        patience: Duration,
    ) -> Result<Self, CoapError> {
        let any: SocketAddr = match gateway {
            SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
            SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
        };
        let socket = UdpSocket::bind(any).await.map_err(CoapError::Io)?;
        socket.connect(gateway).await.map_err(CoapError::Io)?;
        let session = psk.map(|psk| Session::new(psk, patience)).transpose()?;
        let mut channel = Self { socket, session };
        channel.flush().await?;
        while channel.session.as_ref().is_some_and(|session| !session.connected) {
            channel.step().await?;
        }
        Ok(channel)
    }

    pub(super) async fn send(&mut self, message: &[u8]) -> Result<(), CoapError> {
        match &mut self.session {
            None => self.socket.send(message).await.map(drop).map_err(CoapError::Io),
            Some(session) => {
                session.dtls.handle_timeout(Instant::now())?;
                session.dtls.send_application_data(message)?;
                self.flush().await
            }
        }
    }

    /// The next message. Nothing is lost if it is not waited for to the end.
    pub(super) async fn receive(&mut self) -> Result<Vec<u8>, CoapError> {
        loop {
            match &mut self.session {
                None => return self.datagram().await,
                Some(session) => {
                    if let Some(message) = session.received.pop_front() {
                        return Ok(message);
                    }
                }
            }
            self.step().await?;
        }
    }

    /// Tells the gateway that no more will come.
    pub(super) async fn close(mut self) {
        // What goes wrong here ends as well.
        if self.session.as_mut().is_some_and(|session| session.dtls.close().is_ok()) {
            let _ = self.flush().await;
        }
    }

    async fn datagram(&self) -> Result<Vec<u8>, CoapError> {
        let mut buffer = vec![0; MAX_DATAGRAM];
        let len = self.socket.recv(&mut buffer).await.map_err(CoapError::Io)?;
        buffer.truncate(len);
        Ok(buffer)
    }

    /// Lets the session have the next datagram, or see the time.
    async fn step(&mut self) -> Result<(), CoapError> {
        let until = self.session.as_ref().map(|session| session.wake);
        let time = async {
            match until {
                Some(until) => tokio::time::sleep_until(until.into()).await,
                None => future::pending().await,
            }
        };
        let datagram = tokio::select! {
            datagram = self.datagram() => Some(datagram?),
            () = time => None,
        };
        let Some(session) = &mut self.session else { return Ok(()) };
        session.dtls.handle_timeout(Instant::now())?;
        if let Some(datagram) = datagram {
            session.dtls.handle_packet(&datagram)?;
        }
        self.flush().await
    }

    /// Sends what the session has to say, and keeps what it has heard.
    async fn flush(&mut self) -> Result<(), CoapError> {
        let Some(session) = &mut self.session else { return Ok(()) };
        for datagram in session.drain() {
            self.socket.send(&datagram).await.map_err(CoapError::Io)?;
        }
        if session.closed { Err(CoapError::Ended) } else { Ok(()) }
    }
}

impl Session {
    fn new(psk: Psk, patience: Duration) -> Result<Self, CoapError> {
        let identity = psk.identity.clone().into_bytes();
        // It offers groups for a key exchange that it never makes: told to offer none, dimpl sends an empty list, which is
        // malformed (RFC 8422 §5.1.1), and the gateway's dimpl takes none.
        let config = dimpl::Config::builder()
            .with_crypto_provider(dimpl::crypto::rust_crypto::default_provider())
            .with_psk_client(identity, Arc::new(psk))
            .dtls12_cipher_suites(&[Dtls12CipherSuite::PSK_AES128_CCM_8])
            .dtls13_cipher_suites(&[])
            .mtu(MTU)
            .flight_start_rto(patience)
            .handshake_timeout(patience * HANDSHAKE)
            .build()?;
        let now = Instant::now();
        let mut dtls = Dtls::new_12_psk(Arc::new(config), now);
        dtls.set_active(true);
        // Before anything else: without the time dimpl has no random bytes yet, and panics.
        dtls.handle_timeout(now)?;
        let (received, buffer) = (VecDeque::new(), vec![0; 4096]);
        Ok(Self { dtls, connected: false, closed: false, received, wake: now, buffer })
    }

    fn drain(&mut self) -> Vec<Vec<u8>> {
        let mut datagrams = Vec::new();
        loop {
            match self.dtls.poll_output(&mut self.buffer) {
                Output::Packet(datagram) => datagrams.push(datagram.to_vec()),
                Output::Connected => self.connected = true,
                Output::ApplicationData(message) => self.received.push_back(message.to_vec()),
                Output::CloseNotify => self.closed = true,
                Output::Timeout(at) => {
                    self.wake = at;
                    return datagrams;
                }
                Output::BufferTooSmall { needed } => self.buffer.resize(needed, 0),
                _ => {}
            }
        }
    }
}
