//! Finding providers: DHT lookups under way, what each has handed out, and when an empty one is tried again.
//!
//! A peer that has just started knows nobody, and whoever it asks first may know nobody either (Helia answers
//! its first lookup empty). So a lookup that found no one is repeated after a wait that doubles, a bounded number
//! of times, before it is reported as empty.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use cid::Cid;
use futures::future::BoxFuture;
use futures::stream::FuturesUnordered;
use futures::{FutureExt, StreamExt};
use libp2p::kad::QueryId;
use libp2p::{Multiaddr, PeerId};
use tokio::sync::mpsc;

/// Addresses taken of one provider. It chose them itself, so more would only be more to dial in vain.
const MAX_ADDRESSES: usize = 8;

/// Somebody who claims to have the content. Whether that is so shows when it is asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Provider {
    /// Who.
    pub peer: PeerId,
    /// Where, as far as the DHT says; dials by the peer id alone use these as well.
    pub addresses: Vec<Multiaddr>,
}

/// One caller's search.
pub(crate) struct Lookup {
    pub(crate) cid: Cid,
    providers: mpsc::Sender<Provider>,
    seen: HashSet<PeerId>,
    retries: u32,
    wait: Duration,
}

/// All searches of this peer.
#[derive(Default)]
pub(crate) struct Lookups {
    running: HashMap<QueryId, Lookup>,
    waiting: FuturesUnordered<BoxFuture<'static, Lookup>>,
}

impl Lookup {
    /// The channel's capacity is the bound on how many are handed out.
    pub(crate) fn new(cid: Cid, providers: mpsc::Sender<Provider>, retries: u32, wait: Duration) -> Self {
        Self { cid, providers, seen: HashSet::new(), retries, wait }
    }

    /// Whether nobody listens any more, or enough have been found.
    fn is_over(&self) -> bool {
        self.providers.is_closed() || self.seen.len() >= self.providers.max_capacity()
    }
}

impl Lookups {
    pub(crate) fn started(&mut self, query: QueryId, lookup: Lookup) {
        self.running.insert(query, lookup);
    }

    /// Whether `peer` is news to this query.
    pub(crate) fn wants(&self, query: QueryId, peer: &PeerId) -> bool {
        self.running.get(&query).is_some_and(|lookup| !lookup.is_over() && !lookup.seen.contains(peer))
    }

    /// Hands a provider out. `false`: the query can stop.
    pub(crate) fn found(&mut self, query: QueryId, mut provider: Provider) -> bool {
        let Some(lookup) = self.running.get_mut(&query) else { return false };
        provider.addresses.truncate(MAX_ADDRESSES);
        if !lookup.is_over() && lookup.seen.insert(provider.peer) {
            lookup.providers.try_send(provider).ok();
        }
        !lookup.is_over()
    }

    /// The query has ended; an empty one is put aside to be tried again.
    pub(crate) fn finished(&mut self, query: QueryId) {
        let Some(mut lookup) = self.running.remove(&query) else { return };
        if !lookup.seen.is_empty() || lookup.retries == 0 || lookup.providers.is_closed() {
            return;
        }
        let wait = lookup.wait;
        lookup.retries -= 1;
        lookup.wait *= 2;
        let again = async move {
            let gone = {
                let sender = lookup.providers.clone();
                async move { sender.closed().await }
            };
            tokio::select! {
                () = tokio::time::sleep(wait) => {}
                () = gone => {}
            }
            lookup
        };
        self.waiting.push(again.boxed());
    }

    /// The next lookup whose wait is over. Never ends.
    pub(crate) async fn due(&mut self) -> Lookup {
        loop {
            match self.waiting.next().await {
                Some(lookup) if !lookup.providers.is_closed() => return lookup,
                Some(_) => {}
                None => std::future::pending().await,
            }
        }
    }
}
