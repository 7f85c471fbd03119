//! Proving-key files: round trip, and every way in which one is refused.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::fs;
use std::path::Path;

use ark_bn254::{Fq, Fq2, G2Affine};
use ark_serialize::CanonicalSerialize;
use posthouse_circuits::{FixedSeed, KeyFileError, PointError, ProvingKey, Statement};
use sha2::{Digest, Sha256};

/// Where the first element after the header and the verifying key of an empty payload is.
const ELEMENTS: usize = 16 + 8 + 32 + (8 + 32 + 3 * 64 + 5 * 32);

/// One key for all of this, since making it is what takes the time.
#[test]
fn written_keys_are_read_and_damaged_ones_are_not() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("key.pk");
    let key = ProvingKey::generate(0, &mut FixedSeed::insecure(1)).unwrap();
    key.write(&path).unwrap();
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "nothing else is left behind");

    let bytes = fs::read(&path).unwrap();
    assert_eq!(bytes.len() as u64, key.size());
    assert_eq!(key.id(), <[u8; 32]>::from(Sha256::digest(&bytes)));
    proves(&ProvingKey::read(&path).unwrap());
    proves(&ProvingKey::read_pinned(&path, &key.id()).unwrap());

    assert!(matches!(ProvingKey::read_pinned(&path, &[0; 32]), Err(KeyFileError::Id)));
    let missing = ProvingKey::read(&folder.path().join("absent"));
    assert!(matches!(missing, Err(KeyFileError::Io { .. })));
    refuses_headers(&path, &bytes);
    refuses_elements(&path, &bytes);
}

fn proves(key: &ProvingKey) {
    let r = [5; 32];
    let statement = Statement { s: Sha256::digest(r).into(), u_id: Sha256::digest(b"").into(), cipher: b"" };
    let proof = key.prove(&statement, &r, &mut FixedSeed::insecure(2)).unwrap();
    key.verifying_key().verify(&statement, &proof.to_bytes()).unwrap();
}

fn read_altered(path: &Path, bytes: &[u8], alter: impl FnOnce(&mut Vec<u8>)) -> KeyFileError {
    let mut bytes = bytes.to_vec();
    alter(&mut bytes);
    fs::write(path, bytes).unwrap();
    ProvingKey::read(path).unwrap_err()
}

fn refuses_headers(path: &Path, bytes: &[u8]) {
    use KeyFileError::{Circuit, NotAKey, PayloadLength, Size, VerifyingKey};
    let altered = |alter: fn(&mut Vec<u8>)| read_altered(path, bytes, alter);
    assert!(matches!(altered(|b| b.clear()), NotAKey));
    assert!(matches!(altered(|b| b[0] ^= 1), NotAKey));
    assert!(matches!(altered(|b| b[16] = 1), PayloadLength(_)));
    assert!(matches!(altered(|b| b[23] = 1), Size { .. }));
    assert!(matches!(altered(|b| b.push(0)), Size { .. }));
    assert!(matches!(altered(|b| b.truncate(b.len() - 1)), Size { .. }));
    assert!(matches!(altered(|b| b[24] ^= 1), Circuit));
    assert!(matches!(altered(|b| b[16 + 8 + 32 + 8 + 31] |= 0xc0), VerifyingKey(_)));
}

fn refuses_elements(path: &Path, bytes: &[u8]) {
    let refused = |at: usize, with: &[u8]| match read_altered(path, bytes, |b| {
        b[at..at + with.len()].copy_from_slice(with)
    }) {
        KeyFileError::Element { section, error } => (section, error),
        other => panic!("{other}"),
    };
    let mut identity = [0; 64];
    identity[63] = 0x40;
    assert_eq!(refused(ELEMENTS, &identity), ("beta and delta", PointError::Identity));
    assert_eq!(refused(ELEMENTS + 63, &[0xff]), ("beta and delta", PointError::NonCanonical));
    assert_eq!(refused(ELEMENTS + 128, &[1; 32]), ("A", PointError::OffCurve));

    let variables = posthouse_circuits::shape(0).variables();
    let b2 = ELEMENTS + 128 + 2 * 64 * variables;
    let mut outside = Vec::new();
    outside_subgroup().serialize_uncompressed(&mut outside).unwrap();
    for at in [0, variables / 2, variables - 1] {
        assert_eq!(refused(b2 + 128 * at, &outside), ("B2", PointError::OutOfSubgroup));
    }
}

fn outside_subgroup() -> G2Affine {
    (0_u64..)
        .map(|c0| Fq2::new(Fq::from(c0), Fq::from(0)))
        .filter_map(|x| Some(G2Affine::new_unchecked(x, G2Affine::get_ys_from_x_unchecked(x)?.0)))
        .find(|point| !point.is_in_correct_subgroup_assuming_on_curve())
        .unwrap()
}
