//! Reads the chain and tells what is new.
//!
//! Who sends: the exchanges ([`Watch`], [`ReadClaims`]). Whom it tells: the exchanges ([`Announced`],
//! [`KeysRevealed`], [`ChainSeen`]). What answers is whatever stands behind
//! [`posthouse_contracts::chain::Chain`]. On failure nothing is assumed: the next reading asks again.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use actix::{
    Actor, ActorFutureExt as _, AsyncContext as _, Context, Handler, Message, Recipient, ResponseFuture,
    WrapFuture as _,
};
use alloy::primitives::Address;
use posthouse_contracts::chain::{At, Chain as ReadChain, ChainError, Claim, Head, Health, Key, Latest};
use posthouse_protocol::gateway::{ClaimEntry, ClaimState, Update};
use posthouse_protocol::id::{Bounty, ChainId, LockHash, Payee, ProductId, Version};

/// A version rises by no more than this at once, so that a stolen Ethereum key cannot use the numbers
/// up; the factory has the same bound.
const MAX_RISE: u64 = 1 << 32;
/// Blocks read again for keys, so that a reorganisation does not hide one.
const REORG: u64 = 64;

/// Keys that one reading tells of shares and locks that are none of this site's: they may be made up in any number.
const MAX_STRANGE_KEYS: usize = 256;

/// A product to look for.
#[derive(Debug, Clone, Copy)]
pub struct Followed {
    /// The vendor's Ethereum address.
    pub vendor: Address,
    /// The product.
    pub product: ProductId,
}

/// An update was announced, in a final block.
#[derive(Debug, Clone, Message)]
#[rtype(result = "()")]
pub struct Announced {
    /// What the chain says.
    pub update: Update,
    /// Whose product.
    pub vendor: Address,
}

/// The contract showed keys.
#[derive(Debug, Clone, Message)]
#[rtype(result = "()")]
pub struct KeysRevealed {
    /// Which contract.
    pub bounty: Bounty,
    /// Oldest first; some may be known.
    pub keys: Vec<Key>,
}

/// How the last reading went.
#[derive(Debug, Clone, Message)]
#[rtype(result = "()")]
pub struct ChainSeen {
    /// The newest final block, or why there is none.
    pub head: Result<Head, String>,
    /// What is believed, and how far it is to be relied on.
    pub health: Health,
    /// What could not be read beside the block.
    pub trouble: Option<String>,
}

/// Looks for keys of a bounty from now on.
#[derive(Debug, Clone, Copy, Message)]
#[rtype(result = "()")]
pub struct Watch(pub Bounty);

/// Looks no more.
#[derive(Debug, Clone, Copy, Message)]
#[rtype(result = "()")]
pub struct Unwatch(pub Bounty);

/// Reads how shares stand.
#[derive(Debug, Clone, Message)]
#[rtype(result = "Result<Vec<ClaimEntry>, ChainError>")]
pub struct ReadClaims {
    /// Which contract.
    pub bounty: Bounty,
    /// Indices in the fleet.
    pub indices: Vec<u32>,
    /// Offers whose locks are to be told by name.
    pub offers: Vec<(LockHash, Payee)>,
}

/// What is read, and how often.
pub struct Settings {
    /// By whom.
    pub reader: Arc<dyn ReadChain>,
    /// Which chain it is.
    pub id: ChainId,
    /// Between two readings.
    pub poll: Duration,
    /// What is looked for.
    pub products: Vec<Followed>,
    /// The newest version of each product that is known already.
    pub told: BTreeMap<ProductId, Version>,
}

/// The actor.
pub struct Chain {
    announced: Recipient<Announced>,
    revealed: Recipient<KeysRevealed>,
    seen: Recipient<ChainSeen>,
    reader: Arc<dyn ReadChain>,
    id: ChainId,
    poll: Duration,
    products: Vec<Followed>,
    /// The last version that was told, for each product.
    told: BTreeMap<ProductId, Version>,
    /// Bounties whose keys are looked for.
    watched: BTreeMap<Bounty, Watched>,
    reading: bool,
}

/// How far the keys of a bounty are read.
#[derive(Debug, Clone, Default)]
struct Watched {
    /// First block that can show a key, and the next one to read; `None` until they are known.
    blocks: Option<(u64, u64)>,
    /// Devices of this site whose shares were asked for.
    devices: BTreeSet<u32>,
    /// Locks of the offers that are held. Nobody can make up what opens one of them.
    locks: BTreeSet<LockHash>,
    /// Devices that were paid for and whose keys all endpoints have told, or a key of whose opens a lock of ours.
    settled: BTreeSet<u32>,
    /// What endpoints told for these: told again with each reading, so that no key that is made up later takes its place.
    kept: Vec<Key>,
    /// The final block by which the devices were held against the keys, by all endpoints.
    compared: u64,
}

/// What one reading brought.
struct Reading {
    head: Result<Head, ChainError>,
    announced: Vec<Announced>,
    revealed: Vec<(Bounty, Watched, Vec<Key>)>,
    trouble: Option<ChainError>,
}

impl Chain {
    /// Reads from its start on.
    pub fn new(
        announced: Recipient<Announced>,
        revealed: Recipient<KeysRevealed>,
        seen: Recipient<ChainSeen>,
        settings: Settings,
    ) -> Self {
        let Settings { reader, id, poll, products, told } = settings;
        let watched = BTreeMap::new();
        Self { announced, revealed, seen, reader, id, poll, products, told, watched, reading: false }
    }

    /// Starts a reading unless one is under way.
    fn read(&mut self, ctx: &mut Context<Self>) {
        if std::mem::replace(&mut self.reading, true) {
            return;
        }
        let reader = Arc::clone(&self.reader);
        let (id, products, told) = (self.id, self.products.clone(), self.told.clone());
        let watched = self.watched.clone();
        let reading = async move { read(&*reader, id, &products, &told, watched).await };
        ctx.spawn(reading.into_actor(self).map(|reading, actor, _| actor.tell(reading)));
    }

    fn tell(&mut self, reading: Reading) {
        self.reading = false;
        for announced in reading.announced {
            let (product, version) = (announced.update.product, announced.update.version);
            // A full mailbox: it is found again by the next reading.
            if self.announced.try_send(announced).is_ok() {
                self.told.insert(product, version);
            }
        }
        for (bounty, read, keys) in reading.revealed {
            let told = keys.is_empty() || self.revealed.try_send(KeysRevealed { bounty, keys }).is_ok();
            if let Some(watched) = self.watched.get_mut(&bounty)
                && told
            {
                // What was asked for meanwhile stays.
                let (devices, locks) =
                    (std::mem::take(&mut watched.devices), std::mem::take(&mut watched.locks));
                *watched = Watched { devices, locks, ..read };
            }
        }
        let head = reading.head.map_err(|error| error.to_string());
        let trouble = reading.trouble.map(|error| error.to_string());
        // Only the status shows it; the next reading tells it again.
        let _full = self.seen.try_send(ChainSeen { head, health: self.reader.health(), trouble });
    }
}

impl Actor for Chain {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        self.read(ctx);
        ctx.run_interval(self.poll, Self::read);
    }
}

impl Handler<Watch> for Chain {
    type Result = ();

    fn handle(&mut self, Watch(bounty): Watch, _: &mut Self::Context) {
        self.watched.entry(bounty).or_default();
    }
}

impl Handler<Unwatch> for Chain {
    type Result = ();

    fn handle(&mut self, Unwatch(bounty): Unwatch, _: &mut Self::Context) {
        self.watched.remove(&bounty);
    }
}

impl Handler<ReadClaims> for Chain {
    type Result = ResponseFuture<Result<Vec<ClaimEntry>, ChainError>>;

    fn handle(&mut self, ask: ReadClaims, _: &mut Self::Context) -> Self::Result {
        if let Some(watched) = self.watched.get_mut(&ask.bounty) {
            watched.devices.extend(&ask.indices);
            watched.locks = ask.offers.iter().map(|(s, _)| *s).collect();
        }
        let reader = Arc::clone(&self.reader);
        Box::pin(async move {
            let claims = reader.claims(&ask.bounty, &ask.indices, At::Latest).await?;
            let entries = ask.indices.iter().zip(claims);
            Ok(entries.map(|(index, claim)| entry(*index, &claim, &ask.offers)).collect())
        })
    }
}

fn entry(index: u32, claim: &Claim, offers: &[(LockHash, Payee)]) -> ClaimEntry {
    let state = match &claim.lock {
        _ if claim.claimed => ClaimState::Claimed,
        Some(lock) => ClaimState::Locked {
            until: lock.until,
            by: offers.contains(&(lock.s, lock.payee)).then_some(lock.s),
        },
        None => ClaimState::Free,
    };
    ClaimEntry { index, state, attempt: claim.attempt.get() }
}

async fn read(
    reader: &dyn ReadChain,
    id: ChainId,
    products: &[Followed],
    told: &BTreeMap<ProductId, Version>,
    watched: BTreeMap<Bounty, Watched>,
) -> Reading {
    let (mut announced, mut trouble) = (Vec::new(), None);
    let head = reader.head(At::Finalized).await;
    for followed in products {
        match newest(reader, id, followed, told.get(&followed.product).copied()).await {
            Ok(found) => announced.extend(found),
            Err(error) => {
                tracing::warn!(product = %followed.product, %error, "announcements not read");
                trouble = Some(error);
            }
        }
    }
    let mut revealed = Vec::new();
    for (bounty, mut watched) in watched {
        let mut keys = Vec::new();
        let read = look_for_keys(reader, &bounty, &mut watched, head.as_ref().ok(), &mut keys).await;
        if let Err(error) = read {
            tracing::warn!(%bounty, %error, "keys not read");
            trouble = Some(error);
        }
        keep_ours(&mut keys, &watched);
        // One that is hidden keeps no other waiting.
        revealed.push((bounty, watched, keys));
    }
    Reading { head, announced, revealed, trouble }
}

/// The product's latest update, if it is newer than what was told.
async fn newest(
    reader: &dyn ReadChain,
    id: ChainId,
    followed: &Followed,
    told: Option<Version>,
) -> Result<Option<Announced>, ChainError> {
    let Some(latest) = reader.latest(followed.vendor, &followed.product).await? else { return Ok(None) };
    if !rises(told, &latest) {
        return Ok(None);
    }
    let terms = reader.terms(&latest.bounty).await?;
    if terms.vendor != followed.vendor {
        tracing::error!(bounty = %latest.bounty, vendor = %terms.vendor, "bounty of another vendor ignored");
        return Ok(None);
    }
    let update = Update {
        chain: id,
        bounty: latest.bounty,
        product: followed.product,
        version: latest.version,
        u_id: terms.u_id,
        p_id: terms.p_id,
        fleet_root: terms.root,
        fleet_depth: terms.depth,
        claim_by: terms.claim_by,
        lock_secs: u64::from(terms.lock_secs),
        curve: terms.curve,
    };
    Ok(Some(Announced { update, vendor: followed.vendor }))
}

/// Whether a version may follow the last one: never down, never too far up.
fn rises(told: Option<Version>, latest: &Latest) -> bool {
    let Some(told) = told else { return true };
    let (told, new) = (told.get(), latest.version.get());
    if new < told || new - told > MAX_RISE {
        tracing::error!(told, new, bounty = %latest.bounty, "version refused");
        return false;
    }
    new > told
}

/// Each key once, and of those that are none of this site's no more than can be handled: what opens a lock of ours is true,
/// and of a share of ours each endpoint has one key at most.
fn keep_ours(keys: &mut Vec<Key>, watched: &Watched) {
    let (mut seen, mut strange) = (BTreeSet::new(), 0);
    keys.retain(|key| {
        let ours = watched.locks.contains(&key.s) || watched.devices.contains(&key.index);
        let new = seen.insert((key.index, key.s));
        strange += usize::from(new && !ours);
        new && (ours || strange <= MAX_STRANGE_KEYS)
    });
}

/// Reads the keys that are new. A key proves itself, so any endpoint's word will do; that there is none
/// is believed of nobody: each share that is gone in a final block had its key shown. A key that proves itself may be made up
/// all the same, so that a share is settled only when no endpoint is left that may have another one.
async fn look_for_keys(
    reader: &dyn ReadChain,
    bounty: &Bounty,
    watched: &mut Watched,
    finalized: Option<&Head>,
    found: &mut Vec<Key>,
) -> Result<(), ChainError> {
    let (start, next) = match watched.blocks {
        Some(blocks) => blocks,
        None => {
            let start = reader.block_since(reader.terms(bounty).await?.start).await?;
            (start, start)
        }
    };
    let head = reader.head(At::Latest).await?.number;
    found.extend(reader.keys(bounty, next, &[]).await?.list);
    found.extend(watched.kept.iter().cloned());
    watched.blocks = Some((start, head.saturating_sub(REORG).max(next)));

    let Some(finalized) = finalized.filter(|head| head.number > watched.compared) else { return Ok(()) };
    let open: Vec<u32> = watched.devices.difference(&watched.settled).copied().collect();
    if !open.is_empty() {
        let claimed = reader.claimed(bounty, &open, At::Finalized).await?;
        let gone: Vec<u32> =
            open.iter().zip(claimed).filter_map(|(index, gone)| gone.then_some(*index)).collect();
        if !gone.is_empty() {
            let keys = reader.keys(bounty, start, &gone).await?;
            let opens = |key: &&Key| watched.locks.contains(&key.s);
            let sure: Vec<u32> = keys.list.iter().filter(opens).map(|key| key.index).collect();
            let settled = gone.iter().copied().filter(|index| keys.all || sure.contains(index));
            let settled: BTreeSet<u32> = settled.collect();
            watched.kept.extend(keys.list.iter().filter(|key| settled.contains(&key.index)).cloned());
            watched.settled.extend(settled);
            found.extend(keys.list);
            if !keys.all {
                return Ok(());
            }
        }
    }
    watched.compared = finalized.number;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloy::primitives::U256;
    use async_trait::async_trait;
    use posthouse_contracts::chain::{Keys, Lock, Payments, Trust};
    use posthouse_contracts::terms::Terms;
    use posthouse_protocol::id::Attempt;
    use posthouse_protocol::secret::KeyR;

    fn latest(version: u64) -> Latest {
        Latest { version: Version::new(version), bounty: Bounty::new([1; 20]) }
    }

    #[test]
    fn a_version_rises_and_not_too_far() {
        let told = Some(Version::new(5));
        assert!(rises(None, &latest(5)) && rises(told, &latest(6)));
        assert!(!rises(told, &latest(5)) && !rises(told, &latest(4)));
        assert!(rises(told, &latest(5 + MAX_RISE)) && !rises(told, &latest(6 + MAX_RISE)));
    }

    #[test]
    fn a_lock_is_told_by_name_only_if_payee_and_lock_are_ours() {
        let (s, payee) = (LockHash::new([1; 32]), Payee::new([2; 20]));
        let lock = Lock { payee, s, until: 7 };
        let claim = Claim { claimed: false, attempt: Attempt::new(3), lock: Some(lock) };
        let ours = entry(4, &claim, &[(s, payee)]);
        assert_eq!(ours.state, ClaimState::Locked { until: 7, by: Some(s) });
        let other = entry(4, &claim, &[(s, Payee::new([3; 20]))]);
        assert_eq!(other.state, ClaimState::Locked { until: 7, by: None });
        assert_eq!((other.index, other.attempt), (4, 3));
    }

    /// A chain on which devices 1 and 2 were paid for at block 7, told by an endpoint that shows the key
    /// of some of them, and a second one that shows all where it is asked for the rest.
    struct Told {
        shown: Vec<u32>,
        honest_behind: bool,
        finalized: u64,
        /// One endpoint gives no answer.
        failing: bool,
    }

    fn shown(index: u32) -> Key {
        let r = KeyR::new([7; 32]);
        Key { payee: Payee::new([2; 20]), index, s: r.lock(), r }
    }

    fn block(number: u64) -> Head {
        Head { number, hash: Default::default(), timestamp: number }
    }

    #[async_trait]
    impl ReadChain for Told {
        async fn latest(&self, _: Address, _: &ProductId) -> Result<Option<Latest>, ChainError> {
            Ok(None)
        }

        async fn terms(&self, bounty: &Bounty) -> Result<Terms, ChainError> {
            Err(ChainError::Hidden { bounty: *bounty, index: 0, what: "its terms" })
        }

        async fn claims(&self, _: &Bounty, _: &[u32], _: At) -> Result<Vec<Claim>, ChainError> {
            Ok(Vec::new())
        }

        async fn claimed(&self, _: &Bounty, indices: &[u32], _: At) -> Result<Vec<bool>, ChainError> {
            Ok(indices.iter().map(|index| [1, 2].contains(index) && self.finalized >= 7).collect())
        }

        async fn keys(&self, bounty: &Bounty, from: u64, claimed: &[u32]) -> Result<Keys, ChainError> {
            let list = match claimed.iter().find(|index| !self.shown.contains(index)) {
                Some(_) if self.honest_behind => vec![shown(1), shown(2)],
                Some(index) => {
                    return Err(ChainError::Hidden { bounty: *bounty, index: *index, what: "its key" });
                }
                None => self.shown.iter().filter(|_| from <= 7).map(|index| shown(*index)).collect(),
            };
            Ok(Keys { list, all: !claimed.is_empty() && !self.failing })
        }

        async fn payments(&self, _: &Bounty, _: u64) -> Result<Payments, ChainError> {
            Ok(Payments { list: Vec::new(), to: self.finalized })
        }

        async fn reservation(
            &self,
            _: &Bounty,
            _: &LockHash,
            _: &Payee,
            indices: &[u32],
            _: At,
        ) -> Result<Vec<Option<u64>>, ChainError> {
            Ok(vec![None; indices.len()])
        }

        async fn nonce(&self, _: Address, _: At) -> Result<u64, ChainError> {
            Ok(0)
        }

        async fn balance(&self, _: Address, _: At) -> Result<U256, ChainError> {
            Ok(U256::ZERO)
        }

        async fn base_fee(&self) -> Result<u64, ChainError> {
            Ok(0)
        }

        async fn head(&self, at: At) -> Result<Head, ChainError> {
            Ok(block(if at == At::Finalized { self.finalized } else { 100 }))
        }

        async fn block_since(&self, _: u64) -> Result<u64, ChainError> {
            Ok(3)
        }

        fn health(&self) -> Health {
            Health { trust: Trust::Rpc, slot: None, alarm: None, last_error: None }
        }
    }

    async fn look(told: &Told, watched: &mut Watched) -> (Vec<u32>, Result<(), ChainError>) {
        let (bounty, head, mut keys) = (Bounty::new([1; 20]), block(told.finalized), Vec::new());
        let done = look_for_keys(told, &bounty, watched, Some(&head), &mut keys).await;
        (keys.iter().map(|key| key.index).collect(), done)
    }

    fn watching() -> Watched {
        Watched { blocks: Some((3, 3)), devices: BTreeSet::from([1, 2, 5]), ..Watched::default() }
    }

    #[actix::test]
    async fn a_key_that_an_endpoint_hides_is_missed_when_the_share_is_gone() {
        let mut told = Told { shown: vec![1], honest_behind: false, finalized: 6, failing: false };
        let mut watched = watching();
        let (keys, done) = look(&told, &mut watched).await;
        assert_eq!(keys, [1]);
        assert!(done.is_ok(), "nothing is final that says otherwise");
        told.finalized = 8;
        for _ in 0..2 {
            let (_, done) = look(&told, &mut watched).await;
            assert!(matches!(done, Err(ChainError::Hidden { index: 2, .. })), "{done:?}");
        }
        told.honest_behind = true;
        let (keys, done) = look(&told, &mut watched).await;
        assert!(done.is_ok() && keys.contains(&2), "{keys:?}");
        told.honest_behind = false;
        told.finalized = 9;
        assert!(look(&told, &mut watched).await.1.is_ok(), "what was shown is not asked for again");
    }

    #[actix::test]
    async fn what_is_final_is_compared_once() {
        let mut watched = watching();
        let told = Told { shown: vec![1, 2], honest_behind: false, finalized: 8, failing: false };
        let (keys, done) = look(&told, &mut watched).await;
        assert!(done.is_ok());
        assert_eq!(keys[..2], [1, 2]);
        assert_eq!((watched.compared, &watched.settled), (8, &BTreeSet::from([1, 2])));
        assert_eq!(watched.blocks, Some((3, 36)), "the last blocks are read again");
        // Whatever an endpoint tells from now on.
        let told = Told { shown: Vec::new(), ..told };
        let (keys, done) = look(&told, &mut watched).await;
        assert!(done.is_ok());
        assert_eq!(keys, [1, 2]);
    }

    #[actix::test]
    async fn a_share_is_not_settled_while_an_endpoint_that_may_know_its_key_fails() {
        let mut watched = watching();
        let mut told = Told { shown: vec![1, 2], honest_behind: false, finalized: 8, failing: true };
        for _ in 0..2 {
            let (keys, done) = look(&told, &mut watched).await;
            assert!(done.is_ok() && keys.contains(&1), "{keys:?}");
            assert_eq!((watched.compared, watched.settled.len()), (0, 0), "asked again at the next reading");
        }
        watched.locks.insert(shown(1).s);
        assert!(look(&told, &mut watched).await.1.is_ok());
        assert_eq!(watched.settled, BTreeSet::from([1, 2]), "what opens a lock of ours is not made up");
        (watched.locks, watched.settled, told.failing) = (BTreeSet::new(), BTreeSet::new(), false);
        assert!(look(&told, &mut watched).await.1.is_ok());
        assert_eq!((watched.compared, watched.settled), (8, BTreeSet::from([1, 2])));
    }

    #[test]
    fn of_keys_of_strangers_a_reading_tells_a_few_and_of_ours_all() {
        let strange = |index| {
            let r = KeyR::new([3; 32]);
            Key { payee: Payee::new([2; 20]), index, s: r.lock(), r }
        };
        let (ours, held) = (strange(5), shown(4_000));
        let mut keys: Vec<Key> = (100..3_000).map(strange).collect();
        keys.extend([ours.clone(), held.clone(), ours.clone()]);
        let mut watched = watching();
        watched.locks.insert(held.s);
        keep_ours(&mut keys, &watched);
        assert_eq!(keys.len(), MAX_STRANGE_KEYS + 2, "each once");
        assert!(keys.contains(&ours) && keys.contains(&held));
    }
}
