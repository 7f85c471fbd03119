//! The board's functions as the library's traits.

use core::ffi::c_void;

use posthouse_device::{Flash, Key, Pages};
use posthouse_protocol::device::{Message, Verified};
use posthouse_protocol::id::{Curve, DeviceKey, Digest, Signature};

use crate::PhConfig;

/// An image that was verified in the spare slot.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct PhImage {
    /// Sequence number.
    pub version: u64,
    /// SHA-256 of the image.
    pub u_id: [u8; 32],
    /// Its bytes.
    pub size: u32,
}

/// What a message is: which CoAP resource or MQTT topic it goes to.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PhMessage {
    /// `hello`.
    Hello = 0,
    /// `signature`.
    Signature = 1,
    /// `refused`.
    Refused = 2,
    /// `get`.
    Get = 3,
    /// `status`.
    Status = 4,
}

/// What a board can do. Each function gets `context`, and returns 0 when it has done what it was asked. What is said of
/// `Flash`, `Key` and `Pages` in `device/README.md` holds here: what is durable when, and what may be torn.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct PhBoard {
    /// The firmware's own.
    pub context: *mut c_void,
    /// Writes to the spare slot.
    pub flash_write: unsafe extern "C" fn(*mut c_void, offset: u32, bytes: *const u8, len: usize) -> i32,
    /// Makes what was written durable.
    pub flash_sync: unsafe extern "C" fn(*mut c_void) -> i32,
    /// Reads from the spare slot.
    pub flash_read: unsafe extern "C" fn(*mut c_void, offset: u32, bytes: *mut u8, len: usize) -> i32,
    /// Makes the spare slot the one that boots, in one step.
    pub flash_activate: unsafe extern "C" fn(*mut c_void, image: *const PhImage) -> i32,
    /// Reads page 0 or 1 of the state, `PH_PAGE_LEN` bytes.
    pub page_read: unsafe extern "C" fn(*mut c_void, page: u32, bytes: *mut u8, len: usize) -> i32,
    /// Overwrites page 0 or 1 of the state; durable when it returns.
    pub page_write: unsafe extern "C" fn(*mut c_void, page: u32, bytes: *const u8, len: usize) -> i32,
    /// ECDSA by the device key over 32 bytes as they are: r and s, 64 bytes, low s.
    pub sign: unsafe extern "C" fn(*mut c_void, digest: *const u8, signature: *mut u8) -> i32,
    /// Sends a message, CBOR, over the firmware's own carrier. Over CoAP it is not called.
    pub send: unsafe extern "C" fn(*mut c_void, kind: PhMessage, bytes: *const u8, len: usize),
}

/// The board, as flash, key and pages.
#[derive(Clone, Copy)]
pub(crate) struct Functions {
    board: PhBoard,
    key: DeviceKey,
    curve: Curve,
    slot: u32,
}

/// A function of the board gave this, and not 0.
#[derive(Debug, Clone, Copy)]
pub(crate) struct BoardError(#[expect(dead_code, reason = "shown by a debugger")] i32);

fn done(code: i32) -> Result<(), BoardError> {
    if code == 0 { Ok(()) } else { Err(BoardError(code)) }
}

impl Functions {
    pub(crate) fn new(board: &PhBoard, config: &PhConfig, curve: Curve) -> Self {
        Self { board: *board, key: DeviceKey::new(config.key), curve, slot: config.slot }
    }
}

impl Flash for Functions {
    type Error = BoardError;

    fn capacity(&self) -> u32 {
        self.slot
    }

    fn write(&mut self, offset: u32, bytes: &[u8]) -> Result<(), BoardError> {
        // SAFETY: `ph_open`'s caller promises functions that can be called; the bytes are a slice's.
        done(unsafe { (self.board.flash_write)(self.board.context, offset, bytes.as_ptr(), bytes.len()) })
    }

    fn sync(&mut self) -> Result<(), BoardError> {
        // SAFETY: as above.
        done(unsafe { (self.board.flash_sync)(self.board.context) })
    }

    fn read(&mut self, offset: u32, bytes: &mut [u8]) -> Result<(), BoardError> {
        // SAFETY: as above; the slice is borrowed for writing.
        done(unsafe { (self.board.flash_read)(self.board.context, offset, bytes.as_mut_ptr(), bytes.len()) })
    }

    fn activate(&mut self, image: &Verified) -> Result<(), BoardError> {
        let image =
            PhImage { version: image.version().get(), u_id: *image.u_id().as_bytes(), size: image.size() };
        // SAFETY: as above; the image lives for the call.
        done(unsafe { (self.board.flash_activate)(self.board.context, &image) })
    }
}

impl Pages for Functions {
    type Error = BoardError;

    fn read(&mut self, page: usize, bytes: &mut [u8]) -> Result<(), BoardError> {
        // SAFETY: as above; the slice is borrowed for writing.
        done(unsafe {
            (self.board.page_read)(self.board.context, page as u32, bytes.as_mut_ptr(), bytes.len())
        })
    }

    fn write(&mut self, page: usize, bytes: &[u8]) -> Result<(), BoardError> {
        // SAFETY: as above.
        done(unsafe { (self.board.page_write)(self.board.context, page as u32, bytes.as_ptr(), bytes.len()) })
    }
}

impl Key for Functions {
    type Error = BoardError;

    fn public(&self) -> DeviceKey {
        self.key
    }

    fn curve(&self) -> Curve {
        self.curve
    }

    fn sign(&mut self, digest: &Digest) -> Result<Signature, BoardError> {
        let mut signature = [0; 64];
        // SAFETY: as above; 32 bytes to read and 64 to write.
        done(unsafe {
            (self.board.sign)(self.board.context, digest.as_bytes().as_ptr(), signature.as_mut_ptr())
        })?;
        Ok(Signature::new(signature))
    }
}

/// Hands a message to the board's carrier.
pub(crate) fn encoded(board: &PhBoard, message: &Message) {
    let mut room = [0; 160];
    let (kind, written) = match message {
        Message::Hello(hello) => (PhMessage::Hello, hello.encode_into(&mut room)),
        Message::Signature(signature) => (PhMessage::Signature, signature.encode_into(&mut room)),
        Message::Refused(error) => (PhMessage::Refused, error.encode_into(&mut room)),
        Message::Get(get) => (PhMessage::Get, get.encode_into(&mut room)),
        Message::Status(status) => (PhMessage::Status, status.encode_into(&mut room)),
    };
    let bytes = written.expect("every message has room in its MAX_LEN");
    // SAFETY: as above.
    unsafe { (board.send)(board.context, kind, bytes.as_ptr(), bytes.len()) }
}
