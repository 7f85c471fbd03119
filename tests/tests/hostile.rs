//! A distributor that lies, asked first, and an honest one after it: the update arrives, the honest one alone is paid,
//! and the gateway says what was wrong with the other.

#![allow(clippy::unwrap_used, reason = "tests")]

use posthouse_tests::{
    hostile::{Hostile, Lie},
    process::Programs,
    scene::Scene,
};
use serde_json::Value;

/// Short enough that a silent distributor is soon given up, long enough for an honest one on a busy machine.
const EXCHANGE: &str = "[exchange]\nrequest_ms = 3000\nreceipt_secs = 8\nquiet_ms = 500\n";

/// Plays the scene with the liar in front and returns the gateway's view of the exchange.
async fn against(lie: Lie) -> (Hostile, Value) {
    let programs = Programs::new(env!("CARGO_BIN_EXE_posthouse-demo"));
    let mut scene = Scene::on_sale(programs, EXCHANGE).await.unwrap();
    let hostile = Hostile::start(&scene.site, &scene.published, lie, &scene.path("hostile")).await.unwrap();
    let first = hostile.address().to_string();
    scene
        .configure_gateway(|config| {
            config["dsn"]["distributors"].as_array_mut().unwrap().insert(0, first.into());
        })
        .unwrap();
    scene.play().await.unwrap();
    let exchange = scene.exchange().await.unwrap();
    (hostile, exchange)
}

/// Delivered by the next distributor; the liar is named with the reason, and got no receipt before its lie could show.
async fn is_left(lie: Lie) {
    let (hostile, exchange) = against(lie).await;
    let peer = hostile.peer_id().to_string();
    let left = exchange["left"].as_array().unwrap().iter().find(|left| left["peer"] == peer.as_str());
    let left = left.unwrap_or_else(|| panic!("{peer} was not left: {exchange}"));
    assert_eq!(left["why"], lie.fault().to_string(), "{exchange}");
    assert_eq!(left["banned"], lie.fault().is_lie());
    let (receipts, sensors) = (hostile.receipts(), exchange["sensors"].as_array().unwrap());
    assert_eq!(sensors.len(), 2);
    let attempts = || sensors.iter().map(|sensor| sensor["attempts"].as_u64().unwrap());
    if lie.costs_a_receipt() {
        assert!(!receipts.is_empty(), "it was left before it could lie: {exchange}");
        assert!(attempts().all(|attempts| attempts <= 2), "{exchange}");
        assert!(receipts.values().all(|attempts| attempts.iter().eq([&1])), "{receipts:?}");
    } else {
        assert!(receipts.is_empty(), "{receipts:?}");
        assert!(attempts().all(|attempts| attempts == 1), "a receipt was asked for in vain: {exchange}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_proof_for_another_update() {
    is_left(Lie::ProofForAnotherUpdate).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_proof_for_another_lock() {
    is_left(Lie::ProofForAnotherLock).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_altered_cipher() {
    is_left(Lie::AlteredCipher).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_verifying_key() {
    is_left(Lie::WrongVkId).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_does_not_fit() {
    is_left(Lie::KeyThatDoesNotFit).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn silence_after_the_receipt() {
    is_left(Lie::SilentAfterReceipt).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn silence_after_the_offer() {
    is_left(Lie::SilentAfterOffer).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_offer_that_expires() {
    is_left(Lie::OfferExpires).await;
}
