//! Answering wants: a peer's queue, and turning its head into one message.
//!
//! Each peer has one batch in the making at a time and a bounded number of bytes on their way, so a peer that
//! asks for everything and reads nothing holds two messages' worth of memory, and takes no turn from others. Over QUIC a
//! message is on its way when quinn has it, which keeps up to 10 MB for each such peer (`docs/decisions/0016`).

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;
use cid::Cid;
use libp2p::PeerId;

use super::Kind;
use super::message::{Entry, MAX_WANTS, Outgoing};
use crate::store::Store;
use crate::withheld::Withheld;

/// A message is sent off once it holds this much; with one more block it stays far below 4 MiB.
const FULL: usize = 768 * 1024;
/// Wants looked at for one message.
const BATCH: usize = 128;
/// Below this a "do you have it" is answered with the block, as Kubo does: the question cost as much.
const SMALL: usize = 1024;

/// Where blocks come from, and which never leave.
#[derive(Clone)]
pub(crate) struct Source {
    pub(crate) store: Store,
    pub(crate) withheld: Arc<Withheld>,
}

/// What one turn made.
pub(super) struct Batch {
    pub(super) message: Outgoing,
    /// Wants for which there was no room.
    pub(super) rest: Vec<Entry>,
}

/// A peer's wants that wait for an answer.
#[derive(Default)]
pub(super) struct Queue {
    wants: VecDeque<Entry>,
    /// A batch of this peer is in the making.
    pub(super) busy: bool,
    /// Bytes of answers that have not left.
    pub(super) unsent: usize,
}

impl Queue {
    /// Takes a message's wants in. `false`: some did not fit and were dropped.
    pub(super) fn take_in(&mut self, wants: Vec<Entry>, full: bool) -> bool {
        if full {
            self.wants.clear();
        }
        let mut fits = true;
        for want in wants {
            if want.cancel {
                self.wants.retain(|waiting| waiting.raw != want.raw);
            } else if self.wants.len() < MAX_WANTS {
                self.wants.push_back(want);
            } else {
                fits = false;
            }
        }
        fits
    }

    /// Whether it is this peer's turn: something to answer, and what was answered has mostly left.
    pub(super) fn is_ready(&self) -> bool {
        !self.busy && !self.wants.is_empty() && self.unsent < 2 * FULL
    }

    /// The wants of the next batch.
    pub(super) fn next_batch(&mut self) -> Vec<Entry> {
        self.busy = true;
        let count = self.wants.len().min(BATCH);
        self.wants.drain(..count).collect()
    }

    /// The batch is done; what it had no room for comes first again.
    pub(super) fn done(&mut self, rest: Vec<Entry>, bytes: usize) {
        self.busy = false;
        self.unsent += bytes;
        for want in rest.into_iter().rev() {
            self.wants.push_front(want);
        }
    }
}

impl Source {
    /// Answers as many of `wants` as one message holds.
    pub(super) async fn answer(self, peer: PeerId, wants: Vec<Entry>) -> Batch {
        let (mut message, mut bytes) = (Outgoing::default(), 0);
        let mut wants = wants.into_iter();
        for want in wants.by_ref() {
            match self.find(peer, &want).await {
                Found::Block(block) => {
                    bytes += block.len();
                    message.block(&want, block);
                }
                Found::Have => message.presence(&want, true),
                Found::Nothing if want.send_dont_have => message.presence(&want, false),
                Found::Nothing => {}
            }
            if bytes >= FULL {
                break;
            }
        }
        Batch { message, rest: wants.collect() }
    }

    async fn find(&self, peer: PeerId, want: &Entry) -> Found {
        let Some(cid) = want.cid else { return Found::Nothing };
        if self.withheld.refuses(peer, &cid) {
            return Found::Nothing;
        }
        match want.kind {
            Kind::Block => self.block(&cid).await.map_or(Found::Nothing, Found::Block),
            Kind::Have => match self.small_block(&cid).await {
                Some(block) => Found::Block(block),
                None if self.store.has(&cid).await.unwrap_or(false) => Found::Have,
                None => Found::Nothing,
            },
        }
    }

    /// A failing disk is not the asker's business: to it the block is not here.
    async fn block(&self, cid: &Cid) -> Option<Bytes> {
        match self.store.get(cid).await {
            Ok(block) => block,
            Err(error) => {
                tracing::warn!(%cid, %error, "block not read");
                None
            }
        }
    }

    async fn small_block(&self, cid: &Cid) -> Option<Bytes> {
        match self.store.is_small(cid, SMALL).await {
            Ok(true) => self.block(cid).await,
            _ => None,
        }
    }
}

enum Found {
    Block(Bytes),
    Have,
    Nothing,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn want(n: u8, cancel: bool) -> Entry {
        let raw = Bytes::copy_from_slice(&[n]);
        Entry { raw, cid: None, kind: Kind::Block, cancel, send_dont_have: true }
    }

    #[test]
    fn a_cancelled_want_is_forgotten_and_a_full_wantlist_replaces_all() {
        let mut queue = Queue::default();
        assert!(queue.take_in(vec![want(1, false), want(2, false), want(1, true)], false));
        assert_eq!(queue.wants, [want(2, false)]);
        assert!(queue.take_in(vec![want(3, false)], true));
        assert_eq!(queue.wants, [want(3, false)]);
    }

    #[test]
    fn a_queue_is_bounded() {
        let mut queue = Queue::default();
        assert!(queue.take_in(vec![want(1, false); MAX_WANTS], false));
        assert!(!queue.take_in(vec![want(2, false)], false));
        assert_eq!(queue.wants.len(), MAX_WANTS);
    }

    #[test]
    fn a_peer_that_does_not_read_gets_no_further_turn() {
        let mut queue = Queue::default();
        queue.take_in(vec![want(1, false), want(2, false)], false);
        assert!(queue.is_ready());
        let batch = queue.next_batch();
        assert!(!queue.is_ready());
        queue.done(batch, 2 * FULL);
        assert!(!queue.is_ready());
        queue.unsent -= 1;
        assert!(queue.is_ready());
        assert_eq!(queue.next_batch(), [want(1, false), want(2, false)]);
    }
}
