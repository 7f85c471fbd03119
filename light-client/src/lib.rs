//! An Ethereum light client that does not believe anybody.
//!
//! What is trusted: a checkpoint that the operator gives, and two thirds of each sync committee that follows from it. Every
//! answer of a beacon or execution endpoint is proven against that, or refused with a typed error.
//!
//! [`spec`], [`execution`] and [`jsonrpc`] are pure: no clock, no network, no disk. The feature `client` adds what fetches, keeps and follows.
#![cfg_attr(test, allow(clippy::unwrap_used))]

#[cfg(feature = "client")]
pub mod beacon;
#[cfg(feature = "client")]
pub mod checkpoint;
#[cfg(feature = "client")]
pub mod client;
pub mod execution;
#[cfg(feature = "client")]
pub mod http;
pub mod jsonrpc;
pub mod replay;
#[cfg(feature = "client")]
pub mod rpc;
pub mod spec;
#[cfg(feature = "client")]
pub mod store;
#[cfg(feature = "client")]
mod sync;
mod words;

pub use words::{MAX_WORDS, without_secrets, words};
