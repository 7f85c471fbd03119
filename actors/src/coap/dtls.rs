//! DTLS 1.2 with pre-shared keys (RFC 6347, RFC 4279, RFC 7925) under CoAP. No I/O: datagrams and the time go in,
//! [`Event`]s come out.
//!
//! Nothing is kept of a hello until it comes again with its cookie ([`cookie`]). A handshake from an address that has a
//! session leaves that session alone until it is complete (RFC 6347 §4.2.8). Each session is one device's: the one that its
//! key is bound to.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use dimpl::crypto::Dtls12CipherSuite;
use dimpl::{Dtls, Error, Output, SecurityError};
use posthouse_protocol::id::DeviceId;
use tracing::debug;

use self::cookie::{Baker, Hello};
use self::keys::{Asked, Ring};
pub use self::keys::{KeyFileError, Keys};
use super::endpoint::allowance::host;

mod cookie;
mod keys;

/// Longest datagram sent: what IPv6 carries without fragments (1280 less the headers of IP and UDP).
const MTU: usize = 1232;
/// A handshake that takes longer is given up: a sensor that wakes for seconds begins another one.
const HANDSHAKE_MS: u64 = 40_000;
/// Sessions of one device: one, and as many again that it has forgotten.
const MAX_PER_DEVICE: usize = 4;

/// Bounds of the sessions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SessionLimits {
    /// Sessions at once. At the bound the one that was silent longest ends.
    pub max_sessions: usize,
    /// Handshakes at once, each from an address that was shown. At the bound the oldest ends: of the same host, if it has
    /// a quarter of them, so that no one host pushes out the others.
    pub max_handshakes: usize,
    /// A session ends after so long without a word, s.
    pub idle_secs: u32,
}

impl Default for SessionLimits {
    fn default() -> Self {
        Self { max_sessions: 4096, max_handshakes: 256, idle_secs: 3600 }
    }
}

/// What comes out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Event {
    /// A datagram to a peer.
    Send(SocketAddr, Bytes),
    /// A session has begun, in place of any before.
    Began(SocketAddr),
    /// What a peer sent.
    Data(SocketAddr, Bytes),
    /// A session has ended.
    Ended(SocketAddr),
    /// A handshake has failed, of somebody who has shown that it is there.
    Refused(SocketAddr, Unproven),
}

/// Why a handshake failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Unproven {
    /// No key has this identity.
    Identity(Vec<u8>),
    /// It has not the key of this identity, which is this device's.
    Key(Vec<u8>, DeviceId),
    /// It does not speak as it should.
    Handshake(String),
}

/// A session, or a handshake that may become one.
struct Session {
    dtls: Dtls,
    /// The client's, which tells its hellos from those of another handshake.
    random: [u8; 32],
    /// Who it says it is; when it is connected it has shown so.
    asked: Option<Asked>,
    connected: bool,
    /// It spoke for another device, which was said.
    strayed: bool,
    closed: bool,
    /// Something came that only who has the keys can send.
    confirmed: bool,
    /// When it began, then when it was heard last, ms.
    heard: u64,
    /// When dimpl wants to look at the time, ms.
    wake: u64,
}

impl Session {
    fn device(&self) -> Option<DeviceId> {
        self.asked.as_ref()?.device
    }

    /// What it means that a datagram of the handshake was not taken; nothing if it may be the network's fault.
    fn unproven(&self, error: &Error) -> Option<Unproven> {
        let unproven = match (&self.asked, error) {
            (_, Error::Timeout(_)) => return None,
            (Some(Asked { identity, device: None }), _) => Unproven::Identity(identity.clone()),
            // What says that it has the key cannot be deciphered by ours, or does not say so.
            (
                Some(Asked { identity, device: Some(device) }),
                Error::CryptoError(_) | Error::SecurityError(SecurityError::ClientFinishedVerificationFailed),
            ) => Unproven::Key(identity.clone(), *device),
            (_, error) => Unproven::Handshake(error.to_string()),
        };
        Some(unproven).filter(|_| !self.connected)
    }
}

/// What there is of one address.
#[derive(Default)]
struct Slot {
    live: Option<Box<Session>>,
    next: Option<Box<Session>>,
    /// When its timer goes off, ms.
    timer: Option<u64>,
}

/// All sessions of a socket.
pub struct Sessions {
    limits: SessionLimits,
    config: Arc<dimpl::Config>,
    ring: Arc<Ring>,
    baker: Baker,
    slots: HashMap<SocketAddr, Slot>,
    devices: HashMap<DeviceId, VecDeque<SocketAddr>>,
    /// Addresses with a handshake, the oldest first.
    handshakes: VecDeque<SocketAddr>,
    sessions: usize,
    timers: BTreeSet<(u64, SocketAddr)>,
    events: VecDeque<Event>,
    buffer: Vec<u8>,
    /// dimpl's clock at 0 ms of ours.
    origin: Instant,
}

impl Sessions {
    /// None yet. `origin` is what the clock shows at 0 ms; the secret must be random.
    pub fn new(keys: Keys, limits: SessionLimits, origin: Instant, secret: [u8; 32]) -> Self {
        let ring = Ring::new(keys);
        let config = dimpl::Config::builder()
            .with_crypto_provider(cookie::provider())
            .with_psk_server(None, Arc::clone(&ring) as Arc<dyn dimpl::PskResolver>)
            .dtls12_cipher_suites(&[Dtls12CipherSuite::PSK_AES128_CCM_8])
            .dtls13_cipher_suites(&[])
            .kx_groups(&[])
            .mtu(MTU)
            .handshake_timeout(Duration::from_millis(HANDSHAKE_MS))
            .build();
        Self {
            limits,
            config: Arc::new(config.expect("the settings are constants")),
            ring,
            baker: Baker::new(secret),
            slots: HashMap::new(),
            devices: HashMap::new(),
            handshakes: VecDeque::new(),
            sessions: 0,
            timers: BTreeSet::new(),
            events: VecDeque::new(),
            buffer: vec![0; 4096],
            origin,
        }
    }

    /// Sessions, and handshakes under way.
    pub fn len(&self) -> (usize, usize) {
        (self.sessions, self.handshakes.len())
    }

    /// The device of a session.
    pub fn device(&self, peer: &SocketAddr) -> Option<DeviceId> {
        self.slots.get(peer)?.live.as_ref()?.device()
    }

    /// Notes that a session spoke for another device than its own. Whether it is the first time.
    pub(super) fn strays(&mut self, peer: &SocketAddr) -> bool {
        let live = self.slots.get_mut(peer).and_then(|slot| slot.live.as_mut());
        live.is_some_and(|session| !std::mem::replace(&mut session.strayed, true))
    }

    /// The next event; to be called until there is none, after each of the calls that take the time.
    pub(super) fn poll(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// When to [`tick`](Self::tick), ms.
    pub(super) fn deadline(&self) -> Option<u64> {
        self.timers.first().map(|(at, _)| *at)
    }
    /// Takes a datagram at `now`, ms.
    pub(super) fn receive(&mut self, peer: SocketAddr, datagram: &[u8], now: u64) {
        if let Some(hello) = Hello::parse(datagram) {
            return self.greet(peer, hello, datagram, now);
        }
        let Some(slot) = self.slots.get_mut(&peer) else { return };
        let mut next = slot.next.take();
        let mut live = slot.live.take();
        if let Some(session) = &mut next {
            self.feed(peer, session, datagram, now);
        }
        // Without protection everybody can say anything: a session that has shown its keys does not hear of it.
        let open = datagram.get(3..5) == Some(&[0, 0]);
        if let Some(session) = live.as_mut().filter(|session| !(open && session.confirmed)) {
            self.feed(peer, session, datagram, now);
        }
        self.put_back(peer, live, next, now);
    }

    /// A hello: of the handshake that is under way, or of a new one if it shows that it comes from where it says.
    fn greet(&mut self, peer: SocketAddr, hello: Hello<'_>, datagram: &[u8], now: u64) {
        if let Some(slot) = self.slots.get_mut(&peer) {
            let same = |session: &Session| session.random == hello.random;
            if let Some(mut next) = slot.next.take_if(|next| same(next)) {
                let live = slot.live.take();
                self.feed(peer, &mut next, datagram, now);
                return self.put_back(peer, live, Some(next), now);
            }
            if slot.live.as_deref().is_some_and(same) {
                return;
            }
        }
        let Some(cookie) = self.baker.knows(peer, &hello, now) else {
            let cookie = self.baker.bake(peer, hello.random, now);
            self.events.push_back(Event::Send(peer, hello.verify_request(&cookie).into()));
            return;
        };
        let Some(mut session) = self.begin(&hello, cookie, now) else { return };
        self.make_room(peer, now);
        self.handshakes.push_back(peer);
        let live = self.slots.get_mut(&peer).and_then(|slot| slot.live.take());
        cookie::holding(cookie, || self.feed(peer, &mut session, datagram, now));
        self.put_back(peer, live, Some(Box::new(session)), now);
    }

    /// A handshake that has had the first hello, and answered it with this cookie.
    fn begin(&mut self, hello: &Hello<'_>, cookie: [u8; cookie::COOKIE_LEN], now: u64) -> Option<Session> {
        let at = self.instant(now);
        let mut dtls = Dtls::new_12_psk(Arc::clone(&self.config), at);
        // Before the first packet: without the time dimpl has no random bytes of its own to answer with, and panics.
        dtls.handle_timeout(at).ok()?;
        cookie::holding(cookie, || dtls.handle_packet(&hello.without_cookie())).ok()?;
        // Its answer was sent long ago.
        while let Output::Packet(_) = dtls.poll_output(&mut self.buffer) {}
        let mut random = [0; 32];
        random.copy_from_slice(hello.random);
        Some(Session {
            dtls,
            random,
            asked: None,
            connected: false,
            strayed: false,
            closed: false,
            confirmed: false,
            heard: now,
            wake: u64::MAX,
        })
    }

    fn instant(&self, now: u64) -> Instant {
        self.origin + Duration::from_millis(now)
    }

    fn feed(&mut self, peer: SocketAddr, session: &mut Session, datagram: &[u8], now: u64) {
        self.ring.asked();
        let at = self.instant(now);
        let taken = session.dtls.handle_timeout(at).and_then(|()| session.dtls.handle_packet(datagram));
        session.asked = self.ring.asked().or(session.asked.take());
        let unproven = taken.as_ref().err().and_then(|error| session.unproven(error));
        self.events.extend(unproven.map(|why| Event::Refused(peer, why)));
        self.drain(peer, session, taken, now);
    }

    /// Takes what a session has to say after a call. After an error it has nothing more.
    fn drain(&mut self, peer: SocketAddr, session: &mut Session, done: Result<(), Error>, now: u64) {
        if let Err(error) = done {
            debug!(%peer, %error, "DTLS session ends");
            session.closed = true;
        }
        loop {
            match session.dtls.poll_output(&mut self.buffer) {
                Output::Packet(datagram) => {
                    self.events.push_back(Event::Send(peer, Bytes::copy_from_slice(datagram)));
                }
                Output::Connected => {
                    session.connected = true;
                    self.events.push_back(Event::Began(peer));
                }
                Output::ApplicationData(data) => {
                    (session.confirmed, session.heard) = (true, now);
                    self.events.push_back(Event::Data(peer, Bytes::copy_from_slice(data)));
                }
                Output::CloseNotify => session.closed = true,
                Output::Timeout(at) => {
                    let wait = at.saturating_duration_since(self.origin).as_millis();
                    session.wake = u64::try_from(wait).unwrap_or(u64::MAX);
                    return;
                }
                // Nothing of ours is as long as the buffer, and there are no certificates here.
                Output::BufferTooSmall { .. } => {
                    session.closed = true;
                    return;
                }
                _ => {}
            }
        }
    }

    /// Keeps what is still something: a handshake that is complete takes the session's place.
    fn put_back(
        &mut self,
        peer: SocketAddr,
        live: Option<Box<Session>>,
        next: Option<Box<Session>>,
        now: u64,
    ) {
        let (had_live, had_next) = (live.is_some(), next.is_some());
        let mut live = live.filter(|session| !session.closed);
        let mut next = next.filter(|session| !session.closed);
        // Whoever finished knows a key, and each key has its device.
        if let Some(session) = next.take_if(|session| session.connected)
            && let Some(device) = session.device()
        {
            live = Some(session);
            self.admit(device, peer, now);
        }
        let ended = had_live && live.is_none();
        self.sessions += usize::from(live.is_some());
        self.sessions -= usize::from(had_live);
        if had_next && next.is_none() {
            self.handshakes.retain(|address| *address != peer);
        }
        if ended {
            self.events.push_back(Event::Ended(peer));
        }
        let old = self.slots.get(&peer).and_then(|slot| slot.timer);
        if live.is_none() && next.is_none() {
            if let Some(at) = old {
                self.timers.remove(&(at, peer));
            }
            self.slots.remove(&peer);
            return;
        }
        let idle = u64::from(self.limits.idle_secs) * 1000;
        let ends = |session: &Session, after| session.wake.min(session.heard.saturating_add(after));
        let live_ends = live.as_deref().map(|session| ends(session, idle));
        let next_ends = next.as_deref().map(|session| ends(session, HANDSHAKE_MS));
        let wakes = live_ends.into_iter().chain(next_ends);
        let at = wakes.min().map(|at| at.max(now + 1));
        let slot = self.slots.entry(peer).or_default();
        (slot.live, slot.next) = (live, next);
        // A timer that goes off too early sets the next one.
        if let Some(at) = at
            && old.is_none_or(|old| at < old)
        {
            if let Some(old) = old {
                self.timers.remove(&(old, peer));
            }
            slot.timer = Some(at);
            self.timers.insert((at, peer));
        }
    }

    /// Makes room for a session of a device.
    fn admit(&mut self, device: DeviceId, peer: SocketAddr, now: u64) {
        let theirs = self.devices.entry(device).or_default();
        theirs.retain(|address| {
            *address != peer
                && self.slots.get(address).is_some_and(|slot| {
                    slot.live.as_ref().is_some_and(|session| session.device() == Some(device))
                })
        });
        let oldest = if theirs.len() >= MAX_PER_DEVICE { theirs.pop_front() } else { None };
        theirs.push_back(peer);
        if let Some(oldest) = oldest {
            self.end(oldest, now);
        }
        if self.sessions >= self.limits.max_sessions {
            let heard = |slot: &Slot| slot.live.as_ref().map(|session| session.heard);
            let silent = self.slots.iter().filter_map(|(address, slot)| Some((heard(slot)?, *address))).min();
            if let Some((_, address)) = silent {
                self.end(address, now);
            }
        }
    }

    /// Has other keys from now on. The sessions of devices of which one was withdrawn end, and so do their handshakes.
    pub(super) fn rekey(&mut self, keys: Keys, now: u64) {
        let withdrawn = self.ring.replace(keys);
        let is_theirs =
            |session: &Session| session.device().is_some_and(|device| withdrawn.contains(&device));
        let is_met =
            |slot: &Slot| [&slot.live, &slot.next].into_iter().flatten().any(|session| is_theirs(session));
        let met: Vec<SocketAddr> =
            self.slots.iter().filter(|(_, slot)| is_met(slot)).map(|(peer, _)| *peer).collect();
        for peer in met {
            if let Some(slot) = self.slots.get_mut(&peer)
                && let Some(next) = slot.next.as_mut().filter(|next| is_theirs(next))
            {
                next.closed = true;
            }
            if self.slots.get(&peer).and_then(|slot| slot.live.as_ref()).is_some_and(|live| is_theirs(live)) {
                self.end(peer, now);
            } else if let Some(slot) = self.slots.get_mut(&peer) {
                let (live, next) = (slot.live.take(), slot.next.take());
                self.put_back(peer, live, next, now);
            }
        }
    }

    /// Ends a session with a word to its peer.
    fn end(&mut self, peer: SocketAddr, now: u64) {
        let Some(slot) = self.slots.get_mut(&peer) else { return };
        let (Some(mut live), next) = (slot.live.take(), slot.next.take()) else { return };
        let done = live.dtls.close();
        self.drain(peer, &mut live, done, now);
        live.closed = true;
        self.put_back(peer, Some(live), next, now);
    }

    /// Makes room for a handshake.
    fn make_room(&mut self, peer: SocketAddr, now: u64) {
        let known = self.handshakes.iter().position(|address| *address == peer);
        let host = |address: &SocketAddr| host(address.ip()) == host(peer.ip());
        let theirs = self.handshakes.iter().filter(|address| host(address)).count();
        let at = match known {
            Some(at) => Some(at),
            None if theirs >= (self.limits.max_handshakes / 4).max(1) => {
                self.handshakes.iter().position(host)
            }
            None if self.handshakes.len() >= self.limits.max_handshakes => Some(0),
            None => None,
        };
        if let Some(address) = at.and_then(|at| self.handshakes.remove(at))
            && let Some(slot) = self.slots.get_mut(&address)
        {
            slot.next = None;
            let live = slot.live.take();
            self.put_back(address, live, None, now);
        }
    }

    /// Sends a message in the peer's session; what has none is nobody's.
    pub(super) fn send(&mut self, peer: SocketAddr, message: &[u8], now: u64) {
        let Some(slot) = self.slots.get_mut(&peer) else { return };
        let (Some(mut live), next) = (slot.live.take(), slot.next.take()) else { return };
        let at = self.instant(now);
        let sent = live.dtls.handle_timeout(at).and_then(|()| live.dtls.send_application_data(message));
        self.drain(peer, &mut live, sent.map(drop), now);
        self.put_back(peer, Some(live), next, now);
    }

    /// Acts on what the time has brought.
    pub(super) fn tick(&mut self, now: u64) {
        while let Some((_, peer)) = self.timers.first().copied().filter(|(at, _)| *at <= now) {
            self.timers.pop_first();
            let Some(slot) = self.slots.get_mut(&peer) else { continue };
            slot.timer = None;
            let (mut live, mut next) = (slot.live.take(), slot.next.take());
            let idle = u64::from(self.limits.idle_secs) * 1000;
            let at = self.instant(now);
            for session in [&mut live, &mut next].into_iter().flatten() {
                let done = session.dtls.handle_timeout(at);
                self.drain(peer, session, done, now);
            }
            // dimpl gives up no handshake before it has taken a hello, and one that was changed on its way it never takes.
            if let Some(session) = next.as_mut().filter(|session| now >= session.heard + HANDSHAKE_MS) {
                session.closed = true;
            }
            if let Some(session) = live.as_mut().filter(|session| now >= session.heard.saturating_add(idle)) {
                let done = session.dtls.close();
                self.drain(peer, session, done, now);
                session.closed = true;
            }
            self.put_back(peer, live, next, now);
        }
    }
}

#[cfg(test)]
mod tests;
