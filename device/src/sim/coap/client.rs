//! Confirmable requests over a channel, one at a time (RFC 7252 §4.2).

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use coap_lite::{MessageClass, MessageType, Packet};
use rand::Rng as _;
use thiserror::Error;
use tokio::time::{Instant, timeout_at};

use super::channel::{Channel, Psk};
use crate::sim::tally::Tally;

/// Retransmissions of a request (RFC 7252 §4.8, MAX_RETRANSMIT).
const MAX_RETRANSMIT: u32 = 4;

#[derive(Debug, Error)]
pub(super) enum CoapError {
    #[error("{0}")]
    Io(io::Error),
    #[error("DTLS: {0}")]
    Dtls(#[from] dimpl::Error),
    #[error("the gateway has ended the session")]
    Ended,
    #[error("no answer from the gateway")]
    TimedOut,
    #[error("the gateway rejects the message")]
    Reset,
    #[error("request cannot be encoded: {0}")]
    Encode(String),
}

/// A way to one gateway.
pub(super) struct Client {
    channel: Channel,
    message_id: u16,
    token: u64,
    ack_timeout: Duration,
    tally: Arc<Tally>,
}

impl Client {
    pub(super) async fn open(
        gateway: SocketAddr,
        psk: Option<Psk>,
        ack_timeout: Duration,
        tally: Arc<Tally>,
    ) -> Result<Self, CoapError> {
        let channel = Channel::open(gateway, psk, ack_timeout).await?;
        let mut random = rand::rng();
        Ok(Self { channel, message_id: random.random(), token: random.random(), ack_timeout, tally })
    }

    /// Sends a request and returns the response, whatever its code.
    pub(super) async fn exchange(&mut self, mut request: Packet) -> Result<Packet, CoapError> {
        self.message_id = self.message_id.wrapping_add(1);
        self.token = self.token.wrapping_add(1);
        request.header.set_version(1);
        request.header.set_type(MessageType::Confirmable);
        request.header.message_id = self.message_id;
        request.set_token(self.token.to_be_bytes().to_vec());
        let bytes = request.to_bytes().map_err(|error| CoapError::Encode(format!("{error:?}")))?;
        let mut patience = self.ack_timeout.mul_f32(rand::rng().random_range(1.0..1.5));
        for sent in 0..=MAX_RETRANSMIT {
            self.tally.retransmitted.add(u64::from(sent > 0));
            self.channel.send(&bytes).await?;
            if let Some(response) = self.wait(Instant::now() + patience).await? {
                return Ok(response);
            }
            patience *= 2;
        }
        Err(CoapError::TimedOut)
    }

    /// Waits for the answer to the request that is out; nothing if it is to be sent again.
    async fn wait(&mut self, mut until: Instant) -> Result<Option<Packet>, CoapError> {
        loop {
            let Ok(received) = timeout_at(until, self.channel.receive()).await else { return Ok(None) };
            let Ok(packet) = Packet::from_bytes(&received?) else { continue };
            let ours = packet.header.message_id == self.message_id;
            match (packet.header.get_type(), packet.header.code) {
                (MessageType::Reset, _) if ours => return Err(CoapError::Reset),
                // A ping (RFC 7252 §4.3). A gateway that does not know yet whether anybody is here sends small blocks until
                // it is answered.
                (MessageType::Confirmable, MessageClass::Empty) => {
                    self.reset(packet.header.message_id).await?
                }
                // It was received; the response comes by itself, and takes its time.
                (MessageType::Acknowledgement, MessageClass::Empty) if ours => {
                    until = Instant::now() + self.ack_timeout * (1 << MAX_RETRANSMIT);
                }
                // The answer to an earlier request.
                (MessageType::Acknowledgement, MessageClass::Response(_)) if !ours => self.stale(&packet),
                (kind, MessageClass::Response(_)) if self.has_token(&packet) => {
                    if kind == MessageType::Confirmable {
                        self.acknowledge(packet.header.message_id).await?;
                    }
                    return Ok(Some(packet));
                }
                _ => self.stale(&packet),
            }
        }
    }

    /// Says goodbye, where there is somebody to say it to.
    pub(super) async fn close(self) {
        self.channel.close().await;
    }

    fn stale(&self, packet: &Packet) {
        self.tally.stale_bytes.add(packet.payload.len() as u64);
    }

    fn has_token(&self, packet: &Packet) -> bool {
        packet.get_token() == self.token.to_be_bytes()
    }

    async fn reset(&mut self, message_id: u16) -> Result<(), CoapError> {
        let [high, low] = message_id.to_be_bytes();
        self.channel.send(&[0x70, 0, high, low]).await
    }

    async fn acknowledge(&mut self, message_id: u16) -> Result<(), CoapError> {
        let [high, low] = message_id.to_be_bytes();
        // Version 1, acknowledgement, no token; empty.
        self.channel.send(&[0x60, 0, high, low]).await
    }
}
