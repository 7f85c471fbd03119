//! Campaigns: which sensors get an update, and when. The site's rules are in its configuration; what somebody orders
//! meanwhile is kept beside the exchanges.
//!
//! A rule holds a sensor back, or lets it sign but not fetch; it never makes one do anything. What may be prepared without a
//! sensor goes on all the same, so that all is ready when its time comes.

use std::collections::BTreeMap;
use std::fmt;

use jiff::Timestamp;
use jiff::tz::TimeZone;
use posthouse_protocol::gateway::Admission;
use posthouse_protocol::id::{Bounty, DeviceId};
use serde::{Deserialize, Deserializer, Serialize};
use sha2::{Digest as _, Sha256};
use thiserror::Error;

pub use self::window::{Window, WindowError};

mod window;

/// Groups that a site may have.
const MAX_GROUPS: usize = 64;
/// Longest name of a group, bytes.
const MAX_NAME: usize = 64;
/// Failures of one update after which a sensor is left alone, where the site does not say.
const RETRIES: u8 = 5;

/// The site's rules. What a group does not say is as for all.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Campaign {
    /// Of a hundred sensors so many get an update; which, is drawn anew for each. All if absent.
    percent: Option<u8>,
    /// When images are handed over; at any time if absent.
    windows: Option<Vec<Window>>,
    /// The zone that windows are in: a name of the IANA database or a POSIX `TZ` string; the system's if absent.
    #[serde(deserialize_with = "zone")]
    timezone: Option<TimeZone>,
    /// After so many failures a sensor gets the update no more, until somebody says so.
    retries: Option<u8>,
    /// Whether an update waits until somebody approves it; not if absent.
    approval: Option<bool>,
    /// Groups of sensors; a sensor is of the first that it is in.
    groups: Vec<Group>,
}

/// Some sensors of the site.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct Group {
    name: String,
    /// Device ids.
    #[serde(deserialize_with = "devices")]
    devices: Vec<DeviceId>,
    percent: Option<u8>,
    windows: Option<Vec<Window>>,
    retries: Option<u8>,
    approval: Option<bool>,
}

/// What of the rules cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum CampaignError {
    /// More than a hundred of a hundred.
    #[error("campaign: {0} percent")]
    Percent(u8),
    /// Too many, or a name that is empty, too long, or there twice.
    #[error("campaign.groups: {0}")]
    Group(String),
}

/// What somebody ordered for an update.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Order {
    /// Nothing, or that it goes on as far as the rules let it.
    #[default]
    Resume,
    /// That it goes on, also where the rules want somebody's approval.
    Approve,
    /// That it waits.
    Pause,
    /// That it ends. What runs keeps running.
    Cancel,
}

impl fmt::Display for Order {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Resume => "resume",
            Self::Approve => "approve",
            Self::Pause => "pause",
            Self::Cancel => "cancel",
        })
    }
}

/// The orders for one update.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Orders {
    /// For all sensors.
    pub all: Order,
    /// For a group, by its name.
    pub groups: BTreeMap<String, Order>,
}

impl Orders {
    /// Those for groups that the rules do not have: they are of no effect.
    pub fn without_group<'a>(&'a self, rules: &'a Campaign) -> impl Iterator<Item = (&'a str, Order)> {
        let groups = self.groups.iter().filter(|(group, _)| !rules.has_group(group));
        groups.map(|(group, order)| (group.as_str(), *order))
    }
}

/// Why a sensor does not get an update now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hold {
    /// Somebody ordered so.
    Paused,
    /// Somebody ordered so.
    Cancelled,
    /// Nobody has approved it yet.
    Unapproved,
    /// It is not among the part that gets it.
    NotChosen,
    /// It failed as often as it may.
    Failures(u8),
    /// It is no time for it.
    Window,
}

impl Hold {
    /// What a sensor may have.
    pub fn admission(hold: Option<Self>) -> Admission {
        match hold {
            None => Admission::Open,
            Some(Self::Window) => Admission::Sign,
            Some(_) => Admission::Held,
        }
    }
}

impl fmt::Display for Hold {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Paused => f.write_str("paused"),
            Self::Cancelled => f.write_str("cancelled"),
            Self::Unapproved => f.write_str("waits for approval"),
            Self::NotChosen => f.write_str("not in the part of the fleet that gets it yet"),
            Self::Failures(count) => write!(f, "failed {count} times, not tried again"),
            Self::Window => f.write_str("outside its maintenance window"),
        }
    }
}

impl Campaign {
    /// Checks what parsing does not.
    ///
    /// # Errors
    /// [`CampaignError`].
    pub fn check(&self) -> Result<(), CampaignError> {
        let percents = self.groups.iter().filter_map(|group| group.percent).chain(self.percent);
        if let Some(percent) = percents.into_iter().find(|percent| *percent > 100) {
            return Err(CampaignError::Percent(percent));
        }
        if self.groups.len() > MAX_GROUPS {
            return Err(CampaignError::Group(format!("{} groups, at most {MAX_GROUPS}", self.groups.len())));
        }
        for (at, Group { name, .. }) in self.groups.iter().enumerate() {
            if name.is_empty() || name.len() > MAX_NAME {
                return Err(CampaignError::Group(format!("{name:?}: a name has 1 to {MAX_NAME} bytes")));
            }
            if self.groups.iter().take(at).any(|other| other.name == *name) {
                return Err(CampaignError::Group(format!("{name:?} is there twice")));
            }
        }
        Ok(())
    }

    /// Whether there is a group of that name.
    pub fn has_group(&self, name: &str) -> bool {
        self.groups.iter().any(|group| group.name == name)
    }

    fn group(&self, device: &DeviceId) -> Option<&Group> {
        self.groups.iter().find(|group| group.devices.contains(device))
    }

    /// The name of a sensor's group.
    pub fn group_of(&self, device: &DeviceId) -> Option<&str> {
        self.group(device).map(|group| group.name.as_str())
    }

    /// Why a sensor does not get an update at `now`, Unix ms, after so many failures; what lasts longest first.
    pub fn hold(
        &self,
        bounty: &Bounty,
        device: &DeviceId,
        orders: &Orders,
        failures: u8,
        now: u64,
    ) -> Option<Hold> {
        let group = self.group(device);
        let own = group.and_then(|group| orders.groups.get(&group.name)).copied().unwrap_or_default();
        let is_ordered = |order| own == order || orders.all == order;
        if is_ordered(Order::Cancel) {
            return Some(Hold::Cancelled);
        }
        if is_ordered(Order::Pause) {
            return Some(Hold::Paused);
        }
        let approval = group.and_then(|group| group.approval).or(self.approval).unwrap_or(false);
        if approval && !is_ordered(Order::Approve) {
            return Some(Hold::Unapproved);
        }
        let percent = group.and_then(|group| group.percent).or(self.percent).unwrap_or(100);
        if draw(bounty, device) >= percent {
            return Some(Hold::NotChosen);
        }
        if failures >= group.and_then(|group| group.retries).or(self.retries).unwrap_or(RETRIES).max(1) {
            return Some(Hold::Failures(failures));
        }
        let windows = group.and_then(|group| group.windows.as_ref()).or(self.windows.as_ref());
        windows.is_some_and(|windows| !self.is_open(windows, now)).then_some(Hold::Window)
    }

    fn is_open(&self, windows: &[Window], now: u64) -> bool {
        let Ok(now) = Timestamp::from_millisecond(i64::try_from(now).unwrap_or(i64::MAX)) else {
            return false;
        };
        let now = now.to_zoned(self.timezone.clone().unwrap_or_else(TimeZone::system));
        windows.iter().any(|window| window.is_open(&now))
    }
}

/// A sensor's place among the hundred, for one update: a larger part holds every smaller one.
fn draw(bounty: &Bounty, device: &DeviceId) -> u8 {
    let mut hash = Sha256::new_with_prefix(b"posthouse/rollout");
    hash.update(bounty.as_bytes());
    hash.update(device.as_bytes());
    let digest: [u8; 32] = hash.finalize().into();
    (u32::from_be_bytes([digest[0], digest[1], digest[2], digest[3]]) % 100) as u8
}

fn zone<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<TimeZone>, D::Error> {
    let name = String::deserialize(deserializer)?;
    let zone = TimeZone::get(&name).or_else(|_| TimeZone::posix(&name));
    let unknown =
        |_| serde::de::Error::custom(format_args!("{name:?} is no time zone that this system knows"));
    zone.map(Some).map_err(unknown)
}

fn devices<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<DeviceId>, D::Error> {
    let list = Vec::<String>::deserialize(deserializer)?;
    let parse = |text: &String| {
        text.parse().map_err(|error| serde::de::Error::custom(format_args!("{text:?}: {error}")))
    };
    list.iter().map(parse).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOUNTY: Bounty = Bounty::new([1; 20]);
    /// Monday 2026-11-23, 03:00 in Berlin.
    const NIGHT: u64 = 1_795_399_200_000;

    fn device(number: u16) -> DeviceId {
        let mut bytes = [0; 16];
        bytes[..2].copy_from_slice(&number.to_be_bytes());
        DeviceId::new(bytes)
    }

    fn campaign(text: &str) -> Campaign {
        let campaign: Campaign = toml_like(text).unwrap();
        campaign.check().unwrap();
        campaign
    }

    fn toml_like(json: &str) -> Result<Campaign, serde_json::Error> {
        serde_json::from_str(json)
    }

    fn hold(campaign: &Campaign, number: u16) -> Option<Hold> {
        campaign.hold(&BOUNTY, &device(number), &Orders::default(), 0, NIGHT)
    }

    #[test]
    fn without_rules_all_get_it() {
        assert_eq!(hold(&Campaign::default(), 1), None);
    }

    #[test]
    fn a_part_is_about_as_large_as_it_says_grows_and_is_another_for_another_update() {
        let chosen = |percent: u8, bounty: &Bounty| -> Vec<u16> {
            let campaign = campaign(&format!("{{\"percent\": {percent}}}"));
            let gets =
                |number: &u16| campaign.hold(bounty, &device(*number), &Orders::default(), 0, 0).is_none();
            (0..2000).filter(gets).collect()
        };
        let (few, many) = (chosen(10, &BOUNTY), chosen(50, &BOUNTY));
        assert!((150..250).contains(&few.len()) && (900..1100).contains(&many.len()));
        assert!(few.iter().all(|number| many.contains(number)));
        assert_ne!(few, chosen(10, &Bounty::new([2; 20])));
        assert_eq!((chosen(0, &BOUNTY).len(), chosen(100, &BOUNTY).len()), (0, 2000));
    }

    #[test]
    fn a_group_has_rules_of_its_own() {
        let text = format!(
            r#"{{"percent": 0, "windows": ["01:00-02:00"], "timezone": "CET-1CEST,M3.5.0,M10.5.0/3", "groups": [
                {{"name": "pilot", "devices": ["{}"], "percent": 100, "windows": ["Mon 01:00-05:00"]}},
                {{"name": "rest", "devices": ["{}", "{}"], "percent": 100}}]}}"#,
            device(1),
            device(1),
            device(2),
        );
        let campaign = campaign(&text);
        assert_eq!(hold(&campaign, 1), None, "the first group counts");
        assert_eq!(hold(&campaign, 2), Some(Hold::Window), "as for all where the group does not say");
        assert_eq!(hold(&campaign, 3), Some(Hold::NotChosen));
        assert_eq!((campaign.group_of(&device(1)), campaign.group_of(&device(3))), (Some("pilot"), None));
    }

    #[test]
    fn the_stricter_order_holds() {
        let text = format!(r#"{{"groups": [{{"name": "a", "devices": ["{}"]}}]}}"#, device(1));
        let campaign = campaign(&text);
        for (all, group, own, others) in [
            (Order::Resume, Order::Resume, None, None),
            (Order::Resume, Order::Pause, Some(Hold::Paused), None),
            (Order::Pause, Order::Resume, Some(Hold::Paused), Some(Hold::Paused)),
            (Order::Pause, Order::Cancel, Some(Hold::Cancelled), Some(Hold::Paused)),
            (Order::Cancel, Order::Pause, Some(Hold::Cancelled), Some(Hold::Cancelled)),
        ] {
            let orders = Orders { all, groups: BTreeMap::from([("a".into(), group)]) };
            assert_eq!(campaign.hold(&BOUNTY, &device(1), &orders, 0, NIGHT), own);
            assert_eq!(campaign.hold(&BOUNTY, &device(2), &orders, 0, NIGHT), others);
        }
    }

    #[test]
    fn where_it_is_wanted_nothing_goes_without_approval() {
        let text = format!(
            r#"{{"approval": true, "groups": [
                {{"name": "a", "devices": ["{}"]}}, {{"name": "pilot", "devices": ["{}"], "approval": false}}]}}"#,
            device(1),
            device(2),
        );
        let campaign = campaign(&text);
        let none = Some(Hold::Unapproved);
        for (all, group, own, others) in [
            (Order::Resume, Order::Resume, none, none),
            (Order::Resume, Order::Approve, None, none),
            (Order::Approve, Order::Resume, None, None),
            (Order::Approve, Order::Pause, Some(Hold::Paused), None),
            (Order::Pause, Order::Approve, Some(Hold::Paused), Some(Hold::Paused)),
        ] {
            let orders = Orders { all, groups: BTreeMap::from([("a".into(), group)]) };
            assert_eq!(campaign.hold(&BOUNTY, &device(1), &orders, 0, NIGHT), own);
            assert_eq!(campaign.hold(&BOUNTY, &device(3), &orders, 0, NIGHT), others);
        }
        assert_eq!(hold(&campaign, 2), None, "a group may go before");
    }

    #[test]
    fn failures_are_counted_against_the_budget() {
        let campaign = campaign(r#"{"retries": 2}"#);
        let hold = |failures| campaign.hold(&BOUNTY, &device(1), &Orders::default(), failures, NIGHT);
        assert_eq!((hold(0), hold(1), hold(2)), (None, None, Some(Hold::Failures(2))));
    }

    #[test]
    fn what_cannot_be_meant_is_named() {
        let wrong = |text: &str| match toml_like(text) {
            Ok(campaign) => campaign.check().unwrap_err().to_string(),
            Err(error) => error.to_string(),
        };
        assert!(wrong(r#"{"percent": 101}"#).contains("101 percent"));
        assert!(
            wrong(r#"{"groups": [{"name": "a", "devices": [], "percent": 200}]}"#).contains("200 percent")
        );
        assert!(wrong(r#"{"windows": ["later"]}"#).contains("later"));
        assert!(wrong(r#"{"timezone": "Mars/Olympus"}"#).contains("Mars/Olympus"));
        assert!(wrong(r#"{"colour": 1}"#).contains("colour"));
        let twice = r#"{"groups": [{"name": "a", "devices": []}, {"name": "a", "devices": []}]}"#;
        assert!(wrong(twice).contains("\"a\" is there twice"));
        assert!(wrong(r#"{"groups": [{"name": "", "devices": []}]}"#).contains("name"));
        assert!(wrong(r#"{"groups": [{"name": "a", "devices": ["00"]}]}"#).contains("00"));
    }
}
