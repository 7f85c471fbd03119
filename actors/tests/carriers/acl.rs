//! mosquitto as `packaging/mosquitto` configures it: certificates on both sides, and to each sensor its own topics only.

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use posthouse_actors::mqtt::Mirror;
use posthouse_protocol::id::DeviceId;
use rumqttc::mqttbytes::QoS;
use rumqttc::mqttbytes::v5::{Packet, PubAckReason};
use rumqttc::{AsyncClient, Event, EventLoop, MqttOptions, PublishOptions, Transport};
use tokio::time::timeout;

use super::broker::{self, GATEWAY, WATCHER};
use super::fleet::{PATIENCE, Sensor};
use super::site::Site;
use super::update::all_arrive;

fn user(seed: u8) -> String {
    DeviceId::new([seed; 16]).to_string()
}

fn topic(seed: u8, name: &str) -> String {
    format!("ph/1/{}/{name}", user(seed))
}

/// A client with the certificate of a user, connected.
struct Client {
    client: AsyncClient,
    events: EventLoop,
}

impl Client {
    fn options(dir: &Path, broker: SocketAddr, user: Option<&str>, client_id: &str) -> MqttOptions {
        let file = |name: &str| std::fs::read(dir.join(name)).unwrap();
        let own = user.map(|user| (file(&format!("{user}.crt")), file(&format!("{user}.key"))));
        let mut options = MqttOptions::new(client_id, (broker.ip().to_string(), broker.port()));
        options.set_transport(Transport::tls(file("ca.crt"), own, None));
        options
    }

    async fn connect(dir: &Path, broker: SocketAddr, user: &str) -> Self {
        let options = Self::options(dir, broker, Some(user), user);
        let (client, events) = AsyncClient::builder(options).capacity(16).try_build().unwrap();
        let mut client = Self { client, events };
        client.wait(|packet| matches!(packet, Packet::ConnAck(_)).then_some(())).await;
        client
    }

    /// The first packet that is looked for.
    async fn wait<T>(&mut self, mut find: impl FnMut(&Packet) -> Option<T>) -> T {
        let found = async {
            loop {
                if let Event::Incoming(packet) = self.events.poll().await.unwrap()
                    && let Some(found) = find(&packet)
                {
                    return found;
                }
            }
        };
        timeout(PATIENCE, found).await.expect("the broker answers")
    }

    async fn publish(&mut self, topic: String, payload: &'static str) -> PubAckReason {
        self.client.publish(topic, payload, PublishOptions::at_least_once()).await.unwrap();
        self.wait(|packet| match packet {
            Packet::PubAck(ack) => Some(ack.reason),
            _ => None,
        })
        .await
    }

    async fn subscribe(&mut self, topic: String) {
        self.client.subscribe(topic, QoS::AtLeastOnce).await.unwrap();
        self.wait(|packet| matches!(packet, Packet::SubAck(_)).then_some(())).await;
    }

    async fn heard(&mut self) -> (String, String) {
        self.wait(|packet| match packet {
            Packet::Publish(publish) => Some((
                String::from_utf8(publish.topic.to_vec()).unwrap(),
                String::from_utf8(publish.payload.to_vec()).unwrap(),
            )),
            _ => None,
        })
        .await
    }
}

#[actix::test]
async fn over_mqtt_with_certificates() {
    let dir = tempfile::tempdir().unwrap();
    let tls = dir.path().join("tls");
    let line = |key: &str, file: &str| format!("mqtt_tls_{key} = \"{}/{file}\"\n", tls.display());
    // The port is not known before the broker runs, and the broker needs the devices' names.
    let nowhere = SocketAddr::from(([127, 0, 0, 1], 1));
    let mut sensors: Vec<_> =
        (1..=3).map(|seed| Sensor::new(dir.path(), seed, "mqtt", nowhere, "")).collect();
    let users: Vec<_> = sensors
        .iter()
        .map(|sensor| sensor.device().to_string())
        .chain([GATEWAY.into(), WATCHER.into()])
        .collect();
    std::fs::create_dir(&tls).unwrap();
    let Some((_broker, address)) = broker::mosquitto_with_tls(&tls, &users).await else { return };
    for sensor in &mut sensors {
        let user = sensor.device();
        let more = line("ca", "ca.crt")
            + &line("cert", &format!("{user}.crt"))
            + &line("key", &format!("{user}.key"));
        sensor.configure("mqtt", address, &more);
    }
    let site = Site::start(dir.path(), 100_001);
    broker::gateway_with_tls(&site, &tls, address, vec![Mirror::ThinEdge, Mirror::HomeAssistant]);
    all_arrive(&site, &sensors).await;

    // The gateway may write what it mirrors.
    let mut watcher = Client::connect(&tls, address, WATCHER).await;
    for filter in ["te/device/+//", "te/device/+///twin/firmware", "te/device/+///cmd/#", "homeassistant/#"] {
        watcher.subscribe(filter.into()).await;
        let (topic, payload) = watcher.heard().await;
        assert!(sensors.iter().any(|sensor| topic.contains(&sensor.device().to_string())), "{topic}");
        assert!(serde_json::from_str::<serde_json::Value>(&payload).is_ok(), "{payload}");
    }
}

#[tokio::test]
async fn a_sensor_has_its_own_topics_only() {
    let dir = tempfile::tempdir().unwrap();
    let users = [GATEWAY.into(), user(1), user(2)];
    let Some((_broker, address)) = broker::mosquitto_with_tls(dir.path(), &users).await else { return };
    let mut gateway = Client::connect(dir.path(), address, GATEWAY).await;
    let mut sensor = Client::connect(dir.path(), address, &user(1)).await;
    gateway.subscribe("ph/1/+/hello".into()).await;

    // Speaking for another sensor, for the gateway, and to people's tools is refused, and nobody hears it.
    let forbidden = [
        topic(2, "hello"),
        topic(2, "status"),
        topic(1, "manifest"),
        topic(2, "sign"),
        "te/device/x///twin/firmware".into(),
        "homeassistant/update/x/config".into(),
        "elsewhere".into(),
    ];
    for topic in forbidden {
        assert_eq!(sensor.publish(topic.clone(), "forged").await, PubAckReason::NotAuthorized, "{topic}");
    }
    let said = sensor.publish(topic(1, "hello"), "own").await;
    assert!(matches!(said, PubAckReason::Success | PubAckReason::NoMatchingSubscribers), "{said:?}");
    assert_eq!(gateway.heard().await, (topic(1, "hello"), "own".into()), "the first that the gateway hears");

    // It may ask to hear all, and hears its own.
    for filter in ["ph/1/+/manifest", "#"] {
        sensor.subscribe(filter.into()).await;
    }
    gateway.publish(topic(2, "manifest"), "another's").await;
    gateway.publish(topic(1, "manifest"), "its own").await;
    assert_eq!(sensor.heard().await, (topic(1, "manifest"), "its own".into()));
}

#[tokio::test]
async fn nobody_connects_without_a_certificate_or_as_somebody_else() {
    let dir = tempfile::tempdir().unwrap();
    let users = [GATEWAY.into(), user(1), user(2)];
    let Some((_broker, address)) = broker::mosquitto_with_tls(dir.path(), &users).await else { return };
    let refused = async |options: MqttOptions| {
        let (_client, mut events) = AsyncClient::builder(options).capacity(16).try_build().unwrap();
        timeout(Duration::from_secs(60), events.poll()).await.expect("an answer").is_err()
    };
    assert!(refused(Client::options(dir.path(), address, None, GATEWAY)).await);
    let other = tempfile::tempdir().unwrap();
    let Some((_other, _)) = broker::mosquitto_with_tls(other.path(), &users).await else { return };
    let stranger = format!("{}.crt", user(1));
    for file in [stranger.clone(), stranger.replace("crt", "key")] {
        std::fs::copy(other.path().join(&file), dir.path().join(&file)).unwrap();
    }
    assert!(
        refused(Client::options(dir.path(), address, Some(&user(1)), &user(1))).await,
        "another authority's"
    );

    // Naming another's client id does not take its session: the name is the certificate's.
    let mut gateway = Client::connect(dir.path(), address, GATEWAY).await;
    gateway.subscribe("ph/1/+/hello".into()).await;
    let options = Client::options(dir.path(), address, Some(&user(2)), GATEWAY);
    let (client, events) = AsyncClient::builder(options).capacity(16).try_build().unwrap();
    let mut usurper = Client { client, events };
    usurper.wait(|packet| matches!(packet, Packet::ConnAck(_)).then_some(())).await;
    usurper.publish(topic(2, "hello"), "still there").await;
    assert_eq!(gateway.heard().await.1, "still there");
}
