//! The one boundary through which a chain is read.
//!
//! Everything above asks [`Chain`]; what answers may be a JSON-RPC endpoint that is believed
//! ([`RpcChain`]) or a light client that believes nobody.

use alloy::primitives::{Address, B256, U256};
use async_trait::async_trait;
use posthouse_protocol::id::{Attempt, Bounty, LockHash, Payee, ProductId, Version};
use posthouse_protocol::secret::KeyR;
use thiserror::Error;

pub use self::endpoint::Limits;
pub use self::rpc::{RpcChain, RpcConfig, provider};
use crate::terms::{Terms, TermsError};

mod endpoint;
mod rpc;

/// Which block an answer is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum At {
    /// The newest block, which a reorganisation may drop.
    Latest,
    /// The newest block that is final.
    Finalized,
}

/// The latest version of a product and the bounty for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Latest {
    /// SUIT sequence number.
    pub version: Version,
    /// The bounty that pays for it.
    pub bounty: Bounty,
}

/// What the contract knows of one device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Claim {
    /// Its share is gone.
    pub claimed: bool,
    /// Highest attempt that was reserved for it; 0 for none.
    pub attempt: Attempt,
    /// The lock that holds it, live or ended; `None` when it is free or claimed.
    pub lock: Option<Lock>,
}

impl Claim {
    /// Until when somebody's lock holds the device, unix seconds, if that is not over at `now`.
    pub fn locked_until(&self, now: u64) -> Option<u64> {
        self.lock.map(|lock| lock.until).filter(|until| now <= *until)
    }
}

/// A reservation that holds a device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lock {
    /// For whom it is held.
    pub payee: Payee,
    /// Under which lock hash.
    pub s: LockHash,
    /// Last second in which it lives, unix time.
    pub until: u64,
}

/// A `KeyRevealed` event: a share was earned and `r` is public.
///
/// `r` needs no trust in whoever tells it: `r.lock() == s`, which [`RpcChain`] checks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Revealed {
    /// Who was paid.
    pub payee: Payee,
    /// For which device.
    pub index: u32,
    /// Under which lock hash.
    pub s: LockHash,
    /// The key.
    pub r: KeyR,
    /// Wei.
    pub amount: U256,
    /// Number of the block.
    pub block: u64,
    /// Hash of the transaction.
    pub transaction: B256,
}

/// A block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Head {
    /// Its number.
    pub number: u64,
    /// Its hash.
    pub hash: B256,
    /// Its time, unix seconds.
    pub timestamp: u64,
}

/// Why the chain could not be read.
#[derive(Debug, Error)]
pub enum ChainError {
    /// No endpoint gave an answer; this is what the last one failed with.
    #[error("no endpoint answered: {0}")]
    Unreachable(String),
    /// The endpoint refuses the call: the contract is not there, or reverts.
    #[error("{call}: {reason}")]
    Refused {
        /// What was asked.
        call: &'static str,
        /// What it said.
        reason: String,
    },
    /// What stands at the address is not a bounty of the configured factory.
    #[error("{bounty}: {reason}")]
    NotABounty {
        /// The address.
        bounty: Bounty,
        /// What it is instead.
        #[source]
        reason: TermsError,
    },
    /// The answer contradicts the question or itself.
    #[error("{call}: the endpoint's answer is wrong: {reason}")]
    WrongAnswer {
        /// What was asked.
        call: &'static str,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// The configuration names no endpoint, or one that is not a URL that can be used.
    #[error("endpoint {0}")]
    Endpoint(String),
}

/// Reading a chain. Calls are idempotent; an error says nothing about the chain, so ask again later.
#[async_trait]
pub trait Chain: Send + Sync {
    /// The latest version of a vendor's product, at the finalized head.
    async fn latest(&self, vendor: Address, product: &ProductId) -> Result<Option<Latest>, ChainError>;

    /// The terms of a bounty, from its code.
    async fn terms(&self, bounty: &Bounty) -> Result<Terms, ChainError>;

    /// What the contract knows of devices, in the order asked for.
    async fn claims(&self, bounty: &Bounty, indices: &[u32], at: At) -> Result<Vec<Claim>, ChainError>;

    /// The keys revealed from block `from` to the newest one, oldest first.
    async fn revealed(&self, bounty: &Bounty, from: u64) -> Result<Vec<Revealed>, ChainError>;

    /// For each index until when the lock of this payee and `s` holds it, unix seconds, be that over or
    /// not; `None` if it does not. Whether the share is gone meanwhile is for [`Chain::claims`] to say.
    async fn reservation(
        &self,
        bounty: &Bounty,
        s: &LockHash,
        payee: &Payee,
        indices: &[u32],
        at: At,
    ) -> Result<Vec<Option<u64>>, ChainError>;

    /// The newest block of its kind.
    async fn head(&self, at: At) -> Result<Head, ChainError>;

    /// The first block that is not older than `timestamp`, unix seconds: where to look for the events
    /// of a bounty from its start. The number after the newest block if all are older.
    async fn block_since(&self, timestamp: u64) -> Result<u64, ChainError>;
}
