//! Checks that take pairings or signatures, off the threads that serve.
//!
//! Who sends: the exchanges. Whom it asks: nobody. It has no state, so a check can be repeated, and
//! several threads can share the work. This is the boundary at which a [`VerifiedOffer`] is made.
//!
//! [`VerifiedOffer`]: posthouse_protocol::gateway::VerifiedOffer

use std::sync::Arc;

use actix::{Actor, Handler, Message, MessageResult, SyncContext};
use bytes::Bytes;
use posthouse_circuits::{Statement, VerifyingKey};
use posthouse_protocol::gateway::{
    CheckedRelease, OfferCheck, OfferVerdict, OfferVerifier, PackageFault, Update,
};
use posthouse_protocol::id::ReleaseKey;
use posthouse_protocol::package::Package;

/// The actor: one thread.
pub struct Verifier;

impl Actor for Verifier {
    type Context = SyncContext<Self>;
}

/// A package that agrees with the chain, and the key that its proofs are checked with.
#[derive(Debug, Clone)]
pub struct CheckedPackage {
    /// Release and manifest.
    pub release: CheckedRelease,
    /// The manifest once more, for any number of sensors to share.
    pub manifest: Bytes,
    /// The root.
    pub package: Package,
    /// The release's verifying key.
    pub vk: Arc<VerifyingKey>,
}

/// Checks a package as it was fetched.
#[derive(Debug, Clone, Message)]
#[rtype(result = "Result<CheckedPackage, PackageFault>")]
pub struct CheckPackage {
    /// What the chain says.
    pub update: Update,
    /// The key that the product's releases are signed with.
    pub key: ReleaseKey,
    /// Root block.
    pub root: Vec<u8>,
    /// Verifying key.
    pub vk: Vec<u8>,
}

impl Handler<CheckPackage> for Verifier {
    type Result = Result<CheckedPackage, PackageFault>;

    fn handle(&mut self, check: CheckPackage, _: &mut Self::Context) -> Self::Result {
        let package = Package::decode(&check.root)?;
        let release = CheckedRelease::check(&check.update, &package, &check.key)?;
        let vk = VerifyingKey::from_bytes(&check.vk).map_err(|_| PackageFault::VerifyingKey)?;
        let right_key = vk.id() == release.release().vk_id.to_bytes();
        if !right_key || vk.payload_len() as u64 != release.payload_len() {
            return Err(PackageFault::VerifyingKey);
        }
        let manifest = Bytes::copy_from_slice(release.manifest());
        Ok(CheckedPackage { release, manifest, package, vk: Arc::new(vk) })
    }
}

/// Checks an offer.
#[derive(Debug, Message)]
#[rtype(result = "OfferVerdict")]
pub struct VerifyOffer {
    /// The offer with what is known of the update.
    pub check: OfferCheck,
    /// The release's verifying key.
    pub vk: Arc<VerifyingKey>,
}

impl Handler<VerifyOffer> for Verifier {
    type Result = MessageResult<VerifyOffer>;

    fn handle(&mut self, VerifyOffer { check, vk }: VerifyOffer, _: &mut Self::Context) -> Self::Result {
        let begun = std::time::Instant::now();
        let verdict = check.run(&Groth16(&vk));
        tracing::info!(verify_us = begun.elapsed().as_micros(), "offer checked");
        MessageResult(verdict)
    }
}

struct Groth16<'a>(&'a VerifyingKey);

impl OfferVerifier for Groth16<'_> {
    fn holds(&self, s: &[u8; 32], target: &[u8; 32], cipher: &[u8], proof: &[u8]) -> bool {
        let statement = Statement { s: *s, u_id: *target, cipher };
        self.0.verify(&statement, proof).is_ok()
    }
}
