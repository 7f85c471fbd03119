//! The wire as others see it: pinned bytes, their CDDL, other implementations, hostile input.
#![allow(clippy::unwrap_used, missing_docs, reason = "tests")]

mod cases;
mod cddl;
mod envelopes;
mod hostile;
mod properties;
mod signatures;
mod vectors;
