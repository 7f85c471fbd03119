//! What of the exchanges the audit log is told. `docs/audit.md` says what each kind means.

use std::collections::BTreeMap;

use posthouse_audit::{Kind, Record, now};
use posthouse_contracts::chain::Key;
use posthouse_protocol::gateway::{Event, KeySource, Update};
use posthouse_protocol::id::{Bounty, DeviceKey, LockHash};

use super::view::name;
use super::{Exchanges, GiveOrder, OrderError, Retry};

/// Payments that are remembered for an update, so that each is told once: two for each sensor of the largest site.
const MAX_PAID: usize = 2 * super::MAX_SENSORS;

/// Of this kind, about this update.
pub(super) fn of(kind: Kind, update: &Update) -> Record {
    let bounty = Some(format!("0x{}", update.bounty));
    Record { bounty, sequence: Some(update.version.get()), ..Record::new(kind) }
}

/// What an event is to the log, if it is anything.
pub(super) fn record(event: &Event, update: &Update) -> Option<Record> {
    let of = |kind| of(kind, update);
    let id = |device: &DeviceKey| Some(device.device_id().to_string());
    let text = |s: &LockHash| Some(s.to_string());
    Some(match event {
        Event::Failed(why) => Record { reason: Some(why.to_string()), ..of(Kind::ExchangeFailed) },
        Event::Delegated(device) => Record { device: id(device), ..of(Kind::DelegationSigned) },
        Event::Verified(peer, s) => {
            Record { peer: Some(name(peer)), hash: text(s), ..of(Kind::OfferAccepted) }
        }
        Event::Signed(device, s, attempt) => Record {
            device: id(device),
            hash: text(s),
            attempt: Some(attempt.get()),
            ..of(Kind::ReceiptSigned)
        },
        Event::Acked(device, s) => Record { device: id(device), hash: text(s), ..of(Kind::ReceiptDelivered) },
        Event::ReceiptRefused(device, s, why) => Record {
            device: id(device),
            hash: text(s),
            reason: Some(why.to_string()),
            ..of(Kind::ReceiptRefused)
        },
        Event::Sealed(s, receipts) => {
            Record { hash: text(s), count: Some(u64::from(*receipts)), ..of(Kind::BatchSealed) }
        }
        Event::Key(s, source) => {
            let who = match source {
                KeySource::Chain => "chain",
                KeySource::Distributor => "distributor",
            };
            Record { hash: text(s), who: Some(who.into()), ..of(Kind::KeyAccepted) }
        }
        Event::KeyIgnored(s) => Record { hash: text(s), ..of(Kind::KeyRefused) },
        Event::Staged(s) => Record { hash: text(s), ..of(Kind::ImageStaged) },
        Event::Installed(device, signed) => {
            let reason = if *signed { "signed" } else { "not signed" };
            Record { device: id(device), reason: Some(reason.into()), ..of(Kind::SensorInstalled) }
        }
        Event::Left(peer, why) => {
            let kind = if why.is_lie() { Kind::OfferRefused } else { Kind::DistributorLeft };
            Record { peer: Some(name(peer)), reason: Some(why.to_string()), ..of(kind) }
        }
        Event::Sensor(device, fault) => {
            Record { device: id(device), reason: Some(fault.to_string()), ..of(Kind::SensorRefused) }
        }
        Event::State(_)
        | Event::Offered(..)
        | Event::Member(..)
        | Event::Asked(..)
        | Event::BodyElsewhere(_)
        | Event::StagingFailed(_) => return None,
    })
}

impl GiveOrder {
    /// As the log has it, if it is kept.
    pub(crate) fn record(&self) -> Record {
        Record {
            bounty: Some(format!("0x{}", self.bounty)),
            order: Some(self.order.to_string()),
            group: self.group.clone(),
            who: Some(self.who.clone()),
            ..Record::new(Kind::OrderGiven)
        }
    }
}

impl Retry {
    /// As the log has it, if it is kept.
    pub(crate) fn record(&self) -> Record {
        Record {
            device: Some(self.device.to_string()),
            order: Some("retry".into()),
            who: Some(self.who.clone()),
            ..Record::new(Kind::OrderGiven)
        }
    }
}

impl Exchanges {
    /// Tells what came of an order, and hands it on. Whoever gave it may have left: it is told here, where it is known.
    pub(super) fn tell_order<T>(&self, order: Record, came: Result<T, OrderError>) -> Result<T, OrderError> {
        let (kind, reason) = match &came {
            Ok(_) => (Kind::OrderGiven, None),
            Err(why) => (Kind::OrderRefused, Some(why.to_string())),
        };
        self.peers.audit.tell(Record { time: now(), kind, reason, ..order });
        came
    }

    /// Tells of payments that the chain shows for sensors of this site, and by keys of offers that are held here; each once.
    pub(super) fn tell_payments(&mut self, bounty: Bounty, keys: &[Key]) {
        let Some(follow) = self.follows.get_mut(&bounty) else { return };
        let new: Vec<&Key> = keys.iter().filter(|key| !follow.paid.contains(&(key.index, key.s))).collect();
        if new.is_empty() {
            return;
        }
        let status = follow.machine.status();
        let known = status.sensors.iter().filter_map(|sensor| Some((sensor.index?, sensor.device)));
        let known: BTreeMap<u32, DeviceKey> = known.collect();
        for key in new {
            let device = known.get(&key.index).map(|device| device.device_id().to_string());
            let ours = device.is_some() || status.offers.iter().any(|offer| offer.s == key.s);
            if ours && follow.paid.len() < MAX_PAID && follow.paid.insert((key.index, key.s)) {
                let (hash, address) = (Some(key.s.to_string()), Some(format!("0x{}", key.payee)));
                let update = follow.machine.update();
                self.peers.audit.tell(Record { device, hash, address, ..of(Kind::PaymentSeen, update) });
            }
        }
    }
}
