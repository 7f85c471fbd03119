//! Who can be asked: the peers named, those that the DHT names, and how each has done so far.

use std::collections::{HashSet, VecDeque};
use std::convert::Infallible;

use bytes::Bytes;
use cid::Cid;
use futures::future::BoxFuture;
use futures::stream::FuturesUnordered;
use futures::{FutureExt, StreamExt};
use libp2p::PeerId;
use tokio::sync::{mpsc, oneshot};

use super::{Failure, FetchError, WantError};
use crate::bitswap::{Answer, Kind, Want};
use crate::lookup::Provider;
use crate::peer::Command;

/// Peers that are asked at the same time whether they have the content. Twenty Sybils with dead addresses then
/// cost three dials' time, not twenty.
const MAX_PROBES: usize = 8;
/// Peers considered for one content: all that a lookup names, and as many that the caller does.
const MAX_PEERS: usize = 256;
/// A peer that fails so often in a row is not asked again. Twice, as a connection may break without its fault.
const MAX_FAILURES: u32 = 2;

/// The way to the swarm.
#[derive(Debug, Clone)]
pub(crate) struct Net {
    pub(crate) commands: mpsc::Sender<Command>,
    /// Providers taken from one lookup.
    pub(crate) providers: usize,
}

/// A peer that says it has the content.
#[derive(Debug)]
struct Source {
    peer: PeerId,
    in_flight: usize,
    failures: u32,
}

/// The DHT's part.
enum Search {
    NotStarted,
    Running(mpsc::Receiver<Provider>),
    Over,
}

/// What a peer was asked first, and what it said.
type Probe = BoxFuture<'static, (PeerId, Result<Answer, WantError>)>;

/// All peers for one content.
pub(super) struct Sources {
    net: Net,
    root: Cid,
    max_len: usize,
    ready: Vec<Source>,
    candidates: VecDeque<PeerId>,
    seen: HashSet<PeerId>,
    probes: FuturesUnordered<Probe>,
    search: Search,
    /// The root, where a peer sent it at once instead of saying that it has it.
    pub(super) early: Option<Bytes>,
    last: Option<Failure>,
}

impl Net {
    /// Asks one peer for one block. Dropping the future takes the want back.
    pub(super) async fn ask(
        &self,
        peer: PeerId,
        cid: Cid,
        kind: Kind,
        max_len: usize,
    ) -> Result<Answer, WantError> {
        let (answer, answered) = oneshot::channel();
        let (_alive, alive) = oneshot::channel::<Infallible>();
        let want = Want { peer, cid, kind, max_len, answer, alive };
        self.commands.send(Command::Want(want)).await.map_err(|_| WantError::Disconnected)?;
        answered.await.unwrap_or(Err(WantError::Disconnected))
    }

    async fn search(&self, cid: Cid) -> Result<mpsc::Receiver<Provider>, FetchError> {
        let (providers, found) = mpsc::channel(self.providers.max(1));
        self.commands.send(Command::Providers { cid, providers }).await.map_err(|_| FetchError::Stopped)?;
        Ok(found)
    }
}

impl Sources {
    /// Begins with the peers in `from`; `max_len` bounds the root, should it come early.
    pub(super) fn new(net: Net, root: Cid, max_len: usize, from: &[PeerId]) -> Self {
        let mut sources = Self {
            net,
            root,
            max_len,
            ready: Vec::new(),
            candidates: VecDeque::new(),
            seen: HashSet::new(),
            probes: FuturesUnordered::new(),
            search: Search::NotStarted,
            early: None,
            last: None,
        };
        from.iter().for_each(|peer| sources.consider(*peer));
        sources
    }

    /// The peer to ask next that is not in `tried`: the least busy. It counts as busy until it has done.
    pub(super) fn pick(&mut self, tried: &[PeerId]) -> Option<PeerId> {
        let untried = self.ready.iter_mut().filter(|source| !tried.contains(&source.peer));
        let source = untried.min_by_key(|source| (source.failures, source.in_flight))?;
        source.in_flight += 1;
        Some(source.peer)
    }

    /// Whether a peer is left that is not in `tried`, or may still be found.
    pub(super) fn is_hopeless(&self, tried: &[PeerId]) -> bool {
        self.is_exhausted() && self.ready.iter().all(|source| tried.contains(&source.peer))
    }

    /// Whether no further peer will come.
    pub(super) fn is_exhausted(&self) -> bool {
        matches!(self.search, Search::Over) && self.probes.is_empty() && self.candidates.is_empty()
    }

    /// Takes note of how `peer` has done.
    pub(super) fn done(&mut self, peer: PeerId, result: &Result<Answer, WantError>) {
        let Some(source) = self.ready.iter_mut().find(|source| source.peer == peer) else { return };
        source.in_flight -= 1;
        let Err(error) = result else {
            source.failures = 0;
            return;
        };
        source.failures += match error {
            // It lies, or breaks the bounds: never again.
            WantError::WrongHash | WantError::TooLarge { .. } => MAX_FAILURES,
            _ => 1,
        };
        if source.failures >= MAX_FAILURES {
            self.ready.retain(|source| source.peer != peer);
        }
        self.last = Some(Failure { peer, why: error.clone() });
    }

    /// Asks the DHT, unless that has been done.
    pub(super) async fn search(&mut self) -> Result<(), FetchError> {
        if matches!(self.search, Search::NotStarted) {
            self.search = Search::Running(self.net.search(self.root).await?);
        }
        Ok(())
    }

    /// Whether everybody named has been asked, so that only the DHT can help.
    pub(super) fn needs_search(&self) -> bool {
        matches!(self.search, Search::NotStarted) && self.probes.is_empty() && self.candidates.is_empty()
    }

    /// Waits until somebody says that they have the content, or until nobody is left who could. May be dropped
    /// and called again.
    pub(super) async fn next(&mut self) {
        loop {
            self.start_probes();
            tokio::select! {
                Some((peer, answer)) = self.probes.next(), if !self.probes.is_empty() => {
                    if self.on_probe(peer, answer) {
                        return;
                    }
                }
                provider = next_provider(&mut self.search) => match provider {
                    Some(provider) => self.consider(provider.peer),
                    None => self.search = Search::Over,
                },
                else => return,
            }
            if self.is_exhausted() || self.needs_search() {
                return;
            }
        }
    }

    /// Why nobody delivered `cid`.
    pub(super) fn failure(&self, cid: Cid) -> FetchError {
        if self.net.commands.is_closed() {
            return FetchError::Stopped;
        }
        match &self.last {
            Some(last) => FetchError::NotDelivered { cid, asked: self.seen.len(), last: last.clone().into() },
            None => FetchError::NotFound(cid),
        }
    }

    fn consider(&mut self, peer: PeerId) {
        if self.seen.len() < MAX_PEERS && self.seen.insert(peer) {
            self.candidates.push_back(peer);
        }
    }

    fn start_probes(&mut self) {
        while self.probes.len() < MAX_PROBES
            && let Some(peer) = self.candidates.pop_front()
        {
            let (net, root, max_len) = (self.net.clone(), self.root, self.max_len);
            let probe = async move { (peer, net.ask(peer, root, Kind::Have, max_len).await) };
            self.probes.push(probe.boxed());
        }
    }

    /// Whether a source was won.
    fn on_probe(&mut self, peer: PeerId, answer: Result<Answer, WantError>) -> bool {
        match answer {
            Ok(answer) => {
                if let Answer::Block(block) = answer {
                    self.early = Some(block);
                }
                self.ready.push(Source { peer, in_flight: 0, failures: 0 });
                true
            }
            Err(error) => {
                self.last = Some(Failure { peer, why: error });
                false
            }
        }
    }
}

/// Never ends while no search is running.
async fn next_provider(search: &mut Search) -> Option<Provider> {
    match search {
        Search::Running(providers) => providers.recv().await,
        Search::NotStarted | Search::Over => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::content::Codec;

    fn sources(peers: usize) -> (Sources, Vec<PeerId>) {
        let (commands, _) = mpsc::channel(1);
        let net = Net { commands, providers: 1 };
        let mut sources = Sources::new(net, Codec::Raw.cid(b""), 0, &[]);
        let peers: Vec<_> = (0..peers).map(|_| PeerId::random()).collect();
        for peer in &peers {
            assert!(sources.on_probe(*peer, Ok(Answer::Have)));
        }
        (sources, peers)
    }

    #[test]
    fn work_goes_to_the_least_busy_and_not_to_who_was_tried() {
        let (mut sources, peers) = sources(2);
        let first = sources.pick(&[]).unwrap();
        let second = sources.pick(&[]).unwrap();
        assert!(first != second && peers.contains(&first) && peers.contains(&second));
        assert_eq!(sources.pick(&[first]), Some(second));
        assert_eq!(sources.pick(&peers), None);
    }

    #[test]
    fn a_liar_is_dropped_at_once_and_a_failing_peer_after_the_second_time() {
        let (mut sources, peers) = sources(2);
        sources.pick(&[peers[1]]);
        sources.done(peers[0], &Err(WantError::WrongHash));
        assert_eq!(sources.pick(&[peers[1]]), None);
        for left in [Some(peers[1]), None] {
            sources.ready[0].in_flight = 1;
            sources.done(peers[1], &Err(WantError::Timeout));
            assert_eq!(sources.pick(&[]), left);
        }
    }

    #[test]
    fn a_peer_named_twice_is_asked_once() {
        let (mut sources, peers) = sources(1);
        sources.consider(peers[0]);
        sources.consider(peers[0]);
        assert_eq!(sources.candidates.len(), 1);
    }
}
