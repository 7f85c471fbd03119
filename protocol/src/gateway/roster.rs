//! The sensors of one exchange, and how far each is.

use alloc::collections::{BTreeMap, BTreeSet};

use super::io::{Admission, ClaimState, Intent, SensorFault};
use super::peer::Peer;
use crate::id::{Attempt, Curve, LockHash, Signature, Version};

/// A receipt, from asking to the distributor's answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Receipt {
    pub(super) attempt: Attempt,
    pub(super) step: Step,
}

/// How far a receipt is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    /// Asked for.
    Asked,
    /// Signed, to be sent until it is acknowledged.
    Signed(Signature),
    /// The distributor has it.
    Acked,
    /// The distributor will not have it.
    Refused,
    /// The chain has seen this attempt or a higher one: another may be asked for.
    Stale,
}

impl Receipt {
    pub(super) fn is_signed(&self) -> bool {
        self.step != Step::Asked
    }
}

/// One sensor.
#[derive(Debug, Clone, Default)]
pub(super) struct Sensor {
    /// `None` for one that only records speak of: it has not been heard since the restart.
    pub(super) seen: Option<Seen>,
    pub(super) delegation: Option<Signature>,
    /// When it was last asked to delegate; 0 if never.
    pub(super) delegate_asked: u64,
    pub(super) index: Option<u32>,
    /// Distributors that say it is not in the fleet.
    pub(super) denied_by: BTreeSet<Peer>,
    /// Distributors that say its share is claimed. The chain decides, once its index is known.
    pub(super) claimed_by_word: BTreeSet<Peer>,
    /// How its share stood, and when that was read.
    pub(super) claim: Option<(ClaimState, u64)>,
    /// Highest attempt reserved on chain.
    pub(super) chain_attempt: u8,
    pub(super) receipts: BTreeMap<LockHash, Receipt>,
    /// A report that it runs the update, signed.
    pub(super) report: Option<Signature>,
    /// Its unsigned word that it runs the update was told of: it may take that back and say it again.
    pub(super) told_installed: bool,
    /// What the site lets it have.
    pub(super) admission: Admission,
    /// What was last intended for it.
    pub(super) intent: Intent,
    pub(super) fault: Option<SensorFault>,
    /// When membership was first wanted of it with the image staged.
    pub(super) waiting_since: Option<u64>,
    /// No further attempt for a refusal before this: one refusal may arrive twice.
    pub(super) next_bump: u64,
}

/// What a sensor said about itself.
#[derive(Debug, Clone, Copy)]
pub(super) struct Seen {
    pub(super) curve: Curve,
    pub(super) installed: Version,
    /// Last time it was heard.
    pub(super) heard: u64,
}

impl Sensor {
    /// Whether it is here and does not run the version yet.
    pub(super) fn lacks(&self, version: Version) -> bool {
        self.seen.is_some_and(|seen| seen.installed < version)
    }

    /// Whether something is to be done for it: it lacks the version, and the site does not hold it back.
    pub(super) fn needs(&self, version: Version) -> bool {
        self.lacks(version) && self.admission != Admission::Held
    }

    /// Whether it was heard less than `for_ms` ago.
    pub(super) fn is_awake(&self, now: u64, for_ms: u64) -> bool {
        self.seen.is_some_and(|seen| seen.heard > 0 && now < seen.heard.saturating_add(for_ms))
    }

    /// The receipt that it was asked for and has not signed. There is never a second one: the next
    /// attempt is asked for when this one is signed, so that the sensor's count and ours agree.
    pub(super) fn pending(&self) -> Option<(LockHash, Attempt)> {
        let mut open = self.receipts.iter().filter(|(_, receipt)| !receipt.is_signed());
        open.next().map(|(s, receipt)| (*s, receipt.attempt))
    }

    /// Whether it signed a receipt for this offer.
    pub(super) fn has_paid(&self, s: &LockHash) -> bool {
        self.receipts.get(s).is_some_and(Receipt::is_signed)
    }

    /// The attempt that its next distinct receipt carries, above all that it signed and all that
    /// the chain has seen; `None` at the limit.
    pub(super) fn next_attempt(&self, max: u8) -> Option<Attempt> {
        let own = self.receipts.values().map(|receipt| receipt.attempt.get()).max().unwrap_or(0);
        let last = own.max(self.chain_attempt);
        (last < max).then(|| Attempt::new(last + 1))
    }

    /// Whether its share is gone to an exchange, this or another.
    pub(super) fn is_claimed(&self) -> bool {
        matches!(self.claim, Some((ClaimState::Claimed, _)))
    }

    /// Whether its share is locked at this moment by another offer than this.
    pub(super) fn is_locked_elsewhere(&self, s: &LockHash, now: u64) -> bool {
        matches!(self.claim, Some((ClaimState::Locked { until, by }, _))
            if by != Some(*s) && now < until.saturating_mul(1000))
    }
}
