//! The Ethernet controller (LM3S6965 data sheet, chapter 17), polled, as a device of smoltcp.

use smoltcp::phy::{self, DeviceCapabilities, Medium};
use smoltcp::time::Instant;
use smoltcp::wire::EthernetAddress;

const BASE: usize = 0x4004_8000;
const RECEIVE: usize = 0x08;
const TRANSMIT: usize = 0x0c;
const DATA: usize = 0x10;
const ADDRESS_0: usize = 0x14;
const ADDRESS_1: usize = 0x18;
const PACKETS: usize = 0x34;
const START: usize = 0x38;
/// Receiver on, FIFO reset.
const RECEIVE_ON: u32 = 1 | 1 << 4;
/// Transmitter on, padding, checksum, both ways at once.
const TRANSMIT_ON: u32 = 1 | 1 << 1 | 1 << 2 | 1 << 4;
/// Header and payload of a frame.
const FRAME: usize = 1514;

/// The controller with the buffer of a frame, either way.
#[derive(Debug)]
pub struct Ethernet {
    frame: [u8; FRAME],
}

fn read(register: usize) -> u32 {
    // SAFETY: a register of the controller, which only this module touches.
    unsafe { ((BASE + register) as *const u32).read_volatile() }
}

fn write(register: usize, value: u32) {
    // SAFETY: a register of the controller, as above.
    unsafe { ((BASE + register) as *mut u32).write_volatile(value) }
}

impl Ethernet {
    /// Switches the controller on.
    pub fn on() -> Self {
        write(RECEIVE, RECEIVE_ON);
        write(TRANSMIT, TRANSMIT_ON);
        Self { frame: [0; FRAME] }
    }

    /// The address that the board was made with.
    pub fn address(&self) -> EthernetAddress {
        let ([a, b, c, d], [e, f, ..]) = (read(ADDRESS_0).to_le_bytes(), read(ADDRESS_1).to_le_bytes());
        EthernetAddress([a, b, c, d, e, f])
    }

    /// Takes the next frame out of the FIFO: its length with the 2 bytes of the length itself and the 4 of the checksum,
    /// then the frame, in words.
    fn next(&mut self) -> Option<usize> {
        if read(PACKETS) & 0x3f == 0 {
            return None;
        }
        let [low, high, first @ ..] = read(DATA).to_le_bytes();
        let all = usize::from(u16::from_le_bytes([low, high]));
        self.frame[..2].copy_from_slice(&first);
        let mut at = 2;
        while at + 2 < all {
            let word = read(DATA).to_le_bytes();
            for byte in word {
                if let Some(place) = self.frame.get_mut(at) {
                    *place = byte;
                }
                at += 1;
            }
        }
        all.checked_sub(6).filter(|len| *len <= FRAME)
    }
}

impl phy::Device for Ethernet {
    type RxToken<'a> = Received<'a>;
    type TxToken<'a> = Room<'a>;

    fn receive(&mut self, _: Instant) -> Option<(Received<'_>, Room<'_>)> {
        let len = self.next()?;
        let (frame, rest) = self.frame.split_at_mut(len);
        let _ = rest;
        Some((Received(frame), Room(core::marker::PhantomData)))
    }

    fn transmit(&mut self, _: Instant) -> Option<Room<'_>> {
        Some(Room(core::marker::PhantomData))
    }

    fn capabilities(&self) -> DeviceCapabilities {
        let mut capabilities = DeviceCapabilities::default();
        capabilities.medium = Medium::Ethernet;
        capabilities.max_transmission_unit = FRAME;
        capabilities.max_burst_size = Some(1);
        capabilities
    }
}

/// A frame that came.
pub struct Received<'a>(&'a [u8]);

impl phy::RxToken for Received<'_> {
    fn consume<R, F: FnOnce(&[u8]) -> R>(self, take: F) -> R {
        take(self.0)
    }
}

/// Leave to send one frame.
pub struct Room<'a>(core::marker::PhantomData<&'a mut Ethernet>);

impl phy::TxToken for Room<'_> {
    /// The first word has the length of the payload without the header's 14 bytes, and the frame's first 2.
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, len: usize, fill: F) -> R {
        let mut frame = [0; FRAME];
        let filled = fill(&mut frame[..len]);
        let [low, high] = (len.saturating_sub(14) as u16).to_le_bytes();
        write(DATA, u32::from_le_bytes([low, high, frame[0], frame[1]]));
        for word in frame[2..len].chunks(4) {
            let mut bytes = [0; 4];
            bytes[..word.len()].copy_from_slice(word);
            write(DATA, u32::from_le_bytes(bytes));
        }
        write(START, 1);
        filled
    }
}
