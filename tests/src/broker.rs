//! MQTT brokers: one in the process for the demo, mosquitto for the scenarios.

use std::{
    collections::HashMap,
    net::{SocketAddr, TcpStream},
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::Result;
use posthouse_devchain::free_port;
use tokio::process::Command;

use crate::{poll::until, process::Process};

/// A broker on loopback that ends with this value (the embedded one: with the process; somebody else's: not at all).
#[derive(Debug)]
pub struct Broker {
    address: SocketAddr,
    process: Option<Process>,
}

impl Broker {
    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The process id, where it is a process of its own.
    #[must_use]
    pub fn id(&self) -> Option<u32> {
        self.process.as_ref()?.id()
    }

    /// `rumqttd` on a thread of this process. It cannot be stopped apart from the process, so that it serves the demo
    /// only.
    pub async fn embedded() -> Result<Self> {
        let address = free_port()?;
        let mut broker = rumqttd::Broker::new(config(address));
        std::thread::Builder::new().name("broker".into()).spawn(move || broker.start().map_err(Box::new))?;
        listening("the embedded broker", address).await?;
        Ok(Self { address, process: None })
    }

    /// One that somebody else runs there.
    #[must_use]
    pub fn elsewhere(address: SocketAddr) -> Self {
        Self { address, process: None }
    }

    /// mosquitto, without TLS, with its state in `folder`.
    pub async fn mosquitto(program: &Path, folder: &Path) -> Result<Self> {
        let address = free_port()?;
        let file = folder.join("mosquitto.conf");
        let port = address.port();
        std::fs::write(
            &file,
            format!(
                "listener {port} 127.0.0.1\nallow_anonymous true\npersistence false\nset_tcp_nodelay true\n\
                 max_queued_messages 20000\nuser root\n"
            ),
        )?;
        let mut command = Command::new(program);
        command.arg("-c").arg(&file);
        let process = Process::start("mosquitto", command, &folder.join("mosquitto.log"))?;
        listening("mosquitto", address).await?;
        Ok(Self { address, process: Some(process) })
    }
}

/// A program by name on the usual path, or where Debian puts daemons; where it was looked for is printed when it is
/// absent, so that a skipped scenario is seen.
#[must_use]
pub fn program(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders: Vec<PathBuf> = std::env::split_paths(&path).chain([PathBuf::from("/usr/sbin")]).collect();
    let found = folders.iter().map(|f| f.join(name)).find(|p| p.is_file());
    if found.is_none() {
        tracing::warn!("{name} is not here: looked in {}", path.display());
    }
    found
}

async fn listening(what: &str, address: SocketAddr) -> Result<()> {
    until(format!("{what} at {address}"), Duration::from_secs(10), async || {
        Ok(TcpStream::connect(address).ok().map(drop))
    })
    .await
}

fn config(listen: SocketAddr) -> rumqttd::Config {
    let connections = rumqttd::ConnectionSettings {
        connection_timeout_ms: 5_000,
        max_payload_size: 64 * 1024,
        max_inflight_count: 200,
        auth: None,
        external_auth: None,
        dynamic_filters: true,
    };
    let server = |name: &str| rumqttd::ServerSettings {
        name: name.into(),
        listen,
        tls: None,
        next_connection_delay_ms: 1,
        connections: connections.clone(),
    };
    rumqttd::Config {
        id: 0,
        router: rumqttd::RouterConfig {
            max_connections: 2_048,
            max_outgoing_packet_count: 200,
            max_segment_size: 1024 * 1024,
            max_segment_count: 10,
            ..Default::default()
        },
        v5: Some(HashMap::from([("v5".to_owned(), server("v5"))])),
        ..Default::default()
    }
}
