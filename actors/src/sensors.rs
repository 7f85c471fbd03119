//! The hub: which sensors there are, what is wanted of each, and the blocks of their images.
//!
//! The carriers ([`crate::mqtt`], [`crate::coap`]) send it what sensors say and get back what to
//! answer; the exchange sends it the newest intent for each sensor and hears what sensors said.
//! A sensor that is awake when its intent changes is told at once, if its carrier can reach it;
//! a sleeping one is told at its next word. Where the exchange is slow its words wait, up to a
//! bound; past it they are dropped, and asked for again at the sensor's next word.
//!
//! The hub reads staged images from the page cache, so it and the carriers belong on an arbiter of
//! their own, where they hold up nothing else.

use std::collections::HashMap;
use std::time::Instant;

use actix::{
    Actor, ActorFutureExt as _, AsyncContext as _, Context, Handler, Message, MessageResult, Recipient,
    WrapFuture as _,
};
use posthouse_audit::{Audit, Kind, Record};
use posthouse_protocol::id::{DeviceId, UpdateId};
use posthouse_protocol::sensor::{BlockRequest, ErrorCode, ErrorMsg, Hello, SignatureMsg, Status};
use tracing::{debug, warn};

pub use self::budget::Budget;
pub use self::images::{ImagePart, Staged};
pub use self::registry::{Down, Limits, Link, Policy, Registry, SensorView};
pub use self::twin::{Changed, Progress, Twin};
use crate::messages::{Carrier, SensorHello, SensorRefusal, SensorSignature, SensorStatus, SetIntent};

mod budget;
mod images;
mod registry;
mod twin;

/// Words that wait for the exchange.
const MAX_WAITING: usize = 1024;
/// Words that wait for the hub.
const MAILBOX: usize = 1024;

/// What a sensor says, or asks for.
#[derive(Debug, Clone, Copy)]
pub enum Up {
    /// Who it is.
    Hello(Hello),
    /// An answer to a sign request.
    Signature(SignatureMsg),
    /// How far it is.
    Status(Status),
    /// What it will not do.
    Refused(ErrorMsg),
    /// Blocks, over MQTT.
    Get(BlockRequest),
    /// Its manifest, over CoAP.
    Manifest,
    /// Its sign request, over CoAP.
    Sign,
}

/// A sensor's word, by its carrier. The answers are in the order in which they are to be sent.
#[derive(Debug, Clone, Copy, Message)]
#[rtype(result = "Vec<Down>")]
pub struct Uplink {
    /// Whose word.
    pub device: DeviceId,
    /// How it came.
    pub link: Link,
    /// The word.
    pub up: Up,
}

/// To a carrier: tell a sensor that is awake.
#[derive(Debug, Clone, Message)]
#[rtype(result = "()")]
pub struct Push {
    /// Whom.
    pub device: DeviceId,
    /// What, in order.
    pub downs: Vec<Down>,
}

/// A carrier that can speak first says where; there may be several of one kind.
#[derive(Message)]
#[rtype(result = "()")]
pub struct Attach {
    /// The carrier.
    pub carrier: Carrier,
    /// Its mailbox.
    pub recipient: Recipient<Push>,
}

/// A staged image, for a carrier to read from by itself for a moment, from an offset on.
#[derive(Debug, Clone, Copy, Message)]
#[rtype(result = "Result<Staged, ErrorCode>")]
pub struct OpenImage {
    /// Which.
    pub u_id: UpdateId,
    /// Where it is read first.
    pub offset: u64,
    /// Who asks, if it says so.
    pub device: Option<DeviceId>,
    /// Whether the carrier knows that it is.
    pub authenticated: bool,
}

/// How many bytes of images has the carrier carried since the start? What went twice counts twice.
#[derive(Debug, Clone, Copy, Message)]
#[rtype(result = "u64")]
pub struct Carried(pub Carrier);

/// All that a carrier with retained messages should hold, after it has lost what it held.
#[derive(Debug, Clone, Copy, Message)]
#[rtype(result = "Vec<Push>")]
pub struct Retained(pub Carrier);

/// A mirror wants to know how sensors are: all of them now, and each when it changes.
#[derive(Message)]
#[rtype(result = "()")]
pub struct Mirror(pub Recipient<Changed>);

/// The sensors as a person would see them.
#[derive(Debug, Clone, Copy, Message)]
#[rtype(result = "Vec<SensorView>")]
pub struct ListSensors;

/// The actor.
pub struct Sensors {
    hellos: Recipient<SensorHello>,
    signatures: Recipient<SensorSignature>,
    statuses: Recipient<SensorStatus>,
    refusals: Recipient<SensorRefusal>,
    carriers: HashMap<Carrier, Vec<Recipient<Push>>>,
    mirror: Option<Recipient<Changed>>,
    registry: Registry,
    audit: Audit,
    /// Words that the exchange has not taken yet.
    waiting: usize,
    started: Instant,
}

impl Sensors {
    /// A hub without sensors, whose words go to the recipients.
    pub fn new(
        hellos: Recipient<SensorHello>,
        signatures: Recipient<SensorSignature>,
        statuses: Recipient<SensorStatus>,
        refusals: Recipient<SensorRefusal>,
        policy: Policy,
        limits: Limits,
    ) -> Self {
        Self {
            hellos,
            signatures,
            statuses,
            refusals,
            carriers: HashMap::new(),
            mirror: None,
            registry: Registry::new(policy, limits),
            audit: Audit::nowhere(),
            waiting: 0,
            started: Instant::now(),
        }
    }

    /// The same, knowing devices that a carrier has known before a restart.
    pub fn remembering(mut self, devices: impl IntoIterator<Item = DeviceId>) -> Self {
        self.registry.remember(devices);
        self
    }

    /// The same, writing down whom it refuses.
    pub fn auditing(self, audit: Audit) -> Self {
        Self { audit, ..self }
    }

    /// Writes down a refusal that is not about time.
    fn refused(&self, device: &DeviceId, link: Link, code: ErrorCode) {
        use ErrorCode::{Busy, Malformed, Unauthenticated, UnknownVersion};
        if matches!(code, Busy | Malformed | Unauthenticated | UnknownVersion) {
            let reason = Some(format!("over {}: {code}", link.carrier.as_str()));
            let device = Some(device.to_string());
            self.audit.tell(Record { device, reason, ..Record::new(Kind::SensorRefused) });
        }
    }

    /// Milliseconds since the start.
    fn now(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    fn reflect(&mut self, device: &DeviceId) {
        let Some(mirror) = &self.mirror else { return };
        self.registry.changes(device).into_iter().for_each(|change| mirror.do_send(change));
    }

    /// Hands a registered sensor's word to the exchange.
    fn forward(&mut self, device: DeviceId, link: Link, up: &Up, ctx: &mut Context<Self>) {
        let Some(hello) = self.registry.hello_of(&device) else { return };
        let key = hello.key;
        match *up {
            Up::Hello(hello) => {
                let Link { carrier, authenticated, .. } = link;
                self.hand(self.hellos.clone(), SensorHello { hello, carrier, authenticated }, ctx);
            }
            Up::Signature(msg) => {
                self.hand(self.signatures.clone(), SensorSignature { device: key, msg }, ctx);
            }
            Up::Status(status) => {
                self.hand(self.statuses.clone(), SensorStatus { device: key, status }, ctx);
            }
            Up::Refused(error) => {
                self.hand(self.refusals.clone(), SensorRefusal { device: key, error }, ctx);
            }
            Up::Get(_) | Up::Manifest | Up::Sign => {}
        }
    }

    fn hand<M>(&mut self, recipient: Recipient<M>, message: M, ctx: &mut Context<Self>)
    where
        M: Message<Result = ()> + Send + 'static,
    {
        if self.waiting >= MAX_WAITING {
            return warn!("the exchange does not take what sensors say");
        }
        self.waiting += 1;
        let sent = async move { recipient.send(message).await };
        ctx.spawn(sent.into_actor(self).map(|taken, hub, _| {
            hub.waiting -= 1;
            if let Err(error) = taken {
                warn!(%error, "the exchange did not take what a sensor said");
            }
        }));
    }
}

impl Actor for Sensors {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Context<Self>) {
        ctx.set_mailbox_capacity(MAILBOX);
    }
}

impl Handler<Uplink> for Sensors {
    type Result = MessageResult<Uplink>;

    fn handle(&mut self, uplink: Uplink, ctx: &mut Context<Self>) -> Self::Result {
        let Uplink { device, link, up } = uplink;
        let now = self.now();
        let answer = match self.registry.take(&device, link, &up, now) {
            Ok(downs) => {
                self.forward(device, link, &up, ctx);
                downs
            }
            Err(error) => {
                debug!(%device, error = %error.code, "refused");
                self.refused(&device, link, error.code);
                vec![Down::Error(error)]
            }
        };
        self.reflect(&device);
        MessageResult(answer)
    }
}

impl Handler<SetIntent> for Sensors {
    type Result = ();

    fn handle(&mut self, SetIntent { device, intent }: SetIntent, _: &mut Context<Self>) {
        let now = self.now();
        let (carrier, downs) = self.registry.set_intent(device, intent, now);
        // Over CoAP it is also of interest that something is wanted no more: who observes it asks again.
        let carrier = carrier.filter(|carrier| *carrier == Carrier::Coap || !downs.is_empty());
        for recipient in carrier.and_then(|carrier| self.carriers.get(&carrier)).into_iter().flatten() {
            recipient.do_send(Push { device, downs: downs.clone() });
        }
        self.reflect(&device);
    }
}

impl Handler<Mirror> for Sensors {
    type Result = ();

    fn handle(&mut self, Mirror(mirror): Mirror, _: &mut Context<Self>) {
        self.registry.twins().into_iter().for_each(|twin| mirror.do_send(twin));
        self.mirror = Some(mirror);
    }
}

impl Handler<Attach> for Sensors {
    type Result = ();

    fn handle(&mut self, attach: Attach, _: &mut Context<Self>) {
        self.carriers.entry(attach.carrier).or_default().push(attach.recipient);
    }
}

impl Handler<OpenImage> for Sensors {
    type Result = Result<Staged, ErrorCode>;

    fn handle(&mut self, open: OpenImage, _: &mut Context<Self>) -> Self::Result {
        let staged = self.registry.open(&open.u_id, open.offset, open.device.as_ref(), open.authenticated);
        open.device.iter().for_each(|device| self.reflect(device));
        staged
    }
}

impl Handler<Carried> for Sensors {
    type Result = u64;

    fn handle(&mut self, Carried(carrier): Carried, _: &mut Context<Self>) -> u64 {
        self.registry.carried(carrier)
    }
}

impl Handler<Retained> for Sensors {
    type Result = MessageResult<Retained>;

    fn handle(&mut self, Retained(carrier): Retained, _: &mut Context<Self>) -> Self::Result {
        let manifests = self.registry.manifests(carrier);
        let push = |(device, manifest)| Push { device, downs: vec![Down::Manifest(manifest)] };
        MessageResult(manifests.map(push).collect())
    }
}

impl Handler<ListSensors> for Sensors {
    type Result = MessageResult<ListSensors>;

    fn handle(&mut self, _: ListSensors, _: &mut Context<Self>) -> Self::Result {
        MessageResult(self.registry.list(self.now()))
    }
}
