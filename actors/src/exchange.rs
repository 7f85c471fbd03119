//! The exchanges: one machine for each announced update, and what each sensor should find.
//!
//! Who sends: the chain (announcements, keys), the hub (what sensors said), the status. Whom it asks:
//! the store before anything else, then dsn, verifier, chain and stage; the hub is told intents. No
//! rule lives here: facts go into a machine of [`posthouse_protocol::gateway`], and what comes out is
//! done in its order. While the store fails nothing leaves; the write is repeated until it succeeds.

mod audit;
mod campaign;
mod follow;
mod keep;
mod package;
mod perform;
mod registry;
#[cfg(test)]
mod tests;
mod view;

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::path::PathBuf;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use actix::{
    Actor, ActorFutureExt as _, Addr, AsyncContext as _, Context, Handler, Recipient, WrapFuture as _,
};
use posthouse_audit::{Audit, Kind, Record};
use posthouse_contracts::chain::{Key, Trust};
use posthouse_protocol::gateway::{Input, Policy, Report};
use posthouse_protocol::id::{Bounty, DeviceId, PeerHash, ProductId, ReleaseKey, UpdateId};

use self::campaign::Campaigns;
pub use self::campaign::{GiveOrder, OrderError, Retry, SetCampaign};
use self::follow::Follow;
use self::keep::Unsaved;
pub use self::keep::{Flush, NotKept};
use self::package::PACKAGE_RETRY;
use self::registry::Registry;
use crate::campaign::Campaign;
use crate::chain::{Announced, Chain, ChainSeen, KeysRevealed, Watch};
use crate::crash::crash_point;
use crate::dsn::{Dsn, FetchedPackage};
use crate::messages::{Intent, SensorHello, SensorRefusal, SensorSignature, SensorStatus, SetIntent};
use crate::stage::Stage;
use crate::status::{GetSnapshot, Snapshot};
use crate::store::{Announcement, Forget, Loaded, SaveAnnouncement, Store};
use crate::verifier::Verifier;

/// Messages that may wait: a site's sensors all at once.
const MAILBOX: usize = 4096;
/// Sensors that one gateway registers; more are told so in the log and not followed.
const MAX_SENSORS: usize = 8192;
/// Updates that a gateway follows at once.
pub(crate) const MAX_FOLLOWS: usize = 1024;

/// Intents that the hub is told at once, and how long it is left to others then.
const PORTION: usize = 32;
const PAUSE: Duration = Duration::from_millis(5);
/// Who was heard so lately is awake: a simulated sensor stays so for a third of it.
const LATELY: Duration = Duration::from_secs(1);
/// How long after a decision the next one waits for more facts, for each sensor. A decision looks at every sensor, some microseconds
/// for each: so deciding takes a part of the time at most, however many sensors speak at once, and a small site does not wait.
pub(crate) const PAUSE_PER_SENSOR: Duration = Duration::from_micros(20);

/// The site's part: what is the same for all exchanges.
#[derive(Debug, Clone)]
pub struct Site {
    /// The peer id, as people write it.
    pub peer_id: String,
    /// SHA-256 of its bytes.
    pub gateway: PeerHash,
    /// Times and bounds.
    pub policy: Policy,
    /// What is served: the vendor's Ethereum address and release key, by product.
    pub products: BTreeMap<ProductId, ([u8; 20], ReleaseKey)>,
    /// Which sensors get an update, and when.
    pub campaign: Campaign,
    /// Folder of encrypted images.
    pub bodies: PathBuf,
    /// Folder of staged images.
    pub images: PathBuf,
    /// Bytes that staged images may take.
    pub quota: u64,
    /// Updates followed at once: the newest of each product and some before it. One more takes the place of one that is past.
    pub max_follows: usize,
    /// EIP-155 chain id.
    pub chain: u64,
    /// Whose word about the chain is taken.
    pub trust: Trust,
    /// How long after a decision the next one waits for more facts, for each sensor that it looks at.
    pub pause_per_sensor: Duration,
}

impl Site {
    /// Whether an update that was kept is one that is served now: the configuration may have changed.
    pub fn serves(&self, announcement: &Announcement) -> bool {
        let Announcement { update, vendor, .. } = announcement;
        let product = self.products.get(&update.product);
        update.chain.get() == self.chain && product.is_some_and(|(served, _)| served == vendor)
    }
}

/// Whom the exchanges ask.
pub struct Peers {
    /// Keeps things.
    pub store: Addr<Store>,
    /// Reads the chain.
    pub chain: Addr<Chain>,
    /// Speaks to the storage network.
    pub dsn: Addr<Dsn>,
    /// Checks packages and offers.
    pub verifier: Addr<Verifier>,
    /// Decrypts.
    pub stage: Addr<Stage>,
    /// Tells sensors.
    pub hub: Recipient<SetIntent>,
    /// Writes down what was signed, accepted, refused or paid.
    pub audit: Audit,
}

/// What was found on disk at the start.
#[derive(Debug, Default)]
pub struct Found {
    /// Rows.
    pub loaded: Loaded,
    /// Staged images whose files are whole.
    pub images: Vec<UpdateId>,
    /// Bounties whose bodies are whole.
    pub bodies: Vec<Bounty>,
}

/// Intents on their way to the hub: the newest of each sensor, in order.
#[derive(Default)]
struct Handing {
    waiting: VecDeque<DeviceId>,
    intents: HashMap<DeviceId, Intent>,
    /// Since the last pause.
    sent: usize,
    /// Whether a pause is under way.
    ticks: bool,
}

/// The actor.
pub struct Exchanges {
    peers: Peers,
    site: Site,
    found: Option<Found>,
    follows: BTreeMap<Bounty, Follow>,
    registry: Registry,
    campaigns: Campaigns,
    handing: Handing,
    unsaved: Unsaved,
    chain_seen: Option<ChainSeen>,
    staged: BTreeMap<UpdateId, u64>,
    started_at: u64,
    /// Time never goes back for the machines, whatever the clock does.
    last_now: u64,
}

impl Exchanges {
    /// Resumes from what was found.
    pub fn new(peers: Peers, site: Site, found: Found) -> Self {
        let mut exchanges = Self {
            peers,
            site,
            found: Some(found),
            follows: BTreeMap::new(),
            registry: Registry::new(MAX_SENSORS),
            campaigns: Campaigns::default(),
            handing: Handing::default(),
            unsaved: Unsaved::default(),
            chain_seen: None,
            staged: BTreeMap::new(),
            started_at: 0,
            last_now: 0,
        };
        exchanges.started_at = exchanges.now();
        exchanges
    }

    /// Unix milliseconds.
    fn now(&mut self) -> u64 {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let now = u64::try_from(since.as_millis()).unwrap_or(u64::MAX);
        self.last_now = self.last_now.max(now);
        self.last_now
    }

    fn resume(&mut self, found: Found, ctx: &mut Context<Self>) {
        self.staged = found
            .loaded
            .staged
            .iter()
            .filter(|row| found.images.contains(&row.u_id))
            .map(|row| (row.u_id, row.size))
            .collect();
        self.registry.restore(found.loaded.sensors);
        self.campaigns.restore(found.loaded.orders, found.loaded.failures);
        self.campaigns.tell_idle(&self.site.campaign);
        for announcement in found.loaded.announcements {
            if !self.site.serves(&announcement) {
                continue;
            }
            let (bounty, package) = (announcement.update.bounty, announcement.package);
            let now = self.now();
            let held = found.bodies.contains(&bounty);
            let follow = Follow::restore(
                &self.site,
                announcement.update,
                announcement.vendor,
                announcement.records,
                now,
            );
            self.follow(bounty, follow, held, ctx);
            match package {
                Some((root, vk)) => self.check_package(bounty, FetchedPackage { root, vk }, ctx),
                None => self.fetch_package(bounty, PACKAGE_RETRY.0, ctx),
            }
        }
    }

    /// Takes an exchange in: it learns of the sensors, and its keys are looked for.
    fn follow(&mut self, bounty: Bounty, follow: Follow, body: bool, ctx: &mut Context<Self>) {
        let product = follow.machine.update().product;
        let u_id = follow.machine.update().u_id;
        let (over, staged) = (follow.machine.state().is_over(), follow.machine.state().is_staged());
        self.follows.insert(bounty, follow);
        if !over && !staged {
            self.peers.chain.do_send(Watch(bounty));
        }
        if body {
            self.drive(bounty, Input::BodyHeld, ctx);
        }
        if staged && !self.staged.contains_key(&u_id) {
            self.drive(bounty, Input::ImageLost, ctx);
        }
        let views = self.registry.of_product(&product);
        let sensors = views.into_iter().map(|view| self.admit(bounty, view)).collect();
        self.drive_all(bounty, sensors, ctx);
    }

    /// Gives a machine facts of which there may be many, and has it decide once.
    fn drive_all(&mut self, bounty: Bounty, inputs: Vec<Input>, ctx: &mut Context<Self>) {
        let now = self.now();
        let Some(follow) = self.follows.get_mut(&bounty) else { return };
        inputs.into_iter().for_each(|input| follow.machine.note(input, now));
        self.drive(bounty, Input::Tick, ctx);
    }

    /// Gives a machine a fact of which each sensor has its own. It decides at once, or, where it has done so just now, a little
    /// later about all that it was given until then.
    fn hear(&mut self, bounty: Bounty, input: Input, ctx: &mut Context<Self>) {
        let now = self.now();
        let Some(follow) = self.follows.get_mut(&bounty) else { return };
        let next = follow.decided.saturating_add(follow.pause(self.site.pause_per_sensor));
        if next <= now {
            return self.drive(bounty, input, ctx);
        }
        follow.machine.note(input, now);
        if std::mem::replace(&mut follow.undecided, true) {
            return;
        }
        ctx.run_later(Duration::from_millis(next - now), move |actor, ctx| {
            if actor.follows.get(&bounty).is_some_and(|follow| follow.undecided) {
                actor.drive(bounty, Input::Tick, ctx);
            }
        });
    }

    /// Gives a machine a fact and has its outputs done.
    fn drive(&mut self, bounty: Bounty, input: Input, ctx: &mut Context<Self>) {
        let now = self.now();
        if let Some(follow) = self.follows.get_mut(&bounty) {
            (follow.decided, follow.undecided) = (now, false);
            follow.machine.handle(input, now);
            self.flush(bounty, ctx);
        }
    }

    /// The update that may be forgotten first: of those that are over, and older than another of their product, the one that ended
    /// first. Nobody can be paid for it any more, no key comes, and no sensor will get it.
    fn past(&mut self) -> Option<Bounty> {
        let now = self.now();
        let mut newest = BTreeMap::new();
        for update in self.follows.values().map(|follow| follow.machine.update()) {
            let version = newest.entry(update.product).or_insert(update.version);
            *version = update.version.max(*version);
        }
        let is_past = |follow: &&Follow| {
            let update = follow.machine.update();
            follow.machine.state().is_over()
                && !follow.saving
                && update.ends_ms() < now
                && newest.get(&update.product).is_some_and(|newest| *newest > update.version)
        };
        let past = self.follows.values().filter(is_past).map(|follow| follow.machine.update());
        past.min_by_key(|update| update.ends_ms()).map(|update| update.bounty)
    }

    /// Drops an update with all that is kept of it. A later release that uses its payload key again is not found out any more.
    fn forget(&mut self, bounty: Bounty, ctx: &mut Context<Self>) {
        tracing::info!(%bounty, "forgotten: it is past, and its room is needed");
        if let Some(timer) = self.follows.remove(&bounty).and_then(|follow| follow.timer) {
            ctx.cancel_future(timer);
        }
        self.campaigns.forget(&bounty);
        let told = move |done: Result<Result<(), _>, _>, _: &mut Self, _: &mut Context<Self>| {
            if let Ok(Err(error)) = done {
                tracing::warn!(%bounty, %error, "not forgotten: it is followed again from the next start on");
            }
        };
        ctx.spawn(self.peers.store.send(Forget(bounty)).into_actor(self).map(told));
    }

    /// Exchanges of a product, the newest last.
    fn of_product(&self, product: &ProductId) -> Vec<Bounty> {
        let mut bounties: Vec<_> = self
            .follows
            .iter()
            .filter(|(_, follow)| follow.machine.update().product == *product)
            .map(|(bounty, follow)| (follow.machine.update().version, *bounty))
            .collect();
        bounties.sort();
        bounties.into_iter().map(|(_, bounty)| bounty).collect()
    }
}

impl Actor for Exchanges {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        ctx.set_mailbox_capacity(MAILBOX);
        if let Some(found) = self.found.take() {
            self.resume(found, ctx);
        }
        Self::watch_windows(ctx);
    }
}

impl Handler<Announced> for Exchanges {
    type Result = ();

    fn handle(&mut self, Announced { update, vendor }: Announced, ctx: &mut Self::Context) {
        let bounty = update.bounty;
        if self.follows.contains_key(&bounty) {
            return;
        }
        let most = self.site.max_follows;
        if self.follows.len() >= most && self.past().is_none() {
            tracing::error!(%bounty, product = %update.product, version = %update.version, "announcement passed over until the next start: {most} updates are followed, and none of them is past");
            return;
        }
        tracing::info!(%bounty, product = %update.product, version = %update.version, "announced");
        let seen_at = self.now();
        let vendor = vendor.into_array();
        let save = SaveAnnouncement { update: update.clone(), vendor, seen_at };
        let done = move |saved: Result<Result<(), _>, _>, actor: &mut Self, ctx: &mut Context<Self>| {
            if let Ok(Err(error)) = saved {
                // Nothing hangs on it yet; the chain tells it again after a restart.
                tracing::error!(%error, "announcement not kept");
                return;
            }
            crash_point("gateway.announced");
            while actor.follows.len() >= actor.site.max_follows
                && let Some(past) = actor.past()
            {
                actor.forget(past, ctx);
            }
            let follow = Follow::new(&actor.site, update, vendor);
            actor.follow(bounty, follow, false, ctx);
            actor.fetch_package(bounty, PACKAGE_RETRY.0, ctx);
        };
        ctx.spawn(self.peers.store.send(save).into_actor(self).map(done));
    }
}

impl Handler<KeysRevealed> for Exchanges {
    type Result = ();

    fn handle(&mut self, KeysRevealed { bounty, keys }: KeysRevealed, ctx: &mut Self::Context) {
        self.tell_payments(bounty, &keys);
        let revealed = |key: Key| Input::Revealed { s: key.s, r: key.r, payee: key.payee, index: key.index };
        self.drive_all(bounty, keys.into_iter().map(revealed).collect(), ctx);
    }
}

impl Handler<ChainSeen> for Exchanges {
    type Result = ();

    fn handle(&mut self, seen: ChainSeen, _: &mut Self::Context) {
        self.chain_seen = Some(seen);
    }
}

impl Handler<SensorHello> for Exchanges {
    type Result = ();

    fn handle(&mut self, said: SensorHello, ctx: &mut Self::Context) {
        if !self.site.products.contains_key(&said.hello.product) {
            let device = said.hello.key.device_id().to_string();
            tracing::warn!(device, "a sensor of a product that is not served");
            let reason = Some("of a product that is not served".into());
            self.peers.audit.tell(Record {
                device: Some(device),
                reason,
                ..Record::new(Kind::SensorRefused)
            });
            return;
        }
        let now = self.now();
        let Some((view, changed)) = self.registry.hello(&said, now) else { return };
        if changed {
            self.save_sensor(said.hello.key, ctx);
        }
        for bounty in self.of_product(&said.hello.product) {
            let input = self.admit(bounty, view);
            self.hear(bounty, input, ctx);
        }
    }
}

impl Handler<SensorSignature> for Exchanges {
    type Result = ();

    fn handle(&mut self, SensorSignature { device, msg }: SensorSignature, ctx: &mut Self::Context) {
        let Some(product) = self.registry.product(&device) else { return };
        // The exchange that asked for this digest, or the newest one, which says what is wrong.
        let bounties = self.of_product(&product);
        let asked = bounties
            .iter()
            .find(|bounty| self.follows.get(bounty).is_some_and(|follow| follow.asks(&device, &msg.digest)));
        if let Some(bounty) = asked.or(bounties.last()).copied() {
            let input = Input::Signature { device, digest: msg.digest, sig: msg.sig };
            self.hear(bounty, input, ctx);
        }
    }
}

impl Handler<SensorStatus> for Exchanges {
    type Result = ();

    fn handle(&mut self, SensorStatus { device, status }: SensorStatus, ctx: &mut Self::Context) {
        let now = self.now();
        if let Some(before) = self.registry.rows.get(&device).cloned() {
            self.count_failure(&before, &status, ctx);
        }
        let Some((product, changed)) = self.registry.status(&device, &status, now) else { return };
        if changed {
            self.save_sensor(device, ctx);
        }
        let report = status.report.map(|report| Report {
            version: report.version,
            u_id: report.u_id,
            sig: report.sig,
        });
        for bounty in self.of_product(&product) {
            self.hear(bounty, Input::Status { device, installed: status.installed, report }, ctx);
        }
    }
}

impl Handler<SensorRefusal> for Exchanges {
    type Result = ();

    fn handle(&mut self, SensorRefusal { device, error }: SensorRefusal, ctx: &mut Self::Context) {
        let Some(product) = self.registry.product(&device) else { return };
        if let Some(bounty) = self.of_product(&product).last().copied() {
            self.hear(bounty, Input::SensorRefused { device, code: error.code }, ctx);
        }
    }
}

impl Handler<GetSnapshot> for Exchanges {
    type Result = Snapshot;

    fn handle(&mut self, GetSnapshot(part): GetSnapshot, _: &mut Self::Context) -> Snapshot {
        self.snapshot(part)
    }
}
