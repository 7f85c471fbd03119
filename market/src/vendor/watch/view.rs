//! What `watch` shows: a snapshot of the delivery, and a line for each thing that happens.

use std::fmt::{self, Display};

use alloy::primitives::U256;
use posthouse_contracts::chain::{Event, What};
use posthouse_contracts::terms::BASIS_POINTS;
use posthouse_protocol::id::Bounty;
use serde::Serialize;
use serde_json::{Value, json};

use super::reader::{News, View};
use crate::vendor::show::{bps_of, ether, moment, percent};

/// The delivery after a block. Amounts are wei as decimal text, times unix seconds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Snapshot {
    event: &'static str,
    bounty: String,
    vendor: String,
    state: Phase,
    head: Block,
    #[serde(rename = "final")]
    finalized: Block,
    audited_to: u64,
    devices: u32,
    claimed: u32,
    claimed_final: u32,
    groups: Vec<Group>,
    reserved_devices: u32,
    #[serde(rename = "reserved_wei")]
    reserved: U256Text,
    #[serde(rename = "deposit_wei")]
    deposit: U256Text,
    #[serde(flatten)]
    money: Money,
    final_money: Money,
    /// What the contract has and no event accounts for.
    #[serde(rename = "surplus_wei")]
    surplus: U256Text,
    bonus_bps: u64,
    bonus_until: u64,
    claim_by: u64,
    refund_from: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
struct Block {
    block: u64,
    time: u64,
}

/// What may still happen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
enum Phase {
    /// Receipts are taken.
    Open,
    /// Only what is reserved is.
    Closed,
    /// The vendor may have the rest back.
    Refundable,
    /// It has.
    Refunded,
    /// Every share is claimed.
    Complete,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
struct Group {
    begin: u32,
    end: u32,
    share_wei: String,
    claimed: u32,
    claimed_final: u32,
    /// 1/10000 of the group's devices, rounded down.
    claimed_bps: u64,
}

/// paid + refunded + left = deposit, and left = credited + refundable.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
struct Money {
    #[serde(rename = "paid_wei")]
    paid: U256Text,
    #[serde(rename = "credited_wei")]
    credited: U256Text,
    #[serde(rename = "refunded_wei")]
    refunded: U256Text,
    #[serde(rename = "left_wei")]
    left: U256Text,
    #[serde(rename = "refundable_wei")]
    refundable: U256Text,
}

/// Wei, as decimal text in JSON.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct U256Text(U256);

impl Serialize for U256Text {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&self.0)
    }
}

impl U256Text {
    fn ether(self) -> String {
        ether(self.0)
    }
}

impl Snapshot {
    pub(super) fn new(bounty: &Bounty, view: &View<'_>) -> Self {
        let View { terms, head, finalized, latest, settled, surplus, audited } = view;
        let now = head.timestamp;
        let (reserved_devices, reserved) = latest.reserved(terms, now);
        let money = |ledger: &super::ledger::Ledger| {
            let left = ledger.balance(terms, *surplus);
            Money {
                paid: U256Text(ledger.paid()),
                credited: U256Text(ledger.credited),
                refunded: U256Text(ledger.refunded),
                left: U256Text(left),
                refundable: U256Text(left.saturating_sub(ledger.credited)),
            }
        };
        let mut begin = 0;
        let counts = latest.groups.iter().zip(&settled.groups);
        let group = |(group, (claimed, settled)): (&posthouse_contracts::terms::Group, (&u32, &u32))| {
            let row = Group {
                begin,
                end: group.end_index,
                share_wei: group.share.to_string(),
                claimed: *claimed,
                claimed_final: *settled,
                claimed_bps: bps_of(*claimed, group.end_index - begin),
            };
            begin = group.end_index;
            row
        };
        let devices = terms.fleet_size();
        Self {
            event: "snapshot",
            bounty: format!("0x{bounty}"),
            vendor: terms.vendor.to_string(),
            state: match () {
                () if latest.claimed() == devices => Phase::Complete,
                () if !latest.refunded.is_zero() => Phase::Refunded,
                () if now >= terms.refund_from() => Phase::Refundable,
                () if now > terms.claim_by => Phase::Closed,
                () => Phase::Open,
            },
            head: Block { block: head.number, time: now },
            finalized: Block { block: finalized.number, time: finalized.timestamp },
            audited_to: *audited,
            devices,
            claimed: latest.claimed(),
            claimed_final: settled.claimed(),
            groups: terms.groups.iter().zip(counts).map(group).collect(),
            reserved_devices,
            reserved: U256Text(reserved),
            deposit: U256Text(terms.deposit()),
            money: money(latest),
            final_money: money(settled),
            surplus: U256Text(*surplus),
            bonus_bps: bonus_at(terms, now),
            bonus_until: terms.bonus_until,
            claim_by: terms.claim_by,
            refund_from: terms.refund_from(),
        }
    }

    /// Whether nothing but time has passed since another one.
    pub(super) fn says_no_more_than(&self, before: &Self) -> bool {
        let (head, finalized, audited_to) = (before.head, before.finalized, before.audited_to);
        let timeless = Self { head, finalized, audited_to, bonus_bps: before.bonus_bps, ..self.clone() };
        timeless == *before
    }

    /// Whether all is claimed or refunded, for good, and the contract's own state says so: by its ledger of claims, or because it
    /// has nothing but credits after a refund. Money that no event accounts for does not count: anybody can force some on it.
    pub(super) fn is_done(&self) -> bool {
        let is_claimed = self.claimed_final == self.devices;
        let Money { refunded, refundable, .. } = self.final_money;
        let is_refunded = !refunded.0.is_zero() && refundable.0.is_zero();
        self.audited_to == self.finalized.block && (is_claimed || is_refunded)
    }
}

/// The bonus in 1/10000 of a share for what is taken at `now`, rounded down.
fn bonus_at(terms: &posthouse_contracts::terms::Terms, now: u64) -> u64 {
    let whole = posthouse_contracts::terms::Group { end_index: 1, share: u128::from(BASIS_POINTS) };
    let one = posthouse_contracts::terms::Terms { groups: vec![whole], ..terms.clone() };
    let share = one.share_at(0, now.max(terms.start)).unwrap_or_default();
    u64::try_from(share).unwrap_or(u64::MAX).saturating_sub(BASIS_POINTS.into())
}

/// For people, in lines that fit a terminal.
impl Display for Snapshot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let now = self.head.time;
        let state = match self.state {
            Phase::Open => "open",
            Phase::Closed => "closed, but for what is reserved",
            Phase::Refundable => "closed, the rest can be refunded",
            Phase::Refunded => "refunded",
            Phase::Complete => "all is claimed",
        };
        writeln!(f, "bounty      {}, {state}", self.bounty)?;
        let unaudited =
            if self.audited_to < self.finalized.block { ", not held against its state" } else { "" };
        writeln!(f, "block       {}, final to {}{unaudited}", self.head.block, self.finalized.block)?;
        writeln!(f, "{:<22}{:<20}{:<26}final", "devices", "share", "claimed")?;
        let count = |part: u32, of: u32| format!("{part} of {of} {}", percent(bps_of(part, of)));
        for group in &self.groups {
            let range = format!("  {}..{}", group.begin, group.end);
            let share = ether(group.share_wei.parse().unwrap_or_default());
            let claimed = count(group.claimed, group.end - group.begin);
            writeln!(f, "{range:<22}{share:<20}{claimed:<26}{}", group.claimed_final)?;
        }
        let all = count(self.claimed, self.devices);
        writeln!(f, "{:<42}{all:<26}{}", "  all", self.claimed_final)?;
        writeln!(f, "reserved    {} devices, {}", self.reserved_devices, self.reserved.ether())?;
        let (money, settled) = (&self.money, &self.final_money);
        writeln!(f, "paid        {} (final {})", money.paid.ether(), settled.paid.ether())?;
        writeln!(f, "credited    {} (final {})", money.credited.ether(), settled.credited.ether())?;
        writeln!(f, "refunded    {} (final {})", money.refunded.ether(), settled.refunded.ether())?;
        writeln!(f, "left        {} of {}", money.left.ether(), self.deposit.ether())?;
        writeln!(f, "refundable  {} of it, if nobody earns more", money.refundable.ether())?;
        if !self.surplus.0.is_zero() {
            let surplus = self.surplus.ether();
            writeln!(
                f,
                "surplus     {surplus} that no event accounts for: sent to it, or amounts told too high"
            )?;
        }
        match self.bonus_until {
            0 => writeln!(f, "bonus       none")?,
            until => writeln!(f, "bonus       {}, until {}", percent(self.bonus_bps), moment(until, now))?,
        }
        writeln!(f, "claims      until {}", moment(self.claim_by, now))?;
        write!(f, "refund      from {}", moment(self.refund_from, now))
    }
}

/// News as a line of JSON.
pub(super) fn as_json(news: &News) -> Value {
    let (event, name, is_final) = match news {
        News::Came { event, is_final } => (event, None, *is_final),
        News::TakenBack(event) => (event, Some("taken_back"), false),
    };
    let mut value = json!({
        "event": name.unwrap_or(kind(&event.what)),
        "final": is_final,
        "block": event.block,
        "block_hash": event.block_hash.to_string(),
        "transaction": event.transaction.to_string(),
    });
    if name.is_some() {
        value["of"] = kind(&event.what).into();
    }
    let (payee, index, amount) = details(event);
    value["payee"] = payee.into();
    value["index"] = index.into();
    value["amount_wei"] = amount.to_string().into();
    value
}

/// News as a line of text.
pub(super) fn as_text(news: &News) -> String {
    let (event, word) = match news {
        News::Came { event, is_final: true } => (event, " (final)"),
        News::Came { event, is_final: false } => (event, ""),
        News::TakenBack(event) => (event, ", TAKEN BACK by a reorganisation"),
    };
    let (payee, index, amount) = details(event);
    let device = index.map(|index| format!(" device {index}")).unwrap_or_default();
    let payee = payee.map(|payee| format!(" {payee}")).unwrap_or_default();
    let (kind, amount) = (kind(&event.what), ether(amount));
    format!("{kind}{device}{payee} {amount} block {} {}{word}", event.block, event.transaction)
}

fn kind(what: &What) -> &'static str {
    match what {
        What::Claimed { .. } => "claim",
        What::Reserved { .. } => "reservation",
        What::Released { .. } => "release",
        What::Credited { .. } => "credit",
        What::Withdrawn { .. } => "withdrawal",
        What::Refunded { .. } => "refund",
    }
}

fn details(event: &Event) -> (Option<String>, Option<u32>, U256) {
    match &event.what {
        What::Claimed { payee, index, amount } => (Some(format!("0x{payee}")), Some(*index), *amount),
        What::Credited { payee, amount } | What::Withdrawn { payee, amount, .. } => {
            (Some(format!("0x{payee}")), None, *amount)
        }
        What::Refunded { amount } => (None, None, *amount),
        What::Reserved { .. } | What::Released { .. } => (None, None, U256::ZERO),
    }
}
