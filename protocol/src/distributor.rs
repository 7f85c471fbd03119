//! The distributor's half of the exchange, without I/O (paper, 4.4.3 and 4.4.4).
//!
//! One machine serves all bounties of one wallet. Per bounty and gateway there is at most one
//! [`Exchange`], with one `t`, one lock `s` and one proof for all sensors behind that gateway:
//!
//! ```text
//! Joined → Proving → Offered → Collecting → Reserving → Locked → Revealing → Paid ⇄ Claiming
//!                                  ↑____________|          |
//!                                                        Closed
//! ```
//!
//! The program feeds [`Input`]s with the time of day and carries [`Output`]s out in order. A
//! [`Output::Persist`] comes before whatever makes its change visible to others, so that a crash
//! between any two outputs loses nothing that was acknowledged: [`Distributor::restore`] takes the
//! rows back, and each state goes on from where it was. Repeated inputs do nothing.
//!
//! What the machine holds itself to:
//! - `t` and `r` are shown only after a finalized block has the reservation, and only if it covers
//!   the sum that it named and its end is not near ([`Stage::shows_key`]); or `t` to a private relay alone, where the
//!   operator has named one ([`Stage::Direct`]).
//! - No gas is spent on a batch that is not worth it at the present fee, and no fee offered by which it would not be.
//! - No transaction gets a nonce that the wallet cannot pay for.
//! - Nothing that shows `t` is sent behind a transaction of ours that the chain has not.
//! - A nonce carries one call for ever, or nothing: a call that would come too late is called off.
//! - Everything that a peer can make it hold is bounded by [`Limits`].

use alloc::collections::{BTreeMap, BTreeSet, VecDeque};
use alloc::vec::Vec;

use crate::exchange::Refusal;
use crate::id::{Bounty, LockHash, PeerHash};

pub use self::campaign::{Campaign, Group, Identity, Limits, Peer, Policy, Roster, Unreadable};
pub use self::chain::{Call, CallFailure, Head, Item, Observation, Seen, Standing, Watch, Wei};
pub use self::io::{Change, Event, Input, Output};
pub use self::outbox::Slot;
pub use self::price::{Fee, Gas};
pub use self::receipt::{Fate, Receipt};
pub use self::requests::look_up;
pub use self::stage::{
    Batch, Claiming, CloseReason, Closed, Collecting, Exchange, Locked, Offer, Offered, Paid, Posting,
    Reserving, Revealing, Stage,
};

use self::outbox::Outbox;
use self::post::Locks;
use self::sessions::{Rates, Sessions};

mod campaign;
mod chain;
mod io;
mod outbox;
mod post;
mod price;
mod receipt;
mod redeem;
mod requests;
mod sessions;
mod stage;
#[cfg(test)]
mod tests;

/// Names an exchange.
type Key = (Bounty, PeerHash);

/// An exchange with what belongs to it.
#[derive(Debug)]
struct Entry {
    exchange: Exchange,
    /// Follows from `t` and the payee; kept because every request is held against it.
    s: LockHash,
    receipts: BTreeMap<u32, Receipt>,
    /// Why it waits, as it was told. Not persisted.
    waits: Option<Wait>,
    /// Its transaction shows a secret and waits until nothing of ours is before it. Not persisted.
    turn: bool,
    /// A proof or a simulation was asked for and is not back. Not persisted: a restart asks again.
    asked: bool,
    /// After simulations that came to nothing. Not persisted either.
    pause: Pause,
}

/// Why an exchange's batch waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Wait {
    /// It is not worth its gas.
    Price,
    /// The wallet lacks so much for it.
    Wallet(Wei),
}

/// How long an exchange waits before its call is tried again.
#[derive(Debug, Clone, Copy, Default)]
struct Pause {
    /// Failures in a row.
    failures: u32,
    /// Unix milliseconds.
    until: u64,
}

impl Pause {
    /// Doubles from this, in milliseconds.
    const FIRST: u64 = 1000;
    /// Not longer than this, in milliseconds, so that one lost minute is all that a node's lies cost.
    const LONGEST: u64 = 60_000;

    fn longer(self, now: u64) -> Self {
        let wait = Self::FIRST.saturating_mul(2u64.saturating_pow(self.failures)).min(Self::LONGEST);
        Self { failures: self.failures.saturating_add(1), until: now.saturating_add(wait) }
    }
}

/// The distributor's machine. See the [module](self).
pub struct Distributor {
    me: Identity,
    policy: Policy,
    campaigns: BTreeMap<Bounty, Campaign>,
    /// Joined before a restart, and not again yet.
    expected: BTreeSet<Bounty>,
    entries: BTreeMap<Key, Entry>,
    /// Of all entries.
    locks: Locks,
    sessions: Sessions,
    rates: Rates,
    outbox: Outbox,
    head: Option<Head>,
    /// When the first head came, Unix milliseconds.
    started: Option<u64>,
    /// The program's own clock at the last input, Unix milliseconds.
    now: u64,
    out: VecDeque<Output>,
}

impl Distributor {
    /// A distributor that has not traded yet.
    pub fn new(me: Identity, policy: Policy) -> Self {
        Self {
            me,
            policy,
            campaigns: BTreeMap::new(),
            expected: BTreeSet::new(),
            entries: BTreeMap::new(),
            locks: Locks::default(),
            sessions: Sessions::default(),
            rates: Rates::default(),
            outbox: Outbox::default(),
            head: None,
            started: None,
            now: 0,
            out: VecDeque::new(),
        }
    }

    /// Takes back one persisted row. Exchanges come before their receipts, and receipts before transactions; a receipt
    /// without its exchange is dropped, as it cannot be redeemed. Nothing happens before [`Input::Join`].
    pub fn restore(&mut self, change: Change) {
        match change {
            Change::Exchange(exchange) => {
                let s = exchange.s(&self.me.payee);
                let key = (exchange.bounty, exchange.gateway);
                let (receipts, pause) = (BTreeMap::new(), Pause::default());
                let entry = Entry { exchange, s, receipts, waits: None, turn: false, asked: false, pause };
                self.locks = self.locks.and(Locks::of(&entry.exchange.stage));
                if let Some(old) = self.entries.insert(key, entry) {
                    self.locks = self.locks.without(Locks::of(&old.exchange.stage));
                }
            }
            Change::Receipt(receipt) => {
                if let Some(entry) = self.entries.get_mut(&(receipt.bounty, receipt.gateway)) {
                    entry.receipts.insert(receipt.index, receipt);
                }
            }
            Change::Transaction(slot) => self.restore_transaction(slot),
            Change::Settled { .. } | Change::Forget { .. } => {}
        }
    }

    /// A transaction is persisted before the state that waits for it: one whose state still waits to make the call has
    /// made it, and one that was called off is so.
    fn restore_transaction(&mut self, slot: Slot) {
        let key = (slot.bounty, slot.gateway);
        if let Some(entry) = self.entries.get(&key) {
            let stage = entry.exchange.stage.clone();
            if redeem::call(entry).is_some_and(|call| call == slot.call) {
                self.put(key, post::posted(stage, slot.nonce));
            } else if slot.call == Call::Cancel {
                self.put(key, post::called_off(stage, slot.nonce));
            }
        }
        self.outbox.restore(slot);
    }

    /// A bounty that was joined before a restart: until it is joined again, whoever asks is told to ask
    /// later, not that it is unknown.
    pub fn expect(&mut self, bounty: Bounty) {
        self.expected.insert(bounty);
    }

    /// Takes in what happened at `now`, Unix milliseconds.
    pub fn handle(&mut self, input: Input<'_>, now: u64) {
        self.now = now;
        match input {
            Input::Join(campaign) => self.join(campaign),
            Input::Leave(bounty) => self.leave(bounty),
            Input::Request { id, peer, request, entropy } => {
                let answer = self.answer(id, peer, request, entropy, now);
                self.out.push_back(answer);
            }
            Input::Inspected { bounty, index, standing } => {
                self.sessions.inspected(bounty, index, standing);
            }
            Input::Proved { bounty, gateway, s, cipher, proof } => {
                self.proved((bounty, gateway), s, cipher, proof, now);
            }
            Input::ProofFailed { bounty, gateway, s } => self.proof_failed((bounty, gateway), s),
            Input::Simulated { bounty, gateway, result } => {
                self.simulated((bounty, gateway), result, now);
            }
            Input::Head(head) => self.on_head(head, now),
            Input::Observed(observation) => self.observed(&observation, now),
            Input::Tick => self.tick(),
        }
    }

    /// The next thing to do.
    pub fn poll(&mut self) -> Option<Output> {
        self.out.pop_front()
    }

    /// What is to be read at each new head, at most one entry for an exchange.
    pub fn watching(&self) -> Vec<Watch> {
        let open = self.entries.iter().filter(|((bounty, _), _)| self.campaigns.contains_key(bounty));
        open.filter_map(|(_, entry)| watch(entry)).collect()
    }

    /// The exchanges, for status.
    pub fn exchanges(&self) -> impl Iterator<Item = &Exchange> {
        self.entries.values().map(|entry| &entry.exchange)
    }

    /// The transactions in flight, for status.
    pub fn transactions(&self) -> impl Iterator<Item = &Slot> {
        self.outbox.slots()
    }

    fn join(&mut self, campaign: Campaign) {
        let bounty = campaign.bounty;
        self.expected.remove(&bounty);
        self.campaigns.entry(bounty).or_insert(campaign);
        self.refit(bounty);
        self.tick();
    }

    fn leave(&mut self, bounty: Bounty) {
        self.campaigns.remove(&bounty);
        self.expected.remove(&bounty);
        self.sessions.forget(bounty);
        let gone: Vec<Key> = self.entries.keys().filter(|key| key.0 == bounty).copied().collect();
        gone.into_iter().for_each(|key| self.forget(key));
    }

    fn forget(&mut self, (bounty, gateway): Key) {
        if let Some(old) = self.entries.remove(&(bounty, gateway)) {
            self.locks = self.locks.without(Locks::of(&old.exchange.stage));
        }
        self.out.push_back(Output::Persist(Change::Forget { bounty, gateway }));
    }

    /// Asks for whatever states wait for and have not asked for yet.
    fn tick(&mut self) {
        let keys: Vec<Key> = self.entries.keys().copied().collect();
        keys.into_iter().for_each(|key| self.advance(key));
    }

    /// The exchange's state from now on.
    fn put(&mut self, key: Key, stage: Stage) {
        let Some(entry) = self.entries.get_mut(&key) else { return };
        self.locks = self.locks.without(Locks::of(&entry.exchange.stage)).and(Locks::of(&stage));
        entry.exchange.stage = stage;
    }

    /// Writes the exchange's new state.
    fn store(&mut self, key: Key, stage: Stage) {
        self.put(key, stage);
        let Some(entry) = self.entries.get_mut(&key) else { return };
        (entry.asked, entry.waits, entry.turn) = (false, None, false);
        let exchange = entry.exchange.clone();
        let state = exchange.stage.name();
        self.out.push_back(Output::Persist(Change::Exchange(exchange)));
        self.event(Event::Moved { bounty: key.0, gateway: key.1, state });
    }

    fn event(&mut self, event: Event) {
        self.out.push_back(Output::Event(event));
    }

    /// Chain time, Unix seconds; `None` before the first head.
    fn chain_time(&self) -> Option<u64> {
        self.head.map(|head| head.timestamp)
    }

    /// Whether a reservation sent now would come in time.
    fn reservable(&self, campaign: &Campaign) -> bool {
        let margin = u64::from(self.policy.reserve_margin_secs);
        self.chain_time().is_some_and(|now| now.saturating_add(margin) < campaign.claim_by)
    }

    /// Whether the answer would only say that the program has just started.
    fn is_starting(&self, bounty: &Bounty) -> bool {
        let known = self.campaigns.contains_key(bounty);
        self.expected.contains(bounty) || (known && self.head.is_none())
    }

    fn campaign(&self, bounty: &Bounty) -> Result<&Campaign, Refusal> {
        self.campaigns.get(bounty).ok_or(Refusal::UnknownBounty)
    }
}

/// The exchange's receipts that are not settled, and those of the batch under way, which may be
/// settled before the transaction's nonce is seen to be final.
fn watch(entry: &Entry) -> Option<Watch> {
    let Exchange { bounty, gateway, .. } = entry.exchange;
    let batch = entry.exchange.stage.batch().map_or(&[][..], |batch| &batch.indices);
    let waiting = entry.receipts.values();
    let waiting = waiting.filter(|r| r.fate == Fate::Waiting || batch.contains(&r.index));
    let indices: Vec<u32> = waiting.map(|receipt| receipt.index).collect();
    let open = !indices.is_empty() && !matches!(entry.exchange.stage, Stage::Closed(_));
    open.then_some(Watch { bounty, gateway, s: entry.s, indices })
}
