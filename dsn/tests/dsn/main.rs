//! Peers against peers, on loopback: real sockets, real handshakes, real files. Nothing here sleeps; a bound on
//! each wait turns a hang into a failure.

#![allow(clippy::unwrap_used, reason = "tests")]

mod dags;
mod discovery;
mod hostile;
mod raw;
mod requests;
mod support;
mod transfer;
mod withheld;
