//! An in-process Ethereum for tests and the demo.
//!
//! revm executes, and everything a light client looks at is really computed: header hashes, state,
//! transactions and receipts roots, blooms, account and storage proofs. It speaks JSON-RPC over HTTP
//! as anvil does, so that whatever drives the one drives the other.
//!
//! ```no_run
//! # fn main() -> Result<(), posthouse_devchain::Error> {
//! use posthouse_devchain::{Config, DevChain};
//!
//! let chain = DevChain::start(Config::default())?;
//! println!("{} {}", chain.url(), chain.accounts()[0].address());
//! chain.mine();
//! # Ok(())
//! # }
//! ```
//!
//! What is kept: all blocks, and the state after each of the newest
//! [`Config::state_history`](crate::Config::state_history) (512) of them. Calls, proofs and storage
//! reads at older blocks are refused. Finality is a distance from the head; [`beacon`] puts a sync
//! committee's signatures on it, for light clients. The system contracts of EIP-2935 and EIP-4788 are
//! not deployed, which no transaction's gas depends on.
#![cfg_attr(test, allow(clippy::unwrap_used))]

mod account;
mod admission;
mod anvil;
mod assemble;
pub mod beacon;
mod block;
mod canon;
mod chain;
mod config;
mod devchain;
mod error;
mod evm;
mod node;
mod pool;
mod ports;
mod proxy;
mod reorg;
mod rpc;
mod server;
mod state;
mod time;
mod trie;

pub use account::dev_accounts;
pub use admission::Rejection;
pub use anvil::Anvil;
pub use block::Block;
pub use config::{Clock, Config, TX_GAS_LIMIT_CAP};
pub use devchain::DevChain;
pub use error::Error;
pub use ports::free_port;
pub use proxy::Proxy;
pub use reorg::{Reorg, ReorgError};
pub use time::TimeError;
