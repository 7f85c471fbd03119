//! The testbed as a library: a chain, a broker, a vendor, distributors, a gateway and sensors as real processes on
//! loopback, in one temporary folder. The demo is one user of it, the end-to-end scenarios are the others.
//!
//! Processes are this program itself, run again in a role (see [`roles`]), so that `kill -9` is a real one and a
//! demo needs nothing but its own executable.

pub mod board;
pub mod broker;
pub mod chain;
pub mod demo;
pub mod hostile;
pub mod liar;
pub mod machine;
pub mod peers;
pub mod poll;
pub mod process;
pub mod roles;
pub mod scene;
pub mod site;
pub mod usage;
