//! The board's flash, 256 KiB in pages of 1 KiB.
//!
//! ```text
//! 0x00000  bootloader
//! 0x04000  provisioning: key, vendor, gateway; written at the factory
//! 0x04400  control pages of the slots
//! 0x06400  count of the boots
//! 0x08000  slot A, 112 KiB: what runs
//! 0x24000  slot B, 112 KiB: spare
//! ```

use posthouse_device::boot::{Layout, Nor as _, Slots};

use crate::nor::Chip;

/// Where the page of [`crate::provision`] is.
pub const PROVISION: u32 = 0x4000;
/// The slots and what is kept about them.
pub const LAYOUT: Layout = Layout { control: 0x4400, a: 0x8000, b: 0x2_4000, slot: 0x1_c000 };

/// Where the page of [`crate::boots`] is.
pub const BOOTS: u32 = 0x6400;

const _: () = assert!(LAYOUT.control + Slots::<Chip>::control_len(LAYOUT.slot) <= BOOTS);
const _: () = assert!(BOOTS + Chip::PAGE <= LAYOUT.a);

/// The board's slots.
pub fn slots() -> Slots<Chip> {
    Slots::new(Chip::open(), LAYOUT)
}
