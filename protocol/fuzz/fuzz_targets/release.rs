//! Releases: sealed ones under a key that signed none, so that what is reached is all that an attacker without the key can
//! reach, and payloads without their signature, whose fields anyone's vendor could sign.
#![no_main]

use libfuzzer_sys::fuzz_target;
use posthouse_protocol::id::ReleaseKey;
use posthouse_protocol::{release, wire};

/// The generator of P-256, whose scalar is 1.
const KEY: &str = "036b17d1f2e12c4247f8bce6e563a440f277037d812deb33a0f4a13945d898c296";

fn payload(bytes: &[u8]) {
    let release: Result<release::Release, _> = wire::decode(bytes, release::MAX_RELEASE);
    if let Ok(release) = release {
        assert_eq!(wire::to_vec(&release), bytes);
        let _ = release.check();
    }
}

fuzz_target!(|data: &[u8]| {
    let Some((pick, bytes)) = data.split_first() else { return };
    match pick % 2 {
        0 => payload(bytes),
        _ => {
            let key: ReleaseKey = KEY.parse().expect("66 digits");
            assert!(release::open(bytes, &key).is_err());
        }
    }
});
