//! The MQTT carrier: sensors and gateway meet at a broker.
//!
//! What sensors publish goes to the hub, and the hub's answers to the sensors' topics. When the hub
//! has something for a sensor that is awake it speaks first. Manifests are retained, so that a
//! sensor finds its own at any wake, and are taken back when nothing is wanted any more. On failure
//! of the broker the connection comes back by itself; what did not fit the queue meanwhile is
//! dropped and said again at the sensor's next word.

use std::sync::Arc;

use actix::{
    Actor, ActorFutureExt as _, Addr, AsyncContext as _, Context, Handler, Recipient, WrapFuture as _,
};
use bytes::Bytes;
use posthouse_protocol::id::DeviceId;
use posthouse_protocol::sensor::{
    Block, BlockRequest, ErrorCode, ErrorMsg, Hello, SignatureMsg, Status, names,
};
use posthouse_protocol::wire::WireError;
use rumqttc::PublishOptions;
use rumqttc::mqttbytes::v5::PublishProperties;
use thiserror::Error;
use tokio::sync::mpsc;
use tracing::{debug, info, warn};
use zeroize::Zeroizing;

use self::connection::{Incoming, Outgoing};
pub use self::mirror::Mirror;
use self::mirror::Pending;
use crate::messages::Carrier;
use crate::sensors::{self, Attach, Changed, Down, Link, Push, Retained, Sensors, Up, Uplink};

mod connection;
mod mirror;
mod session;
mod topic;

/// Blocks that wait for the connection: 64 for each of 64 sensors, 4 MiB at most. A sensor asks again for what had no room.
const BLOCKS: usize = 4096;
/// All else that waits for it, and goes first: two words for each of 8192 sensors, as when an image has come for all of them. They
/// share the manifest's bytes.
const WORDS: usize = 16_384;
/// Words that wait for the hub.
const MAX_WAITING: usize = 1024;
/// A sign request that the broker could not deliver for so long is out of date, s: the hub keeps
/// the newest and says it at the sensor's next word.
const SIGN_EXPIRY: u32 = 60;

/// How the carrier is set up.
#[derive(Clone)]
pub struct Config {
    /// The broker's host.
    pub host: String,
    /// The broker's port.
    pub port: u16,
    /// The gateway's name at the broker, under which its session is kept.
    pub client_id: String,
    /// User name and password.
    pub credentials: Option<(String, Zeroizing<String>)>,
    /// How TLS is spoken; without it, none is.
    pub tls: Option<Arc<rustls::ClientConfig>>,
    /// Whether the broker knows each sensor by its own credentials and lets it publish to its own
    /// topics only. Sign requests go out only then, unless the site says otherwise.
    pub authenticated: bool,
    /// Whose topics sensors are shown on, whatever their own carrier is.
    pub mirrors: Vec<Mirror>,
}

/// Why the carrier does not start.
#[derive(Debug, Error)]
pub enum ConfigError {
    /// The client takes the settings for wrong.
    #[error("broker: {0}")]
    Client(String),
}

/// The actor.
pub struct Mqtt {
    words: Recipient<Uplink>,
    retained: Recipient<Retained>,
    /// To the connection: blocks, and all else.
    outgoing_blocks: mpsc::Sender<Outgoing>,
    outgoing_words: mpsc::Sender<Outgoing>,
    hub: Addr<Sensors>,
    mirrors: bool,
    pending: Arc<Pending>,
    authenticated: bool,
    connected: bool,
    /// Words that the hub has not answered yet.
    waiting: usize,
}

impl Mqtt {
    /// Starts, and connects in its own time.
    ///
    /// # Errors
    /// [`ConfigError`].
    pub fn start(config: &Config, hub: &Addr<Sensors>) -> Result<Addr<Self>, ConfigError> {
        let (client, events) = connection::client(config)?;
        let (outgoing_blocks, blocks) = mpsc::channel(BLOCKS);
        let (outgoing_words, words) = mpsc::channel(WORDS);
        let carrier = Self {
            words: hub.clone().recipient(),
            retained: hub.clone().recipient(),
            outgoing_blocks,
            outgoing_words,
            hub: hub.clone(),
            mirrors: !config.mirrors.is_empty(),
            pending: Arc::default(),
            authenticated: config.authenticated,
            connected: false,
            waiting: 0,
        };
        let said = connection::Said {
            words,
            blocks,
            pending: Arc::clone(&carrier.pending),
            mirrors: config.mirrors.clone(),
        };
        let address = Actor::start(carrier);
        hub.do_send(Attach { carrier: Carrier::Mqtt, recipient: address.clone().recipient() });
        tokio::spawn(connection::publish(client.clone(), said));
        tokio::spawn(connection::drive(events, client, address.clone()));
        Ok(address)
    }

    fn tell(&self, device: &DeviceId, downs: &[Down]) {
        // What ends an answer in blocks must not come before them.
        let mut blocks = false;
        let lost = downs.iter().filter(|down| {
            let Some((name, payload, options)) = encode(down) else { return false };
            blocks |= matches!(down, Down::Block { .. });
            let queue = if blocks { &self.outgoing_blocks } else { &self.outgoing_words };
            queue.try_send((topic::down(device, name), payload, options)).is_err()
        });
        let lost = lost.count();
        if lost > 0 {
            warn!(%device, lost, connected = self.connected, "no room for messages to the broker");
        }
    }

    fn word(&mut self, device: DeviceId, up: Up, retained: bool, ctx: &mut Context<Self>) {
        if self.waiting >= MAX_WAITING {
            return warn!(%device, "the hub does not take what sensors say");
        }
        self.waiting += 1;
        let link = Link { carrier: Carrier::Mqtt, authenticated: self.authenticated, live: !retained };
        let answer = self.words.send(Uplink { device, link, up }).into_actor(self);
        ctx.spawn(answer.map(move |downs, carrier, _| {
            carrier.waiting -= 1;
            match downs {
                Ok(downs) => carrier.tell(&device, &downs),
                Err(error) => warn!(%error, "the hub does not answer"),
            }
        }));
    }

    /// The broker may have lost what it retained.
    fn restore(&mut self, ctx: &mut Context<Self>) {
        if self.mirrors {
            self.hub.do_send(sensors::Mirror(ctx.address().recipient()));
        }
        let wanted = self.retained.send(Retained(Carrier::Mqtt)).into_actor(self);
        ctx.spawn(wanted.map(|pushes, carrier, _| {
            for Push { device, downs } in pushes.unwrap_or_default() {
                carrier.tell(&device, &downs);
            }
        }));
    }
}

impl Actor for Mqtt {
    type Context = Context<Self>;
}

impl Handler<Incoming> for Mqtt {
    type Result = ();

    fn handle(&mut self, incoming: Incoming, ctx: &mut Context<Self>) {
        match incoming {
            Incoming::Connected => {
                info!("connected to the broker");
                self.connected = true;
                self.restore(ctx);
            }
            Incoming::Disconnected => self.connected = false,
            Incoming::Message { topic, payload, retained } => {
                let Some((device, name)) = topic::parse(&topic) else {
                    debug!(topic = %String::from_utf8_lossy(&topic), "not a sensor's topic");
                    return;
                };
                match decode(name, &payload) {
                    Ok(Some(up)) => self.word(device, up, retained, ctx),
                    Ok(None) => {}
                    Err(error) => {
                        debug!(%device, name, %error, "malformed");
                        // What the broker kept was answered when it came.
                        if !retained {
                            let malformed = ErrorMsg { code: ErrorCode::Malformed, retry_after: None };
                            self.tell(&device, &[Down::Error(malformed)]);
                        }
                    }
                }
            }
        }
    }
}

impl Handler<Push> for Mqtt {
    type Result = ();

    fn handle(&mut self, push: Push, _: &mut Context<Self>) {
        self.tell(&push.device, &push.downs);
    }
}

impl Handler<Changed> for Mqtt {
    type Result = ();

    fn handle(&mut self, changed: Changed, _: &mut Context<Self>) {
        self.pending.push(changed);
    }
}

/// A sensor's word; nothing where a retained one was taken back.
fn decode(name: &str, payload: &[u8]) -> Result<Option<Up>, WireError> {
    if payload.is_empty() {
        return Ok(None);
    }
    Ok(Some(match name {
        names::HELLO => Up::Hello(Hello::decode(payload)?),
        names::SIGNATURE => Up::Signature(SignatureMsg::decode(payload)?),
        names::GET => Up::Get(BlockRequest::decode(payload)?),
        names::STATUS => Up::Status(Status::decode(payload)?),
        names::REFUSED => Up::Refused(ErrorMsg::decode(payload)?),
        _ => return Ok(None),
    }))
}

/// Name, payload and manner of a message; nothing for what MQTT has no message for.
fn encode(down: &Down) -> Option<(&'static str, Bytes, PublishOptions)> {
    let once = PublishOptions::at_least_once();
    Some(match down {
        Down::Manifest(envelope) => (names::MANIFEST, envelope.clone(), once.retained()),
        Down::Sign(request) => {
            let message_expiry_interval = Some(SIGN_EXPIRY);
            let properties = PublishProperties { message_expiry_interval, ..PublishProperties::default() };
            (names::SIGN, request.to_vec().into(), once.properties(properties))
        }
        Down::Block { u_id, offset, bytes } => {
            let block = Block { u_id: *u_id, offset: *offset, bytes };
            (names::BLOCK, block.to_vec().into(), PublishOptions::at_most_once())
        }
        Down::Error(error) => (names::ERROR, error.to_vec().into(), once),
        Down::Reply(_) => return None,
    })
}
