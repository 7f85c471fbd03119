//! Milliseconds since power-up, counted by SysTick.

use core::sync::atomic::{AtomicU32, Ordering};

use cortex_m::peripheral::{SYST, syst::SystClkSource};

/// The system clock after reset: 200 MHz divided by 16.
const HERTZ: u32 = 12_500_000;

static MS: AtomicU32 = AtomicU32::new(0);

/// Starts to count.
pub fn start(timer: &mut SYST) {
    timer.set_clock_source(SystClkSource::Core);
    timer.set_reload(HERTZ / 1000 - 1);
    timer.clear_current();
    timer.enable_interrupt();
    timer.enable_counter();
}

/// Called by the SysTick exception.
pub fn count() {
    MS.fetch_add(1, Ordering::Relaxed);
}

/// Since [`start`], ms; 49 days are longer than anything here runs.
pub fn now() -> u64 {
    MS.load(Ordering::Relaxed).into()
}
