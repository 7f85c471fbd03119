//! The gateway as a service: what systemd is told and what it asks for.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::path::Path;
use std::time::Duration;

use posthouse_audit::{Kind, Record, read::Filter};
use posthouse_tests::{
    broker::Broker,
    chain::Chain,
    process::Programs,
    roles::Role,
    scene::configure,
    site::{PATIENCE, Plan, Site},
};
use tokio::net::UnixDatagram;
use tokio::sync::mpsc;
use tokio::time::timeout;

fn programs() -> Programs {
    Programs::new(env!("CARGO_BIN_EXE_posthouse-demo"))
}

/// The end of `sd_notify(3)` that systemd holds: it takes what comes, as whoever says something waits until it is taken.
struct Systemd(mpsc::UnboundedReceiver<String>);

impl Systemd {
    fn listen(path: &Path) -> Self {
        let socket = UnixDatagram::bind(path).unwrap();
        let (said, heard) = mpsc::unbounded_channel();
        tokio::spawn(async move {
            let mut message = [0; 512];
            while let Ok(len) = socket.recv(&mut message).await {
                let lines = String::from_utf8_lossy(&message[..len]).into_owned();
                if lines.lines().try_for_each(|line| said.send(line.to_owned())).is_err() {
                    return;
                }
            }
        });
        Self(heard)
    }

    async fn told(&mut self, state: &str) {
        let told = async { while self.0.recv().await.unwrap() != state {} };
        timeout(PATIENCE, told).await.unwrap_or_else(|_| panic!("systemd is not told {state}"));
    }
}

fn percent(config: &Path, percent: i64) {
    configure(config, |gateway| {
        gateway.insert("campaign".into(), toml::toml! { percent = percent }.into());
    })
    .unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn it_is_ready_and_alive_takes_rules_over_and_ends_when_told() {
    let folder = tempfile::tempdir().unwrap();
    let plan = Plan { sensors: 2, distributors: 1, ..Plan::new(programs(), folder.path()) };
    let chain = Chain::devchain(Duration::from_millis(250)).unwrap();
    let mut site = Site::prepare(plan, chain, Broker::embedded().await.unwrap()).await.unwrap();
    let config = site.gateway_config();
    percent(&config, 0);
    let image: Vec<u8> = (0..30_000u32).map(|i| (i / 7) as u8).collect();
    let file = config.with_file_name("firmware.bin");
    std::fs::write(&file, &image).unwrap();
    let published = site.publish(&file, "key").await.unwrap();
    site.start_seeder().unwrap();
    site.start_distributor(0, &[]).unwrap();

    let socket = folder.path().join("notify");
    let mut systemd = Systemd::listen(&socket);
    let socket = socket.to_str().unwrap().to_owned();
    site.start_gateway(&[
        ("NOTIFY_SOCKET".into(), socket),
        // Twice in this time it is alive.
        ("WATCHDOG_USEC".into(), "400000".into()),
    ])
    .unwrap();
    systemd.told("EXTEND_TIMEOUT_USEC=60000000").await;
    systemd.told("READY=1").await;
    for _ in 0..3 {
        systemd.told("WATCHDOG=1").await;
    }
    site.start_sensors().unwrap();
    let held = async || {
        let devices = site.devices().await;
        let waits = devices.len() == 2 && devices.iter().all(|device| device.held.is_some());
        Ok(waits.then_some(()))
    };
    posthouse_tests::poll::until("rules that give nobody anything", PATIENCE, held).await.unwrap();

    // It holds them by an update that it read in a final block.
    let asked = ["status", "--ready", "--config", config.to_str().unwrap()];
    assert_eq!(programs().output(Role::Gateway, asked).await.unwrap(), "");

    // A file that is none changes nothing, one that is is taken over.
    let good = std::fs::read(&config).unwrap();
    std::fs::write(&config, "nonsense").unwrap();
    site.gateway().unwrap().reload().unwrap();
    let refused =
        async || Ok(site.gateway()?.printed().contains("the configuration is not read again").then_some(()));
    posthouse_tests::poll::until("the refusal", PATIENCE, refused).await.unwrap();
    std::fs::write(&config, good).unwrap();
    percent(&config, 100);
    site.gateway().unwrap().reload().unwrap();
    site.updated(&image, PATIENCE).await.unwrap();
    site.paid(published.version, 2, PATIENCE).await.unwrap();

    let ended = site.gateway().unwrap().terminate().await.unwrap();
    assert!(ended.success(), "{ended}");
    systemd.told("STOPPING=1").await;
    // The distributor sees its pay when the block is final, which may be after everybody else has.
    let log = folder.path().join("distributor-0/state/audit.jsonl");
    let seen = async || {
        let pays = written(&log).0.iter().filter(|record| record.kind == Kind::PaymentSeen).count();
        Ok((pays >= 2).then_some(()))
    };
    posthouse_tests::poll::until("the pay in the distributor's log", PATIENCE, seen).await.unwrap();
    audited(folder.path(), &published.bounty);
}

/// A log's records, and how many of its lines are none.
fn written(file: &Path) -> (Vec<Record>, u64) {
    let mut records = Vec::new();
    let odd = posthouse_audit::read::read(file, &Filter::default(), |record, _| {
        records.push(record.clone());
        Ok(())
    });
    (records, odd.unwrap())
}

/// What each program wrote down of all this.
fn audited(folder: &Path, bounty: &str) {
    use Kind::{
        BatchSealed, DelegationSigned, ImageStaged, KeyAccepted, OfferAccepted, OfferMade, PaymentSeen,
        ReceiptDelivered, ReceiptSigned, ReleaseAccepted, ReloadRefused, Reloaded, SensorInstalled, Started,
        Stopped, TransactionSigned,
    };
    let written = |file: &str| {
        let (records, odd) = written(&folder.join(file));
        assert_eq!(odd, 0);
        records
    };
    let gateway = written("gateway/audit.jsonl");
    for (kind, times) in [
        (Started, 1),
        (ReleaseAccepted, 1),
        (ReloadRefused, 1),
        (Reloaded, 1),
        (OfferAccepted, 1),
        (ReceiptSigned, 2),
        (ReceiptDelivered, 2),
        (BatchSealed, 1),
        (KeyAccepted, 1),
        (ImageStaged, 1),
        (SensorInstalled, 2),
        (Stopped, 1),
    ] {
        let of: Vec<_> = gateway.iter().filter(|record| record.kind == kind).collect();
        let whole = matches!(kind, Started | ReloadRefused | Reloaded | Stopped);
        assert!(of.len() == times || (!whole && of.len() > times), "{kind:?}: {gateway:?}");
        let is_its = |text: &String| text.eq_ignore_ascii_case(bounty);
        assert!(whole || of.iter().all(|record| record.bounty.as_ref().is_some_and(is_its)), "{of:?}");
    }
    assert!(gateway.iter().any(|record| record.kind == DelegationSigned));
    assert_eq!(gateway.last().map(|record| record.kind), Some(Stopped));
    let vendor = written("vendor/state/audit.jsonl");
    assert!(vendor.iter().all(|record| record.kind == TransactionSigned && record.transaction.is_some()));
    assert!(!vendor.is_empty());
    let distributor = written("distributor-0/state/audit.jsonl");
    for (kind, least) in [(OfferMade, 1), (TransactionSigned, 1), (PaymentSeen, 2)] {
        assert!(distributor.iter().filter(|record| record.kind == kind).count() >= least, "{distributor:?}");
    }
}
