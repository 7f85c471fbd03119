//! The sensor's library for firmware in C: `include/posthouse_device.h` and a static library.
//!
//! Nothing is decided here. A [`PhDevice`] is memory that the firmware gives; in it live a
//! [`Device`] on the board's functions ([`PhBoard`]) and its CoAP carrier. One thread uses a device
//! at a time, and a function of the board that calls back in is refused. Enumerations are integers of a
//! named width: how wide a C compiler has them is for its options to say (`-fshort-enums`). The header is made by cbindgen; a test holds it against this file.
#![cfg_attr(not(feature = "std"), no_std)]

use core::mem::MaybeUninit;
use core::slice;

use posthouse_device::coap::{self, Coap, MAX_REQUEST, Next};
use posthouse_device::{DEFAULT_RETRY, Device, Flow};
use posthouse_protocol::device::{Boot, Config, Input, Stored};
use posthouse_protocol::id::{Curve, DeviceKey, ProductId, ReleaseKey, UpdateId, Version};
use posthouse_protocol::sensor::{Block, ErrorMsg, SignRequest};

use self::board::{Functions, encoded};

mod board;
mod key;

pub use self::board::{PhBoard, PhImage, PhMessage};
pub use self::key::{ph_p256_public, ph_p256_sign};

/// 8-byte words of a `ph_device`.
pub const PH_DEVICE_WORDS: usize = 384;
/// Bytes of a page of the state, of which a board keeps two.
pub const PH_PAGE_LEN: usize = 590;
/// Bytes of the buffer for a request over CoAP.
pub const PH_COAP_MAX_REQUEST: usize = 384;
/// Longest datagram that a board must be able to receive over CoAP.
pub const PH_COAP_MAX_RESPONSE: usize = 1152;

const _: () = assert!(PH_PAGE_LEN == posthouse_device::PAGE_LEN);
const _: () = assert!(PH_COAP_MAX_REQUEST == coap::MAX_REQUEST && PH_COAP_MAX_RESPONSE == coap::MAX_RESPONSE);
const _: () =
    assert!(size_of::<Held>() <= size_of::<PhDevice>() && align_of::<Held>() <= align_of::<PhDevice>());

/// Memory of a device, given by the firmware and filled by `ph_open`. It must not move or be copied while in use.
#[repr(C)]
pub struct PhDevice {
    words: [u64; PH_DEVICE_WORDS],
}

/// What a `PhDevice` holds.
struct Held {
    /// [`READY`] between calls. Otherwise it was not opened, or a call is on its way, which functions of the board see.
    ready: u32,
    inner: MaybeUninit<Inner>,
}

/// Not what memory holds by chance, which may be all zeros or what another boot has left in it.
const READY: u32 = u32::from_be_bytes(*b"PHD1");
const IN_USE: u32 = 0;

/// What was opened.
struct Inner {
    device: Device<Functions, Functions, Functions>,
    coap: Coap,
    board: PhBoard,
}

/// How a call went.
#[repr(u32)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PhResult {
    /// Done.
    Ok = 0,
    /// Done; the spare slot was made the one that boots: reboot now.
    Reboot = 1,
    /// The input was refused, nothing has changed, and the gateway is told where that helps.
    Refused = 2,
    /// A function of the board failed: start again from power-up, what was persisted is sound.
    BoardFailed = 3,
    /// A null pointer, a board without a function that is needed, a length that cannot be, bytes that are no such message, a
    /// device that was not opened, or a call by a function of its board.
    Invalid = 4,
}

/// What the bootloader says at power-up.
#[repr(u32)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PhBoot {
    /// Something runs whose digest is not known.
    Unknown = 0,
    /// The image with the digest `running` runs.
    Image = 1,
    /// The activated image did not pass, and the one before it runs again.
    Reverted = 2,
}

/// Curves of device keys.
#[repr(u8)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PhCurve {
    /// secp256k1.
    Secp256k1 = 1,
    /// P-256.
    P256 = 2,
}

/// What does not change while the firmware runs.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct PhConfig {
    /// The sensor's public key, SEC1 compressed.
    pub key: [u8; 33],
    /// 1: secp256k1, 2: P-256 (`ph_curve`).
    pub curve: u8,
    /// Vendor id and class id, 16 bytes each.
    pub product: [u8; 32],
    /// The vendor's release key, P-256, SEC1 compressed.
    pub release_key: [u8; 33],
    /// Sequence number that the factory installed; counts until there is a state.
    pub installed: u64,
    /// Bytes of the spare slot.
    pub slot: u32,
    /// Seconds from one wake to the next.
    pub wake_s: u32,
    /// How long it stays awake over CoAP with nothing to do, ms.
    pub awake_ms: u32,
    /// Bytes after which progress is persisted, a multiple of the erase page.
    pub checkpoint: u32,
    /// Time for a block, or an answer over CoAP, to come, ms.
    pub timeout_ms: u32,
    /// Anything that differs from boot to boot, over CoAP: drawn, or made of a counter that is kept. With the same as before a
    /// gateway takes the first words after a reboot for repetitions, and does not heed them.
    pub seed: u32,
    /// Bytes of a block, 1 to 1024.
    pub block: u16,
    /// Blocks in one request; 1 over CoAP.
    pub window: u16,
    /// Requests for one block without an answer before the sensor goes back to sleep.
    pub block_tries: u8,
}

/// What to do next over CoAP.
#[repr(u32)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PhNext {
    /// Send `value` bytes of the buffer to the gateway, then poll again.
    Send = 0,
    /// Hand in the next datagram, or poll again at `value`, ms.
    Wait = 1,
    /// This wake is over: sleep for `value` seconds, then `ph_coap_wake`.
    Sleep = 2,
    /// Reboot now.
    Reboot = 3,
}

/// Starts after power-up, in the memory at `device`. `running` is the digest of the image that runs, 32 bytes, and may be
/// null unless `boot`, a `ph_boot`, is `PH_BOOT_IMAGE`. Nothing is written: an image on trial that cannot be opened, or fails
/// its self-test, must not stay. Tell the bootloader next that it does, then call `ph_tick`: a report may be due, or an activation.
///
/// # Safety
/// `device`, `config` and `board` point to such values, `running` to 32 bytes or is null; no call on `device` is on its way. The
/// board's functions can be called with the board's context as long as the device is used.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ph_open(
    device: *mut PhDevice,
    config: *const PhConfig,
    board: *const PhBoard,
    boot: u32,
    running: *const u8,
) -> PhResult {
    let held = device.cast::<Held>();
    // SAFETY: null or what the caller promises.
    let (Some(config), Some(board)) = (unsafe { config.as_ref() }, unsafe { board.as_ref() }) else {
        return PhResult::Invalid;
    };
    if held.is_null() {
        return PhResult::Invalid;
    }
    // SAFETY: null or 32 bytes, by the caller.
    let running = unsafe { running.cast::<[u8; 32]>().as_ref() }.map(|digest| UpdateId::new(*digest));
    let curve = match config.curve {
        1 => Curve::Secp256k1,
        2 => Curve::P256,
        _ => return PhResult::Invalid,
    };
    let boot = match (boot, running) {
        (0, _) => Boot::Unknown,
        (1, Some(u_id)) => Boot::Image(u_id),
        (2, _) => Boot::Reverted,
        _ => return PhResult::Invalid,
    };
    let Some(functions) = Functions::new(board, config, curve) else { return PhResult::Invalid };
    let stored = Stored::factory(Version::new(config.installed));
    // SAFETY: memory of the caller's, which fits by the assertion above.
    let (ready, inner) = unsafe { (&raw mut (*held).ready, &raw mut (*held).inner) };
    // SAFETY: as above. Functions of the board are called from here on.
    unsafe { ready.write(IN_USE) };
    match Device::open(machine(config, curve), stored, boot, functions, functions, functions) {
        Ok(device) => {
            let opened = Inner { device, coap: Coap::new(carrier(config)), board: *board };
            // SAFETY: as above.
            unsafe {
                inner.write(MaybeUninit::new(opened));
                ready.write(READY);
            }
            PhResult::Ok
        }
        Err(_) => PhResult::BoardFailed,
    }
}

fn machine(config: &PhConfig, curve: Curve) -> Config {
    Config {
        key: DeviceKey::new(config.key),
        curve,
        product: ProductId::new(config.product),
        release_key: ReleaseKey::new(config.release_key),
        slot: config.slot,
        wake_s: config.wake_s,
        block: config.block,
        window: config.window,
        checkpoint: config.checkpoint,
        block_timeout_ms: config.timeout_ms,
        block_tries: config.block_tries,
    }
}

fn carrier(config: &PhConfig) -> coap::Settings {
    coap::Settings {
        seed: config.seed,
        ack_timeout_ms: config.timeout_ms,
        awake_ms: config.awake_ms,
        next_wake_s: config.wake_s,
    }
}

/// Does `work` in what was opened in this memory; nothing where it was not opened, or where `work` is on its way and a function
/// of the board calls.
///
/// # Safety
/// `device` is null, or was given to `ph_open` and is used by no other thread.
unsafe fn enter<T>(device: *mut PhDevice, work: impl FnOnce(&mut Inner) -> T) -> Option<T> {
    let held = device.cast::<Held>();
    if held.is_null() {
        return None;
    }
    // SAFETY: by the caller. Pointers, as a reference to what an outer call has borrowed must not be made.
    let (ready, inner) = unsafe { (&raw mut (*held).ready, &raw mut (*held).inner) };
    // SAFETY: as above.
    if unsafe { ready.read() } != READY {
        return None;
    }
    // SAFETY: as above.
    unsafe { ready.write(IN_USE) };
    // SAFETY: `ph_open` has written it before it wrote `READY`, and no other call gets so far until this one is done.
    let done = work(unsafe { (*inner).assume_init_mut() });
    // SAFETY: as above.
    unsafe { ready.write(READY) };
    Some(done)
}

/// The bytes at `bytes`.
///
/// # Safety
/// `bytes` is null or points to `len` bytes that nobody changes for the time of the call.
unsafe fn given<'a>(bytes: *const u8, len: usize) -> Option<&'a [u8]> {
    if len == 0 {
        return Some(&[]);
    }
    if bytes.is_null() || len > isize::MAX as usize {
        return None;
    }
    // SAFETY: not null, of this length by the caller.
    Some(unsafe { slice::from_raw_parts(bytes, len) })
}

impl Inner {
    fn give(&mut self, input: Input<'_>, now_ms: u64) -> PhResult {
        let board = self.board;
        match self.device.give(input, now_ms, &mut |message| encoded(&board, &message)) {
            Ok(outcome) if outcome.flow == Flow::Reboot => PhResult::Reboot,
            Ok(outcome) if outcome.refused.is_some() => PhResult::Refused,
            Ok(_) => PhResult::Ok,
            Err(_) => PhResult::BoardFailed,
        }
    }

    fn tick(&mut self, now_ms: u64) -> PhResult {
        let board = self.board;
        match self.device.tick(now_ms, &mut |message| encoded(&board, &message)) {
            Ok(Flow::Reboot) => PhResult::Reboot,
            Ok(Flow::Continue) => PhResult::Ok,
            Err(_) => PhResult::BoardFailed,
        }
    }
}

// --- over a carrier of the firmware's own: messages go out by `send`

/// The sensor woke and can reach its gateway.
///
/// # Safety
/// `device` is null or was given to `ph_open`, and no other thread uses it.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ph_wake(device: *mut PhDevice, now_ms: u64) -> PhResult {
    // SAFETY: by the caller.
    unsafe { enter(device, |inner| inner.give(Input::Wake, now_ms)) }.unwrap_or(PhResult::Invalid)
}

/// The sensor is about to sleep for so many seconds.
///
/// # Safety
/// As `ph_wake`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ph_sleep(device: *mut PhDevice, next_wake_s: u32, now_ms: u64) -> PhResult {
    let input = Input::Sleep { next_wake: next_wake_s };
    // SAFETY: by the caller.
    unsafe { enter(device, |inner| inner.give(input, now_ms)) }.unwrap_or(PhResult::Invalid)
}

/// A manifest came. One of no bytes, which over MQTT says that none is wanted any more, is nothing.
///
/// # Safety
/// As `ph_wake`; `bytes` is null or points to `len` bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ph_manifest(
    device: *mut PhDevice,
    bytes: *const u8,
    len: usize,
    now_ms: u64,
) -> PhResult {
    // SAFETY: by the caller.
    let Some(envelope) = (unsafe { given(bytes, len) }) else { return PhResult::Invalid };
    // SAFETY: by the caller.
    unsafe { enter(device, |inner| inner.give(Input::Manifest(envelope), now_ms)) }
        .unwrap_or(PhResult::Invalid)
}

/// A request to sign came, as CBOR.
///
/// # Safety
/// As `ph_manifest`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ph_sign_request(
    device: *mut PhDevice,
    bytes: *const u8,
    len: usize,
    now_ms: u64,
) -> PhResult {
    // SAFETY: by the caller.
    let Some(Ok(request)) = unsafe { given(bytes, len) }.map(SignRequest::decode) else {
        return PhResult::Invalid;
    };
    // SAFETY: by the caller.
    unsafe { enter(device, |inner| inner.give(Input::Sign(&request), now_ms)) }.unwrap_or(PhResult::Invalid)
}

/// A block message came, as CBOR.
///
/// # Safety
/// As `ph_manifest`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ph_block(
    device: *mut PhDevice,
    bytes: *const u8,
    len: usize,
    now_ms: u64,
) -> PhResult {
    // SAFETY: by the caller.
    let Some(Ok(block)) = unsafe { given(bytes, len) }.map(Block::decode) else { return PhResult::Invalid };
    // SAFETY: by the caller.
    unsafe { enter(device, |inner| inner.give(Input::Block(block), now_ms)) }.unwrap_or(PhResult::Invalid)
}

/// An error message came, as CBOR: what the gateway cannot serve. Blocks are asked for again when it says, or after some
/// seconds if it does not.
///
/// # Safety
/// As `ph_manifest`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ph_error(
    device: *mut PhDevice,
    bytes: *const u8,
    len: usize,
    now_ms: u64,
) -> PhResult {
    // SAFETY: by the caller.
    let Some(Ok(error)) = unsafe { given(bytes, len) }.map(ErrorMsg::decode) else {
        return PhResult::Invalid;
    };
    let retry_after_s = error.retry_after.unwrap_or(DEFAULT_RETRY);
    // SAFETY: by the caller.
    unsafe { ph_later(device, retry_after_s, now_ms) }
}

/// The gateway cannot serve blocks for so many seconds, by whatever the carrier has for that.
///
/// # Safety
/// As `ph_wake`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ph_later(device: *mut PhDevice, retry_after_s: u32, now_ms: u64) -> PhResult {
    let input = Input::Later { retry_after: retry_after_s };
    // SAFETY: by the caller.
    unsafe { enter(device, |inner| inner.give(input, now_ms)) }.unwrap_or(PhResult::Invalid)
}

/// Carries out what time brings: after `ph_open`, and when `ph_deadline` is reached.
///
/// # Safety
/// As `ph_wake`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ph_tick(device: *mut PhDevice, now_ms: u64) -> PhResult {
    // SAFETY: by the caller.
    unsafe { enter(device, |inner| inner.tick(now_ms)) }.unwrap_or(PhResult::Invalid)
}

/// When `ph_tick` has something again although nothing happens, ms; `UINT64_MAX` if nothing is waited for.
///
/// # Safety
/// As `ph_wake`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ph_deadline(device: *mut PhDevice) -> u64 {
    // SAFETY: by the caller.
    unsafe { enter(device, |inner| inner.device.sensor().deadline()) }.flatten().unwrap_or(u64::MAX)
}

/// Whether an update is being fetched or checked: no time to sleep.
///
/// # Safety
/// As `ph_wake`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ph_is_busy(device: *mut PhDevice) -> bool {
    // SAFETY: by the caller.
    unsafe { enter(device, |inner| inner.device.sensor().is_busy()) }.unwrap_or(false)
}

/// Sequence number of what runs.
///
/// # Safety
/// As `ph_wake`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ph_installed(device: *mut PhDevice) -> u64 {
    // SAFETY: by the caller.
    unsafe { enter(device, |inner| inner.device.sensor().stored().installed.get()) }.unwrap_or(0)
}

// --- over CoAP: datagrams to and from the gateway

/// Begins a wake.
///
/// # Safety
/// As `ph_wake`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ph_coap_wake(device: *mut PhDevice, now_ms: u64) -> PhResult {
    // SAFETY: by the caller.
    unsafe { enter(device, |inner| done(inner.coap.wake(&mut inner.device, now_ms))) }
        .unwrap_or(PhResult::Invalid)
}

/// What to do now: `next` and `value` say it, a datagram to send is written to `out`.
///
/// # Safety
/// As `ph_wake`; `out` is null or points to `PH_COAP_MAX_REQUEST` bytes, `next` and `value` are null or point to such values.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ph_coap_poll(
    device: *mut PhDevice,
    now_ms: u64,
    out: *mut u8,
    next: *mut PhNext,
    value: *mut u64,
) -> PhResult {
    // SAFETY: by the caller.
    let (Some(out), Some(next), Some(value)) = (
        unsafe { out.cast::<[u8; MAX_REQUEST]>().as_mut() },
        unsafe { next.cast::<MaybeUninit<PhNext>>().as_mut() },
        unsafe { value.cast::<MaybeUninit<u64>>().as_mut() },
    ) else {
        return PhResult::Invalid;
    };
    // SAFETY: by the caller.
    let polled = unsafe { enter(device, |inner| inner.coap.poll(&mut inner.device, now_ms, out)) };
    let (what, number) = match polled {
        None => return PhResult::Invalid,
        Some(Ok(Next::Send(len))) => (PhNext::Send, len as u64),
        Some(Ok(Next::Wait(until))) => (PhNext::Wait, until),
        Some(Ok(Next::Sleep(seconds))) => (PhNext::Sleep, seconds.into()),
        Some(Ok(Next::Reboot)) => (PhNext::Reboot, 0),
        Some(Err(_)) => return PhResult::BoardFailed,
    };
    next.write(what);
    value.write(number);
    PhResult::Ok
}

/// Takes a datagram that came from the gateway's address.
///
/// # Safety
/// As `ph_manifest`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ph_coap_receive(
    device: *mut PhDevice,
    bytes: *const u8,
    len: usize,
    now_ms: u64,
) -> PhResult {
    // SAFETY: by the caller.
    let Some(datagram) = (unsafe { given(bytes, len) }) else { return PhResult::Invalid };
    // SAFETY: by the caller.
    unsafe { enter(device, |inner| done(inner.coap.receive(&mut inner.device, datagram, now_ms))) }
        .unwrap_or(PhResult::Invalid)
}

fn done<E>(outcome: Result<(), E>) -> PhResult {
    if outcome.is_ok() { PhResult::Ok } else { PhResult::BoardFailed }
}

#[cfg(not(feature = "std"))]
unsafe extern "C" {
    /// The firmware's: reset. It does not return.
    fn ph_panicked() -> !;
}

#[cfg(not(feature = "std"))]
#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    // SAFETY: the firmware defines it so.
    unsafe { ph_panicked() }
}
