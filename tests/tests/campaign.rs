//! Which sensors get an update, and when: by the site's rules, and by what somebody orders.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::os::unix::fs::PermissionsExt as _;
use std::time::Duration;

use posthouse_actors::status::Device;
use posthouse_protocol::id::DeviceKey;
use posthouse_tests::{
    broker::Broker,
    chain::Chain,
    poll::until,
    process::Programs,
    roles::Role,
    scene::configure,
    site::{PATIENCE, Plan, Site},
};

fn programs() -> Programs {
    Programs::new(env!("CARGO_BIN_EXE_posthouse-demo"))
}

const TOKEN: &str = "correct horse battery";

fn device_id(key: &str) -> String {
    key.parse::<DeviceKey>().unwrap().device_id().to_string()
}

/// Half of the sensors are in a group of which so many get it, once somebody approves it.
fn rules(site: &Site, percent: i64) {
    let later: Vec<toml::Value> =
        site.sensors.iter().skip(1).step_by(2).map(|sensor| device_id(&sensor.key).into()).collect();
    let token = site.gateway_config().with_file_name("token");
    std::fs::write(&token, TOKEN).unwrap();
    std::fs::set_permissions(&token, std::fs::Permissions::from_mode(0o600)).unwrap();
    configure(&site.gateway_config(), |gateway| {
        let group = toml::toml! { name = "later" };
        let mut group = toml::Value::Table(group);
        group.as_table_mut().unwrap().insert("devices".into(), later.into());
        group.as_table_mut().unwrap().insert("percent".into(), percent.into());
        let mut campaign = toml::Table::new();
        group.as_table_mut().unwrap().insert("approval".into(), true.into());
        campaign.insert("groups".into(), vec![group].into());
        gateway.insert("campaign".into(), campaign.into());
        let status = gateway["status"].as_table_mut().unwrap();
        status.insert("token_file".into(), token.to_str().unwrap().into());
    })
    .unwrap();
}

/// Has the gateway take orders at a Unix socket, without a token.
fn over_a_socket(site: &Site) {
    let socket = site.gateway_config().with_file_name("gateway.sock");
    configure(&site.gateway_config(), |gateway| {
        let status = gateway["status"].as_table_mut().unwrap();
        status.remove("token_file");
        status.insert("socket".into(), socket.to_str().unwrap().into());
    })
    .unwrap();
}

/// What the agent's program says to an order.
async fn order(site: &Site, args: &[&str]) -> anyhow::Result<String> {
    let config = site.gateway_config();
    let args: Vec<&str> = args.iter().copied().chain(["--config", config.to_str().unwrap()]).collect();
    programs().output(Role::Gateway, args).await
}

async fn devices(site: &Site, what: &str, enough: impl Fn(&[Device]) -> bool) -> Vec<Device> {
    until(what, PATIENCE, async || {
        let devices = site.devices().await;
        Ok(enough(&devices).then_some(devices))
    })
    .await
    .unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_group_waits_for_its_time_and_an_order_outlasts_a_kill() {
    let folder = tempfile::tempdir().unwrap();
    let plan = Plan { sensors: 4, distributors: 1, ..Plan::new(programs(), folder.path()) };
    let chain = Chain::devchain(Duration::from_millis(250)).unwrap();
    let mut site = Site::prepare(plan, chain, Broker::embedded().await.unwrap()).await.unwrap();
    rules(&site, 0);
    let image: Vec<u8> = (0..40_000u32).map(|i| (i / 5) as u8).collect();
    let file = site.gateway_config().with_file_name("firmware.bin");
    std::fs::write(&file, &image).unwrap();
    let published = site.publish(&file, "key").await.unwrap();
    site.start_seeder().unwrap();
    site.start_distributor(0, &[]).unwrap();
    site.start_gateway(&[]).unwrap();
    site.start_sensors().unwrap();

    // Two get it; the others say why they do not.
    let halves = devices(&site, "half of the sensors", |devices| {
        devices.len() == 4
            && devices.iter().filter(|device| device.installed == published.version).count() == 2
    })
    .await;
    site.paid(published.version, 2, PATIENCE).await.unwrap();
    for device in &halves {
        let waits = device.group.as_deref() == Some("later");
        assert_eq!(device.installed == 0, waits, "{device:?}");
        assert_eq!(device.held.is_some(), waits, "{device:?}");
    }
    assert!(
        site.sensors_of(published.version).await.iter().filter(|sensor| sensor.attempts == 0).count() == 2
    );

    // Somebody holds the group back; the order outlasts a kill and a rule that would let it go on.
    let bounty = site.exchanges().await[0].bounty.clone();
    assert!(order(&site, &["update", "pause", &bounty, "--group", "nobody"]).await.is_err());
    order(&site, &["update", "pause", &bounty, "--group", "later"]).await.unwrap();
    site.gateway().unwrap().kill().await.unwrap();
    rules(&site, 100);
    over_a_socket(&site);
    site.start_gateway(&[]).unwrap();
    let held = async |why: &str| {
        let is = |device: &Device| device.group.is_none() || device.held.as_deref() == Some(why);
        devices(&site, why, |devices| devices.len() == 4 && devices.iter().all(is)).await
    };
    held("paused").await;
    assert_eq!(site.holding(&image), 2);

    // What is let go on still needs its approval.
    order(&site, &["update", "resume", &bounty, "--group", "later"]).await.unwrap();
    held("waits for approval").await;
    order(&site, &["update", "approve", &bounty, "--group", "later"]).await.unwrap();
    site.updated(&image, PATIENCE).await.unwrap();
    site.paid(published.version, 4, PATIENCE).await.unwrap();
}
