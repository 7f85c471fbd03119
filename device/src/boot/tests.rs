//! The power is cut at every operation on the flash, and every torn page holds rubbish.

use core::cell::RefCell;
use std::vec::Vec;

use super::*;

const PAGE: u32 = 1024;
const LAYOUT: Layout = Layout { control: 0, a: 16 * PAGE, b: 20 * PAGE, slot: 4 * PAGE };

/// Flash in memory. The operation that the fuse reaches is done by half, all later ones fail.
struct Memory {
    bytes: Vec<u8>,
    operations: u32,
    fuse: u32,
}

#[derive(Debug, PartialEq)]
struct PowerCut;

impl Memory {
    /// How much of an operation on `len` bytes is done.
    fn burn(&mut self, len: usize) -> (usize, Result<(), PowerCut>) {
        self.operations += 1;
        match self.operations.cmp(&self.fuse) {
            core::cmp::Ordering::Less => (len, Ok(())),
            core::cmp::Ordering::Equal => (len / 2, Err(PowerCut)),
            core::cmp::Ordering::Greater => (0, Err(PowerCut)),
        }
    }
}

impl Nor for &RefCell<Memory> {
    type Error = PowerCut;
    const PAGE: u32 = PAGE;

    fn read(&self, at: u32, bytes: &mut [u8]) -> Result<(), PowerCut> {
        bytes.copy_from_slice(&self.borrow().bytes[at as usize..][..bytes.len()]);
        Ok(())
    }

    fn erase(&self, at: u32) -> Result<(), PowerCut> {
        assert!(at.is_multiple_of(PAGE));
        let mut memory = self.borrow_mut();
        let (done, outcome) = memory.burn(PAGE as usize);
        let page = &mut memory.bytes[at as usize..][..PAGE as usize];
        page[..done].fill(ERASED);
        if done > 0 {
            page[done..].iter_mut().for_each(|byte| *byte |= 0x5a);
        }
        outcome
    }

    fn program(&self, at: u32, bytes: &[u8]) -> Result<(), PowerCut> {
        assert!(at.is_multiple_of(4) && bytes.len().is_multiple_of(4));
        let mut memory = self.borrow_mut();
        let (done, outcome) = memory.burn(bytes.len());
        for (old, new) in memory.bytes[at as usize..].iter_mut().zip(&bytes[..done]) {
            *old &= new;
        }
        outcome
    }
}

fn image(seed: u8) -> Vec<u8> {
    (0..LAYOUT.slot).map(|at| (at % 241) as u8 ^ seed).collect()
}

fn memory() -> RefCell<Memory> {
    RefCell::new(Memory { bytes: vec![0x33; 24 * PAGE as usize], operations: 0, fuse: u32::MAX })
}

/// A board that runs one image, with another in the spare slot and asked for.
fn asked(memory: &RefCell<Memory>) -> Slots<&RefCell<Memory>> {
    memory.borrow_mut().bytes[LAYOUT.a as usize..][..LAYOUT.slot as usize].copy_from_slice(&image(1));
    let mut slots = Slots::new(memory, LAYOUT);
    for (at, block) in (0..).zip(image(2).chunks(99)) {
        Flash::write(&mut slots, at * 99, block).unwrap();
    }
    slots.ask(&wanted()).unwrap();
    slots
}

fn wanted() -> Record {
    Record { size: LAYOUT.slot, u_id: UpdateId::new(Sha256::digest(image(2)).into()) }
}

fn runs(memory: &RefCell<Memory>) -> Vec<u8> {
    memory.borrow().bytes[LAYOUT.a as usize..][..LAYOUT.slot as usize].to_vec()
}

/// Powers up until code starts, with the power cut at operation `cut` of all.
fn start(slots: &Slots<&RefCell<Memory>>, memory: &RefCell<Memory>, cut: u32) -> bool {
    (memory.borrow_mut().operations, memory.borrow_mut().fuse) = (0, cut);
    let mut was_cut = false;
    loop {
        match slots.power_up() {
            Ok(Start::Run) => {
                memory.borrow_mut().fuse = u32::MAX;
                return was_cut;
            }
            Ok(Start::Exchanged) => {}
            Err(_) => {
                was_cut = true;
                (memory.borrow_mut().operations, memory.borrow_mut().fuse) = (0, u32::MAX);
            }
        }
    }
}

/// Every place to cut, until one lies behind the last operation.
fn every_cut(least: u32, mut scenario: impl FnMut(u32) -> bool) {
    let last = (1..).find(|cut| !scenario(*cut)).unwrap();
    assert!(last >= least, "{last} operations");
}

#[test]
fn an_exchange_survives_a_cut_at_every_operation() {
    every_cut(24, |cut| {
        let memory = memory();
        let slots = asked(&memory);
        let was_cut = start(&slots, &memory, cut);
        assert_eq!(runs(&memory), image(2), "cut at {cut}");
        assert_eq!(slots.boot(), Ok(Boot::Image(wanted().u_id)));
        slots.confirm().unwrap();
        start(&slots, &memory, u32::MAX);
        assert_eq!(runs(&memory), image(2), "confirmed");
        was_cut
    });
}

#[test]
fn what_does_not_confirm_itself_is_exchanged_back_at_every_cut() {
    every_cut(24, |cut| {
        let memory = memory();
        let slots = asked(&memory);
        start(&slots, &memory, u32::MAX);
        let was_cut = start(&slots, &memory, cut);
        assert_eq!(runs(&memory), image(1), "cut at {cut}");
        assert_eq!(slots.boot(), Ok(Boot::Reverted));
        slots.settle().unwrap();
        assert_eq!(slots.boot(), Ok(Boot::Unknown));
        start(&slots, &memory, u32::MAX);
        assert_eq!(runs(&memory), image(1), "settled");
        was_cut
    });
}

#[test]
fn an_image_that_is_damaged_is_not_confirmed() {
    let memory = memory();
    let slots = asked(&memory);
    start(&slots, &memory, u32::MAX);
    memory.borrow_mut().bytes[LAYOUT.a as usize + 77] ^= 1;
    assert_eq!(slots.boot(), Ok(Boot::Unknown));
    assert_eq!(slots.confirm(), Err(SlotError::Damaged));
    start(&slots, &memory, u32::MAX);
    assert_eq!((runs(&memory), slots.boot()), (image(1), Ok(Boot::Reverted)));
    // The image before it is on no trial.
    slots.confirm().unwrap();
    assert_eq!(slots.boot(), Ok(Boot::Reverted));
    start(&slots, &memory, u32::MAX);
    assert_eq!(runs(&memory), image(1));
}

#[test]
fn asking_is_done_or_undone() {
    every_cut(4, |cut| {
        let memory = memory();
        let slots = asked(&memory);
        start(&slots, &memory, u32::MAX);
        slots.confirm().unwrap();
        // The image before is in the spare slot now, and asked for.
        let before = Record { size: LAYOUT.slot, u_id: UpdateId::new(Sha256::digest(image(1)).into()) };
        (memory.borrow_mut().operations, memory.borrow_mut().fuse) = (0, cut);
        let was_cut = slots.ask(&before).is_err();
        memory.borrow_mut().fuse = u32::MAX;
        start(&slots, &memory, u32::MAX);
        assert_eq!(runs(&memory), image(if was_cut { 2 } else { 1 }), "cut at {cut}");
        was_cut
    });
}

#[test]
fn writes_and_reads_stay_within_the_slot() {
    let memory = memory();
    let mut slots = Slots::new(&memory, LAYOUT);
    for offset in [LAYOUT.slot - 3, u32::MAX] {
        let outside = Err(SlotError::Outside { offset, len: 4 });
        assert_eq!(Flash::write(&mut slots, offset, &[0; 4]), outside);
        assert_eq!(Flash::read(&mut slots, offset, &mut [0; 4]), outside);
    }
    assert!(Pages::write(&mut slots, 0, &[0; PAGE_LEN + 1]).is_err());
}
