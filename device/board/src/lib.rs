//! What the programs of the board share: where things are in flash, and drivers for what the board has.
//!
//! The board is TI's LM3S6965 evaluation board as QEMU emulates it: Cortex-M3, 256 KiB of flash, 64 KiB of RAM, an
//! Ethernet controller with its own FIFO, a UART. QEMU maps the flash as ROM and does not emulate its controller, so
//! [`nor`] erases and programs by semihosting; everything else is the chip's own registers.
#![no_std]

pub mod boots;
pub mod clock;
pub mod ethernet;
pub mod layout;
pub mod network;
pub mod nor;
pub mod provision;
pub mod serial;
pub mod stack;
pub mod watchdog;
