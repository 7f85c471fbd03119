//! How sensors are reached.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;

use serde::Deserialize;
use zeroize::Zeroizing;

use super::ConfigError;
use super::tls::{self, FileError};
use crate::coap;
use crate::mqtt;
use crate::sensors::{Budget, Limits as HubLimits, Policy as HubPolicy};

/// Least seconds without a word after which a session may end: a handshake takes up to 40.
pub(super) const MIN_IDLE: u32 = 60;

/// How sensors are reached.
#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Sensors {
    /// Whether sign requests go out over carriers that do not authenticate sensors. Then whoever can
    /// pretend to be the gateway can have receipts signed for a payee of their own.
    pub allow_unauthenticated_signing: bool,
    /// When a sensor should ask again for what is not there yet, seconds.
    pub retry_after_secs: u32,
    /// Sensors registered at once.
    pub max_registered: usize,
    /// The site's broker, if sensors speak MQTT.
    pub mqtt: Option<Mqtt>,
    /// The gateway's own endpoint, if sensors speak CoAP.
    pub coap: Option<Coap>,
}

impl Default for Sensors {
    fn default() -> Self {
        let (policy, limits) = (HubPolicy::default(), HubLimits::default());
        Self {
            allow_unauthenticated_signing: policy.allow_unauthenticated_signing,
            retry_after_secs: policy.retry_after,
            max_registered: limits.max_sensors,
            mqtt: None,
            coap: None,
        }
    }
}

/// The site's MQTT broker.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Mqtt {
    /// Host.
    pub host: String,
    /// Port.
    #[serde(default = "mqtt_port")]
    pub port: u16,
    /// The gateway's name at the broker.
    #[serde(default = "mqtt_client")]
    pub client_id: String,
    /// User name.
    pub username: Option<String>,
    /// File with the password.
    pub password_file: Option<PathBuf>,
    /// PEM file of the authority that the broker's certificate must be by; without it, no TLS.
    pub tls_ca: Option<PathBuf>,
    /// PEM file of the gateway's own certificate, for a broker that asks for one.
    pub tls_cert: Option<PathBuf>,
    /// PEM file of its key.
    pub tls_key: Option<PathBuf>,
    /// Whether the broker knows each sensor and lets it publish to its own topics only.
    #[serde(default)]
    pub authenticated: bool,
    /// Whose topics sensors are shown on: `thin-edge`, `home-assistant`.
    #[serde(default)]
    pub mirror: Vec<mqtt::Mirror>,
    /// Bytes of images that all sensors together are sent in a second; as many as will go if absent.
    pub max_bytes_per_sec: Option<u64>,
}

/// The gateway's CoAP endpoints.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Coap {
    /// Where to listen without DTLS; nowhere if absent.
    pub listen: Option<SocketAddr>,
    /// The endpoint that knows each sensor by its key.
    pub dtls: Option<Dtls>,
    /// Bytes of images that all sensors together are sent in a second; as many as will go if absent.
    pub max_bytes_per_sec: Option<u64>,
}

/// CoAP over DTLS 1.2 with pre-shared keys.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Dtls {
    /// Where to listen; port 5684 is its own.
    pub listen: SocketAddr,
    /// File of the keys, or a directory of such files, that only the owner may read: a line `<identity> <device> <key>` each.
    pub keys: PathBuf,
    /// Sessions at once, from 1; further ones push out the one that was silent longest.
    #[serde(default = "dtls_sessions")]
    pub max_sessions: usize,
    /// A session ends after so long without a word, seconds, from 60.
    #[serde(default = "dtls_idle")]
    pub idle_secs: u32,
}

impl Sensors {
    /// As the hub takes it.
    pub fn policy(&self) -> (HubPolicy, HubLimits) {
        let policy = HubPolicy {
            allow_unauthenticated_signing: self.allow_unauthenticated_signing,
            retry_after: self.retry_after_secs,
        };
        let limits = HubLimits {
            max_sensors: self.max_registered,
            mqtt_bytes_per_sec: self.mqtt.as_ref().and_then(|mqtt| mqtt.max_bytes_per_sec),
            coap_bytes_per_sec: self.coap.as_ref().and_then(|coap| coap.max_bytes_per_sec),
            ..HubLimits::default()
        };
        (policy, limits)
    }

    /// Refuses a share of a carrier that no block fits in, sessions that cannot be, and two endpoints in one place.
    ///
    /// # Errors
    /// The first value that cannot be used.
    pub fn check(&self) -> Result<(), ConfigError> {
        let (_, limits) = self.policy();
        let rates = [("mqtt", limits.mqtt_bytes_per_sec), ("coap", limits.coap_bytes_per_sec)];
        if let Some((carrier, _)) =
            rates.into_iter().find(|(_, rate)| rate.is_some_and(|rate| rate < Budget::MIN_RATE))
        {
            return Err(ConfigError::Bandwidth(carrier));
        }
        let Some(Coap { listen, dtls: Some(dtls), .. }) = &self.coap else { return Ok(()) };
        if dtls.max_sessions == 0 {
            return Err(ConfigError::DtlsSessions);
        }
        if dtls.idle_secs < MIN_IDLE {
            return Err(ConfigError::DtlsIdle(dtls.idle_secs));
        }
        match listen.filter(|listen| is_same_place(*listen, dtls.listen)) {
            Some(_) => Err(ConfigError::DtlsPort(dtls.listen.port())),
            None => Ok(()),
        }
    }

    /// As the carrier takes it, with the files read.
    ///
    /// # Errors
    /// A file cannot be used, or one of two keys that go together is missing.
    pub fn mqtt(&self) -> Result<Option<mqtt::Config>, ConfigError> {
        let Some(mqtt) = &self.mqtt else { return Ok(None) };
        Ok(Some(mqtt::Config {
            host: mqtt.host.clone(),
            port: mqtt.port,
            client_id: mqtt.client_id.clone(),
            credentials: mqtt.credentials()?,
            tls: mqtt.tls()?,
            authenticated: mqtt.authenticated,
            mirrors: mqtt.mirror.clone(),
        }))
    }

    /// The same, whatever file the keys are in.
    pub(super) fn without_keys(&self) -> Self {
        let mut sensors = self.clone();
        if let Some(dtls) = sensors.coap.as_mut().and_then(|coap| coap.dtls.as_mut()) {
            dtls.keys = PathBuf::new();
        }
        sensors
    }

    /// Whether there is an endpoint that knows sensors by their keys.
    pub(crate) fn has_dtls(&self) -> bool {
        self.coap.as_ref().is_some_and(|coap| coap.dtls.is_some())
    }

    /// The keys of sensors that speak DTLS, as they are in their files now.
    ///
    /// # Errors
    /// They cannot be used.
    pub fn dtls_keys(&self) -> Result<Option<coap::Keys>, ConfigError> {
        self.coap.as_ref().and_then(|coap| coap.dtls.as_ref()).map(Dtls::load_keys).transpose()
    }

    /// The CoAP endpoints as the carrier takes them, with the keys read, and the key in the configuration of each.
    ///
    /// # Errors
    /// The keys cannot be used, or there is nowhere to listen.
    pub fn coap(&self) -> Result<Vec<(&'static str, coap::Config)>, ConfigError> {
        let Some(Coap { listen, dtls, .. }) = &self.coap else { return Ok(Vec::new()) };
        let settings =
            |listen| coap::Config { retry_after: self.retry_after_secs, ..coap::Config::new(listen) };
        let mut endpoints = Vec::new();
        if let Some(listen) = listen {
            endpoints.push(("sensors.coap.listen", settings(*listen)));
        }
        if let Some(dtls) = dtls {
            let keys = dtls.load_keys()?;
            let limits = coap::SessionLimits {
                max_sessions: dtls.max_sessions,
                idle_secs: dtls.idle_secs,
                ..coap::SessionLimits::default()
            };
            let over = coap::Config { dtls: Some((keys, limits)), ..settings(dtls.listen) };
            endpoints.push(("sensors.coap.dtls.listen", over));
        }
        if endpoints.is_empty() { Err(ConfigError::NoCoap) } else { Ok(endpoints) }
    }
}

impl Dtls {
    fn load_keys(&self) -> Result<coap::Keys, ConfigError> {
        coap::Keys::load(&self.keys).map_err(|why| ConfigError::DtlsKeys(why.to_string()))
    }
}

impl Mqtt {
    fn credentials(&self) -> Result<Option<(String, Zeroizing<String>)>, ConfigError> {
        match (&self.username, &self.password_file) {
            (Some(name), Some(file)) => {
                let failed = |error| ConfigError::MqttFile(file.clone(), error);
                let bytes = tls::secret(file).map_err(failed)?;
                let text = std::str::from_utf8(&bytes).map_err(|_| failed(FileError::Text))?;
                Ok(Some((name.clone(), Zeroizing::new(text.trim_end_matches(['\r', '\n']).to_owned()))))
            }
            (None, None) => Ok(None),
            _ => Err(ConfigError::Together("username and password_file")),
        }
    }

    fn tls(&self) -> Result<Option<Arc<rustls::ClientConfig>>, ConfigError> {
        let own = match (&self.tls_cert, &self.tls_key) {
            (Some(certificate), Some(key)) => Some((certificate.as_path(), key.as_path())),
            (None, None) => None,
            _ => return Err(ConfigError::Together("tls_cert and tls_key")),
        };
        match &self.tls_ca {
            Some(ca) => tls::client(ca, own)
                .map(Some)
                .map_err(|(file, error)| ConfigError::MqttFile(file.to_owned(), error)),
            None if own.is_some() => Err(ConfigError::Together("tls_cert and tls_ca")),
            None => Ok(None),
        }
    }
}

/// Whether only one of two endpoints could have the datagrams. An address that stands for all of the machine's covers the others;
/// that of IPv6 those of IPv4 as well (ipv6(7), `IPV6_V6ONLY`). Port 0 is another one each time.
fn is_same_place(one: SocketAddr, other: SocketAddr) -> bool {
    let (ip, other_ip) = (one.ip().to_canonical(), other.ip().to_canonical());
    let covers = |all: IpAddr, ip: IpAddr| all.is_unspecified() && (all.is_ipv6() || ip.is_ipv4());
    let meet = ip == other_ip || covers(ip, other_ip) || covers(other_ip, ip);
    meet && one.port() == other.port() && one.port() != 0
}

const fn mqtt_port() -> u16 {
    1883
}

fn dtls_sessions() -> usize {
    coap::SessionLimits::default().max_sessions
}

fn dtls_idle() -> u32 {
    coap::SessionLimits::default().idle_secs
}

fn mqtt_client() -> String {
    "posthouse".into()
}
