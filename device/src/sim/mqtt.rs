//! One wake over MQTT: connect, subscribe, say hello, answer what comes, say good night.

use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::Bytes;
use posthouse_protocol::device::{Input, Message};
use posthouse_protocol::sensor::{Block, ErrorMsg, SignRequest, names};
use rumqttc::mqttbytes::QoS;
use rumqttc::mqttbytes::v5::Packet;
use rumqttc::{
    AsyncClient, Event, EventLoop, MqttOptions, NetworkOptions, Outgoing, PublishOptions, Transport,
};
use tokio::sync::mpsc;
use tokio::time::timeout;

use self::session::EmptyHalf;
use super::config::Settings;
use super::life::WakeError;
use super::node::Node;
use crate::device::{DEFAULT_RETRY, Flow};

mod session;

/// Requests that may wait for the connection: more than a wake ever queues at once.
const REQUESTS: usize = 64;
/// What comes down may wait so long in a queue of this length; then TCP holds the broker back.
const INCOMING: usize = 64;
/// The broker keeps what is for a sleeping sensor so long, s: a week.
const SESSION_EXPIRY: u32 = 7 * 24 * 3600;
/// Messages of QoS 1 that the broker has not acknowledged: without a bound the client makes room for 65,535 with each connection.
const IN_FLIGHT: u16 = 16;
/// Largest packet that the sensor takes: a block with its topic.
const MAX_PACKET: u32 = 4096;
/// Time for the last acknowledgements before the connection closes.
const GOODBYE: Duration = Duration::from_secs(2);

/// What the connection brings.
enum Incoming {
    Connected,
    Message { name: String, payload: Bytes },
    Closed(String),
}

/// Files of TLS: the broker's authority, and the sensor's own certificate with its key.
struct Tls {
    ca: PathBuf,
    own: Option<(PathBuf, PathBuf)>,
}

/// The sensor's way over MQTT.
pub(super) struct Mqtt {
    host: String,
    port: u16,
    credentials: Option<(String, PathBuf)>,
    tls: Option<Tls>,
    wake_ms: u64,
    awake_ms: u64,
    patience: Duration,
    /// A manifest that came while the last connection closed.
    late: Option<Bytes>,
}

impl Mqtt {
    pub(super) fn new(settings: &Settings) -> Self {
        let (host, port) = settings.host_and_port().unwrap_or(("localhost", 1883));
        Self {
            host: host.to_owned(),
            port,
            credentials: settings.mqtt_username.clone().zip(settings.mqtt_password_file.clone()),
            tls: settings
                .mqtt_tls_ca
                .clone()
                .map(|ca| Tls { ca, own: settings.mqtt_tls_cert.clone().zip(settings.mqtt_tls_key.clone()) }),
            wake_ms: settings.wake_ms,
            awake_ms: settings.awake_ms,
            patience: Duration::from_millis(settings.block_timeout_ms.into()),
            late: None,
        }
    }

    pub(super) async fn wake(&mut self, node: &mut Node) -> Result<Flow, WakeError> {
        let prefix = format!("{}/{}/{}/", names::ROOT, names::TOPIC_VERSION, node.id());
        let mut link = self.connect(node, prefix).await?;
        let mut flow = node.give(Input::Wake)?;
        if let (Flow::Continue, Some(manifest)) = (flow, self.late.take()) {
            flow = node.give(Input::Manifest(&manifest))?;
        }
        if flow == Flow::Continue {
            flow = link.converse(node, self.awake_ms).await?;
        }
        if flow == Flow::Continue {
            let next_wake = u32::try_from(self.wake_ms.div_ceil(1000)).unwrap_or(u32::MAX);
            node.give(Input::Sleep { next_wake })?;
        }
        link.publish_all(node)?;
        self.late = link.close().await?;
        Ok(flow)
    }

    async fn connect(&self, node: &Node, prefix: String) -> Result<Link, WakeError> {
        let options = self.options(&node.id().to_string())?;
        let builder = AsyncClient::builder(options).capacity(REQUESTS);
        let (client, events) = builder.try_build().map_err(failed)?;
        let (sender, incoming) = mpsc::channel(INCOMING);
        let task = tokio::spawn(pump(events, prefix.clone(), sender));
        let mut link = Link { client, incoming, task, prefix };
        match timeout(self.patience, link.incoming.recv()).await {
            Ok(Some(Incoming::Connected)) => link.subscribe().await?,
            Ok(Some(Incoming::Closed(error))) => return Err(WakeError::Link(error)),
            Ok(_) | Err(_) => return Err(WakeError::Link("no answer from the broker".into())),
        }
        Ok(link)
    }

    fn options(&self, client_id: &str) -> Result<MqttOptions, WakeError> {
        let mut options = MqttOptions::new(client_id, (self.host.clone(), self.port));
        options
            .set_keep_alive(30)
            .set_clean_start(false)
            .set_session_expiry_interval(Some(SESSION_EXPIRY))
            .set_network_options(without_delay())
            .set_session_store(EmptyHalf { in_flight: Some(IN_FLIGHT) })
            .set_outgoing_inflight_upper_limit(IN_FLIGHT)
            .set_max_packet_size(Some(MAX_PACKET));
        if let Some((name, file)) = &self.credentials {
            options.set_credentials(name, read(file)?.trim_ascii_end().to_vec());
        }
        if let Some(Tls { ca, own }) = &self.tls {
            let own = match own {
                Some((certificate, key)) => Some((read(certificate)?, read(key)?)),
                None => None,
            };
            options.set_transport(Transport::tls(read(ca)?, own, None));
        }
        Ok(options)
    }
}

fn read(file: &Path) -> Result<Vec<u8>, WakeError> {
    std::fs::read(file).map_err(|error| WakeError::Link(format!("{}: {error}", file.display())))
}

/// A request for blocks is a small packet that nothing follows: held back to be sent with the next
/// one, it would wait for an acknowledgement that the broker delays, 40 ms for each window.
fn without_delay() -> NetworkOptions {
    let mut network = NetworkOptions::new();
    network.set_tcp_nodelay(true);
    network
}

/// A connection; its task ends with it.
struct Link {
    client: AsyncClient,
    incoming: mpsc::Receiver<Incoming>,
    task: tokio::task::JoinHandle<()>,
    prefix: String,
}

impl Drop for Link {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Link {
    async fn subscribe(&self) -> Result<(), WakeError> {
        let reliable = [names::MANIFEST, names::SIGN, names::ERROR];
        for name in reliable.into_iter().chain([names::BLOCK]) {
            let qos = if name == names::BLOCK { QoS::AtMostOnce } else { QoS::AtLeastOnce };
            self.client.subscribe(format!("{}{name}", self.prefix), qos).await.map_err(failed)?;
        }
        Ok(())
    }

    /// Answers what comes until the window is over and nothing is under way.
    async fn converse(&mut self, node: &mut Node, awake_ms: u64) -> Result<Flow, WakeError> {
        let end = node.now() + awake_ms;
        loop {
            self.publish_all(node)?;
            let now = node.now();
            if now >= end && !node.is_busy() {
                return Ok(Flow::Continue);
            }
            let idle = if node.is_busy() { u64::MAX } else { end };
            let until = node.deadline().unwrap_or(idle).min(idle).min(now + awake_ms).max(now + 1);
            let flow = match timeout(Duration::from_millis(until - now), self.incoming.recv()).await {
                Ok(Some(Incoming::Message { name, payload })) => take(node, &name, &payload)?,
                Ok(Some(Incoming::Connected)) => Flow::Continue,
                Ok(Some(Incoming::Closed(error))) => return Err(WakeError::Link(error)),
                Ok(None) => return Err(WakeError::Link("connection closed".into())),
                Err(_) => node.tick()?,
            };
            if flow == Flow::Reboot {
                return Ok(Flow::Reboot);
            }
        }
    }

    fn publish_all(&self, node: &mut Node) -> Result<(), WakeError> {
        while let Some(message) = node.take() {
            node.announce(&message);
            let (name, payload, options) = encode(&message);
            let topic = format!("{}{name}", self.prefix);
            self.client.try_publish(topic, payload, options).map_err(failed)?;
        }
        Ok(())
    }

    /// Waits until all that was published has been acknowledged. A manifest that comes meanwhile is acknowledged as well,
    /// and a broker need not say it again: it is for the next wake.
    async fn close(mut self) -> Result<Option<Bytes>, WakeError> {
        self.client.disconnect().await.map_err(failed)?;
        let mut manifest = None;
        let closed = timeout(GOODBYE, async {
            while let Some(incoming) = self.incoming.recv().await {
                match incoming {
                    Incoming::Message { name, payload } if name == names::MANIFEST => {
                        manifest = Some(payload)
                    }
                    _ => {}
                }
            }
        });
        closed.await.map_err(|_| WakeError::Link("the broker does not acknowledge".into()))?;
        Ok(manifest.filter(|envelope| !envelope.is_empty()))
    }
}

/// Drives the connection until it closes.
async fn pump(mut events: EventLoop, prefix: String, sender: mpsc::Sender<Incoming>) {
    loop {
        let message = match events.poll().await {
            Ok(Event::Incoming(Packet::ConnAck(_))) => Incoming::Connected,
            Ok(Event::Incoming(Packet::Publish(publish))) => {
                let topic = String::from_utf8_lossy(&publish.topic);
                let Some(name) = topic.strip_prefix(&prefix) else { continue };
                Incoming::Message { name: name.to_owned(), payload: publish.payload }
            }
            Ok(Event::Outgoing(Outgoing::Disconnect)) => return,
            Ok(_) => continue,
            Err(error) => {
                let _ = sender.send(Incoming::Closed(error.to_string())).await;
                return;
            }
        };
        // A receiver that is gone takes the task with it.
        let _ = sender.send(message).await;
    }
}

fn take(node: &mut Node, name: &str, payload: &[u8]) -> Result<Flow, WakeError> {
    let flow = match name {
        names::MANIFEST if payload.is_empty() => Flow::Continue,
        names::MANIFEST => node.hear(Input::Manifest(payload))?,
        names::SIGN => match SignRequest::decode(payload) {
            Ok(request) => node.hear(Input::Sign(&request))?,
            Err(_) => Flow::Continue,
        },
        names::BLOCK => match Block::decode(payload) {
            Ok(block) => node.hear(Input::Block(block))?,
            Err(_) => Flow::Continue,
        },
        names::ERROR => match ErrorMsg::decode(payload) {
            Ok(error) => {
                let retry_after = error.retry_after.unwrap_or(DEFAULT_RETRY);
                node.hear(Input::Later { retry_after })?
            }
            Err(_) => Flow::Continue,
        },
        _ => Flow::Continue,
    };
    Ok(flow)
}

fn encode(message: &Message) -> (&'static str, Vec<u8>, PublishOptions) {
    let once = PublishOptions::at_least_once();
    match message {
        Message::Hello(hello) => (names::HELLO, hello.to_vec(), once.retained()),
        Message::Signature(signature) => (names::SIGNATURE, signature.to_vec(), once),
        Message::Refused(error) => (names::REFUSED, error.to_vec(), once),
        Message::Get(request) => (names::GET, request.to_vec(), PublishOptions::at_most_once()),
        Message::Status(status) => (names::STATUS, status.to_vec(), once.retained()),
    }
}

fn failed(error: impl std::fmt::Display) -> WakeError {
    WakeError::Link(error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A herd holds as many of what the client makes room for as it has sensors awake.
    #[test]
    fn what_is_in_flight_is_bounded() {
        let mqtt = Mqtt {
            host: "localhost".into(),
            port: 1883,
            credentials: None,
            tls: None,
            wake_ms: 1,
            awake_ms: 1,
            patience: Duration::ZERO,
            late: None,
        };
        let options = mqtt.options("sensor").unwrap();
        assert_eq!(options.get_outgoing_inflight_upper_limit(), Some(IN_FLIGHT));
    }
}
