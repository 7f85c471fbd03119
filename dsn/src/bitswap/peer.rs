//! One peer: what it is asked, and what becomes of each want. No network and no clock in here.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use cid::Cid;
use libp2p::swarm::ConnectionId;
use tokio::sync::oneshot;

use super::message::Outgoing;
use super::serve::Queue;
use super::{Answer, Kind};
use crate::fetch::WantError;
use crate::withheld::digest;

/// Wants taken back lately, or sent several times, whose blocks may still come.
const MAX_RECENT: usize = 128;

/// A want that waits for its answer.
pub(super) struct Waiting {
    pub(super) id: u64,
    pub(super) cid: Cid,
    pub(super) kind: Kind,
    pub(super) max_len: usize,
    pub(super) answer: oneshot::Sender<Result<Answer, WantError>>,
}

/// What there is with one peer, connected or being dialled.
#[derive(Default)]
pub(super) struct Peer {
    pub(super) connections: Vec<ConnectionId>,
    /// How many wait; the connections look at it.
    pub(super) wanted: Arc<AtomicUsize>,
    pub(super) waiting: HashMap<[u8; 32], Vec<Waiting>>,
    recent: VecDeque<[u8; 32]>,
    pub(super) outbox: Outgoing,
    pub(super) queue: Queue,
}

impl Peer {
    pub(super) fn wait(&mut self, waiting: Waiting) {
        self.wanted.fetch_add(1, Ordering::Relaxed);
        self.waiting.entry(digest(&waiting.cid)).or_default().push(waiting);
    }

    fn answered(&mut self, digest: [u8; 32]) -> Vec<Waiting> {
        let waiting = self.waiting.remove(&digest).unwrap_or_default();
        self.wanted.fetch_sub(waiting.len(), Ordering::Relaxed);
        waiting
    }

    pub(super) fn on_presence(&mut self, digest: [u8; 32], have: bool) {
        for waiting in self.answered(digest) {
            match (have, waiting.kind) {
                (false, _) => drop(waiting.answer.send(Err(WantError::DontHave))),
                (true, Kind::Have) => drop(waiting.answer.send(Ok(Answer::Have))),
                // The block itself is still to come.
                (true, Kind::Block) => self.wait(waiting),
            }
        }
    }

    /// `false`: nobody has asked for this block.
    pub(super) fn on_block(&mut self, digest: [u8; 32], block: Bytes) -> bool {
        let waiting = self.answered(digest);
        let expected = !waiting.is_empty() || self.recent.contains(&digest);
        if waiting.len() > 1 {
            // The first message had left before the second wanted the block: the peer answers each.
            self.remember(digest);
        }
        for waiting in waiting {
            let (len, max) = (block.len(), waiting.max_len);
            let answer = match len <= max {
                true => Ok(Answer::Block(block.clone())),
                false => Err(WantError::TooLarge { len, max }),
            };
            waiting.answer.send(answer).ok();
        }
        expected
    }

    /// The peer has answered with something else: whatever it owes will not come.
    pub(super) fn fail_blocks(&mut self) {
        self.fail_all(&WantError::WrongHash);
    }

    pub(super) fn fail_all(&mut self, error: &WantError) {
        for waiting in std::mem::take(&mut self.waiting).into_values().flatten() {
            self.wanted.fetch_sub(1, Ordering::Relaxed);
            waiting.answer.send(Err(error.clone())).ok();
        }
    }

    /// Ends a want that has not been answered. The CID if nobody else waits for it: to be cancelled.
    pub(super) fn expire(&mut self, digest: [u8; 32], id: u64) -> Option<Cid> {
        let waiting = self.waiting.get_mut(&digest)?;
        let place = waiting.iter().position(|waiting| waiting.id == id)?;
        let expired = waiting.swap_remove(place);
        self.wanted.fetch_sub(1, Ordering::Relaxed);
        expired.answer.send(Err(WantError::Timeout)).ok();
        if !self.waiting.get(&digest)?.is_empty() {
            return None;
        }
        self.waiting.remove(&digest);
        self.remember(digest);
        Some(expired.cid)
    }

    fn remember(&mut self, digest: [u8; 32]) {
        self.recent.push_back(digest);
        if self.recent.len() > MAX_RECENT {
            self.recent.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::content::Codec;

    fn wanting(kind: Kind, max_len: usize) -> (Peer, oneshot::Receiver<Result<Answer, WantError>>) {
        let (answer, answered) = oneshot::channel();
        let mut peer = Peer::default();
        peer.wait(Waiting { id: 1, cid: Codec::Raw.cid(b"block"), kind, max_len, answer });
        (peer, answered)
    }

    fn block(bytes: &'static [u8]) -> ([u8; 32], Bytes) {
        (digest(&Codec::Raw.cid(bytes)), Bytes::from_static(bytes))
    }

    #[test]
    fn a_block_answers_whoever_waits_for_it() {
        let (mut peer, mut answered) = wanting(Kind::Block, 5);
        let (digest, bytes) = block(b"block");
        assert!(peer.on_block(digest, bytes.clone()));
        assert_eq!(answered.try_recv().unwrap(), Ok(Answer::Block(bytes.clone())));
        assert_eq!(peer.wanted.load(Ordering::Relaxed), 0);
        assert!(!peer.on_block(digest, bytes), "sent twice, it is unsolicited");
    }

    #[test]
    fn a_block_over_the_bound_is_an_error() {
        let (mut peer, mut answered) = wanting(Kind::Block, 4);
        let (digest, bytes) = block(b"block");
        assert!(peer.on_block(digest, bytes));
        assert_eq!(answered.try_recv().unwrap(), Err(WantError::TooLarge { len: 5, max: 4 }));
    }

    #[test]
    fn having_answers_the_question_and_not_the_want() {
        let key = digest(&Codec::Raw.cid(b"block"));
        let (mut peer, mut answered) = wanting(Kind::Have, 5);
        peer.on_presence(key, true);
        assert_eq!(answered.try_recv().unwrap(), Ok(Answer::Have));
        let (mut peer, mut answered) = wanting(Kind::Block, 5);
        peer.on_presence(key, true);
        assert!(answered.try_recv().is_err());
        peer.on_presence(key, false);
        assert_eq!(answered.try_recv().unwrap(), Err(WantError::DontHave));
    }

    #[test]
    fn another_block_is_not_the_answer() {
        let (mut peer, mut answered) = wanting(Kind::Block, 5);
        let (digest, bytes) = block(b"other");
        assert!(!peer.on_block(digest, bytes));
        peer.fail_blocks();
        assert_eq!(answered.try_recv().unwrap(), Err(WantError::WrongHash));
    }

    #[test]
    fn a_block_that_was_wanted_twice_may_come_twice() {
        let (mut peer, mut first) = wanting(Kind::Block, 5);
        let (answer, mut second) = oneshot::channel();
        peer.wait(Waiting { id: 2, cid: Codec::Raw.cid(b"block"), kind: Kind::Block, max_len: 5, answer });
        let (digest, bytes) = block(b"block");
        assert!(peer.on_block(digest, bytes.clone()));
        assert_eq!(first.try_recv().unwrap(), second.try_recv().unwrap());
        assert!(peer.on_block(digest, bytes), "the answer to the other want");
    }

    #[test]
    fn a_late_block_is_no_offence() {
        let (mut peer, mut answered) = wanting(Kind::Block, 5);
        let (digest, bytes) = block(b"block");
        assert_eq!(peer.expire(digest, 1), Some(Codec::Raw.cid(b"block")));
        assert_eq!(answered.try_recv().unwrap(), Err(WantError::Timeout));
        assert!(peer.on_block(digest, bytes));
        assert!(peer.waiting.is_empty() && peer.expire(digest, 1).is_none());
    }
}
