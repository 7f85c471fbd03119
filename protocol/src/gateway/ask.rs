//! The conversations: what is asked of whom, and when.

use alloc::vec::Vec;

use super::exchange::{Exchange, Held};
use super::io::{Output, RequestId};
use super::peer::Peer;
use super::roster::{Receipt, Step};
use super::state::{Authenticating, Goal, State};
use crate::digest;
use crate::exchange::{MAX_MEMBERS, Request};
use crate::id::{Attempt, DeviceKey, LockHash};

/// A question; the same one is in flight to a peer at most once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Ask {
    Hello(DeviceKey),
    Auth,
    Members(Vec<DeviceKey>),
    Receipt(DeviceKey, LockHash, Attempt),
    Seal(LockHash),
    Poll(LockHash),
    Copy(LockHash, DeviceKey),
}

impl Ask {
    /// Whether two would do the same work.
    fn is_same(&self, other: &Self) -> bool {
        matches!((self, other), (Self::Members(_), Self::Members(_))) || self == other
    }
}

/// A question that was sent.
#[derive(Debug, Clone)]
pub(super) struct Inflight {
    pub(super) peer: Peer,
    pub(super) ask: Ask,
    pub(super) until: u64,
}

impl Exchange {
    /// Gives up requests whose time is over.
    pub(super) fn expire(&mut self, now: u64) {
        let late: Vec<RequestId> =
            self.inflight.iter().filter(|(_, flight)| flight.until <= now).map(|(id, _)| *id).collect();
        for id in late {
            self.on_request_failed(id, now);
        }
    }

    pub(super) fn on_request_failed(&mut self, id: RequestId, now: u64) {
        if let Some(flight) = self.inflight.remove(&id) {
            self.book.entry(flight.peer).failed(now);
        }
    }

    /// Sends what the state and the receipts call for.
    pub(super) fn converse(&mut self, now: u64) {
        for (peer, ask) in self.wanted(now) {
            if !self.book.is_banned(&peer) {
                self.ask(peer, ask, now);
            }
        }
        let ends: Vec<u64> = self.inflight.values().map(|flight| flight.until).collect();
        for until in ends {
            self.due(until, now);
        }
    }

    fn wanted(&mut self, now: u64) -> Vec<(Peer, Ask)> {
        let mut asks = Vec::new();
        if let State::Authenticating(Authenticating { peer, goal, .. }) = self.state {
            asks.push((
                peer,
                match goal {
                    Goal::Buy => Ask::Auth,
                    Goal::Copy { s, device, .. } => Ask::Copy(s, device),
                },
            ));
        }
        if !matches!(self.state, State::Superseded(_)) {
            asks.extend(self.wanted_members(now));
        }
        self.wanted_for_offers(&mut asks, now);
        asks
    }

    /// Every offer with a signed receipt is seen through, whatever the state: the receipt is sent
    /// until it is taken, and the key asked for.
    fn wanted_for_offers(&mut self, asks: &mut Vec<(Peer, Ask)>, now: u64) {
        let payable = now < self.update.claim_by_ms();
        let offers: Vec<(LockHash, Peer)> = self
            .held
            .iter()
            .filter(|(_, held)| held.first_receipt.is_some() && !held.misfit)
            .map(|(s, held)| (*s, held.offer.peer))
            .collect();
        for (s, peer) in offers {
            if payable {
                asks.extend(
                    self.unsent(&s).map(|(device, attempt)| (peer, Ask::Receipt(device, s, attempt))),
                );
            }
            if self.wants_seal(&s, now) {
                asks.push((peer, Ask::Seal(s)));
            }
            if self.wants_poll(&s, now) {
                asks.push((peer, Ask::Poll(s)));
            }
        }
    }

    fn unsent(&self, s: &LockHash) -> impl Iterator<Item = (DeviceKey, Attempt)> {
        let s = *s;
        self.sensors.iter().filter_map(move |(device, sensor)| match sensor.receipts.get(&s) {
            Some(Receipt { attempt, step: Step::Signed(_) }) => Some((*device, *attempt)),
            _ => None,
        })
    }

    fn wants_poll(&mut self, s: &LockHash, now: u64) -> bool {
        let Some(held) = self.held.get(s) else { return false };
        let waits = held.sealed.is_some() && held.key.is_none() && now < self.update.ends_ms();
        let at = held.poll_at;
        waits && self.due(at, now)
    }

    /// Who is to be asked where which sensors are in the fleet.
    fn wanted_members(&mut self, now: u64) -> Option<(Peer, Ask)> {
        let paying = self.state.paying().and_then(|s| self.held.get(&s)).map(|held| held.offer.peer);
        let version = self.update.version;
        let peer = match paying {
            Some(peer) => self.members_peer(peer, now),
            None => self.state.peer()?,
        };
        let unknown = self.sensors.iter().filter(|(_, sensor)| {
            sensor.needs(version)
                && sensor.index.is_none()
                && !sensor.denied_by.contains(&peer)
                // Without an offer only those matter whose share is said to be gone.
                && (paying.is_some() || !sensor.claimed_by_word.is_empty())
        });
        let keys: Vec<DeviceKey> = unknown.map(|(device, _)| *device).take(MAX_MEMBERS).collect();
        (!keys.is_empty()).then_some((peer, Ask::Members(keys)))
    }

    /// The distributor that is paid, or another if that one is gone.
    fn members_peer(&self, paid: Peer, now: u64) -> Peer {
        let gone = self.book.peers.get(&paid).is_some_and(|entry| entry.fails >= self.policy.tries);
        let other = || self.book.choose(now, |entry| entry.fails == 0);
        if gone { other().unwrap_or(paid) } else { paid }
    }

    /// Sends a question, or first what it takes to be heard.
    fn ask(&mut self, peer: Peer, ask: Ask, now: u64) {
        let entry = self.book.entry(peer);
        let (locked_out, challenge) = (entry.locked_out, entry.challenge);
        let ask = match ask {
            Ask::Auth => None,
            _ if locked_out => None,
            other => Some(other),
        };
        let ask = match (ask, challenge) {
            (Some(ask), _) => ask,
            (None, Some(_)) => Ask::Auth,
            (None, None) => match self.delegate_key(Some(peer)) {
                Some(device) => Ask::Hello(device),
                None => {
                    self.delegate_wanted = true;
                    return;
                }
            },
        };
        let twice = |flight: &Inflight| flight.peer == peer && flight.ask.is_same(&ask);
        if self.inflight.len() >= self.policy.max_inflight || self.inflight.values().any(twice) {
            return;
        }
        let retry_at = self.book.entry(peer).retry_at;
        if self.due(retry_at, now) {
            self.send(peer, ask, now);
        }
    }

    fn send(&mut self, peer: Peer, ask: Ask, now: u64) {
        let id = RequestId(self.next_request);
        let Some(output) = self.word_ask(id, peer, &ask) else { return };
        self.next_request += 1;
        let until = now.saturating_add(self.policy.request_ms);
        self.inflight.insert(id, Inflight { peer, ask, until });
        self.out.push_back(output);
    }

    fn word_ask(&self, id: RequestId, peer: Peer, ask: &Ask) -> Option<Output> {
        let (chain, bounty) = (self.update.chain, self.update.bounty);
        let request = match ask {
            Ask::Auth => {
                let challenge = self.book.peers.get(&peer)?.challenge?;
                let digest = digest::challenge(chain, &bounty, &challenge.payee, &challenge.c);
                return Some(Output::Authenticate { id, peer, digest });
            }
            Ask::Hello(device) => {
                let delegation = self.sensors.get(device)?.delegation?;
                Request::Hello { chain, bounty, device_key: *device, delegation }
            }
            Ask::Members(keys) => Request::Members { bounty, keys: keys.clone() },
            Ask::Receipt(device, s, attempt) => {
                let receipt = self.sensors.get(device)?.receipts.get(s)?;
                let Step::Signed(sig) = receipt.step else { return None };
                Request::Receipt { bounty, s: *s, device_key: *device, attempt: *attempt, sig }
            }
            Ask::Seal(s) => Request::Seal { bounty, s: *s },
            Ask::Poll(s) => Request::Poll { bounty, s: *s },
            Ask::Copy(s, device) => Request::Copy { bounty, s: *s, device_key: *device },
        };
        Some(Output::Send { id, peer, request })
    }

    /// The offers held, for the status.
    pub(super) fn offers(&self) -> impl Iterator<Item = &Held> {
        self.held.values()
    }
}
