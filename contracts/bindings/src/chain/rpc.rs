//! A chain as JSON-RPC endpoints tell it. They are believed; only what proves itself is checked.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::ops::RangeInclusive;

use alloy::contract::Error as CallError;
use alloy::eips::{BlockId, BlockNumberOrTag};
use alloy::primitives::{Address, B256, U256};
use alloy::providers::{Provider, RootProvider};
use alloy::rpc::client::RpcClient;
use alloy::rpc::types::{Filter, Log};
use alloy::sol_types::SolEvent;
use async_trait::async_trait;
use posthouse_light_client::rpc::{Rpc, RpcError};
use posthouse_light_client::words;
use posthouse_protocol::id::{Bounty, ChainId, LockHash, Payee, ProductId};

use super::relay::Relay;
use super::{
    At, Chain, ChainError, Claim, Head, Health, Keys, Latest, Limits, Lock, Payment, Payments, Trust, events,
    keys,
};
use crate::abi::{UpdateBounty, UpdateFactory};
use crate::receipts::PAGE;
use crate::terms::{Implementations, Terms};

/// Blocks asked for in one `eth_getLogs`: public endpoints refuse many more.
const LOG_SPAN: u64 = 5_000;
/// Devices asked for in one call, so that an answer stays far below an endpoint's gas cap.
const DEVICES: usize = 1_000;

/// Where a chain is read.
#[derive(Debug, Clone)]
pub struct RpcConfig {
    /// HTTP or HTTPS, in order of preference; the next is asked where one fails.
    pub urls: Vec<String>,
    /// The chain that every endpoint must serve.
    pub chain: ChainId,
    /// The factory whose word counts.
    pub factory: Address,
    /// What an endpoint may cost.
    pub limits: Limits,
}

/// A chain as JSON-RPC endpoints tell it. Cheap to clone.
#[derive(Clone)]
pub struct RpcChain {
    rpc: Rpc,
    provider: RootProvider,
    factory: Address,
    implementations: Implementations,
}

impl RpcChain {
    /// Nothing is dialled yet, so an endpoint that is down does not stand in the way of a start.
    ///
    /// # Errors
    /// [`ChainError::Endpoint`]: no URL, or one that cannot be used.
    pub fn new(config: &RpcConfig) -> Result<Self, ChainError> {
        let rpc = endpoints(&config.urls, config.chain, config.limits)?;
        Ok(Self {
            provider: over(rpc.clone()),
            rpc,
            factory: config.factory,
            implementations: Implementations::of(config.factory),
        })
    }

    /// The provider behind it: with the same endpoints and bounds, for what a transaction needs.
    pub fn provider(&self) -> &RootProvider {
        &self.provider
    }

    /// Hands a signed transaction to all endpoints, so that none can keep it from the chain. One that has it already has
    /// taken it.
    ///
    /// # Errors
    /// [`ChainError::Rpc`]: none took it.
    pub async fn broadcast(&self, raw: &[u8]) -> Result<(), ChainError> {
        Ok(self.rpc.broadcast(raw).await?)
    }

    /// The factory whose word counts.
    pub fn factory(&self) -> Address {
        self.factory
    }

    /// The block with this number, as the endpoint has it now.
    ///
    /// # Errors
    /// [`ChainError`]; [`ChainError::WrongAnswer`] where there is none, or another is told.
    pub async fn block_at(&self, number: u64) -> Result<Head, ChainError> {
        let block = self.block(number.into()).await?;
        if block.number == number { Ok(block) } else { Err(wrong("eth_getBlockByNumber", "another block")) }
    }

    fn bounty(&self, bounty: &Bounty) -> UpdateBounty::UpdateBountyInstance<RootProvider> {
        UpdateBounty::new(Address::from(bounty.to_bytes()), self.provider.clone())
    }

    async fn block(&self, tag: BlockNumberOrTag) -> Result<Head, ChainError> {
        let block = self.provider.get_block_by_number(tag).await?;
        let header = block.ok_or(wrong("eth_getBlockByNumber", "no such block"))?.header;
        Ok(Head { number: header.number, hash: header.hash, timestamp: header.timestamp })
    }

    /// Logs of a bounty in a range of blocks of at most [`LOG_SPAN`], checked to be what was asked for.
    pub(super) async fn logs(&self, filter: &Filter, from: u64, to: u64) -> Result<Vec<Log>, ChainError> {
        let filter = filter.clone().from_block(from).to_block(to);
        let logs = self.provider.get_logs(&filter).await?;
        let fits = logs.iter().all(|log| {
            !log.removed
                && filter.address.matches(&log.address())
                && log.block_number.is_some_and(|n| (from..=to).contains(&n))
        });
        if fits { Ok(logs) } else { Err(wrong("eth_getLogs", "logs that were not asked for")) }
    }

    /// What the contract's ledger says of devices after a block, in the order asked for.
    pub(super) async fn devices(
        &self,
        bounty: &Bounty,
        indices: &[u32],
        block: B256,
    ) -> Result<Vec<UpdateBounty::Device>, ChainError> {
        let contract = self.bounty(bounty);
        let mut devices = Vec::with_capacity(indices.len());
        for chunk in indices.chunks(DEVICES) {
            let call = contract.devices(chunk.to_vec()).block(block.into());
            let answer = call.call().await.map_err(refused("devices"))?;
            if answer.len() != chunk.len() {
                return Err(wrong("devices", "another number of devices"));
            }
            devices.extend(answer);
        }
        Ok(devices)
    }

    /// All `KeyRevealed` events of a bounty in a range of blocks, oldest first.
    async fn revealed(&self, bounty: &Bounty, from: u64, to: u64) -> Result<Vec<Log>, ChainError> {
        let filter = Filter::new()
            .address(Address::from(bounty.to_bytes()))
            .event_signature(UpdateBounty::KeyRevealed::SIGNATURE_HASH);
        let (mut revealed, mut begin) = (Vec::new(), from);
        while begin <= to {
            let end = to.min(begin.saturating_add(LOG_SPAN - 1));
            revealed.extend(self.logs(&filter, begin, end).await?);
            begin = end + 1;
        }
        Ok(revealed)
    }

    /// The locks that hold devices which are known to be held.
    async fn locks(
        &self,
        bounty: &Bounty,
        held: Vec<u32>,
        head: Head,
    ) -> Result<HashMap<u32, Lock>, ChainError> {
        let mut found = HashMap::new();
        if held.is_empty() {
            return Ok(found);
        }
        let start = self.block_since(self.terms(bounty).await?.start).await?;
        let mut pages: BTreeMap<u32, HashSet<u32>> = BTreeMap::new();
        held.into_iter().for_each(|index| {
            pages.entry(index / PAGE).or_default().insert(index);
        });
        for (page, wanted) in pages {
            let filter = reservations(bounty).topic3(B256::left_padding_from(&page.to_be_bytes()));
            self.locks_of_page(&filter, wanted, start..=head.number, &mut found).await?;
        }
        Ok(found)
    }

    /// Goes back through the reservations of a page. The newest one that names a device is the one that
    /// holds it, because it can be reserved again only after the one before was released.
    async fn locks_of_page(
        &self,
        filter: &Filter,
        mut wanted: HashSet<u32>,
        blocks: RangeInclusive<u64>,
        found: &mut HashMap<u32, Lock>,
    ) -> Result<(), ChainError> {
        let (start, mut to) = blocks.into_inner();
        loop {
            let from = start.max(to.saturating_sub(LOG_SPAN - 1));
            for log in self.logs(filter, from, to).await?.iter().rev() {
                wanted.retain(|index| {
                    reserved(log, *index).is_none_or(|lock| {
                        found.insert(*index, lock);
                        false
                    })
                });
            }
            if wanted.is_empty() {
                return Ok(());
            }
            if from == start {
                return Err(wrong("eth_getLogs", "no reservation of a device that is reserved"));
            }
            to = from - 1;
        }
    }
}

/// A provider over the endpoints of one chain, with bounds and fail-over, for whoever only sends.
///
/// # Errors
/// [`ChainError::Endpoint`]: no URL, or one that cannot be used.
pub fn provider(urls: &[String], chain: ChainId, limits: Limits) -> Result<RootProvider, ChainError> {
    Ok(over(endpoints(urls, chain, limits)?))
}

fn endpoints(urls: &[String], chain: ChainId, limits: Limits) -> Result<Rpc, ChainError> {
    Rpc::new(urls, chain.get(), limits).map_err(|error| match error {
        RpcError::Url(why) => ChainError::Endpoint(why),
        other => ChainError::Rpc(other),
    })
}

fn over(rpc: Rpc) -> RootProvider {
    let local = rpc.is_local();
    RootProvider::new(RpcClient::new(Relay(rpc), local))
}

#[async_trait]
impl Chain for RpcChain {
    async fn latest(&self, vendor: Address, product: &ProductId) -> Result<Option<Latest>, ChainError> {
        let factory = UpdateFactory::new(self.factory, self.provider.clone());
        let call = factory.latest(vendor, product.to_bytes().into());
        let latest = call.block(block_id(At::Finalized)).call().await.map_err(refused("latest"))?;
        Ok((latest.version != 0)
            .then(|| Latest { version: latest.version.into(), bounty: latest.bounty.into_array().into() }))
    }

    async fn terms(&self, bounty: &Bounty) -> Result<Terms, ChainError> {
        let code = self.provider.get_code_at(Address::from(bounty.to_bytes())).await?;
        Terms::from_code(&code, &self.implementations)
            .map_err(|reason| ChainError::NotABounty { bounty: *bounty, reason })
    }

    async fn claims(&self, bounty: &Bounty, indices: &[u32], at: At) -> Result<Vec<Claim>, ChainError> {
        let head = self.head(at).await?;
        let devices = self.devices(bounty, indices, head.hash).await?;
        let devices: Vec<_> = indices.iter().copied().zip(devices).collect();
        let held = devices.iter().filter(|(_, device)| device.reserved && !device.claimed);
        let locks = self.locks(bounty, held.map(|(index, _)| *index).collect(), head).await?;
        let claim = |(index, device): (u32, UpdateBounty::Device)| Claim {
            claimed: device.claimed,
            attempt: device.attempt.into(),
            lock: locks.get(&index).copied(),
        };
        Ok(devices.into_iter().map(claim).collect())
    }

    async fn claimed(&self, bounty: &Bounty, indices: &[u32], at: At) -> Result<Vec<bool>, ChainError> {
        let block = self.head(at).await?.hash;
        let devices = self.devices(bounty, indices, block).await?;
        Ok(devices.into_iter().map(|device| device.claimed).collect())
    }

    async fn keys(&self, bounty: &Bounty, from: u64, claimed: &[u32]) -> Result<Keys, ChainError> {
        let to = self.head(At::Latest).await?.number;
        keys::shown(&self.rpc, bounty, from, to, claimed).await
    }

    async fn payments(&self, bounty: &Bounty, from: u64) -> Result<Payments, ChainError> {
        let to = self.head(At::Finalized).await?.number;
        let logs = self.revealed(bounty, from, to).await?;
        Ok(Payments { list: logs.iter().map(payment).collect::<Result<_, _>>()?, to })
    }

    async fn reservation(
        &self,
        bounty: &Bounty,
        s: &LockHash,
        payee: &Payee,
        indices: &[u32],
        at: At,
    ) -> Result<Vec<Option<u64>>, ChainError> {
        let block = self.head(at).await?.hash;
        let contract = self.bounty(bounty);
        let gone: Vec<bool> =
            self.devices(bounty, indices, block).await?.iter().map(|device| device.claimed).collect();
        let mut known: Option<(u32, UpdateBounty::lockOfReturn)> = None;
        let mut held = Vec::with_capacity(indices.len());
        for (index, gone) in indices.iter().zip(gone) {
            let page = index / PAGE;
            let lock = match known {
                Some((at, lock)) if at == page => lock,
                _ => {
                    let payee = Address::from(payee.to_bytes());
                    let call = contract.lockOf(s.to_bytes().into(), payee, page).block(block.into());
                    call.call().await.map_err(refused("lockOf"))?
                }
            };
            let bit = lock.held.bit((index % PAGE) as usize);
            held.push((bit && !gone).then(|| lock.until.to()));
            known = Some((page, lock));
        }
        Ok(held)
    }

    async fn nonce(&self, account: Address, at: At) -> Result<u64, ChainError> {
        let count = self.provider.get_transaction_count(account).block_id(block_id(at));
        Ok(count.await?)
    }

    async fn balance(&self, account: Address, at: At) -> Result<U256, ChainError> {
        Ok(self.provider.get_balance(account).block_id(block_id(at)).await?)
    }

    async fn base_fee(&self) -> Result<u64, ChainError> {
        let block = self.provider.get_block_by_number(BlockNumberOrTag::Latest).await?;
        let block = block.ok_or(wrong("eth_getBlockByNumber", "no such block"))?;
        Ok(block.header.base_fee_per_gas.unwrap_or_default())
    }

    async fn head(&self, at: At) -> Result<Head, ChainError> {
        self.block(tag(at)).await
    }

    async fn block_since(&self, timestamp: u64) -> Result<u64, ChainError> {
        let head = self.head(At::Latest).await?;
        if head.timestamp < timestamp {
            return Ok(head.number + 1);
        }
        let (mut below, mut found) = (0, head.number);
        while below < found {
            let middle = below + (found - below) / 2;
            if self.block(middle.into()).await?.timestamp < timestamp {
                below = middle + 1;
            } else {
                found = middle;
            }
        }
        Ok(found)
    }

    fn health(&self) -> Health {
        Health { trust: Trust::Rpc, slot: None, alarm: None, last_error: None }
    }
}

fn tag(at: At) -> BlockNumberOrTag {
    match at {
        At::Latest => BlockNumberOrTag::Latest,
        At::Finalized => BlockNumberOrTag::Finalized,
    }
}

fn block_id(at: At) -> BlockId {
    tag(at).into()
}

fn reservations(bounty: &Bounty) -> Filter {
    let address = Address::from(bounty.to_bytes());
    Filter::new().address(address).event_signature(UpdateBounty::Reserved::SIGNATURE_HASH)
}

fn reserved(log: &Log, index: u32) -> Option<Lock> {
    let (s, payee, until) = events::reserver(&log.inner, index)?;
    Some(Lock { payee, s, until })
}

fn payment(log: &Log) -> Result<Payment, ChainError> {
    let block = log.block_number.ok_or(wrong("eth_getLogs", "a log outside a block"))?;
    events::payment(&log.inner, block)
}

pub(super) fn wrong(call: &'static str, reason: &'static str) -> ChainError {
    ChainError::WrongAnswer { call, reason }
}

/// Tells a contract that says no from an endpoint that says nothing, in answer to a call by that name.
pub fn refused(call: &'static str) -> impl Fn(CallError) -> ChainError {
    move |error| match error {
        CallError::TransportError(error) => match error.as_error_resp() {
            Some(answer) => ChainError::Refused { call, reason: words(&answer.message) },
            None => error.into(),
        },
        other => ChainError::Refused { call, reason: words(&other.to_string()) },
    }
}
