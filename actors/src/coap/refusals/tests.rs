use std::fs::{self, File};
use std::sync::Arc;
use std::time::Duration;

use posthouse_audit::Bounds;
use posthouse_audit::read::{Filter, read};

use super::*;

const NAMED: DeviceId = DeviceId::new([0xd0; 16]);
const SHOWN_ID: DeviceId = DeviceId::new([0x0e; 16]);
const WINDOW: Duration = Duration::from_secs(60);

fn peer(port: u16) -> SocketAddr {
    SocketAddr::from(([192, 0, 2, 1], port))
}

fn unknown(identity: &[u8]) -> Refusal {
    Refusal::Unproven(Unproven::Identity(identity.to_vec()))
}

fn wrong(identity: &[u8]) -> Refusal {
    Refusal::Unproven(Unproven::Key(identity.to_vec(), NAMED))
}

/// What is logged and written down.
fn said(tell: impl FnOnce(&mut Refusals)) -> (String, Vec<Record>) {
    let folder = tempfile::tempdir().unwrap();
    let (log, file) = (folder.path().join("log"), folder.path().join("audit"));
    let audit = Audit::at(&file, Bounds::default());
    let writer = Arc::new(File::create(&log).unwrap());
    let subscriber = tracing_subscriber::fmt().with_writer(writer).with_ansi(false).finish();
    let mut refusals = Refusals::new(audit.clone());
    tracing::subscriber::with_default(subscriber, || tell(&mut refusals));
    assert!(audit.flush(WINDOW));
    let mut records = Vec::new();
    let odd = read(&file, &Filter::default(), |record, _| {
        records.push(record.clone());
        Ok(())
    });
    assert_eq!(odd.unwrap(), 0);
    (fs::read_to_string(&log).unwrap(), records)
}

#[test]
fn each_names_address_device_and_reason() {
    let now = Instant::now();
    let (log, records) = said(|refusals| {
        refusals.tell(peer(1), &unknown(b"sensor-9"), now);
        refusals.tell(peer(2), &wrong(b"sensor-1"), now);
        refusals.tell(peer(3), &Refusal::Another { named: NAMED, shown: SHOWN_ID }, now);
        let other = Unproven::Handshake("no suite".into());
        refusals.tell(peer(4), &Refusal::Unproven(other), now);
    });
    let device = NAMED.to_string();
    let expected = [
        (1, None, "unknown identity: \"sensor-9\"".to_owned()),
        (2, Some(&device), "wrong key: \"sensor-1\"".to_owned()),
        (3, Some(&device), format!("another device's key: {SHOWN_ID}'s")),
        (4, None, "handshake failed: no suite".to_owned()),
    ];
    for ((line, record), (port, device, reason)) in log.lines().zip(&records).zip(&expected) {
        assert!(line.contains("WARN") && line.contains("refused over DTLS"), "{line}");
        assert!(line.contains(&format!("peer={}", peer(*port))) && line.contains(reason), "{line}");
        assert!(device.is_none_or(|device| line.contains(device)), "{line}");
        assert_eq!((record.kind, record.device.as_ref()), (Kind::SensorRefused, *device));
        assert_eq!(record.who, Some(peer(*port).to_string()));
        assert_eq!(record.reason, Some(format!("over DTLS: {reason}")));
    }
    assert_eq!((log.lines().count(), records.len()), (4, 4));
}

/// An identity is what a stranger likes, up to 64 KiB of it.
#[test]
fn an_identity_is_one_short_line_of_printable_text() {
    let refusal = unknown(&b"\n\x1b[31m\"\xff".repeat(1000)).to_string();
    assert!(refusal.len() < 4 * SHOWN + 32 && refusal.ends_with("...\""), "{refusal}");
    assert!(refusal.bytes().all(|byte| byte == b' ' || byte.is_ascii_graphic()), "{refusal}");
}

#[test]
fn a_flood_is_a_few_lines_of_its_kind_and_a_count() {
    let (begun, many) = (Instant::now(), 10_000);
    let (log, records) = said(|refusals| {
        (0..many).for_each(|port| refusals.tell(peer(port), &unknown(b"x"), begun));
        // Another kind has room of its own.
        refusals.tell(peer(1), &wrong(b"sensor-1"), begun);
        refusals.count(begun + WINDOW - Duration::from_millis(1));
        refusals.count(begun + WINDOW);
        refusals.tell(peer(7), &unknown(b"later"), begun + WINDOW);
    });
    let lines: Vec<&str> = log.lines().collect();
    let few = lines.iter().filter(|line| line.contains("unknown identity: \"x\"")).count();
    assert!((1..100).contains(&few), "{few}");
    assert_eq!(lines.len(), few + 3);
    assert!(lines[few].contains("wrong key"), "{}", lines[few]);
    let count = format!("count={} reason=\"unknown identity\"", usize::from(many) - few);
    assert!(lines[few + 1].contains("more were refused over DTLS") && lines[few + 1].contains(&count));
    assert!(lines[few + 2].contains("later"));
    assert!(records.len() < 100);
}
