//! A gateway's side in small: the real hub, and in place of the exchange an actor that wants each sensor to sign what is
//! on a list, a delegation and a receipt if not said otherwise, and then to have the image.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use actix::{Actor, Addr, AsyncContext as _, Context, Handler, Message};
use bytes::Bytes;
use posthouse_actors::messages::{
    Image, Intent, SensorHello, SensorRefusal, SensorSignature, SensorStatus, SetIntent, Wanted,
};
use posthouse_actors::mqtt::{self, Mqtt};
use posthouse_actors::sensors::{Limits, ListSensors, Policy, Sensors};
use posthouse_protocol::cose::ReleaseSigningKey;
use posthouse_protocol::id::{
    Attempt, Bounty, ChainId, DeviceId, DeviceKey, Digest, LockHash, Payee, PeerHash, ProductId, UpdateId,
    Version,
};
use posthouse_protocol::sensor::{ErrorCode, Hello, Report, SignRequest};
use posthouse_protocol::{key, suit};
use sha2::{Digest as _, Sha256};
use tokio::sync::Notify;
use tokio::time::timeout;

use super::fleet::PATIENCE;

pub(crate) const PRODUCT: ProductId = ProductId::new([0x11; 32]);
pub(crate) const VERSION: Version = Version::new(2);
const CHAIN: ChainId = ChainId::new(31337);
const BOUNTY: Bounty = Bounty::new([0xb0; 20]);

/// Everybody is asked for signatures.
pub(crate) const OPEN: Policy = Policy { allow_unauthenticated_signing: true, retry_after: 1 };

pub(crate) fn release_key() -> ReleaseSigningKey {
    ReleaseSigningKey::from_bytes(&[0x77; 32]).unwrap()
}

/// What sensors said.
#[derive(Debug, Default)]
pub(crate) struct Heard {
    /// Rung when anything comes.
    rung: Arc<Notify>,
    pub(crate) hellos: BTreeMap<DeviceId, Hello>,
    /// What each has signed, and each thing once.
    pub(crate) signed: BTreeMap<DeviceId, BTreeSet<Digest>>,
    pub(crate) reports: BTreeMap<DeviceId, Report>,
    pub(crate) refusals: usize,
    /// What each is still to sign, or to refuse.
    asks: BTreeMap<DeviceId, VecDeque<SignRequest>>,
}

impl Heard {
    /// Whether a sensor has answered all that it was asked, and reported that the image runs.
    pub(crate) fn is_done(&self, device: DeviceId) -> bool {
        self.reports.contains_key(&device) && self.asks.get(&device).is_some_and(VecDeque::is_empty)
    }
}

/// The exchange's place.
pub(crate) struct Desk {
    hub: Option<Addr<Sensors>>,
    heard: Arc<Mutex<Heard>>,
    manifest: Bytes,
    image: Image,
}

/// Has a sensor asked for other signatures from now on, one after the other: each is wanted until it is signed or refused.
#[derive(Message)]
#[rtype(result = "()")]
struct Ask {
    device: DeviceId,
    asks: VecDeque<SignRequest>,
}

/// A running hub and what it hears.
pub(crate) struct Site {
    pub(crate) hub: Addr<Sensors>,
    desk: Addr<Desk>,
    pub(crate) heard: Arc<Mutex<Heard>>,
    pub(crate) firmware: Vec<u8>,
    pub(crate) u_id: UpdateId,
    pub(crate) path: PathBuf,
}

/// Firmware that no block of which is like another.
pub(crate) fn firmware(len: usize) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(len + 32);
    let mut block = [0_u8; 32];
    while bytes.len() < len {
        block = Sha256::digest(block).into();
        bytes.extend_from_slice(&block);
    }
    bytes.truncate(len);
    bytes
}

impl Site {
    pub(crate) fn start(dir: &Path, len: usize) -> Self {
        Self::with(dir, len, OPEN, Limits::default())
    }

    pub(crate) fn with(dir: &Path, len: usize, policy: Policy, limits: Limits) -> Self {
        let firmware = firmware(len);
        let u_id = UpdateId::new(Sha256::digest(&firmware).into());
        let path = dir.join("staged");
        std::fs::write(&path, &firmware).unwrap();
        let size = u32::try_from(len).unwrap();
        let manifest = suit::Manifest { sequence: VERSION, product: PRODUCT, u_id, size };
        let desk = Desk {
            hub: None,
            heard: Arc::default(),
            manifest: suit::build(&manifest, &release_key()).into(),
            image: Image { u_id, size: size.into(), path: path.clone() },
        };
        let heard = Arc::clone(&desk.heard);
        let (desk, hub) = start(desk, policy, limits);
        Self { hub, desk, heard, firmware, u_id, path }
    }

    /// Waits until so many sensors have reported: over MQTT a sensor's last word is at the broker
    /// when it falls asleep, not yet here.
    pub(crate) async fn reports(&self, count: usize) {
        assert!(self.hears(|heard| heard.reports.len() >= count).await, "reports come in time");
    }

    /// Waits until what was heard is enough; false, if that takes too long.
    pub(crate) async fn hears(&self, enough: impl Fn(&Heard) -> bool) -> bool {
        let bell = Arc::clone(&self.heard.lock().unwrap().rung);
        let waiting = async {
            loop {
                let rung = bell.notified();
                if enough(&self.heard.lock().unwrap()) {
                    return;
                }
                rung.await;
            }
        };
        timeout(PATIENCE, waiting).await.is_ok()
    }

    /// Has a sensor asked for these signatures and no others from now on. What it has said already has come to the desk.
    pub(crate) async fn ask(&self, device: DeviceId, asks: impl IntoIterator<Item = SignRequest>) {
        self.hub.send(ListSensors).await.unwrap();
        self.desk.send(Ask { device, asks: asks.into_iter().collect() }).await.unwrap();
    }

    /// How much a sensor has still to answer.
    pub(crate) fn asks(&self, device: DeviceId) -> usize {
        self.heard.lock().unwrap().asks.get(&device).map_or(0, VecDeque::len)
    }

    /// A receipt for the image, and for another lock each time that `lock` is another.
    pub(crate) fn receipt(&self, attempt: u8, lock: u8) -> SignRequest {
        receipt(self.u_id, attempt, lock)
    }

    /// Meets sensors at a broker that knows each.
    pub(crate) fn meet_at(&self, broker: SocketAddr, mirrors: Vec<mqtt::Mirror>) -> Addr<Mqtt> {
        let config = mqtt::Config {
            host: broker.ip().to_string(),
            port: broker.port(),
            client_id: "posthouse".into(),
            credentials: None,
            tls: None,
            authenticated: true,
            mirrors,
        };
        Mqtt::start(&config, &self.hub).unwrap()
    }

    /// Stages the image for a sensor without further ado.
    pub(crate) fn stage_for(&self, device: DeviceId) {
        let size = self.firmware.len() as u64;
        let image = Some(Image { u_id: self.u_id, size, path: self.path.clone() });
        self.hub.do_send(SetIntent { device, intent: Intent { image, ..Intent::default() } });
    }
}

fn start(desk: Desk, policy: Policy, limits: Limits) -> (Addr<Desk>, Addr<Sensors>) {
    let (sender, receiver) = std::sync::mpsc::channel();
    let desk = Desk::create(|ctx| {
        let desk_address = ctx.address();
        let hub = Sensors::new(
            desk_address.clone().recipient(),
            desk_address.clone().recipient(),
            desk_address.clone().recipient(),
            desk_address.recipient(),
            policy,
            limits,
        )
        .start();
        sender.send(hub.clone()).unwrap();
        Desk { hub: Some(hub), ..desk }
    });
    (desk, receiver.recv().unwrap())
}

impl Desk {
    /// What is next on a sensor's list, or after it the image.
    fn want(&self, device: DeviceId) {
        let sign = self.heard.lock().unwrap().asks.get(&device).and_then(|asks| asks.front().copied());
        let image = sign.is_none().then(|| self.image.clone());
        let manifest = Some(self.manifest.clone());
        let wanted = Some(Wanted { version: VERSION, size: self.image.size });
        let intent = Intent { manifest, wanted, sign, image };
        self.hub.as_ref().unwrap().do_send(SetIntent { device, intent });
    }

    /// Goes on to what is next, if this was what was asked.
    fn answered(&self, device: DeviceId, is_it: impl Fn(&SignRequest) -> bool) {
        {
            let mut heard = self.heard.lock().unwrap();
            let asks = heard.asks.entry(device).or_default();
            if asks.front().is_some_and(is_it) {
                asks.pop_front();
            }
            heard.rung.notify_waiters();
        }
        self.want(device);
    }
}

pub(crate) fn delegation(gateway: u8) -> SignRequest {
    SignRequest::Delegate { chain: CHAIN, bounty: BOUNTY, gateway: PeerHash::new([gateway; 32]) }
}

fn receipt(u_id: UpdateId, attempt: u8, lock: u8) -> SignRequest {
    SignRequest::Receipt {
        chain: CHAIN,
        bounty: BOUNTY,
        payee: Payee::new([0xda; 20]),
        u_id,
        s: LockHash::new([lock; 32]),
        attempt: Attempt::new(attempt),
    }
}

/// What a sensor is asked that nobody has said anything about.
pub(crate) fn everyday(u_id: UpdateId) -> [SignRequest; 2] {
    [delegation(0x9a), receipt(u_id, 1, 0x5e)]
}

fn verified(heard: &Heard, device: &DeviceKey, signature: &SensorSignature) -> bool {
    let curve = heard.hellos[&device.device_id()].curve;
    key::verify(curve, device, &signature.msg.digest, &signature.msg.sig).is_ok()
}

impl Actor for Desk {
    type Context = Context<Self>;
}

impl Handler<SensorHello> for Desk {
    type Result = ();

    fn handle(&mut self, SensorHello { hello, .. }: SensorHello, _: &mut Context<Self>) {
        let device = hello.key.device_id();
        let mut heard = self.heard.lock().unwrap();
        let new = heard.hellos.insert(device, hello).is_none();
        if new && hello.installed < VERSION {
            heard.asks.entry(device).or_insert_with(|| everyday(self.image.u_id).into());
            drop(heard);
            self.want(device);
        }
    }
}

impl Handler<Ask> for Desk {
    type Result = ();

    fn handle(&mut self, Ask { device, asks }: Ask, _: &mut Context<Self>) {
        self.heard.lock().unwrap().asks.insert(device, asks);
        self.want(device);
    }
}

impl Handler<SensorSignature> for Desk {
    type Result = ();

    fn handle(&mut self, signature: SensorSignature, _: &mut Context<Self>) {
        let device = signature.device.device_id();
        let digest = signature.msg.digest;
        {
            let mut heard = self.heard.lock().unwrap();
            assert!(verified(&heard, &signature.device, &signature), "a sensor signs well");
            heard.signed.entry(device).or_default().insert(digest);
        }
        self.answered(device, |ask| ask.digest() == digest);
    }
}

impl Handler<SensorStatus> for Desk {
    type Result = ();

    fn handle(&mut self, SensorStatus { device, status }: SensorStatus, _: &mut Context<Self>) {
        let Some(report) = status.report else { return };
        let mut heard = self.heard.lock().unwrap();
        let curve = heard.hellos[&device.device_id()].curve;
        key::verify(curve, &device, &report.digest(&PRODUCT), &report.sig).unwrap();
        heard.reports.insert(device.device_id(), report);
        heard.rung.notify_waiters();
    }
}

impl Handler<SensorRefusal> for Desk {
    type Result = ();

    fn handle(&mut self, SensorRefusal { device, error }: SensorRefusal, _: &mut Context<Self>) {
        self.heard.lock().unwrap().refusals += 1;
        // Over MQTT a sensor can be asked for a receipt before it has the manifest: at its next wake it is asked again.
        let early = error.code == ErrorCode::WrongUpdate;
        self.answered(device.device_id(), |ask| !(early && matches!(ask, SignRequest::Receipt { .. })));
    }
}
