//! Attacks over real sockets: what is bounded is counted, what is refused is refused by its type, and honest sensors are
//! served meanwhile and afterwards.

use std::collections::BTreeMap;

use posthouse_actors::sensors::{ListSensors, SensorView};
use posthouse_protocol::id::{Curve, DeviceId, Digest, Version};
use posthouse_protocol::key::SigningKey;
use posthouse_protocol::sensor::{Hello, VERSION};

use super::site::{PRODUCT, Site};

mod asker;
mod flood;
mod malformed;
mod speaker;
mod spoofed;

/// What a sensor that nobody has built says of itself; its key is a true one.
fn made_up(number: u32) -> Hello {
    let mut scalar = [1; 32];
    scalar[..4].copy_from_slice(&number.to_be_bytes());
    let key = SigningKey::from_bytes(Curve::P256, &scalar).unwrap().device_key();
    let installed = Version::new(1);
    Hello { v: VERSION, key, curve: Curve::P256, product: PRODUCT, installed, slot: 1 << 20, wake: 1 }
}

/// What the site knows of its sensors: the hub's list, but for how long each is silent, and what the exchange has heard.
#[derive(Debug, PartialEq)]
struct State {
    sensors: Vec<serde_json::Value>,
    hellos: Vec<DeviceId>,
    signed: BTreeMap<DeviceId, Vec<Digest>>,
    reports: usize,
    refusals: usize,
}

async fn state(site: &Site) -> State {
    let sensors = site.hub.send(ListSensors).await.unwrap();
    let known = |sensor: &SensorView| {
        let mut known = serde_json::to_value(sensor).unwrap();
        known.as_object_mut().unwrap().remove("silent_ms");
        known
    };
    let heard = site.heard.lock().unwrap();
    State {
        sensors: sensors.iter().map(known).collect(),
        hellos: heard.hellos.keys().copied().collect(),
        signed: heard.signed.iter().map(|(who, what)| (*who, what.iter().copied().collect())).collect(),
        reports: heard.reports.len(),
        refusals: heard.refusals,
    }
}
