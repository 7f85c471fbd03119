//! What people's tools see of the sensors, by retained messages: thin-edge.io's entities (its MQTT API, `te/…`), and
//! Home Assistant's update entities (MQTT discovery). Nothing is heard on these topics: they only show.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::sync::Mutex;

use posthouse_protocol::id::DeviceId;
use posthouse_protocol::sensor::{UpdateResult, names};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::sync::Notify;

use crate::sensors::{Changed, Progress, Twin};

/// Whose topics sensors are shown on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Mirror {
    /// thin-edge.io: an entity for each sensor, its firmware and the command that changes it.
    ThinEdge,
    /// Home Assistant: an update entity for each sensor.
    HomeAssistant,
}

/// A retained message; empty to take one back.
pub(super) type Message = (String, String);

/// As a sensor was told last, and as it is.
type Change = (Option<Twin>, Option<Twin>);

/// Changes that wait for the connection: one for each sensor, however often it changes.
#[derive(Debug, Default)]
pub(super) struct Pending {
    changes: Mutex<BTreeMap<DeviceId, Change>>,
    rung: Notify,
}

impl Pending {
    pub(super) fn push(&self, Changed { device, old, new }: Changed) {
        let Ok(mut changes) = self.changes.lock() else { return };
        match changes.entry(device) {
            Entry::Vacant(entry) => drop(entry.insert((old, new))),
            // What was told last is what it was before the first of them, unless nothing is taken for told any more.
            Entry::Occupied(mut entry) => {
                let first = if old.is_none() { None } else { entry.get().0 };
                *entry.get_mut() = (first, new);
                // One that came and went in between is nobody's business, and strangers may be many.
                if first == new {
                    entry.remove();
                }
            }
        }
        self.rung.notify_one();
    }

    /// The messages for one sensor that changed.
    pub(super) async fn next(&self, mirrors: &[Mirror]) -> Vec<Message> {
        loop {
            let first = self.changes.lock().ok().and_then(|mut changes| changes.pop_first());
            if let Some((device, (old, new))) = first {
                return difference(mirrors, &device, old.as_ref(), new.as_ref());
            }
            self.rung.notified().await;
        }
    }
}

/// What has to be said for a mirror that shows `old` to show `new`. Where nobody knows what it shows, all is said, and what
/// is not there any more is taken back.
fn difference(mirrors: &[Mirror], device: &DeviceId, old: Option<&Twin>, new: Option<&Twin>) -> Vec<Message> {
    let all = |twin: Option<&Twin>| -> Vec<Message> {
        let shown = mirrors.iter().filter_map(|mirror| Some((mirror, twin?)));
        shown.flat_map(|(mirror, twin)| mirror.messages(device, twin)).collect()
    };
    // A gateway that was away does not know which command it left there.
    let forgotten = (old.is_none()
        && new.is_some_and(|twin| twin.wanted.is_none())
        && mirrors.contains(&Mirror::ThinEdge))
    .then(|| (command_topic(device), String::new()));
    let (old, new) = (all(old), all(new));
    let taken_back = old.iter().filter(|(topic, _)| new.iter().all(|(other, _)| other != topic));
    let taken_back: Vec<Message> = taken_back.map(|(topic, _)| (topic.clone(), String::new())).collect();
    new.into_iter().filter(|message| !old.contains(message)).chain(taken_back).chain(forgotten).collect()
}

impl Mirror {
    fn messages(self, device: &DeviceId, twin: &Twin) -> Vec<Message> {
        let messages = match self {
            Self::ThinEdge => thin_edge(device, twin),
            Self::HomeAssistant => home_assistant(device, twin),
        };
        messages.into_iter().map(|(topic, value)| (topic, value.to_string())).collect()
    }
}

/// A child device, its `firmware` twin, and one command that is there as long as something is wanted of it. The name of
/// the firmware is the class of devices that it is for.
fn thin_edge(device: &DeviceId, twin: &Twin) -> Vec<(String, Value)> {
    let entity = format!("te/device/{device}//");
    let name = uuid(&twin.product.class_id());
    let register = json!({ "@type": "child-device", "name": device.to_string(), "type": "posthouse-sensor" });
    let firmware = json!({ "name": name, "version": twin.installed.to_string() });
    let command = twin.wanted.map(|version| {
        // thin-edge.io wants to know from where; nobody but the gateway fetches it.
        let mut command = json!({
            "status": status(twin.progress), "name": name, "version": version.to_string(), "remoteUrl": "",
        });
        if let Progress::Failed(result) = twin.progress {
            command["reason"] = reason(result).into();
        }
        command
    });
    let command = command.map(|command| (command_topic(device), command));
    let firmware = (format!("{entity}/twin/firmware"), firmware);
    [(entity, register), firmware].into_iter().chain(command).collect()
}

fn command_topic(device: &DeviceId) -> String {
    format!("te/device/{device}///cmd/firmware_update/posthouse")
}

fn status(progress: Progress) -> &'static str {
    match progress {
        Progress::Waiting => "scheduled",
        Progress::Fetching(_) | Progress::Activating => "executing",
        Progress::Done => "successful",
        Progress::Failed(_) => "failed",
    }
}

/// An update entity of the device class `firmware`, with its state on a topic of ours.
fn home_assistant(device: &DeviceId, twin: &Twin) -> Vec<(String, Value)> {
    let id = format!("posthouse_{device}");
    let state_topic = format!("{}/{}/{device}/mirror", names::ROOT, names::TOPIC_VERSION);
    let config = json!({
        "name": "Firmware",
        "unique_id": format!("{id}_firmware"),
        "device_class": "firmware",
        "entity_category": "diagnostic",
        "state_topic": state_topic,
        "device": { "identifiers": [id], "name": format!("Sensor {}", &device.to_string()[..8]), "serial_number": device.to_string() },
        "origin": { "name": "Posthouse", "sw_version": env!("CARGO_PKG_VERSION") },
    });
    let (in_progress, percentage) = match twin.progress {
        Progress::Fetching(percent) => (true, Some(percent)),
        Progress::Activating => (true, None),
        Progress::Waiting | Progress::Done | Progress::Failed(_) => (false, None),
    };
    let state = json!({
        "installed_version": twin.installed.to_string(),
        "latest_version": twin.wanted.unwrap_or(twin.installed).to_string(),
        "title": uuid(&twin.product.class_id()),
        "in_progress": in_progress,
        "update_percentage": percentage,
    });
    vec![(format!("homeassistant/update/{id}/config"), config), (state_topic, state)]
}

/// In the words of LwM2M's Update Result.
fn reason(result: UpdateResult) -> &'static str {
    match result {
        UpdateResult::Initial | UpdateResult::Success => "",
        UpdateResult::NotEnoughFlash => "not enough flash for the image",
        UpdateResult::OutOfMemory => "out of memory",
        UpdateResult::ConnectionLost => "connection lost while downloading",
        UpdateResult::IntegrityFailure => "the image is not the one that was signed",
        UpdateResult::UnsupportedPackage => "the sensor does not take this kind of package",
        UpdateResult::InvalidUri => "the image is not there",
        UpdateResult::UpdateFailed => "the new version did not start",
        UpdateResult::UnsupportedProtocol => "the sensor does not speak this protocol",
        UpdateResult::Cancelled => "cancelled",
        UpdateResult::Deferred => "put off",
    }
}

fn uuid(bytes: &[u8; 16]) -> String {
    let hex = hex::encode(bytes);
    [&hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..]].join("-")
}

#[cfg(test)]
mod tests {
    use posthouse_protocol::id::{ProductId, Version};

    use super::*;

    const BOTH: [Mirror; 2] = [Mirror::ThinEdge, Mirror::HomeAssistant];

    fn twin(wanted: Option<u64>, progress: Progress) -> Twin {
        let product = ProductId::from_parts([1; 16], [0xab; 16]);
        Twin { product, installed: Version::new(1), wanted: wanted.map(Version::new), progress }
    }

    fn said(messages: &[Message], end: &str) -> Value {
        let found = messages.iter().find(|(topic, _)| topic.ends_with(end));
        serde_json::from_str(&found.unwrap_or_else(|| panic!("{end} in {messages:?}")).1).unwrap()
    }

    #[test]
    fn a_new_sensor_is_shown_whole_and_one_that_is_gone_not_at_all() {
        let device = DeviceId::new([7; 16]);
        let idle = twin(None, Progress::Waiting);
        let first = difference(&BOTH, &device, None, Some(&idle));
        assert_eq!(said(&first, "//")["@type"], "child-device");
        let firmware = said(&first, "///twin/firmware");
        assert_eq!(firmware, json!({ "name": "abababab-abab-abab-abab-abababababab", "version": "1" }));
        assert_eq!(said(&first, "/config")["state_topic"], said_topic(&first, "/mirror"));
        assert_eq!(said(&first, "/mirror")["latest_version"], "1");
        assert!(difference(&BOTH, &device, Some(&idle), Some(&idle)).is_empty());
        let first: Vec<Message> = first.into_iter().filter(|(_, payload)| !payload.is_empty()).collect();
        let gone = difference(&BOTH, &device, Some(&idle), None);
        assert!(gone.iter().all(|(_, payload)| payload.is_empty()));
        let topics =
            |messages: &[Message]| messages.iter().map(|(topic, _)| topic.clone()).collect::<Vec<_>>();
        assert_eq!(topics(&gone), topics(&first));
    }

    fn said_topic(messages: &[Message], end: &str) -> String {
        messages.iter().find(|(topic, _)| topic.ends_with(end)).unwrap().0.clone()
    }

    #[test]
    fn an_update_is_shown_step_by_step_and_only_what_changes() {
        let device = DeviceId::new([7; 16]);
        let mut before = twin(None, Progress::Waiting);
        let steps = [
            (Progress::Waiting, "scheduled", false, Value::Null),
            (Progress::Fetching(35), "executing", true, 35.into()),
            (Progress::Activating, "executing", true, Value::Null),
            (Progress::Failed(UpdateResult::IntegrityFailure), "failed", false, Value::Null),
            (Progress::Done, "successful", false, Value::Null),
        ];
        for (progress, status, in_progress, percentage) in steps {
            let mut now = twin(Some(2), progress);
            now.installed = Version::new(if progress == Progress::Done { 2 } else { 1 });
            let messages = difference(&BOTH, &device, Some(&before), Some(&now));
            let said_once = |(topic, _): &Message| topic.ends_with("//") || topic.ends_with("/config");
            assert!(!messages.iter().any(said_once));
            if before.progress != Progress::Fetching(35) {
                assert_eq!(said(&messages, "/cmd/firmware_update/posthouse")["status"], status);
            }
            let state = said(&messages, "/mirror");
            assert_eq!(
                (&state["in_progress"], &state["update_percentage"]),
                (&in_progress.into(), &percentage)
            );
            before = now;
        }
        // Nothing is wanted any more: the command is taken back.
        let messages = difference(&BOTH, &device, Some(&before), Some(&twin(None, Progress::Waiting)));
        let command = said_topic(&messages, "/posthouse");
        assert!(messages.contains(&(command, String::new())));
    }

    #[test]
    fn what_a_gateway_left_there_before_is_taken_back_or_said_anew() {
        let device = DeviceId::new([7; 16]);
        let (idle, done) = (twin(None, Progress::Waiting), twin(Some(2), Progress::Done));
        let command = (command_topic(&device), String::new());
        assert!(difference(&BOTH, &device, None, Some(&idle)).contains(&command));
        assert!(!difference(&BOTH, &device, None, Some(&done)).contains(&command));
        assert!(!difference(&[Mirror::HomeAssistant], &device, None, Some(&idle)).contains(&command));
    }

    #[tokio::test]
    async fn a_broker_that_forgot_is_told_all_though_a_change_waited() {
        let pending = Pending::default();
        let device = DeviceId::new([7; 16]);
        let (idle, fetching) = (twin(None, Progress::Waiting), twin(Some(2), Progress::Fetching(5)));
        pending.push(Changed { device, old: Some(idle), new: Some(fetching) });
        pending.push(Changed { device, old: None, new: Some(fetching) });
        assert_eq!(pending.next(&BOTH).await.len(), 5);
    }

    #[test]
    fn who_comes_and_goes_unseen_leaves_nothing_behind() {
        let pending = Pending::default();
        let device = DeviceId::new([7; 16]);
        let idle = Some(twin(None, Progress::Waiting));
        pending.push(Changed { device, old: None, new: idle });
        pending.push(Changed { device, old: idle, new: None });
        assert!(pending.changes.lock().unwrap().is_empty());
    }

    #[tokio::test]
    async fn what_waits_is_the_newest_of_each_sensor() {
        let pending = Pending::default();
        let device = DeviceId::new([7; 16]);
        let (idle, fetching) = (twin(None, Progress::Waiting), twin(Some(2), Progress::Fetching(5)));
        pending.push(Changed { device, old: None, new: Some(idle) });
        pending.push(Changed { device, old: Some(idle), new: Some(fetching) });
        let messages = pending.next(&BOTH).await;
        assert_eq!(messages.len(), 5);
        assert_eq!(said(&messages, "/mirror")["update_percentage"], 5);
        assert!(pending.changes.lock().unwrap().is_empty());
    }
}
