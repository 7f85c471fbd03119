//! Does what the machines want done: first what is to be kept, then everything else, in order.

use std::time::Duration;

use actix::{ActorFutureExt as _, AsyncContext as _, Context, MailboxError, WrapFuture as _};
use posthouse_contracts::chain::ChainError;
use posthouse_light_client::words;
use posthouse_protocol::exchange::Response;
use posthouse_protocol::gateway::{
    ClaimEntry, Decrypted, Event, Input, Intent, OfferCheck, OfferVerdict, Output, Peer, Record, RequestId,
};
use posthouse_protocol::id::{Bounty, DeviceKey, LockHash, Payee};
use posthouse_protocol::release::Mode;
use posthouse_protocol::secret::KeyR;

use super::{Exchanges, LATELY, PAUSE, PORTION};
use crate::chain::{ReadClaims, Unwatch};
use crate::crash::crash_point;
use crate::dsn::{Ask, DsnError, FetchBody, Locate, Question};
use crate::messages::{self, Image, SetIntent, Wanted};
use crate::stage::{Discard, Source, StageImage, StageOutcome, image_path};
use crate::store::{ForgetStaged, SaveRecords, SaveStaged, StagedRow, StoreError};
use crate::verifier::VerifyOffer;

/// Between two tries of a write that failed.
const SAVE_RETRY: Duration = Duration::from_secs(2);

type Sent<T> = Result<T, MailboxError>;
type Ctx = Context<Exchanges>;

impl Exchanges {
    /// Takes what a machine has to say. All records of one go are written in one transaction, and
    /// nothing of that go leaves before they are: to keep a fact earlier than needed harms nobody.
    pub(super) fn flush(&mut self, bounty: Bounty, ctx: &mut Ctx) {
        let Some(follow) = self.follows.get_mut(&bounty) else { return };
        if follow.saving {
            return;
        }
        let (mut records, mut rest) = (Vec::new(), Vec::new());
        while let Some(output) = follow.machine.poll() {
            match output {
                Output::Persist(record) => records.push(record),
                other => rest.push(other),
            }
        }
        if records.is_empty() {
            return self.perform_all(bounty, rest, ctx);
        }
        follow.saving = true;
        self.save(SaveRecords { bounty, records }, rest, ctx);
    }

    fn save(&mut self, save: SaveRecords, rest: Vec<Output>, ctx: &mut Ctx) {
        let sent = self.peers.store.send(save.clone());
        let done = move |saved: Sent<Result<(), StoreError>>, actor: &mut Self, ctx: &mut Ctx| {
            let error = match saved {
                Ok(Ok(())) => return actor.saved(save, rest, ctx),
                Ok(Err(error)) => error.to_string(),
                Err(error) => error.to_string(),
            };
            tracing::error!(bounty = %save.bounty, error, "not kept; nothing leaves before it is");
            ctx.run_later(SAVE_RETRY, move |actor, ctx| actor.save(save, rest, ctx));
        };
        ctx.spawn(sent.into_actor(self).map(done));
    }

    fn saved(&mut self, save: SaveRecords, rest: Vec<Output>, ctx: &mut Ctx) {
        let bounty = save.bounty;
        if save.records.iter().any(|record| matches!(record, Record::Signed { .. })) {
            crash_point("gateway.receipt");
        }
        if let Some(follow) = self.follows.get_mut(&bounty) {
            follow.saving = false;
        }
        self.perform_all(bounty, rest, ctx);
        self.flush(bounty, ctx);
    }

    fn perform_all(&mut self, bounty: Bounty, outputs: Vec<Output>, ctx: &mut Ctx) {
        for output in &outputs {
            if let Output::Event(Event::State(name)) = output {
                crash_point(&format!("gateway.{name}"));
            }
        }
        outputs.into_iter().for_each(|output| self.perform(bounty, output, ctx));
    }

    fn perform(&mut self, bounty: Bounty, output: Output, ctx: &mut Ctx) {
        match output {
            // Taken out before.
            Output::Persist(_) => {}
            Output::Locate => self.locate(bounty, ctx),
            Output::Send { id, peer, request } => self.ask(bounty, id, peer, Question::Plain(request), ctx),
            Output::Authenticate { id, peer, digest } => {
                let Some(follow) = self.follows.get(&bounty) else { return };
                let chain = follow.machine.update().chain;
                self.ask(bounty, id, peer, Question::Auth { chain, bounty, digest }, ctx);
            }
            Output::Verify(check) => self.verify(bounty, check, ctx),
            Output::CheckClaims { indices, offers } => self.check_claims(bounty, indices, offers, ctx),
            Output::FetchBody { from } => self.fetch_body(bounty, from, ctx),
            Output::Intend { device, intent } => self.intend(bounty, device, intent, ctx),
            Output::Decrypt { s, r, cipher } => self.decrypt(bounty, s, r, cipher, ctx),
            Output::Wake { at } => self.wake(bounty, at, ctx),
            Output::Event(event) => self.tell(bounty, &event),
        }
    }

    fn locate(&mut self, bounty: Bounty, ctx: &mut Ctx) {
        let Some(follow) = self.follows.get(&bounty) else { return };
        let sent = self.peers.dsn.send(Locate(follow.machine.update().u_id));
        let done = move |found: Sent<Vec<Peer>>, actor: &mut Self, ctx: &mut Ctx| {
            actor.drive(bounty, Input::Providers(found.unwrap_or_default()), ctx);
        };
        ctx.spawn(sent.into_actor(self).map(done));
    }

    fn ask(&mut self, bounty: Bounty, id: RequestId, peer: Peer, question: Question, ctx: &mut Ctx) {
        let sent = self.peers.dsn.send(Ask { peer, question });
        let done = move |answer: Sent<Option<Response>>, actor: &mut Self, ctx: &mut Ctx| {
            let input = match answer {
                Ok(Some(response)) => Input::Response { id, response },
                _ => Input::RequestFailed { id },
            };
            actor.drive(bounty, input, ctx);
        };
        ctx.spawn(sent.into_actor(self).map(done));
    }

    fn verify(&mut self, bounty: Bounty, check: OfferCheck, ctx: &mut Ctx) {
        let package = self.follows.get(&bounty).and_then(|follow| follow.package.as_ref());
        let Some(vk) = package.map(|package| package.vk.clone()) else { return };
        let sent = self.peers.verifier.send(VerifyOffer { check, vk });
        let done = move |verdict: Sent<OfferVerdict>, actor: &mut Self, ctx: &mut Ctx| match verdict {
            Ok(verdict) => actor.drive(bounty, Input::Verified(verdict), ctx),
            Err(error) => tracing::error!(%bounty, %error, "the verifier is gone"),
        };
        ctx.spawn(sent.into_actor(self).map(done));
    }

    fn check_claims(
        &mut self,
        bounty: Bounty,
        indices: Vec<u32>,
        offers: Vec<(LockHash, Payee)>,
        ctx: &mut Ctx,
    ) {
        let sent = self.peers.chain.send(ReadClaims { bounty, indices, offers });
        let done = move |read: Sent<Result<Vec<ClaimEntry>, ChainError>>, actor: &mut Self, ctx: &mut Ctx| {
            let input = match read {
                Ok(Ok(entries)) => Input::Claims(entries),
                Ok(Err(error)) => {
                    tracing::warn!(%bounty, %error, "claims not read");
                    Input::ClaimsFailed
                }
                Err(_) => Input::ClaimsFailed,
            };
            actor.drive(bounty, input, ctx);
        };
        ctx.spawn(sent.into_actor(self).map(done));
    }

    fn fetch_body(&mut self, bounty: Bounty, from: Option<Peer>, ctx: &mut Ctx) {
        let Some(job) = self.body_job(bounty, from) else { return };
        let sent = self.peers.dsn.send(job);
        let done = move |fetched: Sent<Result<(), DsnError>>, actor: &mut Self, ctx: &mut Ctx| {
            let input = match fetched {
                Ok(Ok(())) => Input::BodyHeld,
                Ok(Err(error)) => {
                    tracing::warn!(%bounty, error = words(&error.to_string()), "body not fetched");
                    Input::BodyFailed
                }
                Err(_) => Input::BodyFailed,
            };
            actor.drive(bounty, input, ctx);
        };
        ctx.spawn(sent.into_actor(self).map(done));
    }

    fn body_job(&self, bounty: Bounty, from: Option<Peer>) -> Option<FetchBody> {
        let follow = self.follows.get(&bounty)?;
        let package = follow.package.as_ref()?;
        let release = package.release.release();
        Some(FetchBody {
            p_id: follow.machine.update().p_id,
            content: package.package.body?,
            size: release.body_size,
            digest: release.body_id?.to_bytes(),
            path: follow.body_path(&self.site)?,
            from,
        })
    }

    fn decrypt(&mut self, bounty: Bounty, s: LockHash, r: KeyR, cipher: Vec<u8>, ctx: &mut Ctx) {
        let Some(job) = self.stage_job(bounty, r, cipher) else { return };
        let row = StagedRow { u_id: job.u_id, size: job.size, staged_at: self.now() };
        let sent = self.peers.stage.send(job);
        let done = move |staged: Sent<StageOutcome>, actor: &mut Self, ctx: &mut Ctx| {
            let staged = staged.unwrap_or(StageOutcome { outcome: Decrypted::Io, evicted: Vec::new() });
            actor.staged(bounty, s, row, staged, ctx);
        };
        ctx.spawn(sent.into_actor(self).map(done));
    }

    fn stage_job(&self, bounty: Bounty, r: KeyR, cipher: Vec<u8>) -> Option<StageImage> {
        let follow = self.follows.get(&bounty)?;
        let release = follow.package.as_ref()?.release.release();
        let source = match release.mode {
            Mode::File => Source::File,
            Mode::Key => Source::Key { key_id: release.key_id?, body: follow.body_path(&self.site)? },
        };
        let keep = self.follows.values().filter(|follow| !follow.machine.state().is_over());
        let keep = keep.map(|follow| follow.machine.update().u_id).collect();
        Some(StageImage { u_id: release.u_id, size: release.size, source, r, cipher, keep })
    }

    fn staged(&mut self, bounty: Bounty, s: LockHash, row: StagedRow, staged: StageOutcome, ctx: &mut Ctx) {
        if !staged.evicted.is_empty() {
            self.staged.retain(|image, _| !staged.evicted.contains(image));
            self.peers.store.do_send(ForgetStaged(staged.evicted));
        }
        if staged.outcome != Decrypted::Staged {
            return self.drive(bounty, Input::Decrypted { s, outcome: staged.outcome }, ctx);
        }
        let sent = self.peers.store.send(SaveStaged(row));
        let done = move |saved: Sent<Result<(), StoreError>>, actor: &mut Self, ctx: &mut Ctx| {
            let kept = matches!(saved, Ok(Ok(())));
            if kept {
                actor.staged.insert(row.u_id, row.size);
            }
            let outcome = if kept { Decrypted::Staged } else { Decrypted::Io };
            actor.drive(bounty, Input::Decrypted { s, outcome }, ctx);
        };
        ctx.spawn(sent.into_actor(self).map(done));
    }

    fn wake(&mut self, bounty: Bounty, at: u64, ctx: &mut Ctx) {
        let wait = Duration::from_millis(at.saturating_sub(self.now()));
        let Some(follow) = self.follows.get_mut(&bounty) else { return };
        let next = ctx.run_later(wait, move |actor, ctx| actor.drive(bounty, Input::Tick, ctx));
        if let Some(before) = follow.timer.replace(next) {
            ctx.cancel_future(before);
        }
    }

    fn tell(&mut self, bounty: Bounty, event: &Event) {
        let now = self.now();
        let Some(follow) = self.follows.get_mut(&bounty) else { return };
        let text = super::view::words(event);
        tracing::info!(%bounty, version = %follow.machine.update().version, "{text}");
        super::audit::record(event, follow.machine.update())
            .into_iter()
            .for_each(|record| self.peers.audit.tell(record));
        follow.note(now, text);
        let state = follow.machine.state();
        let (over, staged) = (state.is_over(), state.is_staged());
        if matches!(event, Event::State(_)) && (over || staged) {
            self.peers.chain.do_send(Unwatch(bounty));
        }
        if matches!(event, Event::State(_)) && over {
            self.discard_body(bounty);
        }
    }

    /// Nothing will be decrypted any more. Staged images go when their room is needed.
    fn discard_body(&self, bounty: Bounty) {
        let path = self.follows.get(&bounty).and_then(|follow| follow.body_path(&self.site));
        path.into_iter().for_each(|path| self.peers.stage.do_send(Discard(path)));
    }

    /// Keeps this exchange's wish for a sensor and tells the hub what all wishes amount to: the
    /// newest version that wants anything.
    fn intend(&mut self, bounty: Bounty, device: DeviceKey, intent: Intent, ctx: &mut Ctx) {
        let Some(follow) = self.follows.get_mut(&bounty) else { return };
        let product = follow.machine.update().product;
        if intent == Intent::default() {
            follow.intents.remove(&device);
        } else {
            follow.intents.insert(device, intent);
        }
        let newest = self.of_product(&product).into_iter().rev().find_map(|bounty| {
            let follow = self.follows.get(&bounty)?;
            Some((follow, *follow.intents.get(&device)?))
        });
        let intent = newest.map(|(follow, intent)| self.worded(follow, intent)).unwrap_or_default();
        self.hand_over(device, intent, ctx);
    }

    /// Tells the hub, or has it wait behind others: what a whole fleet may have changes in one moment, and sensors that wake
    /// just then are answered between the portions. Who is awake does not wait behind those that sleep: it may be asleep itself
    /// by then, and all wait for what it is asked to sign.
    pub(super) fn hand_over(&mut self, device: DeviceKey, intent: messages::Intent, ctx: &mut Ctx) {
        let now = self.now();
        let awake = self.registry.heard_since(&device, now.saturating_sub(LATELY.as_millis() as u64));
        let (device, handing) = (device.device_id(), &mut self.handing);
        if awake || (handing.intents.is_empty() && handing.sent < PORTION) {
            // What waits is older.
            handing.intents.remove(&device);
            handing.sent += 1;
            self.peers.hub.do_send(SetIntent { device, intent });
        } else if handing.intents.insert(device, intent).is_none() {
            handing.waiting.push_back(device);
        }
        if !self.handing.ticks {
            self.handing.ticks = true;
            ctx.run_later(PAUSE, Self::hand_more);
        }
    }

    fn hand_more(&mut self, ctx: &mut Ctx) {
        let handing = &mut self.handing;
        handing.sent = 0;
        while handing.sent < PORTION
            && let Some(device) = handing.waiting.pop_front()
        {
            // Nothing where it was told meanwhile.
            let Some(intent) = handing.intents.remove(&device) else { continue };
            handing.sent += 1;
            self.peers.hub.do_send(SetIntent { device, intent });
        }
        handing.ticks = handing.sent > 0;
        if handing.ticks {
            ctx.run_later(PAUSE, Self::hand_more);
        }
    }

    fn worded(&self, follow: &super::follow::Follow, intent: Intent) -> messages::Intent {
        let release = follow.package.as_ref().map(|package| &package.release);
        let manifest =
            follow.package.as_ref().map(|package| package.manifest.clone()).filter(|_| intent.manifest);
        let wanted = release.filter(|_| intent.manifest).map(|release| {
            let release = release.release();
            Wanted { version: release.version, size: release.size }
        });
        let image = release.filter(|_| intent.image).map(|release| {
            let release = release.release();
            let path = image_path(&self.site.images, &release.u_id);
            Image { u_id: release.u_id, size: release.size, path }
        });
        messages::Intent { manifest, wanted, sign: intent.sign, image }
    }
}
