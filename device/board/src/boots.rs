//! How often the board was started, in a page of its own: what differs from boot to boot.
//!
//! A word for each boot, one after the other, with its number. A page that is full is erased. A power cut in the middle of
//! that has the count begin anew, which is all the same: only boots of the same few minutes must differ.

use posthouse_device::boot::Nor as _;

use crate::layout::BOOTS;
use crate::nor::{Chip, Refused};

const WORD: usize = 4;
const ERASED: [u8; WORD] = [0xff; WORD];
/// No number looks erased.
const NUMBER: u32 = 0x7fff_ffff;

/// Counts this boot; its number.
pub fn count() -> Result<u32, Refused> {
    let chip = Chip::open();
    let mut last = 0;
    for at in (BOOTS..BOOTS + Chip::PAGE).step_by(WORD) {
        let mut word = ERASED;
        chip.read(at, &mut word)?;
        if word == ERASED {
            return write(&chip, at, last);
        }
        last = u32::from_be_bytes(word);
    }
    chip.erase(BOOTS)?;
    write(&chip, BOOTS, last)
}

fn write(chip: &Chip, at: u32, last: u32) -> Result<u32, Refused> {
    let number = last.wrapping_add(1) & NUMBER;
    chip.program(at, &number.to_be_bytes())?;
    Ok(number)
}
