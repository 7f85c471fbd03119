//! Many sensors in one process: each as a process of its own would run it, with its own key, files, socket and clock.
//!
//! It is there to load a gateway. No power cut will hit it, so what its sensors write is left to the page cache: two
//! thousand of them that wait for one disk would measure the disk.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use posthouse_protocol::id::Version;
use posthouse_protocol::key::SigningKey;
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};
use serde_json::json;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout_at};

use super::config::{Carrier, ConfigError, Settings};
use super::node::{StopReason, say};
use super::tally::Tally;
use super::{Ending, keyfile, life};

/// What a herd is made of.
#[derive(Debug, Args)]
pub(super) struct Herd {
    /// The configuration of each, TOML; its key, files, carrier and wakes are as the other arguments say.
    #[arg(long)]
    config: PathBuf,
    /// Sensor N keeps key, state and slot in `sensor-N.d` in this folder. A key that is missing is made.
    #[arg(long)]
    folder: PathBuf,
    /// Sensors.
    #[arg(long)]
    count: usize,
    /// `host:port` of the broker, for the first half of the sensors, or for all where no other address is given.
    #[arg(long)]
    mqtt: Option<String>,
    /// `host:port` of the gateway, for the other half.
    #[arg(long)]
    coap: Option<String>,
    /// How long they sleep, ms, each from one wake to the next: from the first number to the second.
    #[arg(long, value_name = "MIN-MAX", value_parser = range)]
    wake_ms: Option<(u64, u64)>,
    /// Who sleeps how long, and when each begins.
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Stop once all run this version and have reported it.
    #[arg(long, value_name = "VERSION")]
    until: Option<u64>,
    /// Stop after so many seconds at the latest.
    #[arg(long, value_name = "SECONDS")]
    within: Option<u64>,
    /// Only make the keys that are missing, and print the public ones.
    #[arg(long)]
    keys: bool,
}

/// One of them, not awake yet.
struct Member {
    settings: Settings,
    key: SigningKey,
    /// When it wakes for the first time.
    begins: Duration,
}

fn range(text: &str) -> Result<(u64, u64), String> {
    let (min, max) = text.split_once('-').ok_or("not MIN-MAX")?;
    let number = |text: &str| text.parse().map_err(|_| format!("{text} is not a number"));
    let (min, max) = (number(min)?, number(max)?);
    if min <= max { Ok((min, max)) } else { Err(format!("{min} is more than {max}")) }
}

impl Herd {
    /// Reads and makes what the sensors need.
    pub(super) fn gather(&self) -> Result<Gathered, ConfigError> {
        let template = Settings::load(&self.config)?;
        if let Some(identity) = &template.coap_psk_identity {
            let why = "a pre-shared key is one device's, and a herd has one configuration";
            return Err(ConfigError::value(&self.config, "coap_psk_identity", identity, &why));
        }
        let mut random = StdRng::seed_from_u64(self.seed);
        let members = (0..self.count).map(|number| self.member(&template, number, &mut random));
        Ok(Gathered { members: members.collect::<Result<_, _>>()?, until: self.until, within: self.within })
    }

    /// Whether the keys are all that is wanted.
    pub(super) fn keys_only(&self) -> bool {
        self.keys
    }

    fn member(&self, template: &Settings, number: usize, random: &mut StdRng) -> Result<Member, ConfigError> {
        let folder = self.folder.join(format!("sensor-{number}.d"));
        let (carrier, gateway) = self.way(template, number);
        let wake_ms = self.wake_ms.map_or(template.wake_ms, |(min, max)| random.random_range(min..=max));
        let settings = Settings {
            carrier,
            gateway,
            wake_ms,
            key_file: folder.join("device.key"),
            state_dir: folder.join("state"),
            slot_file: folder.join("flash"),
            sync: false,
            ..template.clone()
        };
        settings.validate(&self.config)?;
        let key = key(&folder, &settings).map_err(|error| {
            ConfigError::value(&self.config, "key_file", &settings.key_file.display(), &error)
        })?;
        let begins = Duration::from_millis(random.random_range(0..=wake_ms));
        Ok(Member { settings, key, begins })
    }

    fn way(&self, template: &Settings, number: usize) -> (Carrier, String) {
        let first = number < self.count.div_ceil(2);
        match (&self.mqtt, &self.coap) {
            (Some(broker), other) if first || other.is_none() => (Carrier::Mqtt, broker.clone()),
            (_, Some(gateway)) => (Carrier::Coap, gateway.clone()),
            _ => (template.carrier, template.gateway.clone()),
        }
    }
}

fn key(folder: &Path, settings: &Settings) -> Result<SigningKey, keyfile::KeyFileError> {
    let (file, curve) = (&settings.key_file, settings.curve.into());
    if file.exists() {
        return keyfile::read(file, curve);
    }
    std::fs::create_dir_all(folder)?;
    keyfile::create(file, curve)
}

/// A herd that is ready to live.
pub(super) struct Gathered {
    members: Vec<Member>,
    until: Option<u64>,
    within: Option<u64>,
}

impl Gathered {
    /// One line for each sensor, in their order.
    pub(super) fn tell_keys(&self) {
        for Member { key, .. } in &self.members {
            let public = key.device_key();
            say(&json!({ "device": public.device_id().to_string(), "key": public.to_string() }));
        }
    }

    /// Lives until all are where they should be, or the time is up; the last line says what came of it. Whether all are.
    pub(super) async fn live(self) -> bool {
        let (begun, count) = (Instant::now(), self.members.len());
        let tally = Arc::new(Tally::default());
        let ending = Ending { once: false, until: self.until.map(Version::new) };
        let mut lives = JoinSet::new();
        for Member { settings, key, begins } in self.members {
            let tally = Arc::clone(&tally);
            lives.spawn(async move {
                tokio::time::sleep(begins).await;
                life::live(settings, key, ending, tally).await
            });
        }
        let end = self.within.map(|seconds| begun + Duration::from_secs(seconds));
        let (mut done, mut failed) = (0, 0);
        loop {
            let ended = match end {
                Some(end) => timeout_at(end, lives.join_next()).await.unwrap_or(None),
                None => lives.join_next().await,
            };
            match ended {
                None => break,
                Some(Ok(StopReason::Done)) => done += 1,
                Some(Ok(StopReason::Failed(error))) => {
                    failed += 1;
                    say(&json!({ "event": "failed", "error": error.to_string() }));
                }
                Some(Err(error)) => {
                    failed += 1;
                    say(&json!({ "event": "failed", "error": error.to_string() }));
                }
            }
        }
        let seconds = begun.elapsed().as_secs_f64();
        let mut line =
            json!({ "event": "herd", "sensors": count, "done": done, "failed": failed, "s": seconds });
        if let (Some(line), serde_json::Value::Object(told)) = (line.as_object_mut(), tally.to_json()) {
            line.extend(told);
        }
        say(&line);
        failed == 0 && (done == count || self.until.is_none())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_has_two_ends_in_order() {
        assert_eq!(range("1000-30000"), Ok((1000, 30_000)));
        assert_eq!(range("5-5"), Ok((5, 5)));
        for wrong in ["", "5", "6-5", "a-5", "5-", "-5", "1-2-3"] {
            assert!(range(wrong).is_err(), "{wrong}");
        }
    }
}
