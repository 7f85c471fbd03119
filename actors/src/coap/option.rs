//! Values of options (RFC 7252 §3.2, RFC 7959 §2.2).

use coap_lite::{CoapOption, Packet};

/// Exponent of the largest block, 1024 bytes.
pub(super) const MAX_SZX: u8 = 6;

/// The value of an option is not one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct BadOption;

/// An unsigned integer in as few bytes as it needs.
pub(super) fn uint(value: u32) -> Vec<u8> {
    let zeros = (value.leading_zeros() / 8) as usize;
    value.to_be_bytes()[zeros..].to_vec()
}

/// Reads an unsigned integer of at most `max` bytes; leading zero bytes are allowed.
pub(super) fn read_uint(bytes: &[u8], max: usize) -> Result<u32, BadOption> {
    if bytes.len() > max.min(4) {
        return Err(BadOption);
    }
    Ok(bytes.iter().fold(0, |value, byte| (value << 8) | u32::from(*byte)))
}

/// A Block1 or Block2 option. coap-lite's own type holds 16 bits, four of which are no number: its
/// blocks end at 4095, which is 64 KiB at 16 bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BlockOption {
    /// Place of the block, 20 bits.
    pub number: u32,
    /// Whether there are more.
    pub more: bool,
    /// 0 to 6; blocks of `16 << szx` bytes.
    pub szx: u8,
}

impl BlockOption {
    /// Largest number.
    pub const MAX_NUMBER: u32 = (1 << 20) - 1;

    /// Bytes of a block.
    pub fn size(self) -> u16 {
        16 << self.szx
    }

    /// Where the block begins.
    pub fn offset(self) -> u64 {
        u64::from(self.number) * u64::from(self.size())
    }

    /// The same place in blocks that are no larger than `16 << szx` bytes.
    pub fn no_larger(self, szx: u8) -> Self {
        let szx = self.szx.min(szx);
        Self { number: self.number << (self.szx - szx), more: self.more, szx }
    }

    /// The option in a packet, if it is there.
    pub(super) fn of(packet: &Packet, option: CoapOption) -> Result<Option<Self>, BadOption> {
        let Some(bytes) = packet.get_first_option(option) else { return Ok(None) };
        let value = read_uint(bytes, 3)?;
        let szx = (value & 7) as u8;
        // 7 is reserved (RFC 8323 uses it over TCP).
        let valid = szx <= MAX_SZX;
        let block = Self { number: value >> 4, more: value & 8 != 0, szx };
        if valid { Ok(Some(block)) } else { Err(BadOption) }
    }

    pub(super) fn to_bytes(self) -> Vec<u8> {
        uint((self.number << 4) | (u32::from(self.more) << 3) | u32::from(self.szx))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(bytes: &[u8]) -> Result<Option<BlockOption>, BadOption> {
        let mut packet = Packet::new();
        packet.add_option(CoapOption::Block2, bytes.to_vec());
        BlockOption::of(&packet, CoapOption::Block2)
    }

    #[test]
    fn the_examples_of_rfc_7959() {
        // §3.1, figure 2: 2:0/1/128 and 2:3/0/128.
        assert_eq!(read(&[0x0b]), Ok(Some(BlockOption { number: 0, more: true, szx: 3 })));
        assert_eq!(read(&[0x33]), Ok(Some(BlockOption { number: 3, more: false, szx: 3 })));
        assert_eq!(BlockOption { number: 3, more: false, szx: 3 }.to_bytes(), [0x33]);
        assert_eq!(read(&[]), Ok(Some(BlockOption { number: 0, more: false, szx: 0 })));
        assert_eq!(BlockOption { number: 0, more: false, szx: 0 }.to_bytes(), [0_u8; 0]);
    }

    #[test]
    fn numbers_beyond_4095_and_65535_up_to_20_bits() {
        for number in [4095, 4096, 65_535, 65_536, BlockOption::MAX_NUMBER] {
            let block = BlockOption { number, more: true, szx: 6 };
            assert_eq!(read(&block.to_bytes()), Ok(Some(block)));
            assert_eq!(block.offset(), u64::from(number) * 1024);
        }
        assert_eq!(read(&[0xff, 0xff, 0xfe]).unwrap().unwrap().number, BlockOption::MAX_NUMBER);
    }

    #[test]
    fn reserved_sizes_and_long_values_are_refused() {
        assert_eq!(read(&[0x07]), Err(BadOption));
        assert_eq!(read(&[0, 0, 0, 0]), Err(BadOption));
    }

    #[test]
    fn a_smaller_size_keeps_the_place() {
        let block = BlockOption { number: 3, more: false, szx: 6 };
        assert_eq!(block.no_larger(2), BlockOption { number: 48, more: false, szx: 2 });
        assert_eq!(block.no_larger(2).offset(), block.offset());
        assert_eq!(block.no_larger(6), block);
    }
}
