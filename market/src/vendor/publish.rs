//! Publishes an image: secret, package, bounty, in this order, each durable before the next.
//!
//! Before that a [`Surveyor`] finds out what there is to be done and what it costs, and changes nothing.
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
use posthouse_contracts::chain::{At, Chain as _, RpcChain, refused};
use posthouse_contracts::terms::Group;
use posthouse_protocol::cose::ReleaseSigningKey;
use posthouse_protocol::id::{Bounty, PackageId, UpdateId};
use posthouse_protocol::package::Package;
use posthouse_protocol::release::{self, Mode, Release};
use posthouse_protocol::secret::PayloadKey;
use serde::Serialize;
use sha2::Digest as _;
use thiserror::Error;
use zeroize::Zeroizing;

use super::config::{Config, check_terms};
use super::deploy;
use super::package;
use super::plan::{self, Plan, Terms};
use super::show::ether;
use super::store::{Published, ReleaseRow, Root, State, Store, mode_name, purpose_of};
use super::terms::{self, Bonus, GroupError, GroupRange, Shares};
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
    pub(super) shares: Asked,
    pub(super) bonus: Option<Bonus>,
    pub(super) claim_by: Span,
    pub(super) lock: Span,
}

/// What devices are to be worth.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Asked {
    /// What the settings say.
    Default(Amount),
    /// `--share`.
    Share(Amount),
    /// `--group`, each.
    Groups(Vec<GroupRange>),
}

impl Asked {
    fn shares(&self, devices: u32) -> Result<Shares, PublishError> {
        Ok(match self {
            Self::Default(share) | Self::Share(share) => Shares::Single(share.0),
            Self::Groups(ranges) => Shares::Groups(terms::groups(ranges, devices)?),
        })
    }
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
    /// Groups that are none of this fleet's.
    #[error("--group: {0}")]
    Groups(#[from] GroupError),
    /// The contract wants a bonus to end by the deadline.
    #[error("--bonus: ends after {span} s, later than claims, which end after {claim_by} s")]
    Bonus {
        /// Seconds of the bonus.
        span: u64,
        /// Seconds of claims.
        claim_by: u64,
    },
    /// The fleet was enrolled anew since a version with groups was begun.
    #[error(
        "version {version} was begun with groups for another fleet than that of {devices} devices; publish another version"
    )]
    Fleet {
        /// The version.
        version: u64,
        /// Devices of the fleet that there is.
        devices: u32,
    },
    /// The wallet cannot pay for it.
    #[error(
        "{vendor} has {balance} wei, the publication needs up to {need} wei: {missing} wei ({}) are missing",
        ether(*missing)
    )]
    Funds {
        /// The wallet.
        vendor: Address,
        /// What it has.
        balance: U256,
        /// Deposit, and gas at what the transaction offers.
        need: U256,
        /// The difference.
        missing: U256,
    },
    /// There is nothing left to be shown.
    #[error("version {0} is published, or its transaction is under way: nothing is left to decide")]
    Decided(u64),
    /// What was agreed to is not what would be published.
    #[error("version {0} was begun by another process meanwhile; run the command again")]
    Raced(u64),
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
    refund_from: u64,
    bonus_bps: u16,
    bonus_until: u64,
    groups: Vec<GroupOutcome>,
    gas_used: u64,
}

#[derive(Debug, Serialize)]
struct GroupOutcome {
    end: u32,
    share_wei: String,
}

/// What is known before anything is kept.
pub(super) struct Survey {
    version: u64,
    u_id: UpdateId,
    size: u64,
    /// On chain, at the newest block.
    latest: Option<(u64, Bounty)>,
    /// The version as it was begun before.
    row: Option<ReleaseRow>,
    /// What it will cost; `None` once that is decided.
    pub(super) plan: Option<Plan>,
}

impl Survey {
    /// Why there is nothing to show.
    pub(super) fn decided(&self) -> PublishError {
        PublishError::Decided(self.version)
    }
}

/// Looks at everything and changes nothing.
pub(super) struct Surveyor<'a> {
    pub(super) config: &'a Config,
    pub(super) store: Option<Store>,
    pub(super) chain: &'a RpcChain,
    pub(super) wallet: &'a Wallet,
}

impl Surveyor<'_> {
    pub(super) async fn survey(&self, request: &Request) -> anyhow::Result<Survey> {
        let image = request.image.clone();
        let (u_id, size) = tokio::task::spawn_blocking(move || package::measure(&image)).await??;
        check_size(request.mode, size)?;
        let latest = self.latest().await?;
        let version = self.version(request, u_id, latest.map(|(version, _)| version))?;
        let row = self.store.as_ref().map(|store| store.release(version)).transpose()?.flatten();
        if let Some(row) = &row {
            check_begun(row, request, u_id)?;
        }
        let mut survey = Survey { version, u_id, size, latest, row, plan: None };
        if !self.is_decided(&survey)? {
            survey.plan = Some(self.plan(request, &survey).await?);
        }
        Ok(survey)
    }

    /// The product's latest version at the newest block, which nothing final may know yet.
    async fn latest(&self) -> anyhow::Result<Option<(u64, Bounty)>> {
        let factory = UpdateFactory::new(self.chain.factory(), self.chain.provider().clone());
        let product = self.config.product.to_bytes().into();
        let latest = factory.latest(self.wallet.address(), product).call().await;
        let latest = latest.map_err(refused("latest")).context("the factory does not answer")?;
        Ok((latest.version != 0).then(|| (latest.version, latest.bounty.into_array().into())))
    }

    /// The version asked for; else that of an unfinished publication of this image; else the next.
    fn version(&self, request: &Request, u_id: UpdateId, latest: Option<u64>) -> anyhow::Result<u64> {
        let unfinished = || -> anyhow::Result<Option<u64>> {
            let rows = self.store.as_ref().map(Store::releases).transpose()?.unwrap_or_default();
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

    /// Whether the money is spent, or may be by a transaction that is signed.
    fn is_decided(&self, survey: &Survey) -> anyhow::Result<bool> {
        let (Some(store), Some(row)) = (&self.store, &survey.row) else { return Ok(false) };
        let on_chain = survey.latest.is_some_and(|(latest, _)| latest == row.version);
        Ok(match row.state {
            State::Published(..) => true,
            State::Prepared(_) => on_chain || store.pending(&purpose_of(row.version))?.is_some(),
            State::Staged => false,
        })
    }

    async fn plan(&self, request: &Request, survey: &Survey) -> anyhow::Result<Plan> {
        let version = survey.version;
        if let Some((latest, _)) = survey.latest.filter(|(latest, _)| version <= *latest) {
            return Err(PublishError::Downgrade { version, latest }.into());
        }
        let devices = plan::devices(self.config, version)?;
        // Deadlines are the chain's, not this machine's.
        let now = self.chain.head(At::Latest).await?.timestamp;
        let terms = match &survey.row {
            Some(row) => begun_terms(row, devices, now)?,
            None => new_terms(request, survey, devices, now)?,
        };
        Plan::new(self.config, self.wallet, self.chain.factory(), terms, now).await
    }
}

fn new_terms(request: &Request, survey: &Survey, devices: u32, now: u64) -> anyhow::Result<Terms> {
    let shares = request.shares.shares(devices)?;
    let single = match shares {
        Shares::Single(share) => Amount(share),
        Shares::Groups(_) => Amount(1),
    };
    let checked = check_terms(single, request.claim_by, request.lock);
    checked.map_err(|(key, value, why)| PublishError::Terms(key, value, why))?;
    if let Some(bonus) = request.bonus.filter(|bonus| bonus.span.0 > request.claim_by.0) {
        let (span, claim_by) = (bonus.span.0, request.claim_by.0);
        return Err(PublishError::Bonus { span, claim_by }.into());
    }
    Ok(Terms {
        version: survey.version,
        mode: request.mode,
        u_id: survey.u_id,
        size: survey.size,
        devices,
        shares,
        bonus: request.bonus,
        claim_by: now + request.claim_by.0,
        lock_secs: u32::try_from(request.lock.0)?,
    })
}

/// A version that was begun goes on with what it was begun with.
fn begun_terms(row: &ReleaseRow, devices: u32, now: u64) -> Result<Terms, PublishError> {
    let version = row.version;
    match () {
        () if row.claim_by <= now => Err(PublishError::DeadlinePassed(version)),
        () if !row.shares.fit(devices) => Err(PublishError::Fleet { version, devices }),
        () => Ok(Terms::of(row, devices)),
    }
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
    /// Goes through with what was surveyed, and agreed to.
    pub(super) async fn publish(&mut self, request: &Request, survey: Survey) -> anyhow::Result<Outcome> {
        let Survey { version, latest, plan, .. } = survey;
        let mut row = match (self.store.release(version)?, survey.row, plan) {
            (Some(row), Some(_), _) => row,
            (None, None, Some(plan)) => self.stage(request, plan.terms)?,
            _ => return Err(PublishError::Raced(version).into()),
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
        self.outcome(&row, &root, &published).await
    }

    /// Draws the secret and keeps it, before anything is made with it.
    fn stage(&mut self, request: &Request, terms: Terms) -> anyhow::Result<ReleaseRow> {
        let (secret, key_id) = match terms.mode {
            Mode::Key => {
                let key = self.draw()?;
                (Zeroizing::new(key.as_bytes().to_vec()), Some(key.key_id()))
            }
            Mode::File => (Zeroizing::new(read_again(&request.image, &terms.u_id)?), None),
        };
        let row = ReleaseRow {
            version: terms.version,
            state: State::Staged,
            mode: terms.mode,
            u_id: terms.u_id,
            size: terms.size,
            secret,
            key_id,
            shares: terms.shares,
            bonus: terms.bonus,
            claim_by: terms.claim_by,
            lock_secs: terms.lock_secs,
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
        // The bonus counts from here. A transaction that was signed before has its own end of it, which stands as well.
        let now = self.chain.head(At::Latest).await?.timestamp;
        if self.store.pending(&purpose)?.is_none() && row.claim_by <= now {
            return Err(PublishError::DeadlinePassed(row.version).into());
        }
        // Looked at before consent was asked, too; but a package takes long, and a reorganisation may take a factory away.
        deploy::check(&self.chain).await?;
        let call = calls::publish(self.chain.factory(), &self.terms(row, &root, now)?);
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

    fn terms(&self, row: &ReleaseRow, root: &Root, now: u64) -> anyhow::Result<Publish> {
        let release = self.sealed(root)?;
        let (version, devices) = (row.version, release.fleet_size);
        if !row.shares.fit(devices) {
            return Err(PublishError::Fleet { version, devices }.into());
        }
        Ok(Terms::of(row, devices).publish(self.config, root.p_id, release.fleet_root, now))
    }

    /// Our own release, out of the package.
    fn sealed(&self, root: &Root) -> anyhow::Result<Release> {
        let package = Package::decode(&root.block).context("the stored package")?;
        let key = self.release_key.release_key();
        release::open(&package.release, &key).context("the stored release: was the release key changed?")
    }

    /// As the chain has it.
    async fn outcome(&self, row: &ReleaseRow, root: &Root, published: &Published) -> anyhow::Result<Outcome> {
        let terms = self.chain.terms(&published.bounty).await?;
        let group = |group: &Group| GroupOutcome { end: group.end_index, share_wei: group.share.to_string() };
        Ok(Outcome {
            version: row.version,
            mode: mode_name(row.mode),
            bounty: format!("0x{}", published.bounty),
            p_id: root.p_id.to_string(),
            package: posthouse_protocol::id::ContentId::dag_cbor(root.p_id.to_bytes()).to_string(),
            u_id: row.u_id.to_string(),
            key_id: row.key_id.map(|id| id.to_string()),
            size: row.size,
            deposit_wei: terms.deposit().to_string(),
            claim_by: terms.claim_by,
            lock_secs: terms.lock_secs,
            refund_from: terms.refund_from(),
            bonus_bps: terms.bonus_bps,
            bonus_until: terms.bonus_until,
            groups: terms.groups.iter().map(group).collect(),
            gas_used: published.gas,
        })
    }
}

fn check_size(mode: Mode, size: u64) -> Result<(), PublishError> {
    match mode {
        Mode::File if size > MAX_FILE_MODE => Err(PublishError::TooLargeForFileMode { size }),
        _ if size == 0 || size > release::MAX_IMAGE => Err(PublishError::Size(size)),
        _ => Ok(()),
    }
}

/// What the command says of a version must be what it was begun with; what it leaves out is taken from there.
fn check_begun(row: &ReleaseRow, request: &Request, u_id: UpdateId) -> Result<(), PublishError> {
    let other = |what| Err(PublishError::Begun { version: row.version, what });
    let same_shares = match (&request.shares, &row.shares) {
        (Asked::Default(_), _) => true,
        (Asked::Share(asked), Shares::Single(share)) => asked.0 == *share,
        (Asked::Groups(ranges), Shares::Groups(groups)) => {
            let devices = groups.last().map_or(0, |last| last.end_index);
            terms::groups(ranges, devices).is_ok_and(|asked| asked == *groups)
        }
        _ => false,
    };
    match () {
        () if row.u_id != u_id => other("image"),
        () if row.mode != request.mode => other("mode"),
        () if !same_shares => other("share"),
        () if request.bonus.is_some() && request.bonus != row.bonus => other("bonus"),
        () => Ok(()),
    }
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
