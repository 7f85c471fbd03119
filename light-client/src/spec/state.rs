//! What is proven, and how it grows.

use std::sync::Arc;

use alloy::primitives::B256;

use super::committee::Members;
use super::header::Header;
use super::network::Network;
use super::update::{Bootstrap, Update};
use super::{Refused, validate};

/// What an update moved. All `false`: it was true and said nothing new.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[must_use]
pub struct Applied {
    /// There is a later finalized header.
    pub finalized: bool,
    /// There is a later optimistic header.
    pub optimistic: bool,
    /// A next committee is known that was not.
    pub next_committee: bool,
}

impl Applied {
    /// Whether there is something to store or to tell.
    #[must_use]
    pub const fn anything(self) -> bool {
        self.finalized || self.optimistic || self.next_committee
    }
}

/// `LightClientStore`: the headers and committees that follow from the checkpoint. Headers only ever get later.
#[derive(Debug, Clone)]
pub struct State {
    pub(super) network: Arc<Network>,
    pub(super) finalized: Header,
    pub(super) optimistic: Header,
    pub(super) current: Members,
    pub(super) next: Option<Members>,
}

impl State {
    /// `initialize_light_client_store`: from a checkpoint that the operator trusts. How old it may be is not asked
    /// here; see [`Network::weak_subjectivity`].
    ///
    /// # Errors
    /// [`Refused::Checkpoint`] where the bootstrap is of another block; otherwise what of it is not proven.
    pub fn bootstrap(
        network: Arc<Network>,
        trusted_root: B256,
        bootstrap: &Bootstrap,
    ) -> Result<Self, Refused> {
        validate::bootstrap(&network, trusted_root, bootstrap)?;
        let header = &bootstrap.header;
        let current = Members::new(bootstrap.current_committee.clone())?;
        Ok(Self { network, finalized: header.clone(), optimistic: header.clone(), current, next: None })
    }

    /// `process_light_client_update` at slot `now_slot`. Takes 1 ms, and 5 more where the update brings a committee.
    ///
    /// # Errors
    /// What of the update is not proven; the state is then as it was. [`Refused::Stale`] is no lie.
    pub fn apply(&mut self, update: &Update, now_slot: u64) -> Result<Applied, Refused> {
        validate::update(self, update, now_slot)?;
        let finality = self.finality(update)?;
        let mut applied = Applied::default();
        if update.attested.beacon.slot > self.optimistic.beacon.slot {
            self.optimistic = update.attested.clone();
            applied.optimistic = true;
        }
        if let Some(finality) = finality {
            applied.next_committee = finality.next.is_some();
            self.advance(finality, &mut applied);
        }
        Ok(applied)
    }

    /// The network this is a state of.
    #[must_use]
    pub fn network(&self) -> &Arc<Network> {
        &self.network
    }

    /// The last header that is proven to be finalized.
    #[must_use]
    pub fn finalized(&self) -> &Header {
        &self.finalized
    }

    /// The last header that two thirds of a committee signed: at least as late, and may still be reorganised away.
    #[must_use]
    pub fn optimistic(&self) -> &Header {
        &self.optimistic
    }

    /// The period of the finalized header, which is that of the current committee.
    #[must_use]
    pub fn period(&self) -> u64 {
        self.network.period_of(self.finalized.beacon.slot)
    }

    /// Whether the committee after the current one is known.
    #[must_use]
    pub const fn has_next_committee(&self) -> bool {
        self.next.is_some()
    }

    /// The period whose [`Kind::Update`](super::Kind::Update) is needed next: this one's where the next committee is
    /// missing, the one after where that has begun by `now_slot`.
    #[must_use]
    pub fn wants_update_of(&self, now_slot: u64) -> Option<u64> {
        let (period, now) = (self.period(), self.network.period_of(now_slot));
        match &self.next {
            None => Some(period),
            Some(_) if now > period => Some(period + 1),
            Some(_) => None,
        }
    }

    /// Takes the optimistic header of `other` over, which follows from the same checkpoint, where that is later.
    #[cfg(feature = "client")]
    pub(crate) fn keep_head(&mut self, other: &Self) {
        if other.optimistic.beacon.slot > self.optimistic.beacon.slot {
            self.optimistic = other.optimistic.clone();
        }
    }

    /// What [`advance`](Self::advance) is to take over, its keys decompressed: all that may still fail.
    ///
    /// The finalized header is later, or the missing next committee comes with proof that it is final, which is when
    /// attested and finalized header are of one period.
    fn finality(&self, update: &Update) -> Result<Option<Advance>, Refused> {
        let Some(finality) = &update.finalized else { return Ok(None) };
        let period = self.network.period_of(finality.header.beacon.slot);
        let later = finality.header.beacon.slot > self.finalized.beacon.slot;
        let supplies = self.next.is_none()
            && update.next_committee.is_some()
            && period == self.period()
            && period == self.network.period_of(update.attested.beacon.slot);
        if !later && !supplies {
            return Ok(None);
        }
        let wanted = period > self.period() || self.next.is_none();
        let next = update.next_committee.as_ref().filter(|_| wanted);
        let next = next.map(|next| Members::new(next.committee.clone())).transpose()?;
        Ok(Some(Advance { header: finality.header.clone(), next }))
    }

    /// `apply_light_client_update`.
    pub(super) fn advance(&mut self, to: Advance, applied: &mut Applied) {
        let period = self.network.period_of(to.header.beacon.slot);
        if self.next.is_none() {
            self.next = to.next;
        } else if period > self.period()
            && let Some(next) = std::mem::replace(&mut self.next, to.next)
        {
            self.current = next;
        }
        if to.header.beacon.slot > self.finalized.beacon.slot {
            self.finalized = to.header;
            applied.finalized = true;
        }
        if self.finalized.beacon.slot > self.optimistic.beacon.slot {
            self.optimistic = self.finalized.clone();
            applied.optimistic = true;
        }
    }
}

/// A finalized header to take over, and the committee that comes with it where it is wanted.
pub(super) struct Advance {
    pub(super) header: Header,
    pub(super) next: Option<Members>,
}
