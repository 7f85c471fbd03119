//! `kill -9` of the gateway in each state of the exchange, and of everything at once.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::time::Duration;

use posthouse_tests::{
    broker::Broker,
    chain::Chain,
    process::Programs,
    site::{PATIENCE, Plan, Published, Site},
};

/// Every point at which a gateway can be told to die: each state that an exchange enters, and between a receipt and its
/// sending.
const POINTS: [&str; 7] = ["authenticating", "offered", "receipt", "committed", "revealed", "staged", "done"];

async fn site(folder: &std::path::Path) -> Site {
    let plan = Plan {
        sensors: 2,
        distributors: 1,
        ..Plan::new(Programs::new(env!("CARGO_BIN_EXE_posthouse-demo")), folder)
    };
    let chain = Chain::devchain(Duration::from_millis(250)).unwrap();
    Site::prepare(plan, chain, Broker::embedded().await.unwrap()).await.unwrap()
}

async fn publish(site: &Site, byte: u8) -> (Vec<u8>, Published) {
    let image: Vec<u8> = (0..40_000u32).map(|i| (i / 5) as u8 ^ byte).collect();
    let file = site.gateway_config().with_file_name(format!("firmware-{byte}.bin"));
    std::fs::write(&file, &image).unwrap();
    let published = site.publish(&file, "key").await.unwrap();
    (image, published)
}

/// One version after the other is published to the same site, and with each the gateway dies in another state.
#[tokio::test(flavor = "multi_thread")]
async fn the_gateway_is_killed_in_each_state_and_every_update_still_arrives_and_is_paid_once() {
    let folder = tempfile::tempdir().unwrap();
    let mut site = site(folder.path()).await;
    let mut begun = false;
    for (byte, point) in POINTS.iter().enumerate() {
        let (image, published) = publish(&site, byte as u8).await;
        if !begun {
            site.start_seeder().unwrap();
            site.start_distributor(0, &[]).unwrap();
            site.start_sensors().unwrap();
            begun = true;
        }
        let at = [("POSTHOUSE_CRASH_AT".to_owned(), format!("gateway.{point}"))];
        site.start_gateway(&at).unwrap();
        let ended = tokio::time::timeout(PATIENCE, site.gateway().unwrap().exit()).await;
        let ended = ended.unwrap_or_else(|_| panic!("not killed at {point}: {}", site.tail())).unwrap();
        assert!(!ended.success(), "{point}: {ended}");

        site.start_gateway(&[]).unwrap();
        site.updated(&image, PATIENCE).await.unwrap();
        site.paid(published.version, 2, PATIENCE).await.unwrap();
        site.reported(published.version, PATIENCE).await.unwrap();
        assert_eq!(site.devices_paid(published.version).await.unwrap(), 2, "{point}");
        for sensor in site.sensors_of(published.version).await {
            assert_eq!(sensor.attempts, 1, "{point}: a second distinct receipt of {}", sensor.device);
        }
        site.gateway().unwrap().kill().await.unwrap();
    }
}
