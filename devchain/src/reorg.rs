//! Reorganisations on demand: the newest blocks are replaced by others, as when another fork wins.

use std::sync::Arc;

use alloy::consensus::{TxEnvelope, transaction::Recovered};
use alloy::primitives::TxHash;

use crate::admission::Rejection;
use crate::assemble::{self, Assembly};
use crate::block::Block;
use crate::canon::Canon;
use crate::chain::Chain;

/// A reorganisation: as many blocks come in as go, so that the head keeps its height.
#[derive(Clone, Debug, Default)]
pub struct Reorg {
    /// Blocks to replace, counted from the head.
    pub depth: u64,
    /// Transactions of the new blocks, each with the index of its block: 0 is the oldest new one.
    pub transactions: Vec<(TxEnvelope, u64)>,
    /// Put the transactions of the dropped blocks back into the pool, as nodes do on a real network.
    /// Otherwise they are gone until somebody sends them again.
    pub resubmit: bool,
}

/// Why a reorganisation was refused. Nothing has changed then.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReorgError {
    /// Genesis stays.
    #[error("reorg depth {depth} is not between 1 and the chain's height {height}")]
    Depth {
        /// The depth that was asked for.
        depth: u64,
        /// Height of the head.
        height: u64,
    },
    /// Finality is kept, see [`Config::reorg_past_finality`](crate::Config::reorg_past_finality).
    #[error("reorg depth {depth} would drop the finalized block {finalized}")]
    Finalized {
        /// The depth that was asked for.
        depth: u64,
        /// Height of the finalized block.
        finalized: u64,
    },
    /// The state to go back to is older than [`Config::state_history`](crate::Config::state_history).
    #[error("the state of block {0} is no longer kept")]
    StateGone(u64),
    /// A transaction was given for a block that does not exist.
    #[error("block offset {offset} is not below the reorg depth {depth}")]
    Offset {
        /// The offset that was given.
        offset: u64,
        /// The depth that was asked for.
        depth: u64,
    },
    /// A transaction given for the new blocks cannot be executed there.
    #[error("transaction {hash} of the new blocks: {reason}")]
    Transaction {
        /// Which one.
        hash: TxHash,
        /// Why not.
        reason: Rejection,
    },
}

impl Chain {
    pub(crate) fn reorg(&mut self, reorg: Reorg) -> Result<Arc<Block>, ReorgError> {
        let base = self.check_reorg(&reorg)?;
        let mut blocks = vec![Vec::new(); usize::try_from(reorg.depth).unwrap_or(usize::MAX)];
        for (tx, offset) in reorg.transactions {
            let hash = *tx.tx_hash();
            let tx =
                crate::admission::recover(tx).map_err(|reason| ReorgError::Transaction { hash, reason })?;
            usize::try_from(offset)
                .ok()
                .and_then(|slot| blocks.get_mut(slot))
                .ok_or(ReorgError::Offset { offset, depth: reorg.depth })?
                .push(tx);
        }
        let mut canon = self.canon.clone();
        let dropped = canon.truncate(base);
        for (old, transactions) in dropped.iter().zip(blocks) {
            self.replace(&mut canon, old, &transactions)?;
        }
        self.canon = canon;
        self.fork += 1;
        if reorg.resubmit {
            self.take_back(&dropped);
        }
        self.pool.prune(self.canon.head_state());
        Ok(self.canon.head().clone())
    }

    /// The height of the newest block that stays.
    fn check_reorg(&self, reorg: &Reorg) -> Result<u64, ReorgError> {
        let (depth, height) = (reorg.depth, self.canon.head().number());
        let base = height.checked_sub(depth).filter(|_| depth > 0);
        let base = base.ok_or(ReorgError::Depth { depth, height })?;
        let finalized = self.canon.finalized();
        if base < finalized && !self.config.reorg_past_finality {
            return Err(ReorgError::Finalized { depth, finalized });
        }
        self.canon.state(base).ok_or(ReorgError::StateGone(base))?;
        Ok(base)
    }

    /// Mines the counterpart of `old`: other contents and hash, the same time slot.
    fn replace(
        &self,
        canon: &mut Canon,
        old: &Block,
        transactions: &[Recovered<TxEnvelope>],
    ) -> Result<(), ReorgError> {
        let fork = self.fork + 1;
        let header = assemble::child_header(canon.head(), old.timestamp(), self.config.beneficiary, fork);
        let ancestors = canon.ancestors(header.number);
        let state = canon.head_state().clone();
        let mut assembly = Assembly::new(self.config.chain_id, header, ancestors, state);
        for tx in transactions {
            assembly
                .execute(tx)
                .map_err(|reason| ReorgError::Transaction { hash: *tx.tx_hash(), reason: reason.into() })?;
        }
        let made = assembly.seal();
        canon.push(made.block, made.state);
        Ok(())
    }

    fn take_back(&mut self, dropped: &[Arc<Block>]) {
        for tx in dropped.iter().flat_map(|block| block.transactions()) {
            if self.canon.transaction(tx.tx_hash()).is_none()
                && let Err(reason) = self.pool.insert(Arc::new(tx.clone()))
            {
                tracing::warn!(hash = %tx.tx_hash(), %reason, "a dropped transaction is not taken back");
            }
        }
    }
}
