//! The vendor's settings; `packaging/config/vendor.toml` documents each key.

use std::path::{Path, PathBuf};

use alloy::primitives::Address;
use posthouse_protocol::cose::ReleaseSigningKey;
use posthouse_protocol::id::{Curve, ProductId};
use serde::Deserialize;

use crate::network::{self, AuditSection, ChainSection, DsnSection, Keys};
use crate::settings::{self, Amount, SettingsError, Span, Text, Uuid, beside};

/// Bounds of the contract on a reservation's life, in seconds.
const LOCK: std::ops::RangeInclusive<u64> = 30 * 60..=24 * 3600;
/// Furthest deadline that the factory takes.
const MAX_CLAIM: u64 = 3650 * 86_400;
/// The contract's shares have 96 bits.
pub(super) const MAX_SHARE: u128 = (1 << 96) - 1;

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    state_dir: PathBuf,
    product: Product,
    keys: Keys,
    chain: ChainSection,
    dsn: DsnSection,
    #[serde(default)]
    join: Join,
    publish: Publish,
    #[serde(default)]
    audit: AuditSection,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct Product {
    vendor_id: Text<Uuid>,
    class_id: Text<Uuid>,
    #[serde(default)]
    curve: CurveName,
}

#[derive(Debug, Clone, Copy, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
enum CurveName {
    #[default]
    Secp256k1,
    P256,
}

/// `[join]`: who may sell.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Join {
    #[serde(default)]
    pub(super) admission: Admission,
    #[serde(default)]
    pub(super) payees: Vec<Text<Address>>,
    #[serde(default = "default_per_minute")]
    pub(super) per_minute: u32,
}

fn default_per_minute() -> u32 {
    10
}

impl Default for Join {
    fn default() -> Self {
        Self { admission: Admission::Open, payees: Vec::new(), per_minute: default_per_minute() }
    }
}

/// Who is admitted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Admission {
    /// Whoever proves a payee key.
    #[default]
    Open,
    /// The payees of the list.
    AllowList,
}

/// `[publish]`: the terms of a bounty, unless the command says otherwise.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Publish {
    pub(super) share: Text<Amount>,
    #[serde(default = "default_claim")]
    pub(super) claim_by: Text<Span>,
    #[serde(default = "default_lock")]
    pub(super) lock: Text<Span>,
}

fn default_claim() -> Text<Span> {
    Text(Span(30 * 86_400))
}

fn default_lock() -> Text<Span> {
    Text(Span(2 * 3600))
}

/// The settings, checked.
#[derive(Debug, Clone)]
pub(super) struct Config {
    pub(super) file: PathBuf,
    pub(super) state_dir: PathBuf,
    pub(super) product: ProductId,
    pub(super) curve: Curve,
    pub(super) keys: Keys,
    pub(super) chain: ChainSection,
    pub(super) dsn: DsnSection,
    pub(super) join: Join,
    pub(super) publish: Publish,
    pub(super) audit: AuditSection,
}

impl Config {
    /// Reads and checks the settings; creates and dials nothing.
    pub(super) fn load(file: &Path) -> Result<Self, SettingsError> {
        let File { state_dir, product, mut keys, chain, dsn, join, publish, audit } = settings::load(file)?;
        audit.check(file)?;
        chain.check(file)?;
        chain.check_believes(file)?;
        check_join(file, &join)?;
        check_publish(file, &publish)?;
        let Some(release) = keys.release.take() else {
            let why = "missing: where the release key is or is to be".into();
            let source = file.display().to_string();
            return Err(SettingsError { source, key: Some("keys.release".into()), why });
        };
        keys.release = Some(beside(file, &release));
        keys.ethereum = beside(file, &keys.ethereum);
        keys.peer = beside(file, &keys.peer);
        let curve = match product.curve {
            CurveName::Secp256k1 => Curve::Secp256k1,
            CurveName::P256 => Curve::P256,
        };
        let product = ProductId::from_parts(product.vendor_id.0.0, product.class_id.0.0);
        let state_dir = beside(file, &state_dir);
        Ok(Self { file: file.into(), state_dir, product, curve, keys, chain, dsn, join, publish, audit })
    }

    pub(super) fn release_key_path(&self) -> &Path {
        self.keys.release.as_deref().expect("set by `load`")
    }

    pub(super) fn release_key(&self) -> Result<ReleaseSigningKey, SettingsError> {
        let path = self.release_key_path();
        let key = network::read(&self.file, "keys.release", path)?;
        ReleaseSigningKey::from_bytes(&key)
            .map_err(|why| SettingsError::value(&self.file, "keys.release", path.display(), why))
    }

    /// The fleet file that `enrol` writes.
    pub(super) fn fleet_path(&self) -> PathBuf {
        self.state_dir.join("fleet")
    }

    /// The proving key of key mode that `setup` makes.
    pub(super) fn proving_key_path(&self) -> PathBuf {
        self.state_dir.join("key-mode.pk")
    }

    /// The digest of that key's file, by which `setup` has checked it: later readings are by it.
    pub(super) fn proving_key_id_path(&self) -> PathBuf {
        self.state_dir.join("key-mode.pk-id")
    }

    /// The folder of a release's package.
    pub(super) fn release_dir(&self, version: u64) -> PathBuf {
        self.state_dir.join("releases").join(version.to_string())
    }
}

fn check_join(file: &Path, join: &Join) -> Result<(), SettingsError> {
    if join.admission == Admission::AllowList && join.payees.is_empty() {
        let why = "nobody is admitted: with admission = \"allow-list\" there must be an address";
        return Err(SettingsError::value(file, "join.payees", "[]", why));
    }
    if join.admission == Admission::Open && !join.payees.is_empty() {
        let why = "contradicts admission = \"open\", which admits everybody";
        return Err(SettingsError::value(file, "join.payees", format!("{:?}", join.payees), why));
    }
    if join.per_minute == 0 {
        return Err(SettingsError::value(file, "join.per_minute", 0, "must be at least 1"));
    }
    Ok(())
}

fn check_publish(file: &Path, publish: &Publish) -> Result<(), SettingsError> {
    let terms = check_terms(publish.share.0, publish.claim_by.0, publish.lock.0);
    terms.map_err(|(key, value, why)| SettingsError::value(file, &format!("publish.{key}"), value, why))
}

/// Key, value and reason of a term that no bounty takes.
pub(super) type BadTerm = (&'static str, String, &'static str);

/// Checks what the contract would refuse.
pub(super) fn check_terms(share: Amount, claim_by: Span, lock: Span) -> Result<(), BadTerm> {
    if share.0 == 0 || share.0 > MAX_SHARE {
        return Err(("share", format!("{} wei", share.0), "must be 1 wei to 2^96 - 1 wei"));
    }
    if !LOCK.contains(&lock.0) {
        return Err(("lock", format!("{}s", lock.0), "must be 30m to 24h"));
    }
    if claim_by.0 < 60 || claim_by.0 > MAX_CLAIM {
        return Err(("claim_by", format!("{}s", claim_by.0), "must be 1m to 3650d from now"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_example_is_what_the_program_reads() {
        let example = Path::new(env!("CARGO_MANIFEST_DIR")).join("../packaging/config/vendor.toml");
        let config = Config::load(&example).unwrap();
        assert_eq!(config.publish.claim_by.0, Span(30 * 86_400));
    }
}
