//! Keys that were shown on chain for exchanges of which this gateway knows nothing.
//!
//! Each opens its lock and may be made up all the same: whoever tells of one names any device and payee. Which is true turns
//! out when somebody has a copy under its lock. So all are kept while there is room and asked for in the order in which they
//! came. Where room ends, the device with the most keys gives up the one that was told longest ago: keys that are made up for
//! one device push out no other's, and those for devices that nobody here knows push out none of ours.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;

use crate::id::{LockHash, Payee};
use crate::secret::KeyR;

/// Keys that are kept in any case.
const LEAST: usize = 64;
/// And for each sensor: as many as a site has endpoints that could each tell of another one.
const EACH: usize = 4;

/// A key as it was told; `H(r) = s` is checked, and nothing else.
#[derive(Debug, Clone)]
pub(super) struct Reveal {
    pub(super) s: LockHash,
    pub(super) r: KeyR,
    pub(super) payee: Payee,
    pub(super) index: u32,
}

/// One that is kept.
#[derive(Debug, Clone)]
pub(super) struct Kept {
    pub(super) reveal: Reveal,
    /// Its place in the order of asking, from 1.
    pub(super) number: u64,
    /// When it was told last, by the same count.
    told: u64,
}

/// All that are kept: by device of this site, and under `None` those of devices that are not known to be.
#[derive(Debug, Clone, Default)]
pub(super) struct Reveals {
    lists: BTreeMap<Option<u32>, Vec<Kept>>,
    count: u64,
}

impl Reveals {
    /// Keeps a key, of a device of `ours` or a strange one, at a site of `sensors`. The one under `busy` is in use and stays.
    pub(super) fn put(&mut self, reveal: Reveal, ours: bool, sensors: usize, busy: Option<LockHash>) {
        self.count += 1;
        let number = self.count;
        let list = self.lists.entry(ours.then_some(reveal.index)).or_default();
        let same = |known: &&mut Kept| (known.reveal.s, known.reveal.index) == (reveal.s, reveal.index);
        match list.iter_mut().find(same) {
            Some(known) => known.told = number,
            None => list.push(Kept { reveal, number, told: number }),
        }
        let room = LEAST.saturating_add(sensors.saturating_mul(EACH));
        while self.len() > room && self.give_one_up(busy) {}
    }

    /// Of lists of one length that of the strange devices comes first.
    fn give_one_up(&mut self, busy: Option<LockHash>) -> bool {
        let Some(list) = self.lists.values_mut().rev().max_by_key(|list| list.len()) else { return false };
        let others = list.iter().enumerate().filter(|(_, kept)| Some(kept.reveal.s) != busy);
        let Some((oldest, _)) = others.min_by_key(|(_, kept)| kept.told) else { return false };
        list.remove(oldest);
        true
    }

    fn len(&self) -> usize {
        self.lists.values().map(Vec::len).sum()
    }

    /// A device turns out to be of this site.
    pub(super) fn adopt(&mut self, index: u32) {
        let Some(strange) = self.lists.get_mut(&None) else { return };
        let ours: Vec<Kept> = strange.extract_if(.., |kept| kept.reveal.index == index).collect();
        self.lists.entry(Some(index)).or_default().extend(ours);
    }

    /// The keys of a device of this site.
    pub(super) fn of(&self, index: u32) -> impl Iterator<Item = &Kept> {
        self.lists.get(&Some(index)).into_iter().flatten()
    }

    /// What opens a lock.
    pub(super) fn key(&self, s: &LockHash) -> Option<KeyR> {
        let mut all = self.lists.values().flatten();
        all.find(|kept| kept.reveal.s == *s).map(|kept| kept.reveal.r.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SENSORS: usize = 2;
    const ROOM: usize = LEAST + EACH * SENSORS;

    fn reveal(number: u32, index: u32) -> Reveal {
        let mut r = [0; 32];
        r[..4].copy_from_slice(&number.to_be_bytes());
        let r = KeyR::new(r);
        Reveal { s: r.lock(), r, payee: Payee::new([2; 20]), index }
    }

    fn has(all: &Reveals, number: u32, index: u32) -> bool {
        all.of(index).any(|kept| kept.reveal.s == reveal(number, index).s)
    }

    #[test]
    fn keys_of_one_device_or_of_strangers_push_out_none_of_another() {
        let mut all = Reveals::default();
        all.put(reveal(1, 7), true, SENSORS, None);
        (10..300).for_each(|number| all.put(reveal(number, number), false, SENSORS, None));
        (300..600).for_each(|number| all.put(reveal(number, 8), true, SENSORS, None));
        assert_eq!(all.len(), ROOM);
        assert!(has(&all, 1, 7));
    }

    #[test]
    fn of_one_device_those_stay_that_were_told_last_and_the_one_in_use() {
        let mut all = Reveals::default();
        let [busy, again] = [0, 1].map(|number| reveal(number, 7));
        for number in 0..500 {
            all.put(reveal(number, 7), true, SENSORS, Some(busy.s));
            all.put(again.clone(), true, SENSORS, Some(busy.s));
        }
        assert_eq!(all.len(), ROOM);
        assert!(has(&all, 0, 7) && has(&all, 1, 7) && has(&all, 499, 7) && !has(&all, 2, 7));
        assert_eq!(
            all.of(7).find(|kept| kept.reveal.s == again.s).unwrap().number,
            2,
            "asked for in its turn"
        );
        assert!(all.key(&busy.s).is_some());
    }

    #[test]
    fn a_device_takes_its_keys_along_when_it_turns_out_to_be_ours() {
        let mut all = Reveals::default();
        for (number, index) in [(1, 7), (1, 8), (2, 7)] {
            all.put(reveal(number, index), false, SENSORS, None);
        }
        assert_eq!(all.of(7).count(), 0);
        all.adopt(7);
        assert!(has(&all, 1, 7) && has(&all, 2, 7) && !has(&all, 1, 8));
        assert_eq!(all.len(), 3);
    }
}
