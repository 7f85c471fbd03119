//! Endpoints that lie to a gateway: the next one is asked, the update arrives, and the status names the liar.

#![allow(clippy::unwrap_used, reason = "tests")]

use posthouse_devchain::Proxy;
use posthouse_tests::{poll::until, process::Programs, roles::Role, scene::Scene, site::PATIENCE};
use serde_json::{Value, json};

fn programs() -> Programs {
    Programs::new(env!("CARGO_BIN_EXE_posthouse-demo"))
}

/// Denies every storage slot and every event.
fn deny(method: &str, _: &Value, answer: &mut Value) {
    match method {
        "eth_getProof" => {
            for slot in answer["result"]["storageProof"].as_array_mut().into_iter().flatten() {
                slot["value"] = json!("0x0");
            }
        }
        "eth_getLogs" => answer["result"] = json!([]),
        "eth_getBlockReceipts" => answer["result"] = json!([]),
        _ => {}
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_endpoint_that_denies_the_update_keeps_it_from_nobody() {
    let mut scene = Scene::on_sale(programs(), "").await.unwrap();
    let liar = Proxy::start(scene.site.chain.url(), deny).unwrap();
    scene
        .configure_gateway(|config| {
            config["chain"]["rpc"].as_array_mut().unwrap().insert(0, liar.url().into());
        })
        .unwrap();
    scene.play().await.unwrap();
    assert!(liar.count("eth_getProof") > 0, "it was not asked");

    // One reading may have found the chain's head a little old.
    let read = async || {
        let status = scene.site.get("status").await;
        Ok(status.map(|status| status["chain"].clone()).filter(|chain| chain["error"] == Value::Null))
    };
    let chain = &until("a reading without an error", PATIENCE, read).await.unwrap();
    assert_eq!(chain["trust"], "light-client", "{chain}");
    assert!(chain["finalized_slot"].is_u64() && chain["age_secs"].is_u64(), "{chain}");
    assert_eq!(chain["alarm"], Value::Null, "{chain}");

    // The command goes on from what the running gateway has proven.
    let config = scene.site.gateway_config();
    let config = config.to_str().unwrap();
    let printed = programs().output(Role::Gateway, ["chain", "status", "--json", "--config", config]).await;
    let told: Value = serde_json::from_str(&printed.unwrap()).unwrap();
    assert!(told["finalized"]["slot"].as_u64() >= chain["finalized_slot"].as_u64(), "{told}");
    assert_eq!(told["alarms"], json!([]), "{told}");

    let beacon =
        programs().output(Role::Gateway, ["chain", "checkpoint", "--json", "--config", config]).await;
    let told: Value = serde_json::from_str(&beacon.unwrap()).unwrap();
    assert_eq!(told["agreed"], false, "one endpoint confirms itself: {told}");
    assert_eq!(told["checkpoint"].as_str().unwrap().len(), 66, "{told}");
}
