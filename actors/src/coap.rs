//! The CoAP carrier: sensors ask, it answers.
//!
//! The socket's datagrams go through the message layer ([`Endpoint`], no I/O) to the hub, and the
//! hub's answers back. Datagrams that find the socket's buffer full are lost, as on any bad day of a
//! radio: sensors repeat what is not acknowledged. It is not authenticated: DTLS comes before it.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use actix::{
    Actor, ActorFutureExt as _, Addr, AsyncContext as _, Context, MailboxError, Recipient, StreamHandler,
    WrapFuture as _,
};
use bytes::Bytes;
use coap_lite::ResponseType;
use futures::Stream;
use posthouse_protocol::id::UpdateId;
use posthouse_protocol::sensor::{ErrorCode, ErrorMsg};
use tokio::net::UdpSocket;
use tracing::{debug, warn};

pub use self::endpoint::{Endpoint, Incoming, Limits, Received, Ticket};
pub use self::message::{Format, Method, Request, Response};
pub use self::option::BlockOption;
use self::option::MAX_SZX;
use self::resource::Route;
use crate::messages::Carrier;
use crate::sensors::{Link, ReadImage, Sensors, Up, Uplink};

mod endpoint;
mod message;
mod option;
mod peer;
mod resource;

/// Longer datagrams are not read whole, and none of ours is as long.
const MAX_DATAGRAM: usize = 2048;
/// What comes over plain UDP.
const LINK: Link = Link { carrier: Carrier::Coap, authenticated: false, live: true };

/// How the carrier is set up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Config {
    /// Where to listen; port 5683 is CoAP's own.
    pub listen: SocketAddr,
    /// Bounds of the message layer.
    pub limits: Limits,
    /// Exponent of the largest block served, 0 to 6: 16 to 1024 bytes.
    pub max_szx: u8,
    /// When a sensor should come back for what is not there yet, s.
    pub retry_after: u32,
}

impl Config {
    /// Listens there, with blocks of any size.
    pub fn new(listen: SocketAddr) -> Self {
        Self { listen, limits: Limits::default(), max_szx: MAX_SZX, retry_after: 5 }
    }
}

/// A datagram and where it came from.
type Datagram = (SocketAddr, Bytes);

/// The actor.
pub struct Coap {
    words: Recipient<Uplink>,
    images: Recipient<ReadImage>,
    socket: Arc<UdpSocket>,
    endpoint: Endpoint,
    config: Config,
    started: Instant,
}

impl Coap {
    /// Binds the socket and starts; also says where it listens, for port 0.
    ///
    /// # Errors
    /// The address cannot be bound.
    pub async fn start(config: Config, hub: &Addr<Sensors>) -> io::Result<(Addr<Self>, SocketAddr)> {
        let socket = Arc::new(UdpSocket::bind(config.listen).await?);
        let address = socket.local_addr()?;
        let actor = Self {
            words: hub.clone().recipient(),
            images: hub.clone().recipient(),
            socket,
            endpoint: Endpoint::new(config.limits, rand::random()),
            config,
            started: Instant::now(),
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

    fn respond(&mut self, ticket: Ticket, response: Response) {
        let to = ticket.peer();
        let datagram = self.endpoint.respond(ticket, response);
        self.send(to, &datagram);
    }

    fn work(&mut self, incoming: Incoming, ctx: &mut Context<Self>) {
        let Incoming { ticket, request, device } = incoming;
        match resource::route(&request, device) {
            Ok(Route::Discover) => self.respond(ticket, resource::links(&request)),
            Ok(Route::Word { device, up }) => {
                self.word(ticket, request, Uplink { device, link: LINK, up }, ctx);
            }
            Ok(Route::Image { u_id, block, device }) => self.image(ticket, &u_id, block, device, ctx),
            Err(response) => self.respond(ticket, response),
        }
    }

    fn word(&mut self, ticket: Ticket, request: Request, uplink: Uplink, ctx: &mut Context<Self>) {
        if matches!(uplink.up, Up::Hello(_)) {
            self.endpoint.identify(&ticket, uplink.device);
        }
        let answer = self.words.send(uplink).into_actor(self).map(move |downs, carrier, _| {
            let response = match downs {
                Ok(downs) => resource::answer(&request, &uplink.up, &downs),
                Err(error) => unavailable(&error),
            };
            carrier.respond(ticket, response);
        });
        ctx.spawn(answer);
    }

    fn image(
        &mut self,
        ticket: Ticket,
        u_id: &UpdateId,
        asked: BlockOption,
        device: Option<posthouse_protocol::id::DeviceId>,
        ctx: &mut Context<Self>,
    ) {
        let block = asked.no_larger(self.config.max_szx);
        if block.number > BlockOption::MAX_NUMBER {
            let late = Response::diagnostic(ResponseType::BadRequest, "past the last block of this size");
            return self.respond(ticket, late);
        }
        let (u_id, retry_after) = (*u_id, self.config.retry_after);
        let read = ReadImage { u_id, offset: block.offset(), len: block.size(), device };
        let answer = self.images.send(read).into_actor(self).map(move |part, carrier, _| {
            let response = match part {
                Ok(Ok(part)) => resource::block(&u_id, block, part),
                Ok(Err(code)) => resource::refusal(&later(code, retry_after)),
                Err(error) => unavailable(&error),
            };
            carrier.respond(ticket, response);
        });
        ctx.spawn(answer);
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
    futures::stream::unfold(socket, |socket| async move {
        let mut buffer = vec![0; MAX_DATAGRAM];
        loop {
            match socket.recv_from(&mut buffer).await {
                Ok((len, _)) if len == MAX_DATAGRAM => debug!("datagram too long"),
                Ok((len, peer)) => {
                    let datagram = Bytes::copy_from_slice(&buffer[..len]);
                    return Some(((peer, datagram), socket));
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
    }
}

impl StreamHandler<Datagram> for Coap {
    fn handle(&mut self, (peer, datagram): Datagram, ctx: &mut Context<Self>) {
        let now = self.now();
        match self.endpoint.receive(peer, &datagram, now) {
            Received::Nothing => {}
            Received::Send(answer) => self.send(peer, &answer),
            Received::Request(incoming) => self.work(*incoming, ctx),
        }
    }
}
