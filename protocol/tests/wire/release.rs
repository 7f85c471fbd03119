//! The sealed release and the package against coset, and one way to be wrong each.

use coset::{CoseSign1, CoseSign1Builder, HeaderBuilder, TaggedCborSerializable as _, iana};
use p256::ecdsa::signature::hazmat::{PrehashSigner as _, PrehashVerifier as _};
use posthouse_protocol::cose::{CoseError, ReleaseSigningKey};
use posthouse_protocol::id::{PkId, ProductId, UpdateId, Version};
use posthouse_protocol::release::{self, Mode, Release, ReleaseError};
use posthouse_protocol::suit;
use posthouse_protocol::wire::WireError;
use sha2::{Digest as _, Sha256};

use crate::cases::{self, file_release, key_release, manifest, product, release_key};

fn p256_key() -> p256::ecdsa::SigningKey {
    p256::ecdsa::SigningKey::from_slice(&release_key().to_bytes()).unwrap()
}

fn other_key() -> ReleaseSigningKey {
    ReleaseSigningKey::from_bytes(&[0x43; 32]).unwrap()
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
    let swapped = ProductId::from_parts(product().class_id(), product().vendor_id());
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
