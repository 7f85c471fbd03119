//! The chain as alloy's provider sees it.
#![allow(clippy::unwrap_used, reason = "tests")]

mod execution;
mod fixture;
