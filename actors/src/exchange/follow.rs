//! One exchange with what belongs to it outside the machine.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::path::PathBuf;
use std::time::Duration;

use actix::SpawnHandle;
use posthouse_contracts::fleet;
use posthouse_protocol::gateway::{Exchange, Intent, Record, Update};
use posthouse_protocol::id::{DeviceKey, Digest, LockHash};
use posthouse_protocol::release::Release;

use super::Site;
use crate::verifier::CheckedPackage;

/// Events kept for the status.
const MAX_LOG: usize = 256;

/// One exchange.
pub(super) struct Follow {
    pub(super) machine: Exchange,
    pub(super) vendor: [u8; 20],
    pub(super) package: Option<CheckedPackage>,
    /// What each sensor should find, by this exchange alone.
    pub(super) intents: BTreeMap<DeviceKey, Intent>,
    /// Whether a write is under way: nothing leaves before it is done.
    pub(super) saving: bool,
    pub(super) timer: Option<SpawnHandle>,
    /// When the machine decided last, Unix milliseconds.
    pub(super) decided: u64,
    /// Whether it has taken in facts that it has not decided about.
    pub(super) undecided: bool,
    /// Payments that the audit log has been told of: index and lock.
    pub(super) paid: BTreeSet<(u32, LockHash)>,
    pub(super) log: VecDeque<(u64, String)>,
    /// Why it does not go on, for people.
    pub(super) trouble: Option<String>,
}

impl Follow {
    pub(super) fn new(site: &Site, update: Update, vendor: [u8; 20]) -> Self {
        Self::with(Exchange::new(update, site.gateway, site.policy.clone(), verify_path), vendor)
    }

    pub(super) fn restore(
        site: &Site,
        update: Update,
        vendor: [u8; 20],
        records: Vec<Record>,
        now: u64,
    ) -> Self {
        let policy = site.policy.clone();
        Self::with(Exchange::restore(update, site.gateway, policy, verify_path, records, now), vendor)
    }

    fn with(machine: Exchange, vendor: [u8; 20]) -> Self {
        Self {
            machine,
            vendor,
            package: None,
            intents: BTreeMap::new(),
            saving: false,
            timer: None,
            decided: 0,
            undecided: false,
            paid: BTreeSet::new(),
            log: VecDeque::new(),
            trouble: None,
        }
    }

    /// Where its encrypted image is kept.
    pub(super) fn body_path(&self, site: &Site) -> Option<PathBuf> {
        let release = self.package.as_ref()?.release.release();
        Some(site.bodies.join(release.body_id?.to_string()))
    }

    /// Whether this sensor is asked to sign this digest now.
    pub(super) fn asks(&self, device: &DeviceKey, digest: &Digest) -> bool {
        let sign = self.intents.get(device).and_then(|intent| intent.sign);
        sign.is_some_and(|request| request.digest() == *digest)
    }

    /// How long after a decision the next one waits for more facts, ms.
    pub(super) fn pause(&self, per_sensor: Duration) -> u64 {
        let sensors = u32::try_from(self.machine.sensors()).unwrap_or(u32::MAX);
        u64::try_from(per_sensor.saturating_mul(sensors).as_millis()).unwrap_or(u64::MAX)
    }

    pub(super) fn note(&mut self, at: u64, text: String) {
        if self.log.len() == MAX_LOG {
            self.log.pop_front();
        }
        self.log.push_back((at, text));
    }
}

/// Membership as the contract checks it.
fn verify_path(release: &Release, key: &DeviceKey, index: u32, path: &[[u8; 32]]) -> bool {
    let Ok(leaf) = fleet::leaf(release.curve, key, index) else { return false };
    let path: Vec<_> = path.iter().map(|node| (*node).into()).collect();
    fleet::verify(&release.fleet_root, release.fleet_depth, release.fleet_size, index, leaf, &path).is_ok()
}
