//! The chain as its users see it: alloy's provider, bare HTTP, and the in-process handle.
#![allow(clippy::unwrap_used, clippy::print_stderr, reason = "tests; what is skipped is said")]

mod anvil;
mod control;
mod execution;
mod factory;
mod fixture;
mod pool;
mod proofs;
mod reorg;
mod wire;
