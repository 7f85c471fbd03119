//! Gadgets: what the statement is made of, each held to the native primitive by its tests.

pub(crate) mod aes;
pub(crate) mod gates;
pub(crate) mod sbox;
pub(crate) mod sha256;
pub(crate) mod sum;
