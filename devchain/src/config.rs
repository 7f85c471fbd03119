//! What a chain is started with.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use alloy::primitives::{Address, U256};
use alloy::signers::local::PrivateKeySigner;

use crate::account::dev_accounts;

/// EIP-7825: no transaction may ask for more gas than this.
pub const TX_GAS_LIMIT_CAP: u64 = 16_777_216;

/// How the timestamps of blocks come about. They rise strictly in either case.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Clock {
    /// Blocks carry the computer's time, plus what `evm_increaseTime` added.
    System,
    /// Time stands still: each block is one second after its parent unless a test moves the clock.
    Manual,
}

/// The choices a chain is started with. `Config::default()` is what anvil starts with, Osaka rules
/// included.
#[derive(Clone, Debug)]
pub struct Config {
    /// EIP-155 chain id.
    pub chain_id: u64,
    /// Accounts that are funded at genesis and whose keys tests may use.
    pub accounts: Vec<PrivateKeySigner>,
    /// What each of `accounts` owns at genesis, in wei.
    pub balance: U256,
    /// Gas limit of every block.
    pub gas_limit: u64,
    /// Base fee of the first block in wei per gas; EIP-1559 moves it from there. Genesis gets what
    /// leads to it.
    pub base_fee: u64,
    /// Who receives the priority fees.
    pub beneficiary: Address,
    /// Mine a block whenever a transaction can be executed.
    pub automine: bool,
    /// Mine a block at this interval, whether or not there are transactions, so that finality goes on.
    /// With `automine` transactions do not wait for it (anvil calls this mixed mining).
    pub block_time: Option<Duration>,
    /// Blocks between the head and the finalized block.
    pub finality_depth: u64,
    /// Let a reorganisation drop finalized blocks, as only a broken consensus would.
    pub reorg_past_finality: bool,
    /// Where timestamps come from.
    pub clock: Clock,
    /// Unix seconds of the genesis block; the computer's time when `None`.
    pub genesis_timestamp: Option<u64>,
    /// The newest blocks whose state can still be asked for: proofs, calls, storage.
    pub state_history: usize,
    /// Where JSON-RPC is served; port 0 lets the system choose one. By default on loopback: whoever reaches it rules the chain.
    pub listen: SocketAddr,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            chain_id: 31_337,
            accounts: dev_accounts(),
            balance: U256::from(10_000) * U256::from(10).pow(U256::from(18)),
            gas_limit: 30_000_000,
            base_fee: 1_000_000_000,
            beneficiary: Address::ZERO,
            automine: true,
            block_time: None,
            finality_depth: 2,
            reorg_past_finality: false,
            clock: Clock::System,
            genesis_timestamp: None,
            state_history: 512,
            listen: (Ipv4Addr::LOCALHOST, 0).into(),
        }
    }
}
