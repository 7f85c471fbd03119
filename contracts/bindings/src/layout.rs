//! Where the contracts keep what a reader may want proven: storage slots and the words in them.
//!
//! `contracts/README.md` has the layout in words; a test holds this against the contracts.

use alloy::primitives::{Address, B256, U256, keccak256};
use posthouse_protocol::id::{Attempt, ProductId, Version};

use crate::chain::Latest;
use crate::receipts::PAGE;

/// Devices of one row of a bounty's ledger.
pub const ROW: u32 = 25;
const LATEST: u64 = 0;
const ROWS: u64 = 2;
const LOCKS: u64 = 3;

/// The factory's slot for the latest version of a product.
pub fn latest_slot(vendor: Address, product: &ProductId) -> B256 {
    let of_vendor = mapping(vendor.into_word(), U256::from(LATEST).into());
    mapping(product.to_bytes().into(), of_vendor)
}

/// What is in [`latest_slot`]; `None` when nothing was published.
pub fn latest(word: U256) -> Option<Latest> {
    let version: u64 = (word & U256::from(u64::MAX)).to();
    let bounty = Address::from_word(B256::from(word >> 64usize));
    (version != 0).then(|| Latest { version: Version::new(version), bounty: bounty.into_array().into() })
}

/// The bounty's slot for the row that has the device.
pub fn row_slot(index: u32) -> B256 {
    mapping(U256::from(index / ROW).into(), U256::from(ROWS).into())
}

/// What a row says of one device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Device {
    /// Its share is gone.
    pub claimed: bool,
    /// A lock holds it, live or ended.
    pub held: bool,
    /// The highest attempt that was reserved for it; 0 for none.
    pub attempt: Attempt,
}

/// The device's part of the word in [`row_slot`].
pub fn device(word: U256, index: u32) -> Device {
    let place = (index % ROW) as usize;
    let row = ROW as usize;
    let attempt: u64 = ((word >> (2 * row + 8 * place)) & U256::from(0xff)).to();
    Device { claimed: word.bit(place), held: word.bit(row + place), attempt: Attempt::new(attempt as u8) }
}

/// The bounty's slot for the lock with this tag ([`crate::receipts::tag`]) on the device's page.
pub fn lock_slot(tag: B256, index: u32) -> B256 {
    mapping(U256::from(index / PAGE).into(), mapping(tag, U256::from(LOCKS).into()))
}

/// Until when the lock in [`lock_slot`] holds the device, unix seconds, be that over or not; `None` if it
/// does not.
pub fn held_until(word: U256, index: u32) -> Option<u64> {
    let until: u64 = ((word >> PAGE as usize) & U256::from((1u64 << 40) - 1)).to();
    word.bit((index % PAGE) as usize).then_some(until)
}

/// Solidity's slot of a mapping's value: `keccak256(key ‖ slot)`.
fn mapping(key: B256, slot: B256) -> B256 {
    keccak256([key.0, slot.0].concat())
}
