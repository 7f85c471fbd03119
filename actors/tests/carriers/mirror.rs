//! What people's tools see of sensors: retained messages at mosquitto, for sensors on another carrier too.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use posthouse_actors::messages::Carrier;
use posthouse_actors::mqtt::Mirror;
use posthouse_actors::sensors::{Link, Up, Uplink};
use rumqttc::mqttbytes::QoS;
use rumqttc::mqttbytes::v5::Packet;
use rumqttc::{AsyncClient, Event, EventLoop, MqttOptions};
use serde_json::Value;
use tokio::time::timeout;

use super::broker;
use super::fleet::{PATIENCE, Sensor};
use super::site::{Site, VERSION};
use super::update::{all_arrive, coap, fleet};

/// What was said on each topic, in order.
type Said = BTreeMap<String, Vec<Value>>;

/// A tool that hears all.
struct Tool {
    client: AsyncClient,
    events: EventLoop,
    said: Said,
}

impl Tool {
    async fn new(broker: SocketAddr) -> Self {
        let options = MqttOptions::new("tool", (broker.ip().to_string(), broker.port()));
        let (client, events) = AsyncClient::builder(options).capacity(16).try_build().unwrap();
        let mut tool = Self { client, events, said: Said::new() };
        for filter in ["te/#", "homeassistant/#", "ph/1/+/mirror"] {
            tool.client.subscribe(filter, QoS::AtLeastOnce).await.unwrap();
            while !tool.hear().await {}
        }
        tool
    }

    /// Takes one event; whether it says that the broker has subscribed us.
    async fn hear(&mut self) -> bool {
        match self.events.poll().await.unwrap() {
            Event::Incoming(Packet::Publish(publish)) => {
                let topic = String::from_utf8(publish.topic.to_vec()).unwrap();
                let payload = serde_json::from_slice(&publish.payload).unwrap_or_default();
                self.said.entry(topic).or_default().push(payload);
                false
            }
            event => matches!(event, Event::Incoming(Packet::SubAck(_))),
        }
    }

    async fn until(&mut self, enough: impl Fn(&Said) -> bool) {
        let hear = async {
            while !enough(&self.said) {
                self.hear().await;
            }
        };
        timeout(PATIENCE, hear).await.expect("the mirrors are told");
    }
}

fn all_run_the_new_version(said: &Said, sensors: &[Sensor]) -> bool {
    sensors.iter().all(|sensor| {
        let device = sensor.device();
        let last = |topic: String| said.get(&topic).and_then(|said| said.last());
        let shows =
            |topic: String, key: &str, value: &str| last(topic).is_some_and(|said| said[key] == value);
        let version = VERSION.to_string();
        shows(format!("te/device/{device}///twin/firmware"), "version", &version)
            && shows(format!("te/device/{device}///cmd/firmware_update/posthouse"), "status", "successful")
            && shows(format!("ph/1/{device}/mirror"), "installed_version", &version)
            && last(format!("te/device/{device}//")).is_some()
            && last(format!("homeassistant/update/posthouse_{device}/config")).is_some()
    })
}

#[actix::test]
async fn sensors_on_coap_are_shown_at_the_broker_also_when_it_forgets() {
    let dir = tempfile::tempdir().unwrap();
    let Some((mut broker, address)) = broker::mosquitto(dir.path()).await else { return };
    let site = Site::start(dir.path(), 100_001);
    site.meet_at(address, vec![Mirror::ThinEdge, Mirror::HomeAssistant]);
    let mut tool = Tool::new(address).await;
    let gateway = coap(&site).await;
    let sensors = fleet(dir.path(), "coap", gateway, "block = 1024\n");
    // Before anything moves: what runs, and what is wanted.
    let device = sensors[0].device();
    let link = Link { carrier: Carrier::Coap, authenticated: false, live: true };
    site.hub.send(Uplink { device, link, up: Up::Hello(sensors[0].hello()) }).await.unwrap();
    let command = format!("te/device/{device}///cmd/firmware_update/posthouse");
    tool.until(|said| said.contains_key(&command)).await;
    assert_eq!(tool.said[&command][0]["status"], "scheduled");
    assert_eq!(tool.said[&command][0]["version"], VERSION.to_string());
    assert_eq!(tool.said[&format!("te/device/{device}///twin/firmware")][0]["version"], "1");

    all_arrive(&site, &sensors).await;
    tool.until(|said| all_run_the_new_version(said, &sensors)).await;

    broker.kill().await.unwrap();
    let (_broker, address) = broker::mosquitto_at(dir.path(), address.port()).await.unwrap();
    let mut tool = Tool::new(address).await;
    tool.until(|said| all_run_the_new_version(said, &sensors)).await;
}
