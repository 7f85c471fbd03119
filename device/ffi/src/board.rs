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
#[repr(u32)]
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
/// `Flash`, `Key` and `Pages` in `device/README.md` holds here: what is durable when, and what may be torn. All but
/// `flash_sync` and `send` are needed: where one is null `ph_open` gives `PH_RESULT_INVALID`.
///
/// A function of the board must not call the library with the device that it was called for: it is given `PH_RESULT_INVALID`,
/// and nothing happens. What came of a `send` is handed in after the call that has sent it has returned.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct PhBoard {
    /// The firmware's own.
    pub context: *mut c_void,
    /// Writes to the spare slot.
    pub flash_write:
        Option<unsafe extern "C" fn(*mut c_void, offset: u32, bytes: *const u8, len: usize) -> i32>,
    /// Makes what was written durable; null where it is once `flash_write` has returned.
    pub flash_sync: Option<unsafe extern "C" fn(*mut c_void) -> i32>,
    /// Reads from the spare slot.
    pub flash_read: Option<unsafe extern "C" fn(*mut c_void, offset: u32, bytes: *mut u8, len: usize) -> i32>,
    /// Makes the spare slot the one that boots, in one step.
    pub flash_activate: Option<unsafe extern "C" fn(*mut c_void, image: *const PhImage) -> i32>,
    /// Reads page 0 or 1 of the state, `PH_PAGE_LEN` bytes. A page that was never written, or is torn, reads as anything.
    pub page_read: Option<unsafe extern "C" fn(*mut c_void, page: u32, bytes: *mut u8, len: usize) -> i32>,
    /// Overwrites page 0 or 1 of the state; durable when it returns.
    pub page_write: Option<unsafe extern "C" fn(*mut c_void, page: u32, bytes: *const u8, len: usize) -> i32>,
    /// ECDSA by the device key over 32 bytes as they are: r and s, 64 bytes, low s.
    pub sign: Option<unsafe extern "C" fn(*mut c_void, digest: *const u8, signature: *mut u8) -> i32>,
    /// Sends a message, CBOR, over the firmware's own carrier. Over CoAP only `ph_tick` calls it, and what it gets may be
    /// dropped: the next wake says it again. Null drops everything.
    pub send: Option<unsafe extern "C" fn(*mut c_void, kind: PhMessage, bytes: *const u8, len: usize)>,
}

/// Fills the bytes from a place.
type Read = unsafe extern "C" fn(*mut c_void, u32, *mut u8, usize) -> i32;
/// Writes the bytes to a place.
type Write = unsafe extern "C" fn(*mut c_void, u32, *const u8, usize) -> i32;

/// The board, as flash, key and pages: of its functions those that are needed are there.
#[derive(Clone, Copy)]
pub(crate) struct Functions {
    context: *mut c_void,
    flash_write: Write,
    flash_sync: Option<unsafe extern "C" fn(*mut c_void) -> i32>,
    flash_read: Read,
    flash_activate: unsafe extern "C" fn(*mut c_void, *const PhImage) -> i32,
    page_read: Read,
    page_write: Write,
    sign: unsafe extern "C" fn(*mut c_void, *const u8, *mut u8) -> i32,
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
    /// Nothing if a function that is needed is null.
    pub(crate) fn new(board: &PhBoard, config: &PhConfig, curve: Curve) -> Option<Self> {
        Some(Self {
            context: board.context,
            flash_write: board.flash_write?,
            flash_sync: board.flash_sync,
            flash_read: board.flash_read?,
            flash_activate: board.flash_activate?,
            page_read: board.page_read?,
            page_write: board.page_write?,
            sign: board.sign?,
            key: DeviceKey::new(config.key),
            curve,
            slot: config.slot,
        })
    }
}

impl Flash for Functions {
    type Error = BoardError;

    fn capacity(&self) -> u32 {
        self.slot
    }

    fn write(&mut self, offset: u32, bytes: &[u8]) -> Result<(), BoardError> {
        // SAFETY: `ph_open`'s caller promises functions that can be called; the bytes are a slice's.
        done(unsafe { (self.flash_write)(self.context, offset, bytes.as_ptr(), bytes.len()) })
    }

    fn sync(&mut self) -> Result<(), BoardError> {
        // SAFETY: as above.
        self.flash_sync.map_or(Ok(()), |sync| done(unsafe { sync(self.context) }))
    }

    fn read(&mut self, offset: u32, bytes: &mut [u8]) -> Result<(), BoardError> {
        // SAFETY: as above; the slice is borrowed for writing.
        done(unsafe { (self.flash_read)(self.context, offset, bytes.as_mut_ptr(), bytes.len()) })
    }

    fn activate(&mut self, image: &Verified) -> Result<(), BoardError> {
        let image =
            PhImage { version: image.version().get(), u_id: *image.u_id().as_bytes(), size: image.size() };
        // SAFETY: as above; the image lives for the call.
        done(unsafe { (self.flash_activate)(self.context, &image) })
    }
}

impl Pages for Functions {
    type Error = BoardError;

    fn read(&mut self, page: usize, bytes: &mut [u8]) -> Result<(), BoardError> {
        // SAFETY: as above; the slice is borrowed for writing.
        done(unsafe { (self.page_read)(self.context, page as u32, bytes.as_mut_ptr(), bytes.len()) })
    }

    fn write(&mut self, page: usize, bytes: &[u8]) -> Result<(), BoardError> {
        // SAFETY: as above.
        done(unsafe { (self.page_write)(self.context, page as u32, bytes.as_ptr(), bytes.len()) })
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
        done(unsafe { (self.sign)(self.context, digest.as_bytes().as_ptr(), signature.as_mut_ptr()) })?;
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
    if let Some(send) = board.send {
        // SAFETY: as above.
        unsafe { send(board.context, kind, bytes.as_ptr(), bytes.len()) }
    }
}
