//! Options whose values coap-lite reads too narrowly: its block numbers have 16 bits.

use coap_lite::{CoapOption, Packet};

/// An unsigned integer without leading zero bytes (RFC 7252 §3.2).
pub(super) fn uint(value: u32) -> Vec<u8> {
    let zeros = (value.leading_zeros() / 8) as usize;
    value.to_be_bytes()[zeros..].to_vec()
}

/// Reads such an integer, at most 4 bytes.
pub(super) fn read_uint(bytes: &[u8]) -> Option<u32> {
    (bytes.len() <= 4).then(|| bytes.iter().fold(0, |value, byte| (value << 8) | u32::from(*byte)))
}

/// A Block2 option: 20 bits of number, one of more, 3 of size exponent (RFC 7959 §2.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Block2 {
    number: u32,
    pub(super) more: bool,
    /// 0 to 6: 16 to 1024 bytes.
    szx: u8,
}

impl Block2 {
    /// The block at `offset` of the largest size that is at most `len`, and that the offset is a
    /// multiple of: offsets are multiples of 16.
    pub(super) fn at(offset: u32, len: u16) -> Self {
        let szx = (0..=6_u8)
            .rev()
            .find(|szx| {
                let size = 16_u32 << szx;
                size <= u32::from(len) && offset.is_multiple_of(size)
            })
            .unwrap_or(0);
        Self { number: offset >> (szx + 4), more: false, szx }
    }

    /// The option in a response; nothing if it is absent or no such option.
    pub(super) fn of(packet: &Packet) -> Option<Self> {
        let bytes = packet.get_first_option(CoapOption::Block2)?;
        let value = read_uint(bytes).filter(|_| bytes.len() <= 3)?;
        let szx = (value & 7) as u8;
        (szx < 7).then_some(Self { number: value >> 4, more: value & 8 != 0, szx })
    }

    /// Where the block begins.
    pub(super) fn offset(self) -> u32 {
        self.number << (self.szx + 4)
    }

    pub(super) fn to_bytes(self) -> Vec<u8> {
        uint((self.number << 4) | (u32::from(self.more) << 3) | u32::from(self.szx))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_beyond_16_bits_and_back() {
        for (offset, len) in [(0, 1024), (16 * 65_536, 16), (0xf_ffff * 16, 16), (512, 1024), (48, 64)] {
            let mut packet = Packet::new();
            packet.add_option(CoapOption::Block2, Block2::at(offset, len).to_bytes());
            assert_eq!(Block2::of(&packet).unwrap().offset(), offset);
        }
        assert_eq!(Block2::at(512, 1024).szx, 5, "an offset that is no multiple of the size");
    }

    #[test]
    fn integers_have_no_leading_zeros() {
        assert_eq!(uint(0), [0_u8; 0]);
        assert_eq!(uint(256), [1, 0]);
        assert_eq!(read_uint(&[1, 0, 0, 0, 0]), None);
    }
}
