//! From a parent and waiting transactions to the next block.

use alloy::consensus::{
    Eip658Value, Header, Receipt, ReceiptEnvelope, ReceiptWithBloom, Transaction, TxEnvelope,
    transaction::Recovered,
};
use alloy::eips::eip1559::BaseFeeParams;
use alloy::primitives::{Address, TxHash, keccak256};
use revm::context::result::{ExecutionResult, InvalidTransaction};

use crate::block::{Block, bare_header};
use crate::config::Config;
use crate::evm::{self, Ancestors, EvmError, View};
use crate::pool::{PoolTx, Ready};
use crate::state::State;

/// A block, the state it ends in, and the transactions that no block can take.
pub(crate) struct Assembled {
    pub(crate) block: Block,
    pub(crate) state: State,
    pub(crate) invalid: Vec<TxHash>,
}

/// A block that is still to be filled with what waits. It owns all that it needs, so that whoever
/// only wants to know what it would be can execute it while the chain goes on.
pub(crate) struct Draft {
    assembly: Assembly,
    ready: Ready,
}

impl Draft {
    pub(crate) fn new(assembly: Assembly, ready: Ready) -> Self {
        Self { assembly, ready }
    }

    pub(crate) fn execute(mut self) -> Assembled {
        self.assembly.fill(self.ready);
        self.assembly.seal()
    }
}

/// A block in the making.
pub(crate) struct Assembly {
    chain_id: u64,
    header: Header,
    ancestors: Ancestors,
    state: State,
    transactions: Vec<Recovered<TxEnvelope>>,
    receipts: Vec<ReceiptEnvelope>,
    gas_used: u64,
    invalid: Vec<TxHash>,
}

/// Genesis: the funded accounts and nothing else.
pub(crate) fn genesis(config: &Config, timestamp: u64) -> (Block, State) {
    let mut state = State::default();
    for account in &config.accounts {
        state.set_balance(account.address(), config.balance);
    }
    let header = Header {
        gas_limit: config.gas_limit,
        timestamp,
        base_fee_per_gas: Some(base_fee_before(config.base_fee)),
        ..bare_header()
    };
    (Block::seal(header, Vec::new(), Vec::new(), &state), state)
}

/// The base fee of an empty block whose child has `next`: EIP-1559 takes an eighth off.
fn base_fee_before(next: u64) -> u64 {
    next.saturating_add(next / 7)
}

/// Base fee of the block after `parent` (EIP-1559).
pub(crate) fn next_base_fee(parent: &Header) -> u64 {
    parent.next_block_base_fee(BaseFeeParams::ethereum()).unwrap_or_default()
}

/// The header that a block on `parent` starts from. `fork` tells blocks at one height apart that
/// would be equal otherwise: it goes into the block's randomness.
pub(crate) fn child_header(parent: &Block, timestamp: u64, beneficiary: Address, fork: u64) -> Header {
    let randomness = [parent.hash().as_slice(), &fork.to_be_bytes()].concat();
    Header {
        parent_hash: parent.hash(),
        beneficiary,
        number: parent.number() + 1,
        gas_limit: parent.header().gas_limit,
        timestamp,
        mix_hash: keccak256(randomness),
        base_fee_per_gas: Some(next_base_fee(parent.header())),
        ..bare_header()
    }
}

impl Assembly {
    pub(crate) fn new(chain_id: u64, header: Header, ancestors: Ancestors, state: State) -> Self {
        Self {
            chain_id,
            header,
            ancestors,
            state,
            transactions: Vec::new(),
            receipts: Vec::new(),
            gas_used: 0,
            invalid: Vec::new(),
        }
    }

    /// Takes of `ready` what fits.
    fn fill(&mut self, mut ready: Ready) {
        let base_fee = self.header.base_fee_per_gas.unwrap_or_default();
        while ready.next(base_fee, |tx| self.offer(&tx)) {}
    }

    fn offer(&mut self, tx: &PoolTx) -> bool {
        match self.execute(tx) {
            Ok(()) => true,
            Err(EvmError::Transaction(InvalidTransaction::CallerGasLimitMoreThanBlock)) => false,
            Err(reason) => {
                tracing::warn!(hash = %tx.tx_hash(), %reason, "a waiting transaction became invalid");
                self.invalid.push(*tx.tx_hash());
                false
            }
        }
    }

    /// Executes `tx` after those that the block already has.
    pub(crate) fn execute(&mut self, tx: &Recovered<TxEnvelope>) -> Result<(), EvmError> {
        if tx.gas_limit() > self.header.gas_limit - self.gas_used {
            return Err(EvmError::Transaction(InvalidTransaction::CallerGasLimitMoreThanBlock));
        }
        let view = View { state: &self.state, ancestors: &self.ancestors };
        let rules = evm::consensus_rules(self.chain_id);
        let done = evm::transact(view, rules, evm::block_env(&self.header), evm::tx_env(tx))?;
        self.state.apply(&done.state);
        self.gas_used += done.result.tx_gas_used();
        self.receipts.push(receipt(tx, done.result, self.gas_used));
        self.transactions.push(tx.clone());
        Ok(())
    }

    pub(crate) fn seal(self) -> Assembled {
        let block = Block::seal(self.header, self.transactions, self.receipts, &self.state);
        Assembled { block, state: self.state, invalid: self.invalid }
    }
}

fn receipt(tx: &TxEnvelope, result: ExecutionResult, cumulative_gas_used: u64) -> ReceiptEnvelope {
    let status = Eip658Value::Eip658(result.is_success());
    // A transaction that failed leaves no logs behind.
    let logs = if result.is_success() { result.into_logs() } else { Vec::new() };
    let receipt = Receipt { status, cumulative_gas_used, logs };
    ReceiptEnvelope::from_typed(tx.tx_type(), ReceiptWithBloom::from(receipt))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_block_has_the_base_fee_that_was_asked_for() {
        for base_fee in (0..100).chain([1_000_000_000, 999_999_937]) {
            let config = Config { base_fee, accounts: Vec::new(), ..Config::default() };
            let (genesis, _) = genesis(&config, 0);
            assert_eq!(next_base_fee(genesis.header()), base_fee);
        }
    }
}
