//! Nodes on loopback.

use std::future::Future;
use std::path::{Path, PathBuf};
use std::time::Duration;

use posthouse_dsn::{Config, Dsn, Event, Inbound, Keypair, Network, Role};
use sha2::{Digest, Sha256};
use tempfile::TempDir;
use tokio::sync::{broadcast, mpsc};

/// A bound on waits that should be far shorter.
const PATIENCE: Duration = Duration::from_secs(120);

pub(crate) const ECHO: &str = "/test/echo/1";

pub(crate) struct Node {
    pub(crate) dsn: Dsn,
    pub(crate) inbound: mpsc::Receiver<Inbound>,
    pub(crate) folder: TempDir,
}

pub(crate) async fn within<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, future).await.expect("in time")
}

/// A configuration of a client of a fleet of its own kind, which listens nowhere.
pub(crate) fn config(folder: &Path) -> Config {
    let mut config = Config::new(Keypair::generate_ed25519(), folder.join("store"));
    config.network = Network::Fleet("test".into());
    config.request_protocols = vec![ECHO.into()];
    config.limits.lookup_backoff = Duration::from_millis(50);
    config
}

pub(crate) async fn start(folder: TempDir, config: Config) -> Node {
    let (dsn, inbound) = within(Dsn::start(config)).await.unwrap();
    Node { dsn, inbound, folder }
}

/// A DHT server that joins through `bootstrap`.
pub(crate) async fn server(bootstrap: &[&Node]) -> Node {
    server_with(bootstrap, |_| {}).await
}

pub(crate) async fn server_with(bootstrap: &[&Node], change: impl FnOnce(&mut Config)) -> Node {
    node(bootstrap, |config| {
        config.role = Role::Server;
        config.listen = vec!["/ip4/127.0.0.1/tcp/0".parse().unwrap()];
        change(config);
    })
    .await
}

/// A DHT client that dials and does not listen.
pub(crate) async fn client(bootstrap: &[&Node]) -> Node {
    node(bootstrap, |_| {}).await
}

pub(crate) async fn node(bootstrap: &[&Node], change: impl FnOnce(&mut Config)) -> Node {
    let folder = tempfile::tempdir().unwrap();
    let mut config = config(folder.path());
    config.bootstrap = bootstrap.iter().flat_map(|node| node.dsn.addresses()).collect();
    change(&mut config);
    start(folder, config).await
}

impl Node {
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Knows where `other` is, without a connection.
    pub(crate) async fn knows(&self, other: &Node) {
        for addr in other.dsn.addresses() {
            self.dsn.add_address(other.dsn.peer_id(), addr).await.unwrap();
        }
    }

    /// Writes a file and adds it.
    pub(crate) async fn seeds(&self, bytes: &[u8]) -> posthouse_dsn::FileAdded {
        let path = self.path("seed");
        std::fs::write(&path, bytes).unwrap();
        within(self.dsn.add_file(path)).await.unwrap()
    }
}

/// Waits for an event that `wanted` accepts.
pub(crate) async fn event<T>(
    events: &mut broadcast::Receiver<Event>,
    mut wanted: impl FnMut(&Event) -> Option<T>,
) -> T {
    within(async {
        loop {
            match events.recv().await {
                Ok(event) => {
                    if let Some(found) = wanted(&event) {
                        return found;
                    }
                }
                Err(broadcast::error::RecvError::Lagged(_)) => {}
                Err(closed) => panic!("no further event: {closed}"),
            }
        }
    })
    .await
}

/// Bytes that differ everywhere, of any length.
pub(crate) fn bytes(len: usize, seed: u64) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut bytes = Vec::with_capacity(len + 8);
    while bytes.len() < len {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend(state.to_le_bytes());
    }
    bytes.truncate(len);
    bytes
}

pub(crate) fn sha256(bytes: &[u8]) -> [u8; 32] {
    Sha256::digest(bytes).into()
}
