//! One wake over CoAP: the sensor asks, the gateway answers (RFC 7252, RFC 7959).

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use coap_lite::{CoapOption, MessageClass, Packet, RequestType, ResponseType};
use posthouse_protocol::device::{Input, Message};
use posthouse_protocol::id::Digest;
use posthouse_protocol::sensor::{Block, BlockRequest, MAX_MANIFEST, SignRequest, names};
use tokio::net::lookup_host;

use self::channel::Psk;
use self::client::{Client, CoapError};
use self::option::{Block2, uint};
use super::config::Settings;
use super::keyfile;
use super::life::WakeError;
use super::node::Node;
use crate::device::{DEFAULT_RETRY, Flow};

mod channel;
mod client;
mod option;

/// Rounds of questions in one wake: a gateway that always has one more must not drain the battery.
const MAX_ROUNDS: u32 = 10_000;
/// Characters of the gateway's words that are shown.
const MAX_DIAGNOSTIC: usize = 200;
/// Content format of our messages (RFC 7252 §12.3): application/cbor.
const CBOR: u32 = 60;

/// The sensor's way over CoAP.
pub(super) struct Coap {
    gateway: String,
    /// Identity and the key's file, where the gateway's endpoint has DTLS.
    psk: Option<(String, PathBuf)>,
    wake_ms: u64,
    awake_ms: u64,
    patience: Duration,
    /// ETag of the manifest that was taken last.
    manifest: Option<Vec<u8>>,
    /// What was answered in this wake: the gateway may go on asking until it has acted on it.
    answered: Option<Digest>,
}

impl From<CoapError> for WakeError {
    fn from(error: CoapError) -> Self {
        Self::Link(error.to_string())
    }
}

impl Coap {
    pub(super) fn new(settings: &Settings) -> Self {
        Self {
            gateway: settings.gateway.clone(),
            psk: settings.coap_psk_identity.clone().zip(settings.coap_psk_key_file.clone()),
            wake_ms: settings.wake_ms,
            awake_ms: settings.awake_ms,
            patience: Duration::from_millis(settings.block_timeout_ms.into()),
            manifest: None,
            answered: None,
        }
    }

    pub(super) async fn wake(&mut self, node: &mut Node) -> Result<Flow, WakeError> {
        let (gateway, tally) = (self.resolve().await?, Arc::clone(node.tally()));
        let mut client = Client::open(gateway, self.psk()?, self.patience, tally).await?;
        let flow = self.converse(&mut client, node).await?;
        client.close().await;
        Ok(flow)
    }

    async fn converse(&mut self, client: &mut Client, node: &mut Node) -> Result<Flow, WakeError> {
        // A manifest that comes again says: go on; once a wake that is worth its bytes.
        self.manifest = None;
        self.answered = None;
        let mut flow = node.give(Input::Wake)?;
        let end = node.now() + self.awake_ms;
        for _ in 0..MAX_ROUNDS {
            flow = self.flush(client, node, flow).await?;
            if flow == Flow::Reboot {
                return Ok(flow);
            }
            flow = self.ask(client, node).await?;
            if node.has_messages() || flow == Flow::Reboot {
                continue;
            }
            if node.now() >= end && !node.is_busy() {
                break;
            }
            flow = self.pause(node, end).await?;
        }
        let next_wake = u32::try_from(self.wake_ms.div_ceil(1000)).unwrap_or(u32::MAX);
        let flow = node.give(Input::Sleep { next_wake })?;
        self.flush(client, node, flow).await
    }

    fn psk(&self) -> Result<Option<Psk>, WakeError> {
        let Some((identity, file)) = &self.psk else { return Ok(None) };
        let key = keyfile::read_psk(file)
            .map_err(|error| WakeError::Link(format!("{}: {error}", file.display())))?;
        Ok(Some(Psk { identity: identity.clone(), key }))
    }

    async fn resolve(&self) -> Result<SocketAddr, WakeError> {
        let mut found = lookup_host(&self.gateway).await.map_err(CoapError::Io)?;
        found.next().ok_or_else(|| WakeError::Link(format!("{}: no address", self.gateway)))
    }

    /// Waits a part of the window, or until the machine wants to go on.
    async fn pause(&self, node: &mut Node, end: u64) -> Result<Flow, WakeError> {
        let now = node.now();
        let part = now + (self.awake_ms / 4).max(10);
        let until = node.deadline().unwrap_or(end).min(end).min(part).max(now + 1);
        tokio::time::sleep(Duration::from_millis(until - now)).await;
        Ok(node.tick()?)
    }

    /// Sends all that the machine has to say, and what follows from the answers.
    async fn flush(&mut self, client: &mut Client, node: &mut Node, flow: Flow) -> Result<Flow, WakeError> {
        let mut flow = flow;
        while let Some(message) = node.take() {
            node.announce(&message);
            let (name, payload) = match &message {
                Message::Get(request) => {
                    flow = self.image(client, node, request).await?;
                    continue;
                }
                Message::Hello(hello) => (names::HELLO, hello.to_vec()),
                Message::Signature(signature) => (names::SIGNATURE, signature.to_vec()),
                Message::Refused(error) => (names::REFUSED, error.to_vec()),
                Message::Status(status) => (names::STATUS, status.to_vec()),
            };
            let mut request = request(RequestType::Post, node, &[names::ROOT, name]);
            request.add_option(CoapOption::ContentFormat, uint(CBOR));
            request.payload = payload;
            let answer = client.exchange(request).await?;
            if let Some(error) = refusal(&answer) {
                node.denied(name, &error);
            }
        }
        Ok(flow)
    }

    /// Asks for a manifest, and for something to sign.
    async fn ask(&mut self, client: &mut Client, node: &mut Node) -> Result<Flow, WakeError> {
        if let Some(envelope) = self.get_manifest(client, node).await?
            && node.hear(Input::Manifest(&envelope))? == Flow::Reboot
        {
            return Ok(Flow::Reboot);
        }
        let answer = client.exchange(request(RequestType::Get, node, &[names::ROOT, names::SIGN])).await?;
        if !is(&answer, ResponseType::Content) {
            return Ok(Flow::Continue);
        }
        let Ok(request) = SignRequest::decode(&answer.payload) else { return Ok(Flow::Continue) };
        if self.answered.replace(request.digest()) == Some(request.digest()) {
            return Ok(Flow::Continue);
        }
        Ok(node.hear(Input::Sign(&request))?)
    }

    /// The manifest, if there is one that was not taken yet in this wake.
    async fn get_manifest(&mut self, client: &mut Client, node: &Node) -> Result<Option<Vec<u8>>, WakeError> {
        let mut envelope = Vec::new();
        loop {
            let mut ask = request(RequestType::Get, node, &[names::ROOT, names::MANIFEST]);
            if let Some(etag) = &self.manifest {
                ask.add_option(CoapOption::ETag, etag.clone());
            }
            if !envelope.is_empty() {
                let block = Block2::at(envelope.len() as u32, 512);
                ask.add_option(CoapOption::Block2, block.to_bytes());
            }
            let answer = client.exchange(ask).await?;
            if !is(&answer, ResponseType::Content) {
                return Ok(None);
            }
            envelope.extend_from_slice(&answer.payload);
            let more = Block2::of(&answer).is_some_and(|block| block.more) && !answer.payload.is_empty();
            if envelope.len() > MAX_MANIFEST {
                return Ok(None);
            }
            if !more {
                self.manifest = answer.get_first_option(CoapOption::ETag).cloned();
                return Ok(Some(envelope));
            }
        }
    }

    /// Fetches one block, or hears when to come back.
    async fn image(
        &self,
        client: &mut Client,
        node: &mut Node,
        want: &BlockRequest,
    ) -> Result<Flow, WakeError> {
        let name = want.u_id.to_string();
        let mut ask = request(RequestType::Get, node, &[names::ROOT, names::IMAGE, &name]);
        ask.add_option(CoapOption::Block2, Block2::at(want.offset, want.len).to_bytes());
        let answer = client.exchange(ask).await?;
        if is(&answer, ResponseType::Content) {
            let offset = Block2::of(&answer).map_or(0, |block| block.offset());
            let block = Block { u_id: want.u_id, offset, bytes: &answer.payload };
            return Ok(node.hear(Input::Block(block))?);
        }
        let retry_after = answer
            .get_first_option(CoapOption::MaxAge)
            .and_then(|value| option::read_uint(value))
            .unwrap_or(DEFAULT_RETRY);
        Ok(node.hear(Input::Later { retry_after })?)
    }
}

fn request(method: RequestType, node: &Node, path: &[&str]) -> Packet {
    let mut packet = Packet::new();
    packet.header.code = MessageClass::Request(method);
    for segment in path {
        packet.add_option(CoapOption::UriPath, segment.as_bytes().to_vec());
    }
    if method == RequestType::Get || path.last() != Some(&names::HELLO) {
        let query = format!("{}{}", names::DEVICE_QUERY, node.id());
        packet.add_option(CoapOption::UriQuery, query.into_bytes());
    }
    packet
}

/// What the gateway says if it does not take a word: the code and, as far as it is one, its diagnostic text (RFC 7252 §5.5.2).
fn refusal(answer: &Packet) -> Option<String> {
    let class = u8::from(answer.header.code) >> 5;
    let (code, text) = (answer.header.get_code(), String::from_utf8_lossy(&answer.payload));
    let text: String = text.chars().filter(|c| !c.is_control()).take(MAX_DIAGNOSTIC).collect();
    (class != 2).then(|| format!("{code} {text}").trim_end().to_owned())
}

fn is(packet: &Packet, response: ResponseType) -> bool {
    packet.header.code == MessageClass::Response(response)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_is_shown_with_its_code_in_one_short_line() {
        let answer = |code, payload: &[u8]| {
            let mut packet = Packet::new();
            packet.header.code = MessageClass::Response(code);
            packet.payload = payload.to_vec();
            refusal(&packet)
        };
        let said = answer(ResponseType::Forbidden, b"this session is another device's");
        assert_eq!(said.unwrap(), "4.03 this session is another device's");
        assert_eq!(answer(ResponseType::ServiceUnavailable, b"").unwrap(), "5.03");
        assert_eq!(answer(ResponseType::Changed, b""), None);
        assert_eq!(answer(ResponseType::Content, b"bytes"), None);
        let long = answer(ResponseType::BadRequest, &b"\n\xff".repeat(1000)).unwrap();
        assert!(
            long.starts_with("4.00 ") && long.chars().count() == 5 + MAX_DIAGNOSTIC && !long.contains('\n')
        );
    }
}
