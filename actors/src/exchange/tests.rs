//! The exchanges with the real store, chain, peer, verifier and stage around them; in the hub's place somebody who writes down what
//! sensors should find.

use actix::{Message, SyncArbiter};
use posthouse_contracts::chain::{Limits, RpcChain, RpcConfig};
use posthouse_dsn::Keypair;
use posthouse_protocol::cose::ReleaseSigningKey;
use posthouse_protocol::gateway::{self, CheckedRelease, Update};
use posthouse_protocol::id::{
    ChainId, CircuitId, ContentId, Curve, DeviceKey, FleetRoot, PackageId, PkId, Version, VkId,
};
use posthouse_protocol::package::Package;
use posthouse_protocol::release::{self, Mode, Release};
use posthouse_protocol::sensor::{Hello, State, Status, UpdateResult};
use posthouse_protocol::suit::{self, Manifest};
use rusqlite::Connection;
use tempfile::TempDir;
use tokio::sync::mpsc;
use tokio::time::timeout;

use super::*;
use crate::campaign::Order;
use crate::messages::Carrier;
use crate::status::Part;
use crate::store::Database;

const PRODUCT: ProductId = ProductId::new([1; 32]);
const VENDOR: [u8; 20] = [2; 20];
const BOUNTY: Bounty = Bounty::new([3; 20]);
/// Updates that are followed at once: each of them is a write to the disk.
const ROOM: usize = 8;
/// Nothing that is waited for takes longer.
const PATIENCE: Duration = Duration::from_secs(60);

fn release_key() -> ReleaseSigningKey {
    ReleaseSigningKey::from_bytes(&[6; 32]).unwrap()
}

/// An update in file mode with a release that agrees with it.
fn update() -> (Update, CheckedRelease) {
    let (key, u_id, version) = (release_key(), UpdateId::new([4; 32]), Version::new(7));
    let release = Release {
        product: PRODUCT,
        version,
        mode: Mode::File,
        u_id,
        size: 4096,
        body_id: None,
        body_size: 0,
        key_id: None,
        circuit_id: CircuitId::new([9; 32]),
        vk_id: VkId::new([5; 32]),
        pk_id: PkId::new([10; 32]),
        pk_size: 1,
        fleet_root: FleetRoot::new([11; 32]),
        fleet_depth: 20,
        fleet_size: 100,
        curve: Curve::P256,
    };
    let manifest = Manifest { sequence: version, product: PRODUCT, u_id, size: 4096 };
    let link = ContentId::raw([12; 32]);
    let package = Package {
        manifest: suit::build(&manifest, &key),
        release: release::seal(&release, &key).unwrap(),
        body: None,
        fleet: link,
        vk: link,
        pk: link,
    };
    let terms = |p_id: PackageId| Update {
        chain: ChainId::new(1),
        bounty: BOUNTY,
        product: PRODUCT,
        version,
        u_id,
        p_id,
        fleet_root: FleetRoot::new([11; 32]),
        fleet_depth: 20,
        claim_by: u64::MAX / 2000,
        lock_secs: 7200,
        curve: Curve::P256,
    };
    let update = terms(package.id());
    let checked = CheckedRelease::check(&update, &package, &key.release_key()).unwrap();
    (update, checked)
}

/// Does something with the exchanges' own state.
struct With<F>(F);

impl<F, R: 'static> Message for With<F>
where
    F: FnOnce(&mut Exchanges, &mut Context<Exchanges>) -> R,
{
    type Result = R;
}

impl<F, R> Handler<With<F>> for Exchanges
where
    F: FnOnce(&mut Self, &mut Context<Self>) -> R,
    R: actix::dev::MessageResponse<Self, With<F>> + 'static,
{
    type Result = R;

    fn handle(&mut self, With(act): With<F>, ctx: &mut Context<Self>) -> R {
        act(self, ctx)
    }
}

/// In the hub's place.
struct Hub(mpsc::UnboundedSender<SetIntent>);

impl Actor for Hub {
    type Context = Context<Self>;
}

impl Handler<SetIntent> for Hub {
    type Result = ();

    fn handle(&mut self, intent: SetIntent, _: &mut Context<Self>) {
        let _ended = self.0.send(intent);
    }
}

/// On a folder, which may have been used before.
struct Desk {
    exchanges: Addr<Exchanges>,
    told: mpsc::UnboundedReceiver<SetIntent>,
    database: PathBuf,
}

impl Desk {
    async fn open(folder: &TempDir, pause_per_sensor: Duration) -> Self {
        let root = folder.path();
        let database = root.join("db");
        let loaded = Database::open(&database).unwrap().load().unwrap();
        let (path, images, audit) = (database.clone(), root.join("images"), root.join("audit.jsonl"));
        let store = SyncArbiter::start(1, move || Store::new(path.clone()));
        let stage = SyncArbiter::start(1, move || Stage::new(images.clone(), 1 << 20));
        let verifier = SyncArbiter::start(1, || Verifier);
        let keypair = Keypair::generate_ed25519();
        // A folder of its own, as the peer before may still run.
        let blocks = root.join(keypair.public().to_peer_id().to_string());
        let mut settings = posthouse_dsn::Config::new(keypair, blocks);
        settings.network = posthouse_dsn::Network::Fleet("nobody".into());
        let (handle, _nobody) = posthouse_dsn::Dsn::start(settings).await.unwrap();
        let dsn = Dsn::new(handle, Vec::new()).start();
        // Nobody listens there: the chain tells nothing.
        let chain = RpcConfig {
            urls: vec!["http://127.0.0.1:9".into()],
            chain: ChainId::new(1),
            factory: Default::default(),
            limits: Limits::default(),
        };
        let reader = std::sync::Arc::new(RpcChain::new(&chain).unwrap());
        let site = Site {
            peer_id: "me".into(),
            gateway: PeerHash::new([8; 32]),
            policy: Policy::default(),
            products: BTreeMap::from([(PRODUCT, (VENDOR, release_key().release_key()))]),
            campaign: Campaign::default(),
            bodies: root.join("bodies"),
            images: root.join("images"),
            quota: 1 << 20,
            max_follows: ROOM,
            chain: 1,
            trust: Trust::Rpc,
            pause_per_sensor,
        };
        let (sender, told) = mpsc::unbounded_channel();
        let hub = Hub(sender).start().recipient();
        let exchanges = Exchanges::create(|ctx| {
            let me = ctx.address();
            let settings = crate::chain::Settings {
                reader,
                id: ChainId::new(1),
                poll: PATIENCE,
                products: Vec::new(),
                told: BTreeMap::new(),
            };
            let (announced, keys) = (me.clone().recipient(), me.clone().recipient());
            let chain = Chain::new(announced, keys, me.recipient(), settings).start();
            let audit = Audit::at(&audit, posthouse_audit::Bounds::default());
            let peers = Peers { store, chain, dsn, verifier, stage, hub, audit };
            Exchanges::new(peers, site, Found { loaded, ..Found::default() })
        });
        Self { exchanges, told, database }
    }

    /// Without a pause before decisions.
    async fn prompt(folder: &TempDir) -> Self {
        Self::open(folder, Duration::ZERO).await
    }

    /// The update is announced and its release here.
    async fn announced(folder: &TempDir, pause_per_sensor: Duration) -> Self {
        let desk = Self::open(folder, pause_per_sensor).await;
        let (update, release) = update();
        let act = move |actor: &mut Exchanges, ctx: &mut Context<Exchanges>| {
            if !actor.follows.contains_key(&BOUNTY) {
                let save = SaveAnnouncement { update: update.clone(), vendor: VENDOR, seen_at: 0 };
                actor.peers.store.do_send(save);
                actor.follow(BOUNTY, Follow::new(&actor.site, update, VENDOR), false, ctx);
            }
            actor.drive(BOUNTY, Input::Package(release), ctx);
        };
        desk.with(act).await;
        desk
    }

    async fn with<R: Send + 'static>(
        &self,
        act: impl FnOnce(&mut Exchanges, &mut Context<Exchanges>) -> R + Send + 'static,
    ) -> R {
        let (sender, receiver) = tokio::sync::oneshot::channel();
        let act = move |actor: &mut Exchanges, ctx: &mut Context<Exchanges>| {
            let _gone = sender.send(act(actor, ctx));
        };
        self.exchanges.send(With(act)).await.unwrap();
        receiver.await.unwrap()
    }

    async fn hello(&self, number: u8) {
        self.exchanges.send(hello(number)).await.unwrap();
    }

    async fn fails(&self, number: u8) {
        let status = Status {
            state: State::Downloading,
            result: UpdateResult::IntegrityFailure,
            installed: Version::new(1),
            next: 0,
            next_wake: 0,
            report: None,
        };
        self.exchanges.send(SensorStatus { device: device(number), status }).await.unwrap();
    }

    /// The next that the hub is told about a sensor, and of how many others it is told before.
    async fn told_of(&mut self, number: u8) -> (Intent, usize) {
        let mut others = 0;
        let told = async {
            loop {
                let SetIntent { device: of, intent } = self.told.recv().await.unwrap();
                if of == device(number).device_id() {
                    return intent;
                }
                others += 1;
            }
        };
        let intent = timeout(PATIENCE, told).await.expect("the hub is told in time");
        (intent, others)
    }

    fn kept(&self) -> Loaded {
        Database::open(&self.database).unwrap().load().unwrap()
    }

    /// From now on rows of sensors are not taken, or are again.
    fn refuse_rows(&self, refuse: bool) {
        let trigger = match refuse {
            true => "CREATE TRIGGER full BEFORE INSERT ON sensors BEGIN SELECT RAISE(ABORT, 'full'); END",
            false => "DROP TRIGGER full",
        };
        Connection::open(&self.database).unwrap().execute(trigger, []).unwrap();
    }
}

fn device(number: u8) -> DeviceKey {
    DeviceKey::new([number; 33])
}

fn hello(number: u8) -> SensorHello {
    let hello = Hello {
        v: 1,
        key: device(number),
        curve: Curve::P256,
        product: PRODUCT,
        installed: Version::new(1),
        slot: 1 << 20,
        wake: 60,
    };
    SensorHello { hello, carrier: Carrier::Mqtt, authenticated: true }
}

fn retry(number: u8) -> Retry {
    Retry { device: device(number).device_id(), who: "token".into() }
}

/// An order for all sensors.
fn all(order: Order) -> GiveOrder {
    GiveOrder { bounty: BOUNTY, group: None, order, who: "token".into() }
}

#[actix::test]
async fn what_sensors_said_last_is_written_at_the_end() {
    let folder = tempfile::tempdir().unwrap();
    let desk = Desk::prompt(&folder).await;
    let database = desk.database.clone();
    // In one step, between which and the next a second may go by.
    desk.with(move |actor, ctx| {
        actor.handle(hello(1), ctx);
        let kept = Database::open(&database).unwrap().load().unwrap();
        assert!(kept.sensors.is_empty(), "rows are written together, a second later");
    })
    .await;
    desk.exchanges.send(Flush).await.unwrap().unwrap();
    assert_eq!(desk.kept().sensors.len(), 1);
}

#[actix::test]
async fn rows_that_are_not_taken_wait_for_the_next_try() {
    let folder = tempfile::tempdir().unwrap();
    let desk = Desk::prompt(&folder).await;
    desk.refuse_rows(true);
    desk.hello(1).await;
    assert_eq!(desk.exchanges.send(Flush).await.unwrap(), Err(NotKept(1)), "it is not said that they are");
    assert!(desk.kept().sensors.is_empty());
    desk.refuse_rows(false);
    desk.exchanges.send(Flush).await.unwrap().unwrap();
    assert_eq!(desk.kept().sensors.len(), 1);
}

#[actix::test]
async fn a_failure_is_kept_with_the_row_that_tells_it_from_its_repetition() {
    let folder = tempfile::tempdir().unwrap();
    let desk = Desk::announced(&folder, Duration::ZERO).await;
    desk.hello(1).await;
    desk.exchanges.send(Flush).await.unwrap().unwrap();
    desk.refuse_rows(true);
    desk.fails(1).await;
    assert_eq!(desk.exchanges.send(Flush).await.unwrap(), Err(NotKept(1)));
    let kept = desk.kept();
    assert!(kept.failures.is_empty(), "not without its row: {:?}", kept.sensors);
    desk.refuse_rows(false);
    desk.exchanges.send(Flush).await.unwrap().unwrap();
    assert_eq!(desk.kept().failures.len(), 1);

    // The broker says it again after a restart.
    let desk = Desk::announced(&folder, Duration::ZERO).await;
    desk.hello(1).await;
    desk.fails(1).await;
    desk.exchanges.send(Flush).await.unwrap().unwrap();
    assert_eq!(desk.kept().failures[0].count, 1);
}

#[actix::test]
async fn a_failure_that_is_forgotten_stays_so() {
    let folder = tempfile::tempdir().unwrap();
    let desk = Desk::announced(&folder, Duration::ZERO).await;
    desk.hello(1).await;
    desk.fails(1).await;
    desk.exchanges.send(retry(1)).await.unwrap().unwrap();
    desk.exchanges.send(Flush).await.unwrap().unwrap();
    assert!(desk.kept().failures.is_empty());
}

#[actix::test]
async fn what_is_heard_just_after_a_decision_is_decided_about_together_and_by_itself() {
    let folder = tempfile::tempdir().unwrap();
    let pause = Duration::from_secs(1);
    let mut desk = Desk::announced(&folder, pause).await;
    let decided = |actor: &Exchanges| actor.follows[&BOUNTY].decided;
    let first = desk
        .with(move |actor, ctx| {
            actor.handle(hello(1), ctx);
            let first = decided(actor);
            actor.handle(hello(2), ctx);
            actor.handle(hello(3), ctx);
            assert_eq!(decided(actor), first, "the others wait");
            first
        })
        .await;
    assert!(desk.told_of(1).await.0.sign.is_some(), "the first is decided about at once");
    // Nobody says anything from here on.
    desk.told_of(2).await;
    let second = desk.with(move |actor, _| decided(actor)).await;
    assert!(second - first >= pause.as_millis() as u64);
    desk.told_of(3).await;
    assert_eq!(desk.with(move |actor, _| decided(actor)).await, second, "one decision for both");
}

#[actix::test]
async fn who_is_awake_is_told_before_those_that_sleep() {
    let folder = tempfile::tempdir().unwrap();
    let mut desk = Desk::prompt(&folder).await;
    let intent = |number: u64| Intent {
        wanted: Some(crate::messages::Wanted { version: Version::new(number), size: 0 }),
        ..Intent::default()
    };
    desk.with(move |actor, ctx| {
        actor.handle(hello(1), ctx);
        (2..=200).for_each(|number| actor.hand_over(device(number), intent(1), ctx));
        // What waits of a sensor is replaced.
        actor.hand_over(device(200), intent(2), ctx);
        actor.hand_over(device(1), intent(1), ctx);
    })
    .await;
    assert!(desk.told_of(1).await.1 <= PORTION);
    assert_eq!(desk.told_of(200).await.0, intent(2));
    desk.told.close();
    assert!(desk.told.recv().await.is_none(), "each is told once");
}

#[actix::test]
async fn an_order_for_a_group_that_is_no_more_is_shown_and_can_be_ended() {
    let folder = tempfile::tempdir().unwrap();
    let desk = Desk::announced(&folder, Duration::ZERO).await;
    let pilot = || serde_json::from_str(r#"{"groups": [{"name": "pilot", "devices": []}]}"#).unwrap();
    let order = |order| GiveOrder { group: Some("pilot".into()), ..all(order) };
    desk.exchanges.send(SetCampaign(pilot())).await.unwrap();
    desk.exchanges.send(order(Order::Pause)).await.unwrap().unwrap();
    let shown =
        async || desk.exchanges.send(GetSnapshot(Part::All)).await.unwrap().updates[0].idle_orders.clone();
    assert_eq!(shown().await, [""; 0]);
    desk.exchanges.send(SetCampaign(Campaign::default())).await.unwrap();
    assert_eq!(shown().await, ["pilot"]);
    let refused = desk.exchanges.send(order(Order::Cancel)).await.unwrap();
    assert_eq!(refused, Err(OrderError::Group("pilot".into())));
    desk.exchanges.send(order(Order::Resume)).await.unwrap().unwrap();
    assert_eq!(shown().await, [""; 0]);
}

#[actix::test]
async fn an_update_more_than_there_is_room_for_takes_the_place_of_the_one_that_ended_first() {
    let folder = tempfile::tempdir().unwrap();
    let desk = Desk::prompt(&folder).await;
    let numbered = |number: usize, claim_by: u64| {
        let version = Version::new(number as u64 + 1);
        let mut bounty = [0; 20];
        bounty[..8].copy_from_slice(&number.to_be_bytes());
        Update { bounty: Bounty::new(bounty), version, claim_by, ..update().0 }
    };
    let full = move |actor: &mut Exchanges, ctx: &mut Context<Exchanges>| {
        for number in 0..ROOM {
            let update = numbered(number, u64::MAX / 2000);
            let save = SaveAnnouncement { update: update.clone(), vendor: VENDOR, seen_at: 0 };
            actor.peers.store.do_send(save);
            actor.follow(update.bounty, Follow::new(&actor.site, update, VENDOR), false, ctx);
        }
    };
    desk.with(full).await;
    // The database has done all that it was sent, these answers were heard, and so with what they led to: an update that was kept
    // sends away another.
    let settled = async || {
        let store = desk.with(|actor, _| actor.peers.store.clone()).await;
        for _round in 0..2 {
            store.send(Forget(Bounty::new([0xff; 20]))).await.unwrap().unwrap();
            let saves =
                async || desk.with(|actor, _| actor.follows.values().any(|follow| follow.saving)).await;
            let quiet = async { while saves().await {} };
            timeout(PATIENCE, quiet).await.expect("what happened is kept in time");
        }
    };
    let announce = async |number| {
        let announced = Announced { update: numbered(number, u64::MAX / 2000), vendor: VENDOR.into() };
        desk.exchanges.send(announced).await.unwrap();
        settled().await;
        desk.with(|actor, _| actor.follows.keys().copied().collect::<Vec<_>>()).await
    };
    let bounty = |number| numbered(number, 0).bounty;
    let all = announce(ROOM).await;
    assert_eq!((all.len(), all.contains(&bounty(ROOM))), (ROOM, false), "none is past");

    // Claims closed an hour ago, and locks may still run for another.
    let locked = move |actor: &mut Exchanges, ctx: &mut Context<Exchanges>| {
        let update = numbered(4, actor.now() / 1000 - 3600);
        let bounty = update.bounty;
        actor.follow(bounty, Follow::new(&actor.site, update, VENDOR), false, ctx);
        actor.drive(bounty, Input::Newer(Version::new(ROOM as u64)), ctx);
    };
    desk.with(locked).await;
    settled().await;
    assert!(!announce(ROOM).await.contains(&bounty(ROOM)), "nor is what may still be paid for");

    let past = move |actor: &mut Exchanges, ctx: &mut Context<Exchanges>| {
        for (number, claim_by) in [(3, 20), (5, 10), (ROOM - 1, 5)] {
            let update = numbered(number, claim_by);
            actor.follow(update.bounty, Follow::new(&actor.site, update, VENDOR), false, ctx);
        }
    };
    desk.with(past).await;
    settled().await;
    let all = announce(ROOM).await;
    assert_eq!(all.len(), ROOM);
    assert!(all.contains(&bounty(ROOM)) && !all.contains(&bounty(5)), "the newest stays, whatever it is");
    let kept: Vec<Bounty> = desk.kept().announcements.iter().map(|kept| kept.update.bounty).collect();
    assert_eq!((kept.len(), kept.contains(&bounty(5)), kept.contains(&bounty(3))), (ROOM, false, true));
}

#[actix::test]
async fn what_failed_and_was_superseded_is_so_after_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let desk = Desk::prompt(&folder).await;
    let why = gateway::Failure::VendorMismatch;
    let records = vec![gateway::Record::Superseded { by: Version::new(8) }, gateway::Record::Failed { why }];
    let restored = move |actor: &mut Exchanges, _: &mut _| {
        Follow::restore(&actor.site, update().0, VENDOR, records, 0).machine.state().name()
    };
    assert_eq!(desk.with(restored).await.as_str(), "superseded");
}

/// As when a client has left, or has no patience.
#[actix::test]
async fn each_order_is_written_down_once_though_nobody_waits_for_it() {
    let folder = tempfile::tempdir().unwrap();
    let desk = Desk::announced(&folder, Duration::ZERO).await;
    desk.hello(1).await;
    desk.fails(1).await;
    desk.exchanges.do_send(all(Order::Pause));
    desk.exchanges.do_send(GiveOrder { group: Some("none".into()), ..all(Order::Pause) });
    desk.exchanges.do_send(GiveOrder { bounty: Bounty::new([4; 20]), ..all(Order::Pause) });
    desk.exchanges.do_send(retry(1));
    desk.exchanges.do_send(retry(2));
    desk.exchanges.send(Flush).await.unwrap().unwrap();
    let full = "CREATE TRIGGER no_orders BEFORE INSERT ON orders BEGIN SELECT RAISE(ABORT, 'full'); END";
    Connection::open(&desk.database).unwrap().execute(full, []).unwrap();
    desk.exchanges.do_send(all(Order::Cancel));
    desk.exchanges.send(Flush).await.unwrap().unwrap();
    let audit = desk.with(|actor, _| actor.peers.audit.clone()).await;
    assert!(audit.flush(PATIENCE));

    let mut told = Vec::new();
    let each = |record: &Record, _: &str| {
        if matches!(record.kind, Kind::OrderGiven | Kind::OrderRefused) {
            assert_eq!(record.who.as_deref(), Some("token"));
            told.push((
                record.kind == Kind::OrderGiven,
                record.order.clone().unwrap(),
                record.reason.clone(),
            ));
        }
        Ok(())
    };
    posthouse_audit::read::read(&folder.path().join("audit.jsonl"), &Default::default(), each).unwrap();
    told.sort();
    let told: Vec<_> =
        told.iter().map(|(given, order, why)| (*given, order.as_str(), why.as_deref())).collect();
    let (group, sensor) = (OrderError::Group("none".into()), OrderError::Sensor(device(2).device_id()));
    assert_eq!(
        told,
        [
            (false, "cancel", Some("not kept: database: full")),
            (false, "pause", Some(group.to_string().as_str())),
            (false, "pause", Some(OrderError::Update(Bounty::new([4; 20])).to_string().as_str())),
            (false, "retry", Some(sensor.to_string().as_str())),
            (true, "pause", None),
            (true, "retry", None),
        ]
    );
}
