//! What the status shows of the exchanges.

use std::collections::BTreeMap;
use std::ops::Bound;

use posthouse_protocol::gateway::{
    Event, ExchangeStatus, OfferStatus, Peer, PeerStatus, SensorFault, SensorStatus,
};
use posthouse_protocol::id::{Bounty, DeviceKey};
use posthouse_protocol::release::Mode;

use super::Exchanges;
use super::follow::Follow;
use crate::dsn::peer_id;
use crate::status::{self, Page, Part};
use crate::store::SensorRow;

/// The sensors of an exchange with which something is wrong.
type Faults = BTreeMap<DeviceKey, SensorFault>;

fn faults(view: &ExchangeStatus) -> Faults {
    view.sensors.iter().filter_map(|sensor| Some((sensor.device, sensor.fault?))).collect()
}

/// Those of a map that a page has.
fn paged<K: Ord + Copy, V>(map: &BTreeMap<K, V>, Page { after, limit }: Page<K>) -> impl Iterator<Item = &V> {
    let after = after.map_or(Bound::Unbounded, Bound::Excluded);
    map.range((after, Bound::Unbounded)).map(|(_, value)| value).take(limit)
}

/// An event in words; distributors by their peer id.
pub(super) fn words(event: &Event) -> String {
    match event {
        Event::Left(peer, fault) => format!("distributor {} left: {fault}", name(peer)),
        Event::Offered(peer, s) => format!("offer of {} under lock {s}", name(peer)),
        Event::Verified(peer, s) => format!("proof of {} verified for lock {s}", name(peer)),
        Event::BodyElsewhere(peer) => format!("{} did not deliver the body; others are asked", name(peer)),
        other => other.to_string(),
    }
}

pub(super) fn name(peer: &Peer) -> String {
    peer_id(peer).map_or_else(|| format!("{peer:?}"), |peer| peer.to_string())
}

impl Exchanges {
    pub(super) fn snapshot(&self, part: Part) -> status::Snapshot {
        let mut snapshot = status::Snapshot { status: self.status(), ..status::Snapshot::default() };
        if part == Part::Status {
            return snapshot;
        }
        let (devices, exchanges) = match part {
            Part::All => (Some(Page::ALL), Page::ALL),
            Part::Devices(page) => (Some(page), Page::ALL),
            Part::Exchanges(page) => (None, page),
            Part::Status | Part::Updates => (None, Page::ALL),
        };
        let views = paged(&self.follows, exchanges).map(|follow| (follow, follow.machine.status()));
        let views: Vec<(&Follow, ExchangeStatus)> = views.collect();
        if matches!(part, Part::All | Part::Updates) {
            snapshot.updates = views.iter().map(|(follow, view)| self.update(follow, view)).collect();
        }
        if let Some(page) = devices {
            let faults = views.iter().map(|(follow, view)| (follow.machine.update().bounty, faults(view)));
            let faults: BTreeMap<Bounty, Faults> = faults.collect();
            let rows = paged(&self.registry.rows, page);
            snapshot.devices = rows.map(|row| self.device(row, &views, &faults)).collect();
        }
        if matches!(part, Part::All | Part::Exchanges(_)) {
            snapshot.exchanges = views.iter().map(|(follow, view)| exchange(follow, view)).collect();
        }
        snapshot
    }

    fn status(&self) -> status::Status {
        let active = |follow: &&Follow| {
            let state = follow.machine.state();
            !state.is_over() && state.name().as_str() != "done"
        };
        status::Status {
            agent: status::Agent {
                version: env!("CARGO_PKG_VERSION").into(),
                peer_id: self.site.peer_id.clone(),
                started: self.started_at,
                products: self.site.products.len(),
                devices: self.registry.rows.len(),
                active_exchanges: self.follows.values().filter(active).count(),
            },
            chain: self.chain(),
            staging: status::Staging {
                images: self.staged.len(),
                bytes: self.staged.values().sum(),
                quota: self.site.quota,
            },
            audit: {
                let posthouse_audit::Health { error, left_out } = self.peers.audit.health();
                status::AuditStatus { error, left_out }
            },
        }
    }

    fn chain(&self) -> status::ChainStatus {
        let seen = self.chain_seen.as_ref();
        let head = seen.map(|seen| &seen.head);
        let finalized = head.and_then(|head| head.as_ref().ok());
        let health = seen.map(|seen| &seen.health);
        let failed = head.and_then(|head| head.as_ref().err().cloned());
        status::ChainStatus {
            trust: self.site.trust.as_str().into(),
            id: self.site.chain,
            finalized: finalized.map(|head| head.number),
            finalized_slot: health.and_then(|health| health.slot),
            finalized_at: finalized.map(|head| head.timestamp),
            age_secs: finalized.map(|head| (self.last_now / 1000).saturating_sub(head.timestamp)),
            alarm: health.and_then(|health| health.alarm.clone()),
            last_error: health.and_then(|health| health.last_error.clone()),
            error: failed.or_else(|| seen.and_then(|seen| seen.trouble.clone())),
        }
    }

    fn device(
        &self,
        row: &SensorRow,
        views: &[(&Follow, ExchangeStatus)],
        faults: &BTreeMap<Bounty, Faults>,
    ) -> status::Device {
        let newest = views
            .iter()
            .filter(|(follow, _)| {
                let update = follow.machine.update();
                update.product == row.product
                    && update.version > row.installed
                    && !follow.machine.state().is_over()
            })
            .max_by_key(|(follow, _)| follow.machine.update().version);
        let fault =
            newest.and_then(|(follow, _)| faults.get(&follow.machine.update().bounty)?.get(&row.device));
        status::Device {
            device: row.device.device_id().to_string(),
            key: row.device.to_string(),
            product: row.product.to_string(),
            carrier: row.carrier.as_str().into(),
            installed: row.installed.get(),
            target: newest.map(|(follow, _)| follow.machine.update().version.get()),
            state: row.state,
            result: row.result,
            next: row.next,
            last_seen: row.last_seen,
            authenticated: row.authenticated,
            fault: fault.map(|fault| fault.to_string()),
            group: self.site.campaign.group_of(&row.device.device_id()).map(str::to_owned),
            held: newest
                .and_then(|(follow, _)| self.hold(&follow.machine.update().bounty, &row.device))
                .map(|hold| hold.to_string()),
        }
    }

    fn update(&self, follow: &Follow, view: &ExchangeStatus) -> status::Update {
        let orders = self.campaigns.orders(&follow.machine.update().bounty);
        let groups = orders.groups.iter().map(|(group, order)| (group.clone(), order.to_string()));
        status::Update {
            order: orders.all.to_string(),
            group_orders: groups.collect(),
            idle_orders: orders
                .without_group(&self.site.campaign)
                .map(|(group, _)| group.to_owned())
                .collect(),
            ..update(follow, view)
        }
    }
}

fn update(follow: &Follow, view: &ExchangeStatus) -> status::Update {
    let update = follow.machine.update();
    let release = follow.machine.package().map(|package| package.release());
    let mode = |mode| match mode {
        Mode::File => "file".to_owned(),
        Mode::Key => "key".to_owned(),
    };
    status::Update {
        vendor: format!("0x{}", hex::encode(follow.vendor)),
        product: update.product.to_string(),
        version: update.version.get(),
        bounty: format!("0x{}", update.bounty),
        u_id: release.map(|release| release.u_id.to_string()),
        size: release.map(|release| release.size),
        mode: release.map(|release| mode(release.mode)),
        claim_by: update.claim_by,
        state: view.state.to_string(),
        error: follow.trouble.clone().or_else(|| view.failure.map(|why| why.to_string())),
        ..status::Update::default()
    }
}

fn exchange(follow: &Follow, view: &ExchangeStatus) -> status::Exchange {
    let update = follow.machine.update();
    let event = |(at, text): &(u64, String)| status::Event { at: *at, text: text.clone() };
    status::Exchange {
        bounty: format!("0x{}", update.bounty),
        product: update.product.to_string(),
        version: update.version.get(),
        state: view.state.to_string(),
        failure: view.failure.map(|why| why.to_string()),
        superseded_by: view.superseded_by.map(|by| by.get()),
        distributor: view.peer.as_ref().map(name),
        left: view.left.iter().map(left).collect(),
        offers: view.offers.iter().map(offer).collect(),
        sensors: view.sensors.iter().map(sensor).collect(),
        keys_ignored: view.keys_ignored,
        events: follow.log.iter().map(event).collect(),
    }
}

fn left(left: &PeerStatus) -> status::Left {
    status::Left { peer: name(&left.peer), why: left.why.to_string(), at: left.at, banned: left.banned }
}

fn offer(offer: &OfferStatus) -> status::Offer {
    status::Offer {
        peer: name(&offer.peer),
        payee: format!("0x{}", offer.payee),
        s: offer.s.to_string(),
        signed: offer.signed,
        acked: offer.acked,
        sealed: offer.sealed,
        revealed: offer.revealed,
    }
}

fn sensor(sensor: &SensorStatus) -> status::Sensor {
    status::Sensor {
        device: sensor.device.device_id().to_string(),
        index: sensor.index,
        attempts: sensor.attempts,
        signed: sensor.signed,
        claimed: sensor.claimed,
        served: sensor.served,
        reported: sensor.reported,
        fault: sensor.fault.map(|fault| fault.to_string()),
    }
}
