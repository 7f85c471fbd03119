//! Which provider records a DHT server keeps for others.
//!
//! A record costs whoever makes it nothing and us memory, so by default only those for content that this peer
//! has to do with are kept; in any case no more than a bound, and never a value.

use std::collections::{HashSet, VecDeque};
use std::time::{Duration, Instant};

use cid::Cid;
use libp2p::kad::RecordKey;
use libp2p::kad::store::RecordStore;

use crate::config::Records as Policy;

/// Contents known at once; the oldest is forgotten first.
const MAX_KNOWN: usize = 65_536;
/// How often a full shelf is searched for expired records, at most.
const SWEEP: Duration = Duration::from_secs(60);

/// The DHT's key for a content: its multihash, whatever the codec.
pub(super) fn key(cid: &Cid) -> RecordKey {
    RecordKey::new(&cid.hash().to_bytes())
}

/// What is known, and whose keys take room.
pub(super) struct Records {
    policy: Policy,
    known: HashSet<RecordKey>,
    order: VecDeque<RecordKey>,
    kept: HashSet<RecordKey>,
    max_kept: usize,
    swept: Option<Instant>,
}

impl Records {
    pub(super) fn new(policy: Policy, max_kept: usize) -> Self {
        Self {
            policy,
            known: HashSet::new(),
            order: VecDeque::new(),
            kept: HashSet::new(),
            max_kept,
            swept: None,
        }
    }

    /// This content is of interest here.
    pub(super) fn know(&mut self, cid: &Cid) {
        let key = key(cid);
        if self.known.insert(key.clone()) {
            self.order.push_back(key);
        }
        if self.order.len() > MAX_KNOWN
            && let Some(oldest) = self.order.pop_front()
        {
            self.known.remove(&oldest);
        }
    }

    /// Whether a record for `key` is to be kept in `store`.
    pub(super) fn admit(&mut self, key: &RecordKey, store: &mut impl RecordStore, now: Instant) -> bool {
        if self.policy == Policy::Known && !self.known.contains(key) {
            return false;
        }
        if self.kept.len() >= self.max_kept && !self.kept.contains(key) {
            self.sweep(store, now);
            if self.kept.len() >= self.max_kept {
                return false;
            }
        }
        self.kept.insert(key.clone());
        true
    }

    fn sweep(&mut self, store: &mut impl RecordStore, now: Instant) {
        if self.swept.is_some_and(|swept| now < swept + SWEEP) {
            return;
        }
        self.swept = Some(now);
        self.kept.retain(|key| {
            let mut alive = false;
            for record in store.providers(key) {
                if record.is_expired(now) {
                    store.remove_provider(key, &record.provider);
                } else {
                    alive = true;
                }
            }
            alive
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::content::Codec;
    use libp2p::PeerId;
    use libp2p::kad::ProviderRecord;
    use libp2p::kad::store::MemoryStore;

    fn cid(n: u8) -> Cid {
        Codec::Raw.cid(&[n])
    }

    #[test]
    fn only_known_content_is_admitted() {
        let (mut store, now) = (MemoryStore::new(PeerId::random()), Instant::now());
        let mut records = Records::new(Policy::Known, 8);
        assert!(!records.admit(&key(&cid(1)), &mut store, now));
        records.know(&cid(1));
        assert!(records.admit(&key(&cid(1)), &mut store, now));
    }

    #[test]
    fn the_codec_does_not_matter_to_the_dht() {
        assert_eq!(key(&Codec::Raw.cid(b"x")), key(&Codec::DagPb.cid(b"x")));
    }

    #[test]
    fn a_full_shelf_takes_a_key_again_when_one_has_expired() {
        let (mut store, now) = (MemoryStore::new(PeerId::random()), Instant::now());
        let mut records = Records::new(Policy::Any, 1);
        let mut record = ProviderRecord::new(key(&cid(1)), PeerId::random(), vec![]);
        record.expires = Some(now + SWEEP);
        assert!(records.admit(&record.key, &mut store, now));
        store.add_provider(record).unwrap();
        assert!(!records.admit(&key(&cid(2)), &mut store, now));
        assert!(records.admit(&key(&cid(2)), &mut store, now + 2 * SWEEP));
    }
}
