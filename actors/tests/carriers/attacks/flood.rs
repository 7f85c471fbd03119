//! Hellos of sensors that nobody has built, each with a true key.

use std::net::Ipv4Addr;

use coap_lite::{CoapOption, RequestType, ResponseType};
use posthouse_actors::sensors::{Limits, ListSensors};
use posthouse_protocol::sensor::{Block, BlockRequest, ErrorCode, ErrorMsg};

use super::asker::{Asker, code};
use super::made_up;
use super::speaker::Speaker;
use crate::broker;
use crate::site::{OPEN, Site};
use crate::update::{coap, mqtt};

const MAX_SENSORS: usize = 32;
const FLOOD: u32 = 1_000;
const LEN: usize = 20_000;
const BLOCK: u32 = 512;

fn site(dir: &std::path::Path) -> Site {
    Site::with(dir, LEN, OPEN, Limits { max_sensors: MAX_SENSORS, ..Limits::default() })
}

async fn registered(site: &Site) -> usize {
    let count = site.hub.send(ListSensors).await.unwrap().len();
    assert!(count <= MAX_SENSORS, "{count}");
    count
}

/// Between every few of them the honest sensor has a block, and in the end its image and its manifest.
#[actix::test]
async fn over_coap_the_registry_is_bounded_and_an_honest_sensor_is_served() {
    let dir = tempfile::tempdir().unwrap();
    let site = site(dir.path());
    let gateway = coap(&site).await;
    let mut sensor = Asker::new(Ipv4Addr::LOCALHOST.into(), gateway).await;
    let hello = async |asker: &mut Asker, number| {
        let mut packet = asker.request(RequestType::Post, "ph/hello");
        packet.payload = made_up(number).to_vec();
        asker.ask(&packet).await
    };
    assert_eq!(code(&hello(&mut sensor, 0).await), ResponseType::Changed);
    let device = made_up(0).key.device_id();
    site.ask(device, []).await;

    let path = format!("ph/image/{}?d={device}", site.u_id);
    let blocks = LEN.div_ceil(BLOCK as usize) as u32;
    let (mut image, mut taken, mut refused) = (Vec::new(), 0, 0);
    let mut flooder = Asker::new(Ipv4Addr::LOCALHOST.into(), gateway).await;
    for number in 1..=FLOOD {
        if number % 100 == 0 {
            flooder = Asker::new(Ipv4Addr::LOCALHOST.into(), gateway).await;
        }
        let answer = hello(&mut flooder, number).await;
        match code(&answer) {
            ResponseType::Changed => taken += 1,
            ResponseType::ServiceUnavailable => {
                assert!(answer.get_first_option(CoapOption::MaxAge).is_some(), "when to come back");
                refused += 1;
            }
            other => panic!("{other:?}"),
        }
        if number.is_multiple_of(FLOOD / blocks) && image.len() < LEN {
            let block = sensor.block(&path, image.len() as u32 / BLOCK, 5, None).await;
            assert_eq!(code(&block), ResponseType::Content);
            image.extend_from_slice(&block.payload);
            registered(&site).await;
        }
    }
    assert!(image == site.firmware);
    assert_eq!((taken + refused, registered(&site).await), (FLOOD, MAX_SENSORS));
    assert!(refused > 0);
    assert_eq!(code(&hello(&mut sensor, 0).await), ResponseType::Changed);
    let manifest = sensor.request(RequestType::Get, "ph/manifest");
    assert_eq!(code(&sensor.ask(&manifest).await), ResponseType::Content);
}

#[actix::test]
async fn over_mqtt_the_registry_is_bounded_and_an_honest_sensor_is_served() {
    let dir = tempfile::tempdir().unwrap();
    let site = site(dir.path());
    let broker = broker::rumqttd();
    mqtt(&site, broker);
    let device = made_up(0).key.device_id();
    let topic = |name: &str| format!("ph/1/{device}/{name}");
    let mut sensor = Speaker::new("sensor", broker, &[topic("block"), topic("manifest")]).await;
    // The gateway may come later.
    sensor.say_to_all(topic("hello"), made_up(0).to_vec()).await;
    // With the first word of a sensor comes what the broker should hold: nothing yet.
    assert_eq!(sensor.hear().await.0, topic("manifest"));
    site.ask(device, []).await;

    let rest = ["error"].map(|name| format!("ph/1/+/{name}"));
    let mut flooder = Speaker::new("flooder", broker, &rest).await;
    let blocks = LEN.div_ceil(BLOCK as usize) as u32;
    let mut image = Vec::new();
    for number in 1..=FLOOD {
        let hello = made_up(number);
        flooder.say(format!("ph/1/{}/hello", hello.key.device_id()), hello.to_vec()).await;
        if number.is_multiple_of(FLOOD / blocks) && image.len() < LEN {
            let (u_id, offset) = (site.u_id, image.len() as u32);
            let request = BlockRequest { u_id, offset, len: BLOCK as u16, count: 1 };
            sensor.say(topic("get"), request.to_vec()).await;
            let block = loop {
                let (topic, payload) = sensor.hear().await;
                if topic.ends_with("/block") {
                    break payload;
                }
            };
            let block = Block::decode(&block).unwrap();
            assert_eq!(block.offset, offset);
            image.extend_from_slice(block.bytes);
            registered(&site).await;
        }
    }
    assert!(image == site.firmware);
    assert_eq!(registered(&site).await, MAX_SENSORS);
    // Who found no place was told so.
    let (_, refusal) = flooder.hear().await;
    let refusal = ErrorMsg::decode(&refusal).unwrap();
    assert!(refusal.code == ErrorCode::Busy && refusal.retry_after.is_some());
}
