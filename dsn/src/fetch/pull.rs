//! Blocks in flight: which is wanted, who is asked, who is asked next when that one fails.

use bytes::Bytes;
use futures::future::BoxFuture;
use futures::stream::FuturesUnordered;
use futures::{FutureExt, StreamExt};
use libp2p::PeerId;

use super::sources::{Net, Sources};
use super::{FetchError, WantError};
use crate::bitswap::{Answer, Kind};
use crate::content::{self, Codec};
use crate::unixfs::read::{MAX_BLOCK, Part};

/// A block that is wanted, and who has failed to deliver it.
#[derive(Debug)]
pub(super) struct Need {
    pub(super) part: Part,
    max_len: usize,
    tried: Vec<PeerId>,
}

/// What has happened.
pub(super) enum Pulled {
    Block(Need, Bytes),
    /// To be assigned again, to somebody else.
    Failed(Need),
    /// There may be a peer for what could not be assigned.
    NewSource,
}

/// A need, who was asked, unless the block was there already, and what came of it.
type Attempt = BoxFuture<'static, (Need, Option<PeerId>, Result<Answer, WantError>)>;

/// All blocks in flight for one content.
pub(super) struct Pull {
    net: Net,
    sources: Sources,
    width: usize,
    in_flight: FuturesUnordered<Attempt>,
}

impl Need {
    /// `max_len` bounds what is taken besides what the part's size does.
    pub(super) fn new(part: Part, max_len: usize) -> Self {
        Self { part, max_len, tried: Vec::new() }
    }

    /// For a part of a file: a raw leaf is as long as it is declared to be.
    pub(super) fn of_file(part: Part) -> Self {
        let max_len = match content::codec(&part.cid) {
            Codec::Raw => usize::try_from(part.size).unwrap_or(MAX_BLOCK).min(MAX_BLOCK),
            Codec::DagPb | Codec::DagCbor => MAX_BLOCK,
        };
        Self::new(part, max_len)
    }
}

impl Pull {
    pub(super) fn new(net: Net, sources: Sources, width: usize) -> Self {
        Self { net, sources, width: width.max(1), in_flight: FuturesUnordered::new() }
    }

    pub(super) fn has_room(&self) -> bool {
        self.in_flight.len() < self.width
    }

    pub(super) fn is_idle(&self) -> bool {
        self.in_flight.is_empty()
    }

    /// Asks somebody who has not failed it for `need`; gives it back if there is nobody now.
    #[allow(clippy::result_large_err, reason = "no error: what could not be assigned is the caller's again")]
    pub(super) fn assign(&mut self, mut need: Need) -> Result<(), Need> {
        if let Some(block) = self.early(&need) {
            self.in_flight.push(std::future::ready((need, None, Ok(Answer::Block(block)))).boxed());
            return Ok(());
        }
        let Some(peer) = self.sources.pick(&need.tried) else { return Err(need) };
        need.tried.push(peer);
        let net = self.net.clone();
        let attempt = async move {
            let answer = net.ask(peer, need.part.cid, Kind::Block, need.max_len).await;
            (need, Some(peer), answer)
        };
        self.in_flight.push(attempt.boxed());
        Ok(())
    }

    /// The root may have come with the answer whether it is there.
    fn early(&mut self, need: &Need) -> Option<Bytes> {
        match need.part.depth {
            0 => self.sources.early.take(),
            _ => None,
        }
    }

    /// Waits for the next event. `waiting` needs could not be assigned; one that nobody is left for is an error.
    pub(super) async fn next(&mut self, waiting: &[Need]) -> Result<Pulled, FetchError> {
        loop {
            if let Some(need) = waiting.iter().find(|need| self.sources.is_hopeless(&need.tried)) {
                return Err(self.sources.failure(need.part.cid));
            }
            if !waiting.is_empty() && self.sources.needs_search() {
                self.sources.search().await?;
            }
            let more = !self.sources.is_exhausted() && !self.sources.needs_search();
            tokio::select! {
                Some((need, peer, answer)) = self.in_flight.next() => {
                    if let Some(peer) = peer {
                        self.sources.done(peer, &answer);
                    }
                    return Ok(match answer {
                        Ok(Answer::Block(block)) => Pulled::Block(need, block),
                        Ok(Answer::Have) | Err(_) => Pulled::Failed(need),
                    });
                }
                () = self.sources.next(), if more => {
                    if !waiting.is_empty() {
                        return Ok(Pulled::NewSource);
                    }
                }
                // Nothing in flight, nobody to come: the needs that wait decide, above.
                else => return Ok(Pulled::NewSource),
            }
        }
    }
}
