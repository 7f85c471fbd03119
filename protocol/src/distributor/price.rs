//! What transactions cost, and which are worth it.
//!
//! The policy is simple, as the money in question is small and every clever rule is one that somebody can play against:
//!
//! - A batch is reserved when its shares are worth the gas of reservation and reveal at the present fee, and somewhat more,
//!   because the fee can rise until the reservation is final. Otherwise it waits for more receipts and for lower fees, until
//!   claims are nearly over.
//! - The reservation names that cost as the least sum it takes: whoever takes devices out of the batch before it is mined
//!   makes it revert, not a loss of the shares that are left.
//! - Once reserved, what the reservation cost is spent. The reveal is made as soon as the shares are worth its own gas, and
//!   until the lock is too near its end.
//! - No fee is offered by which the gas could cost more than the shares bring, nor one above the operator's limit. A
//!   transaction that is replaced pays an eighth more, where nodes ask for a tenth.
//! - Nothing gets a nonce that the wallet cannot pay for beside what is under way, and nothing is reserved that takes what the
//!   reveals of locks will cost: a transaction that no node takes would keep all behind it waiting.

use alloc::vec::Vec;

use minicbor::{Decode, Encode};

use crate::id::Curve;

use super::campaign::{Campaign, Policy};
use super::chain::Wei;

/// Devices that share a slot for claims, locks and attempts: `Ledger.ROW`.
const ROW: u32 = 25;
/// Devices that share a lock: `Ledger.PAGE`.
const PAGE: u32 = 200;

/// Gas of a call by what it touches: once for all, and for each device, row, page and node of the Merkle proof. Measured on
/// the contracts with fresh storage, rounded up. `contracts/bindings/tests/it/gas.rs` holds them against the contracts.
struct Prices {
    base: u64,
    device: u64,
    row: u64,
    page: u64,
    node: u64,
}

const RESERVE: Prices = Prices { base: 31_000, device: 11_300, row: 23_000, page: 27_000, node: 1_350 };
const REVEAL: Prices = Prices { base: 36_500, device: 4_700, row: 5_000, page: 3_000, node: 0 };
const CLAIM: Prices = Prices { base: 36_500, device: 14_000, row: 23_000, page: 2_500, node: 1_350 };
/// More for each receipt of a P-256 key: the precompile, and the key that goes with it.
const P256: u64 = 7_500;
/// No transaction may ask for more gas (EIP-7825).
pub(super) const GAS_CAP: u64 = 16_777_216;
/// Most gas that a batch's calls may be expected to take, so that none is sent that runs out of it: a tenth of what a
/// transaction may ask for is for what the constants above do not foresee.
pub(super) const BATCH_GAS: u64 = GAS_CAP / 10 * 9;
/// What a transaction may use, in percent of what it is expected to. That is above the floor for its calldata (EIP-7623):
/// the constants are, for each device and node.
const HEADROOM: u64 = 130;
/// Gas that must be left when a bounty pays, though paying takes less: `Purse.PUSH_NEEDS`.
const PUSH: u64 = 90_000;
/// A transaction that does nothing.
pub(super) const TRANSFER: u64 = 21_000;

impl Prices {
    fn of(&self, devices: &Devices) -> u64 {
        let Devices { count, rows, pages, nodes } = devices;
        let each = [(count, self.device), (rows, self.row), (pages, self.page), (nodes, self.node)];
        each.into_iter().fold(self.base, |sum, (n, gas)| sum.saturating_add(n.saturating_mul(gas)))
    }
}

/// What a batch touches.
struct Devices {
    count: u64,
    rows: u64,
    pages: u64,
    nodes: u64,
}

impl Devices {
    fn new(indices: &[u32], depth: u8) -> Self {
        let distinct = |by: u32| distinct(indices.iter().map(|index| index / by));
        let (mut level, mut nodes) = (distinct(1), 0);
        let count = level.len() as u64;
        for _ in 0..depth {
            nodes += level.iter().filter(|at| level.binary_search(&(*at ^ 1)).is_err()).count() as u64;
            level = self::distinct(level.iter().map(|at| at / 2));
        }
        Self { count, rows: distinct(ROW).len() as u64, pages: distinct(PAGE).len() as u64, nodes }
    }
}

fn distinct(of: impl Iterator<Item = u32>) -> Vec<u32> {
    let mut all: Vec<u32> = of.collect();
    all.sort_unstable();
    all.dedup();
    all
}

/// Gas that the calls of a batch are expected to take, each as a transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Gas {
    /// `reserve`.
    pub reserve: u64,
    /// `reveal`.
    pub reveal: u64,
    /// `publishProofs`.
    pub claim: u64,
}

impl Gas {
    /// For devices of a fleet whose tree has this depth.
    pub fn of(indices: &[u32], depth: u8, curve: Curve) -> Self {
        let devices = Devices::new(indices, depth);
        let keys = if curve == Curve::P256 { P256.saturating_mul(devices.count) } else { 0 };
        Self {
            reserve: RESERVE.of(&devices).saturating_add(keys),
            reveal: REVEAL.of(&devices),
            claim: CLAIM.of(&devices).saturating_add(keys),
        }
    }

    /// So many receipts fit a transaction wherever their devices are in whatever fleet: each in a page of its own, and with
    /// none of its path shared but what so many must share of a tree of 32 levels.
    pub fn fits_anywhere() -> u32 {
        let fits = |count: &u64| {
            let nodes = count * u64::from(33 - count.ilog2());
            let gas =
                RESERVE.of(&Devices { count: *count, rows: *count, pages: *count, nodes }) + P256 * count;
            gas <= BATCH_GAS
        };
        (1..=u64::from(PAGE)).take_while(fits).last().map_or(1, |count| count as u32)
    }

    /// Gas that transactions ask for which are expected to take this: what is left over costs nothing, but the wallet must
    /// have it, and a call that runs out of it shows what it shows for nothing.
    #[must_use]
    pub fn limits(self) -> Self {
        let limit =
            |gas: u64, left: u64| (gas.saturating_mul(HEADROOM) / 100).saturating_add(left).min(GAS_CAP);
        Self {
            reserve: limit(self.reserve, 0),
            reveal: limit(self.reveal, PUSH),
            claim: limit(self.claim, PUSH),
        }
    }
}

/// What a transaction offers for a unit of gas (EIP-1559).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Encode, Decode)]
#[cbor(map)]
pub struct Fee {
    /// Most in all.
    #[n(0)]
    pub max: Wei,
    /// Of that most for the block's producer.
    #[n(1)]
    pub priority: Wei,
}

impl Fee {
    /// The least that takes its place in the nodes' pools, and a little more.
    pub(super) fn raised(self) -> Self {
        let raise = |fee: Wei| Wei::new(fee.get().saturating_add(fee.get() / 8).saturating_add(1));
        Self { max: raise(self.max), priority: raise(self.priority) }
    }

    /// Wei that so much gas costs at the most.
    pub(super) fn cost(self, gas: u64) -> Wei {
        Wei::new(self.max.get().saturating_mul(gas.into()))
    }

    fn covers(self, other: Self) -> bool {
        self.max >= other.max && self.priority >= other.priority
    }
}

impl Policy {
    /// What a unit of gas costs in the next block.
    pub(super) fn gas_price(&self, base_fee: Wei) -> Wei {
        base_fee.saturating_add(self.priority_fee)
    }

    /// The most that a call offers: what calls it off can still be raised above it by an eighth, as nodes ask.
    pub(super) fn call_fee(&self) -> Wei {
        let most = self.max_fee.get().saturating_sub(1);
        Wei::new(most - most.div_ceil(9))
    }

    /// What so much gas costs in the next block.
    pub(super) fn cost(&self, gas: u64, base_fee: Wei) -> Wei {
        Wei::new(self.gas_price(base_fee).get().saturating_mul(gas.into()))
    }

    /// Whether shares of this worth pay for the gas, and bring the gain that is asked for besides.
    pub(super) fn gains(&self, worth: Wei, cost: Wei) -> bool {
        let wanted = cost.get().saturating_mul(100 + u128::from(self.gain_percent)).div_ceil(100);
        worth.get() >= wanted
    }

    /// The fee for a transaction that takes the place of one that offered `old`, or for the first one. `None` where the
    /// chain asks for more than `most`: nobody would mine it.
    pub(super) fn fee(&self, old: Option<Fee>, base_fee: Wei, most: Wei) -> Option<Fee> {
        let most = most.min(self.max_fee);
        // Twice the base fee lasts six full blocks.
        let twice = Wei::new(base_fee.get().saturating_mul(2));
        let market = Fee { max: twice.saturating_add(self.priority_fee), priority: self.priority_fee };
        let least = old.map_or_else(Fee::default, Fee::raised);
        let max = market.max.max(least.max).min(most);
        let fee = Fee { max, priority: market.priority.max(least.priority).min(max) };
        match old {
            // It cannot be raised: the same again, for nodes that have forgotten it.
            Some(old) if !fee.covers(least) => Some(old),
            _ => (base_fee <= fee.max).then_some(fee),
        }
    }
}

impl Campaign {
    /// Gas of a batch's calls.
    pub(super) fn gas(&self, indices: &[u32]) -> Gas {
        Gas::of(indices, self.depth, self.curve)
    }

    /// Whether one transaction has the gas for these devices.
    pub(super) fn fits(&self, indices: &[u32]) -> bool {
        let Gas { reserve, reveal, claim } = self.gas(indices);
        indices.len() <= 1 || reserve.max(reveal).max(claim) <= BATCH_GAS
    }

    /// The first of these devices, as many as fit.
    pub(super) fn fitting(&self, mut indices: Vec<u32>) -> Vec<u32> {
        while !self.fits(&indices) {
            indices.pop();
        }
        indices
    }
}

/// Fee by which so much gas costs no more than this.
pub(super) fn at_most(wei: Wei, gas: u64) -> Wei {
    Wei::new(wei.get() / u128::from(gas.max(TRANSFER)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neighbours_share_rows_pages_and_paths() {
        let one = Gas::of(&[7], 20, Curve::Secp256k1);
        assert_eq!(one, Gas { reserve: 119_300, reveal: 49_200, claim: 103_000 });
        let site: Vec<u32> = (400..500).collect();
        let scattered: Vec<u32> = (0..100).map(|i| i * 10_000).collect();
        let (site, scattered) =
            (Gas::of(&site, 20, Curve::Secp256k1), Gas::of(&scattered, 20, Curve::Secp256k1));
        // The contracts' snapshots: 1,215,600 and 455,061; 7,804,190 and 1,237,637.
        assert!((1_215_600..1_350_000).contains(&site.reserve), "{site:?}");
        assert!((455_061..550_000).contains(&site.reveal), "{site:?}");
        assert!((7_804_190..8_300_000).contains(&scattered.reserve), "{scattered:?}");
        assert!((1_237_637..1_350_000).contains(&scattered.reveal), "{scattered:?}");
        assert!(Gas::of(&[7], 20, Curve::P256).reserve > one.reserve);
    }

    #[test]
    fn what_fits_anywhere_fits_at_the_worst_places() {
        let count = Gas::fits_anywhere();
        assert!((140..150).contains(&count), "{count}");
        let apart = |count: u32| (0..count).map(|i| u32::MAX / count * i).collect::<Vec<u32>>();
        let gas = |indices: &[u32]| Gas::of(indices, 32, Curve::P256);
        let most = gas(&apart(count));
        assert!(most.reserve.max(most.reveal).max(most.claim) <= BATCH_GAS, "{most:?}");
        assert!(gas(&apart(count + 8)).reserve > BATCH_GAS, "and not many more do");
    }

    fn policy() -> Policy {
        let wei = Wei::new;
        Policy { max_fee: wei(1_000), priority_fee: wei(10), gain_percent: 10, ..Policy::default() }
    }

    #[test]
    fn a_replacement_pays_an_eighth_more_or_is_the_same_again() {
        let (policy, wei) = (policy(), Wei::new);
        let most = wei(10_000);
        let first = policy.fee(None, wei(100), most).unwrap();
        assert_eq!(first, Fee { max: wei(210), priority: wei(10) });
        // The base fee has fallen, so that the chain would take less; the nodes would not.
        let second = policy.fee(Some(first), wei(50), most).unwrap();
        assert_eq!(second, Fee { max: wei(237), priority: wei(12) });
        // It has risen by much more than an eighth.
        assert_eq!(policy.fee(Some(first), wei(300), most).unwrap().max, wei(610));
        // Up to the operator's limit, and to what the claim is worth.
        let mut fee = first;
        let mut sent = 0;
        while let Some(next) = policy.fee(Some(fee), wei(100), most).filter(|next| *next != fee) {
            assert!(
                next.max.get() * 10 >= fee.max.get() * 11
                    && next.priority.get() * 10 >= fee.priority.get() * 11
            );
            (fee, sent) = (next, sent + 1);
        }
        assert!(fee.max <= wei(1_000) && fee.max > wei(880), "{fee:?}");
        assert!(sent > 10);
        assert_eq!(policy.fee(Some(first), wei(100), wei(220)), Some(first));
        assert_eq!(policy.fee(None, wei(100), wei(99)), None, "nobody would mine it");
        assert_eq!(policy.fee(None, wei(1_001), most), None);
        assert_eq!(policy.fee(None, wei(990), most).unwrap().max, wei(1_000));
    }

    #[test]
    fn worth_is_gas_and_a_gain() {
        let policy = policy();
        let cost = policy.cost(1_000, Wei::new(90));
        assert_eq!(cost, Wei::new(100_000));
        assert!(policy.gains(Wei::new(110_000), cost));
        assert!(!policy.gains(Wei::new(109_999), cost));
        assert!(policy.gains(Wei::new(u128::MAX), Wei::new(u128::MAX)));
        assert_eq!(at_most(Wei::new(100_000), 50_000), Wei::new(2));
    }
}
