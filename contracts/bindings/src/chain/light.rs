//! A chain as a light client proves it: endpoints are asked and not believed.
//!
//! What the contracts keep is read from their storage, each word by a Merkle proof against a block that a sync committee
//! signed ([`layout`] has the slots); what they promise is their code, by its hash; what was paid is in receipts whose roots
//! are worked out again. Where a proof costs too much there is an answer that proves itself: a key opens its lock, and who
//! holds a device is told by any endpoint and shown by the lock's own slot.

use std::collections::HashMap;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use alloy::primitives::{Address, B256, U256};
use async_trait::async_trait;
use posthouse_light_client::client::{Alarm, ClientError, Config, LightClient, StartError, Status};
use posthouse_light_client::execution::{Account, Block};
use posthouse_light_client::spec::{Network, NetworkError};
use posthouse_protocol::id::{Bounty, ChainId, LockHash, Payee, ProductId};
use thiserror::Error;

use super::{
    At, Chain, ChainError, Claim, Head, Health, Keys, Latest, Payment, Payments, Trust, events, keys, locks,
};
use crate::layout::{self, Device};
use crate::receipts::tag;
use crate::terms::{Implementations, Terms};

/// Bounties whose terms are remembered: a few for each product of a site.
const MAX_TERMS: usize = 1024;

/// A chain as a light client proves it. Cheap to clone; clones are one.
#[derive(Debug, Clone)]
pub struct LightChain {
    client: LightClient,
    factory: Address,
    implementations: Implementations,
    /// Between two blocks at least.
    slot_ms: u64,
    known: Arc<Mutex<Known>>,
}

/// What was proven and does not change.
#[derive(Debug, Default)]
struct Known {
    /// A bounty's code has no way to change.
    terms: HashMap<Bounty, Terms>,
    /// What the factory says in the final block with this hash.
    latest: (B256, HashMap<(Address, ProductId), Option<Latest>>),
}

/// Why a network is none to follow.
#[derive(Debug, Error)]
pub enum NetworkFault {
    /// No network that this program knows has the chain id.
    #[error("chain id {0} is not mainnet, sepolia or hoodi; name a file with the network's constants")]
    Unknown(u64),
    /// The file cannot be read.
    #[error("{file}: {why}")]
    Unreadable {
        /// The file.
        file: String,
        /// What the system says.
        why: std::io::Error,
    },
    /// The file does not describe a network.
    #[error("{file}: {why}")]
    Malformed {
        /// The file.
        file: String,
        /// The line that is missing or wrong.
        why: NetworkError,
    },
    /// The network is another chain's.
    #[error("{network} has chain id {got}, not {expected}")]
    OtherChain {
        /// Its name.
        network: String,
        /// Its chain id.
        got: u64,
        /// The configured one.
        expected: u64,
    },
}

/// The network that a configuration names: `mainnet`, `sepolia`, `hoodi`, or the path of a consensus `config.yaml` with
/// `GENESIS_VALIDATORS_ROOT`. Without a name the chain id tells which of the three it is.
///
/// # Errors
/// [`NetworkFault`].
pub fn network(name: Option<&str>, chain: ChainId) -> Result<Network, NetworkFault> {
    let network = match name {
        None => of_chain(chain).ok_or(NetworkFault::Unknown(chain.get()))?,
        Some(name) => named(name)?,
    };
    match network.execution_chain_id.filter(|id| *id != chain.get()) {
        Some(got) => Err(NetworkFault::OtherChain { network: network.name, got, expected: chain.get() }),
        None => Ok(network),
    }
}

/// The network of this name, or in this file.
///
/// # Errors
/// [`NetworkFault::Unreadable`], [`NetworkFault::Malformed`].
pub fn named(name: &str) -> Result<Network, NetworkFault> {
    if let Some(network) = Network::named(name) {
        return Ok(network);
    }
    let text = std::fs::read_to_string(Path::new(name))
        .map_err(|why| NetworkFault::Unreadable { file: name.into(), why })?;
    Network::from_yaml(&text).map_err(|why| NetworkFault::Malformed { file: name.into(), why })
}

fn of_chain(chain: ChainId) -> Option<Network> {
    let known = [Network::mainnet(), Network::sepolia(), Network::hoodi()];
    known.into_iter().find(|network| network.execution_chain_id == Some(chain.get()))
}

impl LightChain {
    /// Reads the store, and asks nobody. [`LightChain::run`] has to run beside.
    ///
    /// # Errors
    /// [`StartError`].
    pub fn open(config: Config, factory: Address) -> Result<Self, StartError> {
        let slot_ms = config.network.slot_ms.max(1);
        let client = LightClient::open(config)?;
        let implementations = Implementations::of(factory);
        Ok(Self { client, factory, implementations, slot_ms, known: Arc::default() })
    }

    /// Keeps up with the chain until it is dropped. What it returns with is for the operator, and an alarm from then on; what
    /// was proven stays.
    pub async fn run(&self) -> ClientError {
        let error = self.client.run().await;
        tracing::error!(%error, "the light client cannot go on; what it has proven stays");
        error
    }

    /// The client behind it.
    pub fn client(&self) -> &LightClient {
        &self.client
    }

    async fn block(&self, at: At) -> Result<Block, ChainError> {
        Ok(match (at, self.client.finalized()) {
            (At::Latest, _) => self.client.latest().await?,
            (At::Finalized, Err(ClientError::NotSynced)) => self.client.sync_once().await?,
            (At::Finalized, finalized) => finalized?,
        })
    }

    /// A contract's words, and that there is a contract.
    async fn words(
        &self,
        call: &'static str,
        block: &Block,
        address: Address,
        slots: &[B256],
    ) -> Result<Vec<U256>, ChainError> {
        let (account, words) = self.client.rpc().account(block, address, slots).await?;
        is_contract(call, &account)?;
        Ok(words)
    }

    /// What the ledger says of devices after a block, in the order asked for.
    async fn devices(
        &self,
        block: &Block,
        bounty: &Bounty,
        indices: &[u32],
    ) -> Result<Vec<Device>, ChainError> {
        let slots = distinct(indices.iter().map(|index| layout::row_slot(*index)));
        let words = self.words("devices", block, address(bounty), &slots).await?;
        let words: HashMap<B256, U256> = slots.into_iter().zip(words).collect();
        let device = |index: &u32| layout::device(words[&layout::row_slot(*index)], *index);
        Ok(indices.iter().map(device).collect())
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl Chain for LightChain {
    async fn latest(&self, vendor: Address, product: &ProductId) -> Result<Option<Latest>, ChainError> {
        let block = self.block(At::Finalized).await?;
        let asked = (vendor, *product);
        {
            let mut known = self.known();
            if known.latest.0 != block.hash {
                known.latest = (block.hash, HashMap::new());
            }
            if let Some(latest) = known.latest.1.get(&asked) {
                return Ok(*latest);
            }
        }
        let slot = layout::latest_slot(vendor, product);
        let words = self.words("latest", &block, self.factory, &[slot]).await?;
        let latest = words.first().and_then(|word| layout::latest(*word));
        let mut known = self.known();
        if known.latest.0 == block.hash {
            known.latest.1.insert(asked, latest);
        }
        Ok(latest)
    }

    async fn terms(&self, bounty: &Bounty) -> Result<Terms, ChainError> {
        if let Some(terms) = self.known().terms.get(bounty) {
            return Ok(terms.clone());
        }
        let mut code = self.client.rpc().code(&self.block(At::Finalized).await?, address(bounty)).await?;
        if code.is_empty() {
            // Its publication may not be final yet.
            code = self.client.rpc().code(&self.block(At::Latest).await?, address(bounty)).await?;
        }
        let terms = Terms::from_code(&code, &self.implementations)
            .map_err(|reason| ChainError::NotABounty { bounty: *bounty, reason })?;
        let mut known = self.known();
        if known.terms.len() < MAX_TERMS {
            known.terms.insert(*bounty, terms.clone());
        }
        Ok(terms)
    }

    async fn claims(&self, bounty: &Bounty, indices: &[u32], at: At) -> Result<Vec<Claim>, ChainError> {
        let block = self.block(at).await?;
        let devices = self.devices(&block, bounty, indices).await?;
        let held = indices.iter().zip(&devices).filter(|(_, device)| device.held && !device.claimed);
        let held: Vec<u32> = held.map(|(index, _)| *index).collect();
        let locks = match held.is_empty() {
            true => HashMap::new(),
            false => {
                let start = self.block_since(self.terms(bounty).await?.start).await?;
                locks::holders(self.client.rpc(), &block, bounty, &held, start).await?
            }
        };
        let claim = |(index, device): (&u32, &Device)| Claim {
            claimed: device.claimed,
            attempt: device.attempt,
            lock: locks.get(index).copied(),
        };
        Ok(indices.iter().zip(&devices).map(claim).collect())
    }

    async fn claimed(&self, bounty: &Bounty, indices: &[u32], at: At) -> Result<Vec<bool>, ChainError> {
        let block = self.block(at).await?;
        let devices = self.devices(&block, bounty, indices).await?;
        Ok(devices.into_iter().map(|device| device.claimed).collect())
    }

    async fn keys(&self, bounty: &Bounty, from: u64, claimed: &[u32]) -> Result<Keys, ChainError> {
        let to = self.block(At::Latest).await?.number;
        keys::shown(self.client.rpc(), bounty, from, to, claimed).await
    }

    async fn payments(&self, bounty: &Bounty, from: u64) -> Result<Payments, ChainError> {
        let block = self.block(At::Finalized).await?;
        let logs = self.client.rpc().logs(&block, &events::key_revealed(bounty), from).await?;
        let list: Result<Vec<Payment>, _> =
            logs.iter().map(|log| events::payment(&log.inner, log.block_number)).collect();
        Ok(Payments { list: list?, to: block.number })
    }

    async fn reservation(
        &self,
        bounty: &Bounty,
        s: &LockHash,
        payee: &Payee,
        indices: &[u32],
        at: At,
    ) -> Result<Vec<Option<u64>>, ChainError> {
        let block = self.block(at).await?;
        let tag = tag(s, payee);
        let lock = |index: &u32| layout::lock_slot(tag, *index);
        let slots = distinct(indices.iter().flat_map(|index| [layout::row_slot(*index), lock(index)]));
        let words = self.words("lockOf", &block, address(bounty), &slots).await?;
        let words: HashMap<B256, U256> = slots.into_iter().zip(words).collect();
        let held = |index: &u32| {
            let gone = layout::device(words[&layout::row_slot(*index)], *index).claimed;
            layout::held_until(words[&lock(index)], *index).filter(|_| !gone)
        };
        Ok(indices.iter().map(held).collect())
    }

    async fn nonce(&self, account: Address, at: At) -> Result<u64, ChainError> {
        let block = self.block(at).await?;
        Ok(self.client.rpc().account(&block, account, &[]).await?.0.nonce)
    }

    async fn balance(&self, account: Address, at: At) -> Result<U256, ChainError> {
        let block = self.block(at).await?;
        Ok(self.client.rpc().account(&block, account, &[]).await?.0.balance)
    }

    /// After the newest block that is signed, though it may be undone: what is final is two epochs old, and in as many blocks
    /// the fee can rise a thousandfold. Of a block that is undone the fee is an eighth off at the most for each.
    async fn base_fee(&self) -> Result<u64, ChainError> {
        Ok(self.block(At::Latest).await?.next_base_fee())
    }

    async fn head(&self, at: At) -> Result<Head, ChainError> {
        let Block { number, hash, timestamp, .. } = self.block(at).await?;
        Ok(Head { number, hash, timestamp })
    }

    /// Asks nobody for older blocks: there is at most one a slot, so that the block is at least so near.
    async fn block_since(&self, timestamp: u64) -> Result<u64, ChainError> {
        let head = self.block(At::Latest).await?;
        let Some(seconds) = head.timestamp.checked_sub(timestamp) else { return Ok(head.number + 1) };
        let slots = seconds.saturating_mul(1000).div_ceil(self.slot_ms);
        Ok(head.number.saturating_sub(slots))
    }

    fn health(&self) -> Health {
        let Status { finalized, alarms, last_error, .. } = self.client.status();
        let alarms: Vec<String> = alarms.iter().map(words).collect();
        let alarm = (!alarms.is_empty()).then(|| alarms.join("; "));
        Health { trust: Trust::LightClient, slot: finalized.map(|seen| seen.slot), alarm, last_error }
    }
}

/// An alarm for people.
pub fn words(alarm: &Alarm) -> String {
    match alarm {
        Alarm::FinalityWithheld { slot, age_secs } => {
            format!("no block is final since slot {slot}, {age_secs} s ago: it is withheld, or there is none")
        }
        Alarm::Unanswered { for_secs } => {
            format!("no beacon endpoint has given an answer that holds since the start, {for_secs} s ago")
        }
        Alarm::Ended { why } => format!("the chain is followed no more, until somebody mends this: {why}"),
        Alarm::ClockBehind { signed, now } => {
            format!("signatures of slot {signed} when it is slot {now} by this clock: it is behind")
        }
        Alarm::BeforeGenesis => "the clock is before the network's genesis".into(),
        Alarm::Stale { age_secs, allowed_secs } => {
            format!(
                "what is trusted is {age_secs} s old, and only {allowed_secs} s are safe: set a newer checkpoint"
            )
        }
        Alarm::CheckpointNotTaken { checkpoint } => {
            format!("no endpoint has the configured checkpoint {checkpoint}: the stored one is still trusted")
        }
        Alarm::CheckpointOlder { checkpoint } => {
            format!("the checkpoint {checkpoint} is older than what is stored, and was not used")
        }
        Alarm::Contradiction { what } => format!("two final blocks of one slot were signed: {what}"),
        Alarm::UnknownFork { fork } => format!("the fork {fork} came after this program: it needs an update"),
        other => format!("{other:?}"),
    }
}

fn address(bounty: &Bounty) -> Address {
    Address::from(bounty.to_bytes())
}

fn is_contract(call: &'static str, account: &Account) -> Result<(), ChainError> {
    // An account that is not there has the hash of no code.
    if account.code_hash == alloy::primitives::KECCAK256_EMPTY {
        let reason = format!("{} is no contract", account.address);
        return Err(ChainError::Refused { call, reason });
    }
    Ok(())
}

fn distinct(slots: impl Iterator<Item = B256>) -> Vec<B256> {
    let mut slots: Vec<B256> = slots.collect();
    slots.sort_unstable();
    slots.dedup();
    slots
}
