//! What a publication will cost and when the money comes back: shown, and agreed to, before anything is written or sent.

use std::fmt::{self, Display};
use std::fs::File;

use alloy::primitives::{Address, U256};
use posthouse_contracts::calls::{self, Publish};
use posthouse_contracts::fleet::FleetReader;
use posthouse_contracts::terms::Group;
use posthouse_protocol::id::{FleetRoot, PackageId, UpdateId, Version};
use posthouse_protocol::release::Mode;
use serde::Serialize;

use super::config::Config;
use super::publish::PublishError;
use super::show::{ether, gwei, moment, percent};
use super::store::{ReleaseRow, mode_name};
use super::terms::{Bonus, Shares};
use crate::wallet::{Quote, Wallet};

/// Stands in for an estimate where the account has too little for one: more than a publication uses.
const PUBLISH_GAS: u64 = 200_000;

/// What is going to be published, as far as it is for the vendor to decide. Times are unix seconds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Terms {
    pub(super) version: u64,
    pub(super) mode: Mode,
    pub(super) u_id: UpdateId,
    /// Bytes of the image.
    pub(super) size: u64,
    pub(super) devices: u32,
    pub(super) shares: Shares,
    pub(super) bonus: Option<Bonus>,
    pub(super) claim_by: u64,
    pub(super) lock_secs: u32,
}

impl Terms {
    /// Those that a version was begun with. The caller has seen that they fit the fleet.
    pub(super) fn of(row: &ReleaseRow, devices: u32) -> Self {
        Self {
            version: row.version,
            mode: row.mode,
            u_id: row.u_id,
            size: row.size,
            devices,
            shares: row.shares.clone(),
            bonus: row.bonus,
            claim_by: row.claim_by,
            lock_secs: row.lock_secs,
        }
    }

    /// The contract's terms, with the digests that are not known before the package is made. `now` is the time of the
    /// publication, from which the bonus counts; it ends with the claims at the latest.
    pub(super) fn publish(&self, config: &Config, p_id: PackageId, root: FleetRoot, now: u64) -> Publish {
        let until = |bonus: Bonus| now.saturating_add(bonus.span.0).min(self.claim_by);
        Publish {
            product: config.product,
            version: Version::new(self.version),
            u_id: self.u_id,
            p_id,
            root,
            // The least that holds all leaves.
            depth: (u32::BITS - self.devices.saturating_sub(1).leading_zeros()) as u8,
            curve: config.curve,
            claim_by: self.claim_by,
            lock_secs: self.lock_secs,
            bonus_until: self.bonus.map_or(0, until),
            bonus_bps: self.bonus.map_or(0, |bonus| bonus.bps),
            groups: self.shares.groups(self.devices),
        }
    }
}

/// The terms with what they cost. Amounts are wei; none comes near the 256 bits that it is counted in: 2^32 devices times
/// 2^96 wei times 7.6, and 2^64 gas times 2^128 wei.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Plan {
    pub(super) terms: Terms,
    /// With the largest digests there are, whose calldata is the dearest.
    publish: Publish,
    quote: Quote,
    vendor: Address,
    balance: U256,
    now: u64,
}

impl Plan {
    /// Reckons what the terms cost and whether the wallet has it.
    ///
    /// # Errors
    /// [`PublishError::Funds`]; the chain is not there, or the factory refuses.
    pub(super) async fn new(
        config: &Config,
        wallet: &Wallet,
        factory: Address,
        terms: Terms,
        now: u64,
    ) -> anyhow::Result<Self> {
        let publish = terms.publish(config, PackageId::new([0xff; 32]), FleetRoot::new([0xff; 32]), now);
        let (vendor, balance) = (wallet.address(), wallet.balance().await?);
        let can_estimate = balance >= publish.deposit();
        let gas = match can_estimate {
            true => wallet.estimate(calls::publish(factory, &publish)).await?,
            false => PUBLISH_GAS,
        };
        let quote = wallet.quote(gas).await?;
        let plan = Self { terms, publish, quote, vendor, balance, now };
        let need = plan.deposit() + U256::from(quote.limit) * U256::from(quote.offer);
        match need.saturating_sub(balance) {
            missing if missing.is_zero() => Ok(plan),
            missing => Err(PublishError::Funds { vendor, balance, need, missing }.into()),
        }
    }

    /// Every device's share with the whole bonus: what goes to the contract.
    pub(super) fn deposit(&self) -> U256 {
        self.publish.deposit()
    }

    /// Every device's share without bonus.
    pub(super) fn without_bonus(&self) -> U256 {
        Publish { bonus_bps: 0, ..self.publish.clone() }.deposit()
    }

    fn gas_now(&self) -> U256 {
        U256::from(self.quote.gas) * U256::from(self.quote.fee)
    }

    fn gas_at_most(&self) -> U256 {
        U256::from(self.quote.limit) * U256::from(self.quote.cap)
    }

    /// All is claimed at the highest bonus, and the publication costs what it may.
    pub(super) fn worst_case(&self) -> U256 {
        self.deposit() + self.gas_at_most()
    }

    /// First second in which what nobody earned comes back.
    pub(super) fn refund_from(&self) -> u64 {
        self.terms.claim_by + u64::from(self.terms.lock_secs) + 1
    }

    /// Each group alone: its first index, and the terms as if there were no other.
    fn rows(&self) -> impl Iterator<Item = Row> + '_ {
        let mut begin = 0;
        self.publish.groups.iter().map(move |group| {
            let devices = group.end_index - begin;
            let one = |end_index| Publish {
                groups: vec![Group { end_index, share: group.share }],
                ..self.publish.clone()
            };
            let row = Row {
                begin,
                end: group.end_index,
                share: U256::from(group.share),
                largest: one(1).deposit(),
                together: one(devices).deposit(),
            };
            begin = group.end_index;
            row
        })
    }

    /// For programs.
    pub(super) fn report(&self) -> Report {
        Report {
            version: self.terms.version,
            mode: mode_name(self.terms.mode),
            u_id: self.terms.u_id.to_string(),
            size: self.terms.size,
            devices: self.terms.devices,
            groups: self.rows().map(Row::report).collect(),
            bonus_bps: self.publish.bonus_bps,
            bonus_until: self.publish.bonus_until,
            claim_by: self.terms.claim_by,
            lock_secs: self.terms.lock_secs,
            refund_from: self.refund_from(),
            deposit_wei: self.deposit().to_string(),
            without_bonus_wei: self.without_bonus().to_string(),
            gas: self.quote.gas,
            gas_limit: self.quote.limit,
            fee_wei: self.quote.fee.to_string(),
            max_fee_wei: self.quote.cap.to_string(),
            gas_now_wei: self.gas_now().to_string(),
            gas_at_most_wei: self.gas_at_most().to_string(),
            worst_case_wei: self.worst_case().to_string(),
            vendor: self.vendor.to_string(),
            balance_wei: self.balance.to_string(),
        }
    }
}

struct Row {
    begin: u32,
    end: u32,
    share: U256,
    largest: U256,
    together: U256,
}

impl Row {
    fn report(self) -> GroupReport {
        GroupReport {
            begin: self.begin,
            end: self.end,
            share_wei: self.share.to_string(),
            largest_share_wei: self.largest.to_string(),
            deposit_wei: self.together.to_string(),
        }
    }
}

/// A plan as JSON.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    version: u64,
    mode: &'static str,
    u_id: String,
    size: u64,
    devices: u32,
    groups: Vec<GroupReport>,
    bonus_bps: u16,
    bonus_until: u64,
    claim_by: u64,
    lock_secs: u32,
    refund_from: u64,
    deposit_wei: String,
    without_bonus_wei: String,
    gas: u64,
    gas_limit: u64,
    fee_wei: String,
    max_fee_wei: String,
    gas_now_wei: String,
    gas_at_most_wei: String,
    worst_case_wei: String,
    vendor: String,
    balance_wei: String,
}

#[derive(Debug, Serialize)]
struct GroupReport {
    begin: u32,
    end: u32,
    share_wei: String,
    largest_share_wei: String,
    deposit_wei: String,
}

/// For people.
impl Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (terms, quote) = (&self.terms, &self.quote);
        let mode = mode_name(terms.mode);
        writeln!(
            f,
            "version {}: {} bytes in {mode} mode for {} devices",
            terms.version, terms.size, terms.devices
        )?;
        writeln!(f, "  {:<22}{:<26}{:<26}together", "devices", "share", "with the whole bonus")?;
        for Row { begin, end, share, largest, together } in self.rows() {
            let (range, share, largest) = (format!("{begin}..{end}"), ether(share), ether(largest));
            writeln!(f, "  {range:<22}{share:<26}{largest:<26}{}", ether(together))?;
        }
        match terms.bonus {
            Some(bonus) => {
                let until = moment(self.publish.bonus_until, self.now);
                writeln!(f, "bonus          {}, falling to nothing by {until}", percent(bonus.bps.into()))?;
            }
            None => writeln!(f, "bonus          none")?,
        }
        writeln!(f, "deposit        {}", ether(self.deposit()))?;
        let (now, most) = (ether(self.gas_now()), ether(self.gas_at_most()));
        writeln!(f, "publication    {now} for {} gas at {}", quote.gas, gwei(quote.fee))?;
        writeln!(f, "               {most} at most, for {} gas at {}", quote.limit, gwei(quote.cap))?;
        writeln!(f, "worst case     {}: all claimed at once at the highest bonus", ether(self.worst_case()))?;
        writeln!(f, "without bonus  {}: all claimed, after the bonus", ether(self.without_bonus()))?;
        writeln!(f, "claims until   {}", moment(terms.claim_by, self.now))?;
        writeln!(f, "refund from    {}, of what nobody earned", moment(self.refund_from(), self.now))?;
        write!(f, "paid by        {}, which has {}", self.vendor, ether(self.balance))
    }
}

/// How many devices the release of a version is for: the fleet that its package has, or will have.
pub(super) fn devices(config: &Config, version: u64) -> anyhow::Result<u32> {
    use anyhow::Context as _;
    let kept = config.release_dir(version).join("fleet");
    let file = if kept.exists() { File::open(kept) } else { File::open(config.fleet_path()) };
    let file = file.context("no fleet: run `posthouse-vendor enrol DEVICES_FILE` first")?;
    Ok(FleetReader::new(file)?.size())
}
