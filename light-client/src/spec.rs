//! Consensus: what a sync committee signed.
