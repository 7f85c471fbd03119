//! The connection to the broker: it comes back by itself, waiting longer each time.

use std::sync::Arc;
use std::time::Duration;

use actix::{Addr, Message};
use bytes::Bytes;
use posthouse_light_client::words;
use rumqttc::mqttbytes::QoS;
use rumqttc::mqttbytes::v5::Packet;
use rumqttc::{
    AsyncClient, Event, EventLoop, MqttOptions, NetworkOptions, PublishOptions, TlsConfiguration, Transport,
};
use tokio::sync::mpsc;
use tracing::{debug, warn};

use super::mirror::{Mirror, Pending};
use super::session::EmptyHalf;
use super::{Config, ConfigError, Mqtt, topic};

/// First and longest wait before connecting again.
const BACK_OFF: (Duration, Duration) = (Duration::from_millis(250), Duration::from_secs(30));
/// Requests between us and the connection.
const REQUESTS: usize = 256;
/// Messages of QoS 1 that the broker has not acknowledged.
const IN_FLIGHT: u16 = 128;
/// Requests that go out with one write, where so many wait.
const BATCH: usize = 32;
/// Longest message from the broker; the longest of ours has a few hundred bytes.
const MAX_PACKET: u32 = 4096;
/// The broker keeps what sensors said while the gateway was away, s: a day.
const SESSION_EXPIRY: u32 = 24 * 3600;
/// Seconds between keep-alives.
const KEEP_ALIVE: u16 = 30;

/// What the connection tells the actor.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub(super) enum Incoming {
    /// It stands, and what was subscribed is.
    Connected,
    /// It broke.
    Disconnected,
    /// A message.
    Message { topic: Bytes, payload: Bytes, retained: bool },
}

/// Something to publish.
pub(super) type Outgoing = (String, Bytes, PublishOptions);

/// Client and event loop.
pub(super) fn client(config: &Config) -> Result<(AsyncClient, EventLoop), ConfigError> {
    let builder = AsyncClient::builder(options(config)).capacity(REQUESTS);
    builder.try_build().map_err(|error| ConfigError::Client(error.to_string()))
}

fn options(config: &Config) -> MqttOptions {
    // Blocks go out as they come, not with the next one after the broker's delayed acknowledgement.
    let mut network = NetworkOptions::new();
    network.set_tcp_nodelay(true);
    let mut options = MqttOptions::new(&config.client_id, (config.host.clone(), config.port));
    options
        .set_keep_alive(KEEP_ALIVE)
        .set_clean_start(false)
        .set_session_expiry_interval(Some(SESSION_EXPIRY))
        .set_network_options(network)
        .set_session_store(EmptyHalf { in_flight: Some(IN_FLIGHT) })
        .set_outgoing_inflight_upper_limit(IN_FLIGHT)
        .set_max_request_batch(BATCH)
        .set_max_packet_size(Some(MAX_PACKET));
    if let Some((name, password)) = &config.credentials {
        options.set_credentials(name, password.as_bytes().to_vec());
    }
    if let Some(tls) = &config.tls {
        options.set_transport(Transport::tls_with_config(TlsConfiguration::Rustls(Arc::clone(tls))));
    }
    options
}

/// Drives the connection for as long as the actor lives.
pub(super) async fn drive(mut events: EventLoop, client: AsyncClient, actor: Addr<Mqtt>) {
    let mut wait = BACK_OFF.0;
    while actor.connected() {
        match events.poll().await {
            Ok(Event::Incoming(Packet::ConnAck(_))) => {
                wait = BACK_OFF.0;
                // Not awaited here: subscribing needs this loop.
                tokio::spawn(subscribe(client.clone(), actor.clone()));
            }
            Ok(Event::Incoming(Packet::Publish(publish))) => {
                let (topic, payload) = (publish.topic, publish.payload);
                let message = Incoming::Message { topic, payload, retained: publish.retain };
                // Awaited: a slow gateway holds the broker back instead of filling its own memory.
                let _ = actor.send(message).await;
            }
            Ok(_) => {}
            Err(error) => {
                let error = words(&error.to_string());
                warn!(error, wait_ms = wait.as_millis() as u64, "no connection to the broker");
                actor.do_send(Incoming::Disconnected);
                tokio::time::sleep(wait).await;
                wait = (wait * 2).min(BACK_OFF.1);
            }
        }
    }
}

/// Each time anew: the broker then sends what it retains, and sensors that the gateway does not
/// know after a restart are among that.
async fn subscribe(client: AsyncClient, actor: Addr<Mqtt>) {
    for filter in topic::filters() {
        if let Err(error) = client.subscribe(filter, QoS::AtLeastOnce).await {
            debug!(%error, "not subscribed");
            return;
        }
    }
    actor.do_send(Incoming::Connected);
}

/// What there is to publish.
pub(super) struct Said {
    /// To sensors, before anything else: they wake for it, and it is little.
    pub(super) words: mpsc::Receiver<Outgoing>,
    /// To sensors that are fetching.
    pub(super) blocks: mpsc::Receiver<Outgoing>,
    /// To people's tools, once nothing is to be said to sensors.
    pub(super) pending: Arc<Pending>,
    /// To which.
    pub(super) mirrors: Vec<Mirror>,
}

/// Publishes what the actor has to say, at the connection's pace.
pub(super) async fn publish(client: AsyncClient, mut said: Said) {
    let send = async |topic: String, payload: Bytes, options: PublishOptions| {
        if let Err(error) = client.publish(topic, payload, options).await {
            warn!(%error, "not published");
        }
    };
    loop {
        tokio::select! {
            biased;
            word = said.words.recv() => {
                let Some((topic, payload, options)) = word else { break };
                send(topic, payload, options).await;
            }
            block = said.blocks.recv() => {
                let Some((topic, payload, options)) = block else { break };
                send(topic, payload, options).await;
            }
            messages = said.pending.next(&said.mirrors) => {
                for (topic, payload) in messages {
                    send(topic, payload.into(), PublishOptions::at_least_once().retained()).await;
                }
            }
        }
    }
    let _ = client.disconnect().await;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_waits_goes_out_together_and_what_is_in_flight_is_bounded() {
        let config = Config {
            host: "localhost".into(),
            port: 1883,
            client_id: "posthouse".into(),
            credentials: None,
            tls: None,
            authenticated: false,
            mirrors: Vec::new(),
        };
        let options = options(&config);
        assert_eq!(
            (options.max_request_batch(), options.get_outgoing_inflight_upper_limit()),
            (BATCH, Some(IN_FLIGHT))
        );
    }
}
