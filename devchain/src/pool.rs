//! Transactions that wait to be mined: by sender, in order of nonce, gaps held.

use std::collections::{BTreeMap, BinaryHeap, HashMap};
use std::sync::Arc;

use alloy::consensus::{Transaction, TxEnvelope, transaction::Recovered};
use alloy::primitives::{Address, TxHash};

use crate::state::State;

/// Transactions of one sender that may wait.
const PER_SENDER: usize = 1024;
/// Transactions that may wait altogether.
const CAPACITY: usize = 8192;
/// A replacement raises both fees by at least a tenth, as geth's pool asks by default.
const PRICE_BUMP_PERCENT: u128 = 10;

/// A transaction whose sender is known.
pub(crate) type PoolTx = Arc<Recovered<TxEnvelope>>;

/// Why the pool does not take a transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum PoolError {
    #[error("already known")]
    AlreadyKnown,
    #[error("replacement transaction underpriced")]
    Underpriced,
    #[error("txpool is full")]
    Full,
}

#[derive(Clone, Debug)]
struct Waiting {
    tx: PoolTx,
    arrival: u64,
}

/// The mempool.
#[derive(Clone, Debug, Default)]
pub(crate) struct Pool {
    senders: BTreeMap<Address, BTreeMap<u64, Waiting>>,
    by_hash: HashMap<TxHash, (Address, u64)>,
    arrivals: u64,
}

impl Pool {
    pub(crate) fn get(&self, hash: &TxHash) -> Option<&PoolTx> {
        let (sender, nonce) = self.by_hash.get(hash)?;
        Some(&self.senders.get(sender)?.get(nonce)?.tx)
    }

    pub(crate) fn insert(&mut self, tx: PoolTx) -> Result<(), PoolError> {
        if self.by_hash.contains_key(tx.tx_hash()) {
            return Err(PoolError::AlreadyKnown);
        }
        let queue = self.senders.get(&tx.signer());
        match queue.and_then(|queue| queue.get(&tx.nonce())) {
            Some(old) if !outbids(&tx, &old.tx) => return Err(PoolError::Underpriced),
            Some(_) => {}
            None if queue.is_some_and(|queue| queue.len() >= PER_SENDER) => return Err(PoolError::Full),
            None if self.by_hash.len() >= CAPACITY => return Err(PoolError::Full),
            None => {}
        }
        self.place(tx);
        Ok(())
    }

    fn place(&mut self, tx: PoolTx) {
        let (sender, nonce) = (tx.signer(), tx.nonce());
        self.by_hash.insert(*tx.tx_hash(), (sender, nonce));
        let waiting = Waiting { tx, arrival: self.arrivals };
        self.arrivals += 1;
        if let Some(old) = self.senders.entry(sender).or_default().insert(nonce, waiting) {
            self.by_hash.remove(old.tx.tx_hash());
        }
    }

    pub(crate) fn remove(&mut self, hash: &TxHash) {
        let Some((sender, nonce)) = self.by_hash.remove(hash) else { return };
        if let Some(queue) = self.senders.get_mut(&sender) {
            queue.remove(&nonce);
            if queue.is_empty() {
                self.senders.remove(&sender);
            }
        }
    }

    /// Forgets what `state` has made obsolete.
    pub(crate) fn prune(&mut self, state: &State) {
        let by_hash = &mut self.by_hash;
        self.senders.retain(|sender, queue| {
            let rest = queue.split_off(&state.nonce(*sender));
            for old in std::mem::replace(queue, rest).into_values() {
                by_hash.remove(old.tx.tx_hash());
            }
            !queue.is_empty()
        });
    }

    /// The nonce after those of `sender` that wait without a gap.
    pub(crate) fn next_nonce(&self, sender: Address, state: &State) -> u64 {
        let start = state.nonce(sender);
        let run = self.run(sender, start).count();
        start.saturating_add(u64::try_from(run).unwrap_or(u64::MAX))
    }

    fn run(&self, sender: Address, start: u64) -> impl Iterator<Item = &Waiting> {
        let queue = self.senders.get(&sender).map(|queue| queue.range(start..));
        queue
            .into_iter()
            .flatten()
            .zip(start..)
            .take_while(|((nonce, _), due)| **nonce == *due)
            .map(|((_, waiting), _)| waiting)
    }

    /// What can be executed on `state` at `base_fee`: the best tip first, the older among equals,
    /// each sender in order of nonce.
    pub(crate) fn ready(&self, state: &State, base_fee: u64) -> Ready {
        let mut ready = Ready::default();
        for sender in self.senders.keys() {
            let payable = |waiting: &&Waiting| waiting.tx.effective_tip_per_gas(base_fee).is_some();
            let mut run: Vec<_> =
                self.run(*sender, state.nonce(*sender)).take_while(payable).cloned().collect();
            run.reverse();
            ready.push(run, base_fee);
        }
        ready
    }
}

/// Executable transactions, best first. See [`Pool::ready`].
#[derive(Default)]
pub(crate) struct Ready {
    heads: BinaryHeap<Head>,
}

/// The next transaction of one sender; `rest` is the sender's run, the next one last.
struct Head {
    tip: u128,
    arrival: std::cmp::Reverse<u64>,
    rest: Vec<Waiting>,
}

impl Ready {
    fn push(&mut self, rest: Vec<Waiting>, base_fee: u64) {
        if let Some(next) = rest.last() {
            let tip = next.tx.effective_tip_per_gas(base_fee).unwrap_or_default();
            let arrival = std::cmp::Reverse(next.arrival);
            self.heads.push(Head { tip, arrival, rest });
        }
    }

    /// Hands the best transaction to `take`; the sender's later ones follow only if it says so.
    pub(crate) fn next(&mut self, base_fee: u64, take: impl FnOnce(PoolTx) -> bool) -> bool {
        let Some(mut head) = self.heads.pop() else { return false };
        if let Some(next) = head.rest.pop()
            && take(next.tx)
        {
            self.push(head.rest, base_fee);
        }
        true
    }
}

impl Ord for Head {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.tip, self.arrival).cmp(&(other.tip, other.arrival))
    }
}

impl PartialOrd for Head {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Head {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Head {}

fn outbids(new: &TxEnvelope, old: &TxEnvelope) -> bool {
    let bumped = |fee: u128| fee.saturating_add(fee.saturating_mul(PRICE_BUMP_PERCENT).div_ceil(100));
    let tip = |tx: &TxEnvelope| tx.max_priority_fee_per_gas().unwrap_or_else(|| tx.max_fee_per_gas());
    new.max_fee_per_gas() >= bumped(old.max_fee_per_gas()) && tip(new) >= bumped(tip(old))
}
