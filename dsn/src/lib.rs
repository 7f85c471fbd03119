//! A peer of the IPFS network behind one handle: DHT, block exchange, UnixFS, request-response.
//!
//! [`Dsn::start`] opens the block store, binds the listeners and spawns one task that owns the libp2p swarm.
//! Everything else goes through [`Dsn`], a cheap clone: it sends commands to that task and awaits the answer.
//! Dropping the last clone, or [`Dsn::stop`], ends the task.
//!
//! | module | idea |
//! |---|---|
//! | [`config`] | what a peer is told at its start, and every bound it keeps |
//! | [`content`] | which content identifiers exist here: SHA-256 and three codecs, nothing else |
//! | [`identity`] | signing with the peer key |
//! | `peer` | the task that owns the swarm |
//! | `lookup` | finding providers, with back-off |
//! | `bitswap` | `/ipfs/bitswap/1.2.0`: message, handler, behaviour |
//! | `unixfs` | files as DAGs: writing our layout, reading any |
//! | [`store`] | blocks on disk, in SQLite or inside the files they came from |
//! | [`fetch`] | a file from several providers to disk, resumable |
//! | [`request`] | one opaque body each way over a named protocol |
//!
//! Everything that arrives is hostile until its digest or signature says otherwise: each message has a length
//! bound, each list a count bound, each wait a deadline, and each error a type.

#![forbid(unsafe_code)]
#![cfg_attr(test, allow(clippy::unwrap_used))]

mod bitswap;
pub mod config;
pub mod content;
pub mod fetch;
mod frame;
mod handle;
pub mod identity;
mod lookup;
mod peer;
mod protobuf;
pub mod request;
pub mod store;
mod unixfs;
mod withheld;

pub use bytes::Bytes;
pub use cid::Cid;
pub use libp2p::identity::Keypair;
pub use libp2p::{Multiaddr, PeerId};

pub use config::{Config, Limits, Network, Records, Role};
pub use content::Codec;
pub use fetch::{Failure, FetchError, Progress, WantError};
pub use handle::{Dsn, FileAdded};
pub use identity::{peer_hash, verify_peer_signature};
pub use lookup::Provider;
pub use peer::{DialError, Event, ProvideError, StartError, Status, Stopped};
pub use request::{Inbound, Reply, ReplyError, RequestError};
pub use store::StoreError;
pub use unixfs::pb::NodeError;
pub use unixfs::read::DagError;
