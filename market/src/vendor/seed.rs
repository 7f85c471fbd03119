//! Serves what was published until it is told to stop: packages to all, secrets to who may join.
//!
//! Releases that are published while it runs are picked up from the database. Seeding is meant to last
//! until enough distributors have joined (paper, 4.4.2).

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use posthouse_dsn::{Cid, Codec, Dsn, Inbound};
use posthouse_protocol::id::{Bounty, ReleaseKey};
use posthouse_protocol::join;
use posthouse_protocol::package::Package;
use posthouse_protocol::release;
use serde::Serialize;
use tokio::sync::{Mutex, mpsc};
use tokio::task::JoinSet;
use zeroize::Zeroizing;

use super::admission::Gate;
use super::config::Config;
use super::package::Files;
use super::store::{ReleaseRow, State, Store};
use crate::console;
use crate::database::Lock;
use crate::release::{cid, withheld};
use crate::service::{self, Beat, Watchdog};

/// What a round of the seeder may take beyond the time between two: it looks into a local file.
const LONGEST: Duration = Duration::from_secs(30);

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
    let addresses = config.dsn.reached_at(&dsn);
    console::report(json, &Ready { peer_id: dsn.peer_id().to_string(), addresses })?;
    let gate = Gate::new(config.chain.id(), config.join.clone());
    let (begun, preparing, turn) = (BTreeSet::new(), JoinSet::new(), Arc::default());
    let mut watchdog = Watchdog::default();
    let beat = watchdog.beat("seeder", config.chain.poll().saturating_mul(2).saturating_add(LONGEST));
    let peer = dsn.clone();
    let mut seeder = Seeder { config, store, dsn, gate, release_key, begun, preparing, turn, beat };
    let outcome = tokio::select! {
        outcome = seeder.serve(inbound) => outcome,
        () = watchdog.feed(async |within| silent(&peer, within).await) => Ok(()),
    };
    seeder.dsn.stop().await;
    outcome
}

/// A peer that does not answer within this time.
async fn silent(dsn: &Dsn, within: Duration) -> Vec<&'static str> {
    match tokio::time::timeout(within, dsn.status()).await {
        Ok(Ok(_)) => Vec::new(),
        _ => vec!["peer"],
    }
}

struct Seeder<'a> {
    config: &'a Config,
    store: Store,
    dsn: Dsn,
    gate: Gate,
    release_key: ReleaseKey,
    begun: BTreeSet<u64>,
    /// Releases whose files are being hashed; requests are answered meanwhile.
    preparing: JoinSet<anyhow::Result<Seeded>>,
    /// One at a time: releases share files.
    turn: Arc<Mutex<()>>,
    beat: Beat,
}

/// A package that is served: its secret may be given out.
struct Seeded {
    version: u64,
    bounty: Bounty,
    secret: Zeroizing<Vec<u8>>,
    announce: Vec<Cid>,
}

impl Seeder<'_> {
    async fn serve(&mut self, mut inbound: mpsc::Receiver<Inbound>) -> anyhow::Result<()> {
        let mut look = tokio::time::interval(self.config.chain.poll());
        let mut more = tokio::time::interval(service::MORE_EVERY);
        let mut stop = console::stop_signal()?;
        // What was published before the start is hashed in it, which takes minutes for gigabytes.
        self.pick_up()?;
        let mut is_ready = false;
        loop {
            if !is_ready && self.preparing.is_empty() {
                service::ready(&format!("vendor {}", self.dsn.peer_id()));
                is_ready = true;
            }
            tokio::select! {
                _ = look.tick() => self.pick_up()?,
                request = inbound.recv() => self.answer(request.context("the peer of the network has ended")?),
                Some(seeded) = self.preparing.join_next() => self.open(seeded??),
                _ = more.tick(), if !is_ready => service::starting(),
                () = stop.recv() => break,
            }
        }
        service::stopping();
        Ok(())
    }

    fn answer(&mut self, Inbound { peer, body, reply, .. }: Inbound) {
        let answer = Zeroizing::new(self.gate.answer(&peer, &body, Instant::now()).to_vec());
        // Who asked and went away will ask again.
        let _ = reply.send(answer.to_vec());
    }

    /// Begins to serve what has been published since the last look: a few rows of a local file.
    fn pick_up(&mut self) -> anyhow::Result<()> {
        self.beat.moved();
        for row in self.store.releases()? {
            if matches!(row.state, State::Published(..)) && self.begun.insert(row.version) {
                let files = Files::of(self.config, row.version, row.mode);
                let (dsn, turn) = (self.dsn.clone(), self.turn.clone());
                self.preparing.spawn(prepare(dsn, row, files, self.release_key, turn));
            }
        }
        Ok(())
    }

    fn open(&mut self, seeded: Seeded) {
        let Seeded { version, bounty, secret, announce } = seeded;
        tracing::info!(version, %bounty, "seeding");
        self.gate.add(bounty, secret);
        for cid in announce {
            tokio::spawn(announce_one(self.dsn.clone(), cid));
        }
    }
}

/// The DHT is told again and again while the peer runs; a first time that fails is no more than late.
async fn announce_one(dsn: Dsn, cid: Cid) {
    if let Err(error) = dsn.provide(cid).await {
        tracing::warn!(%cid, %error, "not announced yet");
    }
}

async fn prepare(
    dsn: Dsn,
    row: ReleaseRow,
    files: Files,
    release_key: ReleaseKey,
    turn: Arc<Mutex<()>>,
) -> anyhow::Result<Seeded> {
    let _turn = turn.lock().await;
    let version = row.version;
    let prepared = serve(&dsn, row, &files, &release_key).await;
    prepared.with_context(|| format!("version {version}"))
}

async fn serve(
    dsn: &Dsn,
    row: ReleaseRow,
    files: &Files,
    release_key: &ReleaseKey,
) -> anyhow::Result<Seeded> {
    let State::Published(root, published) = row.state else { bail!("not published") };
    let package = Package::decode(&root.block)?;
    let release = release::open(&package.release, release_key)?;
    for secret in withheld(&release) {
        dsn.withhold(secret).await?;
    }
    for file in files.body.iter().chain([&files.fleet, &files.vk, &files.pk]) {
        dsn.add_file(file).await.with_context(|| file.display().to_string())?;
    }
    let block = dsn.put_block(root.block, Codec::DagCbor).await?;
    let announce = [block].into_iter().chain(package.body.as_ref().map(cid)).collect();
    Ok(Seeded { version: row.version, bounty: published.bounty, secret: row.secret, announce })
}
