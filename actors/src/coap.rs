//! The CoAP carrier: sensors ask, it answers, and tells those that observe what has changed.
//!
//! The socket's datagrams go through DTLS, where the site wants it ([`Sessions`], no I/O), and the message layer
//! ([`Endpoint`], no I/O) to the hub, and the hub's answers back. Datagrams that find the socket's buffer full are lost, as
//! on any bad day of a radio: sensors repeat what is not acknowledged, and so does the endpoint.

use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use actix::{
    Actor, ActorFutureExt as _, Addr, AsyncContext as _, Context, Handler, MailboxError, Message, Recipient,
    SpawnHandle, StreamHandler, WrapFuture as _,
};
use bytes::Bytes;
use coap_lite::ResponseType;
use futures::Stream;
use posthouse_audit::Audit;
use posthouse_protocol::id::{DeviceId, UpdateId};
use posthouse_protocol::sensor::{ErrorCode, ErrorMsg};
use tokio::net::UdpSocket;
use tracing::{debug, warn};

pub use self::dtls::{KeyFileError, Keys, SessionLimits, Sessions};
pub use self::endpoint::{Endpoint, Incoming, Limits, Output, Ticket};
pub use self::message::{Format, Method, Request, Response};
pub use self::option::BlockOption;
use self::option::MAX_SZX;
use self::refusals::{Refusal, Refusals};
use self::resource::{Astray, Route, Who};
use crate::messages::Carrier;
use crate::sensors::{Attach, Budget, Link, OpenImage, Push, Sensors, Staged, Up, Uplink};

mod dtls;
mod endpoint;
mod message;
mod option;
mod peer;
mod refusals;
mod resource;

/// Datagrams of so many bytes may have been longer: they are not read whole, and none of ours is as long.
const MAX_DATAGRAM: usize = 2048;

/// For so long the hub is not asked again whether somebody may have an image, ms: a block that need not go there comes sooner.
const LEASE_MS: u64 = 1_000;
/// Who may have an image without asking the hub; further ones ask for each block.
const MAX_LEASES: usize = 256;

/// How the carrier is set up.
#[derive(Debug, Clone)]
pub struct Config {
    /// Where to listen; port 5683 is CoAP's own, 5684 that of CoAP over DTLS.
    pub listen: SocketAddr,
    /// Bounds of the message layer.
    pub limits: Limits,
    /// Exponent of the largest block served, 0 to 6: 16 to 1024 bytes.
    pub max_szx: u8,
    /// When a sensor should come back for what is not there yet, s.
    pub retry_after: u32,
    /// Over DTLS, with these keys.
    pub dtls: Option<(Keys, SessionLimits)>,
    /// Where it is written down whom DTLS refuses.
    pub audit: Audit,
}

impl Config {
    /// Listens there, with blocks of any size, without DTLS, and writes nothing down.
    pub fn new(listen: SocketAddr) -> Self {
        let (limits, audit) = (Limits::default(), Audit::nowhere());
        Self { listen, limits, max_szx: MAX_SZX, retry_after: 5, dtls: None, audit }
    }
}

/// A datagram and where it came from.
type Datagram = (SocketAddr, Bytes);

/// The actor.
pub struct Coap {
    words: Recipient<Uplink>,
    images: Recipient<OpenImage>,
    /// Images that the hub has opened for a device, or for whoever does not say which it is, each until then, ms.
    leases: HashMap<(Option<DeviceId>, UpdateId), (Staged, u64)>,
    attach: Recipient<Attach>,
    socket: Arc<UdpSocket>,
    sessions: Option<Sessions>,
    refusals: Refusals,
    endpoint: Endpoint,
    max_szx: u8,
    retry_after: u32,
    started: Instant,
    /// When the timer goes off, ms, and what ends it.
    timer: Option<(u64, SpawnHandle)>,
}

impl Coap {
    /// Binds the socket and starts; also says where it listens, for port 0.
    ///
    /// # Errors
    /// The address cannot be bound.
    pub async fn start(config: Config, hub: &Addr<Sensors>) -> io::Result<(Addr<Self>, SocketAddr)> {
        let socket = Arc::new(UdpSocket::bind(config.listen).await?);
        let address = socket.local_addr()?;
        let started = Instant::now();
        let sessions = config.dtls.map(|(keys, limits)| Sessions::new(keys, limits, started, rand::random()));
        let actor = Self {
            words: hub.clone().recipient(),
            images: hub.clone().recipient(),
            leases: HashMap::new(),
            attach: hub.clone().recipient(),
            socket,
            endpoint: Endpoint::new(config.limits, sessions.is_some(), rand::random()),
            sessions,
            refusals: Refusals::new(config.audit),
            max_szx: config.max_szx,
            retry_after: config.retry_after,
            started,
            timer: None,
        };
        Ok((Actor::start(actor), address))
    }

    fn now(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    /// Sends, or drops where the socket's buffer is full.
    fn send(&self, to: SocketAddr, datagram: &[u8]) {
        if let Err(error) = self.socket.try_send_to(datagram, to) {
            debug!(%to, %error, "datagram dropped");
        }
    }

    /// Carries out whatever the layers want, until they want nothing more.
    fn flush(&mut self, ctx: &mut Context<Self>) {
        let now = self.now();
        loop {
            self.hear(now);
            match (self.endpoint.poll(), &mut self.sessions) {
                (Some(Output::Send(to, datagram)), None) => self.send(to, &datagram),
                (Some(Output::Send(to, datagram)), Some(sessions)) => sessions.send(to, &datagram, now),
                (Some(Output::Request(incoming)), _) => self.work(*incoming, ctx),
                (None, _) => break,
            }
        }
        self.hear(now);
        self.set_timer(ctx);
    }

    /// Takes what the sessions have.
    fn hear(&mut self, now: u64) {
        while let Some(event) = self.sessions.as_mut().and_then(Sessions::poll) {
            match event {
                dtls::Event::Send(to, datagram) => self.send(to, &datagram),
                // Message ids and tokens mean something within a session only (RFC 7252 §9.1.1).
                dtls::Event::Began(peer) | dtls::Event::Ended(peer) => self.endpoint.forget(peer),
                dtls::Event::Data(peer, datagram) => self.endpoint.receive(peer, &datagram, now),
                dtls::Event::Refused(peer, why) => {
                    self.refusals.tell(peer, &Refusal::Unproven(why), Instant::now());
                }
            }
        }
    }

    /// Wakes in time for the layer that wants it first. A timer that goes off too early sets the next one.
    fn set_timer(&mut self, ctx: &mut Context<Self>) {
        let sessions = self.sessions.as_ref().and_then(Sessions::deadline);
        let Some(at) = self.endpoint.deadline().into_iter().chain(sessions).min() else { return };
        if let Some((set, handle)) = self.timer {
            if set <= at {
                return;
            }
            ctx.cancel_future(handle);
        }
        let wait = Duration::from_millis(at.saturating_sub(self.now()).max(1));
        let handle = ctx.run_later(wait, |carrier, ctx| {
            carrier.timer = None;
            let now = carrier.now();
            carrier.endpoint.tick(now);
            if let Some(sessions) = &mut carrier.sessions {
                sessions.tick(now);
            }
            carrier.flush(ctx);
        });
        self.timer = Some((at, handle));
    }

    fn who(&self, ticket: &Ticket, said: Option<DeviceId>) -> Who {
        let shown = self.sessions.as_ref().and_then(|sessions| sessions.device(&ticket.peer()));
        shown.map_or(Who::Said(said), Who::Shown)
    }

    fn work(&mut self, incoming: Incoming, ctx: &mut Context<Self>) {
        let Incoming { ticket, request, device } = incoming;
        let (now, who) = (self.now(), self.who(&ticket, device));
        match resource::route(&request, who) {
            Ok(Route::Discover) => self.endpoint.respond(ticket, resource::links(&request), now),
            Ok(Route::Word { device, up }) => self.word(ticket, request, device, up, ctx),
            Ok(Route::Image { u_id, block, device }) => self.image(ticket, &u_id, block, device, ctx),
            Err(astray) => {
                if let (Astray::Another(named), Who::Shown(shown)) = (&astray, who) {
                    self.strays(ticket.peer(), *named, shown);
                }
                self.endpoint.respond(ticket, astray.answer(), now);
            }
        }
    }

    /// Says once a session that its sensor speaks for another device: it asks many things in a wake.
    fn strays(&mut self, peer: SocketAddr, named: DeviceId, shown: DeviceId) {
        if self.sessions.as_mut().is_some_and(|sessions| sessions.strays(&peer)) {
            self.refusals.tell(peer, &Refusal::Another { named, shown }, Instant::now());
        }
    }

    fn word(&mut self, ticket: Ticket, request: Request, device: DeviceId, up: Up, ctx: &mut Context<Self>) {
        let authenticated = self.sessions.is_some();
        let link = Link { carrier: Carrier::Coap, authenticated, live: ticket.is_live() };
        if matches!(up, Up::Hello(_)) {
            self.endpoint.identify(ticket.peer(), device);
        }
        let answer = self.words.send(Uplink { device, link, up }).into_actor(self);
        ctx.spawn(answer.map(move |downs, carrier, ctx| {
            let response = match downs {
                Ok(downs) => resource::answer(&request, device, &up, &downs),
                Err(error) => unavailable(&error),
            };
            if matches!(up, Up::Status(status) if status.next_wake > 0) {
                carrier.endpoint.sleep(&ticket);
            }
            carrier.endpoint.respond(ticket, response, carrier.now());
            carrier.flush(ctx);
        }));
    }

    fn image(
        &mut self,
        ticket: Ticket,
        u_id: &UpdateId,
        asked: BlockOption,
        device: Option<DeviceId>,
        ctx: &mut Context<Self>,
    ) {
        let block = asked.no_larger(self.max_szx.min(ticket.max_szx()));
        if block.number > BlockOption::MAX_NUMBER {
            let late = Response::diagnostic(ResponseType::BadRequest, "past the last block of this size");
            return self.endpoint.respond(ticket, late, self.now());
        }
        let (name, retry_after, now) = ((device, *u_id), self.retry_after, self.now());
        if let Some((staged, _)) = self.leases.get_mut(&name).filter(|(_, until)| now < *until) {
            return self.endpoint.respond(ticket, served(&name.1, block, staged), now);
        }
        let authenticated = self.sessions.is_some();
        let open = OpenImage { u_id: name.1, offset: block.offset(), device, authenticated };
        let answer = self.images.send(open).into_actor(self).map(move |staged, carrier, ctx| {
            let response = match staged {
                Ok(Ok(mut staged)) => {
                    let response = served(&name.1, block, &mut staged);
                    carrier.lease(name, staged);
                    response
                }
                Ok(Err(code)) => resource::refusal(&later(code, retry_after)),
                Err(error) => unavailable(&error),
            };
            carrier.endpoint.respond(ticket, response, carrier.now());
            carrier.flush(ctx);
        });
        ctx.spawn(answer);
    }

    /// Keeps an image at hand for the blocks that follow.
    fn lease(&mut self, name: (Option<DeviceId>, UpdateId), staged: Staged) {
        let now = self.now();
        if self.leases.len() < MAX_LEASES {
            self.leases.insert(name, (staged, now + LEASE_MS));
        }
    }
}

fn served(u_id: &UpdateId, block: BlockOption, staged: &mut Staged) -> Response {
    match staged.read(block.offset(), block.size()) {
        Ok(part) => resource::block(u_id, block, part),
        Err(code) => resource::refusal(&later(code, Budget::WAIT)),
    }
}

fn later(code: ErrorCode, retry_after: u32) -> ErrorMsg {
    let wait = matches!(code, ErrorCode::NotStaged | ErrorCode::UnknownImage | ErrorCode::Busy);
    ErrorMsg { code, retry_after: wait.then_some(retry_after) }
}

fn unavailable(error: &MailboxError) -> Response {
    warn!(%error, "the hub does not answer");
    Response::come_back(1)
}

/// The socket's datagrams, without end.
fn datagrams(socket: Arc<UdpSocket>) -> impl Stream<Item = Datagram> {
    futures::stream::unfold((socket, vec![0; MAX_DATAGRAM]), |(socket, mut buffer)| async move {
        loop {
            match socket.recv_from(&mut buffer).await {
                Ok((len, peer)) => {
                    let datagram = Bytes::copy_from_slice(&buffer[..len]);
                    return Some(((peer, datagram), (socket, buffer)));
                }
                // A port that answers with ICMP says so here; the next datagram may be another's.
                Err(error) => debug!(%error, "receive"),
            }
        }
    })
}

impl Actor for Coap {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Context<Self>) {
        ctx.add_stream(datagrams(Arc::clone(&self.socket)));
        // A lease holds its image's file open, and so its room on disk. Who is refused no more is counted none the less.
        ctx.run_interval(Duration::from_millis(LEASE_MS), |carrier, _| {
            let now = carrier.now();
            carrier.leases.retain(|_, (_, until)| now < *until);
            carrier.refusals.count(Instant::now());
        });
        self.attach.do_send(Attach { carrier: Carrier::Coap, recipient: ctx.address().recipient() });
    }
}

impl StreamHandler<Datagram> for Coap {
    fn handle(&mut self, (peer, datagram): Datagram, ctx: &mut Context<Self>) {
        let now = self.now();
        match &mut self.sessions {
            None => self.endpoint.receive(peer, &datagram, now),
            // A record that was cut off proves nothing.
            Some(_) if datagram.len() >= MAX_DATAGRAM => debug!(%peer, "datagram too long"),
            Some(sessions) => sessions.receive(peer, &datagram, now),
        }
        self.flush(ctx);
    }
}

/// What is wanted of a device has changed. Who observes it is told what it would be told if it asked.
impl Handler<Push> for Coap {
    type Result = ();

    fn handle(&mut self, push: Push, ctx: &mut Context<Self>) {
        self.leases.retain(|(device, _), _| *device != Some(push.device));
        self.endpoint.changed(&push.device, self.now());
        self.flush(ctx);
    }
}

/// To an endpoint with DTLS: other keys from now on. A sensor whose key is withdrawn is no longer heard.
#[derive(Message)]
#[rtype(result = "()")]
pub struct Rekey(pub Keys);

impl Handler<Rekey> for Coap {
    type Result = ();

    fn handle(&mut self, Rekey(keys): Rekey, ctx: &mut Context<Self>) {
        let now = self.now();
        if let Some(sessions) = &mut self.sessions {
            sessions.rekey(keys, now);
            self.flush(ctx);
        }
    }
}
