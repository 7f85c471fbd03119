//! The bindings against the contracts themselves, on the dev chain, and against hostile endpoints.
#![allow(clippy::unwrap_used, reason = "tests")]

mod bounty;
mod deployment;
mod endpoint;
mod fixture;
mod fleet;
mod gas;
mod light;
mod limits;
mod money;
mod receipts;
mod terms;
