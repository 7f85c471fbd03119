//! Identifiers, messages, signed digests, envelopes and state machines of Posthouse, without I/O.
//!
//! Everything here is `no_std`. With the default feature `alloc` the crate is whole; without it what
//! is left is the sensor's half: identifiers, digests, device keys, sensor messages and the check of
//! a manifest, none of which allocates.
#![no_std]
#![cfg_attr(test, allow(clippy::unwrap_used))]

#[cfg(feature = "alloc")]
extern crate alloc;
#[cfg(test)]
extern crate std;

pub mod cose;
pub mod device;
pub mod digest;
pub mod id;
pub mod key;
pub mod sensor;
pub mod suit;
pub mod wire;

#[cfg(feature = "alloc")]
pub mod distributor;
#[cfg(feature = "alloc")]
pub mod exchange;
#[cfg(feature = "alloc")]
pub mod gateway;
#[cfg(feature = "alloc")]
pub mod join;
#[cfg(feature = "alloc")]
pub mod package;
#[cfg(feature = "alloc")]
pub mod release;
#[cfg(feature = "alloc")]
pub mod secret;
