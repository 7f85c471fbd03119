//! A gateway's CoAP side without its socket: sessions, endpoint, resources and registry, wired as the actor wires them; and
//! peers that do whatever the input says, while what they are sent is held against what they asked.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt as _;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use bytes::Bytes;
use coap_lite::{CoapOption, MessageClass, MessageType, Packet, RequestType, ResponseType};
use dimpl::crypto::Dtls12CipherSuite;
use dimpl::{Dtls, Output as Said, PskResolver};
use posthouse_protocol::id::DeviceId;
use sha2::{Digest as _, Sha256};

use super::dtls::Event;
use super::resource::{self, Route, Who};
use super::{
    BlockOption, Endpoint, Incoming, Keys, Limits, Output, Response, SessionLimits, Sessions, Ticket,
};
use crate::messages::Carrier;
use crate::sensors::{Link, Registry, Up};
use crate::site::{self, Input, SENSORS};

const LIMITS: Limits = Limits { max_peers: 4, max_working: 4, max_observers: 6 };
const LIMITS_OF_SESSIONS: SessionLimits = SessionLimits { max_sessions: 3, max_handshakes: 4, idle_secs: 60 };
/// Longest datagram that an endpoint may send without fragments (RFC 7252 §4.6).
const MAX_SENT: usize = 1152;
/// Answers in full to one host in a minute, and notifications, each twice.
const FULL: usize = 3 * MAX_SENT;
const ADDRESSES: [&str; 6] =
    ["192.0.2.1:1", "192.0.2.1:2", "192.0.2.2:1", "[2001:db8::1]:1", "[2001:db8::2]:1", "127.0.0.1:9"];

/// One who asks, and what it may be sent.
struct Peer {
    address: SocketAddr,
    client: Option<Client>,
    /// Ids of confirmable messages, and tokens, that it has sent.
    ids: BTreeSet<u16>,
    tokens: BTreeSet<Vec<u8>>,
    last: Vec<u8>,
    echo: Option<Vec<u8>>,
    /// The last confirmable message to it.
    confirmable: Option<u16>,
    /// It has shown, or may have shown, where it is.
    shown: bool,
    sent: usize,
    /// Bytes that it may have been sent as long as it has not.
    allowed: usize,
}

struct Secret;

impl PskResolver for Secret {
    fn resolve(&self, _: &[u8]) -> Option<Vec<u8>> {
        Some(vec![7; 16])
    }
}

/// dimpl as a client, with the key of one sensor.
struct Client {
    dtls: Dtls,
    connected: bool,
    waiting: Vec<Vec<u8>>,
}

impl Client {
    fn new(seed: u8, at: Instant) -> Self {
        // Made once: dimpl tries out its cryptography each time.
        static CONFIGS: OnceLock<Vec<Arc<dimpl::Config>>> = OnceLock::new();
        let configs = CONFIGS.get_or_init(|| (0..SENSORS).map(|seed| Arc::new(Self::config(seed))).collect());
        let config = Arc::clone(&configs[usize::from(seed % SENSORS)]);
        let mut dtls = Dtls::new_12_psk(config, at);
        dtls.set_active(true);
        let _ = dtls.handle_timeout(at);
        let mut client = Self { dtls, connected: false, waiting: Vec::new() };
        let _ = client.drain();
        client
    }

    fn config(seed: u8) -> dimpl::Config {
        dimpl::Config::builder()
            .with_crypto_provider(dimpl::crypto::rust_crypto::default_provider())
            .with_psk_client(format!("sensor-{seed}").into_bytes(), Arc::new(Secret))
            .dtls12_cipher_suites(&[Dtls12CipherSuite::PSK_AES128_CCM_8])
            .dtls13_cipher_suites(&[])
            .build()
            .expect("the settings are constants")
    }

    /// What it has received; what it wants to send waits.
    fn drain(&mut self) -> Vec<Vec<u8>> {
        let mut buffer = vec![0; 4096];
        let mut received = Vec::new();
        loop {
            match self.dtls.poll_output(&mut buffer) {
                Said::Packet(datagram) => self.waiting.push(datagram.to_vec()),
                Said::Connected => self.connected = true,
                Said::ApplicationData(data) => received.push(data.to_vec()),
                Said::Timeout(_) => return received,
                _ => {}
            }
        }
    }
}

fn keys() -> Keys {
    static KEYS: OnceLock<Keys> = OnceLock::new();
    let load = || {
        let path = std::env::temp_dir().join(format!("posthouse-fuzz-keys-{}", std::process::id()));
        let secret = "07".repeat(16);
        let lines = (0..SENSORS).map(|seed| format!("sensor-{seed} {} {secret}\n", site::device(seed)));
        std::fs::write(&path, lines.collect::<String>()).expect("a file for the keys");
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).expect("its mode");
        Keys::load(&path).expect("keys")
    };
    KEYS.get_or_init(load).clone()
}

struct Bench {
    endpoint: Endpoint,
    sessions: Option<Sessions>,
    registry: Registry,
    origin: Instant,
    now: u64,
    peers: Vec<Peer>,
    /// Answers are kept back.
    holding: bool,
    held: Vec<(Ticket, Response)>,
    minute: u64,
}

thread_local! {
    /// The sessions go on from one input to the next, with none left in them and the time at which that was so: to make them
    /// anew takes longer than most inputs.
    static SESSIONS: RefCell<Option<(Sessions, Instant, u64)>> = const { RefCell::new(None) };
}

fn sessions() -> (Sessions, Instant, u64) {
    let new = || {
        let origin = Instant::now();
        (Sessions::new(keys(), LIMITS_OF_SESSIONS, origin, [7; 32]), origin, 1_000_000)
    };
    SESSIONS.take().unwrap_or_else(new)
}

/// Plays an input.
pub fn run(data: &[u8], over_dtls: bool) {
    let mut input = Input(data);
    let mut bench = Bench::new(data, over_dtls);
    while !input.is_empty() {
        bench.step(&mut input);
        bench.check();
    }
    bench.end();
}

impl Bench {
    fn new(data: &[u8], over_dtls: bool) -> Self {
        // Of the input, so that no input can hold what only who reads at an address knows.
        let seed: [u8; 32] = Sha256::digest(data).into();
        let (sessions, origin, now) = match over_dtls {
            true => {
                let (sessions, origin, now) = sessions();
                (Some(sessions), origin, now)
            }
            false => (None, Instant::now(), 1_000_000),
        };
        let peer = |address: &&str| {
            let address: SocketAddr = address.parse().expect("an address");
            Peer {
                address,
                client: None,
                ids: BTreeSet::new(),
                tokens: BTreeSet::new(),
                last: Vec::new(),
                echo: None,
                confirmable: None,
                shown: over_dtls || address.ip().is_loopback(),
                sent: 0,
                allowed: FULL,
            }
        };
        Self {
            endpoint: Endpoint::new(LIMITS, over_dtls, seed),
            sessions,
            registry: site::registry(),
            origin,
            now,
            peers: ADDRESSES.iter().map(peer).collect(),
            holding: false,
            held: Vec::new(),
            minute: now / 60_000,
        }
    }

    fn step(&mut self, input: &mut Input<'_>) {
        let op = input.byte();
        let at = usize::from(input.byte()) % self.peers.len();
        match op % 14 {
            0 => {
                let len = usize::from(input.byte());
                self.say(at, input.bytes(len).to_vec());
            }
            1 => {
                let (len, head) = (usize::from(input.word()) % (super::MAX_DATAGRAM + 1), input.bytes(24));
                let mut datagram = head.to_vec();
                datagram.resize(len, 0xff);
                self.say(at, datagram);
            }
            2..6 => {
                let datagram = self.request(at, input);
                self.say(at, datagram);
            }
            6 => {
                let kind = [2, 3][usize::from(input.byte() % 2)];
                let id = match self.peers[at].confirmable {
                    Some(id) if op < 0x80 => {
                        self.peers[at].shown = true;
                        id
                    }
                    _ => input.word(),
                };
                let [high, low] = id.to_be_bytes();
                self.say(at, vec![0x40 | (kind << 4), 0, high, low]);
            }
            7 => {
                let scale = [1, 100, 1_000, 60_000][usize::from(op / 14 % 4)];
                self.pass(u64::from(input.byte()) * scale);
            }
            8 => {
                let next = self.deadline();
                self.pass(next.map_or(0, |next| next.saturating_sub(self.now)));
            }
            9 => {
                self.holding = op & 0x80 == 0;
                if !self.held.is_empty() {
                    let (ticket, response) = self.held.remove(usize::from(input.byte()) % self.held.len());
                    self.endpoint.respond(ticket, response, self.now);
                }
            }
            10 => {
                let (device, pick) = (site::device(input.byte()), input.byte());
                let _ = self.registry.set_intent(device, site::intent(pick), self.now);
                self.tell(&device);
            }
            11 => {
                let last = self.peers[at].last.clone();
                self.say(at, last);
            }
            12 => match &mut self.sessions {
                Some(_) => self.shake(at, input),
                None => self.endpoint.identify(self.peers[at].address, site::device(input.byte())),
            },
            _ => match &mut self.sessions {
                Some(_) => self.peers[at].client = Some(Client::new(input.byte(), self.instant())),
                None => self.endpoint.forget(self.peers[at].address),
            },
        }
        self.flush();
    }

    /// A request with whatever may be in one.
    fn request(&self, at: usize, input: &mut Input<'_>) -> Vec<u8> {
        let (flags, what, id) = (input.byte(), input.byte(), input.byte());
        let mut packet = Packet::new();
        packet.header.set_version(1);
        let confirmable = flags & 1 == 0;
        packet
            .header
            .set_type([MessageType::NonConfirmable, MessageType::Confirmable][usize::from(confirmable)]);
        packet.header.message_id = id.into();
        packet.set_token(vec![id % 8; usize::from(id % 3)]);
        let image = format!("image/{}", "ab".repeat(32));
        let path = ["hello", "manifest", "sign", "signature", "status", "refused", &image, "?"];
        let path = path[usize::from(what % 8)];
        let get = matches!(path, "manifest" | "sign" | "?") || path == image || flags & 0x80 != 0;
        packet.header.code = MessageClass::Request(if get { RequestType::Get } else { RequestType::Post });
        let path = if path == "?" { ".well-known/core".to_owned() } else { format!("ph/{path}") };
        path.split('/').for_each(|part| packet.add_option(CoapOption::UriPath, part.as_bytes().to_vec()));
        let mut optional = |bit: u8, option, value: Vec<u8>| {
            if flags & bit != 0 {
                packet.add_option(option, value);
            }
        };
        let block = |pick: u8| {
            let block = BlockOption { number: (pick >> 4).into(), more: pick & 8 != 0, szx: pick & 7 };
            block.to_bytes()
        };
        optional(2, CoapOption::Observe, [vec![], vec![1]][usize::from(what >> 7)].clone());
        optional(4, CoapOption::Block2, block(input.byte()));
        optional(8, CoapOption::Block1, block(input.byte()));
        optional(16, CoapOption::UriQuery, format!("d={}", site::device(input.byte())).into_bytes());
        if let (true, Some(echo)) = (flags & 32 != 0, &self.peers[at].echo) {
            packet.add_option(CoapOption::Unknown(252), echo.clone());
        }
        if !get {
            packet.payload = match input.byte() % 3 {
                0 => site::hello(input.byte()).to_vec(),
                1 => {
                    let len = usize::from(input.byte());
                    input.bytes(len).to_vec()
                }
                _ => vec![0x55; usize::from(input.word() % 1100)],
            };
        }
        packet.to_bytes_unlimited().unwrap_or_default()
    }

    /// A peer sends a datagram, in its session where there are sessions and it has one.
    fn say(&mut self, at: usize, datagram: Vec<u8>) {
        let peer = &mut self.peers[at];
        peer.last.clone_from(&datagram);
        let count =
            usize::from(matches!(Packet::from_bytes(&datagram), Ok(packet) if packet.payload.is_empty()));
        // A question: three times its bytes, once more if the answer is late; and acknowledgement and pings.
        peer.allowed += 6 * datagram.len() + 16 * count.max(1);
        if let [first, _, high, low, ..] = datagram[..] {
            if (first >> 4) & 3 == 0 {
                peer.ids.insert(u16::from_be_bytes([high, low]));
            }
            let token = datagram.get(4..4 + usize::from(first & 15)).unwrap_or_default();
            peer.tokens.insert(token.to_vec());
            let with_echo = |packet: Packet| {
                peer.echo.is_some() && packet.get_first_option(CoapOption::Unknown(252)) == peer.echo.as_ref()
            };
            peer.shown |= Packet::from_bytes(&datagram).is_ok_and(with_echo);
        }
        let address = peer.address;
        let Some(sessions) = &mut self.sessions else {
            return self.endpoint.receive(address, &datagram, self.now);
        };
        match &mut peer.client {
            Some(client) if client.connected => {
                let _ = client.dtls.send_application_data(&datagram);
                let _ = client.drain();
                for record in std::mem::take(&mut client.waiting) {
                    sessions.receive(address, &record, self.now);
                }
            }
            _ => sessions.receive(address, &datagram, self.now),
        }
    }

    fn instant(&self) -> Instant {
        self.origin + Duration::from_millis(self.now)
    }

    /// A datagram of a handshake arrives: whole, changed, twice, late, or not at all.
    fn shake(&mut self, at: usize, input: &mut Input<'_>) {
        let (instant, how, place, value) = (self.instant(), input.byte(), input.byte(), input.byte());
        let peer = &mut self.peers[at];
        let client = peer.client.get_or_insert_with(|| Client::new(place, instant));
        let _ = client.dtls.handle_timeout(instant);
        let _ = client.drain();
        if client.waiting.is_empty() {
            return;
        }
        let mut datagram = client.waiting.remove(usize::from(how >> 4) % client.waiting.len());
        let sessions = self.sessions.as_mut().expect("only where there are sessions");
        match how % 16 {
            0 => return,
            1 => {
                let place = usize::from(place) % datagram.len();
                datagram[place] = value;
            }
            2 => sessions.receive(peer.address, &datagram, self.now),
            3 => datagram.truncate(place.into()),
            4 => return client.waiting.push(datagram),
            _ => {}
        }
        sessions.receive(peer.address, &datagram, self.now);
    }

    /// What is wanted of a device has changed: at most all that observe it, each a block, and once more.
    fn tell(&mut self, device: &DeviceId) {
        self.peers.iter_mut().for_each(|peer| peer.allowed += 8 * MAX_SENT);
        self.endpoint.changed(device, self.now);
    }

    fn deadline(&self) -> Option<u64> {
        let deadlines = [self.endpoint.deadline(), self.sessions.as_ref().and_then(Sessions::deadline)];
        deadlines.into_iter().flatten().min()
    }

    fn pass(&mut self, ms: u64) {
        self.now += ms;
        if self.now / 60_000 != self.minute {
            self.minute = self.now / 60_000;
            self.peers.iter_mut().for_each(|peer| peer.allowed += FULL);
        }
        self.endpoint.tick(self.now);
        assert!(self.endpoint.deadline().is_none_or(|at| at > self.now), "a timer that goes off for ever");
        if let Some(sessions) = &mut self.sessions {
            sessions.tick(self.now);
            assert!(sessions.deadline().is_none_or(|at| at > self.now), "a timer that goes off for ever");
        }
    }

    /// As the actor does it.
    fn flush(&mut self) {
        loop {
            self.hear();
            match (self.endpoint.poll(), &mut self.sessions) {
                (Some(Output::Send(to, datagram)), None) => self.arrive(to, &datagram),
                (Some(Output::Send(to, datagram)), Some(sessions)) => sessions.send(to, &datagram, self.now),
                (Some(Output::Request(incoming)), _) => self.work(*incoming),
                (None, _) => break,
            }
        }
        self.hear();
    }

    fn hear(&mut self) {
        while let Some(event) = self.sessions.as_mut().and_then(Sessions::poll) {
            match event {
                Event::Send(to, record) => {
                    let Some(peer) = self.peers.iter_mut().find(|peer| peer.address == to) else { continue };
                    let Some(client) = &mut peer.client else { continue };
                    let _ = client.dtls.handle_packet(&record);
                    for message in client.drain() {
                        self.arrive(to, &message);
                    }
                }
                Event::Began(peer) | Event::Ended(peer) => self.endpoint.forget(peer),
                Event::Data(peer, datagram) => self.endpoint.receive(peer, &datagram, self.now),
                Event::Refused(..) => {}
            }
        }
    }

    fn work(&mut self, incoming: Incoming) {
        let Incoming { ticket, request, device } = incoming;
        let shown = self.sessions.as_ref().and_then(|sessions| sessions.device(&ticket.peer()));
        let who = shown.map_or(Who::Said(device), Who::Shown);
        let response = match resource::route(&request, who) {
            Ok(Route::Discover) => resource::links(&request),
            Ok(Route::Word { device, up }) => {
                assert!(shown.is_none_or(|shown| shown == device), "a key is one device's");
                if matches!(up, Up::Hello(_)) {
                    self.endpoint.identify(ticket.peer(), device);
                }
                let authenticated = self.sessions.is_some();
                let link = Link { carrier: Carrier::Coap, authenticated, live: ticket.is_live() };
                match self.registry.take(&device, link, &up, self.now) {
                    Ok(downs) => resource::answer(&request, device, &up, &downs),
                    Err(error) => resource::refusal(&error),
                }
            }
            Ok(Route::Image { u_id, block, device }) => {
                let block = block.no_larger(ticket.max_szx());
                let authenticated = self.sessions.is_some();
                let image = self.registry.open(&u_id, block.offset(), device.as_ref(), authenticated);
                match image.and_then(|mut image| image.read(block.offset(), block.size())) {
                    Ok(part) => resource::block(&u_id, block, part),
                    Err(_) => Response::code(ResponseType::NotFound),
                }
            }
            Err(astray) => astray.answer(),
        };
        if self.holding {
            self.held.push((ticket, response));
            // What is worked on is bounded, and of each peer one notification.
            assert!(self.held.len() <= LIMITS.max_working + ADDRESSES.len());
        } else {
            self.endpoint.respond(ticket, response, self.now);
        }
    }

    /// A message arrives at a peer: it answers something that the peer said.
    fn arrive(&mut self, to: SocketAddr, datagram: &[u8]) {
        let peer = self.peers.iter_mut().find(|peer| peer.address == to).expect("nobody else ever spoke");
        let packet = Packet::from_bytes(datagram).expect("a message");
        let (id, kind) = (packet.header.message_id, packet.header.get_type());
        assert!(datagram.len() <= MAX_SENT);
        if matches!(kind, MessageType::Acknowledgement | MessageType::Reset) {
            assert!(peer.ids.contains(&id), "settles what was never sent");
        }
        if kind == MessageType::Confirmable {
            peer.confirmable = Some(id);
        }
        if packet.header.code == MessageClass::Empty {
            assert_eq!(datagram.len(), 4);
        } else {
            assert!(matches!(packet.header.code, MessageClass::Response(_)));
            assert!(peer.tokens.contains(packet.get_token()), "answers what was never asked");
        }
        if let Some(echo) = packet.get_first_option(CoapOption::Unknown(252)) {
            peer.echo = Some(echo.clone());
        }
        peer.sent += datagram.len();
        assert!(
            peer.shown || peer.sent <= peer.allowed,
            "{} of {} to who may be nowhere",
            peer.sent,
            peer.allowed
        );
    }

    fn check(&self) {
        assert!(self.endpoint.peers() <= LIMITS.max_peers + LIMITS.max_working);
        if let Some(sessions) = &self.sessions {
            let (sessions, handshakes) = sessions.len();
            assert!(
                sessions <= LIMITS_OF_SESSIONS.max_sessions
                    && handshakes <= LIMITS_OF_SESSIONS.max_handshakes
            );
        }
        assert!(self.registry.list(self.now).len() <= site::MAX_SENSORS);
    }

    /// All is answered, time passes, and nothing is left over: a new peer is served.
    fn end(&mut self) {
        self.holding = false;
        for (ticket, response) in std::mem::take(&mut self.held) {
            self.endpoint.respond(ticket, response, self.now);
        }
        self.flush();
        for _ in 0..1_000 {
            let Some(at) = self.deadline() else { break };
            self.pass(at.saturating_sub(self.now));
            self.flush();
        }
        assert_eq!(self.deadline(), None, "something goes on for ever");
        if let Some(sessions) = self.sessions.take() {
            assert_eq!(sessions.len(), (0, 0));
            assert_eq!(self.endpoint.peers(), 0, "a peer without a session");
            SESSIONS.set(Some((sessions, self.origin, self.now)));
        }
        let newcomer = SocketAddr::from(([198, 51, 100, 1], 7));
        let ask = [&[0x40, 1, 0, 1, 0xbb][..], b".well-known", &[0x04], b"core"].concat();
        for id in 0..=LIMITS.max_working as u8 {
            let ask = [&ask[..3], &[id], &ask[4..]].concat();
            self.endpoint.receive(newcomer, &ask, self.now);
        }
        let asked = std::iter::from_fn(|| self.endpoint.poll())
            .filter(|output| matches!(output, Output::Request(_)))
            .count();
        assert_eq!(asked, LIMITS.max_working, "a place that was never given back");
    }
}
