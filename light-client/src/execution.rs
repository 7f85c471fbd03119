//! Execution: what a verified block header commits to.
