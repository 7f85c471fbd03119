//! Sensors in bad weather: between them and the gateway datagrams are lost, come late, twice and out of order.
#![allow(clippy::unwrap_used, reason = "tests")]

use posthouse_device::sim::proxy::{Proxy, Weather};
use posthouse_tests::{
    process::Programs,
    scene::{Scene, configure},
};

#[tokio::test(flavor = "multi_thread")]
async fn sensors_in_bad_weather_are_updated_and_each_receipt_is_paid_once() {
    let programs = Programs::new(env!("CARGO_BIN_EXE_posthouse-demo"));
    let mut scene = Scene::on_sale(programs, "").await.unwrap();
    let weather = Weather { seed: 1, lost: 5, duplicated: 20, delay: 0..=40 };
    let proxy = Proxy::before(scene.site.coap, weather).await.unwrap();
    for sensor in &scene.site.sensors {
        configure(&sensor.config, |table| {
            table.insert("carrier".into(), "coap".into());
            table.insert("gateway".into(), proxy.address.to_string().into());
            table.insert("block".into(), 512.into());
            // Sometimes shorter than a way there and back: then it asks again although nothing was lost.
            table.insert("block_timeout_ms".into(), 60.into());
        })
        .unwrap();
    }
    scene.play().await.unwrap();
    let seen = proxy.seen();
    assert!(seen.lost > 0 && seen.duplicated > 0 && seen.overtaken > 0, "{seen:?}");
}
