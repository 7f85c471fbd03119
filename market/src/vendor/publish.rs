//! Publishes an image: secret, package, bounty, in this order, each durable before the next.
//!
//! A publication that was killed is taken up where it was: the version, its secret and its terms are
//! in the database, and the transaction is one for one purpose ([`super::transaction`]). The factory
//! takes a version once, so money leaves the wallet once.

use std::path::{Path, PathBuf};

use alloy::primitives::{Address, U256};
use alloy::rpc::types::TransactionReceipt;
use alloy::sol_types::SolEvent as _;
use anyhow::Context as _;
use posthouse_contracts::abi::UpdateFactory;
use posthouse_contracts::calls::{self, Publish};
use posthouse_contracts::chain::{At, Chain as _, RpcChain};
use posthouse_contracts::terms::Group;
use posthouse_protocol::cose::ReleaseSigningKey;
use posthouse_protocol::id::{Bounty, PackageId, UpdateId, Version};
use posthouse_protocol::package::Package;
use posthouse_protocol::release::{self, Mode, Release};
use posthouse_protocol::secret::PayloadKey;
use serde::Serialize;
use sha2::Digest as _;
use thiserror::Error;
use zeroize::Zeroizing;

use super::config::{Config, check_terms};
use super::package;
use super::store::{Published, ReleaseRow, Root, State, Store, mode_name, purpose_of};
use super::transaction::{Patience, settle};
use crate::crash::crash_point;
use crate::release::MAX_FILE_MODE;
use crate::settings::{Amount, Span};
use crate::wallet::Wallet;

/// Draws of `K` before the source of randomness is called broken.
const DRAWS: usize = 4;

/// What is to be published.
pub(super) struct Request {
    pub(super) image: PathBuf,
    pub(super) mode: Mode,
    pub(super) version: Option<u64>,
    pub(super) share: Amount,
    pub(super) claim_by: Span,
    pub(super) lock: Span,
}

/// Why an image is not published. Nothing was spent, unless a transaction is said to be under way.
#[derive(Debug, Error)]
pub enum PublishError {
    /// File mode proves over the whole image.
    #[error(
        "{size} bytes in file mode, at most {MAX_FILE_MODE}: a proof over the whole image costs 45 000 \
         constraints for each 64 bytes and keys of its own; use --mode key"
    )]
    TooLargeForFileMode {
        /// Bytes of the image.
        size: u64,
    },
    /// Sensors count bytes in 32 bits.
    #[error("the image has {0} bytes, it must have 1 to 4294967295")]
    Size(u64),
    /// The product has this version or a later one.
    #[error("version {version} is not above {latest}, the latest on chain")]
    Downgrade {
        /// Asked for.
        version: u64,
        /// On chain.
        latest: u64,
    },
    /// The version was begun with something else.
    #[error("version {version} was begun with another {what}; give that again, or another version")]
    Begun {
        /// The version.
        version: u64,
        /// What differs.
        what: &'static str,
    },
    /// The deadline of a version that was begun has passed before it was paid for.
    #[error("version {0} was begun with a deadline that has passed; publish another version")]
    DeadlinePassed(u64),
    /// The version does not fit the database; the factory's steps of 2^32 never reach it.
    #[error("version {0} is out of range")]
    Version(u64),
    /// A drawn key had been drawn before.
    #[error("the source of randomness repeats itself: a payload key was drawn that was used before")]
    KeyReused,
    /// A term that the contract refuses.
    #[error("--{0} {1}: {2}")]
    Terms(&'static str, String, &'static str),
    /// The chain has this version with another package: the release or Ethereum key is used elsewhere.
    #[error("version {version} is on chain with package {found}, not with {expected}")]
    Foreign {
        /// The version.
        version: u64,
        /// On chain.
        found: PackageId,
        /// Ours.
        expected: PackageId,
    },
}

/// What was published.
#[derive(Debug, Serialize)]
pub(super) struct Outcome {
    version: u64,
    mode: &'static str,
    bounty: String,
    p_id: String,
    package: String,
    u_id: String,
    key_id: Option<String>,
    size: u64,
    deposit_wei: String,
    claim_by: u64,
    lock_secs: u32,
    gas_used: u64,
}

/// The vendor at work.
pub(super) struct Publisher<'a> {
    pub(super) config: &'a Config,
    pub(super) store: Store,
    pub(super) chain: RpcChain,
    pub(super) wallet: Wallet,
    pub(super) release_key: ReleaseSigningKey,
    pub(super) patience: Patience,
}

impl Publisher<'_> {
    pub(super) async fn publish(&mut self, request: &Request) -> anyhow::Result<Outcome> {
        let image = request.image.clone();
        let (u_id, size) = tokio::task::spawn_blocking(move || package::measure(&image)).await??;
        check_size(request.mode, size)?;
        let latest = self.latest().await?;
        let version = self.version(request, u_id, latest.map(|(version, _)| version))?;
        let mut row = match self.store.release(version)? {
            Some(row) => begun(row, request, u_id)?,
            None => {
                let now = self.chain_time().await?;
                self.stage(request, Measured { version, u_id, size, latest, now })?
            }
        };
        crash_point("vendor.staged");
        if row.state == State::Staged {
            let root = package::build(self.config, &row, &request.image, &self.release_key).await?;
            self.store.prepared(version, &root)?;
            row.state = State::Prepared(root);
        }
        crash_point("vendor.prepared");
        let (root, published) = match row.state.clone() {
            State::Published(root, published) => (root, published),
            State::Prepared(root) => self.pay(&row, root, latest).await?,
            State::Staged => anyhow::bail!("a package that was built is not staged"),
        };
        self.outcome(&row, &root, &published)
    }

    /// The product's latest version at the newest block, which nothing final may know yet.
    async fn latest(&self) -> anyhow::Result<Option<(u64, Bounty)>> {
        let factory = UpdateFactory::new(self.chain.factory(), self.chain.provider().clone());
        let product = self.config.product.to_bytes().into();
        let latest = factory.latest(self.wallet.address(), product).call().await;
        let latest = latest.context("the factory does not answer")?;
        Ok((latest.version != 0).then(|| (latest.version, latest.bounty.into_array().into())))
    }

    /// The version asked for; else that of an unfinished publication of this image; else the next.
    fn version(&self, request: &Request, u_id: UpdateId, latest: Option<u64>) -> anyhow::Result<u64> {
        let unfinished = || -> anyhow::Result<Option<u64>> {
            let rows = self.store.releases()?;
            let open = |row: &ReleaseRow| !matches!(row.state, State::Published(..));
            let mut rows = rows.into_iter().filter(open);
            Ok(rows.find(|row| row.u_id == u_id && row.mode == request.mode).map(|row| row.version))
        };
        let version = match request.version {
            Some(version) => version,
            None => unfinished()?.unwrap_or(latest.unwrap_or(0) + 1),
        };
        if version == 0 || version > i64::MAX as u64 {
            return Err(PublishError::Version(version).into());
        }
        Ok(version)
    }

    /// Draws the secret and keeps it, before anything is made with it.
    fn stage(&mut self, request: &Request, of: Measured) -> anyhow::Result<ReleaseRow> {
        let Measured { version, u_id, size, latest, now } = of;
        if let Some((latest, _)) = latest.filter(|(latest, _)| version <= *latest) {
            return Err(PublishError::Downgrade { version, latest }.into());
        }
        let terms = check_terms(request.share, request.claim_by, request.lock);
        terms.map_err(|(key, value, why)| PublishError::Terms(key, value, why))?;
        let (secret, key_id) = match request.mode {
            Mode::Key => {
                let key = self.draw()?;
                (Zeroizing::new(key.as_bytes().to_vec()), Some(key.key_id()))
            }
            Mode::File => (Zeroizing::new(read_again(&request.image, &u_id)?), None),
        };
        let row = ReleaseRow {
            version,
            state: State::Staged,
            mode: request.mode,
            u_id,
            size,
            secret,
            key_id,
            share: request.share.0,
            claim_by: now + request.claim_by.0,
            lock_secs: u32::try_from(request.lock.0)?,
        };
        self.store.stage(&row)?;
        Ok(row)
    }

    /// 256 fresh random bits that no release had before.
    fn draw(&self) -> anyhow::Result<PayloadKey> {
        for _ in 0..DRAWS {
            let mut bytes = Zeroizing::new([0; 32]);
            rand::TryRngCore::try_fill_bytes(&mut rand::rngs::OsRng, bytes.as_mut_slice())?;
            let key = PayloadKey::new(*bytes);
            if !self.store.key_is_used(&key.key_id())? {
                return Ok(key);
            }
        }
        Err(PublishError::KeyReused.into())
    }

    /// Funds the bounty, unless that has happened.
    async fn pay(
        &mut self,
        row: &ReleaseRow,
        root: Root,
        latest: Option<(u64, Bounty)>,
    ) -> anyhow::Result<(Root, Published)> {
        let purpose = purpose_of(row.version);
        if let Some((version, bounty)) = latest.filter(|(version, _)| *version == row.version)
            && self.store.pending(&purpose)?.is_none()
        {
            let published = self.found(version, bounty, &root).await?;
            self.store.published(row.version, &published)?;
            return Ok((root, published));
        }
        if self.store.pending(&purpose)?.is_none() && row.claim_by <= self.chain_time().await? {
            return Err(PublishError::DeadlinePassed(row.version).into());
        }
        let call = calls::publish(self.chain.factory(), &self.terms(row, &root)?);
        let receipt = settle(&mut self.store, &self.wallet, &purpose, call, self.patience).await?;
        let published = self.announced(&receipt).await?;
        self.store.published(row.version, &published)?;
        Ok((root, published))
    }

    /// It is on chain although nothing is known of a transaction: it must be ours all the same.
    async fn found(&self, version: u64, bounty: Bounty, root: &Root) -> anyhow::Result<Published> {
        let terms = self.chain.terms(&bounty).await?;
        if terms.p_id != root.p_id {
            let (found, expected) = (terms.p_id, root.p_id);
            return Err(PublishError::Foreign { version, found, expected }.into());
        }
        Ok(Published { bounty, start: terms.start, gas: 0 })
    }

    async fn announced(&self, receipt: &TransactionReceipt) -> anyhow::Result<Published> {
        let factory: Address = self.chain.factory();
        let mut logs = receipt.logs().iter().filter(|log| log.address() == factory);
        let event = logs.find_map(|log| UpdateFactory::UpdatePublished::decode_log(&log.inner).ok());
        let event = event.context("the transaction published nothing")?;
        let bounty = Bounty::new(event.bounty.into_array());
        let start = self.chain.terms(&bounty).await?.start;
        Ok(Published { bounty, start, gas: receipt.gas_used })
    }

    fn terms(&self, row: &ReleaseRow, root: &Root) -> anyhow::Result<Publish> {
        let release = self.sealed(root)?;
        Ok(Publish {
            product: release.product,
            version: Version::new(row.version),
            u_id: row.u_id,
            p_id: root.p_id,
            root: release.fleet_root,
            depth: release.fleet_depth,
            curve: release.curve,
            claim_by: row.claim_by,
            lock_secs: row.lock_secs,
            bonus_until: 0,
            bonus_bps: 0,
            groups: vec![Group { end_index: release.fleet_size, share: row.share }],
        })
    }

    /// Our own release, out of the package.
    fn sealed(&self, root: &Root) -> anyhow::Result<Release> {
        let package = Package::decode(&root.block).context("the stored package")?;
        let key = self.release_key.release_key();
        release::open(&package.release, &key).context("the stored release: was the release key changed?")
    }

    fn outcome(&self, row: &ReleaseRow, root: &Root, published: &Published) -> anyhow::Result<Outcome> {
        let deposit: U256 = self.terms(row, root)?.deposit();
        Ok(Outcome {
            version: row.version,
            mode: mode_name(row.mode),
            bounty: format!("0x{}", published.bounty),
            p_id: root.p_id.to_string(),
            package: posthouse_protocol::id::ContentId::dag_cbor(root.p_id.to_bytes()).to_string(),
            u_id: row.u_id.to_string(),
            key_id: row.key_id.map(|id| id.to_string()),
            size: row.size,
            deposit_wei: deposit.to_string(),
            claim_by: row.claim_by,
            lock_secs: row.lock_secs,
            gas_used: published.gas,
        })
    }

    /// Time of the newest block.
    async fn chain_time(&self) -> anyhow::Result<u64> {
        Ok(self.chain.head(At::Latest).await?.timestamp)
    }
}

fn check_size(mode: Mode, size: u64) -> Result<(), PublishError> {
    match mode {
        Mode::File if size > MAX_FILE_MODE => Err(PublishError::TooLargeForFileMode { size }),
        _ if size == 0 || size > release::MAX_IMAGE => Err(PublishError::Size(size)),
        _ => Ok(()),
    }
}

/// A version that was begun goes on with what it was begun with.
fn begun(row: ReleaseRow, request: &Request, u_id: UpdateId) -> Result<ReleaseRow, PublishError> {
    let version = row.version;
    match () {
        () if row.u_id != u_id => Err(PublishError::Begun { version, what: "image" }),
        () if row.mode != request.mode => Err(PublishError::Begun { version, what: "mode" }),
        () => Ok(row),
    }
}

/// What is known before anything is kept.
struct Measured {
    version: u64,
    u_id: UpdateId,
    size: u64,
    latest: Option<(u64, Bounty)>,
    /// Time of the newest block: deadlines are the chain's, not this machine's.
    now: u64,
}

/// A small image, if it still is the one that was measured.
fn read_again(image: &Path, u_id: &UpdateId) -> anyhow::Result<Vec<u8>> {
    let bytes = std::fs::read(image)?;
    let same = sha2::Sha256::digest(&bytes).as_slice() == u_id.as_bytes();
    anyhow::ensure!(same, "{} changed while it was being published", image.display());
    Ok(bytes)
}

/// A file that is there and not empty, told before anything else is done.
pub(super) fn check_image(path: &Path) -> anyhow::Result<()> {
    let facts = std::fs::metadata(path).with_context(|| path.display().to_string())?;
    anyhow::ensure!(facts.is_file(), "{}: not a file", path.display());
    Ok(())
}
