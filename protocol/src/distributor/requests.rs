//! What gateways ask, and the typed refusals.

use alloc::vec::Vec;

use crate::digest;
use crate::exchange::{MAX_MEMBERS, Member, Refusal, Request, Response};
use crate::id::{Attempt, Bounty, ChainId, DeviceKey, Digest, LockHash, PeerHash, Signature};
use crate::key;
use crate::secret::PreimageT;

use super::campaign::{Campaign, Peer, Roster, Unreadable};
use super::chain::Standing;
use super::io::{Change, Output};
use super::receipt::{Fate, Receipt};
use super::stage::{Exchange, Stage};
use super::{Distributor, Entry, Key};

type Answer = Result<Response, Refusal>;

/// The answer to a [`Request::Members`] that the machine lets through as [`Output::LookUp`]. Reads the disk up to forty
/// times for each key.
pub fn look_up(roster: &dyn Roster, keys: &[DeviceKey]) -> Response {
    match keys.iter().map(|key| member(roster, key)).collect() {
        Ok(entries) => Response::Members { entries },
        Err(unreadable) => Response::Refused { reason: Refusal::from(unreadable) },
    }
}

/// What a request comes to.
enum Reply {
    Now(Response),
    LookUp(Bounty, Vec<DeviceKey>),
}

impl Distributor {
    /// The one output by which a request is answered.
    pub(super) fn answer(
        &mut self,
        id: u64,
        peer: &dyn Peer,
        request: Request,
        entropy: &[u8; 32],
        now: u64,
    ) -> Output {
        match self.reply(peer, request, entropy, now) {
            Ok(Reply::LookUp(bounty, keys)) => Output::LookUp { id, bounty, gateway: peer.hash(), keys },
            Ok(Reply::Now(response)) => Output::Send { id, response },
            Err(reason) => Output::Send { id, response: Response::Refused { reason } },
        }
    }

    fn reply(
        &mut self,
        peer: &dyn Peer,
        request: Request,
        entropy: &[u8; 32],
        now: u64,
    ) -> Result<Reply, Refusal> {
        let gateway = peer.hash();
        if !self.rates.take(gateway, now, &self.policy.limits) {
            return Err(Refusal::RateLimited);
        }
        if self.is_starting(bounty_of(&request)) {
            return Ok(Reply::Now(self.pending()));
        }
        let response = match request {
            Request::Hello { chain, bounty, device_key, delegation } => {
                self.on_chain(chain)?;
                self.hello((bounty, gateway), &device_key, &delegation, Digest::new(*entropy), now)
            }
            Request::Auth { chain, bounty, sig } => {
                self.on_chain(chain)?;
                self.auth((bounty, gateway), peer, &sig, entropy, now)
            }
            Request::Members { bounty, keys } => {
                self.may_look_up((bounty, gateway), &keys)?;
                return Ok(Reply::LookUp(bounty, keys));
            }
            Request::Receipt { bounty, s, device_key, attempt, sig } => {
                let offered = Offered { key: (bounty, gateway), s };
                self.receipt(&offered, device_key, attempt, sig, now)
            }
            Request::Seal { bounty, s } => self.seal(&Offered { key: (bounty, gateway), s }),
            Request::Poll { bounty, s } => self.key(&Offered { key: (bounty, gateway), s }),
            Request::Copy { bounty, s, device_key } => self.copy(bounty, s, &device_key),
        };
        response.map(Reply::Now)
    }

    fn on_chain(&self, chain: ChainId) -> Result<(), Refusal> {
        if chain == self.me.chain { Ok(()) } else { Err(Refusal::WrongChain) }
    }

    fn pending(&self) -> Response {
        Response::Pending { retry_after_ms: self.policy.retry_after_ms }
    }

    fn hello(
        &mut self,
        key: Key,
        device: &DeviceKey,
        delegation: &Signature,
        fresh: Digest,
        now: u64,
    ) -> Answer {
        let campaign = self.campaign(&key.0)?;
        if !self.reservable(campaign) && !self.entries.contains_key(&key) {
            return Err(Refusal::Closed);
        }
        let index = index(campaign, device)?;
        let digest = digest::delegation(self.me.chain, &key.0, &key.1);
        key::verify(campaign.curve, device, &digest, delegation).map_err(|_| Refusal::BadDelegation)?;
        let c = match self.entries.get(&key) {
            Some(entry) => entry.exchange.challenge,
            None => self.greet(key, index, fresh, now),
        };
        if !self.entries.contains_key(&key) {
            // Another device may speak for the gateway, so it hears of this one before it signs.
            match self.sessions.get(&key).and_then(|session| session.standing) {
                None => return Ok(self.pending()),
                Some(Standing::Claimed) => return Err(Refusal::AlreadyClaimed),
                Some(_) => {}
            }
        }
        let terms = self.policy.terms();
        Ok(Response::Challenge { c: c.to_bytes(), payee: self.me.payee, terms })
    }

    /// Opens the session, and looks the device's share up while the challenge is on its way.
    fn greet(&mut self, key: Key, index: u32, fresh: Digest, now: u64) -> Digest {
        let c = self.sessions.hello(key, index, fresh, now, self.policy.limits.sessions);
        if self.sessions.get(&key).is_some_and(|session| session.standing.is_none()) {
            self.out.push_back(Output::Inspect { bounty: key.0, index });
        }
        c
    }

    fn auth(&mut self, key: Key, peer: &dyn Peer, sig: &[u8], entropy: &[u8; 32], now: u64) -> Answer {
        self.campaign(&key.0)?;
        let c = self.challenge(&key).ok_or(Refusal::NotAuthenticated)?;
        let digest = digest::challenge(self.me.chain, &key.0, &self.me.payee, c.as_bytes());
        if !peer.signed(&digest, sig) {
            return Err(Refusal::BadAuth);
        }
        self.withdraw_expired(key, now);
        match self.entries.get(&key) {
            Some(entry) => self.offer(entry),
            None => self.open(key, c, entropy),
        }
    }

    /// What the peer is to sign: the exchange's challenge, or that of its session.
    fn challenge(&self, key: &Key) -> Option<Digest> {
        let persisted = self.entries.get(key).map(|entry| entry.exchange.challenge);
        persisted.or_else(|| self.sessions.get(key).map(|session| session.c))
    }

    /// An offer that ran out without a receipt makes room for a new one, with a new `t`.
    fn withdraw_expired(&mut self, key: Key, now: u64) {
        let Some(entry) = self.entries.get(&key) else { return };
        if !expired(entry, now) {
            return;
        }
        let Exchange { challenge, device, .. } = entry.exchange;
        self.forget(key);
        self.greet(key, device, challenge, now);
    }

    fn offer(&self, entry: &Entry) -> Answer {
        let campaign = self.campaign(&entry.exchange.bounty)?;
        match &entry.exchange.stage {
            Stage::Proving => Ok(self.pending()),
            Stage::Closed(_) => Err(Refusal::Closed),
            stage => stage.offer().map(|offer| offered(entry, campaign, offer)).ok_or(Refusal::Closed),
        }
    }

    /// The peer is who it says: chooses `t`, once the device's share is known to be open.
    fn open(&mut self, key: Key, c: Digest, entropy: &[u8; 32]) -> Answer {
        if !self.reservable(self.campaign(&key.0)?) {
            return Err(Refusal::Closed);
        }
        let pending = self.pending();
        let session = self.sessions.get_mut(&key).ok_or(Refusal::NotAuthenticated)?;
        session.authenticated = true;
        let (device, standing) = (session.device, session.standing);
        let Some(standing) = standing else {
            self.out.push_back(Output::Inspect { bounty: key.0, index: device });
            return Ok(pending);
        };
        if standing == Standing::Claimed {
            return Err(Refusal::AlreadyClaimed);
        }
        self.room(&key.0, device)?;
        self.begin(key, device, c, PreimageT::new(*entropy));
        Ok(pending)
    }

    /// Whether one more exchange, and one more proof, are within the limits.
    fn room(&self, bounty: &Bounty, device: u32) -> Result<(), Refusal> {
        let limits = &self.policy.limits;
        let of_bounty = || self.entries.values().filter(|e| e.exchange.bounty == *bounty);
        let of_device = of_bounty().filter(|e| e.exchange.device == device).count();
        let proofs = self.entries.values().filter(|e| matches!(e.exchange.stage, Stage::Proving)).count();
        let fits = of_bounty().count() < limits.exchanges
            && of_device < limits.exchanges_per_device
            && proofs < limits.proofs;
        if fits { Ok(()) } else { Err(Refusal::RateLimited) }
    }

    fn begin(&mut self, key: Key, device: u32, challenge: Digest, t: PreimageT) {
        let (bounty, gateway) = key;
        let exchange = Exchange { bounty, gateway, device, challenge, t, stage: Stage::Proving };
        self.sessions.close(&key);
        self.restore(Change::Exchange(exchange));
        self.store(key, Stage::Proving);
        self.advance(key);
    }

    fn may_look_up(&self, key: Key, keys: &[DeviceKey]) -> Result<(), Refusal> {
        self.campaign(&key.0)?;
        let session = || self.sessions.get(&key).is_some_and(|session| session.authenticated);
        if !self.entries.contains_key(&key) && !session() {
            return Err(Refusal::NotAuthenticated);
        }
        if keys.len() > MAX_MEMBERS {
            return Err(Refusal::Malformed);
        }
        Ok(())
    }

    fn receipt(
        &mut self,
        offered: &Offered,
        device: DeviceKey,
        attempt: Attempt,
        sig: Signature,
        now: u64,
    ) -> Answer {
        let entry = self.offered(offered)?;
        let campaign = self.campaign(&offered.key.0)?;
        let index = index(campaign, &device)?;
        if let Some(known) = entry.receipts.get(&index) {
            if let Some(answer) = repeated(entry, known, attempt) {
                return answer;
            }
        } else if entry.receipts.len() >= self.policy.limits.receipts {
            return Err(Refusal::RateLimited);
        }
        if expired(entry, now) {
            return Err(Refusal::OfferExpired);
        }
        if !self.reservable(campaign) {
            return Err(Refusal::Closed);
        }
        self.check(campaign, &offered.s, &device, attempt, &sig)?;
        let (bounty, gateway) = offered.key;
        let fate = Fate::Waiting;
        self.keep(offered.key, Receipt { bounty, gateway, index, device, attempt, sig, fate }, now);
        Ok(Response::Ack { index })
    }

    fn check(
        &self,
        campaign: &Campaign,
        s: &LockHash,
        device: &DeviceKey,
        attempt: Attempt,
        sig: &Signature,
    ) -> Result<(), Refusal> {
        if attempt.get() == 0 {
            return Err(Refusal::BadReceipt);
        }
        let Campaign { bounty, u_id, curve, .. } = campaign;
        let digest = digest::receipt(self.me.chain, bounty, &self.me.payee, u_id, s, attempt);
        key::verify(*curve, device, &digest, sig).map_err(|_| Refusal::BadReceipt)
    }

    /// Persists the receipt before it is acknowledged; the first one starts the window.
    fn keep(&mut self, key: Key, receipt: Receipt, now: u64) {
        let Some(entry) = self.entries.get_mut(&key) else { return };
        entry.receipts.insert(receipt.index, receipt);
        let first = match &entry.exchange.stage {
            Stage::Offered(state) => Some(state.clone().collect(now)),
            _ => None,
        };
        self.out.push_back(Output::Persist(Change::Receipt(receipt)));
        if let Some(collecting) = first {
            self.store(key, Stage::Collecting(collecting));
        }
    }

    fn seal(&mut self, offered: &Offered) -> Answer {
        let entry = self.offered(offered)?;
        let receipts = u32::try_from(entry.receipts.len()).unwrap_or(u32::MAX);
        let sealed = match &entry.exchange.stage {
            Stage::Collecting(state) if !state.sealed => {
                let mut state = state.clone();
                state.sealed = true;
                Some(state)
            }
            _ => None,
        };
        if let Some(state) = sealed {
            self.store(offered.key, Stage::Collecting(state));
        }
        Ok(Response::Sealed { receipts })
    }

    /// From here on the gateway has `r`.
    fn key(&self, offered: &Offered) -> Answer {
        let entry = self.offered(offered)?;
        if !self.may_show(&entry.exchange.stage) {
            return Ok(self.pending());
        }
        Ok(Response::Key { r: entry.exchange.r(&self.me.payee) })
    }

    /// Free for whoever was claimed under `s`: another gateway, or one that lost its disk.
    fn copy(&self, bounty: Bounty, s: LockHash, device: &DeviceKey) -> Answer {
        let campaign = self.campaign(&bounty)?;
        let index = index(campaign, device)?;
        let of_bounty = (bounty, PeerHash::new([0; 32]))..=(bounty, PeerHash::new([0xff; 32]));
        let entry = self.entries.range(of_bounty).map(|(_, entry)| entry).find(|e| e.s == s);
        let entry = entry.ok_or(Refusal::UnknownOffer)?;
        let paid = entry.receipts.get(&index).is_some_and(|r| r.fate == Fate::Paid);
        if paid { self.offer(entry) } else { Err(Refusal::NotAuthenticated) }
    }

    /// The asking peer's exchange under `s`, if it is past its proof and not given up.
    fn offered(&self, Offered { key, s }: &Offered) -> Result<&Entry, Refusal> {
        self.campaign(&key.0)?;
        let entry = self.entries.get(key).filter(|entry| entry.s == *s);
        let entry = entry.ok_or(Refusal::UnknownOffer)?;
        match entry.exchange.stage {
            Stage::Proving => Err(Refusal::UnknownOffer),
            Stage::Closed(_) => Err(Refusal::Closed),
            _ => Ok(entry),
        }
    }
}

fn bounty_of(request: &Request) -> &Bounty {
    match request {
        Request::Hello { bounty, .. }
        | Request::Auth { bounty, .. }
        | Request::Members { bounty, .. }
        | Request::Receipt { bounty, .. }
        | Request::Seal { bounty, .. }
        | Request::Poll { bounty, .. }
        | Request::Copy { bounty, .. } => bounty,
    }
}

/// An offer as a peer names it.
struct Offered {
    key: Key,
    s: LockHash,
}

/// An offer nobody gave a receipt for in time.
fn expired(entry: &Entry, now: u64) -> bool {
    matches!(&entry.exchange.stage, Stage::Offered(state) if now / 1000 >= state.offer.expires)
}

fn offered(entry: &Entry, campaign: &Campaign, offer: &super::Offer) -> Response {
    Response::Offer {
        cipher: offer.cipher.clone(),
        s: entry.s,
        proof: offer.proof.clone(),
        vk_id: campaign.vk_id,
        expires: offer.expires,
    }
}

/// A fleet that cannot be read makes a peer wait, as one that asks too often does.
impl From<Unreadable> for Refusal {
    fn from(Unreadable: Unreadable) -> Self {
        Self::RateLimited
    }
}

/// One search, which reads the disk some fifteen times for a million devices: no other request than [`look_up`]'s reads more,
/// so that it may be done where the machine runs.
fn index(campaign: &Campaign, key: &DeviceKey) -> Result<u32, Refusal> {
    campaign.roster.index(key)?.ok_or(Refusal::NotAMember)
}

fn member(roster: &dyn Roster, key: &DeviceKey) -> Result<Option<Member>, Unreadable> {
    let Some(index) = roster.index(key)? else { return Ok(None) };
    let path = roster.path(index)?;
    Ok(path.map(|path| Member { index, path }))
}

/// The answer to a receipt for a device that has one; `None` if it takes the old one's place.
fn repeated(entry: &Entry, known: &Receipt, attempt: Attempt) -> Option<Answer> {
    let ack = Some(Ok(Response::Ack { index: known.index }));
    let in_batch = entry.exchange.stage.batch().is_some_and(|b| b.indices.contains(&known.index));
    match known.fate {
        Fate::Paid => ack,
        Fate::Waiting if in_batch || attempt == known.attempt => ack,
        Fate::Waiting if attempt < known.attempt => Some(Err(Refusal::StaleAttempt)),
        Fate::Claimed | Fate::LockedByOther => Some(Err(Refusal::AlreadyClaimed)),
        _ if attempt <= known.attempt => Some(Err(Refusal::StaleAttempt)),
        _ => None,
    }
}
