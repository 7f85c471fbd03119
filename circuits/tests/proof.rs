//! Setup, proof and verification from outside, and every way in which bytes are refused.
#![allow(clippy::unwrap_used, reason = "tests")]

use ark_bn254::{Fq, Fq2, G1Affine, G2Affine};
use ark_ec::AffineRepr;
use ark_ff::{BigInteger, PrimeField};
use ark_serialize::CanonicalSerialize;
use posthouse_circuits::{
    FixedSeed, PROOF_LEN, PointError, Proof, ProveError, ProvingKey, Statement, VerifyError, VerifyingKey,
    VerifyingKeyError, cipher,
};
use proptest::prelude::*;
use sha2::{Digest, Sha256};

const R: [u8; 32] = [0x42; 32];

fn encrypted(payload: &[u8]) -> Vec<u8> {
    let mut cipher = payload.to_vec();
    cipher::apply_payload(&R, &mut cipher);
    cipher
}

fn statement<'a>(payload: &[u8], cipher: &'a [u8]) -> Statement<'a> {
    Statement { s: Sha256::digest(R).into(), u_id: Sha256::digest(payload).into(), cipher }
}

fn key(len: usize) -> ProvingKey {
    ProvingKey::generate(len, &mut FixedSeed::insecure(1)).unwrap()
}

#[test]
fn key_mode_proves_and_verifies() {
    let payload: [u8; 32] = std::array::from_fn(|i| i as u8);
    let cipher = encrypted(&payload);
    let statement = statement(&payload, &cipher);
    let key = key(32);
    let randomness = &mut FixedSeed::insecure(2);
    let proof = key.prove(&statement, &R, randomness).unwrap().to_bytes();

    let verifying = VerifyingKey::from_bytes(&key.verifying_key().to_bytes()).unwrap();
    assert_eq!(verifying.payload_len(), 32);
    assert_eq!(verifying.id(), <[u8; 32]>::from(Sha256::digest(verifying.to_bytes())));
    assert_eq!(verifying.verify(&statement, &proof), Ok(()));

    let again = key.prove(&statement, &R, randomness).unwrap().to_bytes();
    assert_ne!(again, proof, "proofs are randomised");
    assert_eq!(verifying.verify(&statement, &again), Ok(()));

    let mut altered = cipher.clone();
    altered[31] ^= 1;
    for wrong in [
        Statement { s: [0; 32], ..statement },
        Statement { u_id: [0; 32], ..statement },
        Statement { cipher: &altered, ..statement },
    ] {
        assert_eq!(verifying.verify(&wrong, &proof), Err(VerifyError::Unproven));
        assert!(matches!(key.prove(&wrong, &R, randomness), Err(ProveError::NotSatisfied)));
    }
    let short = Statement { cipher: &cipher[..31], ..statement };
    let expected = VerifyError::PayloadLength { expected: 32, found: 31 };
    assert_eq!(verifying.verify(&short, &proof), Err(expected));
    assert!(matches!(
        key.prove(&short, &R, randomness),
        Err(ProveError::PayloadLength { expected: 32, found: 31 })
    ));
}

#[test]
fn key_of_another_setup_refuses() {
    let key = key(0);
    let other = ProvingKey::generate(0, &mut FixedSeed::insecure(7)).unwrap();
    let statement = statement(b"", b"");
    let proof = key.prove(&statement, &R, &mut FixedSeed::insecure(2)).unwrap().to_bytes();
    assert_eq!(key.verifying_key().verify(&statement, &proof), Ok(()));
    assert_eq!(other.verifying_key().verify(&statement, &proof), Err(VerifyError::Unproven));
    assert_ne!(key.verifying_key().id(), other.verifying_key().id());
}

#[test]
fn payload_length_is_bounded() {
    let refused = ProvingKey::generate(1025, &mut FixedSeed::insecure(1));
    assert!(refused.is_err());
}

/// A proof of points that are in order, though they prove nothing.
fn proof_bytes() -> [u8; PROOF_LEN] {
    let mut bytes = Vec::new();
    let (g1, g2) = (G1Affine::generator(), G2Affine::generator());
    g1.serialize_compressed(&mut bytes).unwrap();
    g2.serialize_compressed(&mut bytes).unwrap();
    g1.serialize_compressed(&mut bytes).unwrap();
    bytes.try_into().unwrap()
}

/// Puts `with` at each place of a G1 point of the proof and expects that it is refused by name.
fn expect_refused_g1(with: [u8; 32], error: PointError) {
    for (element, at) in [("A", 0), ("C", 96)] {
        let mut proof = proof_bytes();
        proof[at..at + 32].copy_from_slice(&with);
        assert_eq!(Proof::from_bytes(&proof), Err(VerifyError::Element { element, error }));
    }
}

fn expect_refused_g2(with: [u8; 64], error: PointError) {
    let mut proof = proof_bytes();
    proof[32..96].copy_from_slice(&with);
    assert_eq!(Proof::from_bytes(&proof), Err(VerifyError::Element { element: "B", error }));
}

fn le_bytes(x: Fq) -> [u8; 32] {
    x.into_bigint().to_bytes_le().try_into().unwrap()
}

fn g2_x(c0: u64) -> (Fq2, [u8; 64]) {
    let x = Fq2::new(Fq::from(c0), Fq::from(0));
    let mut bytes = [0; 64];
    bytes[..32].copy_from_slice(&le_bytes(x.c0));
    (x, bytes)
}

#[test]
fn well_formed_proof_round_trips() {
    assert_eq!(Proof::from_bytes(&proof_bytes()).unwrap().to_bytes(), proof_bytes());
}

#[test]
fn proof_off_the_curve() {
    let on_curve = |x: &Fq| G1Affine::get_ys_from_x_unchecked(*x).is_some();
    let x = (0_u64..).map(Fq::from).find(|x| !on_curve(x)).unwrap();
    expect_refused_g1(le_bytes(x), PointError::OffCurve);
    let off = |c0: &u64| G2Affine::get_ys_from_x_unchecked(g2_x(*c0).0).is_none();
    expect_refused_g2(g2_x((0..).find(off).unwrap()).1, PointError::OffCurve);
}

#[test]
fn proof_out_of_the_subgroup() {
    let outside = |c0: &u64| {
        G2Affine::get_ys_from_x_unchecked(g2_x(*c0).0).is_some_and(|(y, _)| {
            !G2Affine::new_unchecked(g2_x(*c0).0, y).is_in_correct_subgroup_assuming_on_curve()
        })
    };
    expect_refused_g2(g2_x((0..).find(outside).unwrap()).1, PointError::OutOfSubgroup);
}

#[test]
fn proof_with_a_coordinate_that_is_not_canonical() {
    let mut modulus: [u8; 32] = Fq::MODULUS.to_bytes_le().try_into().unwrap();
    expect_refused_g1(modulus, PointError::NonCanonical);
    let mut g2 = [0; 64];
    g2[..32].copy_from_slice(&modulus);
    expect_refused_g2(g2, PointError::NonCanonical);
    modulus[31] |= 0xc0;
    expect_refused_g1(modulus, PointError::NonCanonical);
}

#[test]
fn proof_with_the_identity() {
    let mut identity = [0; 32];
    identity[31] = 0x40;
    expect_refused_g1(identity, PointError::Identity);
    let mut identity = [0; 64];
    identity[63] = 0x40;
    expect_refused_g2(identity, PointError::Identity);
}

#[test]
fn proof_cut_short_or_too_long() {
    let mut proof = proof_bytes().to_vec();
    assert_eq!(Proof::from_bytes(&proof[..127]), Err(VerifyError::Truncated(127)));
    proof.push(0);
    assert_eq!(Proof::from_bytes(&proof), Err(VerifyError::TrailingBytes(1)));
}

/// A verifying key for empty payloads, of points that are in order.
fn verifying_key_bytes() -> Vec<u8> {
    let mut bytes = 0_u64.to_be_bytes().to_vec();
    let (g1, g2) = (G1Affine::generator(), G2Affine::generator());
    g1.serialize_compressed(&mut bytes).unwrap();
    (0..3).for_each(|_| g2.serialize_compressed(&mut bytes).unwrap());
    (0..5).for_each(|_| g1.serialize_compressed(&mut bytes).unwrap());
    bytes
}

fn refused_key(bytes: &[u8]) -> VerifyingKeyError {
    VerifyingKey::from_bytes(bytes).unwrap_err()
}

#[test]
fn verifying_key_round_trips() {
    let bytes = verifying_key_bytes();
    assert_eq!(VerifyingKey::from_bytes(&bytes).unwrap().to_bytes(), bytes);
}

#[test]
fn verifying_key_with_a_wrong_input_count() {
    let bytes = verifying_key_bytes();
    let wrong = |found| VerifyingKeyError::InputCount { expected: 5, found };
    assert_eq!(refused_key(&bytes[..bytes.len() - 32]), wrong(4));
    assert_eq!(refused_key(&[&bytes[..], &bytes[8..40]].concat()), wrong(6));
}

#[test]
fn verifying_key_cut_short_or_too_long() {
    let bytes = verifying_key_bytes();
    assert_eq!(refused_key(&bytes[..100]), VerifyingKeyError::Truncated(100));
    assert_eq!(refused_key(&[&bytes[..], &[0]].concat()), VerifyingKeyError::TrailingBytes(1));
}

#[test]
fn verifying_key_for_too_long_a_payload() {
    let mut bytes = verifying_key_bytes();
    bytes[..8].copy_from_slice(&u64::MAX.to_be_bytes());
    assert_eq!(refused_key(&bytes), VerifyingKeyError::PayloadLength(u64::MAX));
}

#[test]
fn verifying_key_with_a_bad_element() {
    for (element, last) in [("alpha", 39), ("beta", 103), ("gamma", 167), ("delta", 231), ("input", 263)] {
        let mut bytes = verifying_key_bytes();
        bytes[last] |= 0xc0;
        let error = PointError::NonCanonical;
        assert_eq!(refused_key(&bytes), VerifyingKeyError::Element { element, error });
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    /// Whatever comes from outside is refused or means one thing: what is accepted is written the same way.
    #[test]
    fn bytes_from_outside_do_no_harm(
        mut proof in prop::array::uniform32(any::<u32>()).prop_map(|words| words.map(u32::to_le_bytes).concat()),
        flips in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4),
        cut in any::<prop::sample::Index>(),
    ) {
        // A coordinate below 2^253 is canonical, so that some get as far as the curve equation.
        [31, 63, 95, 127].into_iter().for_each(|last| proof[last] &= 0x9f);
        if let Ok(read) = Proof::from_bytes(&proof) {
            prop_assert_eq!(&read.to_bytes()[..], &proof[..]);
        }
        let mut key = verifying_key_bytes();
        for (at, flip) in flips {
            let at = at.index(key.len());
            key[at] ^= flip;
        }
        if let Ok(read) = VerifyingKey::from_bytes(&key) {
            prop_assert_eq!(read.to_bytes(), &key[..]);
        }
        prop_assert!(VerifyingKey::from_bytes(&key[..cut.index(key.len())]).is_err());
    }
}
