//! The sensor's half: a library without allocation, and its Linux simulator.
//!
//! All decisions are made by [`posthouse_protocol::device::Sensor`], which does no I/O. This crate
//! adds what a port has to bring, as three traits ([`Flash`], [`Key`], [`Pages`]), the loop that
//! carries the machine's outputs out in order ([`Device`]), and a store for the persistent state
//! that survives a power cut in the middle of a write ([`Journal`]). The carrier is the port's own:
//! the messages are a few dozen bytes of CBOR ([`posthouse_protocol::sensor`]).
//!
//! What many ports would write alike is here as well: [`boot`] turns three functions of plain NOR
//! flash into two slots with a bootloader that exchanges them, [`coap`] is the carrier over UDP, and [`P256Key`] a key in
//! software.
//!
//! With the feature `sim` there is a sensor that runs on Linux, for tests and demonstrations, over
//! MQTT or CoAP, with files for flash.
#![cfg_attr(not(any(feature = "sim", test)), no_std)]
#![cfg_attr(test, allow(clippy::unwrap_used))]

pub mod boot;
pub mod coap;
mod device;
mod journal;
mod key;
mod ports;
#[cfg(feature = "sim")]
pub mod sim;

pub use self::device::{DEFAULT_RETRY, Device, Failure, Flow, Outcome};
pub use self::journal::{Journal, JournalError, PAGE_LEN};
pub use self::key::{NotSigned, P256Key};
pub use self::ports::{Flash, Key, Pages};
