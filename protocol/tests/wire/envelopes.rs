//! The signed envelopes against other implementations, and one way to be wrong each.

use coset::{
    CborSerializable as _, CoseSign1, CoseSign1Builder, HeaderBuilder, TaggedCborSerializable as _, iana,
};
use p256::ecdsa::signature::hazmat::{PrehashSigner as _, PrehashVerifier as _};
use posthouse_protocol::cose::{CoseError, ReleaseSigningKey};
use posthouse_protocol::id::{PkId, ReleaseKey, UpdateId, Version};
use posthouse_protocol::release::{self, Mode, Release, ReleaseError};
use posthouse_protocol::suit::{self, SuitError};
use posthouse_protocol::wire::WireError;
use sha2::{Digest as _, Sha256};
use suit_validator::handler::GenericStartHandler;
use suit_validator::suit_manifest::SuitEnvelope;

use crate::cases::{self, file_release, key_release, manifest, product, release_key};

fn p256_key() -> p256::ecdsa::SigningKey {
    p256::ecdsa::SigningKey::from_slice(&release_key().to_bytes()).unwrap()
}

fn other_key() -> ReleaseSigningKey {
    ReleaseSigningKey::from_bytes(&[0x43; 32]).unwrap()
}

#[test]
fn a_manifest_comes_back_as_it_was() {
    for manifest in [
        manifest(),
        suit::Manifest { sequence: Version::new(0), size: 1, ..manifest() },
        suit::Manifest { sequence: Version::new(u64::MAX), size: u32::MAX, ..manifest() },
    ] {
        let envelope = suit::build(&manifest, &release_key());
        assert_eq!(suit::verify(&envelope, &release_key().release_key()), Ok(manifest));
        assert!(envelope.len() <= suit::MAX_ENVELOPE);
    }
}

#[test]
fn a_manifest_of_another_vendor_is_refused() {
    let envelope = suit::build(&manifest(), &other_key());
    let result = suit::verify(&envelope, &release_key().release_key());
    assert_eq!(result, Err(SuitError::Signature(CoseError::Signature)));
}

#[test]
fn a_manifest_with_anothers_wrapper_is_refused() {
    let signed = suit::build(&manifest(), &release_key());
    let newer = suit::Manifest { sequence: Version::new(8), ..manifest() };
    let forged = suit::build(&newer, &other_key());
    // The manifest follows the wrapper: key 3, the head of its byte string, a map of six.
    let body = |e: &[u8]| {
        e.windows(4).position(|w| w[..2] == [3, 0x59] || w[..2] == [3, 0x58] && w[3] == 0xa6).unwrap()
    };
    let spliced = [&signed[..body(&signed)], &forged[body(&forged)..]].concat();
    let result = suit::verify(&spliced, &release_key().release_key());
    assert_eq!(result, Err(SuitError::Digest));
}

#[test]
fn an_empty_image_and_a_long_envelope_are_refused() {
    let key = release_key().release_key();
    let empty = suit::build(&suit::Manifest { size: 0, ..manifest() }, &release_key());
    assert_eq!(suit::verify(&empty, &key), Err(SuitError::EmptyImage));
    assert_eq!(suit::verify(&[0; 513], &key), Err(SuitError::TooLong(513)));
    assert_eq!(suit::verify(&[], &key), Err(SuitError::Malformed(0)));
}

#[test]
fn a_release_key_that_is_no_point_verifies_nothing() {
    let envelope = suit::build(&manifest(), &release_key());
    let result = suit::verify(&envelope, &ReleaseKey::new([0; 33]));
    assert_eq!(result, Err(SuitError::Signature(CoseError::Key)));
}

/// A COSE_KeySet with the test's release key, put together by `cose_minicbor`'s rules: an array of
/// COSE_Keys.
fn key_set() -> Vec<u8> {
    let point = p256_key().verifying_key().to_encoded_point(false);
    let key = coset::CoseKeyBuilder::new_ec2_pub_key(
        iana::EllipticCurve::P_256,
        point.x().unwrap().to_vec(),
        point.y().unwrap().to_vec(),
    )
    .algorithm(iana::Algorithm::ES256)
    .build();
    coset::CoseKeySet(vec![key]).to_vec().unwrap()
}

/// Reads an envelope with `suit_validator`, which implements the draft on its own.
fn validate(envelope: &[u8], seen: impl Fn(&SuitEnvelope<'_>)) -> Result<(), suit_validator::SuitError> {
    let keys = key_set();
    let mut handler = GenericStartHandler { on_envelope: seen, on_manifest: |_| panic!("bare") };
    let mut crypto = suit_validator::crypto::CoseCrypto::new(&keys);
    suit_validator::suit_decode(envelope, &mut handler, &mut crypto)
}

#[test]
fn another_suit_processor_verifies_and_reads_the_manifest() {
    let envelope = suit::build(&manifest(), &release_key());
    validate(&envelope, |envelope| {
        let manifest = envelope.manifest.get().unwrap();
        assert_eq!((manifest.version, manifest.sequence_number), (1, 7));
        assert!(manifest.validate.is_some() && manifest.invoke.is_some());
        assert!(manifest.install.is_some() && manifest.common.get().is_ok());
    })
    .unwrap();
}

#[test]
fn another_suit_processor_refuses_what_we_refuse() {
    let foreign = suit::build(&manifest(), &other_key());
    assert!(validate(&foreign, |_| panic!("verified")).is_err());
    let mut altered = suit::build(&manifest(), &release_key());
    *altered.last_mut().unwrap() ^= 1;
    assert!(validate(&altered, |_| panic!("verified")).is_err());
}

#[test]
fn coset_reads_and_verifies_a_sealed_release() {
    let sealed = release::seal(&key_release(), &release_key()).unwrap();
    let sign1 = CoseSign1::from_tagged_slice(&sealed).unwrap();
    let header = &sign1.protected.header;
    assert_eq!(header.alg, Some(coset::Algorithm::Assigned(iana::Algorithm::ES256)));
    assert_eq!(header.content_type, Some(coset::ContentType::Text(release::CONTENT_TYPE.into())));
    sign1
        .verify_signature(b"", |signature, data| {
            let signature = p256::ecdsa::Signature::from_slice(signature).unwrap();
            p256_key().verifying_key().verify_prehash(&Sha256::digest(data), &signature)
        })
        .unwrap();
}

/// A COSE_Sign1 by coset, from the payload on.
fn coset_sealed(payload: &[u8], content_type: &str) -> Vec<u8> {
    let protected =
        HeaderBuilder::new().algorithm(iana::Algorithm::ES256).content_type(content_type.into()).build();
    CoseSign1Builder::new()
        .protected(protected)
        .payload(payload.to_vec())
        .create_signature(b"", |data| {
            let signature: p256::ecdsa::Signature = p256_key().sign_prehash(&Sha256::digest(data)).unwrap();
            signature.to_bytes().to_vec()
        })
        .build()
        .to_tagged_vec()
        .unwrap()
}

fn open(sealed: &[u8]) -> Result<Release, ReleaseError> {
    release::open(sealed, &release_key().release_key())
}

#[test]
fn we_open_what_coset_seals() {
    for release in [key_release(), file_release()] {
        let payload = posthouse_protocol::wire::to_vec(&release);
        assert_eq!(open(&coset_sealed(&payload, release::CONTENT_TYPE)), Ok(release));
    }
}

#[test]
fn a_release_under_another_content_type_or_key_is_refused() {
    let payload = posthouse_protocol::wire::to_vec(&key_release());
    let other = coset_sealed(&payload, "application/vnd.posthouse.manifest+cbor");
    assert_eq!(open(&other), Err(ReleaseError::Wire(WireError::NotCanonical)));
    let foreign = release::seal(&key_release(), &other_key()).unwrap();
    assert_eq!(open(&foreign), Err(ReleaseError::Signature(CoseError::Signature)));
    assert_eq!(open(&[0; 1025]), Err(ReleaseError::Wire(WireError::TooLong { got: 1025, max: 1024 })));
}

#[test]
fn a_signed_release_that_contradicts_itself_is_refused() {
    type Change = fn(&mut Release);
    let cases: [(Change, ReleaseError); 9] = [
        (|r| r.mode = Mode::File, ReleaseError::Mode(Mode::File)),
        (|r| r.body_id = None, ReleaseError::Mode(Mode::Key)),
        (|r| r.key_id = None, ReleaseError::Mode(Mode::Key)),
        (|r| r.body_size += 1, ReleaseError::Mode(Mode::Key)),
        (|r| (r.size, r.body_size) = (0, 0), ReleaseError::Size { size: 0, max: release::MAX_IMAGE }),
        (|r| r.pk_size = 0, ReleaseError::ProvingKey(0)),
        (|r| r.fleet_size = 0, ReleaseError::Fleet { size: 0, depth: 10 }),
        (|r| r.fleet_size = 1_025, ReleaseError::Fleet { size: 1_025, depth: 10 }),
        (|r| r.fleet_depth = 255, ReleaseError::Fleet { size: 1_000, depth: 255 }),
    ];
    for (change, error) in cases {
        let mut release = key_release();
        change(&mut release);
        assert_eq!(release::seal(&release, &release_key()), Err(error));
        let payload = posthouse_protocol::wire::to_vec(&release);
        assert_eq!(open(&coset_sealed(&payload, release::CONTENT_TYPE)), Err(error));
    }
    let large = Release { size: release::MAX_FILE_MODE + 1, ..file_release() };
    assert!(matches!(large.check(), Err(ReleaseError::Size { .. })));
}

#[test]
fn a_signed_payload_in_another_form_is_refused() {
    let mut trailing = posthouse_protocol::wire::to_vec(&key_release());
    trailing.push(0);
    let refused = open(&coset_sealed(&trailing, release::CONTENT_TYPE));
    assert_eq!(refused, Err(ReleaseError::Wire(WireError::Trailing(1))));
}

#[test]
fn a_manifest_of_another_update_does_not_fit_the_release() {
    let release = key_release();
    assert_eq!(release.check_manifest(&manifest()), Ok(()));
    let swapped = posthouse_protocol::id::ProductId::from_parts(product().class_id(), product().vendor_id());
    for (other, field) in [
        (suit::Manifest { product: swapped, ..manifest() }, "product"),
        (suit::Manifest { sequence: Version::new(8), ..manifest() }, "version"),
        (suit::Manifest { u_id: UpdateId::new([0; 32]), ..manifest() }, "u_id"),
        (suit::Manifest { size: 1, ..manifest() }, "size"),
    ] {
        assert_eq!(release.check_manifest(&other), Err(ReleaseError::Manifest(field)));
    }
}

#[test]
fn the_packages_id_names_its_root_block() {
    let package = cases::package(&key_release());
    let digest: [u8; 32] = Sha256::digest(package.to_vec()).into();
    assert_eq!(package.id().to_bytes(), digest);
    assert_eq!(package.content_id().digest(), digest);
    let other = cases::package(&Release { pk_id: PkId::new([0; 32]), ..key_release() });
    assert_ne!(other.id(), package.id());
}
