//! The simulated sensor with its board, its clock and what it has to say.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::io::{self, Write as _};
use std::sync::Arc;
use std::time::Instant;

use posthouse_protocol::device::{Error, Input, Message, Stored};
use posthouse_protocol::id::{DeviceId, UpdateId, Version};
use posthouse_protocol::key::SigningKey;
use posthouse_protocol::sensor::{BlockRequest, Status};
use serde_json::{Value, json};
use thiserror::Error;

use super::board::{PageFiles, Slots, SoftKey};
use super::config::{Carrier, Settings};
use super::tally::Tally;
use crate::device::{Device, Failure, Flow, Outcome};

/// Messages that wait for the carrier; the machine makes a handful at a time.
const MAX_OUTBOX: usize = 32;

/// The board failed, or its files do.
#[derive(Debug, Error)]
pub(super) enum BoardError {
    #[error(transparent)]
    Device(#[from] Failure<io::Error, Infallible, io::Error>),
    #[error("board: {0}")]
    Files(#[from] io::Error),
    #[error("the configuration was not checked")]
    Unchecked,
}

/// Why the simulation ended.
#[derive(Debug)]
pub(super) enum StopReason {
    Done,
    Failed(BoardError),
}

/// One power-up of the sensor.
#[derive(Debug)]
pub(super) struct Node {
    device: Device<Slots, SoftKey, PageFiles>,
    id: DeviceId,
    outbox: VecDeque<Message>,
    started: Instant,
    carrier: Carrier,
    tally: Arc<Tally>,
    /// When it woke, until the gateway has said something.
    awoke: Option<Instant>,
    /// The image whose blocks were asked for, and to where.
    asked: Option<(UpdateId, u64)>,
}

impl Node {
    pub(super) fn power_up(
        settings: &Settings,
        key: &SigningKey,
        tally: Arc<Tally>,
    ) -> Result<Self, BoardError> {
        let public = key.device_key();
        let config = settings.machine(public).ok_or(BoardError::Unchecked)?;
        let slots = Slots::open(&settings.slot_file, settings.slot_size, settings.sync)?;
        let pages = PageFiles::open(&settings.state_dir, settings.sync)?;
        let boot = slots.boot()?;
        let factory = Stored::factory(Version::new(settings.installed));
        let device = Device::open(config, factory, boot, slots, SoftKey(key.clone()), pages)?;
        let id = public.device_id();
        let (outbox, started) = (VecDeque::new(), Instant::now());
        let carrier = settings.carrier;
        let mut node = Self { device, id, outbox, started, carrier, tally, awoke: None, asked: None };
        // The power went between the state that announces an activation and the activation.
        if node.tick()? == Flow::Reboot {
            return Self::power_up(settings, key, node.tally);
        }
        node.report("boot", json!({ "installed": node.device.status().installed.get() }));
        Ok(node)
    }

    pub(super) fn id(&self) -> DeviceId {
        self.id
    }

    pub(super) fn status(&self) -> Status {
        self.device.status()
    }

    pub(super) fn is_busy(&self) -> bool {
        self.device.sensor().is_busy()
    }

    /// Milliseconds since power-up.
    pub(super) fn now(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    /// When to [`Node::tick`], ms since power-up.
    pub(super) fn deadline(&self) -> Option<u64> {
        self.device.sensor().deadline()
    }

    /// The next message for the gateway.
    pub(super) fn take(&mut self) -> Option<Message> {
        let message = self.outbox.pop_front();
        if let Some(Message::Get(request)) = &message {
            self.count_again(request);
        }
        message
    }

    /// Counts the blocks that were asked for before. Each request is for blocks in a row, and the rows follow each other.
    fn count_again(&mut self, request: &BlockRequest) {
        let len = u64::from(request.len.max(1));
        let begin = u64::from(request.offset);
        let end = begin + len * u64::from(request.count);
        let asked = self.asked.filter(|(u_id, _)| *u_id == request.u_id).map_or(begin, |(_, to)| to);
        self.tally.blocks_again.add(asked.min(end).saturating_sub(begin).div_ceil(len));
        self.asked = Some((request.u_id, asked.max(end)));
    }

    /// Whether something waits for the carrier.
    pub(super) fn has_messages(&self) -> bool {
        !self.outbox.is_empty()
    }

    /// Forgets what could not be sent: the next wake says it all again.
    pub(super) fn drop_outbox(&mut self) {
        self.outbox.clear();
    }

    /// It wakes, to reach its gateway.
    pub(super) fn wakes(&mut self) {
        self.report("wake", json!({}));
        self.tally.wakes.add(1);
        self.awoke = Some(Instant::now());
    }

    /// Takes what the gateway has said in this wake.
    pub(super) fn hear(&mut self, input: Input<'_>) -> Result<Flow, BoardError> {
        if let Some(awoke) = self.awoke.take() {
            let after = awoke.elapsed();
            self.tally.brought(self.carrier, after);
            let what = match &input {
                Input::Manifest(_) => "manifest",
                Input::Sign(_) => "sign",
                Input::Block(_) => "block",
                _ => "later",
            };
            self.report("first", json!({ "what": what, "after_us": after.as_micros() as u64 }));
        }
        if let Input::Block(block) = &input {
            self.tally.blocks.add(1);
            self.tally.block_bytes.add(block.bytes.len() as u64);
        }
        if let Input::Later { .. } = &input {
            // Put off, not lost.
            self.asked = None;
        }
        self.give(input)
    }

    /// What is counted.
    pub(super) fn tally(&self) -> &Arc<Tally> {
        &self.tally
    }

    pub(super) fn give(&mut self, input: Input<'_>) -> Result<Flow, BoardError> {
        let now = self.now();
        let outbox = &mut self.outbox;
        let Outcome { flow, refused } =
            self.device.give(input, now, &mut |message| queue(outbox, message))?;
        if let Some(error) = refused {
            self.refused(&error);
        }
        Ok(flow)
    }

    pub(super) fn tick(&mut self) -> Result<Flow, BoardError> {
        let now = self.now();
        let outbox = &mut self.outbox;
        Ok(self.device.tick(now, &mut |message| queue(outbox, message))?)
    }

    fn refused(&self, error: &Error) {
        // Late and repeated blocks are the carrier's everyday life.
        if !matches!(error, Error::Unexpected(_)) {
            self.report("refused", json!({ "error": error.to_string() }));
        }
    }

    /// The gateway does not take what was said.
    pub(super) fn denied(&self, what: &str, error: &str) {
        self.report("denied", json!({ "what": what, "error": error }));
    }

    /// Says what a message means to whoever watches.
    pub(super) fn announce(&self, message: &Message) {
        if let Message::Status(status) = message {
            self.report(
                "status",
                json!({
                    "state": format!("{:?}", status.state),
                    "result": format!("{:?}", status.result),
                    "installed": status.installed.get(),
                    "next": status.next,
                    "reported": status.report.is_some(),
                }),
            );
        }
    }

    /// One line of JSON: the device, the event, and what belongs to it.
    pub(super) fn report(&self, event: &str, fields: Value) {
        let mut line = json!({ "device": self.id.to_string(), "event": event, "ms": self.now() });
        if let (Value::Object(line), Value::Object(fields)) = (&mut line, fields) {
            line.extend(fields);
        }
        say(&line);
    }
}

fn queue(outbox: &mut VecDeque<Message>, message: Message) {
    if outbox.len() < MAX_OUTBOX {
        outbox.push_back(message);
    }
}

/// Writes a line; nobody listening is no reason to stop.
pub(super) fn say(line: &Value) {
    let mut out = io::stdout().lock();
    let _ = writeln!(out, "{line}").and_then(|()| out.flush());
}
