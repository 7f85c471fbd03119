//! Milliseconds since power-up, counted by SysTick.

use core::cell::Cell;

use cortex_m::interrupt::{self, Mutex};
use cortex_m::peripheral::{SYST, syst::SystClkSource};

/// The system clock after reset: 200 MHz divided by 16.
const HERTZ: u32 = 12_500_000;

/// 32 bits would begin anew after 49 days, and whoever waits for a time would wait for ever.
static MS: Mutex<Cell<u64>> = Mutex::new(Cell::new(0));

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
    interrupt::free(|token| {
        let ms = MS.borrow(token);
        ms.set(ms.get() + 1);
    });
}

/// Since [`start`], ms.
pub fn now() -> u64 {
    interrupt::free(|token| MS.borrow(token).get())
}
