//! A distributor in a few lines, honest or not. It remembers everything, as one that persists does.

use std::collections::BTreeMap;

use posthouse_protocol::exchange::{Member, Redeem, Refusal, Request, Response, Terms};
use posthouse_protocol::id::{DeviceKey, LockHash, Payee, VkId};
use posthouse_protocol::secret::{KeyR, PreimageT};
use sha2::{Digest as _, Sha256};

/// How a distributor behaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Honest,
    /// Its proof is for another update.
    OtherUpdate,
    /// Its proof is for another lock.
    OtherLock,
    /// Its cipher was altered after proving.
    AlteredCipher,
    WrongVk,
    /// Its polls are answered with keys that do not fit.
    WrongKey,
    /// The proof holds, the key fits the lock, and it opens something else.
    Misfit,
    SilentAtHello,
    SilentAfterOffer,
    SilentAfterReceipt,
    /// Its offers expire at once.
    ShortOffers,
    /// It gives Merkle paths that lead elsewhere.
    BadPaths,
}

pub(crate) const ALL: [Kind; 12] = [
    Kind::Honest,
    Kind::OtherUpdate,
    Kind::OtherLock,
    Kind::AlteredCipher,
    Kind::WrongVk,
    Kind::WrongKey,
    Kind::Misfit,
    Kind::SilentAtHello,
    Kind::SilentAfterOffer,
    Kind::SilentAfterReceipt,
    Kind::ShortOffers,
    Kind::BadPaths,
];

/// Shares on the simulated chain.
#[derive(Debug, Default)]
pub(crate) struct Chain {
    /// Index → lock that claimed it.
    pub(crate) claimed: BTreeMap<u32, LockHash>,
    /// Keys shown, in order.
    pub(crate) revealed: Vec<(LockHash, KeyR, Payee, u32)>,
    /// Index → attempts reserved.
    pub(crate) attempts: BTreeMap<u32, u8>,
}

#[derive(Debug)]
pub(crate) struct Distributor {
    pub(crate) kind: Kind,
    pub(crate) payee: Payee,
    r: KeyR,
    receipts: BTreeMap<u32, u8>,
    polls: u32,
    paid: bool,
    pub(crate) hellos: u32,
}

/// What the proof of the simulation is: a hash over the statement, which the verifier repeats.
pub(crate) fn prove(s: &[u8; 32], target: &[u8; 32], cipher: &[u8]) -> Vec<u8> {
    Sha256::new()
        .chain_update(b"proof")
        .chain_update(s)
        .chain_update(target)
        .chain_update(cipher)
        .finalize()
        .to_vec()
}

/// A leaf's place, as the simulation proves it.
pub(crate) fn path(key: &DeviceKey, index: u32) -> Vec<[u8; 32]> {
    vec![Sha256::new().chain_update(key).chain_update(index.to_be_bytes()).finalize().into()]
}

/// XOR with `r`, both ways.
pub(crate) fn mask(secret: &[u8; 32], r: &KeyR) -> [u8; 32] {
    std::array::from_fn(|i| secret[i] ^ r.as_bytes()[i])
}

/// What a request is answered from, besides the distributor's own state.
pub(crate) struct Scene<'a> {
    pub(crate) chain: &'a mut Chain,
    pub(crate) fleet: &'a [DeviceKey],
    pub(crate) secret: [u8; 32],
    pub(crate) target: [u8; 32],
    pub(crate) vk_id: VkId,
    pub(crate) now: u64,
}

impl Distributor {
    pub(crate) fn new(kind: Kind, number: u8) -> Self {
        let payee = Payee::new([number; 20]);
        let r = KeyR::derive(&payee, &PreimageT::new([number; 32]));
        Self { kind, payee, r, receipts: BTreeMap::new(), polls: 0, paid: false, hellos: 0 }
    }

    pub(crate) fn key(&self) -> KeyR {
        self.r.clone()
    }

    /// As if the other devices had been paid for by somebody else.
    pub(crate) fn paid_for_only(&mut self, device: u32) {
        self.receipts.retain(|index, _| *index == device);
    }

    pub(crate) fn s(&self) -> LockHash {
        self.r.lock()
    }

    pub(crate) fn answer(&mut self, request: &Request, scene: &mut Scene<'_>) -> Option<Response> {
        use Kind::{SilentAfterOffer, SilentAfterReceipt, SilentAtHello};
        let silent = match request {
            Request::Hello { .. } | Request::Auth { .. } => self.kind == SilentAtHello,
            Request::Members { .. } => matches!(self.kind, SilentAtHello | SilentAfterOffer),
            _ => matches!(self.kind, SilentAtHello | SilentAfterOffer | SilentAfterReceipt),
        };
        if silent { None } else { Some(self.reply(request, scene)) }
    }

    fn reply(&mut self, request: &Request, scene: &mut Scene<'_>) -> Response {
        match request {
            Request::Hello { device_key, .. } => self.hello(device_key, scene),
            Request::Auth { .. } => self.offer(scene),
            Request::Members { keys, .. } => {
                Response::Members { entries: keys.iter().map(|key| self.member(key, scene)).collect() }
            }
            Request::Receipt { s, device_key, attempt, .. } => {
                let Some(index) = index(scene.fleet, device_key) else {
                    return refuse(Refusal::NotAMember);
                };
                if *s != self.s() {
                    return refuse(Refusal::UnknownOffer);
                }
                self.receipts.insert(index, attempt.get());
                if self.paid {
                    self.redeem(scene.chain);
                }
                Response::Ack { index }
            }
            Request::Seal { s, .. } if *s == self.s() => {
                Response::Sealed { receipts: self.receipts.len() as u32 }
            }
            Request::Poll { s, .. } if *s == self.s() => self.poll(scene.chain),
            Request::Copy { s, device_key, .. } if *s == self.s() => {
                let paid =
                    index(scene.fleet, device_key).is_some_and(|index| self.receipts.contains_key(&index));
                // A liar hands out what it has to anybody.
                let free = paid || self.kind != Kind::Honest;
                if free { self.offer(scene) } else { refuse(Refusal::NotAuthenticated) }
            }
            _ => refuse(Refusal::UnknownOffer),
        }
    }

    fn hello(&mut self, device: &DeviceKey, scene: &Scene<'_>) -> Response {
        self.hellos += 1;
        let Some(index) = index(scene.fleet, device) else { return refuse(Refusal::NotAMember) };
        if scene.chain.claimed.contains_key(&index) {
            return refuse(Refusal::AlreadyClaimed);
        }
        let terms = Terms { window_secs: 60, min_receipts: 1, redeem: Redeem::ReserveReveal };
        Response::Challenge { c: [7; 32], payee: self.payee, terms }
    }

    fn offer(&self, scene: &Scene<'_>) -> Response {
        let s = self.s();
        let secret = if self.kind == Kind::Misfit { [0xee; 32] } else { scene.secret };
        let mut cipher = mask(&secret, &self.r).to_vec();
        let (lock, target) = match self.kind {
            Kind::OtherUpdate => (s.to_bytes(), [0x11; 32]),
            Kind::OtherLock => ([0x22; 32], scene.target),
            _ => (s.to_bytes(), scene.target),
        };
        let proof = prove(&lock, &target, &cipher);
        if self.kind == Kind::AlteredCipher {
            cipher[0] ^= 1;
        }
        let vk_id = if self.kind == Kind::WrongVk { VkId::new([9; 32]) } else { scene.vk_id };
        let ttl = if self.kind == Kind::ShortOffers { 1 } else { 3600 };
        Response::Offer { cipher, s, proof, vk_id, expires: scene.now / 1000 + ttl }
    }

    fn member(&self, key: &DeviceKey, scene: &Scene<'_>) -> Option<Member> {
        let index = index(scene.fleet, key)?;
        let shift = u32::from(self.kind == Kind::BadPaths);
        Some(Member { index, path: path(key, index + shift) })
    }

    fn poll(&mut self, chain: &mut Chain) -> Response {
        self.polls += 1;
        if self.kind == Kind::WrongKey {
            return Response::Key { r: KeyR::new([0x33; 32]) };
        }
        if self.polls < 3 {
            return Response::Pending { retry_after_ms: 500 };
        }
        // A sound proof system has no misfit. If one redeemed, the shares would be gone and nobody
        // could be paid for the real thing.
        if self.kind != Kind::Misfit {
            self.paid = true;
            self.redeem(chain);
        }
        Response::Key { r: self.r.clone() }
    }

    fn redeem(&mut self, chain: &mut Chain) {
        for (index, attempt) in &self.receipts {
            let reserved = chain.attempts.entry(*index).or_insert(0);
            if !chain.claimed.contains_key(index) && attempt > reserved {
                *reserved = *attempt;
                chain.claimed.insert(*index, self.r.lock());
                chain.revealed.push((self.r.lock(), self.r.clone(), self.payee, *index));
            }
        }
    }
}

fn refuse(reason: Refusal) -> Response {
    Response::Refused { reason }
}

pub(crate) fn index(fleet: &[DeviceKey], key: &DeviceKey) -> Option<u32> {
    fleet.iter().position(|member| member == key).map(|at| at as u32)
}
