//! The carrier over CoAP (RFC 7252), without I/O, clock or allocation: a port moves datagrams between this and a socket
//! to its gateway.
//!
//! One request is out at a time, confirmable, sent again with growing patience, and written anew each time rather than
//! kept. A wake is: hello, whatever the device has to say, the manifest, something to sign, blocks, and again until
//! there is nothing more, for [`Settings::awake_ms`] at least; then the status that says when it wakes again.
//!
//! The image and the manifest prove themselves, so plain CoAP is safe for them. Sign requests are not: where the
//! gateway wants an authenticated carrier, the port puts DTLS between this and its socket.

use posthouse_protocol::device::{Input, Message, Sensor};
use posthouse_protocol::id::{DeviceId, Digest};
use posthouse_protocol::sensor::{Block, BlockRequest, MAX_BLOCK, MAX_MANIFEST, SignRequest, names};

use self::message::{Block2, Incoming, Kind, MAX_ECHO, TOKEN, Writer, option};
use crate::device::{DEFAULT_RETRY, Device, Failure, Flow};
use crate::ports::{Flash, Key, Pages};

pub use self::message::MAX_REQUEST;

mod message;

/// Longest datagram that a port must be able to receive: a block with its options.
pub const MAX_RESPONSE: usize = MAX_BLOCK + 128;

/// Retransmissions of a request (RFC 7252 §4.8, MAX_RETRANSMIT).
const MAX_RETRANSMIT: u8 = 4;
/// Rounds of questions in one wake: a gateway that always has one more must not drain the battery.
const MAX_ROUNDS: u16 = 10_000;
/// Content format of our messages (RFC 7252 §12.3): application/cbor.
const CBOR: u32 = 60;
/// Bytes of a block of the manifest that is asked for: all of it.
const ENVELOPE_BLOCK: u16 = 512;

/// What a port decides about its wakes.
#[derive(Debug, Clone, Copy)]
pub struct Settings {
    /// Anything that differs from boot to boot, for message ids and tokens: drawn, or made of a counter that is kept. A gateway
    /// answers what it takes for a repetition as it did before, by address and id for 247 s (RFC 7252 §4.8.2), so that
    /// a hello after a reboot would be lost on it.
    pub seed: u32,
    /// First patience with a request, ms; 2000 by RFC 7252.
    pub ack_timeout_ms: u32,
    /// How long it stays awake with nothing to do, ms.
    pub awake_ms: u32,
    /// From one wake to the next, s.
    pub next_wake_s: u32,
}

/// What to do now.
#[must_use]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    /// Send so many bytes of the buffer to the gateway, then poll again.
    Send(usize),
    /// Hand in the next datagram, or poll again at this time, ms.
    Wait(u64),
    /// This wake is over: sleep for so many seconds, then [`Coap::wake`].
    Sleep(u32),
    /// The spare slot was made the one that boots: reboot now.
    Reboot,
}

/// A request that is out.
#[derive(Debug, Clone, Copy)]
struct Exchange {
    what: What,
    id: u16,
    token: [u8; TOKEN],
    /// Send again, or give up, then; ms.
    until: u64,
    patience: u64,
    tries: u8,
    acknowledged: bool,
    echoed: bool,
}

/// What a request asks or says.
#[derive(Debug, Clone, Copy)]
enum What {
    Say(Message),
    Manifest,
    Sign,
}

/// What follows once the device has nothing to say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Round {
    Manifest,
    Sign,
    /// Both were answered.
    Asked,
    Pause(u64),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Life {
    Asleep,
    Awake,
    /// The last status is on its way.
    Ending,
    Rebooting,
}

/// Bytes of bounded length.
#[derive(Debug, Clone, Copy)]
struct Bounded<const N: usize> {
    bytes: [u8; N],
    len: usize,
}

impl<const N: usize> Bounded<N> {
    const EMPTY: Self = Self { bytes: [0; N], len: 0 };

    fn as_slice(&self) -> &[u8] {
        &self.bytes[..self.len]
    }

    /// Whether there was room.
    fn extend(&mut self, more: &[u8]) -> bool {
        let Some(room) = self.bytes[self.len..].get_mut(..more.len()) else { return false };
        room.copy_from_slice(more);
        self.len += more.len();
        true
    }
}

/// What the device has to say, one of a kind: a newer one replaces an older.
#[derive(Debug, Clone, Copy, Default)]
struct Outbox([Option<Message>; 5]);

impl Outbox {
    fn put(&mut self, message: Message) {
        let place = match message {
            Message::Hello(_) => 0,
            Message::Signature(_) => 1,
            Message::Refused(_) => 2,
            Message::Status(_) => 3,
            Message::Get(_) => 4,
        };
        self.0[place] = Some(message);
    }

    fn take(&mut self) -> Option<Message> {
        self.0.iter_mut().find_map(Option::take)
    }

    fn is_empty(&self) -> bool {
        self.0.iter().all(Option::is_none)
    }
}

/// The carrier of one device to its gateway.
#[derive(Debug)]
pub struct Coap {
    settings: Settings,
    life: Life,
    out: Outbox,
    exchange: Option<Exchange>,
    round: Round,
    rounds: u16,
    /// The end of the wake if there is nothing to do, ms.
    end: u64,
    /// An acknowledgement or a reset that is due.
    reply: Option<(Kind, u16)>,
    id: u16,
    random: u32,
    envelope: Bounded<MAX_MANIFEST>,
    /// ETag of the manifest that was taken in this wake.
    etag: Bounded<8>,
    echo: Bounded<MAX_ECHO>,
    /// What was answered in this wake: the gateway may go on asking until it has acted on it.
    answered: Option<Digest>,
}

/// What the methods give for a device with these parts.
type Result<T, F, K, P> =
    core::result::Result<T, Failure<<F as Flash>::Error, <K as Key>::Error, <P as Pages>::Error>>;

impl Coap {
    /// A carrier that is asleep.
    pub fn new(settings: Settings) -> Self {
        Self {
            settings,
            life: Life::Asleep,
            out: Outbox::default(),
            exchange: None,
            round: Round::Manifest,
            rounds: 0,
            end: 0,
            reply: None,
            id: settings.seed as u16,
            random: settings.seed | 1,
            envelope: Bounded::EMPTY,
            etag: Bounded::EMPTY,
            echo: Bounded::EMPTY,
            answered: None,
        }
    }

    /// Begins a wake: the network is there.
    ///
    /// # Errors
    /// [`Failure`] of the board.
    pub fn wake<F: Flash, K: Key, P: Pages>(
        &mut self,
        device: &mut Device<F, K, P>,
        now: u64,
    ) -> Result<(), F, K, P> {
        self.life = Life::Awake;
        self.exchange = None;
        self.round = Round::Manifest;
        self.rounds = 0;
        self.end = now.saturating_add(self.settings.awake_ms.into());
        // A manifest that comes again says: go on; once a wake that is worth its bytes.
        (self.envelope.len, self.etag.len, self.answered) = (0, 0, None);
        self.give(device, Input::Wake, now)
    }

    /// What to do at `now`, ms; a request or a reply is written to `out`.
    ///
    /// # Errors
    /// [`Failure`] of the board.
    pub fn poll<F: Flash, K: Key, P: Pages>(
        &mut self,
        device: &mut Device<F, K, P>,
        now: u64,
        out: &mut [u8; MAX_REQUEST],
    ) -> Result<Next, F, K, P> {
        if let Some((kind, id)) = self.reply.take() {
            return Ok(Next::Send(message::empty(out, kind, id)));
        }
        loop {
            match self.life {
                Life::Rebooting => return Ok(Next::Reboot),
                Life::Asleep => return Ok(Next::Sleep(self.settings.next_wake_s)),
                Life::Awake | Life::Ending => {}
            }
            if let Some(exchange) = &mut self.exchange {
                if now < exchange.until {
                    return Ok(Next::Wait(exchange.until));
                }
                if exchange.acknowledged || exchange.tries > MAX_RETRANSMIT {
                    self.give_up(device, now)?;
                    continue;
                }
                exchange.again(now);
                return Ok(Next::Send(self.write(device.sensor(), out)));
            }
            if let Some(until) = self.go_on(device, now)? {
                return Ok(Next::Wait(until));
            }
        }
    }

    /// Begins the next exchange or the next stage of the wake; or says until when there is nothing.
    fn go_on<F: Flash, K: Key, P: Pages>(
        &mut self,
        device: &mut Device<F, K, P>,
        now: u64,
    ) -> Result<Option<u64>, F, K, P> {
        if let Some(message) = self.out.take() {
            self.begin(What::Say(message), now);
            return Ok(None);
        }
        if self.life == Life::Ending {
            self.life = Life::Asleep;
            return Ok(None);
        }
        match self.round {
            Round::Manifest => self.begin(What::Manifest, now),
            Round::Sign => self.begin(What::Sign, now),
            Round::Asked => return self.asked(device, now).map(|()| None),
            Round::Pause(until) if now < until => return Ok(Some(until)),
            Round::Pause(_) => {
                self.round = Round::Manifest;
                let flow = device.tick(now, &mut |message| self.out.put(message))?;
                self.follow(flow);
            }
        }
        Ok(None)
    }

    /// Both questions were answered, and nothing came of it: pause, or the end of the wake.
    fn asked<F: Flash, K: Key, P: Pages>(
        &mut self,
        device: &mut Device<F, K, P>,
        now: u64,
    ) -> Result<(), F, K, P> {
        self.rounds += 1;
        let done = now >= self.end && !device.sensor().is_busy();
        if done || self.rounds >= MAX_ROUNDS {
            self.life = Life::Ending;
            return self.give(device, Input::Sleep { next_wake: self.settings.next_wake_s }, now);
        }
        let part = now.saturating_add(u64::from(self.settings.awake_ms / 4).max(10));
        let until = device.sensor().deadline().unwrap_or(part).min(part).max(now + 1);
        self.round = Round::Pause(until);
        Ok(())
    }

    /// The gateway does not answer: the wake is over, and what was to be said is said at the next.
    fn give_up<F: Flash, K: Key, P: Pages>(
        &mut self,
        device: &mut Device<F, K, P>,
        now: u64,
    ) -> Result<(), F, K, P> {
        self.give(device, Input::Sleep { next_wake: self.settings.next_wake_s }, now)?;
        self.exchange = None;
        self.out = Outbox::default();
        self.life = Life::Asleep;
        Ok(())
    }

    fn give<F: Flash, K: Key, P: Pages>(
        &mut self,
        device: &mut Device<F, K, P>,
        input: Input<'_>,
        now: u64,
    ) -> Result<(), F, K, P> {
        let outcome = device.give(input, now, &mut |message| self.out.put(message))?;
        self.follow(outcome.flow);
        Ok(())
    }

    fn follow(&mut self, flow: Flow) {
        if flow == Flow::Reboot {
            self.life = Life::Rebooting;
        }
    }

    // --- requests

    fn begin(&mut self, what: What, now: u64) {
        self.id = self.id.wrapping_add(1);
        let timeout = u64::from(self.settings.ack_timeout_ms.max(1));
        // RFC 7252 §4.2: between one and one and a half times the timeout.
        let patience = timeout + u64::from(self.draw()) % (timeout / 2 + 1);
        self.exchange = Some(Exchange {
            what,
            id: self.id,
            token: self.draw().to_be_bytes(),
            until: now,
            patience,
            tries: 0,
            acknowledged: false,
            echoed: false,
        });
    }

    /// xorshift32 (Marsaglia, 2003): tokens that differ, not secrets.
    fn draw(&mut self) -> u32 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 17;
        self.random ^= self.random << 5;
        self.random
    }

    /// Writes the request that is out.
    fn write(&self, sensor: &Sensor, out: &mut [u8; MAX_REQUEST]) -> usize {
        let Some(exchange) = &self.exchange else { return 0 };
        let method = match exchange.what {
            What::Manifest | What::Sign | What::Say(Message::Get(_)) => message::GET,
            What::Say(_) => message::POST,
        };
        let mut request = Writer::new(out, method, exchange.id, exchange.token);
        let device = sensor.hello().key.device_id();
        match &exchange.what {
            What::Manifest => {
                if self.etag.len > 0 {
                    request.option(option::ETAG, self.etag.as_slice());
                }
                ask(&mut request, names::MANIFEST, &device);
                request.block2(Block2::at(self.envelope.len as u32, ENVELOPE_BLOCK));
            }
            What::Sign => ask(&mut request, names::SIGN, &device),
            What::Say(Message::Get(want)) => image(&mut request, want, &device),
            What::Say(message) => say(&mut request, message, &device),
        }
        if exchange.echoed {
            request.option(option::ECHO, self.echo.as_slice());
        }
        if let What::Say(message) = &exchange.what {
            payload(&mut request, message);
        }
        request.len()
    }

    // --- responses

    /// Takes a datagram from the gateway, and no other peer: the port compares addresses. Whatever it holds, nothing
    /// happens but what the exchange that is out allows.
    ///
    /// # Errors
    /// [`Failure`] of the board.
    pub fn receive<F: Flash, K: Key, P: Pages>(
        &mut self,
        device: &mut Device<F, K, P>,
        datagram: &[u8],
        now: u64,
    ) -> Result<(), F, K, P> {
        let Some(incoming) = Incoming::read(datagram) else { return Ok(()) };
        let same_id = self.exchange.is_some_and(|exchange| exchange.id == incoming.id);
        let same_token = self.exchange.is_some_and(|exchange| exchange.token == incoming.token);
        match (incoming.kind, incoming.code) {
            (Kind::Reset, _) if same_id => return self.give_up(device, now),
            (Kind::Acknowledgement, message::EMPTY) if same_id => self.acknowledged(now),
            (Kind::Acknowledgement, _) if same_id && same_token && incoming.is_response() => {
                return self.answer(device, &incoming, now);
            }
            (Kind::Confirmable, _) if same_token && incoming.is_response() => {
                self.reply = Some((Kind::Acknowledgement, incoming.id));
                return self.answer(device, &incoming, now);
            }
            (Kind::NonConfirmable, _) if same_token && incoming.is_response() => {
                return self.answer(device, &incoming, now);
            }
            // A ping, a request, or the answer to an earlier exchange (RFC 7252 §4.2).
            (Kind::Confirmable, _) => self.reply = Some((Kind::Reset, incoming.id)),
            _ => {}
        }
        Ok(())
    }

    /// It was received; the response comes by itself, and takes its time.
    fn acknowledged(&mut self, now: u64) {
        let wait = u64::from(self.settings.ack_timeout_ms) << MAX_RETRANSMIT;
        if let Some(exchange) = self.exchange.as_mut().filter(|exchange| !exchange.acknowledged) {
            exchange.acknowledged = true;
            exchange.until = now.saturating_add(wait);
        }
    }

    fn answer<F: Flash, K: Key, P: Pages>(
        &mut self,
        device: &mut Device<F, K, P>,
        answer: &Incoming<'_>,
        now: u64,
    ) -> Result<(), F, K, P> {
        let Some(exchange) = self.exchange.take() else { return Ok(()) };
        if let (message::UNAUTHORIZED, Some(echo), false) = (answer.code, answer.echo, exchange.echoed) {
            self.echo.len = 0;
            self.echo.extend(echo);
            self.begin(exchange.what, now);
            self.exchange.iter_mut().for_each(|again| again.echoed = true);
            return Ok(());
        }
        match exchange.what {
            What::Manifest => self.manifest(device, answer, now),
            What::Sign => self.sign(device, answer, now),
            What::Say(Message::Get(want)) => self.block(device, &want, answer, now),
            What::Say(_) => Ok(()),
        }
    }

    fn manifest<F: Flash, K: Key, P: Pages>(
        &mut self,
        device: &mut Device<F, K, P>,
        answer: &Incoming<'_>,
        now: u64,
    ) -> Result<(), F, K, P> {
        self.round = Round::Sign;
        let offset = answer.block2.map_or(0, |block| block.offset);
        let in_order = answer.code == message::CONTENT && offset as usize == self.envelope.len;
        if !in_order || !self.envelope.extend(answer.payload) {
            self.envelope.len = 0;
            return Ok(());
        }
        if answer.block2.is_some_and(|block| block.more) && !answer.payload.is_empty() {
            self.round = Round::Manifest;
            return Ok(());
        }
        self.etag.len = 0;
        self.etag.extend(answer.etag.unwrap_or_default());
        let envelope = Input::Manifest(self.envelope.as_slice());
        let outcome = device.give(envelope, now, &mut |message| self.out.put(message))?;
        self.envelope.len = 0;
        self.follow(outcome.flow);
        Ok(())
    }

    fn sign<F: Flash, K: Key, P: Pages>(
        &mut self,
        device: &mut Device<F, K, P>,
        answer: &Incoming<'_>,
        now: u64,
    ) -> Result<(), F, K, P> {
        self.round = Round::Asked;
        if answer.code == message::CONTENT
            && let Ok(request) = SignRequest::decode(answer.payload)
            && self.answered.replace(request.digest()) != Some(request.digest())
        {
            self.give(device, Input::Sign(&request), now)?;
        }
        if !self.out.is_empty() {
            self.round = Round::Manifest;
        }
        Ok(())
    }

    fn block<F: Flash, K: Key, P: Pages>(
        &mut self,
        device: &mut Device<F, K, P>,
        want: &BlockRequest,
        answer: &Incoming<'_>,
        now: u64,
    ) -> Result<(), F, K, P> {
        let is_block = answer.code == message::CONTENT && (1..=MAX_BLOCK).contains(&answer.payload.len());
        if is_block {
            let offset = answer.block2.map_or(0, |block| block.offset);
            let block = Block { u_id: want.u_id, offset, bytes: answer.payload };
            return self.give(device, Input::Block(block), now);
        }
        let retry_after = answer.max_age.unwrap_or(DEFAULT_RETRY);
        self.give(device, Input::Later { retry_after }, now)
    }
}

impl Exchange {
    fn again(&mut self, now: u64) {
        self.until = now.saturating_add(self.patience << self.tries);
        self.tries += 1;
    }
}

/// `GET /ph/<name>?d=<device>`.
fn ask(request: &mut Writer<'_>, name: &str, device: &DeviceId) {
    path(request, name);
    query(request, device);
}

/// `POST /ph/<name>`; all but a hello say whose word it is.
fn say(request: &mut Writer<'_>, message: &Message, device: &DeviceId) {
    path(
        request,
        match message {
            Message::Hello(_) => names::HELLO,
            Message::Signature(_) => names::SIGNATURE,
            Message::Refused(_) => names::REFUSED,
            Message::Status(_) => names::STATUS,
            Message::Get(_) => names::IMAGE,
        },
    );
    request.uint(option::CONTENT_FORMAT, CBOR);
    if !matches!(message, Message::Hello(_)) {
        query(request, device);
    }
}

/// `GET /ph/image/<u_id>?d=<device>`, by Block2.
fn image(request: &mut Writer<'_>, want: &BlockRequest, device: &DeviceId) {
    path(request, names::IMAGE);
    request.option(option::URI_PATH, &hex::<64>(want.u_id.as_bytes()));
    query(request, device);
    request.block2(Block2::at(want.offset, want.len));
}

fn path(request: &mut Writer<'_>, name: &str) {
    request.option(option::URI_PATH, names::ROOT.as_bytes());
    request.option(option::URI_PATH, name.as_bytes());
}

fn query(request: &mut Writer<'_>, device: &DeviceId) {
    let mut value = [0; names::DEVICE_QUERY.len() + 32];
    value[..names::DEVICE_QUERY.len()].copy_from_slice(names::DEVICE_QUERY.as_bytes());
    value[names::DEVICE_QUERY.len()..].copy_from_slice(&hex::<32>(device.as_bytes()));
    request.option(option::URI_QUERY, &value);
}

/// The message, in room that [`MAX_REQUEST`] has for every one of them.
fn payload(request: &mut Writer<'_>, message: &Message) {
    if let Message::Get(_) = message {
        return;
    }
    request.payload(|room| {
        let written = match message {
            Message::Hello(hello) => hello.encode_into(room),
            Message::Signature(signature) => signature.encode_into(room),
            Message::Refused(error) => error.encode_into(room),
            Message::Status(status) => status.encode_into(room),
            Message::Get(get) => get.encode_into(room),
        };
        written.map_or(0, <[u8]>::len)
    });
}

/// Lower-case hex of `N / 2` bytes.
fn hex<const N: usize>(bytes: &[u8]) -> [u8; N] {
    let digit = |nibble: u8| nibble + if nibble < 10 { b'0' } else { b'a' - 10 };
    core::array::from_fn(|at| {
        let byte = bytes.get(at / 2).copied().unwrap_or_default();
        digit(if at % 2 == 0 { byte >> 4 } else { byte & 0xf })
    })
}
