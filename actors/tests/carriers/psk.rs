//! The simulated sensor over CoAP with DTLS: each has a key of its own, and is asked for signatures where nobody else is.

use std::net::{Ipv4Addr, SocketAddr};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use posthouse_actors::coap::{Coap, Config, Keys, SessionLimits};
use posthouse_actors::sensors::{Limits, ListSensors, Policy};
use tokio::time::timeout;

use super::fleet::{PATIENCE, Sensor, cut_power};
use super::site::Site;
use super::update::all_arrive;

/// Before the endpoint's port is known, which wants the devices' names.
const NOWHERE: (Ipv4Addr, u16) = (Ipv4Addr::LOCALHOST, 1);
const PACE: &str = "wake_ms = 50\nawake_ms = 200\nblock_timeout_ms = 20\ncheckpoint = 4096\n";

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
    let site = Site::with(dir, len, Policy::default(), Limits::default());
    let line = |sensor| format!("{} {} {}\n", identity(sensor), sensor.device(), key(sensor));
    let file = dir.join("keys");
    secret(&file, &sensors.iter().map(line).collect::<String>());
    let dtls = Some((Keys::load(&file).unwrap(), SessionLimits::default()));
    let config = Config { dtls, ..Config::new((Ipv4Addr::LOCALHOST, 0).into()) };
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

#[actix::test]
async fn a_wrong_key_reaches_nobody() {
    let dir = tempfile::tempdir().unwrap();
    let sensors = [Sensor::paced(dir.path(), 1, "coap", NOWHERE.into(), PACE, "")];
    let (site, gateway) = site(dir.path(), 1000, &sensors).await;
    let wrong = "5ec2e7".repeat(6);
    configure(&sensors[0], gateway, &wrong, "");
    let running = sensors[0].program(&["--once"]).stdout(std::process::Stdio::piped()).output();
    let output = timeout(PATIENCE, running).await.expect("one wake ends").unwrap();
    let said = String::from_utf8(output.stdout).unwrap();
    assert!(said.contains("\"event\":\"unreachable\"") && said.contains("DTLS"), "{said}");
    assert!(!said.contains(&wrong));
    assert!(site.hub.send(ListSensors).await.unwrap().is_empty());
}
