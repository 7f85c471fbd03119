//! The configuration of one simulated sensor.

use std::fmt::Display;
use std::path::{Path, PathBuf};

use figment::Figment;
use figment::providers::{Format, Toml};
use posthouse_protocol::device::Config;
use posthouse_protocol::id::{DeviceKey, ProductId, ReleaseKey};
use serde::Deserialize;
use thiserror::Error;

/// Which file, key and value is wrong, in one line.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{0}")]
pub struct ConfigError(String);

impl ConfigError {
    pub(super) fn value(file: &Path, key: &str, value: &dyn Display, why: &dyn Display) -> Self {
        Self(format!("{}: {key} = {value}: {why}", file.display()))
    }
}

/// How the sensor reaches its gateway.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Carrier {
    /// MQTT 5 over TCP; the address is the broker's.
    Mqtt,
    /// CoAP over UDP; the address is the gateway's.
    Coap,
}

/// Curve of the device key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Curve {
    /// secp256k1.
    Secp256k1,
    /// NIST P-256.
    P256,
}

impl From<Curve> for posthouse_protocol::id::Curve {
    fn from(curve: Curve) -> Self {
        match curve {
            Curve::Secp256k1 => Self::Secp256k1,
            Curve::P256 => Self::P256,
        }
    }
}

/// One sensor. Paths are relative to the working directory.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// How it reaches its gateway.
    pub carrier: Carrier,
    /// `host:port` of the broker or the gateway.
    pub gateway: String,
    /// File of the device key: 64 hex digits, mode 0600.
    pub key_file: PathBuf,
    /// Curve of the device key.
    #[serde(default = "default_curve")]
    pub curve: Curve,
    /// The vendor's release key, 66 hex digits.
    pub release_key: String,
    /// The vendor's UUID, 32 hex digits, hyphens allowed.
    pub vendor_id: String,
    /// The device class's UUID, likewise.
    pub class_id: String,
    /// Directory of the persistent state; made if absent.
    pub state_dir: PathBuf,
    /// File of the image that runs; the spare slot lies beside it, as `<file>.spare`.
    pub slot_file: PathBuf,
    /// Bytes of the spare slot.
    #[serde(default = "default_slot_size")]
    pub slot_size: u32,
    /// Sequence number of the factory's image.
    #[serde(default)]
    pub installed: u64,
    /// Whether what it writes is on the disk before it goes on, as a power cut demands.
    #[serde(default = "default_sync")]
    pub sync: bool,
    /// Bytes of a block, 16 to 1024; over CoAP a power of two.
    #[serde(default = "default_block")]
    pub block: u16,
    /// Blocks asked for at once over MQTT, 1 to 64.
    #[serde(default = "default_window")]
    pub window: u16,
    /// Bytes after which progress is saved.
    #[serde(default = "default_checkpoint")]
    pub checkpoint: u32,
    /// Time from falling asleep to waking, ms.
    #[serde(default = "default_wake_ms")]
    pub wake_ms: u64,
    /// Time awake with nothing to do, ms.
    #[serde(default = "default_awake_ms")]
    pub awake_ms: u64,
    /// Time for a block, and for the gateway's first answer, ms.
    #[serde(default = "default_timeout_ms")]
    pub block_timeout_ms: u32,
    /// Requests for one block without an answer before it sleeps.
    #[serde(default = "default_tries")]
    pub block_tries: u8,
    /// Name at the broker.
    #[serde(default)]
    pub mqtt_username: Option<String>,
    /// File of the password at the broker.
    #[serde(default)]
    pub mqtt_password_file: Option<PathBuf>,
    /// PEM file of the authority that the broker's certificate must be by; without it, no TLS.
    #[serde(default)]
    pub mqtt_tls_ca: Option<PathBuf>,
    /// PEM file of the sensor's own certificate, with its chain.
    #[serde(default)]
    pub mqtt_tls_cert: Option<PathBuf>,
    /// PEM file of that certificate's key.
    #[serde(default)]
    pub mqtt_tls_key: Option<PathBuf>,
    /// Identity of the pre-shared key at the gateway's CoAP endpoint; without it, no DTLS.
    #[serde(default)]
    pub coap_psk_identity: Option<String>,
    /// File of that key: 32 to 128 hex digits, mode 0600.
    #[serde(default)]
    pub coap_psk_key_file: Option<PathBuf>,
}

fn default_curve() -> Curve {
    Curve::Secp256k1
}

fn default_slot_size() -> u32 {
    64 << 20
}

fn default_sync() -> bool {
    true
}

fn default_block() -> u16 {
    1024
}

fn default_window() -> u16 {
    64
}

fn default_checkpoint() -> u32 {
    64 << 10
}

fn default_wake_ms() -> u64 {
    10_000
}

fn default_awake_ms() -> u64 {
    1_000
}

fn default_timeout_ms() -> u32 {
    2_000
}

fn default_tries() -> u8 {
    4
}

impl Settings {
    /// Reads and checks a file.
    ///
    /// # Errors
    /// [`ConfigError`].
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        std::fs::metadata(path).map_err(|e| ConfigError(format!("{}: {e}", path.display())))?;
        let settings: Self = Figment::from(Toml::file_exact(path))
            .extract()
            .map_err(|errors| ConfigError(describe(path, errors)))?;
        settings.validate(path)?;
        Ok(settings)
    }

    pub(super) fn validate(&self, path: &Path) -> Result<(), ConfigError> {
        let wrong =
            |key: &str, value: &dyn Display, why: &str| Err(ConfigError::value(path, key, value, &why));
        if !(16..=1024).contains(&self.block) {
            return wrong("block", &self.block, "not within 16 to 1024");
        }
        if self.carrier == Carrier::Coap && !self.block.is_power_of_two() {
            return wrong("block", &self.block, "not a power of two, as CoAP's blocks are");
        }
        if !(1..=64).contains(&self.window) {
            return wrong("window", &self.window, "not within 1 to 64");
        }
        if self.checkpoint < 16 || !self.checkpoint.is_power_of_two() {
            return wrong("checkpoint", &self.checkpoint, "not a power of two from 16");
        }
        if self.block_tries == 0 {
            return wrong("block_tries", &self.block_tries, "at least 1 is needed");
        }
        if self.host_and_port().is_none() {
            return wrong("gateway", &self.gateway, "not host:port");
        }
        if self.release_key.parse::<ReleaseKey>().is_err() {
            return wrong("release_key", &self.release_key, "not 66 hex digits");
        }
        let own = (&self.mqtt_tls_ca, &self.mqtt_tls_cert, &self.mqtt_tls_key);
        if let (None, Some(file), _) | (None, _, Some(file)) | (_, Some(file), None) | (_, None, Some(file)) =
            own
        {
            return wrong(
                "mqtt_tls_cert",
                &file.display(),
                "mqtt_tls_ca, mqtt_tls_cert and mqtt_tls_key go together",
            );
        }
        if self.coap_psk_identity.is_some() != self.coap_psk_key_file.is_some() {
            let identity = self.coap_psk_identity.as_deref().unwrap_or_default();
            return wrong("coap_psk_identity", &identity, "goes together with coap_psk_key_file");
        }
        // As the gateway's file of keys has them.
        let fits = |id: &String| (1..=128).contains(&id.len()) && !id.contains(char::is_whitespace);
        if let Some(identity) = self.coap_psk_identity.as_ref().filter(|identity| !fits(identity)) {
            return wrong("coap_psk_identity", identity, "not 1 to 128 bytes without white space");
        }
        for (key, value) in [("vendor_id", &self.vendor_id), ("class_id", &self.class_id)] {
            if uuid(value).is_none() {
                return wrong(key, value, "not a UUID");
            }
        }
        Ok(())
    }

    /// The gateway's host and port.
    pub(super) fn host_and_port(&self) -> Option<(&str, u16)> {
        let (host, port) = self.gateway.rsplit_once(':')?;
        let host = host.trim_start_matches('[').trim_end_matches(']');
        Some((host, port.parse().ok()?)).filter(|(host, _)| !host.is_empty())
    }

    /// The machine's configuration for this key.
    pub(super) fn machine(&self, key: DeviceKey) -> Option<Config> {
        Some(Config {
            key,
            curve: self.curve.into(),
            product: ProductId::from_parts(uuid(&self.vendor_id)?, uuid(&self.class_id)?),
            release_key: self.release_key.parse().ok()?,
            slot: self.slot_size,
            wake_s: u32::try_from(self.wake_ms.div_ceil(1000)).unwrap_or(u32::MAX),
            block: self.block,
            // A CoAP request is for one block.
            window: if self.carrier == Carrier::Coap { 1 } else { self.window },
            checkpoint: self.checkpoint,
            block_timeout_ms: self.block_timeout_ms,
            block_tries: self.block_tries,
        })
    }
}

/// 16 bytes of a UUID, with or without its hyphens.
fn uuid(text: &str) -> Option<[u8; 16]> {
    let digits: String = text.chars().filter(|c| *c != '-').collect();
    let id: posthouse_protocol::id::DeviceId = digits.parse().ok()?;
    Some(id.to_bytes())
}

/// Figment's errors in one line that begins with the file.
fn describe(path: &Path, errors: figment::Error) -> String {
    let lines: Vec<String> = errors.into_iter().map(|error| error.to_string()).collect();
    let line = lines.join("; ").replace('\n', " ");
    format!("{}: {line}", path.display())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write as _;

    const GOOD: &str = r#"
        carrier = "coap"
        gateway = "127.0.0.1:5683"
        key_file = "key"
        release_key = "020000000000000000000000000000000000000000000000000000000000000001"
        vendor_id = "00112233-4455-6677-8899-aabbccddeeff"
        class_id = "ffeeddccbbaa99887766554433221100"
        state_dir = "state"
        slot_file = "slot"
    "#;

    fn load(text: &str) -> Result<Settings, ConfigError> {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(text.as_bytes()).unwrap();
        Settings::load(file.path())
    }

    #[test]
    fn a_short_configuration_is_enough() {
        let settings = load(GOOD).unwrap();
        assert_eq!((settings.block, settings.window), (1024, 64));
        let machine = settings.machine(DeviceKey::new([2; 33])).unwrap();
        assert_eq!(machine.product.vendor_id()[..3], [0, 0x11, 0x22]);
        assert_eq!(machine.window, 1);
    }

    #[test]
    fn each_wrong_value_is_named_with_its_key_in_one_line() {
        let wrong = [
            ("block = 8", "block"),
            ("block = 500", "block"),
            ("block = \"x\"", "block"),
            ("window = 0", "window"),
            ("checkpoint = 17", "checkpoint"),
            ("block_tries = 0", "block_tries"),
            ("colour = 1", "colour"),
            ("mqtt_tls_cert = \"a\"", "mqtt_tls_cert"),
            ("mqtt_tls_ca = \"a\"\nmqtt_tls_key = \"b\"", "mqtt_tls_cert"),
            ("coap_psk_identity = \"a\"", "coap_psk_identity"),
            ("coap_psk_key_file = \"a\"", "coap_psk_identity"),
            ("coap_psk_identity = \"a b\"\ncoap_psk_key_file = \"a\"", "coap_psk_identity"),
        ];
        for (line, key) in wrong {
            let error = load(&format!("{GOOD}\n{line}")).unwrap_err().to_string();
            assert!(error.contains(key), "{error}");
            assert!(!error.contains('\n'), "{error}");
        }
    }

    #[test]
    fn missing_and_malformed_files_are_named() {
        let error = Settings::load(Path::new("/nonexistent/sim.toml")).unwrap_err().to_string();
        assert!(error.starts_with("/nonexistent/sim.toml: "), "{error}");
        assert!(load("carrier = ").is_err());
        let error = load(&GOOD.replace("carrier = \"coap\"", "")).unwrap_err().to_string();
        assert!(error.contains("carrier"), "{error}");
        for (from, to) in [("127.0.0.1:5683", "127.0.0.1"), ("00112233-", "x-"), ("0200", "02")] {
            assert!(load(&GOOD.replace(from, to)).is_err(), "{from}");
        }
    }
}
