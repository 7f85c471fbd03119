//! What the library takes: a whole round with a P-256 key, from power-up to the report of the new version, out of
//! `device/testdata`, with flash in RAM. All that every port needs of the library is linked, and nothing of a network:
//! the size of this program is the library's, but for the processor's vectors, the vectors of the round, and its own few
//! hundred bytes. The stack that it prints has everything of the library in it, the device and its state too, but not the
//! flash.
#![no_std]
#![no_main]

use core::cell::RefCell;
use core::fmt::Write as _;

use cortex_m::{interrupt::Mutex, peripheral::SCB};
use cortex_m_rt::entry;
use posthouse_board::{serial::Serial, stack};
use posthouse_device::{Device, Flash, Flow, Key as _, P256Key, PAGE_LEN, Pages};
use posthouse_protocol::device::{Boot, Config, Input, Message, Stored, Verified};
use posthouse_protocol::id::{ProductId, ReleaseKey, UpdateId, Version};
use posthouse_protocol::sensor::{Block, SignRequest};

const MANIFEST: &[u8] = include_bytes!("../../../testdata/manifest.suit");
const DELEGATE: &[u8] = include_bytes!("../../../testdata/sign-delegate.cbor");
const RECEIPT: &[u8] = include_bytes!("../../../testdata/sign-receipt.cbor");
/// Bytes of `image.bin`, whose byte `i` is `7 i mod 251`.
const IMAGE_LEN: u32 = 3000;
const U_ID: &[u8; 32] = include_bytes!("../../../testdata/u_id.bin");
const RELEASE_KEY: &[u8; 33] = include_bytes!("../../../testdata/release.key");
/// The spare slot, and the two pages of the state behind it.
const SLOT: usize = 4096;
const PAGES: usize = SLOT + 2 * PAGE_LEN;

/// Flash in RAM.
#[derive(Clone, Copy)]
struct Ram(&'static Mutex<RefCell<[u8; PAGES]>>);

static RAM: Mutex<RefCell<[u8; PAGES]>> = Mutex::new(RefCell::new([0; PAGES]));

impl Ram {
    fn with(&self, at: usize, len: usize, work: impl FnOnce(&mut [u8])) -> Result<(), ()> {
        cortex_m::interrupt::free(|token| {
            let mut flash = self.0.borrow(token).borrow_mut();
            let part = flash.get_mut(at..).and_then(|rest| rest.get_mut(..len));
            part.map(work).ok_or(())
        })
    }
}

impl Flash for Ram {
    type Error = ();

    fn capacity(&self) -> u32 {
        SLOT as u32
    }

    fn write(&mut self, offset: u32, bytes: &[u8]) -> Result<(), ()> {
        self.with(offset as usize, bytes.len(), |held| held.copy_from_slice(bytes))
    }

    fn read(&mut self, offset: u32, bytes: &mut [u8]) -> Result<(), ()> {
        self.with(offset as usize, bytes.len(), |held| bytes.copy_from_slice(held))
    }

    fn activate(&mut self, _: &Verified) -> Result<(), ()> {
        Ok(())
    }
}

impl Pages for Ram {
    type Error = ();

    fn read(&mut self, page: usize, bytes: &mut [u8]) -> Result<(), ()> {
        self.with(SLOT + page * PAGE_LEN, bytes.len(), |held| bytes.copy_from_slice(held))
    }

    fn write(&mut self, page: usize, bytes: &[u8]) -> Result<(), ()> {
        self.with(SLOT + page * PAGE_LEN, bytes.len(), |held| held.copy_from_slice(bytes))
    }
}

type Board = Device<Ram, P256Key, Ram>;

#[inline(never)]
fn open(boot: Boot) -> Option<Board> {
    let key = P256Key::new(&[7; 32])?;
    let config = Config {
        key: key.public(),
        curve: key.curve(),
        product: ProductId::new([0x11; 32]),
        release_key: ReleaseKey::new(*RELEASE_KEY),
        slot: SLOT as u32,
        wake_s: 60,
        block: 512,
        window: 1,
        checkpoint: 1024,
        block_timeout_ms: 1000,
        block_tries: 3,
    };
    Device::open(config, Stored::factory(Version::new(1)), boot, Ram(&RAM), key, Ram(&RAM)).ok()
}

/// From the first wake to the reboot.
#[inline(never)]
fn fetch() -> Option<()> {
    let mut device = open(Boot::Unknown);
    let device = device.as_mut()?;
    give(device, Input::Wake)?;
    give(device, Input::Manifest(MANIFEST))?;
    sign(device, DELEGATE)?;
    sign(device, RECEIPT)?;
    let mut flow = Flow::Continue;
    for offset in (0..IMAGE_LEN).step_by(64) {
        flow = block(device, offset)?;
    }
    (flow == Flow::Reboot).then_some(())
}

#[inline(never)]
fn sign(device: &mut Board, request: &[u8]) -> Option<Flow> {
    give(device, Input::Sign(&SignRequest::decode(request).ok()?))
}

#[inline(never)]
fn block(device: &mut Board, offset: u32) -> Option<Flow> {
    let mut bytes = [0; 64];
    (offset..).zip(&mut bytes).for_each(|(at, byte)| *byte = (at * 7 % 251) as u8);
    let bytes = &bytes[..(IMAGE_LEN - offset).min(64) as usize];
    give(device, Input::Block(Block { u_id: UpdateId::new(*U_ID), offset, bytes }))
}

#[inline(never)]
fn give(device: &mut Board, input: Input<'_>) -> Option<Flow> {
    Some(device.give(input, 0, &mut carry).ok()?.flow)
}

/// After the reboot; the version that runs.
#[inline(never)]
fn report() -> Option<u64> {
    let mut device = open(Boot::Image(UpdateId::new(*U_ID)));
    let device = device.as_mut()?;
    give(device, Input::Wake)?;
    device.status().report?;
    Some(device.sensor().stored().installed.get())
}

/// To a carrier that is not there.
#[inline(never)]
fn carry(message: Message) {
    let _ = encoded(&message);
}

/// A message as it goes to a carrier.
fn encoded(message: &Message) -> Option<usize> {
    let mut room = [0; 160];
    let bytes = match message {
        Message::Hello(hello) => hello.encode_into(&mut room),
        Message::Signature(signature) => signature.encode_into(&mut room),
        Message::Refused(error) => error.encode_into(&mut room),
        Message::Get(get) => get.encode_into(&mut room),
        Message::Status(status) => status.encode_into(&mut room),
    };
    bytes.ok().map(<[u8]>::len)
}

#[entry]
fn main() -> ! {
    let installed = fetch().and_then(|()| report()).unwrap_or(0);
    let depth = stack::depth();
    let mut say = Serial::on();
    for (name, value) in
        [(" installed=", installed as usize), (" stack=", depth), (" device=", size_of::<Board>())]
    {
        let _ = say.write_str(name);
        decimal(&mut say, value);
    }
    let _ = say.write_str("\n");
    SCB::sys_reset()
}

/// Without `core::fmt`, which would count as the library's.
fn decimal(say: &mut Serial, value: usize) {
    if value >= 10 {
        decimal(say, value / 10);
    }
    let digit = [b'0' + (value % 10) as u8];
    let _ = say.write_str(core::str::from_utf8(&digit).unwrap_or_default());
}

#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    SCB::sys_reset()
}
