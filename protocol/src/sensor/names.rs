//! What the messages are called on the carriers: the last level of an MQTT topic
//! `ph/1/<device>/<name>`, and of a CoAP path `/ph/<name>`.

/// First level of the topics, and first segment of the paths.
pub const ROOT: &str = "ph";
/// Second level of the topics: the version of the protocol, [`super::VERSION`].
pub const TOPIC_VERSION: &str = "1";

/// Up: [`super::Hello`]; retained over MQTT.
pub const HELLO: &str = "hello";
/// Down: a SUIT envelope; retained over MQTT, `GET` over CoAP.
pub const MANIFEST: &str = "manifest";
/// Down: [`super::SignRequest`]; `GET` over CoAP.
pub const SIGN: &str = "sign";
/// Up: [`super::SignatureMsg`].
pub const SIGNATURE: &str = "signature";
/// Up over MQTT: [`super::BlockRequest`].
pub const GET: &str = "get";
/// Down over MQTT: [`super::Block`].
pub const BLOCK: &str = "block";
/// Over CoAP, followed by the hex of the image's digest: its bytes, by Block2 (RFC 7959).
pub const IMAGE: &str = "image";
/// Up: [`super::Status`]; retained over MQTT, answered with [`super::StatusReply`] over CoAP.
pub const STATUS: &str = "status";
/// Up: [`super::ErrorMsg`], what the sensor will not do.
pub const REFUSED: &str = "refused";
/// Down over MQTT: [`super::ErrorMsg`], what the gateway cannot serve, and when to come back.
pub const ERROR: &str = "error";
/// Query of a CoAP `GET` that says whom it is for: `d=<device>`. Where the carrier knows its peers
/// it must be theirs.
pub const DEVICE_QUERY: &str = "d=";
