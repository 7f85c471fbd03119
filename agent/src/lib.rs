//! The gateway agent: configuration, command line, wiring
