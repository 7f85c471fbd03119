//! The gateway's page in Chromium, driven by Playwright (`tests/page`), while a real update goes through a site: one sensor is in a
//! group that gets nothing yet, and the group's name is what an attacker would call it.
//!
//! `POSTHOUSE_SCREENSHOTS=FOLDER` (`docs/screenshots`) has the pictures of the guide made anew.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::time::Duration;

use posthouse_protocol::id::DeviceKey;
use posthouse_tests::{
    broker::{Broker, program},
    chain::Chain,
    peers::Peer,
    poll::until,
    process::Programs,
    scene::configure,
    site::{PATIENCE, Plan, Site},
};
use serde_json::{Value, json};

const SENSORS: usize = 4;
/// Group that gets nothing yet.
const GROUP: &str = "<img src=x onerror=document.title='stolen'>";
/// Bytes a second that each carrier carries, so that an image takes many looks.
const RATE: i64 = 16 * 1024;
/// Bytes of the image.
const IMAGE: usize = 96 * 1024;

fn device_id(key: &str) -> String {
    key.parse::<DeviceKey>().unwrap().device_id().to_string()
}

/// A site whose gateway carries slowly, and has a rule for its last sensor.
async fn site(folder: &std::path::Path) -> (Site, String) {
    let programs = Programs::new(env!("CARGO_BIN_EXE_posthouse-demo"));
    let plan = Plan { sensors: SENSORS, distributors: 1, ..Plan::new(programs, folder) };
    let chain = Chain::devchain(Duration::from_millis(250)).unwrap();
    let site = Site::prepare(plan, chain, Broker::embedded().await.unwrap()).await.unwrap();
    let held = device_id(&site.sensors.last().unwrap().key);
    configure(&site.gateway_config(), |gateway| {
        let group = json!({ "name": GROUP, "devices": [held], "percent": 0 });
        let campaign = json!({ "groups": [group] });
        gateway.insert("campaign".into(), toml::Value::try_from(campaign).unwrap());
        for carrier in ["mqtt", "coap"] {
            let carrier = gateway["sensors"][carrier].as_table_mut().unwrap();
            carrier.insert("max_bytes_per_sec".into(), RATE.into());
        }
    })
    .unwrap();
    (site, held)
}

/// A browser that answers one task after the other.
struct Browser(Peer);

impl Browser {
    async fn open(site: &Site, folder: &std::path::Path) -> Self {
        let chromium = program("chromium").expect("run by `cargo ci --full --only page`, which installs it");
        let address = format!("http://{}", site.status);
        let args = [chromium.into_os_string(), address.into()];
        let mut peer = Peer::start_of("page", "browser.mjs", args, folder).unwrap();
        let title = peer.hear(PATIENCE).await.unwrap();
        assert_eq!(title["open"], "Posthouse gateway");
        Self(peer)
    }

    async fn does(&mut self, task: Value) -> Value {
        // The browser's own patience ends first, and says with what.
        let done = self.0.ask(&task, 2 * PATIENCE).await;
        done.unwrap_or_else(|why| panic!("{task}: {why:#}"))
    }
}

fn texts(list: &Value) -> Vec<&str> {
    list.as_array().unwrap().iter().map(|text| text.as_str().unwrap()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn people_see_an_update_go_through_and_why_a_sensor_does_not_get_it() {
    let folder = tempfile::tempdir().unwrap();
    let (mut site, held) = site(folder.path()).await;
    site.start_gateway(&[]).unwrap();
    site.start_sensors().unwrap();
    until("the sensors", PATIENCE, async || Ok((site.devices().await.len() == SENSORS).then_some(())))
        .await
        .unwrap();
    let mut browser = Browser::open(&site, folder.path()).await;
    browser.does(json!({"do": "see", "text": "None was announced for this site yet."})).await;

    // The page is not loaded again, and its bar moves until all that may have the update run it.
    let file = folder.path().join("firmware.bin");
    let image: Vec<u8> = (0..IMAGE).map(|at| (at % 251) as u8).collect();
    std::fs::write(&file, &image).unwrap();
    site.publish(&file, "key").await.unwrap();
    site.start_seeder().unwrap();
    site.start_distributor(0, &[]).unwrap();
    let seen = browser
        .does(json!({"do": "progress", "name": "Version 1", "text": "3 of 4 sensors run it, 1 held"}))
        .await;
    assert_eq!(seen["loads"], 1, "{seen}");
    let values: Option<Vec<f64>> = seen["values"].as_array().unwrap().iter().map(Value::as_f64).collect();
    let values = values.unwrap_or_else(|| panic!("{seen}"));
    let between = values.iter().filter(|value| (0.0..0.75).contains(*value) && **value > 0.0).count();
    assert!(between >= 1 && values.last() == Some(&0.75), "{values:?}");

    // Why a sensor does not get it, with the group's name as text.
    let rows = browser.does(json!({"do": "rows", "text": held})).await;
    let [row] = texts(&rows["rows"])[..] else { panic!("{rows}") };
    assert!(row.contains("held: not in the part of the fleet that gets it yet"), "{row}");
    assert!(row.contains(GROUP) && row.contains("0 → 1"), "{row}");

    if let Some(folder) = std::env::var_os("POSTHOUSE_SCREENSHOTS") {
        let folder = std::path::absolute(folder).unwrap();
        browser.does(json!({"do": "screenshots", "folder": folder})).await;
    }
    for_all_people(&mut browser).await;

    let made = browser.does(json!({"do": "hostile"})).await;
    assert_eq!((&made["title"], &made["made"]), (&json!("Posthouse gateway"), &json!(0)), "{made}");
    assert_eq!((&made["shown"], &made["rows"]), (&json!(true), &json!(100)), "{made}");
    let asked = browser.does(json!({"do": "hidden"})).await;
    assert_eq!(asked["meanwhile"], 0, "nobody looks");

    // A gateway that does not answer is said to be so, until it answers again.
    site.gateway().unwrap().kill().await.unwrap();
    browser.does(json!({"do": "trouble", "there": true})).await;
    site.start_gateway(&[]).unwrap();
    browser.does(json!({"do": "trouble", "there": false})).await;

    let said = browser.does(json!({"do": "said"})).await;
    assert_eq!(said, json!({"elsewhere": [], "complaints": [], "loads": 1}));
}

/// With a screen reader, with the keyboard alone, on a phone.
async fn for_all_people(browser: &mut Browser) {
    let heard = browser.does(json!({"do": "reads"})).await;
    assert_eq!(heard["faults"], json!([]));
    for screen in ["desk", "phone"] {
        let heard = heard[screen].as_str().unwrap();
        for name in [
            "banner",
            "main",
            "contentinfo",
            "heading \"Posthouse gateway\" [level=1]",
            "heading \"Updates\" [level=2]",
            "progressbar \"Version 1 · ",
            "status:",
            "search \"Sensors\"",
            "combobox \"Show\"",
            "searchbox \"Device or group\"",
            "table \"Sensors 1 to 4 of 4\"",
            "columnheader \"How it stands\"",
            "rowheader",
            "navigation \"Pages of sensors\"",
            "button \"Next\" [disabled]",
        ] {
            assert!(heard.contains(name), "{name} on a {screen}:\n{heard}");
        }
    }

    let gone = browser.does(json!({"do": "keys"})).await;
    let order = gone["order"].as_array().unwrap();
    assert!(order.iter().all(|one| one["seen"] == true), "a focus that is not seen: {gone}");
    let mut tags: Vec<String> =
        order.iter().map(|one| format!("{} {} {}", one["tag"], one["id"], one["name"])).collect();
    tags.sort();
    tags.dedup();
    assert_eq!(json!(tags.len()), gone["wanted"], "not all is reached: {gone}");
    assert_eq!(order[0]["name"], "Skip to the content");
    browser.does(json!({"do": "filter", "keys": ["ArrowDown", "ArrowDown"], "rows": 1})).await;
    browser.does(json!({"do": "filter", "keys": ["Home"], "rows": 4})).await;

    let wide = browser.does(json!({"do": "phone"})).await;
    for one in wide["widths"].as_array().unwrap() {
        assert!(one["page"].as_u64() <= one["screen"].as_u64(), "it scrolls sideways: {wide}");
    }
}
