//! Rebuilding the machine from what is on disk.

use alloc::vec::Vec;

use super::exchange::{Exchange, Held, VerifyPath};
use super::peer::Peer;
use super::policy::Policy;
use super::record::Record;
use super::roster::{Receipt, Step};
use super::state::{Committed, Decrypting, Offered, Revealed, Staged, State};
use super::update::Update;
use crate::id::{LockHash, PeerHash};

impl Exchange {
    /// Rebuilds an exchange from its records, in whatever state it was. The caller then gives it the
    /// package ([`super::Input::Package`]), the body if it is on disk, and the sensors it knows;
    /// a staged image that is gone is told by [`super::Input::ImageLost`].
    pub fn restore(
        update: Update,
        gateway: PeerHash,
        policy: Policy,
        verify_path: VerifyPath,
        records: impl IntoIterator<Item = Record>,
        now: u64,
    ) -> Self {
        let mut exchange = Self::new(update, gateway, policy, verify_path);
        let mut records: Vec<Record> = records.into_iter().collect();
        // By kind: an offer before its receipts, asked before signed before acknowledged.
        records.sort_by_key(Record::slot);
        for record in records {
            exchange.recall(record, now);
        }
        if matches!(exchange.state, State::Announced) {
            exchange.state = exchange.resume(now);
        }
        exchange
    }

    fn recall(&mut self, record: Record, now: u64) {
        match record {
            Record::Delegation { device, sig } => {
                self.sensors.entry(device).or_default().delegation = Some(sig);
            }
            Record::Index { device, index } => {
                self.sensors.entry(device).or_default().index = Some(index);
            }
            Record::Offer(offer) => {
                let held = Held { recorded: true, ..Held::new(offer, now) };
                self.held.insert(held.offer.s(), held);
            }
            Record::Asked { device, s, attempt } => {
                let receipt = Receipt { attempt, step: Step::Asked };
                self.sensors.entry(device).or_default().receipts.insert(s, receipt);
            }
            Record::Signed { device, s, attempt, sig } => {
                let receipts = &mut self.sensors.entry(device).or_default().receipts;
                // A later attempt may have been asked for since.
                if receipts.get(&s).is_none_or(|asked| asked.attempt == attempt) {
                    receipts.insert(s, Receipt { attempt, step: Step::Signed(sig) });
                }
                if let Some(held) = self.held.get_mut(&s) {
                    held.first_receipt.get_or_insert(now);
                }
            }
            Record::Acked { device, s, attempt } => {
                let receipts = &mut self.sensors.entry(device).or_default().receipts;
                if let Some(receipt) = receipts.get_mut(&s)
                    && receipt.attempt == attempt
                {
                    receipt.step = Step::Acked;
                }
            }
            Record::Sealed { s, at } => self.recall_offer(&s, |held| held.sealed = Some(at)),
            Record::Key { s, r, .. } => self.recall_offer(&s, |held| held.key = Some(r)),
            Record::Misfit { s } => self.recall_offer(&s, |held| held.misfit = true),
            Record::Staged { s } => self.state = State::Staged(Staged { s, since: now }),
            Record::Left { peer, why, at } => {
                self.book.left.insert(peer, (why, at));
            }
            Record::Installed { device, sig } => {
                self.sensors.entry(device).or_default().report = Some(sig);
            }
            Record::Superseded { by } => self.state = State::Superseded(by),
            // What has failed may be superseded since; not the other way round.
            Record::Failed { .. } if matches!(self.state, State::Superseded(_)) => {}
            Record::Failed { why } => self.state = State::Failed(why),
        }
    }

    fn recall_offer(&mut self, s: &LockHash, change: impl FnOnce(&mut Held)) {
        if let Some(held) = self.held.get_mut(s) {
            change(held);
        }
    }

    /// The state that the facts amount to.
    fn resume(&self, now: u64) -> State {
        let mut keyed = self.held.values().filter(|held| held.key.is_some() && !held.misfit);
        if let Some(held) = keyed.next() {
            let s = held.offer.s();
            return State::Revealed(Revealed { s, step: Decrypting::At(now) });
        }
        let live = self.held.values().filter(|held| !held.misfit && !self.was_left(held));
        let Some(held) = live.max_by_key(|held| held.offer.since) else { return State::Announced };
        let (peer, s): (Peer, LockHash) = (held.offer.peer, held.offer.s());
        if held.first_receipt.is_some() {
            State::Committed(Committed { peer, s, progress: now })
        } else {
            State::Offered(Offered { peer, s, verified: true })
        }
    }

    fn was_left(&self, held: &Held) -> bool {
        self.book.left.get(&held.offer.peer).is_some_and(|(_, at)| *at >= held.offer.since)
    }
}
