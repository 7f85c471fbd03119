//! The manifest against another SUIT processor, and one way to be wrong each.

use posthouse_protocol::cose::{CoseError, ReleaseSigningKey};
use posthouse_protocol::id::{ReleaseKey, Version};
use posthouse_protocol::suit::{self, SuitError};
use suit_validator::handler::{GenericStartHandler, PairView, SuitCommandHandler, SuitSharedSequenceHandler};
use suit_validator::suit_manifest::{
    CommandCustomValue, HashAlg, SuitCondition, SuitDirective, SuitEnvelope, SuitParameters,
    SuitSharedCommand,
};

use crate::cases::{U_ID, manifest, product, release_key};

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
    let key = p256::ecdsa::SigningKey::from_slice(&release_key().to_bytes()).unwrap();
    let point = key.verifying_key().to_encoded_point(false);
    let key = coset::CoseKeyBuilder::new_ec2_pub_key(
        coset::iana::EllipticCurve::P_256,
        point.x().unwrap().to_vec(),
        point.y().unwrap().to_vec(),
    )
    .algorithm(coset::iana::Algorithm::ES256)
    .build();
    coset::CborSerializable::to_vec(coset::CoseKeySet(vec![key])).unwrap()
}

/// Reads an envelope with `suit_validator`, which implements the draft on its own.
fn validate(envelope: &[u8], seen: impl Fn(&SuitEnvelope<'_>)) -> Result<(), suit_validator::SuitError> {
    let keys = key_set();
    let mut handler = GenericStartHandler { on_envelope: seen, on_manifest: |_| panic!("bare") };
    let mut crypto = suit_validator::crypto::CoseCrypto::new(&keys);
    suit_validator::suit_decode(envelope, &mut handler, &mut crypto)
}

/// What another processor read: conditions and directives by number, and the parameters.
#[derive(Default)]
struct Seen {
    commands: Vec<i64>,
    vendor: Vec<u8>,
    class: Vec<u8>,
    digest: Vec<u8>,
    size: u64,
    uri: String,
}

type Read = Result<(), suit_validator::SuitError>;

impl Seen {
    fn parameters(&mut self, parameters: &SuitParameters<'_>) -> Read {
        if let Some(digest) = &parameters.image_digest {
            let digest = digest.get()?;
            assert!(matches!(digest.hash_alg, HashAlg::Sha256));
            self.digest = digest.bytes.to_vec();
        }
        self.vendor.extend(parameters.vendor_identifier.unwrap_or_default());
        self.class.extend(parameters.class_identifier.iter().flatten());
        self.size += parameters.image_size.unwrap_or_default();
        self.uri.push_str(parameters.uri.unwrap_or_default());
        Ok(())
    }
}

impl SuitSharedSequenceHandler for Seen {
    fn on_conditions<'a>(&mut self, conditions: impl Iterator<Item = PairView<'a, SuitCondition>>) -> Read {
        SuitCommandHandler::on_conditions(self, conditions)
    }

    fn on_commands<'a>(
        &mut self,
        mut commands: impl Iterator<Item = PairView<'a, SuitSharedCommand<'a>>>,
    ) -> Read {
        commands.try_for_each(|command| match command.get()? {
            SuitSharedCommand::OverrideParameters(parameters) => self.parameters(&parameters),
            other => panic!("{other:?}"),
        })
    }
}

impl SuitCommandHandler for Seen {
    fn on_conditions<'a>(
        &mut self,
        mut conditions: impl Iterator<Item = PairView<'a, SuitCondition>>,
    ) -> Read {
        conditions.try_for_each(|condition| {
            assert_eq!(condition.get()?.policy().bits(), 15);
            self.commands.push(condition.op());
            Ok(())
        })
    }

    fn on_directives<'a>(
        &mut self,
        mut directives: impl Iterator<Item = PairView<'a, SuitDirective<'a>>>,
    ) -> Read {
        directives.try_for_each(|directive| {
            if let SuitDirective::OverrideParameters(parameters) = directive.get()? {
                self.parameters(&parameters)?;
            }
            self.commands.push(directive.op());
            Ok(())
        })
    }

    fn on_customs<'a>(
        &mut self,
        mut customs: impl Iterator<Item = PairView<'a, CommandCustomValue<'a>>>,
    ) -> Read {
        assert!(customs.next().is_none());
        Ok(())
    }
}

/// Runs through every sequence of an envelope, in the order of an update and a boot.
fn walk(envelope: &SuitEnvelope<'_>) -> Result<Seen, suit_validator::SuitError> {
    let mut seen = Seen::default();
    let manifest = envelope.manifest.get()?;
    assert_eq!((manifest.version, manifest.sequence_number), (1, 7));
    let common = manifest.common.get()?;
    common.shared_seq.unwrap().get()?.decode_and_dispatch(&mut seen)?;
    match manifest.install.unwrap() {
        suit_validator::suit_manifest::DigestOrCbor::Cbor(install) => {
            install.get()?.decode_and_dispatch(&mut seen)?;
        }
        other => panic!("severed: {other:?}"),
    }
    manifest.validate.unwrap().get()?.decode_and_dispatch(&mut seen)?;
    manifest.invoke.unwrap().get()?.decode_and_dispatch(&mut seen)?;
    Ok(seen)
}

#[test]
fn another_suit_processor_verifies_and_reads_the_manifest() {
    let envelope = suit::build(&manifest(), &release_key());
    validate(&envelope, |envelope| {
        let seen = walk(envelope).unwrap();
        assert_eq!(seen.vendor, product().vendor_id());
        assert_eq!(seen.class, product().class_id());
        assert_eq!(seen.digest, U_ID.as_bytes());
        assert_eq!((seen.size, seen.uri), (34_768, format!("image/{U_ID}")));
        // Vendor and class match; image matches, override, fetch; image matches; invoke.
        assert_eq!(seen.commands, [1, 2, 3, 20, 21, 3, 23]);
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
