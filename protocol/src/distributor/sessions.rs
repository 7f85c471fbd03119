//! Peers that are not yet worth a row: their challenges and their rates, both bounded.

use alloc::collections::BTreeMap;

use crate::id::{Bounty, Digest, PeerHash};

use super::chain::Standing;

/// How long a share is taken to stand as it was found; the contract decides in the end.
const STANDING_MS: u64 = 60_000;

/// A peer that said Hello on behalf of a device of the fleet.
#[derive(Debug, Clone, Copy)]
pub(super) struct Session {
    /// The challenge.
    pub(super) c: Digest,
    /// Fleet index of the device.
    pub(super) device: u32,
    /// How the device's share stands, once it was looked up.
    pub(super) standing: Option<Standing>,
    /// Whether the challenge was answered.
    pub(super) authenticated: bool,
    /// Unix milliseconds of the last Hello.
    at: u64,
    /// Unix milliseconds at which the share was last asked for.
    looked_up: u64,
}

#[derive(Debug, Default)]
pub(super) struct Sessions(BTreeMap<(Bounty, PeerHash), Session>);

impl Sessions {
    /// Opens or renews: a repeated Hello is answered with the same challenge, so that an answer on
    /// its way stays good. At the limit the oldest gives way.
    pub(super) fn hello(
        &mut self,
        key: (Bounty, PeerHash),
        device: u32,
        fresh: Digest,
        now: u64,
        limit: usize,
    ) -> Digest {
        if let Some(session) = self.0.get_mut(&key) {
            let stale = now.saturating_sub(session.looked_up) > STANDING_MS;
            if session.device != device || stale {
                (session.device, session.standing) = (device, None);
                session.looked_up = now;
            }
            session.at = now;
            return session.c;
        }
        if self.0.len() >= limit {
            evict_oldest(&mut self.0, |session| session.at);
        }
        let session =
            Session { c: fresh, device, standing: None, authenticated: false, at: now, looked_up: now };
        self.0.insert(key, session);
        fresh
    }

    pub(super) fn get(&self, key: &(Bounty, PeerHash)) -> Option<&Session> {
        self.0.get(key)
    }

    pub(super) fn get_mut(&mut self, key: &(Bounty, PeerHash)) -> Option<&mut Session> {
        self.0.get_mut(key)
    }

    pub(super) fn close(&mut self, key: &(Bounty, PeerHash)) {
        self.0.remove(key);
    }

    /// Everyone who waits for this device's standing learns it.
    pub(super) fn inspected(&mut self, bounty: Bounty, device: u32, standing: Standing) {
        let sessions = self.0.iter_mut().filter(|((b, _), s)| *b == bounty && s.device == device);
        sessions.for_each(|(_, session)| session.standing = Some(standing));
    }

    pub(super) fn forget(&mut self, bounty: Bounty) {
        self.0.retain(|(b, _), _| *b != bounty);
    }
}

/// Drops the entry whose time is least.
fn evict_oldest<K: Ord + Copy, V>(map: &mut BTreeMap<K, V>, at: impl Fn(&V) -> u64) {
    let oldest = map.iter().min_by_key(|(_, value)| at(value)).map(|(key, _)| *key);
    oldest.iter().for_each(|key| drop(map.remove(key)));
}

/// A token bucket for each peer, in thousandths of a request.
#[derive(Debug, Default)]
pub(super) struct Rates(BTreeMap<PeerHash, (u64, u64)>);

impl Rates {
    /// Takes one request's token; false if the peer has none left.
    pub(super) fn take(&mut self, peer: PeerHash, now: u64, limits: &super::campaign::Limits) -> bool {
        if !self.0.contains_key(&peer) && self.0.len() >= limits.peers {
            evict_oldest(&mut self.0, |(_, at)| *at);
        }
        let full = u64::from(limits.burst) * 1000;
        let (tokens, at) = self.0.entry(peer).or_insert((full, now));
        let gained = now.saturating_sub(*at).saturating_mul(u64::from(limits.per_second));
        *tokens = tokens.saturating_add(gained).min(full);
        *at = (*at).max(now);
        let paid = tokens.checked_sub(1000);
        *tokens = paid.unwrap_or(*tokens);
        paid.is_some()
    }
}
