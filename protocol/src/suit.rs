//! The SUIT manifest: what a sensor verifies before it believes anything about an image.

/// Most bytes of an envelope.
pub const MAX_ENVELOPE: usize = 1024;
