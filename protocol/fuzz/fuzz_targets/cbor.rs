//! One byte picks a message, the rest is its input: all that sensors, gateways, distributors and vendors say to each other.
//! No decoder may panic, and what one accepts must encode to exactly what it read.
#![no_main]

use libfuzzer_sys::fuzz_target;
use posthouse_protocol::package::Package;
use posthouse_protocol::sensor::{
    Block, BlockRequest, ErrorMsg, Hello, SignRequest, SignatureMsg, Status, StatusReply,
};
use posthouse_protocol::{exchange, join};

macro_rules! exact {
    ($type:ty, $bytes:expr) => {
        if let Ok(message) = <$type>::decode($bytes) {
            assert_eq!(message.to_vec(), $bytes);
            let mut room = vec![0; <$type>::MAX_LEN];
            assert_eq!(message.encode_into(&mut room), Ok($bytes));
        }
    };
}

fuzz_target!(|data: &[u8]| {
    let Some((pick, bytes)) = data.split_first() else { return };
    match pick % 13 {
        0 => exact!(exchange::Request, bytes),
        1 => exact!(exchange::Response, bytes),
        2 => exact!(join::Request, bytes),
        3 => exact!(join::Response, bytes),
        4 => exact!(Hello, bytes),
        5 => exact!(SignRequest, bytes),
        6 => exact!(SignatureMsg, bytes),
        7 => exact!(BlockRequest, bytes),
        8 => exact!(Block<'_>, bytes),
        9 => exact!(Status, bytes),
        10 => exact!(StatusReply, bytes),
        11 => exact!(ErrorMsg, bytes),
        _ => exact!(Package, bytes),
    }
});
