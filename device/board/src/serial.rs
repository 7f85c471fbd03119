//! UART 0, for what the board says: one line for each event.

use core::fmt;

const UART0: usize = 0x4000_c000;
const DATA: *mut u32 = UART0 as *mut u32;
const FLAGS: *const u32 = (UART0 + 0x18) as *const u32;
const LINE: *mut u32 = (UART0 + 0x2c) as *mut u32;
const CONTROL: *mut u32 = (UART0 + 0x30) as *mut u32;
/// Transmit FIFO full.
const FULL: u32 = 1 << 5;
/// 8 bits, FIFOs on.
const EIGHT_BITS: u32 = 0b111 << 4;
/// UART, transmitter and receiver on.
const ON: u32 = 1 | 1 << 8 | 1 << 9;

/// The serial line.
#[derive(Debug)]
pub struct Serial;

impl Serial {
    /// Switches the line on.
    pub fn on() -> Self {
        // SAFETY: registers of UART 0, which only this module touches.
        unsafe {
            LINE.write_volatile(EIGHT_BITS);
            CONTROL.write_volatile(ON);
        }
        Self
    }
}

impl fmt::Write for Serial {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for byte in text.bytes() {
            // SAFETY: registers of UART 0, as above.
            unsafe {
                while FLAGS.read_volatile() & FULL != 0 {}
                DATA.write_volatile(byte.into());
            }
        }
        Ok(())
    }
}
