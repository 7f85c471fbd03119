//! The watchdog (LM3S6965 data sheet, chapter 11): a new image that hangs is one that did not boot.

const BASE: usize = 0x4000_0000;
const LOAD: *mut u32 = BASE as *mut u32;
const CONTROL: *mut u32 = (BASE + 0x08) as *mut u32;
const CLEAR: *mut u32 = (BASE + 0x0c) as *mut u32;
/// Its clock's gate, in the system control.
const GATES: *mut u32 = 0x400f_e100 as *mut u32;
const GATE: u32 = 1 << 3;
/// Counts, and resets the second time that it gets to zero.
const RESETS: u32 = 0b11;
/// 8 s at 12.5 MHz, twice; the longest the firmware works without a look at it is a few signatures.
const COUNTS: u32 = 100_000_000;

/// Starts it; nothing stops it again but a reset.
pub fn start() {
    // SAFETY: registers that only this module touches, but for the gates, of which it changes its own.
    unsafe {
        GATES.write_volatile(GATES.read_volatile() | GATE);
        LOAD.write_volatile(COUNTS);
        CONTROL.write_volatile(RESETS);
    }
}

/// Begins to count anew.
pub fn feed() {
    // SAFETY: as above.
    unsafe { CLEAR.write_volatile(1) }
}
