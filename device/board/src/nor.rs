//! The flash, erased and programmed.
//!
//! On the chip this is its flash controller (LM3S6965 data sheet, chapter 8). QEMU does not emulate that: it loads the
//! flash from a file at power-up and maps it as ROM. Here the same file is written by semihosting, with what flash
//! does: erasing sets a page of 1 KiB to ones, programming clears bits. What code the processor sees changes only at
//! the next power-up, which is why the bootloader resets after it has exchanged the slots.

use cortex_m_semihosting::syscall;
use posthouse_device::boot::Nor;

/// The file, in the folder where the emulator was started.
const FILE: &[u8] = b"flash\0";
/// Mode `r+b` of semihosting's SYS_OPEN.
const READ_WRITE: usize = 3;
const PAGE: usize = 1024;

/// The flash. Copies mean the same flash.
#[derive(Debug, Clone, Copy)]
pub struct Chip {
    file: usize,
}

/// The emulator did not do what it was asked.
#[derive(Debug, Clone, Copy)]
pub struct Refused;

impl Chip {
    /// Opens the file; without it every later operation is refused.
    pub fn open() -> Self {
        // SAFETY: SYS_OPEN reads the name, which is static and ends with a zero byte.
        let file = unsafe { syscall!(OPEN, FILE.as_ptr() as usize, READ_WRITE, FILE.len() - 1) };
        Self { file }
    }

    fn seek(&self, at: u32) -> Result<(), Refused> {
        // SAFETY: SYS_SEEK touches no memory.
        done(unsafe { syscall!(SEEK, self.file, at as usize) })
    }

    fn write(&self, at: u32, bytes: &[u8]) -> Result<(), Refused> {
        self.seek(at)?;
        // SAFETY: SYS_WRITE reads exactly the bytes of the slice.
        done(unsafe { syscall!(WRITE, self.file, bytes.as_ptr() as usize, bytes.len()) })
    }
}

/// SYS_SEEK gives 0; SYS_READ and SYS_WRITE the number of bytes that were left.
fn done(left: usize) -> Result<(), Refused> {
    if left == 0 { Ok(()) } else { Err(Refused) }
}

impl Nor for Chip {
    type Error = Refused;
    const PAGE: u32 = PAGE as u32;

    fn read(&self, at: u32, bytes: &mut [u8]) -> Result<(), Refused> {
        self.seek(at)?;
        // SAFETY: SYS_READ writes at most the bytes of the slice, which is borrowed for writing.
        done(unsafe { syscall!(READ, self.file, bytes.as_mut_ptr() as usize, bytes.len()) })
    }

    fn erase(&self, at: u32) -> Result<(), Refused> {
        const ONES: [u8; 64] = [0xff; 64];
        (0..PAGE).step_by(ONES.len()).try_for_each(|part| self.write(at + part as u32, &ONES))
    }

    fn program(&self, at: u32, bytes: &[u8]) -> Result<(), Refused> {
        let mut at = at;
        for part in bytes.chunks(64) {
            let mut held = [0; 64];
            let held = &mut held[..part.len()];
            self.read(at, held)?;
            held.iter_mut().zip(part).for_each(|(held, new)| *held &= new);
            self.write(at, held)?;
            at += part.len() as u32;
        }
        Ok(())
    }
}
