//! CoAP messages (RFC 7252 §3): written to a buffer and read from one, nothing copied.

/// Longest request that [`super::Coap`] writes: a hello or a status with its path and an Echo.
pub const MAX_REQUEST: usize = 384;
/// Bytes of our tokens.
pub(super) const TOKEN: usize = 4;
/// Most bytes of an Echo (RFC 9175 §2.2.1).
pub(super) const MAX_ECHO: usize = 40;

pub(super) const GET: u8 = 1;
pub(super) const POST: u8 = 2;
pub(super) const EMPTY: u8 = 0;
pub(super) const CONTENT: u8 = code(2, 5);
pub(super) const UNAUTHORIZED: u8 = code(4, 1);

/// Options by number; odd ones are critical (RFC 7252 §5.4.1).
pub(super) mod option {
    pub(crate) const ETAG: u16 = 4;
    pub(crate) const URI_PATH: u16 = 11;
    pub(crate) const CONTENT_FORMAT: u16 = 12;
    pub(crate) const MAX_AGE: u16 = 14;
    pub(crate) const URI_QUERY: u16 = 15;
    pub(crate) const BLOCK2: u16 = 23;
    pub(crate) const ECHO: u16 = 252;
}

const fn code(class: u8, detail: u8) -> u8 {
    class << 5 | detail
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Confirmable,
    NonConfirmable,
    Acknowledgement,
    Reset,
}

impl Kind {
    fn of(bits: u8) -> Self {
        match bits & 3 {
            0 => Self::Confirmable,
            1 => Self::NonConfirmable,
            2 => Self::Acknowledgement,
            _ => Self::Reset,
        }
    }
}

/// A message without token, options and payload.
pub(super) fn empty(out: &mut [u8; MAX_REQUEST], kind: Kind, id: u16) -> usize {
    let [high, low] = id.to_be_bytes();
    out[..4].copy_from_slice(&[0x40 | (kind as u8) << 4, EMPTY, high, low]);
    4
}

/// A Block2 option: 20 bits of number, one of more, 3 of size exponent (RFC 7959 §2.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Block2 {
    pub(super) offset: u32,
    pub(super) more: bool,
    /// 0 to 6: 16 to 1024 bytes.
    szx: u8,
}

impl Block2 {
    /// The largest block at `offset`, a multiple of 16, of at most `len` bytes.
    pub(super) fn at(offset: u32, len: u16) -> Self {
        let fits = |szx: &u8| 16 << szx <= u32::from(len) && offset.is_multiple_of(16 << szx);
        Self { offset, more: false, szx: (0..=6).rev().find(fits).unwrap_or(0) }
    }

    fn read(bytes: &[u8]) -> Option<Self> {
        let value = uint(bytes).filter(|_| bytes.len() <= 3)?;
        let szx = (value & 7) as u8;
        (szx < 7).then_some(Self { offset: (value >> 4) << (szx + 4), more: value & 8 != 0, szx })
    }

    fn value(self) -> u32 {
        (self.offset >> (self.szx + 4)) << 4 | u32::from(self.more) << 3 | u32::from(self.szx)
    }
}

/// An unsigned integer, big-endian (RFC 7252 §3.2).
fn uint(bytes: &[u8]) -> Option<u32> {
    (bytes.len() <= 4).then(|| bytes.iter().fold(0, |value, byte| value << 8 | u32::from(*byte)))
}

/// Writes a confirmable request. Options come in the order of their numbers.
pub(super) struct Writer<'o> {
    out: &'o mut [u8; MAX_REQUEST],
    len: usize,
    last: u16,
}

impl<'o> Writer<'o> {
    pub(super) fn new(out: &'o mut [u8; MAX_REQUEST], code: u8, id: u16, token: [u8; TOKEN]) -> Self {
        let [high, low] = id.to_be_bytes();
        out[..4].copy_from_slice(&[0x40 | TOKEN as u8, code, high, low]);
        out[4..4 + TOKEN].copy_from_slice(&token);
        Self { out, len: 4 + TOKEN, last: 0 }
    }

    pub(super) fn option(&mut self, number: u16, value: &[u8]) {
        let (delta, delta_ext) = extended(number - self.last);
        let (len, len_ext) = extended(value.len() as u16);
        self.put(&[delta << 4 | len]);
        for (nibble, ext) in [(delta, delta_ext), (len, len_ext)] {
            match nibble {
                13 => self.put(&[ext as u8]),
                14 => self.put(&ext.to_be_bytes()),
                _ => {}
            }
        }
        self.put(value);
        self.last = number;
    }

    pub(super) fn uint(&mut self, number: u16, value: u32) {
        let zeros = value.leading_zeros() as usize / 8;
        self.option(number, &value.to_be_bytes()[zeros..]);
    }

    pub(super) fn block2(&mut self, block: Block2) {
        self.uint(option::BLOCK2, block.value());
    }

    /// `write` puts the payload to the front of the room that is left.
    pub(super) fn payload(&mut self, write: impl FnOnce(&mut [u8]) -> usize) {
        self.put(&[0xff]);
        self.len += write(&mut self.out[self.len..]);
    }

    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// Nothing that is written here is longer than [`MAX_REQUEST`]; what were, would be cut off.
    fn put(&mut self, bytes: &[u8]) {
        let room = &mut self.out[self.len..];
        debug_assert!(bytes.len() <= room.len());
        let len = bytes.len().min(room.len());
        room[..len].copy_from_slice(&bytes[..len]);
        self.len += len;
    }
}

/// Nibble and extension of an option's delta or length (RFC 7252 §3.1).
fn extended(value: u16) -> (u8, u16) {
    match value {
        0..13 => (value as u8, 0),
        13..269 => (13, value - 13),
        _ => (14, value - 269),
    }
}

/// A message that came.
#[derive(Debug, Clone, Copy)]
pub(super) struct Incoming<'b> {
    pub(super) kind: Kind,
    pub(super) code: u8,
    pub(super) id: u16,
    pub(super) token: &'b [u8],
    pub(super) etag: Option<&'b [u8]>,
    pub(super) max_age: Option<u32>,
    pub(super) block2: Option<Block2>,
    pub(super) echo: Option<&'b [u8]>,
    pub(super) payload: &'b [u8],
}

impl<'b> Incoming<'b> {
    /// Reads a datagram; nothing if it is no CoAP, or has a critical option that is not known here.
    pub(super) fn read(datagram: &'b [u8]) -> Option<Self> {
        let (&[first, code, high, low], rest) = datagram.split_first_chunk()?;
        let token_len = usize::from(first & 0xf);
        if first >> 6 != 1 || token_len > 8 {
            return None;
        }
        let (token, mut rest) = rest.split_at_checked(token_len)?;
        let mut message = Self {
            kind: Kind::of(first >> 4),
            code,
            id: u16::from_be_bytes([high, low]),
            token,
            etag: None,
            max_age: None,
            block2: None,
            echo: None,
            payload: &[],
        };
        let mut number = 0_u16;
        while let Some((&head, tail)) = rest.split_first() {
            if head == 0xff {
                message.payload = tail;
                return (!tail.is_empty()).then_some(message);
            }
            let (delta, tail) = extension(head >> 4, tail)?;
            let (len, tail) = extension(head & 0xf, tail)?;
            let (value, tail) = tail.split_at_checked(len.into())?;
            number = number.checked_add(delta)?;
            message.take(number, value)?;
            rest = tail;
        }
        Some(message)
    }

    fn take(&mut self, number: u16, value: &'b [u8]) -> Option<()> {
        match number {
            option::ETAG if value.len() <= 8 => self.etag = Some(value),
            option::MAX_AGE => self.max_age = uint(value),
            option::BLOCK2 => self.block2 = Some(Block2::read(value)?),
            option::ECHO if value.len() <= MAX_ECHO => self.echo = Some(value),
            critical if critical % 2 == 1 => return None,
            _ => {}
        }
        Some(())
    }

    /// Whether the code is of the classes 2 to 5.
    pub(super) fn is_response(&self) -> bool {
        matches!(self.code >> 5, 2..=5)
    }
}

fn extension(nibble: u8, bytes: &[u8]) -> Option<(u16, &[u8])> {
    match nibble {
        13 => bytes.split_first().map(|(byte, rest)| (u16::from(*byte) + 13, rest)),
        14 => {
            let (word, rest) = bytes.split_first_chunk()?;
            Some((u16::from_be_bytes(*word).checked_add(269)?, rest))
        }
        15 => None,
        short => Some((short.into(), bytes)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn blocks_beyond_16_bits_and_back() {
        for (offset, len) in [(0, 1024), (16 * 65_536, 16), (0xf_ffff * 16, 16), (512, 1024), (48, 64)] {
            let bytes = Block2::at(offset, len).value().to_be_bytes();
            assert_eq!(Block2::read(&bytes[1..]).unwrap().offset, offset);
        }
        assert_eq!(Block2::at(512, 1024).szx, 5, "an offset that is no multiple of the size");
    }

    #[test]
    fn a_request_reads_as_it_was_written() {
        let mut out = [0; MAX_REQUEST];
        let mut writer = Writer::new(&mut out, CONTENT, 0x1234, *b"abcd");
        writer.option(option::ETAG, b"tag");
        writer.uint(option::MAX_AGE, 70_000);
        writer.block2(Block2::at(2048, 1024));
        writer.option(option::ECHO, &[7; 40]);
        writer.payload(|room| {
            room[..2].copy_from_slice(b"hi");
            2
        });
        let len = writer.len();
        let read = Incoming::read(&out[..len]).unwrap();
        assert_eq!((read.kind, read.code, read.id), (Kind::Confirmable, CONTENT, 0x1234));
        assert_eq!((read.token, read.etag, read.max_age), (&b"abcd"[..], Some(&b"tag"[..]), Some(70_000)));
        assert_eq!(read.block2.unwrap().offset, 2048);
        assert_eq!((read.echo, read.payload), (Some(&[7; 40][..]), &b"hi"[..]));
    }

    #[test]
    fn what_is_no_message_is_refused() {
        let ack = [0x60, 0x45, 0, 1];
        assert!(Incoming::read(&ack).is_some());
        for bad in [
            &[][..],
            &[0x60, 0x45, 0],
            &[0x20, 0x45, 0, 1],              // version 0
            &[0x69, 0x45, 0, 1, 0, 0, 0],     // a token of 9 bytes
            &[0x60, 0x45, 0, 1, 0xff],        // a marker without payload
            &[0x60, 0x45, 0, 1, 0xf0],        // a reserved delta
            &[0x60, 0x45, 0, 1, 0x42, 1],     // an option cut off
            &[0x60, 0x45, 0, 1, 0x90],        // critical option 9
            &[0x60, 0x45, 0, 1, 0xd1, 10, 7], // Block2 with the reserved size
            &[0x60, 0x45, 0, 1, 0xe0, 0xff, 0xff],
        ] {
            assert!(Incoming::read(bad).is_none(), "{bad:02x?}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn no_datagram_makes_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..64)) {
            let _ = Incoming::read(&bytes);
            let mut message = vec![0x64, 0x45, 0, 1, 1, 2, 3, 4];
            message.extend_from_slice(&bytes);
            let _ = Incoming::read(&message);
        }
    }
}
