//! What the demo prints: each step with its time, and the table at the end.

use std::{
    collections::HashSet,
    fmt::{Display, Write as _},
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use alloy::primitives::utils::format_ether;
use anyhow::Result;
use posthouse_actors::status::{Device, Exchange};

use super::Earned;
use crate::site::{Carrier, Published, Site};

/// Tells each step with the seconds since the start.
#[derive(Clone, Copy)]
pub(super) struct Narrator {
    begun: Instant,
    begun_ms: u64,
}

impl Narrator {
    pub(super) fn new(begun: Instant) -> Self {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Self { begun, begun_ms: u64::try_from(since.as_millis()).unwrap_or(u64::MAX) }
    }

    pub(super) fn step(&self, what: impl Display) {
        self.at(self.begun.elapsed(), what);
    }

    /// Something that a process says happened at that Unix millisecond.
    fn told(&self, at_ms: u64, what: impl Display) {
        self.at(Duration::from_millis(at_ms.saturating_sub(self.begun_ms)), what);
    }

    fn at(&self, since: Duration, what: impl Display) {
        eprintln!("{:7.2} s  {what}", since.as_secs_f32());
    }
}

/// Tells the gateway's own account of its exchanges as it grows. Ends only with an error.
pub(super) async fn follow(url: &str, say: &Narrator) -> Result<()> {
    let client = crate::site::client()?;
    let mut told = HashSet::new();
    let mut ticks = tokio::time::interval(Duration::from_millis(200));
    loop {
        ticks.tick().await;
        let Ok(answer) = client.get(url).send().await else { continue };
        let Ok(body) = answer.bytes().await else { continue };
        let Ok(exchanges) = serde_json::from_slice::<Vec<Exchange>>(&body) else { continue };
        for event in exchanges.into_iter().flat_map(|one| one.events) {
            if told.insert((event.at, event.text.clone())) {
                say.told(event.at, format!("gateway: {}", event.text));
            }
        }
    }
}

/// Sensors, distributors, and the one line that says whether all went well.
pub(super) async fn table(
    site: &Site,
    published: &Published,
    image: &[u8],
    earned: &[Earned],
    last: &str,
) -> String {
    let devices: Vec<Device> = site.devices().await;
    let mut text = String::new();
    let mut row = |line: String| {
        // Writing to a String cannot fail.
        let _ = writeln!(text, "{line}");
    };
    row(format!(
        "\n{:<34}{:<9}{:>8}{:>8}{:>12}{:>10}",
        "sensor", "carrier", "before", "after", "bytes", "time"
    ));
    for sensor in &site.sensors {
        let device = devices.iter().find(|d| d.key == sensor.key);
        let name = device.map_or(sensor.key.as_str(), |d| &d.device);
        let after = device.map_or(0, |d| d.installed);
        let carrier = match sensor.carrier {
            Carrier::Mqtt => "mqtt",
            Carrier::Coap => "coap",
        };
        let bytes = std::fs::metadata(&sensor.slot).map_or(0, |m| m.len());
        let time = sensor.took().map_or_else(|| "-".into(), |t| format!("{:.1} s", t.as_secs_f32()));
        row(format!("{name:<34}{carrier:<9}{:>8}{after:>8}{bytes:>12}{time:>10}", 0));
    }
    row(format!("\n{:<44}{:>8}{:>24}{:>10}", "distributor", "claims", "paid (ether)", "gas"));
    for one in earned {
        row(format!("{:<44}{:>8}{:>24}{:>10}", one.address, one.claims, format_ether(one.paid), one.gas));
    }
    row(format!("\nversion {} · {} bytes\n{last}", published.version, image.len()));
    text
}
