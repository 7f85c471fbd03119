//! Execution endpoints that lie, each with the error that says so: a devchain behind a proxy that changes its answers.
//!
//! Each lie is told by an endpoint that stands alone, which must be refused, and by the first of two, where the second one's
//! answer must come through and the first be remembered with the reason.
#![allow(clippy::unwrap_used, clippy::print_stderr)]

mod anvil;
mod canned;
mod headers;
mod hints;
mod http;
mod logs;
mod product;
mod receipt;
mod receipts;
mod relay;
mod stage;
mod state;
