//! A block that is proven.

use std::cmp::Ordering;

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
    /// Most gas that its transactions could use.
    pub gas_limit: u64,
    /// Gas that they used.
    pub gas_used: u64,
    /// Wei that each unit of gas cost at least; 0 before EIP-1559.
    pub base_fee: u64,
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
            gas_limit: header.gas_limit,
            gas_used: header.gas_used,
            // The execution layer's field has 64 bits.
            base_fee: header.base_fee_per_gas.saturating_to(),
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
        gas_limit: header.gas_limit,
        gas_used: header.gas_used,
        base_fee: header.base_fee_per_gas.unwrap_or_default(),
    })
}

impl Block {
    /// Base fee of the block after this one, wei a unit of gas (EIP-1559, with Ethereum's parameters): at most an eighth more or
    /// less than this one's, or 1 wei more, whatever the header says.
    #[must_use]
    pub fn next_base_fee(&self) -> u64 {
        let (base, target) = (self.base_fee, self.gas_limit / 2);
        let used = self.gas_used.min(target.saturating_mul(2));
        let step = |gas: u64| {
            let part = u128::from(base) * u128::from(gas) / u128::from(target.max(1)) / 8;
            u64::try_from(part).expect("an eighth of a number of 64 bits: the gas is at most the target")
        };
        match used.cmp(&target) {
            Ordering::Less => base - step(target - used),
            Ordering::Equal => base,
            Ordering::Greater => base.saturating_add(step(used - target).max(1)),
        }
    }

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

#[cfg(test)]
mod tests {
    use super::*;

    fn after(base_fee: u64, gas_used: u64, gas_limit: u64) -> u64 {
        let header = Header { base_fee_per_gas: Some(base_fee), gas_used, gas_limit, ..Header::default() };
        verify_header(header.hash_slow(), &header).unwrap().next_base_fee()
    }

    /// By the EIP's text; the first is mainnet's first step, from block 12,965,000.
    #[test]
    fn the_next_base_fee_is_the_eips() {
        assert_eq!(after(1_000_000_000, 30_025_257, 30_029_122), 1_124_967_822);
        assert_eq!(after(800, 15_000_000, 30_000_000), 800);
        assert_eq!(after(800, 30_000_000, 30_000_000), 900);
        assert_eq!(after(800, 0, 30_000_000), 700);
        assert_eq!(after(7, 30_000_000, 30_000_000), 8, "by one at least");
        assert_eq!(after(7, 0, 30_000_000), 7, "by an eighth, rounded down");
    }

    #[test]
    fn no_header_moves_it_by_more_than_an_eighth() {
        for (used, limit) in
            [(0, 0), (1, 0), (0, 1), (1, 1), (u64::MAX, 2), (u64::MAX, u64::MAX), (0, u64::MAX)]
        {
            for base in [0, 1, 8, 1_000_000_000, u64::MAX] {
                let next = after(base, used, limit);
                assert!(
                    next <= base.saturating_add((base / 8).max(1)) && next >= base - base / 8,
                    "{base} {used} {limit}"
                );
            }
        }
    }
}
