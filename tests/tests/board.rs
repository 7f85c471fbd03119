//! A Cortex-M3 with 256 KiB of flash and 64 KiB of RAM is a sensor of a site: its firmware updates itself through the
//! gateway, and refuses what a lying gateway tells it.
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "tests")]

use std::{path::Path, time::Duration};

use posthouse_protocol::{
    cose::ReleaseSigningKey,
    id::{Curve, ProductId, UpdateId, Version},
    sensor::ErrorCode,
    suit::{self, Manifest},
};
use posthouse_tests::{
    board::{Board, Firmware, Identity},
    broker::Broker,
    chain::Chain,
    liar::{Liar, Lie},
    poll::until,
    process::Programs,
    site::{PATIENCE, Plan, Site},
};
use sha2::{Digest as _, Sha256};

const BLOCK_TIME: Duration = Duration::from_millis(250);
/// The sensor of the site that the board is; the other one is simulated.
const BOARD: usize = 1;

fn key(file: &Path) -> [u8; 32] {
    hex::decode(std::fs::read_to_string(file).unwrap().trim()).unwrap().try_into().unwrap()
}

/// A manifest as the vendor, or whoever has its key, would sign it.
fn manifest(key: &ReleaseSigningKey, product: ProductId, version: u64, image: &[u8]) -> Vec<u8> {
    let manifest = Manifest {
        sequence: Version::new(version),
        product,
        u_id: UpdateId::new(Sha256::digest(image).into()),
        size: image.len() as u32,
    };
    suit::build(&manifest, key)
}

/// A vector table that is one, and an endless loop: an image that starts and does nothing.
fn hangs() -> Vec<u8> {
    let (stack, start, forever) = (0x2001_0000_u32, 0x8041_u32, 0xe7fe_u16);
    let mut image = vec![0xff; 0x42];
    image[..4].copy_from_slice(&stack.to_le_bytes());
    image[4..8].copy_from_slice(&start.to_le_bytes());
    image[0x40..].copy_from_slice(&forever.to_le_bytes());
    image
}

async fn says(board: &mut Board, what: &str) {
    let waited = until(format!("the board to say {what:?}"), PATIENCE, async || {
        board.still_powered().await?;
        Ok(board.said().contains(what).then_some(()))
    })
    .await;
    waited.unwrap_or_else(|why| panic!("{why}: {}", board.said()));
}

async fn refuses(liar: &Liar, board: &mut Board, lie: Lie, code: ErrorCode) {
    let before = liar.refused().unwrap().len();
    liar.tell(lie).unwrap();
    let waited = until(format!("the board to refuse: {code}"), PATIENCE, async || {
        board.still_powered().await?;
        Ok(liar.refused()?[before..].contains(&code).then_some(()))
    })
    .await;
    waited.unwrap_or_else(|why| panic!("{why}: {}", board.said()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cortex_m3_updates_itself_through_the_gateway_and_refuses_what_is_not_the_vendors() {
    let firmware = Firmware::built().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let programs = Programs::new(env!("CARGO_BIN_EXE_posthouse-demo"));
    let plan = Plan { sensors: 2, distributors: 1, curve: Curve::P256, ..Plan::new(programs, folder.path()) };
    let (chain, broker) = (Chain::devchain(BLOCK_TIME).unwrap(), Broker::embedded().await.unwrap());
    let mut site = Site::prepare(plan, chain, broker).await.unwrap();
    let image = firmware.sensor(2).unwrap();
    let file = folder.path().join("firmware.bin");
    std::fs::write(&file, &image).unwrap();
    let published = site.publish(&file, "key").await.unwrap();
    site.start_seeder().unwrap();
    site.start_distributor(0, &[]).unwrap();
    site.start_gateway(&[]).unwrap();
    site.start_sensor(0).unwrap();

    let liar = Liar::before(site.coap).await.unwrap();
    let product = Site::product();
    let identity = Identity {
        key: key(&site.sensors[BOARD].config.with_extension("d").join("device.key")),
        product,
        release_key: site.vendor.release_key.parse().unwrap(),
        gateway: liar.address,
    };
    // The first time that it fetches, one bit is wrong.
    liar.tell(Lie::FlippedBit).unwrap();
    let mut board = Board::start(&folder.path().join("board"), &firmware, &identity).unwrap();
    says(&mut board, "build=1 unknown").await;
    says(&mut board, "result=5").await;
    assert!(!board.said().contains("build=2"), "{}", board.said());

    // It fetches again, comes back as build 2, and reports that; the vendor has paid for both sensors.
    says(&mut board, "build=2 image").await;
    site.reported(published.version, PATIENCE).await.unwrap();
    site.paid(published.version, site.sensors.len(), PATIENCE).await.unwrap();
    assert!(board.runs(&image).unwrap());

    // Signed by somebody else; older, though by the vendor; another image under the number that it has.
    let vendor = key(&site.vendor.config.with_file_name("release.key"));
    let vendor = ReleaseSigningKey::from_bytes(&vendor).unwrap();
    let other = ReleaseSigningKey::from_bytes(&[0x42; 32]).unwrap();
    let next = published.version + 1;
    let forged = Lie::Manifest(manifest(&other, product, next, b"forged"));
    refuses(&liar, &mut board, forged, ErrorCode::BadManifest).await;
    let older = Lie::Manifest(manifest(&vendor, product, published.version - 1, b"older"));
    refuses(&liar, &mut board, older, ErrorCode::Downgrade).await;
    let conflict = Lie::Manifest(manifest(&vendor, product, published.version, b"another"));
    refuses(&liar, &mut board, conflict, ErrorCode::BadManifest).await;
    assert!(board.runs(&image).unwrap());

    // The vendor's own mistake, an image that hangs: the watchdog brings the one before it back, twice, and no more.
    let hangs = hangs();
    let mistake = Lie::Release(manifest(&vendor, product, next, &hangs), hangs);
    refuses(&liar, &mut board, mistake, ErrorCode::Downgrade).await;
    assert!(board.runs(&image).unwrap());
    assert_eq!(board.said().matches("build=2 reverted").count(), 2, "{}", board.said());
    // What it says is installed is what runs.
    assert!(board.said().ends_with('\n') && !board.said().contains(&format!("installed={next}")));

    // For `cargo xtask figures sensors`.
    let depths = board.said();
    let depths = depths.split("stack=").skip(1).filter_map(|rest| rest.lines().next()?.parse::<u32>().ok());
    println!("board deepest_stack={} B", depths.max().unwrap());
}
