//! Rust bindings to the update factory and bounty, fleet trees, and reading the chain
