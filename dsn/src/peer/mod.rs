//! The task that owns the swarm, and what is said to it.

mod actor;
mod addresses;
mod behaviour;
mod half_open;
mod records;
mod transport;

pub(crate) use actor::start;

use std::io;

use cid::Cid;
use libp2p::{Multiaddr, PeerId};
use thiserror::Error;
use tokio::sync::{mpsc, oneshot};

use crate::bitswap::Want;
use crate::config::ConfigError;
use crate::content::CidError;
use crate::lookup::Provider;
use crate::request::RequestError;
use crate::store::StoreError;

/// Commands that wait for the swarm's task. Full, callers wait.
pub(crate) const COMMANDS: usize = 256;
/// Events that a slow listener may be behind before it misses some.
pub(crate) const EVENTS: usize = 256;

/// What happens at this peer that somebody may want to count or show. Missed events are lost; nothing that must
/// not be missed is told this way.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Event {
    /// A first connection with a peer.
    Connected(PeerId),
    /// The last connection with a peer has ended.
    Disconnected(PeerId),
    /// A peer asked for withheld content and was refused.
    Refused {
        /// Who asked.
        peer: PeerId,
        /// For what.
        cid: Cid,
    },
    /// A peer broke a protocol's rules: the stream was closed, or what it sent ignored.
    Violation {
        /// Who.
        peer: PeerId,
        /// Which rule.
        rule: String,
    },
    /// A provider record was not kept: its content is not known here, or there is no room.
    RecordRefused,
    /// A provider record was kept.
    RecordKept(PeerId),
}

/// A glance at the peer.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Status {
    /// Peers connected to.
    pub connected: Vec<PeerId>,
    /// Peers in the DHT's routing table.
    pub routing: usize,
    /// Own provider records, renewed until they are taken back.
    pub provided: usize,
    /// DHT servers kept on disk for the next start.
    pub remembered: usize,
}

/// Why a peer did not start. Nothing is left running.
#[derive(Debug, Error)]
pub enum StartError {
    /// The configuration cannot be used.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The block store could not be opened.
    #[error("block store: {0}")]
    Store(#[from] StoreError),
    /// The transport could not be set up.
    #[error("transport: {0}")]
    Transport(#[source] io::Error),
    /// An address cannot be listened on.
    #[error("listen on {addr}: {why}")]
    Listen {
        /// Which.
        addr: Multiaddr,
        /// What the system said.
        why: String,
    },
}

/// Why a dial failed.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum DialError {
    /// No address of it answered as that peer.
    #[error("{addr} cannot be reached: {why}")]
    Unreachable {
        /// The address dialled.
        addr: Multiaddr,
        /// What the dial came to.
        why: String,
    },
    /// This peer has been stopped.
    #[error("the peer has been stopped")]
    Stopped,
}

/// Why content is not announced.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum ProvideError {
    /// The CID is of a kind that is refused everywhere.
    #[error(transparent)]
    Cid(#[from] CidError),
    /// As many keys are provided as there is room for.
    #[error("no room for another provided key")]
    Full,
    /// The announcement did not end in time; it is repeated later.
    #[error("announcing {0} took too long")]
    Timeout(Cid),
    /// This peer has been stopped.
    #[error("the peer has been stopped")]
    Stopped,
}

/// This peer has been stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("the peer has been stopped")]
pub struct Stopped;

/// What is said to the task. CIDs in it are accepted ones.
#[derive(Debug)]
pub(crate) enum Command {
    Dial { addr: Multiaddr, done: oneshot::Sender<Result<PeerId, DialError>> },
    Name { peer: PeerId, addr: Multiaddr },
    Provide { cid: Cid, done: oneshot::Sender<Result<(), ProvideError>> },
    Unprovide { cid: Cid },
    Providers { cid: Cid, providers: mpsc::Sender<Provider> },
    Expect { cid: Cid },
    Request { peer: PeerId, protocol: String, body: Vec<u8>, answer: Answer },
    Want(Want),
    Status { done: oneshot::Sender<Status> },
    Stop { done: oneshot::Sender<()> },
}

/// The way back of a request.
pub(crate) type Answer = oneshot::Sender<Result<Vec<u8>, RequestError>>;
