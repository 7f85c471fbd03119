//! SUIT envelopes. One byte picks what is made of the rest: an envelope as it is; one of ours, changed after it was signed;
//! one of ours, its manifest changed and then signed; any bytes as a manifest, signed. The last two are what only the vendor
//! could send, so that the fuzzer reaches what is behind digest and signature.
//!
//! None may panic. What was not signed is refused, and what is accepted is exactly what [`suit::build`] writes.
#![no_main]

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use minicbor::data::Tag;
use minicbor::{Decoder, Encoder};
use p256::ecdsa::signature::hazmat::PrehashSigner as _;
use posthouse_protocol::cose::ReleaseSigningKey;
use posthouse_protocol::id::{ProductId, ReleaseKey, UpdateId, Version};
use posthouse_protocol::suit::{self, Manifest};
use sha2::{Digest as _, Sha256};

const SCALAR: [u8; 32] = [0x77; 32];
/// Sequence, product, image digest and size.
const FIELDS: usize = 8 + 32 + 32 + 4;

/// Made once: points cost more than all else here.
static KEY: LazyLock<(ReleaseSigningKey, ReleaseKey)> = LazyLock::new(|| {
    let key = ReleaseSigningKey::from_bytes(&SCALAR).expect("a scalar of P-256");
    let public = key.release_key();
    (key, public)
});
static RAW_KEY: LazyLock<p256::ecdsa::SigningKey> =
    LazyLock::new(|| p256::ecdsa::SigningKey::from_slice(&SCALAR).expect("a scalar of P-256"));

fn manifest(fields: &[u8]) -> Manifest {
    let word = |at: usize| fields[at..at + 32].try_into().expect("32 bytes");
    Manifest {
        sequence: Version::new(u64::from_be_bytes(fields[..8].try_into().expect("8 bytes"))),
        product: ProductId::new(word(8)),
        u_id: UpdateId::new(word(40)),
        size: u32::from_be_bytes(fields[72..FIELDS].try_into().expect("4 bytes")),
    }
}

/// Changes bytes: each change is a place, 16 bits, what to do there, and a byte to do it with.
fn change(mut bytes: Vec<u8>, changes: &[u8]) -> Vec<u8> {
    for change in changes.chunks_exact(4).take(16) {
        let at = usize::from(u16::from_be_bytes([change[0], change[1]])) % (bytes.len() + 1);
        match change[2] % 4 {
            0 if at < bytes.len() => bytes[at] = change[3],
            1 => bytes.insert(at, change[3]),
            2 if at < bytes.len() => drop(bytes.remove(at)),
            _ => bytes.truncate(at),
        }
    }
    bytes
}

/// The manifest within an envelope.
fn body(envelope: &[u8]) -> Result<Vec<u8>, minicbor::decode::Error> {
    let mut d = Decoder::new(envelope);
    (d.tag()?, d.map()?, d.u8()?, d.bytes()?, d.u8()?);
    d.bytes().map(<[u8]>::to_vec)
}

fn encoded(write: impl FnOnce(&mut Encoder<Vec<u8>>)) -> Vec<u8> {
    let mut encoder = Encoder::new(Vec::new());
    write(&mut encoder);
    encoder.into_writer()
}

/// An envelope of any manifest, with digest and signature as they should be (draft-ietf-suit-manifest, 8.3; RFC 9052, 4.4).
fn signed(manifest: &[u8]) -> Vec<u8> {
    let wrapped = encoded(|e| drop(e.bytes(manifest)));
    let digest = encoded(|e| drop(e.array(2).and_then(|e| e.i8(-16)?.bytes(&Sha256::digest(&wrapped)))));
    let protected = [0xa1, 1, 0x26];
    let structure = encoded(|e| {
        drop(e.array(4).and_then(|e| e.str("Signature1")?.bytes(&protected)?.bytes(&[])?.bytes(&digest)));
    });
    let signature: p256::ecdsa::Signature =
        RAW_KEY.sign_prehash(&Sha256::digest(&structure)).expect("RFC 6979 signs every digest");
    let signature = signature.normalize_s().unwrap_or(signature).to_bytes();
    let sign1 = encoded(|e| {
        drop(
            e.tag(Tag::new(18))
                .and_then(|e| e.array(4)?.bytes(&protected)?.map(0)?.null()?.bytes(&signature)),
        );
    });
    let wrapper = encoded(|e| drop(e.array(2).and_then(|e| e.bytes(&digest)?.bytes(&sign1))));
    encoded(|e| {
        drop(e.tag(Tag::new(107)).and_then(|e| e.map(2)?.u8(2)?.bytes(&wrapper)?.u8(3)?.bytes(manifest)));
    })
}

/// An envelope whose signature is good: refused, or in the one form.
fn vendors(envelope: &[u8]) {
    if let Ok(read) = suit::verify(envelope, &KEY.1) {
        assert!(read.size > 0);
        assert_eq!(suit::build(&read, &KEY.0), envelope);
    }
}

fuzz_target!(|data: &[u8]| {
    let Some((pick, bytes)) = data.split_first() else { return };
    let (key, release_key) = &*KEY;
    if let (true, Some((fields, changes))) = (pick % 4 < 2, bytes.split_at_checked(FIELDS)) {
        let manifest = manifest(fields);
        let envelope = suit::build(&manifest, key);
        if pick % 4 == 0 {
            let changed = change(envelope.clone(), changes);
            let good = changed == envelope && manifest.size > 0;
            assert_eq!(suit::verify(&changed, release_key).is_ok(), good);
        } else {
            let body = body(&envelope).expect("an envelope of ours");
            if changes.is_empty() {
                assert!(signed(&body) == envelope, "made alike");
            }
            vendors(&signed(&change(body, changes)));
        }
    } else if pick % 4 == 2 {
        vendors(&signed(bytes));
    } else {
        assert!(suit::verify(bytes, release_key).is_err());
    }
});
