//! The wire as others see it: pinned bytes, their CDDL, other implementations, hostile input.
#![allow(clippy::unwrap_used, missing_docs, reason = "tests")]

mod cases;
mod cddl;
mod hostile;
mod manifest;
mod properties;
mod release;
mod signatures;
mod vectors;
