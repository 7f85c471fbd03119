//! Topics: `ph/1/<device>/<name>`.

use posthouse_protocol::id::DeviceId;
use posthouse_protocol::sensor::names;

/// What a sensor publishes.
const UP: [&str; 5] = [names::HELLO, names::SIGNATURE, names::GET, names::STATUS, names::REFUSED];

/// The filters of all that sensors publish.
pub(super) fn filters() -> impl Iterator<Item = String> {
    UP.into_iter().map(|name| format!("{}/{}/+/{name}", names::ROOT, names::TOPIC_VERSION))
}

/// A topic that a sensor listens to.
pub(super) fn down(device: &DeviceId, name: &str) -> String {
    format!("{}/{}/{device}/{name}", names::ROOT, names::TOPIC_VERSION)
}

/// Whose topic it is and what is published there; nothing unless it is one of a sensor's, spelt as
/// a sensor spells it: a second spelling of a device would be a second device to the broker's ACL.
pub(super) fn parse(topic: &[u8]) -> Option<(DeviceId, &'static str)> {
    let mut levels = std::str::from_utf8(topic).ok()?.split('/');
    if levels.next()? != names::ROOT || levels.next()? != names::TOPIC_VERSION {
        return None;
    }
    let (device, name) = (levels.next()?, levels.next()?);
    let hex = |digit: u8| digit.is_ascii_digit() || (b'a'..=b'f').contains(&digit);
    if levels.next().is_some() || device.len() != 2 * DeviceId::LEN || !device.bytes().all(hex) {
        return None;
    }
    let name = UP.into_iter().find(|up| *up == name)?;
    Some((device.parse().ok()?, name))
}

#[cfg(test)]
mod tests {
    use super::*;

    const DEVICE: &str = "00112233445566778899aabbccddeeff";

    #[test]
    fn a_sensors_topics_are_read() {
        for name in UP {
            let topic = format!("ph/1/{DEVICE}/{name}");
            let (device, found) = parse(topic.as_bytes()).unwrap();
            assert_eq!((device.to_string().as_str(), found), (DEVICE, name));
            assert_eq!(down(&device, name), topic);
        }
    }

    #[test]
    fn other_topics_are_not() {
        let upper = DEVICE.to_uppercase();
        let topics = [
            String::new(),
            "/".into(),
            "ph/1".into(),
            format!("ph/1/{DEVICE}"),
            format!("ph/1/{DEVICE}/"),
            format!("ph/1/{DEVICE}/hello/"),
            format!("/ph/1/{DEVICE}/hello"),
            format!("ph/2/{DEVICE}/hello"),
            format!("te/1/{DEVICE}/hello"),
            format!("ph/1/{upper}/hello"),
            format!("ph/1/0x{}/hello", &DEVICE[2..]),
            format!("ph/1/0x{DEVICE}/hello"),
            format!("ph/1/{}/hello", &DEVICE[1..]),
            format!("ph/1/+/{}", names::HELLO),
            format!("ph/1/{DEVICE}/sign"),
            format!("ph/1/{DEVICE}/manifest"),
            format!("ph/1/{DEVICE}/hello\0"),
        ];
        for topic in topics {
            assert_eq!(parse(topic.as_bytes()), None, "{topic}");
        }
        assert_eq!(parse(&[0xff, 0xfe]), None);
    }

    proptest::proptest! {
        #[test]
        fn no_topic_is_read_two_ways(topic in "ph/1/[0-9a-fA-Fx/+#]{0,40}/(hello|get|status|x)") {
            if let Some((device, name)) = parse(topic.as_bytes()) {
                proptest::prop_assert_eq!(down(&device, name), topic);
            }
        }
    }
}
