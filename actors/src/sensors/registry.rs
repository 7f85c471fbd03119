//! Sensors, their intents, and what each is told: no I/O but the reading of staged images.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, HashSet};

use bytes::Bytes;
use posthouse_protocol::id::{DeviceId, Digest, UpdateId};
use posthouse_protocol::key;
use posthouse_protocol::sensor::{
    BlockRequest, ErrorCode, ErrorMsg, Hello, SignRequest, State, Status, StatusReply, UpdateResult, VERSION,
};

use super::Up;
use super::budget::{Budget, Budgets};
use super::images::{Images, Staged};
use super::twin::{Changed, Twin};
use crate::messages::{Carrier, Intent};

/// A sensor that said nothing for so long is taken to be asleep, ms.
const AWAKE_MS: u64 = 30_000;
/// Devices remembered as known by a carrier: as many as may have keys. It takes a key or a certificate to be one of them.
const MAX_SHOWN: usize = 65_536;

/// How a word came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Link {
    /// The carrier.
    pub carrier: Carrier,
    /// Whether it knows that the sensor is who it says.
    pub authenticated: bool,
    /// Whether the sensor said it just now; otherwise the broker kept it.
    pub live: bool,
}

/// What the site has decided.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Policy {
    /// Whether sign requests go out over carriers that do not authenticate. Then whoever can
    /// pretend to be the gateway can have receipts signed for a payee of their own.
    pub allow_unauthenticated_signing: bool,
    /// When a sensor should ask again for what is not there yet, s.
    pub retry_after: u32,
}

impl Default for Policy {
    fn default() -> Self {
        Self { allow_unauthenticated_signing: false, retry_after: 5 }
    }
}

/// Bounds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Sensors registered at once. At the bound one that is wanted for nothing makes room for a new
    /// one; if there is none, the new one is told to come back.
    pub max_sensors: usize,
    /// Blocks sent in answer to one request; a request for more gets so many.
    pub max_blocks: u16,
    /// Bytes of images that all sensors together are sent in a second over MQTT; at least [`Budget::MIN_RATE`].
    pub mqtt_bytes_per_sec: Option<u64>,
    /// The same over CoAP.
    pub coap_bytes_per_sec: Option<u64>,
}

impl Default for Limits {
    fn default() -> Self {
        Self { max_sensors: 4096, max_blocks: 64, mqtt_bytes_per_sec: None, coap_bytes_per_sec: None }
    }
}

/// Down to a sensor.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Down {
    /// SUIT envelope; empty if there is none any more.
    Manifest(Bytes),
    /// Something to sign.
    Sign(SignRequest),
    /// A block.
    Block {
        /// Of which image.
        u_id: UpdateId,
        /// Where in it.
        offset: u32,
        /// Its bytes.
        bytes: Bytes,
    },
    /// The answer to a status.
    Reply(StatusReply),
    /// What cannot be served, and when to come back.
    Error(ErrorMsg),
}

/// One sensor as a person would see it.
#[derive(Debug, Clone, serde::Serialize)]
pub struct SensorView {
    /// Short name.
    pub device: String,
    /// Public key.
    pub key: String,
    /// Vendor and class id.
    pub product: String,
    /// How it came last.
    pub carrier: Carrier,
    /// Whether the carrier authenticates it.
    pub authenticated: bool,
    /// Sequence number of what runs.
    pub installed: u64,
    /// LwM2M object 5, State.
    pub state: u8,
    /// LwM2M object 5, Update Result.
    pub result: u8,
    /// Bytes of the image that it holds.
    pub next: u32,
    /// Milliseconds since it said something.
    pub silent_ms: u64,
}

/// A registered sensor.
#[derive(Debug)]
struct Sensor {
    hello: Hello,
    link: Link,
    status: Option<Status>,
    /// When it said something last, ms.
    seen: u64,
    awake: bool,
    /// What it was asked to sign in this wake.
    asked: Option<Digest>,
    /// First byte that it asked for last.
    next: u32,
    /// As the mirrors know it.
    told: Option<Twin>,
}

/// The hub's state.
#[derive(Debug)]
pub struct Registry {
    policy: Policy,
    limits: Limits,
    sensors: HashMap<DeviceId, Sensor>,
    /// For registered sensors and for such as the exchange knows from before a restart.
    intents: HashMap<DeviceId, Intent>,
    images: Images,
    /// Devices that a carrier has known to be who they say, registered or not.
    shown: HashSet<DeviceId>,
    /// Sensors that made room for others, as the mirrors know them.
    gone: Vec<(DeviceId, Option<Twin>)>,
}

impl Registry {
    /// Without sensors.
    pub fn new(policy: Policy, limits: Limits) -> Self {
        let (sensors, intents) = (HashMap::new(), HashMap::new());
        let images = Images::new(Budgets::new(limits.mqtt_bytes_per_sec, limits.coap_bytes_per_sec));
        Self { policy, limits, sensors, intents, images, shown: HashSet::new(), gone: Vec::new() }
    }

    /// Remembers devices that a carrier has known before a restart: no stranger on an open carrier takes their place.
    pub fn remember(&mut self, devices: impl IntoIterator<Item = DeviceId>) {
        self.shown.extend(devices.into_iter().take(MAX_SHOWN));
    }

    /// What a sensor said when it registered.
    pub fn hello_of(&self, device: &DeviceId) -> Option<&Hello> {
        self.sensors.get(device).map(|sensor| &sensor.hello)
    }

    /// Takes a sensor's word at `now`, ms, and says what to answer: what is pending first.
    ///
    /// # Errors
    /// What to answer instead.
    pub fn take(&mut self, device: &DeviceId, link: Link, up: &Up, now: u64) -> Result<Vec<Down>, ErrorMsg> {
        let known = self.sensors.contains_key(device);
        if let Up::Hello(hello) = up {
            self.register(device, link, *hello, now).map_err(|code| self.error(code))?;
        }
        self.note(device, link, up, now).map_err(|code| self.error(code))?;
        let mut downs = Vec::new();
        if !known && link.carrier == Carrier::Mqtt {
            downs.push(self.retained(device));
        }
        downs.extend(self.signing_for(device, link, up).map_err(|code| self.error(code))?.map(Down::Sign));
        match up {
            Up::Get(request) => self.blocks(device, request, &mut downs),
            Up::Manifest => downs.push(self.manifest(device)?),
            Up::Status(_) => downs.push(Down::Reply(self.reply(device))),
            Up::Refused(error) => downs.extend(self.remind(device, link, *error)),
            Up::Hello(_) | Up::Signature(_) | Up::Sign => {}
        }
        Ok(downs)
    }

    fn register(&mut self, device: &DeviceId, link: Link, hello: Hello, now: u64) -> Result<(), ErrorCode> {
        if hello.v != VERSION {
            return Err(ErrorCode::UnknownVersion);
        }
        if hello.key.device_id() != *device {
            return Err(ErrorCode::Malformed);
        }
        // A stranger on an open carrier must not take an authenticated sensor's place, whatever it says of itself, and
        // whether or not that one is here now.
        if self.shown.contains(device) && !link.authenticated {
            return Err(ErrorCode::Unauthenticated);
        }
        if link.authenticated && self.shown.len() < MAX_SHOWN {
            self.shown.insert(*device);
        }
        if let Some(sensor) = self.sensors.get_mut(device) {
            if sensor.link.authenticated && !link.authenticated {
                return Err(ErrorCode::Unauthenticated);
            }
            if sensor.hello.key == hello.key && sensor.hello.curve == hello.curve {
                (sensor.hello, sensor.link) = (hello, link);
                return Ok(());
            }
        }
        // The costly check comes once for each key.
        key::check_key(hello.curve, &hello.key).map_err(|_| ErrorCode::Malformed)?;
        self.make_room(link)?;
        let sensor =
            Sensor { hello, link, status: None, seen: now, awake: false, asked: None, next: 0, told: None };
        self.sensors.insert(*device, sensor);
        Ok(())
    }

    /// At the bound one that is wanted for nothing goes, those first that no carrier knows. For one that a carrier knows any
    /// other goes that none does, and for one that none does no other: made-up sensors displace nobody that is not.
    fn make_room(&mut self, link: Link) -> Result<(), ErrorCode> {
        if self.sensors.len() < self.limits.max_sensors {
            return Ok(());
        }
        let places = self.sensors.iter().map(|(device, sensor)| {
            let wanted = self.intents.contains_key(device);
            (sensor.link.authenticated, wanted, sensor.seen, device)
        });
        let goes = |(known, wanted): (bool, bool)| match link.authenticated {
            true => !known || !wanted,
            false => !known && !wanted,
        };
        let oldest = places.filter(|(known, wanted, ..)| goes((*known, *wanted))).min();
        let device = oldest.map(|(.., device)| *device).ok_or(ErrorCode::Busy)?;
        if let Some(sensor) = self.sensors.remove(&device) {
            self.gone.push((device, sensor.told));
        }
        Ok(())
    }

    /// Remembers that the sensor spoke.
    fn note(&mut self, device: &DeviceId, link: Link, up: &Up, now: u64) -> Result<(), ErrorCode> {
        let sensor = self.sensors.get_mut(device).ok_or(ErrorCode::UnknownDevice)?;
        if sensor.link.authenticated && !link.authenticated {
            return Err(ErrorCode::Unauthenticated);
        }
        if let Up::Get(request) = up {
            sensor.next = request.offset;
        }
        if let Up::Status(status) = up {
            sensor.next = status.next;
            sensor.status = Some(*status);
            sensor.hello.installed = status.installed;
        }
        if !link.live {
            return Ok(());
        }
        sensor.seen = now;
        sensor.awake = !matches!(up, Up::Status(status) if status.next_wake > 0);
        if matches!(up, Up::Hello(_)) {
            sensor.asked = None;
        }
        Ok(())
    }

    /// The sign request for a sensor that just spoke, if it is to be told now: once in a wake over
    /// MQTT, whenever it asks over CoAP.
    fn signing_for(
        &mut self,
        device: &DeviceId,
        link: Link,
        up: &Up,
    ) -> Result<Option<SignRequest>, ErrorCode> {
        let Some(request) = self.intents.get(device).and_then(|intent| intent.sign) else { return Ok(None) };
        let may = link.authenticated || self.policy.allow_unauthenticated_signing;
        let asks = matches!(up, Up::Sign);
        let Some(sensor) = self.sensors.get_mut(device) else { return Ok(None) };
        if !may {
            return if asks { Err(ErrorCode::Unauthenticated) } else { Ok(None) };
        }
        let tell = asks || (link.carrier == Carrier::Mqtt && sensor.awake && link.live);
        if !tell || (!asks && sensor.asked == Some(request.digest())) {
            return Ok(None);
        }
        sensor.asked = Some(request.digest());
        Ok(Some(request))
    }

    /// What the broker should hold for a sensor; from before a restart it may hold something else.
    fn retained(&self, device: &DeviceId) -> Down {
        let manifest = self.intents.get(device).and_then(|intent| intent.manifest.clone());
        Down::Manifest(manifest.unwrap_or_default())
    }

    /// A sensor that refuses a request because it is for another update may have missed its manifest: a broker may lose a
    /// message, and not every one says what it retains to a sensor whose session it has kept.
    fn remind(&self, device: &DeviceId, link: Link, refused: ErrorMsg) -> Option<Down> {
        let missed = refused.code == ErrorCode::WrongUpdate && link.carrier == Carrier::Mqtt && link.live;
        missed.then(|| self.manifest(device).ok()).flatten()
    }

    fn manifest(&self, device: &DeviceId) -> Result<Down, ErrorMsg> {
        let manifest = self.intents.get(device).and_then(|intent| intent.manifest.clone());
        manifest.map(Down::Manifest).ok_or_else(|| self.error(ErrorCode::UnknownImage))
    }

    fn reply(&self, device: &DeviceId) -> StatusReply {
        let pending = self.intents.get(device).is_some_and(|intent| intent.sign.is_some());
        StatusReply { retry_after: if pending { 0 } else { self.policy.retry_after } }
    }

    /// The blocks that a request is for, or one word about why not.
    fn blocks(&mut self, device: &DeviceId, request: &BlockRequest, downs: &mut Vec<Down>) {
        if let Err(code) = self.is_theirs(device, &request.u_id) {
            return downs.push(Down::Error(self.error(code)));
        }
        let count = request.count.clamp(1, self.limits.max_blocks);
        let authenticated = self.sensors.get(device).is_some_and(|sensor| sensor.link.authenticated);
        let mut staged = match self.images.open(&request.u_id, Carrier::Mqtt, authenticated) {
            Ok(staged) => staged,
            Err(code) => return downs.push(Down::Error(self.error(code))),
        };
        for place in 0..u64::from(count) {
            let offset = u64::from(request.offset) + place * u64::from(request.len);
            match staged.read(offset, request.len) {
                Ok(part) => {
                    downs.push(Down::Block { u_id: request.u_id, offset: offset as u32, bytes: part.bytes })
                }
                Err(ErrorCode::OutOfRange) if place > 0 => return,
                Err(code @ ErrorCode::Busy) => {
                    return downs.push(Down::Error(ErrorMsg { code, retry_after: Some(Budget::WAIT) }));
                }
                Err(code) => return downs.push(Down::Error(self.error(code))),
            }
        }
    }

    /// Whether the image is the one wanted of this sensor, and staged.
    fn is_theirs(&self, device: &DeviceId, u_id: &UpdateId) -> Result<(), ErrorCode> {
        let intent = self.intents.get(device).ok_or(ErrorCode::UnknownImage)?;
        match &intent.image {
            Some(image) if image.u_id == *u_id => Ok(()),
            Some(_) => Err(ErrorCode::UnknownImage),
            None => Err(ErrorCode::NotStaged),
        }
    }

    /// A staged image, over CoAP, that is read from `offset` on. Who does not say who it is may have any of which it knows
    /// the digest: images are no secret of the site's. A sensor that does gets its own, when its time has come; that it is
    /// fetched moves what is shown of it.
    ///
    /// # Errors
    /// [`ErrorCode::UnknownImage`], [`ErrorCode::NotStaged`].
    pub fn open(
        &mut self,
        u_id: &UpdateId,
        offset: u64,
        device: Option<&DeviceId>,
        authenticated: bool,
    ) -> Result<Staged, ErrorCode> {
        // One of whom something is wanted, or that has shown who it is, is held to it though it did not say hello since a restart.
        if let Some(device) = device
            && (authenticated || self.sensors.contains_key(device) || self.intents.contains_key(device))
        {
            self.is_theirs(device, u_id)?;
        }
        if let Some(sensor) = device.and_then(|device| self.sensors.get_mut(device))
            && sensor.link.carrier == Carrier::Coap
            && (authenticated || !sensor.link.authenticated)
        {
            sensor.next = u32::try_from(offset).unwrap_or(u32::MAX);
        }
        self.images.open(u_id, Carrier::Coap, authenticated).map_err(|code| match code {
            ErrorCode::UnknownImage if self.is_awaited(device) => ErrorCode::NotStaged,
            code => code,
        })
    }

    /// Bytes of images that the carrier has carried since the start; what went twice counts twice.
    pub fn carried(&self, carrier: Carrier) -> u64 {
        self.images.carried(carrier)
    }

    /// Whether an image for this sensor is to come.
    fn is_awaited(&self, device: Option<&DeviceId>) -> bool {
        let intent = device.and_then(|device| self.intents.get(device));
        intent.is_some_and(|intent| intent.manifest.is_some() && intent.image.is_none())
    }

    /// Replaces what is wanted of a sensor. What a carrier should tell it at `now`, ms, and which.
    pub fn set_intent(&mut self, device: DeviceId, intent: Intent, now: u64) -> (Option<Carrier>, Vec<Down>) {
        if let Some(image) = &intent.image {
            self.images.retain(image);
        }
        let old = self.replace(device, intent.clone());
        if let Some(image) = &old.image {
            self.images.release(&image.u_id);
        }
        let Some(sensor) = self.sensors.get_mut(&device) else { return (None, Vec::new()) };
        let mut downs = Vec::new();
        // The same manifest again says that the image is there now. Who sleeps asks when it wakes, and finds what the broker holds.
        let ready = sensor.awake && intent.image.is_some() && intent.image != old.image;
        if intent.manifest != old.manifest || ready {
            downs.push(Down::Manifest(intent.manifest.unwrap_or_default()));
        }
        let may = sensor.link.authenticated || self.policy.allow_unauthenticated_signing;
        let awake = sensor.awake && now.saturating_sub(sensor.seen) < AWAKE_MS;
        if let Some(request) = intent.sign.filter(|request| sensor.asked != Some(request.digest()))
            && may
            && awake
        {
            sensor.asked = Some(request.digest());
            downs.push(Down::Sign(request));
        }
        (Some(sensor.link.carrier), downs)
    }

    fn replace(&mut self, device: DeviceId, intent: Intent) -> Intent {
        match self.intents.entry(device) {
            Entry::Occupied(entry) if intent == Intent::default() => entry.remove(),
            Entry::Occupied(mut entry) => entry.insert(intent),
            Entry::Vacant(_) if intent == Intent::default() => Intent::default(),
            Entry::Vacant(entry) => {
                entry.insert(intent);
                Intent::default()
            }
        }
    }

    /// Manifests of the sensors on a carrier; an empty one where none is wanted.
    pub fn manifests(&self, carrier: Carrier) -> impl Iterator<Item = (DeviceId, Bytes)> {
        let on_it = move |(_, sensor): &(&DeviceId, &Sensor)| sensor.link.carrier == carrier;
        self.sensors.iter().filter(on_it).map(|(device, _)| {
            let manifest = self.intents.get(device).and_then(|intent| intent.manifest.clone());
            (*device, manifest.unwrap_or_default())
        })
    }

    /// All sensors, by name.
    pub fn list(&self, now: u64) -> Vec<SensorView> {
        let mut sensors: Vec<_> = self.sensors.iter().collect();
        sensors.sort_by_key(|(device, _)| **device);
        sensors.into_iter().map(|(device, sensor)| view(device, sensor, now)).collect()
    }

    /// What the mirrors are to be told of a sensor since they were told last, and of those that are gone.
    pub fn changes(&mut self, device: &DeviceId) -> Vec<Changed> {
        let gone = std::mem::take(&mut self.gone).into_iter();
        let mut changes: Vec<_> = gone.map(|(device, old)| Changed { device, old, new: None }).collect();
        let Some(sensor) = self.sensors.get_mut(device) else { return changes };
        let new = Some(twin(sensor, self.intents.get(device)));
        if new != sensor.told {
            changes.push(Changed { device: *device, old: std::mem::replace(&mut sensor.told, new), new });
        }
        changes
    }

    /// All sensors, for mirrors that have lost what they were told.
    pub fn twins(&mut self) -> Vec<Changed> {
        let intents = &self.intents;
        let all = self.sensors.iter_mut().map(|(device, sensor)| {
            sensor.told = Some(twin(sensor, intents.get(device)));
            Changed { device: *device, old: None, new: sensor.told }
        });
        all.collect()
    }

    fn error(&self, code: ErrorCode) -> ErrorMsg {
        let later = matches!(code, ErrorCode::NotStaged | ErrorCode::UnknownImage | ErrorCode::Busy);
        ErrorMsg { code, retry_after: later.then_some(self.policy.retry_after) }
    }
}

fn twin(sensor: &Sensor, intent: Option<&Intent>) -> Twin {
    let (state, result) =
        sensor.status.map_or((State::Idle, UpdateResult::Initial), |status| (status.state, status.result));
    let wanted = intent.and_then(|intent| intent.wanted.as_ref());
    Twin::new(sensor.hello.product, sensor.hello.installed, wanted, (state, result, sensor.next))
}

fn view(device: &DeviceId, sensor: &Sensor, now: u64) -> SensorView {
    let status = sensor.status;
    SensorView {
        device: device.to_string(),
        key: sensor.hello.key.to_string(),
        product: sensor.hello.product.to_string(),
        carrier: sensor.link.carrier,
        authenticated: sensor.link.authenticated,
        installed: sensor.hello.installed.get(),
        state: status.map_or(State::Idle, |status| status.state) as u8,
        result: status.map_or(UpdateResult::Initial, |status| status.result) as u8,
        next: sensor.next,
        silent_ms: now.saturating_sub(sensor.seen),
    }
}

#[cfg(test)]
mod tests;
