//! The beacon as light clients see it, held against code that shares nothing with it but SHA-256, Keccak
//! and the pairing.
#![allow(clippy::unwrap_used, reason = "tests")]

mod fixture;
mod follow;
mod forks;
mod http;
mod lies;
mod periods;
mod rest;
mod schema;
mod ssz;
mod verify;
