//! Content that is known here and sent to nobody: the secrets that are for sale.
//!
//! Kept by digest, so that no other codec or CID version is a way round; and asked before the store is, so that a
//! secret that got into the store all the same stays there.

use std::collections::HashMap;
use std::sync::RwLock;
use std::sync::atomic::{AtomicU64, Ordering};

use cid::Cid;
use libp2p::PeerId;
use tokio::sync::broadcast;

use crate::peer::Event;

/// The digests, each with how often it was asked for.
#[derive(Debug)]
pub(crate) struct Withheld {
    refusals: RwLock<HashMap<[u8; 32], AtomicU64>>,
    events: broadcast::Sender<Event>,
}

impl Withheld {
    pub(crate) fn new(digests: Vec<[u8; 32]>, events: broadcast::Sender<Event>) -> Self {
        let refusals = digests.into_iter().map(|digest| (digest, AtomicU64::new(0))).collect();
        Self { refusals: RwLock::new(refusals), events }
    }

    pub(crate) fn insert(&self, cid: &Cid) {
        self.refusals.write().expect("never poisoned").entry(digest(cid)).or_default();
    }

    /// Whether `peer` is to be refused `cid`; counted and told if so.
    pub(crate) fn refuses(&self, peer: PeerId, cid: &Cid) -> bool {
        let refusals = self.refusals.read().expect("never poisoned");
        let Some(count) = refusals.get(&digest(cid)) else { return false };
        count.fetch_add(1, Ordering::Relaxed);
        self.events.send(Event::Refused { peer, cid: *cid }).ok();
        true
    }

    pub(crate) fn count(&self, cid: &Cid) -> u64 {
        let refusals = self.refusals.read().expect("never poisoned");
        refusals.get(&digest(cid)).map_or(0, |count| count.load(Ordering::Relaxed))
    }
}

/// The digest of an accepted CID.
pub(crate) fn digest(cid: &Cid) -> [u8; 32] {
    cid.hash().digest().try_into().expect("accepted CIDs have 32 bytes of SHA-256")
}
