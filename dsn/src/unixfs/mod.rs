//! Files as DAGs: UnixFS over dag-pb with raw leaves.
//!
//! We write one layout: chunks of 256 KiB, raw leaves, at most 174 links a node, CIDv1, balanced, a single chunk
//! being its own root. That is what Kubo's `--cid-version 1` and the default of js `ipfs-unixfs-importer` before
//! its 1 MiB chunks make, so the same file has the same identifier there. We read any layout of a *file* within
//! the bounds of [`read`].

pub(crate) mod chunk;
pub(crate) mod pb;
pub(crate) mod read;
