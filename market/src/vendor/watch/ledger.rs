//! A bounty's books, kept from its events alone.
//!
//! A bit for each device and an entry for each live lock, of which there are no more than devices: a million devices take a
//! quarter of a megabyte.

use std::collections::BTreeMap;

use alloy::primitives::{B256, U256};
use posthouse_contracts::chain::What;
use posthouse_contracts::receipts::{PAGE, tag};
use posthouse_contracts::terms::Terms;
use posthouse_protocol::id::Payee;
use thiserror::Error;

/// Why an event is none that the contract makes of its terms: whoever tells it is not to be believed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum LedgerError {
    /// Indices are below the size of the fleet.
    #[error("an event about device {0}, which is not in the fleet")]
    Stranger(u32),
    /// A device is paid for once.
    #[error("device {0} is paid for twice")]
    Twice(u32),
    /// A share is at least what the terms say, and at most that with the whole bonus.
    #[error("device {index} is paid {amount} wei, which the terms do not give")]
    Amount {
        /// The device.
        index: u32,
        /// What was paid.
        amount: U256,
    },
    /// A lock takes devices that no other holds, for the time that the terms say.
    #[error("a reservation on page {0} that the terms or other locks do not allow")]
    Lock(u32),
    /// More was withdrawn than credited, or more was credited than 256 bits count.
    #[error("credits that do not add up")]
    Credits,
}

/// A lock's devices on one page.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Held {
    devices: U256,
    until: u64,
}

/// What the events so far amount to. Amounts are wei.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Ledger {
    /// Bit i of word w is device 64 w + i.
    claimed: Vec<u64>,
    /// Claimed devices of each group.
    pub(super) groups: Vec<u32>,
    /// By tag and page. No two hold the same device, and each holds one.
    locks: BTreeMap<(B256, u32), Held>,
    /// What they hold together, by page.
    held: BTreeMap<u32, U256>,
    /// Shares that were claimed, whether they went out or are credited.
    pub(super) earned: U256,
    /// Credits that wait in the contract.
    pub(super) credited: U256,
    /// Those of them that are the vendor's.
    vendors_credit: U256,
    /// What went back to the vendor, or was credited to it.
    pub(super) refunded: U256,
}

impl Ledger {
    pub(super) fn new(terms: &Terms) -> Self {
        Self {
            claimed: vec![0; (terms.fleet_size() as usize).div_ceil(64)],
            groups: vec![0; terms.groups.len()],
            locks: BTreeMap::new(),
            held: BTreeMap::new(),
            earned: U256::ZERO,
            credited: U256::ZERO,
            vendors_credit: U256::ZERO,
            refunded: U256::ZERO,
        }
    }

    /// Enters an event that happened at `now` or before. After an error the books are as before.
    pub(super) fn enter(&mut self, terms: &Terms, what: &What, now: u64) -> Result<(), LedgerError> {
        let is_vendor = |payee: &Payee| terms.vendor.0 == *payee.as_bytes();
        let add = |sum: U256, amount| sum.checked_add(amount).ok_or(LedgerError::Credits);
        let take = |sum: U256, amount| sum.checked_sub(amount).ok_or(LedgerError::Credits);
        match what {
            What::Claimed { index, amount, .. } => self.claim(terms, *index, *amount)?,
            What::Reserved { payee, s, page, devices, until } => {
                self.reserve(terms, (tag(s, payee), *page), Held { devices: *devices, until: *until }, now)?;
            }
            What::Released { tag, page } => {
                if let Some(lock) = self.locks.remove(&(*tag, *page)) {
                    free(&mut self.held, *page, lock.devices);
                }
            }
            What::Credited { payee, amount } => {
                self.credited = add(self.credited, *amount)?;
                if is_vendor(payee) {
                    self.vendors_credit += *amount;
                }
            }
            What::Withdrawn { payee, amount, .. } => {
                self.credited = take(self.credited, *amount)?;
                if is_vendor(payee) {
                    self.vendors_credit = self.vendors_credit.saturating_sub(*amount);
                }
            }
            What::Refunded { amount } => self.refunded = add(self.refunded, *amount)?,
        }
        Ok(())
    }

    fn claim(&mut self, terms: &Terms, index: u32, amount: U256) -> Result<(), LedgerError> {
        let group = terms.groups.iter().position(|group| index < group.end_index);
        let group = group.ok_or(LedgerError::Stranger(index))?;
        let least = U256::from(terms.groups[group].share);
        let most = terms.share_at(index, terms.start).unwrap_or(least);
        if !(least..=most).contains(&amount) {
            return Err(LedgerError::Amount { index, amount });
        }
        let (word, bit) = (index as usize / 64, 1 << (index % 64));
        if self.claimed[word] & bit != 0 {
            return Err(LedgerError::Twice(index));
        }
        self.claimed[word] |= bit;
        self.groups[group] += 1;
        // Each device once, at most the largest share of 112 bits: no more than 2^144.
        self.earned += amount;
        Ok(())
    }

    fn reserve(&mut self, terms: &Terms, at: (B256, u32), new: Held, now: u64) -> Result<(), LedgerError> {
        let page = at.1;
        let wrong = LedgerError::Lock(page);
        let last = (new.devices.bit_len() as u32).checked_sub(1).ok_or(wrong)?;
        let last = page.checked_mul(PAGE).and_then(|first| first.checked_add(last)).ok_or(wrong)?;
        if last >= terms.fleet_size() {
            return Err(LedgerError::Stranger(last));
        }
        let latest = now.min(terms.claim_by).saturating_add(terms.lock_secs.into());
        let lock = self.locks.get(&at).copied().unwrap_or(Held { devices: U256::ZERO, ..new });
        let held = self.held.get(&page).copied().unwrap_or_default();
        if new.devices.bit_len() > PAGE as usize
            || new.until > latest
            || new.until != lock.until
            || !(held & new.devices).is_zero()
        {
            return Err(wrong);
        }
        self.locks.insert(at, Held { devices: lock.devices | new.devices, ..new });
        self.held.insert(page, held | new.devices);
        Ok(())
    }

    /// Forgets locks that have ended, which hold nothing any more. Called for a time that is final.
    pub(super) fn prune(&mut self, now: u64) {
        self.locks.retain(|(_, page), lock| {
            let is_live = now <= lock.until;
            if !is_live {
                free(&mut self.held, *page, lock.devices);
            }
            is_live
        });
    }

    /// Devices claimed.
    pub(super) fn claimed(&self) -> u32 {
        self.groups.iter().sum()
    }

    /// Devices that are claimed here and were not in earlier books, ascending.
    pub(super) fn claims_since(&self, before: &Self) -> Vec<u32> {
        let words = (0..).zip(self.claimed.iter().zip(&before.claimed));
        let new = words.map(|(word, (now, then))| (word, now & !then)).filter(|(_, new)| *new != 0);
        new.flat_map(|(word, new)| {
            (0..64).filter(move |bit| new >> bit & 1 == 1).map(move |bit| 64 * word + bit)
        })
        .collect()
    }

    fn is_claimed(&self, index: u32) -> bool {
        self.claimed.get(index as usize / 64).is_some_and(|word| word >> (index % 64) & 1 == 1)
    }

    /// Devices that live locks hold, and what they will be paid.
    pub(super) fn reserved(&self, terms: &Terms, now: u64) -> (u32, U256) {
        let live = self.locks.iter().filter(|(_, held)| now <= held.until);
        let devices = live.flat_map(|((_, page), held)| {
            let places = (0..PAGE).filter(move |place| held.devices.bit(*place as usize));
            // The share is that of the reservation.
            let time = held.until.saturating_sub(terms.lock_secs.into());
            places.filter_map(move |place| Some((page.checked_mul(PAGE)?.checked_add(place)?, time)))
        });
        let open = devices.filter(|(index, _)| !self.is_claimed(*index));
        let shares = open.filter_map(|(index, time)| terms.share_at(index, time));
        shares.fold((0, U256::ZERO), |(count, sum), share| (count + 1, sum + share))
    }

    /// Shares that left the contract.
    pub(super) fn paid(&self) -> U256 {
        self.earned.saturating_sub(self.credited.saturating_sub(self.vendors_credit))
    }

    /// What the contract holds beyond what its events account for, if it has `balance`: ether that was forced on it, or claims
    /// that were told with too high an amount. `None`
    /// when it has less, so that an event is missing: paid + credited + refundable = deposited.
    pub(super) fn surplus(&self, terms: &Terms, balance: U256) -> Option<U256> {
        let gone = self.earned.checked_add(self.refunded)?.checked_add(balance)?;
        gone.checked_sub(terms.deposit().checked_add(self.credited)?)
    }

    /// What the contract holds, if so much was forced on it.
    pub(super) fn balance(&self, terms: &Terms, surplus: U256) -> U256 {
        let had = terms.deposit().saturating_add(self.credited).saturating_add(surplus);
        had.saturating_sub(self.earned.saturating_add(self.refunded))
    }
}

/// Takes devices off what a page's locks hold.
fn free(held: &mut BTreeMap<u32, U256>, page: u32, devices: U256) {
    let Some(rest) = held.get(&page).map(|held| *held & !devices) else { return };
    if rest.is_zero() {
        held.remove(&page)
    } else {
        held.insert(page, rest)
    };
}

#[cfg(test)]
mod tests {
    use alloy::primitives::Address;
    use posthouse_contracts::terms::Group;
    use posthouse_protocol::id::{Curve, FleetRoot, LockHash, PackageId, UpdateId};

    use super::*;

    const VENDOR: Payee = Payee::new([1; 20]);
    const PAYEE: Payee = Payee::new([2; 20]);

    fn terms() -> Terms {
        Terms {
            curve: Curve::P256,
            vendor: Address::from(VENDOR.to_bytes()),
            start: 1_000,
            claim_by: 100_000,
            bonus_until: 11_000,
            bonus_bps: 5_000,
            lock_secs: 7_200,
            depth: 20,
            root: FleetRoot::new([2; 32]),
            u_id: UpdateId::new([3; 32]),
            p_id: PackageId::new([4; 32]),
            groups: vec![
                Group { end_index: 128, share: 2_000 },
                Group { end_index: 1_000_000, share: 1_000 },
            ],
        }
    }

    fn claim(index: u32, amount: u64) -> What {
        What::Claimed { payee: PAYEE, index, amount: U256::from(amount) }
    }

    fn reserve(s: u8, page: u32, devices: u64, until: u64) -> What {
        What::Reserved { payee: PAYEE, s: LockHash::new([s; 32]), page, devices: U256::from(devices), until }
    }

    fn enter(ledger: &mut Ledger, what: &What) -> Result<(), LedgerError> {
        ledger.enter(&terms(), what, 11_000)
    }

    fn books(events: &[What]) -> Ledger {
        let mut ledger = Ledger::new(&terms());
        events.iter().for_each(|what| enter(&mut ledger, what).unwrap());
        ledger
    }

    #[test]
    fn claims_count_by_group_and_once() {
        let mut ledger =
            books(&[claim(0, 3_000), claim(127, 2_000), claim(128, 1_250), claim(999_999, 1_000)]);
        assert_eq!((ledger.groups.as_slice(), ledger.claimed()), (&[2, 2][..], 4));
        assert_eq!(ledger.earned, U256::from(7_250));
        let before = ledger.clone();
        let mut refused = |what| enter(&mut ledger, &what).unwrap_err();
        assert_eq!(refused(claim(127, 2_000)), LedgerError::Twice(127));
        assert_eq!(refused(claim(1_000_000, 1_000)), LedgerError::Stranger(1_000_000));
        assert_eq!(refused(claim(u32::MAX, 1_000)), LedgerError::Stranger(u32::MAX));
        for amount in [1_999, 3_001] {
            let wei = U256::from(amount);
            assert_eq!(refused(claim(1, amount)), LedgerError::Amount { index: 1, amount: wei });
        }
        let withdrawal = What::Withdrawn { payee: PAYEE, to: Address::ZERO, amount: U256::ONE };
        assert_eq!(refused(withdrawal), LedgerError::Credits);
        assert_eq!(ledger, before);
    }

    #[test]
    fn live_locks_hold_what_is_not_claimed() {
        // Half of the bonus is left when the first lock is made.
        let events =
            [reserve(1, 0, 0b111, 6_000 + 7_200), reserve(2, 4_999, 1, 11_000 + 7_200), claim(1, 2_500)];
        let mut ledger = books(&events);
        assert_eq!(ledger.reserved(&terms(), 6_000), (3, U256::from(2 * 2_500 + 1_000)));
        enter(&mut ledger, &reserve(1, 0, 0b1000, 13_200)).unwrap();
        assert_eq!(
            ledger.reserved(&terms(), 13_200),
            (4, U256::from(3 * 2_500 + 1_000)),
            "added to the lock"
        );
        assert_eq!(ledger.reserved(&terms(), 13_201), (1, U256::from(1_000)), "over");
        ledger.prune(13_201);
        assert_eq!((ledger.locks.len(), ledger.reserved(&terms(), 0).0), (1, 1));
        let tag = tag(&LockHash::new([2; 32]), &PAYEE);
        enter(&mut ledger, &What::Released { tag, page: 4_999 }).unwrap();
        assert_eq!(ledger.reserved(&terms(), 0).0, 0);
        assert!(ledger.held.is_empty());
    }

    #[test]
    fn locks_that_the_contract_does_not_make_are_refused() {
        let mut ledger = books(&[reserve(1, 0, 0b1, 18_200)]);
        let before = ledger.clone();
        for (what, error) in [
            (reserve(2, 5_000, 1, 18_200), LedgerError::Stranger(1_000_000)),
            (reserve(2, u32::MAX, 1, 18_200), LedgerError::Lock(u32::MAX)),
            (reserve(2, 0, 0b10, 18_201), LedgerError::Lock(0)),
            (reserve(2, 0, 0b11, 18_200), LedgerError::Lock(0)),
            (reserve(1, 0, 0b1, 18_200), LedgerError::Lock(0)),
            (reserve(1, 0, 0b10, 18_199), LedgerError::Lock(0)),
            (reserve(2, 0, 0, 18_200), LedgerError::Lock(0)),
        ] {
            assert_eq!(enter(&mut ledger, &what), Err(error), "{what:?}");
        }
        assert_eq!(ledger, before);
        // Nothing is reserved after the deadline, however late it is.
        let late = terms().claim_by + 7_200;
        assert!(ledger.enter(&terms(), &reserve(2, 0, 0b10, late + 1), u64::MAX).is_err());
        ledger.enter(&terms(), &reserve(2, 0, 0b10, late), u64::MAX).unwrap();
        // What ended is free for another.
        ledger.prune(18_201);
        enter(&mut ledger, &reserve(3, 0, 0b1, 18_200)).unwrap();
        assert_eq!(ledger.held[&0], U256::from(0b11));
    }

    #[test]
    fn claims_since_are_those_that_came() {
        let before = books(&[claim(0, 2_000), claim(64, 2_000)]);
        let after = books(&[
            claim(0, 2_000),
            claim(64, 2_000),
            claim(999_999, 1_000),
            claim(63, 2_000),
            claim(65, 2_000),
        ]);
        assert_eq!(after.claims_since(&before), [63, 65, 999_999]);
        assert!(before.claims_since(&after).is_empty());
    }

    #[test]
    fn the_books_balance_or_an_event_is_missing() {
        let deposit = terms().deposit();
        let credit = |payee, amount: u64| What::Credited { payee, amount: U256::from(amount) };
        let mut ledger = books(&[claim(0, 2_000), claim(1, 2_000), credit(PAYEE, 2_000)]);
        assert_eq!((ledger.paid(), ledger.credited), (U256::from(2_000), U256::from(2_000)));
        let balance = deposit - U256::from(2_000);
        assert_eq!(ledger.balance(&terms(), U256::ZERO), balance);
        assert_eq!(ledger.surplus(&terms(), balance), Some(U256::ZERO));
        assert_eq!(ledger.surplus(&terms(), balance + U256::from(5)), Some(U256::from(5)), "forced");
        assert_eq!(ledger.surplus(&terms(), balance - U256::ONE), None);
        let to = Address::ZERO;
        let withdrawn = What::Withdrawn { payee: PAYEE, to, amount: U256::from(2_000) };
        enter(&mut ledger, &withdrawn).unwrap();
        assert_eq!((ledger.paid(), ledger.credited), (U256::from(4_000), U256::ZERO));
        // The refund takes what was forced on the contract too, and the vendor refuses it.
        let rest = deposit - U256::from(4_000) + U256::from(5);
        enter(&mut ledger, &What::Refunded { amount: rest }).unwrap();
        enter(&mut ledger, &What::Credited { payee: VENDOR, amount: rest }).unwrap();
        assert_eq!((ledger.paid(), ledger.credited), (U256::from(4_000), rest));
        assert_eq!(ledger.surplus(&terms(), rest), Some(U256::from(5)));
    }

    #[test]
    fn a_million_devices_are_a_bitmap() {
        assert_eq!(books(&[]).claimed.len() * 8, 125_000);
    }
}
