//! Reads a bounty's events again and again and keeps its books, whatever the chain does meanwhile.
//!
//! What is final is entered once, from the bounty's first block on, and held against the contract's state: an endpoint that
//! leaves claims out is found out by the balance, one that makes claims up by the contract's own ledger. What is not final yet is read anew at each look, so that a reorganisation
//! needs no unwinding: the difference to the look before is what came and what was taken back.

use std::collections::{HashMap, HashSet};

use alloy::primitives::{Address, B256, U256};
use posthouse_contracts::chain::{At, Chain as _, ChainError, Event, Head, RpcChain, What};
use posthouse_contracts::terms::Terms;
use posthouse_protocol::id::Bounty;
use thiserror::Error;

use super::ledger::{Ledger, LedgerError};

/// Blocks asked for at once: public endpoints refuse many more.
const SPAN: u64 = 5_000;
/// After a range with fewer events than this the next may be longer.
const SPARSE: usize = 1_000;
/// Events kept that are not final. Beyond it the look ends at an earlier block than the newest.
const MAX_RECENT: usize = 100_000;

/// Why a look showed nothing. The next may.
#[derive(Debug, Error)]
pub enum WatchError {
    /// The chain was not read.
    #[error(transparent)]
    Chain(#[from] ChainError),
    /// The endpoint is behind what was final before, or its newest block behind its final one.
    #[error("the endpoint is behind: at block {found}, {known} is final")]
    Behind {
        /// Its block.
        found: u64,
        /// What is known.
        known: u64,
    },
    /// An event that the contract does not make.
    #[error("block {block}: the endpoint shows {reason}")]
    Event {
        /// Its block.
        block: u64,
        /// What is wrong with it.
        reason: LedgerError,
    },
    /// The contract does not know of a claim.
    #[error("the endpoint makes up claims: at block {block} the contract has device {index} unclaimed")]
    MadeUp {
        /// A final block.
        block: u64,
        /// The device.
        index: u32,
    },
    /// Money is gone of which no event tells.
    #[error(
        "the endpoint hides events: at block {block} the contract has {balance} wei and should have {expected}"
    )]
    Hidden {
        /// A final block.
        block: u64,
        /// What the contract has.
        balance: U256,
        /// What it would have after the events that were shown.
        expected: U256,
    },
}

/// Something new, told once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum News {
    /// It is on chain.
    Came {
        /// What.
        event: Event,
        /// Whether no reorganisation can take it back.
        is_final: bool,
    },
    /// A reorganisation dropped it. It may come again.
    TakenBack(Event),
}

/// The books up to a final block.
#[derive(Debug, Clone)]
struct Books {
    ledger: Ledger,
    /// First block that is not entered; `None` before the bounty's own is final.
    next: Option<u64>,
}

/// What a look showed.
pub(super) struct View<'a> {
    pub(super) terms: &'a Terms,
    /// The newest block that was looked at.
    pub(super) head: Head,
    pub(super) finalized: Head,
    /// After `head`.
    pub(super) latest: Ledger,
    /// After `finalized`.
    pub(super) settled: &'a Ledger,
    /// What the contract has and no event accounts for: ether that was forced on it, or amounts that were told too high.
    pub(super) surplus: U256,
    /// The final block at which the books agreed with balance and ledger last; 0 before the first.
    pub(super) audited: u64,
}

type Result<T> = std::result::Result<T, WatchError>;

/// Watches one bounty.
pub(super) struct Watcher {
    chain: RpcChain,
    bounty: Bounty,
    terms: Terms,
    books: Books,
    /// The books when they last agreed with the contract.
    agreed: Books,
    audited: u64,
    surplus: U256,
    /// Events of the last look that were not final, by block hash and place.
    recent: HashMap<Key, Event>,
    /// Those of them that are final now.
    settled: HashSet<Key>,
    /// What came and became final between two looks. It is told after what was taken back, which may have been the same
    /// claim in another block.
    untold: Vec<Event>,
    span: u64,
    /// Most events in `recent`, or a page more.
    max_recent: usize,
    /// Tells of what was final before the first look, too.
    history: bool,
    has_looked: bool,
}

impl Watcher {
    /// # Errors
    /// [`ChainError`]; [`ChainError::NotABounty`] will not get better, unless there is no code yet.
    pub(super) async fn open(
        chain: RpcChain,
        bounty: Bounty,
        history: bool,
    ) -> std::result::Result<Self, ChainError> {
        let terms = chain.terms(&bounty).await?;
        let books = Books { ledger: Ledger::new(&terms), next: None };
        Ok(Self {
            chain,
            bounty,
            terms,
            agreed: books.clone(),
            books,
            audited: 0,
            surplus: U256::ZERO,
            recent: HashMap::new(),
            settled: HashSet::new(),
            untold: Vec::new(),
            span: SPAN,
            max_recent: MAX_RECENT,
            history,
            has_looked: false,
        })
    }

    /// Reads on. What is new is told as it is found, final or not; after an error the next look goes on from there.
    pub(super) async fn look(&mut self, tell: &mut dyn FnMut(News)) -> Result<View<'_>> {
        let finalized = self.chain.head(At::Finalized).await?;
        let mut head = self.chain.head(At::Latest).await?;
        let entered = self.books.next.map_or(0, |next| next.saturating_sub(1));
        for (found, known) in [(finalized.number, entered), (head.number, finalized.number)] {
            if found < known {
                return Err(WatchError::Behind { found, known });
            }
        }
        self.enter_final(finalized, tell).await?;
        let (recent, to) = self.read_recent(head).await?;
        if to < head.number {
            head = self.chain.block_at(to).await?;
        }
        let mut latest = self.books.ledger.clone();
        for event in &recent {
            enter(&mut latest, &self.terms, event, head.timestamp)?;
        }
        self.tell_difference(recent, tell);
        self.has_looked = true;
        Ok(View {
            terms: &self.terms,
            head,
            finalized,
            latest,
            settled: &self.books.ledger,
            surplus: self.surplus,
            audited: self.audited,
        })
    }

    /// Enters what has become final, range by range, and holds the books against the contract.
    async fn enter_final(&mut self, finalized: Head, tell: &mut dyn FnMut(News)) -> Result<()> {
        if self.books.next.is_none() && finalized.timestamp >= self.terms.start {
            self.books.next = Some(self.chain.block_since(self.terms.start).await?);
        }
        let Some(mut next) = self.books.next else { return Ok(()) };
        if next > finalized.number {
            return Ok(());
        }
        while next <= finalized.number {
            let (events, to) = self.page(next, finalized.number).await?;
            let mut ledger = self.books.ledger.clone();
            for event in &events {
                enter(&mut ledger, &self.terms, event, finalized.timestamp)?;
            }
            for event in events {
                if self.recent.contains_key(&key(&event)) {
                    self.settled.insert(key(&event));
                } else if self.has_looked && self.untold.len() < self.max_recent {
                    self.untold.push(event);
                } else if self.has_looked || self.history {
                    tell(News::Came { event, is_final: true });
                }
            }
            next = to + 1;
            self.books = Books { ledger, next: Some(next) };
        }
        self.books.ledger.prune(finalized.timestamp);
        self.audit(finalized).await
    }

    async fn audit(&mut self, finalized: Head) -> Result<()> {
        let account = Address::from(self.bounty.to_bytes());
        // Some endpoints forget the state of blocks that are not even old: the next final one will do.
        let Ok(balance) = self.chain.balance_after(account, &finalized).await else { return Ok(()) };
        let (ledger, block) = (&self.books.ledger, finalized.number);
        let Some(surplus) = ledger.surplus(&self.terms, balance) else {
            let expected = ledger.balance(&self.terms, U256::ZERO);
            self.forget();
            return Err(WatchError::Hidden { block, balance, expected });
        };
        // A claim is for good: those that were there before need not be asked for again.
        let new = ledger.claims_since(&self.agreed.ledger);
        let Ok(claimed) = self.chain.claimed_after(&self.bounty, &new, &finalized).await else {
            return Ok(());
        };
        if let Some((index, _)) = new.iter().zip(claimed).find(|(_, claimed)| !claimed) {
            self.forget();
            return Err(WatchError::MadeUp { block, index: *index });
        }
        (self.surplus, self.audited) = (surplus, finalized.number);
        self.agreed = self.books.clone();
        Ok(())
    }

    /// Which of the events since the books last agreed were left out or made up is not known: all are read again.
    fn forget(&mut self) {
        self.books = self.agreed.clone();
        self.settled.clear();
        self.untold.clear();
    }

    /// What is not final, and up to which block: the head, unless there is too much of it.
    async fn read_recent(&mut self, head: Head) -> Result<(Vec<Event>, u64)> {
        let mut next = match self.books.next {
            Some(next) => next,
            None => self.chain.block_since(self.terms.start).await?,
        };
        let mut recent = Vec::new();
        while next <= head.number && recent.len() < self.max_recent {
            let (events, to) = self.page(next, head.number).await?;
            recent.extend(events);
            next = to + 1;
        }
        Ok((recent, next.saturating_sub(1).min(head.number)))
    }

    /// Events from a block on, and up to which one. A range that is too much for the endpoint is halved, as long as it
    /// answers other questions.
    async fn page(&mut self, from: u64, to: u64) -> Result<(Vec<Event>, u64)> {
        loop {
            let end = to.min(from.saturating_add(self.span - 1));
            match self.chain.events(&self.bounty, from, end).await {
                Ok(events) => {
                    if events.len() < SPARSE {
                        self.span = SPAN.min(self.span.saturating_mul(2));
                    }
                    return Ok((events, end));
                }
                Err(error) if end == from => return Err(error.into()),
                Err(error) => {
                    self.chain.head(At::Latest).await.map_err(|_| error)?;
                    self.span = (end - from).div_ceil(2);
                }
            }
        }
    }

    /// Tells what was not there at the look before, and what is no longer there.
    fn tell_difference(&mut self, recent: Vec<Event>, tell: &mut dyn FnMut(News)) {
        let now: HashMap<_, _> = recent.iter().map(|event| (key(event), *event)).collect();
        let before = std::mem::replace(&mut self.recent, now);
        let settled = std::mem::take(&mut self.settled);
        let stays = |key: &Key| self.recent.contains_key(key) || settled.contains(key);
        let mut gone: Vec<_> = before.values().filter(|event| !stays(&key(event))).collect();
        gone.sort_unstable_by_key(|event| (event.block, event.log));
        gone.into_iter().for_each(|event| tell(News::TakenBack(*event)));
        let untold = std::mem::take(&mut self.untold);
        untold.into_iter().for_each(|event| tell(News::Came { event, is_final: true }));
        let new = recent.into_iter().filter(|event| !before.contains_key(&key(event)));
        new.for_each(|event| tell(News::Came { event, is_final: false }));
    }
}

/// Hash of its block, and its place there.
type Key = (B256, u64);

fn key(event: &Event) -> Key {
    (event.block_hash, event.log)
}

/// Enters an event that happened at `now` or before.
fn enter(ledger: &mut Ledger, terms: &Terms, event: &Event, now: u64) -> Result<()> {
    let wrong = |reason| WatchError::Event { block: event.block, reason };
    ledger.enter(terms, &event.what, now).map_err(wrong)
}

impl News {
    /// What it is about, if that is worth a line: reservations come and go, and are shown as a sum.
    pub(super) fn is_shown(&self) -> bool {
        let (Self::Came { event, .. } | Self::TakenBack(event)) = self;
        !matches!(event.what, What::Reserved { .. } | What::Released { .. })
    }
}

#[cfg(test)]
mod tests {
    use alloy::network::EthereumWallet;
    use alloy::providers::{Provider as _, ProviderBuilder};
    use alloy::rpc::types::Log;
    use alloy::sol_types::SolEvent as _;
    use posthouse_contracts::abi::{UpdateBounty, UpdateFactory};
    use posthouse_contracts::calls::{self, Call, Publish};
    use posthouse_contracts::chain::{Limits, RpcConfig, provider};
    use posthouse_contracts::terms::Group;
    use posthouse_devchain::{Clock, Config, DevChain, Proxy};
    use posthouse_protocol::id::{ChainId, Curve, FleetRoot, PackageId, ProductId, UpdateId, Version};
    use serde_json::{Value, json};

    use super::*;

    const CHAIN: ChainId = ChainId::new(31_337);
    const GENESIS: u64 = 1_800_000_000;

    async fn send(chain: &DevChain, call: Call) -> alloy::rpc::types::TransactionReceipt {
        let inner = provider(&[chain.url().into()], CHAIN, Limits::default()).unwrap();
        let wallet = EthereumWallet::from(chain.accounts()[0].clone());
        let provider = ProviderBuilder::new().wallet(wallet).connect_provider(inner);
        let sent = provider.send_transaction(call.into_request()).await.unwrap();
        provider.get_transaction_receipt(*sent.tx_hash()).await.unwrap().unwrap()
    }

    /// A bounty, and where it was published.
    async fn publish(chain: &DevChain) -> (Address, Bounty, u64) {
        let factory = send(chain, calls::deploy_factory()).await.contract_address.unwrap();
        let update = Publish {
            product: ProductId::new([1; 32]),
            version: Version::new(1),
            u_id: UpdateId::new([2; 32]),
            p_id: PackageId::new([3; 32]),
            root: FleetRoot::new([4; 32]),
            depth: 0,
            curve: Curve::Secp256k1,
            claim_by: GENESIS + 86_400,
            lock_secs: 7200,
            bonus_until: 0,
            bonus_bps: 0,
            groups: vec![Group { end_index: 1, share: 1 }],
        };
        let published = send(chain, calls::publish(factory, &update)).await;
        let mut logs = published.logs().iter();
        let event = logs.find_map(|log| UpdateFactory::UpdatePublished::decode_log(&log.inner).ok()).unwrap();
        (factory, event.bounty.into_array().into(), published.block_number.unwrap())
    }

    /// An event that moves no money, in each block that is asked for.
    fn released(chain: &DevChain, filter: &Value) -> Vec<Log> {
        let number = |field: &str| {
            u64::from_str_radix(filter[field].as_str().unwrap().trim_start_matches("0x"), 16).unwrap()
        };
        let event = UpdateBounty::Released { tag: B256::ZERO, page: 0, devices: Default::default() };
        let log = |block: u64| Log {
            inner: alloy::primitives::Log {
                address: filter["address"].as_str().unwrap().parse().unwrap(),
                data: event.encode_log_data(),
            },
            block_hash: Some(chain.block(block).unwrap().hash()),
            block_number: Some(block),
            transaction_hash: Some(B256::ZERO),
            transaction_index: Some(0),
            log_index: Some(0),
            ..Log::default()
        };
        (number("fromBlock")..=number("toBlock")).map(log).collect()
    }

    /// Where there is too much that is not final the look ends at an earlier block, and says so of its time as well.
    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_look_that_is_cut_has_the_time_of_its_last_block() {
        let (clock, genesis_timestamp) = (Clock::Manual, Some(GENESIS));
        let config = Config { clock, genesis_timestamp, finality_depth: 100, ..Config::default() };
        let chain = std::sync::Arc::new(DevChain::start(config).unwrap());
        let (factory, bounty, first) = publish(&chain).await;
        for step in 1..=9 {
            chain.set_next_block_timestamp(GENESIS + 1000 * step).unwrap();
            chain.mine();
        }
        let told = chain.clone();
        let proxy = Proxy::start(chain.url(), move |method, params, answer| {
            if method == "eth_getLogs" {
                answer["result"] = json!(released(&told, &params[0]));
            }
        });
        let proxy = proxy.unwrap();
        let config =
            RpcConfig { urls: vec![proxy.url().into()], chain: CHAIN, factory, limits: Limits::default() };
        let mut watcher = Watcher::open(RpcChain::new(&config).unwrap(), bounty, false).await.unwrap();
        // A block, then two.
        (watcher.span, watcher.max_recent) = (1, 3);
        let head = watcher.look(&mut |_| {}).await.unwrap().head;
        assert_eq!((head.number, head.timestamp), (first + 2, GENESIS + 2000));
        watcher.max_recent = MAX_RECENT;
        let head = watcher.look(&mut |_| {}).await.unwrap().head;
        assert_eq!((head.number, head.timestamp), (first + 9, GENESIS + 9000));
    }
}
