//! The distributor's settings; `packaging/config/distributor.toml` documents each key.

use std::path::{Path, PathBuf};

use alloy::primitives::Address;
use posthouse_contracts::chain::RpcChain;
use posthouse_contracts::receipts::MAX_BATCH;
use posthouse_dsn::Multiaddr;
use posthouse_protocol::distributor::{Gas, Limits, Policy, Wei};
use posthouse_protocol::id::{ProductId, ReleaseKey};
use serde::Deserialize;

use crate::network::{AuditSection, ChainSection, DsnSection, Keys, peer_of};
use crate::settings::{self, Amount, SettingsError, Span, Text, Uuid, beside};

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    state_dir: PathBuf,
    keys: Keys,
    chain: ChainSection,
    dsn: DsnSection,
    #[serde(default)]
    sale: Sale,
    #[serde(default)]
    redeem: Redeem,
    #[serde(default)]
    limits: LimitsSection,
    #[serde(default)]
    audit: AuditSection,
    vendors: Vec<Vendor>,
}

/// `[redeem]`: by whom.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Redeem {
    private_relay: Option<String>,
}

/// `[[vendors]]`: whose updates are sold. Their proving keys are trusted.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Vendor {
    pub(super) address: Text<Address>,
    pub(super) release_key: Text<ReleaseKey>,
    products: Vec<Product>,
    #[serde(default)]
    pub(super) peers: Vec<Text<Multiaddr>>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct Product {
    vendor_id: Text<Uuid>,
    class_id: Text<Uuid>,
}

impl Vendor {
    pub(super) fn products(&self) -> impl Iterator<Item = ProductId> {
        let id = |product: &Product| ProductId::from_parts(product.vendor_id.0.0, product.class_id.0.0);
        self.products.iter().map(id)
    }
}

/// `[sale]`: on which terms.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Sale {
    window: Text<Span>,
    offer_ttl: Text<Span>,
    min_receipts: u32,
    min_sum: Text<Amount>,
    gain_percent: u32,
    max_batch: u16,
    reserve_margin: Text<Span>,
    reveal_margin: Text<Span>,
    resubmit_ms: u64,
    retry_after_ms: u32,
}

impl Default for Sale {
    fn default() -> Self {
        let policy = Policy::default();
        let span = |seconds: u32| Text(Span(u64::from(seconds)));
        Self {
            window: span(policy.window_secs),
            offer_ttl: span(policy.offer_ttl_secs),
            min_receipts: policy.min_receipts,
            min_sum: Text(Amount(policy.min_sum.get())),
            gain_percent: policy.gain_percent,
            max_batch: policy.max_batch,
            reserve_margin: span(policy.reserve_margin_secs),
            reveal_margin: span(policy.reveal_margin_secs),
            resubmit_ms: policy.resubmit_after_ms,
            retry_after_ms: policy.retry_after_ms,
        }
    }
}

/// `[limits]`: what others can make the program hold.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct LimitsSection {
    max_body_bytes: u64,
    max_key_bytes: u64,
    max_fleet_bytes: u64,
    exchanges: usize,
    exchanges_per_device: usize,
    receipts: usize,
    requests_per_second: u32,
    request_burst: u32,
}

impl Default for LimitsSection {
    fn default() -> Self {
        let limits = Limits::default();
        Self {
            max_body_bytes: 1 << 30,
            max_key_bytes: 1 << 30,
            max_fleet_bytes: 1 << 28,
            exchanges: limits.exchanges,
            exchanges_per_device: limits.exchanges_per_device,
            receipts: limits.receipts,
            requests_per_second: limits.per_second,
            request_burst: limits.burst,
        }
    }
}

/// Bytes of the largest files that are fetched.
#[derive(Debug, Clone, Copy)]
pub(super) struct MaxBytes {
    pub(super) body: u64,
    pub(super) key: u64,
    /// 33 for each device; on disk its index takes three times as many besides.
    pub(super) fleet: u64,
}

/// The settings, checked.
#[derive(Debug, Clone)]
pub(super) struct Config {
    pub(super) file: PathBuf,
    pub(super) state_dir: PathBuf,
    pub(super) keys: Keys,
    pub(super) chain: ChainSection,
    pub(super) factory: Address,
    pub(super) dsn: DsnSection,
    pub(super) vendors: Vec<Vendor>,
    pub(super) policy: Policy,
    /// Takes transactions without showing them to anybody before they are in a block.
    relay: Option<String>,
    pub(super) max: MaxBytes,
    pub(super) audit: AuditSection,
}

impl Config {
    /// Reads and checks the settings; creates and dials nothing.
    pub(super) fn load(file: &Path) -> Result<Self, SettingsError> {
        let File { state_dir, mut keys, chain, dsn, sale, redeem, limits, audit, vendors } =
            settings::load(file)?;
        audit.check(file)?;
        chain.check(file)?;
        chain.check_trust(file)?;
        let factory = chain.factory();
        if let Some(release) = &keys.release {
            let why = "a distributor has no release key";
            return Err(SettingsError::value(file, "keys.release", release.display(), why));
        }
        check_vendors(file, &vendors)?;
        let relay = redeem.private_relay;
        relay.as_deref().map(|url| chain.relay(file, url)).transpose()?;
        let policy = Policy { direct: relay.is_some(), ..policy(file, &sale, &limits, &chain)? };
        keys.ethereum = beside(file, &keys.ethereum);
        keys.peer = beside(file, &keys.peer);
        let state_dir = beside(file, &state_dir);
        let LimitsSection { max_body_bytes, max_key_bytes, max_fleet_bytes, .. } = limits;
        let max = MaxBytes { body: max_body_bytes, key: max_key_bytes, fleet: max_fleet_bytes };
        let file = file.into();
        Ok(Self { file, state_dir, keys, chain, factory, dsn, vendors, policy, relay, max, audit })
    }
}

impl Config {
    /// Where transactions go that nobody is to see before they are in a block.
    pub(super) fn relay(&self) -> Result<Option<RpcChain>, SettingsError> {
        self.relay.as_deref().map(|url| self.chain.relay(&self.file, url)).transpose()
    }

    /// The vendor with this Ethereum address.
    pub(super) fn vendor(&self, address: [u8; 20]) -> Option<&Vendor> {
        self.vendors.iter().find(|vendor| vendor.address.0 == Address::from(address))
    }
}

fn check_vendors(file: &Path, vendors: &[Vendor]) -> Result<(), SettingsError> {
    if vendors.is_empty() {
        return Err(SettingsError::value(file, "vendors", "[]", "nobody's updates would be sold"));
    }
    for (at, vendor) in vendors.iter().enumerate() {
        let bad = |key: &str, value: String, why: &dyn std::fmt::Display| {
            Err(SettingsError::value(file, &format!("vendors.{at}.{key}"), value, why))
        };
        if vendor.products.is_empty() {
            return bad("products", "[]".into(), &"names no product");
        }
        if let Err(why) = vendor.release_key.0.check() {
            return bad("release_key", vendor.release_key.0.to_string(), &why);
        }
        if let Some(peer) = vendor.peers.iter().find(|peer| peer_of(&peer.0).is_none()) {
            return bad("peers", peer.0.to_string(), &"does not end in /p2p/<peer id>");
        }
    }
    Ok(())
}

fn policy(
    file: &Path,
    sale: &Sale,
    limits: &LimitsSection,
    chain: &ChainSection,
) -> Result<Policy, SettingsError> {
    let seconds = |key: &str, span: Text<Span>| {
        let why = "is longer than 136 years";
        u32::try_from(span.0.0).map_err(|_| SettingsError::value(file, &format!("sale.{key}"), span.0.0, why))
    };
    if sale.max_batch == 0 || usize::from(sale.max_batch) > MAX_BATCH {
        let why = format!("must be 1 to {MAX_BATCH}, as much as one transaction holds");
        return Err(SettingsError::value(file, "sale.max_batch", sale.max_batch, why));
    }
    let most = Gas::fits_anywhere();
    if sale.min_receipts == 0 || sale.min_receipts > u32::from(sale.max_batch).min(most) {
        let why = format!(
            "must be at least 1, at most sale.max_batch, and at most {most}: no more are sure to fit one transaction"
        );
        return Err(SettingsError::value(file, "sale.min_receipts", sale.min_receipts, why));
    }
    for (key, value) in [
        ("exchanges", limits.exchanges),
        ("exchanges_per_device", limits.exchanges_per_device),
        ("receipts", limits.receipts),
        ("requests_per_second", limits.requests_per_second as usize),
        ("request_burst", limits.request_burst as usize),
    ] {
        if value == 0 {
            return Err(SettingsError::value(file, &format!("limits.{key}"), 0, "must be at least 1"));
        }
    }
    Ok(Policy {
        window_secs: seconds("window", sale.window)?,
        min_receipts: sale.min_receipts,
        min_sum: Wei::new(sale.min_sum.0.0),
        gain_percent: sale.gain_percent,
        max_fee: Wei::new(chain.max_fee.0.0),
        priority_fee: Wei::new(chain.priority_fee.0.0),
        max_batch: sale.max_batch,
        offer_ttl_secs: seconds("offer_ttl", sale.offer_ttl)?,
        reserve_margin_secs: seconds("reserve_margin", sale.reserve_margin)?,
        reveal_margin_secs: seconds("reveal_margin", sale.reveal_margin)?,
        resubmit_after_ms: sale.resubmit_ms,
        retry_after_ms: sale.retry_after_ms,
        limits: Limits {
            exchanges: limits.exchanges,
            exchanges_per_device: limits.exchanges_per_device,
            receipts: limits.receipts,
            per_second: limits.requests_per_second,
            burst: limits.request_burst,
            ..Limits::default()
        },
        ..Policy::default()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the example writes down as defaults are the defaults.
    #[test]
    fn the_example_is_what_the_program_reads() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../packaging/config");
        let config = Config::load(&folder.join("distributor.toml")).unwrap();
        assert_eq!(config.policy, Policy::default());
        assert_eq!(config.vendors.len(), 1);
    }

    #[test]
    fn no_more_receipts_are_waited_for_than_are_sure_to_fit_a_transaction() {
        let folder = tempfile::tempdir().unwrap();
        let (file, example) = (folder.path().join("distributor.toml"), Path::new(env!("CARGO_MANIFEST_DIR")));
        let example = std::fs::read_to_string(example.join("../packaging/config/distributor.toml")).unwrap();
        let load = |receipts: u32| {
            let text = example.replace("max_batch = 100", "max_batch = 200");
            let text = text.replace("min_receipts = 1", &format!("min_receipts = {receipts}"));
            std::fs::write(&file, text).unwrap();
            Config::load(&file)
        };
        let most = Gas::fits_anywhere();
        assert!(example.contains(&format!("and at most {most}: so many fit one transaction")), "{most}");
        assert_eq!(load(most).unwrap().policy.min_receipts, most);
        let error = load(most + 1).unwrap_err().to_string();
        assert!(error.contains("sale.min_receipts") && error.contains(&format!("at most {most}")), "{error}");
    }
}
