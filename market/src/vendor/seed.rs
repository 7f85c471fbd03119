//! Serves what was published until it is told to stop: packages to all, secrets to who may join.
//!
//! Releases that are published while it runs are picked up from the database. Seeding is meant to last
//! until enough distributors have joined (paper, 4.4.2).

use std::collections::BTreeSet;
use std::time::Instant;

use anyhow::Context as _;
use posthouse_dsn::{Codec, Dsn, Inbound};
use posthouse_protocol::join;
use posthouse_protocol::package::Package;
use posthouse_protocol::release;
use serde::Serialize;
use tokio::sync::mpsc;

use super::admission::Gate;
use super::config::Config;
use super::package::Files;
use super::store::{ReleaseRow, State, Store};
use crate::console;
use crate::database::Lock;
use crate::release::{cid, withheld};

/// Told once, when others can connect.
#[derive(Debug, Serialize)]
struct Ready {
    peer_id: String,
    addresses: Vec<String>,
}

pub(super) async fn run(config: &Config, json: bool) -> anyhow::Result<()> {
    let release_key = config.release_key()?.release_key();
    let keypair = config.keys.peer(&config.file)?;
    let store_path = config.state_dir.join("dsn");
    let dsn_config = config.dsn.config(&config.file, keypair, store_path, &[join::PROTOCOL], true)?;
    crate::secret_file::create_folder(&config.state_dir)?;
    let _lock = Lock::take(&config.state_dir, "seed.lock")?;
    let store = Store::open(&config.state_dir)?;
    let (dsn, inbound) = Dsn::start(dsn_config).await?;
    let addresses = dsn.addresses().iter().map(ToString::to_string).collect();
    console::report(json, &Ready { peer_id: dsn.peer_id().to_string(), addresses })?;
    let gate = Gate::new(config.chain.id(), config.join.clone());
    let mut seeder = Seeder { config, store, dsn, gate, release_key, seeded: BTreeSet::new() };
    let outcome = seeder.serve(inbound).await;
    seeder.dsn.stop().await;
    outcome
}

struct Seeder<'a> {
    config: &'a Config,
    store: Store,
    dsn: Dsn,
    gate: Gate,
    release_key: posthouse_protocol::id::ReleaseKey,
    seeded: BTreeSet<u64>,
}

impl Seeder<'_> {
    async fn serve(&mut self, mut inbound: mpsc::Receiver<Inbound>) -> anyhow::Result<()> {
        let mut look = tokio::time::interval(self.config.chain.poll());
        let mut stop = console::stop_signal()?;
        loop {
            tokio::select! {
                _ = look.tick() => self.pick_up().await?,
                Some(request) = inbound.recv() => self.answer(request),
                () = stop.recv() => return Ok(()),
                else => return Ok(()),
            }
        }
    }

    fn answer(&mut self, Inbound { peer, body, reply, .. }: Inbound) {
        let answer = self.gate.answer(&peer, &body, Instant::now());
        // Who asked and went away will ask again.
        let _ = reply.send(answer.to_vec());
    }

    /// Begins to serve what has been published since the last look.
    async fn pick_up(&mut self) -> anyhow::Result<()> {
        // A few rows of a local file, read by the key; anything long happens in `seed`.
        for row in self.store.releases()? {
            if !self.seeded.contains(&row.version) && matches!(row.state, State::Published(..)) {
                self.seed(&row).await.with_context(|| format!("version {}", row.version))?;
                self.seeded.insert(row.version);
            }
        }
        Ok(())
    }

    async fn seed(&mut self, row: &ReleaseRow) -> anyhow::Result<()> {
        let State::Published(root, published) = &row.state else { return Ok(()) };
        let package = Package::decode(&root.block)?;
        let release = release::open(&package.release, &self.release_key)?;
        for secret in withheld(&release) {
            self.dsn.withhold(secret).await?;
        }
        let files = Files::of(self.config, row.version, row.mode);
        for file in [files.body.as_ref(), Some(&files.fleet), Some(&files.vk), Some(&files.pk)] {
            let Some(file) = file else { continue };
            self.dsn.add_file(file).await.with_context(|| file.display().to_string())?;
        }
        let block = self.dsn.put_block(root.block.clone(), Codec::DagCbor).await?;
        self.gate.add(published.bounty, row.secret.clone());
        self.dsn.provide(block).await?;
        if let Some(body) = &package.body {
            self.dsn.provide(cid(body)).await?;
        }
        tracing::info!(version = row.version, bounty = %published.bounty, package = %block, "seeding");
        Ok(())
    }
}
