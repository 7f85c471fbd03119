//! The wallet's transactions by nonce.
//!
//! A nonce is given once, to one call, and is kept until a final block has used it up. A transaction
//! that is dropped or reorganised away shows as a nonce that the latest state does not count: the
//! same call goes out again under the same nonce with a higher fee, so that it can never take effect
//! twice. Whether a used nonce did what it should is read from the contract, not from a receipt,
//! because another transaction of the same key may have taken it.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;

use minicbor::{Decode, Encode};

use crate::id::{Bounty, PeerHash};

use super::chain::{Call, Head};

/// A fee is raised at most so often; the program caps the fee itself as well.
const MAX_BUMPS: u8 = 24;

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
    /// Times that its fee was raised by an eighth.
    #[n(4)]
    pub bumps: u8,
}

#[derive(Debug, Default)]
pub(super) struct Outbox {
    /// First nonce that is free, once the chain has said how many are used.
    next: Option<u64>,
    /// With the time of the last sending in Unix milliseconds; 0 makes a restart send at once.
    slots: BTreeMap<u64, (Slot, u64)>,
    /// Nonces that a final block has used.
    used: u64,
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
    pub(super) fn post(&mut self, bounty: Bounty, gateway: PeerHash, call: Call, now: u64) -> Option<Slot> {
        let nonce = self.next?;
        let slot = Slot { nonce, bounty, gateway, call, bumps: 0 };
        self.next = nonce.checked_add(1);
        self.slots.insert(nonce, (slot.clone(), now));
        Some(slot)
    }

    /// Whether a final block has used the nonce.
    pub(super) fn is_final(&self, nonce: u64) -> bool {
        nonce < self.used
    }

    /// Takes in a head: the slots that are done, and those that are to be sent again.
    pub(super) fn head(&mut self, head: &Head, now: u64, resubmit_ms: u64) -> (Vec<u64>, Vec<Slot>) {
        self.used = self.used.max(head.final_nonce);
        let after_ours = self.slots.last_key_value().map_or(0, |(nonce, _)| nonce + 1);
        let next = self.next.unwrap_or(0).max(head.latest_nonce).max(after_ours);
        self.next = Some(next);
        let done: Vec<u64> = self.slots.range(..self.used).map(|(nonce, _)| *nonce).collect();
        done.iter().for_each(|nonce| drop(self.slots.remove(nonce)));
        let again = self.slots.range_mut(head.latest_nonce..);
        let again = again.filter_map(|(_, entry)| resend(entry, now, resubmit_ms)).collect();
        (done, again)
    }

    pub(super) fn slots(&self) -> impl Iterator<Item = &Slot> {
        self.slots.values().map(|(slot, _)| slot)
    }
}

/// The slot with its fee raised, if it is due. The first sending after a restart raises it too: what
/// went out before may be known to the nodes at the old fee.
fn resend((slot, sent): &mut (Slot, u64), now: u64, resubmit_ms: u64) -> Option<Slot> {
    if now < sent.saturating_add(resubmit_ms) {
        return None;
    }
    *sent = now;
    slot.bumps = slot.bumps.saturating_add(1).min(MAX_BUMPS);
    Some(slot.clone())
}
