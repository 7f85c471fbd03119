//! The machine in a small world: a flash that can be cut off, a vendor, a gateway that may lie.

use std::vec;
use std::vec::Vec;

use super::*;
use crate::cose::ReleaseSigningKey;
use crate::id::{Attempt, Bounty, ChainId, LockHash, Payee, PeerHash};
use crate::key::SigningKey;
use crate::sensor::ErrorCode;

mod chaos;
mod manifest;
mod sign;
mod transfer;

const PRODUCT: ProductId = ProductId::new([7; 32]);
const OLD: Version = Version::new(4);
const NEW: Version = Version::new(5);
const BLOCK: u16 = 64;
const CHECKPOINT: u32 = 256;

/// An image that is no multiple of block or checkpoint.
fn firmware(seed: u8) -> Vec<u8> {
    (0..1000_u32).map(|i| (i.wrapping_mul(31) >> 2) as u8 ^ seed).collect()
}

fn u_id(image: &[u8]) -> UpdateId {
    UpdateId::new(Sha256::digest(image).into())
}

fn key() -> SigningKey {
    SigningKey::from_bytes(Curve::P256, &[3; 32]).unwrap()
}

fn release_key() -> ReleaseSigningKey {
    ReleaseSigningKey::from_bytes(&[9; 32]).unwrap()
}

fn other_release_key() -> ReleaseSigningKey {
    ReleaseSigningKey::from_bytes(&[8; 32]).unwrap()
}

fn sealed(manifest: &Manifest) -> Vec<u8> {
    suit::build(manifest, &release_key())
}

fn config() -> Config {
    Config {
        key: key().device_key(),
        curve: Curve::P256,
        product: PRODUCT,
        release_key: release_key().release_key(),
        slot: 4096,
        wake_s: 60,
        block: BLOCK,
        window: 4,
        checkpoint: CHECKPOINT,
        block_timeout_ms: 500,
        block_tries: 3,
    }
}

fn manifest_of(version: Version, image: &[u8]) -> Manifest {
    Manifest { sequence: version, product: PRODUCT, u_id: u_id(image), size: image.len() as u32 }
}

fn envelope(version: Version, image: &[u8]) -> Vec<u8> {
    sealed(&manifest_of(version, image))
}

fn receipt(image: &[u8], s: u8, attempt: u8) -> SignRequest {
    SignRequest::Receipt {
        chain: ChainId::new(1),
        bounty: Bounty::new([2; 20]),
        payee: Payee::new([3; 20]),
        u_id: u_id(image),
        s: LockHash::new([s; 32]),
        attempt: Attempt::new(attempt),
    }
}

fn delegate(bounty: u8, gateway: u8) -> SignRequest {
    SignRequest::Delegate {
        chain: ChainId::new(1),
        bounty: Bounty::new([bounty; 20]),
        gateway: PeerHash::new([gateway; 32]),
    }
}

/// The power went.
#[derive(Debug, PartialEq, Eq)]
struct Cut;

/// What is soldered around the machine, and survives a cut.
struct Board {
    persisted: [u8; Stored::LEN],
    active: Vec<u8>,
    spare: Vec<u8>,
    /// Durable operations until the power goes, half of the last one done.
    fuel: Option<u32>,
    now: u64,
    sensor: Sensor,
    sent: Vec<Message>,
    block: Vec<u8>,
}

impl Board {
    fn new() -> Self {
        let stored = Stored::factory(OLD);
        Self {
            persisted: stored.to_bytes(),
            active: firmware(0),
            spare: vec![0xff; 4096],
            fuel: None,
            now: 0,
            sensor: Sensor::new(config(), stored, Boot::Unknown),
            sent: Vec::new(),
            block: Vec::new(),
        }
    }

    fn awake() -> Self {
        let mut board = Self::new();
        board.give(Input::Wake).unwrap();
        board
    }

    /// Hands in an input and carries out what follows, restarting if the power goes or it activates.
    fn give(&mut self, input: Input<'_>) -> Result<(), Error> {
        if let Input::Block(block) = input {
            self.block = block.bytes.to_vec();
        }
        let done = self.sensor.handle(input, self.now);
        self.run();
        done
    }

    fn run(&mut self) {
        while let Some(output) = self.sensor.poll(self.now) {
            if self.carry_out(output).is_err() {
                self.power_up();
            }
        }
    }

    fn power_up(&mut self) {
        self.fuel = None;
        let stored = Stored::from_bytes(&self.persisted).unwrap();
        let boot = Boot::Image(u_id(&self.active));
        self.sensor = Sensor::new(config(), stored, boot);
    }

    /// Whether the operation may be whole; it is torn if not.
    fn burn(&mut self) -> bool {
        match &mut self.fuel {
            Some(0) => false,
            Some(fuel) => {
                *fuel -= 1;
                true
            }
            None => true,
        }
    }

    fn carry_out(&mut self, output: Output) -> Result<(), Cut> {
        match output {
            Output::Write { offset } => return self.write(offset as usize),
            // Persisting is atomic, as `device` makes it: a cut leaves the old state.
            Output::Persist if self.burn() => self.persisted = self.sensor.stored().to_bytes(),
            Output::Activate(verified) if self.burn() => {
                let image = self.spare[..verified.size() as usize].to_vec();
                assert_eq!(u_id(&image), verified.u_id(), "only a verified image is activated");
                self.active = image;
                return Err(Cut);
            }
            Output::Persist | Output::Activate(_) => return Err(Cut),
            Output::Sign(digest) => {
                let signed = Input::Signed(key().sign(&digest));
                self.sensor.handle(signed, self.now).unwrap();
            }
            Output::Send(message) => self.sent.push(message),
            Output::Read { offset, len } => {
                let bytes = self.spare[offset as usize..][..len as usize].to_vec();
                self.sensor.handle(Input::Slot(&bytes), self.now).unwrap();
            }
        }
        Ok(())
    }

    fn write(&mut self, offset: usize) -> Result<(), Cut> {
        let len = if self.burn() { self.block.len() } else { self.block.len() / 2 };
        self.spare[offset..offset + len].copy_from_slice(&self.block[..len]);
        if len == self.block.len() { Ok(()) } else { Err(Cut) }
    }

    fn take_sent(&mut self) -> Vec<Message> {
        core::mem::take(&mut self.sent)
    }

    fn requests(&mut self) -> Vec<BlockRequest> {
        let get = |message| if let Message::Get(get) = message { Some(get) } else { None };
        self.take_sent().into_iter().filter_map(get).collect()
    }

    fn refusals(&mut self) -> Vec<ErrorCode> {
        let code = |message| if let Message::Refused(error) = message { Some(error.code) } else { None };
        self.take_sent().into_iter().filter_map(code).collect()
    }

    /// Serves what was asked for, well, until nothing is asked for any more.
    fn serve(&mut self, image: &[u8]) {
        loop {
            let requests = self.requests();
            if requests.is_empty() {
                return;
            }
            for request in requests {
                for (offset, bytes) in blocks(&request, image) {
                    let _ = self.give(Input::Block(Block { u_id: request.u_id, offset, bytes: &bytes }));
                }
            }
        }
    }
}

/// The blocks that a request asks for.
fn blocks(request: &BlockRequest, image: &[u8]) -> Vec<(u32, Vec<u8>)> {
    let rest = image.get(request.offset as usize..).unwrap_or_default();
    let parts = rest.chunks(request.len.into()).take(request.count.into());
    parts.zip(0..).map(|(part, i)| (request.offset + i * u32::from(request.len), part.to_vec())).collect()
}
