//! The simulated sensor over CoAP with DTLS: each has a key of its own, and is asked for signatures where nobody else is.

use std::net::{Ipv4Addr, SocketAddr};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use posthouse_actors::coap::{Coap, Config, Keys, SessionLimits};
use posthouse_actors::sensors::{Limits, ListSensors, Policy};
use posthouse_audit::{Audit, Bounds, Kind, Record, read};
use tokio::time::timeout;

use super::fleet::{PATIENCE, Sensor, cut_power};
use super::site::Site;
use super::update::all_arrive;

/// Before the endpoint's port is known, which wants the devices' names.
const NOWHERE: (Ipv4Addr, u16) = (Ipv4Addr::LOCALHOST, 1);
/// Of those that nobody answers: how soon they give up, and so how long the gateway has to write down why.
const PACE: &str = "wake_ms = 50\nawake_ms = 200\nblock_timeout_ms = 100\ncheckpoint = 4096\n";

fn secret(path: &Path, text: &str) {
    std::fs::write(path, text).unwrap();
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600)).unwrap();
}

/// The pre-shared key of a sensor.
fn key(sensor: &Sensor) -> String {
    sensor.device().to_string()
}

fn identity(sensor: &Sensor) -> String {
    format!("sensor-{}", &sensor.device().to_string()[..4])
}

/// A site that asks nobody for a signature who does not show a key, and its endpoint.
async fn site(dir: &Path, len: usize, sensors: &[Sensor]) -> (Site, SocketAddr) {
    let line = |sensor| format!("{} {} {}\n", identity(sensor), sensor.device(), key(sensor));
    let lines: String = sensors.iter().map(line).collect();
    keyed(dir, len, &lines, Audit::nowhere()).await
}

/// The same with these lines of keys, and a log of whom it refuses.
async fn keyed(dir: &Path, len: usize, lines: &str, audit: Audit) -> (Site, SocketAddr) {
    let site = Site::with(dir, len, Policy::default(), Limits::default());
    let file = dir.join("keys");
    secret(&file, lines);
    let dtls = Some((Keys::load(&file).unwrap(), SessionLimits::default()));
    let config = Config { dtls, audit, ..Config::new((Ipv4Addr::LOCALHOST, 0).into()) };
    let address = Coap::start(config, &site.hub).await.unwrap().1;
    (site, address)
}

/// Tells a sensor where the gateway is, and who it is to it.
fn configure(sensor: &Sensor, gateway: SocketAddr, key: &str, more: &str) {
    let file = sensor.dir().join("psk");
    secret(&file, key);
    let (identity, file) = (identity(sensor), file.display());
    let psk = format!("coap_psk_identity = \"{identity}\"\ncoap_psk_key_file = \"{file}\"\n");
    sensor.configure("coap", gateway, &(psk + more));
}

/// One of them with power cuts: each power-up makes another session.
#[actix::test]
async fn over_coap_with_dtls() {
    let dir = tempfile::tempdir().unwrap();
    let sensors: Vec<_> =
        (1..=3).map(|seed| Sensor::new(dir.path(), seed, "coap", NOWHERE.into(), "")).collect();
    let (site, gateway) = site(dir.path(), 100_001, &sensors).await;
    for (sensor, more) in sensors.iter().zip(["block = 64\n", "", "block = 1024\n"]) {
        configure(sensor, gateway, &key(sensor), more);
    }
    for bytes in [10_000, 50_000] {
        cut_power(&sensors[0], sensors[0].power_up(), bytes).await;
    }
    all_arrive(&site, &sensors).await;
}

/// What a sensor with this key says in one wake to a gateway with this line of keys, and what the gateway writes down of it.
async fn refused(sensor: &Sensor, line: &str, key: &str, dir: &Path) -> (String, Vec<Record>) {
    let file = dir.join("audit");
    let audit = Audit::at(&file, Bounds::default());
    let (site, gateway) = keyed(dir, 1000, line, audit.clone()).await;
    configure(sensor, gateway, key, "");
    let running = sensor.program(&["--once"]).stdout(std::process::Stdio::piped()).output();
    let output = timeout(PATIENCE, running).await.expect("one wake ends").unwrap();
    assert!(site.hub.send(ListSensors).await.unwrap().is_empty());
    assert!(audit.flush(PATIENCE));
    let mut records = Vec::new();
    let odd = read::read(&file, &read::Filter::default(), |record, _| {
        records.push(record.clone());
        Ok(())
    });
    assert_eq!(odd.unwrap(), 0);
    assert!(records.iter().all(|record| record.kind == Kind::SensorRefused && record.who.is_some()));
    (String::from_utf8(output.stdout).unwrap(), records)
}

#[actix::test]
async fn a_wrong_key_reaches_nobody_and_is_written_down() {
    let dir = tempfile::tempdir().unwrap();
    let sensor = Sensor::paced(dir.path(), 1, "coap", NOWHERE.into(), PACE, "");
    let (wrong, identity) = ("5ec2e7".repeat(6), identity(&sensor));
    let line = format!("{identity} {} {}\n", sensor.device(), key(&sensor));
    let (said, records) = refused(&sensor, &line, &wrong, dir.path()).await;
    assert!(said.contains("\"event\":\"unreachable\"") && said.contains("DTLS"), "{said}");
    assert!(!said.contains(&wrong));
    let reason = format!("over DTLS: wrong key: \"{identity}\"");
    let is_it = |record: &Record| {
        (record.device.as_ref(), record.reason.as_ref())
            == (Some(&sensor.device().to_string()), Some(&reason))
    };
    assert!(!records.is_empty() && records.iter().all(is_it), "{records:?}");
}

#[actix::test]
async fn an_unknown_identity_is_written_down() {
    let dir = tempfile::tempdir().unwrap();
    let sensor = Sensor::paced(dir.path(), 1, "coap", NOWHERE.into(), PACE, "");
    let line = format!("another {} {}\n", sensor.device(), key(&sensor));
    let (said, records) = refused(&sensor, &line, &key(&sensor), dir.path()).await;
    assert!(said.contains("\"event\":\"unreachable\""), "{said}");
    let reason = format!("over DTLS: unknown identity: \"{}\"", identity(&sensor));
    let is_it = |record: &Record| (&record.device, record.reason.as_ref()) == (&None, Some(&reason));
    assert!(!records.is_empty() && records.iter().all(is_it), "{records:?}");
}

/// A line with another sensor's device id: the sensor has a session, and is refused in it. Both sides say so.
#[actix::test]
async fn a_key_of_another_device_is_told_on_both_sides() {
    let dir = tempfile::tempdir().unwrap();
    let sensor = Sensor::new(dir.path(), 1, "coap", NOWHERE.into(), "");
    let other = "0e".repeat(16);
    let line = format!("{} {other} {}\n", identity(&sensor), key(&sensor));
    let (said, records) = refused(&sensor, &line, &key(&sensor), dir.path()).await;
    let denied = said.lines().find(|line| line.contains("\"event\":\"denied\""));
    let denied = denied.unwrap_or_else(|| panic!("{said}"));
    assert!(
        denied.contains("\"what\":\"hello\"") && denied.contains("4.03 this session is another"),
        "{said}"
    );
    let [record] = &records[..] else { panic!("once a session: {records:?}") };
    assert_eq!(record.device, Some(sensor.device().to_string()));
    assert_eq!(record.reason, Some(format!("over DTLS: another device's key: {other}'s")));
}
