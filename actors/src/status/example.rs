//! What answers look like, for their description: a site whose first sensor has an update and whose second fetches it.

use super::overview::Wanted;
use super::{
    Agent, AuditStatus, CarriedBytes, ChainStatus, Device, Event, Exchange, Offer, Overview, Peer, Peers,
    Process, Sensor, Snapshot, Staging, Status, Update, Usage,
};

const BOUNTY: &str = "0x5fbdb2315678afecb367f032d93f642f64180aa3";
const PRODUCT: &str = "00112233445566778899aabbccddeeff/ffeeddccbbaa99887766554433221100";
const DEVICE: &str = "000102030405060708090a0b0c0d0e0f";
const PEER: &str = "12D3KooWEyoppNCUx8Yx66oV9fJnriXwCcXwDDUA2kj6vnc6iDEp";
/// 2026-11-23, Unix milliseconds.
const NOW: u64 = 1_795_392_000_000;

pub(super) fn status() -> Status {
    Status {
        agent: Agent {
            version: env!("CARGO_PKG_VERSION").into(),
            peer_id: PEER.into(),
            started: NOW,
            products: 1,
            devices: 2,
            active_exchanges: 1,
        },
        chain: ChainStatus {
            trust: "light-client".into(),
            id: 1,
            finalized: Some(17_923_026),
            finalized_slot: Some(7_109_344),
            finalized_at: Some(NOW / 1000),
            age_secs: Some(790),
            ..ChainStatus::default()
        },
        staging: staging(),
        audit: AuditStatus::default(),
    }
}

fn staging() -> Staging {
    Staging { images: 1, bytes: 1 << 20, quota: 4 << 30 }
}

pub(super) fn usage() -> Usage {
    let process = Process { resident: Some(26 << 20), cpu_ms: Some(83_000), open_files: Some(31) };
    Usage { process, carried: CarriedBytes { mqtt: 1 << 20, coap: 65_536 }, staging: staging() }
}

pub(super) fn peers() -> Peers {
    let connected = vec![Peer { peer_id: PEER.into(), configured: true }];
    Peers { peer_id: PEER.into(), connected, routing: 20, provided: 1, remembered: 20 }
}

pub(super) fn update() -> Update {
    Update {
        vendor: "0x70997970c51812dc3a010c7d01b50e0d17dc79c8".into(),
        product: PRODUCT.into(),
        version: 7,
        bounty: BOUNTY.into(),
        u_id: Some("11".repeat(32)),
        size: Some(1 << 20),
        mode: Some("key".into()),
        claim_by: NOW / 1000 + 30 * 86_400,
        state: "staged".into(),
        order: "resume".into(),
        ..Update::default()
    }
}

pub(super) fn device() -> Device {
    Device {
        device: DEVICE.into(),
        key: format!("02{}", "ab".repeat(32)),
        product: PRODUCT.into(),
        carrier: "coap".into(),
        installed: 6,
        target: Some(7),
        state: Some(1),
        result: Some(0),
        next: Some(65_536),
        last_seen: NOW,
        authenticated: true,
        ..Device::default()
    }
}

pub(super) fn exchange() -> Exchange {
    let offer = Offer {
        peer: PEER.into(),
        payee: "0xf39fd6e51aad88f6f4ce6ab8827279cfffb92266".into(),
        s: "22".repeat(32),
        signed: 2,
        acked: 2,
        sealed: true,
        revealed: true,
    };
    let sensor = Sensor {
        device: DEVICE.into(),
        index: Some(0),
        attempts: 1,
        signed: true,
        claimed: true,
        served: true,
        ..Sensor::default()
    };
    Exchange {
        bounty: BOUNTY.into(),
        product: PRODUCT.into(),
        version: 7,
        state: "staged".into(),
        distributor: Some(PEER.into()),
        offers: vec![offer],
        sensors: vec![sensor],
        events: vec![Event { at: NOW, text: "the image is staged".into() }],
        ..Exchange::default()
    }
}

pub(super) fn overview() -> Overview {
    let all = Snapshot {
        status: status(),
        updates: vec![update()],
        devices: vec![device()],
        exchanges: vec![exchange()],
    };
    super::overview::overview(all, NOW, &Wanted::default())
}
