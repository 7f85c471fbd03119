//! What a start finds of the run before: in the database, and in files that its rows speak of.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use actix::Addr;
use posthouse_protocol::id::{DeviceId, ProductId, Version};
use posthouse_protocol::package::Package;
use posthouse_protocol::release;

use super::StartError;
use super::folders::Folders;
use crate::config::{self, Config};
use crate::exchange::{Found, Site};
use crate::messages::Carrier;
use crate::stage::{Rehash, Stage, image_path};
use crate::store::{Announcement, Loaded};

/// A device that a carrier has known is taken for a stranger on an open one for so long after it was heard: sensors move.
const KNOWN_FOR: Duration = Duration::from_secs(30 * 24 * 3600);

/// The newest version of each product that is known, by which downgrades are told.
pub(super) fn told(loaded: &Loaded, site: &Site) -> BTreeMap<ProductId, Version> {
    let mut told = BTreeMap::new();
    for Announcement { update, .. } in loaded.announcements.iter().filter(|a| site.serves(a)) {
        let newest = told.entry(update.product).or_insert(update.version);
        *newest = update.version.max(*newest);
    }
    told
}

/// Devices that a carrier has known lately, and may know again. A site that has moved all its sensors to open carriers has none.
pub(super) fn known(loaded: &Loaded, config: &config::Sensors, now: SystemTime) -> Vec<DeviceId> {
    let mqtt = config.mqtt.as_ref().is_some_and(|mqtt| mqtt.authenticated);
    let coap = config.has_dtls();
    // A carrier that shows nobody any more would have its sensors refused.
    let shows = |carrier| if carrier == Carrier::Mqtt { mqtt } else { coap };
    let since = now.checked_sub(KNOWN_FOR).and_then(|since| since.duration_since(UNIX_EPOCH).ok());
    let since = since.map_or(0, |since| u64::try_from(since.as_millis()).unwrap_or(u64::MAX));
    let rows =
        loaded.sensors.iter().filter(|row| row.authenticated && shows(row.carrier) && row.last_seen >= since);
    rows.map(|row| row.device.device_id()).collect()
}

/// Hashes again whatever files the rows speak of: the first byte is served after that.
pub(super) async fn find(
    loaded: Loaded,
    folders: &Folders,
    config: &Config,
    stage: &Addr<Stage>,
) -> Result<Found, StartError> {
    let mut found = Found::default();
    for row in &loaded.staged {
        let path = image_path(&folders.images, &row.u_id);
        let job = Rehash { path, digest: row.u_id.to_bytes(), size: row.size };
        if stage.send(job).await.map_err(|_| StartError::Ended)? {
            found.images.push(row.u_id);
        }
    }
    for announcement in &loaded.announcements {
        let Some(job) = body_of(announcement, folders, config) else { continue };
        if stage.send(job).await.map_err(|_| StartError::Ended)? {
            found.bodies.push(announcement.update.bounty);
        }
    }
    found.loaded = loaded;
    Ok(found)
}

/// The body that a kept package speaks of.
fn body_of(announcement: &Announcement, folders: &Folders, config: &Config) -> Option<Rehash> {
    let (root, _) = announcement.package.as_ref()?;
    let product = config.products.iter().find(|product| product.id() == announcement.update.product)?;
    let package = Package::decode(root).ok()?;
    let release = release::open(&package.release, &product.release_key).ok()?;
    let body_id = release.body_id?;
    let path = folders.bodies.join(body_id.to_string());
    Some(Rehash { path, digest: body_id.to_bytes(), size: release.body_size })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_carrier_knew_lately_is_remembered_where_one_may_know_it_again() {
        use posthouse_protocol::id::{Curve, DeviceKey};

        use crate::store::SensorRow;

        let now = UNIX_EPOCH + 2 * KNOWN_FOR;
        let (lately, long_ago) = (KNOWN_FOR.as_millis() as u64, KNOWN_FOR.as_millis() as u64 - 1);
        let row = |number: u8, authenticated, last_seen| SensorRow {
            device: DeviceKey::new([number; 33]),
            product: ProductId::new([1; 32]),
            curve: Curve::P256,
            installed: Version::new(1),
            slot: 1,
            wake: 1,
            carrier: Carrier::Coap,
            authenticated,
            state: None,
            result: None,
            next: None,
            last_seen,
        };
        let sensors = vec![row(1, true, lately), row(2, false, lately), row(3, true, long_ago)];
        let loaded = Loaded { sensors, ..Loaded::default() };
        let knows = |text: &str| known(&loaded, &serde_json::from_str(text).unwrap(), now);
        let first = vec![DeviceKey::new([1; 33]).device_id()];
        assert!(knows(r#"{"mqtt": {"host": "b", "authenticated": true}}"#).is_empty(), "it was on another");
        assert_eq!(knows(r#"{"coap": {"dtls": {"listen": "127.0.0.1:0", "keys": "k"}}}"#), first);
        assert!(knows(r#"{"mqtt": {"host": "b"}, "coap": {"listen": "127.0.0.1:0"}}"#).is_empty());
    }
}
