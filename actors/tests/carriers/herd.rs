//! Many sensors in one process, over both carriers: what the figures of scale and loss rest on.

use std::collections::BTreeSet;
use std::process::Stdio;

use serde_json::Value;
use tokio::time::timeout;

use super::broker;
use super::fleet::{PATIENCE, Sensor, child};
use super::site::{Site, VERSION};
use super::update::{coap, mqtt};

const COUNT: usize = 5;
const LEN: usize = 50_001;
const BLOCK: usize = 256;

/// The lines that a herd's process printed, without those of the test's own harness.
fn told(stdout: &[u8]) -> Vec<Value> {
    let text = String::from_utf8_lossy(stdout);
    text.lines()
        .filter(|line| line.starts_with('{'))
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

fn number(line: &Value, key: &str) -> u64 {
    line[key].as_u64().unwrap_or_else(|| panic!("{key} in {line}"))
}

#[actix::test]
async fn a_herd_updates_over_both_carriers_and_counts() {
    let dir = tempfile::tempdir().unwrap();
    let site = Site::start(dir.path(), LEN);
    let (broker, gateway) = (broker::rumqttd(), coap(&site).await);
    mqtt(&site, broker);
    let template = Sensor::new(dir.path(), 1, "coap", gateway, &format!("block = {BLOCK}\n"));
    let (count, until) = (COUNT.to_string(), VERSION.to_string());
    let (broker, gateway) = (broker.to_string(), gateway.to_string());
    let path = |path: &std::path::Path| path.to_str().unwrap().to_owned();
    let (config, folder) = (path(&template.config()), path(dir.path()));
    let arguments = |more: &[&str]| {
        let herd = ["sim", "herd", "--config", &config, "--folder", &folder, "--count", &count];
        child(&herd.into_iter().chain(more.iter().copied()).collect::<Vec<_>>())
    };

    let keys = arguments(&["--keys"]).output().await.unwrap();
    let devices = |lines: &[Value]| -> BTreeSet<String> {
        lines.iter().filter_map(|line| line["device"].as_str().map(str::to_owned)).collect()
    };
    let known = devices(&told(&keys.stdout));
    assert!(keys.status.success() && known.len() == COUNT, "{keys:?}");

    let ways = ["--mqtt", &broker, "--coap", &gateway, "--wake-ms", "50-200", "--until", &until];
    let running = arguments(&ways).stdout(Stdio::piped()).output();
    let output = timeout(PATIENCE, running).await.expect("a herd finishes in time").unwrap();
    let lines = told(&output.stdout);
    assert!(output.status.success(), "{lines:?}");
    assert_eq!(devices(&lines), known, "the keys that were told are those that lived");
    site.reports(COUNT).await;
    for number in 0..COUNT {
        let slot = dir.path().join(format!("sensor-{number}.d/flash"));
        assert!(std::fs::read(slot).unwrap() == site.firmware, "the slot is byte-identical");
    }
    let sum = lines.last().unwrap();
    assert_eq!((number(sum, "sensors"), number(sum, "done")), (COUNT as u64, COUNT as u64));
    // What came is each image once, and what was asked for again; a block is the last one of an image or whole.
    let (blocks, again) = (number(sum, "blocks"), number(sum, "blocks_again"));
    let once = COUNT * LEN.div_ceil(BLOCK);
    assert!((once as u64..=once as u64 + again).contains(&blocks), "{sum}");
    assert!(number(sum, "block_bytes") >= (COUNT * LEN) as u64, "{sum}");
    let (p50, p99) = (sum["first_p50_ms"].as_f64().unwrap(), sum["first_p99_ms"].as_f64().unwrap());
    assert!(0.0 < p50 && p50 <= p99 && number(sum, "brought") >= COUNT as u64, "{sum}");
}

#[actix::test]
async fn a_herd_that_is_not_done_in_time_says_so() {
    let dir = tempfile::tempdir().unwrap();
    let site = Site::start(dir.path(), LEN);
    let gateway = coap(&site).await;
    let template = Sensor::new(dir.path(), 1, "coap", gateway, "");
    let (config, folder) = (template.config(), dir.path().to_str().unwrap());
    let herd = ["sim", "herd", "--config", config.to_str().unwrap(), "--folder", folder, "--count", "2"];
    // A version that nobody publishes.
    let never = herd.into_iter().chain(["--until", "9", "--within", "1"]).collect::<Vec<_>>();
    let running = child(&never).stdout(Stdio::piped()).output();
    let output = timeout(PATIENCE, running).await.expect("a herd ends in time").unwrap();
    let lines = told(&output.stdout);
    assert!(!output.status.success(), "{lines:?}");
    assert_eq!(number(lines.last().unwrap(), "done"), 0);
}
