//! The testbed, the demo and the end-to-end scenarios
