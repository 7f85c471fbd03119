//! Our manifests by other people's code, and theirs by ours: cbor2 reads and writes the structure, pycose the signature.
//! (`protocol/tests/wire` has `suit_validator`, and the grammar.)
#![allow(clippy::unwrap_used, reason = "tests")]

use std::path::Path;
use std::process::Command;

use p256::elliptic_curve::sec1::ToEncodedPoint as _;
use posthouse_protocol::cose::ReleaseSigningKey;
use posthouse_protocol::id::{ProductId, ReleaseKey, UpdateId, Version};
use posthouse_protocol::suit::{self, Manifest, SuitError};
use serde_json::{Value, json};

/// The interpreter that `cargo ci --full --only suit` installs pycose for.
const PYTHON: &str = "POSTHOUSE_PEERS_PYTHON";

fn python(args: &[&str]) -> Result<String, String> {
    let interpreter = std::env::var_os(PYTHON).expect("run by `cargo ci --full --only suit`, which sets it");
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("peers/suit.py");
    let output = Command::new(interpreter).arg(script).args(args).output().unwrap();
    if output.status.success() {
        Ok(String::from_utf8(output.stdout).unwrap().trim().to_owned())
    } else {
        Err(String::from_utf8_lossy(&output.stderr).into_owned())
    }
}

fn release_key() -> ReleaseSigningKey {
    ReleaseSigningKey::from_bytes(&[0x42; 32]).unwrap()
}

fn point(key: &ReleaseKey) -> String {
    let key = p256::PublicKey::from_sec1_bytes(key.as_bytes()).unwrap();
    hex::encode(&key.to_encoded_point(false).as_bytes()[1..])
}

fn manifests() -> [Manifest; 3] {
    let manifest = Manifest {
        sequence: Version::new(7),
        product: ProductId::from_parts([0x11; 16], [0x22; 16]),
        u_id: UpdateId::new([0x33; 32]),
        size: 34_768,
    };
    [
        manifest,
        Manifest { sequence: Version::new(0), size: 1, ..manifest },
        Manifest { sequence: Version::new(u64::MAX), size: u32::MAX, ..manifest },
    ]
}

#[test]
fn others_read_and_verify_what_we_write() {
    let key = point(&release_key().release_key());
    for manifest in manifests() {
        let envelope = hex::encode(suit::build(&manifest, &release_key()));
        let fields: Value = serde_json::from_str(&python(&["read", &envelope, &key]).unwrap()).unwrap();
        let expected = json!({
            "sequence": manifest.sequence.get(),
            "vendor": hex::encode(manifest.product.vendor_id()),
            "class": hex::encode(manifest.product.class_id()),
            "digest": manifest.u_id.to_string(),
            "size": manifest.size,
            "uri": format!("image/{}", manifest.u_id),
            "components": [["00"]],
        });
        assert_eq!(fields, expected);
    }
    let other = ReleaseSigningKey::from_bytes(&[0x43; 32]).unwrap();
    let forged = hex::encode(suit::build(&manifests()[0], &other));
    assert!(python(&["read", &forged, &key]).unwrap_err().contains("signature"));
}

/// What a sensor verifies ([`suit::verify`]), and what it would not.
#[test]
fn a_sensor_takes_what_others_write() {
    let scalar = hex::encode(release_key().to_bytes());
    let write = |scalar: &str, manifest: &Manifest| {
        let fields = [
            scalar.to_owned(),
            manifest.sequence.to_string(),
            hex::encode(manifest.product.vendor_id()),
            hex::encode(manifest.product.class_id()),
            manifest.u_id.to_string(),
            manifest.size.to_string(),
        ];
        let args: Vec<&str> = ["write"].into_iter().chain(fields.iter().map(String::as_str)).collect();
        hex::decode(python(&args).unwrap()).unwrap()
    };
    let key = release_key().release_key();
    for manifest in manifests() {
        let envelope = write(&scalar, &manifest);
        assert_eq!(suit::verify(&envelope, &key), Ok(manifest));
        let mut flipped = envelope.clone();
        *flipped.last_mut().unwrap() ^= 1;
        assert!(suit::verify(&flipped, &key).is_err());
    }
    let forged = write(&hex::encode([0x43; 32]), &manifests()[0]);
    assert!(matches!(suit::verify(&forged, &key), Err(SuitError::Signature(_))));
}
