//! The gateway's machine among simulated distributors, sensors and a chain: what it never does,
//! whatever is lost, repeated, late or killed, and that it gets there once the faults stop.
#![allow(clippy::unwrap_used, reason = "tests")]

mod distributor;
mod hostile;
mod properties;
mod rollout;
mod sensor;
mod world;
