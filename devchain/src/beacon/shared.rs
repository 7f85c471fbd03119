//! The ledger behind its lock, as the server, the follower and the handle share it.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use alloy::eips::BlockNumHash;
use tokio::sync::watch;

use crate::block::Block;
use crate::node::Node;

use super::config::{Config, Slots, StartError};
use super::ledger::Ledger;
use super::lie::{Lie, Topic};
use super::network::{Network, slot_ms};

pub(super) struct Shared {
    node: Arc<Node>,
    slots: Slots,
    ledger: Mutex<Ledger>,
    requests: Mutex<Vec<String>>,
    lie: Mutex<Option<(Option<Topic>, Lie)>>,
}

impl Shared {
    /// Gives the blocks that are there their slots: the newest before now, or all from slot 1 on.
    pub(super) fn new(node: Arc<Node>, config: &Config) -> Result<Self, StartError> {
        let (genesis, blocks) = {
            let chain = node.chain();
            let genesis = chain.canon.block(0).expect("genesis is never dropped").clone();
            (genesis, chain.canon.head().number() + 1)
        };
        let slots = if config.lookalike { Slots::Clock } else { config.slots };
        let network = network(config, slots, node.config.chain_id, &genesis, blocks)?;
        let first_slot = match slots {
            Slots::Manual => 1,
            Slots::Clock => network.slot_at(unix_ms()).saturating_sub(blocks).max(1),
        };
        let mut ledger = Ledger::new(network, node.config.finality_depth, first_slot);
        catch_up(&node, &mut ledger, 0);
        Ok(Self {
            node,
            slots,
            ledger: Mutex::new(ledger),
            requests: Mutex::default(),
            lie: Mutex::default(),
        })
    }

    /// The ledger as it stood when somebody last looked.
    pub(super) fn ledger(&self) -> MutexGuard<'_, Ledger> {
        self.ledger.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The ledger with everything that the chain has by now.
    pub(super) fn caught_up(&self) -> MutexGuard<'_, Ledger> {
        let mut ledger = self.ledger();
        let now = match self.slots {
            Slots::Clock => ledger.network.slot_at(unix_ms()),
            Slots::Manual => 0,
        };
        catch_up(&self.node, &mut ledger, now);
        ledger
    }

    /// The current slot.
    pub(super) fn now(&self, ledger: &Ledger) -> u64 {
        match self.slots {
            Slots::Clock => ledger.network.slot_at(unix_ms()),
            Slots::Manual => ledger.next_slot(),
        }
    }

    /// Index of the newest block that shows: its signature's slot has come.
    pub(super) fn head(&self, ledger: &Ledger) -> Option<usize> {
        let now = self.now(ledger);
        ledger.entries().partition_point(|entry| entry.signature_slot() <= now).checked_sub(1)
    }

    pub(super) fn heads(&self) -> watch::Receiver<BlockNumHash> {
        self.node.heads()
    }

    pub(super) fn requests(&self) -> MutexGuard<'_, Vec<String>> {
        self.requests.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lies from now on, about one topic or about all.
    pub(super) fn set_lie(&self, lie: Option<(Option<Topic>, Lie)>) {
        *self.lie.lock().unwrap_or_else(PoisonError::into_inner) = lie;
    }

    pub(super) fn lie_about(&self, topic: Topic) -> Option<Lie> {
        let lie = self.lie.lock().unwrap_or_else(PoisonError::into_inner).clone();
        lie.filter(|(only, _)| only.is_none_or(|only| only == topic)).map(|(_, lie)| lie)
    }
}

fn network(
    config: &Config,
    slots: Slots,
    chain_id: u64,
    genesis: &Block,
    blocks: u64,
) -> Result<Network, StartError> {
    if config.lookalike {
        return Ok(Network::mainnet(chain_id));
    }
    let now = unix_ms() / 1000;
    let genesis_time = match (config.genesis_time, slots) {
        (Some(time), _) => time,
        (None, Slots::Manual) => genesis.timestamp(),
        // Each block, the slot after the last, and the second that rounding takes.
        (None, Slots::Clock) => now - (blocks + 2).saturating_mul(slot_ms(config)?).div_ceil(1000) - 1,
    };
    if slots == Slots::Clock && genesis_time > now {
        return Err(StartError::BeforeGenesis { genesis_time, now });
    }
    Network::dev(config, chain_id, genesis.hash(), genesis_time)
}

fn catch_up(node: &Node, ledger: &mut Ledger, now: u64) {
    let (keep, new) = {
        let chain = node.chain();
        let canonical = |height: usize| chain.canon.block(height as u64);
        let same = |height: usize| {
            canonical(height).is_some_and(|block| block.hash() == ledger.entries()[height].block.hash())
        };
        // From the head down: reorganisations are short.
        let keep = (0..ledger.entries().len()).rev().find(|height| same(*height)).map_or(0, |last| last + 1);
        (keep, (keep..).map_while(|height| canonical(height).cloned()).collect::<Vec<_>>())
    };
    ledger.truncate(keep);
    for block in new {
        ledger.push(block, now);
    }
}

fn unix_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}
