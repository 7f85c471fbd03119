//! The canonical chain: blocks by height, hash and transaction, and the newest states.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use alloy::primitives::{B256, TxHash};

use crate::block::Block;
use crate::evm::{Ancestors, BLOCK_HASHES};
use crate::state::State;

/// The blocks from genesis to the head. There is always a genesis, and the head always has its state.
///
/// **Invariant:** the finalized block never goes down while blocks are pushed and truncated above it.
#[derive(Clone, Debug)]
pub(crate) struct Canon {
    blocks: Vec<Arc<Block>>,
    by_hash: HashMap<B256, u64>,
    by_tx: HashMap<TxHash, (u64, usize)>,
    states: BTreeMap<u64, State>,
    state_history: usize,
    finality_depth: u64,
    finalized: u64,
}

impl Canon {
    pub(crate) fn new(genesis: Block, state: State, state_history: usize, finality_depth: u64) -> Self {
        Self {
            by_hash: HashMap::from([(genesis.hash(), 0)]),
            by_tx: HashMap::new(),
            blocks: vec![Arc::new(genesis)],
            states: BTreeMap::from([(0, state)]),
            state_history: state_history.max(1),
            finality_depth,
            finalized: 0,
        }
    }

    pub(crate) fn head(&self) -> &Arc<Block> {
        self.blocks.last().expect("genesis is never dropped")
    }

    pub(crate) fn head_state(&self) -> &State {
        self.states.get(&self.head().number()).expect("the head keeps its state")
    }

    pub(crate) fn block(&self, number: u64) -> Option<&Arc<Block>> {
        self.blocks.get(usize::try_from(number).ok()?)
    }

    pub(crate) fn by_hash(&self, hash: &B256) -> Option<&Arc<Block>> {
        self.block(*self.by_hash.get(hash)?)
    }

    /// The block that has the transaction, and its index there.
    pub(crate) fn transaction(&self, hash: &TxHash) -> Option<(&Arc<Block>, usize)> {
        let (number, index) = *self.by_tx.get(hash)?;
        Some((self.block(number)?, index))
    }

    /// `None` for blocks that are unknown and for those older than the history that is kept.
    pub(crate) fn state(&self, number: u64) -> Option<&State> {
        self.states.get(&number)
    }

    pub(crate) fn finalized(&self) -> u64 {
        self.finalized
    }

    /// Halfway between the head and the finalized block, as justification is in Ethereum.
    pub(crate) fn safe(&self) -> u64 {
        self.head().number().saturating_sub(self.finality_depth.div_ceil(2)).max(self.finalized)
    }

    pub(crate) fn push(&mut self, block: Block, state: State) -> &Arc<Block> {
        let number = block.number();
        self.by_hash.insert(block.hash(), number);
        self.by_tx.extend(block.hashes().enumerate().map(|(index, hash)| (hash, (number, index))));
        self.states.insert(number, state);
        while self.states.len() > self.state_history {
            self.states.pop_first();
        }
        self.blocks.push(Arc::new(block));
        self.finalized = self.finalized.max(number.saturating_sub(self.finality_depth));
        self.head()
    }

    /// Drops the blocks above `number`, the newest last in the answer. Finality is given up with
    /// them, for a caller that has decided so.
    pub(crate) fn truncate(&mut self, number: u64) -> Vec<Arc<Block>> {
        let keep = usize::try_from(number).unwrap_or(usize::MAX).saturating_add(1);
        let dropped = self.blocks.split_off(keep.min(self.blocks.len()));
        for block in &dropped {
            self.by_hash.remove(&block.hash());
            self.states.remove(&block.number());
            for hash in block.hashes() {
                self.by_tx.remove(&hash);
            }
        }
        self.finalized = self.finalized.min(number);
        dropped
    }

    /// What BLOCKHASH can see in the block at height `number`.
    pub(crate) fn ancestors(&self, number: u64) -> Ancestors {
        let first = number.saturating_sub(BLOCK_HASHES);
        let hashes = (first..number).map_while(|number| Some(self.block(number)?.hash())).collect();
        Ancestors { first, hashes }
    }
}
