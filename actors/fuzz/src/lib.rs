//! What the fuzz targets share. The files of the gateway are taken by symbolic links rather than as the crate
//! `posthouse-actors`: that brings the circuits, Ethereum and libp2p with it, and takes an hour to build with a sanitizer.
#![allow(
    dead_code,
    unreachable_pub,
    unused_imports,
    reason = "files of another crate, not all of which is used here"
)]

pub mod coap;
pub mod messages;
pub mod sensors;
pub mod site;
