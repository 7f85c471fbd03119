//! Rust bindings to the update factory and bounty: what is on chain, how to read it, what to send.
//!
//! - [`abi`]: the contracts as compiled, from `contracts/artifacts`; building this needs no node.
//! - [`terms`]: what a bounty promises, read from its code.
//! - [`fleet`]: a vendor's devices, their Merkle tree and the file that lists them.
//! - [`receipts`]: sensors' receipts, checked and batched.
//! - [`calls`]: what to send.
//! - [`deployment`]: where the contracts stand, and how they get there.
//! - [`layout`]: storage slots, for whoever wants answers proven.
//! - [`chain`]: the one boundary through which the rest of Posthouse reads a chain.
#![cfg_attr(test, allow(clippy::unwrap_used))]

pub mod abi;
pub mod calls;
pub mod chain;
pub mod deployment;
pub mod fleet;
pub mod layout;
pub mod receipts;
pub mod terms;
