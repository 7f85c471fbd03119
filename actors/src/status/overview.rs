//! `/v1/overview`: how all updates and sensors stand, in an answer that stays small however many sensors there are.

use std::cmp::Reverse;
use std::collections::{BTreeMap, HashMap};

use posthouse_protocol::sensor::State;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::{Device, Event, Exchange, Left, Sensor, Snapshot, Status, Update};

/// Updates in an answer: a screenful is a handful.
const MAX_UPDATES: usize = 32;
/// Of each update, so many of the newest events and of the distributors that were left last.
const NEWEST: usize = 5;
/// Sensors in an answer, unless the query wants another number.
const LIMIT: usize = 25;
/// Most sensors in an answer.
const MAX_LIMIT: usize = 100;
/// Most sensors left out at the beginning: no site has so many.
const MAX_OFFSET: u32 = 1_000_000;
/// Longest text that is looked for: a group's name or a device id.
const MAX_FIND: usize = 64;

/// How the site stands, at one instant.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Overview {
    /// The instant.
    pub at: u64,
    /// Agent, chain and staging, as in `/v1/status`.
    pub status: Status,
    /// Updates: those that are under way first, among them the newest first; at most 32.
    pub updates: Vec<Progress>,
    /// Updates beyond these.
    pub more_updates: usize,
    /// How many of all sensors stand how.
    pub sensors: Counts,
    /// How many sensors are as the query wants them.
    pub found: usize,
    /// Of these, from `offset` on: what needs somebody first, then by device id.
    pub devices: Vec<Listed>,
}

/// How far an update is.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Progress {
    /// As in `/v1/updates`.
    pub update: Update,
    /// What is waited for, in words; empty where nothing is.
    pub waits_for: String,
    /// The version that took its place, if one did.
    pub superseded_by: Option<u64>,
    /// Peer id of the distributor that it is with now.
    pub distributor: Option<String>,
    /// Distributors that were left last, newest last; at most 5.
    pub left: Vec<Left>,
    /// What happened last, newest last; at most 5.
    pub events: Vec<Event>,
    /// Sensors that run it or are meant to.
    pub sensors: usize,
    /// Of these, such as run it, or a newer one.
    pub updated: usize,
    /// Of those that do not, such as wait by the site's rules or somebody's order.
    pub held: usize,
    /// Likewise, such as get nothing because something is wrong.
    pub faulty: usize,
    /// Bytes of the image that sensors have which do not run it yet, over all.
    pub fetched: u64,
    /// Receipts that are held.
    pub signed: usize,
    /// Sensors whose share the chain shows as paid.
    pub paid: usize,
}

/// Sensors by how they stand.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Counts {
    /// They get nothing, because something is wrong.
    pub faulty: usize,
    /// They wait by the site's rules or somebody's order.
    pub held: usize,
    /// They have a part of the image, or all of it, and do not run it yet.
    pub fetching: usize,
    /// They are meant to have an update and do not have it yet.
    pub waiting: usize,
    /// They run what is meant for them.
    pub current: usize,
}

/// A sensor, and how it stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Listed {
    /// As in `/v1/devices`.
    pub device: Device,
    /// How it stands.
    pub standing: Standing,
    /// Why it does not run yet what is meant for it, in words.
    pub why: Option<String>,
}

/// How a sensor stands, in the order in which somebody should look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Standing {
    /// It gets nothing, because something is wrong.
    Faulty,
    /// It waits by the site's rules or somebody's order.
    Held,
    /// It has a part of the image, or all of it, and does not run it yet.
    Fetching,
    /// It is meant to have an update and does not have it yet.
    Waiting,
    /// It runs what is meant for it.
    Current,
}

/// Which sensors an answer lists.
#[derive(Debug, Clone, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct Wanted {
    /// Only those that stand so.
    #[param(inline, example = "held")]
    show: Option<Standing>,
    /// Only those whose device id or group has this in it.
    #[param(max_length = 64, example = "0001")]
    find: Option<String>,
    /// So many are left out at the beginning.
    #[param(maximum = 1_000_000, example = 0)]
    offset: Option<u32>,
    /// At most so many; 25 if absent.
    #[param(minimum = 1, maximum = 100, example = 25)]
    limit: Option<usize>,
}

impl Wanted {
    /// What is wrong with it, if something is.
    pub(super) fn fault(&self) -> Option<String> {
        if self.limit.is_some_and(|limit| !(1..=MAX_LIMIT).contains(&limit)) {
            return Some(format!("limit is 1 to {MAX_LIMIT}"));
        }
        if self.offset.is_some_and(|offset| offset > MAX_OFFSET) {
            return Some(format!("offset is at most {MAX_OFFSET}"));
        }
        let long = self.find.as_ref().is_some_and(|find| find.chars().count() > MAX_FIND);
        long.then(|| format!("find has at most {MAX_FIND} characters"))
    }

    fn wants(&self, one: &Listed) -> bool {
        let has = |text: &str, find: &str| text.to_lowercase().contains(find);
        self.show.is_none_or(|show| show == one.standing)
            && self.find.as_ref().is_none_or(|find| {
                let find = find.trim().to_lowercase();
                has(&one.device.device, &find)
                    || one.device.group.as_ref().is_some_and(|group| has(group, &find))
            })
    }
}

/// The site as `all` has it at `at`, Unix milliseconds.
pub(super) fn overview(all: Snapshot, at: u64, wanted: &Wanted) -> Overview {
    let exchanges = all.exchanges.into_iter().map(|exchange| (exchange.bounty.clone(), exchange));
    let mut exchanges: HashMap<String, Exchange> = exchanges.collect();
    let mut buying: Vec<Buying> = all
        .updates
        .into_iter()
        .map(|update| Buying::new(exchanges.remove(&update.bounty).unwrap_or_default(), update))
        .collect();
    let mut listed: Vec<Listed> = all.devices.into_iter().map(|device| list(device, &mut buying)).collect();
    let mut sensors = Counts::default();
    listed.iter().for_each(|one| sensors.add(one.standing));
    listed.retain(|one| wanted.wants(one));
    listed.sort_by(|a, b| (a.standing, &a.device.device).cmp(&(b.standing, &b.device.device)));
    let found = listed.len();
    let offset = wanted.offset.map_or(0, |offset| usize::try_from(offset).unwrap_or(usize::MAX));
    let devices = listed.into_iter().skip(offset).take(wanted.limit.unwrap_or(LIMIT)).collect();
    let mut updates: Vec<Progress> = buying.into_iter().map(|one| one.progress).collect();
    updates.sort_by_key(|one| (one.waits_for.is_empty(), Reverse(one.update.version)));
    let more_updates = updates.len().saturating_sub(MAX_UPDATES);
    updates.truncate(MAX_UPDATES);
    Overview { at, status: all.status, updates, more_updates, sensors, found, devices }
}

/// An update while its sensors are counted.
struct Buying {
    progress: Progress,
    /// Its sensors as the exchange sees them, by device id.
    receipts: BTreeMap<String, Sensor>,
}

impl Buying {
    fn new(exchange: Exchange, update: Update) -> Self {
        let count = |is: fn(&Sensor) -> bool| exchange.sensors.iter().filter(|sensor| is(sensor)).count();
        let progress = Progress {
            waits_for: waits_for(&update).into(),
            superseded_by: exchange.superseded_by,
            signed: count(|sensor| sensor.signed),
            paid: count(|sensor| sensor.claimed),
            distributor: exchange.distributor,
            left: newest(exchange.left),
            events: newest(exchange.events),
            update,
            ..Progress::default()
        };
        let receipts = exchange.sensors.into_iter().map(|sensor| (sensor.device.clone(), sensor));
        Self { progress, receipts: receipts.collect() }
    }

    /// Counts a sensor in that runs this or is meant to.
    fn count(&mut self, device: &Device, standing: Standing) {
        let of = &mut self.progress;
        of.sensors += 1;
        if device.installed >= of.update.version {
            of.updated += 1;
        } else {
            of.held += usize::from(standing == Standing::Held);
            of.faulty += usize::from(standing == Standing::Faulty);
            // The sensor's word, which may be anything.
            let has = device.next.filter(|_| has_some(device)).map_or(0, u64::from);
            of.fetched = of.fetched.saturating_add(has.min(of.update.size.unwrap_or(0)));
        }
    }

    /// Whether a sensor runs it, or a newer one: of what ended without being handed out only who has just that is counted.
    fn runs_on(&self, device: &Device) -> bool {
        let update = &self.progress.update;
        let ended = update.order == "cancel" || matches!(update.state.as_str(), "failed" | "superseded");
        device.installed == update.version || !ended && device.installed > update.version
    }

    /// Whether a sensor does not run it because it failed.
    fn is_missed_by(&self, device: &Device) -> bool {
        let update = &self.progress.update;
        update.state == "failed"
            && update.order != "cancel"
            && update.product == device.product
            && update.version > device.installed
    }

    /// That it failed, and why.
    fn failure(&self) -> String {
        let update = &self.progress.update;
        let why = update.error.as_deref().unwrap_or("its exchange failed");
        format!("version {} is not to be had: {why}", update.version)
    }

    /// Why a sensor that nothing holds does not have it yet.
    fn why(&self, device: &Device) -> String {
        let of = &self.progress;
        let receipt = self.receipts.get(&device.device);
        let mut why = match (&of.update.error, receipt) {
            (Some(error), _) => format!("the update is not to be had: {error}"),
            (None, Some(receipt)) if receipt.served => {
                "the image is there for it, and it fetches as it wakes".into()
            }
            (None, Some(receipt)) if receipt.signed => {
                format!("has signed; the update waits for {}", of.waits_for)
            }
            (None, Some(receipt)) if receipt.attempts > 0 => "is asked to sign when it wakes".into(),
            (None, _) => format!("the update waits for {}", of.waits_for),
        };
        if let Some(result) = device.result.and_then(failure) {
            why.push_str("; its last try failed: ");
            why.push_str(result);
        }
        if !device.authenticated {
            why.push_str("; its carrier does not authenticate it");
        }
        why
    }
}

/// The end of a list that is ordered by time.
fn newest<T>(mut list: Vec<T>) -> Vec<T> {
    list.split_off(list.len().saturating_sub(NEWEST))
}

/// Whether a sensor has told that it holds a part of the image: its state is that of fetching from its manifest on.
fn has_some(device: &Device) -> bool {
    let is = |state: State| device.state == Some(state as u8);
    is(State::Downloaded)
        || is(State::Updating)
        || is(State::Downloading) && device.next.is_some_and(|next| next > 0)
}

/// Counts a sensor in with its updates, and says how it stands.
fn list(device: Device, buying: &mut [Buying]) -> Listed {
    let target = device.target.filter(|target| *target > device.installed);
    // Nobody is meant to have what failed; that is no reason to call a sensor without it up to date.
    let missed = match target {
        None => buying
            .iter()
            .filter(|one| one.is_missed_by(&device))
            .max_by_key(|one| one.progress.update.version),
        Some(_) => None,
    };
    let missed = missed.map(|one| (one.progress.update.version, one.failure()));
    let standing = match target {
        None if missed.is_some() => Standing::Faulty,
        None => Standing::Current,
        Some(_) if device.fault.is_some() => Standing::Faulty,
        Some(_) if device.held.is_some() => Standing::Held,
        Some(_) if has_some(&device) => Standing::Fetching,
        Some(_) => Standing::Waiting,
    };
    let mut why = device.fault.clone().or_else(|| device.held.clone()).filter(|_| target.is_some());
    let lacks = target.or(missed.as_ref().map(|(version, _)| *version));
    for one in buying.iter_mut().filter(|one| one.progress.update.product == device.product) {
        let version = one.progress.update.version;
        if one.runs_on(&device) || lacks == Some(version) {
            one.count(&device, standing);
        }
        if standing == Standing::Waiting && target == Some(version) {
            why = Some(one.why(&device));
        }
    }
    let why = why.or(missed.map(|(_, failure)| failure));
    Listed { device, standing, why }
}

impl Counts {
    fn add(&mut self, standing: Standing) {
        *match standing {
            Standing::Faulty => &mut self.faulty,
            Standing::Held => &mut self.held,
            Standing::Fetching => &mut self.fetching,
            Standing::Waiting => &mut self.waiting,
            Standing::Current => &mut self.current,
        } += 1;
    }
}

/// What an update waits for; empty where it is over.
fn waits_for(update: &Update) -> &'static str {
    match update.state.as_str() {
        "done" | "failed" | "superseded" => "",
        _ if update.order == "cancel" => "",
        _ if update.order == "pause" => "somebody to let it go on",
        "announced" => "the package, which is fetched and checked, and a sensor that may have it",
        "locating" | "authenticating" => "a sensor that is awake and may sign, and a distributor",
        "offered" => "sensors, which sign as they wake",
        "committed" => "the distributor, which redeems the receipts and so shows the key",
        "revealed" => "the image, which is decrypted and staged",
        "staged" => "sensors, which fetch it as they wake",
        _ => "its next step",
    }
}

/// LwM2M's update results that are failures (OMA LwM2M Core 1.2, resource 5/0/5).
fn failure(result: u8) -> Option<&'static str> {
    Some(match result {
        2 => "not enough flash",
        3 => "not enough memory",
        4 => "the connection was lost",
        5 => "the image's digest is not the manifest's",
        6 => "a kind of manifest or image that it does not support",
        7 => "an address that it does not take",
        8 => "it could not install it",
        9 => "a protocol that it does not support",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const PRODUCT: &str = "a thermometer";

    fn update(version: u64, state: &str) -> Update {
        let bounty = format!("bounty {version}");
        Update {
            product: PRODUCT.into(),
            version,
            bounty,
            state: state.into(),
            size: Some(1000),
            ..Update::default()
        }
    }

    fn device(name: &str, installed: u64, target: Option<u64>) -> Device {
        let product = PRODUCT.into();
        Device { device: name.into(), product, installed, target, authenticated: true, ..Device::default() }
    }

    /// One sensor of each standing, and an update that another took the place of.
    fn site() -> Snapshot {
        let pending = |name| device(name, 6, Some(7));
        let fetching = Some(State::Downloading as u8);
        let begun = Device { state: fetching, next: Some(0), ..pending("b idle") };
        let bad = Device { fault: Some("no attempts left".into()), ..pending("e bad") };
        let held = Device { held: Some("paused".into()), group: Some("Pilot".into()), ..pending("d held") };
        let busy = Device { state: fetching, next: Some(400), ..pending("c busy") };
        let liar = Device { state: fetching, next: Some(u32::MAX), ..pending("c liar") };
        let event = |at| Event { at, text: at.to_string() };
        let sensors = vec![
            Sensor { device: "a done".into(), signed: true, claimed: true, ..Sensor::default() },
            Sensor { device: "b idle".into(), signed: true, ..Sensor::default() },
        ];
        Snapshot {
            updates: vec![update(6, "superseded"), update(7, "committed")],
            devices: vec![device("a done", 7, None), begun, busy, liar, held, bad],
            exchanges: vec![Exchange {
                bounty: "bounty 7".into(),
                events: (1..=9).map(event).collect(),
                sensors,
                ..Exchange::default()
            }],
            ..Snapshot::default()
        }
    }

    fn names(all: &Overview) -> Vec<&str> {
        all.devices.iter().map(|one| one.device.device.as_str()).collect()
    }

    fn query(text: &str) -> Wanted {
        serde_json::from_str(text).unwrap()
    }

    #[test]
    fn trouble_comes_first_and_says_why() {
        let all = overview(site(), 5, &Wanted::default());
        assert_eq!(names(&all), ["e bad", "d held", "c busy", "c liar", "b idle", "a done"]);
        let why: Vec<Option<&str>> = all.devices.iter().map(|one| one.why.as_deref()).collect();
        let waits = "has signed; the update waits for the distributor, which redeems the receipts and so shows the key";
        let waits = Some(waits);
        assert_eq!(why, [Some("no attempts left"), Some("paused"), None, None, waits, None]);
        assert_eq!(all.sensors, Counts { faulty: 1, held: 1, fetching: 2, waiting: 1, current: 1 });
        assert_eq!((all.at, all.found, all.more_updates), (5, 6, 0));
    }

    #[test]
    fn an_update_counts_its_sensors_and_no_word_of_a_sensor_counts_for_more_than_an_image() {
        let all = overview(site(), 5, &Wanted::default());
        let [newest, old] = all.updates.as_slice() else { panic!("{:?}", all.updates) };
        assert_eq!((newest.update.version, newest.sensors, newest.updated), (7, 6, 1));
        assert_eq!((newest.held, newest.faulty, newest.fetched), (1, 1, 400 + 1000));
        assert_eq!((newest.signed, newest.paid), (2, 1));
        assert_eq!(newest.events.iter().map(|event| event.at).collect::<Vec<_>>(), [5, 6, 7, 8, 9]);
        assert!(!newest.waits_for.is_empty());
        assert_eq!((old.update.version, old.waits_for.as_str()), (6, ""));
        assert_eq!((old.sensors, old.updated), (5, 5), "who runs a newer one need never have had it");
        for (order, waits) in [("resume", true), ("pause", true), ("cancel", false)] {
            let update = Update { order: order.into(), ..update(7, "staged") };
            assert_ne!(waits_for(&update).is_empty(), waits, "{order}");
        }
    }

    #[test]
    fn nobody_is_up_to_date_with_what_failed() {
        let mut all = site();
        all.updates[1] = Update { error: Some("no file".into()), ..update(7, "failed") };
        all.devices = vec![device("a done", 7, None), device("b without", 6, None)];
        let said = overview(all.clone(), 5, &Wanted::default());
        assert_eq!(names(&said), ["b without", "a done"]);
        assert_eq!(said.devices[0].why.as_deref(), Some("version 7 is not to be had: no file"));
        let failed = &said.updates[0];
        assert_eq!((failed.update.version, failed.sensors, failed.updated, failed.faulty), (7, 2, 1, 1));
        all.updates.push(update(8, "staged"));
        all.devices[1].target = Some(8);
        let said = overview(all, 5, &Wanted::default());
        let standing =
            |name: &str| said.devices.iter().find(|one| one.device.device == name).map(|one| one.standing);
        assert_eq!(standing("b without"), Some(Standing::Waiting), "a newer one is on its way");
    }

    #[test]
    fn a_query_takes_a_part() {
        let of = |text| overview(site(), 5, &query(text));
        assert_eq!(names(&of(r#"{"show": "held"}"#)), ["d held"]);
        assert_eq!(names(&of(r#"{"find": " PILOT"}"#)), ["d held"]);
        let middle = of(r#"{"find": "c ", "offset": 1, "limit": 1}"#);
        assert_eq!((names(&middle), middle.found), (vec!["c liar"], 2));
        assert!(of(r#"{"offset": 1000000}"#).devices.is_empty());
        assert_eq!(query(r#"{"limit": 0}"#).fault().as_deref(), Some("limit is 1 to 100"));
        assert!(query(&format!(r#"{{"find": "{}"}}"#, "é".repeat(65))).fault().is_some());
        assert!(query(&format!(r#"{{"find": "{}", "limit": 100}}"#, "é".repeat(64))).fault().is_none());
    }

    #[test]
    fn what_is_wrong_with_the_update_or_was_with_its_last_try_is_said() {
        let mut all = site();
        all.devices = vec![Device { result: Some(5), authenticated: false, ..device("x", 6, Some(7)) }];
        all.updates[1].error = Some("not fetched".into());
        let all = overview(all, 5, &Wanted::default());
        let why = all.devices[0].why.as_deref().unwrap();
        assert_eq!(
            why,
            "the update is not to be had: not fetched; its last try failed: the image's digest is not the manifest's; \
             its carrier does not authenticate it"
        );
    }

    #[test]
    fn thousands_of_sensors_make_no_longer_answer() {
        let devices: Vec<Device> = (0..2000)
            .map(|n| Device { key: "02".repeat(33), ..device(&format!("{n:032x}"), 6, Some(7)) })
            .collect();
        let sensor = |device: &Device| Sensor { device: device.device.clone(), ..Sensor::default() };
        let mut all = site();
        all.exchanges[0].sensors = devices.iter().map(sensor).collect();
        all.devices = devices;
        let answer = serde_json::to_vec(&overview(all, 5, &Wanted::default())).unwrap();
        assert!(answer.len() < 20_000, "{} bytes", answer.len());
    }
}
