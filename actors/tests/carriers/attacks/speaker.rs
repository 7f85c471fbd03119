//! An MQTT client that publishes whatever it likes, at a broker that lets it.

use std::collections::VecDeque;
use std::net::SocketAddr;

use bytes::Bytes;
use rumqttc::mqttbytes::QoS;
use rumqttc::mqttbytes::v5::Packet;
use rumqttc::{AsyncClient, Event, EventLoop, MqttOptions, PublishOptions};
use tokio::time::timeout;

use crate::fleet::PATIENCE;

pub(super) struct Speaker {
    client: AsyncClient,
    events: EventLoop,
    heard: VecDeque<(Bytes, Bytes)>,
}

impl Speaker {
    /// Hears what is said on these topics.
    pub(super) async fn new(name: &str, broker: SocketAddr, topics: &[String]) -> Self {
        let options = MqttOptions::new(name, (broker.ip().to_string(), broker.port()));
        let (client, events) = AsyncClient::builder(options).capacity(16).try_build().unwrap();
        let mut speaker = Self { client, events, heard: VecDeque::new() };
        for topic in topics {
            speaker.client.subscribe(topic.clone(), QoS::AtLeastOnce).await.unwrap();
            speaker.until(|packet| matches!(packet, Packet::SubAck(_))).await;
        }
        speaker
    }

    async fn until(&mut self, enough: impl Fn(&Packet) -> bool) {
        let hear = async {
            loop {
                if let Event::Incoming(packet) = self.events.poll().await.unwrap() {
                    if let Packet::Publish(publish) = &packet {
                        self.heard.push_back((publish.topic.clone(), publish.payload.clone()));
                    }
                    if enough(&packet) {
                        return;
                    }
                }
            }
        };
        timeout(PATIENCE, hear).await.expect("the broker answers");
    }

    /// Publishes; the broker has it.
    pub(super) async fn say(&mut self, topic: String, payload: Vec<u8>) {
        self.publish(topic, payload, PublishOptions::at_least_once()).await;
    }

    /// The same, retained.
    pub(super) async fn say_to_all(&mut self, topic: String, payload: Vec<u8>) {
        self.publish(topic, payload, PublishOptions::at_least_once().retained()).await;
    }

    async fn publish(&mut self, topic: String, payload: Vec<u8>, how: PublishOptions) {
        self.client.publish(topic, payload, how).await.unwrap();
        self.until(|packet| matches!(packet, Packet::PubAck(_))).await;
    }

    /// The next message on the topics.
    pub(super) async fn hear(&mut self) -> (String, Bytes) {
        if self.heard.is_empty() {
            self.until(|packet| matches!(packet, Packet::Publish(_))).await;
        }
        let (topic, payload) = self.heard.pop_front().unwrap();
        (String::from_utf8(topic.to_vec()).unwrap(), payload)
    }
}
