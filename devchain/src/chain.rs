//! The chain as one value: what is mined, what waits, and what time it is.
//!
//! Each operation either happens as a whole or leaves everything as it was: a block is made on the
//! side and then pushed.

use std::collections::BTreeMap;
use std::sync::Arc;

use alloy::consensus::{TxEnvelope, transaction::Recovered};
use alloy::primitives::{Address, Bytes, TxHash, U256};

use crate::admission::{self, Rejection};
use crate::assemble::{self, Assembled, Assembly, Draft};
use crate::block::Block;
use crate::canon::Canon;
use crate::config::Config;
use crate::error::Error;
use crate::pool::Pool;
use crate::state::State;
use crate::time::{TimeError, Timekeeper, unix_now};

/// Snapshots that are kept; taking one more forgets the oldest.
const MAX_SNAPSHOTS: usize = 64;
/// Blocks that one call may mine.
const MAX_MINED: u64 = 10_000;
/// Seconds between them: a century.
const MAX_INTERVAL: u64 = 100 * 365 * 86_400;

/// Everything that `evm_snapshot` saves.
#[derive(Clone, Debug)]
struct Saved {
    canon: Canon,
    pool: Pool,
    time: Timekeeper,
}

#[derive(Debug)]
pub(crate) struct Chain {
    pub(crate) config: Arc<Config>,
    pub(crate) canon: Canon,
    pub(crate) pool: Pool,
    pub(crate) time: Timekeeper,
    pub(crate) automine: bool,
    /// Counts reorganisations and reverts, so that no two blocks are ever the same by accident.
    pub(crate) fork: u64,
    saved: BTreeMap<u64, Saved>,
    next_snapshot: u64,
}

impl Chain {
    pub(crate) fn new(config: Arc<Config>) -> Self {
        let timestamp = config.genesis_timestamp.unwrap_or_else(unix_now);
        let (genesis, state) = assemble::genesis(&config, timestamp);
        Self {
            canon: Canon::new(genesis, state, config.state_history, config.finality_depth),
            pool: Pool::default(),
            time: Timekeeper::new(config.clock, timestamp),
            automine: config.automine,
            fork: 0,
            saved: BTreeMap::new(),
            next_snapshot: 0,
            config,
        }
    }

    /// Takes a transaction into the pool, and into a block at once when automining.
    pub(crate) fn submit(&mut self, tx: Recovered<TxEnvelope>) -> Result<TxHash, Rejection> {
        let head = self.canon.head();
        let next = assemble::child_header(head, self.next_timestamp(), self.config.beneficiary, self.fork);
        admission::check(&self.config, &next, self.canon.head_state(), &self.pool, &tx)?;
        let hash = *tx.tx_hash();
        self.pool.insert(Arc::new(tx))?;
        if self.automine {
            self.mine_ready();
        }
        Ok(hash)
    }

    /// Turns automining on or off; what waits is mined when it comes on.
    pub(crate) fn set_automine(&mut self, on: bool) {
        self.automine = on;
        if on {
            self.mine_ready();
        }
    }

    /// Mines until nothing that waits can be executed.
    fn mine_ready(&mut self) {
        loop {
            let made = self.draft(self.next_timestamp()).execute();
            self.forget(&made.invalid);
            if !made.block.transactions().is_empty() {
                self.advance_clock();
                self.push(made);
            } else if made.invalid.is_empty() {
                return;
            }
        }
    }

    /// Mines one block of what waits, empty if nothing does.
    pub(crate) fn mine(&mut self) -> Arc<Block> {
        let timestamp = self.advance_clock();
        let made = self.draft(timestamp).execute();
        self.forget(&made.invalid);
        self.push(made)
    }

    /// Mines `count` blocks that are `interval` seconds apart, or as the clock says.
    pub(crate) fn mine_many(&mut self, count: u64, interval: Option<u64>) -> Result<(), Error> {
        if count > MAX_MINED {
            return Err(Error::TooManyBlocks { asked: count, limit: MAX_MINED });
        }
        if interval.is_some_and(|interval| interval > MAX_INTERVAL) {
            return Err(Error::Time(TimeError::OutOfRange));
        }
        for mined in 0..count {
            if let Some(interval) = interval.filter(|_| mined > 0) {
                let latest = self.canon.head().timestamp();
                self.time.set_next(latest.saturating_add(interval.max(1)), latest)?;
            }
            self.mine();
        }
        Ok(())
    }

    /// The block that would be mined now.
    pub(crate) fn pending(&self) -> Draft {
        self.draft(self.next_timestamp())
    }

    /// Credits an account, in an empty block of its own: a state root that a header does not carry
    /// would make every proof a lie until the next block.
    pub(crate) fn set_balance(&mut self, address: Address, balance: U256) -> Arc<Block> {
        self.set(|state| state.set_balance(address, balance))
    }

    /// Puts code at an address, in the same way.
    pub(crate) fn set_code(&mut self, address: Address, code: Bytes) -> Arc<Block> {
        self.set(|state| state.set_code(address, code))
    }

    fn set(&mut self, change: impl FnOnce(&mut State)) -> Arc<Block> {
        let timestamp = self.advance_clock();
        let mut state = self.canon.head_state().clone();
        change(&mut state);
        let made = self.on_head(timestamp, state).seal();
        self.push(made)
    }

    pub(crate) fn snapshot(&mut self) -> u64 {
        let id = self.next_snapshot;
        self.next_snapshot += 1;
        let saved = Saved { canon: self.canon.clone(), pool: self.pool.clone(), time: self.time };
        self.saved.insert(id, saved);
        while self.saved.len() > MAX_SNAPSHOTS {
            self.saved.pop_first();
        }
        id
    }

    /// Goes back to a snapshot, which is used up with all that were taken after it.
    pub(crate) fn revert(&mut self, id: u64) -> Result<(), Error> {
        let mut later = self.saved.split_off(&id);
        let Some(saved) = later.remove(&id) else {
            self.saved.append(&mut later);
            return Err(Error::UnknownSnapshot(id));
        };
        self.canon = saved.canon;
        self.pool = saved.pool;
        self.time = saved.time;
        self.fork += 1;
        Ok(())
    }

    pub(crate) fn next_timestamp(&self) -> u64 {
        self.time.peek(self.canon.head().timestamp())
    }

    fn advance_clock(&mut self) -> u64 {
        self.time.advance(self.canon.head().timestamp())
    }

    fn draft(&self, timestamp: u64) -> Draft {
        let state = self.canon.head_state().clone();
        let base_fee = assemble::next_base_fee(self.canon.head().header());
        let ready = self.pool.ready(&state, base_fee);
        Draft::new(self.on_head(timestamp, state), ready)
    }

    fn on_head(&self, timestamp: u64, state: State) -> Assembly {
        let head = self.canon.head();
        let header = assemble::child_header(head, timestamp, self.config.beneficiary, self.fork);
        let ancestors = self.canon.ancestors(header.number);
        Assembly::new(self.config.chain_id, header, ancestors, state)
    }

    fn push(&mut self, made: Assembled) -> Arc<Block> {
        let head = self.canon.push(made.block, made.state).clone();
        self.pool.prune(self.canon.head_state());
        head
    }

    fn forget(&mut self, invalid: &[TxHash]) {
        for hash in invalid {
            self.pool.remove(hash);
        }
    }
}
