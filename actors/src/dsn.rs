//! The storage network as the exchanges need it: packages, bodies, providers, requests.
//!
//! Who sends: the exchanges. Whom it asks: [`posthouse_dsn::Dsn`], a peer of its own that knows nothing
//! of updates. On failure the sender is told and decides; nothing is retried here but what the peer
//! itself retries.

use std::path::PathBuf;
use std::time::Duration;

use actix::{Actor, Context, Handler, Message, ResponseFuture};
use posthouse_dsn::{Cid, Codec, Dsn as Handle, FetchError, Multiaddr, PeerId, ProvideError};
use posthouse_light_client::words;
use posthouse_protocol::exchange::{PROTOCOL, Request, Response};
use posthouse_protocol::gateway::Peer;
use posthouse_protocol::id::{Bounty, ChainId, ContentId, Digest, PackageId, UpdateId};
use posthouse_protocol::package::{MAX_ROOT, Package};
use posthouse_protocol::wire::WireError;
use thiserror::Error;
use tokio::time::{Instant, timeout_at};

use crate::status::{self, GetPeers};

/// Most bytes of a verifying key: one point for each 31 bytes of the largest payload.
const MAX_VK: usize = 256 * 1024;
/// Providers taken from one search.
const MAX_PROVIDERS: usize = 32;
/// How long a search goes on once somebody was found.
const MORE: Duration = Duration::from_millis(500);
/// How long a search that finds nobody may take.
const SEARCH: Duration = Duration::from_secs(15);

/// Why something could not be had.
#[derive(Debug, Error)]
pub enum DsnError {
    /// Nobody delivered.
    #[error(transparent)]
    Fetch(Box<FetchError>),
    /// The search could not be made.
    #[error(transparent)]
    Provide(#[from] ProvideError),
    /// What came is not what was asked for.
    #[error("{0}")]
    Wire(#[from] WireError),
    /// The identifier is none that is used here.
    #[error("not a content identifier that is used here")]
    Content,
}

impl From<FetchError> for DsnError {
    fn from(error: FetchError) -> Self {
        Self::Fetch(Box::new(error))
    }
}

/// The actor.
pub struct Dsn {
    handle: Handle,
    /// Distributors from the configuration: asked first, whatever the DHT says.
    configured: Vec<PeerId>,
}

impl Dsn {
    /// Speaks through `handle`.
    pub fn new(handle: Handle, configured: Vec<PeerId>) -> Self {
        Self { handle, configured }
    }
}

impl Actor for Dsn {
    type Context = Context<Self>;
}

/// Remembers where the configured distributors are.
pub(crate) async fn introduce(handle: &Handle, peers: &[(PeerId, Multiaddr)]) {
    for (peer, address) in peers {
        if handle.add_address(*peer, address.clone()).await.is_err() {
            return;
        }
    }
}

/// Fetches a package's root and verifying key.
#[derive(Debug, Clone, Copy, Message)]
#[rtype(result = "Result<FetchedPackage, DsnError>")]
pub struct FetchPackage(pub PackageId);

/// As fetched: the root's digest is the one asked for, the rest is not checked.
#[derive(Debug, Clone)]
pub struct FetchedPackage {
    /// Root block.
    pub root: Vec<u8>,
    /// Verifying key.
    pub vk: Vec<u8>,
}

impl Handler<FetchPackage> for Dsn {
    type Result = ResponseFuture<Result<FetchedPackage, DsnError>>;

    fn handle(&mut self, FetchPackage(p_id): FetchPackage, _: &mut Self::Context) -> Self::Result {
        let (handle, configured) = (self.handle.clone(), self.configured.clone());
        Box::pin(async move {
            let root = Codec::DagCbor.cid_of_digest(p_id.to_bytes());
            let peers = search(&handle, root, configured).await?;
            let root = handle.get_block(root, &peers, MAX_ROOT).await?;
            let package = Package::decode(&root)?;
            let vk = handle.get_block(cid(&package.vk)?, &peers, MAX_VK).await?;
            Ok(FetchedPackage { root: root.to_vec(), vk: vk.to_vec() })
        })
    }
}

/// Fetches an encrypted image to disk: whole and verified, or not there.
#[derive(Debug, Clone, Message)]
#[rtype(result = "Result<(), DsnError>")]
pub struct FetchBody {
    /// The package, by which others that have the body are found.
    pub p_id: PackageId,
    /// The body.
    pub content: ContentId,
    /// Its size.
    pub size: u64,
    /// Its SHA-256.
    pub digest: [u8; 32],
    /// Where to.
    pub path: PathBuf,
    /// Whom to ask; anybody if none is named.
    pub from: Option<Peer>,
}

impl Handler<FetchBody> for Dsn {
    type Result = ResponseFuture<Result<(), DsnError>>;

    fn handle(&mut self, job: FetchBody, _: &mut Self::Context) -> Self::Result {
        let (handle, configured) = (self.handle.clone(), self.configured.clone());
        Box::pin(async move {
            let content = cid(&job.content)?;
            let peers = match job.from.and_then(|peer| peer_id(&peer)) {
                Some(peer) => vec![peer],
                None => {
                    let package = Codec::DagCbor.cid_of_digest(job.p_id.to_bytes());
                    let found = search(&handle, package, configured).await?;
                    search(&handle, content, found).await?
                }
            };
            let progress = |_| {};
            Ok(handle.fetch_file(content, job.size, job.digest, &job.path, &peers, progress).await?)
        })
    }
}

/// Looks for peers that sell an update: those configured first.
#[derive(Debug, Clone, Copy, Message)]
#[rtype(result = "Vec<Peer>")]
pub struct Locate(pub UpdateId);

impl Handler<Locate> for Dsn {
    type Result = ResponseFuture<Vec<Peer>>;

    fn handle(&mut self, Locate(u_id): Locate, _: &mut Self::Context) -> Self::Result {
        let (handle, configured) = (self.handle.clone(), self.configured.clone());
        Box::pin(async move {
            let content = Codec::Raw.cid_of_digest(u_id.to_bytes());
            let found = search(&handle, content, configured.clone()).await;
            let peers = found.unwrap_or_else(|error| {
                tracing::warn!(%u_id, error = words(&error.to_string()), "search failed");
                configured
            });
            peers.iter().filter_map(|peer| Peer::new(&peer.to_bytes())).collect()
        })
    }
}

/// Asks a distributor.
#[derive(Debug, Clone, Message)]
#[rtype(result = "Option<Response>")]
pub struct Ask {
    /// Whom.
    pub peer: Peer,
    /// What.
    pub question: Question,
}

/// What a distributor is asked.
#[derive(Debug, Clone)]
pub enum Question {
    /// A request as it stands.
    Plain(Request),
    /// The answer to its challenge, which is signed here by the peer key.
    Auth {
        /// Chain of the bounty.
        chain: ChainId,
        /// The bounty contract.
        bounty: Bounty,
        /// What to sign.
        digest: Digest,
    },
}

impl Handler<Ask> for Dsn {
    type Result = ResponseFuture<Option<Response>>;

    fn handle(&mut self, Ask { peer, question }: Ask, _: &mut Self::Context) -> Self::Result {
        let handle = self.handle.clone();
        Box::pin(async move {
            let request = match question {
                Question::Plain(request) => request,
                Question::Auth { chain, bounty, digest } => {
                    Request::Auth { chain, bounty, sig: handle.sign(digest.as_bytes()) }
                }
            };
            let body = request.to_vec();
            match handle.request(peer_id(&peer)?, PROTOCOL, body).await {
                Ok(answer) => Response::decode(&answer)
                    .inspect_err(|error| tracing::warn!(?peer, %error, "an answer that does not decode"))
                    .ok(),
                Err(error) => {
                    tracing::debug!(?peer, error = words(&error.to_string()), "no answer");
                    None
                }
            }
        })
    }
}

impl Handler<GetPeers> for Dsn {
    type Result = ResponseFuture<Option<status::Peers>>;

    fn handle(&mut self, GetPeers: GetPeers, _: &mut Self::Context) -> Self::Result {
        let (handle, distributors) = (self.handle.clone(), self.configured.clone());
        Box::pin(async move {
            let mut peer = handle.status().await.ok()?;
            peer.connected.sort();
            let connected = peer.connected.iter().map(|peer| status::Peer {
                peer_id: peer.to_string(),
                configured: distributors.contains(peer),
            });
            Some(status::Peers {
                peer_id: handle.peer_id().to_string(),
                connected: connected.collect(),
                routing: peer.routing,
                provided: peer.provided,
                remembered: peer.remembered,
            })
        })
    }
}

/// Who has this, with `first` before those that the DHT names.
async fn search(handle: &Handle, content: Cid, first: Vec<PeerId>) -> Result<Vec<PeerId>, DsnError> {
    let mut peers = first;
    let mut found = handle.providers(content).await?;
    // With somebody to ask already, the DHT gets a moment and not all the time that it might take.
    let mut until = Instant::now() + if peers.is_empty() { SEARCH } else { MORE };
    while let Ok(Some(provider)) = timeout_at(until, found.recv()).await {
        if !peers.contains(&provider.peer) {
            peers.push(provider.peer);
        }
        until = until.min(Instant::now() + MORE);
        if peers.len() >= MAX_PROVIDERS {
            break;
        }
    }
    Ok(peers)
}

fn cid(content: &ContentId) -> Result<Cid, DsnError> {
    Cid::try_from(content.to_bytes().as_slice()).map_err(|_| DsnError::Content)
}

/// The libp2p form; `None` for bytes that are no peer id.
pub(crate) fn peer_id(peer: &Peer) -> Option<PeerId> {
    PeerId::from_bytes(peer.as_bytes()).ok()
}
