//! Reads the chain and tells what is new.
//!
//! Who sends: the exchanges ([`Watch`], [`ReadClaims`]). Whom it tells: the exchanges ([`Announced`],
//! [`KeysRevealed`], [`ChainSeen`]). What answers is whatever stands behind
//! [`posthouse_contracts::chain::Chain`]. On failure nothing is assumed: the next reading asks again.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use actix::{
    Actor, ActorFutureExt as _, AsyncContext as _, Context, Handler, Message, Recipient, ResponseFuture,
    WrapFuture as _,
};
use alloy::primitives::Address;
use posthouse_contracts::chain::{At, Chain as ReadChain, ChainError, Claim, Head, Latest, Revealed};
use posthouse_protocol::gateway::{ClaimEntry, ClaimState, Update};
use posthouse_protocol::id::{Bounty, ChainId, LockHash, Payee, ProductId, Version};

/// A version rises by no more than this at once, so that a stolen Ethereum key cannot use the numbers
/// up; the factory has the same bound.
const MAX_RISE: u64 = 1 << 32;
/// Blocks read again for keys, so that a reorganisation does not hide one.
const REORG: u64 = 64;

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
    pub keys: Vec<Revealed>,
}

/// How the last reading went.
#[derive(Debug, Clone, Message)]
#[rtype(result = "()")]
pub struct ChainSeen {
    /// The newest final block, or why there is none.
    pub head: Result<Head, String>,
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
    /// Bounties whose keys are looked for, and from which block; `None` until that is known.
    watched: BTreeMap<Bounty, Option<u64>>,
    reading: bool,
}

/// What one reading brought.
struct Reading {
    head: Result<Head, ChainError>,
    announced: Vec<Announced>,
    revealed: Vec<(Bounty, u64, Vec<Revealed>)>,
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
        for (bounty, from, keys) in reading.revealed {
            let told = keys.is_empty() || self.revealed.try_send(KeysRevealed { bounty, keys }).is_ok();
            if let Some(watch) = self.watched.get_mut(&bounty)
                && told
            {
                *watch = Some(from);
            }
        }
        let head = reading.head.map_err(|error| error.to_string());
        // Only the status shows it; the next reading tells it again.
        let _full = self.seen.try_send(ChainSeen { head });
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
        self.watched.entry(bounty).or_insert(None);
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
    watched: BTreeMap<Bounty, Option<u64>>,
) -> Reading {
    let mut announced = Vec::new();
    for followed in products {
        match newest(reader, id, followed, told.get(&followed.product).copied()).await {
            Ok(found) => announced.extend(found),
            Err(error) => tracing::warn!(product = %followed.product, %error, "announcements not read"),
        }
    }
    let mut revealed = Vec::new();
    for (bounty, from) in watched {
        match keys(reader, &bounty, from).await {
            Ok((next, keys)) => revealed.push((bounty, next, keys)),
            Err(error) => tracing::warn!(%bounty, %error, "keys not read"),
        }
    }
    Reading { head: reader.head(At::Finalized).await, announced, revealed }
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

/// Keys shown from a block on, and from where to read the next time.
async fn keys(
    reader: &dyn ReadChain,
    bounty: &Bounty,
    from: Option<u64>,
) -> Result<(u64, Vec<Revealed>), ChainError> {
    let from = match from {
        Some(from) => from,
        None => reader.block_since(reader.terms(bounty).await?.start).await?,
    };
    let head = reader.head(At::Latest).await?.number;
    let keys = reader.revealed(bounty, from).await?;
    Ok((head.saturating_sub(REORG).max(from), keys))
}

#[cfg(test)]
mod tests {
    use super::*;
    use posthouse_contracts::chain::Lock;
    use posthouse_protocol::id::Attempt;

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
}
