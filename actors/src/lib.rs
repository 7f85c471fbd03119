//! The gateway's actors
