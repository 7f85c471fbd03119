//! Updates over each carrier, with power cuts.

use std::collections::BTreeSet;
use std::net::{Ipv4Addr, SocketAddr};

use posthouse_actors::coap::{self, Coap};
use posthouse_actors::sensors::{Limits, ListSensors};
use posthouse_protocol::sensor::SignRequest;

use super::broker;
use super::fleet::{Sensor, cut_power, finished};
use super::site::{OPEN, Site, VERSION, everyday};

pub(crate) async fn coap(site: &Site) -> SocketAddr {
    let config = coap::Config::new((Ipv4Addr::LOCALHOST, 0).into());
    Coap::start(config, &site.hub).await.unwrap().1
}

pub(crate) fn mqtt(site: &Site, broker: SocketAddr) {
    site.meet_at(broker, Vec::new());
}

/// The slot is the firmware, one receipt was signed under one digest, and the report came.
async fn check(site: &Site, sensors: &[Sensor]) {
    site.reports(sensors.len()).await;
    for sensor in sensors {
        let device = sensor.device();
        assert!(std::fs::read(sensor.slot()).unwrap() == site.firmware, "the slot is byte-identical");
        let heard = site.heard.lock().unwrap();
        let asked: BTreeSet<_> = everyday(site.u_id).iter().map(SignRequest::digest).collect();
        assert_eq!(heard.signed[&device], asked, "one delegation and one receipt");
        assert_eq!(heard.reports[&device].version, VERSION);
        assert_eq!(heard.refusals, 0);
    }
    let listed = site.hub.send(ListSensors).await.unwrap();
    assert_eq!(listed.len(), sensors.len());
    assert!(listed.iter().all(|sensor| sensor.installed == VERSION.get()));
}

pub(crate) async fn all_arrive(site: &Site, sensors: &[Sensor]) {
    let children: Vec<_> = sensors.iter().map(Sensor::power_up).collect();
    for child in children {
        finished(child).await;
    }
    check(site, sensors).await;
}

pub(crate) fn fleet(dir: &std::path::Path, carrier: &str, gateway: SocketAddr, more: &str) -> Vec<Sensor> {
    (1..=3).map(|seed| Sensor::new(dir, seed, carrier, gateway, more)).collect()
}

#[actix::test]
async fn over_coap() {
    let dir = tempfile::tempdir().unwrap();
    let site = Site::start(dir.path(), 100_001);
    let gateway = coap(&site).await;
    all_arrive(&site, &fleet(dir.path(), "coap", gateway, "block = 1024\n")).await;
}

#[actix::test]
async fn over_coap_in_small_blocks_with_power_cuts() {
    let dir = tempfile::tempdir().unwrap();
    let site = Site::start(dir.path(), 400_000);
    let gateway = coap(&site).await;
    let sensor = Sensor::new(dir.path(), 1, "coap", gateway, "block = 64\n");
    for bytes in [10_000, 150_000, 300_000] {
        cut_power(&sensor, sensor.power_up(), bytes).await;
    }
    all_arrive(&site, &[sensor]).await;
}

#[actix::test]
async fn over_mqtt_with_mosquitto() {
    let dir = tempfile::tempdir().unwrap();
    let Some((_broker, address)) = broker::mosquitto(dir.path()).await else { return };
    let site = Site::start(dir.path(), 100_001);
    mqtt(&site, address);
    all_arrive(&site, &fleet(dir.path(), "mqtt", address, "")).await;
}

#[actix::test]
async fn over_mqtt_with_mosquitto_and_power_cuts() {
    let dir = tempfile::tempdir().unwrap();
    let Some((_broker, address)) = broker::mosquitto(dir.path()).await else { return };
    let site = Site::start(dir.path(), 1_000_000);
    mqtt(&site, address);
    let sensor = Sensor::new(dir.path(), 2, "mqtt", address, "block = 128\nwindow = 2\n");
    for bytes in [10_000, 300_000, 700_000] {
        cut_power(&sensor, sensor.power_up(), bytes).await;
    }
    all_arrive(&site, &[sensor]).await;
}

#[actix::test]
async fn over_mqtt_with_the_embedded_broker() {
    let dir = tempfile::tempdir().unwrap();
    let address = broker::rumqttd();
    let site = Site::start(dir.path(), 1_000_000);
    mqtt(&site, address);
    // No power is cut, and there is only one disk for all.
    all_arrive(&site, &fleet(dir.path(), "mqtt", address, "block = 1024\nsync = false\n")).await;
}

/// Who is told to come back comes back.
#[actix::test]
async fn over_both_with_less_than_they_would_take() {
    let dir = tempfile::tempdir().unwrap();
    let address = broker::rumqttd();
    let rate = Some(40_000);
    let limits = Limits { mqtt_bytes_per_sec: rate, coap_bytes_per_sec: rate, ..Limits::default() };
    let site = Site::with(dir.path(), 50_001, OPEN, limits);
    let gateway = coap(&site).await;
    mqtt(&site, address);
    let sensors = [
        Sensor::new(dir.path(), 1, "coap", gateway, "block = 1024\n"),
        Sensor::new(dir.path(), 2, "mqtt", address, "block = 512\nwindow = 16\n"),
    ];
    all_arrive(&site, &sensors).await;
}
