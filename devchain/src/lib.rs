//! An in-process Ethereum for tests and the demo
