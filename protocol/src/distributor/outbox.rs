//! The wallet's transactions by nonce.
//!
//! A nonce is given once, to one call, and is kept until a final block has used it up. A transaction
//! that is dropped or reorganised away shows as a nonce that the latest state does not count: the
//! same call goes out again under the same nonce with a higher fee, so that it can never take effect
//! twice. One that would come too late is replaced by nothing ([`Call::Cancel`]), never by another call. Whether a used nonce did what it should is read from the contract, not from a receipt,
//! because another transaction of the same key may have taken it.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use core::ops::Bound;

use minicbor::{Decode, Encode};

use crate::id::{Bounty, PeerHash};

use super::chain::{Call, Head, Wei};
use super::price::{Fee, GAS_CAP, TRANSFER};

/// A transaction in flight: the row that is persisted before it is sent.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Slot {
    /// Its nonce.
    #[n(0)]
    pub nonce: u64,
    /// The contract.
    #[n(1)]
    pub bounty: Bounty,
    /// The exchange.
    #[n(2)]
    pub gateway: PeerHash,
    /// What it calls.
    #[n(3)]
    pub call: Call,
    /// Times that it was sent again.
    #[n(4)]
    pub bumps: u8,
    /// What it offers; `None` in a row of before offers were kept.
    #[n(5)]
    pub fee: Option<Fee>,
    /// Whether it goes to the private relay, and to nobody else.
    #[n(6)]
    #[cbor(default)]
    pub private: bool,
    /// Gas that its call may use; `None` in a row of before limits were kept.
    #[n(7)]
    pub gas: Option<u64>,
}

impl Slot {
    /// Gas that it asks for.
    pub fn limit(&self) -> u64 {
        let devices = match &self.call {
            Call::Reserve { items, .. } | Call::Claim { items, .. } => items.len(),
            Call::Reveal { indices, .. } => indices.len(),
            Call::Cancel => return TRANSFER,
        };
        // Before limits were kept so much was asked for.
        let before = || 200_000_u64.saturating_add((devices as u64).saturating_mul(120_000)).min(GAS_CAP);
        self.gas.unwrap_or_else(before)
    }

    /// Wei that it costs at the most.
    pub(super) fn cost(&self) -> Wei {
        self.fee.map_or(Wei::ZERO, |fee| fee.cost(self.limit()))
    }
}

#[derive(Debug, Default)]
pub(super) struct Outbox {
    /// First nonce that is free, once the chain has said how many are used.
    next: Option<u64>,
    /// With the time of the last sending in Unix milliseconds; 0 makes a restart send at once.
    slots: BTreeMap<u64, (Slot, u64)>,
    /// Nonces that a final block has used.
    used: u64,
    /// A nonce that nobody has used and nobody has a transaction for, and since when.
    gap: Option<(u64, u64)>,
}

impl Outbox {
    /// Takes back a persisted transaction.
    pub(super) fn restore(&mut self, slot: Slot) {
        self.slots.insert(slot.nonce, (slot, 0));
    }

    /// Whether a nonce can be given.
    pub(super) fn ready(&self, limit: usize) -> bool {
        self.next.is_some() && self.slots.len() < limit
    }

    /// Gives the next nonce; `None` before the first head.
    pub(super) fn post(
        &mut self,
        (bounty, gateway): (Bounty, PeerHash),
        call: Call,
        (fee, gas): (Fee, u64),
        private: bool,
        now: u64,
    ) -> Option<Slot> {
        let nonce = self.next?;
        let (bumps, fee, gas) = (0, Some(fee), Some(gas));
        let slot = Slot { nonce, bounty, gateway, call, bumps, fee, private, gas };
        self.next = nonce.checked_add(1);
        self.slots.insert(nonce, (slot.clone(), now));
        Some(slot)
    }

    /// Whether the latest block has all that is before the next nonce.
    pub(super) fn is_clear(&self, head: &Head) -> bool {
        self.next.is_some_and(|next| next <= head.latest_nonce)
    }

    /// What can be mined only after this nonce.
    pub(super) fn behind(&self, nonce: u64) -> impl Iterator<Item = &Slot> {
        let behind = self.slots.range((Bound::Excluded(nonce), Bound::Unbounded));
        behind.map(|(_, (slot, _))| slot)
    }

    /// Wei that may go before this nonce comes to be mined: what those cost at the most that the latest block lacks.
    pub(super) fn owed_before(&self, nonce: u64, head: &Head) -> Wei {
        let waiting = self.slots.range(head.latest_nonce..).take_while(|(before, _)| **before < nonce);
        waiting.fold(Wei::ZERO, |sum, (_, (slot, _))| sum.saturating_add(slot.cost()))
    }

    /// What all of them cost at the most.
    pub(super) fn owed(&self, head: &Head) -> Wei {
        self.owed_before(u64::MAX, head)
    }

    /// Whether a final block has used the nonce.
    pub(super) fn is_final(&self, nonce: u64) -> bool {
        nonce < self.used
    }

    /// Takes in a head; gives the nonces that are done.
    pub(super) fn head(&mut self, head: &Head) -> Vec<u64> {
        self.used = self.used.max(head.final_nonce);
        let after_ours = self.slots.last_key_value().map_or(0, |(nonce, _)| nonce + 1);
        self.next = Some(head.latest_nonce.max(self.used).max(after_ours));
        let done: Vec<u64> = self.slots.range(..self.used).map(|(nonce, _)| *nonce).collect();
        done.iter().for_each(|nonce| drop(self.slots.remove(nonce)));
        done
    }

    /// The transactions that the latest state does not count and that were not sent lately.
    pub(super) fn due(&self, head: &Head, now: u64, resubmit_ms: u64) -> Vec<Slot> {
        let waiting = self.slots.range(head.latest_nonce..).map(|(_, entry)| entry);
        let due = waiting.filter(|(_, sent)| now >= sent.saturating_add(resubmit_ms));
        due.map(|(slot, _)| slot.clone()).collect()
    }

    /// The transaction goes out again with this fee. The first sending after a restart raises it too: what
    /// went out before may be known to the nodes at the old fee.
    pub(super) fn again(&mut self, nonce: u64, fee: Fee, now: u64) -> Option<Slot> {
        let (slot, sent) = self.slots.get_mut(&nonce)?;
        *sent = now;
        slot.fee = Some(fee);
        slot.bumps = slot.bumps.saturating_add(1);
        Some(slot.clone())
    }

    /// In the place of a call that would come too late.
    pub(super) fn cancel(&mut self, nonce: u64, fee: Fee, now: u64) -> Option<Slot> {
        let (slot, _) = self.slots.get_mut(&nonce)?;
        (slot.call, slot.private) = (Call::Cancel, false);
        self.again(nonce, fee, now)
    }

    /// A transaction for the first nonce before ours that has stayed unused for so long: another program's, with the
    /// same key, took it and was reorganised away. Ours would wait behind it for ever.
    pub(super) fn fill(&mut self, head: &Head, fee: Option<Fee>, now: u64, after_ms: u64) -> Option<Slot> {
        let first = head.latest_nonce.max(self.used);
        let behind = self.slots.range(first..).next().map(|(_, (slot, _))| slot);
        let Some(behind) = behind.filter(|slot| slot.nonce > first).cloned() else {
            self.gap = None;
            return None;
        };
        let since = self.gap.filter(|(nonce, _)| *nonce == first).map_or(now, |(_, since)| since);
        self.gap = Some((first, since));
        if now < since.saturating_add(after_ms) {
            return None;
        }
        let (call, bumps, fee, private, gas) = (Call::Cancel, 0, Some(fee?), false, None);
        let slot = Slot { nonce: first, call, bumps, fee, private, gas, ..behind };
        self.slots.insert(first, (slot.clone(), now));
        Some(slot)
    }

    pub(super) fn slots(&self) -> impl Iterator<Item = &Slot> {
        self.slots.values().map(|(slot, _)| slot)
    }
}
