//! The sensor's state machine: no I/O, no clock, no allocation.
//!
//! The program around it hands in what happens ([`Sensor::handle`]) and then carries out what comes
//! out ([`Sensor::poll`]), one output after the other, each finished (and durable, where it writes)
//! before the next is asked for. The outputs come in the order that makes a power cut harmless:
//! bytes into the spare slot, then the state that counts on them; the state that remembers a
//! signature, then the signature; the state that announces an activation, then the activation.
//! Whatever was cut off comes again after [`Sensor::new`].
//!
//! What the gateway says is believed only as far as the vendor's signature on the manifest reaches:
//! a lying gateway can withhold an update and can misdirect the payment of its own site, no more.

mod error;
mod fetch;
mod hashing;
mod signing;
mod stored;
#[cfg(all(test, feature = "alloc"))]
mod tests;

use sha2::{Digest as _, Sha256};

pub use self::error::Error;
use self::fetch::{Fetch, Next};
use self::hashing::Hashing;
pub use self::signing::{Delegations, MAX_ATTEMPTS, MAX_DELEGATIONS, Receipts};
pub use self::stored::{Phase, Stored, Update};
use crate::digest;
use crate::id::{Curve, DeviceKey, Digest, ProductId, ReleaseKey, Signature, UpdateId, Version};
use crate::sensor::{
    Block, BlockRequest, ErrorMsg, Hello, Report, SignRequest, SignatureMsg, State, Status, UpdateResult,
};
use crate::suit::{self, Manifest};

/// Times that an image may fail to boot before it is given up: once may be a power cut.
const MAX_FAILED_BOOTS: u8 = 2;
/// Times that an activation may come to nothing before it is given up: a bootloader that does not swap, and does not say so, must
/// not have the sensor reboot for ever. Fewer may be power cuts.
const MAX_ACTIVATIONS: u8 = 4;

/// What does not change while the sensor runs.
#[derive(Debug, Clone)]
pub struct Config {
    /// The sensor's public key; the private one is the caller's.
    pub key: DeviceKey,
    /// Its curve.
    pub curve: Curve,
    /// Vendor and class id.
    pub product: ProductId,
    /// The vendor's release key.
    pub release_key: ReleaseKey,
    /// Bytes of the spare slot.
    pub slot: u32,
    /// Seconds from one wake to the next, as told to the gateway.
    pub wake_s: u32,
    /// Bytes asked for in one block, 1 to [`crate::sensor::MAX_BLOCK`].
    pub block: u16,
    /// Blocks asked for in one request.
    pub window: u16,
    /// Bytes after which progress is persisted. A multiple of the flash's erase page: after a power
    /// cut the download resumes at such an offset, so that no page is written twice unerased.
    pub checkpoint: u32,
    /// Time for a block to come, ms.
    pub block_timeout_ms: u32,
    /// Requests for one block without an answer before the sensor goes back to sleep.
    pub block_tries: u8,
}

/// What the bootloader says at power-up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Boot {
    /// The image with this digest runs and has passed its self-test.
    Image(UpdateId),
    /// The activated image did not pass, and the one before it runs again.
    Reverted,
    /// Something runs whose digest is not known, as what came from the factory.
    Unknown,
}

/// What happens to the sensor.
#[derive(Debug, Clone, Copy)]
pub enum Input<'b> {
    /// It woke up and can reach its gateway.
    Wake,
    /// It is about to sleep, for so many seconds.
    Sleep {
        /// Until the next wake, s.
        next_wake: u32,
    },
    /// A SUIT envelope came. The same one again means: go on fetching.
    Manifest(&'b [u8]),
    /// A request for a signature came.
    Sign(&'b SignRequest),
    /// A block came.
    Block(Block<'b>),
    /// The gateway cannot serve blocks for so many seconds.
    Later {
        /// Seconds.
        retry_after: u32,
    },
    /// The bytes that [`Output::Read`] named, or as many of the first as suit the caller.
    Slot(&'b [u8]),
    /// The signature that [`Output::Sign`] asked for.
    Signed(Signature),
}

/// What is to be done, in this order of precedence.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Output {
    /// Write all bytes of the block just handed in to the spare slot; durable before the next
    /// [`Output::Persist`] is.
    Write {
        /// Where in the slot.
        offset: u32,
    },
    /// Make [`Sensor::stored`] durable.
    Persist,
    /// Sign with the device key; answer with [`Input::Signed`].
    Sign(Digest),
    /// Send to the gateway.
    Send(Message),
    /// Read from the spare slot, at most so much at once; answer with [`Input::Slot`].
    Read {
        /// Where in the slot.
        offset: u32,
        /// Bytes.
        len: u32,
    },
    /// Make the spare slot the one that boots, and reboot.
    Activate(Verified),
}

/// Up to the gateway.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Message {
    /// Who it is and what it runs.
    Hello(Hello),
    /// A signature.
    Signature(SignatureMsg),
    /// A refusal of what the gateway asked.
    Refused(ErrorMsg),
    /// A request for blocks.
    Get(BlockRequest),
    /// How far it is.
    Status(Status),
}

/// Proof that the spare slot holds the image of a manifest by the vendor, read back from flash.
#[must_use]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Verified {
    version: Version,
    u_id: UpdateId,
    size: u32,
}

impl Verified {
    /// Sequence number of the image.
    pub fn version(&self) -> Version {
        self.version
    }

    /// Its digest.
    pub fn u_id(&self) -> UpdateId {
        self.u_id
    }

    /// Its bytes.
    pub fn size(&self) -> u32 {
        self.size
    }
}

/// What the sensor is at.
#[derive(Debug, Clone)]
enum Step {
    /// Nothing to do for an update.
    Idle,
    /// Hashing what the slot holds already, to go on from there.
    Resuming(Hashing),
    /// Fetching blocks.
    Fetching(Fetch),
    /// Hashing the whole image from the slot.
    Checking(Hashing),
    /// The slot is to be activated.
    Verified(Verified),
    /// [`Output::Activate`] was handed out.
    Rebooting,
}

/// Messages that wait to be sent, one of a kind: a newer one replaces an older.
#[derive(Debug, Default)]
struct Outbox {
    hello: bool,
    signature: Option<SignatureMsg>,
    refused: Option<ErrorMsg>,
    status: bool,
}

/// A sensor. Times are milliseconds from any start that does not go back.
#[derive(Debug)]
pub struct Sensor {
    config: Config,
    stored: Stored,
    step: Step,
    out: Outbox,
    write: Option<u32>,
    dirty: bool,
    /// Digest being signed.
    signing: Option<Digest>,
    /// SHA-256 of the envelope accepted last: a repeat costs no signature check.
    envelope: Option<[u8; 32]>,
    awake: bool,
    next_wake: u32,
    /// When to poll again, ms.
    deadline: Option<u64>,
}

impl Sensor {
    /// Starts after power-up with what was persisted last.
    // Not in its caller's frame: a small stack holds these few hundred bytes once less.
    #[inline(never)]
    pub fn new(config: Config, stored: Stored, boot: Boot) -> Self {
        let mut sensor = Self {
            config,
            stored,
            step: Step::Idle,
            out: Outbox::default(),
            write: None,
            dirty: false,
            signing: None,
            envelope: None,
            awake: false,
            next_wake: 0,
            deadline: None,
        };
        sensor.boot(boot);
        sensor
    }

    /// The persistent state, to be made durable at [`Output::Persist`].
    pub fn stored(&self) -> &Stored {
        &self.stored
    }

    /// Whether an update is being fetched or checked: no time to sleep.
    pub fn is_busy(&self) -> bool {
        match &self.step {
            Step::Idle => false,
            Step::Fetching(fetch) => fetch.is_asking(),
            Step::Resuming(_) | Step::Checking(_) | Step::Verified(_) | Step::Rebooting => true,
        }
    }

    /// Whether [`Output::Activate`] was handed out: what is left to do is the reboot.
    pub fn is_rebooting(&self) -> bool {
        matches!(self.step, Step::Rebooting)
    }

    /// When [`Sensor::poll`] has something again although nothing happens, ms.
    pub fn deadline(&self) -> Option<u64> {
        self.deadline
    }

    /// Tells the sensor what happened at `now`, ms. Afterwards poll until there is nothing.
    ///
    /// # Errors
    /// [`Error`]: refused, and nothing changed; what the gateway should know is sent.
    pub fn handle(&mut self, input: Input<'_>, now: u64) -> Result<(), Error> {
        let done = self.dispatch(input, now);
        // Blocks that were not asked for are no news: they come late or twice.
        let worth_telling = done.err().filter(|_| !matches!(input, Input::Block(_)));
        if let Some(code) = worth_telling.and_then(|error| error.code()) {
            self.out.refused = Some(ErrorMsg { code, retry_after: None });
        }
        self.advance();
        done
    }

    fn dispatch(&mut self, input: Input<'_>, now: u64) -> Result<(), Error> {
        match input {
            Input::Wake => self.wake(),
            Input::Sleep { next_wake } => self.sleep(next_wake),
            Input::Manifest(envelope) => return self.manifest(envelope),
            Input::Sign(request) => return self.sign(request),
            Input::Block(block) => return self.block(&block, now),
            Input::Later { retry_after } => self.later(retry_after, now),
            Input::Slot(bytes) => self.slot(bytes),
            Input::Signed(sig) => self.signed(sig),
        }
        Ok(())
    }

    /// The next thing to do at `now`, ms. To be carried out before the next call.
    pub fn poll(&mut self, now: u64) -> Option<Output> {
        self.deadline = None;
        if let Some(offset) = self.write.take() {
            return Some(Output::Write { offset });
        }
        if core::mem::take(&mut self.dirty) {
            return Some(Output::Persist);
        }
        if let Some(digest) = self.signing {
            return Some(Output::Sign(digest));
        }
        self.message().map(Output::Send).or_else(|| self.work(now))
    }

    fn message(&mut self) -> Option<Message> {
        if core::mem::take(&mut self.out.hello) {
            return Some(Message::Hello(self.hello()));
        }
        if let Some(signature) = self.out.signature.take() {
            return Some(Message::Signature(signature));
        }
        if let Some(refused) = self.out.refused.take() {
            return Some(Message::Refused(refused));
        }
        core::mem::take(&mut self.out.status).then(|| Message::Status(self.status()))
    }

    /// What the current step calls for.
    fn work(&mut self, now: u64) -> Option<Output> {
        match &self.step {
            Step::Resuming(hashing) | Step::Checking(hashing) => {
                hashing.wants().map(|(offset, len)| Output::Read { offset, len })
            }
            Step::Verified(verified) => {
                let activate = Output::Activate(*verified);
                self.step = Step::Rebooting;
                Some(activate)
            }
            Step::Fetching(_) if self.awake => self.fetch(now),
            Step::Fetching(_) | Step::Idle | Step::Rebooting => None,
        }
    }

    fn fetch(&mut self, now: u64) -> Option<Output> {
        let Step::Fetching(fetch) = &mut self.step else { return None };
        match fetch.poll(&self.config, now) {
            Next::Ask { offset, len, count } => {
                let u_id = fetch.u_id();
                Some(Output::Send(Message::Get(BlockRequest { u_id, offset, len, count })))
            }
            Next::Wait(until) => {
                self.deadline = Some(until);
                None
            }
            Next::GaveUp => {
                self.set_result(UpdateResult::ConnectionLost);
                self.out.status = true;
                self.poll(now)
            }
        }
    }

    /// Who the sensor is.
    pub fn hello(&self) -> Hello {
        Hello {
            v: crate::sensor::VERSION,
            key: self.config.key,
            curve: self.config.curve,
            product: self.config.product,
            installed: self.stored.installed,
            slot: self.config.slot,
            wake: self.config.wake_s,
        }
    }

    /// How far the sensor is, in the terms of LwM2M's object 5.
    pub fn status(&self) -> Status {
        let (state, next) = match &self.step {
            Step::Idle => (State::Idle, 0),
            Step::Resuming(_) => (State::Downloading, self.resume_at()),
            Step::Fetching(fetch) => (State::Downloading, fetch.next()),
            Step::Checking(_) => (State::Downloaded, self.size()),
            Step::Verified(_) | Step::Rebooting => (State::Updating, self.size()),
        };
        Status {
            state,
            result: self.stored.result,
            installed: self.stored.installed,
            next,
            next_wake: self.next_wake,
            report: self.report(),
        }
    }

    fn report(&self) -> Option<Report> {
        let update = self.stored.update.as_ref()?;
        let sig = self.stored.report?;
        let installed = update.phase == Phase::Installed;
        installed.then_some(Report { version: update.version, u_id: update.u_id, sig })
    }

    fn size(&self) -> u32 {
        self.stored.update.as_ref().map_or(0, |update| update.size)
    }

    fn resume_at(&self) -> u32 {
        match self.stored.update {
            Some(Update { phase: Phase::Fetching { next }, .. }) => next,
            _ => 0,
        }
    }

    // --- waking and sleeping

    fn wake(&mut self) {
        self.awake = true;
        self.next_wake = 0;
        self.out.hello = true;
        self.out.status = self.stored.report.is_some();
        if let Step::Fetching(fetch) = &mut self.step {
            fetch.wake();
        }
    }

    fn sleep(&mut self, next_wake: u32) {
        self.awake = false;
        self.next_wake = next_wake;
        self.out.status = true;
    }

    // --- after power-up

    fn boot(&mut self, boot: Boot) {
        let Some(update) = self.stored.update.clone() else { return };
        match update.phase {
            Phase::Activating if boot == Boot::Image(update.u_id) => self.booted_well(&update),
            Phase::Activating if boot == Boot::Reverted => self.reverted(),
            Phase::Activating => self.not_activated(update.size),
            Phase::Fetching { next } => self.step = Step::Resuming(Hashing::new(next)),
            Phase::Installed if self.stored.report.is_none() => self.sign_report(&update),
            Phase::Installed | Phase::GivenUp => {}
        }
        self.advance();
    }

    /// Only here does the installed version rise.
    fn booted_well(&mut self, update: &Update) {
        self.stored.installed = update.version;
        self.set_phase(Phase::Installed);
        self.set_result(UpdateResult::Success);
        self.sign_report(update);
    }

    fn sign_report(&mut self, update: &Update) {
        self.signing = Some(digest::installed(&self.config.product, update.version, &update.u_id));
    }

    /// The power went before the bootloader was told, or the swap went unnoticed: looks again.
    fn not_activated(&mut self, size: u32) {
        let Some(update) = &mut self.stored.update else { return };
        update.failed_boots = update.failed_boots.saturating_add(1);
        self.dirty = true;
        if update.failed_boots >= MAX_ACTIVATIONS {
            self.set_phase(Phase::GivenUp);
            self.set_result(UpdateResult::UpdateFailed);
        } else {
            self.step = Step::Checking(Hashing::new(size));
        }
    }

    fn reverted(&mut self) {
        let Some(update) = &mut self.stored.update else { return };
        update.failed_boots += 1;
        let given_up = update.failed_boots >= MAX_FAILED_BOOTS;
        self.set_phase(if given_up { Phase::GivenUp } else { Phase::Fetching { next: 0 } });
        self.set_result(UpdateResult::UpdateFailed);
        if !given_up {
            self.step = Step::Resuming(Hashing::new(0));
        }
    }

    fn set_phase(&mut self, phase: Phase) {
        if let Some(update) = &mut self.stored.update {
            self.dirty |= update.phase != phase;
            update.phase = phase;
        }
    }

    fn set_result(&mut self, result: UpdateResult) {
        self.dirty |= self.stored.result != result;
        self.stored.result = result;
    }

    // --- the manifest

    fn manifest(&mut self, envelope: &[u8]) -> Result<(), Error> {
        let name: [u8; 32] = Sha256::digest(envelope).into();
        if self.envelope != Some(name) {
            let manifest = suit::verify(envelope, &self.config.release_key)?;
            self.accept(&manifest)?;
            self.envelope = Some(name);
        }
        self.go_on()
    }

    /// Takes a manifest that the vendor signed, if it is for this sensor and new.
    fn accept(&mut self, manifest: &Manifest) -> Result<(), Error> {
        if manifest.product.vendor_id() != self.config.product.vendor_id() {
            return Err(Error::WrongVendor);
        }
        if manifest.product.class_id() != self.config.product.class_id() {
            return Err(Error::WrongClass);
        }
        if self.knows(manifest)? {
            return Ok(());
        }
        let (installed, highest) = (self.stored.installed, self.stored.highest);
        if manifest.sequence <= installed || manifest.sequence < highest {
            return Err(Error::Downgrade { offered: manifest.sequence, installed, highest });
        }
        if matches!(self.step, Step::Verified(_) | Step::Rebooting) {
            return Err(Error::Activating);
        }
        self.fits(manifest)?;
        self.begin(manifest);
        Ok(())
    }

    /// Whether it is the manifest of the update at hand, come again.
    fn knows(&self, manifest: &Manifest) -> Result<bool, Error> {
        match &self.stored.update {
            Some(update) if update.version == manifest.sequence => {
                let same = update.u_id == manifest.u_id && update.size == manifest.size;
                if same { Ok(true) } else { Err(Error::Conflict(manifest.sequence)) }
            }
            _ => Ok(false),
        }
    }

    fn fits(&mut self, manifest: &Manifest) -> Result<(), Error> {
        let (size, slot) = (manifest.size, self.config.slot);
        if size <= slot {
            return Ok(());
        }
        self.set_result(UpdateResult::NotEnoughFlash);
        self.out.status = true;
        Err(Error::TooLarge { size, slot })
    }

    fn begin(&mut self, manifest: &Manifest) {
        self.stored.highest = manifest.sequence;
        self.stored.result = UpdateResult::Initial;
        self.stored.report = None;
        self.stored.update = Some(Update {
            version: manifest.sequence,
            u_id: manifest.u_id,
            size: manifest.size,
            phase: Phase::Fetching { next: 0 },
            failed_boots: 0,
            receipts: Receipts::default(),
        });
        self.dirty = true;
        self.out.status = true;
        self.step = Step::Resuming(Hashing::new(0));
    }

    /// Fetches on, or says why there is nothing to fetch.
    fn go_on(&mut self) -> Result<(), Error> {
        let Some(update) = &self.stored.update else { return Ok(()) };
        match (&mut self.step, update.phase) {
            (_, Phase::GivenUp) => return Err(Error::GivenUp(update.version)),
            (_, Phase::Installed) => self.out.status = true,
            (Step::Fetching(fetch), _) => fetch.resume(),
            _ => {}
        }
        Ok(())
    }

    // --- signatures

    /// Remembers before it signs, so that no power cut makes it forget.
    fn sign(&mut self, request: &SignRequest) -> Result<(), Error> {
        if self.signing.is_some() || self.out.signature.is_some() {
            return Err(Error::Busy);
        }
        let new = match (request, signing::delegation(request)) {
            (_, Some(delegation)) => self.stored.delegations.admit(delegation)?,
            (SignRequest::Receipt { u_id, attempt, .. }, None) => {
                self.update_for(u_id)?.receipts.admit(request.digest(), attempt.get())?
            }
            (SignRequest::Delegate { .. }, None) => false,
        };
        self.dirty |= new;
        self.signing = Some(request.digest());
        Ok(())
    }

    fn update_for(&mut self, u_id: &UpdateId) -> Result<&mut Update, Error> {
        let update = self.stored.update.as_mut().filter(|update| update.u_id == *u_id);
        update.ok_or(Error::NotThisUpdate(*u_id))
    }

    fn signed(&mut self, sig: Signature) {
        let Some(digest) = self.signing.take() else { return };
        if Some(digest) == self.unsigned_report() {
            self.stored.report = Some(sig);
            self.dirty = true;
            self.out.status = true;
        } else {
            self.out.signature = Some(SignatureMsg { digest, sig });
        }
    }

    fn unsigned_report(&self) -> Option<Digest> {
        let update = self.stored.update.as_ref().filter(|update| update.phase == Phase::Installed)?;
        let unsigned = self.stored.report.is_none();
        unsigned.then(|| digest::installed(&self.config.product, update.version, &update.u_id))
    }

    // --- the image

    fn block(&mut self, block: &Block<'_>, now: u64) -> Result<(), Error> {
        let Step::Fetching(fetch) = &mut self.step else { return Err(Error::Unexpected(block.offset)) };
        self.write = fetch.take(&block.u_id, block.offset, block.bytes, now)?;
        let next = fetch.next();
        let step = self.config.checkpoint.max(1);
        let durable = if next == self.size() { next } else { next - next % step };
        if self.write.is_some() && durable > self.resume_at() {
            self.set_phase(Phase::Fetching { next: durable });
        }
        Ok(())
    }

    fn later(&mut self, retry_after: u32, now: u64) {
        if let Step::Fetching(fetch) = &mut self.step {
            fetch.hold(now.saturating_add(u64::from(retry_after).saturating_mul(1000)));
        }
    }

    fn slot(&mut self, bytes: &[u8]) {
        if let Step::Resuming(hashing) | Step::Checking(hashing) = &mut self.step {
            hashing.read(bytes);
        }
    }

    /// Goes from step to step as far as what is known allows.
    fn advance(&mut self) {
        let Some(update) = &self.stored.update else { return };
        let (u_id, size, version) = (update.u_id, update.size, update.version);
        if let Step::Resuming(hashing) = &self.step {
            let Some(hash) = hashing.done() else { return };
            self.step = Step::Fetching(Fetch::new(u_id, size, self.resume_at(), hash));
        }
        if let Step::Fetching(fetch) = &self.step {
            match fetch.digest() {
                None => return,
                Some(digest) if digest == u_id => self.step = Step::Checking(Hashing::new(size)),
                Some(_) => return self.corrupt(),
            }
        }
        if let Step::Checking(hashing) = &self.step {
            match hashing.done().map(|hash| UpdateId::new(hash.finalize().into())) {
                None => {}
                Some(digest) if digest == u_id => self.verified(Verified { version, u_id, size }),
                Some(_) => self.corrupt(),
            }
        }
    }

    fn verified(&mut self, verified: Verified) {
        self.set_phase(Phase::Activating);
        self.out.status = true;
        self.step = Step::Verified(verified);
    }

    /// The bytes are not the manifest's image. Which of them are wrong cannot be told, so the image
    /// is fetched from the start, at the next wake, even if the manifest comes again before: a gateway
    /// that serves rubbish must not drain the battery.
    fn corrupt(&mut self) {
        let Some(update) = &self.stored.update else { return };
        let mut fetch = Fetch::new(update.u_id, update.size, 0, Sha256::new());
        fetch.rest();
        self.step = Step::Fetching(fetch);
        self.set_phase(Phase::Fetching { next: 0 });
        self.set_result(UpdateResult::IntegrityFailure);
        self.out.status = true;
    }
}
