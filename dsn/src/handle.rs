//! The handle: everything that can be asked of a peer.

use std::path::Path;
use std::sync::{Arc, RwLock};

use bytes::Bytes;
use cid::Cid;
use libp2p::identity::Keypair;
use libp2p::{Multiaddr, PeerId};
use tokio::sync::{broadcast, mpsc, oneshot};

use crate::bitswap::Source;
use crate::config::{Config, Limits};
use crate::content::{self, Codec};
use crate::fetch::{self, FetchError, Job, Net, Progress};
use crate::lookup::Provider;
use crate::peer::{self, Command, DialError, Event, ProvideError, StartError, Status, Stopped};
use crate::request::{Inbound, MAX_BODY, RequestError};
use crate::store::{Store, StoreError};
use crate::withheld::Withheld;

/// A running peer; cheap to clone. The peer ends with the last clone, or by [`Dsn::stop`].
#[derive(Debug, Clone)]
pub struct Dsn {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    keypair: Keypair,
    limits: Limits,
    store: Store,
    withheld: Arc<Withheld>,
    commands: mpsc::Sender<Command>,
    events: broadcast::Sender<Event>,
    addresses: Arc<RwLock<Vec<Multiaddr>>>,
}

/// What a file was added as.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FileAdded {
    /// Root of its DAG: the raw leaf itself up to 256 KiB, a dag-pb node above.
    pub cid: Cid,
    /// Bytes.
    pub size: u64,
    /// SHA-256 of the whole.
    pub sha256: [u8; 32],
}

impl Dsn {
    /// Starts a peer: opens its store, binds its listeners, begins to join the DHT. Requests from others come by
    /// the receiver; where none are expected it may be dropped, and they are refused.
    pub async fn start(config: Config) -> Result<(Self, mpsc::Receiver<Inbound>), StartError> {
        config.check()?;
        let store = Store::open(&config.store_path).await?;
        let (known, withheld) = (store.roots().await?, store.withheld().await?);
        let (sender, inbound) = mpsc::channel(config.limits.inbound_requests.max(1));
        let (events, _) = broadcast::channel(peer::EVENTS);
        let withheld = Arc::new(Withheld::new(withheld, events.clone()));
        let source = Source { store: store.clone(), withheld: withheld.clone() };
        let started = peer::start(&config, known, source, sender, events.clone()).await?;
        let Config { keypair, limits, .. } = config;
        let inner = Inner {
            keypair,
            limits,
            store,
            withheld,
            commands: started.commands,
            events,
            addresses: started.addresses,
        };
        Ok((Self { inner: Arc::new(inner) }, inbound))
    }

    /// This peer's identity.
    pub fn peer_id(&self) -> PeerId {
        self.inner.keypair.public().to_peer_id()
    }

    /// The addresses listened on, each ending in `/p2p/<peer id>`.
    pub fn addresses(&self) -> Vec<Multiaddr> {
        self.inner.addresses.read().expect("never poisoned").clone()
    }

    /// Signs with the peer key: 64 bytes, Ed25519 (RFC 8032).
    pub fn sign(&self, message: &[u8]) -> Vec<u8> {
        self.inner.keypair.sign(message).expect("Ed25519, as `Config::check` demands, signs any message")
    }

    /// What happens here from now on; see [`Event`].
    pub fn events(&self) -> broadcast::Receiver<Event> {
        self.inner.events.subscribe()
    }

    /// A glance at the peer.
    pub async fn status(&self) -> Result<Status, Stopped> {
        let (done, status) = oneshot::channel();
        self.command(Command::Status { done }).await?;
        let status = status.await.map_err(|_| Stopped)?;
        let remembered = self.inner.store.remembered().await.map_or(0, |peers| peers.len());
        Ok(Status { remembered, ..status })
    }

    /// Connects to whoever is at `addr`, and remembers the address if it ends in `/p2p/<peer id>`.
    pub async fn dial(&self, addr: Multiaddr) -> Result<PeerId, DialError> {
        let (done, dialled) = oneshot::channel();
        self.command(Command::Dial { addr, done }).await.map_err(|_| DialError::Stopped)?;
        dialled.await.map_err(|_| DialError::Stopped)?
    }

    /// Remembers where `peer` is, for later dials; configured peers that no DHT is asked for.
    pub async fn add_address(&self, peer: PeerId, addr: Multiaddr) -> Result<(), Stopped> {
        self.command(Command::Name { peer, addr }).await
    }

    /// Announces in the DHT that this peer has `cid`, and renews that until [`Dsn::unprovide`] or the end.
    pub async fn provide(&self, cid: Cid) -> Result<(), ProvideError> {
        let cid = content::accept(&cid)?;
        let (done, provided) = oneshot::channel();
        self.command(Command::Provide { cid, done }).await.map_err(|_| ProvideError::Stopped)?;
        provided.await.map_err(|_| ProvideError::Stopped)?
    }

    /// No longer renews the announcement. Others keep it until it expires.
    pub async fn unprovide(&self, cid: Cid) -> Result<(), ProvideError> {
        let cid = content::accept(&cid)?;
        self.command(Command::Unprovide { cid }).await.map_err(|_| ProvideError::Stopped)
    }

    /// Who has `cid`, by the DHT: each once, as they are found, at most [`Limits::providers`]. The receiver ends
    /// when the search does; dropping it ends the search.
    pub async fn providers(&self, cid: Cid) -> Result<mpsc::Receiver<Provider>, ProvideError> {
        let cid = content::accept(&cid)?;
        let (providers, found) = mpsc::channel(self.inner.limits.providers.max(1));
        self.command(Command::Providers { cid, providers }).await.map_err(|_| ProvideError::Stopped)?;
        Ok(found)
    }

    /// Makes it known that `cid` matters here, so that a server keeps provider records for it
    /// ([`crate::Records::Known`]).
    pub async fn expect(&self, cid: Cid) -> Result<(), ProvideError> {
        let cid = content::accept(&cid)?;
        self.command(Command::Expect { cid }).await.map_err(|_| ProvideError::Stopped)
    }

    /// Stores a block, served from now on.
    pub async fn put_block(&self, bytes: impl Into<Bytes>, codec: Codec) -> Result<Cid, StoreError> {
        let bytes = bytes.into();
        let cid = codec.cid(&bytes);
        self.inner.store.put(cid, bytes).await?;
        self.command(Command::Expect { cid }).await.map_err(|_| StoreError::Closed)?;
        Ok(cid)
    }

    /// The block of `cid`, at most `max_len` bytes: from the store, from the peers in `from`, or from whom the DHT
    /// names. A block from others is not stored.
    pub async fn get_block(&self, cid: Cid, from: &[PeerId], max_len: usize) -> Result<Bytes, FetchError> {
        let cid = content::accept(&cid)?;
        match self.inner.store.get(&cid).await? {
            Some(block) if block.len() <= max_len => Ok(block),
            Some(block) => Err(FetchError::TooLarge { cid, len: block.len(), max: max_len }),
            None => fetch::block(self.net(), cid, from, max_len).await,
        }
    }

    /// Adds the file at `path`, served from now on. It is not copied and must stay as it is.
    pub async fn add_file(&self, path: impl AsRef<Path>) -> Result<FileAdded, StoreError> {
        let added = self.inner.store.add_file(path.as_ref()).await?;
        self.command(Command::Expect { cid: added.cid }).await.map_err(|_| StoreError::Closed)?;
        Ok(FileAdded { cid: added.cid, size: added.size, sha256: added.sha256 })
    }

    /// Serves the file at `path` no longer, wherever it came from; to be called before it is deleted. Nothing is done to the
    /// file, nor to others with the same content.
    pub async fn forget_file(&self, path: impl AsRef<Path>) -> Result<(), StoreError> {
        self.inner.store.forget_file(path.as_ref()).await
    }

    /// Fetches the file `cid` of `size` bytes to `dest`, from the peers in `from` and from whom the DHT names.
    ///
    /// Blocks are verified, written at their place in `<dest>.part`, synced and recorded; a call after an
    /// interruption fetches only what is missing. The whole is hashed again and compared with `sha256`, and only
    /// then is `dest` there; from then on its blocks are served. Memory does not grow with the file.
    ///
    /// Without a digest of the whole, CID and size alone say what the file is: a DAG has one reading, each of its
    /// blocks is held against its own hash up to the CID, and all leaves are hashed again on disk before `dest` is
    /// there. Then the CID must be trusted for the file, as one is that authenticated content links.
    pub async fn fetch_file(
        &self,
        cid: Cid,
        size: u64,
        sha256: impl Into<Option<[u8; 32]>> + Send,
        dest: impl AsRef<Path> + Send,
        from: &[PeerId],
        progress: impl FnMut(Progress) + Send,
    ) -> Result<(), FetchError> {
        let cid = content::accept(&cid)?;
        let blocks_in_flight = self.inner.limits.blocks_in_flight;
        let sha256 = sha256.into();
        let job = Job { cid, size, sha256, dest: dest.as_ref(), from, blocks_in_flight };
        fetch::file(self.net(), self.inner.store.clone(), job, progress).await?;
        self.command(Command::Expect { cid }).await.map_err(|_| FetchError::Stopped)
    }

    /// From now on, across restarts, the content of `cid` is sent to nobody over the block exchange, under
    /// whatever codec it is asked for. Each want for it is answered "don't have", told as [`Event::Refused`] and
    /// counted.
    pub async fn withhold(&self, cid: Cid) -> Result<(), StoreError> {
        let cid = content::accept(&cid)?;
        // In memory first: from here on no answer can contain it, whatever the disk does.
        self.inner.withheld.insert(&cid);
        self.inner.store.withhold(&cid).await?;
        self.command(Command::Expect { cid }).await.map_err(|_| StoreError::Closed)
    }

    /// How many wants for `cid` have been refused since the start because it is withheld.
    pub fn refused(&self, cid: Cid) -> u64 {
        content::accept(&cid).map_or(0, |cid| self.inner.withheld.count(&cid))
    }

    /// Asks `peer` over `protocol`, one of [`Config::request_protocols`], and returns its answer. Both bodies are
    /// at most [`MAX_BODY`] bytes. Dials the peer if need be.
    pub async fn request(
        &self,
        peer: PeerId,
        protocol: &str,
        body: Vec<u8>,
    ) -> Result<Vec<u8>, RequestError> {
        if body.len() > MAX_BODY {
            return Err(RequestError::TooLarge(body.len()));
        }
        let (answer, answered) = oneshot::channel();
        let command = Command::Request { peer, protocol: protocol.to_owned(), body, answer };
        self.command(command).await.map_err(|_| RequestError::Stopped)?;
        match tokio::time::timeout(self.inner.limits.request, answered).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(_)) if self.inner.commands.is_closed() => Err(RequestError::Stopped),
            Ok(Err(_)) => Err(RequestError::NoAnswer(peer)),
            Err(_) => Err(RequestError::Timeout(peer)),
        }
    }

    /// Ends the peer: when this returns, its listeners and connections are closed. Other clones then fail with
    /// their `Stopped` errors.
    pub async fn stop(self) {
        let (done, stopped) = oneshot::channel();
        if self.command(Command::Stop { done }).await.is_ok() {
            stopped.await.ok();
        }
    }

    fn net(&self) -> Net {
        Net { commands: self.inner.commands.clone(), providers: self.inner.limits.providers }
    }

    async fn command(&self, command: Command) -> Result<(), Stopped> {
        self.inner.commands.send(command).await.map_err(|_| Stopped)
    }
}
