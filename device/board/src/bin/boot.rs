//! The bootloader: exchanges the slots where that was asked for, and starts what is in slot A.
#![no_std]
#![no_main]

use cortex_m::peripheral::SCB;
use cortex_m_rt::entry;
use posthouse_board::{
    layout::{LAYOUT, slots},
    watchdog,
};
use posthouse_device::boot::Start;

#[entry]
fn main() -> ! {
    match slots().power_up() {
        Ok(Start::Run) => {}
        // QEMU shows the processor the new flash at the next power-up; a chip would not need this.
        Ok(Start::Exchanged) => SCB::sys_reset(),
        // Flash that cannot be read or written, perhaps in the middle of an exchange, when slot A is no image. What was
        // done is in the journal: the next start goes on from there.
        Err(_) => SCB::sys_reset(),
    }
    watchdog::start();
    // SAFETY: slot A is whole, as the flash has said that nothing is left to exchange; it has a vector table, by the
    // vendor's signature or from the factory.
    unsafe {
        let scb = &*SCB::PTR;
        scb.vtor.write(LAYOUT.a);
        cortex_m::asm::bootload(LAYOUT.a as *const u32)
    }
}

#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    SCB::sys_reset()
}
