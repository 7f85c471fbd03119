//! A block that is proven.

use alloy::consensus::Header;
use alloy::primitives::{B256, Bloom};

use super::Refused;
use crate::spec::ExecutionHeader;

/// What a proven execution block commits to.
///
/// It is only made from verified data: from the execution header of a [`State`](crate::spec::State), or by
/// [`verify_header`] with a hash that a proven block names.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Block {
    /// Height.
    pub number: u64,
    /// Hash.
    pub hash: B256,
    /// Hash of the block before.
    pub parent_hash: B256,
    /// Root of the state trie after the block.
    pub state_root: B256,
    /// Root of the trie of its receipts.
    pub receipts_root: B256,
    /// Addresses and topics of its logs, as a Bloom filter.
    pub logs_bloom: Bloom,
    /// Unix seconds.
    pub timestamp: u64,
}

/// For the execution header of a [`State`](crate::spec::State), finalized or optimistic, and no other: nothing is checked
/// here, the sync committee's signature and the execution branch were.
impl From<&ExecutionHeader> for Block {
    fn from(header: &ExecutionHeader) -> Self {
        Self {
            number: header.number,
            hash: header.block_hash,
            parent_hash: header.parent_hash,
            state_root: header.state_root,
            receipts_root: header.receipts_root,
            logs_bloom: header.logs_bloom,
            timestamp: header.timestamp,
        }
    }
}

/// The block with this header, if that is the header with this hash.
///
/// The fields are hashed again; a hash that the endpoint writes beside them is not looked at.
///
/// # Errors
/// [`Refused::HeaderHash`].
pub fn verify_header(expected: B256, header: &Header) -> Result<Block, Refused> {
    let got = header.hash_slow();
    if got != expected {
        return Err(Refused::HeaderHash { expected, got });
    }
    Ok(Block {
        number: header.number,
        hash: got,
        parent_hash: header.parent_hash,
        state_root: header.state_root,
        receipts_root: header.receipts_root,
        logs_bloom: header.logs_bloom,
        timestamp: header.timestamp,
    })
}

impl Block {
    /// The block before this one, if this is its header.
    ///
    /// # Errors
    /// [`Refused::HeaderHash`], [`Refused::ParentNumber`].
    pub fn verify_parent(&self, header: &Header) -> Result<Self, Refused> {
        let parent = verify_header(self.parent_hash, header)?;
        if parent.number.checked_add(1) != Some(self.number) {
            return Err(Refused::ParentNumber { child: self.number, parent: parent.number });
        }
        Ok(parent)
    }
}
