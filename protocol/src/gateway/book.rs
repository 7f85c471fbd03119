//! The distributors known for one update, and what is known about each.

use alloc::collections::BTreeMap;

use super::io::Fault;
use super::peer::Peer;
use crate::exchange::Terms;
use crate::id::Payee;

/// Liars remembered; each cost them a fresh identity and us one conversation.
const MAX_BANNED: usize = 1024;
/// Doublings of the cool-down.
const MAX_DOUBLINGS: u32 = 6;
/// First wait between two tries of a request, milliseconds.
const RETRY_MS: u64 = 250;

/// What a distributor said to our hello.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Challenge {
    pub(super) c: [u8; 32],
    pub(super) payee: Payee,
    pub(super) terms: Terms,
}

/// One distributor.
#[derive(Debug, Clone)]
pub(super) struct Entry {
    /// Order of arrival: lower was preferred by those who found it.
    rank: u64,
    pub(super) challenge: Option<Challenge>,
    /// It wants hello and the answer to its challenge before anything else.
    pub(super) locked_out: bool,
    /// Requests in a row that failed.
    pub(super) fails: u32,
    /// Nothing is sent before this.
    pub(super) retry_at: u64,
    /// Times that it was left.
    pub(super) rounds: u32,
    /// Not chosen before this.
    pub(super) rests_until: u64,
    /// It has no copy under any key up to this one in the order of asking.
    pub(super) no_copy_to: u64,
}

impl Entry {
    fn new(rank: u64) -> Self {
        Self {
            rank,
            challenge: None,
            locked_out: false,
            fails: 0,
            retry_at: 0,
            rounds: 0,
            rests_until: 0,
            no_copy_to: 0,
        }
    }

    /// A request to it came to nothing: wait twice as long as the last time.
    pub(super) fn failed(&mut self, now: u64) {
        self.fails = self.fails.saturating_add(1);
        let wait = RETRY_MS << self.fails.min(MAX_DOUBLINGS);
        self.retry_at = now.saturating_add(wait);
    }

    /// It answered.
    pub(super) fn answered(&mut self) {
        self.fails = 0;
    }
}

/// All of them.
#[derive(Debug, Clone, Default)]
pub(super) struct Book {
    pub(super) peers: BTreeMap<Peer, Entry>,
    /// Why each was last left.
    pub(super) left: BTreeMap<Peer, (Fault, u64)>,
    next_rank: u64,
}

impl Book {
    /// Whether the peer lied about this update.
    pub(super) fn is_banned(&self, peer: &Peer) -> bool {
        self.left.get(peer).is_some_and(|(fault, _)| fault.is_lie())
    }

    /// Takes in a peer unless it lied. In a full book the newcomer takes the place of the one that
    /// was left most often, so a crowd of strangers does not shut out who comes later.
    pub(super) fn meet(&mut self, peer: Peer, max: usize, keep: Option<Peer>) {
        if self.is_banned(&peer) || self.peers.contains_key(&peer) {
            return;
        }
        if self.peers.len() >= max {
            let worst = self.peers.iter().filter(|(p, e)| e.rounds > 0 && Some(**p) != keep);
            let Some(worst) = worst.max_by_key(|(_, e)| e.rounds).map(|(p, _)| *p) else {
                return;
            };
            self.peers.remove(&worst);
        }
        self.insert(peer);
    }

    /// The entry of a peer that an offer is held from, whatever happened since.
    pub(super) fn entry(&mut self, peer: Peer) -> &mut Entry {
        if !self.peers.contains_key(&peer) {
            self.insert(peer);
        }
        self.peers.get_mut(&peer).expect("inserted above")
    }

    fn insert(&mut self, peer: Peer) {
        self.peers.insert(peer, Entry::new(self.next_rank));
        self.next_rank += 1;
    }

    /// The next to try: the one that was left least often, in the order of preference.
    pub(super) fn choose(&self, now: u64, usable: impl Fn(&Entry) -> bool) -> Option<Peer> {
        self.peers
            .iter()
            .filter(|(peer, entry)| entry.rests_until <= now && !self.is_banned(peer) && usable(entry))
            .min_by_key(|(_, entry)| (entry.rounds, entry.rank))
            .map(|(peer, _)| *peer)
    }

    /// When the next resting peer may be tried.
    pub(super) fn next_rested(&self, now: u64) -> Option<u64> {
        let resting = self.peers.iter().filter(|(peer, _)| !self.is_banned(peer));
        resting.map(|(_, entry)| entry.rests_until).filter(|at| *at > now).min()
    }

    /// Leaves a peer: a liar for good, any other for a while that doubles each time.
    pub(super) fn leave(&mut self, peer: Peer, why: Fault, now: u64, cooldown_ms: u64) {
        if self.left.len() >= MAX_BANNED && !self.left.contains_key(&peer) {
            let oldest = self.left.iter().min_by_key(|(_, (_, at))| *at).map(|(peer, _)| *peer);
            oldest.map(|oldest| self.left.remove(&oldest));
        }
        self.left.insert(peer, (why, now));
        let entry = self.entry(peer);
        let doublings = entry.rounds.min(MAX_DOUBLINGS);
        entry.rests_until = now.saturating_add(cooldown_ms << doublings);
        entry.rounds = entry.rounds.saturating_add(1);
        entry.fails = 0;
        entry.challenge = None;
        if why.is_lie() {
            self.peers.remove(&peer);
        }
    }
}
