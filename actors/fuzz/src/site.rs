//! A registry of sensors with small bounds, some sensors with true keys, and an image.

use std::path::PathBuf;
use std::sync::OnceLock;

use bytes::Bytes;
use posthouse_protocol::id::{
    Attempt, Bounty, ChainId, Curve, DeviceId, LockHash, Payee, ProductId, UpdateId, Version,
};
use posthouse_protocol::key::SigningKey;
use posthouse_protocol::sensor::{Hello, SignRequest};

use crate::messages::{Image, Intent, Wanted};
use crate::sensors::{Limits, Policy, Registry};

/// Sensors with keys.
pub const SENSORS: u8 = 6;
/// Sensors registered at once.
pub const MAX_SENSORS: usize = 4;
/// Bytes of the image.
pub const IMAGE: usize = 3000;
const U_ID: UpdateId = UpdateId::new([0xab; 32]);

/// A registry without sensors.
pub fn registry() -> Registry {
    Registry::new(Policy::default(), Limits { max_sensors: MAX_SENSORS, max_blocks: 4, ..Limits::default() })
}

/// What a sensor says of itself.
pub fn hello(seed: u8) -> Hello {
    static HELLOS: OnceLock<Vec<Hello>> = OnceLock::new();
    HELLOS.get_or_init(|| (0..SENSORS).map(made).collect())[usize::from(seed % SENSORS)]
}

fn made(seed: u8) -> Hello {
    let curve = if seed.is_multiple_of(2) { Curve::Secp256k1 } else { Curve::P256 };
    let key = SigningKey::from_bytes(curve, &[seed + 1; 32]).expect("a scalar").device_key();
    Hello {
        v: 1,
        key,
        curve,
        product: ProductId::new([1; 32]),
        installed: Version::new(1),
        slot: 1 << 20,
        wake: 9,
    }
}

/// A sensor's name.
pub fn device(seed: u8) -> DeviceId {
    hello(seed).key.device_id()
}

fn image() -> Image {
    static PATH: OnceLock<PathBuf> = OnceLock::new();
    let path = PATH.get_or_init(|| {
        let path = std::env::temp_dir().join(format!("posthouse-fuzz-image-{}", std::process::id()));
        std::fs::write(&path, vec![0x5a; IMAGE]).expect("a file for the image");
        path
    });
    Image { u_id: U_ID, size: IMAGE as u64, path: path.clone() }
}

/// What may be wanted of a sensor: nothing, its manifest, a signature, the image.
pub fn intent(pick: u8) -> Intent {
    let manifest = Some(Bytes::from(vec![pick; if pick & 0x40 == 0 { 300 } else { 30 }]));
    let wanted = Some(Wanted { version: Version::new(2), size: IMAGE as u64 });
    match pick % 4 {
        0 => Intent::default(),
        1 => Intent { manifest, wanted, ..Intent::default() },
        2 => Intent { manifest, wanted, sign: Some(receipt(pick)), image: None },
        _ => Intent { manifest, wanted, sign: None, image: Some(image()) },
    }
}

fn receipt(s: u8) -> SignRequest {
    SignRequest::Receipt {
        chain: ChainId::new(1),
        bounty: Bounty::new([1; 20]),
        payee: Payee::new([1; 20]),
        u_id: U_ID,
        s: LockHash::new([s; 32]),
        attempt: Attempt::new(1),
    }
}

/// The bytes of an input, one after the other; zeros when there are no more.
pub struct Input<'a>(pub &'a [u8]);

impl<'a> Input<'a> {
    /// Whether there are more.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The next.
    pub fn byte(&mut self) -> u8 {
        let Some((first, rest)) = self.0.split_first() else { return 0 };
        self.0 = rest;
        *first
    }

    /// The next two.
    pub fn word(&mut self) -> u16 {
        u16::from_be_bytes([self.byte(), self.byte()])
    }

    /// So many, or as many as there are.
    pub fn bytes(&mut self, len: usize) -> &'a [u8] {
        let (taken, rest) = self.0.split_at(len.min(self.0.len()));
        self.0 = rest;
        taken
    }
}
