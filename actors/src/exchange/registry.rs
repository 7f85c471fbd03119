//! The sensors of this site, as each was last heard.

use std::collections::BTreeMap;

use posthouse_protocol::gateway::{Admission, SensorView};
use posthouse_protocol::id::{DeviceKey, ProductId};
use posthouse_protocol::sensor::Status;

use crate::messages::SensorHello;
use crate::store::SensorRow;

/// How much later a sensor must be heard before that alone is worth a write.
const STALE_MS: u64 = 3_600_000;

/// All sensors, at most as many as it was made for.
pub(super) struct Registry {
    pub(super) rows: BTreeMap<DeviceKey, SensorRow>,
    kept: BTreeMap<DeviceKey, SensorRow>,
    max: usize,
}

impl Registry {
    pub(super) fn new(max: usize) -> Self {
        Self { rows: BTreeMap::new(), kept: BTreeMap::new(), max }
    }

    pub(super) fn restore(&mut self, rows: Vec<SensorRow>) {
        self.rows = rows.into_iter().take(self.max).map(|row| (row.device, row)).collect();
        self.kept = self.rows.clone();
    }

    /// A sensor said hello: how the machines see it, and whether its row is to be kept.
    pub(super) fn hello(&mut self, said: &SensorHello, now: u64) -> Option<(SensorView, bool)> {
        let hello = &said.hello;
        let known = self.rows.get(&hello.key);
        if known.is_none() && self.rows.len() >= self.max {
            tracing::warn!(device = %hello.key.device_id(), "more sensors than this gateway registers");
            return None;
        }
        let row = SensorRow {
            device: hello.key,
            product: hello.product,
            curve: hello.curve,
            installed: hello.installed,
            slot: hello.slot,
            wake: hello.wake,
            carrier: said.carrier,
            authenticated: said.authenticated,
            state: known.and_then(|row| row.state),
            result: known.and_then(|row| row.result),
            next: known.and_then(|row| row.next),
            last_seen: now,
        };
        let (view, changed) = (view(&row, true), self.change(row));
        Some((view, changed))
    }

    /// A sensor told how far it is: its product, and whether its row is to be kept.
    pub(super) fn status(
        &mut self,
        device: &DeviceKey,
        status: &Status,
        now: u64,
    ) -> Option<(ProductId, bool)> {
        let mut row = self.rows.get(device)?.clone();
        row.installed = status.installed;
        row.state = Some(status.state as u8);
        row.result = Some(status.result as u8);
        row.next = Some(status.next);
        row.last_seen = now;
        Some((row.product, self.change(row)))
    }

    /// Takes a row in. That it was heard, and how far a download is, changes with every word and is
    /// not worth a write each time. Whether this is.
    fn change(&mut self, row: SensorRow) -> bool {
        self.rows.insert(row.device, row.clone());
        let kept = self.kept.get(&row.device);
        let same = kept.is_some_and(|kept| {
            let lately = row.last_seen < kept.last_seen.saturating_add(STALE_MS);
            let like = SensorRow { last_seen: kept.last_seen, next: kept.next, ..row.clone() };
            lately && like == *kept
        });
        if !same {
            self.kept.insert(row.device, row);
        }
        !same
    }

    /// Whether a sensor was heard after this moment, Unix ms; since the start too.
    pub(super) fn heard_since(&self, device: &DeviceKey, moment: u64) -> bool {
        self.rows.get(device).is_some_and(|row| row.last_seen >= moment)
    }

    pub(super) fn product(&self, device: &DeviceKey) -> Option<ProductId> {
        self.rows.get(device).map(|row| row.product)
    }

    /// The sensors of a product, remembered rather than heard.
    pub(super) fn of_product(&self, product: &ProductId) -> Vec<SensorView> {
        let rows = self.rows.values().filter(|row| row.product == *product);
        rows.map(|row| view(row, false)).collect()
    }
}

/// Open to all: each exchange decides for itself.
fn view(row: &SensorRow, awake: bool) -> SensorView {
    let admission = Admission::default();
    SensorView { device: row.device, curve: row.curve, installed: row.installed, awake, admission }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::messages::Carrier;
    use posthouse_protocol::id::{Curve, Version};
    use posthouse_protocol::sensor::Hello;

    fn hello(number: u8, installed: u64) -> SensorHello {
        let hello = Hello {
            v: 1,
            key: DeviceKey::new([number; 33]),
            curve: Curve::Secp256k1,
            product: ProductId::new([1; 32]),
            installed: Version::new(installed),
            slot: 1 << 20,
            wake: 60,
        };
        SensorHello { hello, carrier: Carrier::Mqtt, authenticated: true }
    }

    #[test]
    fn a_word_is_kept_only_if_it_says_something_new() {
        let mut registry = Registry::new(2);
        assert!(registry.hello(&hello(1, 1), 10).unwrap().1);
        assert!(!registry.hello(&hello(1, 1), 20).unwrap().1);
        assert!(registry.hello(&hello(1, 2), 30).unwrap().1);
        assert!(registry.hello(&hello(1, 2), 30 + STALE_MS).unwrap().1);
        assert_eq!(registry.rows.values().next().unwrap().last_seen, 30 + STALE_MS);
    }

    #[test]
    fn there_is_a_bound() {
        let mut registry = Registry::new(1);
        assert!(registry.hello(&hello(1, 1), 10).is_some());
        assert!(registry.hello(&hello(2, 1), 10).is_none());
        assert!(registry.hello(&hello(1, 2), 10).is_some());
    }
}
