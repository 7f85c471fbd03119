//! A gateway's side in small: the real hub, and in place of the exchange an actor that wants each
//! sensor to delegate, to sign a receipt, and then to have the image.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use actix::{Actor, Addr, AsyncContext as _, Context, Handler};
use bytes::Bytes;
use posthouse_actors::messages::{
    Image, Intent, SensorHello, SensorRefusal, SensorSignature, SensorStatus, SetIntent, Wanted,
};
use posthouse_actors::sensors::{Limits, Policy, Sensors};
use posthouse_protocol::cose::ReleaseSigningKey;
use posthouse_protocol::id::{
    Attempt, Bounty, ChainId, DeviceId, DeviceKey, Digest, LockHash, Payee, PeerHash, ProductId, UpdateId,
    Version,
};
use posthouse_protocol::sensor::{Hello, Report, SignRequest};
use posthouse_protocol::{key, suit};
use sha2::{Digest as _, Sha256};
use tokio::sync::Notify;
use tokio::time::timeout;

use super::fleet::PATIENCE;

pub(crate) const PRODUCT: ProductId = ProductId::new([0x11; 32]);
pub(crate) const VERSION: Version = Version::new(2);
const CHAIN: ChainId = ChainId::new(31337);
const BOUNTY: Bounty = Bounty::new([0xb0; 20]);

pub(crate) fn release_key() -> ReleaseSigningKey {
    ReleaseSigningKey::from_bytes(&[0x77; 32]).unwrap()
}

/// What sensors said.
#[derive(Debug, Default)]
pub(crate) struct Heard {
    /// Rung when a report comes.
    pub(crate) reported: Arc<Notify>,
    pub(crate) hellos: BTreeMap<DeviceId, Hello>,
    pub(crate) delegations: BTreeMap<DeviceId, Digest>,
    pub(crate) receipts: BTreeMap<DeviceId, Vec<Digest>>,
    pub(crate) reports: BTreeMap<DeviceId, Report>,
    pub(crate) refusals: usize,
}

/// The exchange's place.
pub(crate) struct Desk {
    hub: Option<Addr<Sensors>>,
    heard: Arc<Mutex<Heard>>,
    manifest: Bytes,
    image: Image,
}

/// A running hub and what it hears.
pub(crate) struct Site {
    pub(crate) hub: Addr<Sensors>,
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
        Self::with(dir, len, Limits::default())
    }

    pub(crate) fn with(dir: &Path, len: usize, limits: Limits) -> Self {
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
        let hub = start(desk, limits);
        Self { hub, heard, firmware, u_id, path }
    }

    /// Waits until so many sensors have reported: over MQTT a sensor's last word is at the broker
    /// when it falls asleep, not yet here.
    pub(crate) async fn reports(&self, count: usize) {
        let reported = Arc::clone(&self.heard.lock().unwrap().reported);
        loop {
            let rung = reported.notified();
            if self.heard.lock().unwrap().reports.len() >= count {
                return;
            }
            timeout(PATIENCE, rung).await.expect("reports come in time");
        }
    }

    /// Stages the image for a sensor without further ado.
    pub(crate) fn stage_for(&self, device: DeviceId) {
        let size = self.firmware.len() as u64;
        let image = Some(Image { u_id: self.u_id, size, path: self.path.clone() });
        self.hub.do_send(SetIntent { device, intent: Intent { image, ..Intent::default() } });
    }
}

fn start(desk: Desk, limits: Limits) -> Addr<Sensors> {
    let policy = Policy { allow_unauthenticated_signing: true, retry_after: 1 };
    let (sender, receiver) = std::sync::mpsc::channel();
    Desk::create(|ctx| {
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
    receiver.recv().unwrap()
}

impl Desk {
    fn want(&self, device: DeviceId, sign: Option<SignRequest>, image: Option<Image>) {
        let manifest = Some(self.manifest.clone());
        let wanted = Some(Wanted { version: VERSION, size: self.image.size });
        let intent = Intent { manifest, wanted, sign, image };
        self.hub.as_ref().unwrap().do_send(SetIntent { device, intent });
    }

    fn receipt(&self) -> SignRequest {
        SignRequest::Receipt {
            chain: CHAIN,
            bounty: BOUNTY,
            payee: Payee::new([0xda; 20]),
            u_id: self.image.u_id,
            s: LockHash::new([0x5e; 32]),
            attempt: Attempt::new(1),
        }
    }
}

fn delegation() -> SignRequest {
    SignRequest::Delegate { chain: CHAIN, bounty: BOUNTY, gateway: PeerHash::new([0x9a; 32]) }
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
        let new = self.heard.lock().unwrap().hellos.insert(device, hello).is_none();
        if new && hello.installed < VERSION {
            self.want(device, Some(delegation()), None);
        }
    }
}

impl Handler<SensorSignature> for Desk {
    type Result = ();

    fn handle(&mut self, signature: SensorSignature, _: &mut Context<Self>) {
        let device = signature.device.device_id();
        let mut heard = self.heard.lock().unwrap();
        assert!(verified(&heard, &signature.device, &signature), "a sensor signs well");
        let digest = signature.msg.digest;
        if digest == delegation().digest() {
            heard.delegations.insert(device, digest);
            self.want(device, Some(self.receipt()), None);
        } else {
            heard.receipts.entry(device).or_default().push(digest);
            self.want(device, None, Some(self.image.clone()));
        }
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
        heard.reported.notify_waiters();
    }
}

impl Handler<SensorRefusal> for Desk {
    type Result = ();

    fn handle(&mut self, _: SensorRefusal, _: &mut Context<Self>) {
        self.heard.lock().unwrap().refusals += 1;
    }
}
