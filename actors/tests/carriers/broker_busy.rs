//! What is for the broker when it does not take it: words have room whatever blocks there are.

use bytes::Bytes;
use posthouse_actors::sensors::{Down, Push};
use posthouse_protocol::id::{DeviceId, UpdateId};
use rumqttc::mqttbytes::QoS;
use rumqttc::mqttbytes::v5::Packet;
use rumqttc::{AsyncClient, Event, MqttOptions};
use tokio::time::timeout;

use super::broker;
use super::fleet::PATIENCE;
use super::site::Site;

/// More than are kept for a connection.
const BLOCKS: u32 = 10_000;
const SENSORS: u16 = 5_000;

fn device(number: u16) -> DeviceId {
    let [high, low] = number.to_be_bytes();
    DeviceId::new([high, low, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7])
}

#[actix::test]
async fn manifests_for_a_whole_site_find_room_beside_any_number_of_blocks() {
    let dir = tempfile::tempdir().unwrap();
    let Some((_broker, address)) = broker::mosquitto(dir.path()).await else { return };
    let site = Site::start(dir.path(), 1);
    let options = MqttOptions::new("watcher", (address.ip().to_string(), address.port()));
    let (watcher, mut events) = AsyncClient::builder(options).capacity(16).try_build().unwrap();
    watcher.subscribe("ph/1/+/manifest", QoS::AtLeastOnce).await.unwrap();
    while !matches!(events.poll().await.unwrap(), Event::Incoming(Packet::SubAck(_))) {}
    let carrier = site.meet_at(address, Vec::new());

    // All of it before this thread lets the connection have any.
    let block = |place: u32| Down::Block {
        u_id: UpdateId::new([1; 32]),
        offset: 1024 * place,
        bytes: Bytes::from_static(&[0; 1024]),
    };
    carrier.do_send(Push { device: device(0), downs: (0..BLOCKS).map(block).collect() });
    for number in 0..SENSORS {
        let manifest = Down::Manifest(Bytes::from_static(b"a manifest"));
        carrier.do_send(Push { device: device(number), downs: vec![manifest] });
    }
    let mut told = std::collections::BTreeSet::new();
    let all = async {
        while told.len() < usize::from(SENSORS) {
            if let Event::Incoming(Packet::Publish(publish)) = events.poll().await.unwrap() {
                told.insert(publish.topic);
            }
        }
    };
    timeout(PATIENCE, all).await.expect("every sensor's manifest is told");
}
