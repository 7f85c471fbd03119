//! The chain behind its lock, as the JSON-RPC methods and the in-process handle share it.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use alloy::eips::BlockNumHash;
use tokio::sync::watch;

use crate::chain::Chain;
use crate::config::Config;

/// What the interval miner is to do.
#[derive(Clone, Copy, Debug, Default)]
struct Interval {
    period: Option<Duration>,
    /// Changes with every new period, so that the miner starts over.
    generation: u64,
    stopped: bool,
}

/// One chain, shared.
pub(crate) struct Node {
    pub(crate) config: Arc<Config>,
    chain: Mutex<Chain>,
    heads: watch::Sender<BlockNumHash>,
    interval: Mutex<Interval>,
    wake: Condvar,
}

impl Node {
    pub(crate) fn new(config: Config) -> Self {
        let config = Arc::new(config);
        let chain = Chain::new(config.clone());
        Self {
            heads: watch::Sender::new(chain.canon.head().id()),
            interval: Mutex::new(Interval { period: config.block_time, ..Interval::default() }),
            wake: Condvar::new(),
            chain: Mutex::new(chain),
            config,
        }
    }

    /// The chain, to read. A panic while it was locked left it whole: blocks are pushed in one step.
    pub(crate) fn chain(&self) -> MutexGuard<'_, Chain> {
        self.chain.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The chain, to change; whoever watches the head is told.
    pub(crate) fn change<T>(&self, change: impl FnOnce(&mut Chain) -> T) -> T {
        let mut chain = self.chain();
        let done = change(&mut chain);
        let head = chain.canon.head().id();
        self.heads.send_if_modified(|seen| std::mem::replace(seen, head) != head);
        done
    }

    pub(crate) fn heads(&self) -> watch::Receiver<BlockNumHash> {
        self.heads.subscribe()
    }

    /// Mine every `period`, or no longer.
    pub(crate) fn set_interval(&self, period: Option<Duration>) {
        self.update_interval(|interval| interval.period = period);
    }

    pub(crate) fn stop(&self) {
        self.update_interval(|interval| interval.stopped = true);
    }

    fn update_interval(&self, update: impl FnOnce(&mut Interval)) {
        let mut interval = self.interval.lock().unwrap_or_else(PoisonError::into_inner);
        update(&mut interval);
        interval.generation += 1;
        self.wake.notify_all();
    }

    /// Mines at the interval until [`Node::stop`]. Runs on a thread of its own.
    pub(crate) fn run_interval(&self) {
        let mut interval = self.interval.lock().unwrap_or_else(PoisonError::into_inner);
        while !interval.stopped {
            let seen = interval.generation;
            let Some(period) = interval.period else {
                interval = self.wake.wait(interval).unwrap_or_else(PoisonError::into_inner);
                continue;
            };
            let changed = |now: &mut Interval| now.generation == seen;
            let woken = self.wake.wait_timeout_while(interval, period, changed);
            let timeout;
            (interval, timeout) = woken.unwrap_or_else(PoisonError::into_inner);
            if timeout.timed_out() {
                drop(interval);
                self.change(Chain::mine);
                interval = self.interval.lock().unwrap_or_else(PoisonError::into_inner);
            }
        }
    }
}
