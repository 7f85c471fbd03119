//! The handle that tests and the demo hold.

use std::net::TcpListener;
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use alloy::consensus::TxEnvelope;
use alloy::eips::BlockNumHash;
use alloy::primitives::{Address, B256, Bytes, TxHash, U256};
use alloy::signers::local::PrivateKeySigner;
use tokio::sync::watch;

use crate::admission;
use crate::block::Block;
use crate::chain::Chain;
use crate::config::Config;
use crate::error::Error;
use crate::node::Node;
use crate::reorg::Reorg;
use crate::rpc;
use crate::server::Server;

/// A running chain. It stops, server, miner and all, when it is dropped.
///
/// No method needs an async runtime; each returns within the time that its blocks take to execute.
pub struct DevChain {
    node: Arc<Node>,
    url: String,
    server: Option<Server>,
    miner: Option<JoinHandle<()>>,
}

impl DevChain {
    /// Starts a chain from genesis and serves it.
    ///
    /// # Errors
    /// [`Error::Listen`] when the address is taken, [`Error::Server`] when the system refuses a thread.
    pub fn start(config: Config) -> Result<Self, Error> {
        let address = config.listen;
        let refused = |source| Error::Listen { address, source };
        let listener = TcpListener::bind(address).map_err(refused)?;
        let url = format!("http://{}", listener.local_addr().map_err(refused)?);
        let node = Arc::new(Node::new(config));
        let server = rpc::server::start(listener, node.clone()).map_err(Error::Server)?;
        let mut chain = Self { node: node.clone(), url, server: Some(server), miner: None };
        let miner = thread::Builder::new().name("devchain-miner".into());
        chain.miner = Some(miner.spawn(move || node.run_interval()).map_err(Error::Server)?);
        Ok(chain)
    }

    /// Ends the server and the miner, and waits until they have.
    pub fn stop(self) {}

    pub(crate) fn node(&self) -> Arc<Node> {
        self.node.clone()
    }

    /// JSON-RPC endpoint, `http://ADDRESS:PORT`.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Chain id (EIP-155).
    pub fn chain_id(&self) -> u64 {
        self.node.config.chain_id
    }

    /// The accounts that were funded at genesis, with their keys.
    pub fn accounts(&self) -> &[PrivateKeySigner] {
        &self.node.config.accounts
    }

    /// The newest block.
    pub fn head(&self) -> Arc<Block> {
        self.node.chain().canon.head().clone()
    }

    /// The newest finalized block.
    pub fn finalized(&self) -> Arc<Block> {
        let chain = self.node.chain();
        chain.canon.block(chain.canon.finalized()).expect("the finalized block is canonical").clone()
    }

    /// The canonical block at a height: full header, body and receipts.
    pub fn block(&self, number: u64) -> Option<Arc<Block>> {
        self.node.chain().canon.block(number).cloned()
    }

    /// The canonical block with a hash.
    pub fn block_by_hash(&self, hash: B256) -> Option<Arc<Block>> {
        self.node.chain().canon.by_hash(&hash).cloned()
    }

    /// The canonical block that has a transaction, and the transaction's index there.
    pub fn block_of(&self, transaction: TxHash) -> Option<(Arc<Block>, usize)> {
        let chain = self.node.chain();
        chain.canon.transaction(&transaction).map(|(block, index)| (block.clone(), index))
    }

    /// The head as it changes, reorganisations and reverts included. Only the newest value is kept.
    pub fn heads(&self) -> watch::Receiver<BlockNumHash> {
        self.node.heads()
    }

    /// Balance at the head, in wei.
    pub fn balance(&self, address: Address) -> U256 {
        self.node.chain().canon.head_state().balance(address)
    }

    /// Sends a signed transaction, as `eth_sendRawTransaction` does.
    ///
    /// # Errors
    /// [`Error::Rejected`] says why the pool does not take it.
    pub fn send(&self, tx: TxEnvelope) -> Result<TxHash, Error> {
        let tx = admission::recover(tx)?;
        Ok(self.node.change(|chain| chain.submit(tx))?)
    }

    /// Mines one block of what waits.
    pub fn mine(&self) -> Arc<Block> {
        self.node.change(Chain::mine)
    }

    /// Mines `count` blocks; returns the head.
    ///
    /// # Errors
    /// [`Error::TooManyBlocks`] above 10,000.
    pub fn mine_many(&self, count: u64) -> Result<Arc<Block>, Error> {
        self.node.change(|chain| {
            chain.mine_many(count, None)?;
            Ok(chain.canon.head().clone())
        })
    }

    /// Mine a block for each transaction that comes, and for those that wait; or let them wait.
    pub fn set_automine(&self, on: bool) {
        self.node.change(|chain| chain.set_automine(on));
    }

    /// Mine a block every `period`; `None` ends this. Automining stays as it is.
    pub fn set_interval_mining(&self, period: Option<Duration>) {
        self.node.set_interval(period);
    }

    /// Moves the chain's clock forward; the next block shows it.
    ///
    /// # Errors
    /// [`Error::Time`] when the time would leave 63 bits.
    pub fn increase_time(&self, by: Duration) -> Result<(), Error> {
        let mut chain = self.node.chain();
        let latest = chain.canon.head().timestamp();
        chain.time.increase(by.as_secs(), latest)?;
        Ok(())
    }

    /// Gives the next block this timestamp (Unix seconds); time goes on from there.
    ///
    /// # Errors
    /// [`Error::Time`] when it is not after the head's.
    pub fn set_next_block_timestamp(&self, timestamp: u64) -> Result<(), Error> {
        let mut chain = self.node.chain();
        let latest = chain.canon.head().timestamp();
        Ok(chain.time.set_next(timestamp, latest)?)
    }

    /// Sets an account's balance in wei, by a block of its own.
    pub fn set_balance(&self, address: Address, balance: U256) -> Arc<Block> {
        self.node.change(|chain| chain.set_balance(address, balance))
    }

    /// Puts code at an address, by a block of its own.
    pub fn set_code(&self, address: Address, code: Bytes) -> Arc<Block> {
        self.node.change(|chain| chain.set_code(address, code))
    }

    /// Replaces the newest blocks; returns the new head.
    ///
    /// # Errors
    /// [`Error::Reorg`]; the chain is then as it was.
    pub fn reorg(&self, reorg: Reorg) -> Result<Arc<Block>, Error> {
        Ok(self.node.change(|chain| chain.reorg(reorg))?)
    }

    /// Remembers blocks, state, pool and clock; 64 snapshots are kept.
    pub fn snapshot(&self) -> u64 {
        self.node.chain().snapshot()
    }

    /// Goes back to a snapshot and uses it up. Finality goes back with it.
    ///
    /// # Errors
    /// [`Error::UnknownSnapshot`].
    pub fn revert(&self, snapshot: u64) -> Result<(), Error> {
        self.node.change(|chain| chain.revert(snapshot))
    }
}

impl Drop for DevChain {
    fn drop(&mut self) {
        self.node.stop();
        if let Some(server) = self.server.take() {
            server.stop();
        }
        if let Some(miner) = self.miner.take()
            && miner.join().is_err()
        {
            tracing::error!("the miner's thread had panicked");
        }
    }
}

impl std::fmt::Debug for DevChain {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("DevChain").field("url", &self.url).field("head", &self.head().id()).finish()
    }
}
