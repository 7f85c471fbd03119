//! The draft's own example 0 (appendix B.1): digest and signature are made as ours are.

use sha2::{Digest as _, Sha256};

use super::write;
use crate::id::{Digest, ReleaseKey, Signature};
use crate::wire::{self, Wrapped};

/// The manifest, without the head of its byte string.
const MANIFEST: &str = "a50101020003585fa202818141000458568614a40150fa6b4a53d5ad5fdfbe9de663e4d4\
    1ffe02501492af1425695e48bf429b2d51f2ab45035824822f582000112233445566778899aabbccddeeff0123456\
    789abcdeffedcba98765432100e1987d0010f020f074382030f0943821702";
const DIGEST: &str = "6658ea560262696dd1f13b782239a064da7c6c5cbaf52fded428a6fc83c7e5af";
const SIGNATURE: &str = "408d0816f9b510749bf6a51b066951e08a4438f849eb092a1ac768eed9de696c1b1dd35d82\
    ef149e6a73a61976ad2cfe78444b8064293350a122f332cb49f0da";
/// The appendix's public key, compressed.
const KEY: &str = "028496811aae0baaabd26157189eecda26beaa8bf11b6f3fe6e2b5659c85dbc0ad";

/// Bytes as they are, as if they were an encoded value.
struct Raw<'a>(&'a [u8]);

impl<C> minicbor::Encode<C> for Raw<'_> {
    fn encode<W: minicbor::encode::Write>(
        &self,
        e: &mut minicbor::Encoder<W>,
        _: &mut C,
    ) -> Result<(), minicbor::encode::Error<W::Error>> {
        e.writer_mut().write_all(self.0).map_err(minicbor::encode::Error::write)
    }
}

#[test]
fn the_digest_covers_the_manifest_with_the_head_of_its_byte_string() {
    let manifest = hex::decode(MANIFEST).unwrap();
    let digest: Digest = DIGEST.parse().unwrap();
    assert_eq!(wire::sha256(&Wrapped(Raw(&manifest))), digest);
    assert_ne!(Sha256::digest(&manifest).as_slice(), digest.as_bytes());
}

#[test]
fn the_signature_is_over_the_encoded_digest_as_a_detached_payload() {
    let key: ReleaseKey = KEY.parse().unwrap();
    let signature: Signature = SIGNATURE.parse().unwrap();
    let digest: Digest = DIGEST.parse().unwrap();
    assert_eq!(key.verify(&write::signed_digest(&digest), &signature), Ok(()));
    assert!(key.verify(&digest, &signature).is_err());
}
