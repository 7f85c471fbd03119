//! Signed digests with pinned bytes, and what a device key's verification refuses.

use std::fmt::Write as _;

use posthouse_protocol::digest;
use posthouse_protocol::id::{
    Attempt, Curve, DeviceKey, Digest, LockHash, Payee, PeerHash, Signature, Version,
};
use posthouse_protocol::key::{self, KeyError, SignatureError, SigningKey};
use posthouse_protocol::secret::{KeyR, PayloadKey, PreimageT};
use sha2::{Digest as _, Sha256};

use crate::cases::{BOUNTY, CHAIN, PAYEE, U_ID, device, product};

const GATEWAY: PeerHash = PeerHash::new([0x33; 32]);
const LOCK: LockHash = LockHash::new([0x22; 32]);
const C: [u8; 32] = [0x77; 32];

/// Every purpose: its name, the digest, and the bytes that are hashed, put together by hand.
fn purposes() -> [(&'static str, Digest, Vec<u8>); 5] {
    let chain = 31_337u64.to_be_bytes();
    let version = Version::new(7);
    let bounty = BOUNTY.as_bytes().as_slice();
    let payee = PAYEE.as_bytes().as_slice();
    [
        (
            "delegation",
            digest::delegation(CHAIN, &BOUNTY, &GATEWAY),
            [b"posthouse/delegate/1", chain.as_slice(), bounty, GATEWAY.as_ref()].concat(),
        ),
        (
            "challenge",
            digest::challenge(CHAIN, &BOUNTY, &PAYEE, &C),
            [b"posthouse/auth/1", chain.as_slice(), bounty, payee, &C].concat(),
        ),
        (
            "receipt",
            digest::receipt(CHAIN, &BOUNTY, &PAYEE, &U_ID, &LOCK, Attempt::new(1)),
            [b"posthouse/receipt/1", chain.as_slice(), bounty, payee, U_ID.as_ref(), LOCK.as_ref(), &[1]]
                .concat(),
        ),
        (
            "installed",
            digest::installed(&product(), version, &U_ID),
            [
                b"posthouse/installed/1",
                product().as_ref(),
                version.get().to_be_bytes().as_slice(),
                U_ID.as_ref(),
            ]
            .concat(),
        ),
        (
            "join",
            digest::join(CHAIN, &BOUNTY, &PAYEE, &GATEWAY),
            [b"posthouse/join/1", chain.as_slice(), bounty, payee, GATEWAY.as_ref()].concat(),
        ),
    ]
}

/// What `testdata/signatures.txt` holds.
pub(crate) fn render() -> String {
    let mut text = String::from(
        "# Signed digests: what is hashed (tag, then fields), its SHA-256, and RFC 6979 signatures\n\
         # r || s with low s by the private scalar 1717…17 on both curves.\n",
    );
    for curve in [Curve::Secp256k1, Curve::P256] {
        writeln!(text, "key {curve} {}", device(curve).device_key()).unwrap();
    }
    for (name, digest, hashed) in purposes() {
        writeln!(text, "\n{name}\n  hashed {}\n  digest {digest}", hex::encode(hashed)).unwrap();
        for curve in [Curve::Secp256k1, Curve::P256] {
            writeln!(text, "  {curve} {}", device(curve).sign(&digest)).unwrap();
        }
    }
    text
}

#[test]
fn digests_hash_tag_and_fields_in_order() {
    for (name, digest, hashed) in purposes() {
        assert_eq!(digest.as_bytes().as_slice(), Sha256::digest(hashed).as_slice(), "{name}");
    }
}

#[test]
fn r_and_s_are_hashes_of_payee_t_and_r() {
    let t = PreimageT::new([9; 32]);
    let r = KeyR::derive(&PAYEE, &t);
    let expected = Sha256::digest([PAYEE.as_bytes().as_slice(), &[9; 32]].concat());
    assert_eq!(r.as_bytes().as_slice(), expected.as_slice());
    assert_eq!(r.lock().as_bytes().as_slice(), Sha256::digest(expected).as_slice());
    assert_ne!(r, KeyR::derive(&Payee::new([0; 20]), &t));
}

#[test]
fn secrets_do_not_print() {
    let shown = format!(
        "{:?} {:?} {:?} {:?}",
        PreimageT::new([0xab; 32]),
        KeyR::new([0xab; 32]),
        PayloadKey::new([0xab; 32]),
        SigningKey::from_bytes(Curve::P256, &[0xab; 32]).unwrap(),
    );
    assert_eq!(shown, "PreimageT(…) KeyR(…) PayloadKey(…) SigningKey(p256, …)");
}

/// Order of the curve's group, big-endian.
fn order(curve: Curve) -> [u8; 32] {
    let hex = match curve {
        Curve::Secp256k1 => "fffffffffffffffffffffffffffffffebaaedce6af48a03bbfd25e8cd0364141",
        Curve::P256 => "ffffffff00000000ffffffffffffffffbce6faada7179e84f3b9cac2fc632551",
    };
    hex::decode(hex).unwrap().try_into().unwrap()
}

/// The other `s` of the same signature: `n - s`.
fn high_s(curve: Curve, signature: &Signature) -> Signature {
    let mut bytes = signature.to_bytes();
    let mut borrow = 0i16;
    for (n, s) in order(curve).iter().zip(&mut bytes[32..]).rev() {
        let difference = i16::from(*n) - i16::from(*s) - borrow;
        borrow = i16::from(difference < 0);
        *s = difference.rem_euclid(256) as u8;
    }
    Signature::new(bytes)
}

fn each_curve(check: impl Fn(Curve, SigningKey, Digest)) {
    for curve in [Curve::Secp256k1, Curve::P256] {
        check(curve, device(curve), Digest::new([5; 32]));
    }
}

#[test]
fn a_signature_verifies_only_for_its_key_digest_and_curve() {
    each_curve(|curve, key, digest| {
        let signature = key.sign(&digest);
        let own = key.device_key();
        let other = SigningKey::from_bytes(curve, &[0x18; 32]).unwrap().device_key();
        let mismatch = Err(SignatureError::Mismatch);
        assert_eq!(key::verify(curve, &own, &digest, &signature), Ok(()));
        assert_eq!(key::verify(curve, &other, &digest, &signature), mismatch);
        assert_eq!(key::verify(curve, &own, &Digest::new([6; 32]), &signature), mismatch);
    });
    let (k1, p256) = (device(Curve::Secp256k1), device(Curve::P256));
    let digest = Digest::new([5; 32]);
    assert!(key::verify(Curve::P256, &k1.device_key(), &digest, &k1.sign(&digest)).is_err());
    assert!(key::verify(Curve::Secp256k1, &p256.device_key(), &digest, &p256.sign(&digest)).is_err());
}

/// The paper's device signs a raw challenge, and its receipt is over `U_id ‖ s` (4.4.3): a distributor that chooses the one to
/// be the other is paid without delivering. Here neither those bytes, nor a challenge or a delegation made of them, is a
/// receipt.
#[test]
fn a_challenge_chosen_to_be_a_receipt_is_none() {
    let receipt = digest::receipt(CHAIN, &BOUNTY, &PAYEE, &U_ID, &LOCK, Attempt::new(1));
    let chosen: [u8; 32] = Sha256::new().chain_update(U_ID).chain_update(LOCK).finalize().into();
    let signed = [
        Digest::new(chosen),
        digest::challenge(CHAIN, &BOUNTY, &PAYEE, &chosen),
        digest::challenge(CHAIN, &BOUNTY, &PAYEE, &LOCK.to_bytes()),
        digest::delegation(CHAIN, &BOUNTY, &PeerHash::new(chosen)),
    ];
    each_curve(|curve, key, _| {
        for digest in &signed {
            let verified = key::verify(curve, &key.device_key(), &receipt, &key.sign(digest));
            assert_eq!(verified, Err(SignatureError::Mismatch));
        }
    });
}

#[test]
fn the_other_half_of_s_is_refused() {
    each_curve(|curve, key, digest| {
        let high = high_s(curve, &key.sign(&digest));
        let result = key::verify(curve, &key.device_key(), &digest, &high);
        assert_eq!(result, Err(SignatureError::HighS));
    });
}

#[test]
fn zero_and_out_of_range_scalars_are_refused() {
    each_curve(|curve, key, digest| {
        let good = key.sign(&digest).to_bytes();
        let with = |at: usize, scalar: [u8; 32]| {
            let mut bytes = good;
            bytes[at..at + 32].copy_from_slice(&scalar);
            key::verify(curve, &key.device_key(), &digest, &Signature::new(bytes))
        };
        for (at, scalar) in [(0, [0; 32]), (32, [0; 32]), (0, order(curve)), (32, [0xff; 32])] {
            assert_eq!(with(at, scalar), Err(SignatureError::Range), "{curve} {at}");
        }
        assert_eq!(SigningKey::from_bytes(curve, &[0; 32]).unwrap_err(), KeyError::Range(curve));
        let order = SigningKey::from_bytes(curve, &order(curve));
        assert_eq!(order.unwrap_err(), KeyError::Range(curve));
    });
}

#[test]
fn keys_that_are_not_compressed_points_are_refused() {
    each_curve(|curve, key, digest| {
        let signature = key.sign(&digest);
        let good = key.device_key().to_bytes();
        let mut compact = good;
        compact[0] = 5;
        let mut uncompressed = good;
        uncompressed[0] = 4;
        // x = p + 1 or more: not an element of the field.
        let off_field = {
            let mut k = [0xff; 33];
            k[0] = 2;
            k
        };
        let off_curve = (0..=255u8)
            .map(|last| {
                let mut k = good;
                k[32] = last;
                DeviceKey::new(k)
            })
            .find(|k| key::check_key(curve, k).is_err())
            .expect("half of all x have no point");
        let refused = Err(SignatureError::Key(curve));
        for bad in [compact, uncompressed, off_field, [0; 33], off_curve.to_bytes()] {
            let bad = DeviceKey::new(bad);
            assert_eq!(key::verify(curve, &bad, &digest, &signature), refused, "{bad}");
        }
    });
}

#[test]
fn signatures_are_low_s_and_deterministic() {
    each_curve(|curve, key, _| {
        for i in 0..64 {
            let digest = Digest::new([i; 32]);
            let signature = key.sign(&digest);
            assert_eq!(key.sign(&digest), signature);
            assert_eq!(key::verify(curve, &key.device_key(), &digest, &signature), Ok(()));
        }
    });
}

#[test]
fn generation_draws_until_a_scalar_fits_and_gives_up_on_a_broken_source() {
    let mut draws = [[0; 32], [0xff; 32], [0x17; 32]].into_iter();
    let key = SigningKey::generate(Curve::P256, |b| *b = draws.next().unwrap()).unwrap();
    assert_eq!(key.device_key(), device(Curve::P256).device_key());
    assert_eq!(key.to_bytes(), [0x17; 32]);
    let broken = SigningKey::generate(Curve::Secp256k1, |b| *b = [0; 32]);
    assert_eq!(broken.unwrap_err(), KeyError::Range(Curve::Secp256k1));
}
