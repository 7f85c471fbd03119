//! One byte picks a parser, the rest is its input. None may panic, and what one accepts must encode
//! to exactly what it read. Signed envelopes are parsed under a key that signed nothing, so what
//! they reach is all that an attacker without the key can reach.
#![no_main]

use libfuzzer_sys::fuzz_target;
use posthouse_protocol::id::ReleaseKey;
use posthouse_protocol::package::Package;
use posthouse_protocol::sensor::{
    Block, BlockRequest, ErrorMsg, Hello, SignRequest, SignatureMsg, Status, StatusReply,
};
use posthouse_protocol::{exchange, join, release, suit, wire};

/// The generator of P-256, whose scalar is 1.
const KEY: &str = "036b17d1f2e12c4247f8bce6e563a440f277037d812deb33a0f4a13945d898c296";

macro_rules! exact {
    ($type:ty, $bytes:expr) => {
        if let Ok(message) = <$type>::decode($bytes) {
            assert_eq!(message.to_vec(), $bytes);
            let mut room = vec![0; <$type>::MAX_LEN];
            assert_eq!(message.encode_into(&mut room), Ok($bytes));
        }
    };
}

/// A release without its signature: fields that anyone's vendor could sign.
fn payload(bytes: &[u8]) {
    let release: Result<release::Release, _> = wire::decode(bytes, release::MAX_RELEASE);
    if let Ok(release) = release {
        assert_eq!(wire::to_vec(&release), bytes);
        let _ = release.check();
    }
}

fuzz_target!(|data: &[u8]| {
    let Some((pick, bytes)) = data.split_first() else { return };
    let key: ReleaseKey = KEY.parse().expect("66 digits");
    match pick % 16 {
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
        12 => exact!(Package, bytes),
        13 => payload(bytes),
        14 => assert!(release::open(bytes, &key).is_err()),
        _ => assert!(suit::verify(bytes, &key).is_err()),
    }
});
