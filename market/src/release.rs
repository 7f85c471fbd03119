//! What a release must be, whoever looks at it: held against its manifest, the chain and itself.

use posthouse_circuits::{KEY_MODE_LEN, circuit_id};
use posthouse_contracts::terms::Terms;
use posthouse_dsn::Cid;
use posthouse_protocol::id::{CircuitId, ContentId, ProductId, ReleaseKey, Version};
use posthouse_protocol::package::Package;
use posthouse_protocol::release::{self, Mode, Release, ReleaseError};
use posthouse_protocol::suit::{self, SuitError};
use thiserror::Error;

/// Largest image of file mode that this program makes keys for: proving costs 45 k constraints for
/// each 64 bytes.
pub(crate) const MAX_FILE_MODE: u64 = 512;

/// Why a package is not that of a bounty.
#[derive(Debug, Error)]
pub(crate) enum UnfitRelease {
    /// The release envelope.
    #[error("release: {0}")]
    Release(#[from] ReleaseError),
    /// The manifest envelope.
    #[error("manifest: {0}")]
    Manifest(#[from] SuitError),
    /// The release names something else than what it is held against.
    #[error("release and {with} differ in {field}")]
    Differs {
        /// What it is held against.
        with: &'static str,
        /// Which field.
        field: &'static str,
    },
    /// The statement is not one that this program knows.
    #[error("release is for circuit {0}, which this program does not have")]
    Circuit(CircuitId),
    /// Body and mode do not belong together.
    #[error("the package's body does not fit the release's mode")]
    Body,
    /// A payload that is too long to be proven here.
    #[error("{0} bytes in file mode, at most {MAX_FILE_MODE} are proven")]
    TooLong(u64),
}

/// Opens a package and holds release, manifest and terms against each other.
///
/// # Errors
/// [`UnfitRelease`].
pub(crate) fn check(
    package: &Package,
    key: &ReleaseKey,
    product: &ProductId,
    version: Version,
    terms: &Terms,
) -> Result<Release, UnfitRelease> {
    let release = release::open(&package.release, key)?;
    release.check_manifest(&suit::verify(&package.manifest, key)?)?;
    let differs = |with, field| Err(UnfitRelease::Differs { with, field });
    match () {
        () if release.product != *product => differs("announcement", "product"),
        () if release.version != version => differs("announcement", "version"),
        () if release.u_id != terms.u_id => differs("bounty", "U_id"),
        () if release.fleet_root != terms.root => differs("bounty", "fleet root"),
        () if release.fleet_depth != terms.depth => differs("bounty", "fleet depth"),
        () if release.fleet_size != terms.fleet_size() => differs("bounty", "fleet size"),
        () if release.curve != terms.curve => differs("bounty", "curve"),
        () => Ok(()),
    }?;
    check_package(package, &release)?;
    Ok(release)
}

fn check_package(package: &Package, release: &Release) -> Result<(), UnfitRelease> {
    if package.body.is_some() != (release.mode == Mode::Key) {
        return Err(UnfitRelease::Body);
    }
    if release.mode == Mode::File && release.size > MAX_FILE_MODE {
        return Err(UnfitRelease::TooLong(release.size));
    }
    if release.circuit_id.to_bytes() != circuit_id(payload_len(release)) {
        return Err(UnfitRelease::Circuit(release.circuit_id));
    }
    Ok(())
}

/// Bytes of what is sold.
pub(crate) fn payload_len(release: &Release) -> usize {
    match release.mode {
        Mode::Key => KEY_MODE_LEN,
        // Bounded by `MAX_FILE_MODE`.
        Mode::File => usize::try_from(release.size).unwrap_or(usize::MAX),
    }
}

/// Digest of what is sold: `key_id` or `U_id`.
pub(crate) fn payload_digest(release: &Release) -> [u8; 32] {
    match (release.mode, release.key_id) {
        (Mode::Key, Some(key_id)) => key_id.to_bytes(),
        _ => release.u_id.to_bytes(),
    }
}

/// Everything under which the secret could be asked for over the block exchange.
pub(crate) fn withheld(release: &Release) -> Vec<Cid> {
    let digests = [Some(release.u_id.to_bytes()), release.key_id.map(|id| id.to_bytes())];
    digests.into_iter().flatten().map(|digest| cid(&ContentId::raw(digest))).collect()
}

/// A content identifier as the network has it.
pub(crate) fn cid(id: &ContentId) -> Cid {
    Cid::try_from(&id.to_bytes()[..]).expect("36 bytes of CIDv1 with SHA-256")
}

/// A content identifier as packages have it; the network makes no others.
pub(crate) fn content_id(cid: &Cid) -> ContentId {
    ContentId::from_bytes(&cid.to_bytes()).expect("CIDv1 with SHA-256 in one of three codecs")
}
