//! Brokers: mosquitto as in the field, and the one that the demonstration embeds.

use std::collections::HashMap;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::Stdio;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Instant;

use posthouse_actors::config;
use posthouse_actors::mqtt::{Mirror, Mqtt};
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::{Child, Command};

use super::fleet::PATIENCE;
use super::site::Site;

/// A port that nobody has, below those that are given to whoever asks the system for any (`ip_local_port_range`); other
/// processes begin at other ones.
fn free_port() -> u16 {
    static GIVEN: AtomicU32 = AtomicU32::new(0);
    let first = std::process::id().wrapping_mul(16);
    let nth = |_| 10_000 + (first.wrapping_add(GIVEN.fetch_add(1, Ordering::Relaxed)) % 20_000) as u16;
    let free = |port: &u16| TcpListener::bind((Ipv4Addr::LOCALHOST, *port)).is_ok();
    (0..20_000).map(nth).find(free).expect("a port is free")
}

/// By whoever starts it: in a namespace where there is only root it could become nobody else.
const OPEN: &str =
    "user root\nallow_anonymous true\npersistence false\nset_tcp_nodelay true\nmax_queued_messages 10000\n";

/// A user who may read everything at a broker with TLS.
pub(crate) const WATCHER: &str = "watcher";

/// Starts mosquitto, open to all; nothing if it is not installed.
pub(crate) async fn mosquitto(dir: &Path) -> Option<(Child, SocketAddr)> {
    mosquitto_at(dir, free_port()).await
}

/// The same at a given port, without anything that one before it knew.
pub(crate) async fn mosquitto_at(dir: &Path, port: u16) -> Option<(Child, SocketAddr)> {
    start(dir, port, format!("listener {port} 127.0.0.1\n{OPEN}")).await
}

/// The user that the gateway is at a broker with TLS.
pub(crate) const GATEWAY: &str = "posthouse";

/// Starts mosquitto as `packaging/mosquitto` configures it, with certificates for these users in `dir`.
pub(crate) async fn mosquitto_with_tls(dir: &Path, users: &[String]) -> Option<(Child, SocketAddr)> {
    mosquitto_but_for(dir, users, "").await
}

/// The same without one of the lines of its configuration.
pub(crate) async fn mosquitto_but_for(
    dir: &Path,
    users: &[String],
    line: &str,
) -> Option<(Child, SocketAddr)> {
    let packaging = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../packaging/mosquitto"));
    let certificates = |kind: &str, names: &[String]| {
        let mut command = std::process::Command::new(packaging.join("certificates.sh"));
        assert!(command.arg(dir).arg(kind).args(names).status().unwrap().success());
    };
    certificates("broker", &["localhost".into(), "127.0.0.1".into()]);
    certificates("client", users);
    // What the site adds: somebody who looks.
    let acl = std::fs::read_to_string(packaging.join("acl")).unwrap();
    std::fs::write(dir.join("acl"), format!("{acl}\nuser {WATCHER}\ntopic read #\n")).unwrap();
    let text = std::fs::read_to_string(packaging.join("posthouse.conf")).unwrap();
    let text = text.replace("/etc/mosquitto/posthouse", dir.to_str().unwrap());
    assert!(text.contains(line));
    let text = text.replace(line, "");
    // The broker of a test run by root would otherwise become another user, who may not read the key.
    let port = free_port();
    let text = text.replace("listener 8883", &format!("listener {port} 127.0.0.1"));
    start(dir, port, text + "user root\n").await
}

/// Has a site's gateway speak at such a broker.
pub(crate) fn gateway_with_tls(site: &Site, dir: &Path, broker: SocketAddr, mirror: Vec<Mirror>) {
    let file = |name: &str| Some(dir.join(name));
    let mqtt = Some(config::Mqtt {
        host: broker.ip().to_string(),
        port: broker.port(),
        client_id: GATEWAY.into(),
        username: None,
        password_file: None,
        tls_ca: file("ca.crt"),
        tls_cert: file("posthouse.crt"),
        tls_key: file("posthouse.key"),
        authenticated: true,
        mirror,
        max_bytes_per_sec: None,
    });
    let sensors = config::Sensors { mqtt, ..config::Sensors::default() };
    Mqtt::start(&sensors.mqtt().unwrap().unwrap(), &site.hub).unwrap();
}

async fn start(dir: &Path, port: u16, config: String) -> Option<(Child, SocketAddr)> {
    let program = super::find("mosquitto")?;
    let file = dir.join("mosquitto.conf");
    std::fs::write(&file, config).unwrap();
    let mut child = Command::new(program)
        .args(["-v", "-c", file.to_str().unwrap()])
        .stderr(Stdio::piped())
        .stdout(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let mut log = BufReader::new(child.stderr.take().unwrap()).lines();
    let mut said = Vec::new();
    loop {
        let line = log.next_line().await.unwrap();
        let line = line.unwrap_or_else(|| panic!("mosquitto ended: {said:?}"));
        if line.contains(" running") {
            break;
        }
        said.push(line);
    }
    // Its log goes on; nobody reading it must not stop it.
    tokio::spawn(async move { while let Ok(Some(_)) = log.next_line().await {} });
    Some((child, (Ipv4Addr::LOCALHOST, port).into()))
}

/// Starts rumqttd in this process, for MQTT 5.
pub(crate) fn rumqttd() -> SocketAddr {
    let listen = SocketAddr::from((Ipv4Addr::LOCALHOST, free_port()));
    let server = rumqttd::ServerSettings {
        name: "v5".into(),
        listen,
        tls: None,
        next_connection_delay_ms: 1,
        connections: rumqttd::ConnectionSettings {
            connection_timeout_ms: 5000,
            max_payload_size: 8192,
            max_inflight_count: 200,
            auth: None,
            external_auth: None,
            dynamic_filters: true,
        },
    };
    let router = rumqttd::RouterConfig {
        max_connections: 256,
        max_outgoing_packet_count: 1024,
        max_segment_size: 1 << 20,
        max_segment_count: 16,
        ..rumqttd::RouterConfig::default()
    };
    let v5 = Some(HashMap::from([("1".to_owned(), server)]));
    let config = rumqttd::Config { router, v5, ..rumqttd::Config::default() };
    std::thread::spawn(move || rumqttd::Broker::new(config).start().unwrap());
    // It does not say when it listens.
    let start = Instant::now();
    while let Err(error) = TcpStream::connect(listen) {
        assert!(start.elapsed() < PATIENCE, "{error}");
        std::thread::yield_now();
    }
    listen
}
