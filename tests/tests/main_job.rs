//! The main job with the parts that users already run: mosquitto, libcoap's client, anvil.
#![allow(clippy::unwrap_used, clippy::print_stderr, reason = "tests")]

use std::time::Duration;

use alloy::{
    consensus::TxEnvelope,
    eips::BlockNumberOrTag,
    providers::{Provider as _, ProviderBuilder},
};
use posthouse_actors::status;
use posthouse_contracts::deployment::DEPLOYER;
use posthouse_devchain::{Clock, DevChain};
use posthouse_tests::{
    broker::{Broker, program},
    chain::{CHAIN_ID, Chain, anvil_program},
    poll::until,
    process::Programs,
    site::{PATIENCE, Plan, Published, Site},
};
use sha2::{Digest as _, Sha256};
use tokio::process::Command;

const BLOCK_TIME: Duration = Duration::from_millis(250);

fn programs() -> Programs {
    Programs::new(env!("CARGO_BIN_EXE_posthouse-demo"))
}

/// 96 KiB in which every block differs.
fn firmware() -> Vec<u8> {
    (0..24_576u32).flat_map(|i| i.wrapping_mul(2_654_435_761).to_le_bytes()).collect()
}

/// Publishes, and starts everything, with one distributor.
async fn begin(site: &mut Site, image: &[u8]) -> Published {
    let file = site.gateway_config().with_file_name("firmware.bin");
    std::fs::write(&file, image).unwrap();
    let published = site.publish(&file, "key").await.unwrap();
    site.start_seeder().unwrap();
    site.start_distributor(0, &[]).unwrap();
    site.start_gateway(&[]).unwrap();
    site.start_sensors().unwrap();
    published
}

/// Waits for flash, pay and report of every sensor.
async fn end(site: &mut Site, image: &[u8], published: &Published, trust: &str) {
    site.updated(image, PATIENCE).await.unwrap();
    site.paid(published.version, site.sensors.len(), PATIENCE).await.unwrap();
    site.reported(published.version, PATIENCE).await.unwrap();
    let chain = site.get("status").await.unwrap()["chain"].clone();
    assert_eq!(chain["trust"], trust, "{chain}");
    assert_eq!(chain["finalized_slot"].is_u64(), trust == "light-client", "{chain}");
}

fn plan(folder: &std::path::Path) -> Plan {
    Plan { sensors: 2, distributors: 1, ..Plan::new(programs(), folder) }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_update_reaches_sensors_through_mosquitto_and_libcoap_fetches_the_staged_image() {
    let (Some(mosquitto), Some(coap_client)) = (program("mosquitto"), program("coap-client-notls")) else {
        eprintln!(
            "SKIPPED: mosquitto or coap-client-notls is not on the path (Debian: mosquitto, libcoap3-bin)"
        );
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let chain = Chain::devchain(BLOCK_TIME).unwrap();
    let broker = Broker::mosquitto(&mosquitto, folder.path()).await.unwrap();
    let plan = Plan { block: 64, ..plan(folder.path()) };
    let mut site = Site::prepare(plan, chain, broker).await.unwrap();
    let image = firmware().repeat(16);
    let published = begin(&mut site, &image).await;
    // The CoAP sensor is killed once it has signed, before it can have the image: for as long as it has not, that is served.
    until("both sensors to sign", PATIENCE, async || {
        site.still_running()?;
        let signed = |one: &status::Exchange| one.sensors.iter().filter(|sensor| sensor.signed).count() == 2;
        Ok(site.exchanges().await.iter().any(signed).then_some(()))
    })
    .await
    .unwrap();
    site.sensor(1).unwrap().kill().await.unwrap();
    until("the image to be staged", PATIENCE, async || {
        Ok(site.exchanges().await.iter().any(|one| one.state == "staged").then_some(()))
    })
    .await
    .unwrap();

    let fetched = folder.path().join("fetched");
    let url = format!("coap://{}/ph/image/{}", site.coap, hex::encode(Sha256::digest(&image)));
    for block in [256, 1024] {
        let mut command = Command::new(&coap_client);
        command.args(["-b", &block.to_string(), "-B", "60", "-o"]).arg(&fetched).arg(&url);
        let status = command.kill_on_drop(true).status().await.unwrap();
        assert!(status.success(), "{status}");
        assert!(std::fs::read(&fetched).unwrap() == image, "blocks of {block} bytes");
        std::fs::remove_file(&fetched).unwrap();
    }

    // The sensor comes back and gets what it signed for.
    site.start_sensor(1).unwrap();
    end(&mut site, &image, &published, "light-client").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_main_job_on_anvil_costs_the_gas_that_the_devchain_takes() {
    let Some(anvil) = anvil_program() else {
        eprintln!("SKIPPED: anvil is not here; run npm ci in contracts/, or set POSTHOUSE_ANVIL");
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let chain = Chain::anvil(&anvil, Duration::from_secs(1), folder.path()).await.unwrap();
    let broker = Broker::embedded().await.unwrap();
    let mut site = Site::prepare(plan(folder.path()), chain, broker).await.unwrap();
    let image = firmware();
    let published = begin(&mut site, &image).await;
    end(&mut site, &image, &published, "rpc").await;

    // Every transaction of the run once more, in its block's time, on the chain in this process.
    let provider = site.chain.provider();
    let genesis = provider.get_block_by_number(BlockNumberOrTag::Earliest).await.unwrap().unwrap();
    let again = DevChain::start(posthouse_devchain::Config {
        chain_id: CHAIN_ID,
        automine: false,
        clock: Clock::Manual,
        genesis_timestamp: Some(genesis.header.timestamp - 1),
        ..Default::default()
    })
    .unwrap();
    // anvil has the proxy from the beginning, through which the factory is deployed.
    again.set_code(DEPLOYER.address, provider.get_code_at(DEPLOYER.address).await.unwrap());
    let replayed = ProviderBuilder::new().connect_http(again.url().parse().unwrap());
    let head = provider.get_block_number().await.unwrap();
    let (mut transactions, mut now) = (0, genesis.header.timestamp);
    for number in 1..=head {
        let block = provider.get_block_by_number(number.into()).full().await.unwrap().unwrap();
        let sent: Vec<TxEnvelope> =
            block.transactions.into_transactions().map(|tx| tx.into_inner()).collect();
        if sent.is_empty() {
            continue;
        }
        // anvil puts two blocks into one second when it mines at once; time rises strictly here.
        now = block.header.timestamp.max(now + 1);
        again.set_next_block_timestamp(now).unwrap();
        for tx in &sent {
            again.send(tx.clone()).unwrap();
        }
        again.mine();
        for tx in &sent {
            let there = provider.get_transaction_receipt(*tx.tx_hash()).await.unwrap().unwrap();
            let here = replayed.get_transaction_receipt(*tx.tx_hash()).await.unwrap().unwrap();
            assert_eq!((here.gas_used, here.status()), (there.gas_used, there.status()), "{}", tx.tx_hash());
            transactions += 1;
        }
    }
    // The factory, the publication, the reservation and the revelation.
    assert!(transactions >= 4, "{transactions} transactions");
}
