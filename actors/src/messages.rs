//! What the actors say to each other across modules.
//!
//! Carriers tell the exchanges what sensors said; the exchanges tell the hub what each sensor should
//! find. Messages that only one pair of actors uses stand beside the actor that answers them.

use std::path::PathBuf;

use actix::Message;
use bytes::Bytes;
use posthouse_protocol::id::{DeviceId, DeviceKey, UpdateId, Version};
use posthouse_protocol::sensor::{ErrorMsg, Hello, SignRequest, SignatureMsg, Status};

/// How a sensor is reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Carrier {
    /// By the site's MQTT broker.
    Mqtt,
    /// By the gateway's CoAP endpoint.
    Coap,
}

impl Carrier {
    /// Lower-case name, as in status and storage.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Mqtt => "mqtt",
            Self::Coap => "coap",
        }
    }
}

/// A sensor said hello: carrier → exchange.
#[derive(Debug, Clone, Copy, Message)]
#[rtype(result = "()")]
pub struct SensorHello {
    /// What it said.
    pub hello: Hello,
    /// Over what.
    pub carrier: Carrier,
    /// Whether the carrier knows that it is this device.
    pub authenticated: bool,
}

/// A sensor signed something: carrier → exchange.
#[derive(Debug, Clone, Copy, Message)]
#[rtype(result = "()")]
pub struct SensorSignature {
    /// Who.
    pub device: DeviceKey,
    /// What it sent; the exchange verifies it.
    pub msg: SignatureMsg,
}

/// A sensor told how far it is: carrier → exchange.
#[derive(Debug, Clone, Copy, Message)]
#[rtype(result = "()")]
pub struct SensorStatus {
    /// Who.
    pub device: DeviceKey,
    /// What it sent.
    pub status: Status,
}

/// A sensor refused what it was asked to do: carrier → exchange.
#[derive(Debug, Clone, Copy, Message)]
#[rtype(result = "()")]
pub struct SensorRefusal {
    /// Who.
    pub device: DeviceKey,
    /// What it sent.
    pub error: ErrorMsg,
}

/// What a sensor should find when it is next awake; replaces the whole of what was there:
/// exchange → hub.
#[derive(Debug, Clone, Message)]
#[rtype(result = "()")]
pub struct SetIntent {
    /// Who.
    pub device: DeviceId,
    /// What.
    pub intent: Intent,
}

/// The newest intent for a sensor, not a backlog.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Intent {
    /// SUIT envelope.
    pub manifest: Option<Bytes>,
    /// What the envelope is of.
    pub wanted: Option<Wanted>,
    /// Something to sign. Goes out only over an authenticated carrier, unless the site turned that
    /// off.
    pub sign: Option<SignRequest>,
    /// The image, staged.
    pub image: Option<Image>,
}

/// A version that a sensor should run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Wanted {
    /// Its sequence number.
    pub version: Version,
    /// Bytes of its image.
    pub size: u64,
}

/// A staged image: a complete, verified file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Image {
    /// Its digest.
    pub u_id: UpdateId,
    /// Bytes.
    pub size: u64,
    /// Where it is; never written again.
    pub path: PathBuf,
}
