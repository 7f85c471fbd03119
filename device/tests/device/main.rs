//! Whole lives of devices on a board in memory.
#![allow(clippy::unwrap_used, reason = "tests")]

mod coap;
mod memory;
mod round;
