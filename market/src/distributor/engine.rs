//! Drives the machine: one thread that owns it and the database, tasks for everything that waits.
//!
//! A message goes into the machine; the rows that come out are committed in one transaction; only then
//! is anything else acted on. Chain, network and proofs run elsewhere and come back as messages.

use std::collections::HashMap;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use alloy::primitives::B256;
use posthouse_audit::{Audit, Kind, Record};
use posthouse_circuits::cipher::apply_payload;
use posthouse_circuits::{ProvingKey, Statement, SystemRandomness};
use posthouse_contracts::chain::{At, Health};
use posthouse_dsn::{Cid, Codec, Dsn, Inbound, Reply};
use posthouse_protocol::distributor::{
    Call, Change, Distributor, Event, Fate, Head, Input, Observation, Output, Slot, Standing, Watch, Wei,
    look_up,
};
use posthouse_protocol::exchange::{Refusal, Request, Response};
use posthouse_protocol::id::{Bounty, ContentId, DeviceKey, LockHash, Payee, PeerHash};
use posthouse_protocol::secret::KeyR;
use serde::Serialize;
use tokio::runtime::Handle;
use tokio::sync::{Mutex, Semaphore, mpsc, oneshot};
use zeroize::Zeroizing;

use super::join::package_folder;
use super::market::{Gateway, Goods, LookUps, Members, Prover, Shelf, campaign, proving_key};
use super::reader::Reader;
use super::store::{CampaignRow, Store};
use crate::console;
use crate::crash::crash_point;
use crate::database::DatabaseError;
use crate::release::{cid, payload_digest, withheld};

/// Messages that wait for the machine; whoever sends one more waits too.
pub(super) const INBOX: usize = 256;
/// Readings of the chain under way for the machine's questions.
const READINGS: usize = 16;
/// Between two tries to announce a package.
const ANNOUNCE_AGAIN: Duration = Duration::from_secs(2);

/// What the tasks tell the engine.
pub(super) enum Message {
    Asked(Inbound),
    Joined(Option<Box<CampaignRow>>, Arc<Goods>),
    Over(Bounty),
    Inspected {
        bounty: Bounty,
        index: u32,
        standing: Standing,
    },
    Proved {
        bounty: Bounty,
        gateway: PeerHash,
        s: LockHash,
        cipher: Vec<u8>,
        proof: Vec<u8>,
    },
    ProofFailed {
        bounty: Bounty,
        gateway: PeerHash,
        s: LockHash,
    },
    Simulated {
        bounty: Bounty,
        gateway: PeerHash,
        result: Result<(), posthouse_protocol::distributor::CallFailure>,
    },
    Sent {
        nonce: u64,
        hash: B256,
    },
    Head(Head),
    Observed(Observation),
    /// Payments up to this final block are in the observations before.
    ReadTo(Bounty, u64),
    /// How reading the chain fares, where that has changed.
    Health(Health),
    /// How the audit log fares, likewise.
    AuditHealth(posthouse_audit::Health),
    Watching(oneshot::Sender<Vec<Watch>>),
    /// Whether it still takes messages.
    Pulse(oneshot::Sender<()>),
    Stop,
}

/// The machine with what it needs.
pub(super) struct Engine {
    pub(super) machine: Distributor,
    pub(super) store: Store,
    pub(super) payee: Payee,
    pub(super) shelf: Shelf,
    pub(super) tasks: Tasks,
    pub(super) audit: Audit,
    /// Whether what is said on stdout is JSON.
    pub(super) json: bool,
}

/// Told when a bounty was joined, once: gateways that ask for its update from here on are answered.
#[derive(Debug, Serialize)]
struct Joined {
    /// The bounty.
    joined: String,
    product: String,
    version: u64,
}

impl Engine {
    /// Runs until it is told to stop, or until state can no longer be kept, which ends the program:
    /// nothing may leave that is not on disk.
    pub(super) fn run(mut self, mut inbox: mpsc::Receiver<Message>) -> Result<(), DatabaseError> {
        while let Some(message) = inbox.blocking_recv() {
            if matches!(message, Message::Stop) {
                return Ok(());
            }
            self.take(message)?;
        }
        Ok(())
    }

    fn take(&mut self, message: Message) -> Result<(), DatabaseError> {
        let mut replies = HashMap::new();
        match message {
            Message::Asked(inbound) => self.asked(inbound, &mut replies),
            Message::Joined(row, goods) => self.joined(row, goods)?,
            Message::Over(bounty) => self.over(bounty)?,
            Message::Inspected { bounty, index, standing } => {
                self.feed(Input::Inspected { bounty, index, standing });
            }
            Message::Proved { bounty, gateway, s, cipher, proof } => {
                let made = Record { hash: Some(s.to_string()), ..of(Kind::OfferMade, &bounty) };
                self.audit.tell(Record { peer: Some(gateway.to_string()), ..made });
                self.feed(Input::Proved { bounty, gateway, s, cipher, proof });
            }
            Message::ProofFailed { bounty, gateway, s } => {
                self.feed(Input::ProofFailed { bounty, gateway, s });
            }
            Message::Simulated { bounty, gateway, result } => {
                self.feed(Input::Simulated { bounty, gateway, result });
            }
            Message::Sent { nonce, hash } => self.store.sent(nonce, &hash)?,
            Message::Head(head) => self.feed(Input::Head(head)),
            Message::Observed(observation) => self.feed(Input::Observed(observation)),
            Message::ReadTo(bounty, block) => {
                self.store.read_to(&bounty, block)?;
                crash_point("distributor.read-to");
            }
            Message::Health(health) => self.store.health(&health, unix_millis() / 1000)?,
            Message::AuditHealth(health) => self.store.audit(&health, unix_millis() / 1000)?,
            // Who asked has gone: the next poll asks again.
            Message::Watching(answer) => drop(answer.send(self.machine.watching())),
            Message::Pulse(answer) => drop(answer.send(())),
            Message::Stop => {}
        }
        self.carry_out(replies)
    }

    fn feed(&mut self, input: Input<'_>) {
        self.machine.handle(input, unix_millis());
    }

    fn asked(&mut self, inbound: Inbound, replies: &mut HashMap<u64, Reply>) {
        let Inbound { peer, body, reply, .. } = inbound;
        let Ok(request) = Request::decode(&body) else {
            return answer(reply, &Response::Refused { reason: Refusal::Malformed });
        };
        let mut entropy = Zeroizing::new([0; 32]);
        let drawn = rand::TryRngCore::try_fill_bytes(&mut rand::rngs::OsRng, entropy.as_mut_slice());
        if drawn.is_err() {
            // No randomness, no secrets: the request goes unanswered, the gateway asks again.
            return tracing::error!("the operating system gives no randomness");
        }
        replies.insert(0, reply);
        self.feed(Input::Request { id: 0, peer: &Gateway(peer), request, entropy: &entropy });
    }

    fn joined(&mut self, row: Option<Box<CampaignRow>>, goods: Arc<Goods>) -> Result<(), DatabaseError> {
        if let Some(row) = &row {
            self.store.join(row)?;
            crash_point("distributor.joined");
        }
        self.shelf.put(goods.clone());
        self.feed(Input::Join(campaign(&goods)));
        self.tasks.announce(goods);
        if let Some(row) = row {
            let (product, version) = (row.product.to_string(), row.version.get());
            let joined = Joined { joined: format!("0x{}", row.bounty), product, version };
            if let Err(error) = console::report(self.json, &joined) {
                tracing::debug!(%error, "nobody reads stdout");
            }
        }
        Ok(())
    }

    fn over(&mut self, bounty: Bounty) -> Result<(), DatabaseError> {
        let goods = self.shelf.take(&bounty);
        self.feed(Input::Leave(bounty));
        // Its exchanges' rows go first: nobody takes up those of a bounty that is over.
        self.carry_out(HashMap::new())?;
        self.store.over(&bounty)?;
        crash_point("distributor.over");
        self.tasks.clear(bounty, goods);
        Ok(())
    }

    /// Commits the rows, then does the rest in order; again for what that brings.
    fn carry_out(&mut self, mut replies: HashMap<u64, Reply>) -> Result<(), DatabaseError> {
        loop {
            let batch = Batch::of(&mut self.machine);
            if batch.is_empty() {
                return Ok(());
            }
            batch.changes.iter().for_each(|change| crash_at("before-", change));
            self.store.write(&batch.changes, &batch.payments, &self.payee)?;
            self.store.waits(&batch.waits)?;
            batch.changes.iter().for_each(|change| crash_at("", change));
            for output in batch.rest {
                self.act(output, &mut replies)?;
            }
        }
    }

    /// Tells the audit log what the chain has paid.
    fn write_down(&self, event: &Event) {
        if let Event::Paid { bounty, index, amount } = event {
            self.audit.tell(Record {
                address: Some(format!("0x{}", self.payee)),
                amount: Some(amount.to_string()),
                reason: Some(format!("for device {index} of the fleet")),
                ..of(Kind::PaymentSeen, bounty)
            });
        }
    }

    fn act(&mut self, output: Output, replies: &mut HashMap<u64, Reply>) -> Result<(), DatabaseError> {
        match output {
            Output::Send { id, response } => {
                if let Some(reply) = replies.remove(&id) {
                    answer(reply, &response);
                }
            }
            Output::Event(event) => {
                tell(&event);
                self.write_down(&event);
            }
            Output::LookUp { id, bounty, gateway, keys } => {
                if let Some((reply, goods)) = replies.remove(&id).zip(self.shelf.get(&bounty)) {
                    self.tasks.look_up(goods, gateway, keys, reply);
                }
            }
            Output::Inspect { bounty, index } => self.tasks.inspect(bounty, index),
            Output::Prove { bounty, gateway, s, r } => match self.shelf.get(&bounty) {
                Some(goods) => self.tasks.prove(goods, gateway, s, r),
                None => self.feed(Input::ProofFailed { bounty, gateway, s }),
            },
            Output::Simulate { bounty, gateway, call, gas } => {
                if let Some(goods) = self.shelf.get(&bounty) {
                    self.tasks.simulate(goods, gateway, call, gas);
                }
            }
            Output::Submit(slot) => self.tasks.submit(self.shelf.get(&slot.bounty), slot),
            // Committed before.
            Output::Persist(_) => {}
        }
        Ok(())
    }
}

/// A record about a bounty.
fn of(kind: Kind, bounty: &Bounty) -> Record {
    Record { bounty: Some(format!("0x{bounty}")), ..Record::new(kind) }
}

fn tell(event: &Event) {
    match event {
        Event::Moved { bounty, gateway, state } => {
            tracing::info!(%bounty, %gateway, state, "exchange");
        }
        Event::Paid { bounty, index, amount } => {
            tracing::info!(%bounty, device = index, wei = %amount, "paid");
        }
        Event::Lost { bounty, index, fate } => {
            tracing::warn!(%bounty, device = index, why = fate.name(), "a receipt is lost");
        }
        Event::Closed { bounty, gateway, why } => {
            tracing::warn!(%bounty, %gateway, %why, "exchange given up");
        }
        Event::CallFailed { bounty, call, why } => {
            tracing::warn!(%bounty, call, %why, "a call would not do");
        }
        Event::Waits { bounty, gateway, worth, cost } => {
            tracing::warn!(%bounty, %gateway, %worth, %cost, "a batch is not worth its gas now, and waits");
        }
        Event::Short { bounty, gateway, wei } => {
            tracing::warn!(%bounty, %gateway, %wei, "the wallet lacks this much for a transaction, which waits");
        }
        Event::Cancelled { nonce } => {
            tracing::warn!(nonce, "a transaction would come too late: an empty one is sent in its place");
        }
        Event::NonceWasted { nonce } => {
            tracing::warn!(nonce, "a transaction had no effect");
        }
    }
}

/// What the machine put out since it was last asked: first the rows, then the rest.
struct Batch {
    changes: Vec<Change>,
    payments: Vec<(Bounty, u32, Wei)>,
    /// Exchanges that wait for a better price, or for so much more in the wallet.
    waits: Vec<(Bounty, PeerHash, Option<Wei>)>,
    rest: Vec<Output>,
}

impl Batch {
    fn of(machine: &mut Distributor) -> Self {
        let mut batch =
            Self { changes: Vec::new(), payments: Vec::new(), waits: Vec::new(), rest: Vec::new() };
        while let Some(output) = machine.poll() {
            match output {
                Output::Persist(change) => batch.changes.push(change),
                other => batch.rest.push(other),
            }
        }
        // What was earned is told once, so it is kept with the rows that say that it was told.
        batch.payments.extend(batch.rest.iter().filter_map(|output| match output {
            Output::Event(Event::Paid { bounty, index, amount }) => Some((*bounty, *index, *amount)),
            _ => None,
        }));
        batch.waits.extend(batch.rest.iter().filter_map(|output| match output {
            Output::Event(Event::Waits { bounty, gateway, .. }) => Some((*bounty, *gateway, None)),
            Output::Event(Event::Short { bounty, gateway, wei }) => Some((*bounty, *gateway, Some(*wei))),
            _ => None,
        }));
        batch
    }

    fn is_empty(&self) -> bool {
        self.changes.is_empty() && self.rest.is_empty()
    }
}

fn answer(reply: Reply, response: &Response) {
    let body = Zeroizing::new(response.to_vec());
    // Who asked and went away asks again.
    let _ = reply.send(body.to_vec());
}

/// Dies before or after a change is durable, if it is to.
fn crash_at(before: &str, change: &Change) {
    let point = |name: &str| crash_point(&format!("distributor.{before}{name}"));
    match change {
        Change::Exchange(exchange) => point(exchange.stage.name()),
        Change::Receipt(receipt) if receipt.fate == Fate::Waiting => point("receipt"),
        Change::Receipt(_) => point("fate"),
        Change::Transaction(slot) => {
            point("transaction");
            point(&format!("transaction-{}", slot.call.name()));
        }
        Change::Settled { .. } => point("settled"),
        Change::Forget { .. } => point("forget"),
    }
}

fn unix_millis() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// Work that waits, off the engine's thread. Cheap to clone.
#[derive(Clone)]
pub(super) struct Tasks {
    runtime: Handle,
    inbox: mpsc::Sender<Message>,
    reader: Reader,
    dsn: Dsn,
    readings: Arc<Semaphore>,
    looking_up: LookUps,
    announcing: Arc<Mutex<()>>,
    prover: Prover,
    shelf: Shelf,
    state_dir: PathBuf,
}

impl Tasks {
    pub(super) fn new(
        runtime: Handle,
        inbox: mpsc::Sender<Message>,
        reader: Reader,
        dsn: Dsn,
        prover: Prover,
        (shelf, state_dir): (Shelf, PathBuf),
    ) -> Self {
        let (readings, announcing) = (Arc::new(Semaphore::new(READINGS)), Arc::default());
        let looking_up = LookUps::default();
        Self { runtime, inbox, reader, dsn, readings, looking_up, announcing, prover, shelf, state_dir }
    }

    async fn send(&self, message: Message) {
        // An engine that has ended needs no answers.
        let _ = self.inbox.send(message).await;
    }

    /// Answers from the fleet's index on a thread that may wait for the disk. Whoever has one look-up under way, or comes when
    /// all threads for it are taken ([`LookUps`]), is told to ask again.
    fn look_up(&self, goods: Arc<Goods>, gateway: PeerHash, keys: Vec<DeviceKey>, reply: Reply) {
        let Some(turn) = self.looking_up.turn(gateway) else {
            return answer(reply, &Response::Refused { reason: Refusal::RateLimited });
        };
        self.runtime.spawn_blocking(move || {
            let found = look_up(&Members(goods), &keys);
            drop(turn);
            answer(reply, &found);
        });
    }

    fn inspect(&self, bounty: Bounty, index: u32) {
        let tasks = self.clone();
        self.runtime.spawn(async move {
            let Ok(_permit) = tasks.readings.acquire().await else { return };
            match tasks.standing(&bounty, index).await {
                Ok(standing) => tasks.send(Message::Inspected { bounty, index, standing }).await,
                // The gateway's next request asks again.
                Err(error) => tracing::debug!(%bounty, %error, "a share cannot be read"),
            }
        });
    }

    async fn standing(&self, bounty: &Bounty, index: u32) -> Result<Standing, super::reader::ReadError> {
        let block = self.reader.chain.head(At::Latest).await?;
        // No exchange yet, so no lock is ours.
        let nobody = LockHash::new([0; 32]);
        let seen = self.reader.standings(bounty, &nobody, &[index], At::Latest, &block).await?;
        Ok(seen.first().map_or(Standing::Claimed, |seen| seen.standing))
    }

    fn simulate(&self, goods: Arc<Goods>, gateway: PeerHash, call: Call, gas: u64) {
        let tasks = self.clone();
        self.runtime.spawn(async move {
            let Ok(_permit) = tasks.readings.acquire().await else { return };
            let result = tasks.reader.simulate(&goods, &call, gas).await;
            tasks.send(Message::Simulated { bounty: goods.bounty, gateway, result }).await;
        });
    }

    /// A failure to send is like a transaction that was dropped: the machine sends it again.
    fn submit(&self, goods: Option<Arc<Goods>>, slot: Slot) {
        let tasks = self.clone();
        self.runtime.spawn(async move {
            let (nonce, call) = (slot.nonce, slot.call.name());
            match tasks.sign_and_send(goods.as_ref(), &slot).await {
                Ok(hash) => {
                    crash_point(&format!("distributor.sent-{call}"));
                    tracing::info!(nonce, %hash, call, "sent");
                    tasks.send(Message::Sent { nonce, hash }).await;
                }
                Err(error) => tracing::warn!(nonce, call, %error, "not sent, tried again later"),
            }
        });
    }

    async fn sign_and_send(
        &self,
        goods: Option<&Arc<Goods>>,
        slot: &Slot,
    ) -> Result<B256, super::reader::ReadError> {
        let (call, gas) = self.reader.call(goods, &slot.call, slot.limit()).await?;
        let wallet = &self.reader.wallet;
        let signed = match slot.fee {
            Some(fee) => wallet.sign_at(call, slot.nonce, (fee.max.get(), fee.priority.get()), gas).await?,
            None => wallet.sign(call, slot.nonce, slot.bumps, gas).await?,
        };
        crash_point(&format!("distributor.signed-{}", slot.call.name()));
        match slot.private {
            true => wallet.send_privately(&signed.raw).await?,
            false => wallet.send(&signed.raw).await?,
        }
        Ok(signed.hash)
    }

    fn prove(&self, goods: Arc<Goods>, gateway: PeerHash, s: LockHash, r: KeyR) {
        let tasks = self.clone();
        self.runtime.spawn(async move {
            let mut key = tasks.prover.clone().lock_owned().await;
            let bounty = goods.bounty;
            let proving = tokio::task::spawn_blocking(move || {
                let loaded = proving_key(&mut key, &goods)?;
                prove(&goods, &loaded, &r)
            });
            let message = match proving.await {
                Ok(Ok((cipher, proof))) => Message::Proved { bounty, gateway, s, cipher, proof },
                Ok(Err(error)) => {
                    tracing::error!(%bounty, %error, "no proof");
                    Message::ProofFailed { bounty, gateway, s }
                }
                Err(error) => {
                    tracing::error!(%bounty, %error, "the prover died");
                    Message::ProofFailed { bounty, gateway, s }
                }
            };
            tasks.send(message).await;
        });
    }

    /// Serves the package and says so in the DHT, until that has worked once or the bounty is over; from then on the peer
    /// repeats it. One at a time: releases share files. What is for sale is withheld first.
    fn announce(&self, goods: Arc<Goods>) {
        let tasks = self.clone();
        self.runtime.spawn(async move {
            let bounty = goods.bounty;
            while !tasks.inbox.is_closed() {
                // One that dies is tried again like one that fails.
                let trying = (tasks.clone(), goods.clone());
                let trying = tokio::spawn(async move { trying.0.in_turn(&trying.1).await });
                match trying.await.unwrap_or_else(|died| Err(died.into())) {
                    Ok(true) => return tracing::info!(%bounty, u_id = %goods.release.u_id, "for sale"),
                    Ok(false) => return,
                    Err(error) => tracing::warn!(%bounty, %error, "not announced yet"),
                }
                tokio::time::sleep(ANNOUNCE_AGAIN).await;
            }
        });
    }

    /// False if the bounty is over.
    async fn in_turn(&self, goods: &Goods) -> anyhow::Result<bool> {
        let _turn = self.announcing.lock().await;
        let sold = self.shelf.get(&goods.bounty).is_some();
        if sold {
            self.provide(goods).await?;
        }
        Ok(sold)
    }

    async fn provide(&self, goods: &Goods) -> anyhow::Result<()> {
        for secret in withheld(&goods.release) {
            self.dsn.withhold(secret).await?;
        }
        for file in &goods.files {
            self.dsn.add_file(file).await?;
        }
        self.dsn.put_block(goods.package.to_vec(), Codec::DagCbor).await?;
        for told in announced(goods) {
            self.dsn.provide(told).await?;
        }
        Ok(())
    }

    /// Announces a bounty that is over no longer, and deletes its package. In turn, so that nothing announces it after that; and
    /// again at each start, as a crash may have been first.
    pub(super) fn clear(&self, bounty: Bounty, goods: Option<Arc<Goods>>) {
        let tasks = self.clone();
        self.runtime.spawn(async move {
            let _turn = tasks.announcing.lock().await;
            if let Some(goods) = goods {
                tasks.withdraw(&goods).await;
            }
            match tasks.delete(&bounty).await {
                Ok(true) => tracing::info!(%bounty, "over, and its package deleted"),
                Ok(false) => {}
                Err(error) => tracing::warn!(%bounty, %error, "its package is deleted at the next start"),
            }
        });
    }

    /// But what another bounty announces too, as where an image was published twice.
    async fn withdraw(&self, goods: &Goods) {
        let kept: Vec<Cid> = self.shelf.all().iter().flat_map(|other| announced(other)).collect();
        for gone in announced(goods).into_iter().filter(|gone| !kept.contains(gone)) {
            if let Err(error) = self.dsn.unprovide(gone).await {
                tracing::debug!(%error, "still announced");
            }
        }
    }

    /// False if it is gone already.
    async fn delete(&self, bounty: &Bounty) -> anyhow::Result<bool> {
        let folder = package_folder(&self.state_dir, bounty);
        let mut files = match tokio::fs::read_dir(&folder).await {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
            files => files?,
        };
        // First all of them: what a crash leaves is forgotten or still there.
        while let Some(file) = files.next_entry().await? {
            self.dsn.forget_file(file.path()).await?;
        }
        tokio::fs::remove_dir_all(&folder).await?;
        Ok(true)
    }
}

/// Under what a bounty's goods are found: body, package, and image.
fn announced(goods: &Goods) -> Vec<Cid> {
    let body = goods.package.body.as_ref().map(cid);
    let u_id = cid(&ContentId::raw(goods.release.u_id.to_bytes()));
    body.into_iter().chain([cid(&goods.package.content_id()), u_id]).collect()
}

/// Cipher and proof for one exchange: `Û = Enc(secret, r)` and that it is (paper, 4.4.3, 4).
fn prove(goods: &Goods, key: &ProvingKey, r: &KeyR) -> anyhow::Result<(Vec<u8>, Vec<u8>)> {
    let mut cipher = goods.secret.to_vec();
    apply_payload(r.as_bytes(), &mut cipher);
    let statement =
        Statement { s: r.lock().to_bytes(), u_id: payload_digest(&goods.release), cipher: &cipher };
    let begun = std::time::Instant::now();
    let proof = key.prove(&statement, r.as_bytes(), &mut SystemRandomness::new()?)?;
    tracing::info!(bounty = %goods.bounty, prove_ms = begun.elapsed().as_millis(), "proof made");
    Ok((cipher.clone(), proof.to_bytes().to_vec()))
}
