//! What people and programs are shown of an exchange.

use alloc::vec::Vec;

use super::exchange::{Exchange, Held};
use super::io::{Admission, ClaimState, Fault, SensorFault};
use super::peer::Peer;
use super::roster::{Sensor, Step};
use super::state::{Failure, State, StateName};
use crate::id::{DeviceKey, LockHash, Payee, Version};

/// One exchange at a glance.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExchangeStatus {
    /// State.
    pub state: StateName,
    /// Why it failed, if it did.
    pub failure: Option<Failure>,
    /// The version that took its place, if one did.
    pub superseded_by: Option<Version>,
    /// The distributor it is with now.
    pub peer: Option<Peer>,
    /// Distributors that were left, and why.
    pub left: Vec<PeerStatus>,
    /// Offers held.
    pub offers: Vec<OfferStatus>,
    /// Sensors.
    pub sensors: Vec<SensorStatus>,
    /// Keys that fitted nothing.
    pub keys_ignored: u64,
}

/// A distributor that was left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PeerStatus {
    /// Who.
    pub peer: Peer,
    /// Why, the last time.
    pub why: Fault,
    /// When, Unix milliseconds.
    pub at: u64,
    /// Whether it is never asked again.
    pub banned: bool,
}

/// An offer for which receipts are asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OfferStatus {
    /// Its distributor.
    pub peer: Peer,
    /// Who is paid.
    pub payee: Payee,
    /// Its lock.
    pub s: LockHash,
    /// Receipts signed.
    pub signed: usize,
    /// Receipts that the distributor has.
    pub acked: usize,
    /// Whether the batch is sealed.
    pub sealed: bool,
    /// Whether the key is known.
    pub revealed: bool,
}

/// A sensor in this exchange.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SensorStatus {
    /// Its key.
    pub device: DeviceKey,
    /// What it runs, if it was heard since the start.
    pub installed: Option<Version>,
    /// Its index in the fleet, once proven.
    pub index: Option<u32>,
    /// Distinct receipts asked of it.
    pub attempts: u8,
    /// Whether it signed one for an offer that is held.
    pub signed: bool,
    /// Whether its share is paid, by the last reading.
    pub claimed: bool,
    /// Whether the image is served to it.
    pub served: bool,
    /// Whether it reported, signed, that it runs the update.
    pub reported: bool,
    /// What the site lets it have.
    pub admission: Admission,
    /// What is wrong with it.
    pub fault: Option<SensorFault>,
}

impl Exchange {
    /// How the exchange stands.
    pub fn status(&self) -> ExchangeStatus {
        ExchangeStatus {
            state: self.state.name(),
            failure: if let State::Failed(why) = self.state { Some(why) } else { None },
            superseded_by: if let State::Superseded(by) = self.state { Some(by) } else { None },
            peer: self.state.peer(),
            left: self.book.left.iter().map(|(peer, left)| left_status(*peer, *left)).collect(),
            offers: self.offers().map(|held| self.offer_status(held)).collect(),
            sensors: self.sensors.iter().map(|(key, sensor)| sensor_status(*key, sensor)).collect(),
            keys_ignored: self.keys_ignored,
        }
    }

    fn offer_status(&self, held: &Held) -> OfferStatus {
        let s = held.offer.s();
        OfferStatus {
            peer: held.offer.peer,
            payee: held.offer.payee,
            s,
            signed: self.count_receipts(&s, |step| step != Step::Asked),
            acked: self.count_receipts(&s, |step| step == Step::Acked),
            sealed: held.sealed.is_some(),
            revealed: held.key.is_some(),
        }
    }
}

fn left_status(peer: Peer, (why, at): (Fault, u64)) -> PeerStatus {
    PeerStatus { peer, why, at, banned: why.is_lie() }
}

fn sensor_status(device: DeviceKey, sensor: &Sensor) -> SensorStatus {
    SensorStatus {
        device,
        installed: sensor.seen.map(|seen| seen.installed),
        index: sensor.index,
        attempts: sensor.receipts.values().map(|r| r.attempt.get()).max().unwrap_or(0),
        signed: sensor.receipts.values().any(super::roster::Receipt::is_signed),
        claimed: matches!(sensor.claim, Some((ClaimState::Claimed, _))),
        served: sensor.intent.image,
        reported: sensor.report.is_some(),
        admission: sensor.admission,
        fault: sensor.fault,
    }
}
