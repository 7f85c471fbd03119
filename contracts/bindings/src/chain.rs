//! The one boundary through which a chain is read.
//!
//! Everything above asks [`Chain`]; what answers may be a JSON-RPC endpoint that is believed
//! ([`RpcChain`]) or a light client that believes nobody.

use alloy::primitives::{Address, B256, U256};
use alloy::transports::TransportError;
use async_trait::async_trait;
use posthouse_protocol::id::{Attempt, Bounty, LockHash, Payee, ProductId, Version};
use posthouse_protocol::secret::KeyR;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use posthouse_light_client::client::ClientError;
pub use posthouse_light_client::http::{Limits, UrlError};
use posthouse_light_client::rpc::RpcError;

pub use self::history::{Event, What};
pub use self::light::LightChain;
pub use self::rpc::{RpcChain, RpcConfig, provider, refused};
use crate::terms::{Terms, TermsError};

mod events;
mod history;
mod keys;
pub mod light;
mod locks;
mod relay;
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

/// A key that a `KeyRevealed` event showed.
///
/// `r` proves itself, whoever tells it: `r.lock() == s` was checked. Nothing else of the event is proven.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Key {
    /// Who was paid.
    pub payee: Payee,
    /// For which device.
    pub index: u32,
    /// Under which lock hash.
    pub s: LockHash,
    /// The key.
    pub r: KeyR,
}

/// Keys that endpoints tell of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Keys {
    /// Oldest first by each endpoint. Those that were made up open their locks as well: a device may have one of each endpoint.
    pub list: Vec<Key>,
    /// Whether every endpoint was asked and gave an answer. While one of them has not, it may be the one with the true key.
    pub all: bool,
}

/// A share that was paid, by a `KeyRevealed` event in a final block.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Payment {
    /// To whom.
    pub payee: Payee,
    /// For which device.
    pub index: u32,
    /// Under which lock hash.
    pub s: LockHash,
    /// Wei.
    pub amount: U256,
    /// Number of the block.
    pub block: u64,
}

/// All payments of a bounty in a range of blocks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Payments {
    /// Oldest first.
    pub list: Vec<Payment>,
    /// Number of the final block up to which these are all.
    pub to: u64,
}

/// Whose word about the chain is taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Trust {
    /// The endpoints are believed.
    Rpc,
    /// Nobody's: what they say is proven.
    LightClient,
}

impl Trust {
    /// As the configuration and the status name it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Rpc => "rpc",
            Self::LightClient => "light-client",
        }
    }
}

/// How reading a chain fares.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Health {
    /// Whose word is taken.
    pub trust: Trust,
    /// Slot of the newest final beacon block that was proven, under a light client that has one.
    pub slot: Option<u64>,
    /// What somebody should look into: finality that does not come, a clock that is wrong.
    pub alarm: Option<String>,
    /// Why the light client's last synchronisation ended early, if it did: one line of at most 200 characters.
    pub last_error: Option<String>,
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
    /// An event that must have been is shown by no endpoint.
    #[error("{bounty}: every endpoint hides {what} of device {index}")]
    Hidden {
        /// The contract.
        bounty: Bounty,
        /// A device that the event is about.
        index: u32,
        /// What it would tell.
        what: &'static str,
    },
    /// The light client knows nothing newer.
    #[error("light client: {0}")]
    Unproven(#[from] ClientError),
    /// No endpoint gave an answer that holds; each with its reason.
    #[error(transparent)]
    Rpc(#[from] RpcError),
    /// The answer contradicts the question or itself.
    #[error("{call}: the endpoint's answer is wrong: {reason}")]
    WrongAnswer {
        /// What was asked.
        call: &'static str,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// The configuration names no endpoint, or one that is not a URL that can be used.
    #[error(transparent)]
    Endpoint(#[from] UrlError),
}

/// What alloy says of an endpoint that gave no answer that can be used, without the answer itself: that may be of any size, and
/// say anything.
impl From<TransportError> for ChainError {
    fn from(error: TransportError) -> Self {
        Self::Unreachable(relay::shown(&error))
    }
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

    /// Whether the shares of devices are gone, in the order asked for.
    async fn claimed(&self, bounty: &Bounty, indices: &[u32], at: At) -> Result<Vec<bool>, ChainError>;

    /// The keys that were shown from block `from` to the newest one, oldest first. No endpoint is
    /// believed when it says that there is none: `claimed` are devices whose share is known to be gone
    /// since then, so that a key was shown for each. With it all endpoints are asked, since the key that one of them has for
    /// a device may be made up.
    ///
    /// # Errors
    /// [`ChainError::Hidden`] when every endpoint hides one.
    async fn keys(&self, bounty: &Bounty, from: u64, claimed: &[u32]) -> Result<Keys, ChainError>;

    /// All that was paid from block `from` to the newest final one.
    async fn payments(&self, bounty: &Bounty, from: u64) -> Result<Payments, ChainError>;

    /// For each index until when the lock of this payee and `s` holds it, unix seconds, be that over or
    /// not; `None` if it does not, or if the share is gone already.
    async fn reservation(
        &self,
        bounty: &Bounty,
        s: &LockHash,
        payee: &Payee,
        indices: &[u32],
        at: At,
    ) -> Result<Vec<Option<u64>>, ChainError>;

    /// How many transactions an account has sent.
    async fn nonce(&self, account: Address, at: At) -> Result<u64, ChainError>;

    /// Wei that an account has.
    async fn balance(&self, account: Address, at: At) -> Result<U256, ChainError>;

    /// Wei that a unit of gas costs at the least: by EIP-1559 in the block after the newest one where that is proven, in the
    /// newest one where endpoints are believed.
    async fn base_fee(&self) -> Result<u64, ChainError>;

    /// The newest block of its kind.
    async fn head(&self, at: At) -> Result<Head, ChainError>;

    /// Where to look for the events of a bounty from its start: the first block that is not older than
    /// `timestamp`, unix seconds, or one before it. The number after the newest block if all are older.
    async fn block_since(&self, timestamp: u64) -> Result<u64, ChainError>;

    /// What is believed, and how far it is to be relied on now; asks nobody.
    fn health(&self) -> Health;
}
