//! `/metrics`: what the status shows and the process uses, in the OpenMetrics text format. `docs/metrics.md` names each.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use posthouse_protocol::gateway::StateName;
use posthouse_protocol::sensor::State;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use super::usage::Process;
use super::{CarriedBytes, Device, Exchange, Snapshot};
use crate::messages::Carrier;

/// What the answer is.
pub(super) const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// A sensor that was not heard for so long may be no more, ms.
const LATELY_MS: u64 = 7 * 24 * 3_600_000;

/// Metrics of one instant.
struct Page(Registry);

impl Page {
    fn gauge(&mut self, name: &str, help: &str, value: impl TryInto<i64>) {
        gauge(&mut self.0, name, help, value);
    }

    /// One gauge for each value of a label; those that should be there at 0 too are in `counts`.
    fn by(&mut self, name: &str, help: &str, label: &'static str, counts: BTreeMap<String, i64>) {
        let family = Family::<[(&'static str, String); 1], Gauge>::default();
        for (value, count) in counts {
            family.get_or_create(&[(label, value)]).set(count);
        }
        self.0.register(name, help, family);
    }
}

/// Everything at `now`, Unix milliseconds, in one text; bytes of images that were carried come from elsewhere.
///
/// # Errors
/// The text cannot be written, which needs memory only.
pub(super) fn text(all: &Snapshot, carried: CarriedBytes, now: u64) -> Result<String, fmt::Error> {
    let mut page = Page(Registry::with_prefix("posthouse"));
    agent(&mut page, all);
    sensors(&mut page, &all.devices, now);
    carriers(&mut page.0, carried);
    exchanges(&mut page, &all.exchanges);
    chain(&mut page, all);
    audit(&mut page, all);
    process(&mut page.0);
    let mut text = String::new();
    encode(&mut text, &page.0)?;
    Ok(text)
}

fn agent(page: &mut Page, all: &Snapshot) {
    let agent = &all.status.agent;
    let version = BTreeMap::from([(agent.version.clone(), 1)]);
    page.by("build_info", "The program's version, as a label of a constant 1", "version", version);
    page.gauge("start_time_seconds", "When the agent started, Unix time", agent.started / 1000);
    page.gauge("updates", "Updates that the vendors announced for this site", all.updates.len());
    let staging = &all.status.staging;
    page.gauge("staging_images", "Decrypted images on disk", staging.images);
    page.gauge("staging_bytes", "Bytes of decrypted images on disk", staging.bytes);
    page.gauge("staging_quota_bytes", "Bytes that decrypted images may take", staging.quota);
}

/// How many there are of each, with those named that should be there at 0 too.
fn count<'a>(of: impl Iterator<Item = &'a str>, always: &[&str]) -> BTreeMap<String, i64> {
    let mut counts: BTreeMap<String, i64> = always.iter().map(|name| ((*name).to_owned(), 0)).collect();
    of.for_each(|name| *counts.entry(name.to_owned()).or_default() += 1);
    counts
}

fn sensors(page: &mut Page, devices: &[Device], now: u64) {
    let carriers = devices.iter().map(|device| device.carrier.as_str());
    page.by("sensors", "Registered sensors", "carrier", count(carriers, &["mqtt", "coap"]));
    // One that was taken down, or never was, must not keep an alert up.
    let heard = || devices.iter().filter(|device| now.saturating_sub(device.last_seen) < LATELY_MS);
    page.gauge("sensors_heard", "Sensors heard within a week", heard().count());
    let pending = || heard().filter(|device| device.target.is_some_and(|target| target > device.installed));
    page.gauge(
        "sensors_pending",
        "Of these, such as do not run yet what is meant for them",
        pending().count(),
    );
    let held = pending().filter(|device| device.held.is_some()).count();
    page.gauge(
        "sensors_held",
        "Of these in turn, such as wait by the site's rules or somebody's order",
        held,
    );
    let faulty = heard().filter(|device| device.fault.is_some()).count();
    page.gauge(
        "sensors_faulty",
        "Sensors heard within a week that get nothing because something is wrong",
        faulty,
    );
    let in_state = |state: State| devices.iter().filter(|d| d.state == Some(state as u8)).count();
    let fetching = in_state(State::Downloading);
    page.gauge("sensors_downloading", "Sensors that fetch an image", fetching);
    let last = devices.iter().map(|device| device.last_seen).max().unwrap_or(0) / 1000;
    page.gauge("sensors_last_seen_seconds", "When any sensor was heard last, Unix time; 0: never", last);
}

fn carriers(registry: &mut Registry, carried: CarriedBytes) {
    let family = Family::<[(&'static str, &'static str); 1], Counter>::default();
    for (carrier, bytes) in [(Carrier::Mqtt, carried.mqtt), (Carrier::Coap, carried.coap)] {
        family.get_or_create(&[("carrier", carrier.as_str())]).inc_by(bytes);
    }
    let help = "Bytes of images that went to sensors since the start; what went twice counts twice";
    registry.register("carried_bytes", help, family);
}

fn exchanges(page: &mut Page, exchanges: &[Exchange]) {
    let states = exchanges.iter().map(|exchange| exchange.state.as_str());
    let always = StateName::ALL.map(StateName::as_str);
    page.by("exchanges", "Updates that are or were bought", "state", count(states, &always));
    let sensors = || exchanges.iter().flat_map(|exchange| &exchange.sensors);
    let receipts = |name: &str, help: &str, page: &mut Page, is: fn(&super::Sensor) -> bool| {
        page.gauge(name, help, sensors().filter(|sensor| is(sensor)).count());
    };
    receipts("receipts_signed", "Sensors' receipts that are held", page, |sensor| sensor.signed);
    receipts("receipts_claimed", "Sensors whose share the chain shows as paid", page, |sensor| {
        sensor.claimed
    });
    receipts("reports", "Sensors that reported, signed, what they run", page, |sensor| sensor.reported);
    let banned = exchanges.iter().flat_map(|exchange| &exchange.left).filter(|left| left.banned).count();
    page.gauge("distributors_banned", "Distributors that are not asked again for an update", banned);
    let ignored: u64 = exchanges.iter().map(|exchange| exchange.keys_ignored).sum();
    page.gauge("keys_ignored", "Keys that came and fitted no offer", ignored);
}

fn chain(page: &mut Page, all: &Snapshot) {
    let chain = &all.status.chain;
    page.gauge("chain_finalized_block", "Newest final block that was read", chain.finalized.unwrap_or(0));
    page.gauge(
        "chain_finalized_slot",
        "Slot of the final beacon block that proves it",
        chain.finalized_slot.unwrap_or(0),
    );
    let age = chain.age_secs.map_or(-1, |age| i64::try_from(age).unwrap_or(i64::MAX));
    page.gauge("chain_age_seconds", "Age of that block; -1: none was read", age);
    page.gauge("chain_alarm", "1 if somebody should look into the chain", i64::from(chain.alarm.is_some()));
    page.gauge("chain_error", "1 if the last reading failed", i64::from(chain.error.is_some()));
}

fn audit(page: &mut Page, all: &Snapshot) {
    let audit = &all.status.audit;
    page.gauge("audit_error", "1 if the audit log cannot be written", i64::from(audit.error.is_some()));
    let left_out = Counter::<u64>::default();
    left_out.inc_by(audit.left_out);
    page.0.register("audit_left_out", "Records that the audit log leaves out, since the start", left_out);
}

/// What the process uses, under the names that Prometheus' own clients give it.
fn process(registry: &mut Registry) {
    // The registry puts its prefix before names, so that these are posthouse_process_….
    let Process { resident, cpu_ms, open_files } = Process::now();
    if let Some(resident) = resident {
        gauge(registry, "process_resident_memory_bytes", "Resident memory", resident);
    }
    if let Some(ms) = cpu_ms {
        let counter = Counter::<f64, AtomicU64>::default();
        counter.inc_by(Duration::from_millis(ms).as_secs_f64());
        registry.register("process_cpu_seconds", "Processor time, user and system", counter);
    }
    if let Some(open) = open_files {
        gauge(registry, "process_open_fds", "Open file descriptors", open);
    }
}

fn gauge(registry: &mut Registry, name: &str, help: &str, value: impl TryInto<i64>) {
    let gauge = Gauge::<i64>::default();
    gauge.set(value.try_into().unwrap_or(i64::MAX));
    registry.register(name, help, gauge);
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::status::{Left, Sensor};

    fn sample() -> Snapshot {
        let device = |carrier: &str, target| Device {
            carrier: carrier.into(),
            installed: 1,
            target,
            last_seen: 5_000,
            ..Device::default()
        };
        let signed = Sensor { signed: true, ..Sensor::default() };
        let exchange = Exchange {
            state: "staged".into(),
            sensors: vec![signed.clone(), Sensor { claimed: true, ..signed }],
            left: vec![Left { banned: true, ..Left::default() }],
            ..Exchange::default()
        };
        Snapshot {
            devices: vec![device("mqtt", None), device("coap", Some(2))],
            exchanges: vec![exchange],
            ..Snapshot::default()
        }
    }

    const CARRIED: CarriedBytes = CarriedBytes { mqtt: 7, coap: 8 };

    #[test]
    fn what_the_status_shows_is_counted() {
        let text = text(&sample(), CARRIED, 6_000).unwrap();
        for line in [
            "posthouse_sensors{carrier=\"coap\"} 1",
            "posthouse_sensors_pending 1",
            "posthouse_sensors_last_seen_seconds 5",
            "posthouse_carried_bytes_total{carrier=\"mqtt\"} 7",
            "posthouse_exchanges{state=\"staged\"} 1",
            "posthouse_exchanges{state=\"failed\"} 0",
            "posthouse_receipts_signed 2",
            "posthouse_receipts_claimed 1",
            "posthouse_distributors_banned 1",
            "posthouse_chain_age_seconds -1",
        ] {
            assert!(text.lines().any(|found| found == line), "{line} is not in\n{text}");
        }
        let used = |name: &str| {
            let line = text.lines().find_map(|line| line.strip_prefix(name)).unwrap();
            line.trim().parse::<f64>().unwrap()
        };
        assert!(used("posthouse_process_resident_memory_bytes") > 1e6);
        assert!(used("posthouse_process_open_fds") >= 3.0);
        assert!(used("posthouse_process_cpu_seconds_total") >= 0.0);
        assert!(text.ends_with("# EOF\n"));
    }

    #[test]
    fn a_sensor_that_is_no_more_is_not_waited_for() {
        let text = text(&sample(), CARRIED, 5_000 + LATELY_MS).unwrap();
        for line in [
            "posthouse_sensors{carrier=\"coap\"} 1",
            "posthouse_sensors_heard 0",
            "posthouse_sensors_pending 0",
        ] {
            assert!(text.lines().any(|found| found == line), "{line} is not in\n{text}");
        }
    }

    #[test]
    fn each_metric_is_documented_and_nothing_else_is() {
        let text = text(&sample(), CARRIED, 6_000).unwrap();
        let there: Vec<&str> =
            text.lines().filter_map(|line| line.strip_prefix("# HELP ")?.split(' ').next()).collect();
        let documented: Vec<&str> = include_str!("../../../docs/metrics.md")
            .lines()
            .filter_map(|line| line.strip_prefix("| `")?.split(['`', '{']).next())
            .collect();
        assert_eq!(there, documented);
    }

    #[test]
    fn each_alert_and_what_it_looks_at_is_in_the_troubleshooting_page() {
        let rules = include_str!("../../../packaging/prometheus/posthouse.rules.yml");
        let page = include_str!("../../../docs/troubleshooting.md");
        let alerts = rules.lines().filter_map(|line| line.trim().strip_prefix("- alert: "));
        let metrics = rules.lines().filter(|line| line.trim().starts_with("expr:")).flat_map(|line| {
            line.split(|c: char| !c.is_ascii_alphanumeric() && c != '_')
                .filter(|word| word.starts_with("posthouse_"))
        });
        let missing: Vec<&str> =
            alerts.chain(metrics).filter(|name| !page.contains(&format!("`{name}`"))).collect();
        assert!(missing.is_empty(), "{missing:?}");
    }

    #[test]
    fn the_dashboard_shows_each_metric_and_no_other() {
        let dashboard: serde_json::Value =
            serde_json::from_str(include_str!("../../../packaging/grafana/posthouse.json")).unwrap();
        let panels = dashboard["panels"].as_array().unwrap();
        let targets = panels.iter().filter_map(|panel| panel["targets"].as_array()).flatten();
        let exprs: Vec<&str> = targets.map(|target| target["expr"].as_str().unwrap()).collect();
        let words =
            exprs.iter().flat_map(|expr| expr.split(|c: char| !c.is_ascii_alphanumeric() && c != '_'));
        let shown: BTreeSet<&str> = words
            .filter(|word| word.starts_with("posthouse_"))
            .map(|word| word.strip_suffix("_total").unwrap_or(word))
            .collect();
        let text = text(&sample(), CARRIED, 6_000).unwrap();
        let there = text.lines().filter_map(|line| line.strip_prefix("# HELP ")?.split(' ').next());
        assert_eq!(shown, there.collect());
        assert!(
            panels
                .iter()
                .all(|panel| panel["type"] == "row" || panel["datasource"]["uid"] == "${datasource}")
        );
    }
}
